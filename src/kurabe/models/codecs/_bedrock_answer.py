"""What Amazon Bedrock's Converse answers: whole, as an event stream, and as an error."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kurabe.errors import CutStreamError, ProviderError, QuotaExceededError, UnreadableAnswerError
from kurabe.messages import Delta, FinishReason, Part, Reasoning, Reply, Text, ToolCall, Usage
from kurabe.models.codecs._aws_events import EventStreamReader
from kurabe.models.codecs._streamed import StreamedAnswer, is_json
from kurabe.models.codecs.base import BROKEN, generic_error, joined, provider_error, read_arguments, read_json
from kurabe.models.codecs.usage import NOTHING, UNKNOWN, Count, read_usage, usage_of


class _TokenUsage(msgspec.Struct, rename="camel"):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None

    def usage(self) -> Usage:
        """`inputTokens` leaves out what was read from a cache or written to one; ours counts all."""
        cached, written = self.cache_read_input_tokens or 0, self.cache_write_input_tokens or 0
        return usage_of((self.input_tokens or 0) + cached + written, self.output_tokens or 0, cached, written)


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None
    type: str | None = None
    """`server_tool_use` for a tool that Bedrock itself has called already."""


class _ReasoningText(msgspec.Struct):
    text: str | None = None
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class _Web(msgspec.Struct):
    url: str | None = None


class _Location(msgspec.Struct):
    web: _Web | None = None


class _Citation(msgspec.Struct):
    location: _Location | None = None

    @property
    def url(self) -> str:
        return (self.location.web.url if self.location and self.location.web else None) or ""


class _Cited(msgspec.Struct):
    text: str | None = None


class _Citations(msgspec.Struct):
    content: list[_Cited] | None = None
    citations: list[_Citation] | None = None


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Citations | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None


class _Output(msgspec.Struct):
    message: _Message


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str | None = None
    usage: msgspec.Raw = NOTHING


_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def read_answer(body: bytes) -> Reply:
    """A whole answer. A body without `output`, which the SDK passes on, is an UnreadableAnswerError."""
    answer = read_json(body, _Answer)
    parts: list[Part] = []
    cited: list[str] = []
    for block in answer.output.message.content or ():
        if block.text:
            parts.append(Text(block.text))
        elif (call := block.tool_use) is not None:
            if call.type != "server_tool_use":
                parts.append(ToolCall(call.tool_use_id, call.name, call.input or {}))
        elif (thought := block.reasoning_content) is not None:
            said = thought.reasoning_text or _ReasoningText()
            parts.append(Reasoning(said.text or "", said.signature or "", thought.redacted_content or ""))
        elif (found := block.citations_content) is not None:
            parts += [Text(piece.text) for piece in found.content or () if piece.text]
            cited += [citation.url for citation in found.citations or ()]
    return _reply(parts, answer.stop_reason, read_usage(answer.usage, _TokenUsage), cited, body)


def _reply(
    parts: list[Part], stop_reason: str | None, usage: _TokenUsage | None, cited: list[str], raw: bytes
) -> Reply:
    finish = _FINISH.get(stop_reason or "", "other")
    if finish == "stop" and any(isinstance(part, ToolCall) for part in parts):
        finish = "tool_calls"
    citations = tuple(dict.fromkeys(url for url in cited if url))
    return Reply(joined(parts), finish, usage.usage() if usage else UNKNOWN, citations=citations, raw=raw)


class _ToolStart(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    type: str | None = None


class _Start(msgspec.Struct, rename="camel"):
    tool_use: _ToolStart | None = None


class _BlockStart(msgspec.Struct, rename="camel"):
    content_block_index: int
    start: _Start | None = None


class _BlockStop(msgspec.Struct, rename="camel"):
    content_block_index: int


class _ToolDelta(msgspec.Struct):
    input: str | None = None


class _ReasoningDelta(msgspec.Struct, rename="camel"):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolDelta | None = None
    reasoning_content: _ReasoningDelta | None = None
    citation: _Citation | None = None


class _BlockDelta(msgspec.Struct, rename="camel"):
    content_block_index: int
    delta: _Delta


class _Stop(msgspec.Struct, rename="camel"):
    stop_reason: str | None = None


class _Metadata(msgspec.Struct):
    usage: msgspec.Raw = NOTHING


_start = msgspec.json.Decoder(_BlockStart).decode
_delta = msgspec.json.Decoder(_BlockDelta).decode
_block_stop = msgspec.json.Decoder(_BlockStop).decode
_stop = msgspec.json.Decoder(_Stop).decode
_metadata = msgspec.json.Decoder(_Metadata).decode


class _Building:
    """A block of which pieces are coming; `call` is the number of a tool call among the answer's, else None."""

    def __init__(self, start: _ToolStart | None, call: int | None) -> None:
        self.start = start
        self.call = call
        self.ended = False
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.signature: list[str] = []
        self.redacted: list[str] = []
        self.arguments: list[str] = []

    def parts(self, *, partial: bool) -> list[Part]:
        """Its parts; where `partial`, without a tool call that is not at its end, and without what can't be read."""
        parts: list[Part] = []
        if self.text:
            parts.append(Text("".join(self.text)))
        if self.reasoning or self.signature or self.redacted:
            try:
                data = _joined(self.redacted)
            except UnreadableAnswerError:
                if not partial:
                    raise
                data = ""
            parts.append(Reasoning("".join(self.reasoning), "".join(self.signature), data))
        if self.start is not None and self.call is not None and (self.ended or not partial):
            try:
                arguments = read_arguments("".join(self.arguments))
            except UnreadableAnswerError:
                if not partial:
                    raise
            else:
                parts.append(ToolCall(self.start.tool_use_id, self.start.name, arguments))
        return parts


