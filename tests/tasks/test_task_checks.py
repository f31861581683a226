"""What the checks of a task file say of answers and rows, and what is refused."""

from typing import Any

import polars as pl
import pytest

from kurabe.errors import DataError, TaskError
from kurabe.tasks.checks import labels_of, read_format, slice_rows
from kurabe.tasks.file import parse_spec
from kurabe.tasks.spec import Check
from kurabe.tasks.task import Task

PRICE = {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}
ROWS = pl.DataFrame({"a": [1, None, 3], "screen size": ["x", "y", "z"]})


@pytest.mark.parametrize(
    ("form", "follow", "differ"),
    [
        (r"\d+ EUR", ["12 EUR", " 12 EUR\n"], ["about 12 EUR", "12 EUR.", "", "12 EUR\n12 EUR"]),
        ("^a$|^b$", ["a", "b"], ["ab", "c"]),
        ("json", ['{"a": [1]}', " 12 ", '"x"'], ["", "{a: 1}", 'the answer: {"a": 1}', "NaN"]),
        (PRICE, ['{"price": 1.5}'], ['{"price": "1"}', "{}", '```{"price": 1}```', "12", ""]),
    ],
)
def test_a_whole_answer_follows_a_format_or_does_not(form: Any, follow: list[str], differ: list[str]) -> None:
    assert read_format(form)([*follow, *differ]).tolist() == [True] * len(follow) + [False] * len(differ)


def test_a_pattern_takes_linear_time() -> None:
    assert read_format("(a|aa)+$")(["a" * 5000 + "b"]).tolist() == [False]


def test_a_slice_is_a_condition_in_sql() -> None:
    assert slice_rows("a > 1", ROWS).tolist() == [False, False, True]
    assert slice_rows("\"screen size\" IN ('x', 'y') AND a IS NOT NULL", ROWS).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nope = 1", 'unable to find column "nope"; valid columns: .*screen size'),
        ("a >", "unable to parse"),
        ("a", "does not say yes or no of each row"),
        ("max(a) > 1", "does not say yes or no of each row"),
        ("a = 'x'", "cannot compare string"),
        ("read_csv('/etc/passwd')", "no function 'read_csv'"),
    ],
)
def test_what_is_no_condition_is_refused(where: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        slice_rows(where, ROWS)


def test_columns_have_names_that_differ() -> None:
    checks = [Check(format="a"), Check(format="b"), Check(slice="a > 1"), Check(slice="a > 2", label="format")]
    assert labels_of(checks) == ("format", "format 2", "a > 1", "format 3")


def task_of(check: Any, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {"name": "t", "data": "t.csv", "target": "y", "kind": kind, "checks": [check], **more}


STYLE = {"rubric": "short", "judge": "openai:gpt-5.1"}


@pytest.mark.parametrize(
    ("check", "kind", "said"),
    [
        ({}, "text", r"checks\[0\]: one of `format`, `slice` and `style` each"),
        ({"format": "a", "slice": "a > 1"}, "text", "one of `format`, `slice` and `style` each"),
        ({"format": "("}, "text", r"checks\[0\]\.format: '\(' is no regular expression of Rust's kind: unclosed group"),
        ({"format": {"type": "nope"}}, "text", "it is no JSON Schema"),
        ({"form": "a"}, "text", "no key 'form'; did you mean 'format'"),
        ({"style": STYLE}, "number", "say `against`, a contestant"),
        ({"style": {**STYLE, "against": "constan"}}, "number", "did you mean 'constant'"),
        ({"style": {**STYLE, "rows": 0}}, "text", r"checks\[0\]\.style\.rows"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(check: Any, kind: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        parse_spec(task_of(check, kind, contestants=["constant"]))


def test_a_check_is_read() -> None:
    spec = parse_spec(task_of({"style": {**STYLE, "against": "constant"}, "as": "tone"}, "number"))
    assert spec.checks[0].label == "tone"
    assert spec.checks[0].style is not None
    assert spec.checks[0].style.rows == 50


def test_a_slice_that_no_test_row_meets_is_refused_with_the_data() -> None:
    frame = pl.DataFrame({"x": [str(n) for n in range(50)], "y": [float(n) for n in range(50)]})
    made = Task.from_frame(frame, target="y", checks=[{"slice": "y >= 0"}])
    assert len(made.spec.checks) == 1
    with pytest.raises(DataError, match=r"checks\[0\]\.slice: no test row meets 'y > 99'"):
        Task.from_frame(frame, target="y", checks=[{"slice": "y > 99"}])
    with pytest.raises(TaskError, match=r"checks\[0\]\.slice: .*unable to find column"):
        Task.from_frame(frame, target="y", checks=[{"slice": "z > 99"}])
