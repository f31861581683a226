"""Amazon Bedrock's Converse and ConverseStream, and embeddings by InvokeModel.

Sources: the service model of botocore 1.44.5 and https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
for what goes into `additionalModelRequestFields`.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from kurabe.errors import InputError, ProviderError, UnreadableAnswerError
from kurabe.messages import (
    Audio,
    Document,
    Effort,
    Embeddings,
    Image,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    Text,
    ToolCall,
    ToolResult,
)
from kurabe.models.codecs._anthropic import thinking
from kurabe.models.codecs._anthropic_schema import closed_schema
from kurabe.models.codecs._bedrock_answer import ConverseDecoder, read_answer, read_error
from kurabe.models.codecs.base import (
    PLAIN,
    Codec,
    HttpRequest,
    Profile,
    as_request,
    json_body,
    merged,
    needs_turn,
    read_json,
)
from kurabe.models.codecs.usage import NOTHING, Count, read_count

_INFERENCE = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_SOUNDS = {
    "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav",
    "audio/flac": "flac", "audio/x-flac": "flac", "audio/ogg": "ogg", "audio/opus": "opus", "audio/aac": "aac",
    "audio/mp4": "mp4", "audio/x-m4a": "m4a", "audio/webm": "webm",
}  # fmt: skip


class Bedrock(Codec):
    """Converse. An object in a request's `extra`, such as `additionalModelRequestFields`, is merged with ours.

    `top_k` is no part of Converse: `names` of a profile says where a model has it in `additionalModelRequestFields`,
    such as `inferenceConfig.topK`. How hard a model is to think is said by `quirks`: `claude` (and those that the codec
    of Anthropic's own format knows), `reasoning_config` (Nova 2), `reasoning_effort` (gpt-oss); without one of them by
    the effort of `outputConfig`. `cache_points` marks models that take breakpoints of the cache, `system_first` those
    that take no system turn inside the conversation.
    """

    settings: ClassVar[frozenset[str]] = frozenset(
        {*_INFERENCE, "top_k", "stop", "tools", "tool_choice", "strict", "cache", "output", "reasoning", "prefill"}
    )
    parts: ClassVar[frozenset[str]] = Codec.parts | {"image", "audio", "document"}
    batch: ClassVar[int] = 1  # Titan and Nova embed one text a call

    def batch_of(self, model: str) -> int:
        """Cohere's models embed 96 texts a call."""
        return 96 if "cohere." in model else self.batch

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        body = _prompt(request, profile)
        inference: dict[str, Any] = {}
        for field, name in _INFERENCE.items():
            if (value := getattr(request, field)) is not None:
                inference[profile.names.get(field, name)] = value
        if request.stop:
            inference["stopSequences"] = request.stop
        if inference:
            body["inferenceConfig"] = inference
        more: dict[str, Any] = {}
        if request.top_k is not None:
            _put(more, profile.names.get("top_k", "top_k"), request.top_k)
        output: dict[str, Any] = {}
        if request.reasoning is not None:
            fields, effort = _reasoning(request.reasoning, profile, request.max_tokens or profile.max_tokens)
            more |= fields
            if effort:
                output["effort"] = effort
        if request.output is not None:
            schema = json_body(closed_schema(request.output.schema)).decode()
            structure = {"jsonSchema": {"name": request.output.name, "schema": schema}}
            output["textFormat"] = {"type": "json_schema", "structure": structure}
        if output:
            body["outputConfig"] = output
        if more:
            body["additionalModelRequestFields"] = more
        return HttpRequest(
            _path(model, "converse-stream" if stream else "converse"), json_body(merged(body, request.extra))
        )

    def reply(self, body: bytes) -> Reply:
        return read_answer(body)

    def decoder(self) -> ConverseDecoder:
        return ConverseDecoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return read_error(status, headers, body)

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        body = {"input": {"converse": _prompt(as_request(asked), profile)}}
        return HttpRequest(_path(model, "count-tokens"), json_body(body))

    def counted(self, body: bytes) -> int:
        return read_json(body, _Count).input_tokens

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        """Titan and Nova take one text a call, Cohere's models 96; the model is told apart by its name."""
        body: dict[str, Any]
        if "cohere." in model:
            body = {"texts": texts, "input_type": "search_query" if task == "query" else "search_document"}
            if dimensions is not None:
                body["output_dimension"] = dimensions
        elif "amazon.nova" in model:
            text = {"truncationMode": "NONE", "value": texts[0]}
            purpose = "GENERIC_RETRIEVAL" if task == "query" else "GENERIC_INDEX"
            settings: dict[str, Any] = {"embeddingPurpose": purpose, "text": text}
            if dimensions is not None:
                settings["embeddingDimension"] = dimensions
            body = {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": settings}
        elif "amazon.titan-embed" in model:
            body = {"inputText": texts[0]}
            if dimensions is not None:
                body["dimensions"] = dimensions
        else:
            raise InputError(
                f"{model} is no embedding model that is known here: Titan, Nova and Cohere's are; "
                "their names hold 'amazon.titan-embed', 'amazon.nova' or 'cohere.'"
            )
        return HttpRequest(_path(model, "invoke"), json_body(body))

    def embeddings(self, body: bytes) -> Embeddings:
        answer = read_json(body, _Vectors)
        found: list[Any] | None = [answer.embedding] if answer.embedding is not None else None
        if isinstance(answer.embeddings, _ByType):
            found = answer.embeddings.numbers
        elif answer.embeddings is not None:
            found = [each.embedding if isinstance(each, _Vector) else each for each in answer.embeddings]
        if found is None:
            raise UnreadableAnswerError(f"an answer without embeddings; it begins with {body[:120]!r}")
        return Embeddings(found, read_count(answer.tokens))

    def models(self) -> HttpRequest:
        raise InputError("the address that runs Bedrock's models has no list of them; see the Bedrock console")


def _path(model: str, action: str) -> str:
    return f"/model/{quote(model, safe='')}/{action}"


def _put(fields: dict[str, Any], path: str, value: Any) -> None:
    """`_put({}, "a.b", 1)` makes `{"a": {"b": 1}}`."""
    *above, name = path.split(".")
    for step in above:
        fields = fields.setdefault(step, {})
    fields[name] = value


def _reasoning(effort: Effort, profile: Profile, max_tokens: int) -> tuple[dict[str, Any], str | None]:
    """What goes into `additionalModelRequestFields`, and the effort of `outputConfig`."""
    quirks, least = profile.quirks, "low" if effort == "minimal" else effort
    if "claude" in quirks:
        fields, level = thinking(effort, quirks, max_tokens)
        return {"thinking": fields}, level
    if "reasoning_config" in quirks:
        if effort == "none":
            return {"reasoningConfig": {"type": "disabled"}}, None
        level = "high" if effort == "xhigh" else least
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}, None
    if effort == "none":
        raise InputError("this model can't be told not to think: reasoning is 'low' or more")
    if "reasoning_effort" in quirks:
        return {"reasoning_effort": "high" if effort == "xhigh" else least}, None
    return {}, least


def _tools(request: Request, profile: Profile) -> dict[str, Any] | None:
    choice = request.tool_choice
    if not request.tools:
        return None
    if choice == "none":
        if any(isinstance(part, ToolCall | ToolResult) for turn in request.messages for part in turn.parts):
            raise InputError(
                "Bedrock wants the tools named once the conversation holds calls of them, and has no tool_choice 'none'"
            )
        return None
    tools: list[dict[str, Any]] = []
    for tool in request.tools:
        spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": tool.parameters}}
        if tool.description:
            spec["description"] = tool.description
        if tool.strict:
            spec["strict"] = True
        tools.append({"toolSpec": spec})
        if tool.cache and "cache_points" in profile.quirks and "claude" in profile.quirks:  # Nova keeps no tools
            tools.append(_POINT)
    if choice is None:
        return {"tools": tools}
    if choice != "auto" and "unforced_tools" in profile.quirks:
        raise InputError(f"this model can't be made to call a tool (tool_choice={choice!r}); use tool_choice='auto'")
    wire: dict[str, Any] = {"tool": {"name": choice}}
    if choice in ("auto", "required"):
        wire = {"auto": {}} if choice == "auto" else {"any": {}}
    return {"tools": tools, "toolChoice": wire}


_POINT: dict[str, Any] = {"cachePoint": {"type": "default"}}
"""Ends a beginning that the service keeps for later calls."""


def _prompt(request: Request, profile: Profile) -> dict[str, Any]:
    """What the model reads: turns, system text and tools. System turns inside the conversation keep their place, but
    for models that take them first only (the quirk `system_first`)."""
    points = "cache_points" in profile.quirks
    apart = "system_first" in profile.quirks
    first: list[Message] = []
    turns: list[Message] = []
    for turn in request.messages:
        (first if turn.role == "system" and (apart or not turns) else turns).append(turn)
    needs_turn(turns, "Bedrock")
    if prefill := request.prefill.rstrip():  # the service refuses white space at its end
        turns.append(Message("assistant", prefill))
    body: dict[str, Any] = {"messages": _messages(turns, points=points)}
    system: list[dict[str, Any]] = []
    for turn in first:
        system += [{"text": turn.text}] if turn.text else []
        system += [_POINT] if turn.cache and points and system else []
    if system:
        body["system"] = system
    if tools := _tools(request, profile):
        body["toolConfig"] = tools
    return body


def _messages(turns: list[Message], *, points: bool) -> list[dict[str, Any]]:
    """The turns. Those of the same role are joined, and what is empty is left out, since the service refuses both; for
    a user's turn in which that leaves nothing, raises InputError."""
    messages: list[dict[str, Any]] = []
    names: set[str] = set()
    for turn in turns:
        blocks = [block for part in turn.parts if (block := _block(turn.role, part, names)) is not None]
        if turn.role == "user":
            if not blocks:
                raise InputError("Bedrock takes no empty turn of the user's; put a text into it, or leave it out")
            blocks.sort(key=lambda block: "toolResult" not in block)  # results must follow the calls
        if blocks and turn.cache and points:
            blocks.append(_POINT)
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": turn.role, "content": blocks})
    return messages


def _block(role: str, part: Part, names: set[str]) -> dict[str, Any] | None:
    """One block, or None for what is not sent: an empty text, thinking that another provider's model made."""
    if isinstance(part, Text):
        return {"text": part.text} if part.text else None
    if isinstance(part, ToolCall):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}
    if isinstance(part, ToolResult):
        content = [block for one in part.parts if (block := _block("user", one, names)) is not None]
        result: dict[str, Any] = {"toolUseId": part.id, "content": content}
        return {"toolResult": result | ({"status": "error"} if part.error else {})}
    if isinstance(part, Reasoning):
        if part.id or not (part.signature or part.data):
            return None
        if part.data:
            return {"reasoningContent": {"redactedContent": part.data}}
        return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}
    if role != "user":
        raise InputError(f"Bedrock takes {type(part).__name__.lower()}s in a user's turn only")
    if isinstance(part, Image):
        return {"image": {"format": _format(part, _IMAGES), "source": _source(part)}}
    if isinstance(part, Audio):
        return {"audio": {"format": _format(part, _SOUNDS), "source": _source(part)}}
    name = _name(part.name, names)
    return {"document": {"format": _format(part, _DOCUMENTS), "name": name, "source": _source(part)}}


