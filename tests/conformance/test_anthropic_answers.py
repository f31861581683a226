"""Our readings of answers beside those of the official SDK, anthropic: directly, on Vertex AI and on Bedrock.

Habits of the SDK that we do not follow, each with its reason:

- A stream that ends before `message_stop` gives its caller what came, without an error: an answer cut short would pass
  for a whole one.
- A body that is no JSON, or none at all, leaves its own tree of errors: whoever catches that tree would miss it.
- What a web search found stays in its content as blocks of the service's own tools. Our reply has the text and the
  addresses that it cites.
"""

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import anthropic as sdk
import msgspec
import pytest

from kurabe import errors
from kurabe.messages import Reasoning, Reply
from kurabe.models.codecs._anthropic import Anthropic, AnthropicBedrock, AnthropicVertex
from kurabe.models.codecs.base import Codec, Decoder

Json = dict[str, Any]


def framed(events: list[tuple[str, Any]]) -> bytes:
    """Events as Bedrock frames them."""
    found = b""
    for _, event in events:
        raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
        found += frame({":event-type": "chunk", ":message-type": "event"}, {"bytes": base64.b64encode(raw).decode()})
    return found


def frame(names: dict[str, str], payload: Any) -> bytes:
    """One message of an AWS event stream."""
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in ({":content-type": "application/json"} | names).items()
    )
    body = msgspec.json.encode(payload)
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    whole = prelude + struct.pack("!I", crc32(prelude)) + headers + body
    return whole + struct.pack("!I", crc32(whole))


def sse(events: list[tuple[str, Any]]) -> bytes:
    """Events as lines."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (name.encode(), raw if isinstance(raw, bytes) else msgspec.json.encode(raw))
        for name, raw in events
    )


@dataclass
class Platform:
    """One way to the Messages API: our codec, the SDK's client, and its form of streams."""

    codec: Codec
    client: Callable[[str], Any]
    encode: Callable[[list[tuple[str, Any]]], bytes]
    content_type: str


PLATFORMS = {
    "direct": Platform(
        Anthropic(),
        lambda url: sdk.Anthropic(api_key="test-key", base_url=url, max_retries=0),
        sse,
        "text/event-stream",
    ),
    "vertex": Platform(
        AnthropicVertex(),
        lambda url: sdk.AnthropicVertex(
            region="us-east5", project_id="p-1", access_token="test-key", base_url=f"{url}/v1", max_retries=0
        ),
        sse,
        "text/event-stream",
    ),
    "bedrock": Platform(
        AnthropicBedrock(),
        lambda url: sdk.AnthropicBedrock(
            aws_access_key="AKIDEXAMPLE", aws_secret_key="test-key", aws_region="us-east-1", base_url=url, max_retries=0
        ),
        framed,
        "application/vnd.amazon.eventstream",
    ),
}


@pytest.fixture(params=list(PLATFORMS))
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    for variable in ("AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_AUTH_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return PLATFORMS[request.param]


CALL: Json = {"model": "claude-sonnet-5-5", "max_tokens": 80, "messages": [{"role": "user", "content": "Hi"}]}
USAGE: Json = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 300,
    "output_tokens": 47,
    "output_tokens_details": {"thinking_tokens": 30},
    "service_tier": "standard",
}


def whole(content: list[Json], stop_reason: str = "end_turn", **changes: Any) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5-20260901",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": USAGE,
    } | changes


def called(platform: Platform, recorder: Any) -> sdk.types.Message:
    """What the SDK reads of the recorder's answer."""
    with platform.client(recorder.url) as client:
        message: sdk.types.Message = client.messages.create(**CALL)
    return message


def streamed(platform: Platform, recorder: Any, body: bytes) -> sdk.types.Message:
    """What the SDK reads of this stream."""
    recorder.answer(body, headers={"content-type": platform.content_type})
    with platform.client(recorder.url) as client, client.messages.stream(**CALL) as events:
        message: sdk.types.Message = events.get_final_message()
    return message


FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool_calls", "max_tokens": "length",
    "model_context_window_exceeded": "length", "refusal": "content_filter", "pause_turn": "other", None: "other",
}  # fmt: skip


def assert_read_alike(ours: Reply, theirs: sdk.types.Message) -> None:
    blocks = theirs.content
    assert ours.text == "".join(block.text for block in blocks if block.type == "text")
    assert [(call.id, call.name, call.arguments) for call in ours.tool_calls] == [
        (block.id, block.name, block.input) for block in blocks if block.type == "tool_use"
    ]
    parts = () if isinstance(ours.content, str) else ours.content
    assert [(part.text, part.signature, part.data) for part in parts if isinstance(part, Reasoning)] == [
        (block.thinking, block.signature, "") if block.type == "thinking" else ("", "", block.data)
        for block in blocks
        if block.type in ("thinking", "redacted_thinking")
    ]
    assert list(ours.citations) == list(
        dict.fromkeys(
            citation.url
            for block in blocks
            if block.type == "text"
            for citation in block.citations or ()
            if citation.type == "web_search_result_location"
        )
    )
    assert ours.finish_reason == FINISH[theirs.stop_reason]
    assert ours.model == theirs.model
    cached, written = theirs.usage.cache_read_input_tokens or 0, theirs.usage.cache_creation_input_tokens or 0
    assert ours.usage.input == theirs.usage.input_tokens + cached + written
    assert (ours.usage.cached, ours.usage.cache_written) == (cached, written)
    assert ours.usage.output == theirs.usage.output_tokens
    details = theirs.usage.output_tokens_details
    assert ours.usage.reasoning == (details.thinking_tokens if details else 0)


def cited(url: str) -> Json:
    return {
        "type": "web_search_result_location", "url": url, "cited_text": "…", "encrypted_index": "e", "title": None,
    }  # fmt: skip


SEARCHED: list[Json] = [
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
    {"type": "text", "text": "It ", "citations": [cited("https://a.org"), cited("https://b.org")]},
    {"type": "text", "text": "snows.", "citations": [cited("https://a.org")]},
]
THOUGHT: list[Json] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
    {"type": "redacted_thinking", "data": "opaque=="},
    {"type": "text", "text": "Both:"},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
    {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
]


@pytest.mark.parametrize(
    "body",
    [
        *(whole([{"type": "text", "text": "Hé"}], stop) for stop in FINISH if stop and stop != "tool_use"),
        whole(THOUGHT, "tool_use"),
        whole(SEARCHED, "pause_turn"),
        whole([], "refusal", stop_details={"type": "refusal", "category": None, "explanation": None}),
        whole([{"type": "text", "text": "x"}], usage={"input_tokens": 1, "output_tokens": 2}),
    ],
)
def test_whole_answers_are_read_alike(body: Json, platform: Platform, recorder: Any) -> None:
    recorder.answer(body)
    theirs = called(platform, recorder)
    assert_read_alike(platform.codec.reply(msgspec.json.encode(body)), theirs)


def started(**usage: Any) -> tuple[str, Json]:
    counts = {"input_tokens": 11, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300} | usage
    message = whole([], usage=counts | {"output_tokens": 1}) | {"stop_reason": None}
    return ("message_start", {"type": "message_start", "message": message})


