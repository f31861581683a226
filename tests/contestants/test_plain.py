"""Estimators that are not kurabe's own, on tables with texts."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import kurabe
from kurabe.contestants import persist
from kurabe.contestants.checks import table
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.plain import fit_plain, takes_missing, what_it_reads, wrapped
from kurabe.contestants.trained.blend import Blend


class Numeric(BaseEstimator):  # type: ignore[misc]
    """Somebody's own estimator, which turns what it is given into numbers."""

    def fit(self, X: Any, y: Any) -> Self:
        self.weights_, *_ = np.linalg.lstsq(np.asarray(X, dtype=np.float64), y, rcond=None)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.asarray(np.asarray(X, dtype=np.float64) @ self.weights_)


class Refusing(BaseEstimator):  # type: ignore[misc]
    """Somebody's own estimator that fails for a reason of its own."""

    def fit(self, X: Any, y: Any) -> Self:
        raise ValueError(f"I refuse a {type(X).__name__}")


@pytest.mark.parametrize(
    ("estimator", "reads"),
    [
        (RandomForestRegressor(), "numbers"),
        (make_pipeline(StandardScaler(), Ridge()), "numbers"),
        (GridSearchCV(RandomForestRegressor(), {}), "numbers"),
        (TransformedTargetRegressor(Ridge()), "numbers"),
        (VotingRegressor([("a", Ridge())]), "numbers"),
        (make_pipeline(TfidfVectorizer(), Ridge()), "texts"),
        (GridSearchCV(make_pipeline(CountVectorizer(), Ridge()), {}), "texts"),
        (make_pipeline(ColumnTransformer([("text", TfidfVectorizer(), "input")]), Ridge()), "table"),
        (make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()), "table"),
        (make_pipeline(FunctionTransformer(), Ridge()), "table"),
        (make_pipeline(kurabe.columns(), Ridge()), "table"),
        (Numeric(), "table"),
    ],
)
def test_what_an_estimator_reads(estimator: Any, reads: str) -> None:
    assert what_it_reads(estimator) == reads


def test_who_takes_gaps() -> None:
    assert takes_missing(RandomForestRegressor())
    assert takes_missing(make_pipeline(StandardScaler(), HistGradientBoostingRegressor()))
    assert takes_missing(make_pipeline(SimpleImputer(), Ridge()))
    assert not takes_missing(make_pipeline(StandardScaler(), Ridge()))
    assert not takes_missing(Numeric())


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(20, random_state=0),
        make_pipeline(StandardScaler(), Ridge()),
        make_pipeline(TfidfVectorizer(token_pattern=r"\w+"), Ridge()),
        Numeric(),
    ],
)
def test_plain_estimators_learn_from_a_table_with_texts(estimator: Any, tmp_path: Path) -> None:
    X, y = table("number", rows=150)
    holes = X.with_columns(size=pl.when(pl.int_range(pl.len()) % 9 == 0).then(None).otherwise("size"))
    new_X, new_y = table("number", rows=50, seed=3)
    fitted = fit_plain(estimator, holes, y)
    assert wrapped(fitted) is estimator
    guesses = fitted.predict(new_X)
    assert np.abs(guesses - new_y).mean() < 0.9 * np.abs(np.median(y) - new_y).mean()
    persist.save(fitted, tmp_path / "plain")
    np.testing.assert_array_equal(persist.load(tmp_path / "plain", estimator).predict(new_X), guesses)


def test_an_estimators_own_error_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="I refuse a DataFrame"):
        fit_plain(Refusing(), *table("number"))


def test_the_table_reaches_an_estimator_of_ones_own_as_it_is() -> None:
    fitted = fit_plain(DummyRegressor(), *table("number"))
    assert isinstance(fitted.steps[0][1], ColumnEncoder)  # scikit-learn's own would see texts as missing numbers
    pipeline = make_pipeline(ColumnTransformer([("text", TfidfVectorizer(), "input")]), Ridge())
    assert fit_plain(pipeline, *table("number")) is pipeline


def test_a_plain_estimator_can_be_blended_with_others() -> None:
    X, y = table("label", rows=60)
    fitted = Blend([LogisticRegression(), "nearest_neighbours"], kind="label").fit(X, y)
    assert set(fitted.predict(X)) <= set(y)


@pytest.mark.parametrize("load", [load_wine, load_iris, load_breast_cancer, load_digits])
def test_a_forest_competes_on_a_table_of_numbers(load: Any, tmp_path: Path) -> None:
    task = kurabe.Task.from_frame(
        load(as_frame=True).frame,
        target="target",
        contestants=["constant", ("rf", RandomForestClassifier(30, random_state=0))],
        folder=tmp_path,
    )
    board = task.compete()
    assert task.kind == "label"
    scores = {row.contestant: row.score or 0.0 for row in board.rows}
    assert scores["rf"] > 0.85 > scores["constant"]
    again = board.winner.predict(task.test.X)
    assert (again == task.test.y).mean() == pytest.approx(scores["rf"])
