"""Tables without prose: what contestants learn from, and what takes part."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.model_selection import train_test_split

from kurabe.api import Task
from kurabe.contest.prepare import make_entrants
from kurabe.contestants import registry
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.keys import digest, estimator_digest, part_digest
from kurabe.contestants.trained.blend import Blend
from kurabe.contestants.trained.linear import LinearFeatures
from kurabe.contestants.trained.trees import GradientBoosting, RandomForest
from kurabe.tasks.prose import is_prose, prose_columns


def flats(rows: int = 800, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Flats by size, floor, quarter and day, with a price that multiplies what they are worth."""
    rng = np.random.default_rng(seed)
    quarters = np.array([f"quarter {chr(97 + place)}" for place in range(12)])
    worth = rng.permutation(12) if seed else np.array([3, 7, 1, 9, 5, 11, 0, 8, 2, 10, 4, 6])
    quarter = rng.integers(0, 12, rows)
    size, floor = rng.uniform(20, 150, rows), rng.integers(0, 9, rows)
    day = rng.integers(0, 365, rows)
    price = 1_000 * size * (1 + worth[quarter] / 8) * (1 + 0.3 * (day % 7 > 4)) * np.exp(rng.normal(0, 0.05, rows))
    X = pl.DataFrame({"size": size, "floor": floor, "quarter": quarters[quarter], "listed": day})
    X = X.with_columns(listed=pl.date(2025, 1, 1) + pl.duration(days=pl.col("listed")))
    return X.with_columns(input=pl.format("size: {}\nquarter: {}\nlisted: {}", "size", "quarter", "listed")), price


