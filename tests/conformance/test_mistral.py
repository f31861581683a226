"""Our Mistral beside the mistralai SDK: the same requests, and the same reading of the same answers.

The SDK's habits that we do not follow:

- `"stream": false` in every call that is none: the default, so we leave it out.
- `"prefix": false` in every assistant's turn: the default. A prefill of ours has `"prefix": true` as theirs.
- `"index": 0` in every tool call sent back: it tells nothing, and is wrong for the second one.
- It asks for `accept: text/event-stream` in a stream; every other SDK sends `*/*` or `application/json` and gets the
  stream all the same.
- It reads a delta without id as the id `"null"`; we read none.
- Cached tokens stay unknown extra fields; we read them.
- A forced tool's `stop` is `tool_calls` with us. `model_length` is `length`, and `error` raises.
- A body or event that is no JSON is a validation error; with us it is an UnreadableAnswerError.
- It returns what came of a stream that ended early; we raise CutStreamError. An error inside a stream becomes a
  validation error there, and a typed error with us.
"""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
import pydantic
import pytest
from mistralai.client import Mistral as Sdk
from mistralai.client import errors as sdk_errors
from mistralai.extra.utils.response_format import response_format_from_pydantic_model

from kurabe import errors
from kurabe.messages import (
    Assistant,
    Audio,
    Document,
    Image,
    OutputFormat,
    Reasoning,
    Reply,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    User,
)
from kurabe.models.codecs._mistral import Mistral
from kurabe.models.codecs.base import Profile

CODEC = Mistral()
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
GIF_URL = "data:image/gif;base64," + base64.b64encode(GIF).decode()
WEATHER = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
SDK_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER.parameters},
}
HELLO = [{"role": "user", "content": "Hello"}]


def sdk_call(id: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


REQUESTS: dict[str, tuple[Request, dict[str, Any]]] = {
    "system and user, settings": (
        Request(
            (System("Be brief."), User("Grüße 🌍")),
            temperature=0.0,
            max_tokens=80,
            top_p=0.9,
            top_k=40,
            seed=7,
            stop=("\n\n",),
            frequency_penalty=0.5,
            presence_penalty=0.25,
            logprobs=2,
            reasoning="high",
        ),
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße 🌍"}],
            "temperature": 0.0,
            "max_tokens": 80,
            "top_p": 0.9,
            "top_k": 40,
            "random_seed": 7,
            "stop": ["\n\n"],
            "frequency_penalty": 0.5,
            "presence_penalty": 0.25,
            "logprobs": True,
            "top_logprobs": 2,
            "reasoning_effort": "high",
        },
    ),
    "several turns and a prefill": (
        Request((User("1+1?"), Assistant("2"), User("+1?")), prefill="The answer is"),
        {
            "messages": [
                {"role": "user", "content": "1+1?"},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "+1?"},
                {"role": "assistant", "content": "The answer is", "prefix": True},
            ]
        },
    ),
    "images, sound, documents": (
        Request(
            (
                User(
                    "What?",
                    Image.from_bytes(GIF),
                    Image.from_url("https://example.com/cat.png"),
                    Audio(b"RIFF", "audio/wav"),
                    Audio(url="https://example.com/a.mp3"),
                    Document(b"%PDF", "application/pdf", name="a.pdf"),
                    Document(url="https://example.com/b.pdf"),
                ),
            )
        ),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": {"url": GIF_URL}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                        {"type": "input_audio", "input_audio": "UklGRg=="},
                        {"type": "input_audio", "input_audio": "https://example.com/a.mp3"},
                        {
                            "type": "document_url",
                            "document_url": "data:application/pdf;base64,JVBERg==",
                            "document_name": "a.pdf",
                        },
                        {"type": "document_url", "document_url": "https://example.com/b.pdf"},
                    ],
                }
            ]
        },
    ),
    **{
        f"tool choice {choice}": (
            Request((User("Hello"),), tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=False),
            {"messages": HELLO, "tools": [SDK_WEATHER], "tool_choice": choice, "parallel_tool_calls": False},
        )
        for choice in ("auto", "none", "required")
    },
    "a strict tool": (
        Request((User("Hello"),), tools=(msgspec.structs.replace(WEATHER, strict=True),)),
        {"messages": HELLO, "tools": [{**SDK_WEATHER, "function": {**SDK_WEATHER["function"], "strict": True}}]},
    ),
    "an empty turn": (
        Request((User("Hello"), Assistant("Hi"), User(""))),
        {"messages": [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": ""}]},
    ),
    "a picture as a result": (
        Request(
            (
                User("Hello"),
                Assistant(ToolCall("a", "weather", {"city": "Oslo"})),
                User(ToolResult("a", "weather", (Text("Look."), Image.from_bytes(GIF)))),
            )
        ),
        {
            "messages": [
                *HELLO,
                {"role": "assistant", "content": None, "tool_calls": [sdk_call("a", '{"city":"Oslo"}')]},
                {
                    "role": "tool",
                    "tool_call_id": "a",
                    "name": "weather",
                    "content": [
                        {"type": "text", "text": "Look."},
                        {"type": "image_url", "image_url": {"url": GIF_URL}},
                    ],
                },
            ]
        },
    ),
    "one tool by name": (
        Request((User("Hello"),), tools=(WEATHER,), tool_choice="weather"),
        {
            "messages": HELLO,
            "tools": [SDK_WEATHER],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
        },
    ),
    "parallel calls and results, with the thinking before them": (
        Request(
            (
                User("Oslo and Rome?"),
                Assistant(
                    Reasoning("Two cities.", signature="s"),
                    Text("Let me see."),
                    ToolCall("a", "weather", {"city": "Oslo"}),
                    ToolCall("b", "weather", {"city": "Rome"}),
                ),
                User(ToolResult("a", "weather", "3"), ToolResult("b", "weather", "20")),
            )
        ),
        {
            "messages": [
                {"role": "user", "content": "Oslo and Rome?"},
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "thinking",
                            "thinking": [{"type": "text", "text": "Two cities."}],
                            "signature": "s",
                        },
                        {"type": "text", "text": "Let me see."},
                    ],
                    "tool_calls": [sdk_call("a", '{"city":"Oslo"}'), sdk_call("b", '{"city":"Rome"}')],
                },
                {"role": "tool", "tool_call_id": "a", "name": "weather", "content": "3"},
                {"role": "tool", "tool_call_id": "b", "name": "weather", "content": "20"},
            ]
        },
    ),
}


