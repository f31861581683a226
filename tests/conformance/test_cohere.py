"""Our Cohere codec beside the cohere SDK: the same call gives the same request, the same bytes the same reading.

No habit of the SDK had to be allowed for in a body or query. What it does with a bad answer differs: it returns an
answer or a stream that ends in ERROR or TIMEOUT, ends a cut stream in silence, and skips an event that is no JSON; ours
are typed errors (`test_what_the_sdk_passes_over`).
"""

import json
from collections.abc import Iterator
from typing import Any

import cohere
import msgspec
import pytest
from cohere.core.api_error import ApiError

from kurabe import errors
from kurabe.messages import (
    Assistant,
    Document,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models.codecs._cohere import Cohere
from kurabe.models.codecs.base import Profile

CODEC = Cohere()
PNG = bytes.fromhex("89504e470d0a1a0a0000")
PNG_URL = "data:image/png;base64,iVBORw0KGgoAAA=="
MODEL = "command-a-03-2025"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "The weather in a city.", PARAMETERS)
TIME = Tool("time", "", {"type": "object", "properties": {}})
THEIR_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": PARAMETERS},
}
THEIR_TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def asked(*messages: Message, **settings: Any) -> Request:
    return Request(messages, **settings)


def call(number: int, city: str) -> dict[str, Any]:
    arguments = json.dumps({"city": city}, separators=(",", ":"))
    return {"id": f"weather_{number}", "type": "function", "function": {"name": "weather", "arguments": arguments}}


ASK = {"role": "user", "content": "Weather?"}
PLAN = Reasoning("I will look.", id="tool_plan")
CALLS = [ToolCall(f"weather_{n}", "weather", {"city": city}) for n, city in ((1, "Paris"), (2, "Oslo"))]
RESULTS = [ToolResult("weather_1", "weather", "18 C"), ToolResult("weather_2", "weather", "9 C")]

REQUESTS: dict[str, tuple[Request, dict[str, Any]]] = {
    "system, user, temperature, limit": (
        asked(System("Be brief."), User("Hi"), temperature=0.2, max_tokens=80),
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
         "temperature": 0.2, "max_tokens": 80},
    ),
    "several turns": (
        asked(User("1"), Assistant("2"), User("3")),
        {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
                      {"role": "user", "content": "3"}]},
    ),
    "images": (
        asked(User("What?", Image(PNG, "image/png"), Image.from_url("https://example.org/a.png"))),
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PNG_URL}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]},
    ),
    **{
        f"tool choice {ours}": (
            asked(User("Weather?"), tools=(WEATHER, TIME), tool_choice=ours),
            {"messages": [ASK], "tools": [THEIR_WEATHER, THEIR_TIME], **theirs},
        )
        for ours, theirs in (
            ("auto", {}), (None, {}), ("none", {"tool_choice": "NONE"}), ("required", {"tool_choice": "REQUIRED"}),
            ("time", {"tool_choice": "REQUIRED", "tools": [THEIR_TIME]}),
        )
    },
    "tool round trip": (
        asked(User("Weather?"), Assistant(PLAN, CALLS[0]), User(RESULTS[0]), tools=(WEATHER,)),
        {"messages": [
            ASK, {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [call(1, "Paris")]},
            {"role": "tool", "tool_call_id": "weather_1", "content": "18 C"}],
         "tools": [THEIR_WEATHER]},
    ),
    "parallel calls and results, thinking, a word": (
        asked(User("Weather?"), Assistant(Reasoning("Hm.", id="thinking"), "Well.", PLAN, *CALLS),
              User(*RESULTS, "And now?"), tools=(WEATHER,), reasoning="high"),
        {"messages": [
            ASK,
            {"role": "assistant",
             "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Well."}],
             "tool_plan": "I will look.", "tool_calls": [call(1, "Paris"), call(2, "Oslo")]},
            {"role": "tool", "tool_call_id": "weather_1", "content": "18 C"},
            {"role": "tool", "tool_call_id": "weather_2", "content": "9 C"},
            {"role": "user", "content": [{"type": "text", "text": "And now?"}]}],
         "tools": [THEIR_WEATHER], "thinking": {"type": "enabled"}},
    ),
    "results as documents": (
        asked(User("Weather?"), Assistant(CALLS[0]),
              User(ToolResult("weather_1", "weather", (
                  Text("Two sources."), Document(b"It is 18 C.", "text/plain", name="yr"),
                  Document(b'{"url": "https://a.org", "degrees": 18}', "application/json")))), tools=(WEATHER,)),
        {"messages": [
            ASK, {"role": "assistant", "tool_calls": [call(1, "Paris")]},
            {"role": "tool", "tool_call_id": "weather_1", "content": [
                {"type": "text", "text": "Two sources."},
                {"type": "document", "document": {"id": "yr", "data": {"title": "yr", "text": "It is 18 C."}}},
                {"type": "document", "document": {"data": {"url": "https://a.org", "degrees": 18}}}]}],
         "tools": [THEIR_WEATHER]},
    ),
    "a strict tool": (
        asked(User("Weather?"), tools=(msgspec.structs.replace(WEATHER, strict=True),)),
        {"messages": [ASK], "tools": [THEIR_WEATHER], "strict_tools": True},
    ),
    "an empty turn": (
        asked(User("Weather?"), Assistant("18 C"), User()),
        {"messages": [ASK, {"role": "assistant", "content": "18 C"}, {"role": "user", "content": ""}]},
    ),
    "the thinking of another provider's model": (
        asked(User("Weather?"), Assistant(Reasoning("Hm.", signature="abc"), "18 C"), User("Why?")),
        {"messages": [ASK, {"role": "assistant", "content": "18 C"}, {"role": "user", "content": "Why?"}]},
    ),
    "no reasoning": (
        asked(User("Weather?"), reasoning="none"), {"messages": [ASK], "thinking": {"type": "disabled"}},
    ),
    "structured output": (
        asked(User("Weather?"), output=OutputFormat("Weather", PARAMETERS)),
        {"messages": [ASK], "response_format": {"type": "json_object", "json_schema": PARAMETERS}},
    ),
    "stop, sampling, seed, penalties, logprobs": (
        asked(User("Weather?"), stop=("\n\n", "END"), top_p=0.9, top_k=40, seed=7, frequency_penalty=0.1,
              presence_penalty=0.2, logprobs=0),
        {"messages": [ASK], "stop_sequences": ["\n\n", "END"], "p": 0.9, "k": 40, "seed": 7, "frequency_penalty": 0.1,
         "presence_penalty": 0.2, "logprobs": True},
    ),
    "extra": (
        asked(User("Weather?"), extra={"safety_mode": "STRICT", "documents": ["It rains."]}),
        {"messages": [ASK], "safety_mode": "STRICT", "documents": ["It rains."]},
    ),
}  # fmt: skip


