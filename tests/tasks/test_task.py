import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge

from kurabe import api
from kurabe.errors import DataError, KurabeError, TaskError
from kurabe.tasks.file import contestant_specs
from kurabe.tasks.suggest import suggest
from kurabe.tasks.task import Task

ITEMS = "id,title,colour,price\n" + "".join(
    f"{i},Lamp no. {i},{'red' if i % 3 else 'blue'},{i}.5\n" for i in range(100)
)
SPEC = 'name: lamps\ndata: items.csv\ninput: "{{ title }} in {{ colour }}"\ntarget: price\nkind: number\n'


def task_of(folder: Path, items: str = ITEMS, spec: str = SPEC, **more: str) -> Task:
    (folder / "items.csv").write_text(items, encoding="utf-8")
    for name, content in more.items():
        (folder / f"{name}.csv").write_text(content, encoding="utf-8")
    (folder / "task.yaml").write_text(spec, encoding="utf-8")
    return Task.from_file(folder / "task.yaml")


def refusal(folder: Path, items: str = ITEMS, spec: str = SPEC, **more: str) -> str:
    with pytest.raises(KurabeError) as caught:
        task_of(folder, items, spec, **more)
    said = str(caught.value)
    assert said.startswith(f"{folder / 'task.yaml'}")
    return said.removeprefix(f"{folder / 'task.yaml'}").removeprefix(": ")