def without_habits(body: dict[str, Any]) -> dict[str, Any]:
    """The SDK's body without the habits named above; they must be there, else the list is out of date."""
    if not body["stream"]:
        del body["stream"]
    for message in body["messages"]:
        if message["role"] == "assistant":
            assert "prefix" in message
            if not message["prefix"]:
                del message["prefix"]
            for call in message.get("tool_calls", ()):
                assert call.pop("index") == 0
    return body


@pytest.fixture
def client(recorder: Any) -> Iterator[Sdk]:
    with Sdk(api_key="test-key", server_url=recorder.url) as client:
        yield client


def answer(message: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "mistral-large-2512",
        "choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


def event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | more)


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
STREAM = {"content-type": "text/event-stream"}


@pytest.mark.parametrize("case", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_requests(case: str, stream: bool, recorder: Any, client: Sdk, same: Any) -> None:
    request, arguments = REQUESTS[case]
    if stream:
        recorder.answer(chunk({"content": "Hi"}, "stop", usage=USAGE) + DONE, headers=STREAM)
        list(client.chat.stream(model="mistral-large", **arguments))
    else:
        recorder.answer(answer({"content": "Hi"}))
        client.chat.complete(model="mistral-large", **arguments)
    ours = CODEC.chat("mistral-large", request, Profile(), stream=stream)
    same(ours, recorder.last, "/v1", body=without_habits)
    assert recorder.last.headers["authorization"] == "Bearer test-key"


class Size(pydantic.BaseModel):
    width: float = pydantic.Field(description="in cm")


class Product(pydantic.BaseModel):
    name: str
    size: Size | None = None


def test_structured_output(recorder: Any, client: Sdk, same: Any) -> None:
    recorder.answer(answer({"content": '{"name":"box"}'}))
    messages: Any = HELLO
    client.chat.complete(model="m", messages=messages, response_format=response_format_from_pydantic_model(Product))
    request = Request((User("Hello"),), output=OutputFormat("Product", Product.model_json_schema()))
    same(CODEC.chat("m", request, Profile(), stream=False), recorder.last, "/v1", body=without_habits)


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


MESSAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "text": ({"content": "Grüße 🌍"}, "stop", "stop"),
    "thinking, then text": (
        {
            "content": [
                thinking("Well, "),
                {"type": "text", "text": "yes."},
                {"type": "reference", "reference_ids": [1]},
            ]
        },
        "stop",
        "stop",
    ),
    "calls": (
        {"content": "", "tool_calls": [sdk_call("a", '{"city": "Oslo"}'), sdk_call("b", "{}")]},
        "tool_calls",
        "tool_calls",
    ),
    "arguments as an object": (
        {"content": "", "tool_calls": [{"id": "a", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
        "tool_calls",
        "tool_calls",
    ),
    "cut by the model's context": ({"content": "Grü"}, "model_length", "length"),
}


def sdk_text(content: Any) -> tuple[str, str]:
    """(text, thinking) of a message of the SDK."""
    if not isinstance(content, list):
        return content or "", ""
    text = "".join(piece.text for piece in content if piece.type == "text")
    return text, "".join(part.text for piece in content if piece.type == "thinking" for part in piece.thinking)


def sdk_arguments(arguments: Any) -> Any:
    return arguments if isinstance(arguments, dict) else msgspec.json.decode(arguments)


@pytest.mark.parametrize("case", MESSAGES)
def test_answers(case: str, recorder: Any, client: Sdk) -> None:
    message, reason, ours_reason = MESSAGES[case]
    body = msgspec.json.encode(answer(message, reason))
    recorder.answer(body)
    messages: Any = HELLO
    theirs = client.chat.complete(model="m", messages=messages)
    choice = theirs.choices[0]
    assert choice.message is not None
    ours = CODEC.reply(body)
    assert (ours.text, ours.reasoning) == sdk_text(choice.message.content)
    assert (choice.finish_reason, ours.finish_reason) == (reason, ours_reason)
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == [
        (c.id, c.function.name, sdk_arguments(c.function.arguments)) for c in choice.message.tool_calls or []
    ]
    usage = theirs.usage
    assert usage.additional_properties == {"prompt_tokens_details": {"cached_tokens": 4}}
    assert ours.usage == Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, 4)
    assert ours.model == theirs.model


STREAMS: dict[str, bytes] = {
    "text": chunk({"role": "assistant", "content": ""})
    + chunk({"content": "Grü"})
    + chunk({"content": "ße 🌍"})
    + chunk({"content": ""}, "stop", usage=USAGE)
    + DONE,
    "thinking": chunk({"role": "assistant", "content": [thinking("Two ")]})
    + chunk({"content": [thinking("cities.")]})
    + chunk({"content": [{"type": "text", "text": "Let me "}]})
    + chunk({"content": "see."}, "stop", usage=USAGE)
    + DONE,
    "calls": chunk({"role": "assistant", "content": ""})
    + chunk(
        {"tool_calls": [sdk_call("a", '{"city": "Oslo"}', index=0), sdk_call("b", "{}", index=1)]},
        "tool_calls",
        usage=USAGE,
    )
    + DONE,
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams(case: str, recorder: Any, client: Sdk, read_every_way: Any) -> None:
    body = STREAMS[case]
    recorder.answer(body, headers=STREAM)
    messages: Any = HELLO
    chunks = [one.data for one in client.chat.stream(model="m", messages=messages)]
    deltas, ours = read_every_way(CODEC.decoder, body)
    read = [sdk_text(one.choices[0].delta.content) for one in chunks]
    assert ours.text == "".join(delta.text for delta in deltas) == "".join(text for text, _ in read)
    assert ours.reasoning == "".join(delta.reasoning for delta in deltas) == "".join(text for _, text in read)
    calls = [call for one in chunks for call in one.choices[0].delta.tool_calls or []]
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == [
        (c.id, c.function.name, sdk_arguments(c.function.arguments)) for c in calls
    ]
    assert ours.finish_reason == chunks[-1].choices[0].finish_reason
    usage = chunks[-1].usage
    assert usage is not None
    assert ours.usage == Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0)


def test_a_call_in_pieces_without_id(read_every_way: Any, recorder: Any, client: Sdk) -> None:
    body = (
        chunk({"tool_calls": [sdk_call("a", '{"ci', index=0)]})
        + chunk({"tool_calls": [{"index": 0, "function": {"name": "", "arguments": 'ty":'}}]})
        + chunk({"tool_calls": [{"index": 0, "id": "null", "function": {"name": "", "arguments": '"Oslo"}'}}]}, "stop")
        + DONE
    )
    recorder.answer(body, headers=STREAM)
    messages: Any = HELLO
    theirs = [one.data.choices[0].delta.tool_calls for one in client.chat.stream(model="m", messages=messages)]
    assert [call.id for calls in theirs for call in calls or []] == ["a", "null", "null"]
    _, ours = read_every_way(CODEC.decoder, body)
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == [("a", "weather", {"city": "Oslo"})]
    assert ours.finish_reason == "tool_calls"


def test_embeddings(recorder: Any, client: Sdk, same: Any) -> None:
    value = {
        "id": "e",
        "object": "list",
        "model": "mistral-embed",
        "data": [{"object": "embedding", "index": at, "embedding": [0.5, at]} for at in (0, 1)],
        "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
    }
    recorder.answer(value)
    theirs = client.embeddings.create(model="mistral-embed", inputs=["one", "two"], output_dimension=2)
    same(CODEC.embed("mistral-embed", ["one", "two"], 2, None), recorder.last, "/v1")
    ours = CODEC.embeddings(msgspec.json.encode(value))
    assert ours.vectors == [one.embedding for one in theirs.data]
    assert ours.input_tokens == theirs.usage.prompt_tokens
    client.embeddings.create(model="mistral-embed", inputs=["one"])
    same(CODEC.embed("mistral-embed", ["one"], None, "document"), recorder.last, "/v1")


def test_the_list_of_models(recorder: Any, client: Sdk, same: Any) -> None:
    value = {"object": "list", "data": [{"id": "a", "capabilities": {}, "type": "base"}]}
    recorder.answer(value)
    theirs: list[Any] = list(client.models.list().data or [])
    same(CODEC.models(), recorder.last, "/v1")
    assert CODEC.model_names(msgspec.json.encode(value)) == [one.id for one in theirs] == ["a"]


DETAILS = [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {}}]
ERRORS: list[tuple[int, Any, type[errors.ProviderError], str]] = [
    (400, {"object": "error", "message": "Bad.", "type": "invalid", "code": "1"}, errors.BadRequestError, "Bad."),
    (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"},
     errors.ContextTooLongError, "Prompt contains"),
    (401, {"message": "Unauthorized", "request_id": "r"}, errors.AuthenticationError, "Unauthorized"),
    (401, {"detail": "Unauthorized"}, errors.AuthenticationError, "Unauthorized"),
    (403, {"detail": "No."}, errors.PermissionDeniedError, "No."),
    (404, {"detail": "Not Found"}, errors.NotFoundError, "Not Found"),
    (408, {"detail": "Timeout"}, errors.CallTimeoutError, "Timeout"),
    (409, {"detail": "Conflict"}, errors.BadRequestError, "Conflict"),
    (413, {"detail": "Too large"}, errors.RequestTooLargeError, "Too large"),
    (422, {"detail": DETAILS}, errors.BadRequestError, "body.messages: Field required"),
    (422, {"object": "error", "message": {"detail": DETAILS}}, errors.BadRequestError, "body.messages: Field required"),
    (429, {"message": "Requests rate limit exceeded"}, errors.RateLimitedError, "Requests rate limit exceeded"),
    (500, {"object": "error", "message": "Oops.", "type": "internal"}, errors.ServerError, "Oops."),
    (502, b"<html><body>Bad Gateway</body></html>", errors.ServerError, "Bad Gateway"),
    (503, b"", errors.OverloadedError, ""),
    (529, b"{", errors.OverloadedError, ""),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "message"), ERRORS)
