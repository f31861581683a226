"""What Gemini and Vertex AI answer, read by us and by Google's own SDK. See test_gemini for the SDK's habits."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types
from google.oauth2.credentials import Credentials

from kurabe.errors import (
    AuthenticationError,
    BadRequestError,
    CallTimeoutError,
    ContentFilteredError,
    ContextTooLongError,
    CutStreamError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    UnreadableAnswerError,
)
from kurabe.messages import Reasoning, Reply, Text, ToolCall
from kurabe.models.codecs._gemini import Gemini, Vertex

CODECS = {"gemini": Gemini(), "vertex": Vertex()}
SIGNATURE = "++//+/8="
SIGNED = b"\xfb\xef\xff\xfb\xff"
HI = "Hi"


@pytest.fixture(params=["gemini", "vertex"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, genai.Client]]:
    """Made once: each reads all certificates anew. Nothing is sent before `client` has set the address."""
    options = types.HttpOptions(base_url="http://127.0.0.1:9")
    credentials = Credentials(token="test-token")  # type: ignore[no-untyped-call]
    place: Any = {"project": "test-project", "location": "us-central1", "credentials": credentials}
    with (
        genai.Client(api_key="test-key", http_options=options) as gemini,
        genai.Client(vertexai=True, **place, http_options=options) as vertex,
    ):
        yield {"gemini": gemini, "vertex": vertex}


@pytest.fixture
def client(where: str, clients: dict[str, genai.Client], recorder: Any) -> genai.Client:
    clients[where]._api_client._http_options.base_url = recorder.url
    return clients[where]


def ask(
    client: genai.Client, contents: Any, config: dict[str, Any], stream: bool
) -> list[types.GenerateContentResponse]:
    settings = types.GenerateContentConfig(**config)
    if stream:
        return list(client.models.generate_content_stream(model="gemini-3-pro", contents=contents, config=settings))
    return [client.models.generate_content(model="gemini-3-pro", contents=contents, config=settings)]


# ── What is read ─────────────────────────────────────────────────────────────────────────────────────────────────────
def answer(*parts: dict[str, Any], finish: str | None = None, **usage: int) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    counts = {f"{name}TokenCount": number for name, number in usage.items()}
    return {
        "candidates": [candidate],
        "usageMetadata": {**counts, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}]},
        "modelVersion": "gemini-3-pro-002",
        "responseId": "r1",
    }


def function(name: str, args: dict[str, Any] | None = None, signature: str = "", **more: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, **({} if args is None else {"args": args}), **more}}
    return part | ({"thoughtSignature": signature} if signature else {})


# name: the events of a stream; the last one alone is also read as a whole answer
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "text": [
        answer({"text": "Hel"}, prompt=5, candidates=1, total=6),
        answer({"text": "lo 日本"}, prompt=5, candidates=3, total=8),
        answer({"text": "."}, finish="STOP", prompt=5, candidates=4, total=9),
    ],
    "thinking": [
        answer({"text": "Hm", "thought": True}, prompt=5, thoughts=7, total=12),
        answer({"text": ", so.", "thought": True}, {"text": "Yes"}, prompt=5, thoughts=9, candidates=1, total=15),
        answer(
            {"text": "!"}, {"text": "", "thoughtSignature": SIGNATURE},
            finish="STOP", prompt=5, thoughts=9, candidates=2, cachedContent=3, total=16,
        ),
    ],
    "calls": [
        answer({"text": "Let me see."}, prompt=5, candidates=2, total=7),
        answer(
            function("weather", {"city_name": "Kyoto", "days": 2}, SIGNATURE, id="c1"),
            function("clock", id="c2"),
            finish="STOP", prompt=5, candidates=9, toolUsePrompt=4, total=18,
        ),
    ],
    "calls without ids": [
        answer(function("weather", {"city_name": "Kyoto"}, SIGNATURE), prompt=5, candidates=9, total=14),
        answer(function("clock", {}), finish="STOP", prompt=5, candidates=12, total=17),
    ],
    "limit": [answer({"text": "Once upon"}, finish="MAX_TOKENS", prompt=5, candidates=2, total=7)],
    "stopped by safety, without content": [
        {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": {"promptTokenCount": 5}}
    ],
    "stopped by safety in the middle": [
        answer({"text": "First"}, prompt=5, candidates=1, total=6),
        {"candidates": [{"content": {"role": "model"}, "finishReason": "PROHIBITED_CONTENT"}]},
    ],
    "another reason": [answer({"text": "x"}, finish="MALFORMED_FUNCTION_CALL", prompt=1, candidates=1, total=2)],
}  # fmt: skip
FINISHES = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "MALFORMED_FUNCTION_CALL": "other",
}


def stream_of(events: list[dict[str, Any]], end: bytes = b"\r\n\r\n") -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + end for event in events)


def seen_by_the_sdk(answers: list[types.GenerateContentResponse]) -> dict[str, Any]:
    parts = [part for one in answers for part in one.parts or []]
    usages = [one.usage_metadata for one in answers if one.usage_metadata]
    usage = usages[-1] if usages else types.GenerateContentResponseUsageMetadata()
    last = answers[-1].candidates
    assert last
    assert last[0].finish_reason
    finish = FINISHES[last[0].finish_reason.value]
    calls = [part.function_call for part in parts if part.function_call]
    return {
        "text": "".join(part.text or "" for part in parts if not part.thought),
        "reasoning": "".join(part.text or "" for part in parts if part.thought),
        "calls": [(call.id, call.name, call.args or {}) for call in calls],
        "signatures": [part.thought_signature for part in parts if part.thought_signature],
        "finish": "tool_calls" if calls and finish == "stop" else finish,
        "usage": (
            (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
            (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
            usage.cached_content_token_count or 0,
            usage.thoughts_token_count or 0,
        ),
        "total": usage.total_token_count,
        "model": [one.model_version for one in answers if one.model_version][-1:],
    }


def seen_by_us(reply: Reply, total: int | None) -> dict[str, Any]:
    usage = reply.usage
    signed = [
        part.signature
        for part in reply.message.parts
        if isinstance(part, Text | Reasoning | ToolCall) and part.signature
    ]
    return {
        "text": reply.text,
        "reasoning": reply.reasoning,
        "calls": [
            (None if call.id.startswith("kurabe-") else call.id, call.name, call.arguments) for call in reply.tool_calls
        ],
        "signatures": [SIGNED for signature in signed if signature == SIGNATURE],
        "finish": reply.finish_reason,
        "usage": (usage.input, usage.output, usage.cached, usage.reasoning),
        "total": total and usage.input + usage.output,
        "model": [reply.model] if reply.model else [],
    }


@pytest.mark.parametrize("case", ANSWERS)
def test_a_whole_answer_is_read_as_the_sdk_reads_it(where: str, client: genai.Client, recorder: Any, case: str) -> None:
    body = ANSWERS[case][-1]
    recorder.answer(body)
    theirs = seen_by_the_sdk(ask(client, HI, {}, stream=False))
    reply = CODECS[where].reply(msgspec.json.encode(body))
    assert seen_by_us(reply, theirs["total"]) == theirs


@pytest.mark.parametrize("case", ANSWERS)
def test_a_stream_is_read_as_the_sdk_reads_it(
    where: str, client: genai.Client, recorder: Any, read_every_way: Any, case: str
) -> None:
    body = stream_of(ANSWERS[case])
    recorder.answer([body[i : i + 7] for i in range(0, len(body), 7)], headers={"content-type": "text/event-stream"})
    theirs = seen_by_the_sdk(ask(client, HI, {}, stream=True))
    deltas, reply = read_every_way(CODECS[where].decoder, body)
    assert seen_by_us(reply, theirs["total"]) == theirs
    assert "".join(delta.text for delta in deltas) == theirs["text"]
    assert "".join(delta.reasoning for delta in deltas) == theirs["reasoning"]
    assert [(delta.name, msgspec.json.decode(delta.arguments)) for delta in deltas if delta.name] == [
        (name, args) for _, name, args in theirs["calls"]
    ]
    assert reply.raw == body
    other_ends = read(CODECS[where].decoder, stream_of(ANSWERS[case], b"\n\n"))
    assert msgspec.structs.replace(other_ends, raw=body) == reply


def test_logprobs_are_read_as_the_sdk_reads_them(where: str, client: genai.Client, recorder: Any) -> None:
    body = answer({"text": "Hi!"}, finish="STOP", prompt=1, candidates=2, total=3)
    body["candidates"][0]["logprobsResult"] = {
        "chosenCandidates": [{"token": "Hi", "tokenId": 5, "logProbability": -0.25}, {"token": "!", "tokenId": 6}],
        "topCandidates": [
            {"candidates": [{"token": "Hi", "logProbability": -0.25}, {"token": "Oh", "logProbability": -1.5}]},
            {"candidates": [{"token": "!"}]},
        ],
    }
    recorder.answer(body)
    [theirs] = ask(client, HI, {}, stream=False)
    assert theirs.candidates
    result = theirs.candidates[0].logprobs_result
    assert result
    assert result.chosen_candidates
    assert result.top_candidates
    reply = CODECS[where].reply(msgspec.json.encode(body))
    assert [(t.token, t.logprob) for t in reply.logprobs] == [
        (t.token, t.log_probability or 0.0) for t in result.chosen_candidates
    ]
    assert [list(t.top) for t in reply.logprobs] == [
        [(t.token, t.log_probability or 0.0) for t in top.candidates or []] for top in result.top_candidates
    ]


@pytest.mark.parametrize("where", ["vertex"])
def test_a_call_in_pieces(client: genai.Client, where: str, recorder: Any, read_every_way: Any) -> None:
    """Only Vertex sends them, and only where asked by `streamFunctionCallArguments`. The SDK hands on the pieces."""
    pieces = [
        [{"jsonPath": "$.city_name", "stringValue": "Kyo", "willContinue": True}],
        [{"jsonPath": "$.city_name", "stringValue": "to"}, {"jsonPath": "$.days", "numberValue": 2}],
    ]
    events = [
        answer({"functionCall": {"name": "weather", "id": "c1", "willContinue": True}, "thoughtSignature": SIGNATURE}),
        *(answer({"functionCall": {"partialArgs": piece, "willContinue": True}}) for piece in pieces),
        answer({"functionCall": {}}, finish="STOP", prompt=5, candidates=9),
    ]
    body = stream_of(events)
    recorder.answer(body)
    config = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(
            mode=types.FunctionCallingConfigMode.AUTO, stream_function_call_arguments=True
        )
    )
    whole = types.AutomaticFunctionCallingConfig(disable=True)  # it would want whole calls
    theirs = ask(client, HI, {"tool_config": config, "automatic_function_calling": whole}, stream=True)
    asked = recorder.last.json["toolConfig"]["functionCallingConfig"]
    assert asked == {"mode": "AUTO", "stream_function_call_arguments": True}
    calls = [part.function_call for one in theirs for part in one.parts or [] if part.function_call]
    assert [arg.string_value for call in calls for arg in call.partial_args or [] if arg.string_value] == ["Kyo", "to"]
    deltas, reply = read_every_way(CODECS[where].decoder, body)
    assert reply.content == (ToolCall("c1", "weather", {"city_name": "Kyoto", "days": 2}, SIGNATURE),)
    assert reply.finish_reason == "tool_calls"
    assert [(delta.index, delta.id, delta.name) for delta in deltas] == [(0, "c1", "weather"), (0, "", "")]
    assert msgspec.json.decode("".join(delta.arguments for delta in deltas)) == {"city_name": "Kyoto", "days": 2}


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def error_body(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return {"error": error | ({"details": list(details)} if details else {})}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


def quota(id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]}


INVALID_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
ERRORS: list[tuple[int, Any, type[ProviderError], float | None]] = [
    (400, error_body(400, "INVALID_ARGUMENT", "Unknown name"), BadRequestError, None),
    (400, error_body(400, "INVALID_ARGUMENT", "API key not valid.", INVALID_KEY), AuthenticationError, None),
    (
        400,
        error_body(400, "INVALID_ARGUMENT", "The input token count (1100000) exceeds the maximum of 1048576."),
        ContextTooLongError,
        None,
    ),
    (401, error_body(401, "UNAUTHENTICATED", "Invalid credentials"), AuthenticationError, None),
    (403, error_body(403, "PERMISSION_DENIED", "No access"), PermissionDeniedError, None),
    (404, error_body(404, "NOT_FOUND", "models/x is not found"), NotFoundError, None),
    (408, error_body(408, "CANCELLED", "Timeout"), CallTimeoutError, None),
    (409, error_body(409, "ABORTED", "Conflict"), BadRequestError, None),
    (413, error_body(413, "INVALID_ARGUMENT", "Too large"), ProviderError, None),
    (422, error_body(422, "INVALID_ARGUMENT", "Unprocessable"), BadRequestError, None),
    (429, [error_body(429, "RESOURCE_EXHAUSTED", "Exhausted", RETRY)], RateLimitedError, 34.5),
    (
        429,
        error_body(
            429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", quota("GenerateRequestsPerMinute"), RETRY
        ),
        RateLimitedError,
        34.5,
    ),
    (
        429,
        error_body(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", quota("RequestsPerDayPerProject")),
        QuotaExceededError,
        None,
    ),
    (429, error_body(429, "RESOURCE_EXHAUSTED", "Exhausted. Please retry in 5.25s."), RateLimitedError, 5.25),
    (500, error_body(500, "INTERNAL", "An internal error"), ServerError, None),
    (502, b"<html><body><h1>Bad Gateway</h1></body></html>", ServerError, None),
    (503, error_body(503, "UNAVAILABLE", "The model is overloaded."), OverloadedError, None),
    (504, error_body(504, "DEADLINE_EXCEEDED", "Deadline expired"), CallTimeoutError, None),
    (529, b"", OverloadedError, None),
]


@pytest.mark.parametrize(("status", "body", "kind", "retry_after"), ERRORS)
def test_errors_say_what_the_sdks_say(
    where: str,
    client: genai.Client,
    recorder: Any,
    status: int,
    body: Any,
    kind: type[ProviderError],
    retry_after: float | None,
) -> None:
    recorder.answer(body, status=status)
    for stream in (False, True):
        with pytest.raises(google_errors.APIError) as theirs:
            ask(client, HI, {}, stream)
        assert theirs.value.code == status
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    ours = CODECS[where].error(status, {}, raw)
    assert isinstance(ours, kind)
    assert isinstance(ours, QuotaExceededError) is (kind is QuotaExceededError)
    assert ours.status == status
    assert ours.retry_after == retry_after
    if not isinstance(body, bytes):
        assert theirs.value.message
        assert theirs.value.message in ours.message
        assert ours.code == theirs.value.status
    elif body:
        assert ours.message == "Bad Gateway"


STREAM_ERRORS: list[tuple[dict[str, Any], type[ProviderError]]] = [
    (error_body(429, "RESOURCE_EXHAUSTED", "Exhausted", RETRY), RateLimitedError),
    (error_body(503, "UNAVAILABLE", "The model is overloaded."), OverloadedError),
    (error_body(500, "INTERNAL", "An internal error"), ServerError),
    (error_body(401, "UNAUTHENTICATED", "Expired"), AuthenticationError),
    (error_body(400, "INVALID_ARGUMENT", "No such thing"), BadRequestError),
]


@pytest.mark.parametrize(("body", "kind"), STREAM_ERRORS)
def test_errors_inside_a_stream(
    where: str, client: genai.Client, recorder: Any, body: dict[str, Any], kind: type[ProviderError]
) -> None:
    """As an event, and as plain lines of JSON between the events."""
    start = stream_of(ANSWERS["text"][:2])
    for said in (stream_of([body]), msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"):
        recorder.answer(start + said)
        with pytest.raises(google_errors.APIError) as theirs:
            ask(client, HI, {}, stream=True)
        with pytest.raises(kind) as ours:
            read(CODECS[where].decoder, start + said)
        assert ours.value.message == theirs.value.message
        assert ours.value.code == theirs.value.status
        assert ours.value.status is None
        assert ours.value.partial.text == "Hello 日本"


def read(decoder: Callable[[], Any], body: bytes) -> Reply:
    reader = decoder()
    reader.feed(body)
    reply: Reply = reader.finish()
    return reply


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_blocked_prompt(where: str, client: genai.Client, recorder: Any, stream: bool) -> None:
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}
    raw = stream_of([body]) if stream else msgspec.json.encode(body)
    recorder.answer(raw)
    [theirs] = ask(client, HI, {}, stream)
    assert theirs.candidates is None
    assert theirs.prompt_feedback
    assert theirs.prompt_feedback.block_reason
    codec = CODECS[where]
    with pytest.raises(ContentFilteredError) as ours:
        read(codec.decoder, raw) if stream else codec.reply(raw)
    assert ours.value.code == theirs.prompt_feedback.block_reason.value
    assert ours.value.partial.usage.input == 5


def test_what_the_sdk_passes_over_is_an_error(where: str, client: genai.Client, recorder: Any) -> None:
    codec = CODECS[where]
    cut = stream_of(ANSWERS["text"][:2])
    recorder.answer(cut)
    assert "".join(one.text or "" for one in ask(client, HI, {}, stream=True)) == "Hello 日本"
    with pytest.raises(CutStreamError) as ours:
        read(codec.decoder, cut)
    assert ours.value.partial.text == "Hello 日本"
    recorder.answer(b"")
    assert ask(client, HI, {}, stream=False)[0].candidates is None
    with pytest.raises(UnreadableAnswerError, match="empty body"):
        codec.reply(b"")


@pytest.mark.parametrize("body", [b'{"candidates": [', b"<html>nonsense</html>"])
def test_what_is_no_json_is_an_error_to_both(where: str, client: genai.Client, recorder: Any, body: bytes) -> None:
    recorder.answer(body)
    with pytest.raises(ValueError):
        ask(client, HI, {}, stream=False)
    with pytest.raises(UnreadableAnswerError):
        CODECS[where].reply(body)


def test_an_event_that_is_no_json(where: str, client: genai.Client, recorder: Any) -> None:
    body = stream_of(ANSWERS["text"][:2]) + b"data: {nope\r\n\r\n"
    recorder.answer(body)
    with pytest.raises(ValueError):
        ask(client, HI, {}, stream=True)
    with pytest.raises(UnreadableAnswerError) as ours:
        read(CODECS[where].decoder, body)
    assert ours.value.partial.text == "Hello 日本"
