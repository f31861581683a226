"""Reading what Google's generateContent sends: whole answers, streams and errors."""

import base64
import binascii
import hashlib
import re
from typing import Any

import msgspec

from kurabe.errors import (
    AuthenticationError,
    ContentFilteredError,
    CutStreamError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    UnreadableAnswerError,
)
from kurabe.messages import (
    Audio,
    Delta,
    Document,
    FinishReason,
    Image,
    Part,
    Reasoning,
    Reply,
    Text,
    TokenLogprob,
    ToolCall,
)
from kurabe.models.codecs._gemini_calls import Call, OpenCall
from kurabe.models.codecs._sse import Event
from kurabe.models.codecs._streamed import JsonEvents
from kurabe.models.codecs.base import BROKEN, joined, provider_error, read_json
from kurabe.models.codecs.usage import NOTHING, Count, is_stated, read_usage, usage_of

OWN_ID = "kurabe-"
"""How the ids begin that we give to tool calls that came without one. They are never sent."""


class _Wire(msgspec.Struct, rename="camel"):
    """A part of an answer; only the fields that are read."""


class _Blob(_Wire):
    mime_type: str | None = None
    data: str | None = None


class _Part(_Wire):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: Call | None = None
    inline_data: _Blob | None = None


class _Content(_Wire):
    parts: list[_Part] | None = None


class _Token(_Wire):
    token: str | None = None
    log_probability: float | None = None


class _Top(_Wire):
    candidates: list[_Token] | None = None


class _Logprobs(_Wire):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Top] | None = None


class _Source(_Wire):
    uri: str | None = None


class _Citations(_Wire):
    citations: list[_Source] | None = None
    citation_sources: list[_Source] | None = None


class _Chunk(_Wire):
    web: _Source | None = None


class _Grounding(_Wire):
    grounding_chunks: list[_Chunk] | None = None


class _Candidate(_Wire):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None
    logprobs_result: _Logprobs | None = None
    citation_metadata: _Citations | None = None
    grounding_metadata: _Grounding | None = None


class _Feedback(_Wire):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Usage(_Wire):
    prompt_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None


class WireError(_Wire):
    """The `error` of an error body, of a stream's event, or of an answer of status 200."""

    code: int | str | None = None
    message: str | None = None
    status: str | None = None
    details: Any = None


class _Answer(_Wire):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: msgspec.Raw = NOTHING
    model_version: str | None = None
    response_id: str | None = None
    error: WireError | None = None


class ErrorBody(_Wire):
    """`{"error": {…}}`"""

    error: WireError


_ANSWER = msgspec.json.Decoder(_Answer)
_ERROR: msgspec.json.Decoder[ErrorBody | list[ErrorBody]] = msgspec.json.Decoder(ErrorBody | list[ErrorBody])

_FILTERED = (
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION", "PUP_LIMITED_DISABLED",
)  # fmt: skip
_FINISH: dict[str, FinishReason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
_FINISH |= dict.fromkeys(_FILTERED, "content_filter")


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def find_error(body: bytes) -> WireError | None:
    """The error of a body of the form `{"error": {…}}`, or of a list that holds just that; None for any other."""
    try:
        found = _ERROR.decode(body)
    except BROKEN:
        return None
    if isinstance(found, list):
        return found[0].error if len(found) == 1 else None
    return found.error


def make_error(error: WireError, status: int | None) -> ProviderError:
    """The typed error. `status` is that of HTTP, None inside a stream, where the error's own code tells the kind."""
    number = error.code if isinstance(error.code, int) and 400 <= error.code < 600 else None
    message = error.message or ""
    word = error.status or str(error.code or "")
    details = (
        [detail for detail in error.details if isinstance(detail, dict)] if isinstance(error.details, list) else []
    )
    made = provider_error(status or number, word, message, retry_after=_retry_after(details, message))
    facts: dict[str, Any] = {"code": word, "retry_after": made.retry_after}
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):  # comes with status 400
        made = AuthenticationError(message, **facts)
    elif isinstance(made, RateLimitedError):
        # "You exceeded your current quota" is said of the limit per minute too; only the details tell them apart
        made = (QuotaExceededError if _used_up(details, message) else RateLimitedError)(message, **facts)
    made.status = status
    return made


def _used_up(details: list[dict[str, Any]], message: str) -> bool:
    said = message.lower()
    if "limit: 0" in said or "depleted" in said:
        return True
    violations = [v for detail in details if isinstance(v := detail.get("violations"), list)]
    names = [
        str(violation.get("quotaId")) for found in violations for violation in found if isinstance(violation, dict)
    ]
    return any("PerDay" in name for name in names)


