"""Work on what came from outside, a template above all, in a process of its own with limits of time and memory.

The process is started with the first call and kept for the next ones. One that takes too long is killed, one that takes
too much memory fails, and this process goes on.
"""

import atexit
import json
import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any, Final

from kurabe.models.memory_limit import limit_memory
from kurabe.plugins import loaded

MEMORY: Final = 7 << 27
"""Bytes that a call may take; what it is made of has been loaded before, and counts for nothing."""
MAX_ANSWER: Final = 1 << 30
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kurabe.models.bounded import serve; serve()"
)
_lock = threading.Lock()
_process: "subprocess.Popen[bytes] | None" = None


class LimitError(Exception):
    """The work took more time or memory than it may."""


class FailedError(Exception):
    """The work raised an error, whose text this is; `kind` is the name of its class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def call(target: str, *args: Any, seconds: float) -> Any:
    """What the function `module:name` of kurabe's own gives for these arguments, as JSON has it.

    Raises LimitError past `seconds` or MEMORY, and FailedError for what the function raises.
    """
    with _lock:
        process = _running()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            _send(process.stdin, pickle.dumps((target, args, seconds)))
            answer = json.loads(_receive(process.stdout))
        except BaseException as error:
            stop()
            if isinstance(error, OSError | EOFError | ValueError):
                raise LimitError(f"more than {seconds:.0f} seconds or {MEMORY >> 20:,} MiB of memory") from None
            raise
        finally:
            timer.cancel()
    if "error" in answer:
        kind, text = answer["error"]
        if kind == "MemoryError":
            with _lock:
                stop()  # what the call has left would stand in the way of the next one
            raise LimitError(f"more than {MEMORY >> 20:,} MiB of memory")
        raise FailedError(kind, text)
    return answer["value"]


def serve() -> None:
    """Answer calls until standard input ends: what the process does."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _leave_no_core()
    while True:
        try:
            target, args, seconds = pickle.loads(_receive(requests))  # noqa: S301 - it is our own parent's
        except EOFError:
            return
        try:
            function = loaded(target)
            limit_memory(MEMORY)
            _limit_time(seconds)
            answer = json.dumps({"value": function(*args)})
        except BaseException as error:
            answer = json.dumps({"error": [type(error).__name__, str(error)[:1000]]})
        limit_memory(None)
        _send(answers, answer.encode())


def _running() -> "subprocess.Popen[bytes]":
    global _process
    if _process is None or _process.poll() is not None:
        paths = [path for path in sys.path if path]  # never the working folder, which may be a stranger's
        _process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps(paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process to deal with
            env={**os.environ, "POLARS_MAX_THREADS": "1"},  # each thread takes of the address space
        )
    return _process


def stop() -> None:
    """End the process; the next call starts another."""
    global _process
    if _process is not None:
        _process.kill()
        for pipe in (_process.stdin, _process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        _process.wait()
        _process = None


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    size = int.from_bytes(_exactly(pipe, 8), "little")
    if size > MAX_ANSWER:
        raise ValueError("too much")
    return _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _leave_no_core() -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """So that it ends though its parent was killed."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, hard))


def _forget() -> None:
    global _process, _lock
    _process, _lock = None, threading.Lock()


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
