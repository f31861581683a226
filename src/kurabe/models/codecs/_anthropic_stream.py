"""What the Messages API answers: a whole message, or a stream of events."""

from typing import Any, Final

import msgspec

from kurabe.errors import UnreadableAnswerError
from kurabe.messages import Delta, FinishReason, Part, Reasoning, Reply, Text, ToolCall, Usage
from kurabe.models.codecs._aws_events import EventStreamReader
from kurabe.models.codecs._sse import Event
from kurabe.models.codecs._streamed import JsonEvents, is_json
from kurabe.models.codecs.base import generic_error, joined, provider_error, raise_cut, read_arguments, read_json
from kurabe.models.codecs.usage import NOTHING, UNKNOWN, Count, is_stated, read_usage, usage_of


class _Citation(msgspec.Struct):
    url: str | None = None


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    citations: list[_Citation] | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Count | None = None


class _Usage(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct):
    type: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = NOTHING


class _Delta(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: _Citation | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    usage: msgspec.Raw = NOTHING
    message: _Message | None = None


class _Chunk(msgspec.Struct):
    """A message of Bedrock's event stream; msgspec reads `bytes` as base64."""

    bytes: bytes


_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_KINDS: Final = frozenset(
    {
        b"message_start", b"content_block_start", b"content_block_delta", b"content_block_stop", b"message_delta",
        b"message_stop",
    }
)  # fmt: skip


def read_message(body: bytes) -> Reply:
    """Read a whole answer; raises the typed error where it is one in spite of its status 200."""
    message = read_json(body, _Message)
    if message.type == "error":
        raise provider_error(None, *generic_error(body))
    if message.content is None:
        raise UnreadableAnswerError(
            f"a message without content; it begins with {body[:120].decode('utf-8', 'replace')!r}"
        )
    parts: list[Part] = []
    urls: dict[str, None] = {}
    for block in message.content:
        if block.type == "text":
            parts.append(Text(block.text or ""))
            urls |= {citation.url: None for citation in block.citations or () if citation.url}
        elif (part := _part(block)) is not None:
            parts.append(part)
    return _reply(parts, urls, message.stop_reason, _read_usage(message.usage), message.model or "", body)


def _part(block: _Block) -> Part | None:
    """A block that is no text, or None for one of the service's own tools, of which the text tells the result."""
    if block.type == "thinking":
        return Reasoning(block.thinking or "", signature=block.signature or "")
    if block.type == "redacted_thinking":
        return Reasoning(data=block.data or "")
    if block.type == "tool_use":
        return ToolCall(block.id or "", block.name or "", block.input or {})
    return None


def _reply(
    parts: list[Part], urls: dict[str, None], stop_reason: str | None, usage: _Usage | None, model: str, raw: bytes
) -> Reply:
    content = joined([part for part in parts if part != Text("")])
    finish = _FINISH.get(stop_reason or "", "other")
    if finish == "stop" and any(isinstance(part, ToolCall) for part in parts):
        finish = "tool_calls"
    return Reply(content, finish, _usage(usage), model=model, citations=tuple(urls), raw=raw)


def _read_usage(block: msgspec.Raw) -> _Usage | None:
    """The counts; None where one of them can be none."""
    return read_usage(block, _Usage) if is_stated(block) else _Usage()


def _usage(usage: _Usage | None) -> Usage:
    if usage is None:
        return UNKNOWN
    cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    return usage_of(
        input=(usage.input_tokens or 0) + cached + written,
        output=usage.output_tokens or 0,
        cached=cached,
        cache_written=written,
        reasoning=(details.thinking_tokens if details else None) or 0,
    )


def _merge(before: _Usage | None, now: _Usage | None) -> _Usage | None:
    """Counts are totals so far: they replace those before, and one that is left out stays as it was. Where some can't
    be read, nothing is known."""
    if before is None or now is None:
        return None
    return _Usage(
        *(
            old if new is None else new
            for old, new in zip(msgspec.structs.astuple(before), msgspec.structs.astuple(now), strict=True)
        )
    )


class _Open:
    """A block of the answer as it grows."""

    __slots__ = ("arguments", "call", "start", "text")

    def __init__(self, start: _Block, call: int | None) -> None:
        self.start = start
        self.call = call
        """The number of this tool call among the answer's; None for other blocks."""
        self.text = [start.text or start.thinking or ""]
        self.arguments: list[str] = []

    def part(self) -> Part | None:
        """Raises UnreadableAnswerError where a call's arguments are no JSON object."""
        if self.start.type == "text":
            return Text("".join(self.text))
        if self.start.type == "thinking":
            return Reasoning("".join(self.text), signature=self.start.signature or "")
        part = _part(self.start)
        if isinstance(part, ToolCall) and (arguments := "".join(self.arguments)):
            return ToolCall(part.id, part.name, read_arguments(arguments))
        return part


class StreamDecoder(JsonEvents):
    """Reads the stream of events of one answer. What an event is says its `event:` line; data without it is skipped."""

    terminal = "message_stop"

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[_Open] = []
        self._by_index: dict[int, _Open] = {}
        self._urls: dict[str, None] = {}
        self._usage: _Usage | None = _Usage()
        self._model = ""
        self._calls = 0
        self._stop_reason: str | None = None

    def _plain(self, body: bytes) -> Reply:
        return read_message(body)

    def _event(self, event: Event, deltas: list[Delta]) -> None:
        if event.event in _KINDS:
            self._apply(event.event.decode(), read_json(event.data, _Event), deltas)
        elif event.event == b"error":
            raise provider_error(None, *generic_error(event.data))

    def _apply(self, kind: str, event: _Event, deltas: list[Delta]) -> None:
        if kind == "content_block_delta":
            if (delta := self._piece(event)) is not None:
                deltas.append(delta)
        elif kind == "content_block_start":
            if (delta := self._start(event)) is not None:
                deltas.append(delta)
        elif kind == "message_delta":
            if event.delta is not None:
                self._stop_reason = event.delta.stop_reason
            self._usage = _merge(self._usage, _read_usage(event.usage))
        elif kind == "message_start":
            if event.message is not None:
                self._model = event.message.model or ""
                self._usage = _read_usage(event.message.usage)
        elif kind == "message_stop":
            self._ended = True

    def _start(self, event: _Event) -> Delta | None:
        block = event.content_block
        if block is None or event.index is None:
            raise UnreadableAnswerError("a content_block_start without its index or block")
        is_call = block.type == "tool_use"
        self._by_index[event.index] = opened = _Open(block, self._calls if is_call else None)
        self._blocks.append(opened)
        self._calls += is_call
        self._cite(block.citations)
        if is_call:
            return Delta(index=opened.call, id=block.id or "", name=block.name or "")
        if block.type == "text" and block.text:
            return Delta(text=block.text)
        if block.type == "thinking" and block.thinking:
            return Delta(reasoning=block.thinking)
        return None

    def _piece(self, event: _Event) -> Delta | None:
        delta = event.delta
        opened = None if event.index is None else self._by_index.get(event.index)
        if delta is None or opened is None:
            raise UnreadableAnswerError("a content_block_delta that belongs to no block")
        kind = opened.start.type
        if delta.type == "text_delta" and kind == "text" and delta.text:
            opened.text.append(delta.text)
            return Delta(text=delta.text)
        if delta.type == "input_json_delta" and opened.call is not None and delta.partial_json:
            opened.arguments.append(delta.partial_json)
            return Delta(index=opened.call, arguments=delta.partial_json)
        if delta.type == "thinking_delta" and kind == "thinking" and delta.thinking:
            opened.text.append(delta.thinking)
            return Delta(reasoning=delta.thinking)
        if delta.type == "signature_delta" and kind == "thinking":
            opened.start.signature = delta.signature
        elif delta.type == "citations_delta" and delta.citation is not None:
            self._cite([delta.citation])
        return None

    def _cite(self, citations: list[_Citation] | None) -> None:
        self._urls |= {citation.url: None for citation in citations or () if citation.url}

    def _reply(self, *, partial: bool) -> Reply:
        """What came. A tool call whose arguments are not whole is left out of a partial answer."""
        parts: list[Part] = []
        cut: UnreadableAnswerError | None = None
        for block in self._blocks:
            try:
                if (part := block.part()) is not None:
                    parts.append(part)
            except UnreadableAnswerError as error:
                cut = error
        reply = _reply(parts, self._urls, self._stop_reason, self._usage, self._model, self._all())
        if cut is not None and not partial:
            raise_cut(cut, reply)
        return reply


class BedrockDecoder(StreamDecoder):
    """Reads the same events in messages of an AWS event stream: `{"bytes": <base64>}`."""

    def __init__(self) -> None:
        super().__init__()
        self._messages = EventStreamReader()

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        if not self._some and is_json(bytes(self._raw[:64])):
            return
        for headers, payload in self._messages.feed(data):
            self._some = True
            kind = headers.get(":message-type", "event")
            if kind != "event":
                code = headers.get(":exception-type") or headers.get(":error-code") or kind
                message = headers.get(":error-message") or generic_error(payload)[1]
                raise provider_error(None, code, message)
            if headers.get(":event-type", "chunk") != "chunk":
                continue
            chunk = read_json(payload, _Chunk).bytes
            event = read_json(chunk, _Event)
            if event.type == "error":
                raise provider_error(None, *generic_error(chunk))
            self._apply(event.type or "", event, deltas)

    def _last(self) -> None:
        self._messages.close()
