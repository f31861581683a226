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
    """A task with its data. Make one with `Task.from_file` or `Task.from_frame`.

    Parameters
    ----------
    spec : TaskSpec
        What the task file says.
    train, validation, test : Part
        The parts of the table; `validation` may be None.
    folder : Path
        Where the task file is. The journal is kept in its `.kurabe`.
    warnings : tuple of str
        What a person should know of the data.
    estimators : mapping
        Estimators given in Python, by their label on the board.
    allow_code : tuple of str
        What you allowed, as for `from_file`.
    file : str or None
        The name of the task file; None for a task made in Python.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> from kurabe import Task
    >>> items = pl.DataFrame({"size": range(200), "price": [2.0 * size for size in range(200)]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     task = Task.from_frame(items, target="price", contestants=["constant", "linear_features"], folder=folder)
    ...     board = task.compete(progress=False)
    ...     print([row.contestant for row in board.rows], board.winner.predict({"size": 50}).round())
    ['linear_features', 'constant'] [100.]
    """

    def compete(
        self,
        *,
        only: Collection[str] = (),
        limit: int | None = None,
        minutes: float | None = None,
        seed: int = 0,
        jobs: int | None = None,
        race: bool | None = None,
        on: str = "local",
        progress: bool | None = None,
    ) -> "Board":
        """Let the contestants compete.

        What is already in the journal, `.kurabe` in the task's folder, is not done again.

        Parameters
        ----------
        only : collection of str
            Names or labels of the contestants that take part. Empty: all.
        limit : int, optional
            Use only the first N test rows.
        minutes : float, optional
            How long the run may take, in place of the task's budget.
        seed : int
            For everything random in the contestants.
        jobs : int, optional
            How many processes learn at the same time. None: one a core, if there is enough to learn. 1: all in this
            process. Estimators given as objects learn in this process in any case. The scores do not depend on it.
        race : bool, optional
            Ask language models no further once they are shown not to be the winner. None: as the task file says.
        on : str
            Where contestants learn. `local`: in processes of this machine. `ray`: on the cluster at `RAY_ADDRESS`, or,
            where that is not set, on a Ray that is started here. `ray:HOST:PORT`: on the cluster that this machine is
            a node of. `ray://HOST:PORT`: on one that is reached by Ray Client. With Ray, `jobs` is how many contestants
            learn at the same time, by default as many as the cluster has cores.
        progress : bool, optional
            Show the progress: in a notebook in a cell, elsewhere on standard error. None: in a notebook or a terminal.

        Returns
        -------
        Board

        Raises
        ------
        InputError
            If `jobs` is less than 1, `on` is unknown, or no Ray answers there.
        MissingExtraError
            If `on` needs Ray, and it is not installed.
        """
        chosen: dict[str, Any] = {
            "only": only, "limit": limit, "minutes": minutes, "seed": seed, "jobs": jobs, "race": race, "on": on,
        }  # fmt: skip
        notebook = NotebookProgress() if in_notebook() and progress is not False else None
        if notebook is not None or sys.stderr.isatty() if progress is None else progress:
            with notebook or Progress(stays=not hasattr(sys, "ps1")) as observer:
                found = run(self, **chosen, observer=observer)
        else:
            found = run(self, **chosen)
        return Board(found.evidence, found.rows, found.comparisons, found.greater_is_better, self, notebook)

    def plan(
        self, *, only: Collection[str] = (), limit: int | None = None, minutes: float | None = None, seed: int = 0
    ) -> "Plan":
        """What `compete` with the same settings would take, and the smallest difference it could show.

        It asks no model.

        Parameters
        ----------
        only, limit, minutes, seed
            As for `compete`.

        Returns
        -------
        Plan
        """
        return Plan(**vars(make_plan(self, only=only, limit=limit, minutes=minutes, seed=seed)))


