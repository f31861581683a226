"""Resamples, Wilson's interval and Holm's adjustment against scipy and statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from kurabe.contest.intervals import wilson_interval
from kurabe.contest.resample import draw_counts
from kurabe.contest.statistics import holm


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
