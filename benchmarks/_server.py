"""A cheap loopback server of OpenAI-shaped answers, for benchmarks of clients.

python _server.py [PORT]

One process, one thread, epoll, keep-alive; prints its port once it listens (a free one where PORT is 0 or missing). It
parses no more of a request than its length, and whether it asks for a stream: every answer is made before the first
request comes. `--check` measures how many requests a second it answers to a client that writes and reads raw bytes: far
more than any client under test asks for.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

CHUNKS = 50
TEXT = "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs."
_LARGEST_REQUEST = 1 << 20
_HEAD_END = b"\r\n\r\n"


def _response(body: dict[str, object]) -> bytes:
    data = json.dumps(body, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


def _chat() -> bytes:
    usage = {"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40}
    message = {"role": "assistant", "content": TEXT, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _response(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "gpt-4o-mini",
         "choices": [choice], "usage": usage, "service_tier": "default", "system_fingerprint": "fp_1"}
    )  # fmt: skip


def _stream() -> bytes:
    """A stream of CHUNKS events and the closing one, an HTTP chunk for each event."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-4o-mini"}
    events = []
    for number in range(CHUNKS):
        last = number == CHUNKS - 1
        delta = {"role": "assistant", "content": ""} if number == 0 else {} if last else {"content": f" word{number}"}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}
        usage = {"prompt_tokens": 19, "completion_tokens": 48, "total_tokens": 67}
        events.append(json.dumps({**head, "choices": [choice], **({"usage": usage} if last else {})}))
    pieces = [f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + body
        + b"0\r\n\r\n"
    )


CHAT, STREAM = _chat(), _stream()
LIST = _response({"object": "list", "data": []})


@dataclass
class _Connection:
    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""


def _next_request(received: bytearray) -> bytes | None:
    """Take the first whole request off `received`; None while it is not there yet."""
    head = received.find(_HEAD_END)
    if head < 0:
        return None
    lower = bytes(received[:head]).lower()
    end = head + len(_HEAD_END)
    if (at := lower.find(b"\r\ncontent-length:")) >= 0:
        end += int(lower[at + 17 :].split(b"\r\n", 1)[0])
    elif b"\r\ntransfer-encoding: chunked" in lower:
        last = received.find(b"0\r\n\r\n", end)
        if last < 0:
            return None
        end = last + 5
    if len(received) < end:
        return None
    request = bytes(received[:end])
    del received[:end]
    return request


def _answer(request: bytes) -> bytes:
    if not request.startswith(b"POST"):
        return LIST
    body = request[request.find(_HEAD_END) :]
    return STREAM if b'"stream":true' in body or b'"stream": true' in body else CHAT


def serve(port: int) -> None:
    """Serve until the process is ended."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, _Connection] = {}
    while True:
        for number, event in poll.poll():
            if number == listener.fileno():
                _accept(listener, poll, connections)
                continue
            connection = connections[number]
            try:
                alive = _send(connection) if event & select.EPOLLOUT else _receive(connection)
            except OSError:
                alive = False
            if alive:
                poll.modify(number, select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0))
            else:
                connections.pop(number).socket.close()


def _accept(listener: socket.socket, poll: select.epoll, connections: dict[int, _Connection]) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections[accepted.fileno()] = _Connection(accepted)
            poll.register(accepted, select.EPOLLIN)


def _receive(connection: _Connection) -> bool:
    data = connection.socket.recv(1 << 16)
    if not data or len(connection.received) > _LARGEST_REQUEST:
        return False
    connection.received += data
    while (request := _next_request(connection.received)) is not None:
        connection.unsent += _answer(request)
    return _send(connection)


def _send(connection: _Connection) -> bool:
    if connection.unsent:
        with contextlib.suppress(BlockingIOError):
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
    return True


def check(requests: int = 100_000, connections: int = 64) -> float:
    """Requests a second that the server answers, on core 0, to raw sockets on core 1."""
    server = subprocess.Popen(["taskset", "-c", "0", sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        subprocess.run(["taskset", "-cp", "1", str(os.getpid())], check=True, capture_output=True)
        body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": TEXT}]}).encode()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        start = time.perf_counter()
        for _ in range(requests // connections):
            for one in sockets:
                one.sendall(request)
            for one in sockets:
                left = len(CHAT)
                while left:
                    left -= len(one.recv(left))
        return requests / (time.perf_counter() - start)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        print(f"{check():,.0f} requests a second")
    else:
        with contextlib.suppress(KeyboardInterrupt):
            serve(int(sys.argv[1]) if sys.argv[1:] else 0)
