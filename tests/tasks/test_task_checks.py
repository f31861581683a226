"""What the checks of a task file say of answers and rows, and what is refused."""

import random
from contextlib import suppress
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("a IN (SELECT a FROM read_csv('/etc/passwd'))", "no query"),
        ("a > ANY(SELECT 1)", "no function 'any'"),
        ("EXISTS (SELECT 1)", "no function 'exists'"),
        ("a IN (TABLE other)", "no query"),
        ("a IN (VALUES (1))", "no query"),
        ("generate_series(1, 1000000000000) > 1", "no function 'generate_series'"),
        ("length(lpad(\"screen size\", 1000000000, 'x')) > 1", "no function 'lpad'"),
        ('"read_csv"(a) > 1', "no function"),
        ("sum(a) OVER (ORDER BY a) > 1", "no function 'over'"),
        ("'a' || 'b' = 'ab'", r"can't be used in a condition"),
        ("a > 1; DROP TABLE rows", r"can't be used in a condition"),
        ("a > 1 -- and more", "comments"),
        ("a /**/ > 1", "comments"),
        ("a > 1" + " AND a > 1" * 1000, "more than 100 operators"),  # overflows the stack in Polars
        ("a" + " + 1" * 5000 + " > 1", "characters"),
        ("(" * 30 + "a > 1" + ")" * 30, "nested"),
    ],
)
def test_a_slice_only_computes_with_the_columns_of_a_row(where: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        slice_rows(where, ROWS)


@pytest.mark.parametrize(
    ("where", "met"),
    [
        ("a BETWEEN 1 AND 2 OR \"screen size\" LIKE '%z'", [True, False, True]),
        ("a NOT IN (1, 2)", [False, False, True]),
        ("coalesce(a, 0) = 0 AND NOT starts_with(\"screen size\", 'x')", [False, True, False]),
        ("CASE WHEN a > 1 THEN true ELSE false END", [False, False, True]),
        ("CAST(a AS decimal(10, 2)) > 1.5 AND a::float < 1e3", [False, False, True]),
        ("\"screen size\" = 'read_csv(' OR a = 1", [True, False, False]),
        ("\"screen size\" ~ '^[xy]$'", [True, True, False]),
        ("\"screen size\" ~ '^[x]{1}$'", [True, False, False]),
        ("a IN (" + ", ".join(map(str, range(3, 3000))) + ")", [False, False, True]),
    ],
)
def test_plain_conditions_are_answered(where: str, met: list[bool]) -> None:
    assert slice_rows(where, ROWS).tolist() == met


@given(st.text(alphabet="ab ()'\"`,.;<>=!+-*/%~|[]{}$:1eE\\\n", max_size=60))
def test_any_condition_is_answered_or_refused(where: str) -> None:
    with suppress(TaskError):
        assert len(slice_rows(where, ROWS)) == 3


def test_regular_expressions_that_take_too_long_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kurabe.tasks.checks.SECONDS", 2)
    draw = random.Random(0)
    text = "".join(draw.choices("ab", k=400_000))
    with pytest.raises(TaskError, match=r"takes more than 2 seconds .*; make it simpler"):
        read_format("[ab]*a[ab]{10000}c")([text])
    with pytest.raises(TaskError, match=r"takes more than 2 seconds .*; make it simpler"):
        slice_rows("t ~ '^[ab]*a[ab]{10000}c$'", pl.DataFrame({"t": [text]}))
    assert read_format(r"\d{2} EUR")(["12 EUR", "1 EUR"]).tolist() == [True, False]
