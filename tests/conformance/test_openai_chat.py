"""Our chat completions beside the openai SDK's: the same requests, and the same reading of the same answers, at OpenAI,
at a deployment of Azure, and at Azure's surface without versions. test_azure has keys and tokens.

The SDK's habits that we do not follow:

- `parse` puts `"stream": false` into the body. It is the default, so we leave it out.
- It does not ask for usage in a stream by itself; we always do, since a call's cost must be known. The SDK's calls
  here ask for it.
- A refusal is a field of its own and ends with `stop`; we give it as text that ends with `content_filter`, so that it
  can't be taken for the answer that was asked for. A forced tool's `stop` is `tool_calls` with us.
- It returns what came of a stream that ended early; we raise CutStreamError. A body or event that is no JSON leaves its
  tree of errors as a ValueError; with us it is an UnreadableAnswerError.
"""

import base64
from collections.abc import Callable, Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import numpy as np
import openai
import pydantic
import pytest

from kurabe import errors
from kurabe.messages import (
    Assistant,
    Audio,
    Document,
    Image,
    OutputFormat,
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
from kurabe.models.codecs.base import HttpRequest, Profile
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.models.hosted.auth import fill
from kurabe.models.providers import providers

CODEC = OpenAIChat()
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
WEATHER = Tool(
    "weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
SDK_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": WEATHER.parameters},
}
NEW_NAME = Profile(names={"max_tokens": "max_completion_tokens"})
HELLO = [{"role": "user", "content": "Hello"}]


def sdk_call(id: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


# (our request, what the model accepts, the SDK's arguments)
REQUESTS: dict[str, tuple[Request, Profile, dict[str, Any]]] = {
    "system and user, temperature and limit": (
        Request((System("Be brief."), User("Grüße 🌍")), temperature=0.0, max_tokens=80),
        Profile(),
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße 🌍"}],
            "temperature": 0.0,
            "max_tokens": 80,
        },
    ),
    "the limit's new name": (
        Request((User("Hello"),), max_tokens=80),
        NEW_NAME,
        {"messages": HELLO, "max_completion_tokens": 80},
    ),
    "several turns": (
        Request((User("1+1?"), Assistant("2"), User("+1?"), Assistant(Text("That "), Text("is 3.")), User("Thanks"))),
        Profile(),
        {
            "messages": [
                {"role": "user", "content": "1+1?"},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "+1?"},
                {"role": "assistant", "content": "That is 3."},
                {"role": "user", "content": "Thanks"},
            ]
        },
    ),
    "images": (
        Request((User("What is this?", Image.from_bytes(PNG), Image.from_url("https://example.com/cat.png")),)),
        Profile(),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": PNG_URL}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                    ],
                }
            ]
        },
    ),
    "sound and a document": (
        Request(
            (
                User(
                    Audio(b"RIFF", "audio/x-wav"),
                    Audio(b"ID3", "audio/mpeg"),
                    Document(b"%PDF", "application/pdf", name="a.pdf"),
                ),
            )
        ),
        Profile(),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
                        },
                    ],
                }
            ]
        },
    ),
    "tools alone": (
        Request((User("Hello"),), tools=(WEATHER,)),
        Profile(),
        {"messages": HELLO, "tools": [SDK_WEATHER]},
    ),
    **{
        f"tool choice {choice}": (
            Request((User("Hello"),), tools=(WEATHER,), tool_choice=choice),
            Profile(),
            {"messages": HELLO, "tools": [SDK_WEATHER], "tool_choice": choice},
        )
        for choice in ("auto", "none", "required")
    },
    "one tool by name, one call at a time": (
        Request((User("Hello"),), tools=(WEATHER,), tool_choice="weather", parallel_tool_calls=False),
        Profile(),
        {
            "messages": HELLO,
            "tools": [SDK_WEATHER],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "parallel_tool_calls": False,
        },
    ),
    "parallel calls and their results": (
        Request(
            (
                User("Weather in Oslo and Rome?"),
                Assistant(ToolCall("a", "weather", {"city": "Oslo"}), ToolCall("b", "weather", {})),
                User(ToolResult("a", "weather", "3 °C"), ToolResult("b", "weather", "no city", error=True), "Go on."),
            ),
            tools=(WEATHER,),
        ),
        Profile(),
        {
            "messages": [
                {"role": "user", "content": "Weather in Oslo and Rome?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [sdk_call("a", '{"city":"Oslo"}'), sdk_call("b", "{}")],
                },
                {"role": "tool", "tool_call_id": "a", "content": "3 °C"},
                {"role": "tool", "tool_call_id": "b", "content": "no city"},
                {"role": "user", "content": [{"type": "text", "text": "Go on."}]},
            ],
            "tools": [SDK_WEATHER],
        },
    ),
    "a strict tool": (
        Request((User("Hello"),), tools=(msgspec.structs.replace(WEATHER, strict=True),)),
        Profile(),
        {"messages": HELLO, "tools": [{**SDK_WEATHER, "function": {**SDK_WEATHER["function"], "strict": True}}]},
    ),
    "an empty turn": (
        Request((User("Hello"), Assistant("Hi"), User(""))),
        Profile(),
        {"messages": [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": ""}]},
    ),
    "settings": (
        Request(
            (User("Hello"),),
            stop=("\n\n", "END"),
            top_p=0.9,
            seed=7,
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            logprobs=3,
        ),
        Profile(),
        {
            "messages": HELLO,
            "stop": ["\n\n", "END"],
            "top_p": 0.9,
            "seed": 7,
            "frequency_penalty": 0.5,
            "presence_penalty": -0.5,
            "logprobs": True,
            "top_logprobs": 3,
        },
    ),
    "reasoning and more": (
        Request((User("Hello"),), reasoning="low", logprobs=0, extra={"verbosity": "low", "user": "u"}),
        Profile(),
        {
            "messages": HELLO,
            "reasoning_effort": "low",
            "logprobs": True,
            "extra_body": {"verbosity": "low", "user": "u"},
        },
    ),
}


SURFACES: dict[str, Callable[[str], openai.OpenAI]] = {
    "openai": lambda url: openai.OpenAI(api_key="test-key", base_url=url + "/v1", max_retries=0),
    "azure": lambda url: openai.AzureOpenAI(api_key="test-key", azure_endpoint=url, api_version="v", max_retries=0),
    "azure-v1": lambda url: openai.OpenAI(api_key="test-key", base_url=url + "/openai/v1", max_retries=0),
}


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(surface: str, recorder: Any) -> Iterator[openai.OpenAI]:
    with SURFACES[surface](recorder.url) as client:
        yield client


def routed(surface: str, kind: str, wire: HttpRequest, model: str = "gpt-4.1") -> HttpRequest:
    """The request as the provider's row sends it, behind its endpoint."""
    row = providers()[surface]
    path = fill(row.paths.get(kind, wire.path), {"model": model}, escape=True)
    query = {name: fill(value, {"api_version": "v"}) for name, value in row.query.items()}
    return msgspec.structs.replace(
        wire, path=urlsplit(row.base_url.removeprefix("{endpoint}")).path + path, query=query
    )


def answer(message: dict[str, Any], reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4.1-2025-04-14",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None} | message,
                "logprobs": None,
                "finish_reason": reason,
            }
        ],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    } | more


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
    return event(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1", "choices": choices} | more
    )


