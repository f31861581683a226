"""What comes next: llama.cpp's own sampling is the judge of ours."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kurabe.errors import InputError, ModelError
from kurabe.lens.next_tokens import Sampling, Walk, after, next_tokens
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.engines.llama.server import Servers
from kurabe.models.reference import Reference
from kurabe.testing.tiny import tiny_model

PROMPT = "The capital of France is"


def walking(file: Path, text: str) -> Walk:
    return Walk(f"gguf:{file}?context=256", text)


@pytest.fixture(scope="module")
def walk(smollm2: Path) -> Iterator[Walk]:
    """At PROMPT; a test that goes on from there goes back."""
    with walking(smollm2, PROMPT) as opened:
        yield opened


@pytest.fixture(scope="module")
def llama(
    smollm2: Path, llama_servers: Callable[[Path, Reference], AbstractContextManager[Servers]]
) -> Iterator[Servers]:
    """llama.cpp over the same file, for what only it can be asked."""
    with llama_servers(smollm2, Reference("gguf", "x", {"context": "256"})) as servers:
        yield servers


@pytest.mark.parametrize("text", [PROMPT, "def add(a, b):\n    return", "1, 2, 3,", "Repeat 日本語: 日"])
def test_the_first_is_the_greedy_one_and_the_sum_is_at_most_1(text: str, smollm2: Path, llama: Servers) -> None:
    with walking(smollm2, text) as walk:
        seen = walk.look(count=50)
        shares = [each.probability for each in seen.tokens]
        assert shares == sorted(shares, reverse=True)
        assert 0.2 < sum(shares) <= 1
        assert seen.rest == pytest.approx(1 - sum(shares))
        greedy: list[Any] = []
        llama.lanes[0].server.handle_completions(
            {"prompt": text, "max_tokens": 8, "temperature": 0.0, "id_slot": 0}, greedy.append
        )
        said = greedy[0]["choices"][0]["text"]
        for _ in range(8):
            first = walk.look(count=1).tokens[0].token
            if first.special:
                break
            walk.take(first)
        assert said
        assert (walk.text.removeprefix(text) + "\ufffd").startswith(said.rstrip("\ufffd"))


def test_the_whole_vocabulary_sums_to_1(walk: Walk) -> None:
    seen = walk.look(Sampling(temperature=1.3), count=100_000)
    assert len(seen.tokens) == 49_152
    assert sum(each.probability for each in seen.tokens) == pytest.approx(1, abs=1e-9)
    assert sum(each.drawn for each in seen.tokens) == pytest.approx(1, abs=1e-9)
    assert seen.tokens[0].probability == pytest.approx(walk.look(count=1).tokens[0].probability, rel=1e-3)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, top_k=40, top_p=0.9),
        Sampling(temperature=1.5, top_k=7),
        Sampling(top_p=0.8),
        Sampling(temperature=2.0, top_p=0.85),
        Sampling(top_k=3),
        Sampling(temperature=0.3),
    ],
)
def test_what_can_be_drawn_is_what_llama_cpp_draws_from(walk: Walk, llama: Servers, sampling: Sampling) -> None:
    body = {
        "prompt": list(walk.ids), "n_predict": 1, "n_probs": 25, "post_sampling_probs": True, "min_p": 0.0,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature, "top_k": sampling.top_k or 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
    }  # fmt: skip
    theirs = llama.post("/completion", body)["completion_probabilities"][0]["top_probs"]
    seen = walk.look(sampling, count=25)
    ours = {each.token.id: each.drawn for each in seen.tokens if each.drawn > 0}
    assert set(list(ours)[: len(theirs)]) >= {each["id"] for each in theirs if each["prob"] > 1e-4}
    for each in theirs:
        assert ours.get(each["id"], 0.0) == pytest.approx(each["prob"], abs=2e-3)
    if seen.kept is not None and seen.kept <= 25:
        assert len([each for each in theirs if each["prob"] > 0]) == seen.kept == len(ours)


def test_after_by_hand() -> None:
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    for sampling, expected, kept in (
        (Sampling(), [0.5, 0.25, 0.125, 0.125], None),
        (Sampling(temperature=0.0), [1, 0, 0, 0], 1),
        (Sampling(top_k=2), [2 / 3, 1 / 3, 0, 0], 2),
        (Sampling(top_p=0.5), [1, 0, 0, 0], 1),
        (Sampling(top_p=0.6), [2 / 3, 1 / 3, 0, 0], 2),
        (Sampling(top_k=2, top_p=0.7), [2 / 3, 1 / 3, 0, 0], 2),
        (Sampling(top_k=2, top_p=0.6), [1, 0, 0, 0], 1),
        (Sampling(temperature=0.5), [16 / 22, 4 / 22, 1 / 22, 1 / 22], None),
        (Sampling(temperature=0.5, top_k=2), [0.8, 0.2, 0, 0], 2),
        (Sampling(top_p=1.0), [0.5, 0.25, 0.125, 0.125], None),
        (Sampling(top_k=9), [0.5, 0.25, 0.125, 0.125], 4),
    ):
        drawn, found = after(shares, sampling)
        assert drawn == pytest.approx(expected), sampling
        assert found == kept, sampling


def test_a_walk_continues_what_is_taken(walk: Walk, smollm2: Path) -> None:
    second = walk.look().tokens[1].token
    walk.take(second)
    assert walk.text == PROMPT + " the"
    assert walk.look().text == PROMPT + " the"
    assert walk.look().ids[-1] == second.id
    with walking(smollm2, PROMPT + " the") as other:
        assert other.look().tokens == walk.look().tokens
    assert walk.back()
    assert walk.text == PROMPT
    assert not walk.back()


def test_chat_goes_through_the_template_and_special_tokens_have_names(smollm2: Path) -> None:
    seen = next_tokens(f"gguf:{smollm2}?context=512", "Say: yes", chat=True, count=3)
    assert seen.text.endswith("<|im_start|>user\nSay: yes<|im_end|>\n<|im_start|>assistant\n")
    assert seen.ids[0] == 1
    with Walk(f"gguf:{smollm2}?context=512", "<|im_start|>assistant\nHello! How can I help you today?") as opened:
        end = opened.look(count=40).tokens
        assert next(each.token for each in end if each.token.special).shown == "<|im_end|>"
        assert json.loads(json.dumps(opened.look().as_dict()))["text"].startswith("<|im_start|>")


def test_log_probabilities_of_an_answer_are_the_same(smollm2: Path) -> None:
    with LlamaCpp(smollm2, Reference("gguf", "x", {"context": "256"})) as model:
        reply = model.chat("Count from 1 to 8.", prefill="1, 2, 3,", max_tokens=4, logprobs=2)
        plain = model.chat("Count from 1 to 8.", prefill="1, 2, 3,", max_tokens=4)
        bare = model.chat("Count from 1 to 8.", prefill="1, 2, 3,", max_tokens=4, logprobs=0)
        ids = [piece.id for piece in model.tokenize(model.render(plain_messages()) + "1, 2, 3,")]
        ((piece, logprob), (_, other)) = model.next_tokens(ids, 2)
    assert reply.text == plain.text == bare.text == "".join(each.token for each in reply.logprobs)
    assert plain.logprobs == ()
    assert [each.top for each in bare.logprobs] == [()] * 4
    assert [each.logprob for each in bare.logprobs] == [each.logprob for each in reply.logprobs]
    first = reply.logprobs[0]
    assert first.token == piece.data.decode()
    assert first.logprob == pytest.approx(logprob, abs=1e-4)
    assert [value for _, value in first.top] == pytest.approx([logprob, other], abs=1e-4)
    assert all(math.exp(each.logprob) <= 1 for each in reply.logprobs)


def plain_messages() -> Any:
    from kurabe.messages import User

    return [User("Count from 1 to 8.")]


def test_a_model_of_transformers(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    with Walk(f"hf:{tmp_path}", "The red kettle") as opened:
        seen = opened.look(Sampling(temperature=0.5), count=3)
    with Transformers(tmp_path, Reference("hf", str(tmp_path))) as model:
        row = model.logits("The red kettle")[-1].astype(np.float64)
    shares = np.exp(row - np.logaddexp.reduce(row))
    best = np.argsort(-shares)[:3]
    assert [each.token.id for each in seen.tokens] == best.tolist()
    assert [each.probability for each in seen.tokens] == pytest.approx(shares[best].tolist(), rel=1e-4)
    sharper = shares**2 / (shares**2).sum()
    assert [each.drawn for each in seen.tokens] == pytest.approx(sharper[best].tolist(), rel=1e-3)


def test_bad_input(smollm2: Path) -> None:
    with pytest.raises(InputError, match="does not show what comes next"):
        next_tokens("openai:gpt-5.1", "x")
    for setting, says in (
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"count": 0}, "count is 0"),
    ):
        with pytest.raises(InputError, match=says):
            next_tokens("gguf:none.gguf", "x", **setting)
    for text, says in (("", "the text is empty"), ("word " * 400, "longer than its context")):
        with walking(smollm2, text) as walk, pytest.raises(ModelError, match=says):
            walk.look()
