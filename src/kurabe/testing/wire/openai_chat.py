"""OpenAI's chat completions and embeddings, and what other providers make of them."""

import base64
import struct
from typing import Any

from kurabe.messages import Reply
from kurabe.testing.wire.base import Asked, Call, Refused, Wire, arguments_of, halves, last_user, pieces_of, sse

_TYPES = {401: "invalid_request_error", 404: "invalid_request_error", 429: "requests", 500: "server_error"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class OpenAIChatWire(Wire):
    """As the types of the openai SDK describe it."""

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        if method == "GET" and path.endswith("/models"):
            return Asked("models")
        if path.endswith("/chat/completions"):
            if not body["messages"]:
                raise Refused(400, "Invalid 'messages': empty array. Expected an array with minimum length 1.")
            return Asked("chat", body["model"], bool(body.get("stream")), last_user(body["messages"]))
        if path.endswith("/embeddings"):
            texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
            return Asked("embed", body["model"], texts=texts, dimensions=body.get("dimensions"))
        return None

    def answer(self, call: Call, reply: Reply) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [
                {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": arguments_of(tool)}}
                for tool in reply.tool_calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
        return {**_head(call, "chat.completion"), "choices": [choice], "usage": usage(reply)}

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        head = _head(call, "chat.completion.chunk")
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"reasoning_content": piece} for piece in pieces_of(reply.reasoning)]
        deltas += [{"content": piece} for piece in pieces_of(reply.text)]
        for index, tool in enumerate(reply.tool_calls):
            function = {"name": tool.name, "arguments": ""}
            deltas.append({"tool_calls": [{"index": index, "id": tool.id, "type": "function", "function": function}]})
            for piece in halves(arguments_of(tool)):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        counted = bool((call.json.get("stream_options") or {}).get("include_usage"))
        extra = {"usage": None} if counted else {}
        chunks = [{**head, "choices": [_choice(delta, None)], **extra} for delta in deltas]
        chunks.append({**head, "choices": [_choice({}, reply.finish_reason)], **extra})
        if counted:
            chunks.append({**head, "choices": [], "usage": usage(reply)})
        return [*map(sse, chunks), b"data: [DONE]\n\n"]

    def embeddings(self, call: Call, vectors: list[list[float]]) -> Any:
        packed = call.json.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(len(text.split()) for text in call.texts)
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": call.model, "usage": counts}

    def models(self, names: list[str]) -> Any:
        listed = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"} for name in names]
        return {"object": "list", "data": listed}

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        return {}, {"error": {"message": message, "type": kind, "param": None, "code": _CODES.get(status)}}

    def error_event(self, message: str) -> bytes:
        return sse({"error": {"message": message, "type": "server_error", "param": None, "code": None}})

    def limits(self, requests: int | None, tokens: int | None, left: int) -> dict[str, str]:
        headers: dict[str, str] = {}
        if requests is not None:
            headers |= {"x-ratelimit-limit-requests": str(requests), "x-ratelimit-remaining-requests": str(left)}
        if tokens is not None:
            headers["x-ratelimit-limit-tokens"] = str(tokens)
        return headers


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{call.number}", "object": kind, "created": 1_700_000_000, "model": call.model}


def _choice(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def usage(reply: Reply) -> dict[str, Any]:
    """Cached tokens are part of the prompt's, and reasoning tokens of the completion's."""
    counts = reply.usage
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {
            "cached_tokens": counts.cached, "cache_write_tokens": counts.cache_written, "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning, "audio_tokens": 0},
    }  # fmt: skip
