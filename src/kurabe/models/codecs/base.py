"""What a codec is: our values to an HTTP request, and a provider's bytes back to our values. No sockets."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn, Protocol, TypeVar

import msgspec

from kurabe.errors import (
    AnswerTooLargeError,
    AuthenticationError,
    BadRequestError,
    CallTimeoutError,
    ContentFilteredError,
    ContextTooLongError,
    InputError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    RequestTooLargeError,
    ServerError,
    UnreadableAnswerError,
)
from kurabe.messages import Delta, Embeddings, Message, Part, Reply, Request, Text, ToolResult, text_of

T = TypeVar("T")


class HttpRequest(msgspec.Struct, frozen=True):
    """A request without its address and key: `path` (percent-encoded) is put behind the provider's base address."""

    path: str
    body: bytes = b""
    method: str = "POST"
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    """Besides the key's and `content-type: application/json`, which every request with a body has."""


class Profile(msgspec.Struct, frozen=True):
    """What one model accepts, from providers.toml.

    `without`: names of Request's fields that it refuses, and `system` (a model without a system role), `image`,
    `audio`, `document`. `names`: how a setting is called in the body where the codec's own name does not fit, such as
    `{"max_tokens": "max_completion_tokens"}`. `max_tokens`: sent where a format demands one and the request has none.
    `quirks`: words that the provider's codec knows.
    """

    without: frozenset[str] = frozenset()
    names: dict[str, str] = {}
    max_tokens: int = 4096
    context: int | None = None
    quirks: frozenset[str] = frozenset()


PLAIN: Final = Profile()


class Decoder(Protocol):
    """Reads one streamed answer. Bytes may come in any pieces; the result is the same."""

    late: list[Delta]
    """After `finish`, the deltas of a last event that came without its line end."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that these bytes complete. Raises ProviderError for an error event or unreadable bytes."""

    def finish(self) -> Reply:
        """The whole answer, after the last byte. Raises CutStreamError, with what came, where no terminal event did."""


class Ranking(msgspec.Struct, frozen=True):
    """Documents by relevance, the best first: (position in the list that was sent, score)."""

    results: tuple[tuple[int, float], ...]


class Codec:
    """One wire format. Stateless. Methods that read bytes raise nothing but ProviderError.

    `settings` are the fields of Request that the format can express, `strict` for strict tools, and `cache` for marks
    of a shared beginning.
    """

    settings: ClassVar[frozenset[str]] = frozenset()
    parts: ClassVar[frozenset[str]] = frozenset({"text", "tool_call", "tool_result", "reasoning"})
    """The message parts that the format can express, by their tags."""
    batch: ClassVar[int] = 0
    """How many texts one call embeds at most; 0 where the format has no embeddings."""
    system_first: ClassVar[bool] = False
    """Whether system turns have a place of their own, so that one inside the conversation moves to the front."""

    def batch_of(self, model: str) -> int:
        """How many texts one call of this model embeds at most."""
        return self.batch

    def address(self, address: str) -> str:
        """The base address, where a person may write a shorter form of it."""
        return address

    def chat(self, model: str, request: Request, profile: Profile, *, stream: bool) -> HttpRequest:
        """The request for one chat call."""
        raise NotImplementedError

    def reply(self, body: bytes) -> Reply:
        """Read a whole answer of status 200."""
        raise NotImplementedError

    def decoder(self) -> Decoder:
        """A new decoder of a streamed answer of status 200."""
        raise NotImplementedError

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Read an answer of another status, whatever its body; never raises. `headers` have lower-case names."""
        code, message = generic_error(body)
        return provider_error(status, code, message)

    def embed(self, model: str, texts: list[str], dimensions: int | None, task: str | None) -> HttpRequest:
        """The request for the embeddings of at most `batch` texts; `task` is `query`, `document` or None."""
        raise InputError("this provider offers no embeddings")

    def embeddings(self, body: bytes) -> Embeddings:
        """Read the answer to `embed`."""
        raise NotImplementedError

    def rerank(self, model: str, query: str, documents: list[str], top: int | None) -> HttpRequest:
        """The request that orders `documents` by their relevance for `query`."""
        raise InputError("this provider offers no reranking")

    def ranking(self, body: bytes) -> Ranking:
        """Read the answer to `rerank`."""
        raise NotImplementedError

    def count(self, model: str, asked: str | Request, profile: Profile = PLAIN) -> HttpRequest:
        """The request that counts the tokens of a chat call; a text is a user's turn."""
        raise InputError("this provider counts no tokens before it answers")

    def counted(self, body: bytes) -> int:
        """Read the answer to `count`."""
        raise NotImplementedError

    def models(self) -> HttpRequest:
        """The request for the list of models."""
        return HttpRequest("/models", method="GET")

    def model_names(self, body: bytes) -> list[str]:
        """Read the answer to `models`: the names as they stand in a reference."""
        listed = read_json(body, ModelList)
        return [model.id for model in listed.data]


