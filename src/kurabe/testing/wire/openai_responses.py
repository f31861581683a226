"""OpenAI's Responses API."""

from typing import Any

from kurabe.messages import Reasoning, Reply, ToolCall
from kurabe.testing.wire.base import Asked, Call, Wire, arguments_of, halves, last_user, pieces_of, sse
from kurabe.testing.wire.openai_chat import OpenAIChatWire


class OpenAIResponsesWire(OpenAIChatWire):
    """As the types of the openai SDK describe it; embeddings and models as in the chat format."""

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        if not path.endswith("/responses"):
            return None if path.endswith("/completions") else super().asked(method, path, query, body)
        given = body["input"]
        text = given if isinstance(given, str) else last_user(given, ("input_text",))
        return Asked("chat", body["model"], bool(body.get("stream")), text)

    def answer(self, call: Call, reply: Reply) -> Any:
        return _response(call, reply, [_item(call, index, part) for index, part in enumerate(_outputs(reply))])

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        begun = _response(call, None, [])
        listed: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        items = []
        for index, part in enumerate(_outputs(reply)):
            item = _item(call, index, part)
            items.append(item)
            listed += _item_events(index, item)
        whole = _response(call, reply, items)
        listed.append({"type": f"response.{whole['status']}", "response": whole})
        return [sse({**event, "sequence_number": n}, event["type"]) for n, event in enumerate(listed)]

    def error_event(self, message: str) -> bytes:
        event = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 9}
        return sse(event, "error")

    def failed(self, call: Call, message: str) -> Any:
        error = {"code": "server_error", "message": message}
        return {**_response(call, None, []), "status": "failed", "error": error}

    def broken_event(self) -> bytes:
        return b"event: response.output_text.delta\n" + Wire.broken_event(self)


def _outputs(reply: Reply) -> list[str | Reasoning | ToolCall]:
    thoughts = [Reasoning(reply.reasoning)] if reply.reasoning else []
    return [*thoughts, *([reply.text] if reply.text or not reply.tool_calls else []), *reply.tool_calls]


def _item(call: Call, index: int, part: str | Reasoning | ToolCall) -> dict[str, Any]:
    if isinstance(part, ToolCall):
        return {
            "type": "function_call", "id": part.item or f"fc_{call.number}_{index}", "call_id": part.id,
            "name": part.name, "arguments": arguments_of(part), "status": "completed",
        }  # fmt: skip
    if isinstance(part, Reasoning):
        summary = [{"type": "summary_text", "text": part.text}]
        secret = "c2VjcmV0"
        return {"type": "reasoning", "id": f"rs_{call.number}", "summary": summary, "encrypted_content": secret}
    content = [{"type": "output_text", "text": part, "annotations": [], "logprobs": []}]
    return {
        "type": "message", "id": f"msg_{call.number}", "role": "assistant", "status": "completed", "content": content,
    }  # fmt: skip


def _item_events(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    where = {"output_index": index, "item_id": item["id"]}
    if item["type"] == "message":
        text = item["content"][0]["text"]
        spot = {**where, "content_index": 0}
        empty, full = {**item["content"][0], "text": ""}, item["content"][0]
        begun = {**item, "status": "in_progress", "content": []}
        inner = [{"type": "response.content_part.added", **spot, "part": empty}]
        inner += [
            {"type": "response.output_text.delta", **spot, "delta": piece, "logprobs": []} for piece in pieces_of(text)
        ]
        inner.append({"type": "response.output_text.done", **spot, "text": text, "logprobs": []})
        inner.append({"type": "response.content_part.done", **spot, "part": full})
    elif item["type"] == "reasoning":
        spot = {**where, "summary_index": 0}
        part = item["summary"][0]
        begun = {**item, "summary": []}
        inner = [{"type": "response.reasoning_summary_part.added", **spot, "part": {**part, "text": ""}}]
        inner += [
            {"type": "response.reasoning_summary_text.delta", **spot, "delta": piece}
            for piece in pieces_of(part["text"])
        ]
        inner.append({"type": "response.reasoning_summary_text.done", **spot, "text": part["text"]})
        inner.append({"type": "response.reasoning_summary_part.done", **spot, "part": part})
    else:
        begun = {**item, "status": "in_progress", "arguments": ""}
        inner = [
            {"type": "response.function_call_arguments.delta", **where, "delta": piece}
            for piece in halves(item["arguments"])
        ]
        done = {"arguments": item["arguments"], "name": item["name"]}
        inner.append({"type": "response.function_call_arguments.done", **where, **done})
    return [
        {"type": "response.output_item.added", "output_index": index, "item": begun},
        *inner,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _response(call: Call, reply: Reply | None, output: list[dict[str, Any]]) -> dict[str, Any]:
    """The response object; without a reply, one that has just begun."""
    finish = None if reply is None else reply.finish_reason
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish or "")
    status = "in_progress" if reply is None else "incomplete" if reason else "completed"
    return {
        "id": f"resp_{call.number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "metadata": {},
        "model": call.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None if reply is None else _usage(reply),
    }


def _usage(reply: Reply) -> dict[str, Any]:
    counts = reply.usage
    return {
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": counts.cache_written},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input + counts.output,
    }
