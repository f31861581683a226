"""OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses), used without stored state.

The provider keeps nothing (`store: false`) unless `extra={"store": True}` says so; a later call can then go on from an
answer by `extra={"previous_response_id": reply.id}`. A reasoning model's thinking comes encrypted and goes back with
the conversation. A status of `failed` inside an HTTP 200, which the SDK passes over, is an error here.
"""

import mimetypes
from typing import Any, ClassVar, Final

import msgspec

from kurabe.errors import InputError
from kurabe.messages import Document, Image, Message, Part, Reasoning, Reply, Request, Text, Tool, ToolCall, ToolResult
from kurabe.models.codecs._openai_responses_answer import ResponsesDecoder, read_answer
from kurabe.models.codecs.base import (
    PLAIN,
    Codec,
    Decoder,
    HttpRequest,
    Profile,
    as_request,
    data_url,
    json_body,
    merged,
    needs_turn,
    read_json,
)
from kurabe.models.codecs.strict import strict_schema

_PHASES: Final = ("commentary", "final_answer")
_ELSEWHERE: Final = frozenset(("previous_response_id", "conversation", "prompt"))
"""Words of `extra` by which the turns come from what the service keeps."""


class OpenAIResponses(Codec):
    """The format of `POST /responses`.

    The quirk `reasoning` marks a model that thinks, from which the encrypted thinking is asked for; others refuse that.
    A message's phase, which newer models want back, is kept as the signature of its Text.
    """

    settings: ClassVar = frozenset(
        ("max_tokens", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls", "strict", "output",
         "reasoning", "logprobs")
    )  # fmt: skip
    parts: ClassVar = frozenset(("text", "image", "document", "tool_call", "tool_result", "reasoning"))

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        """The request. Raises InputError for a part that the format can't express."""
        body = {"model": model, "store": False} | _prompt(request)
        settings = {
            profile.names.get("max_tokens", "max_output_tokens"): request.max_tokens,
            profile.names.get("temperature", "temperature"): request.temperature,
            profile.names.get("top_p", "top_p"): request.top_p,
            "top_logprobs": request.logprobs,
        }
        body |= {name: value for name, value in settings.items() if value is not None}
        if include := _include(request, profile):
            body["include"] = include
        if stream:
            body["stream"] = True
        return HttpRequest("/responses", json_body(merged(body, request.extra)))

    def reply(self, body: bytes) -> Reply:
        """Read a whole answer. Raises the typed error of a failed one, with what came as `partial`."""
        return read_answer(body)

    def decoder(self) -> Decoder:
        return ResponsesDecoder()

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        body = {"model": model} | _prompt(as_request(asked))
        return HttpRequest("/responses/input_tokens", json_body(body))

    def counted(self, body: bytes) -> int:
        return read_json(body, _Count).input_tokens


class _Count(msgspec.Struct):
    input_tokens: int


def _prompt(request: Request) -> dict[str, Any]:
    """What the model reads: instructions, turns, tools, and how it is to answer."""
    instructions, turns = _instructions(request.messages)
    if not _ELSEWHERE.intersection(request.extra):
        needs_turn(turns, "OpenAI's Responses API")
    body: dict[str, Any] = {"instructions": instructions} if instructions else {}
    body["input"] = _input(turns, stored=bool(request.extra.get("store")))
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.output is not None:
        schema = strict_schema(request.output.schema)
        body["text"] = {
            "format": {"type": "json_schema", "name": request.output.name, "schema": schema, "strict": True}
        }
    if request.reasoning is not None:
        body["reasoning"] = {"effort": request.reasoning}
    return body


def _include(request: Request, profile: Profile) -> list[str]:
    include = []
    if "reasoning" in profile.quirks or request.reasoning not in (None, "none"):
        include.append("reasoning.encrypted_content")
    if request.logprobs is not None:
        include.append("message.output_text.logprobs")
    return include


def _tool(tool: Tool) -> dict[str, Any]:
    """`strict` is always said: left out, the service takes the tool as strict, for which every argument must be
    required."""
    made: dict[str, Any] = {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": tool.strict}
    if tool.description:
        made["description"] = tool.description
    return made


def _tool_choice(wish: str) -> Any:
    return wish if wish in ("auto", "none", "required") else {"type": "function", "name": wish}


def _instructions(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """The text of the system turns that stand first, and the other turns."""
    first = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    return "\n\n".join(_only_text(message) for message in messages[:first]), messages[first:]


def _only_text(message: Message) -> str:
    if any(not isinstance(part, Text) for part in message.parts):
        raise InputError("a system turn for OpenAI's Responses API can hold text only")
    return message.text


def _input(messages: tuple[Message, ...], *, stored: bool) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            items.append({"role": "system", "content": _only_text(message)})
        elif message.role == "assistant":
            for part in message.parts:
                items += _assistant_item(part, stored)
        elif isinstance(message.content, str):
            items.append({"role": "user", "content": message.content})
        else:
            items += _user_items(message.content)
    return items


def _user_items(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """Results of tools are items of their own; the rest stands in one message after them."""
    items: list[dict[str, Any]] = []
    content = []
    for part in parts:
        if isinstance(part, ToolResult):
            output = part.content if isinstance(part.content, str) else [_content(one) for one in part.content]
            items.append({"type": "function_call_output", "call_id": part.id, "output": output})
        else:
            content.append(_content(part))
    if content or not parts:
        items.append({"role": "user", "content": content or ""})
    return items


def _content(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        url = part.url or data_url(part.media_type, part.data)
        return {"type": "input_image", "detail": "auto", "image_url": url}
    if isinstance(part, Document) and part.url:
        return {"type": "input_file", "file_url": part.url}
    if isinstance(part, Document):
        name = part.name or "document" + (mimetypes.guess_extension(part.media_type) or "")
        return {"type": "input_file", "filename": name, "file_data": data_url(part.media_type, part.data)}
    raise InputError(f"OpenAI's Responses API takes no {_kind(part)} in a user's turn; leave {part!r} out")


def _assistant_item(part: Part, stored: bool) -> list[dict[str, Any]]:
    """A part of the model's own turn, as an item. Thinking goes back only where the service can read it: encrypted, or
    stored under its id."""
    if isinstance(part, Text):
        message = {"role": "assistant", "content": part.text}
        return [message | {"phase": part.signature}] if part.signature in _PHASES else [message]
    if isinstance(part, ToolCall):
        arguments = json_body(part.arguments).decode()
        call = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments}
        return [call | {"id": part.item}] if part.item else [call]
    if isinstance(part, Reasoning):
        if not part.id or not (part.data or stored):
            return []
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        item: dict[str, Any] = {"type": "reasoning", "id": part.id, "summary": summary}
        return [item | {"encrypted_content": part.data}] if part.data else [item]
    raise InputError(f"OpenAI's Responses API takes no {_kind(part)} in the model's own turn; leave {part!r} out")


def _kind(part: Part) -> str:
    return type(part).__name__.lower()
