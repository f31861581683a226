"""Amazon Bedrock's Converse against boto3, and our signature against the one it sends.

Habits of the SDK that we do not follow:
- It drops nothing and shapes nothing: an open JSON Schema goes out as it is given. We close it, as the models demand
  (`test_our_schema_is_closed`).
- It passes on a body without `output`, and a stream that ends early, as if nothing were amiss.
"""

import json
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import boto3
import botocore.eventstream
import botocore.exceptions
import msgspec
import pytest
from botocore.config import Config

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
    User,
)
from kurabe.models import open_model
from kurabe.models.codecs._bedrock import Bedrock
from kurabe.models.codecs.base import HttpRequest, Profile
from kurabe.models.hosted.sigv4 import sign

CODEC = Bedrock()
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = Tool("weather", "Tells the weather.", SCHEMA)
TOOLS = [{"toolSpec": {"name": "weather", "description": "Tells the weather.", "inputSchema": {"json": SCHEMA}}}]
ASK = [{"role": "user", "content": [{"text": "Weather?"}]}]
WEATHER = (User("Weather?"),)
USAGE = {
    "inputTokens": 10, "outputTokens": 7, "totalTokens": 47, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 10,
}  # fmt: skip
END = {"stopReason": "end_turn", "usage": USAGE, "metrics": {"latencyMs": 5}}


@pytest.fixture(scope="module")
def session() -> Any:
    """It keeps the model of the service, which takes long to read."""
    return boto3.Session("test-key", "test-secret", "test-token", region_name="eu-west-1")


@pytest.fixture
def client(session: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    recorder.answer(answer([{"text": "Hi"}]))
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    made = session.client("bedrock-runtime", endpoint_url=recorder.url, config=config)
    yield made
    made.close()


def answer(content: list[Any], **changed: Any) -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": content}}} | END | changed


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """A message of an event stream."""
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    body = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return body + struct.pack("!I", crc32(body))


def events_of(client: Any, **call: Any) -> list[dict[str, Any]]:
    """What the SDK reads of a stream."""
    with closing(client.converse_stream(modelId=MODEL, **call)["stream"]) as events:
        return list(events)


def event(kind: str, value: dict[str, Any]) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({**value, "p": "abcdefg"}).encode())


def exception(kind: str, message: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def delta(index: int, value: dict[str, Any]) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": value})


def tool_start(index: int, id: str) -> bytes:
    start = {"toolUse": {"toolUseId": id, "name": "weather"}}
    return event("contentBlockStart", {"contentBlockIndex": index, "start": start})


def stream(*events: bytes, stop: str = "end_turn") -> bytes:
    last = event("messageStop", {"stopReason": stop}), event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}})
    return b"".join((event("messageStart", {"role": "assistant"}), *events, *last))


