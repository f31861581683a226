"""The Python API: what the command line does, as objects.

task = Task.from_file("task.yaml")
board = task.compete()
board.winner.predict(["A 486 with 8 MB of memory"])
"""

import shlex
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from kurabe.contest import board as contest_board
from kurabe.contest import plan as contest_plan
from kurabe.contest.journal import Journal
from kurabe.contest.plan import make_plan
from kurabe.contest.prepare import fit, journal_path, trained_path
from kurabe.contest.run import run
from kurabe.contestants import persist, registry
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.own import check_consent
from kurabe.errors import AnswerMissingError, ContestantError, NotTrainedError, missing
from kurabe.report.notebook_progress import NotebookProgress, in_notebook
from kurabe.report.progress import Progress
from kurabe.tasks import task as tasks
from kurabe.tasks.file import contestant_specs
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.rows import empty_columns, rows_from_table, rows_from_texts
from kurabe.tasks.spec import TaskSpec


@dataclass(frozen=True, eq=False, repr=False)
class Task(tasks.Task):
    """A task with its data, ready to be competed for. Make one by `Task.from_file` or `Task.from_frame`."""

    def compete(
        self,
        *,
        only: Collection[str] = (),
        limit: int | None = None,
        minutes: float | None = None,
        seed: int = 0,
        progress: bool | None = None,
    ) -> "Board":
        """Let the contestants compete and return the board.

        `only`: labels or names of contestants, all where empty. `limit`: only the first N test rows. `minutes`:
        what the run may take, in place of the task's budget. `seed`: for everything random in the contestants.
        `progress`: in a notebook a cell that follows the run, elsewhere bars on standard error; None: where it is a
        notebook or a terminal.
        What is already in the journal, `folder/.kurabe`, is not done again.
        """
        notebook = in_notebook()
        if notebook or sys.stderr.isatty() if progress is None else progress:
            with NotebookProgress() if notebook else Progress() as observer:
                found = run(self, only=only, limit=limit, minutes=minutes, seed=seed, observer=observer)
        else:
            found = run(self, only=only, limit=limit, minutes=minutes, seed=seed)
        return Board(found.evidence, found.rows, found.comparisons, found.greater_is_better, self)

    def plan(
        self, *, only: Collection[str] = (), limit: int | None = None, minutes: float | None = None, seed: int = 0
    ) -> "Plan":
        """What `compete` with the same settings will take, and how small a difference it can show. Asks no model."""
        return Plan(**vars(make_plan(self, only=only, limit=limit, minutes=minutes, seed=seed)))


@dataclass(frozen=True, repr=False)
class Plan(contest_plan.Plan):
    """A run before it begins. It shows itself as text."""

    def __repr__(self) -> str:
        from kurabe.report.plan import plan_text

        return plan_text(self)


