"""A race: a language model is asked no further once it is shown that it cannot be the winner.

For each pair of a racer and a rival the differences of their errors, row by row, are bet on: the racer is at least as
good as the rival, so a stake on its errors being greater gains nothing on average. With differences `d` of at least
`-bound`, the capital `∏ (1 + s d / bound)` of a share `s` from 0 to 1 is a nonnegative supermartingale under that
hypothesis, and so is the mean of such capitals over shares and over rivals. By Ville's inequality it ever reaches
`1 / level` with a probability of at most `level`, however often one looks (Waudby-Smith and Ramdas, "Estimating means
of bounded random variables by betting", 2024; Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence
sequences", 2021).

A racer is stopped at `level / racers`, so that any of those that are best is stopped in at most `level` of contests.

Shares have differences of at least -1. Errors have no such bound, so both are capped before they are compared, at
GROWTH times the largest error that the rival made on the rows before, and on the first rows at the largest error that
the answer which knows nothing makes in the training part. A cap that both share, and that the row itself has no part
in, keeps the level whatever the tails, for a racer whose capped errors are no greater on average; equals are such. It
does not for one that is as good only because a rival makes large errors that are rare (`benchmarks/race.py`).
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kurabe.contest.units import Units
from kurabe.tasks.metrics import Metric

LEVEL = 0.05
SHARES = np.geomspace(0.05, 0.95, 6)
"""Shares of the capital that are bet, each with an equal part of it: small ones find small differences."""


FIRST = 5
"""Rows after which a rival's own errors say how large they get."""
GROWTH = 2.0
FLOOR = 0.01
"""The least cap, as a share of the bound: that a rival has made no errors so far may be luck."""


@dataclass(frozen=True)
class Behind:
    """Why a racer is stopped: over the first `rows` test rows its score was worse than that of `leader` by `gap`."""

    rows: int
    leader: str
    gap: float


def can_race(metric: Metric) -> bool:
    """Whether a metric is a mean over rows, or stands and falls with one, so that rows can be compared one by one."""
    shares = metric.unit == "share" or not metric.greater_is_better or metric.name == "r2"
    return metric.center == "mean" and metric.gradient is None and shares


def largest_error(metric: Metric, truth: np.ndarray, fallback: float | str) -> float:
    """The most that an error counts: 1 for shares, else the largest error that the answer which knows
    nothing makes in the training part.

    Parameters
    ----------
    truth
        (n,) the true values of the training part.
    fallback
        The answer that knows nothing.
    """
    if metric.unit == "share":
        return 1.0
    errors = row_errors(metric, truth, np.full(len(truth), float(fallback)))
    return float(np.nanmax(errors, initial=0.0))


def row_errors(metric: Metric, truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """(n,) numbers whose mean orders contestants as the metric does, the lower the better.

    Parameters
    ----------
    truth, guess
        (n,) each.
    """
    first = np.asarray(metric.statistics(truth, guess), dtype=np.float64)[:, 0]
    return 1.0 - first if metric.unit == "share" else first


def evidence(differences: np.ndarray) -> np.ndarray:
    """The capital after each step of bets that the differences are above 0 on average.

    Parameters
    ----------
    differences
        (n,) of which none is below -1; those that are count as -1.

    Returns
    -------
    (n,) mean capitals over SHARES; they begin at 1.
    """
    steps = np.log1p(SHARES[:, None] * np.maximum(differences, -1.0))
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(np.minimum(np.cumsum(steps, axis=1), 700.0)).mean(axis=0))


def limits(errors: np.ndarray, bound: float) -> np.ndarray:
    """(n,) where errors are capped when they are compared with a rival's, by its errors before.

    Parameters
    ----------
    errors
        (n,) the rival's errors.
    bound
        The cap of the first FIRST rows, and the most that any cap can be.
    """
    found = np.full(len(errors), bound)
    found[FIRST:] = np.clip(GROWTH * np.fmax.accumulate(errors)[FIRST - 1 : -1], FLOOR * bound, bound)
    return found