class _Model(msgspec.Struct):
    id: str


class ModelList(msgspec.Struct):
    """`{"data": [{"id": …}]}`, the most common list of models."""

    data: list[_Model]


def json_body(value: Any) -> bytes:
    """JSON as UTF-8; lone surrogates, which no JSON can hold, become question marks."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        import json

        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding any bytes may raise."""


def merged(body: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The body with a request's `extra` over it. An object adds to ours, so that `extra` and a setting can both speak
    of one, such as `{"options": {"num_ctx": 8192}}`."""
    return body | {
        name: {**ours, **value} if isinstance(ours := body.get(name), dict) and isinstance(value, dict) else value
        for name, value in extra.items()
    }


def joined(parts: Sequence[Part]) -> str | tuple[Part, ...]:
    """The content of a Reply: a text where there is nothing but text that no signature belongs to, else the parts."""
    if all(isinstance(part, Text) and not part.signature for part in parts):
        return text_of(tuple(parts))
    return tuple(parts)


MOST_VALUES: Final = 10_000_000
"""Of an answer's JSON. Each may take a hundred bytes of memory for two of the body; the embeddings of 256 texts with
3,072 dimensions are 800,000."""


def read_json(body: bytes, type: type[T]) -> T:
    """Decode into a struct; raises UnreadableAnswerError that says where it does not fit."""
    if len(body) > MOST_VALUES and body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise AnswerTooLargeError(f"its JSON has more than {MOST_VALUES:,} values")
    try:
        return msgspec.json.decode(body, type=type)
    except BROKEN as error:
        raise UnreadableAnswerError(_unreadable(body, error)) from None


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments of a tool call from their JSON text; nothing at all means none.

    Raises UnreadableAnswerError where they are no JSON object.
    """
    if not text.strip():
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreadableAnswerError(
            f"arguments of a tool call that are no JSON object ({error}): {text[:200]!r}"
        ) from None


def raise_cut(cut: UnreadableAnswerError, reply: Reply) -> NoReturn:
    """Raise the error of a tool call whose arguments are not whole, with the rest of the answer as `partial`."""
    if reply.finish_reason == "length":
        cut.message = f"the tokens were used up inside a tool call; allow more with max_tokens ({cut.message})"
    cut.partial = reply
    raise cut


def as_request(asked: str | Request) -> Request:
    """A text as the request of a user's turn."""
    return Request((Message("user", asked),)) if isinstance(asked, str) else asked


def needs_turn(turns: Sequence[Any], where: str) -> None:
    """Raises InputError where a conversation has no turn besides the system's, which the service refuses."""
    if not turns:
        raise InputError(f"{where} needs a user's turn, and this conversation holds system turns only; add User(…)")


def result_text(result: ToolResult, where: str) -> str:
    """The content of a result for a format that takes text only. Raises InputError where it holds other parts."""
    for part in result.parts:
        if not isinstance(part, Text):
            kind = type(part).__name__.lower()
            raise InputError(f"{where} takes results of tools as text only; put the {kind} into a user's turn after it")
    return result.text


def as_deltas(reply: Reply) -> list[Delta]:
    """A whole reply as the pieces of a stream."""
    deltas = [Delta(reasoning=reply.reasoning)] if reply.reasoning else []
    deltas += [Delta(reply.text)] if reply.text else []
    for index, call in enumerate(reply.tool_calls):
        arguments = json_body(call.arguments).decode()
        deltas.append(Delta(index=index, id=call.id, name=call.name, arguments=arguments))
    return deltas


def data_url(media_type: str, data: bytes) -> str:
    """`data:image/png;base64,…`"""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _unreadable(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "an empty body"
    return f"{error}; it begins with {body[:120].decode('utf-8', 'replace')!r}"


def generic_error(body: bytes) -> tuple[str, str]:
    """(code, message) of an error body in any of the common shapes, else ('', the text of it without tags)."""
    try:
        value: Any = msgspec.json.decode(body)
    except BROKEN:
        return "", _plain(body)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return "", _plain(body)
    inner = value.get("error") or value
    if isinstance(inner, str):
        return "", inner
    if not isinstance(inner, dict):
        return "", _plain(body)
    code = inner.get("code") or inner.get("status") or inner.get("type") or ""
    message = inner.get("message") or inner.get("detail") or inner.get("msg") or inner.get("error") or ""
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    return str(code), message or _plain(body)


def _plain(body: bytes) -> str:
    import re

    text = body[:4000].decode("utf-8", "replace")
    text = re.sub(r"(?is)<(script|style|head).*?</\1>|<[^>]*>", " ", text)
    return " ".join(text.split())[:300]


_LONG = (
    "context_length", "context length", "too many tokens", "maximum context", "prompt is too long", "input is too long",
    "exceeds the maximum number of tokens", "context window", "too long for the model", "input token count",
    "context size", "context_size", "maximum prompt length",
)  # fmt: skip
_FILTERED = ("content_filter", "content filter", "content_policy", "content management policy", "safety system")
_QUOTA = (
    "insufficient_quota", "billing_hard_limit", "exceeded your current quota", "credit balance", "insufficient_balance",
)  # fmt: skip


def provider_error(status: int | None, code: str, message: str, *, retry_after: float | None = None) -> ProviderError:
    """The typed error for a status, or for the code and message of an error inside a stream (status None)."""
    said = f"{code} {message}".lower()
    facts: dict[str, Any] = {"status": status, "code": code, "retry_after": retry_after}
    if status in (None, 400, 413, 422) and any(words in said for words in _LONG):
        return ContextTooLongError(message, **_token_counts(message), **facts)
    if status in (None, 400, 403, 422) and any(words in said for words in _FILTERED):
        return ContentFilteredError(message, **facts)
    if status in (None, 400, 402, 403, 429) and (status == 402 or any(words in said for words in _QUOTA)):
        return QuotaExceededError(message, **facts)
    kind = _BY_STATUS.get(status or 0)
    if kind is None and status is not None:
        kind = ServerError if status >= 500 else BadRequestError
    return (kind or _by_word(said))(message, **facts)


_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: CallTimeoutError,
    413: RequestTooLargeError,
    429: RateLimitedError,
    503: OverloadedError,
    504: CallTimeoutError,
    529: OverloadedError,
}


def _by_word(said: str) -> type[ProviderError]:
    """The kind of an error inside a stream, by its words."""
    for words, kind in (
        (("overload", "unavailable"), OverloadedError),
        (("rate_limit", "rate limit", "too_many_requests", "throttl", "resource_exhausted"), RateLimitedError),
        (("timeout", "timed out", "deadline"), CallTimeoutError),
        (("authentication", "unauthorized", "api key"), AuthenticationError),
        (("permission", "access denied", "accessdenied"), PermissionDeniedError),
        (("not_found", "not found"), NotFoundError),
        (("invalid", "validation", "bad_request"), BadRequestError),
    ):
        if any(word in said for word in words):
            return kind
    return ServerError


def _token_counts(message: str) -> dict[str, int]:
    """The tokens of the conversation and the limit: the first two large numbers of a message, where it has two.

    Digits in a name (`gpt-4-0613`) are no numbers. Cohere says by how much the limit is exceeded.
    """
    import re

    numbers = [int(n.replace(",", "")) for n in re.findall(r"(?<![\w.-])\d[\d,]{2,}(?!\w|-\w)", message)]
    if len(numbers) < 2:
        return {}
    more, less = max(numbers[:2]), min(numbers[:2])
    if re.search(r"exceeded by \d", message):
        limit = numbers[1]
        return {"tokens": numbers[0] + limit, "limit": limit}
    return {"tokens": more, "limit": less}
