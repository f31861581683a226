"""What the checks of a task file say of answers and rows."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from kurabe.errors import InputError, OutputError, TaskError
from kurabe.models import bounded
from kurabe.models.output import output_format, parse
from kurabe.tasks.conditions import check_condition
from kurabe.tasks.spec import Check

JSON = "json"
SECONDS = 30
"""For a regular expression over all rows."""
QUICK = 20_000_000
"""Characters of the pattern times characters of the rows: up to here a regular expression takes no time to speak of."""

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
    takes linear time), `json`, or a JSON Schema. Raises TaskError for anything else.

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

    def follows(texts: Sequence[str]) -> np.ndarray:
        if _is_quick(pattern, sum(map(len, texts))):
            return np.array(contains(texts, pattern), dtype=bool)
        return np.array(_within_limits(f"the format {form!r:.200}", "contains", list(texts), pattern), dtype=bool)

    return follows


def contains(texts: Sequence[str], pattern: str) -> list[bool]:
    """Which texts a regular expression is found in."""
    found: list[bool] = pl.Series(texts, dtype=pl.String).str.contains(pattern).to_list()
    return found


def _is_quick(pattern: str, characters: int) -> bool:
    """Whether matching ends soon. Rust's regular expressions take linear time, but each character of a text may cost as
    many steps as the pattern has states: `[ab]*a[ab]{10000}` takes twelve seconds for 100,000 characters."""
    return "{" not in pattern and len(pattern) * characters <= QUICK


def _within_limits(what: str, name: str, *args: Any) -> Any:
    """What the function `name` of this module gives, in a process with limits."""
    try:
        return bounded.call(f"{__name__}:{name}", *args, seconds=SECONDS)
    except bounded.LimitError as error:
        raise TaskError(f"{what} takes {error}; make it simpler") from None
    except bounded.FailedError as error:
        raise TaskError(str(error)) from None


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
    """(n,) bool: which rows meet the SQL condition. Raises TaskError if it is not valid for these columns."""
    if not check_condition(where):
        return np.array(meets(where, rows), dtype=bool)
    try:
        names = [name for name in pl.sql_expr(where).meta.root_names() if name in rows.columns]
    except pl.exceptions.PolarsError:
        names = []  # what is wrong with it is said below
    read = rows[names]
    characters = sum(int(column.str.len_chars().sum()) for column in read if column.dtype == pl.String)
    if not names or _is_quick(where, characters):
        return np.array(meets(where, rows), dtype=bool)
    return np.array(_within_limits(f"{where!r:.200}", "meets", where, read), dtype=bool)


def meets(where: str, rows: pl.DataFrame) -> list[bool]:
    """Which rows meet a condition that `check_condition` accepted. Raises TaskError if it is not valid for them."""
    try:
        met = rows.lazy().select(pl.sql_expr(where).alias("met")).collect()["met"]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TaskError(f"{where!r} cannot be asked of the rows: {str(error).strip().splitlines()[0]}") from None
    if met.dtype != pl.Boolean or len(met) != len(rows):
        raise TaskError(f"{where!r} does not say yes or no of each row; write a condition such as origin = 'JP'")
    return met.fill_null(value=False).to_list()
