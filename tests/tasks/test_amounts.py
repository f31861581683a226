import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.tasks.amounts import read_amounts, read_loosely, told


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


def test_the_answer_reader_reads_what_has_words_around_it() -> None:
    assert read_loosely(["about 5 dollars", "$1,200", None, "ask"]) == [5.0, 1200.0, None, None]


@given(st.lists(st.text(max_size=30) | st.from_regex(r"[$€]?\d{1,3}([,.' ]\d{3}){0,3}([,.]\d+)?\s?(kg|%|€|k)?")))
def test_any_cells_are_read_or_left(cells: list[str]) -> None:
    amounts = read_amounts(pl.Series(cells, dtype=pl.String))
    assert amounts is None or len(amounts.values) == len(cells)
