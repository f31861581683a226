"""Reading OpenAI's chat completions and what its imitators make of them: whole answers and streams."""

from typing import Any

import msgspec

from kurabe.errors import CutStreamError, ProviderError, UnreadableAnswerError
from kurabe.messages import Delta, FinishReason, Part, Reasoning, Reply, Text, TokenLogprob, ToolCall, Usage
from kurabe.models.codecs._openai_chat_errors import failure, reported, tells_an_error
from kurabe.models.codecs._sse import Event, EventReader
from kurabe.models.codecs._streamed import StreamedAnswer
from kurabe.models.codecs.base import joined, provider_error, read_arguments, read_json
from kurabe.models.codecs.usage import NOTHING, UNKNOWN, Count, is_stated, read_usage, usage_of


# ── What is read of an answer ────────────────────────────────────────────────────────────────────────────────────────
class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # text; an object from some


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None
    id: str | None = None
    index: int | None = None


class _Piece(msgspec.Struct):
    """A piece of content where it is a list: Mistral's text, thinking and references."""

    type: str | None = None
    text: str | None = None
    thinking: "str | list[_Piece] | None" = None
    signature: str | None = None


class _Address(msgspec.Struct, gc=False):
    url: str | None = None


class _Annotation(msgspec.Struct, gc=False):
    url_citation: _Address | None = None


class _Message(msgspec.Struct, gc=False):
    """A message, or a piece of one. Thinking is `reasoning_content` with DeepSeek, `reasoning` with OpenRouter."""

    content: str | list[_Piece] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: Any = None  # OpenRouter's: objects that go back as they came
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    annotations: list[_Annotation] | None = None


class _Top(msgspec.Struct, gc=False):
    token: str
    logprob: float | None = None


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float | None = None
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct, gc=False):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    index: int | None = 0
    logprobs: _Logprobs | None = None
    error: Any = None  # OpenRouter


