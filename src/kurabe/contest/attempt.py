"""One contestant's part of a run, from its place at the start to how it ends."""

import itertools
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

from kurabe import models
from kurabe.contest.clock import Clock, OutOfTimeError
from kurabe.contest.evidence import RACED, Status, fallback_score
from kurabe.contest.executor import Executor, InProcess, Learned, Place
from kurabe.contest.journal import Journal, Row, RunRecord
from kurabe.contest.lanes import is_over_network
from kurabe.contest.lock import disk_error
from kurabe.contest.minutes import Schedule, leave_out
from kurabe.contest.notes import RACE, UNFINISHED
from kurabe.contest.observer import Observer, Standing
from kurabe.contest.prepare import FOLDER, make_entrants, trained_path
from kurabe.contest.purse import Purse, own_dollars
from kurabe.contest.race import Behind, Race
from kurabe.contest.standing import running_score
from kurabe.contest.units import Units, find_units
from kurabe.contest.work import Work
from kurabe.contest.workers import FailedError, WorkerLostError
from kurabe.contestants import persist
from kurabe.contestants.base import Answering, Learning, Prediction
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.keys import digest
from kurabe.contestants.open_models import OpenModels
from kurabe.errors import (
    BudgetExceededError,
    ContestantError,
    DownloadError,
    JournalError,
    KurabeError,
    is_disk_full,
    text_of,
)
from kurabe.tasks.metrics import Metric
from kurabe.tasks.task import Part, Task

SCORE_SECONDS = 0.25  # running scores are computed no more often than this, of all contestants together
SCORE_SHARE = 0.02  # and take no more of the time than this
STOPPED = "stopped; run again to go on"


class BeatenError(Exception):
    """The race has shown that this contestant can't be the winner."""


class StoppedError(Exception):
    """The run is to end, so this contestant goes no further."""


@dataclass
class Shared:
    """What the contestants of a run share. `observer` and `journal` may be used from any thread. `stopping`: nothing
    more is to be begun. `schedule`: where there is a limit of minutes."""

    task: Task
    test: Part
    record: RunRecord
    journal: Journal
    observer: Observer
    metric: Metric
    purse: Purse
    models: OpenModels
    seed: int
    confirmed: frozenset[str] = frozenset()
    stopping: threading.Event = field(default_factory=threading.Event)
    schedule: Schedule | None = None
    race: Race | None = None
    next_score: float = 0.0
    """When running scores may be computed again, by `time.monotonic`."""

    @cached_property
    def units(self) -> Units:
        """Which test rows belong together."""
        spec = self.task.spec
        cluster = spec.cluster or (spec.data.split.group if spec.data.split else None)
        clusters = None if cluster is None else self.test.rows[cluster]
        return find_units(self.test.y, self.record.inputs, clusters)

    @cached_property
    def typical(self) -> float:
        """The score of answers that know nothing."""
        return fallback_score(self.test.y, self.record.fallback, self.metric)

    def standing(self, work: Work, *, force: bool) -> Standing:
        """How a contestant stands. Its score is computed where `force` asks for it, or it is time for another."""
        score, interval, usd = None, None, None
        if work.guesses and (force or time.monotonic() >= self.next_score):
            start = time.monotonic()
            score, interval = running_score(self.metric, self.test.y, self.units, work.guesses, self.typical)
            took = time.monotonic() - start
            self.next_score = start + max(SCORE_SECONDS, took / SCORE_SHARE)
        if work.priced:
            usd, _ = self.journal.spent([work.entrant.key])
        return Standing(work.done, work.total, score, interval, usd, self.purse.spent)


