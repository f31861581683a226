"""One run of a task's contestants. Each prediction is in the journal before it counts, so a run can be killed at any
moment and goes on where it was when it is started again."""

import errno
import os
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import msgspec
import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe import models
from kurabe.contest.board import Board, compute_board
from kurabe.contest.evidence import Status
from kurabe.contest.identity import digest, estimator_digest, input_digests, part_digest
from kurabe.contest.journal import EntryRecord, Journal, Row, RunRecord
from kurabe.contest.leaks import find_leaks
from kurabe.contest.memory import PeakMemory
from kurabe.contest.observer import Observer, Silent
from kurabe.contestants import persist, registry
from kurabe.contestants.base import AnswersRowByRow, Contestant
from kurabe.contestants.human import Human
from kurabe.errors import BudgetExceededError, ContestantError, JournalError, KurabeError, missing
from kurabe.tasks.answers import fallback
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.spec import ContestantSpec
from kurabe.tasks.task import Part, Task

FOLDER = ".kurabe"
CHUNKS = 20  # predictions of contestants that answer all at once are journaled in about so many pieces
SCORE_SECONDS = 0.25  # the running score is computed no more often than this


@dataclass(frozen=True)
class Entrant:
    """A contestant ready to compete: its estimator, or the reason why it is skipped."""

    label: str
    position: int
    estimator: Any
    model: str | None
    key: bytes
    reason: str | None


def journal_path(folder: Path) -> Path:
    """Where the journal of the tasks in a folder lies."""
    return folder / FOLDER / "journal.sqlite"


def trained_path(folder: Path, key: bytes) -> Path:
    """Where a trained contestant is kept."""
    return folder / FOLDER / "trained" / key.hex()


def run(
    task: Task,
    *,
    only: Collection[str] = (),
    limit: int | None = None,
    seed: int = 0,
    observer: Observer | None = None,
) -> Board:
    """Let the task's contestants compete and return the board.

    `only`: labels or names of the contestants to run, all where empty. `limit`: only the first so many test rows.
    `seed`: for everything random in the contestants. Contestants that fail or cannot run are on the board with the
    reason. Raises JournalError where predictions cannot be kept, ContestantError for an unknown name.
    """
    observer = observer or Silent()
    test = _head(task.test, limit)
    entrants = choose(_entrants(task, seed), only)
    folder = task.folder / FOLDER
    with locked(folder), Journal(journal_path(task.folder)) as journal:
        record = _record(task, test, seed, limit)
        journal.begin(record)
        if not only:
            journal.keep_entries(record.id, [entrant.label for entrant in entrants])
        observer.began(tuple(entrant.label for entrant in entrants), len(test), journal.path)
        for warning in task.warnings:
            observer.note(warning)
        contest = _Contest(task, test, record, journal, observer)
        for entrant in entrants:
            contest.enter(entrant)
        return compute_board(journal.evidence(record.id))


def choose(entrants: Sequence[Entrant], only: Collection[str]) -> list[Entrant]:
    """The entrants whose label, or whose label's first word, is among `only`; all where it is empty."""
    labels = [entrant.label for entrant in entrants]
    for name in only:
        if not any(_is_called(label, name) for label in labels):
            raise ContestantError(missing("contestant", name, labels))
    return [entrant for entrant in entrants if not only or any(_is_called(entrant.label, name) for name in only)]


def _is_called(label: str, name: str) -> bool:
    return label == name or re.split(r"[ ,(]", label)[0] == name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time in a folder. The lock goes with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise JournalError(f"another run is going on in {folder.parent}; wait for it to end, or stop it") from None
    except OSError as error:
        raise _disk_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _disk_error(folder: Path, error: OSError) -> JournalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalError(
            f"the disk that holds {folder} is full. Every finished prediction is kept: "
            f"make room and run the same command again to go on"
        )
    return JournalError(f"cannot write to {folder}: {error.strerror or error}; check the folder's permissions")


def _head(part: Part, limit: int | None) -> Part:
    return part if limit is None else Part(part.X.head(limit), part.y[:limit], part.rows.head(limit))


def _entrants(task: Task, seed: int) -> list[Entrant]:
    context = registry.Context(
        kind=task.kind, metric=task.metric, random_state=seed, prompt=task.spec.prompt, target=task.spec.target
    )
    learned_from = part_digest([task.train, task.validation])
    return [
        _entrant(spec, position, task, context, learned_from) for position, spec in enumerate(task.contestant_specs())
    ]


def _entrant(
    spec: ContestantSpec, position: int, task: Task, context: registry.Context, learned_from: bytes
) -> Entrant:
    estimator = task.estimators.get(spec.label)
    if estimator is None:
        estimator = registry.build(spec, context)
    key = (
        digest("human", spec.label)
        if isinstance(estimator, Human)
        else digest(estimator_digest(estimator), learned_from)
    )
    model = getattr(estimator, "model", None)
    reference = model if isinstance(model, str) else getattr(model, "reference", None)
    skipped = getattr(estimator, "skipped_reason", None)
    return Entrant(spec.label, position, estimator, reference, key, skipped() if skipped else None)


