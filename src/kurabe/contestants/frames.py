"""What comes in, made into one form: a polars frame with the text column `input`, and a clean target."""

from typing import Any, cast

import numpy as np
import polars as pl

from kurabe.errors import ContestantError, missing
from kurabe.tasks.spec import Kind

TEXT = "input"
MAX_CHARS = 20_000  # of a text are looked at; a longer one costs time and tells little more


def as_frame(X: Any) -> pl.DataFrame:
    """A polars frame of `X`: a polars or pandas frame, or a list, array or series of texts (the column `input`).

    Raises ContestantError for anything else.
    """
    if isinstance(X, pl.DataFrame):
        return X
    if isinstance(X, pl.LazyFrame):
        return X.collect()
    if isinstance(X, pl.Series):
        return X.alias(TEXT).to_frame()
    if type(X).__module__.partition(".")[0] == "pandas" and hasattr(X, "columns"):
        return pl.DataFrame([_from_pandas(str(name), X[name]) for name in X.columns])
    if isinstance(X, np.ndarray) and X.ndim == 2:
        return pl.DataFrame({str(position): X[:, position] for position in range(X.shape[1])}, strict=False)
    if hasattr(X, "__iter__") and not isinstance(X, str | bytes | dict):
        return pl.Series(TEXT, [None if _is_null(text) else str(text) for text in X], dtype=pl.String).to_frame()
    raise ContestantError(f"expected a table or a list of texts, got {type(X).__name__}")


def _from_pandas(name: str, column: Any) -> pl.Series:
    """A pandas column as polars', without pyarrow, which polars' own conversion needs."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return pl.Series(name, column.to_numpy())
    return pl.Series(name, [None if _is_null(value) else value for value in column.tolist()], strict=False)


def _is_null(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def texts(X: pl.DataFrame) -> list[str]:
    """The texts of the column `input`, at most MAX_CHARS long, '' for an empty one.

    Raises ContestantError where the column is missing.
    """
    require(X, [TEXT])
    return cast(list[str], X[TEXT].cast(pl.String).str.slice(0, MAX_CHARS).fill_null("").to_list())


def texts_if_any(X: pl.DataFrame) -> list[str]:
    """`texts`, or none where there is no such column."""
    return texts(X) if TEXT in X.columns else []


def require(X: pl.DataFrame, columns: list[str]) -> None:
    """Raise ContestantError that names the columns which the frame lacks."""
    absent = [column for column in columns if column not in X.columns]
    if len(absent) == 1:
        raise ContestantError(missing("column", absent[0], X.columns))
    if absent:
        names = ", ".join(repr(column) for column in absent)
        raise ContestantError(f"the table lacks the columns {names} that the contestant learned from")


def infer_kind(y: Any) -> Kind:
    """`number` for a target of numbers, `label` otherwise: what a contestant takes where nobody tells it."""
    dtype = np.asarray(y).dtype
    return "number" if dtype.kind in "iuf" else "label"


def as_target(y: Any, kind: Kind, rows: int) -> np.ndarray:
    """(n,) float64 for `number`, object array of str otherwise.

    Raises ContestantError where values are missing, not numbers, or not as many as there are rows.
    """
    values = y.to_numpy() if isinstance(y, pl.Series) else np.asarray(y)
    if values.ndim != 1 or len(values) != rows:
        raise ContestantError(
            f"expected one target value for each of {rows} rows, got an array of shape {values.shape}"
        )
    if rows == 0:
        raise ContestantError("there are no rows to learn from")
    if kind != "number":
        absent = [row for row, value in enumerate(values) if _is_null(value)]
        if absent:
            raise ContestantError(f"the target is missing in row {absent[0]}")
        return np.array([str(value) for value in values], dtype=object)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ContestantError(f"the target must be numbers: {error}") from None
    if not np.isfinite(numbers).all():
        raise ContestantError(f"the target is not a finite number in row {int(np.argmin(np.isfinite(numbers)))}")
    return numbers


def held_part(validation: tuple[Any, Any] | None, kind: Kind) -> tuple[pl.DataFrame, np.ndarray] | None:
    """The validation part as `as_frame` and `as_target` make it, None if it has no rows."""
    if validation is None or not len(validation[1]):
        return None
    return as_frame(validation[0]), as_target(validation[1], kind, len(validation[1]))


def joined(
    X: pl.DataFrame, y: np.ndarray, held: tuple[pl.DataFrame, np.ndarray] | None
) -> tuple[pl.DataFrame, np.ndarray]:
    """Both parts, for what learns from both."""
    return (X, y) if held is None else (concat(X, held[0]), np.concatenate([y, held[1]]))


def concat(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The rows of both; columns that only one has are dropped."""
    shared = [name for name in one.columns if name in other.columns]
    return pl.concat([one.select(shared), other.select(shared)], how="vertical_relaxed")
