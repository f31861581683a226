"""How a contestant stands in the middle of a run: its score so far and a quick interval."""

import math
from collections.abc import Mapping

import numpy as np

from kurabe.contest.intervals import score_intervals, scored
from kurabe.contest.observer import Interval
from kurabe.contest.units import Units
from kurabe.tasks.metrics import Metric


def running_score(
    metric: Metric, truth: np.ndarray, units: Units, guesses: Mapping[int, float | str], typical: float
) -> tuple[float | None, Interval | None]:
    """The score of the rows answered so far, and its 95 % interval by Student's quantiles, which cost no resamples.

    The board in the end has resampled intervals, which are a little different for errors.

    Parameters
    ----------
    truth
        (n,) the true values of all test rows.
    units
        Which test rows belong together.
    guesses
        The answers there are, by test row.
    typical
        The score of answers that know nothing.

    Returns
    -------
    The score and the interval, each None where it is not defined: there is no interval of fewer than two units.
    """
    mask = np.zeros(len(truth), dtype=bool)
    mask[list(guesses)] = True
    rows = np.flatnonzero(mask)
    answered = [guesses[row] for row in rows.tolist()]
    guess = np.array(answered, dtype=np.float64) if metric.kind == "number" else np.array(answered, dtype=object)
    if not len(guess):
        return None, None
    mine = units.on(mask)
    one = scored(metric, metric.statistics(truth[rows], guess), mine)
    score = one.score(metric)
    if not math.isfinite(score):
        return None, None
    if mine.count < 2:
        return score, None
    low, high = score_intervals(metric, [one], typical=typical, resamples=0)[0]
    return score, (low, high) if math.isfinite(low) and math.isfinite(high) else None