@dataclass(frozen=True, repr=False)
class Plan(contest_plan.Plan):
    """A run before it begins. It shows itself as text."""

    def __repr__(self) -> str:
        from kurabe.report.plan import plan_text

        return plan_text(self)


@dataclass(frozen=True, eq=False, repr=False)
class Board(contest_board.Board):
    """A contest's result: a table in a notebook, and text elsewhere. `Task.compete` makes it.

    Parameters
    ----------
    evidence : Evidence
        What the journal has of the run.
    rows : tuple of BoardRow
        The contestants from best to worst; those without a score last.
    comparisons : tuple of Comparison
        The paired tests: difference, interval, p, and p adjusted over all pairs.
    greater_is_better : bool
        Whether a greater score is better.
    task : Task
        The task of the run.
    cell : NotebookProgress or None
        The notebook's cell in which the run was followed. The board takes its place there.
    """

    task: Task
    cell: NotebookProgress | None = None

    @property
    def winner(self) -> "Trained":
        """The best contestant that finished and is not a person, trained.

        Raises
        ------
        ContestantError
            If there is none.
        """
        return load_winner(self.task.folder, self, self.task)

    def trained(self, contestant: str) -> "Trained":
        """A contestant of the board, trained.

        Parameters
        ----------
        contestant : str
            Its name on the board.

        Returns
        -------
        Trained

        Raises
        ------
        ContestantError
            If the board has no contestant of that name.
        NotTrainedError
            If it did not finish, or what was saved can't be loaded.
        """
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

    def _ipython_display_(self) -> None:
        """Show the board in a notebook, where the run was followed if that is the same cell."""
        if self.cell is None:
            raise NotImplementedError  # IPython then asks for the other forms
        self.cell.show(self._repr_html_(), repr(self))


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A trained contestant, which answers new rows. `Board.winner` and `Board.trained` give one.

    Parameters
    ----------
    label : str
        Its name on the board.
    estimator : estimator
        The fitted estimator.
    spec : TaskSpec
        The task that it learned.
    columns : tuple of str
        The task's input columns.
    """

    label: str
    estimator: Any
    spec: TaskSpec
    columns: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Trained({self.label!r}, task {self.spec.name!r}, {self.spec.kind})"

    def predict(self, rows: Any) -> np.ndarray:
        """Answer new rows.

        Parameters
        ----------
        rows : str, mapping, sequence of these, or frame
            Texts (each is the finished `input`), mappings of the task's input columns, or a polars or pandas frame of
            them.

        Returns
        -------
        ndarray, shape (n,)
            float64 for kind `number`, else str as objects.

        Raises
        ------
        DataError
            If a column is missing.
        """
        answers: np.ndarray = self.estimator.predict(self.inputs(rows))
        return answers

    def predict_proba(self, rows: Any) -> np.ndarray:
        """The probability of each label.

        Parameters
        ----------
        rows
            As for `predict`.

        Returns
        -------
        ndarray, shape (n, classes), float64
            In the order of `classes`.

        Raises
        ------
        ContestantError
            If the contestant gives no probabilities, such as a language model that writes its answers.
        DataError
            If a column is missing.
        """
        if not self.classes or not hasattr(self.estimator, "predict_proba"):
            raise ContestantError(f"{self.label!r} gives no probabilities; ask another contestant, or predict")
        shares: np.ndarray = self.estimator.predict_proba(self.inputs(rows))
        return shares

    @property
    def classes(self) -> list[str]:
        """The labels it knows, in the order of `predict_proba`; empty for kind `number` and `text`."""
        return [str(label) for label in getattr(self.estimator, "classes_", ())]

    def inputs(self, rows: Any) -> pl.DataFrame:
        """New rows as the contestant takes them.

        Warns if texts are given though the contestant has other columns too, which are then empty.

        Parameters
        ----------
        rows
            As for `predict`.

        Returns
        -------
        DataFrame
            The input columns and `input`.
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
