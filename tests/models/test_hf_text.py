"""The text of tokens, calls of tools, and the choice of the next token."""

import json

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from kurabe.messages import Request, Text, Tool, ToolCall
from kurabe.models.engines.hf._sample import Sampler, chosen, likelihoods
from kurabe.models.engines.hf._schedule import common
from kurabe.models.engines.hf._tools import read_tool_calls, tool_form
from kurabe.models.engines.hf.text import Writer

LETTERS = st.text("abé日👩", max_size=12)


@example("baa", ["a", "baa"], [1, 1])
@given(
    LETTERS, st.lists(st.text("abé日", min_size=1, max_size=4), max_size=3), st.lists(st.integers(1, 5), max_size=40)
)
def test_stop_strings_hold_however_the_text_is_cut(text: str, stops: list[str], sizes: list[int]) -> None:
    data, writer, given_out = text.encode(), Writer(stops), ""
    for size in [*sizes, len(data) + 1]:
        piece, data = data[:size], data[size:]
        given_out += writer.feed(piece)
    given_out += writer.feed(b"", end=True)
    # The first stop string that is whole ends it, also where a longer one has begun before.
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert given_out == writer.text == (text[: min(ends)[1]] if ends else text)
    assert writer.stopped == bool(ends)


def test_a_broken_character_at_the_end_is_shown_as_one() -> None:
    writer = Writer()
    assert writer.feed("é".encode()[:1]) == ""
    assert writer.feed(b"", end=True) == "�"


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=4))
def test_what_texts_begin_with_in_common(texts: list[list[int]]) -> None:
    size = common(texts)
    assert all(text[:size] == texts[0][:size] for text in texts)
    assert any(len(text) == size for text in texts) or len({text[size] for text in texts}) > 1


def pick(request: Request, logits: torch.Tensor, count: int = 1) -> list[int]:
    sampler = Sampler(request)
    return [chosen(logits[None], [sampler], [None])[0] for _ in range(count)]


def test_the_likeliest_token_without_a_temperature() -> None:
    logits = torch.tensor([0.1, 2.0, -1.0, 1.9])
    assert pick(Request(()), logits) == [1]
    sampler = Sampler(Request((), frequency_penalty=0.2))
    sampler.took(1)
    assert chosen(logits[None], [sampler], [None]) == [3]
    assert logits.tolist() == pytest.approx([0.1, 2.0, -1.0, 1.9])


def test_samples_come_as_often_as_their_probability_says() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    taken = pick(Request((), temperature=1.0, seed=3), logits, 2000)
    for token, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert taken.count(token) / 2000 == pytest.approx(share, abs=0.035)
    assert set(pick(Request((), temperature=1.0, top_p=0.6, seed=3), logits, 200)) == {0, 1}
    assert set(pick(Request((), temperature=1.0, top_p=0.0, seed=3), logits, 50)) == {0}
    assert set(pick(Request((), temperature=2.0, top_k=3, seed=3), logits, 400)) == {0, 1, 2}
    assert pick(Request((), temperature=1.0, seed=3), logits, 2000) == taken
    assert pick(Request((), temperature=1.0, seed=4), logits, 2000) != taken


def test_a_seed_gives_the_same_in_any_company() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    alone = [pick(Request((), temperature=1.5, seed=7), row, 1)[0] for row in logits]
    samplers = [Sampler(Request((), temperature=1.5, seed=7)) for _ in logits]
    assert chosen(logits, samplers, [None] * 5) == alone


def test_only_allowed_tokens_are_taken() -> None:
    allowed = torch.tensor([False, False, True, False])
    logits = torch.tensor([[5.0, 4.0, 1.0, 3.0, 9.0]])
    assert chosen(logits, [Sampler(Request(()))], [allowed]) == [2]
    assert chosen(logits, [Sampler(Request((), temperature=2.0, seed=1))], [allowed]) == [2]


def test_log_probabilities_are_those_before_any_setting() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
    first, second = likelihoods(logits, [0, 2], [2, 0])
    expected = torch.log_softmax(logits, dim=-1)
    assert first.logprob == pytest.approx(float(expected[0, 0]))
    assert [token for token, _ in first.top] == [2, 1]
    assert first.top[1][1] == pytest.approx(float(expected[0, 1]))
    assert second.top == ()


WEATHER = Tool("weather", "", {"type": "object"})
CALL = {"city": "Oslo", "days": [1, 2], "more": {"text": "a } ] </b>"}}


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n" + json.dumps({"name": "weather", "arguments": CALL}) + "\n</tool_call>",
        "<tool_call>" + json.dumps({"name": "weather", "arguments": json.dumps(CALL)}),
        json.dumps({"name": "weather", "parameters": CALL}),
        "<|python_tag|>" + json.dumps({"type": "function", "name": "weather", "parameters": CALL}),
        "[TOOL_CALLS] " + json.dumps([{"name": "weather", "arguments": CALL, "id": "a1b2c3d4e"}]),
        "[TOOL_CALLS]weather[ARGS]" + json.dumps(CALL),
        "[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]" + json.dumps(CALL),
    ],
)
def test_calls_of_tools_are_read(text: str) -> None:
    parts = read_tool_calls(text, [WEATHER])
    assert len(parts) == 1
    call = parts[0]
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments) == ("weather", CALL)


def test_several_calls_and_text() -> None:
    one = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    parts = read_tool_calls(f"Let me see.\n{one}\n{one}", [WEATHER])
    assert parts[0] == Text("Let me see.")
    first, second = parts[1], parts[2]
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id != second.id


@pytest.mark.parametrize(
    "text",
    [
        "no call",
        '{"name": "other", "parameters": {}}',
        '{"name": "weather"',
        "<tool_call>weather</tool_call>",
        "{}",
        "",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert read_tool_calls(text, [WEATHER]) == text


def test_the_form_of_calls_follows_the_template() -> None:
    assert tool_form("… [TOOL_CALLS] …") == "mistral"
    assert tool_form('… {"name": …, "parameters": …} <|python_tag|>') == "llama"
    assert tool_form("<tool_call>") == tool_form("") == "hermes"
