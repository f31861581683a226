"""Ollama's own format: `/api/chat` with a stream of JSON lines, `/api/embed`, `/api/tags`.

Sources: https://docs.ollama.com/api and the types of ollama 0.6.3.
"""

from base64 import b64encode
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from kurabe.errors import CutStreamError, InputError, UnreadableAnswerError
from kurabe.messages import (
    Delta,
    Embeddings,
    FinishReason,
    Image,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    text_of,
)
from kurabe.models.codecs._sse import LONGEST
from kurabe.models.codecs._streamed import StreamedAnswer
from kurabe.models.codecs.base import (
    Codec,
    HttpRequest,
    Profile,
    generic_error,
    joined,
    json_body,
    merged,
    provider_error,
    read_json,
    result_text,
)
from kurabe.models.codecs.usage import NOTHING, UNKNOWN, Count, is_stated, read_count, read_usage

_OPTIONS = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
}


class Ollama(Codec):
    """Ollama. What it knows beyond a Request goes through `extra`, such as
    `{"keep_alive": "1h", "options": {"num_ctx": 8192}}`; these options are merged with ours.

    The quirk `think_levels` marks models that take `low`, `medium` and `high`; others think or don't.
    """

    settings: ClassVar[frozenset[str]] = frozenset(
        {*_OPTIONS, "stop", "tools", "tool_choice", "output", "reasoning", "logprobs"}
    )
    parts: ClassVar[frozenset[str]] = Codec.parts | {"image"}
    batch: ClassVar[int] = 128

    def address(self, address: str) -> str:
        """OLLAMA_HOST may be a host, a port or both: `box`, `:8080`, `0.0.0.0:11434`."""
        if "://" in address:
            return address
        try:
            parts = urlsplit("//" + address)
            host, port = parts.hostname or "127.0.0.1", parts.port or 11434
        except ValueError:
            raise InputError(
                f"{address!r} is no address of Ollama: write host, host:port or http://host:port"
            ) from None
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}"

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        body: dict[str, Any] = {"model": model, "messages": _messages(request.messages), "stream": stream}
        options: dict[str, Any] = {}
        for field, name in _OPTIONS.items():
            if (value := getattr(request, field)) is not None:
                options[profile.names.get(field, name)] = value
        if request.stop:
            options["stop"] = request.stop
        if options:
            body["options"] = options
        if request.tool_choice not in (None, "auto", "none"):
            raise InputError("Ollama can't be made to call a tool: tool_choice is 'auto' or 'none'")
        if request.tools and request.tool_choice != "none":
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.output is not None:
            body["format"] = request.output.schema
        if request.reasoning is not None:
            body["think"] = _think(request.reasoning, levels="think_levels" in profile.quirks)
        if request.logprobs is not None:
            body["logprobs"] = True
            if request.logprobs:
                body["top_logprobs"] = request.logprobs
        return HttpRequest("/api/chat", json_body(merged(body, request.extra)))

    def reply(self, body: bytes) -> Reply:
        answer = _Answer()
        answer.add(read_json(body, _Chunk))
        if not answer.came:
            raise UnreadableAnswerError(f"an answer without a message; it begins with {body[:120]!r}")
        return answer.reply(body)

    def decoder(self) -> "LineDecoder":
        return LineDecoder()

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        size = {} if dimensions is None else {"dimensions": dimensions}
        return HttpRequest("/api/embed", json_body({"model": model, "input": texts, **size}))

    def embeddings(self, body: bytes) -> Embeddings:
        answer = read_json(body, _Vectors)
        _raise_error(answer.error)
        if answer.embeddings is None:
            raise UnreadableAnswerError(f"an answer without embeddings; it begins with {body[:120]!r}")
        return Embeddings(answer.embeddings, read_count(answer.prompt_eval_count))

    def models(self) -> HttpRequest:
        return HttpRequest("/api/tags", method="GET")

    def model_names(self, body: bytes) -> list[str]:
        return [model.model for model in read_json(body, _Tags).models or ()]


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _think(effort: str, *, levels: bool) -> bool | str:
    if effort == "none" or not levels:
        return effort != "none"
    return {"minimal": "low", "xhigh": "high"}.get(effort, effort)