def block(index: int, start: Json, *deltas: Json) -> list[tuple[str, Json]]:
    return [
        ("content_block_start", {"type": "content_block_start", "index": index, "content_block": start}),
        *(("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas),
        ("content_block_stop", {"type": "content_block_stop", "index": index}),
    ]


def ended(stop_reason: str = "end_turn", **usage: Any) -> list[tuple[str, Json]]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        ("message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 47} | usage}),
        ("message_stop", {"type": "message_stop"}),
    ]


PING = ("ping", {"type": "ping"})
PIECES = [{"type": "text_delta", "text": piece} for piece in ("Hel", "lo, ", "wörld", "")]
TEXT = [started(), PING, *block(0, {"type": "text", "text": ""}, *PIECES), *ended()]
ARGUMENTS = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"ci', 'ty": "Osl', 'o"}')]
STREAMS: dict[str, list[tuple[str, Json]]] = {
    "text": TEXT,
    "tool calls in pieces": [
        started(),
        *block(0, {"type": "text", "text": ""}, *PIECES),
        *block(1, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}, *ARGUMENTS),
        *block(2, {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}}, ARGUMENTS[0]),
        *ended("tool_use"),
    ],
    "thinking": [
        started(),
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm, "},
            {"type": "thinking_delta", "thinking": "well."},
            {"type": "signature_delta", "signature": "sig=="},
        ),
        *block(1, {"type": "redacted_thinking", "data": "opaque=="}),
        *block(2, {"type": "text", "text": ""}, *PIECES),
        *ended(output_tokens_details={"thinking_tokens": 30}),
    ],
    "a search with citations": [
        started(),
        *block(
            0,
            {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"query": "q"}'},
        ),
        *block(1, {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}),
        *block(
            2,
            {"type": "text", "text": "", "citations": []},
            PIECES[0],
            {"type": "citations_delta", "citation": cited("https://a.org")},
            {"type": "citations_delta", "citation": cited("https://b.org")},
        ),
        *ended(input_tokens=500, cache_read_input_tokens=0),
    ],
    "counts that are left out or null": [
        started(cache_creation_input_tokens=None),
        *block(0, {"type": "text", "text": "At once"}),
        *ended("max_tokens", input_tokens=None, cache_read_input_tokens=7),
    ],
    "no content": [started(), *ended("refusal")],
}


@pytest.mark.parametrize("case", list(STREAMS))
def test_streams_are_read_alike(case: str, platform: Platform, recorder: Any, read_every_way: Any) -> None:
    body = platform.encode(STREAMS[case])
    theirs = streamed(platform, recorder, body)
    deltas, reply = read_every_way(platform.codec.decoder, body)
    assert_read_alike(reply, theirs)
    assert "".join(delta.text for delta in deltas) == reply.text
    assert "".join(delta.reasoning for delta in deltas) == reply.reasoning
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        if delta.index is not None:
            seen = calls.setdefault(delta.index, ["", "", ""])
            for place, piece in enumerate((delta.id, delta.name, delta.arguments)):
                seen[place] += piece
    assert [(id_, name, msgspec.json.decode(text or "{}")) for id_, name, text in calls.values()] == [
        (found.id, found.name, found.arguments) for found in reply.tool_calls
    ]


ERRORS: list[tuple[int, str, str, type[errors.ProviderError]]] = [
    (400, "invalid_request_error", "messages: at least one message is required", errors.BadRequestError),
    (400, "invalid_request_error", "prompt is too long: 205000 tokens > 200000 maximum", errors.ContextTooLongError),
    (
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
        errors.ContextTooLongError,
    ),
    (400, "invalid_request_error", "Your credit balance is too low", errors.QuotaExceededError),
    (401, "authentication_error", "invalid x-api-key", errors.AuthenticationError),
    (402, "billing_error", "pay first", errors.QuotaExceededError),
    (403, "permission_error", "no access", errors.PermissionDeniedError),
    (404, "not_found_error", "model: claude-9", errors.NotFoundError),
    (408, "timeout_error", "slow", errors.CallTimeoutError),
    (409, "conflict_error", "twice", errors.BadRequestError),
    (413, "request_too_large", "32 MB", errors.RequestTooLargeError),
    (422, "invalid_request_error", "odd", errors.BadRequestError),
    (429, "rate_limit_error", "slower", errors.RateLimitedError),
    (500, "api_error", "internal", errors.ServerError),
    (503, "api_error", "away", errors.OverloadedError),
    (504, "timeout_error", "slow", errors.CallTimeoutError),
    (529, "overloaded_error", "Overloaded", errors.OverloadedError),
]


