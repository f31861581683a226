import datetime as dt
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.tasks.readings import FORMATS, read_as, reading, told_reading

NOON = dt.datetime(2024, 3, 12, 12, 30)


@pytest.mark.parametrize(
    ("cells", "how", "first"),
    [
        (["2024-03-12", "1999-12-31"], "%Y-%m-%d", NOON.date()),
        (["2024-03-12T12:30:00Z", "2024-03-12T12:30:00.5Z"], "%Y-%m-%d %H:%M:%S%.f", NOON),
        (["2024-03-12 14:30:00+02:00"], "%Y-%m-%d %H:%M:%S%.f%z", NOON),
        (["2024-03-12 12:30"], "%Y-%m-%d %H:%M", NOON),
        (["2024/3/12"], "%Y/%m/%d", NOON.date()),
        (["03/12/2024", "01/02/2024"], "%m/%d/%Y", NOON.date()),
        (["12/03/2024", "31/01/2024"], "%d/%m/%Y", NOON.date()),
        (["12/03/2024"] * 300 + ["31/01/2024"], "%d/%m/%Y", NOON.date()),
        (["12.3.2024"], "%d.%m.%Y", NOON.date()),
        (["12 Mar 2024", "3 December 2024"], "%d %B %Y", NOON.date()),
        (["March 12, 2024", "Dec 3, 2024"], "%B %d, %Y", NOON.date()),
        (["2024年3月12日"], "%Y年%m月%d日", NOON.date()),
        (["2024-03", "2023-12"], "%Y-%m", dt.date(2024, 3, 1)),
        (["3/12/24", "12/31/23"], "%m/%d/%y", NOON.date()),
        (["3/12/2024 12:30 PM"], "%m/%d/%Y %I:%M %p", NOON),
        (["$4,733.00", "$12"], "number", 4733.0),
        (["12 GB", "8 GB"], "number", 12.0),
        (["1,5", "2,25"], "number, decimal comma", 1.5),
        (["1e3", "2"], "number", 1000.0),
    ],
)
def test_a_column_of_text_is_read(cells: list[str], how: str, first: Any) -> None:
    series = pl.Series("x", cells)
    assert reading(series) == how
    read = read_as(series, how)
    assert read[0] == first
    assert not read.null_count()


@pytest.mark.parametrize(
    "cells",
    [["10:30"], ["1.2.3", "1.2.10"], ["192.168.1.1"], ["Lamp 12"], ["007"], ["5-10-15"], ["12 GB", "1 TB"],
     ["2024-03-12", "soon"], ["1999-2001"], ["a text of 12 words, on 3 May 2024"], [None], []],
)  # fmt: skip
def test_what_stays_text(cells: list[str | None]) -> None:
    assert reading(pl.Series("x", cells, dtype=pl.String)) is None


def test_new_rows_are_read_as_the_training_part_was() -> None:
    day_first = read_as(pl.Series(["03/04/2024", "soon", None]), "%d/%m/%Y")
    assert day_first.to_list() == [dt.date(2024, 4, 3), None, None]
    assert read_as(pl.Series(["1.234"]), "number, decimal comma").to_list() == [1234.0]
    assert read_as(pl.Series([None, "NA"], dtype=pl.String), "number").to_list() == [None, None]


@pytest.mark.parametrize(
    ("cells", "new", "how", "value"),
    [
        (["1.5M", "200k", "30k", "2M"], ["1.5M"], "number", 1.5e6),
        (["12", "15"], ["12k"], "number", 12_000),
        (["12k", "15k"], ["12k", "900"], "number, letter is unit", 12),
        (["1,5m", "2,25m"], ["1,5m", "12"], "number, decimal comma, letter is unit", 1.5),
    ],
)
def test_letters_are_read_as_in_the_training_part(cells: list[str], new: list[str], how: str, value: float) -> None:
    assert reading(pl.Series(cells)) == how
    assert read_as(pl.Series(new), how)[0] == value


def test_what_is_read_is_told_unless_it_is_plain() -> None:
    assert told_reading(pl.Series("day", ["2024-03-12"]), "%Y-%m-%d") is None
    assert told_reading(pl.Series("day", ["12/03/2024"] * 30 + ["soon"]), "%d/%m/%Y") == (
        "'day' is read as dates written as %d/%m/%Y, such as '12/03/2024'; 1 of 31 values are not."
    )
    assert told_reading(pl.Series("disk", ["12 GB"]), "number") == (
        "1 value of 'disk' is read as a number, such as '12 GB' as 12."
    )


@given(st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(2999, 12, 31)), st.sampled_from(FORMATS))
def test_every_format_is_read_back_where_it_is_known(moment: dt.datetime, form: str) -> None:
    text = moment.strftime(form.replace("%.f", "").replace("%z", "+0000"))
    read = read_as(pl.Series([text]), form).to_list()[0]
    assert read is not None or "%y" in form
    if read is not None and "%y" not in form and form != "%Y-%m":
        assert (read.year, read.month, read.day) == (moment.year, moment.month, moment.day)


@given(st.lists(st.text(max_size=20) | st.from_regex(r"\d{1,4}[-/. ]\d{1,2}[-/. ]\d{1,4}( \d\d:\d\d)?")))
def test_any_cells_are_read_or_left(cells: list[str]) -> None:
    series = pl.Series("x", cells, dtype=pl.String)
    assert len(read_as(series, reading(series))) == len(series)
