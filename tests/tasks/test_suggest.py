from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kurabe.contestants import registry
from kurabe.errors import DataError, KurabeError, TaskError
from kurabe.tasks.file import load_spec
from kurabe.tasks.suggest import suggest
from kurabe.tasks.task import Task

WORDS = "oak pine lamp table chair green heavy light old new small large steel glass".split()  # noqa: SIM905


def prose(index: int) -> str:
    return " ".join(WORDS[(index * (7 + k) + k * k) % len(WORDS)] for k in range(10)) + f" {index}"


def suggested(folder: Path, frame: pl.DataFrame, target: str, name: str = "items.csv") -> tuple[str, Task]:
    """The suggestion for a table, and the task that it makes."""
    frame.write_csv(folder / name)
    text = suggest(folder / name, target)
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    return text, Task.from_file(folder / "task.yaml")


def base(rows: int = 60) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(500, 500 + rows),
            "title": [prose(i) for i in range(rows)],
            "speed": [i % 7 for i in range(rows)],
            "price": [i * 1.5 for i in range(rows)],
        }
    )


def test_numbers(tmp_path: Path) -> None:
    text, task = suggested(tmp_path, base(), "price")
    assert (task.kind, task.metric, task.name) == ("number", "mean_absolute_error", "items")
    assert task.train.X.columns == ["title", "speed", "input"]
    row = task.train.rows.row(0, named=True)
    assert row["input"] == f"{row['title']}\nspeed: {row['speed']}"
    assert "# id is left out: it numbers the rows." in text
    assert task.spec.prompt is not None
    assert "the price" in (task.spec.prompt.system or "")
    assert task.spec.contestants is None


def test_labels_are_listed_in_the_prompt(tmp_path: Path) -> None:
    queue = pl.Series(["Bags, Shoes", "Toys"] * 30)
    _, task = suggested(tmp_path, base().with_columns(queue=queue), "queue")
    assert (task.kind, task.metric) == ("label", "accuracy")
    assert task.spec.prompt is not None
    assert task.spec.prompt.system == (
        "You choose the queue. You answer with one of these and nothing else: Bags, Shoes; Toys"
    )


def test_two_whole_numbers_are_labels(tmp_path: Path) -> None:
    text, task = suggested(tmp_path, base().with_columns(spam=pl.Series([0, 1, 1] * 20)), "spam")
    assert task.kind == "label"
    assert set(task.train.y) == {"0", "1"}
    assert "one of 2 classes" in text


def test_free_text(tmp_path: Path) -> None:
    _, task = suggested(tmp_path, base(), "title")
    assert (task.kind, task.metric) == ("text", "token_f1")


def test_what_tells_nothing_or_too_much_is_left_out_with_the_reason(tmp_path: Path) -> None:
    frame = base().with_columns(
        label=pl.Series(["a", "b", "c"] * 20),
        label_code=pl.Series([10, 20, 30] * 20),
        shop=pl.lit("main"),
        nothing=pl.lit(None, dtype=pl.String),
        hash=pl.Series([f"{i * 7919:08x}{i}" for i in range(60)]),
    )
    text, task = suggested(tmp_path, frame, "label")
    assert task.train.X.columns == ["title", "speed", "price", "input"]
    for line in (
        "# label_code is left out: it says label in another form, so it would give the answer away.",
        "# shop is left out: it is the same in every row.",
        "# nothing is left out: it is empty.",
        "# hash is left out: it is another code in every row.",
    ):
        assert line in text


def test_a_column_that_says_train_or_test_is_the_split(tmp_path: Path) -> None:
    frame = base().with_columns(part=pl.Series(["train"] * 40 + ["test"] * 20))
    _, task = suggested(tmp_path, frame, "price")
    assert task.spec.data.split is not None
    assert task.spec.data.split.column == "part"
    assert len(task.test) == 20
    assert "part" not in task.train.X.columns


def test_groups_and_times_are_pointed_out(tmp_path: Path) -> None:
    frame = base().with_columns(
        customer=pl.Series([f"c{i % 9}" for i in range(60)]),
        day=pl.Series([f"2024-01-{i % 28 + 1:02}" for i in range(60)]),
    )
    text, _ = suggested(tmp_path, frame, "price")
    assert "# group: customer  # rows of one customer would never stand on both sides" in text
    assert "# day is a time." in text
    uncommented = text.replace("    # group: customer", "    group: customer")
    (tmp_path / "task.yaml").write_text(uncommented)
    task = Task.from_file(tmp_path / "task.yaml")
    assert not set(task.train.rows["customer"]) & set(task.test.rows["customer"])


def test_the_contestants_in_the_comments_exist_and_can_be_uncommented(tmp_path: Path) -> None:
    for target in ("price", "title", "speed_class"):
        text, _ = suggested(tmp_path, base().with_columns(speed_class=pl.Series(["slow", "fast"] * 30)), target)
        head, tail = text.split("# contestants:\n")
        taken_off = "\n".join(line.removeprefix("# ") if "#   - " in line else line for line in tail.split("\n"))
        (tmp_path / "full.yaml").write_text(f"{head}contestants:\n{taken_off}")
        spec = load_spec(tmp_path / "full.yaml")
        names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in spec.contestants or ()]
        assert len(names) >= 5
        for name in names:
            if ":" not in name:
                assert spec.kind in registry.CONTESTANTS[name].kinds


def test_another_encoding_is_written_down(tmp_path: Path) -> None:
    rows = "".join(f"café {i},{i}\n" for i in range(20))
    (tmp_path / "items.csv").write_bytes(f"name,price\n{rows}".encode("cp1252"))
    text = suggest(tmp_path / "items.csv", "price")
    assert "encoding: cp1252  # guessed" in text
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
    assert "café" in Task.from_file(tmp_path / "task.yaml").train.X["input"][0]


