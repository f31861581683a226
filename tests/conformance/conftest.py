"""What the conformance tests share: a recording server for the official SDKs, and the ways to cut a stream."""

import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from kurabe.messages import Delta, Reply
from kurabe.models.codecs.base import Decoder, HttpRequest


@dataclass
class Recorded:
    """One request as it came over the wire; `headers` have lower-case names, `path` is still percent-encoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Answer:
    """What the recorder sends: the body in `pieces`; `cut`: the connection is dropped after them."""

    pieces: list[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class Recorder:
    """A server on the loopback that keeps every request and answers by script; the last answer repeats."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.answers: list[Answer] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                address = urlsplit(self.path)
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                recorder.requests.append(
                    Recorded(
                        self.command, address.path, dict(parse_qsl(address.query)), headers, self.rfile.read(length)
                    )
                )
                answers = recorder.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for piece in answer.pieces:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                if answer.cut:
                    self.close_connection = True
                else:
                    self.wfile.write(b"0\r\n\r\n")

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # an SDK hung up, which is its right
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(
        self, body: Any = b"", *, status: int = 200, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        """Answer every request from now on with this body: bytes, a list of pieces, or a value sent as JSON."""
        self.answers = [make_answer(body, status, headers, cut)]

    def then(self, body: Any = b"", *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer so after the answers named before."""
        self.answers.append(make_answer(body, status, headers, False))

    @property
    def last(self) -> Recorded:
        return self.requests[-1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def make_answer(body: Any, status: int, headers: dict[str, str] | None, cut: bool) -> Answer:
    if isinstance(body, bytes):
        pieces = [body] if body else []
    elif isinstance(body, list) and all(isinstance(piece, bytes) for piece in body):
        pieces = [piece for piece in body if piece]
    else:
        pieces = [msgspec.json.encode(body)]
    return Answer(pieces, status, {"content-type": "application/json"} | (headers or {}), cut)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    yield server
    server.close()


@pytest.fixture
def read_every_way() -> Callable[[Callable[[], Decoder], bytes], tuple[list[Delta], Reply]]:
    """Feed a stream whole, byte by byte and cut at random places; assert that the result is the same, and return it.

    Deltas are compared joined, since nothing is lost or reordered by where the bytes were cut.
    """

    def read(decoder: Callable[[], Decoder], body: bytes) -> tuple[list[Delta], Reply]:
        chance = random.Random(0)
        results = []
        cuts = [[0, len(body)], list(range(len(body) + 1))]
        cuts += [sorted({0, len(body), *chance.choices(range(len(body) + 1), k=7)}) for _ in range(20)]
        for places in cuts:
            reader = decoder()
            deltas = [delta for start, end in itertools.pairwise(places) for delta in reader.feed(body[start:end])]
            results.append((deltas, reader.finish()))
        for result in results[1:]:
            assert result == results[0]
        return results[0]

    return read


@pytest.fixture
def same() -> Callable[..., None]:
    """Assert that our request and the SDK's are equal: method, path, query, JSON body, and the headers we send.

    `prefix` is the path of the base address. `body` changes the SDK's parsed body where it has a habit that we do not
    follow; each such change is one of the listed habits.
    """

    def compare(
        ours: HttpRequest, theirs: Recorded, prefix: str = "", body: Callable[[Any], Any] = lambda value: value
    ) -> None:
        assert theirs.method == ours.method
        assert theirs.path == prefix + ours.path
        assert theirs.query == ours.query
        for name, value in ours.headers.items():
            assert theirs.headers.get(name.lower()) == value
        assert (msgspec.json.decode(ours.body) if ours.body else None) == (body(theirs.json) if theirs.body else None)

    return compare
