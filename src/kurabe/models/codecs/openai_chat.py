"""OpenAI's chat completions and embeddings, the format that most providers and local servers speak.

What differs between them is told by the words in `Profile.quirks`:

- `no_stream_options`: the server refuses `stream_options`, or sends usage without being asked
- `no_strict`: it refuses `strict` in `response_format`, or takes schemas that strict mode refuses
- `json_object`: it has no `json_schema`; the schema goes into the system text and `json_object` is asked for
- `prefix`: a prefill is an assistant's turn with `"prefix": true` (DeepSeek)
- `continue_final_message`: a prefill needs `continue_final_message` (vLLM, SGLang)
- `reasoning_object`: effort is `{"reasoning": {"effort": …}}` (OpenRouter)
- `thinking_toggle`: no effort at all is `{"thinking": {"type": "disabled"}}` (DeepSeek)
- `send_reasoning_content`, `send_reasoning`: thinking goes back in the field of that name
"""

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from kurabe.errors import InputError, ProviderError, UnreadableAnswerError
from kurabe.messages import (
    Audio,
    Document,
    Embeddings,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from kurabe.models.codecs import _openai_chat_read as read
from kurabe.models.codecs._openai_chat_errors import error_facts, failure
from kurabe.models.codecs.base import (
    BROKEN,
    Codec,
    Decoder,
    HttpRequest,
    Profile,
    data_url,
    json_body,
    merged,
    provider_error,
    read_json,
    result_text,
)
from kurabe.models.codecs.strict import strict_schema
from kurabe.models.codecs.usage import NOTHING, Count, read_usage

_PLAIN = (
    "max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "grammar",
)  # fmt: skip


class OpenAIChat(Codec):
    """OpenAI's chat completions."""

    settings = frozenset(
        {*_PLAIN, "prefill", "stop", "tools", "tool_choice", "parallel_tool_calls", "strict", "output", "reasoning",
         "logprobs"}
    )  # fmt: skip
    parts = frozenset({"text", "tool_call", "tool_result", "reasoning", "image", "audio", "document"})
    batch = 256  # OpenAI takes 2,048 texts, but 300,000 tokens in all
    names: ClassVar[Mapping[str, str]] = {"reasoning": "reasoning_effort"}
    """How a setting is called in the body where it is not its own name."""

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        names = {**self.names, **profile.names}
        body: dict[str, Any] = {"model": model, "messages": self._messages(request, profile)}
        for setting in _PLAIN:
            value = getattr(request, setting)
            if value is not None:
                body[names.get(setting, setting)] = value
        if request.stop:
            body[names.get("stop", "stop")] = request.stop
        if request.logprobs is not None:
            body["logprobs"] = True
            if request.logprobs:
                body["top_logprobs"] = request.logprobs
        if request.tools:
            self._tools(body, request)
        if request.reasoning is not None:
            _effort(body, request.reasoning, names["reasoning"], profile.quirks)
        if request.output is not None:
            body["response_format"] = self._format(request.output, profile.quirks)
        if request.prefill and "continue_final_message" in profile.quirks:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if stream:
            self._streamed(body, profile.quirks)
        return HttpRequest("/chat/completions", json_body(merged(body, request.extra)))

    def reply(self, body: bytes) -> Reply:
        return read.reply(body)

    def decoder(self) -> Decoder:
        return read.ChatDecoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        code, message, _ = error_facts(body)
        return provider_error(status, code, message)

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        body: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        return HttpRequest("/embeddings", json_body(body))

    def embeddings(self, body: bytes) -> Embeddings:
        return _embeddings(body)

    # ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _tools(self, body: dict[str, Any], request: Request) -> None:
        body["tools"] = [_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if choice in ("auto", "none", "required"):
            body["tool_choice"] = choice
        elif choice is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls

    def _format(self, output: OutputFormat, quirks: frozenset[str]) -> dict[str, Any]:
        if "json_object" in quirks:
            return {"type": "json_object"}
        if "no_strict" in quirks:
            return {"type": "json_schema", "json_schema": {"name": output.name, "schema": output.schema}}
        schema = self._strict(output.schema)
        return {"type": "json_schema", "json_schema": {"name": output.name, "strict": True, "schema": schema}}

    def _strict(self, schema: dict[str, Any]) -> dict[str, Any]:
        return strict_schema(schema)

    def _streamed(self, body: dict[str, Any], quirks: frozenset[str]) -> None:
        body["stream"] = True
        if "no_stream_options" not in quirks:
            body["stream_options"] = {"include_usage": True}

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _messages(self, request: Request, profile: Profile) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for message in request.messages:
            if message.role == "assistant":
                made.append(self._assistant(message, profile.quirks))
            elif isinstance(message.content, str):
                made.append({"role": message.role, "content": message.content})
            elif message.role == "system":
                made.append({"role": "system", "content": _only_text(message)})
            else:
                made += self._user(message.content)
        if request.output is not None and "json_object" in profile.quirks:
            made = _told_the_schema(made, request.output)
        if request.prefill:
            made.append(self._prefill(request.prefill, profile.quirks))
        return made

    def _prefill(self, text: str, quirks: frozenset[str]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if "prefix" in quirks:
            message["prefix"] = True
        return message

    def _user(self, parts: tuple[Part, ...]) -> list[dict[str, Any]]:
        """The results of tools first, since they must follow the calls at once, then what else the turn holds."""
        made: list[dict[str, Any]] = []
        content: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, ToolResult):
                made.append(self._result(part))
            else:
                content.append(self._content(part))
        if content or not made:
            made.append({"role": "user", "content": content or ""})
        return made

    def _result(self, part: ToolResult) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": part.id, "content": result_text(part, "this provider")}

    def _content(self, part: Part) -> dict[str, Any]:
        """A part of a user's turn."""
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        if isinstance(part, Image):
            return {"type": "image_url", "image_url": {"url": part.url or data_url(part.media_type, part.data)}}
        if isinstance(part, Audio):
            return self._audio(part)
        if isinstance(part, Document):
            return self._document(part)
        raise InputError(f"a user's turn can't hold a {part.__struct_config__.tag}; it belongs in the assistant's")

    def _audio(self, part: Audio) -> dict[str, Any]:
        if part.url:
            raise InputError("this provider takes sound as data, not by its address; fetch it first")
        kind = part.media_type.partition("/")[2].removeprefix("x-")
        data = base64.b64encode(part.data).decode()
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO.get(kind, kind)}}

    def _document(self, part: Document) -> dict[str, Any]:
        if part.url:
            raise InputError("this provider takes documents as data, not by their address; fetch it first")
        name = part.name or "document." + _ENDINGS.get(part.media_type, part.media_type.rpartition("/")[2])
        return {"type": "file", "file": {"filename": name, "file_data": data_url(part.media_type, part.data)}}

    def _assistant(self, message: Message, quirks: frozenset[str]) -> dict[str, Any]:
        if isinstance(message.content, str):
            return {"role": "assistant", "content": message.content}
        calls = [_call(part) for part in message.content if isinstance(part, ToolCall)]
        text = _only_text(message)
        made: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
        if calls:
            made["tool_calls"] = calls
        if "send_reasoning_content" in quirks:
            made |= _thinking(message, "reasoning_content")
        elif "send_reasoning" in quirks:
            made |= _thinking(message, "reasoning")
        return made


