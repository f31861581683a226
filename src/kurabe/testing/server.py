"""A small HTTP/1.1 server on the loopback, in a thread of its own: keep-alive, chunked streams, and faults.

It knows nothing of models: a handler makes a Response of each Request.
"""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

End = Literal["keep", "close", "reset", "hang"]


class HttpCall(msgspec.Struct):
    """A request as it came; `path` is decoded, `headers` have lower-case names."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Response(msgspec.Struct):
    """What is sent, after `wait` seconds: the head and the body's pieces, `pace` seconds between them.

    `pieces` of a chunked answer are chunks. `end`: keep the connection, close it, reset it, or say no more.
    `length` is the stated length of an answer that is not chunked, where it is not the real one.
    """

    status: int = 200
    headers: dict[str, str] = {}
    pieces: list[bytes] = []
    chunked: bool = False
    length: int | None = None
    wait: float = 0.0
    pace: float = 0.0
    end: End = "keep"
    silent: bool = False


Handler = Callable[[HttpCall], tuple[Response, Callable[[], None]]]
"""Makes the response of a request; the second value is called once when the exchange is over."""


class Server:
    """Listens from `start` to `close`. `connections` are those that are open."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None) -> None:
        self.port = 0
        self.connections: set[_Connection] = set()
        self.accepted = 0
        self.handler = handler
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kurabe-simulator", daemon=True)

    def start(self) -> None:
        """Begin to listen, at a free port."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: _Connection(self, self._loop), "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Drop every connection, and stop."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.drop()
        await asyncio.sleep(0)
        await self._server.wait_closed()
        while self.connections:
            await asyncio.sleep(0.001)


class _Connection(asyncio.Protocol):
    """One connection: requests are answered one after the other."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._buffer = b""
        self._done: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server.connections.add(self)
        self._server.accepted += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._finish()

    def drop(self) -> None:
        """Close without a word."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._done is None:
            self._next()

    def _next(self) -> None:
        """Answer the next request, where one is complete."""
        try:
            call, self._buffer = _parse(self._buffer)
        except ValueError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()
            return
        if call is None:
            return
        response, self._done = self._server.handler(call)
        if response.wait:
            self._timer = self._loop.call_later(response.wait, self._send, response)
        else:
            self._send(response)

    def _send(self, response: Response) -> None:
        if response.silent:
            self._end(response.end)
            return
        head = _head(response)
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in response.pieces if piece]
        pieces = pieces if response.chunked else response.pieces
        if response.pace:
            self._transport.write(head)
            self._send_slowly(iter(pieces), response)
            return
        if response.chunked and response.end == "keep":
            pieces.append(b"0\r\n\r\n")
        self._transport.write(head + b"".join(pieces))
        self._end(response.end)

    def _send_slowly(self, pieces: Iterator[bytes], response: Response) -> None:
        piece = next(pieces, None)
        if piece is not None:
            self._transport.write(piece)
            self._timer = self._loop.call_later(response.pace, self._send_slowly, pieces, response)
            return
        if response.chunked and response.end == "keep":
            self._transport.write(b"0\r\n\r\n")
        self._end(response.end)

    def _end(self, end: End) -> None:
        self._timer = None
        if end == "hang":
            return
        if end == "reset":
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self._transport.abort()
        elif end == "close":
            self._transport.close()
        self._finish()
        if end == "keep" and self._buffer:
            self._loop.call_soon(self._next)

    def _finish(self) -> None:
        if self._done is not None:
            done, self._done = self._done, None
            done()


def _parse(data: bytes) -> tuple[HttpCall | None, bytes]:
    """(the first request of the bytes, the rest), or (None, the bytes) while it is not complete."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return None, data
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "chunked" in headers.get("transfer-encoding", ""):
        body, rest, complete = _dechunk(rest)
        if not complete:
            return None, data
    else:
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None, data
        body, rest = rest[:length], rest[length:]
    address = urlsplit(target)
    return HttpCall(method, unquote(address.path), dict(parse_qsl(address.query)), headers, body), rest


def _dechunk(data: bytes) -> tuple[bytes, bytes, bool]:
    """(body, rest, whether it is complete) of a chunked body."""
    body = b""
    while True:
        line, separator, data = data.partition(b"\r\n")
        if not separator:
            return b"", b"", False
        size = int(line.split(b";")[0], 16)
        if len(data) < size + 2:
            return b"", b"", False
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body, data, True


def _head(response: Response) -> bytes:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers = dict(response.headers)
    if response.chunked:
        headers["transfer-encoding"] = "chunked"
    else:
        length = response.length
        headers["content-length"] = str(sum(map(len, response.pieces)) if length is None else length)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {phrase}\r\n{lines}\r\n".encode("latin-1", "replace")
