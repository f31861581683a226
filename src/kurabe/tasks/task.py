"""A task in memory: its specification and its rows, split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from kurabe.tasks.spec import Kind, Prompt, TaskSpec


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one side of the split.

    `X`: the input columns and `input`, the rendered text. `y`: (n,) float64 for `number`, object array of str
    otherwise. `rows`: every column of the source and `input`, for slices and reports.
    """

    X: pl.DataFrame
    y: np.ndarray
    rows: pl.DataFrame

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Task:
    """A task with its data. `folder` is where the task file stands; the journal is kept in `folder/.kurabe`."""

    spec: TaskSpec
    train: Part
    validation: Part | None
    test: Part
    folder: Path
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> Kind:
        return self.spec.kind

    @property
    def metric(self) -> str:
        """The metric's full name; the kind's default where the task file says nothing."""
        raise NotImplementedError

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a task file and its data.

        Raises TaskError where the file is not valid and DataError where the data cannot be used.
        """
        raise NotImplementedError

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
        folder: str | Path = ".",
    ) -> Self:
        """Make a task from a polars or pandas frame (and a second one, `test`, where the split is made already).

        `contestants` may hold estimator objects beside names. Raises TaskError and DataError as `from_file` does.
        """
        raise NotImplementedError
