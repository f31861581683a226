"""Where a contestant learns and answers. In this process, or in a worker (`workers`): the run sees no difference."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import msgspec
import polars as pl

from kurabe.contest.clock import Clock
from kurabe.contest.memory import PeakMemory
from kurabe.contest.prepare import FOLDER, Entrant, fit, trained_before, trained_path
from kurabe.contestants import persist
from kurabe.contestants.base import Answering, Learning, Prediction
from kurabe.contestants.contract import as_kept, contestant_of
from kurabe.contestants.keys import estimator_digests
from kurabe.contestants.shared import Shared
from kurabe.errors import ContestantError
from kurabe.tasks.task import Task


class Learned(msgspec.Struct, frozen=True, tag="learned"):
    """How a contestant came to be trained.

    `seconds`: that it learned; None where a trained one was loaded. `notes`: plain values for the report. `chosen`: of
    a sweep, the digests of the contestant that it chose, today's first. `said`: what a person should know.
    """

    seconds: float | None
    notes: dict[str, Any]
    chosen: tuple[bytes, ...] | None = None
    said: tuple[str, ...] = ()


class Executor(Protocol):
    """Has one contestant learn, be kept, and answer, in that order."""

    def learn(self, context: Learning) -> Learned:
        """Have the contestant trained, or load the trained one."""

    def keep(self) -> str | None:
        """Save what was learned; why it can't be, or None."""

    def answer(self, left: Sequence[int], context: Answering) -> Iterator[list[Prediction]]:
        """Answers to the test rows at these positions, in lists of what comes together; `Prediction.row` counts from
        the first of `left`."""

    def close(self) -> None:
        """Give back what the contestant holds."""

    @property
    def peak(self) -> int | None:
        """The most bytes that it was seen to take, once it is closed; None where nobody looked."""


class Place(Protocol):
    """Where contestants learn and answer outside of the run's own process."""

    def executor(self, entrant: Entrant, clock: Clock) -> Executor:
        """What has that contestant learn and answer there, within the clock's time."""

    def kill(self) -> None:
        """Give up what is under way there, and begin nothing more."""

    def close(self) -> None:
        """The same, and wait until nothing is left of it."""


class InProcess:
    """Has a contestant of a task learn and answer in this process. `X`: the inputs of the test rows."""

    def __init__(self, entrant: Entrant, task: Task, X: pl.DataFrame, clock: Clock, *, watched: bool = True) -> None:
        self._entrant, self._task, self._X, self._clock = entrant, task, X, clock
        self._trained: Any = None
        persist.warm_up()
        self._memory = PeakMemory().__enter__() if watched else None
        self.peak: int | None = None

    def learn(self, context: Learning) -> Learned:
        """As `Executor.learn`. Raises OutOfTimeError where the clock has run out, and whatever a `fit` raises."""
        estimator, folder, said = self._entrant.estimator, self._folder(), []
        if folder.exists():
            try:
                self._trained = persist.load(folder, estimator, self._task.allow_code)
                return Learned(None, {}, self._chosen())
            except ContestantError as error:
                said.append(f"{self._entrant.label}: {error}; fitting anew")
        context.tell("")
        context = replace(
            context,
            shared=Shared(self._task.folder / FOLDER / "features"),
            trained=partial(trained_before, self._task),
        )
        start = time.perf_counter()
        with self._clock.interrupting():
            self._trained = fit(estimator, self._task, context)
        return Learned(time.perf_counter() - start, getattr(self._trained, "notes_", {}), self._chosen(), tuple(said))

    def keep(self) -> str | None:
        """As `Executor.keep`."""
        try:
            persist.save(self._trained, self._folder(), self._task.train.X)
        except ContestantError as error:
            return str(error)
        return None

    def answer(self, left: Sequence[int], context: Answering) -> Iterator[list[Prediction]]:
        """As `Executor.answer`."""
        answers = contestant_of(self._answering()).answer(self._X[left], replace(context, positions=left))
        return ([as_kept(one, context.kind, len(left)) for one in batch] for batch in answers)

    def close(self) -> None:
        """As `Executor.close`."""
        try:
            close = getattr(self._answering(), "close", None)
            if close is not None:
                close()
        finally:
            self._trained = None
            if self._memory is not None:
                self._memory.__exit__(None, None, None)
                self.peak = self._memory.peak

    def _folder(self) -> Any:
        return trained_path(self._task.folder, self._entrant.key)

    def _answering(self) -> Any:
        return None if self._trained is None else contestant_of(self._trained).answering()

    def _chosen(self) -> tuple[bytes, ...] | None:
        swept = contestant_of(self._trained).swept() is not None
        return tuple(estimator_digests(self._answering())) if swept else None