POINT: dict[str, Any] = {"cachePoint": {"type": "default"}}
QUIRKS = {
    "a budget of thinking": {"claude", "thinking_budget"},
    "the beginning to be kept": {"claude", "cache_points"},
}
CASES: dict[str, tuple[Request, dict[str, Any]]] = {
    "system, user, temperature, limit": (
        Request((System("Be brief."), User("Hi")), temperature=0.5, max_tokens=80),
        {
            "system": [{"text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
            "inferenceConfig": {"temperature": 0.5, "maxTokens": 80},
        },
    ),
    "several turns": (
        Request((User("Hi"), Assistant("Hello"), User("Bye"))),
        {
            "messages": [
                {"role": "user", "content": [{"text": "Hi"}]},
                {"role": "assistant", "content": [{"text": "Hello"}]},
                {"role": "user", "content": [{"text": "Bye"}]},
            ]
        },
    ),
    "image": (
        Request((User("What?", Image.from_bytes(PNG)),)),
        {
            "messages": [
                {"role": "user", "content": [{"text": "What?"}, {"image": {"format": "png", "source": {"bytes": PNG}}}]}
            ]
        },
    ),
    "document, sound, and what lies in S3": (
        Request(
            (
                User(
                    "What?",
                    Document(b"%PDF", "application/pdf", name="report.pdf"),
                    Audio(b"RIFF", "audio/wav"),
                    Image(url="s3://bucket/a.png", media_type="image/png"),
                ),
            )
        ),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"text": "What?"},
                        {"document": {"format": "pdf", "name": "report", "source": {"bytes": b"%PDF"}}},
                        {"audio": {"format": "wav", "source": {"bytes": b"RIFF"}}},
                        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}},
                    ],
                }
            ]
        },
    ),
    "the beginning to be kept": (
        Request(
            (System("Be brief.", cache=True), User("Hi"), Assistant("Hello", cache=True), User("Bye", cache=True)),
            tools=(msgspec.structs.replace(TOOL, cache=True),),
        ),
        {
            "system": [{"text": "Be brief."}, POINT],
            "messages": [
                {"role": "user", "content": [{"text": "Hi"}]},
                {"role": "assistant", "content": [{"text": "Hello"}, POINT]},
                {"role": "user", "content": [{"text": "Bye"}, POINT]},
            ],
            "toolConfig": {"tools": [*TOOLS, POINT]},
        },
    ),
    "a system turn inside the conversation": (
        Request((System("Be brief."), User("Hi"), Assistant("Hello"), System("Now in French."), User("Bye"))),
        {
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"text": "Hi"}]},
                {"role": "assistant", "content": [{"text": "Hello"}]},
                {"role": "system", "content": [{"text": "Now in French."}]},
                {"role": "user", "content": [{"text": "Bye"}]},
            ],
        },
    ),
    "a strict tool": (
        Request(WEATHER, tools=(msgspec.structs.replace(TOOL, strict=True),)),
        {"messages": ASK, "toolConfig": {"tools": [{"toolSpec": {**TOOLS[0]["toolSpec"], "strict": True}}]}},
    ),
    "a picture and a document as a result": (
        Request(
            (
                *WEATHER,
                Assistant(ToolCall("t1", "weather", {"city": "Oslo"})),
                User(
                    ToolResult(
                        "t1",
                        "weather",
                        (Text("Look."), Image.from_bytes(PNG), Document(b"%PDF", "application/pdf", name="a.pdf")),
                    )
                ),
            ),
            tools=(TOOL,),
        ),
        {
            "messages": [
                *ASK,
                {
                    "role": "assistant",
                    "content": [{"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}}],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "toolResult": {
                                "toolUseId": "t1",
                                "content": [
                                    {"text": "Look."},
                                    {"image": {"format": "png", "source": {"bytes": PNG}}},
                                    {"document": {"format": "pdf", "name": "a", "source": {"bytes": b"%PDF"}}},
                                ],
                            }
                        }
                    ],
                },
            ],
            "toolConfig": {"tools": TOOLS},
        },
    ),
    "tools": (Request(WEATHER, tools=(TOOL,)), {"messages": ASK, "toolConfig": {"tools": TOOLS}}),
    "tools, auto": (
        Request(WEATHER, tools=(TOOL,), tool_choice="auto"),
        {"messages": ASK, "toolConfig": {"tools": TOOLS, "toolChoice": {"auto": {}}}},
    ),
    "tools, required": (
        Request(WEATHER, tools=(TOOL,), tool_choice="required"),
        {"messages": ASK, "toolConfig": {"tools": TOOLS, "toolChoice": {"any": {}}}},
    ),
    "tools, named": (
        Request(WEATHER, tools=(TOOL,), tool_choice="weather"),
        {"messages": ASK, "toolConfig": {"tools": TOOLS, "toolChoice": {"tool": {"name": "weather"}}}},
    ),
    "tools, none": (Request(WEATHER, tools=(TOOL,), tool_choice="none"), {"messages": ASK}),
    "parallel calls and results, with reasoning": (
        Request(
            (
                *WEATHER,
                Assistant(
                    Reasoning("Two cities.", signature="c2ln"),
                    Reasoning(data=b64encode(b"secret").decode()),
                    "I ask.",
                    ToolCall("t1", "weather", {"city": "Oslo"}),
                    ToolCall("t2", "weather", {}),
                ),
                User(ToolResult("t1", "weather", "rain"), ToolResult("t2", "weather", "no city", error=True)),
            ),
            tools=(TOOL,),
        ),
        {
            "messages": [
                *ASK,
                {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "Two cities.", "signature": "c2ln"}}},
                        {"reasoningContent": {"redactedContent": b"secret"}},
                        {"text": "I ask."},
                        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}},
                        {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"toolResult": {"toolUseId": "t1", "content": [{"text": "rain"}]}},
                        {"toolResult": {"toolUseId": "t2", "content": [{"text": "no city"}], "status": "error"}},
                    ],
                },
            ],
            "toolConfig": {"tools": TOOLS},
        },
    ),
    "structured output": (
        Request(WEATHER, output=OutputFormat("place", SCHEMA)),
        {
            "messages": ASK,
            "outputConfig": {
                "textFormat": {
                    "type": "json_schema",
                    "structure": {"jsonSchema": {"name": "place", "schema": json.dumps(SCHEMA)}},
                }
            },
        },
    ),
    "sampling": (
        Request(WEATHER, stop=("a", "b"), top_p=0.5, top_k=5),
        {
            "messages": ASK,
            "inferenceConfig": {"stopSequences": ["a", "b"], "topP": 0.5},
            "additionalModelRequestFields": {"top_k": 5},
        },
    ),
    "a budget of thinking": (
        Request(WEATHER, reasoning="low", max_tokens=8000),
        {
            "messages": ASK,
            "inferenceConfig": {"maxTokens": 8000},
            "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        },
    ),
    "effort": (Request(WEATHER, reasoning="high"), {"messages": ASK, "outputConfig": {"effort": "high"}}),
    "beyond": (
        Request(
            WEATHER,
            top_k=5,
            extra={"additionalModelRequestFields": {"seed": 1}, "serviceTier": {"type": "flex"}},
        ),
        {
            "messages": ASK,
            "additionalModelRequestFields": {"top_k": 5, "seed": 1},
            "serviceTier": {"type": "flex"},
        },
    ),
}