@pytest.fixture
def client(recorder: Any) -> Iterator[cohere.ClientV2]:
    made = cohere.ClientV2("test-key", base_url=recorder.url, max_retries=0)
    yield made
    made._client_wrapper.httpx_client.httpx_client.close()


def answer(*content: Any, finish_reason: str = "COMPLETE", **message: Any) -> dict[str, Any]:
    """An answer of `/v2/chat` as documented."""
    return {
        "id": "c14c80c3", "finish_reason": finish_reason,
        "message": {"role": "assistant", **({"content": list(content)} if content else {}), **message},
        "usage": {"billed_units": {"input_tokens": 5.0, "output_tokens": 418.0},
                  "tokens": {"input_tokens": 71.0, "output_tokens": 420.0}, "cached_tokens": 64.0},
    }  # fmt: skip


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


CITATIONS = [
    {"start": 0, "end": 2, "text": "It", "type": "TEXT_CONTENT", "sources": [
        {"type": "document", "id": "doc:0", "document": {"id": "doc:0", "url": "https://a.org", "text": "…"}},
        {"type": "document", "id": "doc:1", "document": {"id": "doc:1", "text": "…"}}]},
    {"start": 3, "end": 5, "text": "is", "type": "TEXT_CONTENT", "sources": [
        {"type": "tool", "id": "weather_1:0", "tool_output": {"content": "18 C"}},
        {"type": "document", "id": "doc:0", "document": {"id": "doc:0", "url": "https://a.org", "text": "…"}}]},
]  # fmt: skip

ANSWERS: dict[str, dict[str, Any]] = {
    "text": answer(text("Hello, 世界 🌍")),
    "two texts": answer(text("Hello, "), text("world"), finish_reason="STOP_SEQUENCE"),
    "too long": answer(text("Hel"), finish_reason="MAX_TOKENS"),
    "thinking": answer({"type": "thinking", "thinking": "Let me think."}, text("18 C")),
    "plan and calls": answer(
        tool_plan="I will look.", tool_calls=[call(1, "Paris"), call(2, "Oslo")], finish_reason="TOOL_CALL"
    ),
    "citations": answer(text("It is 18 C"), citations=CITATIONS),
    "no usage": {**answer(text("Hi")), "usage": None},
    "nothing": answer(),
}


