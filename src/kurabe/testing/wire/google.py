"""Google's generateContent, for Gemini and on Vertex AI."""

from typing import Any

from kurabe.messages import Reasoning, Reply, Text, ToolCall
from kurabe.testing.wire.base import Asked, Call, Wire, pieces_of, sse

_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_FINISH = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "other": "OTHER"}


class GeminiWire(Wire):
    """As the types of the google-genai SDK describe it."""

    stream_type = "text/event-stream"
    request_id = "x-goog-request-id"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        if method == "GET" and path.endswith("/models"):
            return Asked("models")
        address, _, action = path.rpartition(":")
        model = address.rpartition("/")[2]
        if action in ("generateContent", "streamGenerateContent"):
            return Asked("chat", model, action.startswith("stream"), _last_user(body["contents"]))
        if action == "batchEmbedContents":
            listed = body["requests"]
            return Asked("embed", model, texts=[_text(each["content"]) for each in listed], dimensions=_size(listed[0]))
        if action == "embedContent":
            return Asked("embed", model, texts=[_text(body["content"])], dimensions=_size(body))
        if action == "predict":
            texts = [instance["content"] for instance in body["instances"]]
            return Asked("embed", model, texts=texts, dimensions=_size(body.get("parameters") or {}))
        return None

    def answer(self, call: Call, reply: Reply) -> Any:
        parts = [_part(part) for part in reply.message.parts if isinstance(part, Text | Reasoning | ToolCall)]
        return _response(call, reply, parts, last=True)

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        parts: list[dict[str, Any]] = []
        for part in reply.message.parts:
            if isinstance(part, Text | Reasoning):
                parts += [{**_part(part), "text": piece} for piece in pieces_of(part.text)]
            elif isinstance(part, ToolCall):
                parts.append(_part(part))
        chunks = [_response(call, reply, [part], last=False) for part in parts]
        chunks.append(_response(call, reply, [{"text": ""}], last=True))
        return [sse(chunk)[:-2] + b"\r\n\r\n" for chunk in chunks]

    def embeddings(self, call: Call, vectors: list[list[float]]) -> Any:
        action = call.path.rpartition(":")[2]
        if action == "predict":
            counted = [(vector, len(text.split())) for vector, text in zip(vectors, call.texts, strict=True)]
            return {
                "predictions": [
                    {"embeddings": {"values": vector, "statistics": {"token_count": words, "truncated": False}}}
                    for vector, words in counted
                ]
            }
        if action == "embedContent":
            return {"embedding": {"values": vectors[0]}}
        return {"embeddings": [{"values": vector} for vector in vectors]}

    def models(self, names: list[str]) -> Any:
        methods = ["generateContent", "countTokens"]
        return {
            "models": [
                {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods} for name in names
            ]
        }

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        word = _STATUS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return {}, {"error": {"code": status, "message": message, "status": word}}

    def error_event(self, message: str) -> bytes:
        return sse({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})

    def broken_event(self) -> bytes:
        return b'data: {"candidates": [{"content: \r\n\r\n'


class VertexWire(GeminiWire):
    """The same below a project and a location."""

    def models(self, names: list[str]) -> Any:
        return {"publisherModels": [{"name": f"publishers/google/models/{name}"} for name in names]}


def _last_user(contents: list[Any]) -> str:
    for content in reversed(contents):
        if content.get("role", "user") == "user" and (text := _text(content)):
            return text
    return ""


def _text(content: Any) -> str:
    return "".join(part.get("text") or "" for part in content["parts"])


def _size(settings: Any) -> int | None:
    inner = settings.get("embedContentConfig") or settings
    size = inner.get("outputDimensionality", inner.get("output_dimensionality"))
    return None if size is None else int(size)


def _part(part: Text | Reasoning | ToolCall) -> dict[str, Any]:
    if isinstance(part, ToolCall):
        call = {"name": part.name, "args": part.arguments} | ({"id": part.id} if part.id else {})
        return {"functionCall": call} | ({"thoughtSignature": part.signature} if part.signature else {})
    return {"text": part.text} | ({"thought": True} if isinstance(part, Reasoning) else {})


def _response(call: Call, reply: Reply, parts: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    counts = reply.usage
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if last:
        candidate["finishReason"] = _FINISH.get(reply.finish_reason, "STOP")
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": counts.input,
            "cachedContentTokenCount": counts.cached,
            "candidatesTokenCount": counts.output - counts.reasoning if last else 0,
            "thoughtsTokenCount": counts.reasoning,
            "totalTokenCount": counts.input + (counts.output if last else 0),
        },
        "modelVersion": call.model,
        "responseId": f"response-{call.number}",
    }
