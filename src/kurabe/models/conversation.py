"""A conversation: its history, kept within the model's context, and what it has cost."""

import asyncio
import contextlib
import math
import os
import re
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec

from kurabe.errors import ContextTooLongError, InputError, ModelError, ProviderError
from kurabe.messages import (
    Audio,
    Delta,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    User,
)
from kurabe.models.base import AsyncStream, Stream
from kurabe.models.codecs.base import json_body
from kurabe.models.cost import total
from kurabe.models.request import Content, as_messages, make_request
from kurabe.models.tools import arun_tool, run_tool

TURN_TOKENS = 8  # what a chat format puts around a turn, at most
IMAGE_TOKENS = 1_600  # a large picture, with most providers
PAGE_TOKENS, PAGE_BYTES = 3_000, 50_000  # a page of a PDF
AUDIO_BYTES = 500  # bytes of compressed sound to a token: 32 tokens and 16 kB a second
ANSWER_TOKENS = 4_096  # kept free for an answer of no stated limit, but at most a quarter of the context
TRIES = 3  # how often a conversation that a provider finds too long is cut further
_VERSION = 1
T = TypeVar("T")
_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
_FAR = re.compile(r"[\U00010000-\U0010ffff]")


class Chat(Protocol):
    """What a conversation needs of a model. It may also have `context`, the tokens that fit, and `count_tokens`."""

    def chat(self, content: Content, **settings: Any) -> Reply:
        """Answer a conversation."""

    async def achat(self, content: Content, **settings: Any) -> Reply:
        """Answer a conversation."""

    def stream(self, content: Content, **settings: Any) -> Stream:
        """Answer a conversation in pieces."""

    def astream(self, content: Content, **settings: Any) -> AsyncStream:
        """Answer a conversation in pieces."""


