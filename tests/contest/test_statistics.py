"""Intervals against scipy and statsmodels on the same data, and their coverage on simulated data."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from kurabe.contest.resample import draw_counts, jackknife_scores, resampled_scores
from kurabe.contest.statistics import Bootstrap, bca, bootstrap, holm, wilson_interval
from kurabe.tasks.metrics import METRICS, Metric

MAE = METRICS["mean_absolute_error"]
BY_ROWS = [name for name, metric in METRICS.items() if metric.kind != "text"]


def sample(metric: Metric, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two guesses, the first better."""
    if metric.kind == "number":
        truth = random.lognormal(3, 1, n)
        return truth, truth * random.lognormal(0, 0.3, n), truth * random.lognormal(0, 0.5, n)
    truth = random.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]).astype(object)
    other = random.choice(["a", "b", "c"], n).astype(object)
    return truth, np.where(random.random(n) < 0.8, truth, other), np.where(random.random(n) < 0.6, truth, other)


@pytest.mark.parametrize("n", [1, 7, 250, 70_001])
def test_counts_are_those_of_n_uniform_draws(n: int) -> None:
    counts = draw_counts(n, 40, np.random.default_rng(1))
    assert counts.shape == (40, n)
    assert (counts.sum(axis=1) == n).all()
    if n > 1000:
        observed = np.bincount(counts.ravel().astype(int), minlength=8)
        expected = counts.size * stats.binom.pmf(np.arange(len(observed)), n, 1 / n)
        assert np.abs(observed - expected).max() < 5 * np.sqrt(expected.max())
        halves = counts[:, : n // 2].sum(axis=1)
        assert abs(halves.mean() - n / 2) < 5 * np.sqrt(n / 4 / 40)
        assert 0.4 < halves.std() / np.sqrt(n / 4) < 1.6


@pytest.mark.parametrize("name", BY_ROWS)
@pytest.mark.parametrize("n", [2, 3, 60, 61])
def test_jackknife_equals_leaving_each_row_out(name: str, n: int) -> None:
    metric = METRICS[name]
    truth, guess, _ = sample(metric, n, np.random.default_rng(n))
    keep = ~np.eye(n, dtype=bool)
    expected = [metric.score(truth[mask], guess[mask]) for mask in keep]
    assert jackknife_scores(metric, metric.statistics(truth, guess)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", BY_ROWS)
@pytest.mark.parametrize("n", [2, 3, 60, 2001])
def test_scores_on_resamples_equal_scores_of_the_rows_drawn(name: str, n: int) -> None:
    metric = METRICS[name]
    truth, guess, other = sample(metric, n, np.random.default_rng(n))
    rows = [metric.statistics(truth, one) for one in (guess, other)]
    scores = resampled_scores(metric, rows, 20, seed=5)
    counts = draw_counts(n, 20, np.random.Generator(np.random.SFC64([5, 0])))
    for score, count in zip(scores, counts, strict=True):
        drawn = np.repeat(np.arange(n), count.astype(int))
        expected = [metric.score(truth[drawn], one[drawn]) for one in (guess, other)]
        assert score == pytest.approx(expected, nan_ok=True)


def test_many_labels_are_scored_sparsely_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = METRICS["macro_f1"]
    truth, guess, other = sample(metric, 100, np.random.default_rng(0))
    rows = [metric.statistics(truth, one) for one in (guess, other)]
    dense = resampled_scores(metric, rows, 30, seed=1)
    monkeypatch.setattr("kurabe.contest.resample._DENSE_BYTES", 0)
    assert resampled_scores(metric, rows, 30, seed=1) == pytest.approx(dense)


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("mean_absolute_error", lambda truth, guess: np.abs(truth - guess).mean()),
        ("median_absolute_error", lambda truth, guess: np.median(np.abs(truth - guess))),
        ("root_mean_squared_error", lambda truth, guess: np.sqrt(((truth - guess) ** 2).mean())),
        ("r2", lambda truth, guess: 1 - ((truth - guess) ** 2).mean() / truth.var()),
    ],
)
def test_intervals_equal_scipys_bca(name: str, statistic: Callable[[np.ndarray, np.ndarray], float]) -> None:
    metric = METRICS[name]
    truth, guess, _ = sample(metric, 200, np.random.default_rng(11))
    expected = stats.bootstrap(
        (truth, guess),
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=5000,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    found = bootstrap(metric, [metric.statistics(truth, guess)], seed=3).intervals[0]
    # The ends of two runs of scipy differ by about a twentieth of the standard error.
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.2 * expected.standard_error)


