"""Whether the numbers of a task are learned on the log scale, decided once for all contestants."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import RidgeCV

from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.features import NGrams, Scaled, apply_features, learn_features
from kurabe.contestants.shared import Shared, table_content
from kurabe.contestants.trained.target import SQUARED, Scale, log_fits
from kurabe.tasks.metrics import Metric
from kurabe.tasks.prose import prose_columns

TEXT_ROWS = 1_000  # are learned from: one scale or the other shows soon
COLUMN_ROWS = 8_000
HELD_OUT, HELD_ROWS = 0.15, 2_000
FEWEST_ROWS = 10  # tell one scale from the other; below, numbers are learned as they are
PENALTIES = tuple(float(penalty) for penalty in np.geomspace(0.01, 1000, 11))


def prefers_log(X: pl.DataFrame, y: np.ndarray, metric: Metric, shared: Shared) -> bool:
    """Whether a ridge regression scores better on the log scale, on rows that it has not learned from.

    It depends on the rows and the metric alone, so that all contestants of a task decide alike, each by itself or one
    for all. Linear models decide, since they lose most on the wrong scale; trees hardly see it.
    """
    if not log_fits(y) or (y == y[0]).all() or len(y) < FEWEST_ROWS:
        return False
    return bool(
        shared.get("log scale 1", [table_content(X, y), metric.name.encode()], lambda: _compare(X, y, metric, shared))
    )


def _compare(X: pl.DataFrame, y: np.ndarray, metric: Metric, shared: Shared) -> bool:
    order = np.random.default_rng(0).permutation(len(y))
    held, rest = np.split(order, [max(1, round(len(y) * HELD_OUT))])
    features: Any = Scaled(ColumnEncoder(text="drop", one_hot=True))
    held, rest, prose = held[:HELD_ROWS], rest[:COLUMN_ROWS], bool(prose_columns(X))
    try:
        F = None if prose else learn_features(features, X[rest], shared)
    except ValueError:
        F = None
    if F is None:  # there is prose, or no column of use
        features, rest = NGrams(), rest[:TEXT_ROWS]
        F = learn_features(features, X[rest], shared)
    held_F = apply_features(features, X[held], shared)
    losses = []
    for log in (False, True):
        scale = Scale.of(y[np.sort(np.concatenate([rest, held]))], log=log)
        z = RidgeCV(PENALTIES).fit(F, scale.forward(y[rest])).predict(held_F)
        smear = scale.smearing(y[held], z) if metric.name in SQUARED else 1.0
        score = metric.score(y[held], replace(scale, smear=smear).back(z))
        losses.append(-score if metric.greater_is_better else score)
    return losses[1] < losses[0]
