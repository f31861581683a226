"""The target column: what must be found out, as numbers or texts, and where it is not what the task says."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from kurabe.errors import DataError
from kurabe.tasks.amounts import MISSING, Style, read_amounts, told
from kurabe.tasks.spec import Kind

MANY_LABELS = 50
FEW_NUMBERS = 10
"""Up to so many distinct whole numbers are classes, if each stands in several rows on average."""
_ROWS_A_LABEL = 4
LARGEST = 1e70
"""Of a target. Its fourth power, the square of a squared error, is still a float."""


@dataclass(frozen=True)
class Guess:
    """What kind a target is, and why: a short clause for people that begins in lower case."""

    kind: Kind
    why: str


def read_target(
    series: pl.Series, kind: Kind, locate: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The target's values, which rows have one, and what a person should know of it.

    Parameters
    ----------
    series : pl.Series
        The column, of n cells. Text in a column of numbers may be amounts: `$4,733.00` is 4733.
    kind : {"number", "label", "text"}
    locate : callable
        Says where a row stands, for messages.

    Returns
    -------
    y : ndarray
        (n,) float64 for `number`, an object array of str otherwise. Labels and texts are the text of the file; whole
        numbers are written without `.0`, booleans as `true` and `false`.
    present : ndarray
        (n,) bool, False where a row has no target and is to be left out. A number that is not finite counts as missing.
    warnings : tuple of str

    Raises
    ------
    DataError
        At text in a number column that is more or other than one amount, at a number beyond LARGEST, and where
        nothing is left.
    """
    y, warnings = _numbers(series, locate) if kind == "number" else (_texts(series), ())
    present = np.isfinite(y) if kind == "number" else np.array([v is not None for v in y], dtype=bool)
    if kind == "number" and (np.abs(y[present]) > LARGEST).any():
        row = int(np.flatnonzero(present & (np.abs(y) > LARGEST))[0])
        raise DataError(
            f"the target {series.name!r} is {y[row]:g} at {locate(row)}, too large to be scored: errors are squared."
            f" Give it in a larger unit, or correct the row; {LARGEST:g} is the limit"
        )
    if kind == "label":
        present &= np.array([bool(v and v.strip()) for v in y], dtype=bool)
    left_out = len(y) - int(present.sum())
    if left_out == len(y):
        raise DataError(f"the target {series.name!r} is missing in all {len(y)} rows")
    if left_out:
        first = locate(int(np.flatnonzero(~present)[0]))
        has, are = ("row has", "is") if left_out == 1 else ("rows have", "are")
        what = "no finite target" if kind == "number" else "no target"
        warnings += (f"{left_out:,} {has} {what} {series.name!r} and {are} left out, the first at {first}.",)
    if kind == "label" and len(classes := set(y[present])) == 1:
        raise DataError(
            f"the target {series.name!r} has one class only, {classes.pop()!r}: there is nothing to tell apart"
        )
    return y, present, warnings


def guess_kind(series: pl.Series) -> Guess:
    """The kind of a target, guessed from its values alone; `kurabe new` and `Task.from_frame` both go by it.

    `label` for booleans, for at most 10 distinct whole numbers that repeat, and for at most 50 distinct texts that
    repeat (or more, of which each stands in ten rows on average); `number` for other numbers and for amounts such as
    `$4,733.00`; `text` otherwise.
    """
    known = series.drop_nulls()
    if series.dtype == pl.Boolean:
        return Guess("label", "it says true or false")
    if series.dtype.is_numeric():
        return _guess_numbers(known)
    distinct, rows = known.n_unique(), len(known)
    if series.dtype == pl.String and (amounts := read_amounts(known)) is not None and amounts.alike:
        if amounts.currencies:
            return Guess("number", "it holds amounts of money")
        return _guess_numbers(pl.Series(amounts.values, nan_to_null=True).drop_nulls())
    few = distinct <= MANY_LABELS and 2 * distinct <= rows
    if few or 10 * distinct <= rows:
        return Guess("label", f"it has {distinct:,} distinct values that repeat")
    return Guess("text", f"it has {distinct:,} distinct texts in {rows:,} rows")


def _guess_numbers(known: pl.Series) -> Guess:
    finite = known.filter(known.is_finite()) if known.dtype.is_float() else known
    if finite.dtype.is_float() and not (finite == finite.floor()).all():
        return Guess("number", "it holds numbers with decimals")
    distinct = finite.n_unique()
    if 2 <= distinct <= FEW_NUMBERS and _ROWS_A_LABEL * distinct <= len(finite):
        return Guess("label", f"it has only {distinct} distinct whole numbers, which are taken for classes")
    return Guess("number", f"it has {distinct:,} distinct numbers")


def _numbers(series: pl.Series, locate: Callable[[int], str]) -> tuple[np.ndarray, tuple[str, ...]]:
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy(), ()
    if series.dtype != pl.String:
        raise DataError(f"the target {series.name!r} holds {series.dtype}, not numbers")
    texts = series.str.strip_chars()
    plain = texts.cast(pl.Float64, strict=False)
    values = plain.fill_null(float("nan")).to_numpy().copy()
    written = np.flatnonzero((plain.is_null() & texts.is_not_null() & ~texts.is_in(MISSING)).to_numpy())
    if not len(written):
        return values, ()
    found = read_amounts(texts)
    # A letter multiplies, also where it stands after every number: `12k` in an answer is 12,000 too.
    style = Style(decimal_comma=found is not None and found.style.decimal_comma)
    amounts = read_amounts(texts, style)
    assert amounts is not None  # as there are cells that are known
    if wrong := sorted(set(written.tolist()) & set(amounts.unread)):
        raise DataError(_unreadable(series.name, texts, wrong, locate))
    if style.decimal_comma:  # `1.234` among `1.234,5` is a thousand and more, though it looks like a plain number
        written = np.flatnonzero(~np.isnan(amounts.values))
    values[written] = amounts.values[written]
    return values, (told(series.name, amounts),)


def _unreadable(name: str, texts: pl.Series, wrong: list[int], locate: Callable[[int], str]) -> str:
    shown = "; ".join(f"{texts[row][:40]!r} at {locate(row)}" for row in wrong[:5])
    more = f"; and {len(wrong) - 5:,} more" if len(wrong) > 5 else ""
    holds = "holds" if len(wrong) == 1 else "hold"
    return (
        f"the target {name!r} must be a number, and {len(wrong):,} of {len(texts):,} rows {holds} something else:"
        f" {shown}{more}. Write one number without remarks, leave a field empty where it is unknown,"
        " or use kind: label or text"
    )


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