def plain(body: Any) -> Any:
    """The JSON Schema, a text on the wire, as a value: its order and spaces say nothing."""
    structure = body.get("outputConfig", {}).get("textFormat", {}).get("structure")
    if structure:
        structure["jsonSchema"]["schema"] = json.loads(structure["jsonSchema"]["schema"])
    return body


def parsed(request: HttpRequest) -> HttpRequest:
    return HttpRequest(request.path, json.dumps(plain(json.loads(request.body))).encode())


def assert_signed_alike(ours: HttpRequest, recorder: Any) -> None:
    """Our signature of the SDK's body at the SDK's time is the SDK's."""
    sent = recorder.last
    assert sent.headers["content-type"] == "application/json"
    now = datetime.strptime(sent.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    headers = {"content-type": "application/json"}
    made = sign(
        ours.method, recorder.url + ours.path, headers, sent.body,
        "test-key", "test-secret", "test-token", "eu-west-1", "bedrock", now,
    )  # fmt: skip
    assert made == {name: sent.headers[name] for name in ("authorization", "x-amz-date", "x-amz-security-token")}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_requests(case: str, streamed: bool, client: Any, recorder: Any, same: Any) -> None:
    request, call = CASES[case]
    if streamed:
        recorder.answer(stream(), headers={"content-type": "application/vnd.amazon.eventstream"})
        events_of(client, **call)
    else:
        client.converse(modelId=MODEL, **call)
    profile = Profile(quirks=frozenset(QUIRKS.get(case, ())))
    ours = CODEC.chat(MODEL, request, profile, stream=streamed)
    same(parsed(ours), recorder.last, body=plain)
    assert_signed_alike(ours, recorder)
    assert "accept" not in recorder.last.headers or recorder.last.headers["accept"] == "*/*"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (MODEL, "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"),
        (
            ARN,
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc123/converse",
        ),
        ("amazon.nova-lite-v1:0", "/model/amazon.nova-lite-v1%3A0/converse"),
    ],
)
def test_names_of_models_in_the_path(model: str, path: str, client: Any, recorder: Any) -> None:
    client.converse(modelId=model, messages=ASK)
    ours = CODEC.chat(model, Request(WEATHER), Profile(), stream=False)
    assert ours.path == recorder.last.path == path
    assert_signed_alike(ours, recorder)


@pytest.mark.parametrize("streamed", [False, True])
def test_what_the_transport_sends_is_what_was_signed(
    streamed: bool, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "test-token")
    model = open_model(f"bedrock:{MODEL}?region=eu-west-1", base_url=recorder.url, attempts=1)
    if streamed:
        recorder.answer(STREAMS["text"], headers={"content-type": "application/vnd.amazon.eventstream"})
        assert "".join(piece.text for piece in model.stream("Hi")) == "Grüß Gott"
    else:
        recorder.answer(answer([{"text": "Hi"}]))
        assert model.chat("Hi").text == "Hi"
    sent = recorder.last
    request = HttpRequest(sent.path, sent.body)
    assert request.path.startswith("/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse")
    assert_signed_alike(request, recorder)