def _joined(pieces: list[str]) -> str:
    """Bytes in pieces, each in base64, as one base64 text."""
    if len(pieces) < 2:
        return "".join(pieces)
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece, validate=True) for piece in pieces)).decode()
    except (binascii.Error, ValueError) as error:
        raise UnreadableAnswerError(f"redacted reasoning that is no base64: {error}") from None


class ConverseDecoder(StreamedAnswer):
    """Reads a ConverseStream; `metadata`, which comes after `messageStop`, is its last event."""

    def __init__(self) -> None:
        super().__init__()
        self._reader = EventStreamReader()
        self._blocks: dict[int, _Building] = {}
        self._calls = 0
        self._stop_reason: str | None = None
        self._stopped = False
        self._usage: _TokenUsage | None = None
        self._cited: list[str] = []
        self._plain: bool | None = None

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        if self._plain is None and data:
            self._plain = is_json(data)
        if self._plain:  # a server that can't stream sends the whole answer
            return
        for headers, payload in self._reader.feed(data):
            if (delta := self._event(headers, payload)) is not None:
                deltas.append(delta)

    def _whole(self) -> Reply:
        if self._plain:
            return read_answer(self._all())
        self._reader.close()
        if not self._stopped or self._usage is None:
            raise CutStreamError(f"no event {'metadata' if self._stopped else 'messageStop'} came")
        return self._reply(partial=False)

    def _event(self, headers: dict[str, str], payload: bytes) -> Delta | None:
        kind = headers.get(":event-type")
        if headers.get(":message-type") in ("exception", "error") or kind is None:
            raise _event_error(headers, payload)
        try:
            if kind == "contentBlockDelta":
                return self._delta(_delta(payload))
            if kind == "contentBlockStart":
                return self._start(_start(payload))
            if kind == "contentBlockStop":
                if (block := self._blocks.get(_block_stop(payload).content_block_index)) is not None:
                    block.ended = True
            elif kind == "messageStop":
                self._stop_reason, self._stopped = _stop(payload).stop_reason, True
            elif kind == "metadata":
                self._usage = read_usage(_metadata(payload).usage, _TokenUsage) or _TokenUsage()
        except BROKEN as error:
            said = payload[:120].decode("utf-8", "replace")
            raise UnreadableAnswerError(f"an event {kind} that is not what Bedrock sends ({error}): {said!r}") from None
        return None

    def _start(self, event: _BlockStart) -> Delta | None:
        start = event.start.tool_use if event.start else None
        if start is None:
            return None
        ours = start.type != "server_tool_use"
        block = self._blocks[event.content_block_index] = _Building(start, self._calls if ours else None)
        if not ours:
            return None
        self._calls += 1
        return Delta(index=block.call, id=start.tool_use_id, name=start.name)

    def _delta(self, event: _BlockDelta) -> Delta | None:
        delta = event.delta
        block = self._blocks.get(event.content_block_index)
        if block is None:
            block = self._blocks[event.content_block_index] = _Building(None, None)
        if delta.text:
            block.text.append(delta.text)
            return Delta(delta.text)
        if delta.tool_use is not None:
            if block.start is None:
                raise UnreadableAnswerError("a piece of a tool call that never began")
            piece = delta.tool_use.input
            if not piece or block.call is None:
                return None
            block.arguments.append(piece)
            return Delta(index=block.call, arguments=piece)
        if (thought := delta.reasoning_content) is not None:
            if thought.signature:
                block.signature.append(thought.signature)
            if thought.redacted_content:
                block.redacted.append(thought.redacted_content)
            if thought.text:
                block.reasoning.append(thought.text)
                return Delta(reasoning=thought.text)
        elif delta.citation is not None:
            self._cited.append(delta.citation.url)
        return None

    def _reply(self, *, partial: bool) -> Reply:
        parts = [part for _, block in sorted(self._blocks.items()) for part in block.parts(partial=partial)]
        return _reply(parts, self._stop_reason, self._usage, self._cited, self._all())


