"""What OpenAI's Responses API answers, whole and as a stream."""

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
)
from kurabe.models.codecs._sse import Event
from kurabe.models.codecs._streamed import JsonEvents
from kurabe.models.codecs.base import joined, provider_error, raise_cut, read_arguments, read_json
from kurabe.models.codecs.usage import NOTHING, Count, read_usage, usage_of


class _Annotation(msgspec.Struct):
    type: str | None = None
    url: str | None = None


class _Top(msgspec.Struct):
    token: str | None = None
    logprob: float | None = None


class _Logprob(msgspec.Struct):
    token: str | None = None
    logprob: float | None = None
    top_logprobs: list[_Top] | None = None


class _Content(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    annotations: list[_Annotation] | None = None
    logprobs: list[_Logprob] | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    """Text in a function call; tools of the provider have other types here."""
    content: list[_Content] | None = None
    summary: list[_Content] | None = None
    encrypted_content: str | None = None
    phase: str | None = None


class _Cached(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _Thought(msgspec.Struct):
    reasoning_tokens: Count | None = None


class _Usage(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _Cached | None = None
    output_tokens_details: _Thought | None = None


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Answer(msgspec.Struct):
    status: str | None = None
    error: _Error | str | None = None
    incomplete_details: _Incomplete | None = None
    output: list[_Item] | None = None
    usage: msgspec.Raw = NOTHING
    model: str | None = None
    id: str | None = None


class _Event(msgspec.Struct):
    type: str
    delta: str | None = None
    output_index: int | None = None
    summary_index: int | None = None
    item: _Item | None = None
    response: _Answer | None = None
    code: str | int | None = None
    message: str | None = None
    error: _Error | str | None = None


def read_answer(body: bytes) -> Reply:
    """Read a whole answer. Raises the typed error of a failed one, with what came as `partial`."""
    answer = read_json(body, _Answer)
    if answer.output is None and answer.error is None and answer.status != "failed":
        raise UnreadableAnswerError(f"an answer without output: {body[:120].decode('utf-8', 'replace')!r}")
    if (error := _failure(answer)) is not None:
        error.partial = _reply(answer, answer.output or [], body, partial=True)
        raise error
    return _reply(answer, answer.output or [], body, partial=False)


def _failure(answer: _Answer) -> ProviderError | None:
    """The typed error of an answer that says it failed."""
    if answer.error is None and answer.status != "failed":
        return None
    return _typed(answer.error or _Error(message="the answer's status is 'failed', without a reason"))


def _typed(error: _Error | str) -> ProviderError:
    if isinstance(error, str):
        return provider_error(None, "", error)
    return provider_error(None, str(error.code or error.type or ""), error.message or "")


def _reply(answer: _Answer, items: list[_Item], raw: bytes, *, partial: bool) -> Reply:
    """The Reply of these items. A call whose arguments can't be read is left out where `partial`; else it raises."""
    parts: list[Part] = []
    cut: UnreadableAnswerError | None = None
    for item in items:
        try:
            if (part := _part(item)) is not None:
                parts.append(part)
        except UnreadableAnswerError as error:
            cut = error
    contents = [content for item in items if item.type == "message" for content in item.content or ()]
    notes = [note for content in contents for note in content.annotations or ()]
    usage = read_usage(answer.usage, _Usage) or _Usage()
    cached, thought = usage.input_tokens_details or _Cached(), usage.output_tokens_details or _Thought()
    reply = Reply(
        content=joined(parts),
        finish_reason=_finish_reason(answer, parts, contents, partial),
        usage=usage_of(
            usage.input_tokens or 0,
            usage.output_tokens or 0,
            cached.cached_tokens or 0,
            cached.cache_write_tokens or 0,
            thought.reasoning_tokens or 0,
        ),
        model=answer.model or "",
        logprobs=tuple(_logprob(entry) for content in contents for entry in content.logprobs or ()),
        citations=tuple(dict.fromkeys(note.url for note in notes if note.type == "url_citation" and note.url)),
        raw=raw,
        id=answer.id or "",
    )
    if cut is not None and not partial:
        raise_cut(cut, reply)
    return reply


def _part(item: _Item) -> Part | None:
    """The part that an item is, or None for one of the provider's own tools."""
    if item.type == "message":
        text = "".join(content.text or content.refusal or "" for content in item.content or ())
        return Text(text, item.phase or "") if text else None
    if item.type == "function_call":
        return ToolCall(item.call_id or "", item.name or "", _arguments(item.arguments), item=item.id or "")
    if item.type == "reasoning":
        shown = item.summary or item.content or ()
        text = "\n\n".join(content.text for content in shown if content.text)
        return Reasoning(text, data=item.encrypted_content or "", id=item.id or "")
    return None


def _arguments(value: Any) -> dict[str, Any]:
    if value is None or isinstance(value, str):
        return read_arguments(value or "")
    if isinstance(value, dict):
        return value
    raise UnreadableAnswerError(f"arguments of a tool call that are no text: {value!r:.200}")


def _finish_reason(answer: _Answer, parts: list[Part], contents: list[_Content], partial: bool) -> FinishReason:
    if answer.status == "incomplete":
        reason = answer.incomplete_details.reason if answer.incomplete_details else None
        if reason == "max_output_tokens":
            return "length"
        return "content_filter" if reason == "content_filter" else "other"
    if partial or answer.status not in ("completed", None):
        return "other"
    if any(content.refusal for content in contents):
        return "content_filter"
    return "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"


def _logprob(entry: _Logprob) -> TokenLogprob:
    top = tuple((other.token or "", other.logprob or 0.0) for other in entry.top_logprobs or ())
    return TokenLogprob(entry.token or "", entry.logprob or 0.0, top)


class _Open:
    """An item of the stream that is not whole yet: how it began, and the pieces since."""

    def __init__(self, item: _Item, call: int | None) -> None:
        self.item = item
        self.call = call
        self.pieces: list[str] = []
        self.done = False

    def so_far(self) -> _Item:
        if self.done or not self.pieces:
            return self.item
        text, item = "".join(self.pieces), self.item
        if item.type == "function_call":
            return msgspec.structs.replace(item, arguments=text)
        if item.type == "reasoning":
            return msgspec.structs.replace(item, summary=[_Content(text=text)])
        return msgspec.structs.replace(item, content=[_Content(text=text)])


_PIECES: Final = {
    "response.output_text.delta": "message",
    "response.refusal.delta": "message",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "function_call",
}
_TERMINAL: Final = ("response.completed", "response.incomplete", "response.failed")


class ResponsesDecoder(JsonEvents):
    terminal = "response.completed"

    def __init__(self) -> None:
        super().__init__()
        self._items: dict[int, _Open] = {}
        self._answer = _Answer()
        self._calls = 0

    def _plain(self, body: bytes) -> Reply:
        return read_answer(body)

    def _event(self, event: Event, deltas: list[Delta]) -> None:
        self._apply(read_json(event.data, _Event), deltas)

    def _apply(self, event: _Event, deltas: list[Delta]) -> None:
        kind = event.type
        if kind in _PIECES:
            if event.delta:
                deltas.append(self._piece(self._open(event, _PIECES[kind]), event.delta))
        elif kind == "response.output_item.added":
            self._added(event, deltas)
        elif kind == "response.output_item.done":
            self._done(event, deltas)
        elif kind == "response.reasoning_summary_part.added":
            opened = self._open(event, "reasoning")
            if opened.pieces:
                deltas.append(self._piece(opened, "\n\n"))
        elif kind in _TERMINAL:
            self._end(event)
        elif kind == "error" or event.error is not None:
            raise _typed(event.error or _Error(event.code, message=event.message))
        elif event.response is not None:
            self._answer = event.response

    def _open(self, event: _Event, kind: str) -> _Open:
        if event.output_index is None:
            raise UnreadableAnswerError(f"{event.type} without its output_index")
        opened = self._items.get(event.output_index)
        if opened is None:
            opened = self._items[event.output_index] = self._new(_Item(kind))
        return opened

    def _new(self, item: _Item) -> _Open:
        is_call = item.type == "function_call"
        self._calls += is_call
        return _Open(item, self._calls - 1 if is_call else None)

    def _piece(self, opened: _Open, text: str) -> Delta:
        opened.pieces.append(text)
        if opened.call is not None:
            return Delta(index=opened.call, arguments=text)
        return Delta(reasoning=text) if opened.item.type == "reasoning" else Delta(text=text)

    def _added(self, event: _Event, deltas: list[Delta]) -> None:
        if event.item is None or event.output_index is None:
            raise UnreadableAnswerError(f"{event.type} without its output_index or item")
        opened = self._items[event.output_index] = self._new(event.item)
        if opened.call is not None:
            deltas.append(Delta(index=opened.call, id=event.item.call_id or "", name=event.item.name or ""))

    def _done(self, event: _Event, deltas: list[Delta]) -> None:
        """The whole item. What did not come in pieces, as from some servers, comes here."""
        if event.item is None or event.output_index is None:
            raise UnreadableAnswerError(f"{event.type} without its output_index or item")
        if event.output_index not in self._items:
            self._added(event, deltas)
        opened = self._items[event.output_index]
        if not opened.pieces and (text := _text(event.item)):
            deltas.append(self._piece(opened, text))
        opened.item, opened.done = event.item, True

    def _end(self, event: _Event) -> None:
        if event.response is None:
            raise UnreadableAnswerError(f"{event.type} without its response")
        self._answer = event.response
        status = event.type.removeprefix("response.")
        self._answer.status = self._answer.status or status
        if status == "failed" or self._answer.error is not None:
            self._answer.status = "failed"
            raise _failure(self._answer) or UnreadableAnswerError("response.failed without an error")
        self._ended = True

    def _reply(self, *, partial: bool) -> Reply:
        items = self._answer.output if self._ended else None
        if not items:
            opened = [self._items[index] for index in sorted(self._items)]
            items = [one.so_far() for one in opened if one.done or one.call is None or not partial]
        return _reply(self._answer, items, self._all(), partial=partial)


def _text(item: _Item) -> str:
    """What a whole item says, as its pieces would."""
    if item.type == "function_call":
        return item.arguments if isinstance(item.arguments, str) else ""
    part = _part(item) if item.type in ("message", "reasoning") else None
    return part.text if isinstance(part, Text | Reasoning) else ""