def reviews(rows: int = 300) -> tuple[pl.DataFrame, np.ndarray]:
    """Reviews whose words say nothing, beside a column that says all."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("aeioulnrst"), 6)) for _ in range(300)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(rows)]
    size = rng.uniform(0, 100, rows)
    X = pl.DataFrame({"review": texts, "size": size, "input": texts})
    return X, 5 * np.floor(size / 10) + rng.normal(0, 0.1, rows)


@pytest.mark.parametrize(
    ("values", "prose"),
    [
        (["a very good lamp, and cheap", "broke on the first day, sadly"], True),
        (["Braund, Mr. Owen Harris", "Cumings, Mrs. John Bradley"], True),
        (["とても良いランプでした", "初日に壊れて残念です"], True),
        (["2026-12-01 10:30", "2026-12-02 11:30"], False),
        ([" 12 ", " 13 "], False),
        (["A/5 21171", "PC 17599"], False),
        (["dark red", "dark red"], False),
        ([None, None], False),
    ],
)
def test_what_prose_is(values: list[str | None], prose: bool) -> None:
    assert is_prose(pl.Series(values, dtype=pl.String)) is prose


def test_the_rendered_columns_are_not_prose() -> None:
    X, _ = flats(100)
    assert prose_columns(X) == []
    assert prose_columns(X.select("input")) == ["input"]
    assert prose_columns(reviews()[0]) == ["review"]


def test_columns_alone_are_learned_from_where_there_is_no_prose() -> None:
    for estimator in (GradientBoosting(rounds=5), RandomForest(trees=5), LinearFeatures()):
        assert estimator.views(flats(100)[0]) == ("columns",)
        assert estimator.views(flats(100)[0].select("input")) == ("all",)
    assert GradientBoosting().views(reviews()[0]) == ("all", "columns")
    assert LinearFeatures().views(reviews()[0]) == ("all",)


def test_the_validation_part_chooses_between_text_and_columns() -> None:
    X, y = reviews()
    fitted = GradientBoosting(rounds=100, kind="number").fit(X, y)
    assert fitted.view_ == "columns"
    told = X.with_columns(
        review=pl.format("{} of {}", "review", pl.Series([f"{'x' * (row % 9)}" for row in range(300)]))
    )
    told = told.with_columns(input="review", size=pl.int_range(300) % 2)
    text = GradientBoosting(rounds=100, kind="number").fit(told, np.array([float(row % 9) for row in range(300)]))
    assert text.view_ == "all"


def test_boosting_and_forest_are_as_good_as_scikit_learns_on_codes() -> None:
    X, y = flats()
    train, test, train_y, test_y = train_test_split(X, y, random_state=0)
    encoder = ColumnEncoder()
    codes, new = encoder.fit_transform(train), encoder.transform(test)
    for ours, theirs in (
        (GradientBoosting(kind="number"), HistGradientBoostingRegressor(loss="absolute_error", random_state=0)),
        (RandomForest(kind="number"), RandomForestRegressor(random_state=0)),
    ):
        error = np.abs(ours.fit(train, train_y).predict(test) - test_y).mean()
        assert error < 1.05 * np.abs(theirs.fit(codes, train_y).predict(new) - test_y).mean()


def test_boosting_begins_with_a_linear_model_where_that_is_better() -> None:
    rng = np.random.default_rng(0)
    X = pl.DataFrame({f"x{place}": rng.normal(size=400) for place in range(8)})
    y = X.to_numpy() @ np.arange(8.0) + rng.normal(0, 0.1, 400)
    assert GradientBoosting(kind="number", rounds=200).fit(X, y).settings_["linear"]
    steps = np.floor(X["x0"].to_numpy() * 3) % 3 + np.floor(X["x1"].to_numpy() * 3) % 2
    assert not GradientBoosting(kind="number", rounds=200).fit(X, steps).settings_["linear"]


def test_columns_that_tell_nothing_are_left_out() -> None:
    rng = np.random.default_rng(0)
    X = pl.DataFrame({f"x{place}": rng.uniform(size=500) for place in range(60)})
    y = 10 * np.sin(3 * X["x3"].to_numpy() * X["x7"].to_numpy()) + rng.normal(0, 0.3, 500)
    fitted = GradientBoosting(kind="number", rounds=300).fit(X, y)
    assert set(fitted.settings_["kept"]) >= {3, 7}
    assert len(fitted.settings_["kept"]) < 30
    few = GradientBoosting(kind="number", rounds=50).fit(X.select("x3", "x7", "x9"), y)
    assert few.settings_["kept"] is None


def test_labels_of_columns_have_probabilities() -> None:
    X, y = flats(400)
    for labels in (np.where(y > np.median(y), "dear", "cheap"), X["quarter"].to_numpy()):
        fitted = GradientBoosting(kind="label", rounds=30).fit(X, labels)
        probabilities = fitted.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert (fitted.predict(X) == labels).mean() > 0.9


def test_many_labels_are_boosted_in_few_rounds() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 60, 900)
    X = pl.DataFrame({"a": codes % 8 + rng.normal(0, 0.1, 900), "b": codes // 8 + rng.normal(0, 0.1, 900)})
    labels = np.array([f"label {code}" for code in codes])
    boosted = GradientBoosting(kind="label").fit(X, labels)
    assert sum(boosted.settings_["rounds"]) <= 3_000 // 60 * 1.5
    blended = Blend(kind="label").fit(X, labels)
    assert (blended.predict(X) == labels).mean() > 0.9


def test_text_contestants_stay_away_where_no_column_is_prose(tmp_path: Path) -> None:
    def labels(X: pl.DataFrame, y: np.ndarray) -> list[str]:
        frame = X.drop("input").with_columns(price=pl.Series(y))
        task = Task.from_frame(frame, target="price", kind="number", folder=tmp_path)
        return [entrant.label for entrant in make_entrants(task, 0)]

    assert labels(*flats(100)) == [
        "constant mean", "constant median", "linear_features", "random_forest", "gradient_boosting", "blend", "human",
    ]  # fmt: skip
    assert labels(*reviews()) == [spec.label for spec in registry.defaults("number")]


def test_only_what_learns_from_columns_alone_has_another_key(tmp_path: Path) -> None:
    for (X, y), same in ((reviews(), True), (flats(100), False)):
        frame = X.drop("input", "size").with_columns(price=pl.Series(y))
        names = ["linear_features", "blend", "tfidf_ridge"]
        task = Task.from_frame(frame, target="price", kind="number", folder=tmp_path, contestants=names)
        learned = part_digest([task.train, task.validation])
        for entrant in make_entrants(task, 0):
            plain = digest(estimator_digest(entrant.estimator), learned)
            assert (entrant.key == plain) is (same or entrant.label == "tfidf_ridge")