def test_a_task_from_a_file(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    assert (task.name, task.kind, task.metric, task.folder) == ("lamps", "number", "mean_absolute_error", tmp_path)
    assert task.validation is not None
    assert [len(part) for part in (task.train, task.validation, task.test)] == [70, 10, 20]
    assert task.train.X.columns == ["title", "colour", "input"]
    assert task.train.rows.columns == ["id", "title", "colour", "price", "input"]
    assert task.train.y.dtype == np.float64
    for part in (task.train, task.validation, task.test):
        for row, y in zip(part.rows.iter_rows(named=True), part.y, strict=True):
            assert y == row["price"]
            assert row["input"] == f"{row['title']} in {row['colour']}"
        assert part.X.equals(part.rows[["title", "colour", "input"]])
    assert task.warnings == ()


def test_the_same_file_gives_the_same_task_and_another_seed_another(tmp_path: Path) -> None:
    first, again = task_of(tmp_path), task_of(tmp_path)
    assert first.test.rows.equals(again.test.rows)
    seeded = task_of(tmp_path, spec=SPEC.replace("items.csv", "{source: items.csv, split: {seed: 1}}"))
    assert not first.test.rows.equals(seeded.test.rows)


def test_without_a_template_every_column_but_the_target_is_shown(tmp_path: Path) -> None:
    task = task_of(tmp_path, spec="name: t\ndata: items.csv\ntarget: price\nkind: number\n")
    assert task.train.X.columns == ["id", "title", "colour", "input"]
    row = task.train.rows.row(0, named=True)
    assert row["input"] == f"id: {row['id']}\ntitle: {row['title']}\ncolour: {row['colour']}"


@pytest.mark.parametrize(("template", "wish"), [("x", "write {{ x }}"), ("What is it?", "write {{ COLUMN }}")])
def test_a_template_that_shows_no_column_is_refused(template: str, wish: str) -> None:
    frame = pl.DataFrame({"x": ["a", "b"] * 20, "y": [1.0, 2.0] * 20})
    with pytest.raises(TaskError, match=f"all rows would read the same; {re.escape(wish)}"):
        Task.from_frame(frame, target="y", input=template)


def test_columns_choose_what_contestants_see(tmp_path: Path) -> None:
    task = task_of(tmp_path, spec=SPEC + "columns: [id, title]\n")
    assert task.train.X.columns == ["id", "title", "input"]
    assert "red" in " ".join(task.train.X["input"])
    assert "no column 'titel'; did you mean 'title'?" in refusal(tmp_path, spec=SPEC + "columns: [titel]\n")


def test_a_split_by_files_keeps_them_apart(tmp_path: Path) -> None:
    later = "title,colour,price\nNew,red,1\nOld,blue,2\n"
    spec = SPEC.replace("items.csv", "{train: items.csv, test: later.csv}")
    task = task_of(tmp_path, spec=spec, later=later)
    assert sorted(task.test.rows["title"]) == ["New", "Old"]
    assert task.validation is not None
    assert [len(task.train), len(task.validation)] == [90, 10]
    apart = task_of(tmp_path, spec=spec.replace("{train", "{validation: later.csv, train"), later=later)
    assert apart.validation is not None
    assert [len(apart.train), len(apart.validation), len(apart.test)] == [100, 2, 2]


def test_number_columns_are_of_one_type_in_every_part(tmp_path: Path) -> None:
    spec = "name: t\ndata: {train: items.csv, test: later.csv}\ntarget: y\nkind: number\n"
    task = task_of(tmp_path, "a,y\n1,1\n2,2\n3,3\n", spec, later="a,y\n0.5,1\n")
    assert task.train.X.schema == task.test.X.schema
    assert task.test.X["a"].dtype == pl.Float64


def test_a_split_by_a_column_takes_it_out_of_the_inputs(tmp_path: Path) -> None:
    items = "part,a,y\n" + "train,1,1\n" * 8 + "dev,2,2\n" * 2 + "TEST,3,3\n" * 3
    spec = "name: t\ndata: {source: items.csv, split: {column: part}}\ntarget: y\nkind: number\n"
    task = task_of(tmp_path, items, spec)
    assert task.validation is not None
    assert [set(part.y) for part in (task.train, task.validation, task.test)] == [{1.0}, {2.0}, {3.0}]
    assert task.train.X.columns == ["a", "input"]
    assert "says 'tset' at items.csv, line 15; did you mean 'test'?" in refusal(tmp_path, items + "tset,1,1\n", spec)


def test_a_split_by_group_keeps_each_group_on_one_side(tmp_path: Path) -> None:
    spec = SPEC.replace("items.csv", "{source: items.csv, split: {group: shop}}")
    items = "shop,title,colour,price\n" + "".join(f"{i % 9},t,red,{i}\n" for i in range(90))
    task = task_of(tmp_path, items, spec)
    assert task.validation is not None
    sides = [set(part.rows["shop"]) for part in (task.train, task.validation, task.test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 9
    assert "no column 'shpo'; did you mean 'shop'?" in refusal(tmp_path, items, spec.replace("shop", "shpo"))


def test_files_that_share_a_group_are_refused(tmp_path: Path) -> None:
    spec = "name: t\ndata: {train: items.csv, test: later.csv, split: {group: maker}}\ntarget: y\nkind: number\n"
    items = "maker,a,y\nacme,1,1\nbolt,2,2\ncog,3,3\n"
    with pytest.raises(DataError, match=r"task\.yaml: 1 of the groups in 'maker' stand in .* parts: 'acme'\. Keep"):
        task_of(tmp_path, items, spec, later="maker,a,y\nacme,4,4\n")
    assert len(task_of(tmp_path, items, spec, later="maker,a,y\ndot,4,4\n").test) == 1


def test_labels_are_the_text_of_the_file(tmp_path: Path) -> None:
    items = "a,y\n" + "x,01\n" * 10 + "z,1.50\n" * 10
    task = task_of(tmp_path, items, "name: t\ndata: items.csv\ntarget: y\nkind: label\n")
    assert task.train.y.dtype == object
    assert set(task.train.y) == {"01", "1.50"}
    assert task.metric == "accuracy"


def test_each_label_keeps_its_share_of_the_test_part(tmp_path: Path) -> None:
    items = "a,y\n" + "x,rare\n" * 10 + "z,common\n" * 90
    task = task_of(tmp_path, items, "name: t\ndata: items.csv\ntarget: y\nkind: label\n")
    assert sorted(task.test.y).count("rare") == 2


def test_labels_that_nobody_can_learn_are_a_warning(tmp_path: Path) -> None:
    spec = "name: t\ndata: {train: items.csv, test: later.csv}\ntarget: y\nkind: label\n"
    task = task_of(tmp_path, "a,y\n" + "x,p\nz,q\n" * 10, spec, later="a,y\nx,new\nz,p\n")
    assert task.warnings == (
        "The test part has labels that the training part lacks: 'new'. No contestant can have learned them.",
    )


def test_rows_without_a_target_are_left_out_with_a_warning(tmp_path: Path) -> None:
    task = task_of(tmp_path, ITEMS + "100,Lamp,red,\n101,Lamp,red,NA\n")
    assert len(task.train) + len(task.test) + len(task.validation or []) == 100
    assert task.warnings == (
        "2 rows have no finite target 'price' and are left out, the first at items.csv, line 102.",
    )


def test_a_few_texts_among_numbers_are_a_warning_and_codes_are_none(tmp_path: Path) -> None:
    items = "zip,weight,y\n" + "".join(f"0{i},{i},{i}\n" for i in range(10, 90)) + "x1,ask,5\n07,NA,6\n"
    task = task_of(tmp_path, items, "name: t\ndata: items.csv\ntarget: y\nkind: number\n")
    assert task.warnings == (
        "'zip' is read as text and not as numbers because of 'x1' at items.csv, line 82.",
        "'weight' is read as text and not as numbers because of 'ask' at items.csv, line 82.",
    )


def test_an_input_of_another_type_of_missing_is_rendered_as_nothing(tmp_path: Path) -> None:
    task = task_of(tmp_path, ITEMS + "100,,red,7\n")
    assert " in red" in [*task.train.X["input"], *task.test.X["input"], *(task.validation or task.test).X["input"]]


@pytest.mark.parametrize(
    ("items", "spec", "said"),
    [
        (ITEMS, SPEC.replace("target: price", "target: prise"), "no column 'prise'; did you mean 'price'?"),
        (ITEMS, SPEC.replace("title }}", "titel }}"), "input: no column 'titel'; did you mean 'title'?"),
        (ITEMS, SPEC.replace("title }}", "price }}"), "input: the template reads the target 'price'"),
        (ITEMS, SPEC.replace("{{ title }}", "{{ 1 / (id - 7) }}"), "input: the template fails at items.csv, line 9: "),
        (ITEMS, SPEC + 'prompt: {user: "{{ price }}"}\n', "prompt.user: the template reads the target"),
        (ITEMS, SPEC + 'prompt: {user: "{{ inputt }}"}\n', "prompt.user: no column 'inputt'; did you mean 'input'?"),
        (ITEMS, SPEC + "metric: mean_absolut_error\n", "did you mean 'mean_absolute_error'?"),
        (ITEMS, SPEC.replace("items.csv", "item.csv"), "no file 'item.csv'; did you mean 'items.csv'?"),
        ("price\n1\n2\n", "name: t\ndata: items.csv\ntarget: price\nkind: number", "no input column beside the target"),
        ("a,y\n" + "1,x\n" * 9, "name: t\ndata: items.csv\ntarget: y\nkind: label", "has one class only, 'x'"),
        ("a,y\n1,\n2,\n", "name: t\ndata: items.csv\ntarget: y\nkind: text", "'y' is missing in all 2 rows"),
        ("a,y\n1,2\n", "name: t\ndata: items.csv\ntarget: y\nkind: number", "the test part is empty: there are 1 rows"),
        ("input,y\n1,2\n", "name: t\ndata: items.csv\ntarget: input\nkind: number", "cannot be called 'input'"),
    ],
)
def test_what_does_not_fit_is_one_clear_message(tmp_path: Path, items: str, spec: str, said: str) -> None:
    assert said in refusal(tmp_path, items, spec)


def test_text_in_a_number_column_names_rows_values_and_the_remedy(tmp_path: Path) -> None:
    said = refusal(tmp_path, ITEMS + "x,Lamp,red,ask us\nx,Lamp,red,sold\n")
    assert said == (
        "the target 'price' must be a number, and 2 of 102 rows hold something else: 'ask us' at items.csv, line 102;"
        " 'sold' at items.csv, line 103. Write one number without remarks, leave a field empty where it is unknown, or"
        " use kind: label or text"
    )
    many = refusal(tmp_path, ITEMS + "x,Lamp,red,ask\n" * 9)
    assert "9 of 109 rows hold something else: 'ask' at items.csv, line 102; " in many
    assert "; and 4 more. Write one number without remarks, leave a field empty" in many


@pytest.mark.parametrize(
    ("cell", "remark"),
    [("$12.00", "call 555 for price"), ("$12.00", "sold out (2 reviews)"), ("12", "call 5551234")],
)
def test_a_remark_with_a_number_in_it_is_no_target(tmp_path: Path, cell: str, remark: str) -> None:
    said = refusal(tmp_path, "title,colour,price\n" + f"Lamp,red,{cell}\n" * 20 + f"Lamp,red,{remark}\n")
    assert f"{remark!r} at items.csv, line 22" in said


def test_a_letter_behind_every_target_multiplies_as_it_does_in_answers(tmp_path: Path) -> None:
    items = "title,colour,price\n" + "".join(f"Lamp {i},red,{i}k\n" for i in range(1, 41))
    task = task_of(tmp_path, items)
    assert {*task.train.y, *task.test.y} <= {1000.0 * i for i in range(1, 41)}
    assert "such as '1k' as 1000" in task.warnings[0]


def test_amounts_are_a_target_of_numbers_with_count_and_examples(tmp_path: Path) -> None:
    items = "title,colour,price\n" + "".join(f'Lamp {i},red,"${i},234.50"\n' for i in range(1, 21)) + "Old,red,\n"
    task = task_of(tmp_path, items)
    assert sorted(task.train.y)[0] >= 1234.5
    assert {*task.train.y, *task.test.y} <= {i * 1000 + 234.5 for i in range(1, 21)}
    assert task.warnings[0] == (
        "20 values of 'price' are read as numbers, such as '$1,234.50' as 1234.5 and '$2,234.50' as 2234.5."
    )


def test_currencies_that_are_mixed_are_said_aloud(tmp_path: Path) -> None:
    items = "title,colour,price\n" + "".join(f"Lamp {i},red,{'€' if i % 4 else '$'}{i}\n" for i in range(40))
    assert (
        task_of(tmp_path, items)
        .warnings[0]
        .endswith("They are in several currencies, which are not converted: € (30), $ (10).")
    )


def test_a_target_of_decimal_commas_is_read_by_the_whole_column(tmp_path: Path) -> None:
    items = "title,colour,price\n" + "a,red,1.234\n" * 10 + 'b,red,"2.000,5"\n' * 10
    task = task_of(tmp_path, items)
    assert {*task.train.y, *task.test.y} == {1234.0, 2000.5}


def test_a_column_called_input_gives_its_place_to_the_rendered_text() -> None:
    frame = pl.DataFrame({"input": [f"q{i}" for i in range(20)], "y": [float(i) for i in range(20)]})
    task = Task.from_frame(frame, target="y", input="Q: {{ input }}")
    assert task.train.X.columns == ["input"]
    assert all(text.startswith("Q: q") for text in task.train.X["input"])
    assert Task.from_frame(frame, target="y").train.X["input"][0].startswith("q")


FRAME = pl.DataFrame({"a": list(range(40)), "s": ["x", "y"] * 20, "y": [float(i) for i in range(40)]})


def test_a_task_from_a_polars_or_pandas_frame_is_the_same() -> None:
    from_polars = Task.from_frame(FRAME, target="y")
    from_pandas = Task.from_frame(pd.DataFrame(FRAME.to_dict(as_series=False)), target="y")
    assert from_polars.kind == "number"
    assert from_polars.train.X.equals(from_pandas.train.X)
    assert from_polars.train.y.tolist() == from_pandas.train.y.tolist()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2] * 20, "label"),
        ([0.0, 1.0, 2.0, None] * 10, "label"),
        ([1, 2, 3, 4, 5, 6, 7, 8] * 2 + list(range(24)), "number"),
        ([80 + i % 20 for i in range(40)], "number"),
        ([7] * 40, "number"),
        ([0.5] * 40, "number"),
        ([1.0, 2.5] * 20, "number"),
        (["0", "1"] * 20, "label"),
        ([f"${i},733.00" for i in range(1, 41)], "number"),
        (["$5", "$10"] * 20, "number"),
        ([f"{i},733" for i in range(1, 41)], "number"),
        ([f"{i} €" if i % 2 else f"${i}" for i in range(40)], "number"),
        ([f"{i}.5 %" for i in range(40)], "number"),
        ([f"{i} kg" for i in range(40)], "number"),
        (["1 star", "5 stars"] * 20, "label"),
        ([f"{i} {'GB' if i % 2 else 'TB'}" for i in range(40)], "text"),
        ([True, False] * 20, "label"),
        (["a", "b"] * 20, "label"),
        ([f"answer {i}" for i in range(40)], "text"),
    ],
)
def test_the_kind_is_guessed_where_none_is_named(values: list[Any], kind: str) -> None:
    assert Task.from_frame(FRAME.with_columns(y=pl.Series(values)), target="y").kind == kind


