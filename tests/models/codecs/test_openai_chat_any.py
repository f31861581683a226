"""Any bytes at all give a Reply, Deltas or a ProviderError; and what goes out comes back."""

import contextlib
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.messages import Delta, Message, Reasoning, Reply, Request, Text, ToolCall
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.openai_chat import OpenAIChat

CODEC = OpenAIChat()
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(delta: Any = None, reason: Any = None, **more: Any) -> bytes:
    return event({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more})


def call(name: str | None = None, arguments: Any = None, **head: Any) -> dict[str, Any]:
    return {"tool_calls": [{**head, "function": {"name": name, "arguments": arguments}}]}


def survives(body: bytes, size: int) -> None:
    for reading in (CODEC.reply, CODEC.embeddings, CODEC.model_names):
        with contextlib.suppress(errors.ProviderError):
            reading(body)
    assert isinstance(CODEC.error(500, {}, body), errors.ProviderError)
    reader = CODEC.decoder()
    partial = None
    try:
        for start in range(0, len(body), size):
            assert all(isinstance(delta, Delta) for delta in reader.feed(body[start : start + size]))
        assert isinstance(reader.finish(), Reply)
    except errors.ProviderError as error:
        partial = error.partial
    assert partial is None or isinstance(partial, Reply)


@given(st.binary(), st.integers(1, 50))
def test_any_bytes(body: bytes, size: int) -> None:
    survives(body, size)


WORDS = st.sampled_from(
    ["choices", "message", "delta", "content", "tool_calls", "function", "name", "arguments", "index", "id", "type",
     "text", "thinking", "usage", "error", "code", "detail", "prompt_tokens", "logprobs", "token", "citations",
     "search_results", "x_groq", "data", "embedding", "finish_reason", "object", "annotations"]
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=15,
)


@given(json_values, st.integers(1, 80))
def test_any_json(value: Any, size: int) -> None:
    body = json.dumps(value).encode()  # with NaN, lone surrogates and huge integers, as a server may send them
    survives(body, size)
    survives(b"data: " + body + b"\n\n" + DONE, size)


VALID = (
    chunk({"role": "assistant", "reasoning": "Hm"})
    + chunk({"content": "Grüße 🌍"})
    + chunk(call("f", '{"a":', index=0, id="1"))
    + chunk(call(None, "1}", index=0), "tool_calls", usage={"prompt_tokens": 5, "completion_tokens": 3})
    + DONE
)


@given(st.data())
def test_mutated_streams(data: st.DataObject) -> None:
    body = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[at] = data.draw(st.integers(0, 255))
        else:
            del body[at : at + data.draw(st.integers(1, 60))]
            body += b"\n"
    survives(bytes(body), data.draw(st.integers(1, 60)))


@given(st.integers(1, len(VALID)))
def test_a_prefix_is_cut_or_whole_and_nothing_else(end: int) -> None:
    reader = CODEC.decoder()
    reader.feed(VALID[:end])
    if end >= VALID.index(DONE) - 2:  # the event with the finish reason has come, without its empty line perhaps
        assert reader.finish().content == (Reasoning("Hm"), Text("Grüße 🌍"), ToolCall("1", "f", {"a": 1}))
        return
    with pytest.raises(errors.CutStreamError) as caught:
        reader.finish()
    assert caught.value.partial.text in ("", "Grüße 🌍")


texts = st.text(min_size=1)
arguments = st.dictionaries(st.text(), st.integers() | st.text() | st.none())
tool_calls = st.builds(ToolCall, texts.filter(lambda id: id != "null"), texts, arguments)
turns = st.tuples(
    st.lists(st.builds(Reasoning, texts), max_size=1),
    st.lists(st.builds(Text, texts), max_size=1),
    st.lists(tool_calls, max_size=3, unique_by=lambda call: call.id),
).map(lambda parts: tuple(itertools.chain(*parts)))


@given(turns)
def test_what_is_sent_back_is_what_came(content: Any) -> None:
    """An assistant's turn that goes out and comes back is the same, whole and streamed."""
    profile = Profile(quirks=frozenset({"send_reasoning"}))
    wire = CODEC.chat("m", Request((Message("assistant", content),)), profile, stream=False)
    (message,) = msgspec.json.decode(wire.body)["messages"]
    whole = msgspec.json.encode({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert CODEC.reply(whole).message.parts == content
    reader = CODEC.decoder()
    reader.feed(chunk(message, "stop"))
    assert reader.finish().message.parts == content
