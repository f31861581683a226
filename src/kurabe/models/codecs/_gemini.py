"""Google's generateContent format: the Gemini API, and the same on Vertex AI.

Sources: the types of google-genai 3.4, and what it sends. Where that mixes camelCase and snake_case we send camelCase,
as the reference does. Bytes go out in URL-safe base64; a thought signature goes back as the text that came.

`finishReason: CONTINUATION` (the limit of one request is reached, the answer is not at its end) is read as `length`.
Google's SDK then sends the whole request again by itself, with the answer's `continuationToken`, until the answer is at
its end. Each time is a further paid call, so that is left to the caller: the token stands in `Reply.raw`, and goes
back by `extra={"continuationToken": …}`.
"""

import base64
from collections.abc import Iterable, Mapping
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
from kurabe.models.codecs._gemini_answer import OWN_ID, StreamDecoder, WireError, find_error, make_error, read_reply
from kurabe.models.codecs._vertex_hosts import vertex_address
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
from kurabe.models.codecs.usage import NOTHING, Count, FloatCount, read_usage

_SETTINGS = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "seed": "seed",
}
_BUDGETS: dict[Effort, int] = {
    "none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576,
}  # fmt: skip
"""Tokens to think with, for models that take a budget (Gemini 2.5): low, medium and high as Google's own OpenAI-format
endpoint has them; minimal is the least that all of them take, and high the most."""
_TASKS = {"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT"}


class Gemini(Codec):
    """The Gemini API. An object in a request's `extra`, such as `generationConfig`, is merged into ours.

    The quirk `thinking_budget` marks models that take a number of tokens to think with and know no levels.
    """

    settings: ClassVar[frozenset[str]] = frozenset(
        {*_SETTINGS, "stop", "tools", "tool_choice", "output", "reasoning", "logprobs"}
    )
    parts: ClassVar[frozenset[str]] = Codec.parts | {"image", "audio", "document"}
    batch: ClassVar[int] = 100
    system_first: ClassVar[bool] = True

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        body = _prompt(request)
        if request.tool_choice:
            body["toolConfig"] = {"functionCallingConfig": _tool_choice(request.tool_choice)}
        if config := _config(request, profile):
            body["generationConfig"] = config
        method, query = ("streamGenerateContent", {"alt": "sse"}) if stream else ("generateContent", {})
        return HttpRequest(f"/{self._path(model)}:{method}", json_body(merged(body, request.extra)), query=query)

    def reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def decoder(self) -> StreamDecoder:
        return StreamDecoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        error = find_error(body)
        return super().error(status, headers, body) if error is None else make_error(error, status)

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        path = self._path(model)
        settings = {"model": path} | _embed_config(dimensions, task)
        body = {"requests": [{"content": _embed_content(text), **settings} for text in texts]}
        return HttpRequest(f"/{path}:batchEmbedContents", json_body(body))

    def embeddings(self, body: bytes) -> Embeddings:
        answer = read_json(body, _EmbedAnswer)
        if answer.error is not None:
            raise make_error(answer.error, None)
        usage = read_usage(answer.usage_metadata, _EmbedUsage)
        tokens = (usage and usage.prompt_token_count) or 0
        if answer.predictions is not None:
            found = [prediction.embeddings for prediction in answer.predictions]
            counted = [read_usage(vector.statistics, _Statistics) for vector in found]
            tokens = int(sum(one.token_count or 0 for one in counted if one is not None))
        elif answer.embeddings is not None:
            found = answer.embeddings
        elif answer.embedding is not None:
            found = [answer.embedding]
        else:
            raise UnreadableAnswerError("an answer without embeddings")
        return Embeddings([vector.values for vector in found], tokens)

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        """Contents alone, or with system text and tools a whole request, which names its model again."""
        path, body = self._path(model), _prompt(as_request(asked))
        if len(body) > 1:
            body = {"generateContentRequest": {"model": path} | body}
        return HttpRequest(f"/{path}:countTokens", json_body(body))

    def counted(self, body: bytes) -> int:
        return read_json(body, _Count).total_tokens

    def models(self) -> HttpRequest:
        return HttpRequest("/models", method="GET", query={"pageSize": "1000"})  # the most; 50 without it

    def model_names(self, body: bytes) -> list[str]:
        return [model.name.removeprefix("models/") for model in read_json(body, _Models).models]

    def _path(self, model: str) -> str:
        return _checked(model if model.startswith(("models/", "tunedModels/")) else f"models/{model}")