def stopped_at(
    errors: np.ndarray, rivals: Sequence[np.ndarray], bound: float, level: float, *, shares: bool = False
) -> int | None:
    """After how many units a racer could be stopped.

    Parameters
    ----------
    errors
        (n,) the racer's errors.
    rivals
        The errors of each rival on the first of these units, (at most n,) each. One that has answered nothing is
        without evidence, and counts all the same.
    bound
        What no error exceeds; of errors that have no bound, the most that one counts.
    level
        The probability with which a best contestant may be stopped.
    shares
        Whether the errors are shares from 0 to 1, of which `bound` is the greatest.

    Returns
    -------
    The number of units after which the evidence was enough; None where it never was.
    """
    if not bound > 0 or not math.isfinite(bound) or not len(errors) or not rivals:
        return None
    capital = np.zeros(len(errors))
    for theirs in rivals:
        both = min(len(errors), len(theirs))
        limit = bound if shares else limits(theirs[:both], bound)
        difference = (np.minimum(errors[:both], limit) - np.minimum(theirs[:both], limit)) / limit
        won = evidence(np.where(np.isnan(difference), 0.0, difference)) if both else np.ones(0)
        capital[:both] += won
        capital[both:] += won[-1] if both else 1.0
    (enough,) = np.nonzero(capital / len(rivals) >= 1 / level)
    return int(enough[0]) + 1 if len(enough) else None


@dataclass
class Race:
    """The errors of a contest's contestants on the test rows, as they come; it may be used from any thread.

    `truth`: (n,) of the test rows, `units` which of them belong together. `bound`: the most that an error counts.
    `racers`: those that may be stopped. `labels`: all contestants.
    """

    metric: Metric
    truth: np.ndarray
    units: Units
    bound: float
    racers: frozenset[str]
    labels: tuple[str, ...]
    _errors: dict[str, np.ndarray] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, label: str, guesses: Mapping[int, float | str]) -> None:
        """Take in a contestant's answers by test row."""
        with self._lock:
            known = self._errors.get(label)
            errors = np.full(len(self.truth), np.nan) if known is None else known.copy()
            new = [row for row in guesses if np.isnan(errors[row])]
            if new:
                kind = np.float64 if self.metric.kind == "number" else object
                guess = np.array([guesses[row] for row in new], dtype=kind)
                errors[new] = row_errors(self.metric, self.truth[new], guess)
            self._errors[label] = errors

    def behind(self, label: str, rows: int | None) -> Behind | None:
        """Why a racer that is asked the first `rows` test rows is to be stopped; None where it is not."""
        if label not in self.racers:
            return None
        with self._lock:
            mine = self._errors.get(label)
            others = {name: self._errors.get(name) for name in self.labels if name != label}
        if mine is None:
            return None
        asked = np.arange(len(self.truth) if rows is None else min(rows, len(self.truth)))
        own = self._by_unit(mine, asked)
        theirs = {name: np.zeros(0) if one is None else self._by_unit(one, asked) for name, one in others.items()}
        level, shares = LEVEL / len(self.racers), self.metric.unit == "share"
        if stopped_at(own, list(theirs.values()), self.bound, level, shares=shares) is None:
            return None
        return self._worst_gap(mine, {name: one for name, one in others.items() if one is not None}, asked)

    def _by_unit(self, errors: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """The errors of the first units that are answered whole, in the order of the rows, each a share of the largest
        unit."""
        codes = self.units.codes[asked]
        _, first, place = np.unique(codes, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))[place]  # units by their first row
        weights = self.units.weights[asked]
        sums = np.bincount(rank, weights * errors[asked])
        sizes = np.bincount(self.units.codes, self.units.weights)
        open_units = np.nonzero(np.isnan(sums))[0]
        whole = sums[: open_units[0]] if len(open_units) else sums
        return np.asarray(whole / sizes.max(initial=1.0))

    def _worst_gap(self, mine: np.ndarray, others: Mapping[str, np.ndarray], asked: np.ndarray) -> Behind | None:
        """The rival that is furthest ahead on the rows that both answered."""
        found: list[tuple[float, str, int]] = []
        for name, theirs in others.items():
            both = asked[~np.isnan(mine[asked]) & ~np.isnan(theirs[asked])]
            if len(both):
                weights = self.units.weights[both]
                finish = self._score(np.array([np.average(one[both], weights=weights) for one in (mine, theirs)]))
                ahead = np.average(mine[both] - theirs[both], weights=weights) > 0
                found.append((abs(finish[0] - finish[1]) if ahead else 0.0, name, len(both)))
        if not found:
            return None
        gap, leader, rows = max(found)
        return Behind(rows, leader, gap)

    def _score(self, means: np.ndarray) -> np.ndarray:
        """Scores from mean errors; of R² the error itself, as the rows say nothing of its unit."""
        if self.metric.unit == "share":
            means = 1.0 - means
        if self.metric.name == "r2":
            return means
        return np.asarray(self.metric.finish(means[:, None]))
