"""One run of a task's contestants. Each prediction is in the journal before it counts, so a run can be killed at any
moment and goes on where it was when it is started again."""

import threading
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from kurabe.contest.attempt import Attempt, Shared, out_of_time, train_again
from kurabe.contest.board import Board, compute_board
from kurabe.contest.clock import Clock
from kurabe.contest.evidence import Status
from kurabe.contest.executor import Place
from kurabe.contest.journal import Journal
from kurabe.contest.judge import judges
from kurabe.contest.judging import judge_all
from kurabe.contest.lanes import lanes
from kurabe.contest.lock import locked
from kurabe.contest.minutes import Schedule, leave_out
from kurabe.contest.observer import Observer, Opening, Serial, Silent
from kurabe.contest.on_ray import Cluster, connected
from kurabe.contest.prepare import (
    FOLDER,
    Entrant,
    cheap_first,
    choose,
    head,
    journal_path,
    make_entrants,
    make_record,
    now,
    trained_path,
)
from kurabe.contest.purse import Purse, trial_dollars
from kurabe.contest.race import Race, can_race, largest_error
from kurabe.contest.style import style_key
from kurabe.contest.work import Work
from kurabe.contest.workers import Worker, packed
from kurabe.contestants import persist
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.open_models import OpenModels
from kurabe.contestants.trained.boosters import processors
from kurabe.errors import InputError
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.task import Task

LOOK = 0.05  # seconds between looks at whether what runs beside is through
LEAVE = 5.0  # seconds that a thread is waited for which nobody has paid for


def run(
    task: Task,
    *,
    only: Collection[str] = (),
    limit: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    race: bool | None = None,
    on: str = "local",
    observer: Observer | None = None,
    confirmed: frozenset[str] = frozenset(),
) -> Board:
    """Let the task's contestants compete and return the board.

    `only`: labels or names of the contestants to run, all where empty. `limit`: only the first N test rows.
    `minutes`: what the run may take, in place of the task's budget; what is worth most runs first, and what can't be
    ready in time is left out. `seed`: for everything random in the contestants. `jobs`: how many worker processes
    learn at the same time; None: one a core, if there is enough to learn; 1: all in this process. `race`: whether
    language models are asked no further once they are shown not to be the winner; None: as the task says. `on`:
    `local`, or `ray` with or without an address, where as many contestants learn at the same time. `confirmed`: the
    keys of the offers of contestants that the user has accepted. Contestants that fail or cannot run are on the board
    with the reason. Raises JournalError where predictions cannot be kept, ContestantError for an unknown name,
    InputError for `jobs` below 1, and for `on` that is unknown or where no Ray answers.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is the number of processes that learn at the same time, 1 or more, not {jobs}")
    clock = Clock(task.spec.budget.minutes if minutes is None else minutes)
    observer = Serial(observer or Silent())
    test = head(task.test, limit)
    everyone = make_entrants(task, seed)
    entrants = choose(everyone, task, only)
    folder = task.folder / FOLDER
    with connected(on) as cluster, locked(folder), Journal(journal_path(task.folder)) as journal:
        record = make_record(task, test, seed, limit)
        for entrant in entrants:
            _adopt(entrant, task.folder, journal)
        journal.begin(record)
        if not only:
            journal.keep_entries(record.id, [entrant.label for entrant in entrants])
        metric, budget = metric_for(task.metric, task.kind), task.spec.budget
        labels = tuple(entrant.label for entrant in entrants)
        better = metric.greater_is_better
        observer.began(
            Opening(task.name, task.metric, better, labels, len(test), journal.path, clock.minutes, budget.usd)
        )
        for warning in task.warnings:
            observer.note(warning)
        asked = judges(task.spec, task.folder)
        keys = [*(key for one in everyone for key in one.keys), *(style_key(style) for style, _ in asked.values())]
        with (
            Purse(journal, keys, task.name, task.spec.budget.usd, trial_dollars(journal, everyone)) as purse,
            OpenModels(purse.budget) as models,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            shared = Shared(task, test, record, journal, observer, metric, purse, models, seed, confirmed)
            if task.spec.race if race is None else race:
                shared.race = _race(shared, entrants)
            contest = _Contest(shared, entrants, clock, jobs, cluster, named=bool(only))
            try:
                contest.enter_all()
                if asked:
                    contest.judge(lambda: judge_all(shared, asked, [one.label for one in entrants], clock))
            finally:
                observer.close()
                journal.touch(record.id, now())
        return compute_board(journal.evidence(record.id))


def _race(shared: Shared, entrants: Sequence[Entrant]) -> Race | None:
    """The race of a run's language models; None, with a note, where the metric allows none."""
    task, metric = shared.task, shared.metric
    able = [entrant for entrant in entrants if entrant.reason is None]
    racers = frozenset(entrant.label for entrant in able if contestant_of(entrant.estimator).asks)
    if not can_race(metric):
        shared.observer.note(f"there is no race by {metric.title}: it can't be told row by row who is ahead")
        return None
    if not racers:
        return None
    bound = largest_error(metric, task.train.y, shared.record.fallback)
    labels = tuple(entrant.label for entrant in able)
    return Race(metric, shared.test.y, shared.units, bound, racers, labels)


