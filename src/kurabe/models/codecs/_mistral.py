"""Mistral: OpenAI's chat format with another word here and there, and thinking inside the content."""

import base64
from typing import Any

from kurabe.messages import Audio, Document, Message, Reasoning, Request, ToolCall, ToolResult
from kurabe.models.codecs.base import HttpRequest, Profile, data_url, json_body, needs_turn
from kurabe.models.codecs.openai_chat import OpenAIChat


class Mistral(OpenAIChat):
    """Mistral's chat completions."""

    batch = 32  # one call embeds some 16,000 tokens at most
    names = {**OpenAIChat.names, "seed": "random_seed"}  # noqa: RUF012

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        body: dict[str, Any] = {"model": model, "input": texts}
        if dimensions is not None:
            body["output_dimension"] = dimensions
        return HttpRequest("/embeddings", json_body(body))

    def _messages(self, request: Request, profile: Profile) -> list[dict[str, Any]]:
        needs_turn([turn for turn in request.messages if turn.role != "system"], "Mistral")
        return super()._messages(request, profile)

    def _strict(self, schema: dict[str, Any]) -> dict[str, Any]:
        closed: dict[str, Any] = _closed(schema)
        return closed

    def _streamed(self, body: dict[str, Any], quirks: frozenset[str]) -> None:
        body["stream"] = True  # the last event brings usage unasked

    def _prefill(self, text: str, quirks: frozenset[str]) -> dict[str, Any]:
        return {"role": "assistant", "content": text, "prefix": True}

    def _audio(self, part: Audio) -> dict[str, Any]:
        return {"type": "input_audio", "input_audio": part.url or base64.b64encode(part.data).decode()}

    def _document(self, part: Document) -> dict[str, Any]:
        made = {"type": "document_url", "document_url": part.url or data_url(part.media_type, part.data)}
        if part.name:
            made["document_name"] = part.name
        return made

    def _result(self, part: ToolResult) -> dict[str, Any]:
        """The service takes pictures and documents in a result too, and wants the tool's name."""
        content = part.content if isinstance(part.content, str) else [self._content(one) for one in part.content]
        return {"role": "tool", "tool_call_id": part.id, "name": part.name, "content": content}

    def _assistant(self, message: Message, quirks: frozenset[str]) -> dict[str, Any]:
        made = super()._assistant(message, quirks)
        if any(isinstance(part, Reasoning) for part in message.parts):
            made["content"] = [
                _thought(part) if isinstance(part, Reasoning) else self._content(part)
                for part in message.parts
                if not isinstance(part, ToolCall)
            ]
        return made


def _thought(part: Reasoning) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
    if part.signature:
        made["signature"] = part.signature
    return made


def _closed(schema: Any) -> Any:
    """A copy in which every object is closed, as the mistralai SDK makes a schema strict."""
    if isinstance(schema, dict):
        made = {name: _closed(value) for name, value in schema.items()}
        return made | {"additionalProperties": False} if schema.get("type") == "object" else made
    return [_closed(value) for value in schema] if isinstance(schema, list) else schema
