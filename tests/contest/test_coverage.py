"""How often intervals hold the true value, on simulated test parts. The measured table stands in docs/scores.md.

Each simulated test part stands in for a contestant, so that all of a case share their resamples.
"""

from collections.abc import Callable

import numpy as np
import pytest

from kurabe.contest.controls import adjusted
from kurabe.contest.intervals import score_intervals, scored
from kurabe.contest.units import Units
from kurabe.tasks.metrics import METRICS

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
LETTERS = np.array(list("abcd"), dtype=object)


def errors(sigma: float | None) -> Draw:
    """Errors that are half-normal, or lognormal with this sigma."""

    def draw(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(n), random.normal(0, 1, n) if sigma is None else random.lognormal(0, sigma, n)

    return draw


def prices(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Heavy tails: lognormal truths and errors that grow with them."""
    truth = random.lognormal(4, 1.1, n)
    return truth, truth * random.lognormal(0, 0.5, n)


def normal(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    truth = random.normal(0, 1, n)
    return truth, truth + random.normal(0, 0.7, n)


def labels(right: float) -> Draw:
    """Four labels, .4 .3 .2 .1, so many right by knowing and some by chance."""

    def draw(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        truth, chance = (random.choice(4, n, p=[0.4, 0.3, 0.2, 0.1]) for _ in range(2))
        return LETTERS[truth], LETTERS[np.where(random.random(n) < right, truth, chance)]

    return draw


def texts(kind: str) -> Draw:
    """Token F1 of each row: anything, mostly 1, or mostly 0."""

    def draw(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        anything, rare = random.random(n), random.random(n) < 0.04
        values = {"mid": random.beta(0.4, 0.6, n), "high": np.where(rare, anything, 1.0), "low": rare * anything}[kind]
        return np.zeros(n), values

    return draw


CASES: dict[str, tuple[str, Draw]] = {
    "MAE, half-normal": ("mean_absolute_error", errors(None)),
    "MAE, lognormal 0.5": ("mean_absolute_error", errors(0.5)),
    "MAE, lognormal 1": ("mean_absolute_error", errors(1.0)),
    "RMSLE": ("root_mean_squared_log_error", prices),
    "median": ("median_absolute_error", errors(1.0)),
    "R², normal": ("r2", normal),
    "within 20 %": ("within_20_percent", prices),
    **{
        f"{metric}, {right}": (metric, labels(right))
        for metric in ("accuracy", "macro_f1", "balanced_accuracy", "matthews")
        for right in (0.6, 0.97)
    },
    **{f"token F1, {kind}": ("token_f1", texts(kind)) for kind in ("mid", "high", "low")},
}
HEAVY: dict[str, tuple[str, Draw]] = {
    "MAE, lognormal 1.5": ("mean_absolute_error", errors(1.5)),
    "RMSE, lognormal 1": ("root_mean_squared_error", errors(1.0)),
    "RMSE, prices": ("root_mean_squared_error", prices),
    "R², prices": ("r2", prices),
}
TODAY = {"MAE, lognormal 1.5": 0.906, "RMSE, prices": 0.73, "R², prices": 0.80}  # of BCa, at 250 rows


def coverage(name: str, draw: Draw, n: int, tables: int, seed: int = 12) -> float:
    """The share of simulated tables whose interval holds the score of a million rows."""
    metric, random = METRICS[name], np.random.default_rng(seed)

    def statistics(n: int) -> np.ndarray:
        truth, guess = draw(random, n)
        return guess[:, None] if name == "token_f1" else metric.statistics(truth, guess)

    true = scored(metric, statistics(1_000_000)).score(metric)
    made = [scored(metric, statistics(n)) for _ in range(tables)]
    found = np.array(score_intervals(metric, made, typical=1.0, resamples=4000))
    assert (found[:, 0] < found[:, 1]).all()
    return float(np.mean((found[:, 0] <= true) & (true <= found[:, 1])))


@pytest.mark.parametrize("case", ["MAE, lognormal 1", "median", "macro_f1, 0.6", "token F1, high"])
def test_intervals_of_100_rows_hold_the_true_value(case: str) -> None:
    assert 0.90 <= coverage(*CASES[case], 100, 400) <= 0.995  # a small simulation: its own error is over a point


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_coverage_is_near_95_percent(case: str) -> None:
    """93 to 97 % from 100 rows on and at least 90 % at 30, with room for the simulation's own error (three sigma)."""
    for n, tables in ((30, 2000), (100, 2000), (250, 2000), (1000, 1000)):
        covered = coverage(*CASES[case], n, tables)
        room = 3 * np.sqrt(0.05 * 0.95 / tables)
        print(f"{case}: {n} rows {100 * covered:.1f} %")
        assert covered >= (0.90 if n == 30 else 0.93) - room
        assert n == 30 or covered <= 0.97 + room


@pytest.mark.slow
@pytest.mark.parametrize("case", HEAVY)
def test_coverage_on_heavy_tails_is_better_than_that_of_bca(case: str) -> None:
    for n in (30, 100, 250, 1000):
        covered = coverage(*HEAVY[case], n, 1000)
        print(f"{case}: {n} rows {100 * covered:.1f} %")
        if n == 250 and case in TODAY:
            assert covered > TODAY[case]


def grouped(random: np.random.Generator, groups: int, size: int, r: float) -> np.ndarray:
    """(groups * size,) standard normal values that correlate at r within a group."""
    shared = np.repeat(random.normal(size=groups), size)
    return np.asarray(np.sqrt(r) * shared + np.sqrt(1 - r) * random.normal(size=groups * size))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean_absolute_error", "accuracy", "token_f1", "root_mean_squared_error"])
@pytest.mark.parametrize("rows", [100, 250, 1000])
@pytest.mark.parametrize("kind", ["groups of 5", "repeated five times"])
def test_coverage_where_rows_belong_together(name: str, rows: int, kind: str) -> None:
    metric, random = METRICS[name], np.random.default_rng(3)
    tables, n = 1000, rows // 5
    codes = np.repeat(np.arange(n), 5)
    units = Units(codes, np.full(rows, 1.0 if kind == "groups of 5" else 0.2), n)

    def values(groups: int) -> np.ndarray:
        hidden = grouped(random, groups, 5, 0.3 if kind == "groups of 5" else 1.0)
        if name == "accuracy":
            return (hidden < 0.84).astype(float)[:, None]
        if name == "token_f1":
            return np.asarray(1 / (1 + np.exp(-2 * hidden)))[:, None]
        return np.exp(0.5 * hidden)[:, None]

    true = float(metric.finish(values(400_000).mean(axis=0)))
    made = [scored(metric, values(n), units) for _ in range(tables)]
    found = np.array(score_intervals(metric, made, typical=1.0, resamples=4000))
    covered = np.mean((found[:, 0] <= true) & (true <= found[:, 1]))
    print(f"{name}, {kind}: {rows} rows {100 * covered:.1f} %")
    assert 0.93 - 0.02 <= covered <= 0.97 + 0.02


def sampled(shape: str, alike: float, tables: int, seed: int) -> tuple[float, float]:
    """(coverage, median width beside that without controls) of contestants that answered 100 of 1,000 rows, whose
    errors correlate at `alike` with those of four others."""
    metric, random = METRICS["mean_absolute_error"], np.random.default_rng(seed)

    def draw(n: int) -> list[np.ndarray]:
        shared = random.normal(size=n)
        hidden = [np.sqrt(alike) * shared + np.sqrt(1 - alike) * random.normal(size=n) for _ in range(5)]
        return [(np.maximum(5 + one, 0.0) if shape == "normal" else np.exp(one))[:, None] for one in hidden]

    true, held, widths = float(draw(1_000_000)[0].mean()), [], []
    for table in range(tables):
        own, *others = draw(1000)
        one, sample = scored(metric, own[:100]), np.arange(100)
        found = adjusted(metric, one, [scored(metric, other) for other in others], sample, resamples=1000, seed=table)
        plain = score_intervals(metric, [one], resamples=1000, seed=table)[0]
        low, high = found.interval if found is not None else plain
        held.append(low <= true <= high)
        widths.append((high - low) / (plain[1] - plain[0]))
    return float(np.mean(held)), float(np.median(widths))


def test_control_variates_narrow_the_interval() -> None:
    covered, width = sampled("normal", 0.7, 60, 0)
    assert covered >= 0.85  # of 60 tables
    assert width <= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["normal", "lognormal"])
def test_coverage_with_control_variates(shape: str) -> None:
    covered, width = sampled(shape, 0.7 if shape == "normal" else 0.8, 1500, 1)  # e^x correlates less than x
    print(f"{shape}: {100 * covered:.1f} %, {width:.2f} as wide")
    assert 0.93 - 0.017 <= covered <= 0.97 + 0.017
    assert width <= 0.8
