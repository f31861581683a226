"""The paired tests against exact enumeration, scipy and statsmodels, and what no p-value may depend on."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from kurabe.contest.pairs import Answered, PairTest, answers, compare, mcnemar_exact
from kurabe.contest.ranks import rank_ranges
from kurabe.contest.statistics import holm
from kurabe.contest.units import Units
from kurabe.tasks.metrics import METRICS, Metric
from kurabe.tasks.swaps import DRAWS, Pair, swap_test, swap_tests, weighted_median

BY_ROWS = [name for name, metric in METRICS.items() if metric.kind != "text"]


def entered(metric: Metric, truth: np.ndarray, *guesses: Any) -> list[Answered]:
    everywhere = np.ones(len(truth), dtype=bool)
    return answers(metric, truth, [np.asarray(guess) for guess in guesses], [everywhere] * len(guesses))


def pair(name: str, truth: Any, first: Any, second: Any) -> PairTest:
    metric = METRICS[name]
    return compare(metric, entered(metric, np.asarray(truth), first, second), [(0, 1)])[0]


def sample(metric: Metric, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two guesses, the first better; of labels, the second also guesses one that is never true."""
    if metric.kind == "number":
        truth = random.lognormal(3, 1, n)
        return truth, truth * random.lognormal(0, 0.3, n), truth * random.lognormal(0, 0.5, n)
    truth = random.choice(["a", "b", "c", "d"], n, p=[0.5, 0.3, 0.15, 0.05]).astype(object)
    other = random.choice(["a", "b", "z"], n).astype(object)
    return truth, np.where(random.random(n) < 0.8, truth, "a"), np.where(random.random(n) < 0.6, truth, other)


@pytest.mark.parametrize("name", BY_ROWS)
@pytest.mark.parametrize("n", [3, 30, 400])
def test_a_pair_has_the_same_p_value_in_either_order(name: str, n: int) -> None:
    metric = METRICS[name]
    for seed in range(4):
        truth, *guesses = sample(metric, n, np.random.default_rng(seed))
        if seed == 0:
            guesses[1] = np.full(n, truth[0])
        one, other = (pair(name, truth, *ordered) for ordered in (guesses, guesses[::-1]))
        assert one.p == pytest.approx(other.p)
        assert one.p_adjusted == pytest.approx(other.p_adjusted)
        assert 0 < one.p <= one.p_adjusted <= 1


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "matthews"])
def test_gradients_are_the_derivatives_of_scores(name: str) -> None:
    metric = METRICS[name]
    assert metric.gradient is not None
    truth, guess, _ = sample(metric, 60, np.random.default_rng(1))
    means = entered(metric, truth, guess)[0].statistics.sum(axis=0) / 60
    steps = 1e-6 * np.eye(len(means))
    numeric = (metric.finish(means + steps) - metric.finish(means - steps)) / 2e-6
    assert metric.gradient(means) == pytest.approx(numeric, abs=1e-6)
    assert metric.gradient(np.stack([means, means]))[1] == pytest.approx(metric.gradient(means))


@pytest.mark.parametrize("name", BY_ROWS)
def test_rows_in_one_unit_are_swapped_together(name: str) -> None:
    """Each row repeated three times is no more evidence than the row once."""
    metric = METRICS[name]
    truth, *guesses = sample(metric, 40, np.random.default_rng(5))
    first, second = (one.statistics for one in entered(metric, truth, *guesses))
    rows = np.repeat(np.arange(40), 3)
    once = Pair(first, second, np.arange(40), np.ones(40))
    thrice = Pair(first[rows], second[rows], rows, np.ones(120))
    assert swap_tests(metric, [thrice], 40).p == pytest.approx(swap_tests(metric, [once], 40).p, abs=0.01)
    weighted = Pair(first[rows], second[rows], rows, np.full(120, 1 / 3))
    assert swap_tests(metric, [weighted], 40).p == pytest.approx(swap_tests(metric, [once], 40).p, abs=0.01)


def test_the_weighted_median_is_that_of_rows_repeated() -> None:
    times, values = np.array([1, 2, 3] * 20), np.random.default_rng(1).random(60)
    assert weighted_median(values, times.astype(float)) == np.median(np.repeat(values, times))


def test_p_equals_the_enumeration_of_all_swaps() -> None:
    random = np.random.default_rng(7)
    truth = np.zeros(11)
    first, second = random.lognormal(0, 1, 11), 2.5 * random.lognormal(0, 1, 11)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=11)))
    drawn = np.abs(signs @ (first - second))
    exact = np.mean(drawn >= abs((first - second).sum()) * (1 - 1e-9))
    assert 0.01 < exact < 0.5
    assert pair("mean_absolute_error", truth, first, second).p == pytest.approx(exact, abs=0.02)


