"""Stacking: several contestants, weighed by what they said of rows they had not seen (Wolpert 1992, Breiman 1996)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from kurabe.contestants.base import ALONE, About, Contestant, Learning, Validation
from kurabe.contestants.contract import fitted
from kurabe.contestants.frames import as_frame, as_target, held_part, joined, texts_if_any
from kurabe.contestants.keys import estimator_digest
from kurabe.contestants.shared import Shared, table_content
from kurabe.contestants.trained.learner import Learner, View, checked_kind, expand, scored_by
from kurabe.contestants.trained.log_choice import prefers_log
from kurabe.contestants.trained.target import SQUARED, Scale
from kurabe.contestants.trained.trees import RandomForest
from kurabe.errors import ContestantError
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.spec import Kind

MEMBERS: dict[Kind, tuple[str, ...]] = {
    "number": ("stacked_boosting", "gradient_boosting", "tfidf_ridge", "nearest_neighbours"),
    "label": ("tfidf_logistic", "embeddings_ridge", "nearest_neighbours"),
}
COLUMN_MEMBERS = ("gradient_boosting", "random_forest", "linear_features")  # where no column is prose
FEW_LABELS = 20  # with more, boosting takes long and loses to the others
ENOUGH_COLUMN_ROWS = 400  # to weigh three, on columns alone
LEARN_ROWS = 10_000  # are enough to weigh members by; learning from all of a large table anew takes too long
WEIGH_ROWS = 10_000  # of a fold that they are weighed by, at most
FOREST_TREES = 40  # of the forest on columns: beside boosting, more cost time and add nothing
ENOUGH_ROWS = 1_000  # to weigh a handful of members by


class Blend(Contestant):
    """A weighted mean of other contestants.

    Weights are not negative and sum to 1. They minimise the metric's loss (absolute or squared error; log-loss for
    labels) of the members' out-of-fold predictions on the training part.

    Parameters
    ----------
    members
        Names of contestants, or estimators. None: fast contestants that differ from each other; others if no column
        holds prose.
    folds
        How many parts the training part is cut into. Each is left out in turn, until 1,000 rows have been predicted
        (400 if there are only columns).
    """

    revision: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label"})

    def __init__(
        self,
        members: Sequence[Any] | None = None,
        folds: int = 5,
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.members = members
        self.folds = folds
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        return self.fit_with(X, y, validation, ALONE)

    def fit_with(self, X: Any, y: Any, validation: Validation | None, context: Learning) -> Self:
        train = as_frame(X)
        self.kind_ = checked_kind(self, y)
        train_y, held = as_target(y, self.kind_, train.height), held_part(validation, self.kind_)
        X, y = joined(train, train_y, held)
        if self.kind_ == "label":
            self.classes_ = np.unique(y)
        context = replace(context, shared=context.shared.over(texts_if_any(X)))
        members = self._members(X)
        self.weights_ = np.full(len(members), 1 / len(members))
        self.scale_: Scale | None = None
        self.stretch_ = (0.0, 1.0)
        if self.kind_ == "number":
            self.scale_ = Scale.of(y, log=prefers_log(X, y, scored_by(self.metric, "number"), context.shared))
        if len(members) > 1 and X.height >= 10:
            said, rows = self._out_of_fold(members, X, y, context)
            self.weights_ = self._weigh(said, y[rows])
            if self.kind_ == "number" and (y[rows] != y[rows[0]]).any():
                self.stretch_ = self._calibrate(self.weights_ @ said, y[rows])
        # A member without weight costs time and says nothing.
        kept = [member for member, weight in zip(members, self.weights_, strict=True) if weight > 0]
        self.members_ = []
        for member in kept:
            trained = context.trained(member)
            self.members_.append(fitted(member, train, train_y, held, context) if trained is None else trained)
        self.weights_ = self.weights_[self.weights_ > 0]
        return self

    def _members(self, X: pl.DataFrame) -> list[Any]:
        from kurabe.contestants import registry

        assert self.kind_ != "text"
        context = registry.Context(self.kind_, self.metric, self.random_state)
        members = [
            registry.from_name(member, context) if isinstance(member, str) else clone(member)
            for member in (self._default(X) if self.members is None else self.members)
        ]
        if self.members is None and self.views(X) == ("columns",):
            for member in members:
                if isinstance(member, RandomForest):
                    member.set_params(trees=FOREST_TREES)
        if not members:
            raise ContestantError("blend needs at least one member")
        without = [type(member).__name__ for member in members if not hasattr(member, "predict_proba")]
        if self.kind_ == "label" and without:
            raise ContestantError(f"{without[0]} cannot be blended: it has no predict_proba")
        return members

    def depends(self, about: About) -> Iterable[tuple[str, ...]]:
        """What of the table its members learn from."""
        views = self.views(about.X)
        return () if views == ("all",) else (views,)

    def views(self, X: pl.DataFrame) -> tuple[View, ...]:
        """What its members learn from: the columns alone where none of them is prose."""
        return ("all",) if prose_columns(X) else ("columns",)

    def _default(self, X: pl.DataFrame) -> tuple[str, ...]:
        assert self.kind_ != "text"
        if self.views(X) == ("all",):
            return MEMBERS[self.kind_]
        few = self.kind_ == "number" or len(self.classes_) <= FEW_LABELS
        return COLUMN_MEMBERS if few else COLUMN_MEMBERS[1:]

    def _calibrate(self, blended: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """(shift, stretch) about the mean, on the scale chosen, with the least loss: members that shrink towards the
        mean each for itself do so too much together."""
        assert self.scale_ is not None
        scale = self.scale_
        center = float(self.scale_.forward(y).mean())
        z = self.scale_.forward(blended) - center
        power = 2 if scored_by(self.metric, "number").name in SQUARED else 1
        spread = float(self.scale_.forward(y).std())

        def loss(change: np.ndarray) -> float:
            guess = scale.back(center + change[0] * spread + change[1] * z)
            return float((np.abs(guess - y) ** power).mean())

        found = minimize(
            loss, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6 * loss(np.array([0.0, 1.0]))}
        )
        shift, stretch = found.x
        return center + float(shift) * spread - float(stretch) * center, float(stretch)

    def _out_of_fold(
        self, members: list[Any], X: pl.DataFrame, y: np.ndarray, context: Learning
    ) -> tuple[np.ndarray, np.ndarray]:
        """(members, m) predictions, or (members, m, classes) probabilities, of rows not learned from, and which these
        (m,) rows are."""
        rows = np.zeros(0, dtype=np.intp)
        said: list[list[np.ndarray]] = [[] for _ in members]
        enough = ENOUGH_ROWS if self.views(X) == ("all",) else ENOUGH_COLUMN_ROWS
        for inner, outer in KFold(self.folds, shuffle=True, random_state=self.random_state).split(y):
            if len(rows) >= enough:
                break
            draw = np.random.default_rng(self.random_state)
            if len(inner) > LEARN_ROWS:
                inner = np.sort(draw.permutation(inner)[:LEARN_ROWS])
            if len(outer) > WEIGH_ROWS:
                outer = np.sort(draw.permutation(outer)[:WEIGH_ROWS])
            rows = np.concatenate([rows, outer])
            for place, member in enumerate(members):
                said[place].append(self._of_fold(member, X[inner], y[inner], X[outer], context))
        return np.stack([np.concatenate(one) for one in said]), rows

    def _of_fold(self, member: Any, X: pl.DataFrame, y: np.ndarray, new: pl.DataFrame, context: Learning) -> np.ndarray:
        """What a member says of new rows, once it has learned from others."""
        member = clone(member)
        if self.scale_ is not None and member.get_params(deep=False).get("log") == "auto":
            member.set_params(log=self.scale_.log)  # as all rows have it
        if not isinstance(member, Contestant):
            return self._say(fitted(member, X, y, None), new, context.shared)
        known = [estimator_digest(member), table_content(X, y), table_content(new, np.zeros(0))]
        if self.kind_ == "label":
            known.append(json.dumps(self.classes_.tolist()).encode())
        return np.asarray(
            context.shared.get(
                "out of fold 1", known, lambda: self._say(fitted(member, X, y, None, context), new, context.shared)
            )
        )

    def _say(self, member: Any, X: pl.DataFrame, shared: Shared) -> np.ndarray:
        ours = isinstance(member, Learner)
        if self.kind_ == "number":
            said = member.predict_with(X, shared) if ours else member.predict(X)
            return np.asarray(said, dtype=np.float64)
        said = member.predict_proba_with(X, shared) if ours else member.predict_proba(X)
        return expand(said, np.searchsorted(self.classes_, member.classes_), len(self.classes_))

    def _weigh(self, said: np.ndarray, y: np.ndarray) -> np.ndarray:
        if self.kind_ == "label":
            truth = np.searchsorted(self.classes_, y)
            right = np.maximum(said[:, np.arange(len(y)), truth], 1e-6)
            return simplex_weights(lambda weights: -float(np.log(weights @ right).mean()), len(said))
        power = 2 if scored_by(self.metric, "number").name in SQUARED else 1
        errors = said - y  # as the weights sum to 1, the blend's error is the blend of the errors
        return simplex_weights(lambda weights: float((np.abs(weights @ errors) ** power).mean()), len(said))

    def predict(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "members_")
        X = as_frame(X)
        if self.kind_ == "label":
            return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
        blended = np.asarray(self.weights_ @ self._all_say(X))
        shift, stretch = self.stretch_
        assert self.scale_ is not None
        return self.scale_.back(shift + stretch * self.scale_.forward(blended))

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities in the order of `classes_`; only for kind `label`."""
        check_is_fitted(self, "classes_")
        X = as_frame(X)
        return np.asarray(np.einsum("m,mnc->nc", self.weights_, self._all_say(X)))

    def _all_say(self, X: pl.DataFrame) -> np.ndarray:
        """`_say` of each member."""
        shared = Shared().over(texts_if_any(X))
        return np.stack([self._say(member, X, shared) for member in self.members_])


def simplex_weights(loss: Any, count: int) -> np.ndarray:
    """The (count,) weights, none negative and 1 in sum, with the least loss, which must be convex; below 0.01 is 0."""
    start = np.full(count, 1 / count)
    first = loss(start) or 1.0  # the search ends at an absolute precision, so the loss must be of usual size
    found = minimize(
        lambda weights: loss(weights) / first,
        start,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-8},
    )
    weights = np.where(found.x < 0.01, 0, found.x) if np.isfinite(found.x).all() else start
    return np.asarray(weights / weights.sum())
