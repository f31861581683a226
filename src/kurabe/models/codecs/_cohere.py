"""Cohere's API, version 2: chat, embeddings, reranking (https://docs.cohere.com/reference/chat)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from kurabe.errors import AuthenticationError, InputError, ProviderError, QuotaExceededError
from kurabe.messages import (
    Document,
    Embeddings,
    Image,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from kurabe.models.codecs._cohere_answer import PLAN, THINKING, CohereDecoder, read_answer
from kurabe.models.codecs.base import (
    BROKEN,
    PLAIN,
    Codec,
    Decoder,
    HttpRequest,
    Profile,
    Ranking,
    as_request,
    data_url,
    generic_error,
    json_body,
    merged,
    provider_error,
    read_json,
)
from kurabe.models.codecs.usage import NOTHING, FloatCount, read_usage

_NAMES: Final = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
}
_INPUT_TYPES: Final = {"query": "search_query", "document": "search_document", None: "search_document"}
_USED: Final = frozenset(("chat", "embed", "rerank"))
_INVALID_TOKEN: Final = 498


class Cohere(Codec):
    """The format of `POST /v2/chat`, `/v2/embed` and `/v2/rerank`.

    Its thinking has no degrees: every reasoning effort but `none` turns it on (`extra={"thinking": …}` for a budget).
    The plan before tool calls and the thinking are Reasoning parts whose id says which of the two they are.
    """

    settings: ClassVar = frozenset(
        (*_NAMES, "stop", "tools", "tool_choice", "strict", "output", "reasoning", "logprobs")
    )
    parts: ClassVar = frozenset(("text", "image", "tool_call", "tool_result", "reasoning"))
    batch: ClassVar = 96

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        """The request; `stream` is always in it. Raises InputError for a part or wish that the format can't express."""
        body: dict[str, Any] = {"model": model, "messages": _messages(request.messages), "stream": stream}
        for name, own in _NAMES.items():
            if (value := getattr(request, name)) is not None:
                body[profile.names.get(name, own)] = value
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        tools, wish = _tools(request)
        if tools:
            body["tools"] = [_tool(tool) for tool in tools]
        if any(tool.strict for tool in tools):  # it holds for all of them
            body["strict_tools"] = True
        if wish:
            body["tool_choice"] = wish
        if request.output is not None:
            body["response_format"] = {"type": "json_object", "json_schema": request.output.schema}
        if request.reasoning is not None:
            body["thinking"] = {"type": "disabled" if request.reasoning == "none" else "enabled"}
        if request.logprobs is not None:
            if request.logprobs > 0:
                raise InputError("Cohere gives no alternatives to a token; ask for logprobs=0")
            body["logprobs"] = True
        return HttpRequest("/v2/chat", json_body(merged(body, request.extra)))

    def reply(self, body: bytes) -> Reply:
        """Read a whole answer. Raises the typed error of a failed one, with what came as `partial`."""
        return read_answer(body)

    def decoder(self) -> Decoder:
        return CohereDecoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        code, message = generic_error(body)
        facts: dict[str, Any] = {"status": status, "code": code}
        if status == _INVALID_TOKEN:  # Cohere's own status
            return AuthenticationError(message, **facts)
        if status == 429 and "/ month" in message:  # a trial key's monthly calls
            return QuotaExceededError(message, **facts)
        return provider_error(status, code, message)

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        """The request for embeddings; without a task, the texts are documents, as the format demands a kind."""
        body: dict[str, Any] = {"model": model, "texts": texts, "embedding_types": ["float"]}
        body["input_type"] = _INPUT_TYPES.get(task, task)
        if dimensions is not None:
            body["output_dimension"] = dimensions
        return HttpRequest("/v2/embed", json_body(body))

    def embeddings(self, body: bytes) -> Embeddings:
        answer = read_json(body, _Embedded)
        billed = (read_usage(answer.meta, _Meta) or _Meta()).billed_units or _Billed()
        return Embeddings(answer.embeddings.float_, int(billed.input_tokens or 0))

    def rerank(self, model: str, query: str, documents: list[str], top: int | None) -> HttpRequest:
        body: dict[str, Any] = {"model": model, "query": query, "documents": documents}
        if top is not None:
            body["top_n"] = top
        return HttpRequest("/v2/rerank", json_body(body))

    def ranking(self, body: bytes) -> Ranking:
        results = sorted(read_json(body, _Ranked).results, key=lambda result: -result.relevance_score)
        return Ranking(tuple((result.index, result.relevance_score) for result in results))

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        """The tokens of the texts, calls, results and tools, one below the other; the service counts a text only, so
        what its format puts around turns and tools is left out."""
        return HttpRequest("/v1/tokenize", json_body({"text": _as_text(as_request(asked)), "model": model}))

    def counted(self, body: bytes) -> int:
        return len(read_json(body, _Tokenized).tokens)

    def models(self) -> HttpRequest:
        return HttpRequest("/v1/models", method="GET", query={"page_size": "1000"})

    def model_names(self, body: bytes) -> list[str]:
        """The models that chat, embed or rerank."""
        listed = read_json(body, _Models).models
        return [model.name for model in listed if model.endpoints is None or _USED.intersection(model.endpoints)]


