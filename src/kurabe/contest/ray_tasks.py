"""What runs on a node of Ray: a task has one contestant learn, or answer a chunk of rows.

It is told the contestant by its label and makes it itself. What was learned travels as the files that `persist` would
write; nothing is written on the node.
"""

import functools
import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import polars as pl

from kurabe.contest.executor import Learned
from kurabe.contest.memory import PeakMemory
from kurabe.contest.prepare import Entrant, fit, make_entrant
from kurabe.contest.worker import Failed
from kurabe.contestants import persist
from kurabe.contestants.base import PIECES, Answering, Learning, Prediction
from kurabe.contestants.contract import as_kept, contestant_of
from kurabe.contestants.open_models import OpenModels
from kurabe.errors import ContestantError, KurabeError, text_of
from kurabe.tasks.task import Task


class Fitted(msgspec.Struct, frozen=True, tag="fitted"):
    """A contestant has learned.

    `files`: what `persist.packed` gives. None where it can't be saved, which is what `reason` says then; in that case
    `answers` are those to all test rows, since no other task could give them. `peak`: bytes of memory.
    """

    learned: Learned
    files: dict[str, bytes] | None
    reason: str | None
    answers: list[Prediction]
    peak: int


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """Answers to a chunk of rows; `Prediction.row` counts from the first of it."""

    answers: list[Prediction]
    peak: int


Reply = Fitted | Answered | Failed


def learn(told: bytes, label: str, key: bytes) -> bytes:
    """Have a contestant learn: a `Fitted` or `Failed`. `told`: of `packed`. `key`: what its answers are kept by."""

    def work() -> Fitted:
        task, X, entrant = _made(told, label, key)
        with PeakMemory() as memory:
            start = time.perf_counter()
            trained = fit(entrant.estimator, task, Learning())
            seconds = time.perf_counter() - start
            files, reason, answers = None, None, []
            try:
                files = persist.packed(trained, task.train.X)
            except ContestantError as error:
                reason, answers = str(error), _answers(trained, task, X, range(len(X)), -(-len(X) // PIECES))
            _close(trained)
        notes = msgspec.to_builtins(getattr(trained, "notes_", {}), enc_hook=float)
        return Fitted(Learned(seconds, notes), files, reason, answers, memory.peak)

    return _reply(work)


def answer(told: bytes, label: str, key: bytes, files: dict[str, bytes], chunk: Sequence[int], piece: int) -> bytes:
    """Have a contestant answer the test rows at these positions, so many at a time: an `Answered` or `Failed`. `files`:
    of `Fitted`."""

    def work() -> Answered:
        task, X, entrant = _made(told, label, key)
        with PeakMemory() as memory:
            trained = persist.unpacked(files, entrant.estimator)
            answers = _answers(trained, task, X, chunk, piece)
            _close(trained)
        return Answered(answers, memory.peak)

    return _reply(work)


def _reply(work: Callable[[], Reply]) -> bytes:
    """What work gives, or how it failed. An interruption is Ray's, which then tells the driver itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            persist.warm_up()
            reply: Reply = work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a contestant may raise anything; a full disk here is not that of the run
            reply = Failed(type(error).__name__, text_of(error), isinstance(error, KurabeError), False)
    return msgspec.msgpack.encode(reply)


@functools.lru_cache(maxsize=1)
def _unpickled(told: bytes) -> tuple[Task, pl.DataFrame, int]:
    task, X, seed = pickle.loads(told)  # noqa: S301 - it is the driver's, whose code this process runs
    return task, X, seed


def _made(told: bytes, label: str, key: bytes) -> tuple[Task, pl.DataFrame, Entrant]:
    task, X, seed = _unpickled(told)
    entrant = make_entrant(task, seed, label)
    if entrant.key != key:
        raise ContestantError("a node of Ray makes another contestant of the task: it needs the kurabe that runs here")
    return task, X, entrant


def _answers(trained: Any, task: Task, X: pl.DataFrame, chunk: Sequence[int], piece: int) -> list[Prediction]:
    answering = contestant_of(contestant_of(trained).answering())
    found = []
    for start in range(0, len(chunk), piece):
        positions = list(chunk[start : start + piece])
        context = Answering(task.kind, positions, None, lambda: False, OpenModels(), pieces=1)
        for batch in answering.answer(X[positions], context):
            kept = (as_kept(one, task.kind, len(positions)) for one in batch)
            found += [msgspec.structs.replace(one, row=one.row + start) for one in kept]
    return found


def _close(trained: Any) -> None:
    close = getattr(contestant_of(trained).answering(), "close", None)
    if close is not None:
        close()
