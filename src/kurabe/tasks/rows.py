"""New rows for a trained contestant: the same columns and the same rendered text as in training."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from kurabe.errors import DataError, missing
from kurabe.tasks.readers import Table
from kurabe.tasks.sources import frame_table, typed_frame
from kurabe.tasks.spec import TaskSpec
from kurabe.tasks.task import INPUT
from kurabe.tasks.template import default_template, only_column, render_inputs, template_columns


def rows_from_texts(spec: TaskSpec, texts: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """`X` of finished inputs: `input` is the text, and the columns of `empty_columns` are empty.

    Where the template is one column and nothing else, that column is the text too.
    """
    empty = empty_columns(spec, columns)
    return pl.DataFrame(
        [pl.Series(name, [None if name in empty else text for text in texts], dtype=pl.String) for name in columns]
    )


def empty_columns(spec: TaskSpec, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of `X` that a finished text has no values for."""
    others = [name for name in columns if name != INPUT]
    shown = only_column(spec.input or default_template(others), columns)
    return tuple(name for name in others if name != shown)


def rows_from_table(spec: TaskSpec, table: Any, columns: Sequence[str]) -> pl.DataFrame:
    """`X` of a frame, or of a Table that `read_table` gave, with the task's input columns; it may have others.

    Raises DataError where a column is missing, TaskError where the template fails on a row.
    """
    source = table if isinstance(table, Table) else frame_table(table)
    frame = typed_frame(source)
    needed = [name for name in columns if name != INPUT]
    if spec.input is not None:
        needed += [name for name in template_columns(spec.input, [*frame.columns, *needed]) if name not in needed]
    for name in needed:
        if name not in frame.columns:
            raise DataError(f"the new rows have {missing('column', name, frame.columns)}")
    inputs = [name for name in columns if name != INPUT]
    texts = render_inputs(spec.input or default_template(inputs), frame, locate=source.locate)
    return frame.with_columns(pl.Series(INPUT, texts, dtype=pl.String)).select(columns)