@pytest.mark.parametrize("load", [load_wine, load_iris, load_digits, load_breast_cancer])
def test_classes_that_are_whole_numbers_are_labels_and_it_is_said(load: Callable[..., Any]) -> None:
    forest = ("rf", RandomForestClassifier())
    task = Task.from_frame(load(as_frame=True).frame, target="target", contestants=["constant", forest])
    assert task.kind == "label"
    assert "'target' is taken for labels" in task.warnings[-1]
    assert 'Say kind="number" otherwise.' in task.warnings[-1]


@pytest.mark.parametrize("values", [[0, 1], [1, 2, 3], [80, 85, 90, 95, 100, 110, 120, 130, 140, 150, 160, 170]])
def test_new_and_from_frame_guess_the_same(values: list[int], tmp_path: Path) -> None:
    frame = FRAME.with_columns(y=pl.Series((values * 40)[:40]), b=pl.Series([i / 7 for i in range(40)]))
    frame.write_csv(tmp_path / "items.csv")
    assert f"\nkind: {Task.from_frame(frame, target='y').kind}  #" in suggest(tmp_path / "items.csv", "y")


@pytest.mark.parametrize(
    ("values", "labels"),
    [([1, 2], {"1", "2"}), ([True, False], {"true", "false"}), ([1.0, 2.5], {"1", "2.5"}), (["a", "b"], {"a", "b"})],
)
def test_labels_of_any_type_become_text(values: list[Any], labels: set[str]) -> None:
    task = Task.from_frame(FRAME.with_columns(y=pl.Series(values * 20)), target="y", kind="label")
    assert set(task.train.y) == labels