def test_p_values_are_near_scipys_permutation_test() -> None:
    random = np.random.default_rng(8)
    for shift in (0.0, 0.05, 0.1, 0.15):
        first = random.normal(1, 0.5, 400)
        second = first + random.normal(shift, 0.6, 400)
        expected = stats.permutation_test(
            (first, second), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=5000, rng=random
        ).pvalue
        metric = METRICS["mean_absolute_error"]
        assert swap_test(metric, np.full(400, -9.0), first, second) == pytest.approx(expected, abs=0.03)


@given(only_first=st.integers(0, 80), only_second=st.integers(0, 80))
def test_mcnemar_equals_statsmodels(only_first: int, only_second: int) -> None:
    expected = mcnemar([[5, only_first], [only_second, 7]], exact=True).pvalue if only_first + only_second else 1.0
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("n", "only_first", "only_second", "p"), [(250, 2, 0, 0.5), (100, 4, 0, 0.125), (100, 6, 0, 0.03125)]
)
def test_every_share_of_rows_is_tested_by_mcnemar(n: int, only_first: int, only_second: int, p: float) -> None:
    rows = np.arange(n)
    first, second = rows >= only_second, (rows < n // 2) | (rows >= n // 2 + only_first)
    yes = {
        "accuracy": np.full(n, "a", dtype=object),
        "exact_match": np.full(n, "a", dtype=object),
        "within_20_percent": np.full(n, 1.0),
    }
    no: dict[str, Any] = {"accuracy": "b", "exact_match": "b", "within_20_percent": 9.0}
    for name, truth in yes.items():
        test = pair(name, truth, np.where(first, truth, no[name]), np.where(second, truth, no[name]))
        assert test.p == pytest.approx(p)
        assert test.p_adjusted >= test.p


def test_copies_of_a_row_are_one_row_and_groups_are_swapped_whole() -> None:
    metric = METRICS["accuracy"]
    truth = np.full(100, "a", dtype=object)
    worse = np.where(np.arange(100) < 8, "b", truth)
    assert pair("accuracy", truth, truth, worse).p == pytest.approx(2 * 0.5**8)
    both = entered(metric, truth, truth, worse)
    copies = Units(np.arange(100) // 2, np.full(100, 0.5), 50)
    assert compare(metric, both, [(0, 1)], units=copies)[0].p == pytest.approx(2 * 0.5**4)
    groups = Units(np.arange(100) // 20, np.ones(100), 5)
    assert compare(metric, both, [(0, 1)], units=groups)[0].p == 1.0


def test_no_p_value_depends_on_the_unit_or_on_rounding() -> None:
    truth = np.full(30, 20.1)
    first, second = truth + 3.3, truth + 3.3
    second[:5] += 10
    tests = [pair("mean_absolute_error", k * truth, k * first, k * second) for k in (1.0, 100.0, 0.001, 1 / 3)]
    assert len(set(tests)) == 1
    assert tests[0].p == pytest.approx(2 / 2**5, abs=0.01)
    # Errors of +0.3 and -0.3 are equal but for the last bit.
    amounts = np.linspace(0.1, 9.7, 30)
    assert pair("mean_absolute_error", amounts, amounts + 0.3, amounts - 0.3).p == 1.0
    assert pair("root_mean_squared_error", amounts, amounts + 0.3, amounts - 0.3).p == 1.0


@pytest.mark.parametrize("name", ["mean_absolute_error", "median_absolute_error", "root_mean_squared_error", "r2"])
def test_no_p_value_depends_on_an_extreme_unit(name: str) -> None:
    truth, first, second = sample(METRICS[name], 60, np.random.default_rng(5))
    far = 200 if name in ("mean_absolute_error", "median_absolute_error") else 140
    tests = {pair(name, k * truth, k * first, k * second) for k in (2.0**0, 10.0**-far, 10.0**far)}
    assert len({round(test.p, 6) for test in tests}) == 1
    assert next(iter(tests)).p < 0.05


def test_equal_means_of_unequal_shape_are_not_told_apart() -> None:
    """Wilcoxon's test told them apart in 93 of 100 tables of 1,000 rows."""
    random = np.random.default_rng(2)
    metric = METRICS["mean_absolute_error"]
    p = []
    for _ in range(300):
        first, second = random.exponential(1.0, 400), np.full(400, 1.0)
        p.append(swap_test(metric, np.zeros(400), first, second, draws=499))
    assert np.mean(np.array(p) <= 0.05) < 0.09


def test_medians_that_are_equal_are_not_told_apart_by_how_many_rows_lie_there() -> None:
    n = 400
    zeros = np.arange(n) / n
    first, second = np.where(zeros < 0.9, 0.0, 5.0), np.where(zeros < 0.55, 0.0, 5.0)
    assert pair("median_absolute_error", np.zeros(n), first, second).p == 1.0
    random = np.random.default_rng(0)
    assert pair("median_absolute_error", np.zeros(n), random.lognormal(0, 1, n), random.lognormal(0.5, 1, n)).p < 0.01


def test_a_clear_difference_has_a_small_p_value_that_is_bounded_from_above() -> None:
    for n in (20, 60, 500, 5000):
        test = pair("mean_absolute_error", np.zeros(n), np.full(n, 1.0), np.full(n, 2.0))
        assert test.p <= 1 / (DRAWS + 1)
        assert test.p >= min(2.0 ** (1 - n), 1e-6) if n < 60 else test.p >= 1e-12
        assert test.p_adjusted == test.p


def test_a_board_tells_apart_what_holm_over_the_same_tests_would() -> None:
    metric, random = METRICS["mean_absolute_error"], np.random.default_rng(4)
    errors = [random.lognormal(0.06 * place, 0.7, 250) for place in range(8)]
    found = compare(metric, entered(metric, np.zeros(250), *errors), list(itertools.combinations(range(8), 2)))
    p = np.array([test.p for test in found])
    adjusted, by_holm = np.array([test.p_adjusted for test in found]), np.array(holm(p.tolist()))
    assert (adjusted >= p).all()
    assert (adjusted < 0.05).sum() >= (by_holm < 0.05).sum() > 3


@pytest.mark.parametrize("differ", [1, 2, 3, 4, 5, 6, 8, 12])
def test_a_near_copy_of_one_hides_no_other_pair(differ: int) -> None:
    truth = np.full(200, "a", dtype=object)
    first, second = truth.copy(), truth.copy()
    first[:8], second[8:32] = "b", "b"
    copy = first.copy()
    copy[100 : 100 + differ] = "b"
    tests = compare(
        METRICS["accuracy"], entered(METRICS["accuracy"], truth, first, second, copy), [(0, 1), (0, 2), (1, 2)]
    )
    assert tests[0].p == pytest.approx(mcnemar_exact(24, 8))
    assert tests[0].p_adjusted < holm([test.p for test in tests])[0] * 1.1


def test_a_pair_that_one_row_decides_hides_no_other_pair() -> None:
    random = np.random.default_rng(5)
    metric, truth = METRICS["mean_absolute_error"], np.zeros(200)
    first = 10 + random.normal(0, 1, 200)
    second = first + random.normal(0.16, 0.8, 200)
    copy = first + random.normal(0, 0.001, 200)
    copy[0] += 5
    found = compare(metric, entered(metric, truth, first, second, copy), [(0, 1), (0, 2), (1, 2)])[0]
    assert 0.01 < found.p < 0.03
    assert found.p_adjusted <= 3 * found.p  # Bonferroni's


@pytest.mark.parametrize("name", ["mean_absolute_error", "macro_f1"])
def test_more_units_than_blocks_are_swapped_in_blocks(name: str) -> None:
    metric, random = METRICS[name], np.random.default_rng(3)
    if metric.kind == "number":
        truth, first = np.zeros(9000), random.normal(5, 1, 9000)
        second, close = first + random.normal(0.03, 1, 9000), 0.01
        expected = stats.ttest_rel(first, second).pvalue
    else:
        truth = random.choice(["a", "b"], 9000).astype(object)
        first = np.where(random.random(9000) < 0.8, truth, "a")
        second, close = np.where(random.random(9000) < 0.81, truth, "a"), 0.06
        gains = (first == truth).astype(float) - (second == truth)
        expected = stats.ttest_1samp(gains, 0).pvalue
    assert pair(name, truth, first, second).p == pytest.approx(expected, abs=close)


def test_the_test_of_macro_f1_is_not_that_of_accuracy() -> None:
    """Nobody says a constant equals a contestant that finds all rows of the rare label, at the price of some others."""
    truth = np.array(["a"] * 90 + ["b"] * 10, dtype=object)
    constant, finder = np.full(100, "a", dtype=object), np.array(["a"] * 70 + ["b"] * 30, dtype=object)
    for name in ("macro_f1", "balanced_accuracy", "matthews"):
        assert pair(name, truth, constant, finder).p < 0.01
    assert pair("accuracy", truth, constant, finder).p == pytest.approx(mcnemar_exact(10, 20))


@pytest.mark.parametrize("name", BY_ROWS)
def test_equal_contestants_and_partial_ones(name: str) -> None:
    metric = METRICS[name]
    truth, first, second = sample(metric, 120, np.random.default_rng(2))
    half = np.arange(120) < 60
    everywhere = np.ones(120, dtype=bool)
    all_answers = answers(metric, truth, [first, second, first, second], [everywhere, everywhere, everywhere, half])
    same, different, on_half = compare(metric, all_answers, [(0, 2), (0, 1), (0, 3)])
    assert (same.p, same.p_adjusted) == (1.0, 1.0)
    assert different.p < 1
    again = compare(metric, entered(metric, truth[half], first[half], second[half]), [(0, 1)])[0]
    assert on_half.p == pytest.approx(again.p, abs=0.03)


def test_ranges_of_ranks() -> None:
    beaten = [("a", "c"), ("a", "d"), ("b", "d"), ("elsewhere", "a")]
    assert rank_ranges(["a", "b", "c", "d"], beaten) == {"a": (1, 2), "b": (1, 3), "c": (2, 4), "d": (3, 4)}
    assert rank_ranges([], []) == {}