class Attempt:
    """Has one contestant go as far as it can. `place`: where it learns and answers; None: in this process."""

    def __init__(self, shared: Shared, work: Work, clock: Clock, place: Place | None) -> None:
        self._run, self._work, self._clock, self._place = shared, work, clock, place
        self._over_network = is_over_network(work.entrant.estimator)  # then others run in this process beside it
        self._untold = True  # no answer of it has been told of
        self._behind: Behind | None = None
        self.answering = False
        """Whether calls may be under way that are paid for."""

    @property
    def label(self) -> str:
        """The contestant's name on the board."""
        return self._work.entrant.label

    def make(self) -> tuple[Status, str | None]:
        """(status, reason) of the contestant after it did what it could. Ctrl-C and a full disk end the run."""
        contestant = contestant_of(self._work.entrant.estimator)
        try:
            self._check()
            if contestant.may_cost():
                self._run.purse.check()
            self._pull()
            self._answer()
        except OutOfTimeError as error:
            return out_of_time(self._work, str(error))
        except BeatenError:
            return self._beaten()
        except BudgetExceededError as error:
            return self._work.stopped(str(error))
        except DownloadError as error:
            late = self._clock.left() < 0  # then the source was left, whatever the error says
            return self._work.stopped(
                "its model could not be fetched in time; run again to go on" if late else first_line(error)
            )
        except (KeyboardInterrupt, StoppedError) as error:
            self._work.end(*self._work.stopped(STOPPED))
            if isinstance(error, StoppedError):
                return self._work.stopped(STOPPED)
            raise
        except JournalError:
            raise
        except BaseException as error:  # a contestant may raise anything, `SystemExit` too; the others go on
            if is_disk_full(error) if isinstance(error, OSError) else getattr(error, "disk_full", False):
                raise disk_error(self._run.task.folder / FOLDER, OSError(28, str(error))) from error
            if os.environ.get("KURABE_DEBUG"):
                traceback.print_exc()
            return "failed", first_line(error)
        return "done", None

    def leave(self) -> None:
        """Write down that the run has ended without it."""
        self._work.end(*self._work.stopped(STOPPED))

    def _check(self) -> None:
        """Raise where this contestant is to go no further."""
        if self._run.stopping.is_set():
            raise StoppedError
        self._clock.check()

    def _answer(self) -> None:
        """Have the contestant trained and answer. Where its worker was lost once more: perhaps another process took
        the memory."""
        try:
            self._answer_once()
        except WorkerLostError as error:
            self._check()
            self._run.observer.note(f"{self.label}: {error}; it starts again")
            try:
                self._answer_once()
            except WorkerLostError as again:
                self._check()
                raise ContestantError(f"{again}, twice") from None

    def _answer_once(self) -> None:
        """Fit the contestant, or load it, and journal the answers that are left."""
        run, work = self._run, self._work
        executor: Executor
        if self._place is not None:
            executor = self._place.executor(work.entrant, self._clock)
        else:
            executor = InProcess(work.entrant, run.task, run.test.X, self._clock, watched=not self._over_network)
        try:
            learned = self._learned(executor)
            if learned.chosen is not None:
                self._answered_alike(learned.chosen)
            left = work.left()
            self._race()
            self._tell(force=True)
            if left and self._behind is not None:
                raise BeatenError
            if left:  # else all answers were taken over
                self._ask(executor, left)
        finally:
            executor.close()
            if self._place is None and not self._over_network:
                run.models.close_local()
        if not work.complete:
            raise ContestantError(f"answered {work.done:,} of {work.total:,} rows")
        if executor.peak is not None:
            run.journal.record_peak(work.entrant.key, executor.peak)

    def _learned(self, executor: Executor) -> Learned:
        """Have the contestant trained, write down what that took, and keep it."""
        run, entrant = self._run, self._work.entrant
        start = time.perf_counter()
        self.answering = self._asks_while_learning()
        try:
            learned = executor.learn(self._context())
        except OutOfTimeError:
            self._unfinished(time.perf_counter() - start)
            raise
        finally:
            self.answering = False
            if run.schedule is not None:
                run.schedule.learned(entrant, time.perf_counter() - start)
        for said in learned.said:
            run.observer.note(said)
        if learned.seconds is not None:
            run.journal.record_fit(entrant.key, learned.seconds, learned.notes)
            run.purse.pay(own_dollars(learned.notes))
            if (reason := executor.keep()) is not None:
                run.observer.note(f"{entrant.label} was not saved, so `predict` can't use it: {reason}")
        return learned

    def _context(self) -> Learning:
        purse = self._run.purse
        return Learning(
            self._tell_learning,
            purse.left(),
            budget=purse.budget,
            paid=purse.count_trials,
            confirmed=self._run.confirmed,
            stop=self._is_to_stop,
        )

    def _asks_while_learning(self) -> bool:
        """Whether it learns by answers of a model that are paid for, as a sweep does. A job of a provider goes on by
        itself, and is not waited for."""
        learns = contestant_of(contestant_of(self._work.entrant.estimator).unfitted(self._run.task.kind))
        return self._over_network and learns.asks and not learns.billed

    def _tell_learning(self, said: str) -> None:
        self._check()
        self._run.observer.fitting(self.label, said)

    def _unfinished(self, seconds: float) -> None:
        """Say what to do about learning that took too long. Tuning and sweeps go on where they were; the others begin
        anew, so that it is noted how long was not enough."""
        entrant = self._work.entrant
        if contestant_of(entrant.estimator).resumes or self._clock.minutes is None:
            return
        self._run.journal.record_note(entrant.key, UNFINISHED, float(seconds))
        raise OutOfTimeError(leave_out(seconds, self._clock.minutes, more=True)) from None

    def _answered_alike(self, chosen: Sequence[bytes]) -> None:
        """Take over the answers of the sweep of the same contestant that chose the same setting before, within other
        minutes or dollars, or among other settings. `chosen`: digests of the setting."""
        journal, key = self._run.journal, self._work.entrant.key
        before, _ = journal.spent([key])
        own, *formerly = chosen
        now, *before_now = self._work.entrant.learned
        pairs = [(own, now), *itertools.product(formerly, before_now)]
        journal.answer_alike(key, *(digest("chosen", one, known) for one, known in pairs))
        self._work.renew(self._work.entrant)
        after, dearest = journal.spent([key])
        self._run.purse.pay(after - before, dearest)

    def _ask(self, executor: Executor, left: Sequence[int]) -> None:
        """Journal the answers to the rows that are left, as they come."""
        run, contestant = self._run, contestant_of(self._work.entrant.estimator)
        stop = self._finished if contestant.may_cost() else self._is_to_stop
        answers = executor.answer(left, Answering(run.task.kind, left, run.purse.budget, stop, run.models))
        self.answering = self._over_network
        try:
            self._keep(answers, left)
        finally:
            self.answering = False
            close: Callable[[], None] | None = getattr(answers, "close", None)
            if close:
                close()
        if not self._work.complete:
            self._check()
            if self._behind is not None:
                raise BeatenError
            if contestant.may_cost():
                run.purse.check()

    def _keep(self, answers: Iterator[list[Prediction]], left: Sequence[int]) -> None:
        last = time.perf_counter()
        for batch in answers:
            now = time.perf_counter()
            inputs = self._run.record.inputs
            self._work.add([Row(inputs[left[one.row]], one.value, one.raw, one.usd) for one in batch], now - last)
            self._run.purse.count(batch)
            self._race()
            self._tell(force=self._work.complete)
            last = time.perf_counter()

    def _finished(self) -> bool:
        """Whether nothing more is to be asked that may cost money."""
        with suppress(BudgetExceededError):
            self._run.purse.check()
            return self._is_to_stop()
        return True

    def _is_to_stop(self) -> bool:
        """Whether no time is left, the run is to end, or this contestant can't win any more."""
        return self._run.stopping.is_set() or self._behind is not None or self._clock.left() < 0

    def _race(self) -> None:
        """See whether the contestant can be the winner still."""
        race, work = self._run.race, self._work
        if race is not None:
            race.note(self.label, work.guesses)
            if not work.complete:
                self._behind = self._behind or race.behind(self.label, work.entrant.rows)

    def _beaten(self) -> tuple[Status, str | None]:
        """(status, reason) of a contestant that the race has stopped; what it was not asked is written down."""
        work, behind = self._work, self._behind
        assert behind is not None
        self._run.journal.record_note(work.entrant.key, RACE, {"left": len(work.left())})
        gap = f"{behind.gap:,.0f}" if behind.gap >= 100 else f"{behind.gap:.3g}"
        return "partial", f"{RACED}{work.done:,} rows, behind {behind.leader} by {gap}"

    def _tell(self, *, force: bool) -> None:
        first = self._untold and bool(self._work.guesses)  # shown at once
        self._untold = self._untold and not first
        standing = self._run.standing(self._work, force=force or first)
        self._run.observer.predicted(self.label, standing)

    # ---------------------------------------------------------------------------------------------- fetching a model

    def _pull(self) -> None:
        """Fetch what a contestant's model needs, where it is not here. Only then can its files be told from others, so
        that the contestant gets the name that it will have in the next run too."""
        run, entrant = self._run, self._work.entrant
        if fetch(entrant.estimator, self._fetching):
            same = (other for other in make_entrants(run.task, run.seed) if other.label == entrant.label)
            self._work.renew(next(same, entrant))

    def _fetching(self, name: str, done: int, total: int | None) -> None:
        self._check()  # what has come is kept
        self._run.observer.fetching(name, done, total)