def event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.parametrize("case", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_requests(case: str, stream: bool, surface: str, recorder: Any, client: openai.OpenAI, same: Any) -> None:
    request, profile, arguments = REQUESTS[case]
    ours = CODEC.chat("gpt-4.1", request, profile, stream=stream)
    if stream:
        recorder.answer(chunk({"content": "Hi"}, "stop") + DONE, headers={"content-type": "text/event-stream"})
        list(
            client.chat.completions.create(
                model="gpt-4.1", stream=True, stream_options={"include_usage": True}, **arguments
            )
        )
    else:
        recorder.answer(answer({"content": "Hi"}))
        client.chat.completions.create(model="gpt-4.1", **arguments)
    same(routed(surface, "chat", ours), recorder.last)
    key = {"api-key": "test-key"} if surface == "azure" else {"authorization": "Bearer test-key"}
    assert key.items() <= recorder.last.headers.items()
    assert recorder.last.headers["content-type"] == "application/json"


class Size(pydantic.BaseModel):
    width: float = pydantic.Field(description="in cm")
    unit: Literal["cm", "in"] = "cm"


class Product(pydantic.BaseModel):
    name: str
    size: Size | None = None
    tags: list[str] = []


def test_structured_output(surface: str, recorder: Any, client: openai.OpenAI, same: Any) -> None:
    body = '{"name":"box","size":null,"tags":[]}'
    recorder.answer(answer({"content": body}))
    theirs = client.chat.completions.parse(
        model="gpt-4.1", messages=[{"role": "user", "content": "?"}], response_format=Product
    )
    output = OutputFormat("Product", Product.model_json_schema())
    ours = CODEC.chat("gpt-4.1", Request((User("?"),), output=output), Profile(), stream=False)

    def without_stream(value: dict[str, Any]) -> dict[str, Any]:
        assert value.pop("stream") is False
        return value

    same(routed(surface, "chat", ours), recorder.last, body=without_stream)
    assert theirs.choices[0].message.parsed == Product(name="box")


MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"content": "Grüße 🌍"}, "stop"),
    "cut by the limit": ({"content": "Grü"}, "length"),
    "filtered": ({"content": ""}, "content_filter"),
    "a call": ({"content": None, "tool_calls": [sdk_call("a", '{"city":"Oslo"}')]}, "tool_calls"),
    "a forced call, which ends with stop": ({"content": "", "tool_calls": [sdk_call("a", "{}")]}, "stop"),
    "text and two calls": (
        {"content": "Let me see.", "tool_calls": [sdk_call("a", '{"city": "Oslo"}'), sdk_call("b", "{}")]},
        "tool_calls",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_answers(case: str, recorder: Any, client: openai.OpenAI) -> None:
    message, reason = MESSAGES[case]
    body = msgspec.json.encode(answer(message, reason))
    recorder.answer(body)
    theirs = client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}])
    ours = CODEC.reply(body)
    choice, usage = theirs.choices[0], theirs.usage
    assert ours.text == (choice.message.content or "")
    assert ours.finish_reason == ("tool_calls" if ours.tool_calls else choice.finish_reason)
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == [
        (c.id, c.function.name, msgspec.json.decode(c.function.arguments))
        for c in choice.message.tool_calls or []
        if c.type == "function"
    ]
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    details = usage.prompt_tokens_details
    assert ours.usage == Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        details.cached_tokens or 0,
        details.cache_write_tokens or 0,
        usage.completion_tokens_details.reasoning_tokens or 0,
    )
    assert (ours.model, ours.raw) == (theirs.model, body)