def contents(message: Any) -> list[Any]:
    return list(message.content or [])


def assert_read_alike(ours: Any, theirs: Any) -> None:
    """A Reply against what the SDK read: a whole answer, or one put together from its events."""
    assert ours.text == "".join(piece.text for piece in contents(theirs.message) if piece.type == "text")
    thinking = [piece.thinking for piece in contents(theirs.message) if piece.type == "thinking"]
    assert ours.reasoning == "".join(thinking) + (theirs.message.tool_plan or "")
    assert [(c.id, c.name, c.arguments) for c in ours.tool_calls] == [
        (c.id, c.function.name, json.loads(c.function.arguments or "{}")) for c in theirs.message.tool_calls or []
    ]
    reasons = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}
    assert ours.finish_reason == reasons[theirs.finish_reason]
    if theirs.usage is None:
        assert ours.usage.input == ours.usage.output == 0
    else:
        tokens = theirs.usage.tokens
        read = (ours.usage.input, ours.usage.output, ours.usage.cached)
        assert read == (tokens.input_tokens, tokens.output_tokens, theirs.usage.cached_tokens)
        assert all(isinstance(number, int) for number in read)
    sources = [source for citation in theirs.message.citations or [] for source in citation.sources]
    names = [(source.document or {}).get("url") if source.type == "document" else None for source in sources]
    found = [url or source.id for url, source in zip(names, sources, strict=True)]
    assert ours.citations == tuple(dict.fromkeys(found))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_requests_are_equal(recorder: Any, same: Any, client: cohere.ClientV2, name: str, stream: bool) -> None:
    request, theirs = REQUESTS[name]
    if stream:
        recorder.answer(stream_of(ANSWERS["text"]), headers={"content-type": "text/event-stream"})
        list(client.chat_stream(model=MODEL, **theirs))
    else:
        recorder.answer(ANSWERS["text"])
        client.chat(model=MODEL, **theirs)
    same(CODEC.chat(MODEL, request, Profile(), stream=stream), recorder.last)
    assert recorder.last.headers["authorization"] == "Bearer test-key"


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read_alike(recorder: Any, client: cohere.ClientV2, name: str) -> None:
    recorder.answer(ANSWERS[name])
    theirs = client.chat(model=MODEL, messages=[cohere.UserChatMessageV2(content="x")])
    assert_read_alike(CODEC.reply(msgspec.json.encode(ANSWERS[name])), theirs)


def test_logprobs(recorder: Any, client: cohere.ClientV2) -> None:
    body = {**ANSWERS["text"], "logprobs": [{"text": "Hel", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]},
                                            {"text": "lo", "token_ids": [3], "logprobs": [-2.0]}]}  # fmt: skip
    recorder.answer(body)
    theirs = client.chat(model=MODEL, messages=[cohere.UserChatMessageV2(content="x")]).logprobs
    ours = CODEC.reply(msgspec.json.encode(body)).logprobs
    assert theirs is not None
    assert [(entry.token, entry.logprob) for entry in ours] == [(p.text, sum(p.logprobs or [])) for p in theirs]


