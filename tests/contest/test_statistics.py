"""Resamples, Wilson's interval and Holm's adjustment against scipy and statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from kurabe.contest.intervals import wilson_interval
from kurabe.contest.resample import draw_counts, resampled_scores
from kurabe.contest.statistics import holm
from kurabe.tasks.metrics import METRICS, Metric

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