def train_again(shared: Shared, work: Work, clock: Clock) -> None:
    """Train a contestant whose answers are all there, where the trained one is not or can't be loaded; the user has
    asked for it by its name."""
    folder = trained_path(shared.task.folder, work.entrant.key)
    if persist.is_usable(folder, shared.task.allow_code, work.entrant.estimator):
        return
    status, reason = Attempt(shared, work, clock, None).make()
    if status != "done":
        shared.observer.note(f"{work.entrant.label} could not be trained again: {reason}")


def fetch(estimator: object, told: Callable[[str, int, int | None], None]) -> bool:
    """Fetch the files of an estimator's models that are not here; whether there were any."""
    names: list[str] = []
    for reference in contestant_of(estimator).models():
        while (name := models.pull_name(reference)) is not None and name not in names:
            from kurabe.models.pull import pull  # most runs fetch nothing

            names.append(name)
            pull(name, partial(told, name))
    return bool(names)


def out_of_time(work: Work, why: str) -> tuple[Status, str | None]:
    """(status, reason) of a contestant that gets no more time. The rows that a model was asked stand in random order,
    so enough of them are a sample too."""
    return work.cut_short(why) if contestant_of(work.entrant.estimator).asks else work.stopped(why)


def first_line(error: BaseException) -> str:
    """What an error says, on one line; of an error that is not ours with its kind."""
    lines = text_of(error).strip().splitlines()
    if isinstance(error, KurabeError | FailedError):
        return lines[0] if lines else type(error).__name__
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
