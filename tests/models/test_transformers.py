"""The Transformers engine over tiny random models, and over the real one where answers must mean something."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kurabe.errors import ContextTooLongError, InputError, ModelError
from kurabe.messages import Assistant, Image, Message, Reply, Request, System, Tool, User
from kurabe.models.base import ChatModel
from kurabe.models.engines.hf import model as engine
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.engines.hf.quiet import quiet
from kurabe.models.engines.hf.text import TokenBytes
from kurabe.models.grammar import label_grammar, number_grammar
from kurabe.models.reference import Reference
from kurabe.models.request import make_request

WORDS = ["kettle", "lamp", "the", "price", "is", "34", "a", "red", "blue", "fox", "dog", "quick", "Paris", "item"]


def opened(folder: Path, **options: str) -> Transformers:
    return Transformers(folder, Reference("hf", str(folder), options))


@pytest.fixture(scope="module")
def model(tiny_chat: Path) -> Iterator[Transformers]:
    with opened(tiny_chat, batch="5") as made:
        yield made


def talk(n: int, **options: Any) -> Request:
    numbers = random.Random(n)
    text = " ".join(numbers.choice(WORDS) for _ in range(numbers.randint(1, 25)))
    return make_request([System("Answer as the examples do."), User("x"), Assistant("y"), text], **options)


def ask(model: Transformers, requests: list[Request]) -> list[Reply]:
    replies = dict(model.chat_many(requests))
    assert sorted(replies) == list(range(len(requests)))
    return [replies[index] for index in range(len(requests))]


def own_answer(model: Transformers, request: Request) -> list[int]:
    """The tokens of the model's own `generate`, up to the end."""
    ids, inner = model.prompt_ids(request), model.loaded.model
    with torch.inference_mode(), quiet():
        out = inner.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=request.max_tokens, pad_token_id=0, eos_token_id=list(model.loaded.end_ids),
        )  # fmt: skip
    answer = [int(token) for token in out[0, len(ids) :]]
    return answer[:-1] if answer[-1] in model.loaded.end_ids else answer


def test_is_a_model(model: Transformers, tiny_chat: Path) -> None:
    assert isinstance(model, ChatModel)
    assert model.reference == f"hf:{tiny_chat}?batch=5"
    assert model.concurrency == 5
    assert model.context == 512
    assert model.name_of(model.end) == "<|im_end|>"
    assert model.takes("grammar")
    assert not model.takes("reasoning")


def test_many_answers_are_those_of_generate(model: Transformers) -> None:
    requests = [talk(n, max_tokens=1 + n % 9, logprobs=0) for n in range(40)]
    names = TokenBytes(model.loaded.tokenizer)
    for request, reply in zip(requests, ask(model, requests), strict=True):
        answer = own_answer(model, request)
        expected = b"".join(names[token] for token in answer).decode("utf-8", "replace")
        assert reply.text == expected
        ended = reply.finish_reason == "stop"
        assert len(reply.logprobs) == len(answer) + ended == reply.usage.output
        assert not ended or reply.logprobs[-1].token == ""
        assert reply.usage.input == len(model.prompt_ids(request))
        assert reply.finish_reason == ("length" if len(answer) == request.max_tokens else "stop")
        assert reply.usd == 0.0


def test_a_shared_prefix_is_read_once_and_kept(tiny_chat: Path) -> None:
    with opened(tiny_chat) as fresh:
        shared = len(fresh.prompt_ids(talk(0))) - 60
        for reply in ask(fresh, [talk(n, max_tokens=3) for n in range(7)]):
            assert reply.usage.cached >= 30
            assert reply.usage.cached > shared - 100
        assert fresh.chat("other", max_tokens=1).usage.cached < 10
        again = ask(fresh, [talk(n, max_tokens=3) for n in range(3)])
        assert all(reply.usage.cached >= 30 for reply in again)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 7), st.booleans()), min_size=1, max_size=9))
def test_company_changes_nothing(model: Transformers, rows: list[tuple[int, int, bool]]) -> None:
    requests = [
        talk(n, max_tokens=size, temperature=1.2 if hot else None, seed=n, stop=["e"] if n % 2 else [])
        for n, size, hot in rows
    ]
    alone = [ask(model, [request])[0].text for request in requests]
    assert [reply.text for reply in ask(model, requests)] == alone
    for request, text in zip(requests, alone, strict=True):
        assert not (request.stop and "e" in text)