def test_logprobs_refusals_and_annotations(recorder: Any, client: openai.OpenAI) -> None:
    token = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]}
    value = answer(
        {
            "content": "Hi",
            "annotations": [
                {
                    "type": "url_citation",
                    "url_citation": {"url": "https://a.b/c", "title": "t", "start_index": 0, "end_index": 2},
                }
            ],
        }
    )
    value["choices"][0]["logprobs"] = {
        "content": [token | {"top_logprobs": [token, {"token": "Ho", "logprob": -1.5, "bytes": None}]}],
        "refusal": None,
    }
    recorder.answer(value)
    theirs = client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}]).choices[0]
    ours = CODEC.reply(msgspec.json.encode(value))
    assert theirs.logprobs is not None
    assert theirs.message.annotations is not None
    assert [(t.token, t.logprob, t.top) for t in ours.logprobs] == [
        (t.token, t.logprob, tuple((top.token, top.logprob) for top in t.top_logprobs))
        for t in theirs.logprobs.content or []
    ]
    assert ours.citations == tuple(a.url_citation.url for a in theirs.message.annotations)

    refused = answer({"content": None, "refusal": "I can't."})
    recorder.answer(refused)
    message = (
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}]).choices[0].message
    )
    ours = CODEC.reply(msgspec.json.encode(refused))
    assert (ours.text, ours.finish_reason) == (message.refusal, "content_filter")


def piece(index: int, arguments: str, **head: str) -> dict[str, Any]:
    name = {"name": head.pop("name")} if "name" in head else {}
    return {"tool_calls": [{"index": index, **head, "function": {**name, "arguments": arguments}}]}


