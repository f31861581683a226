"""Scores of contestants that answered only a sample of the test rows, with the errors of those that answered all as
control variates.

A row that is hard for others is hard for this one too. How much harder or easier the sample is than all rows is known
from those that answered all, so that much is taken off. This is prediction-powered inference with the errors of others
as predictions: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic (Science, 2023), with the weights chosen to narrow the
interval (Angelopoulos, Duchi and Zrnic, "PPI++", 2023), applied to the influences of the units on the score.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kurabe.contest.intervals import (
    Interval,
    Scored,
    influences,
    resampled,
    share_interval,
    standard_error,
    student_t,
    tail_quantiles,
)
from kurabe.tasks.metrics import Metric

MOST_CONTROLS = 3
UNITS_A_CONTROL = 20  # of the sample, since weights of many controls fit a small sample by chance
LEAST_GAIN = 0.95  # of the standard error: less is not worth another score than that of the rows answered


class Adjusted(NamedTuple):
    """A score for all test rows with its interval, and the standard error as a share of that without controls."""

    score: float
    interval: Interval
    gain: float


def adjusted(
    metric: Metric,
    one: Scored,
    controls: Sequence[Scored],
    sample: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> Adjusted | None:
    """The score of `one`, which answered a sample, for all rows; None where the controls don't narrow its interval.

    `one`: the answers to the sample's m units. `controls`: others' answers to all units; `sample`: (m,) the sample's
    positions among those.
    """
    m, everything = len(sample), len(controls[0].sizes) if controls else 0
    most = min(MOST_CONTROLS, m // UNITS_A_CONTROL, len(controls))
    if most < 1 or m >= everything:
        return None
    own = influences(metric, one)
    moved = np.stack([influences(metric, control) for control in controls], axis=1)
    chosen = moved[:, _most_alike(own, moved[sample], most)]
    here = chosen[sample]
    centred = here - here.mean(axis=0)
    weights = np.linalg.lstsq(centred, own - own.mean(), rcond=None)[0]
    # What weights that did not know the row leave of it: those of heavy tails fit the rows that they know too well.
    leverage = ((centred @ np.linalg.pinv(centred.T @ centred)) * centred).sum(axis=1) + 1 / m
    rest = (own - own.mean() - centred @ weights) / np.maximum(1 - leverage, 1 / m)
    rest -= rest.mean()
    all_rows = float(np.sqrt(weights @ np.atleast_2d(np.cov(chosen.T)) @ weights / everything))
    mine = standard_error(rest)
    error, before = float(np.hypot(mine, all_rows)), standard_error(own)
    score = one.score(metric) - float(here.mean(axis=0) @ weights)
    if not np.isfinite(score) or not error < LEAST_GAIN * before:
        return None
    interval = _interval(metric, score, rest, mine, all_rows, m, resamples, seed)
    return None if interval is None else Adjusted(score, interval, error / before)


def _most_alike(own: np.ndarray, here: np.ndarray, most: int) -> np.ndarray:
    """The positions of the controls whose influences on the sample go most with `own`."""
    centred = here - here.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    alike = np.abs(centred.T @ (own - own.mean())) / np.where(norms > 0, norms, np.inf)
    return np.argsort(-alike, kind="stable")[:most]


def _interval(
    metric: Metric, score: float, rest: np.ndarray, mine: float, all_rows: float, m: int, resamples: int, seed: int
) -> Interval | None:
    error = float(np.hypot(mine, all_rows))
    if metric.bounds is not None:
        low, high = metric.bounds
        if not low < score < high:
            return None
        return share_interval(score, error, metric.bounds, m)
    sign, level = (-1.0, 1 - score) if metric.name == "r2" else (1.0, score)  # the log of the error, or of 1 - R²
    if level <= 0:
        return None
    columns = np.stack([rest, rest**2], axis=1)

    def drawn(counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        means = counts @ columns / m
        spread = np.sqrt(np.maximum(means[:, 1] - means[:, 0] ** 2, 0.0) / (m - 1) + all_rows**2)
        levels = level + sign * (means[:, 0] + generator.normal(0.0, all_rows, len(counts)))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(levels / level) / (spread / levels))[:, None]

    low, high = tail_quantiles(resampled(drawn, m, resamples, seed)[:, 0], student_t(m))
    with np.errstate(over="ignore"):
        ends = level * np.exp(-np.array([high, low]) * error / level)
    return (float(1 - ends[1]), float(1 - ends[0])) if metric.name == "r2" else (float(ends[0]), float(ends[1]))