def test_logprobs_and_generate(model: Transformers) -> None:
    made = model.generate("the price", max_tokens=5, logprobs=3)
    ids = [piece.id for piece in made.prompt]
    assert ids == model.prompt_ids(make_request("the price"))
    for at, (piece, logprob) in enumerate(zip(made.answer, made.logprobs, strict=True)):
        before = ids + [other.id for other in made.answer[:at]]
        top = model.next_tokens(before, 3)
        assert top[0][0] == piece
        assert top[0][1] == pytest.approx(logprob, abs=1e-4)
        entry = made.reply.logprobs[at]
        assert [value for _, value in entry.top] == pytest.approx([value for _, value in top], abs=1e-4)
        assert entry.token == piece.data.decode("utf-8", "replace")
    hot = model.generate("the price", max_tokens=5, temperature=1.5, seed=1)
    assert hot.logprobs[0] <= made.logprobs[0] + 1e-6


def test_logits_are_the_models_own(model: Transformers) -> None:
    scores = model.logits("the red kettle<|im_end|>")
    ids = [piece.id for piece in model.tokenize("the red kettle<|im_end|>")]
    assert ids[-1] == model.end
    with torch.inference_mode():
        expected = model.loaded.model(torch.tensor([ids])).logits[0].numpy()
    assert scores.shape == (len(ids), model.vocabulary)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert len(model.tokenize("<|im_end|>", special=False)) > 1
    assert model.logits("").shape == (0, model.vocabulary)


def test_choices_are_scored_as_their_tokens_are(model: Transformers) -> None:
    choices = ["red", "blue", "red kettle", "Paris", "34", "the quick brown fox"]
    requests = [talk(n) for n in range(9)]
    got = dict(model.score_many(requests, choices, whole=True))
    shares = dict(model.score_many(requests, choices))
    assert sorted(got) == sorted(shares) == list(range(9))
    for n in (0, 5):
        before = model.prompt_ids(requests[n])
        for place, choice in enumerate(choices):
            ids = model.prompt_ids(requests[n], choice)
            with torch.inference_mode():
                logits = model.loaded.model(torch.tensor([ids])).logits[0].double()
            logprobs = torch.log_softmax(logits, dim=-1)
            expected = sum(float(logprobs[at - 1, ids[at]]) for at in range(len(before), len(ids)))
            assert got[n][place] == pytest.approx(expected, abs=1e-3)
        assert np.exp(shares[n]).sum() == pytest.approx(1)


def test_streams_are_the_answer_in_pieces(model: Transformers) -> None:
    whole = model.chat("the price of a kettle", max_tokens=12)
    stream = model.stream("the price of a kettle", max_tokens=12)
    assert "".join(delta.text for delta in stream) == whole.text == stream.reply.text
    assert stream.reply.first_seconds is not None


def test_a_stream_that_is_given_up_ends_the_row(model: Transformers) -> None:
    stream = model.stream("the price", max_tokens=400, temperature=2.0, seed=1)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 5
    while not model.worker.idle and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.worker.idle


def test_many_threads_and_tasks_at_once(model: Transformers) -> None:
    requests = [talk(n, max_tokens=6) for n in range(8)]
    expected = [reply.text for reply in ask(model, requests)]
    found: dict[int, str] = {}

    def work(n: int) -> None:
        found[n] = model.chat(requests[n].messages, max_tokens=6).text

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()

    async def tasks() -> list[str]:
        return [reply.text for reply in await asyncio.gather(*(model.ask(request) for request in requests))]

    assert asyncio.run(tasks()) == expected
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(8)] == expected


def test_grammars_and_schemas_hold(model: Transformers) -> None:
    labels = ["spam", 'not "spam"', "two\nlines", "émoji 🎉", "spam and more"]
    hot = [talk(n, max_tokens=60, temperature=2.0, seed=n, grammar=label_grammar(labels)) for n in range(8)]
    answers = {reply.text for reply in ask(model, hot)}
    assert answers <= set(labels)
    assert len(answers) > 1
    for reply in ask(model, [talk(n, max_tokens=12, grammar=number_grammar()) for n in range(4)]):
        assert float(reply.text.replace(",", "")) >= 0
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["fox", "dog"]}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
        "additionalProperties": False,
    }
    reply = model.chat("x", output=schema, max_tokens=60, temperature=1.0, seed=2)
    assert set(json.loads(reply.text)) == {"name", "old"}
    assert reply.parsed == json.loads(reply.text)
    with pytest.raises(InputError, match="grammar"):
        model.chat("x", grammar="root ::= (")


