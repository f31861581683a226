"""95 % intervals of scores and of their differences, from sums over independent units.

Which one a metric has was chosen by measured coverage (docs/scores.md):

- errors, and 1 - R²: bootstrap-t on the log scale (Efron, "Nonparametric standard errors and confidence intervals",
  1981; Hall, "Theoretical comparison of bootstrap confidence intervals", 1988);
- bounded scores (shares of rows, F1, balanced accuracy, Matthews, text scores): Wilson's interval (1927) for as many
  rows as would give a share of this size the same standard error (Korn and Graubard, 1998), by the delta method;
- the median: the order statistics between which Wilson's interval of one half lies (Woodruff, 1952);
- differences: bootstrap-t of the linear parts, and of shares of rows the adjusted interval of Bonett and Price (2012).

None has a width of 0: what none of m independent units shows may still happen in up to 3 / m (the rule of three).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtrit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kurabe.contest.magnitude import in_unit, score_unit, unit_of
from kurabe.contest.resample import draw_counts
from kurabe.contest.units import Units, single_rows, unit_sums
from kurabe.tasks.metrics import Metric, Statistics
from kurabe.tasks.swaps import weighted_median

CONFIDENCE = 0.95
RESAMPLES = 10_000
FEW = 8  # units, below which a bootstrap of their standard error says nothing
FARTHEST = 3
HANDFUL, FEWEST = 5, 30  # units that make half of an error, of so many, are worth a note
MANY = 5_000  # units, from which differences are normal
_PART, _LABEL_PART = 0.15, 0.25  # of a row
_DRAWN = 2 * 10**8  # counts drawn at most, so that many units take fewer resamples
_BLOCK_BYTES = 32 * 2**20
_LEAST_RESAMPLES = 1_000

Interval = tuple[float, float]
Drawn = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From (b, m) counts of resamples, and a generator for what else is drawn, to (b, …) values."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One contestant's answers by unit: `sums` (m, k), `sizes` (m,), and of a median `rows` (n,) with their `units`."""

    sums: Statistics
    sizes: np.ndarray
    units: Units
    rows: np.ndarray | None = None

    @property
    def means(self) -> np.ndarray:
        """(k,) the weighted means of the statistics."""
        return np.asarray(np.asarray(self.sums.sum(axis=0)).ravel() / self.sizes.sum())

    def score(self, metric: Metric) -> float:
        """The metric of these answers, each unit weighed."""
        if self.rows is not None:
            return float(metric.finish(np.array([weighted_median(self.rows, self.units.weights)])))
        return float(metric.finish(self.means))


def scored(metric: Metric, statistics: Statistics, units: Units | None = None) -> Scored:
    """A contestant's answers by unit, from (n, k) row statistics."""
    units = units or single_rows(statistics.shape[0])
    rows = np.asarray(statistics)[:, 0] if metric.center == "median" else None
    return Scored(*unit_sums(statistics, units), units, rows)