class Conversation:
    """A conversation with one model. It keeps the history, and what it cost.

    If the turns outgrow the model's context, the oldest ones are no longer sent, whole turns at a time. The system text
    is
    always sent, and a tool's result never without its call. `messages` still has them all. A call that fails leaves the
    conversation as it was, except for what it cost. Use it from one thread at a time.

    Parameters
    ----------
    model : ChatModel
        The model that answers.
    system : str, optional
        The system text.
    messages : iterable of Message
        The turns of an earlier conversation.
    run_tools : bool
        Call the functions among `tools` when the model asks for them, and ask it again, until it answers in text.
    max_rounds : int
        How often it is asked, at most, before `run_tools` gives up.
    **settings
        Settings of every call, as for `ChatModel.chat`; a call may add its own.

    Examples
    --------
    >>> from kurabe import Conversation
    >>> from kurabe.testing import EchoModel
    >>> talk = Conversation(EchoModel(), system="Repeat what you hear.")
    >>> talk.chat("Hello.").text
    'Hello.'
    >>> [message.role for message in talk.messages]
    ['user', 'assistant']
    """

    def __init__(
        self,
        model: Any,
        system: str | None = None,
        *,
        messages: Iterable[Message] = (),
        run_tools: bool = False,
        max_rounds: int = 10,
        **settings: Any,
    ) -> None:
        self.system = system
        self.settings = {**settings, "tools": tuple(settings.get("tools") or ())}
        self.run_tools = run_tools
        self.max_rounds = max_rounds
        self._messages = tuple(messages)
        self._usage = Usage(0, 0)
        self._usd: float | None = 0.0
        self.model = model

    @property
    def model(self) -> Any:
        """The model that answers. Set another one to continue the conversation with it."""
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        self._model: Chat = model
        self._sent_from = 0
        self._sizes: list[int] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns so far, without the system text."""
        return self._messages

    @property
    def usage(self) -> Usage:
        """The tokens of all calls together, a Usage."""
        return self._usage

    @property
    def usd(self) -> float | None:
        """The dollars of all calls together; None if the cost of one is unknown."""
        return self._usd

    def __repr__(self) -> str:
        cost = "cost unknown" if self._usd is None else f"${self._usd:.4g}"
        return f"Conversation({self._model!r}, {len(self._messages)} messages, {cost})"

    def __str__(self) -> str:
        """The turns as they are read: who speaks, and what."""
        system = [System(self.system)] if self.system else []
        turns = [*system, *self._messages]
        return "\n\n".join(f"{turn.role}: {' '.join(map(_as_text, turn.parts))}" for turn in turns)

    def chat(self, content: Content, **settings: Any) -> Reply:
        """Say something and get the answer.

        Parameters
        ----------
        content : str, part, Message, mapping, or iterable of these
            A text, parts, or a conversation.
        **settings
            As for `ChatModel.chat`, for this call.

        Returns
        -------
        Reply

        Raises
        ------
        InputError
            If the model does not take a setting.
        ModelError
            If the model gives no answer, or still asks for tools after `max_rounds`.
        """
        talk = self._talk(content, settings)
        step = next(talk)
        while not isinstance(step, Reply):
            try:
                result = [run_tool(call, step.tools) for call in step.calls] or self._model.chat(
                    step.messages, **step.settings
                )
            except ProviderError as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
        return step

    async def achat(self, content: Content, **settings: Any) -> Reply:
        """`chat`, awaited.

        Parameters
        ----------
        content, **settings
            As for `chat`.
        """
        talk = self._talk(content, settings)
        step = next(talk)
        while not isinstance(step, Reply):
            try:
                result = await _all_tools(step) or await self._model.achat(step.messages, **step.settings)
            except ProviderError as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
        return step

    def stream(self, content: Content, **settings: Any) -> Stream:
        """Say something and get the answer in pieces, of all rounds. The history has it once the last piece has come.

        Parameters
        ----------
        content, **settings
            As for `chat`.

        Returns
        -------
        Stream
        """
        return Stream(self._pieces(content, settings))

    def astream(self, content: Content, **settings: Any) -> AsyncStream:
        """`stream`, for `async for`.

        Parameters
        ----------
        content, **settings
            As for `chat`.

        Returns
        -------
        AsyncStream
        """
        return AsyncStream(self._apieces(content, settings))

    def _pieces(self, content: Content, settings: dict[str, Any]) -> Iterator[Delta | Reply]:
        talk = self._talk(content, settings)
        step = next(talk)
        while not isinstance(step, Reply):
            result: list[ToolResult] | Reply
            try:
                if not (result := [run_tool(call, step.tools) for call in step.calls]):
                    with self._model.stream(step.messages, **step.settings) as stream:
                        for delta in stream:
                            step.begun = True
                            yield delta
                        result = stream.reply
            except ProviderError as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
        yield step

    async def _apieces(self, content: Content, settings: dict[str, Any]) -> AsyncIterator[list[Delta] | Reply]:
        talk = self._talk(content, settings)
        step = next(talk)
        while not isinstance(step, Reply):
            result: list[ToolResult] | Reply
            try:
                if not (result := await _all_tools(step)):
                    async with self._model.astream(step.messages, **step.settings) as stream:
                        async with contextlib.aclosing(aiter(stream)) as deltas:  # type: ignore[type-var]
                            async for delta in deltas:
                                step.begun = True
                                yield [delta]
                        result = stream.reply
            except ProviderError as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
        yield step

    def _talk(self, content: Content, more: dict[str, Any]) -> "Generator[_Step | Reply, Any, None]":
        """One turn as steps for the caller to carry out, who sends the answer or the results of the tools, or throws
        the provider's error; at the end the Reply."""
        settings = {**self.settings, **more}
        settings["tools"] = tuple(settings["tools"] or ())
        new = as_messages(content)
        for _ in range(self.max_rounds):
            reply = yield from self._asked(new, settings)
            new = (*new, reply.message)
            functions = self._to_run(reply, settings["tools"])
            if not functions:
                self._messages += new
                yield reply
                return
            results = yield _Step((), {}, reply.tool_calls, functions)
            new = (*new, User(*results))
            if settings.get("tool_choice") not in (None, "auto", "none"):  # done as told; else it would never answer
                settings["tool_choice"] = None
        raise ModelError(
            f"the model still asked for tools after {self.max_rounds} rounds; allow more with max_rounds=, or run them"
            " yourself with run_tools=False"
        )

    def _asked(self, new: tuple[Message, ...], settings: dict[str, Any]) -> "Generator[_Step, Any, Reply]":
        """Ask for an answer to the history and the new turn, with as much of the history as fits."""
        system = (System(self.system),) if self.system else ()
        fixed = sum(map(self._size, (*system, *new))) + _settings_tokens(make_request(new, **settings))
        start = self._fitting(new, self._sent_from, self._room(settings) - fixed)
        for left in reversed(range(TRIES)):
            step = _Step((*system, *self._kept(start), *new), settings)
            try:
                reply: Reply = yield step
            except ProviderError as error:
                if isinstance(error.partial, Reply):
                    self._count(error.partial)
                cuts = [cut for cut in self._cuts(new) if cut > start]
                if not isinstance(error, ContextTooLongError) or step.begun or not cuts or not left:
                    raise
                start = self._fitting(new, cuts[0], _smaller(error, self._size_from(start), fixed))
            else:
                self._count(reply)
                self._sent_from = start
                return reply
        raise AssertionError("the last try either answers or raises")

    def _kept(self, start: int) -> tuple[Message, ...]:
        """The history from `start` on, and the system turns before it."""
        return (*(m for m in self._messages[:start] if m.role == "system"), *self._messages[start:])

    def _cuts(self, new: tuple[Message, ...]) -> list[int]:
        """Where the history can be cut: before a user's turn that answers no tool call."""
        whole = (*self._messages, next((m for m in new if m.role != "system"), new[0]))
        return [i for i, m in enumerate(whole) if m.role == "user" and not _has_result(m)]

    def _fitting(self, new: tuple[Message, ...], start: int, room: float) -> int:
        """The first place from `start` on where the history can be cut so that it fits, else the last such place."""
        if room == math.inf:
            return start
        size = self._size_from(start)
        for cut in self._cuts(new):
            if size <= room:
                break
            if cut > start:
                between = zip(self._messages[start:cut], self._sizes[start:cut], strict=True)
                size -= sum(tokens for message, tokens in between if message.role != "system")
                start = cut
        return start

    def _room(self, settings: dict[str, Any]) -> float:
        """The tokens that fit besides the answer."""
        context: int | None = getattr(self._model, "context", None)
        if context is None:
            return math.inf
        return context - (settings.get("max_tokens") or min(ANSWER_TOKENS, context // 4))

    def _size_from(self, start: int) -> int:
        """Tokens of what is kept of the history; each message is counted once."""
        self._sizes += [self._size(message) for message in self._messages[len(self._sizes) :]]
        return sum(
            size
            for i, (message, size) in enumerate(zip(self._messages, self._sizes, strict=True))
            if i >= start or message.role == "system"
        )

    def _size(self, message: Message) -> int:
        counter: Callable[[str], int] = getattr(self._model, "count_tokens", None) or estimate_tokens
        return TURN_TOKENS + sum(_part_tokens(part, counter) for part in message.parts)

    def _count(self, reply: Reply) -> None:
        a, b = self._usage, reply.usage
        self._usage = Usage(*(getattr(a, name) + getattr(b, name) for name in Usage.__struct_fields__))
        self._usd = total([self._usd, reply.usd])

    def _to_run(self, reply: Reply, tools: Iterable[Any]) -> tuple[Callable[..., Any], ...]:
        """The functions to run for this answer; none where it is the caller's turn."""
        described = {tool.name for tool in tools if isinstance(tool, Tool)}
        functions = tuple(tool for tool in tools if not isinstance(tool, Tool))
        mine = self.run_tools and reply.tool_calls and not any(call.name in described for call in reply.tool_calls)
        return functions if mine else ()

    def save(self, path: str | Path) -> None:
        """Write the conversation to a file that only you can read, whole or not at all.

        The file has JSON lines: the system text, the costs and the model's reference, then one line for each message,
        with
        pictures and the like as base64. It does not have the settings.

        Parameters
        ----------
        path : str or Path
            The file.

        Raises
        ------
        InputError
            If it can't be written.
        """
        head = _Head(_VERSION, self.system, self._usage, self._usd, getattr(self._model, "reference", None))
        body = b"\n".join([json_body(msgspec.to_builtins(line)) for line in (head, *self._messages)]) + b"\n"
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with open(beside, "wb", opener=_for_owner) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise InputError(f"the conversation can't be written to {path}: {error.strerror}") from None

    @classmethod
    def load(cls, model: Any, path: str | Path, **options: Any) -> Self:
        """A conversation from a file that `save` wrote.

        Parameters
        ----------
        model : ChatModel
            The model that answers from now on.
        path : str or Path
            The file.
        **options
            Those of `Conversation`.

        Returns
        -------
        Conversation

        Raises
        ------
        InputError
            If the file can't be read or is not a conversation.
        """
        lines = _lines(path)
        head = _read_head(lines[0], path)
        messages = [_read_line(line, Message, path, n) for n, line in enumerate(lines[1:], 2) if line.strip()]
        loaded = cls(model, head.system, messages=messages, **options)
        loaded._usage, loaded._usd = head.usage, head.usd
        return loaded


def saved_model(path: str | Path) -> str | None:
    """The reference of the model that a saved conversation was held with; None where the file doesn't say. Raises
    InputError."""
    return _read_head(_lines(path)[0], path).model


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its UTF-8 bytes, but one for each Chinese, Japanese or Korean
    character and two for each emoji.

    >>> estimate_tokens("What is this?"), estimate_tokens("これは何ですか")
    (4, 7)
    """
    size = len(text.encode("utf-8", "replace"))
    wide = far = 0
    if size > len(text):
        wide, far = len(_WIDE.findall(text)), len(_FAR.findall(text))
    return math.ceil((size - 3 * wide - 4 * far) / 4) + wide + 2 * far


class _Head(msgspec.Struct):
    conversation: int
    system: str | None
    usage: Usage
    usd: float | None
    model: str | None = None


class _Step:
    """What is to be done next: ask the model, or run its calls."""

    def __init__(
        self,
        messages: tuple[Message, ...],
        settings: dict[str, Any],
        calls: tuple[ToolCall, ...] = (),
        tools: tuple[Callable[..., Any], ...] = (),
    ) -> None:
        self.messages = messages
        self.settings = settings | {"tools": tuple(settings.get("tools") or ())} if "tools" in settings else settings
        self.calls = calls
        self.tools = tools
        self.begun = False
        """Whether a piece of the answer has been passed on, after which it can't be asked for again unseen."""


async def _all_tools(step: _Step) -> list[ToolResult]:
    return list(await asyncio.gather(*(arun_tool(call, step.tools) for call in step.calls)))


def _has_result(message: Message) -> bool:
    return any(isinstance(part, ToolResult) for part in message.parts)


def _as_text(part: Part) -> str:
    """A part as a transcript shows it."""
    match part:
        case Text():
            return part.text
        case ToolCall():
            return f"[calls {part.name}({json_body(part.arguments).decode()})]"
        case ToolResult():
            return f"[{part.name or 'tool'} {'failed' if part.error else 'answers'}: {part.content}]"
        case Reasoning():
            return f"[thinks: {part.text}]" if part.text else "[thinks]"
        case _:
            return f"[{part!r}]"


def _part_tokens(part: Part, count: Callable[[str], int]) -> int:
    match part:
        case Text():
            return count(part.text)
        case Reasoning():
            return count(part.text) + (len(part.data) + len(part.signature)) // 4
        case ToolCall():
            return count(part.name) + count(json_body(part.arguments).decode())
        case ToolResult():
            return sum(_part_tokens(inner, count) for inner in part.parts)
        case Image():
            return IMAGE_TOKENS
        case Audio():
            return len(part.data) // AUDIO_BYTES
        case Document():
            if part.media_type.startswith("text/"):
                return count(part.data.decode("utf-8", "replace"))
            return PAGE_TOKENS * math.ceil((len(part.data) or 1) / PAGE_BYTES)


def _settings_tokens(request: Request) -> int:
    """What the tools and the schema of the answer add."""
    return estimate_tokens(json_body(msgspec.to_builtins((request.tools, request.output))).decode())


def _smaller(error: ProviderError, size: int, fixed: int) -> float:
    """The room for the history after a provider found it too long: by the counts it names, else half of it."""
    if isinstance(error, ContextTooLongError) and error.tokens and error.limit and error.limit < error.tokens:
        return (size + fixed) * error.limit / error.tokens * 0.95 - fixed
    return size / 2


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lines(path: str | Path) -> list[bytes]:
    try:
        return Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"the conversation {path} can't be read: {error.strerror}") from None


def _read_head(line: bytes, path: str | Path) -> _Head:
    head = _read_line(line, _Head, path, 1)
    if head.conversation != _VERSION:
        raise InputError(f"{path} is a conversation of version {head.conversation}; this kurabe reads {_VERSION}")
    return head


def _read_line(line: bytes, kind: type[T], path: str | Path, number: int) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(f"{path}, line {number}, is not of a saved conversation: {error}") from None
