"""Amazon Bedrock: Converse, and Anthropic's format behind InvokeModel. Streams are AWS event streams."""

import base64
import struct
from typing import Any
from zlib import crc32

import msgspec

from kurabe.messages import Reasoning, Reply, Text, ToolCall
from kurabe.testing.wire.anthropic import AnthropicWire, stream_events
from kurabe.testing.wire.base import Asked, Call, Wire, arguments_of, halves, pieces_of

_ERRORS = {
    400: "ValidationException", 422: "ValidationException", 500: "InternalServerException",
    401: "UnrecognizedClientException", 403: "AccessDeniedException", 404: "ResourceNotFoundException",
    408: "ModelTimeoutException", 424: "ModelErrorException", 429: "ThrottlingException",
    503: "ServiceUnavailableException",
}  # fmt: skip
_STOP = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}
EVENT_STREAM = "application/vnd.amazon.eventstream"


class BedrockWire(Wire):
    """As botocore's model of the service describes it."""

    stream_type = EVENT_STREAM
    request_id = "x-amzn-requestid"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        model, _, action = path.partition("/model/")[2].rpartition("/")
        if action in ("converse", "converse-stream"):
            return Asked("chat", model, action.endswith("stream"), _last_user(body["messages"]))
        if action == "invoke" and "texts" in body:
            return Asked("embed", model, texts=body["texts"], dimensions=body.get("output_dimension"))
        if action == "invoke" and "inputText" in body:
            return Asked("embed", model, texts=[body["inputText"]], dimensions=body.get("dimensions"))
        if action == "invoke":
            settings = body["singleEmbeddingParams"]
            size = settings.get("embeddingDimension")
            return Asked("embed", model, texts=[settings["text"]["value"]], dimensions=size)
        return None

    def answer(self, call: Call, reply: Reply) -> Any:
        content = [_block(part) for part in reply.message.parts if isinstance(part, Text | Reasoning | ToolCall)]
        return {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": _STOP.get(reply.finish_reason, "end_turn"),
            **_metadata(reply),
        }

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        listed: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
        for index, part in enumerate(reply.message.parts):
            spot = {"contentBlockIndex": index}
            if isinstance(part, ToolCall):
                start = {"toolUse": {"toolUseId": part.id, "name": part.name}}
                listed.append(("contentBlockStart", {**spot, "start": start}))
                deltas: list[dict[str, Any]] = [{"toolUse": {"input": each}} for each in halves(arguments_of(part))]
            elif isinstance(part, Reasoning):
                deltas = [{"reasoningContent": {"text": piece}} for piece in pieces_of(part.text)]
                deltas.append({"reasoningContent": {"signature": part.signature or "c2ln"}})
            else:
                deltas = [{"text": piece} for piece in pieces_of(part.text)] if isinstance(part, Text) else []
            listed += [("contentBlockDelta", {**spot, "delta": delta}) for delta in deltas]
            listed.append(("contentBlockStop", spot))
        listed.append(("messageStop", {"stopReason": _STOP.get(reply.finish_reason, "end_turn")}))
        listed.append(("metadata", _metadata(reply)))
        return [event(kind, {**value, "p": "abcdefgh"}) for kind, value in listed]

    def embeddings(self, call: Call, vectors: list[list[float]]) -> Any:
        body = call.json
        if "inputText" in body:
            return {"embedding": vectors[0], "inputTextTokenCount": len(call.texts[0].split())}
        if "texts" in body and "embedding_types" in body:
            return {"id": "simulated", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}}
        if "texts" in body:
            return {"id": "simulated", "response_type": "embeddings_floats", "embeddings": vectors}
        return {"embeddings": [{"embeddingType": "TEXT", "embedding": vectors[0]}]}

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        return _error(status), {"message": message}

    def error_event(self, message: str) -> bytes:
        return event("modelStreamErrorException", {"message": message}, kind="exception")

    def broken_event(self) -> bytes:
        return raw_event({":message-type": "event", ":event-type": "contentBlockDelta"}, b'{"contentBlockIndex: 0')


class AnthropicBedrockWire(AnthropicWire):
    """Messages with the model in the path; each event of a stream is in a chunk of base64."""

    stream_type = EVENT_STREAM
    request_id = "x-amzn-requestid"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        model, _, action = path.partition("/model/")[2].rpartition("/")
        if action not in ("invoke", "invoke-with-response-stream"):
            return None
        body["anthropic_version"]
        return self._chat(body, model, action != "invoke")

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        return [_chunk(msgspec.json.encode(each)) for each in stream_events(call, reply)]

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        return _error(status), {"message": message}

    def error_event(self, message: str) -> bytes:
        return event("modelStreamErrorException", {"message": message}, kind="exception")

    def broken_event(self) -> bytes:
        return _chunk(b'{"type": "content_block_delta, "index": 0')

    def limits(self, requests: int | None, tokens: int | None, left: int) -> dict[str, str]:
        return {}


def event(name: str, value: Any, kind: str = "event") -> bytes:
    """A message of an event stream; `kind` is `event` or `exception`."""
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    return raw_event(headers, msgspec.json.encode(value))


def raw_event(headers: dict[str, str], payload: bytes) -> bytes:
    """A message with text headers: lengths, their CRC-32, headers, payload, the CRC-32 of all before."""
    packed = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return message + struct.pack("!I", crc32(message))


def _chunk(data: bytes) -> bytes:
    return event("chunk", {"bytes": base64.b64encode(data).decode(), "p": "abcdefgh"})


def _error(status: int) -> dict[str, str]:
    kind = _ERRORS.get(status)
    if kind is None:  # from what stands before the service
        return {}
    return {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}


def _last_user(messages: list[Any]) -> str:
    for message in reversed(messages):
        text = "".join(block.get("text", "") for block in message["content"])
        if message["role"] == "user" and text:
            return text
    return ""


def _block(part: Text | Reasoning | ToolCall) -> dict[str, Any]:
    if isinstance(part, ToolCall):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}
    if isinstance(part, Reasoning):
        return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature or "c2ln"}}}
    return {"text": part.text}


def _metadata(reply: Reply) -> dict[str, Any]:
    """Cached and written tokens stand beside the input's."""
    counts = reply.usage
    usage = {
        "inputTokens": counts.input - counts.cached - counts.cache_written,
        "outputTokens": counts.output,
        "totalTokens": counts.input + counts.output,
        "cacheReadInputTokens": counts.cached,
        "cacheWriteInputTokens": counts.cache_written,
    }
    return {"usage": usage, "metrics": {"latencyMs": 12}}
