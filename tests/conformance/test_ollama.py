"""Ollama against its official SDK.

Habits of the SDK that we do not follow:
- `tools: []` is always sent (NO_TOOLS).
- The SDK's type of a tool's parameters knows few words of JSON Schema and drops the others, such as
  `additionalProperties`: we send the schema whole (`whole_schema`).
- The SDK loses the id of a tool call, since its types have none; ours is kept for the reader and sent by neither.
- What is empty in the body of an embedding is left out by both; a text alone is sent as a text by the SDK when it is
  given so, and by us as a list of one.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import ollama
import pytest

from kurabe import errors
from kurabe.messages import (
    Assistant,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Reply,
    Request,
    System,
    Tool,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models import open_model
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.ollama import Ollama

CODEC = Ollama()
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
}
TOOL = Tool("weather", "Tells the weather.", SCHEMA)
TOOLS = [{"type": "function", "function": {"name": TOOL.name, "description": TOOL.description, "parameters": SCHEMA}}]
ASK = [{"role": "user", "content": "Weather?"}]
CALL = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
OTHER = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
END = {
    "model": "llama3.2", "created_at": "2026-11-21T08:00:00Z", "done": True, "done_reason": "stop",
    "total_duration": 5, "prompt_eval_count": 11, "eval_count": 7,
}  # fmt: skip


@pytest.fixture
def client(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ollama.Client]:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    recorder.answer(END | {"message": {"role": "assistant", "content": "Hi"}})
    with ollama.Client(recorder.url) as made:
        yield made


def no_tools(body: Any) -> Any:
    """The SDK's habit NO_TOOLS undone."""
    return {name: value for name, value in body.items() if name != "tools" or value}


