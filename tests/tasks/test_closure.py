"""Which pairs can be equal together, against every grouping that there is."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.tasks.closure import most_reached
from kurabe.tasks.metrics import METRICS
from kurabe.tasks.swaps import Pair, swap_tests

Groups = list[list[int]]


def groupings(contestants: int) -> Iterator[Groups]:
    if contestants == 0:
        yield []
        return
    for groups in groupings(contestants - 1):
        yield [*groups, [contestants - 1]]
        for place in range(len(groups)):
            yield [*groups[:place], [*groups[place], contestants - 1], *groups[place + 1 :]]


def by_hand(contestants: int, reached: dict[tuple[int, int], int], apart: set[tuple[int, int]]) -> int:
    first = next(iter(reached))
    best = 0
    for groups in groupings(contestants):
        within = {pair for group in groups for pair in itertools.combinations(sorted(group), 2)}
        if first in within and not within & apart:
            drawn = 0
            for pair in within:
                drawn |= reached.get(pair, 0)
            best = max(best, drawn.bit_count())
    return best


@given(st.integers(2, 7), st.integers(0, 21), st.integers(0, 3), st.integers(0, 2**32))
def test_the_worst_grouping_is_found(contestants: int, differing: int, untested: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    couples = [(int(a), int(b)) for a, b in random.permutation(list(itertools.combinations(range(contestants), 2)))]
    differing = min(differing, len(couples) - 1)
    apart, left = set(couples[:differing]), couples[differing:]
    left = left[: max(1, len(left) - untested)]
    reached = {pair: int(random.integers(0, 2**40)) & int(random.integers(0, 2**40)) for pair in left}
    wanted = by_hand(contestants, reached, apart)
    assert most_reached(list(reached), list(reached.values()), apart) == wanted
    together = np.bitwise_or.reduce(np.array(list(reached.values()), dtype=np.int64))
    for budget in (0, 3):
        assert wanted <= most_reached(list(reached), list(reached.values()), apart, budget) <= int(together).bit_count()


def test_knowing_the_contestants_tells_more_apart_and_never_less() -> None:
    random, n, couples = np.random.default_rng(4), 80, list(itertools.combinations(range(8), 2))
    more = 0
    for seed in range(12):
        rows = 0.7 * random.normal(0, 1, (8, n)) + 0.2 * np.arange(8)[:, None] + random.normal(0, 1, n) + 9
        pairs = [Pair(rows[a][:, None], rows[b][:, None], np.arange(n), np.ones(n)) for a, b in couples]
        plain, closed = (
            swap_tests(METRICS["mean_absolute_error"], pairs, n, couples=who, draws=1999, seed=seed).adjusted
            for who in (None, couples)
        )
        assert (closed <= plain).all()
        more += int((closed < 0.05).sum() - (plain < 0.05).sum())
    assert more >= 6


@pytest.mark.parametrize("far", [50.0, 0.0])
def test_three_equal_ones_are_corrected_for_as_three(far: float) -> None:
    """With one that is far off, the pairs left are the three of the others; else all six are corrected for."""
    random, n = np.random.default_rng(5), 200
    couples = list(itertools.combinations(range(4), 2))
    rows = random.normal(10, 1, (4, n)) + np.array([0.0, 0.0, 0.0, far])[:, None]
    pairs = [Pair(rows[a][:, None], rows[b][:, None], np.arange(n), np.ones(n)) for a, b in couples]
    found = swap_tests(METRICS["mean_absolute_error"], pairs, n, couples=couples).adjusted
    alone = swap_tests(
        METRICS["mean_absolute_error"], [pairs[i] for i in (0, 1, 3)], n, couples=[couples[i] for i in (0, 1, 3)]
    )
    if far:
        assert found[[0, 1, 3]] == pytest.approx(alone.adjusted)
    else:
        assert (found[[0, 1, 3]] >= alone.adjusted).all()
