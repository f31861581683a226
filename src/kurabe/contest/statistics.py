"""Intervals of many contestants on the same rows, and of their differences.

Sources: Efron, "Better bootstrap confidence intervals" (1987) and DiCiccio and Efron, "Bootstrap confidence intervals"
(1996) for BCa; Wilson (1927) for proportions; Holm (1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from kurabe.contest.resample import jackknife_scores, resampled_scores
from kurabe.tasks.metrics import Metric, Statistics

CONFIDENCE = 0.95
RESAMPLES = 10_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Score of contestant `a` minus that of `b` (positions), and its interval."""

    a: int
    b: int
    difference: float
    interval: Interval


@dataclass(frozen=True)
class Bootstrap:
    """Scores and intervals by contestant, and the differences of the pairs asked for."""

    scores: tuple[float, ...]
    intervals: tuple[Interval, ...]
    differences: tuple[Difference, ...]


def bootstrap(
    metric: Metric,
    rows: Sequence[Statistics],
    pairs: Sequence[tuple[int, int]] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Scores with BCa intervals (Wilson's where the metric is a proportion) of contestants on the same n >= 2 rows.

    `rows`: each contestant's (n, k) row statistics by `metric.statistics`. All contestants share the resamples, so the
    differences of `pairs` cost little. Deterministic in `seed`.

    Why Wilson's: the bootstrap of 250 right answers out of 250 has no width at all, and near 0 or 1 it covers too
    little; Wilson's interval is neither.
    """
    n = rows[0].shape[0]
    scores = np.array([_score(metric, part) for part in rows])
    drawn = resampled_scores(metric, rows, resamples, seed)
    jackknife = [jackknife_scores(metric, part) for part in rows]
    intervals = [
        wilson_interval(score * n, n) if metric.proportion else bca(score, drawn[:, i], jackknife[i])
        for i, score in enumerate(scores)
    ]
    differences = []
    for a, b in pairs:
        if _same(rows[a], rows[b]):
            # Rounding in the matrix product may differ between columns; equal guesses differ by nothing.
            differences.append(Difference(a, b, 0.0, (0.0, 0.0)))
            continue
        difference = float(scores[a] - scores[b])
        interval = bca(difference, drawn[:, a] - drawn[:, b], jackknife[a] - jackknife[b])
        differences.append(Difference(a, b, difference, interval))
    return Bootstrap(tuple(scores.tolist()), tuple(intervals), tuple(differences))


def bca(score: float, drawn: np.ndarray, jackknife: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The bias-corrected and accelerated interval of `score`.

    `drawn`: scores on resamples. `jackknife`: scores without each row in turn; they give the acceleration. Values that
    are not finite (a metric that is not defined on a resample) are left out; where the score itself is not, all is NaN.

    Coverage at a nominal 95 %, from 8,000 simulated tables of 250 rows each: 95.1 % for absolute errors that are
    half-normal, 94.4 and 93.4 % where they are lognormal with sigma 0.5 and 1, and 90.6 % with sigma 1.5, where a few
    rows make the mean (Student's t interval has 88.4 % there). With 1,000 rows and sigma 1 it is 94.2 %.
    """
    drawn = np.sort(drawn[np.isfinite(drawn)])
    jackknife = jackknife[np.isfinite(jackknife)]
    if not np.isfinite(score) or drawn.size == 0:
        return float("nan"), float("nan")
    if drawn[0] == drawn[-1]:
        return score, score
    bias = float(ndtri(_share_below(drawn, score)))
    acceleration = _acceleration(jackknife)
    tails = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(drawn, ndtr(bias + tails / (1 - acceleration * tails)))
    return float(low), float(high)


def wilson_interval(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion, without continuity correction."""
    z = float(ndtri((1 + confidence) / 2))
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, center - reach), min(1.0, center + reach)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def _score(metric: Metric, rows: Statistics) -> float:
    if metric.center == "median":
        return float(np.median(rows))
    return float(metric.finish(np.asarray(rows.sum(axis=0)).reshape(-1) / rows.shape[0]))


def _same(first: Statistics, second: Statistics) -> bool:
    if first.shape != second.shape:
        return False
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return bool((first != second).nnz == 0)


def _share_below(ordered: np.ndarray, value: float) -> float:
    """The share of values below `value`, ties counted half, kept away from 0 and 1."""
    below, upto = (np.searchsorted(ordered, value, side) for side in ("left", "right"))
    least = 1 / (ordered.size + 1)
    return float(np.clip((below + upto) / (2 * ordered.size), least, 1 - least))


def _acceleration(jackknife: np.ndarray) -> float:
    influence = jackknife.mean() - jackknife if jackknife.size else np.zeros(1)
    squares = float(influence @ influence)
    return float((influence**2 @ influence) / (6 * squares**1.5)) if squares > 0 else 0.0
