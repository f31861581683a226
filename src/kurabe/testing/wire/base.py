"""What the simulated providers have in common."""

import re
from typing import Any, ClassVar, Literal

import msgspec

from kurabe.messages import Reply, ToolCall

Kind = Literal["chat", "embed", "rerank", "models", "tune"]


class Asked(msgspec.Struct):
    """What a request asks for, read from its path and body. `texts`: to embed, or the documents to rank."""

    kind: Kind
    model: str = ""
    stream: bool = False
    text: str = ""
    texts: list[str] = []
    dimensions: int | None = None


class Call(msgspec.Struct):
    """One request that came: `number` counts from 0, `text` is the user's last text, `headers` have lower-case names.

    `outcome` is `answer`, or the kind of the fault that it met.
    """

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    kind: str = ""
    model: str = ""
    stream: bool = False
    text: str = ""
    texts: list[str] = []
    dimensions: int | None = None
    outcome: str = ""

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def key(self) -> str:
        """The key that the call was sent with, '' without one."""
        for name in ("authorization", "x-api-key", "api-key", "x-goog-api-key"):
            if value := self.headers.get(name):
                return value.removeprefix("Bearer ")
        return self.query.get("key", "")


class Refused(Exception):
    """The request is not one that the provider would take."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Wire:
    """One provider's format. Values returned are JSON values; events are bytes as they go out."""

    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    request_id: ClassVar[str] = "x-request-id"

    def asked(self, method: str, path: str, query: dict[str, str], body: Any) -> Asked | None:
        """What is asked, or None where the provider has no such address. Raises Refused, and LookupError or TypeError
        for an incomplete body."""
        raise NotImplementedError

    def answer(self, call: Call, reply: Reply) -> Any:
        """A whole answer."""
        raise NotImplementedError

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        """A streamed answer."""
        raise NotImplementedError

    def embeddings(self, call: Call, vectors: list[list[float]]) -> Any:
        """Vectors, in the order of `call.texts`."""
        raise NotImplementedError

    def ranking(self, call: Call, scores: list[tuple[int, float]]) -> Any:
        """(position, score), the best first."""
        raise NotImplementedError

    def models(self, names: list[str]) -> Any:
        """The list of models."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> tuple[dict[str, str], Any]:
        """(headers, body) of an error."""
        raise NotImplementedError

    def error_event(self, message: str) -> bytes:
        """An error in the middle of a stream."""
        raise NotImplementedError

    def failed(self, call: Call, message: str) -> Any:
        """An error inside an answer of status 200."""
        return self.error(500, message)[1]

    def broken_event(self) -> bytes:
        """An event that is no JSON."""
        return b'data: {"id": "broken, "choices": [\n\n'

    def limits(self, requests: int | None, tokens: int | None, left: int) -> dict[str, str]:
        """Headers that state the limits per minute; `left`: requests that may still be sent."""
        return {}


def pieces_of(text: str) -> list[str]:
    """The text in pieces of a word each; joined they are the text."""
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)


def sse(value: Any, event: str = "") -> bytes:
    """A server-sent event."""
    head = b"event: " + event.encode() + b"\n" if event else b""
    return head + b"data: " + msgspec.json.encode(value) + b"\n\n"


def arguments_of(call: ToolCall) -> str:
    """The arguments as JSON text."""
    return msgspec.json.encode(call.arguments).decode()


def halves(text: str) -> list[str]:
    """A text in two pieces, as arguments of tools are streamed."""
    middle = len(text) // 2
    return [text[:middle], text[middle:]]


def text_in(content: Any, kinds: tuple[str, ...] = ("text",)) -> str:
    """The text of a message's content: a text, or a list of parts of these types."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or [] if part.get("type") in kinds)


def last_user(messages: list[Any], kinds: tuple[str, ...] = ("text",)) -> str:
    """The text of the last user turn that has any."""
    for message in reversed(messages):
        if message.get("role") == "user" and (text := text_in(message.get("content"), kinds)):
            return text
    return ""
