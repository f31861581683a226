"""What kurabe's own trained contestants share: clean input, the choice of scale, and answers for degenerate targets."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from kurabe.contestants.base import ALONE, About, Contestant, Learning, Validation
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.features import Features, apply_features, learn_features
from kurabe.contestants.frames import as_frame, as_target, held_part, infer_kind, joined, texts_if_any
from kurabe.contestants.shared import Shared
from kurabe.contestants.trained.log_choice import prefers_log
from kurabe.contestants.trained.target import SQUARED, Scale
from kurabe.errors import ContestantError
from kurabe.models import beside, embeddings
from kurabe.models.embeddings import DEFAULT, unavailable
from kurabe.tasks.metrics import Metric, default_metric, metric_for
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.spec import Kind

Log = bool | Literal["auto"]
View = Literal["all", "columns"]  # of a table: everything that a contestant reads, or the columns without text
VIEW_ROWS = 1_000  # show whether there are columns to learn from
HELD_OUT = 0.15  # of the training part, where something is to be chosen and no validation part is given
QUICK_ROWS = 8_000  # are learned from where the view is chosen before anything else is, or is all that is chosen
Settings = dict[str, Any]


class Learner(Contestant):
    """A contestant that learns a model of features: for `number` on the scale that suits the task, for `label` of class
    probabilities.

    Subclasses have the parameters `kind`, `metric`, `log` (of numbers) and `random_state`, and write `_features`,
    `_learn`, `_apply` and, where they choose settings, `_search`.
    Those with `takes_columns` learn from the columns alone where no column is prose; where text and columns are there,
    they learn from both or from the columns, whichever scores better on the validation part.
    After `fit`: `kind_`, `view_`, `scale_` (number), `classes_` (label), `features_`, `model_`, `settings_`, and
    `constant_`, the one answer where the training target has one value only.

    Parameters
    ----------
    log
        Learn numbers on the log scale; `auto`: if a ridge regression scores better with it, for all contestants alike.
    """

    searches: ClassVar[bool] = False  # whether `_search` chooses anything
    takes_columns: ClassVar[bool] = False  # whether it can learn from the columns alone
    logs_columns: ClassVar[bool] = True  # whether it may do so on the log scale without being told to
    held_rows: ClassVar[int] = sys.maxsize  # to choose by, at most
    kind: Kind | None
    metric: str | None
    view_: View = "all"  # one that was saved before there were views has none
    random_state: int

    # ----------------------------------------------------------------------------------------- what subclasses write

    def _features(self) -> Features:
        """New features, not yet learned."""
        raise NotImplementedError

    def _learn(self, F: Any, t: np.ndarray, settings: Settings) -> Any:
        """A model of (n, d) features and (n,) float targets or int class codes."""
        raise NotImplementedError

    def _apply(self, model: Any, F: Any) -> np.ndarray:
        """(m,) targets, or (m, classes) probabilities."""
        raise NotImplementedError

    def _search(self, F: Any, t: np.ndarray, held_F: Any, held_t: np.ndarray) -> tuple[Settings, np.ndarray]:
        """Settings chosen on the held-out part, and what a model with them says of it."""
        return {}, self._apply(self._learn(F, t, {}), held_F)

    def views(self, X: pl.DataFrame) -> tuple[View, ...]:
        """What of a table is to be learned from; the validation part chooses among several."""
        if not self.takes_columns:
            return ("all",)
        try:
            ColumnEncoder(text="drop").fit(X.head(VIEW_ROWS))
        except ValueError:
            return ("all",)
        return ("all", "columns") if prose_columns(X) else ("columns",)

    def depends(self, about: About) -> Iterator[tuple[bytes | str, ...]]:
        """What of the table it learns from, and the files of what embeds texts."""
        views = self.views(about.X)
        # What was learned from texts before columns were learned from alone keeps its key, and so its answers.
        if views != ("all",):
            yield views
        if (reference := self.get_params().get("embeddings")) is not None:
            yield (embeddings.fingerprint(beside(reference, about.folder)),)

    def placed(self, about: About, kept: Path | None) -> Self:
        """A copy whose embedding model is found beside the task file."""
        reference = self.get_params().get("embeddings")
        return self if reference is None else clone(self).set_params(embeddings=beside(reference, about.folder))

    def skipped_reason(self) -> str | None:
        """Why `embeddings`, where the contestant has it, can't be used here, or None where it can."""
        reference = getattr(self, "embeddings", DEFAULT)
        return None if reference == DEFAULT else unavailable(reference)

    # ------------------------------------------------------------------------------------------------- fit, predict

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        return self.fit_with(X, y, validation, ALONE)

    def fit_with(self, X: Any, y: Any, validation: Validation | None, context: Learning) -> Self:
        X = as_frame(X)
        self.kind_ = checked_kind(self, y)
        y = as_target(y, self.kind_, X.height)
        held = held_part(validation, self.kind_)
        both_X, both_y = joined(X, y, held)
        self.constant_ = both_y[0] if (both_y == both_y[0]).all() else None
        if self.kind_ != "number":
            self.classes_ = np.unique(both_y)
        if self.constant_ is not None:
            return self
        with one_thread():
            self._fit(X, y, held, both_X, both_y, context.shared.over(texts_if_any(both_X)))
        return self

    def _fit(
        self,
        X: pl.DataFrame,
        y: np.ndarray,
        held: Validation | None,
        both_X: pl.DataFrame,
        both_y: np.ndarray,
        shared: Shared,
    ) -> None:
        log = getattr(self, "log", False)
        if log == "auto":
            log = self.kind_ == "number" and prefers_log(both_X, both_y, scored_by(self.metric, "number"), shared)
        views = self.views(both_X)
        logs = any(self._logs(view, bool(log)) for view in views)
        smears = self.kind_ == "number" and logs and scored_by(self.metric, self.kind_).name in SQUARED
        self.view_, settings, smear = views[0], Settings(), 1.0
        if self.searches or smears or len(views) > 1:
            self.view_, settings, smear = self._choose(X, y, held, views, bool(log), shared)
        self.settings_ = settings
        self.features_ = self._features()
        F = learn_features(self.features_, both_X, shared)
        if self.kind_ != "number":
            self.model_ = self._learn(F, self._codes(both_y), settings)
        else:
            self.scale_ = replace(Scale.of(both_y, log=self._logs(self.view_, bool(log))), smear=smear)
            self.model_ = self._learn(F, self.scale_.forward(both_y), settings)

    def _choose(
        self,
        X: pl.DataFrame,
        y: np.ndarray,
        held: Validation | None,
        views: Sequence[View],
        log: bool,
        shared: Shared,
    ) -> tuple[View, Settings, float]:
        """(view, settings, smear) that score best on the validation part."""
        if held is None:
            inner, outer = hold_out(len(y), self.random_state)
            held = (X[outer], y[outer])
            X, y = X[inner], y[inner]
        if len(held[1]) > self.held_rows:
            held = self._some(*held, self.held_rows)
        if not len(held[1]) or not len(y) or (y == y[0]).all():
            return views[0], {}, 1.0
        if not self.searches and len(y) > QUICK_ROWS:
            return self._best(*self._some(X, y, QUICK_ROWS), held, views, log, shared)
        if len(views) > 1 and len(y) > QUICK_ROWS:
            view, *_ = self._best(*self._some(X, y, QUICK_ROWS), held, views, log, shared)
            views = [view]
        return self._best(X, y, held, views, log, shared)

    def _some(self, X: pl.DataFrame, y: np.ndarray, rows: int) -> tuple[pl.DataFrame, np.ndarray]:
        """So many rows, drawn by the seed."""
        some = np.sort(np.random.default_rng(self.random_state).permutation(len(y))[:rows])
        return X[some], y[some]

    def _best(
        self, X: pl.DataFrame, y: np.ndarray, held: Validation, views: Sequence[View], log: bool, shared: Shared
    ) -> tuple[View, Settings, float]:
        best: tuple[float, View, Settings, float] | None = None
        for view in views:
            self.view_ = view
            features = self._features()
            F = learn_features(features, X, shared)
            held_F = apply_features(features, held[0], shared)
            score, settings, smear = self._score(F, y, held_F, held[1], self._logs(view, log))
            if best is None or score < best[0]:
                best = (score, view, settings, smear)
        assert best is not None
        return best[1:]

    def _logs(self, view: View, log: bool) -> bool:
        """Whether it learns on the log scale from this view."""
        return log and (view == "all" or self.logs_columns or getattr(self, "log", False) is True)

    def _score(
        self, F: Any, y: np.ndarray, held_F: Any, held_y: np.ndarray, log: bool
    ) -> tuple[float, Settings, float]:
        """(loss on the held-out part, settings, smear): the metric's loss for numbers, log-loss for labels."""
        if self.kind_ != "number":
            settings, said = self._search(F, self._codes(y), held_F, self._codes(held_y))
            if self.kind_ == "text":
                return 0.0, settings, 1.0
            right = said[np.arange(len(held_y)), self._codes(held_y)]
            return float(-np.log(np.maximum(right, 1e-6)).mean()), settings, 1.0
        metric = scored_by(self.metric, self.kind_)
        scale = Scale.of(np.concatenate([y, held_y]), log=log)
        settings, z = self._search(F, scale.forward(y), held_F, scale.forward(held_y))
        smear = scale.smearing(held_y, z) if metric.name in SQUARED else 1.0
        score = metric.score(held_y, replace(scale, smear=smear).back(z))
        return score * (-1 if metric.greater_is_better else 1), settings, smear

    def _codes(self, y: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.classes_, y)

    def predict(self, X: Any) -> np.ndarray:
        return self.predict_with(X, Shared())

    def predict_with(self, X: Any, shared: Shared) -> np.ndarray:
        """`predict`, with what is shared of the features of these rows."""
        check_is_fitted(self, "kind_")
        X = as_frame(X)
        if self.constant_ is not None or X.height == 0:
            return np.full(X.height, self.constant_, dtype=np.float64 if self.kind_ == "number" else object)
        if self.kind_ == "label":
            return np.asarray(self.classes_[self.predict_proba_with(X, shared).argmax(axis=1)])
        said = self._said(X, shared)
        return np.asarray(self.classes_[said]) if self.kind_ == "text" else self.scale_.back(said.astype(np.float64))

    def _said(self, X: pl.DataFrame, shared: Shared) -> np.ndarray:
        with one_thread():
            return self._apply(self.model_, apply_features(self.features_, X, shared))

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities in the order of `classes_`; only for kind `label`."""
        return self.predict_proba_with(X, Shared())

    def predict_proba_with(self, X: Any, shared: Shared) -> np.ndarray:
        """`predict_proba`, with what is shared of the features of these rows."""
        check_is_fitted(self, "classes_")
        X = as_frame(X)
        if self.constant_ is not None or X.height == 0:
            return np.ones((X.height, len(self.classes_)))
        return self._said(X, shared)


def checked_kind(contestant: Any, y: Any) -> Kind:
    """The kind set, or the one that the target looks like. Raises ContestantError where the contestant can't do it."""
    kind: Kind = contestant.kind or infer_kind(y)
    if kind not in contestant.kinds:
        able = ", ".join(sorted(contestant.kinds))
        raise ContestantError(f"{type(contestant).__name__} answers tasks of kind {able}, not {kind}")
    return kind


def scored_by(metric: str | None, kind: Kind) -> Metric:
    """The metric of that name, or the kind's default."""
    return default_metric(kind) if metric is None else metric_for(metric, kind)


def hold_out(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of (the rows to learn from, the rows to choose by), each in order."""
    order = np.random.default_rng(seed).permutation(rows)
    size = max(1, round(rows * HELD_OUT)) if rows > 1 else 0
    return np.sort(order[size:]), np.sort(order[:size])


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Linear algebra on one thread. The matrices here are small, and threads that wait for each other on a busy machine
    are slower by far: an eigendecomposition of 1,200 rows took 12 s instead of 0.25 s."""
    limits: AbstractContextManager[Any] = _pools().limit(limits=1)
    return limits


def most_frequent(values: np.ndarray) -> str:
    """The value that stands most often; the first in order among equals."""
    counts = Counter(values.tolist())
    return str(min(counts, key=lambda value: (-counts[value], value)))


def expand(probabilities: np.ndarray, present: np.ndarray, classes: int) -> np.ndarray:
    """Spread (m, k) probabilities of the classes at positions `present` over all, (m, classes)."""
    full = np.zeros((len(probabilities), classes))
    full[:, present] = probabilities
    return full
