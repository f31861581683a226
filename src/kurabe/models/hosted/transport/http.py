"""HTTP over pyreqwest: pooled connections, proxies and certificates of the environment, and our errors for its own.

It is the fastest of the well-kept clients (`benchmarks/calls.py`). Nothing of it is seen outside this file.
"""

import asyncio
import atexit
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, PyreqwestError, RequestTimeoutError

from kurabe.errors import (
    AnswerTooLargeError,
    CallTimeoutError,
    ConnectionFailedError,
    CutStreamError,
    InputError,
    ProviderError,
    UnreadableAnswerError,
)

SPARE_FILES = 128  # file descriptors left to the rest of the process
MOST_BYTES = 128 * 1024 * 1024
"""Of an answer, after it is unpacked, streamed or not. The largest real ones, with pictures or embeddings, have some 30
MiB."""
MOST_ERROR_BYTES = 1024 * 1024
"""Of the answer of another status than 2xx; what is longer is cut there."""


class Timeouts(msgspec.Struct, frozen=True):
    """How long a call may take, in seconds.

    Parameters
    ----------
    connect : float
        To connect.
    first : float
        Until the first byte of the answer.
    between : float
        Between two pieces of a stream.
    total : float
        In all, with all attempts and waits; for a call of a batch, from its first turn.
    """

    connect: float = 10.0
    first: float = 300.0
    between: float = 120.0
    total: float = 900.0


class Answer(msgspec.Struct, frozen=True):
    """Status, headers (looked up whatever their case) and body."""

    status: int
    headers: Any
    body: bytes


class Streaming:
    """An answer that comes in pieces: `async for data in streaming.pieces()`."""

    def __init__(self, response: Any, watch: "_Watch") -> None:
        self.status: int = response.status
        self.headers: Any = _readable(response.headers)
        self._response = response
        self._watch = watch

    async def read(self) -> bytes:
        """The body of an error, or its first MOST_ERROR_BYTES."""
        try:
            self._watch.begin()
            return await _body(self._response, ok=False)
        except PyreqwestError as error:
            raise _ours(error) from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body's pieces as they come. Raises CallTimeoutError, ConnectionFailedError, CutStreamError, and
        AnswerTooLargeError after MOST_BYTES."""
        read, watch = self._response.body_reader.read_chunk, self._watch
        total = 0
        try:
            watch.begin()
            while (piece := await read()) is not None:
                watch.seen = True
                watch.task = None
                total += len(piece)
                if total > MOST_BYTES:
                    raise _too_large()
                yield bytes(piece)
                watch.begin()
        except PyreqwestError as error:
            ours = _ours(error)
            if isinstance(ours, UnreadableAnswerError):  # of a stream, an end too soon
                ours = CutStreamError("the connection ended before the stream did")
            raise ours from None


class Pin(msgspec.Struct, frozen=True):
    """The address that a host stands for, so that it is not looked up again, and not by a proxy either."""

    host: str
    address: str
    port: int


class Http:
    """A pool of connections. Usable from any thread and event loop."""

    def __init__(self, timeouts: Timeouts, pin: Pin | None = None) -> None:
        self.timeouts = timeouts
        self._pin = pin
        self._total = timedelta(seconds=timeouts.total)
        # A library's client has one read time-out: until the first byte for plain answers, and for streams one that
        # leaves first byte and pieces to `_Watch`.
        self._pools = {False: _build(timeouts, timeouts.first, pin)}

    def forget(self) -> None:
        """In a forked process: the threads behind the pools are not there, so others are made."""
        _left_behind.append(self._pools)  # to let go of them would wait for the threads
        self._pools = {}

    def _pool(self, streamed: bool) -> Client:
        pool = self._pools.get(streamed)
        if pool is None:
            longest = max(self.timeouts.first, self.timeouts.between)
            pool = _build(self.timeouts, longest if streamed else self.timeouts.first, self._pin)
            self._pools[streamed] = pool
        return pool

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send and read the whole answer. Raises CallTimeoutError, ConnectionFailedError and UnreadableAnswerError."""
        _settle_at_exit()
        try:
            builder = self._pool(False).request(method, url).headers(headers).timeout(self._total)
            del headers  # a traceback with locals would show the key
            # read in pieces, though it is given as one: a body may be unpacked to any length
            async with (builder.body_bytes(body) if body else builder).build_streamed() as response:
                ok = 200 <= response.status < 300
                return Answer(response.status, _readable(response.headers), await _body(response, ok=ok))
        except PyreqwestError as error:
            raise _ours(error) from None

    @asynccontextmanager
    async def stream(self, method: str, url: str, headers: dict[str, str], body: bytes) -> AsyncIterator[Streaming]:
        """Send, and give the answer when its head has come; its pieces are passed on at once."""
        _settle_at_exit()
        watch = _Watch(self.timeouts)
        try:
            # 1: else the answer is held back until the buffer is full.
            builder = self._pool(True).request(method, url).headers(headers).timeout(self._total)
            del headers  # a traceback with locals would show the key
            request = builder.body_bytes(body).streamed_read_buffer_limit(1).build_streamed()
            with watch:
                async with request as response:
                    watch.task = None
                    yield Streaming(response, watch)
        except PyreqwestError as error:
            raise _ours(error) from None