def _record(task: Task, test: Part, seed: int, limit: int | None) -> RunRecord:
    learned = part_digest([task.train, task.validation])
    inputs = input_digests(test.X)
    tested = part_digest([test])
    about = msgspec.json.encode([task.spec.name, task.spec.target, task.kind, task.metric, seed, limit])
    slug = re.sub(r"\W+", "-", task.name.lower()).strip("-") or "task"
    train = task.train if task.validation is None else _joined(task.train, task.validation)
    return RunRecord(
        id=f"{slug}-{digest(about, learned, tested).hex()[:6]}",
        task=task.name,
        kind=task.kind,
        metric=task.metric,
        rows=test.rows,
        truth=test.y,
        inputs=inputs,
        test=digest(tested, repr(test.rows.columns), repr(test.rows.hash_rows().to_list())),
        fallback=fallback(train.y, task.kind),
        train_rows=len(train),
        leaks=find_leaks(train.X, test.X),
        spec=msgspec.json.encode(task.spec).decode(),
        columns=tuple(test.X.columns),
        now=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _joined(one: Part, other: Part) -> Part:
    return Part(
        pl.concat([one.X, other.X], how="vertical_relaxed"),
        np.concatenate([one.y, other.y]),
        pl.concat([one.rows, other.rows], how="vertical_relaxed"),
    )


class _Contest:
    """A run under way. Holds what every contestant of it shares."""

    def __init__(self, task: Task, test: Part, record: RunRecord, journal: Journal, observer: Observer) -> None:
        self.task, self.test, self.record, self.journal, self.observer = task, test, record, journal, observer
        self.metric = metric_for(task.metric, task.kind)
        minutes = task.spec.budget.minutes
        self.deadline = time.monotonic() + minutes * 60 if minutes is not None else None
        self.spent = 0.0

    def enter(self, entrant: Entrant) -> None:
        """Run one contestant to its end, whatever that is, and write down how it ended."""
        work = _Work(self, entrant)
        if entrant.reason is not None and not work.done:
            return work.end("skipped", entrant.reason)
        if work.complete:
            return work.end("done", None)
        work.end("partial", "running", tell=False)
        try:
            self.check_budget()
            self.pull(entrant)
            with PeakMemory() as memory, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    work.run()
                finally:
                    release = getattr(entrant.estimator, "close", None)
                    if release:
                        release()
            self.journal.record_peak(entrant.key, memory.peak)
        except BudgetExceededError as error:
            work.end("partial" if work.done else "skipped", str(error))
        except KeyboardInterrupt:
            work.end("partial", f"stopped after {work.done:,} of {work.total:,} rows; run again to go on")
            raise
        except JournalError:
            raise
        except Exception as error:  # a contestant may raise anything; the others go on
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_error(self.task.folder / FOLDER, error) from error
            if os.environ.get("KURABE_DEBUG"):
                raise
            work.end("failed", _first_line(error))
        else:
            work.end("done", None)

    def pull(self, entrant: Entrant) -> None:
        """Fetch the model that a contestant needs, where it is not here."""
        if entrant.model is not None and isinstance(getattr(entrant.estimator, "model", None), str):
            reference = entrant.model
            models.prepare(reference, lambda done, total: self.observer.fetching(reference, done, total))

    def check_budget(self) -> None:
        """Raise BudgetExceededError where the task's minutes or dollars are used up."""
        budget = self.task.spec.budget
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise BudgetExceededError(f"the budget of {budget.minutes:g} minutes is used up; run again to go on")
        if budget.usd is not None and self.spent > 0 and self.spent >= budget.usd:
            raise BudgetExceededError(f"the budget of ${budget.usd:g} is used up; raise it and run again to go on")


class _Work:
    """What one contestant has to do in a run, and how far it is."""

    def __init__(self, contest: _Contest, entrant: Entrant) -> None:
        self.contest, self.entrant = contest, entrant
        self.journal, self.test = contest.journal, contest.test
        asked = getattr(entrant.estimator, "rows", None) if isinstance(entrant.estimator, Human) else None
        self.total = min(asked, len(self.test)) if asked else len(self.test)
        self.guesses: dict[int, float | str] = {}
        self.positions: dict[bytes, list[int]] = {}
        for position, key in enumerate(contest.record.inputs[: self.total]):
            self.positions.setdefault(key, []).append(position)
        for key, row in self.journal.predictions(entrant.key).items():
            self._note(key, row.value)
        self._scored = 0.0

    @property
    def done(self) -> int:
        return len(self.guesses)

    @property
    def complete(self) -> bool:
        return self.done == self.total

    def _note(self, key: bytes, value: float | str | None) -> None:
        for position in self.positions.get(key, ()):
            self.guesses[position] = self.contest.record.fallback if value is None else value

    def end(self, status: Status, reason: str | None, *, tell: bool = True) -> None:
        """Write the contestant's state down."""
        entrant = self.entrant
        if status == "done" and self.total < len(self.test):
            reason = f"{self.total:,} of {len(self.test):,} rows were asked"
        record = EntryRecord(entrant.label, entrant.key, entrant.position, entrant.model, status, reason)
        self.journal.record_entry(self.contest.record.id, record)
        if tell:
            self.contest.observer.ended(entrant.label, status, reason)

    def run(self) -> None:
        estimator = self._trained()
        missing_rows = [rows[0] for key, rows in self.positions.items() if rows[0] not in self.guesses]
        self._tell(force=True)
        X = self.test.X[missing_rows]
        if isinstance(estimator, AnswersRowByRow):
            self._row_by_row(estimator, X, missing_rows)
        else:
            self._in_pieces(estimator, X, missing_rows)
        if not self.complete:
            raise ContestantError(f"answered {self.done:,} of {self.total:,} rows")

    def _trained(self) -> Any:
        """The trained contestant: the one kept from an earlier start of this run, or fitted now and kept."""
        task, entrant = self.contest.task, self.entrant
        folder = trained_path(task.folder, entrant.key)
        if folder.exists():
            try:
                return persist.load(folder)
            except ContestantError as error:
                self.contest.observer.note(f"{entrant.label}: {error}; fitting anew")
        self.contest.observer.fitting(entrant.label)
        start = time.perf_counter()
        estimator = fit(entrant.estimator, task)
        self.journal.record_fit(entrant.key, time.perf_counter() - start)
        try:
            persist.save(estimator, folder)
        except ContestantError as error:
            self.contest.observer.note(f"{entrant.label} was not saved, so it can't be used by `predict`: {error}")
        return estimator

    def _row_by_row(self, estimator: AnswersRowByRow, X: pl.DataFrame, rows: Sequence[int]) -> None:
        last = time.perf_counter()
        answers = estimator.iter_predict(X)
        try:
            for answer in answers:
                now = time.perf_counter()
                self._add([Row(self._key(rows[answer.row]), answer.value, answer.raw, answer.usd)], now - last)
                last = now
                self.contest.spent += answer.usd or 0.0
                if not self.complete:
                    self.contest.check_budget()
        finally:
            close: Callable[[], None] | None = getattr(answers, "close", None)
            if close:
                close()

    def _in_pieces(self, estimator: Any, X: pl.DataFrame, rows: Sequence[int]) -> None:
        size = max(1, -(-len(self.test) // CHUNKS))
        for start in range(0, len(rows), size):
            self.contest.check_budget()
            began = time.perf_counter()
            values = np.asarray(estimator.predict(X[start : start + size]))
            seconds = time.perf_counter() - began
            piece = rows[start : start + size]
            if values.shape != (len(piece),):
                raise ContestantError(
                    f"predict gave shape {values.shape} for {len(piece)} rows; wanted ({len(piece)},)"
                )
            kind = self.contest.task.kind
            self._add(
                [Row(self._key(row), _plain(value, kind)) for row, value in zip(piece, values, strict=True)], seconds
            )

    def _key(self, position: int) -> bytes:
        return self.contest.record.inputs[position]

    def _add(self, rows: list[Row], seconds: float) -> None:
        self.journal.add(self.entrant.key, rows, seconds)
        for row in rows:
            self._note(row.input, row.value)
        self._tell(force=self.complete)

    def _tell(self, *, force: bool) -> None:
        now = time.monotonic()
        score = None
        if force or now - self._scored > SCORE_SECONDS:
            self._scored = now
            score = running_score(self.contest, self.guesses)
        self.contest.observer.predicted(self.entrant.label, self.done, self.total, score)


def running_score(contest: _Contest, guesses: dict[int, float | str]) -> float | None:
    """The metric over the rows answered so far."""
    if not guesses:
        return None
    positions = np.fromiter(guesses, dtype=np.intp)
    kind = contest.task.kind
    guess = np.array(list(guesses.values()), dtype=np.float64 if kind == "number" else object)
    return contest.metric.score(contest.test.y[positions], guess)


def fit(estimator: Any, task: Task) -> Any:
    """Fit a fresh copy of an estimator on the task's training part.

    kurabe's own contestants are given the validation part to choose by; anyone else's estimator learns from both.
    """
    fresh = clone(estimator)
    if isinstance(fresh, Contestant):
        validation = None if task.validation is None else (task.validation.X, task.validation.y)
        return fresh.fit(task.train.X, task.train.y, validation=validation)
    train = task.train if task.validation is None else _joined(task.train, task.validation)
    return fresh.fit(train.X, train.y)


def _plain(value: Any, kind: str) -> float | str | None:
    """What a vector contestant predicted, as the journal keeps it; not a number counts as unread."""
    if kind == "number":
        number = float(value)
        return number if np.isfinite(number) else None
    return None if value is None else str(value)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, KurabeError):
        return lines[0] if lines else type(error).__name__
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