def _messages(turns: tuple[Message, ...]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if isinstance(turn.content, str):
            messages.append({"role": turn.role, "content": turn.content} if turn.content else {"role": turn.role})
            continue
        # results first: they must follow the calls
        messages += [_result(part) for part in turn.content if isinstance(part, ToolResult)]
        message: dict[str, Any] = {"role": turn.role}
        if text := text_of(turn.content):
            message["content"] = text
        for part in turn.content:
            _add_part(message, part)
        if len(message) > 1 or (turn.role == "user" and not turn.content):
            messages.append(message)
    return messages


def _result(part: ToolResult) -> dict[str, Any]:
    text = result_text(part, "Ollama")
    return {"role": "tool", "tool_name": part.name} | ({"content": text} if text else {})


def _add_part(message: dict[str, Any], part: Part) -> None:
    if isinstance(part, ToolCall):
        call = {"function": {"name": part.name, "arguments": part.arguments}}
        message.setdefault("tool_calls", []).append(call)
    elif isinstance(part, Image):
        if not part.data:
            raise InputError(f"Ollama fetches no images: load {part.url} and give its bytes with Image.from_bytes")
        message.setdefault("images", []).append(b64encode(part.data).decode())
    elif isinstance(part, Reasoning):
        if part.text:
            message["thinking"] = message.get("thinking", "") + part.text
    elif not isinstance(part, Text | ToolResult):
        raise InputError(f"Ollama takes text and images, no {type(part).__name__.lower()}")


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Logprob(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Top] | None = None


class _Chunk(msgspec.Struct):
    """A line of a stream, or a whole answer."""

    message: _Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    model: str | None = None
    prompt_eval_count: msgspec.Raw = NOTHING
    eval_count: msgspec.Raw = NOTHING
    logprobs: list[_Logprob] | None = None
    error: Any = None


class _Vectors(msgspec.Struct):
    embeddings: list[list[float]] | None = None
    prompt_eval_count: msgspec.Raw = NOTHING
    error: Any = None


class _Tag(msgspec.Struct):
    model: str


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


def _raise_error(error: Any) -> None:
    if error:
        raise provider_error(None, *generic_error(json_body({"error": error})))


class _Answer:
    """What has come of an answer."""

    def __init__(self) -> None:
        self.came = False
        self.done = False
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish: FinishReason = "other"
        self._input = self._output = NOTHING
        self._model = ""

    def add(self, chunk: _Chunk) -> list[Delta]:
        """Take a line in. Raises the typed error where it holds one."""
        _raise_error(chunk.error)
        deltas = []
        if chunk.model:
            self._model = chunk.model
        message = chunk.message
        if message is not None:
            self.came = True
            if message.thinking:
                self._thinking.append(message.thinking)
            if message.content:
                self._text.append(message.content)
            if message.content or message.thinking:
                deltas.append(Delta(message.content or "", message.thinking or ""))
            deltas += [self._add_call(found) for found in message.tool_calls or ()]
        for token in chunk.logprobs or ():
            top = tuple((other.token, other.logprob) for other in token.top_logprobs or ())
            self._logprobs.append(TokenLogprob(token.token, token.logprob, top))
        if is_stated(chunk.prompt_eval_count):
            self._input = chunk.prompt_eval_count
        if is_stated(chunk.eval_count):
            self._output = chunk.eval_count
        if chunk.done:
            self.done = True
        if chunk.done or chunk.done_reason:
            self._finish = _finish(chunk.done_reason)
        return deltas

    def _add_call(self, found: _Call) -> Delta:
        index = len(self._calls)
        # results are matched by the tool's name, so an id of ours serves only the reader
        call = ToolCall(found.id or f"call_{index}", found.function.name, found.function.arguments or {})
        self._calls.append(call)
        return Delta(index=index, id=call.id, name=call.name, arguments=json_body(call.arguments).decode())

    def reply(self, raw: bytes) -> Reply:
        text, thinking = "".join(self._text), "".join(self._thinking)
        parts: list[Part] = [Reasoning(thinking)] if thinking else []
        parts += [Text(text)] if text else []
        finish: FinishReason = "tool_calls" if self._calls and self._finish == "stop" else self._finish
        usage = _usage(self._input, self._output)
        return Reply(
            joined([*parts, *self._calls]), finish, usage, model=self._model, logprobs=tuple(self._logprobs), raw=raw
        )


def _usage(prompt: msgspec.Raw, output: msgspec.Raw) -> Usage:
    """Both counts, or nothing: one alone would be too small a cost."""
    counts = [read_usage(block, Count) if is_stated(block) else 0 for block in (prompt, output)]
    return UNKNOWN if None in counts else Usage(*(count or 0 for count in counts))


def _finish(reason: str | None) -> FinishReason:
    if reason == "length":
        return "length"
    return "stop" if reason in ("stop", None) else "other"  # older servers give no reason


class LineDecoder(StreamedAnswer):
    """Reads a stream of JSON lines; the one with `done: true` is the last."""

    def __init__(self) -> None:
        super().__init__()
        self._answer = _Answer()
        self._rest: list[bytes] = []
        self._pending = 0

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        if b"\n" not in data:
            self._rest.append(data)
            self._pending += len(data)
            if self._pending > LONGEST:
                raise UnreadableAnswerError(f"a line of more than {LONGEST >> 20} MiB")
            return
        *lines, rest = b"".join((*self._rest, data)).split(b"\n")
        self._rest, self._pending = [rest], len(rest)
        for line in lines:
            self._line(line, deltas)

    def _whole(self) -> Reply:
        self._line(b"".join(self._rest), self.late)
        if not self._answer.done:
            raise CutStreamError("no line with `done: true` came")
        return self._reply(partial=False)

    def _line(self, line: bytes, deltas: list[Delta]) -> None:
        if line.strip() and not self._answer.done:
            deltas += self._answer.add(read_json(line, _Chunk))

    def _reply(self, *, partial: bool) -> Reply:
        return self._answer.reply(self._all())
