"""What holds of every interval, whatever the data: never of zero width, within the bounds, in any unit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import stdtrit

from kurabe.contest.intervals import (
    Interval,
    Scored,
    difference_intervals,
    gradient,
    half_made_by,
    influences,
    score_intervals,
    scored,
    standard_error,
    wilson_interval,
)
from kurabe.contest.units import Units, single_rows
from kurabe.tasks.metrics import METRICS, Metric

BY_ROWS = [name for name, metric in METRICS.items() if metric.kind != "text"]
MAE = METRICS["mean_absolute_error"]


def sample(metric: Metric, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two guesses, the first better."""
    random = np.random.default_rng(seed)
    if metric.kind == "number":
        truth = random.lognormal(3, 1, n)
        return truth, truth * random.lognormal(0, 0.3, n), truth * random.lognormal(0, 0.5, n)
    truth = random.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]).astype(object)
    other = random.choice(["a", "b", "c"], n).astype(object)
    return truth, np.where(random.random(n) < 0.8, truth, other), np.where(random.random(n) < 0.6, truth, other)


def of(metric: Metric, truth: np.ndarray, guess: np.ndarray, units: Units | None = None) -> Scored:
    return scored(metric, metric.statistics(truth, guess), units)


def interval(metric: Metric, one: Scored, typical: float = 10.0) -> Interval:
    return score_intervals(metric, [one], typical=typical, resamples=1000)[0]


@pytest.mark.parametrize("name", BY_ROWS)
@pytest.mark.parametrize("n", [2, 5, 30, 250])
@pytest.mark.parametrize("which", ["usual", "all right", "all wrong", "one wrong"])
def test_an_interval_has_a_width_holds_the_score_and_keeps_to_the_bounds(name: str, n: int, which: str) -> None:
    metric = METRICS[name]
    truth, guess, _ = sample(metric, n, n)
    if which != "usual":
        wrong = truth * 3.0 if metric.kind == "number" else np.full(n, "z", dtype=object)
        guess = wrong if which == "all wrong" else truth.copy()
        if which == "one wrong":
            guess[0] = wrong[0]
    one = of(metric, truth, guess)
    score = one.score(metric)
    low, high = interval(metric, one)
    assert low < high
    assert low - 1e-12 <= score <= high + 1e-12
    least, most = metric.bounds or (-np.inf if name == "r2" else 0.0, 1.0 if name == "r2" else np.inf)
    assert least <= low
    assert high <= most


@pytest.mark.parametrize("name", ["mean_absolute_error", "root_mean_squared_error", "median_absolute_error"])
def test_an_interval_of_cents_is_a_hundred_times_that_of_dollars(name: str) -> None:
    metric = METRICS[name]
    truth, guess, other = sample(metric, 60, 3)
    dollars, cents = ([of(metric, truth * unit, one * unit) for one in (guess, other)] for unit in (1.0, 100.0))
    assert interval(metric, cents[0]) == pytest.approx(np.multiply(interval(metric, dollars[0]), 100))
    first, second = (difference_intervals(metric, one, [(0, 1)], resamples=1000)[0] for one in (dollars, cents))
    assert second == pytest.approx(np.multiply(first, 100))


@pytest.mark.parametrize("unit", [1e-200, 1e-160, 1e160, 1e200])
@pytest.mark.parametrize("name", ["mean_absolute_error", "median_absolute_error", "root_mean_squared_error", "r2"])
def test_no_interval_depends_on_the_unit(name: str, unit: float) -> None:
    metric = METRICS[name]
    if name not in ("mean_absolute_error", "median_absolute_error"):
        unit = unit ** (0.5 if abs(np.log10(unit)) < 200 else 0.65)  # below 1e-154 a square is 0: there is no score
    truth, guess, other = sample(metric, 60, 3)
    whole, extreme = ([of(metric, truth * k, one * k) for one in (guess, other)] for k in (1.0, unit))
    size = 1.0 if name == "r2" else unit
    assert interval(metric, extreme[0], 10 * size) == pytest.approx(
        np.multiply(interval(metric, whole[0]), size), rel=1e-6, abs=0
    )
    first, second = (difference_intervals(metric, one, [(0, 1)], resamples=1000)[0] for one in (whole, extreme))
    assert second == pytest.approx(np.multiply(first, size), rel=1e-6, abs=0)


