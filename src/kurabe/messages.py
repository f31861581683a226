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
    """A text as part of a message.

    Parameters
    ----------
    text : str
        The text.
    signature : str
        What the provider wants back with it (Gemini's thought signature), else empty.
    """

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
    """A picture: PNG, JPEG, GIF or WebP.

    Parameters
    ----------
    data : bytes
        The file's content.
    media_type : str
        Such as `image/png`.
    url : str
        The address of a file that the provider fetches itself, in place of `data`.
    name : str
        The file's name.

    Examples
    --------
    >>> from kurabe import Image
    >>> Image.from_bytes(b"GIF89a")
    Image(image/gif, 6 bytes)
    >>> Image.from_url("https://example.org/cat.png")
    Image(https://example.org/cat.png)
    """

    @staticmethod
    def from_bytes(data: bytes) -> "Image":
        """An image from the content of a file; its type is found in the bytes.

        Parameters
        ----------
        data : bytes
            The content of a PNG, JPEG, GIF or WebP file.

        Returns
        -------
        Image

        Raises
        ------
        InputError
            If the bytes are not a PNG, JPEG, GIF or WebP image.
        """
        media_type = _image_type(data)
        if media_type is None:
            raise InputError(f"these {len(data):,} bytes are no PNG, JPEG, GIF or WebP image; convert them first")
        return Image(data=data, media_type=media_type)

    @staticmethod
    def from_path(path: str | Path) -> "Image":
        """An image from a file; its type is found in the bytes.

        Parameters
        ----------
        path : str or Path
            A PNG, JPEG, GIF or WebP file.

        Returns
        -------
        Image

        Raises
        ------
        InputError
            If the file can't be read or is not a PNG, JPEG, GIF or WebP image.
        """
        data = _read(path, "image")
        media_type = _image_type(data)
        if media_type is None:
            raise InputError(f"{path} is no PNG, JPEG, GIF or WebP image; convert it first")
        return Image(data=data, media_type=media_type, name=Path(path).name)

    @staticmethod
    def from_url(url: str) -> "Image":
        """An image that the provider fetches itself. A `data:` address is decoded here.

        Parameters
        ----------
        url : str
            The image's address.

        Returns
        -------
        Image

        Raises
        ------
        InputError
            If it is not a valid address.
        """
        if url.startswith("data:"):
            return Image.from_bytes(_data_url(url))
        if "://" not in url:
            raise InputError(f"{url!r} is no address of an image; for a file there is Image.from_path")
        return Image(url=url, media_type=mimetypes.guess_type(url)[0] or "")


class Audio(_Media, frozen=True, tag="audio"):
    """A sound recording.

    Parameters
    ----------
    data : bytes
        The file's content.
    media_type : str
        Such as `audio/wav` or `audio/mpeg`.
    url : str
        The address of a file that the provider fetches itself, in place of `data`.
    name : str
        The file's name.
    """

    @staticmethod
    def from_path(path: str | Path) -> "Audio":
        """A sound recording from a file; its type is that of the file's ending.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Audio

        Raises
        ------
        InputError
            If the file can't be read, or its ending does not stand for an audio type.
        """
        return Audio(_read(path, "audio"), _media_type(path, "audio/"), name=Path(path).name)


class Document(_Media, frozen=True, tag="document"):
    """A document, such as a PDF or a text file.

    Parameters
    ----------
    data : bytes
        The file's content.
    media_type : str
        Such as `application/pdf` or `text/plain`.
    url : str
        The address of a file that the provider fetches itself, in place of `data`.
    name : str
        The file's name.
    """

    @staticmethod
    def from_path(path: str | Path) -> "Document":
        """A document from a file; its type is that of the file's ending.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Document

        Raises
        ------
        InputError
            If the file can't be read, or its ending does not stand for a known type.
        """
        return Document(_read(path, "document"), _media_type(path, ""), name=Path(path).name)


class Reasoning(_Part, frozen=True, tag="reasoning"):
    """A model's thinking. The provider gets it back as it came.

    Parameters
    ----------
    text : str
        The thinking, as far as the provider shows it.
    signature : str
        The provider's signature of the text.
    data : str
        The encrypted form of the thinking.
    id : str
        The provider's name for it.
    """

    text: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""


class ToolCall(_Part, frozen=True, tag="tool_call"):
    """A model's request to call a tool.

    Parameters
    ----------
    id : str
        The call's name; its `ToolResult` has the same.
    name : str
        The tool's name.
    arguments : dict
        The arguments, by parameter.
    signature : str
        What the provider wants back with it.
    item : str
        A second name of the call (OpenAI's `fc_…`).
    """

    id: str
    name: str
    arguments: dict[str, Any] = {}
    signature: str = ""
    item: str = ""


class ToolResult(_Part, frozen=True, tag="tool_result"):
    """What a tool answered to a call. It belongs into a user's turn.

    Parameters
    ----------
    id : str
        The `id` of the ToolCall.
    name : str
        The tool's name.
    content : str or tuple of Text, Image and Document
        The answer; parts other than text only for providers that take them.
    error : bool
        Whether the tool failed.
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
    """One turn of a conversation. `System`, `User` and `Assistant` make one.

    Parameters
    ----------
    role : {"system", "user", "assistant"}
        Who speaks. Results of tools belong into the user's turn.
    content : str or tuple of parts
        A text, or parts: Text, Image, Audio, Document, Reasoning, ToolCall, ToolResult.
    protocol : str
        The wire format in which an assistant's turn came. What it signed is not sent to a provider with another format.
    cache : bool
        Whether a beginning that many calls share ends here. The provider then keeps everything up to this turn, and
        later
        calls read it at a lower price. Providers that always or never do this ignore it.
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
    """A system turn, which tells the model how to behave.

    Parameters
    ----------
    text : str
        What the model is told.
    cache : bool
        As for `Message`.

    Returns
    -------
    Message

    Raises
    ------
    InputError
        If `text` is not a str.
    """
    if not isinstance(text, str):
        raise InputError(f"the system's turn is a text, not {type(text).__name__}: {text!r:.80}")
    return Message("system", text, cache=cache)