def test_errors(status: int, body: Any, kind: Any, message: str, recorder: Any, client: Sdk) -> None:
    recorder.answer(body, status=status)
    messages: Any = HELLO
    with pytest.raises(sdk_errors.MistralError) as caught:
        client.chat.complete(model="m", messages=messages)
    ours = CODEC.error(status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body))
    assert type(ours) is kind
    assert ours.status == caught.value.status_code == status
    assert message in ours.message


def read_stream(body: bytes) -> Reply:
    reader = CODEC.decoder()
    reader.feed(body)
    return reader.finish()


def test_an_error_inside_a_stream(recorder: Any, client: Sdk) -> None:
    body = chunk({"content": "Hel"}) + event({"object": "error", "message": "Service unavailable.", "code": "3000"})
    recorder.answer(body, headers=STREAM)
    messages: Any = HELLO
    with pytest.raises(sdk_errors.ResponseValidationError):
        list(client.chat.stream(model="m", messages=messages))
    with pytest.raises(errors.OverloadedError, match="Service unavailable") as ours:
        read_stream(body)
    assert ours.value.partial.text == "Hel"


def test_a_stream_that_ends_early_is_an_error_with_us_alone(recorder: Any, client: Sdk) -> None:
    body = chunk({"content": "Hel"}) + chunk({"content": "lo"})
    recorder.answer(body, headers=STREAM)
    messages: Any = HELLO
    assert len(list(client.chat.stream(model="m", messages=messages))) == 2
    with pytest.raises(errors.CutStreamError) as ours:
        read_stream(body)
    assert ours.value.partial.text == "Hello"


@pytest.mark.parametrize("body", [b"", b'{"choices": [{"mess', b"<html>busy</html>"])
def test_a_body_that_is_no_json(body: bytes, recorder: Any, client: Sdk) -> None:
    recorder.answer(body)
    messages: Any = HELLO
    with pytest.raises(sdk_errors.ResponseValidationError):
        client.chat.complete(model="m", messages=messages)
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)


def test_an_event_that_is_no_json(recorder: Any, client: Sdk) -> None:
    body = chunk({"content": "Hel"}) + b"data: {nope\n\n"
    recorder.answer(body, headers=STREAM)
    messages: Any = HELLO
    with pytest.raises(sdk_errors.ResponseValidationError):
        list(client.chat.stream(model="m", messages=messages))
    with pytest.raises(errors.UnreadableAnswerError) as ours:
        read_stream(body)
    assert ours.value.partial.text == "Hel"