_AUDIO = {"mpeg": "mp3", "wave": "wav", "vnd.wave": "wav"}
_ENDINGS = {"text/plain": "txt", "text/markdown": "md"}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json_body(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _effort(body: dict[str, Any], effort: str, name: str, quirks: frozenset[str]) -> None:
    if "reasoning_object" in quirks:
        body["reasoning"] = {"effort": effort}
    elif effort == "none" and "thinking_toggle" in quirks:
        body["thinking"] = {"type": "disabled"}
    else:
        body[name] = effort


def _only_text(message: Message) -> str:
    """The text of a system's or assistant's turn; raises InputError where it holds what such a turn can't."""
    for part in message.parts:
        allowed = isinstance(part, Text) or (message.role == "assistant" and isinstance(part, Reasoning | ToolCall))
        if not allowed:
            tag = part.__struct_config__.tag
            raise InputError(f"the {message.role}'s turn can't hold a {tag}; put it into a user's turn")
    return message.text


def _thinking(message: Message, field: str) -> dict[str, Any]:
    """A turn's thinking as it goes back: OpenRouter's details as they came, else the text."""
    thoughts = [part for part in message.parts if isinstance(part, Reasoning)]
    details: list[Any] = []
    for part in thoughts:
        with contextlib.suppress(*BROKEN):  # what another provider sealed is no JSON
            details += msgspec.json.decode(part.data, type=list[dict[str, Any]])
    if details:
        return {"reasoning_details": details}
    text = "".join(part.text for part in thoughts)
    return {field: text} if text else {}


def _told_the_schema(messages: list[dict[str, Any]], output: OutputFormat) -> list[dict[str, Any]]:
    """The conversation with the schema in its first system turn, for servers that only promise some JSON object."""
    schema = json_body(output.schema).decode()
    told = f"Answer with one JSON object that follows this JSON Schema, and nothing else:\n{schema}"
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{told}"}, *messages[1:]]
    return [{"role": "system", "content": told}, *messages]


# ── Embeddings ───────────────────────────────────────────────────────────────────────────────────────────────────────
class _Vector(msgspec.Struct, gc=False):
    embedding: str | list[float]
    index: int | None = None


class _Tokens(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None


class _Vectors(msgspec.Struct):
    data: list[_Vector] | None = None
    usage: msgspec.Raw = NOTHING
    error: Any = None


def _embeddings(body: bytes) -> Embeddings:
    """The vectors in the order of the texts, as little-endian float32 bytes or numbers."""
    answer = read_json(body, _Vectors)
    if answer.data is None or answer.error:
        raise failure(body)
    data = answer.data
    if all(one.index is not None for one in data):
        data = sorted(data, key=lambda one: one.index or 0)
        if [one.index for one in data] != list(range(len(data))):
            raise UnreadableAnswerError("vectors that are not numbered 0, 1, 2 and so on")
    usage = read_usage(answer.usage, _Tokens)
    tokens = (usage and usage.prompt_tokens) or 0
    numbers = [one.embedding for one in data if not isinstance(one.embedding, str)]
    if numbers:
        if len(numbers) != len(data):
            raise UnreadableAnswerError("vectors of two kinds in one answer")
        return Embeddings(numbers, tokens)
    return Embeddings([_float_bytes(one.embedding) for one in data if isinstance(one.embedding, str)], tokens)


def _float_bytes(text: str) -> bytes:
    try:
        vector = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableAnswerError(f"a vector that is no base64: {text[:60]!r}") from None
    if not vector or len(vector) % 4:
        raise UnreadableAnswerError(f"a vector of {len(vector):,} bytes, which holds no whole float32 numbers")
    return vector