def test_our_schema_is_closed(client: Any, recorder: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    text = {"type": "json_schema", "structure": {"jsonSchema": {"name": "n", "schema": json.dumps(schema)}}}
    client.converse(modelId=MODEL, messages=ASK, outputConfig={"textFormat": text})
    assert plain(recorder.last.json)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"] == schema
    encoded = CODEC.chat(MODEL, Request(WEATHER, output=OutputFormat("n", schema)), Profile(), stream=False)
    sent = plain(json.loads(encoded.body))["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]
    assert sent["additionalProperties"] is False


def read_alike(ours: Reply, content: list[Any], stop: str, usage: dict[str, int]) -> None:
    """What we read equals what the SDK read; it has bytes where we keep base64."""
    theirs: list[Any] = []
    for block in content:
        if "text" in block:
            theirs.append(Text(block["text"]))
        elif "toolUse" in block:
            call = block["toolUse"]
            theirs.append(ToolCall(call["toolUseId"], call["name"], call["input"]))
        else:
            thought = block["reasoningContent"]
            said = thought.get("reasoningText", {})
            hidden = b64encode(thought.get("redactedContent", b"")).decode()
            theirs.append(Reasoning(said.get("text", ""), said.get("signature", ""), hidden))
    assert list(ours.message.parts) == theirs
    assert ours.usage.cached == usage["cacheReadInputTokens"]
    assert ours.usage.cache_written == usage["cacheWriteInputTokens"]
    assert ours.usage.input + ours.usage.output == usage["totalTokens"]
    assert ours.usage.output == usage["outputTokens"]
    finishes = {
        "end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "guardrail_intervened": "content_filter",
        "malformed_tool_use": "other",
    }  # fmt: skip
    assert ours.finish_reason == finishes[stop]


CALLS = [{"toolUse": {"toolUseId": id, "name": "weather", "input": {"city": city}}} for id, city in ("ab", "cd")]
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "2 + 2", "signature": "c2ln"}}}
HIDDEN = {"reasoningContent": {"redactedContent": b64encode(b"\x00\xff").decode()}}


@pytest.mark.parametrize(
    ("content", "stop"),
    [
        ([{"text": "Grüß Gott"}], "end_turn"),
        ([{"text": "cut"}], "max_tokens"),
        ([{"text": "Sorry."}], "guardrail_intervened"),
        ([{"text": "I ask."}, *CALLS], "tool_use"),
        ([{"text": "I"}, {"toolUse": {"toolUseId": "a", "name": "weather", "input": {}}}], "malformed_tool_use"),
        ([THOUGHT, HIDDEN, {"text": "4"}], "end_turn"),
    ],
)
def test_answers(content: list[Any], stop: str, client: Any, recorder: Any) -> None:
    recorder.answer(answer(content, stopReason=stop))
    theirs = client.converse(modelId=MODEL, messages=ASK)
    ours = CODEC.reply(recorder.answers[0].pieces[0])
    read_alike(ours, theirs["output"]["message"]["content"], theirs["stopReason"], theirs["usage"])


STREAMS: dict[str, bytes] = {
    "text": stream(
        delta(0, {"text": "Grüß "}),
        delta(0, {"text": "Gott"}),
        event("contentBlockStop", {"contentBlockIndex": 0}),
    ),
    "reasoning": stream(
        delta(0, {"reasoningContent": {"text": "2 +"}}),
        delta(0, {"reasoningContent": {"text": " 2"}}),
        delta(0, {"reasoningContent": {"signature": "c2ln"}}),
        delta(1, HIDDEN),
        delta(2, {"text": "4"}),
    ),
    "tool calls in pieces, side by side": stream(
        delta(0, {"text": "I ask."}),
        tool_start(1, "a"),
        tool_start(2, "c"),
        delta(1, {"toolUse": {"input": '{"ci'}}),
        delta(2, {"toolUse": {"input": ""}}),
        delta(1, {"toolUse": {"input": 'ty": "b"}'}}),
        stop="tool_use",
    ),
}  # fmt: skip


