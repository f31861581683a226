"""Whether two contestants' scores differ: a paired randomisation test that is valid for every metric.

If two contestants are equally good, it makes no difference which of them gave which of the two answers to a row, so
swapping their answers shows what chance alone does. The statistic is the difference of the scores over its standard
error, since then contestants that are equally good in different ways (a few large errors, many small ones) are not
told apart either, at least with many rows.

Sources: Fisher (1935) for the test; Chung and Romano, "Exact and asymptotically robust permutation tests" (2013) for
studentising; Romano and Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing" (2005) for
step-down max-T, of which `kurabe.tasks.closure` says what can be equal together; Bentkus and Dzindzalieta, "A tight
Gaussian bound for weighted sums of Rademacher random variables" (2015) for the tails; Phipson and Smyth (2010) for
counting the observed value among the draws.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import ndtr, ndtri
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kurabe.tasks.closure import Couple, most_reached
from kurabe.tasks.metrics import Metric, Statistics

SIGNIFICANCE = 0.05
"""Two are told apart where the adjusted p is below it."""
DRAWS = 9_999
CURVED_DRAWS = 1_999
PILOT = 2_000
BLOCKS = 2048
CURVED_BLOCKS = 256
LEAST_P = 1e-12
MOST_CLOSED = 300
"""Pairs, those of 25 contestants, up to which it is looked at which can be equal together."""
_CHUNK = 500
_ROUNDING = 1e-8
_TAIL = 1 / (4 * ndtr(-np.sqrt(2.0)))  # 3.178
_LEAST_ERROR = 0.5
_LEVELS = np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005])

Statistic = Callable[[np.ndarray], np.ndarray]
"""From (draws, units) signs, -1 where a unit's answers are swapped, to (draws, pairs) statistics of at least 0."""


@dataclass(frozen=True, eq=False)
class SwapTests:
    """Two-sided p-values of several pairs: `p` (pairs,) of each by itself, `adjusted` (pairs,) over all of them."""

    p: np.ndarray
    adjusted: np.ndarray


@dataclass(frozen=True, eq=False)
class Pair:
    """The answers of two contestants to the same n rows: (n, k) row statistics with the same columns; `units` (n,) says
    which rows are swapped together, `weights` (n,) how much each counts."""

    first: Statistics
    second: Statistics
    units: np.ndarray
    weights: np.ndarray