async def _body(response: Any, *, ok: bool) -> bytes:
    """The body. Raises AnswerTooLargeError where it is larger than MOST_BYTES; of an error (not `ok`) the first
    MOST_ERROR_BYTES are enough."""
    read, limit = response.body_reader.read_chunk, MOST_BYTES if ok else MOST_ERROR_BYTES
    body = bytearray()
    while (piece := await read()) is not None:
        body += piece
        if len(body) > limit:
            if ok:
                raise _too_large()
            return bytes(body[:limit])
    return bytes(body)


def _too_large() -> AnswerTooLargeError:
    return AnswerTooLargeError(f"it has more than {MOST_BYTES >> 20} MiB")


class _Watch:
    """Cancels the task that waits too long for the first or for the next bytes, and makes a time-out of it.

    One timer that looks at the time the wait began, so that a piece costs no timer of its own. While the caller is at
    work on a piece nothing is waited for, however long that takes: `task` is None.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._late = ""
        self._cancelling = 0
        self.seen = False
        self.task: asyncio.Task[Any] | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._now: Callable[[], float] = loop.time
        self.begin()
        self._handle = loop.call_later(min(self._timeouts.first, self._timeouts.between), self._look, loop)

    def begin(self) -> None:
        """The current task waits from now on."""
        self.task = asyncio.current_task()
        self._last = self._now()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        limit = self._timeouts.between if self.seen else self._timeouts.first
        left = limit if self.task is None else self._last + limit - loop.time()
        if left > 0 or self.task is None:
            self._handle = loop.call_later(left + 0.001, self._look, loop)
        else:
            self._late = f"no {'more bytes' if self.seen else 'answer'} within {limit:g} s"
            self._cancelling = self.task.cancelling()
            self.task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        self._handle.cancel()
        if not self._late or kind is not asyncio.CancelledError or self.task is None:
            return
        if self.task.uncancel() <= self._cancelling:  # else it is cancelled from outside as well
            raise CallTimeoutError(self._late) from None


_clients: dict[Timeouts, Http] = {}


def shared(timeouts: Timeouts) -> Http:
    """The process's pool with these time-outs."""
    if timeouts not in _clients:
        _clients[timeouts] = Http(timeouts)
    return _clients[timeouts]


_left_behind: list[dict[bool, Client]] = []
_forks = 0  # since which the threads of a runtime are gone; pyreqwest has one runtime of each of two kinds


def _forget() -> None:
    global _forks
    _forks += bool(_clients)
    for http in _clients.values():
        http.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _build(timeouts: Timeouts, read: float, pin: Pin | None = None) -> Client:
    if _forks > 1:
        raise InputError("a process that was forked twice can't call hosted models; start it with 'spawn' instead")
    builder = (
        ClientBuilder()
        .runtime_multithreaded(_forks > 0)
        .connect_timeout(timedelta(seconds=timeouts.connect))
        .read_timeout(timedelta(seconds=read))
        .max_connections(most_connections())
        .follow_redirects(False)  # a key must not follow to another address
        .referer(False)
        .user_agent("kurabe")
        .http1_lower_case_headers()
    )
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(variable):
            try:
                builder = builder.add_root_certificate_pem(Path(path).read_bytes())
            except (OSError, PyreqwestError) as error:
                raise InputError(f"{variable} names {path}, which can't be used: {error}") from None
    if pin is not None:
        builder = builder.no_proxy().resolve(pin.host, pin.address, pin.port)
    try:
        return builder.build()
    except (PyreqwestError, RuntimeError) as error:
        raise InputError(f"no connections can be set up: {error}; check the proxy and certificate variables") from None


def most_connections() -> int | None:
    """How many connections the process may hold open, or None where there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(16, soft - SPARE_FILES)


def _readable(headers: Any) -> Any:
    """The headers without those whose values are not ASCII, which the library would raise ValueError for."""
    try:
        list(headers.values())
    except ValueError:
        texts = {}
        for name in headers:
            with contextlib.suppress(ValueError):
                texts[name.lower()] = headers[name]
        return texts
    return headers


def _ours(error: PyreqwestError) -> ProviderError:
    """Our error for one of the HTTP library; the message has no address, since a query may hold a key."""
    details = getattr(error, "details", None)
    causes = [cause["message"] for cause in (details or {}).get("causes") or []] if isinstance(details, dict) else []
    said = causes[-1] if causes else str(getattr(error, "message", error))
    unconnected = any("(Connect)" in cause for cause in causes)  # the classes say so of every fault before the head
    if isinstance(error, RequestTimeoutError):
        return CallTimeoutError(f"no {'connection' if unconnected else 'whole answer'} in time", sent=not unconnected)
    if unconnected:
        return ConnectionFailedError(said, sent=False)
    if isinstance(error, BuilderError):
        raise InputError(f"the address can't be used: {said}")
    if any(
        word in " ".join(causes).lower() for word in ("unexpected eof", "incomplete", "end of file before", "decod")
    ):
        return UnreadableAnswerError(f"the answer was cut short: {said}")
    return ConnectionFailedError(said)


_settles = False


def _settle_at_exit() -> None:
    """After a stream, and after a call that failed or was given up, the library's thread lets go of Python objects a
    moment later; an interpreter that ends in that moment would be aborted (seen with pyreqwest 0.15.1)."""
    global _settles
    if not _settles:
        _settles = True
        atexit.register(time.sleep, 0.1)
