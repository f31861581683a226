"""What the checks of a task file say of answers and rows."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from kurabe.errors import InputError, OutputError, TaskError
from kurabe.models.output import output_format, parse
from kurabe.tasks.spec import Check

JSON = "json"

Follows = Callable[[Sequence[str]], np.ndarray]
"""Which of n texts follow a format, (n,) bool."""


def labels_of(checks: Sequence[Check]) -> tuple[str, ...]:
    """What the columns are called, each otherwise than all before it.

    >>> labels_of([Check(format="json"), Check(format="x"), Check(slice="a > 1")])
    ('format', 'format 2', 'a > 1')
    """
    labels: list[str] = []
    for check in checks:
        wanted = check.label or check.slice or ("format" if check.format is not None else "style")
        label, copies = wanted, 1
        while label in labels:
            copies += 1
            label = f"{wanted} {copies}"
        labels.append(label)
    return tuple(labels)


def labelled(checks: Sequence[Check]) -> list[tuple[str, Check]]:
    """Each check after what its column is called."""
    return list(zip(labels_of(checks), checks, strict=True))


def read_format(form: str | dict[str, Any]) -> Follows:
    r"""What says which whole answers, white space around them aside, follow `form`: a regular expression (Rust's, which
    takes linear time), `json`, or a JSON Schema. Raises TaskError where it is none of them.

    >>> read_format(r"\d+ EUR")([" 12 EUR", "about 12 EUR"]).tolist()
    [True, False]
    """
    if form == JSON:
        return lambda texts: np.array([_is_json(text) for text in texts], dtype=bool)
    if isinstance(form, dict):
        return _of_schema(form)
    pattern = rf"\A\s*(?:{form})\s*\z"
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        said = [line.removeprefix("error:").strip() for line in str(error).splitlines() if line.startswith("error:")]
        raise TaskError(
            f"{form!r} is no regular expression of Rust's kind: {(said or str(error).splitlines())[0]}; it may also be"
            " `json` or a JSON Schema"
        ) from None
    return lambda texts: pl.Series(texts, dtype=pl.String).str.contains(pattern).to_numpy().astype(bool)


def _of_schema(schema: dict[str, Any]) -> Follows:
    try:
        wanted = output_format(schema)
    except InputError as error:
        raise TaskError(str(error).replace("output= ", "it ", 1).replace("output=", "", 1)) from None

    def follows(text: str) -> bool:
        if not _is_json(text):  # `parse` would look for JSON among words
            return False
        try:
            parse(wanted, text)
        except OutputError:
            return False
        return True

    return lambda texts: np.array([follows(text) for text in texts], dtype=bool)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return True


def slice_rows(where: str, rows: pl.DataFrame) -> np.ndarray:
    """(n,) bool: which rows meet the SQL condition. Raises TaskError where it is none over these columns."""
    try:
        met = rows.lazy().select(pl.sql_expr(where).alias("met")).collect()["met"]
    except pl.exceptions.PolarsError as error:
        raise TaskError(f"{where!r} cannot be asked of the rows: {str(error).strip().splitlines()[0]}") from None
    if met.dtype != pl.Boolean or len(met) != len(rows):
        raise TaskError(f"{where!r} does not say yes or no of each row; write a condition such as origin = 'JP'")
    return met.fill_null(value=False).to_numpy().astype(bool)