@dataclass(frozen=True, eq=False, repr=False)
class Board(contest_board.Board):
    """A contest's result. It shows itself, as a table in a notebook and as text elsewhere."""

    task: Task

    @property
    def winner(self) -> "Trained":
        """The best of `finishers` other than a person, trained. Raises ContestantError if nobody else finished."""
        return load_winner(self.task.folder, self, self.task)

    def trained(self, contestant: str) -> "Trained":
        """A contestant of the board, trained. Raises ContestantError for an unknown name."""
        return load_trained(self.task.folder, self.evidence.run, contestant, self.task)

    def to_html(self) -> str:
        """The whole report as one HTML page that opens offline."""
        from kurabe.report.html import html_report  # loads the chart library

        return html_report(self)

    def to_markdown(self) -> str:
        """The board as a Markdown table."""
        from kurabe.report.markdown import markdown

        return markdown(self)

    def __repr__(self) -> str:
        from kurabe.report.terminal import board_text

        return board_text(self)

    def _repr_html_(self) -> str:
        from kurabe.report.notebook import notebook_html

        return notebook_html(self)


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A trained contestant that takes new rows."""

    label: str
    estimator: Any
    spec: TaskSpec
    columns: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Trained({self.label!r}, task {self.spec.name!r}, {self.spec.kind})"

    def predict(self, rows: Any) -> np.ndarray:
        """Answers for new rows, shape (n,): float64 for kind `number`, object array of str otherwise.

        `rows`: a text or a list of texts (each is the finished `input`), a mapping or a list of mappings of the task's
        input columns, or a polars or pandas frame of them. Raises DataError where a column is missing.
        """
        answers: np.ndarray = self.estimator.predict(self.inputs(rows))
        return answers

    def predict_proba(self, rows: Any) -> np.ndarray:
        """(n, classes) float64: the probability of each label in the order of `classes`; `rows` as of `predict`.

        Raises ContestantError where the contestant gives none, such as a language model that writes its answers.
        """
        if not self.classes or not hasattr(self.estimator, "predict_proba"):
            raise ContestantError(f"{self.label!r} gives no probabilities; ask another contestant, or predict")
        shares: np.ndarray = self.estimator.predict_proba(self.inputs(rows))
        return shares

    @property
    def classes(self) -> list[str]:
        """The labels that the contestant knows, in the order of `predict_proba`; none of kind `number` and `text`."""
        return [str(label) for label in getattr(self.estimator, "classes_", ())]

    def inputs(self, rows: Any) -> pl.DataFrame:
        """New rows as the contestant wants them: the input columns and `input`.

        Warns where texts are given and the contestant has columns beside them, which then are empty.
        """
        if isinstance(rows, str | Mapping):
            rows = [rows]
        if isinstance(rows, Sequence) and all(isinstance(row, str) for row in rows):
            if empty := empty_columns(self.spec, self.columns):
                warnings.warn(
                    f"a text leaves the columns {', '.join(map(repr, empty))} empty, and the answer may be another than"
                    " with them. Give mappings or a frame with every input column to fill them",
                    stacklevel=3,  # the caller of predict or predict_proba
                )
            return rows_from_texts(self.spec, rows, self.columns)
        frame = pl.DataFrame(list(rows), infer_schema_length=None) if isinstance(rows, Sequence) else rows
        return rows_from_table(self.spec, frame, self.columns)


def load_winner(
    folder: Path, board: contest_board.Board, task: tasks.Task | TaskSpec, allow_code: Collection[str] = ()
) -> Trained:
    """The best of `board.finishers` other than a person. `allow_code` is that of `Task.from_file`; a Task brings its
    own. Raises ContestantError if nobody else finished."""
    for name in board.finishers:
        try:
            return load_trained(folder, board.evidence.run, name, task, allow_code)
        except AnswerMissingError:  # a person won; the next best is a program
            continue
    raise ContestantError("no contestant came through that could answer new rows; the board says why for each")


def load_trained(
    folder: Path, run_id: str, contestant: str, task: tasks.Task | TaskSpec, allow_code: Collection[str] = ()
) -> Trained:
    """A trained contestant of a run from the folder's `.kurabe`.

    One that could not be saved is fitted again where `task` has its data. Raises ContestantError, NotTrainedError where
    the saved one can't be loaded, JournalError, and AnswerMissingError for a person.
    """
    with Journal(journal_path(folder), create=False) as journal:
        entries = {entry.label: entry for entry in journal.entries(run_id)}
        spec, columns = journal.spec(run_id)
    if contestant not in entries:
        raise ContestantError(missing("contestant", contestant, entries))
    found = entries[contestant]
    made = _untrained(contestant, task, allow_code)
    if contestant_of(made).by_hand:
        raise AnswerMissingError("a person can't be asked by `predict`; choose another contestant")
    where = trained_path(folder, found.entry)
    allowed = allow_code if isinstance(task, TaskSpec) else task.allow_code
    if where.exists():
        try:
            estimator = persist.load(where, made, allowed)
        except NotTrainedError as error:
            again = f"`kurabe run` with --only {shlex.quote(contestant)}, or compete(only=[{contestant!r}])"
            raise NotTrainedError(f"{error}. To train it again: {again}") from None
    elif isinstance(task, tasks.Task) and found.status == "done":
        estimator = fit(made, task)
    else:
        why = f" ({found.reason})" if found.reason else ""
        raise NotTrainedError(
            f"{contestant} is not there as a trained contestant: its state is {found.status!r}{why}. To train it again:"
            f" `kurabe run` with --only {shlex.quote(contestant)}"
        )
    known = msgspec.json.decode(spec, type=dict[str, Any])
    known.pop("run", None)  # what the run was made with is no part of the task
    return Trained(contestant, estimator, msgspec.convert(known, TaskSpec), columns)


def _untrained(contestant: str, task: tasks.Task | TaskSpec, allow_code: Collection[str]) -> Any:
    """The contestant as the task describes it; None where the task no longer names it."""
    spec = task if isinstance(task, TaskSpec) else task.spec
    allowed = tuple(allow_code) if isinstance(task, TaskSpec) else task.allow_code
    if isinstance(task, tasks.Task) and contestant in task.estimators:
        return task.estimators[contestant]
    listed = registry.defaults(spec.kind) if spec.contestants is None else contestant_specs(spec)
    for entry in listed:
        if entry.label == contestant:
            check_consent(entry, allowed)
            metric = metric_for(spec.metric, spec.kind).name
            return registry.build(entry, registry.Context(spec.kind, metric, 0, spec.prompt, spec.target, allowed))
    return None
