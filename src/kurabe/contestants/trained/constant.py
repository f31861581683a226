"""The floor of every board: one answer for all rows."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kurabe.contestants.base import Contestant, Validation
from kurabe.contestants.frames import as_frame, as_target, held_part, joined
from kurabe.contestants.trained.learner import checked_kind, most_frequent, scored_by
from kurabe.contestants.trained.target import SQUARED
from kurabe.errors import ContestantError
from kurabe.tasks.spec import Kind


class Constant(Contestant):
    """The mean, the median or the most frequent value of the training target.

    Parameters
    ----------
    strategy
        Which of them. None: the most frequent value; for numbers the mean if the metric is squared, else the median.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label", "text"})

    def __init__(
        self,
        strategy: Literal["mean", "median", "most_frequent"] | None = None,
        kind: Kind | None = None,
        metric: str | None = None,
    ) -> None:
        self.strategy = strategy
        self.kind = kind
        self.metric = metric

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        X = as_frame(X)
        self.kind_ = checked_kind(self, y)
        _, y = joined(X, as_target(y, self.kind_, X.height), held_part(validation, self.kind_))
        self.strategy_ = self.strategy or self._default()
        if self.kind_ != "number":
            if self.strategy_ != "most_frequent":
                raise ContestantError(f"the {self.strategy_} needs numbers: set strategy to 'most_frequent'")
            self.constant_: Any = most_frequent(y)
            if self.kind_ == "label":
                self.classes_, counts = np.unique(y, return_counts=True)
                self.shares_ = counts / counts.sum()
        elif self.strategy_ == "most_frequent":
            values, counts = np.unique(y, return_counts=True)
            self.constant_ = float(values[counts.argmax()])
        else:
            self.constant_ = float(np.mean(y) if self.strategy_ == "mean" else np.median(y))
        return self

    def _default(self) -> Literal["mean", "median", "most_frequent"]:
        if self.kind_ != "number":
            return "most_frequent"
        return "mean" if scored_by(self.metric, "number").name in SQUARED else "median"

    def predict(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "constant_")
        return np.full(as_frame(X).height, self.constant_, dtype=np.float64 if self.kind_ == "number" else object)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) shares of the classes in the training part; only for kind `label`."""
        check_is_fitted(self, "classes_")
        return np.tile(self.shares_, (as_frame(X).height, 1))