def gathered(events: list[dict[str, Any]]) -> list[Any]:
    """The blocks of what the SDK read of a stream."""
    blocks: dict[int, Any] = {}
    for each in events:
        if "contentBlockStart" in each:
            start = each["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        if "contentBlockDelta" not in each:
            continue
        found = each["contentBlockDelta"]
        index, piece = found["contentBlockIndex"], found["delta"]
        if "text" in piece:
            blocks.setdefault(index, {"text": ""})["text"] += piece["text"]
        elif "toolUse" in piece:
            blocks[index]["toolUse"]["input"] += piece["toolUse"]["input"]
        elif "redactedContent" in piece["reasoningContent"]:
            blocks[index] = piece
        else:
            said = blocks.setdefault(index, {"reasoningContent": {"reasoningText": {"text": "", "signature": ""}}})
            for name, text in piece["reasoningContent"].items():
                said["reasoningContent"]["reasoningText"][name] += text
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return [block for _, block in sorted(blocks.items())]


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, client: Any, recorder: Any, read_every_way: Callable[..., Any]) -> None:
    data = STREAMS[name]
    pieces = [data[i : i + 61] for i in range(0, len(data), 61)]
    recorder.answer(pieces, headers={"content-type": "application/vnd.amazon.eventstream"})
    events = events_of(client, messages=ASK)
    deltas, reply = read_every_way(CODEC.decoder, data)
    found = {name: value for each in events for name, value in each.items()}
    read_alike(reply, gathered(events), found["messageStop"]["stopReason"], found["metadata"]["usage"])
    assert "".join(each.text for each in deltas) == reply.text
    assert "".join(each.reasoning for each in deltas) == reply.reasoning
    for index, call in enumerate(reply.tool_calls):
        ours = [each for each in deltas if each.index == index]
        assert (ours[0].id, ours[0].name) == (call.id, call.name)
        assert json.loads("".join(each.arguments for each in ours) or "{}") == call.arguments


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ValidationException", errors.BadRequestError),
        (401, "UnauthorizedException", errors.AuthenticationError),
        (409, "ConflictException", errors.BadRequestError),
        (413, "", errors.RequestTooLargeError),
        (422, "", errors.BadRequestError),
        (400, "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/", errors.BadRequestError),
        (400, "ThrottlingException", errors.RateLimitedError),
        (400, "ServiceQuotaExceededException", errors.QuotaExceededError),
        (403, "AccessDeniedException", errors.PermissionDeniedError),
        (403, "UnrecognizedClientException", errors.AuthenticationError),
        (403, "InvalidSignatureException", errors.AuthenticationError),
        (403, "ExpiredTokenException", errors.AuthenticationError),
        (404, "ResourceNotFoundException", errors.NotFoundError),
        (408, "ModelTimeoutException", errors.CallTimeoutError),
        (424, "ModelErrorException", errors.ServerError),
        (429, "ThrottlingException", errors.RateLimitedError),
        (429, "ModelNotReadyException", errors.OverloadedError),
        (500, "InternalServerException", errors.ServerError),
        (503, "ServiceUnavailableException", errors.OverloadedError),
        (529, "", errors.OverloadedError),
    ],
)
def test_errors(status: int, code: str, kind: type[errors.ProviderError], client: Any, recorder: Any) -> None:
    headers = {"x-amzn-errortype": code} if code else {}
    recorder.answer({"message": "Some words."}, status=status, headers=headers)
    with pytest.raises(botocore.exceptions.ClientError) as theirs:
        client.converse(modelId=MODEL, messages=ASK)
    ours = CODEC.error(status, headers, recorder.answers[0].pieces[0])
    assert type(ours) is kind
    said = theirs.value.response
    assert (ours.status, ours.message) == (said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Message"])
    if code:
        assert ours.code == said["Error"]["Code"]


def read_stream(body: bytes) -> Reply:
    reader = CODEC.decoder()
    reader.feed(body)
    return reader.finish()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("internalServerException", errors.ServerError),
        ("modelStreamErrorException", errors.ServerError),
        ("validationException", errors.BadRequestError),
        ("throttlingException", errors.RateLimitedError),
        ("serviceUnavailableException", errors.OverloadedError),
    ],
)
def test_exceptions_inside_a_stream(code: str, kind: type[Exception], client: Any, recorder: Any) -> None:
    body = event("messageStart", {"role": "assistant"}) + delta(0, {"text": "Hi"}) + exception(code, "It broke.")
    recorder.answer(body, headers={"content-type": "application/vnd.amazon.eventstream"})
    with pytest.raises(botocore.exceptions.EventStreamError) as theirs:
        events_of(client, messages=ASK)
    with pytest.raises(errors.ProviderError) as ours:
        read_stream(body)
    assert type(ours.value) is kind
    said = theirs.value.response["Error"]
    assert (ours.value.code, ours.value.message) == (said["Code"], said["Message"])
    assert ours.value.partial.text == "Hi"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"output": {"mess', b"<html></html>"])
def test_a_broken_body_is_silent_in_the_sdk_and_an_error_here(body: bytes, client: Any, recorder: Any) -> None:
    recorder.answer(body)
    assert "output" not in client.converse(modelId=MODEL, messages=ASK)
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)


