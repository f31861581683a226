"""Ollama's own format."""

from typing import Any

import msgspec

from kurabe.messages import Reply
from kurabe.testing.wire.base import Asked, Call, Wire, last_user, pieces_of

_TIME = "2026-01-01T00:00:00Z"


class OllamaWire(Wire):
    """As the types of the ollama SDK describe it; streams are lines of JSON, and calls stream unless told otherwise."""

    stream_type = "application/x-ndjson"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        if method == "GET" and path.endswith("/api/tags"):
            return Asked("models")
        if path.endswith("/api/chat"):
            return Asked("chat", body["model"], body.get("stream", True), last_user(body["messages"]))
        if path.endswith("/api/embed"):
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            return Asked("embed", body["model"], texts=texts, dimensions=body.get("dimensions"))
        return None

    def answer(self, call: Call, reply: Reply) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.reasoning:
            message["thinking"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = _calls(reply)
        return {"model": call.model, "created_at": _TIME, "message": message, **_end(reply)}

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        head = {"model": call.model, "created_at": _TIME}
        messages: list[dict[str, Any]] = [{"content": "", "thinking": piece} for piece in pieces_of(reply.reasoning)]
        messages += [{"content": piece} for piece in pieces_of(reply.text)]
        if reply.tool_calls:
            messages.append({"content": "", "tool_calls": _calls(reply)})
        lines = [{**head, "message": {"role": "assistant", **message}, "done": False} for message in messages]
        lines.append({**head, "message": {"role": "assistant", "content": ""}, **_end(reply)})
        return [msgspec.json.encode(line) + b"\n" for line in lines]

    def embeddings(self, call: Call, vectors: list[list[float]]) -> Any:
        tokens = sum(len(text.split()) for text in call.texts)
        return {"model": call.model, "embeddings": vectors, "total_duration": 1, "prompt_eval_count": tokens}

    def models(self, names: list[str]) -> Any:
        return {"models": [{"name": name, "model": name, "modified_at": _TIME, "size": 1} for name in names]}

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        return {}, {"error": message}

    def error_event(self, message: str) -> bytes:
        return msgspec.json.encode({"error": message}) + b"\n"

    def broken_event(self) -> bytes:
        return b'{"model": "broken, "message": {\n'


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"id": tool.id, "function": {"index": index, "name": tool.name, "arguments": tool.arguments}}
        for index, tool in enumerate(reply.tool_calls)
    ]


def _end(reply: Reply) -> dict[str, Any]:
    """The reason stays `stop` for tool calls."""
    return {
        "done": True,
        "done_reason": "length" if reply.finish_reason == "length" else "stop",
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": reply.usage.input,
        "prompt_eval_duration": 1_000_000,
        "eval_count": reply.usage.output,
        "eval_duration": 3_000_000,
    }
