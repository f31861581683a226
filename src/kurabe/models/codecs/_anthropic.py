"""The Messages API: Anthropic's own, on Vertex AI and on Amazon Bedrock."""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from kurabe.errors import (
    CallTimeoutError,
    ContextTooLongError,
    InputError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
)
from kurabe.messages import (
    Document,
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
from kurabe.models.codecs._anthropic_schema import closed_schema
from kurabe.models.codecs._anthropic_stream import BedrockDecoder, StreamDecoder, read_message
from kurabe.models.codecs._vertex_hosts import vertex_address
from kurabe.models.codecs.base import (
    PLAIN,
    Codec,
    Decoder,
    HttpRequest,
    Profile,
    as_request,
    generic_error,
    json_body,
    merged,
    needs_turn,
    provider_error,
    read_json,
)
from kurabe.models.codecs.usage import Count

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_EFFORTS: Final = {"minimal": "low"}  # the others have the same name
_BUDGETS: Final = {"minimal": 0.125, "low": 0.25, "medium": 0.5, "high": 0.75, "xhigh": 0.875}
"""The part of max_tokens that a model with a budget of thinking tokens may think."""
_LEAST_BUDGET: Final = 1024
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/yaml", "application/toml")
_MARK: Final = {"cache_control": {"type": "ephemeral"}}
"""Ends a beginning that the service keeps for later calls."""
_MOST_MARKS: Final = 4
_OVER_CONTEXT: Final = re.compile(r"exceed context limit: (\d+) \+ (\d+) > (\d+)")


class Anthropic(Codec):
    """The Messages API at api.anthropic.com.

    `quirks` of a profile: `system_first` (no system turns inside `messages`: their text joins the system prompt),
    `thinking_budget` (a budget of tokens in place of adaptive thinking and effort), `thinking_always` and
    `thinking_between_tools` (what a model does instead of switching thinking off), `unforced_tools` (a model that
    can't be made to call a tool).
    """

    settings = frozenset(
        {
            "max_tokens", "temperature", "top_p", "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls",
            "strict", "cache", "output", "reasoning", "prefill",
        }
    )  # fmt: skip
    parts = Codec.parts | {"image", "document"}

    versions: ClassVar[tuple[str, str]] = ("2026-10-21", "2023-06-01")
    """The format's newest version, and the last one that takes temperature, top_p and top_k, for requests with one."""

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        """The request; `max_tokens` is always in it. Raises InputError for a part or setting it can't express."""
        sampling = any(getattr(request, name) is not None for name in _SAMPLING)
        return self._request(model, _body(request, profile), stream, self.versions[sampling])

    def _request(self, model: str, body: dict[str, Any], stream: bool, version: str) -> HttpRequest:
        body = {"model": model} | body
        if stream:
            body["stream"] = True
        return HttpRequest("/v1/messages", json_body(body), headers={"anthropic-version": version})

    def reply(self, body: bytes) -> Reply:
        return read_message(body)

    def decoder(self) -> Decoder:
        return StreamDecoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        code, message = generic_error(body)
        if found := _OVER_CONTEXT.search(message):
            prompt, answer, limit = (int(number) for number in found.groups())
            return ContextTooLongError(message, tokens=prompt + answer, limit=limit, status=status, code=code)
        return provider_error(status, code, message)

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        body = {"model": model} | _counted(as_request(asked), profile)
        headers = {"anthropic-version": self.versions[0]}
        return HttpRequest("/v1/messages/count_tokens", json_body(body), headers=headers)

    def counted(self, body: bytes) -> int:
        return read_json(body, _Count).input_tokens

    def models(self) -> HttpRequest:
        headers = {"anthropic-version": self.versions[0]}
        return HttpRequest("/v1/models", method="GET", query={"limit": "1000"}, headers=headers)


class AnthropicVertex(Anthropic):
    """The same on Vertex AI; the base address ends in `/publishers/anthropic`."""

    versions = ("2026-10-21", "vertex-2023-10-16")

    def address(self, address: str) -> str:
        """`global`, `us` and `eu` have hosts of their own."""
        return vertex_address(address)

    def _request(self, model: str, body: dict[str, Any], stream: bool, version: str) -> HttpRequest:
        body = {"anthropic_version": version} | body
        if stream:
            body["stream"] = True
        method = "streamRawPredict" if stream else "rawPredict"
        return HttpRequest(f"/models/{quote(model, safe='@:')}:{method}", json_body(body))

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        body = {"anthropic_version": self.versions[0], "model": model} | _counted(as_request(asked), profile)
        return HttpRequest("/models/count-tokens:rawPredict", json_body(body))

    def models(self) -> HttpRequest:
        raise InputError("Vertex AI has no list of Claude models; they stand in its Model Garden")


class AnthropicBedrock(Anthropic):
    """The same on Amazon Bedrock (InvokeModel), with answers in AWS event streams."""

    versions = ("2026-10-21", "bedrock-2023-05-31")

    def _request(self, model: str, body: dict[str, Any], stream: bool, version: str) -> HttpRequest:
        body = {"anthropic_version": version} | body
        method = "invoke-with-response-stream" if stream else "invoke"
        return HttpRequest(f"/model/{quote(model, safe=':')}/{method}", json_body(body))

    def decoder(self) -> Decoder:
        return BedrockDecoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        kind = headers.get("x-amzn-errortype", "").partition(":")[0]
        error = super().error(status, headers, body)
        if kind == "ModelErrorException":  # 424: the model failed, not the request
            error = ServerError(error.message, status=status)
        passing = isinstance(error, RateLimitedError | ServerError | CallTimeoutError)
        if "Throttling" in kind and (
            not passing or isinstance(error, QuotaExceededError)
        ):  # it comes with other statuses than 429 too
            return provider_error(429, kind, error.message)
        error.code = kind or error.code
        return error

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        raise InputError("Bedrock counts tokens by its own format only: name the model 'bedrock:…'")

    def models(self) -> HttpRequest:
        raise InputError("the address that runs Bedrock's models has no list of them; see the Bedrock console")


class _Count(msgspec.Struct):
    input_tokens: Count


def _body(request: Request, profile: Profile) -> dict[str, Any]:
    names = profile.names
    max_tokens = profile.max_tokens if request.max_tokens is None else request.max_tokens
    body: dict[str, Any] = {names.get("max_tokens", "max_tokens"): max_tokens} | _prompt(request, profile, max_tokens)
    for name in _SAMPLING:
        if (value := getattr(request, name)) is not None:
            body[names.get(name, name)] = value
    if request.stop:
        body[names.get("stop", "stop_sequences")] = request.stop
    return merged(body, request.extra)


def _counted(request: Request, profile: Profile) -> dict[str, Any]:
    """What counts of a request. `extra` is that of a chat, which the count does not take."""
    return _prompt(request, profile, profile.max_tokens if request.max_tokens is None else request.max_tokens)


def _prompt(request: Request, profile: Profile, max_tokens: int) -> dict[str, Any]:
    """What the model reads: system text, turns and tools, and how it is to think and answer."""
    marks = sum(message.cache for message in request.messages) + sum(tool.cache for tool in request.tools)
    if marks > _MOST_MARKS:
        raise InputError(
            f"Anthropic takes at most {_MOST_MARKS} turns and tools with cache=True, and here are {marks}; leave it on"
            " the last of them only"
        )
    system, messages = _conversation(request, "system_first" in profile.quirks)
    body: dict[str, Any] = {"messages": messages}
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if choice := _tool_choice(request, profile):
        body["tool_choice"] = choice
    config: dict[str, Any] = {}
    if request.reasoning is not None:
        body["thinking"], effort = thinking(request.reasoning, profile.quirks, max_tokens)
        if effort:
            config["effort"] = effort
    if request.output is not None:
        config["format"] = {"type": "json_schema", "schema": closed_schema(request.output.schema)}
    if config:
        body["output_config"] = config
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    made: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        made["description"] = tool.description
    if tool.strict:
        made["strict"] = True
    return made | _MARK if tool.cache else made


def _tool_choice(request: Request, profile: Profile) -> dict[str, Any] | None:
    wish = request.tool_choice
    if wish is None and (request.parallel_tool_calls is not False or not request.tools):
        return None
    if wish == "none":
        return {"type": "none"}
    choice: dict[str, Any]
    if wish is None or wish == "auto":
        choice = {"type": "auto"}
    elif "unforced_tools" in profile.quirks:
        raise InputError(f"this model can't be made to call a tool (tool_choice={wish!r}); use tool_choice='auto'")
    else:
        choice = {"type": "any"} if wish == "required" else {"type": "tool", "name": wish}
    if request.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return choice


def thinking(effort: str, quirks: frozenset[str], max_tokens: int) -> tuple[dict[str, Any], str | None]:
    """The `thinking` of the body, and the effort of `output_config`; Bedrock's Converse takes both as they are."""
    if effort == "none":
        if "thinking_always" in quirks:
            raise InputError("this model always thinks, so reasoning='none' is not possible; the least is 'low'")
        return {"type": "between_tools" if "thinking_between_tools" in quirks else "disabled"}, None
    if "thinking_budget" in quirks:
        if max_tokens <= _LEAST_BUDGET:
            raise InputError(
                f"to think, this model needs max_tokens above {_LEAST_BUDGET:,}: thinking is a part of it; "
                f"max_tokens is {max_tokens:,}"
            )
        return {"type": "enabled", "budget_tokens": max(_LEAST_BUDGET, int(_BUDGETS[effort] * max_tokens))}, None
    return {"type": "adaptive"}, _EFFORTS.get(effort, effort)


def _conversation(request: Request, system_first: bool) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
    """The system prompt and the turns."""
    system: list[Message] = []
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role == "system" and (system_first or not turns):
            system.append(message)
            continue
        content: Any = message.content
        if message.role == "system":
            content = _system_text(message)
        elif not isinstance(content, str):
            content = _blocks(message.role, content) or ""
        if message.role == "assistant" and not content:
            continue  # the service refuses an empty turn
        if message.cache and content:
            content = _marked(content)
        if _only_results(content) and turns and turns[-1]["role"] == "user" and _only_results(turns[-1]["content"]):
            turns[-1]["content"] += content  # the results of parallel calls belong in one turn
        else:
            turns.append({"role": message.role, "content": content})
    prompt = _system(system)
    needs_turn(turns, "Anthropic")
    if prefill := request.prefill.rstrip():  # the service refuses white space at its end
        turns.append({"role": "assistant", "content": prefill})
    return prompt, turns


def _system(turns: list[Message]) -> str | list[dict[str, Any]]:
    """The system prompt: one text, or blocks where one of the turns is marked."""
    said = [(text, turn.cache) for turn in turns if (text := _system_text(turn))]
    if not any(cache for _, cache in said):
        return "\n\n".join(text for text, _ in said)
    return [{"type": "text", "text": text} | (_MARK if cache else {}) for text, cache in said]


def _marked(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content with a mark on its last block that can have one, which thinking can't."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    last = max((i for i, block in enumerate(blocks) if "thinking" not in block["type"]), default=-1)
    return [block | _MARK if i == last else block for i, block in enumerate(blocks)]


def _system_text(message: Message) -> str:
    if not isinstance(message.content, str) and not all(isinstance(part, Text) for part in message.content):
        raise InputError("a system turn for Anthropic can hold text only")
    return message.text


def _only_results(content: Any) -> bool:
    return isinstance(content, list) and content != [] and all(block["type"] == "tool_result" for block in content)


def _blocks(role: str, parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The blocks of a turn; the results of tools first, as the service demands."""
    blocks = [block for part in parts if (block := _block(role, part)) is not None]
    if role == "user":
        blocks.sort(key=lambda block: block["type"] != "tool_result")
    return blocks


def _block(role: str, part: Part) -> dict[str, Any] | None:
    """One block, or None for what is not sent: an empty text, thinking that another provider's model made."""
    if isinstance(part, Text):
        return {"type": "text", "text": part.text} if part.text else None
    if role == "assistant":
        if isinstance(part, ToolCall):
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
        if isinstance(part, Reasoning):
            if part.id or not (part.signature or part.data):
                return None
            if part.data:
                return {"type": "redacted_thinking", "data": part.data}
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    elif isinstance(part, ToolResult):
        error = {"is_error": True} if part.error else {}
        content = part.content if isinstance(part.content, str) else _blocks(role, part.content)
        return {"type": "tool_result", "tool_use_id": part.id, "content": content} | error
    elif isinstance(part, Image):
        return {"type": "image", "source": _source(part)}
    elif isinstance(part, Document):
        title = {"title": part.name} if part.name else {}
        return {"type": "document", "source": _source(part)} | title
    raise InputError(f"Anthropic takes no {type(part).__name__.lower()} in {role} turns; leave {part!r} out")


def _source(part: Image | Document) -> dict[str, Any]:
    media_type = part.media_type
    readable = isinstance(part, Image) or media_type == "application/pdf"
    if part.url:
        if not readable and media_type:
            raise InputError(f"Anthropic fetches PDF documents only, not {media_type}; send {part.url} as bytes")
        return {"type": "url", "url": part.url}
    if readable:
        return {"type": "base64", "media_type": media_type, "data": base64.b64encode(part.data).decode()}
    if not media_type.startswith(_TEXT_TYPES):
        raise InputError(f"Anthropic reads PDF and text documents, not {media_type or 'an unknown type'}: {part!r}")
    try:
        return {"type": "text", "media_type": "text/plain", "data": part.data.decode("utf-8-sig")}
    except UnicodeDecodeError:
        raise InputError(f"this document is no text in UTF-8: {part!r}; convert it first") from None