def _as_text(request: Request) -> str:
    lines = [json_body(_tool(tool)["function"]).decode() for tool in request.tools]
    if request.output is not None:
        lines.append(json_body(request.output.schema).decode())
    for part in (part for message in request.messages for part in message.parts):
        if isinstance(part, Text | Reasoning):
            lines.append(part.text)
        elif isinstance(part, ToolCall):
            lines.append(json_body({part.name: part.arguments}).decode())
        elif isinstance(part, ToolResult):
            content = _result(part)
            lines.append(content if isinstance(content, str) else json_body(content).decode())
        else:
            raise InputError(f"Cohere counts the tokens of text only; leave {part!r} out")
    return "\n".join(lines)


def _tools(request: Request) -> tuple[tuple[Tool, ...], str]:
    """The tools to send, and the choice among them. One tool can't be named, so it is sent alone and required."""
    wish = request.tool_choice
    if wish in (None, "auto"):
        return request.tools, ""
    if wish in ("none", "required"):
        return request.tools, wish.upper()
    named = tuple(tool for tool in request.tools if tool.name == wish)
    if not named:
        raise InputError(f"tool_choice names the tool {wish!r}, which is not among the tools")
    return named, "REQUIRED"


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "assistant":
            if turn := _assistant(message):
                made.append({"role": "assistant", **turn})
        elif isinstance(message.content, str):
            made.append({"role": message.role, "content": message.content})
        else:
            made += _turns(message.role, message.content)
    return made


def _turns(role: str, parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """Results of tools are turns of their own; the rest stands in one turn after them."""
    turns: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ToolResult) and role == "user":
            turns.append({"role": "tool", "tool_call_id": part.id, "content": _result(part)})
        elif isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image) and role == "user":
            url = part.url or data_url(part.media_type, part.data)
            content.append({"type": "image_url", "image_url": {"url": url}})
        else:
            raise InputError(f"Cohere takes no {type(part).__name__.lower()} in a {role} turn; leave {part!r} out")
    if content or not parts:  # no turn vanishes
        turns.append({"role": role, "content": content or ""})
    return turns


def _result(result: ToolResult) -> str | list[dict[str, Any]]:
    """What a tool answered: a text, or texts and documents that the model can cite."""
    if isinstance(result.content, str):
        return result.content
    return [_result_piece(part) for part in result.content]


def _result_piece(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if not isinstance(part, Document) or part.url:
        raise InputError(f"Cohere takes texts and documents in results of tools, given as bytes; leave {part!r} out")
    return {"type": "document", "document": _document(part)}


def _document(part: Document) -> dict[str, Any]:
    """A document: the fields of a JSON object, or a text with its name as the title; the name is also its id."""
    try:
        text = part.data.decode("utf-8-sig")
        data: Any = msgspec.json.decode(text) if part.media_type == "application/json" else None
    except (UnicodeDecodeError, *BROKEN):
        raise InputError(f"this document is no text in UTF-8, or no JSON: {part!r}; convert it first") from None
    if not isinstance(data, dict):
        data = ({"title": part.name} if part.name else {}) | {"text": text}
    return {"data": data} | ({"id": part.name} if part.name else {})


def _assistant(message: Message) -> dict[str, Any]:
    """The model's own turn. Thinking of another provider's model is left out."""
    content: list[dict[str, Any]] = []
    calls = []
    plan = ""
    for part in message.parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, ToolCall):
            arguments = json_body(part.arguments).decode()
            calls.append({"id": part.id, "type": "function", "function": {"name": part.name, "arguments": arguments}})
        elif isinstance(part, Reasoning):
            if part.id == PLAN:
                plan += part.text
            elif part.id == THINKING:
                content.append({"type": "thinking", "thinking": part.text})
        else:
            raise InputError(
                f"Cohere takes no {type(part).__name__.lower()} in the model's own turn; leave {part!r} out"
            )
    turn: dict[str, Any] = {}
    if content:
        thinks = any(piece["type"] == "thinking" for piece in content)
        turn["content"] = content if thinks else message.text
    if plan:
        turn["tool_plan"] = plan
    if calls:
        turn["tool_calls"] = calls
    return turn


class _Billed(msgspec.Struct):
    input_tokens: FloatCount | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None


class _Floats(msgspec.Struct):
    float_: list[list[float]] = msgspec.field(name="float")


class _Embedded(msgspec.Struct):
    embeddings: _Floats
    meta: msgspec.Raw = NOTHING


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Tokenized(msgspec.Struct):
    tokens: list[int]


class _Ranked(msgspec.Struct):
    results: list[_Result]


class _Model(msgspec.Struct):
    name: str
    endpoints: list[str] | None = None


class _Models(msgspec.Struct):
    models: list[_Model]