def test_numbers_that_are_not_finite_are_left_out() -> None:
    frame = FRAME.with_columns(y=pl.Series([float("nan"), float("inf"), None] + [1.0] * 37))
    task = Task.from_frame(frame, target="y")
    assert task.warnings == ("3 rows have no finite target 'y' and are left out, the first at row index 0.",)
    assert len(task.train) + len(task.test) + len(task.validation or []) == 37


def test_a_number_too_large_to_be_scored_is_named_by_its_row() -> None:
    frame = FRAME.with_columns(y=pl.Series([1.5, -1e307] + [1.0] * 38))
    with pytest.raises(DataError, match=r"'y' is -1e\+307 at row index 1, too large to be scored"):
        Task.from_frame(frame, target="y")
    with pytest.raises(DataError, match="too large to be scored"):
        Task.from_frame(FRAME.with_columns(y=pl.Series([1e71] + [1.5] * 39)), target="y")


def test_the_largest_target_is_scored_without_a_warning(tmp_path: Path) -> None:
    frame = FRAME.with_columns(y=pl.Series([i * 2.5e68 for i in range(40)]))
    for metric in ("mean_absolute_error", "root_mean_squared_error", "r2"):
        task = api.Task.from_frame(frame, target="y", metric=metric, contestants=["constant"], folder=tmp_path)
        assert task.compete().rows[0].score is not None


