"""One run of a task's contestants. Each prediction is in the journal before it counts, so a run can be killed at any
moment and goes on where it was when it is started again."""

import itertools
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kurabe import models
from kurabe.contest.board import Board, compute_board
from kurabe.contest.clock import Clock, OutOfTimeError
from kurabe.contest.evidence import Status
from kurabe.contest.journal import Journal, Row, RunRecord
from kurabe.contest.judge import judges, rows_of
from kurabe.contest.lock import disk_error, locked
from kurabe.contest.memory import PeakMemory
from kurabe.contest.minutes import Schedule, leave_out
from kurabe.contest.notes import UNFINISHED
from kurabe.contest.observer import Observer, Silent
from kurabe.contest.prepare import (
    FOLDER,
    Entrant,
    cheap_first,
    choose,
    fit,
    head,
    journal_path,
    make_entrants,
    make_record,
    now,
    trained_path,
)
from kurabe.contest.style import Showing, left_to_judge, style_key
from kurabe.contest.work import Work
from kurabe.contestants import persist
from kurabe.contestants.base import Answering, Contestant, Learning, Prediction
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.keys import digest, estimator_digests
from kurabe.errors import (
    BudgetExceededError,
    ContestantError,
    DownloadError,
    JournalError,
    KurabeError,
    is_disk_full,
    without_secrets,
)
from kurabe.models.transport.budget import Budget
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.task import Part, Task

SCORE_SECONDS = 0.25  # the running score is computed no more often than this


def run(
    task: Task,
    *,
    only: Collection[str] = (),
    limit: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    observer: Observer | None = None,
    confirmed: frozenset[str] = frozenset(),
) -> Board:
    """Let the task's contestants compete and return the board.

    `only`: labels or names of the contestants to run, all where empty. `limit`: only the first N test rows.
    `minutes`: what the run may take, in place of the task's budget; what is worth most runs first, and what can't be
    ready in time is left out. `seed`: for everything random in the contestants. `confirmed`: the keys of the offers of
    contestants that the user has accepted. Contestants that fail or cannot run are
    on the board with the reason. Raises JournalError where predictions cannot be kept, ContestantError for an unknown
    name.
    """
    clock = Clock(task.spec.budget.minutes if minutes is None else minutes)
    observer = observer or Silent()
    test = head(task.test, limit)
    entrants = choose(make_entrants(task, seed), only)
    folder = task.folder / FOLDER
    with locked(folder), Journal(journal_path(task.folder)) as journal:
        record = make_record(task, test, seed, limit)
        for entrant in entrants:
            _adopt(entrant, task.folder, journal)
        journal.begin(record)
        if not only:
            journal.keep_entries(record.id, [entrant.label for entrant in entrants])
        observer.began(tuple(entrant.label for entrant in entrants), len(test), journal.path)
        for warning in task.warnings:
            observer.note(warning)
        contest = _Contest(task, test, record, journal, observer, entrants, seed, clock, confirmed, named=bool(only))
        try:
            contest.enter_all()
            contest.judge()
        finally:
            journal.touch(record.id, now())
        return compute_board(journal.evidence(record.id))


def _adopt(entrant: Entrant, folder: Path, journal: Journal) -> None:
    """Let a contestant have what an earlier version of kurabe kept of it under another key."""
    place = trained_path(folder, entrant.key)
    for former in entrant.former:
        if (known := trained_path(folder, former)).exists() and not place.exists():
            known.rename(place)
    journal.adopt(entrant.key, entrant.former)