STREAMS: dict[str, bytes] = {
    "text": chunk({"role": "assistant", "content": "", "refusal": None})
    + chunk({"content": "Grü"})
    + chunk({"content": "ße 🌍"})
    + chunk({}, "stop")
    + chunk(usage=USAGE)
    + DONE,
    "a call in pieces": chunk(
        {"role": "assistant", "content": None} | piece(0, "", id="a", type="function", name="weather")
    )
    + chunk(piece(0, '{"ci'))
    + chunk(piece(0, 'ty":"Os'))
    + chunk(piece(0, 'lo"}'))
    + chunk({}, "tool_calls")
    + chunk(usage=USAGE)
    + DONE,
    "two calls that interleave": chunk(piece(0, "", id="a", type="function", name="weather"))
    + chunk(piece(1, "", id="b", type="function", name="weather"))
    + chunk(piece(0, '{"city"'))
    + chunk(piece(1, '{"city":"R'))
    + chunk(piece(0, ':"Oslo"}'))
    + chunk(piece(1, 'ome"}'))
    + chunk({}, "tool_calls")
    + chunk(usage=USAGE)
    + DONE,
    "azure's first event": chunk(id="", model="", prompt_filter_results=[{"prompt_index": 0}])
    + chunk({"content": "Hi"})
    + chunk({}, "stop")
    + chunk(usage=USAGE)
    + DONE,
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams(case: str, recorder: Any, client: openai.OpenAI, read_every_way: Any) -> None:
    body = STREAMS[case]
    recorder.answer(
        [body[at : at + 50] for at in range(0, len(body), 50)], headers={"content-type": "text/event-stream"}
    )
    messages: Any = [{"role": "user", "content": "?"}]
    with client.chat.completions.stream(
        model="gpt-4.1", messages=messages, stream_options={"include_usage": True}
    ) as stream:
        theirs = stream.get_final_completion()
    deltas, ours = read_every_way(CODEC.decoder, body)
    choice = theirs.choices[0]
    assert ours.text == "".join(delta.text for delta in deltas) == (choice.message.content or "")
    assert ours.finish_reason == choice.finish_reason
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == [
        (c.id, c.function.name, msgspec.json.decode(c.function.arguments)) for c in choice.message.tool_calls or []
    ]
    for at, call in enumerate(ours.tool_calls):
        assert msgspec.json.decode("".join(d.arguments for d in deltas if d.index == at)) == call.arguments
        assert [(d.id, d.name) for d in deltas if d.index == at and d.id] == [(call.id, call.name)]
    assert theirs.usage is not None
    assert ours.usage == Usage(theirs.usage.prompt_tokens, theirs.usage.completion_tokens)


@pytest.mark.parametrize("numbers", [False, True], ids=["base64", "numbers"])
def test_embeddings(numbers: bool, surface: str, recorder: Any, client: openai.OpenAI, same: Any) -> None:
    vectors = np.array([[0.25, -1.5, 3e-8], [1.0, 2.0, -0.0]], "<f4")
    shown: list[Any] = vectors.tolist() if numbers else [base64.b64encode(row.tobytes()).decode() for row in vectors]
    value = {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": shown[at]} for at in (1, 0)],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    recorder.answer(value)
    model = "text-embedding-3-small"
    theirs = client.embeddings.create(model=model, input=["one", "two"], dimensions=3)
    same(routed(surface, "embed", CODEC.embed(model, ["one", "two"], 3, None), model), recorder.last)
    client.embeddings.create(model=model, input=["one"])
    same(routed(surface, "embed", CODEC.embed(model, ["one"], None, "query"), model), recorder.last)
    ours = CODEC.embeddings(msgspec.json.encode(value))
    read = np.array([np.frombuffer(v, "<f4") if isinstance(v, bytes) else v for v in ours.vectors], "<f4")
    assert np.array_equal(read, vectors)
    by_index = {one.index: one.embedding for one in theirs.data}
    assert np.array_equal(np.array([by_index[0], by_index[1]], "<f4"), read)
    assert ours.input_tokens == theirs.usage.prompt_tokens


def test_the_list_of_models(surface: str, recorder: Any, client: openai.OpenAI, same: Any) -> None:
    value = {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1, "owned_by": "o"} for name in "ab"],
    }
    recorder.answer(value)
    theirs = [model.id for model in client.models.list()]
    same(routed(surface, "models", CODEC.models()), recorder.last)
    assert CODEC.model_names(msgspec.json.encode(value)) == theirs == ["a", "b"]


