"""What the contest asks of a contestant: scikit-learn's `fit` and `predict`, and a little more for those that answer
row by row.

`X` is a polars DataFrame with the task's input columns and `input`, the rendered text (pandas is accepted and turned
into polars). `y` is a float64 array for kind `number` and an object array of str for `label` and `text`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import msgspec
import numpy as np
import polars as pl
from sklearn.base import BaseEstimator

from kurabe.tasks.spec import Kind

Validation = tuple[pl.DataFrame, np.ndarray]

learning: ContextVar[Callable[[str], None]] = ContextVar("learning", default=lambda said: None)
"""What a `fit` that takes long tells how far it is; a contest shows it."""


class Prediction(msgspec.Struct, frozen=True):
    """One answer. `value` is None where the answer could not be read; `raw` is what the model or person said."""

    row: int
    value: float | str | None
    raw: str | None = None
    usd: float | None = 0.0


class Contestant(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Base of kurabe's own contestants. Subclasses set `kinds` and take every setting in `__init__` with a default.

    A subclass with a parameter `kind`, `metric`, `random_state`, `prompt` or `target` gets the task's value for it
    unless the user set one.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label"})
    revision: ClassVar[int] = 1
    """Raised when the same settings answer otherwise than before, as with another default: then answers are asked for
    again."""
    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings that no answer depends on, such as what may be paid: answers made under other values of them hold.
    `options.policy` is the key `policy` of the mapping `options`."""

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Learn from the training part. `validation`, (X, y), is for choosing settings; without it a share of the
        training part is held out where something is to be chosen. The test part is never seen here."""
        raise NotImplementedError(type(self).__name__)

    def predict(self, X: Any) -> np.ndarray:
        """One answer a row, shape (n,): float64 for `number`, object array of str otherwise; never NaN or None."""
        raise NotImplementedError(type(self).__name__)


@runtime_checkable
class AnswersRowByRow(Protocol):
    """A contestant whose predictions come one at a time, so that each is journaled as it comes."""

    def iter_predict(self, X: pl.DataFrame) -> Iterator[Prediction]:
        """Yield a Prediction a row, in any order; `Prediction.row` is the position in X."""


def effective(params: Mapping[str, Any], no_effect: Iterable[str]) -> dict[str, Any]:
    """The settings that answers depend on. A mapping that has nothing else left counts as None.

    >>> effective({"rows": 20, "options": {"policy": {}, "price": 1}}, {"rows", "options.policy"})
    {'options': {'price': 1}}
    """
    left = dict(params)
    for path in no_effect:
        name, _, key = path.partition(".")
        if not key:
            left.pop(name, None)
        elif isinstance(given := left.get(name), Mapping) and key in given:
            left[name] = {other: value for other, value in given.items() if other != key} or None
    return left


def collect(answers: Iterable[Prediction], rows: int, kind: Kind, fallback: float | str) -> np.ndarray:
    """What `predict` gives of a contestant that answers row by row, shape (rows,): the fallback where a row has no
    answer or one that could not be read."""
    values = np.full(rows, fallback, dtype=np.float64 if kind == "number" else object)
    for answer in answers:
        if answer.value is not None:
            values[answer.row] = answer.value
    return values
