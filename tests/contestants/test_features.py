"""What is read from texts and columns."""

import time
from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from kurabe.contestants.features import (
    Columns,
    Dense,
    Embeddings,
    Measures,
    NGrams,
    Quantities,
    Scaled,
    TextStatistics,
)
from kurabe.contestants.shared import Shared
from kurabe.errors import ContestantError

TEXTS = ["Red apple pie", "green apple", "red red wine", "", "naïve café"]


def frame(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"input": texts})


def test_ngrams_agree_with_scikit_learn() -> None:
    ours = NGrams(("word",), min_df=1).fit_transform(frame(TEXTS))
    theirs = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True).fit_transform(TEXTS)
    # The columns are in another order, which products of rows do not see.
    np.testing.assert_allclose((ours @ ours.T).toarray(), (theirs @ theirs.T).toarray(), atol=1e-12)


@pytest.mark.parametrize("features", [NGrams(min_df=1), Embeddings()])
def test_shared_analysis_changes_nothing(features: NGrams | Embeddings) -> None:
    alone = features.fit_transform(frame(TEXTS))
    store = Shared().over(TEXTS[::-1])
    features.fit_transform(frame(TEXTS[::-1]), store)
    assert abs(features.fit_transform(frame(TEXTS), store) - alone).max() == 0
    assert abs(features.transform(frame(TEXTS[1:]), store) - alone[1:]).max() == 0


def test_many_texts_are_taken_apart_into_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    both = NGrams(min_df=1).fit_transform(frame(TEXTS))
    monkeypatch.setattr("kurabe.contestants.features.CHARACTERS", 10)
    features = NGrams(min_df=1)
    words = features.fit_transform(frame(TEXTS))
    assert words.shape[1] == NGrams(("word",), min_df=1).fit_transform(frame(TEXTS)).shape[1] < both.shape[1]
    # Rows are as long as with both blocks, so that they weigh as much beside other features.
    np.testing.assert_allclose(words.multiply(words).sum(axis=1).max(), 2)
    np.testing.assert_allclose(both.multiply(both).sum(axis=1).max(), 2)
    monkeypatch.undo()
    assert abs(features.transform(frame(TEXTS)) - words).max() == 0


def test_min_df_and_max_features_choose_columns() -> None:
    texts = ["a b", "a b", "a c"]
    assert NGrams(("word1",), min_df=1).fit_transform(frame(texts)).shape == (3, 3)
    assert NGrams(("word1",), min_df=2).fit_transform(frame(texts)).shape == (3, 2)
    binary = NGrams(("word1",), min_df=1, max_features=1, binary=True).fit_transform(frame(texts))
    assert binary.toarray().tolist() == [[1.0], [1.0], [1.0]]


def test_quantities_are_read_by_the_words_beside_them() -> None:
    texts = ["16 GB, pack of 6", "1,024 gb; pack of 12", "8gb", "no number"]
    quantities = Quantities(share=0)
    quantities.fit_transform(frame(texts * 3))
    matrix = quantities.transform(frame(texts))
    found = dict(zip(quantities.keys_, matrix.T, strict=True))
    np.testing.assert_array_equal(found["# gb"], [16, 1024, 8, np.nan])
    np.testing.assert_array_equal(found["of #"], [6, 12, np.nan, np.nan])
    np.testing.assert_array_equal(found["pack of #"], [6, 12, np.nan, np.nan])


def test_a_long_word_takes_no_longer_than_many_short_ones() -> None:
    start = time.process_time()
    Quantities().fit_transform(frame(["ACGT" * 5_000, "本" * 20_000 + " 16 GB"]))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("text", ["9" * 60 + " GB", "16 GB"])
def test_no_number_is_too_large_for_a_tree(text: str) -> None:
    X = pl.DataFrame({"input": ["16 GB"] * 8, "id": [1e300 if text[0] == "9" else 3.0, *range(7)]}, strict=False)
    features = Dense([Quantities(), Columns(), TextStatistics()])
    features.fit_transform(X)
    matrix = features.transform(X.with_columns(pl.lit(text).alias("input")))
    assert np.isfinite(matrix).all()


