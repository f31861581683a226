from pathlib import Path

import polars as pl
import pytest

from kurabe.errors import DataError
from kurabe.tasks.file import parse_spec
from kurabe.tasks.readers import Table
from kurabe.tasks.rows import empty_columns, rows_from_texts
from kurabe.tasks.sources import read_table, typed_like
from kurabe.tasks.spec import TaskSpec


def spec_of(template: str | None) -> TaskSpec:
    return parse_spec({"name": "t", "data": "items.csv", "target": "y", "kind": "number", "input": template})


@pytest.mark.parametrize("template", ["{{ title }}", "\n{{ row['title'] }}\n", "{{ row.title }}"])
def test_a_text_is_also_the_only_column_of_the_template(template: str) -> None:
    columns = ["title", "maker", "input"]
    assert empty_columns(spec_of(template), columns) == ("maker",)
    rows = rows_from_texts(spec_of(template), ["Lamp", "Desk"], columns)
    assert rows.to_dict(as_series=False) == {
        "title": ["Lamp", "Desk"],
        "maker": [None, None],
        "input": ["Lamp", "Desk"],
    }


@pytest.mark.parametrize(
    "template", ["{{ title }}!", "{{ title | upper }}", "{{ title }}{{ maker }}", "{{ row }}", "x"]
)
def test_a_text_leaves_the_columns_of_any_other_template_empty(template: str) -> None:
    columns = ["title", "maker", "input"]
    assert empty_columns(spec_of(template), columns) == ("title", "maker")
    assert rows_from_texts(spec_of(template), ["Lamp"], columns).row(0) == (None, None, "Lamp")


SCHEMA = {"size": pl.Int64(), "code": pl.String(), "absent": pl.Float64()}


def typed(folder: Path, cells: str) -> Table:
    (folder / "new.csv").write_text("size,code,other\n" + cells)
    return typed_like(read_table("new.csv", folder), SCHEMA)


@pytest.mark.parametrize("beside", ["", "2.5,x,x\n", "NA,,\n", "007,8,9\n", "1e3,8,9\n"])
def test_columns_are_typed_as_in_training_whatever_stands_in_the_other_rows(tmp_path: Path, beside: str) -> None:
    table = typed(tmp_path, "1,7,3\n" + beside)
    assert table.frame["size"][0] == 1
    assert table.frame["code"][0] == "7"
    assert table.frame["size"].dtype.is_numeric()


def test_a_column_that_training_did_not_have_is_judged_by_itself(tmp_path: Path) -> None:
    assert typed(tmp_path, "1,7,3\n").frame["other"].dtype == pl.Int64


def test_text_in_a_column_of_numbers_is_an_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"new\.csv, line 3: 'size' was a column of numbers .* 'two' is not a number"):
        typed(tmp_path, "1,7,3\ntwo,7,3\n")