def sse(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {msgspec.json.encode({'type': kind, **fields}).decode()}\n\n".encode()


def said(kind: str, index: int | None = None, **message: Any) -> bytes:
    place = {} if index is None else {"index": index}
    return sse(kind, **place, delta={"message": message})


def pieces(whole: str) -> list[str]:
    return [whole[i : i + 3] for i in range(0, len(whole), 3)]


def stream_of(whole: dict[str, Any], **end: Any) -> bytes:
    """The events of a whole answer, as documented."""
    message = whole["message"]
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    events = [sse("message-start", id=whole["id"], delta={"message": start})]
    events += [said("tool-plan-delta", tool_plan=piece) for piece in pieces(message.get("tool_plan", ""))]
    for i, called in enumerate(message.get("tool_calls", ())):
        function = called["function"]
        events.append(said("tool-call-start", i, tool_calls={**called, "function": {**function, "arguments": ""}}))
        events += [
            said("tool-call-delta", i, tool_calls={"function": {"arguments": piece}})
            for piece in pieces(function["arguments"])
        ]
        events.append(sse("tool-call-end", index=i))
    for i, content in enumerate(message.get("content", ())):
        kind = content["type"]
        events.append(said("content-start", i, content={"type": kind, kind: ""}))
        events += [said("content-delta", i, content={kind: piece}) for piece in pieces(content[kind])]
        events.append(sse("content-end", index=i))
    for i, citation in enumerate(message.get("citations", ())):
        events += [said("citation-start", i, citations=citation), sse("citation-end", index=i)]
    last = {"finish_reason": whole["finish_reason"], "usage": whole["usage"], **end}
    return b"".join([*events, sse("message-end", delta=last), b"data: [DONE]\n\n"])


def put_together(events: list[Any]) -> Any:
    """What the SDK's events say, in the shape of a whole answer, since the SDK does not put it together itself."""
    kinds: dict[int, dict[str, Any]] = {}
    calls: dict[int, Any] = {}
    plan, citations, last = "", [], None
    for event in events:
        message: Any = getattr(getattr(event, "delta", None), "message", None)
        if event.type == "content-start":
            kinds[event.index] = {"type": message.content.type, message.content.type: ""}
        elif event.type == "content-delta":
            kind = kinds[event.index]["type"]
            kinds[event.index][kind] += getattr(message.content, kind)
        elif event.type == "tool-plan-delta":
            plan += message.tool_plan
        elif event.type == "tool-call-start":
            calls[event.index] = message.tool_calls.model_dump()
        elif event.type == "tool-call-delta":
            calls[event.index]["function"]["arguments"] += message.tool_calls.function.arguments
        elif event.type == "citation-start":
            citations.append(message.citations.model_dump())
        elif event.type == "message-end":
            last = event.delta
    assert last is not None
    return cohere.V2ChatResponse.model_validate(
        {
            "id": "c14c80c3",
            "finish_reason": last.finish_reason,
            "usage": last.usage and last.usage.model_dump(),
            "message": {
                "role": "assistant",
                "content": list(kinds.values()),
                "tool_plan": plan,
                "tool_calls": list(calls.values()),
                "citations": citations,
            },
        }
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_streams_are_read_alike(recorder: Any, client: cohere.ClientV2, read_every_way: Any, name: str) -> None:
    body = stream_of(ANSWERS[name])
    recorder.answer(body, headers={"content-type": "text/event-stream"})
    events: list[Any] = list(client.chat_stream(model=MODEL, messages=[cohere.UserChatMessageV2(content="x")]))
    deltas, ours = read_every_way(CODEC.decoder, body)
    assert_read_alike(ours, put_together(events))
    texts = [e.delta.message.content.text for e in events if e.type == "content-delta"]
    assert [delta.text for delta in deltas if delta.text] == [piece for piece in texts if piece]
    assert "".join(delta.reasoning for delta in deltas) == ours.reasoning
    starts = [(d.index, d.id, d.name) for d in deltas if d.name]
    assert starts == [(n, made.id, made.name) for n, made in enumerate(ours.tool_calls)]
    for n, made in enumerate(ours.tool_calls):
        assert json.loads("".join(d.arguments for d in deltas if d.index == n)) == made.arguments
    whole = msgspec.json.encode(ANSWERS[name])
    assert CODEC.reply(whole) == msgspec.structs.replace(ours, raw=whole)


STATUS = {
    400: errors.BadRequestError, 401: errors.AuthenticationError, 403: errors.PermissionDeniedError,
    404: errors.NotFoundError, 408: errors.CallTimeoutError, 409: errors.BadRequestError,
    413: errors.RequestTooLargeError, 422: errors.BadRequestError, 429: errors.RateLimitedError,
    498: errors.AuthenticationError, 500: errors.ServerError, 502: errors.ServerError, 503: errors.OverloadedError,
    504: errors.CallTimeoutError, 529: errors.OverloadedError,
}  # fmt: skip


@pytest.mark.parametrize("status", STATUS)
def test_errors_are_read_alike(recorder: Any, client: cohere.ClientV2, status: int) -> None:
    body = {"id": "1b2", "message": "No such thing."}
    recorder.answer(body, status=status)
    with pytest.raises(ApiError) as caught:
        client.chat(model=MODEL, messages=[cohere.UserChatMessageV2(content="x")])
    error = CODEC.error(status, {}, msgspec.json.encode(body))
    assert type(error) is STATUS[status]
    assert (error.status, error.message) == (caught.value.status_code, caught.value.body["message"])


@pytest.mark.parametrize("page", [b"<html><h1>Bad Gateway</h1></html>", b"", b"{"])
def test_an_error_that_is_no_json(recorder: Any, client: cohere.ClientV2, page: bytes) -> None:
    recorder.answer(page, status=502, headers={"content-type": "text/html"})
    with pytest.raises(ApiError) as caught:
        client.chat(model=MODEL, messages=[cohere.UserChatMessageV2(content="x")])
    error = CODEC.error(502, {}, page)
    assert type(error) is errors.ServerError
    assert error.status == caught.value.status_code


def read_stream(body: bytes) -> Any:
    reader = CODEC.decoder()
    reader.feed(body)
    return reader.finish()


def test_what_the_sdk_passes_over(recorder: Any, client: cohere.ClientV2) -> None:
    asks: dict[str, Any] = {"model": MODEL, "messages": [cohere.UserChatMessageV2(content="x")]}
    failed = answer(text("Hel"), finish_reason="ERROR")
    recorder.answer(failed)
    assert client.chat(**asks).finish_reason == "ERROR"
    with pytest.raises(errors.ServerError) as caught:
        CODEC.reply(msgspec.json.encode(failed))
    assert caught.value.partial.text == "Hel"
    cut = stream_of(ANSWERS["text"]).rpartition(b"event: message-end")[0]
    for body, kind, partial in (
        (stream_of(failed, error="It broke."), errors.ServerError, "Hel"),
        (stream_of(answer(text("Hel"), finish_reason="TIMEOUT")), errors.CallTimeoutError, "Hel"),
        (cut, errors.CutStreamError, "Hello, 世界 🌍"),
        (cut + b"data: {not json\n\n", errors.UnreadableAnswerError, "Hello, 世界 🌍"),
    ):
        recorder.answer(body, headers={"content-type": "text/event-stream"})
        assert list(client.chat_stream(**asks))
        with pytest.raises(kind) as seen:
            read_stream(body)
        assert seen.value.partial.text == partial


@pytest.mark.parametrize("body", [b"", b'{"id":"1","mess', b"<html>busy</html>"])
def test_a_body_that_is_no_json(recorder: Any, client: cohere.ClientV2, body: bytes) -> None:
    recorder.answer(body)
    with pytest.raises(ApiError):
        client.chat(model=MODEL, messages=[cohere.UserChatMessageV2(content="x")])
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)


@pytest.mark.parametrize(
    ("task", "kind"), [("query", "search_query"), ("document", "search_document"), (None, "search_document")]
)
@pytest.mark.parametrize("dimensions", [None, 256])
def test_embeddings(
    recorder: Any, same: Any, client: cohere.ClientV2, task: str | None, kind: str, dimensions: int | None
) -> None:
    vectors = [[0.1, -0.25, 3], [1e-7, 0.5, -1.0]]
    body = {"id": "e", "embeddings": {"float": vectors}, "texts": ["one", "two"], "response_type": "embeddings_by_type",
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4.0}}}  # fmt: skip
    recorder.answer(body)
    more: dict[str, Any] = {} if dimensions is None else {"output_dimension": dimensions}
    theirs = client.embed(model="embed-v4.0", texts=["one", "two"], input_type=kind, embedding_types=["float"], **more)
    same(CODEC.embed("embed-v4.0", ["one", "two"], dimensions, task), recorder.last)
    ours = CODEC.embeddings(msgspec.json.encode(body))
    assert ours.vectors == theirs.embeddings.float_ == vectors
    assert theirs.meta is not None
    assert theirs.meta.billed_units is not None
    assert ours.input_tokens == theirs.meta.billed_units.input_tokens