def _format(part: Image | Audio | Document, formats: dict[str, str]) -> str:
    media_type = part.media_type.partition(";")[0].strip().lower()
    if media_type not in formats:
        known = ", ".join(dict.fromkeys(formats.values()))
        said = f"of type {media_type!r}" if media_type else "of an unknown type"
        raise InputError(f"Bedrock takes no {type(part).__name__.lower()} {said}; it takes {known}")
    return formats[media_type]


def _source(part: Image | Audio | Document) -> dict[str, Any]:
    if part.url.startswith("s3://"):
        return {"s3Location": {"uri": part.url}}
    if not part.data:
        raise InputError(f"Bedrock fetches from s3:// only: load {part.url or 'the file'} and give its bytes")
    return {"bytes": b64encode(part.data).decode()}


def _name(name: str, names: set[str]) -> str:
    """A name as the service takes it: letters, digits, single spaces, hyphens and brackets; each of a request once."""
    stem = name.rpartition(".")[0] or name
    clean = " ".join(re.sub(r"[^A-Za-z0-9\s()\[\]-]", " ", stem).split())[:190].strip() or "document"
    free, number = clean, 1
    while free in names:
        number += 1
        free = f"{clean} {number}"
    names.add(free)
    return free


class _Vector(msgspec.Struct):
    embedding: list[float]


class _ByType(msgspec.Struct):
    numbers: list[list[float]] | None = msgspec.field(default=None, name="float")


class _Count(msgspec.Struct, rename="camel"):
    input_tokens: Count


class _Vectors(msgspec.Struct):
    """Titan's `embedding`; Cohere's `embeddings` as a list, or by type; Nova's as a list of objects."""

    embedding: list[float] | None = None
    embeddings: list[list[float] | _Vector] | _ByType | None = None
    tokens: msgspec.Raw = msgspec.field(default=NOTHING, name="inputTextTokenCount")
