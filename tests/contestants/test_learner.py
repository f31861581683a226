"""The scale, what a metric asks for, and settings chosen from the data."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from kurabe.contestants import registry
from kurabe.contestants.checks import table
from kurabe.contestants.frames import MAX_CHARS, as_frame, as_target, texts
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import LinearFeatures, TfidfLogistic, TfidfRidge
from kurabe.contestants.trained.target import Scale
from kurabe.contestants.trained.trees import GradientBoosting, RandomForest
from kurabe.errors import ContestantError
from kurabe.tasks.spec import ContestantSpec


def skewed(rows: int = 400, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """A price that a number doubles, with noise that multiplies it."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0, 8, rows)
    return pl.DataFrame({"input": ["a thing"] * rows, "size": size}), np.exp(size + rng.normal(0, 0.8, rows))


def straight(rows: int = 400, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """A price that a number adds to, with noise that adds to it."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0, 8, rows)
    return pl.DataFrame({"input": ["a thing"] * rows, "size": size}), 1 + 10 * size + rng.uniform(0, 1, rows)


@pytest.mark.parametrize(("data", "log"), [(skewed, True), (straight, False)])
def test_the_scale_is_chosen_on_the_validation_part(data: Any, log: bool) -> None:
    X, y = data()
    fitted = LinearFeatures(kind="number").fit(X, y, validation=data(seed=1))
    assert fitted.scale_.log is log
    assert LinearFeatures(kind="number").fit(*data()).scale_.log is log


def test_the_scale_can_be_set_and_a_negative_target_has_no_logarithm() -> None:
    X, y = skewed()
    assert LinearFeatures(log=False).fit(X, y).scale_.log is False
    assert LinearFeatures().fit(X, y - 100).scale_.log is False
    with pytest.raises(ContestantError, match="target values are below 0 and have no logarithm: set log to false"):
        LinearFeatures(log=True).fit(X, y - 100)


def test_the_metric_decides_between_median_and_mean() -> None:
    """On the log scale a squared metric asks for the mean, which lies above the median by exp(variance / 2)."""
    X, y = skewed(2000)
    median = LinearFeatures(log=True, metric="mean_absolute_error").fit(X, y)
    mean = LinearFeatures(log=True, metric="root_mean_squared_error").fit(X, y)
    assert median.scale_.smear == 1.0
    assert mean.scale_.smear == pytest.approx(np.exp(0.8**2 / 2), rel=0.15)
    other_X, other_y = skewed(2000, seed=1)
    error = {fitted: ((fitted.predict(other_X) - other_y) ** 2).mean() for fitted in (median, mean)}
    assert error[mean] < error[median]


def test_validation_rows_are_learned_from_in_the_end() -> None:
    X, y = skewed()
    fitted = LinearFeatures(log=False).fit(X.head(1), y[:1], validation=(X, y))
    assert fitted.predict(X).std() > 0


def test_guesses_stay_within_the_training_targets_range() -> None:
    X, y = straight()
    far = X.with_columns(pl.col("size") * 1000)
    guesses = LinearFeatures().fit(X, y).predict(far)
    assert guesses.max() <= y.max()
    assert guesses.min() >= y.min()


@pytest.mark.parametrize("name", ["tfidf_ridge", "random_forest", "gradient_boosting", "stacked_boosting", "blend"])
@pytest.mark.parametrize(("factor", "offset"), [(1e-12, 0.0), (1e40, 0.0), (1.0, 2e9)])
def test_the_size_of_the_target_does_not_matter(name: str, factor: float, offset: float) -> None:
    """Farads and Unix times are learned as well as prices, though trees keep the target in single precision."""
    X, y = table("number", rows=150)
    new_X, new_y = table("number", rows=100, seed=3)

    def error(factor: float, offset: float) -> float:
        settings: dict[str, dict[str, Any]] = {
            "random_forest": {"trees": 20}, "gradient_boosting": {"rounds": 60},
            "stacked_boosting": {"rounds": 60, "boosters": 1},
            "blend": {"members": ["linear_features", "nearest_neighbours"]},
        }  # fmt: skip
        scale = {} if name == "blend" else {"log": False}
        spec = ContestantSpec(name, settings.get(name, {}) | scale, name)
        guess = registry.build(spec, registry.Context("number")).fit(X, y * factor + offset).predict(new_X)
        return float(np.abs((guess - offset) / factor - new_y).mean())

    assert error(factor, offset) < 1.3 * error(1.0, min(offset, 1e6))


def test_a_scale_that_was_set_holds_where_there_is_nothing_to_choose_by() -> None:
    X, y = skewed(40)
    same = np.full(3, 5.0)
    fitted = LinearFeatures(log=True, metric="root_mean_squared_error").fit(X.head(3), same, validation=(X, y))
    assert fitted.scale_.log is True


@pytest.mark.parametrize("log", [True, False])
def test_a_scale_comes_back_to_where_it_was(log: bool) -> None:
    y = np.array([0.0, 0.5, 3.0, 1e6])
    scale = Scale.of(y, log=log)
    np.testing.assert_allclose(scale.back(scale.forward(y)), y, atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "strategy"),
    [("mean_absolute_error", "median"), ("r2", "mean"), ("root_mean_squared_error", "mean"), (None, "median")],
)
def test_the_constant_follows_the_metric(metric: str | None, strategy: str) -> None:
    X, y = skewed()
    fitted = Constant(kind="number", metric=metric).fit(X, y)
    assert fitted.strategy_ == strategy
    assert fitted.predict(X)[0] == pytest.approx(getattr(np, strategy)(y))


def test_a_constant_of_labels_has_no_mean() -> None:
    with pytest.raises(ContestantError, match="the mean needs numbers: set strategy to 'most_frequent'"):
        Constant(strategy="mean", kind="label").fit(["a", "b"], ["x", "y"])
    fitted = Constant(kind="label").fit(["a", "b", "c"], ["x", "y", "y"])
    assert fitted.predict(["d"]).tolist() == ["y"]
    np.testing.assert_allclose(fitted.predict_proba(["d"]), [[1 / 3, 2 / 3]])


def test_early_stopping_keeps_few_trees_where_there_is_nothing_to_learn() -> None:
    rng = np.random.default_rng(0)
    X, y = pl.DataFrame({"input": ["same"] * 300, "noise": rng.random(300)}), rng.normal(10, 1, 300)
    useless = GradientBoosting(log=False).fit(X, y)
    useful = GradientBoosting(log=False).fit(X, 100 * X["noise"].to_numpy())
    assert useless.settings_["rounds"] < useful.settings_["rounds"]


def test_probabilities_are_in_the_order_of_the_classes() -> None:
    texts_, labels = ["red apple", "green pear", "red cherry", "green grape"] * 10, ["red", "green"] * 20
    fitted = TfidfLogistic().fit(texts_, labels)
    probabilities = fitted.predict_proba(["red thing", "green thing"])
    assert fitted.classes_.tolist() == ["green", "red"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities.argmax(axis=1).tolist() == [1, 0]


def test_the_kind_must_fit() -> None:
    with pytest.raises(ContestantError, match="TfidfRidge answers tasks of kind number, not label"):
        TfidfRidge().fit(["a", "b"], ["x", "y"])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0], "expected one target value for each of 2 rows"),
        ([1.0, float("nan")], "not a finite number in row 1"),
        (["a", "b"], "the target must be numbers"),
    ],
)
def test_targets_that_cannot_be_learned(y: list[Any], message: str) -> None:
    with pytest.raises(ContestantError, match=message):
        TfidfRidge(kind="number").fit(["a", "b"], y)


def test_no_rows_cannot_be_learned() -> None:
    with pytest.raises(ContestantError, match="no rows to learn from"):
        TfidfRidge(kind="number").fit([], np.zeros(0))
    with pytest.raises(ContestantError, match="the target is missing in row 1"):
        as_target(["a", None], "label", 2)


def test_what_pandas_calls_missing() -> None:
    frame = pd.DataFrame(
        {
            "input": pd.array(["a", pd.NA], dtype="string"),
            "count": pd.array([3, pd.NA], dtype="Int64"),
            "stock": pd.array([pd.NA, True], dtype="boolean"),
            "colour": pd.Categorical(["red", None]),
            "day": [pd.NaT, pd.Timestamp("2020-01-02")],
        }
    )
    found = as_frame(frame)
    assert found.select(pl.exclude("day")).to_dict(as_series=False) == {
        "input": ["a", None], "count": [3, None], "stock": [None, True], "colour": ["red", None],
    }  # fmt: skip
    assert found["stock"].dtype == pl.Boolean
    assert found["day"].is_null().to_list() == [True, False]
    with pytest.raises(ContestantError, match="the target is missing in row 1"):
        as_target(frame["input"], "label", 2)


def test_a_forests_share_of_features_holds_for_labels_too() -> None:
    X, y = table("label")
    assert RandomForest(trees=2, max_features=0.5).fit(X, y).model_.max_features == 0.5
    assert RandomForest(trees=2).fit(X, y).model_.max_features == "sqrt"


def test_frames() -> None:
    assert as_frame(["a", None]).to_dict(as_series=False) == {"input": ["a", None]}
    assert texts(as_frame(pl.Series(["a", None, "x" * (MAX_CHARS + 5)]))) == ["a", "", "x" * MAX_CHARS]
    assert as_frame(np.eye(2)).columns == ["0", "1"]
    assert as_frame(pl.LazyFrame({"input": ["a"]})).height == 1
    with pytest.raises(ContestantError, match="expected a table or a list of texts, got int"):
        as_frame(3)
