"""The target column: what must be found out, as numbers or texts, and where it is not what the task says."""

import re
from collections.abc import Callable

import numpy as np
import polars as pl

from kurabe.errors import DataError
from kurabe.tasks.sources import MISSING
from kurabe.tasks.spec import Kind

MANY_LABELS = 50


def read_target(
    series: pl.Series, kind: Kind, locate: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """(y, present, warnings): y is (n,) float64 for `number`, an object array of str otherwise; present is (n,) bool,
    False where a row has no target and is to be left out.

    A number that is not finite counts as missing. Labels and texts are the text of the file; whole numbers are written
    without `.0`, booleans as `true` and `false`. Raises DataError at text in a number column and where
    nothing is left.
    """
    y = _numbers(series, locate) if kind == "number" else _texts(series)
    present = np.isfinite(y) if kind == "number" else np.array([v is not None for v in y], dtype=bool)
    if kind == "label":
        present &= np.array([bool(v and v.strip()) for v in y], dtype=bool)
    left_out = len(y) - int(present.sum())
    if left_out == len(y):
        raise DataError(f"the target {series.name!r} is missing in all {len(y)} rows")
    warnings: tuple[str, ...] = ()
    if left_out:
        first = locate(int(np.flatnonzero(~present)[0]))
        has, are = ("row has", "is") if left_out == 1 else ("rows have", "are")
        what = "no finite target" if kind == "number" else "no target"
        warnings = (f"{left_out:,} {has} {what} {series.name!r} and {are} left out, the first at {first}.",)
    if kind == "label" and len(classes := set(y[present])) == 1:
        raise DataError(
            f"the target {series.name!r} has one class only, {classes.pop()!r}: there is nothing to tell apart"
        )
    return y, present, warnings


def guess_kind(series: pl.Series) -> Kind:
    """`number` for a column of numbers; `label` for at most 50 distinct texts that repeat, or more of
    which each repeats ten times on average; `text` otherwise."""
    if series.dtype.is_numeric():
        return "number"
    known = series.drop_nulls()
    distinct = known.n_unique()
    few = distinct <= MANY_LABELS and 2 * distinct <= len(known)
    return "label" if series.dtype == pl.Boolean or few or 10 * distinct <= len(known) else "text"


def _numbers(series: pl.Series, locate: Callable[[int], str]) -> np.ndarray:
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if series.dtype != pl.String:
        raise DataError(f"the target {series.name!r} holds {series.dtype}, not numbers")
    texts = series.str.strip_chars()
    numbers = texts.cast(pl.Float64, strict=False)
    wrong = np.flatnonzero((numbers.is_null() & texts.is_not_null() & ~texts.is_in(MISSING)).to_numpy())
    if len(wrong):
        shown = "; ".join(f"{texts[int(row)][:40]!r} at {locate(int(row))}" for row in wrong[:5])
        more = f"; and {len(wrong) - 5:,} more" if len(wrong) > 5 else ""
        raise DataError(
            f"the target {series.name!r} must be a number, and {len(wrong):,} of {len(texts):,} rows are not: "
            f"{shown}{more}."
            f"{_remedy([str(texts[int(row)]) for row in wrong])}"
        )
    return numbers.fill_null(float("nan")).to_numpy()


def _remedy(wrong: list[str]) -> str:
    """What to do about it, which depends on what it looks like."""
    bare = [re.sub(r"[\s$€£¥,%]", "", text) for text in wrong]
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", text) for text in bare):
        return f" Write plain numbers, {bare[0]} for {wrong[0]!r}; leave a field empty where the number is unknown"
    return " Write plain numbers, and leave a field empty where the number is unknown; or use kind: label or text"


def _texts(series: pl.Series) -> np.ndarray:
    found = np.empty(len(series), dtype=object)
    found[:] = [_text(value) for value in series.to_list()]
    return found


def _text(value: object) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
