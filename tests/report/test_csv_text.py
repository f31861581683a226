"""No cell that is exported is a formula to a spreadsheet."""

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.report.data import csv_text


def cells(values: list[str | None]) -> list[str]:
    """What a spreadsheet reads in the second column."""
    text = csv_text(pl.DataFrame({"row": range(len(values)), "x": pl.Series(values, dtype=pl.String)}))
    return [row[1] for row in csv.reader(io.StringIO(text, newline=""))][1:]


@pytest.mark.parametrize(
    "value",
    [
        "=cmd|'/C calc'!A0",
        "@SUM(1+1)",
        "=HYPERLINK(A1)",
        "+1+1",
        "-2+3",
        "\t=1",
        "\r=1",
        "\n=1",
        "=",
        "-",
        "＝1",
        "-5 €",
    ],
)
def test_formulas_become_texts(value: str) -> None:
    assert cells([value]) == ["'" + value]


@pytest.mark.parametrize("value", ["", "plain", "-5", "+5.25", "-1e5", "5-3", "a=b", "'=1", "é"])
def test_other_texts_and_numbers_stay(value: str) -> None:
    assert cells([value]) == [value]


def test_numbers_stay_numbers_and_names_are_guarded() -> None:
    frame = pl.DataFrame({"=name": [-1.5, None], "yes": [True, False]})
    assert csv_text(frame) == "'=name,yes\n-1.5,true\n,false\n"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_no_text_begins_a_formula(value: str) -> None:
    (cell,) = cells([value])
    assert cell in (value, "'" + value)
    assert not cell.startswith(("=", "@", "\t", "\r"))
    if cell.startswith(("+", "-")):
        float(cell)
