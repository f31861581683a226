"""What Cohere's chat answers, whole and as a stream."""

from typing import Any, Final

import msgspec

from kurabe.errors import ProviderError, UnreadableAnswerError
from kurabe.messages import (
    Delta,
    FinishReason,
    Part,
    Reasoning,
    Reply,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)
from kurabe.models.codecs._sse import Event
from kurabe.models.codecs._streamed import JsonEvents
from kurabe.models.codecs.base import joined, provider_error, raise_cut, read_arguments, read_json
from kurabe.models.codecs.usage import NOTHING, FloatCount, read_usage, usage_of

PLAN: Final = "tool_plan"
"""The id of a Reasoning part that is the plan before tool calls."""
THINKING: Final = "thinking"
"""The id of a Reasoning part that is thinking."""

_FINISH: Final[dict[str | None, FinishReason]] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}


class _Content(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Source(msgspec.Struct):
    id: str | None = None
    document: dict[str, Any] | None = None
    tool_output: dict[str, Any] | None = None


class _Citation(msgspec.Struct):
    sources: list[_Source] | None = None


class _Message(msgspec.Struct):
    """Lists in a whole answer and in `message-start`, single things in the other events."""

    content: _Content | list[_Content] | str | None = None
    tool_plan: str | None = None
    tool_calls: _Call | list[_Call] | None = None
    citations: _Citation | list[_Citation] | None = None


class _Tokens(msgspec.Struct):
    input_tokens: FloatCount | None = None
    output_tokens: FloatCount | None = None


class _Usage(msgspec.Struct):
    tokens: _Tokens | None = None
    billed_units: _Tokens | None = None
    cached_tokens: FloatCount | None = None


class _Logprob(msgspec.Struct):
    text: str | None = None
    logprobs: list[float] | None = None


class _Answer(msgspec.Struct):
    message: _Message | str | None = None
    """A text in the body of an error."""
    finish_reason: str | None = None
    usage: msgspec.Raw = NOTHING
    logprobs: list[_Logprob] | None = None
    error: str | None = None


class _Delta(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: msgspec.Raw = NOTHING
    error: str | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    logprobs: _Logprob | None = None
    message: str | None = None


def read_answer(body: bytes) -> Reply:
    """Read a whole answer. Raises the typed error of a failed one, with what came as `partial`."""
    answer = read_json(body, _Answer)
    if isinstance(answer.message, str) or (answer.message is None and answer.error):
        raise provider_error(None, "", answer.message or answer.error or "")
    if answer.message is None:
        raise UnreadableAnswerError(f"an answer without a message: {body[:120].decode('utf-8', 'replace')!r}")
    made = _Made()
    made.take(answer.message)
    made.finish_reason, made.usage, made.logprobs = answer.finish_reason, answer.usage, answer.logprobs or []
    if (error := _failure(answer.finish_reason, answer.error)) is not None:
        error.partial = made.reply(body, partial=True)
        raise error
    return made.reply(body, partial=False)


def _failure(finish_reason: str | None, said: str | None) -> ProviderError | None:
    """The typed error of an answer whose finish reason is a failure."""
    failed = finish_reason is not None and finish_reason.startswith(("ERROR", "TIMEOUT"))
    if not failed and not said:
        return None
    return provider_error(None, finish_reason or "", said or "the answer ended so, without a reason")


class _OpenContent(msgspec.Struct):
    pieces: list[str]
    thinks: bool = False


class _OpenCall(msgspec.Struct):
    number: int
    id: str
    name: str
    arguments: list[str]
    whole: bool


class _Made:
    """An answer as it is put together."""

    def __init__(self) -> None:
        self.contents: dict[int, _OpenContent] = {}
        self.plan: list[str] = []
        self.calls: dict[int, _OpenCall] = {}
        self.citations: list[_Citation] = []
        self.logprobs: list[_Logprob] = []
        self.finish_reason: str | None = None
        self.usage = NOTHING

    def take(self, message: _Message) -> None:
        """A whole message."""
        content = message.content
        for i, piece in enumerate([_Content(text=content)] if isinstance(content, str) else _many(content)):
            self.content(i, piece)
        if message.tool_plan:
            self.plan.append(message.tool_plan)
        for i, call in enumerate(_many(message.tool_calls)):
            self.call(i, call, whole=True)
        self.citations += _many(message.citations)

    def content(self, index: int, piece: _Content) -> Delta | None:
        """A piece of text or of thinking."""
        opened = self.contents.get(index)
        if opened is None:
            opened = self.contents[index] = _OpenContent([], piece.type == "thinking" or piece.thinking is not None)
        text = piece.thinking if opened.thinks else piece.text
        if not text:
            return None
        opened.pieces.append(text)
        return Delta(reasoning=text) if opened.thinks else Delta(text=text)

    def call(self, index: int, call: _Call, *, whole: bool) -> Delta:
        """A call, or its beginning."""
        function = call.function or _Function()
        arguments = function.arguments or ""
        opened = _OpenCall(len(self.calls), call.id or "", function.name or "", [arguments], whole)
        self.calls[index] = opened
        return Delta(index=opened.number, id=opened.id, name=opened.name, arguments=arguments)

    def reply(self, raw: bytes, *, partial: bool) -> Reply:
        """A call that is not whole is left out where `partial`; else it raises."""
        parts: list[Part] = []
        for _, content in sorted(self.contents.items()):
            if text := "".join(content.pieces):
                parts.append(Reasoning(text, id=THINKING) if content.thinks else Text(text))
        if plan := "".join(self.plan):
            parts.append(Reasoning(plan, id=PLAN))
        cut: UnreadableAnswerError | None = None
        for call in self.calls.values():
            if partial and not call.whole:
                continue
            try:
                parts.append(ToolCall(call.id, call.name, read_arguments("".join(call.arguments))))
            except UnreadableAnswerError as error:
                cut = error
        finish_reason = _FINISH.get(self.finish_reason, "other")
        if finish_reason == "stop" and self.calls:
            finish_reason = "tool_calls"
        reply = Reply(
            content=joined(parts),
            finish_reason=finish_reason,
            usage=_usage(read_usage(self.usage, _Usage) or _Usage()),
            logprobs=tuple(TokenLogprob(entry.text or "", sum(entry.logprobs or ())) for entry in self.logprobs),
            citations=_addresses(self.citations),
            raw=raw,
        )
        if cut is not None and not partial:
            raise_cut(cut, reply)
        return reply


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _usage(usage: _Usage) -> Usage:
    tokens = usage.tokens or usage.billed_units or _Tokens()
    return usage_of(int(tokens.input_tokens or 0), int(tokens.output_tokens or 0), int(usage.cached_tokens or 0))


def _addresses(citations: list[_Citation]) -> tuple[str, ...]:
    """The address of each source that is cited, once; of one without an address its id."""
    found: dict[str, None] = {}
    for citation in citations:
        for source in citation.sources or ():
            url = (source.document or source.tool_output or {}).get("url")
            if name := url if isinstance(url, str) and url else source.id:
                found[name] = None
    return tuple(found)


class CohereDecoder(JsonEvents):
    """Reads the stream of events of one answer."""

    terminal = "message-end"

    def __init__(self) -> None:
        super().__init__()
        self._made = _Made()

    def _plain(self, body: bytes) -> Reply:
        return read_answer(body)

    def _event(self, event: Event, deltas: list[Delta]) -> None:
        self._apply(read_json(event.data, _Event), event.data, deltas)

    def _apply(self, event: _Event, data: bytes, deltas: list[Delta]) -> None:
        if event.type == "message-end":
            self._end(event.delta or _Delta())
        elif event.type is None or event.type == "error":
            if event.message is None:
                raise UnreadableAnswerError(f"an event that says nothing: {data[:120].decode('utf-8', 'replace')!r}")
            raise provider_error(None, "", event.message)
        elif event.type == "tool-call-end":
            if (opened := self._made.calls.get(event.index or 0)) is not None:
                opened.whole = True
        elif event.delta is not None and event.delta.message is not None:
            delta = self._message(event, event.delta.message)
            if delta is not None:
                deltas.append(delta)
        if event.logprobs is not None:
            self._made.logprobs.append(event.logprobs)

    def _message(self, event: _Event, message: _Message) -> Delta | None:
        kind, index, made = event.type, event.index or 0, self._made
        if kind in ("content-delta", "content-start") and isinstance(message.content, _Content):
            return made.content(index, message.content)
        if kind == "tool-call-delta" and isinstance(message.tool_calls, _Call):
            return self._arguments(index, message.tool_calls)
        if kind == "tool-call-start" and isinstance(message.tool_calls, _Call):
            return made.call(index, message.tool_calls, whole=False)
        if kind == "tool-plan-delta" and message.tool_plan:
            made.plan.append(message.tool_plan)
            return Delta(reasoning=message.tool_plan)
        if kind == "citation-start":
            made.citations += _many(message.citations)
        return None

    def _arguments(self, index: int, call: _Call) -> Delta | None:
        opened = self._made.calls.get(index)
        if opened is None:
            raise UnreadableAnswerError("a piece of a tool call that has not begun")
        text = call.function.arguments if call.function else None
        if not text:
            return None
        opened.arguments.append(text)
        return Delta(index=opened.number, arguments=text)

    def _end(self, delta: _Delta) -> None:
        self._made.finish_reason, self._made.usage = delta.finish_reason, delta.usage
        if (error := _failure(delta.finish_reason, delta.error)) is not None:
            raise error
        self._ended = True

    def _reply(self, *, partial: bool) -> Reply:
        return self._made.reply(self._all(), partial=partial)