def score_intervals(
    metric: Metric, contestants: Sequence[Scored], *, typical: float = 0.0, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """The interval of each contestant's score, over the same m >= 2 units.

    `typical`: the score of answers that know nothing, in whose unit an error of 0 is uncertain. (NaN, NaN) where a
    score is not defined. `resamples`: 0 for Student's quantiles in place of resampled ones, where thousands of
    intervals are wanted. Deterministic in `seed`.
    """
    if metric.bounds is not None:
        return [_bounded_interval(metric, one) for one in contestants]
    units = [unit_of(metric, [one.sums]) for one in contestants]
    contestants = [_measured_in(metric, one, unit) for one, unit in zip(contestants, units, strict=True)]
    units = [score_unit(metric, unit) for unit in units]
    typicals = [typical / unit for unit in units]
    if metric.center == "median":
        ends = [_median_interval(metric, one, mine) for one, mine in zip(contestants, typicals, strict=True)]
    else:
        ends = _error_intervals(metric, contestants, typicals, resamples, seed)
    return [(low * unit, high * unit) for (low, high), unit in zip(ends, units, strict=True)]


def _measured_in(metric: Metric, one: Scored, unit: float) -> Scored:
    if unit == 1.0:
        return one
    rows = None if one.rows is None else np.asarray(in_unit(metric, one.rows[:, None], unit))[:, 0]
    return replace(one, sums=in_unit(metric, one.sums, unit), rows=rows)


def influences(metric: Metric, one: Scored) -> np.ndarray:
    """(m,) how far each unit moves the score: their mean is 0, their mean square over m its variance (delta method)."""
    if one.rows is not None:
        return _median_influences(metric, one)
    means = one.means
    slope = gradient(metric, means)
    moved = np.asarray(one.sums @ slope).ravel() - float(slope @ means) * one.sizes
    return np.asarray(moved / one.sizes.mean())


def gradient(metric: Metric, means: np.ndarray) -> np.ndarray:
    """(k,) the derivatives of the score by the means."""
    if metric.gradient is not None:
        return np.asarray(metric.gradient(means[None])[0])
    if metric.name == "r2":
        error, first, second = means
        variance = second - first**2
        return np.asarray(np.array([-1.0, -2 * first * error / variance, error / variance]) / variance)
    score = float(metric.finish(means))
    # Of one mean: the mean itself, or its square root.
    return np.array([1.0 if score == means[0] else 0.5 / score if score > 0 else 0.0])


def standard_error(influence: np.ndarray) -> float:
    """The standard error of a score whose units' influences these are."""
    m = len(influence)
    return float(np.sqrt(influence @ influence / m / max(m - 1, 1)))


def half_made_by(metric: Metric, one: Scored) -> int | None:
    """How many units make half of an error's sum, where it is at most HANDFUL of FEWEST or more; else None."""
    if metric.bounds is not None or one.rows is not None or one.units.count < FEWEST:
        return None
    parts = np.sort(np.asarray(one.sums)[:, 0])[::-1]
    total = float(parts.sum())
    if total <= 0:
        return None
    units = int(np.searchsorted(np.cumsum(parts), total / 2 * (1 - 1e-12))) + 1
    return units if units <= HANDFUL else None


# --- differences -----------------------------------------------------------------------------------------------------


def difference_intervals(
    metric: Metric,
    contestants: Sequence[Scored],
    pairs: Sequence[tuple[int, int]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """The intervals of score differences, first minus second of each pair of positions, over the same m >= 2 units.
    (0, 0) where both give the same answers."""
    if not pairs:
        return []
    unit = unit_of(metric, [one.sums for one in contestants])
    contestants = [_measured_in(metric, one, unit) for one in contestants]
    unit = score_unit(metric, unit)
    moved = np.stack([influences(metric, one) for one in contestants], axis=1)
    scores = np.array([one.score(metric) for one in contestants])
    first, second = np.array(pairs).T
    middles, m = scores[first] - scores[second], len(moved)
    if m > MANY:  # the differences of so many units are not laid out one by one
        products = moved.T @ moved / m
        squares = np.diag(products)[first] + np.diag(products)[second] - 2 * products[first, second]
        errors = np.sqrt(np.maximum(squares, 0.0) / (m - 1))
        high = np.full(len(pairs), student_t(m))
        low = -high
    else:
        parts = moved[:, first] - moved[:, second]
        errors = np.sqrt((parts**2).sum(axis=0) / m / max(m - 1, 1))
        low, high = _studentised(parts, errors, resamples, seed)
    ends = np.stack([middles - high * errors, middles - low * errors], axis=1)
    found = []
    for place, (a, b) in enumerate(pairs):
        if _same(contestants[a], contestants[b]):
            found.append((0.0, 0.0))
        elif metric.proportion and contestants[a].units.plain:
            found.append(_paired_shares(contestants[a], contestants[b]))
        else:
            least = 3 / m * max(_largest(contestants[a], contestants[b]), abs(float(middles[place])))
            reach = max(least, 0.0) if errors[place] <= 1e-12 * abs(middles[place]) else 0.0
            found.append(((float(ends[place, 0]) - reach) * unit, (float(ends[place, 1]) + reach) * unit))
    return found


def _studentised(parts: np.ndarray, errors: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5 and 97.5 % quantiles, (pairs,) each, of resampled means of `parts` (m, pairs) over their standard errors
    in the resample."""
    m, pairs = parts.shape
    if m < FEW:
        reach = np.full(pairs, student_t(m))
        return -reach, reach
    scale = np.where(errors > 0, errors, 1.0)
    columns = np.hstack([parts / scale, (parts / scale) ** 2])

    def drawn(counts: np.ndarray, _: np.random.Generator) -> np.ndarray:
        sums = counts @ columns / m
        means, squares = sums[:, :pairs], sums[:, pairs:]
        spread = np.sqrt(np.maximum(squares - means**2, 0.0) / (m - 1))
        return np.asarray(np.divide(means, spread, out=np.zeros_like(means), where=spread > 1e-9))

    t = resampled(drawn, m, resamples, seed)
    low, high = np.quantile(t, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high


def _paired_shares(first: Scored, second: Scored) -> Interval:
    """The difference of two shares of the same rows, with one row added to either side (Bonett and Price, 2012)."""
    apart = (np.asarray(first.sums) - np.asarray(second.sums))[:, 0]
    n, ours, theirs = len(apart), float((apart > 0).sum()), float((apart < 0).sum())
    a, b = (ours + 1) / (n + 2), (theirs + 1) / (n + 2)
    reach = float(ndtri((1 + CONFIDENCE) / 2)) * float(np.sqrt((a + b - (a - b) ** 2) / (n + 2)))
    return max(-1.0, a - b - reach), min(1.0, a - b + reach)


def _largest(first: Scored, second: Scored) -> float:
    if first.rows is None or second.rows is None:
        return 0.0
    return float(np.abs(first.rows - second.rows).max())


def _same(first: Scored, second: Scored) -> bool:
    if first.rows is not None and second.rows is not None:
        return np.array_equal(first.rows, second.rows)
    if first.sums.shape != second.sums.shape:
        return False
    if isinstance(first.sums, np.ndarray):
        return np.array_equal(first.sums, second.sums)
    return bool((first.sums != second.sums).nnz == 0)


# --- bounded scores --------------------------------------------------------------------------------------------------


def _bounded_interval(metric: Metric, one: Scored) -> Interval:
    assert metric.bounds is not None
    low, high = metric.bounds
    score = one.score(metric)
    if not np.isfinite(score):
        return float("nan"), float("nan")
    m, n = one.units.count, float(one.sizes.sum())
    share = min(max((score - low) / (high - low), 0.0), 1.0)
    if metric.proportion and one.units.plain:
        ends = wilson_interval(share * n, n)
    else:
        return share_interval(score, _cautious_error(metric, one), metric.bounds, m)
    return low + (high - low) * ends[0], low + (high - low) * ends[1]


def share_interval(score: float, error: float, bounds: Interval, units: int) -> Interval:
    """Wilson's interval (1927) of a bounded score, for as many rows as would give a share of this size this
    standard error (Korn and Graubard, 1998), with Student's t for so many units.

    A share within a quarter of a unit of 0 or 1 has no variance to speak of: it counts as one that far from them, with
    no more rows than units.
    """
    low, high = bounds
    share, error = min(max((score - low) / (high - low), 0.0), 1.0), max(error / (high - low), 1e-12)
    least = 0.25 / units
    variance = share * (1 - share)
    rows = variance / error**2 if variance > least else min(least / error**2, float(units))
    ends = wilson_interval(share * rows, rows, z=student_t(units))
    return low + (high - low) * ends[0], low + (high - low) * ends[1]


def _cautious_error(metric: Metric, one: Scored) -> float:
    """The standard error of a bounded score with a part of a row added at each end.

    Of a handful of rows all may be right by chance, and then they say nothing of how they vary. So a part of a right
    row and of a wrong one is added to each label, or to the whole where there are no labels, in the sums that the
    standard error is made of, not in the score. How large that part is was chosen by measured coverage.
    """
    m = one.units.count
    if metric.kind != "label" or metric.proportion:
        influence, score = influences(metric, one), one.score(metric)
        squares = float(influence @ influence) + _PART * (score**2 + (1.0 - score) ** 2)
        return float(np.sqrt(squares / m / max(m - 1, 1)))
    sums = np.asarray(one.sums.sum(axis=0)).ravel()
    labels = len(sums) // 3
    each = np.eye(labels)
    others = (1 - each) / max(labels - 1, 1)
    right, wrong = np.hstack([each, each, each]), np.hstack([each, others, np.zeros_like(each)])
    rows = one.sizes.sum() + 2 * _LABEL_PART * labels
    means = (sums + _LABEL_PART * (right + wrong).sum(axis=0)) / rows
    slope = gradient(metric, means)
    level = float(slope @ means)
    real = np.asarray(one.sums @ slope).ravel() - level * one.sizes
    added = np.concatenate([right @ slope, wrong @ slope]) - level
    squares = float(real @ real) + _LABEL_PART * float(added @ added)
    return float(np.sqrt(squares * m / max(m - 1, 1)) / rows)


def wilson_interval(successes: float, n: float, z: float | None = None) -> Interval:
    """Wilson's score interval of a proportion, without continuity correction; `z` in place of the normal quantile."""
    z = float(ndtri((1 + CONFIDENCE) / 2)) if z is None else z
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * float(np.sqrt(max(share * (1 - share), 0.0) / n + z * z / (4 * n * n)))
    return max(0.0, center - reach), min(1.0, center + reach)


# --- medians ---------------------------------------------------------------------------------------------------------


def _median_interval(metric: Metric, one: Scored, typical: float) -> Interval:
    assert one.rows is not None
    values, weights = one.rows, one.units.weights
    middle = weighted_median(values, weights)
    below = np.where(values < middle, 1.0, np.where(values == middle, 0.5, 0.0))
    share = float(weights @ below / weights.sum())
    m = one.units.count
    parts = np.bincount(one.units.codes, weights * (below - share), m) / (weights.sum() / m)
    error = standard_error(parts) if not one.units.plain else 0.5 / np.sqrt(m)
    rows = 0.25 / max(error, 0.5 / np.sqrt(len(values))) ** 2
    low, high = wilson_interval(rows / 2, rows, z=student_t(m) if not one.units.plain else None)
    order = np.argsort(values, kind="stable")
    reached = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    ends = np.interp([low, high], reached, values[order])
    if ends[0] == ends[1]:  # as many rows have just this error: the next other one, else by the rule of three
        others = values[values != ends[0]]
        above, under = others[others > ends[1]], others[others < ends[0]]
        reach = min(3 / m, 1.0) * typical
        ends = np.array([under.max() if len(under) else max(ends[0] - reach, 0.0),
                         above.min() if len(above) else ends[1] + reach])  # fmt: skip
    return float(metric.finish(ends[:1])), float(metric.finish(ends[1:]))


def _median_influences(metric: Metric, one: Scored) -> np.ndarray:
    """Each unit's influence on the median: on which side of it its rows lie, over twice the density there."""
    assert one.rows is not None
    values, weights = one.rows, one.units.weights
    middle = weighted_median(values, weights)
    low, high = _median_interval(metric, one, 0.0)
    error = (high - low) / 2 / float(ndtri((1 + CONFIDENCE) / 2))
    sides = np.sign(values - middle) * weights
    parts = np.bincount(one.units.codes, sides, one.units.count)
    parts = parts - parts.mean()
    spread = standard_error(parts)
    return np.asarray(parts * (error / spread if spread > 0 else 0.0))


# --- errors ----------------------------------------------------------------------------------------------------------


def _error_intervals(
    metric: Metric, contestants: Sequence[Scored], typicals: Sequence[float], resamples: int, seed: int
) -> list[Interval]:
    """Bootstrap-t of the logarithm of the error, or of 1 - R²."""
    values = [_variables(one) for one in contestants]
    m, width = values[0].shape
    logs = [_log_error(part.mean(axis=0)[None])[0] for part in values]
    errors = [_log_errors_spread(part.mean(axis=0)[None], _products(part).mean(axis=0)[None], m)[0] for part in values]
    columns = np.hstack([np.hstack([part, _products(part)]) for part in values])
    each = columns.shape[1] // len(values)

    def drawn(counts: np.ndarray, _: np.random.Generator) -> np.ndarray:
        means = counts @ columns / m
        t = np.empty((len(counts), len(values)))
        for place, middle in enumerate(logs):
            mine = means[:, place * each : (place + 1) * each]
            spread = _log_errors_spread(mine[:, :width], mine[:, width:], m)
            with np.errstate(divide="ignore", invalid="ignore"):
                t[:, place] = (_log_error(mine[:, :width]) - middle) / spread
        return t

    reach = np.full((2, len(values)), student_t(m)) * np.array([[-1.0], [1.0]])
    if m >= FEW and resamples:
        t = resampled(drawn, m, resamples, seed)
        for place in range(len(values)):
            reach[:, place] = tail_quantiles(t[:, place], student_t(m))
    found = []
    for place, one in enumerate(contestants):
        score, middle, error = one.score(metric), logs[place], errors[place]
        if not np.isfinite(score):
            found.append((float("nan"), float("nan")))
        elif not np.isfinite(middle) or error <= 1e-12:
            found.append(_of_no_spread(metric, one, score, typicals[place]))
        else:
            with np.errstate(over="ignore"):
                ends = np.exp(middle - reach[::-1, place] * error)
            found.append(_as_scores(metric, ends))
    return found


def _as_scores(metric: Metric, errors: np.ndarray) -> Interval:
    if metric.name == "r2":
        return float(1 - errors[1]), float(1 - errors[0])
    low, high = metric.finish(errors[:, None])
    return float(low), float(high)


def _of_no_spread(metric: Metric, one: Scored, score: float, typical: float) -> Interval:
    """Of an error that all units share, 0 mostly: up to 3 / m of others may err as answers that know nothing do."""
    share = min(3 / one.units.count, 1.0)
    if metric.name == "r2":
        return score - share, min(score + share, 1.0)
    reach = share * max(typical, score)
    return max(score - reach, 0.0), score + reach


def _variables(one: Scored) -> np.ndarray:
    """(m, k + 1) the units' sums and sizes; of one statistic of units that are all rows (m, 1), its values alone."""
    sums = np.asarray(one.sums)
    alone = sums.shape[1] == 1 and (one.sizes == 1).all()
    return sums if alone else np.column_stack([sums, one.sizes])


def _log_error(means: np.ndarray) -> np.ndarray:
    """(b,) log of the mean error, or of 1 - R², from (b, k + 1) means of `_variables`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if means.shape[1] == 1:
            return np.asarray(np.log(means[:, 0]))
        if means.shape[1] == 2:
            return np.asarray(np.log(means[:, 0] / means[:, 1]))
        error, first, second, size = means.T
        return np.asarray(np.log(error / size) - np.log(np.maximum(second / size - (first / size) ** 2, 0.0)))


def _log_errors_spread(means: np.ndarray, products: np.ndarray, m: int) -> np.ndarray:
    """(b,) the standard error of `_log_error` by the delta method, from the means of products of its variables too."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if means.shape[1] == 1:
            return np.asarray(np.sqrt(np.maximum(products[:, 0] / means[:, 0] ** 2 - 1, 0.0) / max(m - 1, 1)))
        slope = _log_slope(means)
    width = means.shape[1]
    upper = np.triu_indices(width)
    factors = slope[:, upper[0]] * slope[:, upper[1]] * np.where(upper[0] == upper[1], 1.0, 2.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.maximum((factors * products).sum(axis=1), 0.0) / max(m - 1, 1)))


def _log_slope(means: np.ndarray) -> np.ndarray:
    if means.shape[1] == 2:
        return np.stack([1 / means[:, 0], -1 / means[:, 1]], axis=1)
    error, first, second, size = means.T
    variance = second / size - (first / size) ** 2
    by_size = -1 / size - (-second / size**2 + 2 * first**2 / size**3) / variance
    return np.stack([1 / error, 2 * first / size**2 / variance, -1 / size / variance, by_size], axis=1)


def _products(values: np.ndarray) -> np.ndarray:
    """(m, k (k + 1) / 2) the products of each two columns."""
    first, second = np.triu_indices(values.shape[1])
    return np.asarray(values[:, first] * values[:, second])


# --- resampling ------------------------------------------------------------------------------------------------------


def tail_quantiles(t: np.ndarray, otherwise: float) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of resampled t values, NaN left out; those of Student where too few are left.

    A resample without the few rows that decide the score has hardly a standard error, and a t of any size. None counts
    for more than FARTHEST times Student's, or one wild answer would make an interval of fifty powers of ten.
    """
    known = np.clip(t[~np.isnan(t)], -FARTHEST * otherwise, FARTHEST * otherwise)
    if len(known) < len(t) / 2:
        return -otherwise, otherwise
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="inverted_cdf")
    return float(low), float(high)


def resampled(drawn: Drawn, m: int, resamples: int, seed: int) -> np.ndarray:
    """`drawn` of the counts of each resample of m units, one below the other: (resamples, …). The same seed gives the
    same resamples, whatever the number of processors."""
    resamples = min(resamples, max(_LEAST_RESAMPLES, _DRAWN // m))
    size = max(1, min(256, _BLOCK_BYTES // (8 * m)))

    def block(start: int) -> np.ndarray:
        generator = np.random.Generator(np.random.SFC64([seed, start]))
        return drawn(draw_counts(m, min(size, resamples - start), generator), generator)

    # numpy lets go of the interpreter's lock while it draws and multiplies; BLAS's own threads would get in the way.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(block, range(0, resamples, size))))


def student_t(m: int) -> float:
    """Student's t quantile for m independent units."""
    return float(stdtrit(max(m - 1, 1), (1 + CONFIDENCE) / 2))