CASES: dict[str, tuple[Request, dict[str, Any]]] = {
    "system, user, temperature, limit": (
        Request((System("Be brief."), User("Hi")), temperature=0.5, max_tokens=80),
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "options": {"temperature": 0.5, "num_predict": 80},
        },
    ),
    "several turns": (
        Request((User("Hi"), Assistant("Hello"), User("Bye"))),
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Bye"},
            ]
        },
    ),
    "an empty turn": (
        Request((User("Hi"), Assistant("Hello"), User())),
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": ""},
            ]
        },
    ),
    "image": (
        Request((User("What?", Image.from_bytes(PNG)),)),
        {"messages": [{"role": "user", "content": "What?", "images": [PNG]}]},
    ),
    "tools": (Request((User("Weather?"),), tools=(TOOL,)), {"messages": ASK, "tools": TOOLS}),
    "a tool without description": (
        Request((User("Weather?"),), tools=(Tool("weather", "", SCHEMA),)),
        {"messages": ASK, "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]},
    ),
    "tools, auto": (Request((User("Weather?"),), tools=(TOOL,), tool_choice="auto"), {"messages": ASK, "tools": TOOLS}),
    "tools, none": (Request((User("Weather?"),), tools=(TOOL,), tool_choice="none"), {"messages": ASK}),
    "parallel calls and results": (
        Request(
            (
                User("Weather?"),
                Assistant(
                    Reasoning("Two cities."),
                    ToolCall("1", "weather", {"city": "Oslo"}),
                    ToolCall("2", "weather", {"city": "Rome"}),
                ),
                User(ToolResult("1", "weather", "rain"), ToolResult("2", "weather", "sun")),
            ),
            tools=(TOOL,),
        ),
        {
            "messages": [
                *ASK,
                {"role": "assistant", "content": "", "thinking": "Two cities.", "tool_calls": [CALL, OTHER]},
                {"role": "tool", "content": "rain", "tool_name": "weather"},
                {"role": "tool", "content": "sun", "tool_name": "weather"},
            ],
            "tools": TOOLS,
        },
    ),
    "a call with a word before it, and an empty result": (
        Request(
            (
                User("Weather?"),
                Assistant("I look.", ToolCall("1", "weather", {"city": "Oslo"})),
                User(ToolResult("1", "weather", "")),
            )
        ),
        {
            "messages": [
                *ASK,
                {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
                {"role": "tool", "content": "", "tool_name": "weather"},
            ]
        },
    ),
    "structured output": (
        Request((User("Weather?"),), output=OutputFormat("place", SCHEMA)),
        {"messages": ASK, "format": SCHEMA},
    ),
    "sampling": (
        Request(
            (User("Weather?"),),
            stop=("a", "b"),
            top_p=0.5,
            top_k=5,
            seed=7,
            frequency_penalty=0.25,
            presence_penalty=0.5,
        ),
        {
            "messages": ASK,
            "options": ollama.Options(
                stop=["a", "b"], top_p=0.5, top_k=5, seed=7, frequency_penalty=0.25, presence_penalty=0.5
            ),
        },
    ),
    "reasoning": (Request((User("Weather?"),), reasoning="high"), {"messages": ASK, "think": True}),
    "no reasoning": (Request((User("Weather?"),), reasoning="none"), {"messages": ASK, "think": False}),
    "logprobs": (Request((User("Weather?"),), logprobs=3), {"messages": ASK, "logprobs": True, "top_logprobs": 3}),
    "beyond": (
        Request((User("Weather?"),), seed=1, extra={"keep_alive": "1h", "options": {"num_ctx": 8192}}),
        {"messages": ASK, "keep_alive": "1h", "options": {"seed": 1, "num_ctx": 8192}},
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_requests(case: str, stream: bool, client: ollama.Client, recorder: Any, same: Any) -> None:
    request, call = CASES[case]
    chat: Callable[..., Any] = client.chat
    answer = chat("llama3.2", stream=stream, **call)
    if stream:
        list(answer)
    assert recorder.last.json.get("tools") is not None  # the habit is still there
    same(CODEC.chat("llama3.2", request, Profile(), stream=stream), recorder.last, body=no_tools)
    assert recorder.last.headers["content-type"] == "application/json"


def test_the_key(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "test-key")
    recorder.answer(END | {"message": {"role": "assistant", "content": "Hi"}})
    with ollama.Client(recorder.url) as client:
        client.chat("llama3.2", ASK)
    theirs = recorder.last.headers["authorization"]
    open_model("ollama:llama3.2", base_url=recorder.url).chat("Weather?")
    assert recorder.last.headers["authorization"] == theirs == "Bearer test-key"


@pytest.mark.parametrize(
    "host",
    ["1.2.3.4", ":56789", "1.2.3.4:56789", "http://1.2.3.4:5", "https://box.example:56789/path", "example.com", "box/",
     "box:1/", "box/path", "box:1/path/", "[1:2:3:4::1]", "[1::1]:56789", "[1::1]/path", "0.0.0.0"],
)  # fmt: skip
def test_hosts(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    with ollama.Client() as client:
        theirs = str(client._client.base_url).rstrip("/")
    assert CODEC.address(host) == theirs


def test_a_call_goes_to_the_host_of_the_environment(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", recorder.url.removeprefix("http://"))
    recorder.answer(END | {"message": {"role": "assistant", "content": "Hi"}})
    assert open_model("ollama:llama3.2").chat("Hello").text == "Hi"
    assert recorder.last.path == "/api/chat"


def test_thinking_levels(client: ollama.Client, recorder: Any, same: Any) -> None:
    client.chat("gpt-oss", ASK, think="low")
    profile = Profile(quirks=frozenset({"think_levels"}))
    same(CODEC.chat("gpt-oss", Request((User("Weather?"),), reasoning="low"), profile, stream=False), recorder.last,
         body=no_tools)  # fmt: skip


def test_our_schema_is_whole(client: ollama.Client, recorder: Any) -> None:
    schema = SCHEMA | {"additionalProperties": False}
    client.chat("m", ASK, tools=[{"type": "function", "function": {"name": "weather", "parameters": schema}}])
    assert recorder.last.json["tools"][0]["function"]["parameters"] == SCHEMA
    encoded = CODEC.chat("m", Request((User("a"),), tools=(Tool("weather", "", schema),)), Profile(), stream=False)
    assert json.loads(encoded.body)["tools"][0]["function"]["parameters"] == schema


def test_embeddings(client: ollama.Client, recorder: Any, same: Any) -> None:
    recorder.answer({"model": "nomic", "embeddings": [[0.25, -1, 1e-9], [1, 2, 3]], "prompt_eval_count": 5})
    theirs = client.embed("nomic", ["one", "two"], dimensions=3)
    same(CODEC.embed("nomic", ["one", "two"], 3, None), recorder.last)
    ours = CODEC.embeddings(recorder.answers[0].pieces[0])
    assert ours.vectors == theirs.embeddings
    assert ours.input_tokens == theirs.prompt_eval_count
    client.embed("nomic", ["one"])
    same(CODEC.embed("nomic", ["one"], None, "query"), recorder.last)


def test_models(client: ollama.Client, recorder: Any, same: Any) -> None:
    recorder.answer({"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 5}, {"model": "b"}]})
    theirs = client.list()
    same(CODEC.models(), recorder.last)
    assert CODEC.model_names(recorder.answers[0].pieces[0]) == [model.model for model in theirs.models]


def read_alike(ours: Reply, theirs: ollama.ChatResponse) -> None:
    message = theirs.message
    assert ours.text == (message.content or "")
    assert ours.reasoning == (message.thinking or "")
    calls = [(call.function.name, dict(call.function.arguments)) for call in message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in ours.tool_calls] == calls
    assert (ours.usage.input, ours.usage.output) == (theirs.prompt_eval_count or 0, theirs.eval_count or 0)
    finish = "tool_calls" if calls and theirs.done_reason == "stop" else theirs.done_reason
    assert (ours.finish_reason, ours.model) == (finish, theirs.model)
    expected = [
        (each.token, each.logprob, tuple((top.token, top.logprob) for top in each.top_logprobs or ()))
        for each in theirs.logprobs or ()
    ]
    assert [(each.token, each.logprob, each.top) for each in ours.logprobs] == expected


LOGPROBS = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -1.5}], "bytes": [72, 105]}]


@pytest.mark.parametrize(
    "answer",
    [
        {"message": {"role": "assistant", "content": "Grüß Gott"}},
        {"message": {"role": "assistant", "content": "cut"}, "done_reason": "length"},
        {"message": {"role": "assistant", "content": "4", "thinking": "2 + 2"}},
        {"message": {"role": "assistant", "content": "", "tool_calls": [{"id": "call_abc", **CALL}, OTHER]}},
        {"message": {"role": "assistant", "content": "Hi"}, "logprobs": LOGPROBS},
        {"message": {"role": "assistant", "content": "Hi"}, "prompt_eval_count": None},
    ],
)
def test_answers(answer: dict[str, Any], client: ollama.Client, recorder: Any) -> None:
    recorder.answer(END | answer)
    theirs = client.chat("llama3.2", ASK)
    read_alike(CODEC.reply(recorder.answers[0].pieces[0]), theirs)


def lines(*chunks: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({"model": "llama3.2", **chunk}).encode() + b"\n" for chunk in chunks)


STREAMS: dict[str, bytes] = {
    "text": lines(
        {"message": {"role": "assistant", "content": "Grüß "}, "done": False},
        {"message": {"role": "assistant", "content": "Gott"}, "done": False},
        END | {"message": {"role": "assistant", "content": ""}},
    ),
    "reasoning and parallel tool calls": lines(
        {"message": {"role": "assistant", "content": "", "thinking": "Two "}, "done": False},
        {"message": {"role": "assistant", "content": "", "thinking": "cities."}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [CALL]}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [OTHER]}, "done": False},
        END | {"message": {"role": "assistant", "content": ""}},
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, client: ollama.Client, recorder: Any, read_every_way: Callable[..., Any]) -> None:
    data = STREAMS[name]
    recorder.answer([data[i : i + 7] for i in range(0, len(data), 7)])
    chunks = list(client.chat("llama3.2", ASK, stream=True))
    deltas, reply = read_every_way(CODEC.decoder, data)
    texts = [chunk.message.content for chunk in chunks if chunk.message.content]
    assert [delta.text for delta in deltas if delta.text] == texts
    calls = [call for chunk in chunks for call in chunk.message.tool_calls or ()]
    assert [json.loads(d.arguments) for d in deltas if d.name] == [dict(call.function.arguments) for call in calls]
    last = chunks[-1].model_copy(deep=True)
    last.message = ollama.Message(
        role="assistant",
        content="".join(texts),
        thinking="".join(chunk.message.thinking or "" for chunk in chunks),
        tool_calls=calls,
    )
    read_alike(reply, last)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":"invalid options: num_predict"}', errors.BadRequestError),
        (401, b'{"error":"unauthorized"}', errors.AuthenticationError),
        (403, b'{"error":"forbidden"}', errors.PermissionDeniedError),
        (404, b'{"error":"model \'x\' not found"}', errors.NotFoundError),
        (408, b'{"error":"timeout"}', errors.CallTimeoutError),
        (409, b'{"error":"conflict"}', errors.BadRequestError),
        (422, b'{"error":"unprocessable"}', errors.BadRequestError),
        (529, b'{"error":"overloaded"}', errors.OverloadedError),
        (413, b'{"error":"too large"}', errors.RequestTooLargeError),
        (429, b'{"error":"slow down"}', errors.RateLimitedError),
        (500, b'{"error":"llama runner process has terminated"}', errors.ServerError),
        (502, b"<html><h1>Bad gateway</h1></html>", errors.ServerError),
        (503, b'{"error":"server busy"}', errors.OverloadedError),
        (500, b"", errors.ServerError),
    ],
)
def test_errors(
    status: int, body: bytes, kind: type[errors.ProviderError], client: ollama.Client, recorder: Any
) -> None:
    recorder.answer(body, status=status)
    with pytest.raises(ollama.ResponseError) as theirs:
        client.chat("llama3.2", ASK)
    ours = CODEC.error(status, {}, body)
    assert (type(ours), ours.status) == (kind, theirs.value.status_code)
    if body.startswith(b"{"):
        assert ours.message == theirs.value.error