def test_differences_equal_scipys_bca() -> None:
    random = np.random.default_rng(4)
    first = random.lognormal(0, 1, 300)
    second = first * random.lognormal(0.05, 0.4, 300)
    found = bootstrap(MAE, [first[:, None], second[:, None]], [(0, 1)], resamples=20_000).differences[0]

    expected = stats.bootstrap((first - second,), np.mean, n_resamples=20_000, method="BCa", rng=random)
    error = (first - second).std() / np.sqrt(300)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.interval == pytest.approx(tuple(expected.confidence_interval), abs=0.15 * error)


def test_equal_contestants_differ_by_nothing() -> None:
    for metric in METRICS.values():
        if metric.kind != "text":
            truth, guess, other = sample(metric, 120, np.random.default_rng(2))
            rows = [metric.statistics(truth, one) for one in (guess, other, guess)]
            same, different = bootstrap(metric, rows, [(0, 2), (0, 1)], resamples=500).differences
            assert (same.difference, same.interval) == (0.0, (0.0, 0.0))
            assert different.interval[0] < different.difference


def test_the_seed_decides_and_nothing_else() -> None:
    errors = np.random.default_rng(0).lognormal(size=(400, 3, 1))
    rows = [errors[:, contestant] for contestant in range(3)]
    assert bootstrap(MAE, rows, [(0, 1)], resamples=700, seed=1) == bootstrap(
        MAE, rows, [(0, 1)], resamples=700, seed=1
    )
    assert bootstrap(MAE, rows, resamples=700, seed=1) != bootstrap(MAE, rows, resamples=700, seed=2)
    alone = bootstrap(MAE, rows[:1], resamples=700, seed=1)
    assert alone.intervals[0] == pytest.approx(bootstrap(MAE, rows, resamples=700, seed=1).intervals[0])


def test_a_score_that_does_not_vary_or_is_not_defined() -> None:
    found = bootstrap(MAE, [np.full((9, 1), 2.0)], resamples=50)
    assert (found.scores, found.intervals) == ((2.0,), ((2.0, 2.0),))
    r2 = METRICS["r2"]
    undefined = bootstrap(r2, [r2.statistics(np.full(5, 1.0), np.arange(5.0))], resamples=50)
    assert np.isnan([*undefined.scores, *undefined.intervals[0]]).all()
    nothing = bca(1.0, np.full(4, np.nan), np.ones(3))
    assert np.isnan(nothing).all()


@given(right=st.integers(0, 60), wrong=st.integers(0, 60))
def test_wilson_equals_statsmodels(right: int, wrong: int) -> None:
    if right + wrong:
        expected = proportion_confint(right, right + wrong, method="wilson")
        assert wilson_interval(right, right + wrong) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_equals_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_holm_of_nothing() -> None:
    assert holm([]) == []


def lognormal(sigma: float) -> Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]:
    return lambda random, n: (np.zeros(n), random.lognormal(0, sigma, n))


def right_with(share: float) -> Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]:
    return lambda random, n: (np.zeros(n), (random.random(n) >= share).astype(float))


def three_labels(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    truth = random.choice(3, n, p=[0.7, 0.2, 0.1])
    return truth.astype(object), np.where(random.random(n) < 0.75, truth, random.choice(3, n)).astype(object)


@pytest.mark.parametrize(
    ("name", "draw", "n", "value", "tables"),
    [
        ("mean_absolute_error", lambda random, n: (np.zeros(n), random.normal(0, 1, n)), 250, np.sqrt(2 / np.pi), 2500),
        ("mean_absolute_error", lognormal(0.5), 250, np.exp(0.125), 2500),
        ("mean_absolute_error", lognormal(1.0), 1000, np.exp(0.5), 2500),
        ("median_absolute_error", lognormal(1.0), 250, 1.0, 300),
        ("accuracy", right_with(0.5), 250, 0.5, 2500),
        ("accuracy", right_with(0.8), 250, 0.8, 2500),
        ("accuracy", right_with(0.95), 250, 0.95, 2500),
        ("macro_f1", three_labels, 250, None, 500),
        ("matthews", three_labels, 250, None, 500),
    ],
)
def test_coverage_is_near_95_percent(
    name: str,
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]],
    n: int,
    value: float | None,
    tables: int,
) -> None:
    """Each simulated table stands in for a contestant, so that all share the resamples and the test is quick."""
    metric, random = METRICS[name], np.random.default_rng(12)
    true = metric.score(*draw(random, 400_000)) if value is None else value
    rows = [metric.statistics(*draw(random, n)) for _ in range(tables)]
    resamples = 10_000 if tables == 2500 else 2000
    found: Bootstrap = bootstrap(metric, rows, resamples=resamples)
    covered = np.mean([low <= true <= high for low, high in found.intervals])
    # With 2,500 tables the simulation's own error is half a percent; with fewer there must be room for it.
    room = 0.0 if tables == 2500 else 2 * np.sqrt(0.05 * 0.95 / tables)
    assert 0.93 - room <= covered <= 0.97 + room