def User(*content: str | Part, cache: bool = False) -> Message:
    """A user's turn.

    Parameters
    ----------
    *content : str or part
        Texts and other parts, such as Image or ToolResult.
    cache : bool
        As for `Message`.

    Returns
    -------
    Message

    Raises
    ------
    InputError
        If something is neither a text nor a part.

    Examples
    --------
    >>> from kurabe import User
    >>> User("Hello.").role
    'user'
    """
    return Message("user", _content(content), cache=cache)


def Assistant(*content: str | Part, cache: bool = False) -> Message:
    """An assistant's turn.

    Parameters
    ----------
    *content : str or part
        Texts and other parts, such as Image or ToolResult.
    cache : bool
        As for `Message`.

    Returns
    -------
    Message

    Raises
    ------
    InputError
        If something is neither a text nor a part.

    Examples
    --------
    >>> from kurabe import Assistant
    >>> Assistant("Hello.").role
    'assistant'
    """
    return Message("assistant", _content(content), cache=cache)


def _content(content: tuple[str | Part, ...]) -> str | tuple[Part, ...]:
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    for part in content:
        if not isinstance(part, str | _Part):
            raise InputError(f"a turn is made of texts and parts, not {type(part).__name__}: {part!r:.80}")
    return tuple(Text(part) if isinstance(part, str) else part for part in content)


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that a model may call. `kurabe.tool` makes one from a function.

    Parameters
    ----------
    name : str
        The tool's name.
    description : str
        What it does, for the model.
    parameters : dict
        The JSON Schema of its arguments, an object.
    strict : bool
        Make the provider enforce the schema, which has to be one that its strict mode accepts.
    cache : bool
        As for `Message`: the shared beginning ends after this tool.
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

    Parameters
    ----------
    input : int
        All tokens of the prompt.
    output : int
        All tokens of the answer, thinking included.
    cached : int
        Those of `input` that were read from a cache.
    cache_written : int
        Those of `input` that were written to a cache.
    reasoning : int
        Those of `output` that were thinking.
    """

    input: int
    output: int
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One chat call, complete in itself. A setting that is None keeps the model's own default.

    Parameters
    ----------
    messages : tuple of Message
        The conversation so far.
    prefill : str
        The beginning of the answer, which the model continues. It is not part of the reply's text.
    max_tokens : int, optional
        The most tokens of the answer.
    temperature : float, optional
        How freely tokens are chosen; 0: the likeliest one.
    top_p : float, optional
        Choose from the likeliest tokens that together have this probability.
    top_k : int, optional
        Choose from so many of the likeliest tokens.
    frequency_penalty, presence_penalty : float, optional
        How much tokens lose that occurred before: for each time, or once.
    seed : int, optional
        The seed of the choice.
    stop : tuple of str
        Texts at which the answer ends.
    grammar : str, optional
        A GBNF grammar that the answer must follow (llama.cpp).
    tools : tuple of Tool
        What the model may call.
    tool_choice : str, optional
        `auto`, `none`, `required`, or the name of a tool that must be called.
    parallel_tool_calls : bool, optional
        Whether the model may call several tools at once.
    output : OutputFormat, optional
        The JSON Schema that the answer must follow.
    reasoning : {"none", "minimal", "low", "medium", "high", "xhigh"}, optional
        How much the model thinks first.
    logprobs : int, optional
        Return the log-probability of each token, and of so many alternatives.
    extra : dict
        Added to the request's body as it is.
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

    Parameters
    ----------
    content : str or tuple of parts
        The answer: a text, or parts such as Text, Reasoning and ToolCall.
    finish_reason : {"stop", "length", "tool_calls", "content_filter", "other"}
        Why the answer ended.
    usage : Usage
        The tokens of the call.
    usd : float or None
        Its cost in dollars; None if unknown, 0.0 if it costs nothing.
    seconds : float
        The wall time of the call.
    first_seconds : float or None
        The time to the first piece of a stream, or to the first token of a local model.
    model : str
        What the provider calls the model.
    request_id : str
        The provider's name for the call.
    parsed : object
        The value that `output=` asked for.
    logprobs : tuple of TokenLogprob
        The tokens with their log-probabilities, if the request asked for them.
    citations : tuple of str
        Addresses that the answer cites.
    raw : bytes
        The body as it came; of a stream, all of its bytes.
    protocol : str
        The wire format in which it came.
    id : str
        The name under which OpenAI's Responses API keeps the answer, for `previous_response_id` of a later call.
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

    Parameters
    ----------
    text : str
        A piece of the text.
    reasoning : str
        A piece of the thinking.
    index : int or None
        Which tool call of the answer a piece belongs to, from 0.
    id, name : str
        The call's id and the tool's name; they come with a call's first piece.
    arguments : str
        A piece of the JSON text of the call's arguments.
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