def _adopt(entrant: Entrant, folder: Path, journal: Journal) -> None:
    """Let a contestant have what an earlier version of kurabe kept of it under another key."""
    place = trained_path(folder, entrant.key)
    for former in entrant.former:
        if (known := trained_path(folder, former)).exists() and not place.exists():
            known.rename(place)
    journal.adopt(entrant.key, entrant.former)


class _Contest:
    """The contestants of a run side by side, each in its lane."""

    def __init__(
        self,
        shared: Shared,
        entrants: Sequence[Entrant],
        clock: Clock,
        jobs: int | None,
        cluster: Cluster | None,
        *,
        named: bool,
    ) -> None:
        self._shared, self._entrants, self._clock, self._named = shared, entrants, clock, named
        self._jobs, self._cluster = jobs, cluster
        self._lock = threading.RLock()
        self._waiting: list[Entrant] = []  # wherever they are placed
        self._places: list[Place] = []  # one for each contestant that may learn there at the same time
        self._begun: list[threading.Event] = []  # set when a thread is through
        self._attempts: list[Attempt] = []  # under way
        self._judging = False
        self._fatal: BaseException | None = None

    def enter_all(self) -> None:
        """Run all contestants, the cheap ones first; with a limit of minutes those that are worth most for their time
        first, and not those that can't be ready in what is left."""
        shared = self._shared
        order = cheap_first(self._entrants)
        if self._clock.minutes is not None:
            shared.schedule = Schedule.make(self._entrants, shared.task, shared.record.inputs, shared.journal)
            order = shared.schedule.order(self._entrants)
        cores = None if self._cluster is None else self._cluster.cores
        lane = lanes(order, shared.task, shared.record.inputs, shared.journal, self._jobs, shared.purse.left(), cores)
        self._waiting = list(order)
        persist.warm_up()
        self._places = self._opened(lane.processes)
        try:
            learning = [self._start(partial(self._through, lane.workers, one)) for one in self._places]
            ask = [partial(self._through, waiting) for waiting in lane.network]
            asking = [] if shared.race is not None else [self._start(work) for work in ask]
            self._through(lane.here)
            self._join(learning)
            if shared.race is not None and self._fatal is None:  # those that have answered are whom one can be behind
                asking = [self._start(work) for work in ask]
            self._through(lane.alone)
            self._join(asking)
            self._raise_fatal()
        except BaseException as error:
            self._end(error)
            raise
        finally:
            for place in self._places:
                place.close()

    def _opened(self, count: int) -> list[Place]:
        """Places for so many contestants at a time."""
        shared = self._shared
        if not count:
            return []
        told = packed(shared.task, shared.test.X, shared.seed)
        if self._cluster is not None:
            return [self._cluster.place(shared.task, told, count)] * count
        each = max(1, processors() // count)
        return [Worker(told, each) for _ in range(count)]

    def judge(self, work: Callable[[], None]) -> None:
        """Have judges asked, and let Ctrl-C wait for the calls that they have under way."""
        self._judging = True
        try:
            self._join([self._start(work)])
            self._raise_fatal()
        except BaseException as error:
            self._end(error)
            raise
        finally:
            self._judging = False

    # ------------------------------------------------------------------------------------------------------- threads

    def _start(self, work: Callable[[], None]) -> threading.Event:
        """Do some work in a thread, and tell when it is over. (A `Thread.join` that Ctrl-C breaks off takes the thread
        for ended.)"""
        over = threading.Event()

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._stop(error)
            finally:
                over.set()

        self._begun.append(over)
        threading.Thread(target=run, name="kurabe-contest", daemon=True).start()
        return over

    def _join(self, begun: Sequence[threading.Event]) -> None:
        for over in begun:
            while self._fatal is None and not over.wait(LOOK):
                pass

    def _raise_fatal(self) -> None:
        """Raise what a thread has ended the run with."""
        if self._fatal is not None:
            raise self._fatal

    def _stop(self, error: BaseException) -> None:
        """Have nothing more begin, since the run can't go on."""
        with self._lock:
            self._fatal = self._fatal or error
        self._shared.stopping.set()
        for place in self._places:
            place.kill()

    def _end(self, error: BaseException) -> None:
        """Stop, and let the calls under way come in, since they are paid for. A second Ctrl-C does not wait for
        them."""
        self._stop(error)
        try:
            self._wait()
        finally:
            for attempt in self._attempts:
                attempt.leave()

    def _wait(self) -> None:
        if self._paid():
            self._shared.observer.note("waiting for the calls under way, which are paid for; Ctrl-C again leaves them")
        last = time.monotonic() + LEAVE
        while not all(over.is_set() for over in self._begun):
            if time.monotonic() > last and not self._paid():
                return
            time.sleep(LOOK)

    def _paid(self) -> bool:
        """Whether calls may be under way that are paid for."""
        return self._judging or any(attempt.answering for attempt in self._attempts)

    # --------------------------------------------------------------------------------------------------- contestants

    def _through(self, waiting: list[Entrant], place: Place | None = None) -> None:
        """Run those that wait here, one after the other; several threads may take from one list."""
        while not self._shared.stopping.is_set():
            with self._lock:
                if not waiting:
                    return
                entrant = waiting.pop(0)
                self._waiting.remove(entrant)
            self._in_time(entrant, place)

    def _in_time(self, entrant: Entrant, place: Place | None) -> None:
        """Run one contestant, where there is time for it, within its share of the time."""
        schedule, clock = self._shared.schedule, self._clock
        if schedule is not None and clock.minutes is not None:
            with self._lock:
                left = clock.left()
                if left > 0 and not schedule.fits(entrant, left):
                    work = Work(entrant, self._shared.record, self._shared.journal)
                    self._ended(work, *out_of_time(work, leave_out(schedule.least_of(entrant), clock.minutes)))
                    return
                clock = clock.share(schedule.share(entrant, self._waiting, left))
        self._enter(entrant, clock, place)

    def _enter(self, entrant: Entrant, clock: Clock, place: Place | None) -> None:
        """Run one contestant to its end, whatever that is, and write down how it ended."""
        work = Work(entrant, self._shared.record, self._shared.journal)
        if work.complete or entrant.reason is not None:
            if work.guesses:
                if self._shared.race is not None and entrant.reason is None:
                    self._shared.race.note(entrant.label, work.guesses)
                self._shared.observer.predicted(entrant.label, self._shared.standing(work, force=True))
            if entrant.reason is None and self._named:
                train_again(self._shared, work, clock)
            self._ended(work, *work.stopped(entrant.reason or ""))
            return
        work.end("partial", "running")
        attempt = Attempt(self._shared, work, clock, place)
        self._attempts.append(attempt)
        try:
            self._ended(work, *attempt.make())
        finally:
            self._attempts.remove(attempt)

    def _ended(self, work: Work, status: Status, reason: str | None) -> None:
        self._shared.observer.ended(work.entrant.label, status, work.end(status, reason))
