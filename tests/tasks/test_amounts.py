import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.tasks.amounts import Style, read_amounts, told


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["$4,733.00", "$12"], [4733, 12]),
        (["4,733", "12"], [4733, 12]),
        (["1.234,50 €", "12,00 €", "1.234 €"], [1234.5, 12, 1234]),
        (["1.234 €", "5.000 €"], [1234, 5000]),
        (["1,5", "2,25", "3,125"], [1.5, 2.25, 3.125]),
        (["1 234,5", "2 000"], [1234.5, 2000]),
        (["1\u202f234,50\u00a0€"], [1234.5]),
        (["1'234.50 CHF"], [1234.5]),
        (["12,34,567", "1,00,000"], [1234567, 100000]),
        (["$1.2M", "$500k", "$3"], [1.2e6, 5e5, 3]),
        (["5m", "7m"], [5, 7]),
        (["($45)", "-$3", "$-2", "−1"], [-45, -3, -2, -1]),
        (["1,234.00", "(567.00)", "2,000.00"], [1234, -567, 2000]),
        (["$(567)", "($1.2M)", "(99¢)", "(1,234)", "$1"], [-567, -1.2e6, -0.99, -1234, 1]),
        (["3万円", "5千円", "1,200円"], [30000, 5000, 1200]),
        (["¥１２３"], [123]),
        (["99¢", "$1"], [0.99, 1]),
        (["15%", "3.5 %"], [15, 3.5]),
        (["12 GB", "8GB"], [12, 8]),
        (["120 km/h", "90 km/h"], [120, 90]),
        (["USD 1,000", "1,500 USD"], [1000, 1500]),
    ],
)
def test_a_column_of_amounts(cells: list[str], values: list[float]) -> None:
    amounts = read_amounts(pl.Series(cells))
    assert amounts is not None
    assert amounts.values.tolist() == pytest.approx(values)
    assert amounts.alike
    assert not amounts.unread


@pytest.mark.parametrize(
    "cells",
    [["A4", "B5"], ["2024-01-01"], ["007", "008"], ["RTX 3080"], ["about 5"], ["1.2.3"], ["12,345,67"], ["10:30"],
     ["no 5 at all"], ["12 34"], ["1-2"], [""], [None], ["x" * 50]],
)  # fmt: skip
def test_what_is_no_column_of_amounts(cells: list[str | None]) -> None:
    assert read_amounts(pl.Series(cells, dtype=pl.String)) is None


def test_units_that_differ_are_not_alike() -> None:
    amounts = read_amounts(pl.Series(["12 GB", "1 TB"]))
    assert amounts is not None
    assert not amounts.alike
    assert told("disk", amounts).endswith("They are in several units, which are not converted: GB (1), TB (1).")


def test_slips_among_amounts_are_named_by_their_place() -> None:
    amounts = read_amounts(pl.Series(["$1"] * 19 + ["ask", None, "NA"]))
    assert amounts is not None
    assert amounts.unread == (19,)


@pytest.mark.parametrize("cells", [["1.5M", "200k", "30k", "2M"], ["1.5M", "3"], ["12k", "15k"], ["$12k"], ["4", "5"]])
def test_a_cell_by_itself_is_read_as_in_its_column(cells: list[str]) -> None:
    whole = read_amounts(pl.Series(cells))
    assert whole is not None
    for cell, value in zip(cells, whole.values, strict=True):
        alone = read_amounts(pl.Series([cell]), whole.style)
        assert alone is not None
        assert alone.values.tolist() == [value]


def test_words_that_scale_multiply_though_every_cell_has_one() -> None:
    amounts = read_amounts(pl.Series(["3 million", "200 thousand"]))
    assert amounts is not None
    assert amounts.values.tolist() == [3e6, 2e5]
    assert amounts.style == Style()


def test_words_behind_some_numbers_are_named() -> None:
    amounts = read_amounts(pl.Series(["$12"] * 9 + ["2 reviews"]))
    assert amounts is not None
    assert told("price", amounts).endswith("Some numbers are followed by a word, which is left out: reviews (1).")


@given(st.lists(st.text(max_size=30) | st.from_regex(r"[$€]?\d{1,3}([,.' ]\d{3}){0,3}([,.]\d+)?\s?(kg|%|€|k)?")))
def test_any_cells_are_read_or_left(cells: list[str]) -> None:
    amounts = read_amounts(pl.Series(cells, dtype=pl.String))
    assert amounts is None or len(amounts.values) == len(cells)
