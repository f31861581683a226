"""Anthropic's Messages API, directly and on Vertex AI."""

from typing import Any

from kurabe.messages import Reasoning, Reply, Text, ToolCall
from kurabe.testing.wire.base import Asked, Call, Refused, Wire, arguments_of, halves, last_user, pieces_of, sse

_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
_STOP = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class AnthropicWire(Wire):
    """As the types of the anthropic SDK describe it."""

    request_id = "request-id"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        if method == "GET" and path.endswith("/v1/models"):
            return Asked("models")
        if not path.endswith("/v1/messages"):
            return None
        return self._chat(body, body["model"], bool(body.get("stream")))

    def _chat(self, body: Any, model: str, stream: bool) -> Asked:
        if not isinstance(body.get("max_tokens"), int):
            raise Refused(400, "max_tokens: Field required")
        return Asked("chat", model, stream, last_user(body["messages"]))

    def answer(self, call: Call, reply: Reply) -> Any:
        return {
            **_message(call, [_block(part) for part in _parts(reply)]),
            "stop_reason": _STOP.get(reply.finish_reason, "end_turn"),
            "usage": _usage(reply),
        }

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        return [sse(event, event["type"]) for event in stream_events(call, reply)]

    def models(self, names: list[str]) -> Any:
        made = "2026-01-01T00:00:00Z"
        listed = [{"type": "model", "id": name, "display_name": name, "created_at": made} for name in names]
        return {"data": listed, "has_more": False, "first_id": names[0], "last_id": names[-1]}

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {}, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"}

    def error_event(self, message: str) -> bytes:
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")

    def broken_event(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_delta, "index": 0\n\n'

    def limits(self, requests: int | None, tokens: int | None, left: int) -> dict[str, str]:
        headers: dict[str, str] = {}
        if requests is not None:
            headers["anthropic-ratelimit-requests-limit"] = str(requests)
            headers["anthropic-ratelimit-requests-remaining"] = str(left)
        if tokens is not None:
            headers["anthropic-ratelimit-tokens-limit"] = str(tokens)
        return headers


class AnthropicVertexWire(AnthropicWire):
    """The same with the model in the path."""

    request_id = "request-id"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        address, _, action = path.rpartition(":")
        if action not in ("rawPredict", "streamRawPredict"):
            return None
        body["anthropic_version"]
        return self._chat(body, address.rpartition("/")[2], action == "streamRawPredict")


def stream_events(call: Call, reply: Reply) -> list[dict[str, Any]]:
    """The events of a streamed message."""
    usage = _usage(reply)
    begun = {**_message(call, []), "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, part in enumerate(_parts(reply)):
        start, deltas = _pieces(part)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": _STOP.get(reply.finish_reason, "end_turn"), "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": usage["output_tokens"]}})
    events.append({"type": "message_stop"})
    return events


def _parts(reply: Reply) -> list[Any]:
    return [part for part in reply.message.parts if isinstance(part, Text | Reasoning | ToolCall)]


def _block(part: Text | Reasoning | ToolCall) -> dict[str, Any]:
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
    if isinstance(part, Reasoning):
        return {"type": "thinking", "thinking": part.text, "signature": part.signature or "c2ln"}
    return {"type": "text", "text": part.text}


def _pieces(part: Text | Reasoning | ToolCall) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the block as it starts, its deltas)."""
    block = _block(part)
    if isinstance(part, ToolCall):
        text = ["", *halves(arguments_of(part))] if part.arguments else [""]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in text]
    if isinstance(part, Reasoning):
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces_of(part.text)]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signature]
    return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces_of(part.text)]


def _message(call: Call, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{call.number}", "type": "message", "role": "assistant", "model": call.model, "content": content,
        "stop_sequence": None,
    }  # fmt: skip


def _usage(reply: Reply) -> dict[str, Any]:
    """Cached and written tokens stand beside the input's."""
    counts = reply.usage
    return {
        "input_tokens": counts.input - counts.cached - counts.cache_written,
        "cache_read_input_tokens": counts.cached,
        "cache_creation_input_tokens": counts.cache_written,
        "output_tokens": counts.output,
        "service_tier": "standard",
    }
