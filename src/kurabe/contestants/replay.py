"""A few training rows beside a saved contestant, with its answers: do other versions of the libraries answer alike?"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from kurabe.contestants.base import AnswersRowByRow, Contestant
from kurabe.contestants.plain import NUMERIC
from kurabe.errors import ContestantError

ROWS: Final = 8
MAX_BYTES: Final = 64_000
TOLERANCE: Final = 1e-5
"""By how much an answer may differ, as a share of the largest one, and a probability. Other releases add in another
order: in float32, which embeddings are in, sums of some hundred numbers then differ by up to 1e-5. Boards show three
digits."""
_DTYPES: Final[dict[str, Any]] = {
    str(dtype): dtype
    for dtype in (
        pl.String, pl.Boolean, pl.Null, pl.Categorical, pl.Float32, pl.Float64, pl.Date, pl.Datetime("us"),
        pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
    )
}  # fmt: skip
_LIBRARIES: Final = NUMERIC | {"kurabe"}
_Value = str | int | float | bool | None


class _Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    dtype: str
    values: tuple[_Value, ...]


class _Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One for each row: numbers, or labels and texts; `probabilities` are those of the labels."""

    numbers: tuple[float | str, ...] | None = None
    texts: tuple[str | None, ...] | None = None
    probabilities: tuple[tuple[float | str, ...], ...] | None = None


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    columns: tuple[_Column, ...]
    answers: _Answers


def record(estimator: Any, loaded: Any, X: pl.DataFrame) -> bytes | None:
    """A few of the rows X, and the answers of a fitted estimator, as JSON of at most MAX_BYTES.

    None where it asks a model or a person, is of the user's own code, does not answer alike once it is `loaded`, or
    where the rows hold what JSON does not.
    """
    if not X.height or not _can_be_asked(estimator) or not {str(dtype) for dtype in X.dtypes} <= _DTYPES.keys():
        return None
    rows = X[np.unique(np.linspace(0, X.height - 1, ROWS).astype(int))]
    while rows.height and _size(rows) > MAX_BYTES // 2:  # the other half is for the answers
        sizes = [_size(rows[place]) for place in range(rows.height)]
        rows = rows[[place for place in range(rows.height) if place != int(np.argmax(sizes))]]
    if not rows.height:
        return None
    columns, answers = _columns(rows), _answers(estimator, rows)
    data = msgspec.json.encode(_Record(columns, answers))
    return data if len(data) <= MAX_BYTES and not _differing(answers, _answers(loaded, _frame(columns))) else None


def differing(estimator: Any, data: bytes) -> tuple[int, int]:
    """How many of the rows that `record` has kept an estimator answers otherwise now, and how many there are.

    Raises ContestantError where the record is damaged; whatever the estimator raises passes through.
    """
    if not _can_be_asked(estimator):
        return 0, 0
    try:
        kept = msgspec.json.decode(data, type=_Record)
        rows = _frame(kept.columns)
    except Exception as error:  # polars raises errors of many kinds
        raise ContestantError(f"its rows are damaged: {error}") from None
    return len(_differing(kept.answers, _answers(estimator, rows))), rows.height


def parts_of(estimator: Any) -> Iterator[Any]:
    """An estimator, and what it and the estimators in it hold."""
    seen: dict[int, Any] = {}
    stack = [estimator]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        if isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, list | tuple | set):
            stack += value
        elif isinstance(value, np.ndarray):
            stack += list(value.flat) if value.dtype.hasobject else []
        elif not isinstance(value, type) and (hasattr(value, "get_params") or _package(value) in _LIBRARIES):
            stack += getattr(value, "__dict__", {}).values()


def _can_be_asked(estimator: Any) -> bool:
    """Whether its answers cost nothing and come from nowhere else, also those of what it is made of."""
    for value in parts_of(estimator):
        if isinstance(value, type) or not hasattr(value, "predict"):
            continue
        if isinstance(value, AnswersRowByRow):
            return False
        if isinstance(value, Contestant):  # of the class, as a file may give an object what attributes it likes
            if type(value).asks or type(value).by_hand or value.models():
                return False
        elif _package(value) not in _LIBRARIES:
            return False
    return True


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _size(rows: pl.DataFrame) -> int:
    return len(msgspec.json.encode(_columns(rows)))


def _columns(rows: pl.DataFrame) -> tuple[_Column, ...]:
    return tuple(
        _Column(column.name, str(column.dtype), tuple(_plain(value) for value in column.to_list())) for column in rows
    )


def _plain(value: Any) -> _Value:
    if isinstance(value, date):
        return value.isoformat()
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity."""
    return float(value) if np.isfinite(value) else str(float(value))


def _frame(columns: tuple[_Column, ...]) -> pl.DataFrame:
    return pl.DataFrame([_series(column) for column in columns])


def _series(column: _Column) -> pl.Series:
    dtype, values = _DTYPES[column.dtype], list[Any](column.values)
    if dtype == pl.Date:
        values = [value and date.fromisoformat(value) for value in values]
    elif dtype == pl.Datetime:
        values = [value and datetime.fromisoformat(value) for value in values]
    elif dtype in (pl.Float32, pl.Float64):
        values = [value if value is None else float(value) for value in values]
    return pl.Series(column.name, values, dtype=dtype)


def _answers(estimator: Any, rows: pl.DataFrame) -> _Answers:
    values = np.asarray(estimator.predict(rows))
    if values.shape != (rows.height,):
        raise ContestantError(f"predict gave shape {values.shape} for {rows.height} rows")
    if values.dtype.kind == "f":
        return _Answers(numbers=tuple(_number(value) for value in values.tolist()))
    texts = tuple(None if value is None else str(value) for value in values)
    if not hasattr(estimator, "predict_proba"):
        return _Answers(texts=texts)
    shares = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    return _Answers(texts=texts, probabilities=tuple(tuple(map(_number, row)) for row in shares.tolist()))


def _differing(one: _Answers, other: _Answers) -> set[int]:
    """The rows that two records of answers differ in."""
    rows = set[int]()
    if one.numbers is not None or other.numbers is not None:
        rows |= _apart(_table(one.numbers), _table(other.numbers))
    if one.texts != other.texts:
        texts, others = one.texts or (), other.texts or ()
        count = max(len(texts), len(others))
        same = len(texts) == len(others)
        rows |= {row for row in range(count) if not same or texts[row] != others[row]}
    if one.probabilities is not None and other.probabilities is not None:
        rows |= _apart(np.array(one.probabilities, dtype=float), np.array(other.probabilities, dtype=float))
    return rows


def _table(numbers: tuple[float | str, ...] | None) -> np.ndarray:
    return np.array(numbers or (), dtype=float).reshape(-1, 1)


def _apart(one: np.ndarray, other: np.ndarray) -> set[int]:
    if one.shape != other.shape:
        return set(range(max(len(one), len(other))))
    finite = np.abs(one[np.isfinite(one)])
    margin = TOLERANCE * max(float(finite.max(initial=0.0)), 1e-30)
    near = np.isclose(one, other, rtol=0.0, atol=margin, equal_nan=True)
    return {int(row) for row in np.flatnonzero(~near.all(axis=1))}
