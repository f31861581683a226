"""Which contestants differ: paired tests of all pairs on a board, adjusted over the board.

McNemar's exact test (1947) for shares of rows, the swap test for everything else, step-down max-T over all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from kurabe.contest.magnitude import in_unit, unit_of
from kurabe.contest.units import Units, single_rows
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
    units: Units | None = None,
    seed: int = 0,
) -> list[PairTest]:
    """Tests of `pairs` (positions in `contestants`), each on the rows that both answered, at least one.

    `units`: which of the n test rows are swapped together; None where each row is a unit. Deterministic in `seed`.
    """
    if not pairs:
        return []
    units = units or single_rows(len(contestants[0].mask))
    entered = []
    for a, b in pairs:
        mask = contestants[a].mask & contestants[b].mask
        rows = [contestants[a].on(mask), contestants[b].on(mask)]
        unit = unit_of(metric, rows)
        rows = [in_unit(metric, part, unit) for part in rows]
        # Mostly both answered all rows; copies for each pair would take hundreds of megabytes.
        kept = (units.codes, units.weights) if mask.all() else (units.codes[mask], units.weights[mask])
        entered.append(Pair(*rows, *kept))
    tests = swap_tests(metric, entered, units.count, couples=pairs, seed=seed)
    p = tests.p.copy()
    for place, pair in enumerate(entered):
        if metric.proportion and (exact := _mcnemar(pair, units.count)) is not None:
            p[place] = exact
    adjusted = np.maximum(tests.adjusted, p)
    return [PairTest(float(one), float(over_all)) for one, over_all in zip(p, adjusted, strict=True)]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test: rows that only the first, and only the second, got right."""
    changed = only_first + only_second
    return float(min(1.0, 2 * binom.cdf(min(only_first, only_second), changed, 0.5)))


def _mcnemar(pair: Pair, units: int) -> float | None:
    """McNemar's exact p-value; None where units count unequally, as groups of several rows do."""
    rows = pair.weights * (np.asarray(pair.first) - np.asarray(pair.second))[:, 0]
    sums = np.round(np.bincount(pair.units, weights=rows, minlength=units), 9)
    if not np.isin(sums, [-1, 0, 1]).all():
        return None
    return mcnemar_exact(int((sums > 0).sum()), int((sums < 0).sum()))
