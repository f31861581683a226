"""Which contestants differ: paired tests of all pairs on a board, adjusted over the board.

McNemar's exact test (1947) for shares of rows, the swap test for everything else, step-down max-T over all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from kurabe.tasks.metrics import Metric, Statistics
from kurabe.tasks.swaps import Pair, swap_tests


@dataclass(frozen=True, eq=False)
class Answered:
    """A contestant's answers: `mask` (n,) marks the test rows with an answer, `statistics` has a row for each."""

    mask: np.ndarray
    statistics: Statistics

    def on(self, mask: np.ndarray) -> Statistics:
        """The statistics of the test rows in `mask`, which are among those answered."""
        return self.statistics if mask.sum() == self.statistics.shape[0] else self.statistics[mask[self.mask]]


@dataclass(frozen=True)
class PairTest:
    """Two-sided p-values of two contestants being equally good: `p` by itself, `p_adjusted` over all pairs tested."""

    p: float
    p_adjusted: float


def answers(
    metric: Metric, truth: np.ndarray, guesses: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> list[Answered]:
    """The row statistics of several contestants with the same columns: labels are counted alike for all.

    `truth`: (n,); `guesses`: (n,) each; `masks`: (n,) bool each, the rows with an answer.
    """
    if not guesses:
        return []
    if metric.kind != "label":
        return [
            Answered(mask, metric.statistics(truth[mask], guess[mask]))
            for guess, mask in zip(guesses, masks, strict=True)
        ]
    whole = metric.statistics(
        np.concatenate([truth[mask] for mask in masks]),
        np.concatenate([guess[mask] for guess, mask in zip(guesses, masks, strict=True)]),
    )
    ends = np.cumsum([int(mask.sum()) for mask in masks])
    return [Answered(mask, whole[end - int(mask.sum()) : end]) for mask, end in zip(masks, ends, strict=True)]


def compare(
    metric: Metric,
    contestants: Sequence[Answered],
    pairs: Sequence[tuple[int, int]],
    *,
    seed: int = 0,
) -> list[PairTest]:
    """Tests of `pairs` (positions in `contestants`), each on the rows that both answered, at least one.

    Deterministic in `seed`.
    """
    if not pairs:
        return []
    n = len(contestants[0].mask)
    rows, weights = np.arange(n), np.ones(n)
    common = [contestants[a].mask & contestants[b].mask for a, b in pairs]
    entered = [
        Pair(contestants[a].on(mask), contestants[b].on(mask), rows[mask], weights[mask])
        for (a, b), mask in zip(pairs, common, strict=True)
    ]
    tests = swap_tests(metric, entered, n, seed=seed)
    p = np.array([_mcnemar(pair) for pair in entered]) if metric.proportion else tests.p
    adjusted = np.maximum(tests.adjusted, p)
    return [PairTest(float(one), float(over_all)) for one, over_all in zip(p, adjusted, strict=True)]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test: rows that only the first, and only the second, got right."""
    changed = only_first + only_second
    return float(min(1.0, 2 * binom.cdf(min(only_first, only_second), changed, 0.5)))


def _mcnemar(pair: Pair) -> float:
    difference = (np.asarray(pair.first) - np.asarray(pair.second))[:, 0]
    return mcnemar_exact(int((difference > 0).sum()), int((difference < 0).sum()))
