"""Cohere's second version of its API."""

from typing import Any

from kurabe.messages import Reply
from kurabe.testing.wire.base import Asked, Call, Wire, arguments_of, halves, last_user, pieces_of, sse

_FINISH = {"length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "stop": "COMPLETE"}


class CohereWire(Wire):
    """As the types of the cohere SDK describe it."""

    stream_type = "text/event-stream"
    request_id = "x-request-id"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        if method == "GET" and path.endswith("/v1/models"):
            return Asked("models")
        if path.endswith("/v2/chat"):
            return Asked("chat", body["model"], body["stream"], last_user(body["messages"]))
        if path.endswith("/v2/embed"):
            texts = body.get("texts") or ["".join(p["text"] for p in each["content"]) for each in body["inputs"]]
            return Asked("embed", body["model"], texts=texts, dimensions=body.get("output_dimension"))
        if path.endswith("/v2/rerank"):
            return Asked("rerank", body["model"], text=body["query"], texts=body["documents"])
        return None

    def answer(self, call: Call, reply: Reply) -> Any:
        content: list[dict[str, Any]] = [{"type": "thinking", "thinking": reply.reasoning}] if reply.reasoning else []
        if reply.text and not reply.tool_calls:
            content.append({"type": "text", "text": reply.text})
        message: dict[str, Any] = {"role": "assistant"} | ({"content": content} if content else {})
        if reply.tool_calls:
            message["tool_plan"] = reply.text
            message["tool_calls"] = [_call(tool, arguments_of(tool)) for tool in reply.tool_calls]
        return {"id": f"chat-{call.number}", "message": message, **_end(reply)}

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        listed: list[dict[str, Any]] = [
            {"type": "message-start", "id": f"chat-{call.number}", "delta": {"message": start}}
        ]
        blocks = [("thinking", reply.reasoning), ("text", "" if reply.tool_calls else reply.text)]
        for index, (kind, text) in enumerate(block for block in blocks if block[1]):
            listed.append(_content("content-start", index, {"type": kind, kind: ""}))
            listed += [_content("content-delta", index, {kind: piece}) for piece in pieces_of(text)]
            listed.append({"type": "content-end", "index": index})
        if reply.tool_calls:
            listed += [
                {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}
                for piece in pieces_of(reply.text)
            ]
        for index, tool in enumerate(reply.tool_calls):
            began = {"message": {"tool_calls": _call(tool, "")}}
            listed.append({"type": "tool-call-start", "index": index, "delta": began})
            for piece in halves(arguments_of(tool)):
                delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
                listed.append({"type": "tool-call-delta", "index": index, "delta": delta})
            listed.append({"type": "tool-call-end", "index": index})
        listed.append({"type": "message-end", "delta": _end(reply)})
        return [sse(event, event["type"]) for event in listed]

    def embeddings(self, call: Call, vectors: list[list[float]]) -> Any:
        tokens = sum(len(text.split()) for text in call.texts)
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": float(tokens)}}
        return {
            "id": f"embed-{call.number}", "response_type": "embeddings_by_type", "texts": call.texts,
            "embeddings": {"float": vectors}, "meta": meta,
        }  # fmt: skip

    def ranking(self, call: Call, scores: list[tuple[int, float]]) -> Any:
        top = call.json.get("top_n")
        results = [{"index": index, "relevance_score": score} for index, score in scores][:top]
        meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1.0}}
        return {"id": f"rerank-{call.number}", "results": results, "meta": meta}

    def models(self, names: list[str]) -> Any:
        listed = [{"name": name, "endpoints": ["chat"], "finetuned": False, "context_length": 1e5} for name in names]
        return {"models": listed, "next_page_token": None}

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        return {}, {"id": "simulated", "message": message}

    def error_event(self, message: str) -> bytes:
        return sse({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": message}}, "message-end")

    def failed(self, call: Call, message: str) -> Any:
        return {"id": f"chat-{call.number}", "message": {"role": "assistant"}, "finish_reason": "ERROR"}

    def broken_event(self) -> bytes:
        return b'event: content-delta\ndata: {"type": "content-delta, "index": 0\n\n'


def _content(kind: str, index: int, content: dict[str, str]) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": {"content": content}}}


def _call(tool: Any, arguments: str) -> dict[str, Any]:
    return {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": arguments}}


def _end(reply: Reply) -> dict[str, Any]:
    """Counts are floats."""
    counts = reply.usage
    tokens = {"input_tokens": float(counts.input), "output_tokens": float(counts.output)}
    usage = {"billed_units": tokens, "tokens": tokens, "cached_tokens": float(counts.cached)}
    return {"finish_reason": _FINISH.get(reply.finish_reason, "ERROR"), "usage": usage}