def swap_tests(
    metric: Metric,
    pairs: Sequence[Pair],
    units: int,
    *,
    couples: Sequence[Couple] | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> SwapTests:
    """Tests of pairs of contestants whose rows belong to the same `units`; deterministic in `seed`.

    p is the share of the draws, with the observed one among them, whose statistic is at least as large. All pairs
    share the random signs, so step-down max-T knows how they hang together: the adjusted p of a pair compares its
    statistic with the largest over it and all pairs with smaller ones. For that, each statistic is put in units of a
    normal one by how often the pair's own draws reach it, since tails differ: a pair that differs on three rows cannot
    show much, and must not hide what another pair shows.

    `couples`: which two contestants each pair is of. With them a pair that would not be told apart so is compared with
    the pairs only that can be equal together with it (truncated closure; Westfall and Tobias, 2007).

    More than 2,048 units (256 where the score is not a mean) are swapped in random blocks. Swaps of blocks are a
    subgroup of the swaps of units, so the test stays valid, and the matrix of signs stays small.

    Where no draw is as large, p of a mean is bounded by 6.36 times the normal tail: no sum of fixed numbers with
    random signs exceeds that (Bentkus and Dzindzalieta, 2015). The adjusted p is then the bound times the number of
    pairs compared, where that is below 1 / (draws + 1). Both err on the safe side; p stops at 1e-12. Scores that are
    not means have no such bound: p stops at 1 / (draws + 1).
    """
    curved = metric.gradient is not None
    blocks = _blocks(units, CURVED_BLOCKS if curved else BLOCKS, seed)
    count = int(blocks.max()) + 1
    statistic = _curved(metric, pairs, blocks, count) if curved else _of_means(metric, pairs, blocks, count)
    draws = draws or (CURVED_DRAWS if curved else DRAWS)

    observed = statistic(np.ones((1, count)))[0]
    pilot = statistic(_signs(PILOT, count, np.random.default_rng([seed, 2, PILOT])))
    alike = _in_normal_units(pilot)
    unusual = alike(observed[None])[0]
    order = np.argsort(-unusual, kind="stable")
    least, least_unusual = observed * (1 - _ROUNDING), unusual[order] * (1 - _ROUNDING)

    closed = couples is not None and len(pairs) <= MOST_CLOSED

    def drawn(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        signs = _signs(min(_CHUNK, draws - start), count, np.random.default_rng([seed, start]))
        sizes = statistic(signs)
        alone = (sizes >= least).sum(axis=0)[order]
        sizes = alike(sizes)[:, order]
        largest = np.maximum.accumulate(sizes[:, ::-1], axis=1)[:, ::-1]
        return alone, (largest >= least_unusual).sum(axis=0), sizes if closed else sizes[:0]

    # numpy lets go of the interpreter's lock; BLAS's own threads would only get in the way of ours.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(drawn, range(0, draws, _CHUNK)))
    alone, among = (np.sum(counts, axis=0) for counts in list(zip(*parts, strict=True))[:2])

    bound = np.ones(len(order)) if curved else 2 * _TAIL * ndtr(-observed[order])
    p = _with_tail(alone, draws, bound)
    adjusted = _with_tail(among, draws, bound * np.arange(len(order), 0, -1))
    adjusted = np.maximum.accumulate(np.maximum(adjusted, p))
    if couples is not None and closed:
        sizes = np.concatenate([part[2] for part in parts])
        adjusted = _closed(adjusted, p, sizes, least_unusual, [couples[place] for place in order])
    back = np.argsort(order, kind="stable")
    return SwapTests(p[back], adjusted[back])


def _closed(
    adjusted: np.ndarray, p: np.ndarray, sizes: np.ndarray, least: np.ndarray, couples: Sequence[Couple]
) -> np.ndarray:
    """The adjusted p-values, (pairs,), of which some become smaller where not all pairs can be equal together.

    All are in the order of how unusual the pairs are. `sizes`: (draws, pairs), `least`: (pairs,) what a draw must
    reach. A pair is looked at anew only where that can decide whether it is told apart.
    """
    lower, reached = adjusted.copy(), 0.0
    for place, (before, alone) in enumerate(zip(adjusted, p, strict=True)):
        if before >= SIGNIFICANCE:
            if alone >= SIGNIFICANCE:
                break
            bits = np.packbits(sizes[:, place:] >= least[place], axis=0)
            draws = [int.from_bytes(column.tobytes(), "big") for column in bits.T]
            among = most_reached(couples[place:], draws, couples[:place])
            before = max(alone, (1 + among) / (len(sizes) + 1))
        reached = max(reached, before)
        lower[place] = reached
        if reached >= SIGNIFICANCE:
            break
    return lower


def swap_test(
    metric: Metric,
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> float:
    """Two-sided p-value of two contestants being equally good, from the (n,) truth and their (n,) guesses."""
    n = len(truth)
    both = metric.statistics(np.concatenate([truth, truth]), np.concatenate([first, second]))
    pair = Pair(both[:n], both[n:], np.arange(n), np.ones(n))
    return float(swap_tests(metric, [pair], n, draws=draws, seed=seed).p[0])


def _in_normal_units(pilot: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function of (draws, pairs) statistics that gives the size a normal one would have that is as seldom reached.

    `pilot`: (draws, pairs) statistics by which each pair's own distribution is known, up to the least of `_LEVELS`;
    beyond, sizes grow in proportion. The pilot is drawn from the swaps alone, so a test by these sizes stays valid.
    """
    curves = [_curve(draws) for draws in pilot.T]
    return lambda drawn: np.stack([np.interp(one, *curve) for one, curve in zip(drawn.T, curves, strict=True)], axis=1)


def _curve(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the increasing line from a pair's statistics to normal sizes, from the pair's (draws,) own."""
    points = np.quantile(draws, 1 - _LEVELS, method="inverted_cdf")
    points = points[np.diff(points, prepend=0.0) > _ROUNDING * points]
    reached = (draws[:, None] >= points * (1 - _ROUNDING)).mean(axis=0)
    sizes = -ndtri(reached / 2)
    last, size = (points[-1], sizes[-1]) if len(points) else (0.0, 0.0)
    slope = -ndtri(_LEVELS[-1] / 2) / last if last > 0 else 1.0
    far = 1e3
    return np.concatenate([[0.0], points, [last + far]]), np.concatenate([[0.0], sizes, [size + far * slope]])


def _of_means(metric: Metric, pairs: Sequence[Pair], blocks: np.ndarray, count: int) -> Statistic:
    """Of means the difference is a sum over units whose parts change their signs with the swap. Its standard error is
    the root of their sum of squares, which no swap changes."""
    sums = np.empty((count, len(pairs)))
    for place, pair in enumerate(pairs):
        parts = row_differences(metric, pair.first, pair.second, pair.weights)
        sums[:, place] = np.bincount(blocks[pair.units], weights=parts, minlength=count)
    norms = np.sqrt((sums**2).sum(axis=0))
    scaled = sums / np.where(norms > 0, norms, 1.0)
    return lambda signs: np.abs(signs @ scaled)


def _curved(metric: Metric, pairs: Sequence[Pair], blocks: np.ndarray, count: int) -> Statistic:
    found = [_studentised(metric, *_unit_sums(pair, blocks, count)) for pair in pairs]
    return lambda signs: np.stack([statistic(signs) for statistic in found], axis=1)


def _unit_sums(pair: Pair, blocks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(units, k) sums of the statistics of both, and (units,) of the weights."""
    n = len(pair.units)
    members = sparse.csr_array((pair.weights, (blocks[pair.units], np.arange(n))), shape=(count, n))
    first, second = (members @ rows for rows in (pair.first, pair.second))
    dense = [part if isinstance(part, np.ndarray) else part.toarray() for part in (first, second)]
    return dense[0], dense[1], np.asarray(members.sum(axis=1)).ravel()


def _studentised(metric: Metric, first: np.ndarray, second: np.ndarray, sizes: np.ndarray) -> Statistic:
    """The difference of two scores over its standard error by the delta method, both anew after each swap.

    A unit's influence on the difference is the gradient of the first score times its sums, less that of the second.
    The standard error is held above half of what it is where both contestants share one gradient, lest a few rows
    that happen to agree make it vanish; that floor is the same for all swaps.
    """
    assert metric.gradient is not None
    gradient, rows = metric.gradient, sizes.sum()
    middles, changes = (first + second) / 2, (first - second) / 2
    middle = middles.sum(axis=0) / rows
    floor = _LEAST_ERROR**2 * ((2 * changes @ gradient(middle)) ** 2).sum()

    def statistic(signs: np.ndarray) -> np.ndarray:
        shift = signs @ changes / rows
        ours, theirs = middle + shift, middle - shift
        slope, other = gradient(ours), gradient(theirs)
        influence = (slope - other) @ middles.T + signs * ((slope + other) @ changes.T)
        influence -= ((slope * ours).sum(axis=1) - (other * theirs).sum(axis=1))[:, None] * sizes
        error = np.sqrt(np.maximum((influence**2).sum(axis=1), floor))
        difference = np.abs(metric.finish(ours) - metric.finish(theirs)) * rows
        return np.asarray(np.divide(difference, error, out=np.zeros_like(error), where=error > _ROUNDING))

    return statistic


def row_differences(metric: Metric, first: Statistics, second: Statistics, weights: np.ndarray) -> np.ndarray:
    """Each row's part in the difference of two means, (n,): its sign turns where the row's two answers are swapped.

    `first`, `second`: (n, k) row statistics. `weights`: (n,), how much each row counts. Two answers that are equal up
    to rounding differ by exactly 0, so that no p-value depends on the unit of the target.

    The median is no mean: there, a row's part is whether each answer's error lies above the median of both
    contestants' errors, which is 0 on average exactly if both have the same median. Errors at that median count half.
    Where the two halves, "above" and "not below", don't agree on who is better, or the medians are equal, all are 0.
    """
    ours, theirs = (np.asarray(rows)[:, 0] for rows in (first, second))
    if metric.center == "median":
        return _median_differences(ours, theirs, weights)
    difference = ours - theirs
    noise = np.abs(difference) <= _ROUNDING * (np.abs(ours) + np.abs(theirs))
    return np.asarray(weights * np.where(noise, 0.0, difference))


def _median_differences(ours: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    both, twice = np.concatenate([ours, theirs]), np.concatenate([weights, weights])
    middle = weighted_median(both, twice)
    reach = _ROUNDING * abs(middle)
    above, not_below = (np.where(both > middle + side, 1.0, 0.0) for side in (reach, -reach))
    halves = [float(weights @ (part[: len(ours)] - part[len(ours) :])) for part in (above, not_below)]
    apart = abs(weighted_median(ours, weights) - weighted_median(theirs, weights))
    if not np.isfinite(middle) or apart <= reach or halves[0] * halves[1] < 0:
        return np.zeros(len(ours))
    # The median of both is itself an estimate. Where one contestant's errors are denser there than the other's, it
    # moves with the denser ones, and the parts vary more than their signs say: weigh each by the other's density.
    distance, enough = np.abs(both - middle), min(int(len(ours) ** 0.8) + 1, len(both) - 1)
    near = distance <= np.partition(distance, enough)[enough]
    density = float(weights @ near[: len(ours)]) / float(twice @ near)
    sides = above + not_below
    sides -= twice @ sides / twice.sum()
    return weights * ((1 - density) * sides[: len(ours)] - density * sides[len(ours) :])


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The median of (n,) values that count as often as (n,) positive weights say."""
    if (weights == weights[0]).all():
        return float(np.median(values))  # a tenth of the time
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    half = reached[-1] / 2
    lower, upper = (np.searchsorted(reached, half * (1 + side * 1e-12)) for side in (-1, 1))
    return float((values[order[lower]] + values[order[min(upper, len(order) - 1)]]) / 2)


def _blocks(units: int, most: int, seed: int) -> np.ndarray:
    """(units,) the block of each unit: itself, or one of `most` at random, all of about the same size."""
    return np.arange(units) if units <= most else np.random.default_rng([seed, 1]).permutation(units) % most


def _with_tail(exceeded: np.ndarray, draws: int, bound: np.ndarray) -> np.ndarray:
    least = np.clip(bound, LEAST_P, 1 / (draws + 1))
    return np.where(exceeded > 0, (1 + exceeded) / (draws + 1), least)


def _signs(draws: int, units: int, generator: np.random.Generator) -> np.ndarray:
    bits = np.frombuffer(generator.bytes(draws * -(-units // 8)), dtype=np.uint8).reshape(draws, -1)
    return np.unpackbits(bits, axis=1, count=units) * 2.0 - 1.0