_STATUS: Final = {
    "validation": 400, "conflict": 409, "accessdenied": 403, "resourcenotfound": 404, "modeltimeout": 408,
    "throttling": 429, "toomanyrequests": 429, "modelnotready": 503, "serviceunavailable": 503, "internalserver": 500,
    "internalfailure": 500, "modelerror": 500, "modelstreamerror": 500, "unrecognizedclient": 401,
    "invalidsignature": 401, "expiredtoken": 401, "missingauthenticationtoken": 401, "incompletesignature": 401,
    "invalidclienttokenid": 401, "signaturedoesnotmatch": 401, "unauthorized": 401,
}  # fmt: skip
"""The status that says what an exception is, which AWS does not always send: a throttling may come with 400, a wrong
signature comes with 403, a model's failure with 424."""


def _typed(status: int | None, code: str, message: str) -> ProviderError:
    name = code.lower().removesuffix("exception").removesuffix("error")
    if name == "servicequotaexceeded":
        return QuotaExceededError(message, status=status, code=code)
    if name == "accessdenied" and "api key" in message.lower():  # a bearer key that is wrong or has ended
        name = "unauthorized"
    known = _STATUS.get(name, _STATUS.get(name + "error", status))
    error = provider_error(known, code, message)
    error.status = status
    return error


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The exception that an answer of another status names in its header or body."""
    code, message = generic_error(body)
    try:
        value: Any = msgspec.json.decode(body)
    except BROKEN:
        value = None
    if isinstance(value, dict):
        code = str(value.get("__type") or code)
        message = str(value.get("message") or value.get("Message") or message)
    code = headers.get("x-amzn-errortype") or code
    return _typed(status, code.split(":", 1)[0].rsplit("#", 1)[-1], message)


def _event_error(headers: dict[str, str], payload: bytes) -> ProviderError:
    """The exception that a message of the stream holds."""
    code = headers.get(":exception-type") or headers.get(":error-code") or ""
    if not code and headers.get(":message-type") != "error":
        return UnreadableAnswerError(f"a message of the event stream without a type; it begins with {payload[:120]!r}")
    _, message = generic_error(payload)
    return _typed(None, code, headers.get(":error-message") or message)