def test_a_share_of_rows_has_wilson_s_interval() -> None:
    truth = np.array(["a"] * 40, dtype=object)
    guess = np.array(["a"] * 37 + ["b"] * 3, dtype=object)
    assert interval(METRICS["accuracy"], of(METRICS["accuracy"], truth, guess)) == pytest.approx(
        wilson_interval(37, 40)
    )


def test_the_median_s_interval_is_that_of_order_statistics() -> None:
    errors = np.random.default_rng(0).lognormal(size=101)
    metric = METRICS["median_absolute_error"]
    low, high = interval(metric, scored(metric, errors[:, None]))
    exact = stats.quantile_test(errors, q=0.5, p=0.5).confidence_interval(0.95)
    ordered = np.sort(errors)
    for mine, theirs in ((low, exact.low), (high, exact.high)):
        assert abs(np.searchsorted(ordered, mine) - np.searchsorted(ordered, theirs)) <= 1


def test_bootstrap_t_equals_a_plain_loop() -> None:
    errors = np.random.default_rng(5).lognormal(size=80)
    mine = score_intervals(MAE, [scored(MAE, errors[:, None])], resamples=20_000, seed=1)[0]
    random, values = np.random.default_rng(6), []
    for _ in range(20_000):
        drawn = random.choice(errors, 80)
        values.append(np.log(drawn.mean() / errors.mean()) / (drawn.std(ddof=1) / np.sqrt(80) / drawn.mean()))
    low, high = np.quantile(values, [0.025, 0.975])
    spread = errors.std(ddof=1) / np.sqrt(80) / errors.mean()
    expected = errors.mean() * np.exp([-high * spread, -low * spread])
    assert mine == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", [name for name in BY_ROWS if name != "median_absolute_error"])
def test_influences_are_what_leaving_a_row_out_does(name: str) -> None:
    metric = METRICS[name]
    truth, guess, _ = sample(metric, 400, 9)
    whole = metric.score(truth, guess)
    moved = influences(metric, of(metric, truth, guess))
    for row in range(0, 400, 57):
        keep = np.arange(400) != row
        assert (whole - metric.score(truth[keep], guess[keep])) * 399 == pytest.approx(moved[row], rel=0.1, abs=0.05)
    assert moved.mean() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in BY_ROWS if name != "median_absolute_error"])
def test_gradients_are_the_slopes_of_the_score(name: str) -> None:
    metric = METRICS[name]
    truth, guess, _ = sample(metric, 300, 2)
    means = of(metric, truth, guess).means
    for place in range(len(means)):
        step = np.zeros_like(means)
        step[place] = 1e-6 * max(abs(means[place]), 1e-3)
        slope = (metric.finish(means + step) - metric.finish(means - step)) / (2 * step[place])
        assert gradient(metric, means)[place] == pytest.approx(float(slope), rel=1e-3, abs=1e-6)