class _Contest:
    """A run under way: what every contestant of it shares."""

    def __init__(
        self,
        task: Task,
        test: Part,
        record: RunRecord,
        journal: Journal,
        observer: Observer,
        entrants: Sequence[Entrant],
        seed: int,
        clock: Clock,
        confirmed: frozenset[str],
        named: bool,
    ) -> None:
        self.seed, self.clock, self.confirmed, self.named = seed, clock, confirmed, named
        self.task, self.test, self.record, self.journal, self.observer = task, test, record, journal, observer
        self.metric = metric_for(task.metric, task.kind)
        self.schedule: Schedule | None = None
        self.entrants, self.judges = entrants, judges(task.spec, task.folder)
        keys = [*(entrant.key for entrant in entrants), *(style_key(style) for style, _ in self.judges.values())]
        self.spent, self.dearest = journal.spent(keys)
        usd = task.spec.budget.usd
        self.budget = Budget(usd) if usd is not None else None
        if self.budget is not None:
            self.budget.count(self.spent)
        self._scored = 0.0
        self.interrupted = False

    def enter_all(self) -> None:
        """Run all contestants, the cheap ones first; with a limit of minutes those that are worth most for their time
        first, and not those that can't be ready in what is left."""
        if self.clock.minutes is None:
            for entrant in cheap_first(self.entrants):
                self.enter(entrant)
            return
        self.schedule = Schedule.make(self.entrants, self.task, self.record.inputs, self.journal)
        waiting = self.schedule.order(self.entrants)
        while waiting:
            entrant = waiting.pop(0)
            if (left := self.clock.left()) > 0 and not self.schedule.fits(entrant, left):
                work = Work(entrant, self.record, self.journal)
                self._end(work, *_out_of_time(work, leave_out(self.schedule.least_of(entrant), self.clock.minutes)))
                continue
            with self.clock.share(self.schedule.share(entrant, waiting, left)):
                self.enter(entrant)

    def enter(self, entrant: Entrant) -> None:
        """Run one contestant to its end, whatever that is, and write down how it ended."""
        work = Work(entrant, self.record, self.journal)
        if work.complete or entrant.reason is not None:
            if entrant.reason is None and self.named:
                self._train_again(work)
            self._end(work, *work.stopped(entrant.reason or ""))
        else:
            work.end("partial", "running")
            self._end(work, *self._attempt(work))

    def _attempt(self, work: Work) -> tuple[Status, str | None]:
        """(status, reason) of a contestant after it did what it could. Ctrl-C and a full disk end the run."""
        try:
            self.clock.check()
            if contestant_of(work.entrant.estimator).may_cost():
                self._check_budget()
            self._pull(work)
            persist.warm_up()
            with PeakMemory() as memory, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._answer(work)
            self.journal.record_peak(work.entrant.key, memory.peak)
        except OutOfTimeError as error:
            return _out_of_time(work, str(error))
        except BudgetExceededError as error:
            return work.stopped(str(error))
        except DownloadError as error:
            late = self.clock.left() < 0  # then the source was left, whatever the error says
            return work.stopped(
                "its model could not be fetched in time; run again to go on" if late else _first_line(error)
            )
        except KeyboardInterrupt:
            work.end(*work.stopped("stopped; run again to go on"))
            raise
        except JournalError:
            raise
        except Exception as error:  # a contestant may raise anything; the others go on
            if isinstance(error, OSError) and is_disk_full(error):
                raise disk_error(self.task.folder / FOLDER, error) from error
            if os.environ.get("KURABE_DEBUG"):
                traceback.print_exc()
            return "failed", _first_line(error)
        return "done", None

    def _train_again(self, work: Work) -> None:
        """Train a contestant whose answers are all there, where the trained one is not or can't be loaded; the user has
        asked for it by its name."""
        if persist.is_usable(trained_path(self.task.folder, work.entrant.key), self.task.allow_code):
            return
        status, reason = self._attempt(work)
        if status != "done":
            self.observer.note(f"{work.entrant.label} could not be trained again: {reason}")

    def judge(self) -> None:
        """Have the judges of style say what they have not said yet, and write down why one stopped."""
        for label, (style, judge) in self.judges.items():
            evidence, verdicts = self.journal.evidence(self.record.id), self.journal.judged(style).verdicts
            left = left_to_judge(evidence, style, [entrant.label for entrant in self.entrants], verdicts)
            reason = None
            try:
                self._judge(label, style_key(style), judge, left)
            except JournalError:
                raise
            except Exception as error:  # whatever keeps a judge from judging, the board stands without it
                if isinstance(error, OSError) and is_disk_full(error):
                    raise disk_error(self.task.folder / FOLDER, error) from error
                reason = without_secrets(_first_line(error))
            self.journal.record_judge(style, reason)
            if left:
                self.observer.ended(f"judging {label}", "partial" if reason else "done", reason)

    def _judge(self, label: str, key: bytes, judge: Contestant, left: Sequence[Showing]) -> None:
        if not left:
            return
        self._check_budget()
        self._fetch(judge)
        if reason := judge.skipped_reason():
            raise ContestantError(reason)
        context = Answering("label", range(len(left)), self.budget, self._finished)
        answers = judge.answer(rows_of(left), context)
        done, last = 0, time.perf_counter()
        try:
            with self._written_down(key, judge.hosted), self._patient() if judge.hosted else nullcontext():
                for batch in answers:
                    now = time.perf_counter()
                    rows = [Row(left[one.row].key, one.value, one.raw, one.usd) for one in batch]
                    self.journal.add(key, rows, now - last)
                    last, done = now, done + len(batch)
                    self._count(batch)
                    self.observer.predicted(f"judging {label}", done, len(left), None)
        finally:
            judge.close()
        if done < len(left):
            self._check_budget()

    def _count(self, batch: Sequence[Prediction]) -> None:
        """Take what answers that are in the journal cost off the task's dollars."""
        usd = sum(answer.usd or 0.0 for answer in batch)
        self.spent += usd
        if self.budget is not None and self.budget.ledger is not None:
            self.budget.ledger.change(-usd)
        self.dearest = max(self.dearest, *(answer.usd or 0.0 for answer in batch))

    def _answer(self, work: Work) -> None:
        """Fit the contestant, or load it, and journal the answers that are left."""
        trained = contestant_of(self._trained(work.entrant))
        estimator = trained.answering()
        if trained.swept() is not None:
            self._answered_alike(work, estimator)
        try:
            left = work.left()
            self._tell(work, force=True)
            if not left:  # all answers were taken over
                return
            self._ask(contestant_of(estimator), work, left)
        finally:
            close: Callable[[], None] | None = getattr(estimator, "close", None)
            if close:
                close()
        if not work.complete:
            raise ContestantError(f"answered {work.done:,} of {work.total:,} rows")

    def _answered_alike(self, work: Work, chosen: Any) -> None:
        """Take over the answers of the sweep of the same contestant that chose the same setting before, within other
        minutes or dollars, or among other settings."""
        key = work.entrant.key
        before, _ = self.journal.spent([key])
        own, *formerly = estimator_digests(chosen)
        now, *before_now = work.entrant.learned
        pairs = [(own, now), *itertools.product(formerly, before_now)]
        self.journal.answer_alike(key, *(digest("chosen", one, known) for one, known in pairs))
        work.renew(work.entrant)
        after, dearest = self.journal.spent([key])
        self._pay(after - before)
        self.dearest = max(self.dearest, dearest)

    def _trained(self, entrant: Entrant) -> Any:
        """The trained contestant: the one kept from an earlier start of this run, or fitted now and kept."""
        folder = trained_path(self.task.folder, entrant.key)
        if folder.exists():
            try:
                return persist.load(folder, entrant.estimator, self.task.allow_code)
            except ContestantError as error:
                self.observer.note(f"{entrant.label}: {error}; fitting anew")
        self.observer.fitting(entrant.label)
        start = time.perf_counter()
        usd = self.task.spec.budget.usd
        left = None if usd is None else usd - self.spent
        context = Learning(partial(self.observer.fitting, entrant.label), left, self.confirmed)
        try:
            with self.clock.interrupting():
                estimator = fit(self._within_budget(entrant.estimator), self.task, context)
        except OutOfTimeError:
            self._unfinished(entrant, time.perf_counter() - start)
            raise
        finally:
            if self.schedule is not None:
                self.schedule.learned(entrant, time.perf_counter() - start)
        notes, seconds = getattr(estimator, "notes_", {}), time.perf_counter() - start
        self.journal.record_fit(entrant.key, seconds, notes)
        self._pay(notes.get("usd") or 0.0)
        try:
            persist.save(estimator, folder)
        except ContestantError as error:
            self.observer.note(f"{entrant.label} was not saved, so `predict` can't use it: {error}")
        return estimator

    def _unfinished(self, entrant: Entrant, seconds: float) -> None:
        """Say what to do about learning that took too long. Tuning and sweeps go on where they were; the others begin
        anew, so that it is noted how long was not enough."""
        if contestant_of(entrant.estimator).resumes or self.clock.minutes is None:
            return
        self.journal.record_unfinished(entrant.key, UNFINISHED, seconds)
        raise OutOfTimeError(leave_out(seconds, self.clock.minutes, more=True)) from None

    def _within_budget(self, estimator: Any) -> Any:
        """The estimator, whose `fit` may spend no more than is left of the task's dollars."""
        usd = self.task.spec.budget.usd
        if usd is None or not isinstance(estimator, Contestant):
            return estimator
        return estimator.within(max(usd - self.spent, 0.0))

    def _pay(self, usd: float) -> None:
        """Take what a fit cost off the task's dollars."""
        self.spent += usd
        if self.budget is not None:
            self.budget.count(usd)

    def _ask(self, contestant: Contestant, work: Work, left: Sequence[int]) -> None:
        """Journal the answers to the rows that are left, as they come."""
        stop = self._finished if contestant.may_cost() else self._out_of_time
        answers = contestant.answer(self.test.X[left], Answering(self.task.kind, left, self.budget, stop))
        hosted = contestant.hosted
        with self._written_down(work.entrant.key, hosted):
            try:
                with self._patient() if hosted else nullcontext():
                    self._keep(answers, work, left)
            finally:
                close: Callable[[], None] | None = getattr(answers, "close", None)
                if close:
                    close()
        if not work.complete:
            self.clock.check()
            if contestant.may_cost():
                self._check_budget()

    @contextmanager
    def _written_down(self, key: bytes, hosted: bool) -> Iterator[None]:
        """Write what calls may cost into the journal before they are sent, where there is a budget in dollars."""
        if self.budget is None or not hosted:
            yield
            return
        with self.journal.ledger(key) as self.budget.ledger:
            try:
                yield
            finally:
                self.budget.ledger = None

    def _keep(self, answers: Iterator[list[Prediction]], work: Work, left: Sequence[int]) -> None:
        last = time.perf_counter()
        for batch in answers:
            now = time.perf_counter()
            rows = [Row(self.record.inputs[left[one.row]], one.value, one.raw, one.usd) for one in batch]
            work.add(rows, now - last)
            self._count(batch)
            self._tell(work, force=work.complete)
            last = time.perf_counter()

    @contextmanager
    def _patient(self) -> Iterator[None]:
        """Ctrl-C lets the calls under way come in, since they are paid for; a second one does not wait for them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def interrupt(number: int, frame: Any) -> None:
            signal.signal(signal.SIGINT, before)
            self.interrupted = True
            self.observer.note("waiting for the calls under way, which are paid for; Ctrl-C again leaves them")

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.interrupted:
            raise KeyboardInterrupt

    def _finished(self) -> bool:
        """Whether nothing more is to be asked."""
        if self.interrupted:
            return True
        try:
            self._check_budget()
        except BudgetExceededError:
            return True
        return False

    def _out_of_time(self) -> bool:
        """Whether no time is left."""
        return self.clock.left() < 0

    def _tell(self, work: Work, *, force: bool) -> None:
        now = time.monotonic()
        score = None
        if work.guesses and (force or now - self._scored > SCORE_SECONDS):
            self._scored = now
            rows = np.fromiter(work.guesses, dtype=np.intp)
            guess = np.array(list(work.guesses.values()), dtype=np.float64 if self.task.kind == "number" else object)
            score = self.metric.score(self.test.y[rows], guess)
        self.observer.predicted(work.entrant.label, work.done, work.total, score)

    def _end(self, work: Work, status: Status, reason: str | None) -> None:
        self.observer.ended(work.entrant.label, status, work.end(status, reason))

    def _pull(self, work: Work) -> None:
        """Fetch what a contestant's model needs, where it is not here. Only then can its files be told from others, so
        that the contestant gets the name that it will have in the next run too."""
        entrant = work.entrant
        if self._fetch(entrant.estimator):
            same = (other for other in make_entrants(self.task, self.seed) if other.label == entrant.label)
            work.renew(next(same, entrant))

    def _fetch(self, estimator: Any) -> bool:
        """Fetch the files of an estimator's models that are not here; whether there were any."""
        names: list[str] = []
        for reference in contestant_of(estimator).models():
            while (name := models.pull_name(reference)) is not None and name not in names:
                from kurabe.models.pull import pull  # most runs fetch nothing

                names.append(name)
                pull(name, partial(self._fetching, name))
        return bool(names)

    def _fetching(self, name: str, done: int, total: int | None) -> None:
        self.clock.check()  # what has come is kept
        self.observer.fetching(name, done, total)

    def _check_budget(self) -> None:
        """Raise BudgetExceededError where the run's minutes or the task's dollars are used up."""
        budget = self.task.spec.budget
        self.clock.check()
        if budget.usd is not None and self.spent > 0 and self.spent + self.dearest > budget.usd:
            raise BudgetExceededError(f"the budget of ${budget.usd:g} is used up; raise it and run again to go on")


def _out_of_time(work: Work, why: str) -> tuple[Status, str | None]:
    """(status, reason) of a contestant that gets no more time. The rows that a model was asked stand in random order,
    so enough of them are a sample too."""
    return work.cut_short(why) if contestant_of(work.entrant.estimator).asks else work.stopped(why)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, KurabeError):
        return lines[0] if lines else type(error).__name__
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