class _Prompt(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _Completion(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None
    prompt_cache_hit_tokens: Count | None = None  # DeepSeek
    cached_tokens: Count | None = None  # Moonshot
    num_cached_tokens: Count | None = None  # Mistral
    reasoning_tokens: Count | None = None  # Perplexity


class _Groq(msgspec.Struct, gc=False):
    usage: msgspec.Raw = NOTHING
    error: Any = None


class _Answer(msgspec.Struct, gc=False):
    """A whole answer, or one event of a stream."""

    choices: list[_Choice] | None = None
    model: str | None = None
    usage: msgspec.Raw = NOTHING
    error: Any = None
    citations: Any = None
    search_results: Any = None
    x_groq: _Groq | None = None


_EMPTY = _Message()


# ── Whole answers ────────────────────────────────────────────────────────────────────────────────────────────────────
def reply(body: bytes) -> Reply:
    """The answer in the body of a call without stream."""
    answer = read_json(body, _Answer)
    if not answer.choices or answer.error:
        raise failure(body)
    choice = answer.choices[0]
    message = choice.message or choice.delta or _EMPTY
    content = message.content
    if content.__class__ is str and message.tool_calls is None and not _thinks(message):
        return _made(answer, choice, message, content or message.refusal or "", [body])
    parts = _Parts()
    parts.add(message, whole=True)
    made, broken = parts.end()
    answered = _made(answer, choice, message, made, [body])
    if broken is not None:
        broken.partial = answered
        raise broken
    return answered


def _made(
    answer: _Answer, choice: _Choice, message: _Message, content: str | tuple[Part, ...], raw: list[bytes]
) -> Reply:
    reason = _reason(choice.finish_reason, content, refused=bool(message.refusal))
    annotations = message.annotations
    citations: tuple[str, ...] = ()
    if annotations or answer.citations or answer.search_results:
        citations = _citations(answer.citations, answer.search_results, annotations or [])
    made = Reply(
        content,
        reason,
        _usage(answer.usage),
        model=answer.model or "",
        logprobs=_logprobs(choice.logprobs) if choice.logprobs is not None else (),
        citations=citations,
        raw=raw[0] if len(raw) == 1 else b"".join(raw),
    )
    if choice.error or choice.finish_reason in _FAILED:
        raise _broke_off(choice, made)
    return made


_FAILED = {
    "error": ("error", "the answer ended in an error"),
    "insufficient_system_resource": ("overloaded", "interrupted: insufficient resources of the inference system"),
}
_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def _reason(given: str | None, content: str | tuple[Part, ...], *, refused: bool) -> FinishReason:
    """A refusal counts as filtered; a stop with tool calls, as a forced tool ends, counts as `tool_calls`."""
    reason = _REASONS.get(given, "other")
    if reason == "stop":
        if refused:
            return "content_filter"
        if content.__class__ is tuple and any(part.__class__ is ToolCall for part in content):
            return "tool_calls"
    return reason


def _broke_off(choice: _Choice, partial: Reply) -> ProviderError:
    if choice.error:
        error = reported(msgspec.json.encode({"error": choice.error}))
    else:
        error = provider_error(None, *_FAILED[choice.finish_reason or "error"])
    error.partial = partial
    return error


def _usage(block: msgspec.Raw) -> Usage:
    usage = read_usage(block, _Usage)
    if usage is None:
        return UNKNOWN
    prompt, output = usage.prompt_tokens or 0, usage.completion_tokens or 0
    cached = usage.prompt_cache_hit_tokens or usage.cached_tokens or usage.num_cached_tokens or 0
    written, reasoning = 0, usage.reasoning_tokens or 0
    if (details := usage.prompt_tokens_details) is not None:
        cached, written = details.cached_tokens or cached, details.cache_write_tokens or 0
    if (more := usage.completion_tokens_details) is not None:
        reasoning = more.reasoning_tokens or reasoning
    if reasoning and usage.total_tokens == prompt + output + reasoning:
        output += reasoning  # xAI counts thinking beside the answer, and only the total tells
    return usage_of(prompt, output, cached, written, reasoning)


def _logprobs(logprobs: _Logprobs) -> tuple[TokenLogprob, ...]:
    nothing = float("-inf")  # a token that could not be: JSON has no word for it, servers send null

    def number(value: float | None) -> float:
        return nothing if value is None else value

    return tuple(
        TokenLogprob(
            token.token,
            number(token.logprob),
            tuple((top.token, number(top.logprob)) for top in token.top_logprobs or ()),
        )
        for token in (logprobs.content or logprobs.refusal or ())
    )


def _citations(citations: Any, results: Any, annotations: list[_Annotation]) -> tuple[str, ...]:
    """Addresses in the order that `[1]`, `[2]` in the text count: Perplexity's list, its results, annotations."""
    found = [one for one in citations if isinstance(one, str)] if isinstance(citations, list) else []
    if isinstance(results, list):
        found += [one["url"] for one in results if isinstance(one, dict) and isinstance(one.get("url"), str)]
    found += [one.url_citation.url for one in annotations if one.url_citation is not None and one.url_citation.url]
    return tuple(dict.fromkeys(found))


# ── Content in pieces ────────────────────────────────────────────────────────────────────────────────────────────────
class _Building(msgspec.Struct):
    """A tool call as its pieces come."""

    id: str
    name: str
    arguments: list[str]
    index: int | None


class _Parts:
    """Gathers the parts of an answer in order; text is joined once, at the end."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.pieces: list[str] = []  # of the part at work
        self.thinks = False  # that part is thinking
        self.signature = ""
        self.calls: list[_Building] = []
        self.refused = False
        self.details: list[dict[str, Any]] = []

    def add(self, message: _Message, *, whole: bool = False) -> list[Delta]:
        """Take in a message or a piece of one; returns the deltas of it."""
        deltas: list[Delta] = []
        thinking = message.reasoning_content or message.reasoning
        if thinking and isinstance(thinking, str):
            deltas.append(self.think(thinking))
        if message.reasoning_details:
            self._detail(message.reasoning_details)
        content = message.content
        if isinstance(content, str):
            if content:
                deltas.append(self.write(content))
        elif content:
            for piece in content:
                self._piece(piece, deltas)
        if message.refusal:
            self.refused = True
            deltas.append(self.write(message.refusal))
        for number, call in enumerate(message.tool_calls or ()):
            deltas.append(self._call(call, number, whole))
        return deltas

    def write(self, text: str) -> Delta:
        if self.thinks:
            self._close()
        self.pieces.append(text)
        return Delta(text)

    def think(self, text: str) -> Delta:
        if not self.thinks:
            self._close()
            self.thinks = True
        self.pieces.append(text)
        return Delta(reasoning=text)

    def _piece(self, piece: _Piece, deltas: list[Delta]) -> None:
        if piece.type == "thinking":
            inner = piece.thinking
            text = inner if isinstance(inner, str) else "".join(one.text or "" for one in inner or ())
            if text or piece.signature:
                delta = self.think(text)
                deltas += [delta] if text else []
            self.signature = piece.signature or self.signature
        elif piece.text:
            deltas.append(self.write(piece.text))

    def _detail(self, details: Any) -> None:
        """Take in details of thinking; pieces of one text or summary are joined."""
        for one in details if isinstance(details, list) else ():
            if not isinstance(one, dict):
                continue
            last = self.details[-1] if self.details else {}
            joined = one.get("type") in ("reasoning.text", "reasoning.summary")
            if joined and last and all(one.get(name) == last.get(name) for name in ("type", "index")):
                for name, value in one.items():
                    if name in ("text", "summary") and isinstance(value, str):
                        last[name] = f"{last.get(name) or ''}{value}"
                    elif value is not None:
                        last[name] = value
            else:
                self.details.append(one)

    def _call(self, piece: _Call, number: int, whole: bool) -> Delta:
        function = piece.function or _Function()
        id = "" if piece.id in (None, "null") else piece.id  # Mistral's later pieces are called "null"
        name, arguments = function.name or "", function.arguments or ""
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        index = number if piece.index is None else piece.index
        for at in range(-1 if whole else len(self.calls) - 1, -1, -1):
            call = self.calls[at]
            if call.index == index and not (name and id and call.name and call.id != id):
                break  # another name and id begin another call, though some servers number every call 0
        else:
            at, call = len(self.calls), _Building("", "", [], index)
            self.calls.append(call)
        head = "" if call.id else id or "", "" if call.name else name  # some servers repeat both in every piece
        call.id, call.name = call.id or head[0], call.name or head[1]
        call.arguments.append(arguments)
        return Delta(index=at, id=head[0], name=head[1], arguments=arguments)

    def _close(self) -> None:
        """End the part at work."""
        text = "".join(self.pieces)
        if self.thinks and (text or self.signature):
            self.parts.append(Reasoning(text, self.signature))
        elif text:
            self.parts.append(Text(text))
        self.pieces, self.thinks, self.signature = [], False, ""

    def end(self) -> tuple[str | tuple[Part, ...], ProviderError | None]:
        """The content, and what is wrong with it: calls whose arguments are no JSON object are left out."""
        self._close()
        parts, broken = list(self.parts), None
        if self.details:
            at = next((at for at, part in enumerate(parts) if isinstance(part, Reasoning)), -1)
            text = parts.pop(at).text if at >= 0 else ""  # type: ignore[union-attr]
            parts.insert(max(at, 0), Reasoning(text, data=msgspec.json.encode(self.details).decode()))
        for call in self.calls:
            try:
                arguments = read_arguments("".join(call.arguments))
            except UnreadableAnswerError as error:
                broken = error
                continue
            parts.append(ToolCall(call.id, call.name, arguments))
        return joined(parts), broken


def _thinks(message: _Message) -> bool:
    return bool(message.reasoning_content or message.reasoning or message.reasoning_details)


# ── Streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class ChatDecoder(StreamedAnswer):
    """Reads a streamed answer. Its end is `[DONE]` or a finish reason; some servers send only one of them."""

    def __init__(self) -> None:
        super().__init__()
        self._reader = EventReader()
        self._parts = _Parts()
        self._answer = _Answer()
        self._last = _Choice()
        self._annotations: list[_Annotation] = []
        self._tokens: list[_Token] = []
        self._events = False
        self._done = False

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        for event in self._reader.feed(data):
            self._event(event, deltas)

    def _event(self, event: Event, deltas: list[Delta]) -> None:
        self._events = True
        if self._done:
            return
        if event.data.strip() == b"[DONE]":
            self._done = True
            return
        chunk = read_json(event.data, _Answer)
        choices = chunk.choices
        if not choices or chunk.error or event.event == b"error" or chunk.x_groq is not None:
            self._check(chunk, event)
        kept = self._answer
        if chunk.model:
            kept.model = chunk.model
        if is_stated(chunk.usage):
            kept.usage = chunk.usage
        if chunk.citations:
            kept.citations = chunk.citations
        if chunk.search_results:
            kept.search_results = chunk.search_results
        for choice in choices or ():
            if not choice.index:  # `n` above 1 brings others
                self._choice(choice, deltas)

    def _choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        message = choice.delta or choice.message or _EMPTY
        content = message.content
        if content.__class__ is str and content and not (message.tool_calls or message.refusal or _thinks(message)):
            deltas.append(self._parts.write(content))
        else:
            deltas += self._parts.add(message)
        if choice.finish_reason:
            self._last.finish_reason, self._last.error = choice.finish_reason, choice.error
        if choice.logprobs is not None:
            self._tokens += choice.logprobs.content or choice.logprobs.refusal or ()
        if message.annotations:
            self._annotations += message.annotations

    def _check(self, chunk: _Answer, event: Event) -> None:
        """Raise where the event tells of an error."""
        if (groq := chunk.x_groq) is not None:
            if groq.error:
                raise provider_error(None, "", str(groq.error))
            if not is_stated(chunk.usage):
                chunk.usage = groq.usage
        if chunk.error or event.event == b"error":
            raise reported(event.data)
        if not chunk.choices and not is_stated(chunk.usage) and tells_an_error(event.data):
            raise reported(event.data)

    def _whole(self) -> Reply:
        if not self._events and self._all().lstrip()[:1] not in (b"d", b"e", b"i", b"r", b":"):
            return reply(self._all())  # no stream: an error with status 200, or a server that can't stream
        for event in self._reader.close():
            try:
                self._event(event, self.late)
            except UnreadableAnswerError:
                break  # the last event is cut
        if not self._done and not self._last.finish_reason:
            raise CutStreamError
        made, broken = self._made()
        if broken is not None:
            raise broken
        if self._last.error or self._last.finish_reason in _FAILED:
            raise _broke_off(self._last, made)
        return made

    def _reply(self, *, partial: bool) -> Reply:
        return self._made()[0]

    def _made(self) -> tuple[Reply, ProviderError | None]:
        content, broken = self._parts.end()
        last = self._last
        kept = self._answer
        made = Reply(
            content,
            _reason(last.finish_reason, content, refused=self._parts.refused),
            _usage(kept.usage),
            model=kept.model or "",
            logprobs=_logprobs(_Logprobs(self._tokens)),
            citations=_citations(kept.citations, kept.search_results, self._annotations),
            raw=self._all(),
        )
        return made, broken