def test_the_source_is_named_from_where_the_task_file_will_stand(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tasks").mkdir()
    base().write_parquet(tmp_path / "data" / "items.parquet")
    text = suggest(tmp_path / "data" / "items.parquet", "price", folder=tmp_path / "tasks")
    (tmp_path / "tasks" / "task.yaml").write_text(text)
    assert len(Task.from_file(tmp_path / "tasks" / "task.yaml").test) == 12


def test_without_a_target_the_columns_are_listed_and_the_likeliest_named(tmp_path: Path) -> None:
    base().write_csv(tmp_path / "items.csv")
    with pytest.raises(TaskError) as caught:
        suggest(tmp_path / "items.csv")
    assert str(caught.value) == (
        "Which column must come out? Say --target COLUMN, such as --target 'price'."
        " There are: 'id', 'title', 'speed', 'price'"
    )
    with pytest.raises(TaskError, match="no column 'prise'; did you mean 'price'"):
        suggest(tmp_path / "items.csv", "prise")


def test_prices_with_signs_are_numbers_and_it_is_said(tmp_path: Path) -> None:
    text, task = suggested(
        tmp_path, base().with_columns(price=pl.Series([f"${i},733.00" for i in range(1, 61)])), "price"
    )
    assert task.kind == "number"
    assert "# 60 values of 'price' are read as numbers, such as '$1,733.00' as 1733 and '$2,733.00' as 2733." in text
    assert "kind: number  # guessed, as it holds amounts of money" in text


def test_a_table_of_nothing_but_the_target(tmp_path: Path) -> None:
    pl.DataFrame({"id": range(50), "price": range(50)}).write_csv(tmp_path / "items.csv")
    with pytest.raises(DataError, match="no column to find 'price' out from: 'id': "):
        suggest(tmp_path / "items.csv", "price")


odd = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    [
        "class",
        "screen size",
        "価格",
        "{{ x }}",
        "{% if %}",
        "a: b",
        "# x",
        "it's",
        '"',
        "yes",
        "null",
        "3",
        "row",
        "self",
        "-",
        "a\nb",
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    names=st.lists(
        odd.map(str.strip).filter(lambda name: name not in ("", "input")), min_size=4, max_size=4, unique=True
    ),
    kind=st.sampled_from(["number", "label", "text"]),
)
def test_any_column_names_give_a_task_file_that_loads(tmp_path: Path, names: list[str], kind: str) -> None:
    """Through parquet, which keeps any name as it is."""
    rows = range(30)
    targets: dict[str, list[Any]] = {
        "number": [i * 0.7 for i in rows],
        "label": ["x: y", "# z", "- {{ w }}"] * 10,
        "text": [prose(i) for i in rows],
    }
    content: list[list[Any]] = [
        [prose(i + 1) for i in rows],
        [i % 4 for i in rows],
        [f"v{i % 5}" for i in rows],
        targets[kind],
    ]
    pl.DataFrame([pl.Series(name, values) for name, values in zip(names, content, strict=True)]).write_parquet(
        tmp_path / "odd.parquet"
    )
    text = suggest(tmp_path / "odd.parquet", names[3])
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8", newline="")
    try:
        task = Task.from_file(tmp_path / "task.yaml")
    except KurabeError as error:
        pytest.fail(f"{error}\n{text}")
    assert task.kind == kind
    assert task.spec.target == names[3]
    assert set(names[:3]) <= set(task.train.X.columns)
    first = task.train.rows.row(0, named=True)
    assert str(first[names[0]]) in first["input"]
    assert f"{names[2]}: {first[names[2]]}" in first["input"]


def test_dates_and_codes_stay_out_of_the_text_and_it_says_why(tmp_path: Path) -> None:
    frame = base().with_columns(
        ref=pl.Series([f"A-{i * 7 % 61}" for i in range(60)]),
        mail=pl.Series([f"user{i}@example.org" for i in range(60)]),
        sold=pl.Series([f"{i % 28 + 1}/{i % 12 + 1}/2024" for i in range(60)]),
        disk=pl.Series([f"{i * 11} GB" for i in range(60)]),
    )
    text, task = suggested(tmp_path, frame, "price")
    assert task.train.X.columns == ["title", "speed", "disk", "sold", "input"]
    assert "sold" not in (task.spec.input or "")
    for line in (
        "# ref is left out: it is another code in every row.",
        "# mail is left out: it is another code in every row.",
        "# sold is not in the text: it is a date, whose parts are features of the contestants for tables.",
        "columns: [title, speed, disk, sold]",
    ):
        assert line in text
    assert "60 values of 'disk' are read as numbers, such as '0 GB' as 0 and '11 GB' as 11." in task.warnings
    assert any("'sold' is read as dates written as %d/%m/%Y" in warning for warning in task.warnings)


def test_a_table_of_dates_alone_is_rendered(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": [f"2024-01-{i % 28 + 1:02}" for i in range(60)], "y": [i / 7 for i in range(60)]})
    assert suggested(tmp_path, frame, "y")[1].train.X.columns == ["day", "input"]


def test_a_template_of_many_facts_has_lines_that_can_be_read(tmp_path: Path) -> None:
    frame = base().with_columns(
        pl.lit(None).alias("empty"), *(pl.Series(f"fact {i}", range(60)) % (i % 20 + 3) for i in range(200))
    )
    text, task = suggested(tmp_path, frame, "price")
    template = text.split("input: |-\n")[1].split("\n# What must come out")[0]
    assert max(map(len, template.splitlines())) < 120
    assert len(task.train.X.columns) == 2 + 200 + 1
