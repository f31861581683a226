"""Weights by out-of-fold predictions."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from sklearn.base import BaseEstimator

from kurabe.contestants.base import Contestant
from kurabe.contestants.checks import table
from kurabe.contestants.trained.blend import Blend, simplex_weights
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import LinearFeatures, TfidfLogistic
from kurabe.contestants.trained.stack import _kernel_ridge
from kurabe.errors import ContestantError


class Noise(BaseEstimator):  # type: ignore[misc]
    """Knows the training rows by heart and guesses wildly at all others."""

    def fit(self, X: pl.DataFrame, y: np.ndarray) -> "Noise":
        self.known_ = dict(zip(X["input"], y, strict=True))
        return self

    def predict(self, X: pl.DataFrame) -> np.ndarray:
        return np.array([self.known_.get(text, 1000.0) for text in X["input"]])


def test_a_member_that_only_remembers_gets_no_weight() -> None:
    X, y = table("number", rows=120)
    X = X.with_columns(pl.format("{} {}", "input", pl.int_range(pl.len())).alias("input"))
    blend = Blend([Noise(), LinearFeatures(kind="number")], kind="number").fit(X, y)
    assert [type(member) for member in blend.members_] == [LinearFeatures]
    assert blend.weights_.tolist() == [1.0]


def test_a_blend_is_no_worse_than_its_members() -> None:
    X, y = table("number", rows=300)
    new_X, new_y = table("number", rows=300, seed=5)
    members: list[Contestant] = [Constant(kind="number"), LinearFeatures(kind="number")]
    best = min(np.abs(member.fit(X, y).predict(new_X) - new_y).mean() for member in members)
    blended = np.abs(Blend(members, kind="number").fit(X, y).predict(new_X) - new_y).mean()
    assert blended <= best * 1.05


class Negative(BaseEstimator):  # type: ignore[misc]
    """An estimator from outside, whose guesses know no range."""

    def fit(self, X: pl.DataFrame, y: np.ndarray) -> "Negative":
        self.fitted_ = True
        return self

    def predict(self, X: pl.DataFrame) -> np.ndarray:
        return X["size"].to_numpy() - 1000


def test_a_member_below_the_range_of_a_logarithm_is_the_lowest_guess() -> None:
    X, y = table("number", rows=60)
    y = np.exp(y / 10)
    blend = Blend([Negative()], kind="number").fit(X, y)
    assert blend.scale_ is not None
    assert blend.scale_.log is True
    np.testing.assert_allclose(blend.predict(X), y.min())


def test_labels_are_blended_by_probability() -> None:
    X, y = table("label", rows=100)
    blend = Blend([Constant(kind="label"), TfidfLogistic()], kind="label").fit(X, y)
    probabilities = blend.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (blend.classes_[probabilities.argmax(axis=1)] == blend.predict(X)).all()
    assert (blend.predict(X) == y).mean() > 0.9


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one member"),
        (["tfidf_ridge"], "tfidf_ridge does not answer tasks of kind label"),
        ([LinearFeatures(), Noise()], "Noise cannot be blended: it has no predict_proba"),
    ],
)
def test_members_that_cannot_be_blended(members: list[Any], message: str) -> None:
    with pytest.raises(ContestantError, match=message):
        Blend(members, kind="label").fit(*table("label"))


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(0, 2**31))
def test_weights_are_a_share_each(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    said, y = rng.normal(size=(count, 50)), rng.normal(size=50)

    def loss(weights: np.ndarray) -> float:
        return float(np.abs(weights @ said - y).mean())

    weights = simplex_weights(loss, count)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    assert loss(weights) <= loss(np.full(count, 1 / count)) + 0.02


def test_leave_one_out_equals_fitting_again() -> None:
    rng = np.random.default_rng(0)
    points, t = rng.normal(size=(30, 3)), rng.normal(size=30)
    kernel = np.exp(-((points[:, None] - points) ** 2).sum(axis=2))
    coefficients, left_out = _kernel_ridge(kernel, t, seed=0)
    # The coefficients solve (K + penalty) c = t, which tells the penalty that was chosen.
    penalty = float(np.median((t - kernel @ coefficients) / coefficients))
    for row in range(30):
        rest = np.delete(np.arange(30), row)
        again = linalg.solve(kernel[np.ix_(rest, rest)] + penalty * np.eye(29), t[rest])
        assert kernel[row, rest] @ again == pytest.approx(left_out[row])


def test_members_are_left_as_they_are() -> None:
    member = LinearFeatures(kind="number")
    Blend([member, "constant"], kind="number").fit(*table("number"))
    assert member.log == "auto"
    assert not hasattr(member, "kind_")


def test_of_a_large_table_some_rows_are_enough_to_weigh_by(monkeypatch: pytest.MonkeyPatch) -> None:
    learned, asked = [], []

    class Counting(Constant):
        def fit(self, X: Any, y: Any, validation: Any = None) -> "Counting":
            learned.append(len(y))
            super().fit(X, y)
            return self

        def predict(self, X: Any) -> np.ndarray:
            asked.append(len(X))
            return super().predict(X)

    monkeypatch.setattr("kurabe.contestants.trained.blend.LEARN_ROWS", 30)
    monkeypatch.setattr("kurabe.contestants.trained.blend.WEIGH_ROWS", 10)
    X, y = table("number", rows=100)
    Blend([Counting(kind="number"), LinearFeatures(kind="number")], kind="number").fit(X, y)
    assert set(learned[:5]) == {30}
    assert set(asked) == {10}