def test_forced_tokens_give_what_chosen_ones_would(model: Transformers) -> None:
    grammar = label_grammar(["the quick brown fox", "the red kettle"])
    fast = model.chat("x", grammar=grammar, max_tokens=30)
    assert fast.text == model.chat("x", grammar=grammar, max_tokens=30, logprobs=0).text
    assert model.chat("x", grammar=grammar, max_tokens=2).usage.output == 2


def test_a_tool_that_must_be_called(model: Transformers) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tools = [Tool("weather", "The weather.", parameters), Tool("time", "The time.", parameters)]
    named = model.chat("x", tools=tools, tool_choice="weather", max_tokens=120)
    assert [call.name for call in named.tool_calls] == ["weather"]
    assert named.tool_calls[0].arguments["city"] in ("Oslo", "Rome")
    assert named.finish_reason == "tool_calls"
    stream = model.stream("x", tools=tools, tool_choice="required", max_tokens=120)
    pieces = list(stream)
    assert pieces[-1].name == stream.reply.tool_calls[0].name
    assert json.loads(pieces[-1].arguments) == stream.reply.tool_calls[0].arguments


def test_prompts_are_those_of_the_tokenizers_own_template(
    model: Transformers, tiny_no_system: Path, tiny_base: Path
) -> None:
    turns = [
        {"role": "user", "content": "Hello\n"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "é"},
    ]
    messages = [Message(turn["role"], turn["content"]) for turn in turns]  # type: ignore[arg-type]
    with opened(tiny_no_system) as other, opened(tiny_base) as base:
        for each in (model, other):
            tokenizer = each.loaded.tokenizer
            expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            assert each.render(messages) == expected
            ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
            assert each.prompt_ids(make_request(messages)) == list(ids)
            assert each.prompt_ids(make_request(messages)).count(1) == (each is other)
        assert other.render([System("Be brief."), User("Hello")]) == other.render([User("Be brief.\n\nHello")])
        assert next(piece.id for piece in other.tokenize("a")) == 1
        assert base.render([System("One."), User("Two.")]) == "One.\n\nTwo."
        assert base.chat("the price", max_tokens=3).usage.output <= 3


def test_prefill_is_continued_and_not_repeated(model: Transformers) -> None:
    plain = model.prompt_ids(make_request("x"))
    assert model.prompt_ids(make_request("x", prefill="the ")) == plain + [
        piece.id for piece in model.tokenize("the ", special=False)
    ]
    reply = model.chat("x", prefill="the ", max_tokens=4)
    assert reply.text == model.generate("x", prefill="the ", max_tokens=4).reply.text
    assert not reply.text.startswith("the ")


def test_a_prompt_beyond_the_context(model: Transformers) -> None:
    long = make_request("word " * 900)
    with pytest.raises(ContextTooLongError, match="of 512") as caught:
        model.chat("word " * 900)
    assert caught.value.limit == 512
    assert caught.value.tokens is not None
    assert caught.value.tokens > 512
    short, empty = ask(model, [talk(1, max_tokens=2), long])
    assert (empty.text, empty.finish_reason) == ("", "length")
    assert short.usage.output == 2
    with pytest.raises(ContextTooLongError):
        model.score("word " * 900, ["a", "b"])
    full = model.chat("word " * 50, temperature=2.0, seed=1)  # without max_tokens, up to the context
    assert full.usage.input + full.usage.output <= 512


