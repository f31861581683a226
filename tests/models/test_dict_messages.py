"""Dictionaries as OpenAI's and Anthropic's users write them are read as our messages."""

import base64
from typing import Any

import msgspec
import pytest

from kurabe.errors import InputError
from kurabe.messages import (
    Assistant,
    Audio,
    Document,
    Image,
    Message,
    Reasoning,
    Request,
    System,
    Text,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models.codecs._anthropic import Anthropic
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.models.request import as_messages
from kurabe.testing import EchoModel

PNG = b"\x89PNG\r\n\x1a\n1234"
CALLS = (ToolCall("c1", "weather", {"city": "Ōsaka"}), ToolCall("c2", "time"))
TALK = (
    System("Be brief."),
    User("What is this?", Image(data=PNG, media_type="image/png")),
    Assistant("A cat."),
    User("And the weather?"),
    Assistant("Let me look.", *CALLS),
    User(ToolResult("c1", "weather", "rain"), ToolResult("c2", "time", "noon")),
    Assistant("Rain at noon."),
    User("Thanks, and this?", Image(url="https://example.org/a.png", media_type="image/png")),
)


def test_what_our_codec_sends_to_openai_is_read_back() -> None:
    body = msgspec.json.decode(OpenAIChat().chat("m", Request(TALK), Profile(), stream=False).body)
    assert as_messages(body["messages"]) == TALK


def test_what_our_codec_sends_to_anthropic_is_read_back() -> None:
    body = msgspec.json.decode(Anthropic().chat("m", Request(TALK, max_tokens=9), Profile(), stream=False).body)
    read = as_messages(body["messages"])
    assert [message.role for message in read] == [message.role for message in TALK[1:]]
    assert [message.text for message in read] == [message.text for message in TALK[1:]]
    assert read[3].parts == TALK[4].parts
    assert read[4].parts == TALK[5].parts
    assert read[0].parts[1:] == TALK[1].parts[1:]


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ({"role": "user", "content": "Hi"}, User("Hi")),
        ({"role": "developer", "content": "Be brief."}, System("Be brief.")),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, User("Hi")),
        ({"role": "user", "content": ["Hi", Text("there")]}, User("Hi", "there")),
        ({"role": "user", "content": ""}, User("")),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}]},
            User(Audio(b"hi", "audio/mp3")),
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}}
                ],
            },
            User(Document(b"hi", "application/pdf", name="a.pdf")),
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/png",
                            "data": base64.b64encode(PNG).decode(),
                        },
                    },
                ],
            },
            User(Document(b"Hi", "text/plain"), Image(PNG, "image/png")),
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "d"},
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                ],
            },
            Assistant(Reasoning("hm", signature="s"), Reasoning(data="d"), ToolCall("1", "f", {"a": 1})),
        ),
    ],
)
def test_each_form_of_a_message(message: dict[str, Any], read: Message) -> None:
    assert as_messages(message) == as_messages([message]) == (read,)


def test_dictionaries_and_our_messages_go_together() -> None:
    mixed: list[Any] = [System("Be brief."), {"role": "user", "content": "Hi"}, Assistant("Hello."), "And now?"]
    assert as_messages(mixed) == (System("Be brief."), User("Hi"), Assistant("Hello."), User("And now?"))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "usr", "content": "Hi"}, "message 1: no role 'usr'; did you mean 'user'"),
        ({"content": "Hi"}, "message 1: no role 'None'"),
        ({"role": "user", "content": 5}, "message 1: content is 5"),
        ({"role": "user", "content": [5]}, "message 1, part 0 is 5"),
        ({"role": "user", "content": [{"type": "txt"}]}, "no type of part 'txt'; did you mean 'text'"),
        ({"role": "user", "content": [{"type": "text"}]}, "part 0 needs 'text', a text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "has no image_url"),
        ({"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "%"}}]}, "base64"),
        ({"role": "user", "content": [{"type": "image", "source": {"type": "gcs"}}]}, "no type of source 'gcs'"),
        ({"role": "assistant", "tool_calls": [5]}, "tool call 0 is 5"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]},
            "arguments are '{'",
        ),
        ({"role": "tool", "content": "x"}, "needs 'tool_call_id'"),
        ({"role": []}, "message 1: no role"),
        ({"role": "assistant", "tool_calls": 5}, "tool_calls is 5; it must be a list"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "which tool_calls have replaced"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "\ud800"}}]},
            "arguments are",
        ),
        (
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": [{"type": "input_audio", "input_audio": {"data": "aGk="}}],
            },
            "holds texts, images and documents, and no Audio",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "tool_result"}]}],
            },
            "holds no other result",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(message: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        as_messages([{"role": "user", "content": "Hi"}, message])


def test_pictures_and_marks_of_tools_results_are_kept() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    marked = {"type": "text", "text": "rain", "cache_control": {"type": "ephemeral"}}
    first = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "see"}, picture]}
    (message,) = as_messages([first, {"role": "tool", "tool_call_id": "2", "content": [marked]}])
    shown = Image.from_url("https://example.org/a.png")
    assert message.parts == (ToolResult("1", "", (Text("see"), shown)), ToolResult("2", "", "rain"))
    assert message.cache
    assert as_messages({"role": "assistant", "content": None, "refusal": "No."}) == (Assistant("No."),)


def test_a_model_takes_them_as_they_are() -> None:
    assert EchoModel().chat([{"role": "user", "content": "Hi"}]).text == "Hi"


def test_anthropic_s_marks_and_results_of_several_parts_are_read() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    use = {"type": "tool_use", "id": "c1", "name": "chart", "input": {}}
    inner = [{"type": "text", "text": "Look."}, {"type": "image", "source": source}]
    messages = as_messages(
        [
            {"role": "system", "content": [{"type": "text", "text": "Be brief.", **mark}]},
            {"role": "user", "content": "A chart?"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": inner, **mark}]},
        ]
    )
    result = ToolResult("c1", "chart", (Text("Look."), Image(data=PNG, media_type="image/png")))
    assert messages == (
        System("Be brief.", cache=True),
        User("A chart?"),
        Assistant(ToolCall("c1", "chart")),
        User(result, cache=True),
    )
    body = msgspec.json.decode(Anthropic().chat("m", Request(messages), Profile(), stream=False).body)
    assert body["system"] == [{"type": "text", "text": "Be brief.", **mark}]
    assert body["messages"][-1]["content"] == [{"type": "tool_result", "tool_use_id": "c1", "content": inner, **mark}]