def failure(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


ERRORS: list[tuple[int, Any, type[openai.APIStatusError], type[errors.ProviderError]]] = [
    (400, failure("bad"), openai.BadRequestError, errors.BadRequestError),
    (400, failure("context_length_exceeded"), openai.BadRequestError, errors.ContextTooLongError),
    (400, failure("content_filter"), openai.BadRequestError, errors.ContentFilteredError),
    (401, failure("invalid_api_key"), openai.AuthenticationError, errors.AuthenticationError),
    (403, failure("unsupported_country"), openai.PermissionDeniedError, errors.PermissionDeniedError),
    (404, failure("model_not_found"), openai.NotFoundError, errors.NotFoundError),
    (408, failure("timeout"), openai.APIStatusError, errors.CallTimeoutError),
    (409, failure("conflict"), openai.ConflictError, errors.BadRequestError),
    (413, failure("too_large"), openai.APIStatusError, errors.RequestTooLargeError),
    (422, failure("unprocessable"), openai.UnprocessableEntityError, errors.BadRequestError),
    (429, failure("rate_limit_exceeded"), openai.RateLimitError, errors.RateLimitedError),
    (429, failure("insufficient_quota"), openai.RateLimitError, errors.QuotaExceededError),
    (500, failure("server_error"), openai.InternalServerError, errors.ServerError),
    (502, b"<html><h1>502 Bad Gateway</h1></html>", openai.InternalServerError, errors.ServerError),
    (503, b"", openai.InternalServerError, errors.OverloadedError),
    (529, b"{", openai.InternalServerError, errors.OverloadedError),
]


@pytest.mark.parametrize(("status", "body", "theirs", "ours"), ERRORS)
def test_errors(status: int, body: Any, theirs: Any, ours: Any, recorder: Any, client: openai.OpenAI) -> None:
    recorder.answer(body, status=status)
    with pytest.raises(theirs) as caught:
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}])
    read = CODEC.error(status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body))
    assert type(read) is ours
    assert read.status == caught.value.status_code == status
    if isinstance(body, dict):
        assert (read.code, read.message) == (caught.value.code, "no")


def read_stream(body: bytes) -> Reply:
    reader = CODEC.decoder()
    reader.feed(body)
    return reader.finish()


def test_an_error_inside_a_stream(recorder: Any, client: openai.OpenAI) -> None:
    body = chunk({"content": "Hel"}) + event(failure("server_error", "it broke"))
    recorder.answer(body, headers={"content-type": "text/event-stream"})
    with pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}], stream=True))
    with pytest.raises(errors.ServerError) as ours:
        read_stream(body)
    assert (ours.value.message, ours.value.code, ours.value.status) == (caught.value.message, "server_error", None)
    assert ours.value.partial.text == "Hel"


def test_a_stream_that_ends_early_is_an_error_with_us_alone(recorder: Any, client: openai.OpenAI) -> None:
    body = chunk({"content": "Hel"}) + chunk({"content": "lo"})
    recorder.answer(body, headers={"content-type": "text/event-stream"})
    chunks = list(
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}], stream=True)
    )
    with pytest.raises(errors.CutStreamError) as ours:
        read_stream(body)
    assert ours.value.partial.text == "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"


@pytest.mark.parametrize("body", [b"", b'{"choices": [{"mess', b"<html>busy</html>"])
def test_a_body_that_is_no_json(body: bytes, recorder: Any, client: openai.OpenAI) -> None:
    recorder.answer(body)
    with pytest.raises(ValueError):
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}])
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)


def test_an_event_that_is_no_json(recorder: Any, client: openai.OpenAI) -> None:
    body = chunk({"content": "Hel"}) + b"data: {nope\n\n"
    recorder.answer(body, headers={"content-type": "text/event-stream"})
    with pytest.raises(ValueError):
        list(client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "?"}], stream=True))
    with pytest.raises(errors.UnreadableAnswerError) as ours:
        read_stream(body)
    assert ours.value.partial.text == "Hel"
