import itertools
import math
from datetime import time, timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import r2_score
from statsmodels.stats.proportion import proportion_confint

from kurabe.contest.board import Board
from kurabe.contest.units import single_rows
from kurabe.report import scores
from kurabe.report.axis import axis
from kurabe.report.scores import accumulated, scored, slice_scores, slicings
from kurabe.tasks.metrics import METRICS, Metric, Statistics


def numbers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.lognormal(3, 1, n)
    return truth, truth * rng.lognormal(0, 0.5, n)


def estimate(metric: Metric, rows: Statistics) -> scores.Estimate:
    """The estimate of rows of which each is a unit."""
    return scores.estimate(metric, rows, single_rows(rows.shape[0]))


def test_a_mean_error_has_student_s_interval_on_the_log_scale() -> None:
    truth, guess = numbers(300)
    metric = METRICS["mean_absolute_error"]
    score, low, high = estimate(metric, metric.statistics(truth, guess))
    error = np.abs(truth - guess)
    assert score == pytest.approx(error.mean())
    reach = stats.t.ppf(0.975, 299) * stats.sem(error) / error.mean()
    assert (low, high) == pytest.approx((error.mean() * np.exp(-reach), error.mean() * np.exp(reach)), rel=1e-6)


def test_a_proportion_has_wilsons_interval() -> None:
    rng = np.random.default_rng(1)
    truth, guess = rng.choice(["a", "b"], (2, 80)).astype(object)
    metric = METRICS["accuracy"]
    score, low, high = estimate(metric, metric.statistics(truth, guess))
    assert score == (truth == guess).mean()
    assert (low, high) == pytest.approx(proportion_confint((truth == guess).sum(), 80, method="wilson"), rel=1e-5)


@pytest.mark.parametrize("name", ["root_mean_squared_error", "root_mean_squared_log_error", "r2"])
def test_other_intervals_are_near_the_bootstraps(name: str) -> None:
    truth, guess = numbers(2000, 3)
    metric = METRICS[name]
    score, low, high = estimate(metric, metric.statistics(truth, guess))
    rng = np.random.default_rng(0)
    resampled = [metric.score(truth[pick], guess[pick]) for pick in rng.integers(0, 2000, (800, 2000))]
    assert score == pytest.approx(metric.score(truth, guess))
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(resampled), rel=0.25)
    if name == "r2":
        assert score == pytest.approx(r2_score(truth, guess))


def test_labels_counted_sparsely_are_near_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    truth = rng.choice(["a", "b", "c"], 900).astype(object)
    guess = np.where(rng.random(900) < 0.7, truth, rng.choice(["a", "b", "c"], 900).astype(object))
    metric = METRICS["macro_f1"]
    _, low, high = estimate(metric, metric.statistics(truth, guess))
    resampled = [metric.score(truth[pick], guess[pick]) for pick in rng.integers(0, 900, (500, 900))]
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(resampled), rel=0.25)


def test_the_medians_interval_covers_it_at_its_rate() -> None:
    metric, rng = METRICS["median_absolute_error"], np.random.default_rng(5)
    inside = 0
    for _ in range(1000):
        error = rng.exponential(1, 80)
        score, low, high = estimate(metric, error[:, None])
        assert score == np.median(error)
        inside += low <= math.log(2) <= high
    assert 930 <= inside <= 980


def test_few_rows() -> None:
    metric = METRICS["mean_absolute_error"]
    assert all(map(math.isnan, estimate(metric, np.empty((0, 1)))))
    score, low, high = estimate(metric, np.array([[3.0]]))
    assert score == 3.0
    assert math.isnan(low)
    assert math.isnan(high)
    score, low, high = estimate(METRICS["median_absolute_error"], np.array([[3.0]]))
    assert score == 3.0
    assert math.isnan(low)


@pytest.mark.parametrize("name", ["macro_f1", "accuracy", "balanced_accuracy", "matthews"])
def test_no_interval_leaves_the_bounds_of_its_metric_or_has_no_width(name: str) -> None:
    truth = np.array(["a", "b"] * 6, dtype=object)
    metric = METRICS[name]
    for guess in (truth, np.array(["a"] * 12, dtype=object)):
        score, low, high = estimate(metric, metric.statistics(truth, guess))
        assert (metric.bounds or (0, 0))[0] <= low <= score <= high <= 1
        assert low < high


def test_an_interval_is_as_wide_whatever_the_unit() -> None:
    truth, guess = numbers(200)
    metric = METRICS["root_mean_squared_error"]
    usual = np.array(estimate(metric, metric.statistics(truth, guess)))
    tiny = np.array(estimate(metric, metric.statistics(truth * 1e-9, guess * 1e-9)))
    np.testing.assert_allclose(tiny, usual * 1e-9, rtol=1e-6)


def test_rows_accumulate_to_the_boards_score(boards: dict[str, Board]) -> None:
    board = boards["every_status"]
    for entry in board.evidence.entries:
        row = board.row(entry.name)
        if row.score is None:
            continue
        one = scored(board.evidence, entry)
        steps = accumulated(METRICS[board.evidence.metric], one)
        assert [n for n, _ in steps] == sorted({n for n, _ in steps})
        assert steps[-1][0] == row.answered
        assert steps[-1][1][0] == pytest.approx(row.score)