def test_a_second_frame_is_the_test_part() -> None:
    task = Task.from_frame(FRAME[:30], test=FRAME[30:], target="y", split={"validation": 5})
    assert sorted(task.test.y) == list(range(30, 40))
    assert task.validation is not None
    assert len(task.validation) == 5


def test_estimators_stand_beside_names() -> None:
    first, second, third = Ridge(), Ridge(alpha=5), Ridge(alpha=9)
    entries = ["constant", first, ("stiff", second), {"prompt": {"examples": 3}}, third]
    task = Task.from_frame(FRAME, target="y", contestants=entries)
    labels = [spec.label for spec in contestant_specs(task.spec)]
    assert labels == ["constant", "Ridge", "stiff", "prompt, 3 examples", "Ridge 2"]
    assert task.estimators == {"Ridge": first, "stiff": second, "Ridge 2": third}


@pytest.mark.parametrize("wrong", [Ridge, 3, None, object()])
def test_what_is_no_contestant_is_refused(wrong: object) -> None:
    with pytest.raises(TaskError, match=r"contestants\[1\]: expected a name, settings or an estimator"):
        Task.from_frame(FRAME, target="y", contestants=["constant", wrong])


def test_errors_of_a_frame_speak_of_rows() -> None:
    with pytest.raises(DataError, match="'x' at row index 0"):
        Task.from_frame(FRAME, target="s", kind="number")
    with pytest.raises(DataError, match="no column 'z'"):
        Task.from_frame(FRAME, target="z")
    with pytest.raises(TaskError, match="the task: kind: expected one of number, label, text, got 'nubmer'"):
        Task.from_frame(FRAME, target="y", kind="nubmer")  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="no key 'tset'"):
        Task.from_frame(FRAME, target="y", split={"tset": 0.1})


def test_the_rest_of_the_task_file_can_be_said_in_python(tmp_path: Path) -> None:
    task = Task.from_frame(
        FRAME, target="y", name="t", metric="r2", columns=["a"], budget={"usd": 1.0},
        prompt={"system": "S"}, folder=tmp_path,
    )  # fmt: skip
    assert (task.metric, task.spec.budget.usd, task.folder) == ("r2", 1.0, tmp_path)
    assert task.spec.prompt is not None
    assert task.spec.prompt.system == "S"
    assert task.train.X["input"].to_list() == [str(a) for a in task.train.X["a"]]


def test_a_task_is_shown_in_a_line() -> None:
    frame = pl.DataFrame({"text": [f"item {n}" for n in range(100)], "price": [n / 3 for n in range(100)]})
    task = Task.from_frame(frame, target="price", name="prices")
    assert repr(task) == (
        "Task('prices': number 'price' by mean_absolute_error; rows: 70 training, 10 validation, 20 test)"
    )