def test_what_the_engine_does_not_take(model: Transformers) -> None:
    with pytest.raises(InputError, match="reasoning"):
        model.chat("x", reasoning="low")
    with pytest.raises(InputError, match="image"):
        model.chat([Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png"), "what is this?"])
    with pytest.raises(InputError, match="extra"):
        model.chat("x", extra={"a": 1})


def test_requests_are_drawn_lazily_and_closing_early_is_clean(model: Transformers) -> None:
    drawn = 0

    def requests() -> Iterator[Request]:
        nonlocal drawn
        while True:
            drawn += 1
            yield talk(drawn, max_tokens=4)

    replies = model.chat_many(requests())
    for _ in range(3):
        next(replies)
    assert drawn <= 15
    replies.close()  # type: ignore[attr-defined]
    assert ask(model, [talk(1, max_tokens=1)])[0].usage.output == 1
    assert ask(model, []) == []


def test_a_fault_comes_after_what_is_under_way(model: Transformers) -> None:
    def requests() -> Iterator[Request]:
        yield talk(1, max_tokens=3)
        yield talk(2, max_tokens=3)
        raise RuntimeError("the table broke")

    replies = model.chat_many(requests())
    assert sorted([next(replies)[0], next(replies)[0]]) == [0, 1]
    with pytest.raises(RuntimeError, match="the table broke"):
        next(replies)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),  # oneDNN's, seen under RLIMIT_AS
        RuntimeError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory.\nSearch for `cudaErrorMemoryAllocation`\n" + 99 * "and more\n"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_halves_the_rows(
    tiny_chat: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    requests = [talk(n, max_tokens=5) for n in range(12)]
    with opened(tiny_chat, batch="8") as small:
        expected = [reply.text for reply in ask(small, requests)]
        runner = small.worker.call(lambda worker: worker.runner)
        step, most = runner.step, 3

        def tight(feeds: Any) -> Any:
            if len(feeds) > most:
                raise error
            return step(feeds)

        monkeypatch.setattr(runner, "step", tight)
        assert [reply.text for reply in ask(small, requests)] == expected
        most = 0
        with pytest.raises(ModelError, match="not enough memory for one answer"):
            small.chat("x", max_tokens=3)
        with pytest.raises(ModelError, match=r"not enough memory for this call .*model \(\S[^\n]*\)$") as caught:
            small.score("x", ["red", "blue"])
        assert len(str(caught.value)) < 500
        most = 9
        assert ask(small, requests)[0].text == expected[0]


def test_no_memory_to_begin_with(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tiny_chat) as model:

        def make(*_: Any) -> Any:
            raise RuntimeError("could not create a primitive")

        monkeypatch.setattr(engine, "runner", make)
        with pytest.raises(ModelError, match="not enough memory for one answer"):
            model.chat("x", max_tokens=3)


def test_a_failing_step_fails_its_rows_alone(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tiny_chat) as broken:
        runner = broken.worker.call(lambda worker: worker.runner)

        def fail(feeds: Any) -> Any:
            raise RuntimeError("a kernel broke")

        with monkeypatch.context() as patch:
            patch.setattr(runner, "step", fail)
            with pytest.raises(ModelError, match="a kernel broke"):
                broken.chat("x", max_tokens=3)
        assert broken.chat("x", max_tokens=3).usage.output <= 3


def test_a_closed_model_says_so(tiny_chat: Path) -> None:
    closed = opened(tiny_chat)
    replies = closed.chat_many(talk(n, max_tokens=50) for n in range(100))
    next(iter(replies))
    closed.close()
    closed.close()
    with pytest.raises(ModelError, match="is closed"):
        list(replies)
    for use in (closed.chat, closed.count_tokens, closed.logits, closed.generate):
        with pytest.raises(ModelError, match="is closed"):
            use("x")
    with pytest.raises(ModelError, match="is closed"):
        ask(closed, [talk(1)])


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Iterator[Transformers]:
    with opened(smollm2, context="1024", dtype="float32") as made:
        yield made


def test_the_real_model_answers_as_generate_does(real: Transformers) -> None:
    things = [
        "a used keyboard",
        "a red sports car, 2019",
        "a pencil",
        "a house in Ohio",
        "tea",
        "日本のお茶",
        "`x = 1`",
    ]
    requests = [
        make_request(
            [System("You estimate prices."), User("What does a kettle cost?"), Assistant("It costs $34.99."), text],
            max_tokens=6,
        )
        for text in (f"What does {thing} cost{mark}" for thing in things for mark in ("?", "?!", " now, in euros?"))
    ][:20]
    for request, reply in zip(requests, ask(real, requests), strict=True):
        answer = own_answer(real, request)
        assert reply.text == real.loaded.tokenizer.decode(answer, clean_up_tokenization_spaces=False)
        assert reply.usage.cached > 20


def test_the_real_model_counts(real: Transformers) -> None:
    request = make_request("Count from 1 to 8.", prefill="1, 2, 3, 4,", max_tokens=30, stop=", 7")
    reply = ask(real, [request])[0]
    assert (reply.text, reply.finish_reason) == (" 5, 6", "stop")
    assert real.count_tokens("word " * 100) in (100, 101)