def _retry_after(details: list[dict[str, Any]], message: str) -> float | None:
    """Seconds to wait, of a RetryInfo such as `{"retryDelay": "34.07s"}`, else of the message."""
    delays = [delay for detail in details if isinstance(delay := detail.get("retryDelay"), str)]
    found = re.fullmatch(r"(\d{1,9}(?:\.\d*)?)s", delays[0].strip()) if delays else None
    found = found or re.search(r"retry in (\d{1,9}(?:\.\d+)?)s", message)
    return float(found[1]) if found else None


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class Collector:
    """Gathers the pieces of one answer, streamed or whole, in order.

    Text without a signature is joined to the text before it; a part with a signature stays a part of its own, since
    it must go back as it came.
    """

    def __init__(self) -> None:
        self.finish = ""
        self._parts: list[Part] = []
        self._text: list[str] = []  # of a run of text, or of thinking, that may still grow
        self._thinking = False
        self._calls = 0
        self._open: OpenCall | None = None
        self._usage = NOTHING
        self._model = self._response_id = ""
        self._logprobs: list[TokenLogprob] = []
        self._citations: dict[str, None] = {}

    def read(self, data: bytes, deltas: list[Delta]) -> None:
        """Read an answer or one event of a stream, and append its deltas. Raises ProviderError, without `partial`."""
        try:
            answer = _ANSWER.decode(data)
        except BROKEN:
            if error := find_error(data):
                raise make_error(error, None) from None
            answer = read_json(data, _Answer)  # says what is wrong
        if answer.error is not None:
            raise make_error(answer.error, None)
        if is_stated(answer.usage_metadata):  # each is a running total
            self._usage = answer.usage_metadata
        self._model = answer.model_version or self._model
        self._response_id = answer.response_id or self._response_id
        for candidate in answer.candidates or ():
            if not candidate.index:
                self._candidate(candidate, deltas)
        blocked = answer.prompt_feedback
        if blocked is not None and blocked.block_reason and not answer.candidates:
            said = f": {blocked.block_reason_message}" if blocked.block_reason_message else ""
            raise ContentFilteredError(f"the prompt was blocked{said}", code=blocked.block_reason)

    def reply(self, raw: bytes) -> Reply:
        """The answer so far; a tool call that has begun does not count until it is whole."""
        self._end_text()
        finish = _FINISH.get(self.finish, "other")
        if finish == "stop" and self._calls:
            finish = "tool_calls"
        usage = read_usage(self._usage, _Usage) or _Usage()
        thoughts = usage.thoughts_token_count or 0
        return Reply(
            joined(self._parts),
            finish,
            usage_of(
                input=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
                output=(usage.candidates_token_count or 0) + thoughts,
                cached=usage.cached_content_token_count or 0,
                reasoning=thoughts,
            ),
            model=self._model,
            logprobs=tuple(self._logprobs),
            citations=tuple(self._citations),
            raw=raw,
        )

    def _candidate(self, candidate: _Candidate, deltas: list[Delta]) -> None:
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                self._part(part, deltas)
        if candidate.finish_reason:
            self.finish = candidate.finish_reason
            if self.finish == "STOP":
                self._close_call(deltas)
        if candidate.logprobs_result is not None:
            self._logprobs += _logprobs(candidate.logprobs_result)
        if (cited := candidate.citation_metadata) is not None:
            sources = (cited.citations or []) + (cited.citation_sources or [])
            self._citations |= {source.uri: None for source in sources if source.uri}
        if candidate.grounding_metadata is not None:
            chunks = candidate.grounding_metadata.grounding_chunks or ()
            self._citations |= {chunk.web.uri: None for chunk in chunks if chunk.web and chunk.web.uri}

    def _part(self, part: _Part, deltas: list[Delta]) -> None:
        signature = part.thought_signature or ""
        if part.function_call is not None:
            self._call(part.function_call, signature, deltas)
        elif part.inline_data is not None:
            self._end_text()
            self._parts.append(_media(part.inline_data))
        elif part.text or signature:
            text, thinking = part.text or "", part.thought or False
            if text:
                deltas.append(Delta(reasoning=text) if thinking else Delta(text=text))
            if signature or thinking is not self._thinking:
                self._end_text()
            self._thinking = thinking
            if signature:
                self._parts.append(Reasoning(text, signature) if thinking else Text(text, signature))
            else:
                self._text.append(text)

    def _end_text(self) -> None:
        if self._text:
            text = "".join(self._text)
            self._parts.append(Reasoning(text) if self._thinking else Text(text))
            self._text = []

    def _call(self, call: Call, signature: str, deltas: list[Delta]) -> None:
        if self._open is None or call.name:
            self._close_call(deltas)
            if not call.name:
                if call.args or call.partial_args:
                    raise UnreadableAnswerError("a tool call without a name")
                return
            self._end_text()
            id = (
                call.id
                or f"{OWN_ID}{hashlib.blake2b(self._response_id.encode(), digest_size=5).hexdigest()}-{self._calls}"
            )
            if not call.partial_args and not call.will_continue:  # nearly all of them
                made = ToolCall(id, call.name, call.args or {}, signature)
                self._parts.append(made)
                arguments = msgspec.json.encode(made.arguments).decode()
                deltas.append(Delta(index=self._calls, id=id, name=call.name, arguments=arguments))
                self._calls += 1
                return
            self._open = OpenCall(id, call.name)
            deltas.append(Delta(index=self._calls, id=id, name=call.name))
        self._open.add(call, signature)
        if not call.will_continue:
            self._close_call(deltas)

    def _close_call(self, deltas: list[Delta]) -> None:
        """A call that came in pieces has its arguments only now: the pieces are values at paths, not JSON text."""
        if self._open is not None:
            made, self._open = self._open.call(), None
            self._parts.append(made)
            deltas.append(Delta(index=self._calls, arguments=msgspec.json.encode(made.arguments).decode()))
            self._calls += 1