def test_a_time_is_the_same_in_every_unit() -> None:
    X = pl.DataFrame({"input": [""] * 3, "when": [datetime(2020, 1, day, 12) for day in (1, 2, 4)]})
    columns = Columns()
    expected = columns.fit_transform(X)
    np.testing.assert_array_equal(np.diff(expected, axis=0), [[1], [2]])
    for unit in ("ms", "ns"):
        np.testing.assert_array_equal(
            columns.transform(X.with_columns(pl.col("when").dt.cast_time_unit(unit))), expected
        )
    days = columns.transform(X.with_columns(pl.col("when").cast(pl.Date)))
    np.testing.assert_array_equal(days, expected - 0.5)
    long = X.with_columns(pl.col("when") - datetime(2020, 1, 1))
    np.testing.assert_array_equal(Columns().fit_transform(long), [[0.5], [1.5], [3.5]])


def test_columns_become_numbers_and_categories() -> None:
    X = pl.DataFrame(
        {
            "input": [""] * 10,
            "number": [1.5, None, *range(8)],
            "same": [1] * 10,
            "truth": [True, False] * 5,
            "day": [date(2020, 1, day + 1) for day in range(10)],
            "colour": ["red", "blue"] * 5,
            "name": [f"name {row}" for row in range(10)],
        },
        strict=False,
    )
    columns = Columns()
    matrix = columns.fit_transform(X)
    assert (columns.numbers_, list(columns.values_)) == (["number", "truth", "day"], ["colour"])
    np.testing.assert_array_equal(matrix[:2, [0, 1, 3]], [[1.5, 1, 1], [np.nan, 0, 0]])
    assert matrix[1, 2] - matrix[0, 2] == 1
    new = columns.transform(X.head(1).with_columns(pl.lit("mauve").alias("colour")))
    assert np.isnan(new[0, 3])
    assert Columns(one_hot=True).fit_transform(X)[:2, 3:].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ContestantError, match="no column 'number'"):
        columns.transform(X.drop("number"))
    with pytest.raises(ContestantError, match="lacks the columns 'number', 'colour'"):
        columns.transform(X.drop("number", "colour"))


def test_scaled_features_have_no_gaps() -> None:
    X = pl.DataFrame({"input": [""] * 4, "a": [1.0, None, 3.0, 5.0], "b": [float("inf"), 1.0, 2.0, 3.0]})
    matrix = Scaled(Columns()).fit_transform(X)
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose(matrix.mean(axis=0), 0, atol=1e-12)
    assert matrix[1, 0] == 0


def test_measures_are_brought_to_one_unit() -> None:
    texts = ["2 lbs", "32oz, then 1 ounce", "0.9072 kg", "2 lambs", "10 x 4 in x 2.5 inches", "1,000 mg and 1.1.1 g"]
    matrix = np.exp(Measures().fit_transform(frame(texts)))
    np.testing.assert_allclose(matrix[:3, :2], 907.2, rtol=1e-3)
    assert np.isnan(matrix[3]).all()
    # Length: the largest and the first; then of the box its volume and its longest edge.
    np.testing.assert_allclose(matrix[4, [2, 3, -2, -1]], [2.5 * 2.54 * 4 / 2.5, 4 * 2.54, 100, 10])
    np.testing.assert_allclose(matrix[5, :2], 1)


@pytest.mark.parametrize("text", ["9" * 1_000_000, "1,1." * 250_000, "1 x " * 250_000, "a" * 1_000_000, "1a" * 500_000])
def test_measures_of_a_long_text_take_linear_time(text: str) -> None:
    start = time.perf_counter()
    Measures().transform(frame([text]))
    assert time.perf_counter() - start < 20


def test_only_the_first_words_are_read() -> None:
    long, short = frame(["red apple pie", "car"]), frame(["red apple", "car"])
    ngrams, embeddings = NGrams(min_df=1, words=2), Embeddings(words=2)
    assert abs(ngrams.fit_transform(long) - ngrams.fit_transform(short)).max() == 0
    assert abs(embeddings.fit_transform(long) - embeddings.fit_transform(short)).max() == 0
