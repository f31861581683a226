"""A stranger's conditions and formats: only a harmless part of SQL, and every pattern ends."""

from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import TaskError
from kurabe.tasks import checks
from kurabe.tasks.checks import read_format, slice_rows
from kurabe.tasks.conditions import MAX_OPERATORS, check_condition

ROWS = pl.DataFrame({"price": [5.0, 150.0], "origin": ["JP", "US"], "my name": ["a", "b"]})


@pytest.mark.parametrize(
    ("where", "met"),
    [
        ("price > 100", [False, True]),
        ("origin = 'JP'", [True, False]),
        ("origin IN ('JP', 'FR') AND price < 10", [True, False]),
        ("NOT (price BETWEEN 1 AND 10)", [False, True]),
        ("lower(origin) LIKE 'u%'", [False, True]),
        ("\"my name\" = 'a'", [True, False]),
        ("origin ~ '^J'", [True, False]),
        ("CASE WHEN price > 100 THEN true ELSE false END", [False, True]),
        ("coalesce(price, 0) + 1 >= 6 AND length(origin) = 2", [True, True]),
    ],
)
def test_conditions_that_people_write_are_taken(where: str, met: list[bool]) -> None:
    assert slice_rows(where, ROWS).tolist() == met


@pytest.mark.parametrize(
    "where",
    [
        "price = (SELECT column_1 FROM read_csv('{file}'))",
        "EXISTS (SELECT * FROM read_csv('{file}'))",
        "price IN (SELECT 1)",
        "price = (TABLE x)",
        "price = (FROM x)",
        "read_csv('{file}') IS NOT NULL",
        "lpad(origin, 2000000000, 'x') = 'a'",
        "origin = 'a' -- and more",
        "origin /* x */ = 'a'",
        "price > 1; DROP TABLE x",
        "(" * 50 + "price > 1" + ")" * 50,
        " AND ".join(["price > 1"] * (MAX_OPERATORS + 1)),
        "price > " + "1" * 30_000,
        "\"read_csv\"('{file}')",
    ],
)
def test_what_reads_files_or_runs_away_is_refused(where: str, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("the secret\n1\n")
    with pytest.raises(TaskError, match="cannot be asked of the rows") as caught:
        slice_rows(where.replace("{file}", str(tmp_path / "secret.csv")), ROWS)
    assert "the secret" not in str(caught.value)


@settings(max_examples=150)
@given(st.text(alphabet="price origin()<>='\"`~!%.,;-/*1aANDORselectfrom\\[]{}", max_size=60))
def test_any_text_is_a_condition_or_one_message(where: str) -> None:
    with suppress(TaskError):  # and nothing else
        assert slice_rows(where, ROWS).shape == (2,)


def test_patterns_are_known() -> None:
    assert check_condition("origin REGEXP 'a'")
    assert not check_condition("origin = 'a ~ b'")


def test_a_pattern_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SECONDS", 1)
    follows = read_format("[ab]*a[ab]{10000}c")
    with pytest.raises(TaskError, match="make it simpler"):
        follows(["ab" * 200_000])
    assert read_format("[ab]{2}")(["ab", "a"]).tolist() == [True, False]
