"""One battery of checks for every contestant, kurabe's own and yours, as scikit-learn's `check_estimator` is one.

>>> from kurabe.contestants.checks import check_contestant
>>> from kurabe.contestants.trained.constant import Constant
>>> check_contestant(Constant(kind="number"), "number")
"""

import copy
import inspect
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe.contestants import persist
from kurabe.contestants.base import Contestant
from kurabe.errors import ContestantError
from kurabe.tasks.spec import Kind

ODD_TEXTS = ("", " ", "🙂🇯🇵👩‍👩‍👧 émoji", "a\x00b\x00", "約3万円のカメラ", "\n\t\r", "1e999 " * 40, "word " * 200_000)
Check = Callable[[Any, Kind], None]


def table(kind: Kind, rows: int = 40, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """A small table of things for sale with a text, numbers, dates and categories, and a target that follows them."""
    rng = np.random.default_rng(seed)
    things = np.array(["lamp", "chair", "table", "mirror"])[rng.integers(0, 4, rows)]
    sizes = rng.integers(1, 60, rows)
    X = pl.DataFrame(
        {
            "input": [f"A {thing} of {size} cm, colour {size % 3}" for thing, size in zip(things, sizes, strict=True)],
            "thing": things,
            "size": sizes.astype(float),
            "stock": rng.integers(0, 2, rows).astype(bool),
        }
    )
    if kind == "number":
        return X, np.round(5.0 + sizes * (1 + (things == "table")) + rng.random(rows), 2)
    if kind == "label":
        return X, np.array(["wood" if thing in ("chair", "table") else "glass" for thing in things], dtype=object)
    return X, np.array([f"the {thing}" for thing in things], dtype=object)


def check_contestant(estimator: Any, kind: Kind, skip: Collection[str] = ()) -> None:
    """Run every check on an estimator: empty tables, one row, missing values, saving and loading, and more.

    Parameters
    ----------
    estimator : estimator
        Anything with `fit` and `predict`, not fitted. It stays so, since each check fits a clone.
    kind : {"number", "label", "text"}
        What it predicts.
    skip : collection of str
        Names of checks that it need not pass, such as `check_missing_values`.

    Raises
    ------
    AssertionError
        If a check fails. The message names it and says what went wrong.

    Examples
    --------
    >>> from kurabe import check_contestant
    >>> from kurabe.contestants.trained.constant import Constant
    >>> check_contestant(Constant(), "number")
    """
    for check in CHECKS:
        if check.__name__ in skip:
            continue
        try:
            check(estimator, kind)
        except Exception as error:
            raise AssertionError(f"{type(estimator).__name__} failed {check.__name__}: {error}") from error


def check_clone(estimator: Any, kind: Kind) -> None:
    """`clone` makes an equal estimator, and fitting leaves the parameters as they were."""
    copied = clone(estimator)
    assert _plain(copied) == _plain(estimator), "a clone has other parameters"
    before = copy.deepcopy(_plain(copied))
    fitted = copied.fit(*table(kind))
    assert fitted is copied, "fit must return the estimator itself"
    assert _plain(copied) == before, "fit changed a parameter"


def check_parameters(estimator: Any, kind: Kind) -> None:
    """Each argument of `__init__` has a default, is kept under its name, and can be set."""
    cls = type(estimator)
    names = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    made = clone(estimator)
    for name in names:
        assert hasattr(made, name), f"__init__ does not keep {name!r}"
        value = getattr(made, name)
        made.set_params(**{name: value})
        assert made.get_params(deep=False)[name] is value, f"set_params changed the value of {name!r}"
    if issubclass(cls, Contestant):
        cls()


def check_predictions(estimator: Any, kind: Kind) -> None:
    """One answer a row: finite float64 for numbers, strings of the training target otherwise."""
    X, y = table(kind)
    guesses = clone(estimator).fit(X, y).predict(X)
    _check_answers(guesses, kind, len(y))
    if kind == "label":
        assert set(guesses) <= set(y), "predict gave a label that is not in the training part"


def check_refit(estimator: Any, kind: Kind) -> None:
    """The same data give the same predictions, and fitting on other data forgets what was learned before."""
    X, y = table(kind)
    other_X, other_y = table(kind, rows=30, seed=1)
    other_y = other_y * 7 + 100 if kind == "number" else np.array([f"{value}!" for value in other_y], dtype=object)
    first, second, again = clone(estimator).fit(X, y), clone(estimator).fit(X, y), clone(estimator).fit(X, y)
    _equal(first.predict(X), second.predict(X), kind, "two fits on the same data differ", exact=True)
    again = again.fit(other_X, other_y)
    fresh = clone(estimator).fit(other_X, other_y)
    _equal(again.predict(X), fresh.predict(X), kind, "a second fit remembers the first", exact=True)


def check_empty_table(estimator: Any, kind: Kind) -> None:
    """A table of no rows gets no predictions."""
    X, y = table(kind)
    guesses = clone(estimator).fit(X, y).predict(X.head(0))
    assert np.shape(guesses) == (0,), f"predict gave shape {np.shape(guesses)} for no rows, not (0,)"


def check_one_row(estimator: Any, kind: Kind) -> None:
    """One row is enough to learn from, and can be asked for."""
    X, y = table(kind)
    fitted = clone(estimator).fit(X.head(1), y[:1])
    _check_answers(fitted.predict(X), kind, len(y))
    _check_answers(clone(estimator).fit(X.head(2), y[:2]).predict(X.head(1)), kind, 1)


def check_one_answer(estimator: Any, kind: Kind) -> None:
    """A target of one value, and a label that stands in one row only, can be learned from."""
    X, y = table(kind)
    same = np.full(len(y), y[0], dtype=y.dtype)
    _check_answers(clone(estimator).fit(X, same).predict(X), kind, len(y))
    if kind != "number":
        rare = y.copy()
        rare[3] = "only once"
        _check_answers(clone(estimator).fit(X, rare).predict(X), kind, len(y))


def check_missing_values(estimator: Any, kind: Kind) -> None:
    """Any value may be missing, in training and after."""
    X, y = table(kind)
    holes = X.with_columns(
        [pl.when(pl.int_range(pl.len()) % 4 == position).then(None).otherwise(pl.col(name)).alias(name)
         for position, name in enumerate(X.columns)]
    )  # fmt: skip
    nothing = X.clear(3)
    _check_answers(clone(estimator).fit(holes, y).predict(holes), kind, len(y))
    _check_answers(clone(estimator).fit(X, y).predict(nothing), kind, 3)


def check_odd_texts(estimator: Any, kind: Kind) -> None:
    """Emoji, NUL, other scripts, blank texts and a text of 1 MB are texts like any other."""
    X, y = table(kind)
    odd = X.head(len(ODD_TEXTS)).with_columns(pl.Series("input", ODD_TEXTS))
    _check_answers(clone(estimator).fit(X, y).predict(odd), kind, len(ODD_TEXTS))
    both = pl.concat([X, odd])
    answers = np.concatenate([y, y[: len(ODD_TEXTS)]])
    _check_answers(clone(estimator).fit(both, answers).predict(odd), kind, len(ODD_TEXTS))
    blank = X.with_columns(pl.lit("").alias("input"))
    _check_answers(clone(estimator).fit(blank, y).predict(X), kind, len(y))


def check_columns(estimator: Any, kind: Kind) -> None:
    """Columns that were not there in training are ignored; the order of columns does not matter."""
    X, y = table(kind)
    fitted = clone(estimator).fit(X, y)
    more = X.with_columns(pl.lit("new").alias("unseen"), pl.lit(1.0).alias("another"))
    _equal(fitted.predict(more), fitted.predict(X), kind, "an unseen column changed the predictions")
    turned = X.select(reversed(X.columns))
    _equal(fitted.predict(turned), fitted.predict(X), kind, "the order of columns changed the predictions")


def check_missing_column(estimator: Any, kind: Kind) -> None:
    """A table without any column learned from is refused with an error that names one, or is not needed at all."""
    X, y = table(kind)
    fitted = clone(estimator).fit(X, y)
    refusal = ""
    try:
        guesses = fitted.predict(pl.DataFrame({"something": [1.0, 2.0]}))
    except ContestantError as error:
        refusal = str(error)
    if refusal:
        assert any(repr(name) in refusal for name in X.columns), f"the error names no column: {refusal}"
    else:
        assert len(set(guesses)) == 1, "predict answered without the columns that it learned from"


def check_saved_and_loaded(estimator: Any, kind: Kind) -> None:
    """Saved without pickle and loaded, it predicts the very same."""
    X, y = table(kind)
    fitted = clone(estimator).fit(X, y)
    with tempfile.TemporaryDirectory() as folder:
        persist.save(fitted, Path(folder) / "contestant", X)
        loaded = persist.load(Path(folder) / "contestant", estimator)
    _equal(loaded.predict(X), fitted.predict(X), kind, "the loaded estimator predicts other values", exact=True)


def check_pandas(estimator: Any, kind: Kind) -> None:
    """A pandas frame gives what the polars frame gives. Skipped where pandas is not installed."""
    try:
        import pandas as pd
    except ImportError:
        return
    X, y = table(kind)
    frame = pd.DataFrame(X.to_dict(as_series=False))
    polars, other = clone(estimator).fit(X, y), clone(estimator).fit(frame, y)
    _equal(other.predict(frame), polars.predict(X), kind, "pandas and polars give other predictions", exact=True)


def check_rows_apart(estimator: Any, kind: Kind) -> None:
    """A row's prediction does not depend on the other rows of the table, nor on their order."""
    X, y = table(kind)
    fitted = clone(estimator).fit(X, y)
    together = fitted.predict(X)
    alone = np.concatenate([fitted.predict(X[row : row + 1]) for row in range(8)])
    _equal(alone, together[:8], kind, "rows predicted one by one differ from rows predicted together")
    _equal(fitted.predict(X[::-1])[::-1], together, kind, "the order of rows changed the predictions")


def check_input_untouched(estimator: Any, kind: Kind) -> None:
    """Neither table nor target is changed."""
    X, y = table(kind)
    X_before, y_before = X.clone(), y.copy()
    clone(estimator).fit(X, y).predict(X)
    assert X.equals(X_before), "the table was changed"
    assert (y == y_before).all(), "the target was changed"


CHECKS: tuple[Check, ...] = (
    check_clone, check_parameters, check_predictions, check_refit, check_empty_table, check_one_row, check_one_answer,
    check_missing_values, check_odd_texts, check_columns, check_missing_column, check_saved_and_loaded, check_pandas,
    check_rows_apart, check_input_untouched,
)  # fmt: skip


def _plain(estimator: Any) -> dict[str, str]:
    return {name: repr(value) for name, value in estimator.get_params(deep=False).items()}


def _check_answers(guesses: Any, kind: Kind, rows: int) -> None:
    assert isinstance(guesses, np.ndarray), f"predict gave {type(guesses).__name__}, not an array"
    assert guesses.shape == (rows,), f"predict gave shape {guesses.shape} for {rows} rows"
    if kind == "number":
        assert guesses.dtype == np.float64, f"predict gave {guesses.dtype}, not float64"
        assert np.isfinite(guesses).all(), "predict gave a value that is not a finite number"
    else:
        assert all(isinstance(guess, str) for guess in guesses), "predict gave an answer that is not a str"


def _equal(one: Any, other: Any, kind: Kind, message: str, *, exact: bool = False) -> None:
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape, message
    same = np.allclose(one, other, rtol=1e-5, atol=1e-6) if kind == "number" and not exact else (one == other).all()
    assert same, message