def test_slices_part_the_rows_and_their_scores_are_those_of_the_rows(boards: dict[str, Board]) -> None:
    evidence = boards["number"].evidence
    metric = METRICS[evidence.metric]
    one = scored(evidence, evidence.entries[0])
    cuts = {cut.column: cut for cut in slicings(evidence)}
    assert {"price", "category", "weight", "used"} <= cuts.keys()
    for cut in cuts.values():
        estimates = slice_scores(metric, one, cut)
        assert sum(n for n, _ in estimates) == len(evidence.truth)
        for code, (n, (score, low, high)) in enumerate(estimates):
            members = cut.codes == code
            assert n == members.sum()
            assert score == pytest.approx(one.loss[members].mean())
            assert low < score < high
    category = cuts["category"]
    for code, label in enumerate(category.labels):
        assert ((evidence.rows["category"] == label).to_numpy() == (category.codes == code)).all()
    weights = evidence.rows["weight"].to_numpy()
    limits = [weights[cuts["weight"].codes == code] for code in range(5)]
    assert all(a.max() < b.min() for a, b in itertools.pairwise(limits))
    assert max(map(len, limits)) - min(map(len, limits)) <= 5


def test_without_the_target_among_the_columns_the_truth_is_a_slice(boards: dict[str, Board]) -> None:
    evidence = boards["number"].evidence
    changed = type(evidence)(**(evidence.__dict__ | {"rows": evidence.rows.drop("price")}))
    assert slicings(changed)[0].column == "truth"
    assert "truth" not in [cut.column for cut in slicings(evidence)]


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize(
    "column",
    [
        pl.Series([timedelta(hours=i % 3) for i in range(400)]), pl.Series([timedelta(hours=i) for i in range(400)]),
        pl.Series([b"\xff%d" % (i % 3) for i in range(400)]), pl.Series([{"a": i % 3} for i in range(400)]),
        pl.Series([object()] * 400, dtype=pl.Object), pl.Series([[i % 3] for i in range(400)]),
        pl.Series([time(i % 3) for i in range(400)]), pl.Series([1e300 * i for i in range(400)]),
    ],
    ids=["few durations", "durations", "bytes", "struct", "object", "list", "time", "huge"],
)  # fmt: skip
def test_a_column_of_any_type_is_cut_or_left_out(boards: dict[str, Board], kind: str, column: pl.Series) -> None:
    evidence = boards[kind].evidence
    n = len(evidence.truth)
    rows = pl.DataFrame({"input": evidence.rows["input"], "column": column.head(n)})
    cut = [cut for cut in slicings(type(evidence)(**(evidence.__dict__ | {"rows": rows}))) if cut.column == "column"]
    assert len(cut) == (column.dtype.is_temporal() or column.dtype == pl.Float64)
    for one in cut:
        assert np.bincount(one.codes).tolist() == pytest.approx([n / len(one.labels)] * len(one.labels), abs=2)
        assert max(map(len, one.labels)) < 40


def test_a_column_that_is_mostly_its_largest_value_is_cut_by_value(boards: dict[str, Board]) -> None:
    evidence = boards["number"].evidence
    n = len(evidence.truth)
    stars = pl.Series("stars", [10.0 if i % 10 else i / n for i in range(n)])
    rows = evidence.rows.with_columns(stars)
    cuts = {cut.column: cut for cut in slicings(type(evidence)(**(evidence.__dict__ | {"rows": rows})))}
    assert cuts["stars"].labels[0] == "10.0"
    assert (cuts["stars"].codes == 0).sum() == (stars == 10.0).sum()


def test_rare_values_are_put_together(boards: dict[str, Board]) -> None:
    evidence = boards["number"].evidence
    n = len(evidence.truth)
    brand = ["big"] * 100 + [f"small {i}" for i in range(n - 100)]
    changed = type(evidence)(**(evidence.__dict__ | {"rows": evidence.rows.with_columns(pl.Series("brand", brand))}))
    cut = next(cut for cut in slicings(changed) if cut.column == "brand")
    assert cut.labels[0] == "big"
    assert cut.labels[-1] == "144 other values"
    assert (cut.codes == len(cut.labels) - 1).sum() == 144


def test_a_straggler_does_not_press_the_axis_together(boards: dict[str, Board]) -> None:
    board = boards["number"]
    usual = axis(board)
    assert usual is not None
    assert usual.low == min(row.interval[0] for row in board.rows if row.interval)
    worst = board.rows[-1]
    far = type(worst)(**(worst.__dict__ | {"score": 1e6, "interval": (9e5, 2e6)}))
    scale = axis(type(board)(board.evidence, (*board.rows[:-1], far), board.comparisons, False))
    assert scale is not None
    assert scale.high < 20 * usual.high
    assert axis(boards["nothing_ran"]) is None
