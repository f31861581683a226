"""Ollama's server beside its chat: what it has downloaded, and downloading more through it.

`/api/pull` answers with JSON lines: `status`, and for each layer `digest`, `total` and `completed` bytes; the last
status is `success`, and a failure is a line with `error` (https://docs.ollama.com/api/pull).
"""

import os
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import httpx2
import msgspec

from kurabe.errors import START, DownloadError, InputError
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.codecs.ollama import Ollama
from kurabe.models.files import download as http
from kurabe.models.files.download import Progress
from kurabe.models.hosted.auth import authorize, find_key
from kurabe.models.providers import providers
from kurabe.models.reference import Reference

_CODEC: Final = Ollama()
_TIMEOUT: Final = httpx2.Timeout(600, connect=5)
"""Seconds; between lines there may be minutes, while the server checks a hash."""
MOST_LINE: Final = 1 << 16
"""Bytes of a line of progress."""
MOST_LAYERS: Final = 1000
"""Of a model."""


class Running(NamedTuple):
    """A model that the server has, and its bytes."""

    name: str
    size: int


class Pulled:
    """Reads the lines of a pull. `done` and `total` are bytes of the layers that have come up so far."""

    def __init__(self) -> None:
        self.succeeded = False
        self._layers: dict[str, tuple[int, int]] = {}

    @property
    def done(self) -> int:
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self._layers.values())

    def add(self, line: str) -> None:
        """Take a line in. Raises DownloadError if it holds an error or can't be read."""
        if not line.strip():
            return
        try:
            found = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise DownloadError(f"Ollama sent a line that can't be read: {line[:120]!r}; try again") from None
        if found.error:
            raise DownloadError(f"Ollama could not fetch the model: {found.error}")
        if found.digest and found.total:
            before = self._layers.get(found.digest, (0, 0))[0]
            self._layers[found.digest] = max(before, found.completed or 0), found.total
            if len(self._layers) > MOST_LAYERS:
                raise DownloadError(f"Ollama names more than {MOST_LAYERS:,} layers of one model, which can't be right")
        self.succeeded = self.succeeded or found.status == "success"


_Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]


class _Line(msgspec.Struct):
    status: str | None = None
    digest: str | None = None
    total: _Bytes | None = None
    completed: _Bytes | None = None
    error: str | None = None


class _Tag(msgspec.Struct):
    model: str
    size: _Bytes = 0


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


def _headers() -> dict[str, str]:
    """Of every request: the kind of the body, and the key where one is set."""
    provider = providers()["ollama"]
    proof = authorize(provider, find_key(provider), {})
    return {"content-type": "application/json", **proof(HttpRequest("/api/tags"), "")}


def address(reference: Reference | None = None) -> str:
    """Where the server is: the reference's `host`, else OLLAMA_HOST, else this machine."""
    given = reference.options.get("host") if reference else None
    option = providers()["ollama"].options["host"]
    named = given or os.environ.get("OLLAMA_HOST", "").strip() or option.default or ""
    return _CODEC.address(named.rstrip("/"))


def pull(reference: Reference, progress: Progress) -> None:
    """Let the server fetch the model. `progress` is called with (bytes, bytes of what is known to come).

    The server keeps what has come when this is interrupted. Raises DownloadError where it does not answer, does not
    know the model, or fails in the middle.
    """
    where, name = address(reference), reference.name
    request = pull_request(name)
    state = Pulled()
    try:
        with http.new_client() as client:
            client.timeout = _TIMEOUT
            with client.stream("POST", where + request.path, content=request.body, headers=_headers()) as response:
                if response.status_code != 200:
                    raise DownloadError(_refused(name, response.status_code, http.read_body(response)))
                for line in _lines(response):
                    state.add(line)
                    if state.total:
                        progress(state.done, state.total)
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise DownloadError(f"no Ollama server answers at {where}. {START['ollama'].format(model=name)}") from None
    except httpx2.InvalidURL:
        raise InputError(f"{where!r} is no address of Ollama: write host, host:port or http://host:port") from None
    except httpx2.HTTPError as error:
        raise DownloadError(
            f"the Ollama server at {where} broke off: {type(error).__name__}; run it again to go on"
        ) from None
    except http.FetchError as error:
        raise DownloadError(f"the answer of the Ollama server can't be used: {error}") from None
    if not state.succeeded:
        raise DownloadError(f"the Ollama server at {where} stopped before {name!r} was whole; run it again to go on")


def pull_request(name: str) -> HttpRequest:
    """The request that begins a download."""
    return HttpRequest("/api/pull", msgspec.json.encode({"model": name, "stream": True}))


def running(seconds: float = 1.0) -> list[Running] | None:
    """The models of the server, or None where none answers within `seconds`."""
    try:
        url = address() + "/api/tags"
        with http.new_client() as client, client.stream("GET", url, headers=_headers(), timeout=seconds) as answer:
            answer.raise_for_status()
            tags = msgspec.json.decode(http.read_body(answer), type=_Tags).models or []
    except (httpx2.HTTPError, httpx2.InvalidURL, InputError, http.FetchError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [Running(tag.model, tag.size) for tag in tags]


def _lines(response: httpx2.Response) -> Iterator[str]:
    """The lines of an answer as they come. Raises DownloadError for one of more than MOST_LINE bytes."""
    rest = b""
    for piece in response.iter_bytes(MOST_LINE):
        *lines, rest = (rest + piece).split(b"\n")
        if any(len(line) > MOST_LINE for line in (*lines, rest)):
            raise DownloadError(f"Ollama sent a line of more than {MOST_LINE >> 10} KiB; try again")
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def _refused(name: str, status: int, body: bytes) -> str:
    try:
        why = msgspec.json.decode(body, type=_Line).error or ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        why = ""
    return f"Ollama could not fetch {name!r}: it answered {status}{f', {why}' if why else ''}"
