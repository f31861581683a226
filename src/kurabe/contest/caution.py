"""What to be wary of on a board: how much the winner's score flatters, and how many rows would tell two apart.

The best of several scores on the same rows is too good on average, since chance helped to choose it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from kurabe.contest.evidence import Evidence, usable
from kurabe.contest.intervals import Interval, influences, scored
from kurabe.contest.pairs import answers
from kurabe.tasks.metrics import Metric, metric_for
from kurabe.tasks.swaps import SIGNIFICANCE

POWER = 0.8
DRAWS = 4_000
CONTENDERS = 2.5
"""Standard errors of the difference from the winner, up to which a contestant may be as good."""


@dataclass(frozen=True)
class Flattery:
    """How much a winner's score is too good because it was chosen as the best of `contestants`.

    `by`: the expected difference from its true score, 0 or more, in the metric's unit. `score` and `interval`: without
    it; the interval keeps its end on the good side, as the winner may truly be ahead.
    """

    contestant: str
    contestants: int
    by: float
    score: float
    interval: Interval | None


@dataclass(frozen=True)
class RowsToTell:
    """About how many test `rows` would tell the first two of a board apart, if they differ by as much as they do on
    these rows."""

    first: str
    second: str
    rows: int


def selection_bias(scores: np.ndarray, covariance: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> float:
    """How much the highest of (k,) scores is expected to exceed its true value.

    Scores are drawn about centres with their (k, k) covariance, and each time the best is chosen: the mean of what it
    exceeds its centre by is the bias. The scores themselves would be centres too far apart, as chance has spread them
    (left in, 1.5 of 5.5 points stay), so those that may be as good as the winner are first shrunk towards their mean
    until they vary as much as the true ones do.

    Sources: the parametric bootstrap of a bias (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter
    10), applied to a minimum over choices as by Tibshirani and Tibshirani, "A bias correction for the minimum error
    rate in cross-validation" (2009); shrinkage by moments as in Efron and Morris (1973).
    """
    centres = _shrunk(scores, covariance)
    values, vectors = np.linalg.eigh(covariance)
    spread = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = centres + np.random.default_rng(seed).standard_normal((draws, len(scores))) @ spread.T
    best = drawn.argmax(axis=1)
    return max(0.0, float((drawn[np.arange(draws), best] - centres[best]).mean()))


def _shrunk(scores: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The scores, with those that may be as good as the best drawn together by what chance has spread them."""
    best, variances = int(scores.argmax()), np.diag(covariance)
    apart = np.sqrt(np.maximum(variances[best] + variances - 2 * covariance[best], 0.0))
    near = scores[best] - scores <= CONTENDERS * apart
    some, part, k = scores[near], covariance[np.ix_(near, near)], int(near.sum())
    seen = float(((some - some.mean()) ** 2).sum())
    by_chance = float(np.trace(part) - part.sum() / k)
    kept = np.sqrt(max(0.0, 1 - by_chance / seen)) if seen > 0 else 0.0
    centres = scores.copy()
    centres[near] = some.mean() + kept * (some - some.mean())
    return centres


def flattery(
    evidence: Evidence, contestants: Sequence[str], scores: Sequence[float], interval: Interval | None
) -> Flattery | None:
    """How much the score of the first of `contestants` flatters; None where it was not chosen from several.

    `contestants`: the winner, then those it was chosen from, none with a better score; `scores` are theirs. `interval`
    is the winner's.
    """
    if len(contestants) < 2:
        return None
    metric = metric_for(evidence.metric, evidence.kind)
    moved = _moved(evidence, metric, contestants)
    if moved is None:
        return None
    sign = 1.0 if metric.greater_is_better else -1.0
    by = selection_bias(sign * np.array(scores), moved.T @ moved)
    bounds = metric.bounds or (-np.inf if metric.name == "r2" else 0.0, np.inf)
    score = float(np.clip(scores[0] - sign * by, *bounds))
    if interval is not None:
        low, high = interval
        shifted = (low - by, high) if sign > 0 else (low, high + by)
        interval = max(shifted[0], bounds[0]), min(shifted[1], bounds[1])
    return Flattery(contestants[0], len(contestants), by, score, interval)


def rows_to_tell(evidence: Evidence, first: str, second: str, difference: float, pairs: int) -> RowsToTell | None:
    """How many rows would tell two contestants apart in 80 % of contests, by a test at 5 % over `pairs` pairs.

    The variance of a difference of scores falls as 1 / rows, so that n rows become n ((z(1 - 0.05 / 2 pairs) + z(0.8))
    e / d)² for the `difference` d with the standard error e (Lachin, "Introduction to sample size determination and
    power analysis", 1981). None where they do not differ or both answered fewer than two rows.
    """
    metric = metric_for(evidence.metric, evidence.kind)
    masks = {entry.name: usable(entry) for entry in evidence.entries}
    common = masks[first] & masks[second]
    moved = _moved(evidence, metric, (first, second), common)
    if moved is None:
        return None
    error = float(np.sqrt(((moved[:, 0] - moved[:, 1]) ** 2).sum()))
    if difference == 0 or error == 0:
        return None
    needed = int(common.sum()) * (noticeable(pairs) * error / difference) ** 2
    return RowsToTell(first, second, round(min(needed, 1e15)))


def noticeable(pairs: int) -> float:
    """The difference, in standard errors, that a test at 5 % over so many pairs finds in 80 % of cases."""
    return float(ndtri(1 - SIGNIFICANCE / 2 / max(pairs, 1)) + ndtri(POWER))


def _moved(
    evidence: Evidence, metric: Metric, contestants: Sequence[str], among: np.ndarray | None = None
) -> np.ndarray | None:
    """(units, k) how far each unit moves each contestant's score: products of columns, summed, are covariances. 0 where
    a contestant did not answer; `among`: (n,) bool, only these rows. None where somebody answered fewer than two
    units."""
    by_name = {entry.name: entry for entry in evidence.entries}
    entries = [by_name[name] for name in contestants]
    masks = [usable(entry) if among is None else among for entry in entries]
    units = evidence.units
    moved = np.zeros((units.count, len(entries)))
    for place, one in enumerate(answers(metric, evidence.truth, [entry.guesses for entry in entries], masks)):
        theirs = units.on(one.mask)
        if theirs.count < 2:
            return None
        parts = influences(metric, scored(metric, one.statistics, theirs))
        moved[np.unique(units.codes[one.mask]), place] = parts / np.sqrt(theirs.count * (theirs.count - 1))
    return moved if np.isfinite(moved).all() else None
