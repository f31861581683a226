"""A task in memory: its specification and its rows, split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import polars as pl

from kurabe.errors import DataError, TaskError, missing
from kurabe.tasks.checks import slice_rows
from kurabe.tasks.file import contestant_specs, load_spec, parse_spec
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.readers import Table
from kurabe.tasks.readings import reading, told_reading
from kurabe.tasks.sources import frame_table, nearly_numbers, read_table, stack, typed_frame
from kurabe.tasks.spec import Data, Kind, Prompt, Query, Sample, Split, TaskSpec
from kurabe.tasks.split import PartName, Positions, part_names, split_rows
from kurabe.tasks.sql import masked, read_query
from kurabe.tasks.target import guess_kind, read_target
from kurabe.tasks.template import default_template, render_inputs, template_columns

INPUT = "input"


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one side of the split, in an order drawn by the seed: the first k are a random sample.

    `X`: the input columns and `input`, the rendered text. `y`: (n,) float64 for `number`, object array of str
    otherwise. `rows`: every column of the source and `input`, for slices and reports. A column of the source that is
    itself called `input` is there for the template; the rendered text takes its place. `places`: (n,) int64, each
    row's place in its source, from 0: in the test file for a test part that has a file of its own, else in the whole
    source; None where that is not known.
    """

    X: pl.DataFrame
    y: np.ndarray
    rows: pl.DataFrame
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A task with its data. `folder` is where the task file stands; the journal is kept in `folder/.kurabe`.

    `estimators`: objects given in Python, by their label on the board; `contestant_specs(spec)` has an entry of the
    same label for each. `warnings`: what a person should know of the data, one sentence each. `allow_code`: the modules
    that `module:object` among the contestants may name. `file`: the name of the task file in `folder`, None for a task
    made in Python.
    """

    spec: TaskSpec
    train: Part
    validation: Part | None
    test: Part
    folder: Path
    warnings: tuple[str, ...] = ()
    estimators: Mapping[str, Any] = field(default_factory=dict)
    allow_code: tuple[str, ...] = ()
    file: str | None = None

    def __repr__(self) -> str:
        parts = (("training", self.train), ("validation", self.validation), ("test", self.test))
        rows = ", ".join(f"{len(part):,} {name}" for name, part in parts if part is not None)
        return f"Task({self.name!r}: {self.kind} {self.spec.target!r} by {self.metric}; rows: {rows})"

    @property
    def name(self) -> str:
        """The task's name."""
        return self.spec.name

    @property
    def kind(self) -> Kind:
        """What must come out: `number`, `label` or `text`."""
        return self.spec.kind

    @property
    def metric(self) -> str:
        """The metric's full name; the kind's default if the task file names none."""
        return metric_for(self.spec.metric, self.kind).name

    @classmethod
    def from_file(cls, path: str | Path, *, seed: int | None = None, allow_code: Collection[str] = ()) -> Self:
        """Read a task file and its data.

        Parameters
        ----------
        path : str or Path
            The YAML file.
        seed : int, optional
            The split's seed, in place of the one in the file.
        allow_code : collection of str
            Modules that you trust, so that contestants of the form `module:object` may import and run them.

        Returns
        -------
        Task

        Raises
        ------
        TaskError
            If the file is not valid.
        DataError
            If the data can't be used.
        """
        path = Path(path)
        spec = load_spec(path)
        if seed is not None:
            split = msgspec.structs.replace(spec.data.split or Split(), seed=seed)
            spec = msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, split=split))
        try:
            table, parts = _read(spec.data, path.parent, spec.target)
            return cls(**_make(spec, table, parts, path.parent), allow_code=tuple(allow_code), file=path.name)
        except (TaskError, DataError) as error:
            raise type(error)(f"{path}: {error}") from None

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        target: str,
        test: Any = None,
        name: str = "task",
        kind: Kind | None = None,
        input: str | None = None,
        columns: Sequence[str] | None = None,
        metric: str | None = None,
        prompt: Prompt | dict[str, Any] | None = None,
        contestants: Sequence[Any] | None = None,
        split: dict[str, Any] | None = None,
        budget: dict[str, float] | None = None,
        checks: Sequence[dict[str, Any]] = (),
        cluster: str | None = None,
        rows: Sample | None = None,
        folder: str | Path = ".",
        allow_code: Collection[str] = (),
    ) -> Self:
        """Make a task from a frame.

        Parameters
        ----------
        frame : DataFrame
            A polars or pandas frame: all rows, or those to learn from if `test` is given.
        target : str
            The column that must come out.
        test : DataFrame, optional
            The test rows, if you split them off yourself.
        name : str
            The task's name.
        kind : {"number", "label", "text"}, optional
            What must come out. None: guessed from the target.
        input : str, optional
            The template of the text. None: all columns.
        columns : sequence of str, optional
            The input columns. None: all but the target.
        metric : str, optional
            What to score by. None: the kind's default.
        prompt : Prompt or dict, optional
            What language models are asked.
        contestants : sequence, optional
            Names, mappings of a name to settings, estimators, or pairs (label, estimator). None: all that can run.
        split : dict, optional
            How the rows are split, as in a task file.
        budget : dict, optional
            What the run may take: `minutes`, `usd`.
        checks : sequence of dict
            Further columns of the board, as in a task file.
        cluster : str, optional
            The column that says which rows belong together.
        rows : int or "all", optional
            How many test rows language models answer.
        folder : str or Path
            Where the journal is kept, in `.kurabe`.
        allow_code : collection of str
            As for `from_file`.

        Returns
        -------
        Task

        Raises
        ------
        TaskError
            If a setting is not valid.
        DataError
            If the data can't be used.
        """
        tables = [frame_table(frame)] + ([] if test is None else [frame_table(test)])
        table = stack(tables)
        if target not in table.frame.columns:
            raise DataError(missing("column", target, table.frame.columns))
        parts: list[PartName] | None = None
        if test is not None:
            names: tuple[PartName, PartName] = ("train", "test")
            parts = [name for name, part in zip(names, tables, strict=True) for _ in range(part.frame.height)]
        entries, objects = _entries(contestants)
        guess = None if kind else guess_kind(table.frame[target])
        raw = {
            "name": name, "target": target, "kind": guess.kind if guess else kind, "input": input,
            "columns": None if columns is None else list(columns), "metric": metric,
            "prompt": msgspec.to_builtins(prompt), "contestants": entries, "budget": budget or {},
            "checks": list(checks), "cluster": cluster, "rows": rows,
            "data": {**({"train": "frame", "test": "frame"} if parts else {"source": "frame"}), "split": split},
        }  # fmt: skip
        spec = parse_spec(raw)
        made = _make(spec, table, parts, Path(folder))
        if guess and guess.kind == "label" and table.frame[target].dtype.is_numeric():
            made["warnings"] += (f'{target!r} is taken for labels: {guess.why}. Say kind="number" otherwise.',)
        labels = [entry.label for entry in contestant_specs(spec)]
        estimators = {labels[index]: estimator for index, estimator in objects.items()}
        return cls(**made, estimators=estimators, allow_code=tuple(allow_code))