def test_an_html_page_is_a_server_error(client: Any, recorder: Any) -> None:
    page = b"<html><body><h1>Bad Gateway</h1></body></html>"
    recorder.answer(page, status=502, headers={"content-type": "text/html"})
    with pytest.raises(botocore.exceptions.ClientError) as theirs:
        client.converse(modelId=MODEL, messages=ASK)
    ours = CODEC.error(502, {}, page)
    assert type(ours) is errors.ServerError
    assert (ours.status, ours.message) == (theirs.value.response["ResponseMetadata"]["HTTPStatusCode"], "Bad Gateway")


def test_a_wrong_checksum_is_an_error_to_both(client: Any, recorder: Any) -> None:
    body = bytearray(STREAMS["text"])
    body[-1] ^= 1  # of the last event, metadata
    recorder.answer(bytes(body), headers={"content-type": "application/vnd.amazon.eventstream"})
    with pytest.raises(botocore.eventstream.ChecksumMismatch):
        events_of(client, messages=ASK)
    with pytest.raises(errors.UnreadableAnswerError, match="checksum") as ours:
        read_stream(bytes(body))
    assert ours.value.partial.text == "Grüß Gott"


@pytest.mark.parametrize("end", [-1, -40, -200, -400])
def test_a_cut_stream_is_silent_in_the_sdk_and_an_error_here(end: int, client: Any, recorder: Any) -> None:
    body = STREAMS["text"][:end]
    recorder.answer(body, headers={"content-type": "application/vnd.amazon.eventstream"})
    events = events_of(client, messages=ASK)
    assert not any("metadata" in each for each in events)
    with pytest.raises(errors.CutStreamError) as cut:
        read_stream(body)
    assert cut.value.partial.text == "Grüß Gott"


VECTORS = [[0.5, 1], [2, -3.0]]
# (model, texts, the SDK's body, the answer, the tokens it counts)
EMBEDDINGS: list[tuple[str, list[str], dict[str, Any], dict[str, Any], int]] = [
    ("amazon.titan-embed-text-v2:0", ["one"], {"inputText": "one", "dimensions": 2},
     {"embedding": VECTORS[0], "inputTextTokenCount": 3}, 3),
    ("cohere.embed-multilingual-v3", ["one", "two"],
     {"texts": ["one", "two"], "input_type": "search_document", "output_dimension": 2}, {"embeddings": VECTORS}, 0),
    ("cohere.embed-v4:0", ["one", "two"],
     {"texts": ["one", "two"], "input_type": "search_document", "output_dimension": 2},
     {"embeddings": {"float": VECTORS}}, 0),
    ("amazon.nova-2-multimodal-embeddings-v1:0", ["one"],
     {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {
         "embeddingPurpose": "GENERIC_INDEX", "embeddingDimension": 2,
         "text": {"truncationMode": "NONE", "value": "one"}}},
     {"embeddings": [{"embeddingType": "TEXT", "embedding": VECTORS[0]}]}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("model", "texts", "body", "answer", "tokens"), EMBEDDINGS)
def test_embeddings(
    model: str, texts: list[str], body: dict[str, Any], answer: dict[str, Any], tokens: int, client: Any, recorder: Any
) -> None:
    """The SDK knows no bodies of InvokeModel: it passes on what it is given and what comes."""
    recorder.answer(answer)
    theirs = client.invoke_model(modelId=model, body=json.dumps(body), contentType="application/json")["body"].read()
    ours = CODEC.embed(model, texts, 2, "document")
    assert (ours.path, json.loads(ours.body)) == (recorder.last.path, recorder.last.json)
    read = CODEC.embeddings(theirs)
    assert (read.vectors, read.input_tokens) == (VECTORS[: len(texts)], tokens)