def test_errors(platform: Platform, recorder: Any) -> None:
    for status, code, message, kind in ERRORS:
        body = {"type": "error", "error": {"type": code, "message": message}, "request_id": "req_1"}
        recorder.answer(body, status=status)
        with pytest.raises(sdk.APIStatusError) as theirs:
            called(platform, recorder)
        ours = platform.codec.error(status, {}, msgspec.json.encode(body))
        assert type(ours) is kind
        assert ours.status == theirs.value.status_code == status
        assert ours.code == code
        assert message in ours.message
        assert message in str(theirs.value)
        if isinstance(ours, errors.ContextTooLongError):
            assert (ours.tokens, ours.limit) == (205_000 if "205000" in message else 210_000, 200_000)


def test_an_html_page_is_a_server_error(platform: Platform, recorder: Any) -> None:
    page = b"<html><head><title>502</title></head><body><h1>Bad Gateway</h1></body></html>"
    recorder.answer(page, status=502, headers={"content-type": "text/html"})
    with pytest.raises(sdk.APIStatusError):
        called(platform, recorder)
    ours = platform.codec.error(502, {}, page)
    assert type(ours) is errors.ServerError
    assert ours.message == "Bad Gateway"


FAULT = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def broken(decoder: Decoder, body: bytes) -> errors.ProviderError:
    """The error that this stream ends in, whether with its bytes or at its end."""
    try:
        decoder.feed(body)
        decoder.finish()
    except errors.ProviderError as error:
        return error
    raise AssertionError("no error")


def test_an_error_inside_a_stream(platform: Platform, recorder: Any) -> None:
    body = platform.encode([*TEXT[:4], ("error", FAULT)])
    with pytest.raises(sdk.APIStatusError) as theirs:
        streamed(platform, recorder, body)
    ours = broken(platform.codec.decoder(), body)
    assert type(ours) is errors.OverloadedError
    assert theirs.value.body == FAULT
    assert (ours.code, ours.message, ours.partial.text) == ("overloaded_error", "Overloaded", "Hel")


def test_an_exception_of_bedrocks_stream(recorder: Any) -> None:
    platform = PLATFORMS["bedrock"]
    fault = frame({":message-type": "exception", ":exception-type": "throttlingException"}, {"message": "Slower"})
    body = framed(TEXT[:4]) + fault
    with pytest.raises(sdk.APIStatusError, match="throttlingException"):
        streamed(platform, recorder, body)
    ours = broken(platform.codec.decoder(), body)
    assert type(ours) is errors.RateLimitedError
    assert (ours.code, ours.message, ours.partial.text) == ("throttlingException", "Slower", "Hel")


def test_a_stream_that_ends_early(platform: Platform, recorder: Any) -> None:
    for end in range(len(TEXT)):
        ours = broken(platform.codec.decoder(), platform.encode(TEXT[:end]))
        assert type(ours) is errors.CutStreamError
        came = [event["delta"].get("text", "") for _, event in TEXT[:end] if "delta" in event]
        assert ours.partial.text == "".join(came)
    theirs = streamed(platform, recorder, platform.encode(TEXT[:-2]))
    assert (theirs.content[0].type, theirs.stop_reason) == ("text", None)  # no error: the SDK's habit


@pytest.mark.parametrize("body", [b"", b"{", b"<html>busy</html>"])
def test_a_body_that_is_no_json(body: bytes, platform: Platform, recorder: Any) -> None:
    recorder.answer(body)
    with pytest.raises(ValueError):
        called(platform, recorder)
    with pytest.raises(errors.UnreadableAnswerError):
        platform.codec.reply(body)


@pytest.mark.parametrize("body", [b'{"type": "message"}', b"[]", b"null"])
def test_a_body_that_is_no_message(body: bytes, platform: Platform) -> None:
    with pytest.raises(errors.UnreadableAnswerError):
        platform.codec.reply(body)


def test_an_event_that_is_no_json(platform: Platform, recorder: Any) -> None:
    body = platform.encode([*TEXT[:4], ("content_block_delta", b"{nope")])
    with pytest.raises(ValueError):
        streamed(platform, recorder, body)
    ours = broken(platform.codec.decoder(), body)
    assert type(ours) is errors.UnreadableAnswerError
    assert ours.partial.text == "Hel"