def _read(data: Data, folder: Path, target: str) -> tuple[Table, list[PartName] | None]:
    """The rows of every file, one below the other, and the part of each row where the files decide it."""
    if data.source is not None:
        return _table(data.source, folder, data.encoding), None
    tables, parts = [], list[PartName]()
    named: tuple[tuple[PartName, str | Query | None], ...] = (
        ("train", data.train), ("validation", data.validation), ("test", data.test),
    )  # fmt: skip
    for name, source in named:
        if source is not None:
            table = _table(source, folder, data.encoding)
            if target not in table.frame.columns:
                where = source if isinstance(source, str) else f"the query of `{name}`"
                raise DataError(f"{where}: {missing('column', target, table.frame.columns)}")
            tables.append(table)
            parts += [name] * table.frame.height
    return stack(tables), parts


def _table(source: str | Query, folder: Path, encoding: str) -> Table:
    return read_table(source, folder, encoding) if isinstance(source, str) else read_query(source, folder)


def _without_secrets(data: Data) -> Data:
    """What may be kept of where the rows were: the journal and the reports have it from here."""

    def kept(source: str | Query | None) -> str | Query | None:
        return msgspec.structs.replace(source, sql=masked(source.sql)) if isinstance(source, Query) else source

    return msgspec.structs.replace(
        data, source=kept(data.source), train=kept(data.train), validation=kept(data.validation), test=kept(data.test)
    )


def _make(spec: TaskSpec, table: Table, parts: list[PartName] | None, folder: Path) -> dict[str, Any]:
    """Everything of a Task but the estimators."""
    split = spec.data.split or Split()
    metric_for(spec.metric, spec.kind)
    frame = typed_frame(table, keep=() if spec.kind == "number" else (spec.target,))
    for name in (spec.target, split.group, split.column, spec.cluster):
        if name is not None and name not in frame.columns:
            raise DataError(missing("column", name, frame.columns))
    available = dict.fromkeys(frame.columns)  # asking a frame is slow where it has thousands
    columns, template = _inputs(spec, split, list(available))
    used = [frame[name] for name in columns if name in available]
    read = {one.name: said for one in used if (how := reading(one)) and (said := told_reading(one, how))}
    nearly = nearly_numbers(table, frame, [one.name for one in used if one.name not in read])
    y, present, warnings = read_target(frame[spec.target], spec.kind, table.locate)
    kept = np.flatnonzero(present)
    frame, y = frame[kept], y[kept]

    def locate(position: int) -> str:
        return table.locate(int(kept[position]))

    places = _places(parts, table.frame.height)[kept]
    if parts is not None:
        parts = [parts[position] for position in kept]
    elif split.column is not None:
        parts = part_names(frame[split.column].to_list(), split.column, locate)
    positions = split_rows(
        split,
        len(y),
        parts=parts,
        labels=y if spec.kind == "label" else None,
        groups=None if split.group is None else frame[split.group].to_list(),
    )
    rows = frame.with_columns(pl.Series(INPUT, render_inputs(template, frame, locate=locate), dtype=pl.String))
    X = rows[list(dict.fromkeys([*columns, INPUT]))]
    _check_slices(spec, rows[positions.test])
    return {
        # The template that was used is part of the task: new rows are rendered by the same one.
        "spec": msgspec.structs.replace(spec, input=template, data=_without_secrets(spec.data)),
        "train": _part(X, y, rows, places, positions.train),
        "validation": None if positions.validation is None else _part(X, y, rows, places, positions.validation),
        "test": _part(X, y, rows, places, positions.test),
        "folder": folder,
        "warnings": (*table.warnings, *read.values(), *nearly, *warnings, *_unseen(spec, y, positions)),
    }


