"""Columns as numbers, for estimators that take nothing else."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import kurabe
from kurabe.contestants import persist
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.errors import ContestantError


def sales(rows: int = 20) -> pl.DataFrame:
    """A table with a column of every sort."""
    return pl.DataFrame(
        {
            "sale_id": range(rows),
            "code": [f"A{row}" for row in range(rows)],
            "size": [float(row % 7) if row % 5 else None for row in range(rows)],
            "text size": [f" {row} " for row in range(rows)],
            "stock": [row % 2 == 0 for row in range(rows)],
            "colour": [["red", "blue", None, "green"][row % 4] for row in range(rows)],
            "sold": [date(2020, 1 + row % 12, 1 + row) for row in range(rows)],
            "listed": [f"2021-03-{row + 1:02}T{row:02}:30:00Z" for row in range(rows)],
            "review": [f"the {row}th lamp of many with {row * 7} lumen and nothing else" for row in range(rows)],
            "empty": [None] * rows,
        }
    )


@parametrize_with_checks([ColumnEncoder(), ColumnEncoder(one_hot=True, fill=True)])  # type: ignore[untyped-decorator]
def test_it_is_a_transformer_as_scikit_learn_wants_it(estimator: Any, check: Any) -> None:
    check(estimator)


def test_each_sort_of_column_has_its_encoding() -> None:
    encoder = ColumnEncoder(topics=2)
    matrix = encoder.fit_transform(sales())
    names = encoder.get_feature_names_out().tolist()
    assert names == [
        "size", "text size", "stock", "colour", "sold month", "sold day", "sold weekday", "sold day of year",
        "sold age", "listed day", "listed weekday", "listed day of year", "listed hour", "listed age",
        "review topic 1", "review topic 2",
    ]  # fmt: skip
    assert encoder.left_out_ == {
        "sale_id": "it numbers the rows", "code": "hardly a value stands in it twice", "empty": "it is empty",
    }  # fmt: skip
    assert matrix.shape == (20, len(names))
    row = dict(zip(names, matrix[1], strict=True))
    assert (row["size"], row["text size"], row["stock"], row["colour"]) == (1.0, 1.0, 0.0, 0.0)
    assert (row["sold month"], row["sold day"], row["sold weekday"]) == (2.0, 2.0, 7.0)  # Sunday, 2 February 2020
    assert (row["listed hour"], row["listed age"]) == (1.0, 18.75)
    assert np.isnan(matrix[0, 0])
    assert encoder.category_positions() == [names.index("colour")]


def test_gaps_and_unknown_values() -> None:
    table = sales()
    new = table.head(2).with_columns(colour=pl.Series(["mauve", None]), size=pl.lit(None, pl.Float64))
    kept = ColumnEncoder(text="drop").fit(table).transform(new)
    filled = ColumnEncoder(text="drop", fill=True).fit(table).transform(new)
    assert np.isnan(kept[:, [0, 3]]).all()
    assert filled[:, 0].tolist() == [3.0, 3.0]
    assert filled[:, 3].tolist() == [-1.0, -1.0]
    assert np.isfinite(ColumnEncoder(fill=True).fit(table).transform(table.clear(3))).all()


def test_one_hot_columns_are_bounded() -> None:
    table = pl.DataFrame({"shop": [f"shop {row % 300}" for row in range(900)] + ["mall"] * 50})
    encoder = ColumnEncoder(one_hot=True)
    assert encoder.fit_transform(table).shape == (950, 100)
    assert "shop mall" in encoder.get_feature_names_out()


def test_columns_are_found_by_name() -> None:
    table = sales()
    encoder = kurabe.columns(text="drop").fit(table)
    expected = encoder.transform(table)
    more = table.select(reversed(table.columns)).with_columns(unseen=pl.lit(1))
    np.testing.assert_array_equal(encoder.transform(more), expected)
    pandas = pd.DataFrame(table.drop("empty").to_dict(as_series=False)).assign(empty=None)
    np.testing.assert_array_equal(encoder.transform(pandas), expected)
    np.testing.assert_array_equal(kurabe.columns(text="drop").fit_transform(pandas), expected)
    with pytest.raises(ContestantError, match="no column 'size'"):
        encoder.transform(table.drop("size"))


def test_dates_of_any_unit_are_the_same() -> None:
    days = pl.DataFrame({"when": [datetime(2020, 1, day, 12) for day in range(1, 9)]})
    encoder = ColumnEncoder().fit(days)
    for unit in ("ms", "ns"):
        other = days.with_columns(pl.col("when").dt.cast_time_unit(unit))
        np.testing.assert_array_equal(encoder.transform(other), encoder.transform(days))
    assert encoder.transform(pl.DataFrame({"when": [None, "soon"]})).shape == (2, 4)


def test_the_rendered_input_counts_only_where_it_says_more() -> None:
    facts = pl.DataFrame({"size": [1.0, 2.0, 3.0] * 20, "colour": ["red", "blue", "green"] * 20})
    rendered = facts.with_columns(input=pl.format("size: {}\ncolour: {}", "size", "colour"))
    assert ColumnEncoder().fit(rendered).left_out_ == {"input": "it says what the other columns say"}
    words = [f"{first}{second}ish {second}{first}ous" for first in "abcdefgh" for second in "klmnoprs"][:60]
    text = facts.with_columns(input=pl.Series(words))
    assert list(ColumnEncoder().fit(text).topics_) == ["input"]
    assert list(ColumnEncoder().fit(text.select("input")).topics_) == ["input"]


def test_a_table_of_identifiers_is_refused() -> None:
    with pytest.raises(ValueError, match="no column can be used: 'id': it numbers the rows"):
        ColumnEncoder().fit(pl.DataFrame({"id": range(20)}))


def test_it_is_saved_without_pickle(tmp_path: Path) -> None:
    table = sales()
    pipeline = make_pipeline(kurabe.columns(), RandomForestRegressor(3, random_state=0)).fit(table, np.arange(20.0))
    persist.save(pipeline, tmp_path / "pipeline")
    loaded = persist.load(tmp_path / "pipeline", make_pipeline(kurabe.columns(), RandomForestRegressor()))
    np.testing.assert_array_equal(loaded.predict(table), pipeline.predict(table))


def test_a_linear_model_reads_it() -> None:
    table = sales().with_columns(price=pl.Series([[9.0, 5.0, 2.0, 7.0][row % 4] for row in range(20)]))
    pipeline = make_pipeline(kurabe.columns(text="drop", one_hot=True, fill=True), Ridge(1e-6))
    guesses = pipeline.fit(table.select("colour"), table["price"]).predict(table)
    np.testing.assert_allclose(guesses, table["price"], atol=1e-3)


def test_two_columns_of_one_name_are_told() -> None:
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=["a", "a"])
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        kurabe.columns().fit(frame)
