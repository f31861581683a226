"""What Mistral does otherwise than OpenAI, beside the requests and answers of its conformance tests."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.messages import Assistant, Message, OutputFormat, Reasoning, Reply, Request, Text, ToolCall, User
from kurabe.models.codecs._mistral import Mistral
from kurabe.models.codecs.base import Profile

CODEC = Mistral()


def sent(request: Request, *, stream: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(CODEC.chat("m", request, Profile(), stream=stream).body)
    return body


def thought(text: Any, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, **more}


def streamed(*deltas: Any) -> bytes:
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events[-1]["choices"][0]["finish_reason"] = "stop"
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)


def test_a_stream_asks_for_nothing_more() -> None:
    assert sent(Request((User("Hi"),), seed=7), stream=True) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "random_seed": 7,
        "stream": True,
    }


def test_objects_are_closed_and_the_schema_given_is_left_alone() -> None:
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "object"}, {"type": "null"}], "minimum": 1}}}
    request = Request((User("Hi"),), output=OutputFormat("o", schema))
    made = sent(request)["response_format"]["json_schema"]
    assert (made["name"], made["strict"]) == ("o", True)
    assert made["schema"] == {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"type": "object", "additionalProperties": False}, {"type": "null"}], "minimum": 1}
        },
        "additionalProperties": False,
    }
    assert "additionalProperties" not in schema


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([thought([{"type": "text", "text": "Hm."}]), {"text": "Yes."}], (Reasoning("Hm."), Text("Yes."))),
        ([{"text": "So"}, thought([], signature="s"), {"text": "."}], (Text("So"), Reasoning("", "s"), Text("."))),
        ([thought("Hm.", signature="s"), {"type": "text", "text": "Yes."}], (Reasoning("Hm.", "s"), Text("Yes."))),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "reference", "reference_ids": [1]}, {"type": "new", "odd": {}}], ""),
        ([thought(None), thought([{"type": "reference", "reference_ids": [1]}])], ""),
    ],
)  # fmt: skip
def test_content_in_lists(content: Any, expected: Any) -> None:
    body = msgspec.json.encode({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    assert CODEC.reply(body).content == expected
    for stream in (streamed({"content": content}), streamed(*({"content": [piece]} for piece in content))):
        reader = CODEC.decoder()
        reader.feed(stream)
        assert reader.finish().content == expected


def test_thinking_with_a_signature_alone_is_kept() -> None:
    reader = CODEC.decoder()
    reader.feed(
        streamed(
            {"content": [thought([])]},
            {"content": [thought([{"text": "Hm."}])]},
            {"content": [thought([], signature="s")]},
            {"content": "Yes."},
        )
    )
    assert reader.finish().content == (Reasoning("Hm.", "s"), Text("Yes."))


@pytest.mark.parametrize(
    "detail", ["x", ["x"], [{"msg": "x"}], [{"msg": "x", "loc": ["a", 0]}], {"detail": [{"msg": "x"}]}]
)
@pytest.mark.parametrize("name", ["detail", "message"])
def test_the_shapes_of_errors(name: str, detail: Any) -> None:
    error = CODEC.error(422, {}, msgspec.json.encode({name: detail}))
    assert isinstance(error, errors.BadRequestError)
    assert error.message.removeprefix("a.0: ") == "x"


texts = st.text(min_size=1)
turns = st.lists(st.builds(Reasoning, texts, st.text()) | st.builds(Text, texts), min_size=1, max_size=5).filter(
    lambda parts: all(type(a) is not type(b) for a, b in itertools.pairwise(parts))  # neighbours of a kind are joined
)
calls = st.lists(
    st.builds(ToolCall, texts.filter(lambda id: id != "null"), texts, st.dictionaries(st.text(), st.integers())),
    max_size=2,
)


@given(turns, calls)
def test_what_is_sent_back_is_what_came(parts: list[Any], called: list[ToolCall]) -> None:
    turn = Message("assistant", (*parts, *called))
    message = sent(Request((turn,)))["messages"][0]
    reply = CODEC.reply(msgspec.json.encode({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert isinstance(reply, Reply)
    assert reply.message.parts == turn.parts


def test_an_assistants_turn_without_thinking_is_text() -> None:
    (message,) = sent(Request((Assistant(Text("a"), Text("b")),)))["messages"]
    assert message == {"role": "assistant", "content": "ab"}
