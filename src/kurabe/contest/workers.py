"""Worker processes, seen from the run: each has contestants learn and answer, one at a time."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import msgspec
import polars as pl

from kurabe.contest import worker
from kurabe.contest.clock import Clock, OutOfTimeError
from kurabe.contest.executor import Learned
from kurabe.contest.prepare import Entrant
from kurabe.contestants.base import Answering, Learning, Prediction
from kurabe.contestants.trained.boosters import THREADS
from kurabe.tasks.task import Task

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kurabe.contest.worker import serve; serve()"
)
_decoder: Final = msgspec.msgpack.Decoder(worker.Reply)


class WorkerLostError(Exception):
    """A worker ended before it had done what it was asked; the text says how."""


def packed(task: Task, X: pl.DataFrame, seed: int) -> bytes:
    """What a worker is told of a task: all but the estimators that were given in Python, with the inputs of the test
    rows that are asked."""
    parts = [replace(part, rows=part.X, places=None) for part in (task.train, task.test)]
    validation = None if task.validation is None else replace(task.validation, rows=task.validation.X, places=None)
    told = replace(task, train=parts[0], validation=validation, test=parts[1], estimators={})
    return pickle.dumps((told, X, seed), protocol=pickle.HIGHEST_PROTOCOL)


def thread_limits(threads: int) -> dict[str, str]:
    """The environment of a process whose contestants use so many threads."""
    names = (THREADS, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {name: str(threads) for name in names}


class FailedError(Exception):
    """What a contestant raised in a worker; the text is for people."""

    def __init__(self, failed: worker.Failed) -> None:
        first = failed.text.strip().partition("\n")[0]
        if failed.kind == "MemoryError":
            text = "it ran out of memory; give it fewer rows, or run it on a larger machine"
        elif failed.ours:
            text = first or failed.kind
        else:
            text = f"{failed.kind}: {first}" if first else failed.kind
        super().__init__(text)
        self.disk_full = failed.disk_full


class Worker:
    """A process that is started when it is first needed, and again after it was lost.

    `told`: what `packed` gave. `threads`: that its contestants may use.
    """

    def __init__(self, told: bytes, threads: int) -> None:
        self._told, self._threads = told, threads
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: threading.Thread | None = None  # over once the process is, with all that it has started
        self._closed = False

    def executor(self, entrant: Entrant, clock: Clock) -> "InWorker":
        """As `Place.executor`."""
        return InWorker(entrant, self, clock)

    def send(self, request: worker.Request) -> None:
        """Ask for something. Raises WorkerLostError."""
        process = self._running()
        assert process.stdin is not None
        try:
            worker.send(process.stdin, msgspec.msgpack.encode(request))
        except OSError:
            raise self._lost(process) from None

    def receive(self, clock: Clock) -> worker.Reply:
        """The next reply. Raises OutOfTimeError where it does not come in time, and the worker is ended then; and
        WorkerLostError where the worker is lost."""
        process = self._running()
        assert process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        left = clock.left()
        timer = threading.Timer(max(left, 0.0), end) if left < threading.TIMEOUT_MAX else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            reply: worker.Reply = _decoder.decode(worker.receive(process.stdout))
            return reply
        except (EOFError, OSError):
            lost = self._lost(process)
            if late.is_set() or clock.left() < 0:
                clock.check()
                raise OutOfTimeError("its time is used up; run again to go on") from None
            raise lost from None
        finally:
            if timer is not None:
                timer.cancel()

    def kill(self) -> None:
        """End the process for good, whatever it is doing."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process, and wait until it is gone."""
        self.kill()
        if self._process is not None:
            self._gone(self._process)

    def _running(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._closed:
                raise WorkerLostError("the run has ended")
            if self._process is not None:
                return self._process
            paths = [path for path in sys.path if path]  # never the working folder, which may be a stranger's
            self._process = process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, json.dumps(paths)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("KURABE_DEBUG") else subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run to deal with
                env={**os.environ, **thread_limits(self._threads)},
            )
            self._end = threading.Thread(target=_see_off, args=(process,), name="kurabe-worker", daemon=True)
            self._end.start()
        assert process.stdin is not None
        try:
            worker.send(process.stdin, self._told)
        except OSError:
            raise self._lost(process) from None
        return process

    def _lost(self, process: "subprocess.Popen[bytes]") -> WorkerLostError:
        self._gone(process)
        with self._lock:
            if self._process is process:
                self._process = None
        return WorkerLostError(_ended(process.returncode))

    def _gone(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        if self._end is not None:
            self._end.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait()


def _see_off(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a worker ends, however that is, and end what it has started: a process that it forked holds its pipes
    open, so that the run would wait for a reply for ever.

    It is asked to end and not killed, since joblib has a process that cleans up what others leave.
    """
    if hasattr(os, "waitid"):  # on macOS from Python 3.13 on
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)  # the number is the group's as long as anybody is in it


def _ended(code: int) -> str:
    """How a process ended.

    >>> _ended(-9)
    'the system ended its process (SIGKILL), perhaps for lack of memory'
    """
    if code == -signal.SIGKILL:
        return "the system ended its process (SIGKILL), perhaps for lack of memory"
    if code < 0:
        return f"its process crashed ({signal.Signals(-code).name})"
    return f"its process ended with exit code {code}"


class InWorker:
    """Has a contestant learn and answer in a worker."""

    def __init__(self, entrant: Entrant, process: Worker, clock: Clock) -> None:
        self._entrant, self._worker, self._clock = entrant, process, clock
        self._open = False
        self.peak: int | None = None

    def learn(self, context: Learning) -> Learned:
        """As `Executor.learn`."""
        context.tell("")
        self._open = True
        self._worker.send(worker.Learn(self._entrant.label, self._entrant.key))
        while not isinstance(reply := self._received(), Learned):
            assert isinstance(reply, worker.Told)
            if reply.said:
                context.tell(reply.said)
        return reply

    def keep(self) -> str | None:
        """As `Executor.keep`."""
        self._worker.send(worker.Keep())
        reply = self._received()
        assert isinstance(reply, worker.Kept)
        return reply.reason

    def answer(self, left: Sequence[int], context: Answering) -> Iterator[list[Prediction]]:
        """As `Executor.answer`."""
        self._worker.send(worker.Answer(list(left)))
        while not isinstance(reply := self._received(), worker.Done):
            assert isinstance(reply, worker.Batch)
            yield reply.answers
        self._open, self.peak = False, reply.peak

    def close(self) -> None:
        """As `Executor.close`."""
        if self._open:
            self._open = False
            with suppress(WorkerLostError, OutOfTimeError, FailedError):
                self._worker.send(worker.Drop())
                while not isinstance(reply := self._received(), worker.Done):
                    pass
                self.peak = reply.peak

    def _received(self) -> worker.Reply:
        try:
            reply = self._worker.receive(self._clock)
        except (WorkerLostError, OutOfTimeError):
            self._open = False  # it holds nothing any more, and need not be started again to be told so
            raise
        if isinstance(reply, worker.Failed):
            raise FailedError(reply)
        return reply
