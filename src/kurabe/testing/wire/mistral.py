"""Mistral's chat completions: OpenAI's with differences."""

from typing import Any

from kurabe.messages import Reply
from kurabe.testing.wire.base import Call, arguments_of, pieces_of, sse
from kurabe.testing.wire.openai_chat import OpenAIChatWire

_FINISH = {"length": "length", "tool_calls": "tool_calls", "content_filter": "error"}


class MistralWire(OpenAIChatWire):
    """As the types of the mistralai SDK describe it; a tool call streams whole, and usage comes with the last piece."""

    request_id = "mistral-correlation-id"

    def answer(self, call: Call, reply: Reply) -> Any:
        message = {"role": "assistant", "content": _content(reply), "tool_calls": _calls(reply), "prefix": False}
        choice = {"index": 0, "message": message, "finish_reason": _FINISH.get(reply.finish_reason, "stop")}
        return {**_head(call, "chat.completion"), "choices": [choice], "usage": _usage(reply)}

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        head = _head(call, "chat.completion.chunk")
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": [_thinking(piece)]} for piece in pieces_of(reply.reasoning)]
        deltas += [{"content": piece} for piece in pieces_of(reply.text)]
        if reply.tool_calls:
            deltas.append({"content": "", "tool_calls": _calls(reply)})
        chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        last = {"index": 0, "delta": {"content": ""}, "finish_reason": _FINISH.get(reply.finish_reason, "stop")}
        chunks.append({**head, "choices": [last], "usage": _usage(reply)})
        return [*map(sse, chunks), b"data: [DONE]\n\n"]

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        if status == 401:
            return {}, {"detail": message}
        if status == 422:
            return {}, {"detail": [{"type": "value_error", "loc": ["body", "messages"], "msg": message, "input": None}]}
        kind = "rate_limited" if status == 429 else "invalid_request_error" if status < 500 else "internal_server_error"
        return {}, {"object": "error", "message": message, "type": kind, "param": None, "code": "3000"}

    def error_event(self, message: str) -> bytes:
        return sse(self.error(500, message)[1])

    def limits(self, requests: int | None, tokens: int | None, left: int) -> dict[str, str]:
        return {} if tokens is None else {"x-ratelimit-limit-tokens-minute": str(tokens)}


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": f"cmpl-{call.number}", "object": kind, "created": 1_700_000_000, "model": call.model}


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _content(reply: Reply) -> Any:
    if not reply.reasoning:
        return reply.text
    return [_thinking(reply.reasoning), {"type": "text", "text": reply.text}]


def _calls(reply: Reply) -> Any:
    if not reply.tool_calls:
        return None
    return [
        {"id": tool.id, "function": {"name": tool.name, "arguments": arguments_of(tool)}, "index": index}
        for index, tool in enumerate(reply.tool_calls)
    ]


def _usage(reply: Reply) -> dict[str, Any]:
    counts = reply.usage
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
    }
