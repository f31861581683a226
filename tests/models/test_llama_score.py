"""Tokens, probabilities and answers with their inside: the real model, held to its own whole distribution."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kurabe.errors import ContextTooLongError, InputError
from kurabe.messages import Request, User
from kurabe.models.engines.choices import Node
from kurabe.models.engines.llama._score import WHOLE, likeliest, likelihoods
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.engines.llama.server import Servers
from kurabe.models.grammar import label_grammar
from kurabe.models.reference import Reference
from kurabe.testing.tiny_gguf import tiny_llama

LABELS = ["billing", "bug", "bug report", "feature request", "日本", "日曜", "refund", "Other", "other"]


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[LlamaCpp]:
    with LlamaCpp(smollm2, Reference("gguf", "smollm2-135m", {"context": "512"})) as opened:
        yield opened


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    path = tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    with LlamaCpp(path, Reference("gguf", "tiny")) as opened:
        yield opened


def question(text: str) -> Request:
    return Request((User(f"Which queue is this for? {text}"),))


def behind(model: LlamaCpp, request: Request, tokens: list[int], *before: int, whole: bool = True) -> list[float]:
    """The log-probabilities of tokens behind the prompt and the tokens `before`."""
    ((_, (found,)),) = model.node_logprobs([request], (Node(before, tuple(tokens)),), whole=whole)
    return [float(value) for value in found]


def test_probabilities_of_chosen_tokens_are_those_of_the_whole_vocabulary(
    tiny: LlamaCpp, tmp_path: Path, llama_servers: Callable[[Path, Reference], AbstractContextManager[Servers]]
) -> None:
    random = np.random.default_rng(0)
    anchor = tiny.tokenize("a", special=False)[-1].id
    with llama_servers(tiny_llama(tmp_path / "tiny.gguf"), Reference("gguf", "tiny")) as servers:
        lane = servers.lanes[0]
        for length in range(1, 200):
            ids = random.integers(0, tiny.vocabulary, length).tolist()
            tokens = random.choice(tiny.vocabulary, 1 + length % 40, replace=False).tolist()
            every = {each.id: each for each in likeliest(servers, lane, ids, WHOLE, anchor)}
            assert len(every) == tiny.vocabulary
            for each in likelihoods(servers, lane, ids, tokens, anchor):
                assert each.logprob == pytest.approx(every[each.id].logprob, abs=1e-3)
                assert each.bytes == every[each.id].bytes


def test_probabilities_of_chosen_tokens_of_the_real_model(model: LlamaCpp) -> None:
    asked = question("I was charged twice")
    tokens = [*np.random.default_rng(1).choice(model.vocabulary, 60, replace=False).tolist(), model.end, 241, 115]
    every = {piece.id: logprob for piece, logprob in model.next_tokens(model.prompt_ids(asked), model.vocabulary)}
    assert len(every) == model.vocabulary == 49152
    assert np.logaddexp.reduce(list(every.values())) == pytest.approx(0, abs=1e-3)
    assert behind(model, asked, tokens) == pytest.approx([every[token] for token in tokens], abs=1e-3)


def test_scores_of_choices(model: LlamaCpp) -> None:
    """Against the product of each choice's tokens' probabilities, one by one."""
    asked = question("I was charged twice")
    prompt = model.prompt_ids(asked)
    whole = model.score(asked.messages, LABELS, whole=True)
    for label, score in zip(LABELS, whole, strict=True):
        tokens = model.prompt_ids(asked, label)[len(prompt) :]
        total = sum(behind(model, asked, [token], *tokens[:at])[0] for at, token in enumerate(tokens))
        assert score == pytest.approx(total, abs=1e-3)
    shares = model.score(asked.messages, LABELS)
    assert np.exp(shares).sum() == pytest.approx(1, abs=1e-9)


def test_shares_are_likelihoods_less_one_constant(model: LlamaCpp) -> None:
    asked = question("I was charged twice")
    tokens = [*range(300, 330), model.end]
    absolute = behind(model, asked, tokens)
    found = behind(model, asked, tokens, whole=False)
    less = found[0] - absolute[0]
    assert abs(less) > 1
    assert found == pytest.approx([value + less for value in absolute], abs=1e-3)


def test_a_node_takes_one_request_but_for_the_likelihoods_of_several_tokens(
    tiny: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = Servers.complete, list[object]()

    def counted(servers: Servers, lane: Any, body: dict[str, Any], take: Any) -> None:
        asked.append(body)
        run(servers, lane, body, take)

    monkeypatch.setattr(Servers, "complete", counted)
    for following, whole, requests in (((300,), True, 1), ((300, 301), True, 2), ((300, 301), False, 1)):
        asked.clear()
        list(tiny.node_logprobs([question("x")], (Node((), following),), whole=whole))
        assert len(asked) == requests


def test_scores_do_not_depend_on_their_company(model: LlamaCpp) -> None:
    texts = ["a", "I was charged twice by mistake, as it seems", "c", "it crashes"]
    together = dict(model.score_many(map(question, texts), LABELS))
    for at, text in enumerate(texts):
        assert np.array_equal(model.score(question(text).messages, LABELS), together[at])


def test_nodes_are_drawn_lazily_and_too_long_ones_raise(tiny: LlamaCpp) -> None:
    drawn = 0

    def requests() -> Iterator[Request]:
        nonlocal drawn
        while True:
            drawn += 1
            yield Request((User(f"thing {drawn}"),))

    results = tiny.node_logprobs(requests(), (Node((), (300, 301)),))
    index, (row,) = next(results)
    assert (index, len(row), str(row.dtype)) == (0, 2, "float64")
    next(results)
    assert drawn <= 20
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ContextTooLongError) as caught:
        list(tiny.node_logprobs([Request((User("x" * 600),))], (Node((), (300, 301)),)))
    assert (caught.value.tokens, caught.value.limit) == (601, 512)
    assert list(tiny.node_logprobs([], (Node((), (300, 301)),))) == []


def test_an_answer_with_its_inside(model: LlamaCpp) -> None:
    found = model.generate("Say hi", max_tokens=40)
    assert b"".join(piece.data for piece in found.answer).decode() == found.reply.text
    assert [piece.id for piece in found.prompt] == model.prompt_ids(Request((User("Say hi"),)))
    assert found.answer[-1].id == model.end == 2
    assert (found.reply.finish_reason, found.reply.usage.output) == ("stop", len(found.answer))
    ids = [piece.id for piece in found.prompt]
    for piece, logprob in zip(found.answer, found.logprobs, strict=True):
        (best, value), *_ = model.next_tokens(ids, 1)
        assert best.id == piece.id
        assert value == pytest.approx(logprob, abs=1e-3)
        ids.append(piece.id)


def test_tokens_that_cut_characters_are_told(model: LlamaCpp) -> None:
    grammar = label_grammar(["日本の🎉"])
    found = model.generate("Say it", grammar=grammar, max_tokens=20)
    assert found.reply.text == "日本の🎉"
    assert b"".join(piece.data for piece in found.answer).decode() == "日本の🎉"
    assert len(found.answer) == len(found.logprobs) == found.reply.usage.output > 4
    assert all(logprob < 0 for logprob in found.logprobs)


def test_logits(tiny: LlamaCpp) -> None:
    rows = tiny.logits("abc")
    ids = [piece.id for piece in tiny.tokenize("abc")]
    assert rows.shape == (4, tiny.vocabulary)
    assert rows.dtype == np.float32
    assert np.exp(rows.astype(np.float64)).sum(axis=1) == pytest.approx([1] * 4, abs=1e-3)
    for at in range(4):
        (best, value), *_ = tiny.next_tokens(ids[: at + 1], 1)
        assert int(rows[at].argmax()) == best.id
        assert rows[at].max() == pytest.approx(value, abs=1e-5)
    with pytest.raises(ContextTooLongError):
        tiny.next_tokens(ids * 200, 1)


def test_what_stands_before_every_text_stands_there_once(tmp_path: Path) -> None:
    names = {"with": "{{ bos_token }}{{ messages[0].content }}", "without": "{{ messages[0].content }}", "none": None}
    for name, template in names.items():
        for bos in (True, False):
            path = tiny_llama(tmp_path / f"{name}-{bos}.gguf", template=template, bos=bos)
            with LlamaCpp(path, Reference("gguf", "tiny")) as opened:
                ids = opened.prompt_ids(Request((User("hi"),)))
                begun = 1 if bos or name == "with" else 0
                assert ids == [1] * begun + [piece.id for piece in opened.tokenize("hi", special=False)]
                reply = opened.chat("hi", max_tokens=2)
                assert reply.usage.input == len(ids)


def test_eight_threads_at_once(tiny: LlamaCpp) -> None:
    alone = {n: tiny.chat(f"thing {n}", max_tokens=12).text for n in range(8)}
    found: dict[int, list[object]] = {}

    def work(n: int) -> None:
        score = tiny.score(f"thing {n}", ["ab", "cd"]).tolist()
        found[n] = [
            tiny.chat(f"thing {n}", max_tokens=12).text,
            tiny.stream(f"thing {n}", max_tokens=12).reply.text,
            score,
        ]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {n: texts[:2] for n, texts in found.items()} == {n: [text, text] for n, text in alone.items()}
    for n in range(8):  # weights in float32, which these are, are multiplied in another order in company
        assert found[n][2] == pytest.approx(tiny.score(f"thing {n}", ["ab", "cd"]).tolist(), abs=1e-3)


def test_a_template_without_tools_takes_none(model: LlamaCpp) -> None:
    def weather(city: str) -> str:
        """The weather."""
        return city

    with pytest.raises(InputError, match="has no place for tools"):
        model.chat("Hi", tools=[weather])
