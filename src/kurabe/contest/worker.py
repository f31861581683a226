"""What a worker process does: it has contestants of one task learn and answer, one after the other, as it is told.

Messages go through its standard input and output, each behind its length. It ends when its input does, so it never
outlives the run, however that ends.
"""

import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import IO

import msgspec
import polars as pl

from kurabe.contest.clock import Clock
from kurabe.contest.executor import InProcess, Learned
from kurabe.contest.prepare import make_entrant
from kurabe.contestants.base import Answering, Learning, Prediction
from kurabe.contestants.open_models import OpenModels
from kurabe.errors import KurabeError, is_disk_full, text_of
from kurabe.tasks.task import Task


class Learn(msgspec.Struct, frozen=True, tag="learn"):
    """Have a contestant trained. `key`: what its answers are kept by."""

    label: str
    key: bytes


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """Save what was learned."""


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Answer the test rows at these positions, and let go of the contestant."""

    left: list[int]


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """Let go of the contestant."""


Request = Learn | Keep | Answer | Drop


class Told(msgspec.Struct, frozen=True, tag="told"):
    """How far a `fit` is."""

    said: str


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """It is saved, or can't be."""

    reason: str | None


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """Answers."""

    answers: list[Prediction]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The contestant is let go. `peak`: the most bytes that it was seen to take."""

    peak: int | None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """What was asked raised an error. `ours`: whether its text is written for people."""

    kind: str
    text: str
    ours: bool
    disk_full: bool


Reply = Told | Learned | Kept | Batch | Done | Failed


def serve() -> None:
    """Do what is asked until standard input ends: what the process does."""
    inbox, outbox = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what contestants print is no message
    _be_the_first_to_go()
    warnings.simplefilter("ignore")
    task, X, seed = pickle.loads(receive(inbox))  # noqa: S301 - it is our own parent's
    requests: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_listen, args=(inbox, requests), daemon=True).start()

    def say(reply: Reply) -> None:
        send(outbox, msgspec.msgpack.encode(reply))

    work = _Work(task, X, seed, say)
    while True:
        request = requests.get()
        try:
            for reply in work.do(request):
                say(reply)
        except BaseException as error:  # whatever it is, the run is told, and goes on with others
            say(
                Failed(
                    type(error).__name__,
                    text_of(error),
                    isinstance(error, KurabeError),
                    isinstance(error, OSError) and is_disk_full(error),
                )
            )


class _Work:
    """The contestant at hand. `X`: the inputs of the test rows."""

    def __init__(self, task: Task, X: pl.DataFrame, seed: int, say: Callable[[Reply], None]) -> None:
        self._task, self._X, self._seed, self._say = task, X, seed, say
        self._hands: InProcess | None = None

    def do(self, request: Request) -> Iterator[Reply]:
        match request:
            case Learn(label, key):
                yield self._learn(label, key)
            case Keep():
                assert self._hands is not None
                yield Kept(self._hands.keep())
            case Answer(left):
                assert self._hands is not None
                context = Answering(self._task.kind, left, None, lambda: False, OpenModels())
                for answers in self._hands.answer(left, context):
                    yield Batch(answers)
                yield self._drop()
            case Drop():
                yield self._drop()

    def _learn(self, label: str, key: bytes) -> Learned:
        self._drop()
        entrant = make_entrant(self._task, self._seed, label)
        assert entrant.key == key, "a worker makes other contestants than its run"
        self._hands = InProcess(entrant, self._task, self._X, Clock(None))
        learned = self._hands.learn(Learning(lambda said: self._say(Told(said))))
        return msgspec.structs.replace(learned, notes=msgspec.to_builtins(learned.notes, enc_hook=float))

    def _drop(self) -> Done:
        peak = None
        if self._hands is not None:
            hands, self._hands = self._hands, None
            hands.close()
            peak = hands.peak
        return Done(peak)


def _listen(inbox: IO[bytes], requests: "SimpleQueue[Request]") -> None:
    """Take requests in while others are carried out, and end the process where the run has ended."""
    decoder = msgspec.msgpack.Decoder(Request)
    with suppress(Exception):
        while True:
            requests.put(decoder.decode(receive(inbox)))
    with suppress(AttributeError, OSError):
        os.killpg(0, signal.SIGTERM)  # with what contestants have started
    os._exit(1)


def _be_the_first_to_go() -> None:
    """Where memory runs out, the system is to end a worker and not the run."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def send(pipe: IO[bytes], data: bytes) -> None:
    """Write a message."""
    pipe.write(len(data).to_bytes(8, "little"))
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """The next message. Raises EOFError where the other side has ended."""
    size = int.from_bytes(_exactly(pipe, 8), "little")
    return _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
