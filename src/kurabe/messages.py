"""The values that pass between contestants and models: frozen and comparable."""

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from kurabe.errors import InputError

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class _Part(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A piece of a message."""


class Text(_Part, frozen=True, tag="text"):
    """Text. `signature` is what a provider wants back with it (Gemini's thought signature), else ''."""

    text: str
    signature: str = ""


class _Media(_Part, frozen=True):
    """Bytes with their media type, or an address that the provider fetches itself."""

    data: bytes = b""
    media_type: str = ""
    url: str = ""
    name: str = ""

    def __repr__(self) -> str:
        what = self.url or f"{self.media_type}, {len(self.data):,} bytes"
        return f"{type(self).__name__}({what})"


class Image(_Media, frozen=True, tag="image"):
    """A picture: PNG, JPEG, GIF or WebP as bytes, or the address of one."""

    @staticmethod
    def from_bytes(data: bytes) -> "Image":
        """Raises InputError where the bytes are no PNG, JPEG, GIF or WebP."""
        media_type = _image_type(data)
        if media_type is None:
            raise InputError(f"these {len(data):,} bytes are no PNG, JPEG, GIF or WebP image; convert them first")
        return Image(data=data, media_type=media_type)

    @staticmethod
    def from_path(path: str | Path) -> "Image":
        """Raises InputError where the file can't be read or is no PNG, JPEG, GIF or WebP."""
        data = _read(path, "image")
        media_type = _image_type(data)
        if media_type is None:
            raise InputError(f"{path} is no PNG, JPEG, GIF or WebP image; convert it first")
        return Image(data=data, media_type=media_type, name=Path(path).name)

    @staticmethod
    def from_url(url: str) -> "Image":
        """An image that the provider fetches; `data:` addresses are taken apart here. Raises InputError for what is no
        address."""
        if url.startswith("data:"):
            return Image.from_bytes(_data_url(url))
        if "://" not in url:
            raise InputError(f"{url!r} is no address of an image; for a file there is Image.from_path")
        return Image(url=url, media_type=mimetypes.guess_type(url)[0] or "")


class Audio(_Media, frozen=True, tag="audio"):
    """Sound: `media_type` such as `audio/wav` or `audio/mpeg`."""

    @staticmethod
    def from_path(path: str | Path) -> "Audio":
        """Raises InputError where the file can't be read or its ending names no audio type."""
        return Audio(_read(path, "audio"), _media_type(path, "audio/"), name=Path(path).name)


class Document(_Media, frozen=True, tag="document"):
    """A document: `media_type` such as `application/pdf` or `text/plain`."""

    @staticmethod
    def from_path(path: str | Path) -> "Document":
        """Raises InputError where the file can't be read or its ending names no type."""
        return Document(_read(path, "document"), _media_type(path, ""), name=Path(path).name)


class Reasoning(_Part, frozen=True, tag="reasoning"):
    """A model's thinking. All but `text` is opaque and goes back to the provider as it came: `signature` vouches for
    the text, `data` is the encrypted form of it, `id` names it."""

    text: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""


class ToolCall(_Part, frozen=True, tag="tool_call"):
    """A model's wish to call a tool. `signature` goes back as it came; `item` is a second id (OpenAI's `fc_…`)."""

    id: str
    name: str
    arguments: dict[str, Any] = {}
    signature: str = ""
    item: str = ""


class ToolResult(_Part, frozen=True, tag="tool_result"):
    """What a tool answered to the call `id`; `error` where it failed. It stands in a user's turn.

    `content` is a text, or texts, images and documents for the providers that take them in a result.
    """

    id: str
    name: str
    content: str | tuple[Text | Image | Document, ...]
    error: bool = False

    @property
    def parts(self) -> tuple[Text | Image | Document, ...]:
        """The content as parts; a text by itself is one part."""
        return (Text(self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return text_of(self.content)


Part = Text | Image | Audio | Document | Reasoning | ToolCall | ToolResult


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation. Results of tools stand in the user's turn.

    `protocol` is the format that an assistant's turn came in: what it signed is not sent to a provider of another one.
    `cache` marks the end of a beginning that many calls share: the provider keeps everything up to this turn, and reads
    it at a lower price in later calls. Providers that keep beginnings unasked, or not at all, ignore it.
    """

    role: Role
    content: str | tuple[Part, ...]
    protocol: str = ""
    cache: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts; a text by itself is one part, an empty one none."""
        if isinstance(self.content, str):
            return (Text(self.content),) if self.content else ()
        return self.content

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return text_of(self.content)


def text_of(content: str | Sequence[Part]) -> str:
    """The text parts of a message's content, joined."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, Text))


def System(text: str, *, cache: bool = False) -> Message:
    """A system turn; for `cache` see Message. Raises InputError if the text is not a str."""
    if not isinstance(text, str):
        raise InputError(f"the system's turn is a text, not {type(text).__name__}: {text!r:.80}")
    return Message("system", text, cache=cache)


def User(*content: str | Part, cache: bool = False) -> Message:
    """A user's turn of texts and other parts; for `cache` see Message. Raises InputError for what is neither."""
    return Message("user", _content(content), cache=cache)


def Assistant(*content: str | Part, cache: bool = False) -> Message:
    """An assistant's turn of texts and other parts; for `cache` see Message. Raises InputError for what is neither."""
    return Message("assistant", _content(content), cache=cache)


def _content(content: tuple[str | Part, ...]) -> str | tuple[Part, ...]:
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    for part in content:
        if not isinstance(part, str | _Part):
            raise InputError(f"a turn is made of texts and parts, not {type(part).__name__}: {part!r:.80}")
    return tuple(Text(part) if isinstance(part, str) else part for part in content)


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that a model may call. `parameters` is the JSON Schema of its arguments, an object.

    `strict`: the provider holds the arguments to the schema, which must be one that its strict mode takes; `tool(…,
    strict=True)` makes such a schema. `cache` marks the end of a shared beginning, as in Message.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool = False
    cache: bool = False


class OutputFormat(msgspec.Struct, frozen=True):
    """The JSON Schema that the answer must follow."""

    name: str
    schema: dict[str, Any]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call.

    `input` counts every prompt token; `cached` is the part of it that was read from a cache and `cache_written` the
    part that was written to one. `output` counts every token made, `reasoning` the part of it that was thinking.
    """

    input: int
    output: int
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One chat call, complete in itself. None: the model's own default.

    `prefill` is put at the beginning of the assistant's turn and the model continues it; it is not part of the reply's
    text. `grammar` is a GBNF grammar that the answer must follow (llama.cpp). `max_tokens` counts tokens of the answer.
    `tool_choice` is `auto`, `none`, `required` or the name of a tool. `logprobs` asks for the log-probability of each
    token and of so many alternatives to it. `extra` goes into the request's body as it is.
    """

    messages: tuple[Message, ...]
    prefill: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    reasoning: Effort | None = None
    logprobs: int | None = None
    extra: dict[str, Any] = {}


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token with its natural log-probability, and the likeliest tokens in its place with theirs."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


_REPR_LENGTH: Final = 200  # characters of an answer that its repr shows


class Reply(msgspec.Struct, frozen=True):
    """A model's answer.

    `usd` is None where the cost is unknown, 0.0 if it is free. `seconds` is wall time in all and `first_seconds`
    that until the first piece of a stream, or the first token of a model in this process. `parsed` is the value that
    `output=` asked for. `model` is what the provider calls itself; `raw` is the body as it came (of a stream: all of
    its bytes). `citations` are addresses. `id` names an answer that OpenAI's Responses API keeps, for a later call's
    `previous_response_id`.
    """

    content: str | tuple[Part, ...]
    finish_reason: FinishReason
    usage: Usage
    usd: float | None = None
    seconds: float = 0.0
    first_seconds: float | None = None
    model: str = ""
    request_id: str = ""
    parsed: Any = None
    logprobs: tuple[TokenLogprob, ...] = ()
    citations: tuple[str, ...] = ()
    raw: bytes = b""
    protocol: str = ""
    id: str = ""

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _REPR_LENGTH else f"{self.text[:_REPR_LENGTH]}…"
        calls = f", calls {', '.join(call.name for call in self.tool_calls)}" if self.tool_calls else ""
        ended = "" if self.finish_reason in ("stop", "tool_calls") else f", ended by {self.finish_reason}"
        cost = "cost unknown" if self.usd is None else f"${self.usd:.4g}"
        tokens = f"{self.usage.input:,} → {self.usage.output:,} tokens"
        return f"Reply({text!r}{calls}{ended}, {tokens}, {cost}, {self.seconds:.3g} s)"

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return text_of(self.content)

    @property
    def message(self) -> Message:
        """The assistant's turn, to be put into the conversation as it is."""
        return Message("assistant", self.content, self.protocol)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model wants called."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, ToolCall))

    @property
    def reasoning(self) -> str:
        """The thinking that the provider shows, joined."""
        if isinstance(self.content, str):
            return ""
        return "".join(part.text for part in self.content if isinstance(part, Reasoning))


class Delta(msgspec.Struct, frozen=True):
    """A piece of a streamed answer: text, thinking, or a piece of a tool call.

    `index` numbers the tool calls of the answer; `name` and `id` come with a call's first piece and `arguments` is a
    piece of the JSON text of its arguments.
    """

    text: str = ""
    reasoning: str = ""
    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""


class Embeddings(msgspec.Struct, frozen=True):
    """Vectors as a provider sent them, in the order of the texts, and what they cost."""

    vectors: list[list[float]] | list[bytes]
    """Numbers, or little-endian float32 bytes."""
    input_tokens: int = 0


_MAGIC: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def _image_type(data: bytes) -> str | None:
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _media_type(path: str | Path, prefix: str) -> str:
    media_type = mimetypes.guess_type(str(path))[0]
    if media_type is None or not media_type.startswith(prefix):
        raise InputError(f"{path}: the ending {Path(path).suffix!r} names no {prefix or 'known '}type")
    return media_type


def _read(path: str | Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"the {what} {path} cannot be read: {error.strerror}") from None


def _data_url(url: str) -> bytes:
    import base64

    try:
        return base64.b64decode(url.partition("base64,")[2], validate=True)
    except ValueError:
        raise InputError("a data: address is no valid base64") from None