def test_rows_repeated_are_the_rows_once_and_groups_are_less_than_their_rows() -> None:
    truth, guess, other = sample(MAE, 40, 4)
    codes = np.tile(np.arange(40), 5)
    repeated = Units(codes, np.full(200, 0.2), 40)
    for name in ("mean_absolute_error", "root_mean_squared_error", "median_absolute_error", "r2"):
        metric = METRICS[name]
        alone = [of(metric, truth, one) for one in (guess, other)]
        five = [of(metric, np.tile(truth, 5), np.tile(one, 5), repeated) for one in (guess, other)]
        assert five[0].score(metric) == pytest.approx(alone[0].score(metric))
        if name != "median_absolute_error":
            assert interval(metric, five[0]) == pytest.approx(interval(metric, alone[0]))
        mine, theirs = (difference_intervals(metric, one, [(0, 1)], resamples=500)[0] for one in (five, alone))
        if name != "median_absolute_error":
            assert mine == pytest.approx(theirs)
    grouped = of(MAE, truth, guess, Units(np.arange(40) // 5, np.ones(40), 8))
    assert standard_error(influences(MAE, grouped)) > 0
    low, high = interval(MAE, grouped)
    plain = interval(MAE, of(MAE, truth, guess))
    assert high - low > 0.5 * (plain[1] - plain[0])


@pytest.mark.parametrize("name", BY_ROWS)
def test_differences_are_of_zero_width_only_between_equal_answers(name: str) -> None:
    metric = METRICS[name]
    truth, guess, other = sample(metric, 50, 8)
    made = [of(metric, truth, one) for one in (guess, other, guess.copy())]
    same, apart, back = difference_intervals(metric, made, [(0, 2), (0, 1), (1, 0)], resamples=1000)
    assert same == (0.0, 0.0)
    assert apart[0] < apart[1]
    assert apart == pytest.approx((-back[1], -back[0]))
    assert apart[0] < made[0].score(metric) - made[1].score(metric) < apart[1]


def test_a_constant_difference_is_uncertain_too() -> None:
    errors = np.arange(1.0, 51.0)[:, None]
    low, high = difference_intervals(MAE, [scored(MAE, errors + 2), scored(MAE, errors)], [(0, 1)])[0]
    assert low < 2 < high


def test_the_seed_decides_and_nothing_else() -> None:
    made = [scored(MAE, np.random.default_rng(seed).lognormal(size=(60, 1))) for seed in range(3)]
    assert score_intervals(MAE, made, seed=1) == score_intervals(MAE, made, seed=1)
    assert score_intervals(MAE, made, seed=1) != score_intervals(MAE, made, seed=2)
    assert score_intervals(MAE, made[:1], seed=1)[0] == pytest.approx(score_intervals(MAE, made, seed=1)[0])


def test_a_score_that_is_not_defined_has_no_interval() -> None:
    r2 = METRICS["r2"]
    assert np.isnan(interval(r2, of(r2, np.ones(9), np.arange(9.0)))).all()


def test_two_units_have_student_s_interval() -> None:
    low, high = interval(MAE, scored(MAE, np.array([[1.0], [3.0]])))
    reach = stdtrit(1, 0.975) * 1.0 / 2.0
    assert (low, high) == pytest.approx((2 * np.exp(-reach), 2 * np.exp(reach)))


def test_a_handful_of_rows_that_make_half_of_an_error_is_known() -> None:
    assert half_made_by(MAE, scored(MAE, np.r_[np.ones(99), 200.0][:, None])) == 1
    assert half_made_by(MAE, scored(MAE, np.r_[np.ones(96), np.full(4, 30.0)][:, None])) == 4
    assert half_made_by(MAE, scored(MAE, np.ones((100, 1)))) is None
    assert half_made_by(MAE, scored(MAE, np.zeros((100, 1)))) is None
    assert half_made_by(METRICS["accuracy"], scored(METRICS["accuracy"], np.ones((100, 1)))) is None


@settings(max_examples=60)
@given(
    errors=st.lists(st.just(0.0) | st.floats(1e-100, 1e100), min_size=2, max_size=40),
    codes=st.lists(st.integers(0, 6), min_size=40, max_size=40),
)
def test_any_errors_in_any_groups_have_an_interval(errors: list[float], codes: list[int]) -> None:
    """But for errors below 1e-100, whose squares vanish."""
    kept, units = np.unique(codes[: len(errors)], return_inverse=True)
    made = scored(MAE, np.array(errors)[:, None], Units(units, np.ones(len(errors)), len(kept)))
    if len(kept) >= 2:
        low, high = score_intervals(MAE, [made], typical=1.0, resamples=200)[0]
        assert 0 <= low <= made.score(MAE) * (1 + 1e-9)
        assert made.score(MAE) * (1 - 1e-9) <= high
        assert low < high


def test_plain_units_keep_the_rows_as_they_are() -> None:
    rows = np.arange(6.0)[:, None]
    assert scored(MAE, rows).sums is not None
    assert np.array_equal(np.asarray(scored(MAE, rows, single_rows(6)).sums), rows)


def test_one_wild_answer_leaves_an_interval_that_can_be_read() -> None:
    errors = np.r_[np.random.default_rng(0).lognormal(3, 0.5, 249), 1e7]
    low, high = score_intervals(MAE, [scored(MAE, errors[:, None])])[0]
    assert low < errors.mean() < high < 1000 * errors.mean()
    few = np.r_[np.ones(97), 1.1, 1.2, 9.0]
    low, high = score_intervals(MAE, [scored(MAE, few[:, None])])[0]
    assert 0 < low < few.mean() < high < 1000


@pytest.mark.parametrize("name", ["mean_absolute_error", "r2", "macro_f1", "median_absolute_error"])
def test_quick_intervals_are_near_the_resampled_ones(name: str) -> None:
    metric = METRICS[name]
    truth, guess, _ = sample(metric, 500, 1)
    one = of(metric, truth, guess)
    slow, quick = score_intervals(metric, [one])[0], score_intervals(metric, [one], resamples=0)[0]
    assert quick == pytest.approx(slow, abs=0.3 * (slow[1] - slow[0]))