class StreamDecoder(JsonEvents):
    """Reads `streamGenerateContent?alt=sse`."""

    terminal = "a finish reason"

    def __init__(self) -> None:
        super().__init__()
        self._collector = Collector()

    def _plain(self, body: bytes) -> Reply:
        """A whole answer; or a list of the events, which is what comes where `alt=sse` is ignored."""
        if body.lstrip().startswith(b"{") or find_error(body) is not None:
            return read_reply(body)
        for event in read_json(body, list[msgspec.Raw]):
            self._collector.read(bytes(event), [])
        if not self._collector.finish:
            raise CutStreamError(f"the list of events ended without {self.terminal}")
        return self._collector.reply(body)

    def _event(self, event: Event, deltas: list[Delta]) -> None:
        self._collector.read(event.data, deltas)

    def _last(self) -> None:
        super()._last()
        self._ended = bool(self._collector.finish)  # only now: usage may come after the finish reason

    def _reply(self, *, partial: bool) -> Reply:
        return self._collector.reply(self._all())

    def _cut(self) -> ProviderError:
        """An error may come as plain lines of JSON, after the events or in their place."""
        blocks = self._all().replace(b"\r\n", b"\n").strip().split(b"\n\n")
        error = find_error(blocks[-1])
        return super()._cut() if error is None else make_error(error, None)


def _media(blob: _Blob) -> Part:
    """A picture, sound or file that the model made."""
    media_type = blob.mime_type or "application/octet-stream"
    try:
        data = base64.b64decode((blob.data or "").translate(_STANDARD), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableAnswerError(f"{media_type} that is no valid base64") from None
    kind = Image if media_type.startswith("image/") else Audio if media_type.startswith("audio/") else Document
    return kind(data=data, media_type=media_type)


_STANDARD = str.maketrans("-_", "+/")


def _logprobs(result: _Logprobs) -> list[TokenLogprob]:
    """A log-probability of 0 is left out of the JSON."""
    tops = [
        tuple((token.token or "", token.log_probability or 0.0) for token in top.candidates or ())
        for top in result.top_candidates or ()
    ]
    chosen = result.chosen_candidates or ()
    tops += [()] * (len(chosen) - len(tops))
    return [
        TokenLogprob(token.token or "", token.log_probability or 0.0, top)
        for token, top in zip(chosen, tops, strict=False)
    ]


def read_reply(body: bytes) -> Reply:
    """Read a whole answer. Raises ProviderError."""
    collector = Collector()
    try:
        collector.read(body, [])
    except ProviderError as error:
        if not isinstance(error, UnreadableAnswerError):
            error.partial = collector.reply(body)
        raise
    reply = collector.reply(body)
    if not collector.finish and not reply.content:
        raise UnreadableAnswerError(f"an answer without candidates: {body[:120].decode('utf-8', 'replace')!r}")
    return reply