def read_stream(body: bytes) -> Reply:
    reader = CODEC.decoder()
    reader.feed(body)
    return reader.finish()


def test_an_error_inside_a_stream(client: ollama.Client, recorder: Any) -> None:
    body = lines({"message": {"role": "assistant", "content": "Hi"}}) + b'{"error":"it broke"}\n'
    recorder.answer(body)
    with pytest.raises(ollama.ResponseError) as theirs:
        list(client.chat("llama3.2", ASK, stream=True))
    with pytest.raises(errors.ServerError) as ours:
        read_stream(body)
    assert ours.value.message == theirs.value.error
    assert ours.value.partial.text == "Hi"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message": {"content": "H', b"{}"])
def test_what_the_sdk_raises_outside_its_own_errors(body: bytes, client: ollama.Client, recorder: Any) -> None:
    recorder.answer(body)
    with pytest.raises(ValueError):
        client.chat("llama3.2", ASK)
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)


def test_a_cut_stream_is_silent_in_the_sdk_and_an_error_here(client: ollama.Client, recorder: Any) -> None:
    body = lines({"message": {"role": "assistant", "content": "Hal"}, "done": False})
    recorder.answer(body)
    assert [chunk.message.content for chunk in client.chat("llama3.2", ASK, stream=True)] == ["Hal"]
    with pytest.raises(errors.CutStreamError) as cut:
        read_stream(body)
    assert cut.value.partial.message == Message("assistant", "Hal")


def test_a_line_that_is_no_json(client: ollama.Client, recorder: Any) -> None:
    body = lines({"message": {"role": "assistant", "content": "Hal"}, "done": False}) + b"{nope\n"
    recorder.answer(body)
    with pytest.raises(ValueError):
        list(client.chat("llama3.2", ASK, stream=True))
    with pytest.raises(errors.UnreadableAnswerError) as broken:
        read_stream(body)
    assert broken.value.partial.text == "Hal"


@pytest.mark.parametrize("choice", ["required", "weather"])
def test_no_tool_can_be_forced(choice: str) -> None:
    """Neither the service nor the SDK has a word for it, so that it is no wish to be lost in silence."""
    with pytest.raises(errors.InputError, match="tool_choice is 'auto' or 'none'"):
        CODEC.chat("m", Request((User("a"),), tools=(TOOL,), tool_choice=choice), Profile(), stream=False)