def _part(X: pl.DataFrame, y: np.ndarray, rows: pl.DataFrame, places: np.ndarray, positions: np.ndarray) -> Part:
    return Part(X[positions], y[positions], rows[positions], places[positions])


def _places(parts: Sequence[PartName] | None, rows: int) -> np.ndarray:
    """Each row's place in its source, from 0; `parts` that are tables of their own are counted apart."""
    places = np.arange(rows, dtype=np.int64)
    if parts is not None:
        for first in sorted(parts.index(name) for name in set(parts)):
            places[first:] = np.arange(rows - first)
    return places


def _inputs(spec: TaskSpec, split: Split, available: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The input columns and the template. Raises TaskError where a template, DataError where `columns` is wrong."""
    if spec.target == INPUT:
        raise DataError("the target cannot be called 'input', the name of the rendered text. Rename the column")
    for name in spec.columns or ():
        if name not in available:
            raise DataError(f"columns: {missing('column', name, available)}")
    read = None if spec.input is None else template_columns(spec.input, available, target=spec.target)
    if read == ():
        wish = f"{{{{ {spec.input} }}}}" if spec.input in available else "{{ COLUMN }}"
        raise TaskError(
            f"input: the template {spec.input!r} shows no column, so that all rows would read the same; write {wish}"
        )
    apart = {spec.target, split.group, split.column}
    columns = spec.columns or read or tuple(name for name in available if name not in apart)
    if not columns:
        raise DataError(f"there is no input column beside the target {spec.target!r}")
    if spec.prompt is not None:
        seen = dict.fromkeys([*columns, INPUT])
        template_columns(spec.prompt.user, list(seen), target=spec.target, where="prompt.user")
    return columns, spec.input or default_template(columns)


def _check_slices(spec: TaskSpec, test: pl.DataFrame) -> None:
    """Raises TaskError for a slice that is no condition, DataError for one that no test row meets."""
    for index, check in enumerate(spec.checks):
        if check.slice is None:
            continue
        where = f"checks[{index}].slice"
        try:
            met = slice_rows(check.slice, test)
        except TaskError as error:
            raise TaskError(f"{where}: {error}") from None
        if not met.any():
            raise DataError(f"{where}: no test row meets {check.slice!r}; widen it, or make the test part larger")


def _unseen(spec: TaskSpec, y: np.ndarray, positions: Positions) -> list[str]:
    """A warning where the test part has labels that nobody can have learned."""
    if spec.kind != "label":
        return []
    trained = set(y[positions.train])
    if len(trained) < 2:
        raise DataError(
            f"the training part has one class only, {next(iter(trained))!r}: there is nothing to tell apart"
        )
    unseen = sorted(set(y[positions.test]) - trained)
    if not unseen:
        return []
    shown = ", ".join(map(repr, unseen[:5])) + (", …" if len(unseen) > 5 else "")
    return [f"The test part has labels that the training part lacks: {shown}. No contestant can have learned them."]


def _entries(contestants: Sequence[Any] | None) -> tuple[list[Any] | None, dict[int, Any]]:
    """`contestants` as a task file has them, each object by a placeholder, and the objects by position."""
    if contestants is None:
        return None, {}
    entries: list[Any] = []
    objects: dict[int, Any] = {}
    for index, entry in enumerate(contestants):
        label, estimator = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
        if isinstance(estimator, str | dict):
            entries.append(estimator)
            continue
        if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            shown = estimator.__name__ if isinstance(estimator, type) else repr(estimator)
            raise TaskError(
                f"contestants[{index}]: expected a name, settings or an estimator with fit and predict, got {shown}"
            )
        objects[index] = estimator
        entries.append({type(estimator).__name__: None} | ({} if label is None else {"as": label}))
    return entries, objects