@pytest.mark.parametrize("top", [None, 1])
def test_rerank(recorder: Any, same: Any, client: cohere.ClientV2, top: int | None) -> None:
    body = {"id": "r", "results": [{"index": 1, "relevance_score": 0.98}, {"index": 0, "relevance_score": 0.01}],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1.0}}}  # fmt: skip
    recorder.answer(body)
    more: dict[str, Any] = {} if top is None else {"top_n": top}
    theirs = client.rerank(model="rerank-v3.5", query="capital?", documents=["a", "b"], **more)
    same(CODEC.rerank("rerank-v3.5", "capital?", ["a", "b"], top), recorder.last)
    ours = CODEC.ranking(msgspec.json.encode(body))
    assert list(ours.results) == [(result.index, result.relevance_score) for result in theirs.results]


def test_the_list_of_models(recorder: Any, same: Any, client: cohere.ClientV2) -> None:
    body = {"models": [{"name": "command-a", "endpoints": ["chat", "generate"], "context_length": 256000.0},
                       {"name": "embed-v4.0", "endpoints": ["embed"]}, {"name": "old", "endpoints": ["classify"]},
                       {"name": "rerank-v3.5", "endpoints": ["rerank"]}]}  # fmt: skip
    recorder.answer(body)
    theirs = client.models.list(page_size=1000).models
    same(CODEC.models(), recorder.last)
    names = [model.name for model in theirs if {"chat", "embed", "rerank"} & set(model.endpoints or ())]
    assert CODEC.model_names(msgspec.json.encode(body)) == names