class Vertex(Gemini):
    """The same on Vertex AI, below `projects/{project}/locations/{location}`; embeddings have three forms there."""

    def address(self, address: str) -> str:
        """`global`, `us` and `eu` have hosts of their own."""
        return vertex_address(address)

    def batch_of(self, model: str) -> int:
        """Models of others on Vertex embed one text a call."""
        return 1 if "maas" in model else self.batch

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        return HttpRequest(f"/{self._path(model)}:countTokens", json_body(_prompt(as_request(asked))))

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        path, config = self._path(model), _embed_config(dimensions, task)
        if "gemini" not in path and "maas" not in path:
            instance = {"task_type": config.pop("taskType")} if "taskType" in config else {}
            body: dict[str, Any] = {"instances": [{"content": text} | instance for text in texts]}
            if config:
                body["parameters"] = config
            return HttpRequest(f"/{path}:predict", json_body(body))
        asked = [
            {"content": _embed_content(text)} | ({"embedContentConfig": config} if config else {}) for text in texts
        ]
        if len(asked) == 1:
            return HttpRequest(f"/{path}:embedContent", json_body(asked[0]))
        if "maas" in path:
            raise InputError(f"{model} on Vertex embeds one text in a call; give it one text at a time")
        return HttpRequest(f"/{path}:batchEmbedContents", json_body({"requests": asked}))

    def models(self) -> HttpRequest:
        return HttpRequest("/publishers/google/models", method="GET", query={"pageSize": "1000"})

    def model_names(self, body: bytes) -> list[str]:
        names = [model.name.removeprefix("publishers/") for model in read_json(body, _PublisherModels).publisher_models]
        return [name.replace("/models/", "/", 1).removeprefix("google/") for name in names]

    def _path(self, model: str) -> str:
        if model.startswith(("projects/", "publishers/", "models/", "endpoints/")):  # the last: tuned models
            return _checked(model)
        publisher, _, name = model.rpartition("/")
        return _checked(f"publishers/{publisher or 'google'}/models/{name}")


class _Statistics(msgspec.Struct):
    token_count: FloatCount | None = None


class _Vector(msgspec.Struct):
    values: list[float]
    statistics: msgspec.Raw = NOTHING


class _Prediction(msgspec.Struct):
    embeddings: _Vector


class _EmbedUsage(msgspec.Struct, rename="camel"):
    prompt_token_count: Count | None = None


class _EmbedAnswer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector] | None = None  # of batchEmbedContents
    embedding: _Vector | None = None  # of embedContent
    predictions: list[_Prediction] | None = None  # of predict
    usage_metadata: msgspec.Raw = NOTHING
    error: WireError | None = None


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: Count


class _Model(msgspec.Struct):
    name: str


class _Models(msgspec.Struct):
    models: list[_Model] = []


class _PublisherModels(msgspec.Struct, rename="camel"):
    publisher_models: list[_Model] = []


def _checked(path: str) -> str:
    """The model's path, percent-encoded. Raises InputError for one that leads elsewhere."""
    if ".." in path.split("/"):
        raise InputError(f"{path.rpartition('models/')[2]!r} is no name of a model")
    return quote(path, safe="/@")


def _prompt(request: Request) -> dict[str, Any]:
    """What the model reads: turns, system text and tools."""
    body: dict[str, Any] = {"contents": _contents(request.messages)}
    if system := [{"text": turn.text} for turn in request.messages if turn.role == "system"]:
        body["systemInstruction"] = {"parts": system, "role": "user"}
    if request.tools:
        declarations = [
            {"name": tool.name, "parametersJsonSchema": tool.parameters}
            | ({"description": tool.description} if tool.description else {})
            for tool in request.tools
        ]
        body["tools"] = [{"functionDeclarations": declarations}]
    return body


def _config(request: Request, profile: Profile) -> dict[str, Any]:
    config: dict[str, Any] = {
        profile.names.get(name, wire): value
        for name, wire in _SETTINGS.items()
        if (value := getattr(request, name)) is not None
    }
    if request.stop:
        config[profile.names.get("stop", "stopSequences")] = request.stop
    if request.logprobs is not None:
        config["responseLogprobs"] = True
        if request.logprobs:
            config["logprobs"] = request.logprobs
    if request.output is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": request.output.schema}
    if request.reasoning is not None:
        config["thinkingConfig"] = _thinking(request.reasoning, profile)
    return config


def _thinking(effort: Effort, profile: Profile) -> dict[str, Any]:
    if "thinking_budget" in profile.quirks:
        thinking: dict[str, Any] = {"thinkingBudget": _BUDGETS[effort]}
        return thinking if effort == "none" else thinking | {"includeThoughts": True}
    if effort == "none":
        raise InputError("this model always thinks: reasoning 'none' can't be had; 'minimal' is the least")
    return {"thinkingLevel": effort.upper(), "includeThoughts": True}


def _tool_choice(choice: str) -> dict[str, Any]:
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}.get(choice)
    return {"mode": mode} if mode else {"mode": "ANY", "allowedFunctionNames": [choice]}


def _contents(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The turns besides the system's. Turns of nothing but tool results that follow each other become one, since the
    results of parallel calls must stand in the turn after them."""
    contents: list[dict[str, Any]] = []
    after_results = False
    for turn in messages:
        if turn.role == "system":
            continue
        if turn.role == "user" and not turn.parts:  # no turn of the user's vanishes
            turn = Message("user", (Text(""),))
        parts = [wire for part in turn.parts if (wire := _part(part))]
        results = bool(parts) and all(isinstance(part, ToolResult) for part in turn.parts)
        if results and after_results:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"parts": parts, "role": "model" if turn.role == "assistant" else "user"})
        after_results = results
    needs_turn(contents, "Gemini")
    return contents


def _part(part: Part) -> dict[str, Any]:
    """A part as it goes out; empty for what does not: thinking without a signature, which is only a summary."""
    wire: dict[str, Any]
    match part:
        case Text():
            wire = {"text": part.text}
        case Reasoning():
            if not part.signature:
                return {}
            wire = {"text": part.text, "thought": True}
        case ToolCall():
            wire = {"functionCall": _with_id(part.id, {"name": part.name, "args": part.arguments})}
        case ToolResult():
            return {"functionResponse": _with_id(part.id, {"name": part.name, **_response(part)})}
        case Image() | Audio() | Document():
            return _media(part)
    if part.signature:
        wire["thoughtSignature"] = part.signature
    return wire


def _response(result: ToolResult) -> dict[str, Any]:
    """What a tool answered; pictures and documents stand beside the text."""
    media = [_media(part) for part in result.parts if not isinstance(part, Text)]
    return {"response": {"error" if result.error else "output": result.text}} | ({"parts": media} if media else {})


def _with_id(id: str, wire: dict[str, Any]) -> dict[str, Any]:
    return wire if not id or id.startswith(OWN_ID) else {"id": id, **wire}


def _media(part: Image | Audio | Document) -> dict[str, Any]:
    if part.url:
        return {"fileData": {"fileUri": part.url} | ({"mimeType": part.media_type} if part.media_type else {})}
    if not part.data or not part.media_type:
        raise InputError(f"the {type(part).__name__.lower()} needs data with a media type, or an address")
    data = base64.urlsafe_b64encode(part.data).decode()
    return {"inlineData": {"data": data, "mimeType": part.media_type}}


def _embed_content(text: str) -> dict[str, Any]:
    return {"parts": [{"text": text}], "role": "user"}


def _embed_config(dimensions: int | None, task: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {} if task is None else {"taskType": _TASKS[task]}
    return config if dimensions is None else config | {"outputDimensionality": dimensions}
