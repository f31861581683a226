"""A person's answers: read from a CSV file, and given in a session at a terminal."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.base import clone

from kurabe.contestants.base import Prediction
from kurabe.contestants.human import Human
from kurabe.contestants.session import ask_person
from kurabe.errors import AnswerMissingError, DataError, KurabeError

X = pl.DataFrame({"id": ["a", "b", "c"], "input": ["oak table", "silver fork", "red\x1b[31m coat"]})
Y = np.array([300.0, 60.0, 80.0])
SPAM = ["not spam", "spam"]


def human(folder: Path, csv: str, **settings: Any) -> Human:
    path = folder / "answers.csv"
    path.write_text(csv, encoding="utf-8")
    return Human(answers=str(path), **settings).fit(X, Y)


@pytest.mark.parametrize(
    "csv",
    [
        "row,answer\n2,about $80\n0,300\n1,no idea\n",
        "input,answer\nsilver fork,no idea\noak table,300\nred\x1b[31m coat,80\n",
        "id,answer\nc,80\nb,no idea\na,300\n",
        "row,answer\n0,5\n1,no idea\n2,80\n0,300\n",
    ],
)
def test_answers_from_a_file(tmp_path: Path, csv: str) -> None:
    person = human(tmp_path, csv)
    assert [(p.row, p.value) for p in person.iter_predict(X)] == [(0, 300.0), (1, None), (2, 80.0)]
    assert person.predict(X).tolist() == [300.0, 80.0, 80.0]  # 80 is the training median


def test_only_the_first_rows_are_asked(tmp_path: Path) -> None:
    person = human(tmp_path, "row,answer\n0,300\n", rows=1)
    assert [p.row for p in person.iter_predict(X)] == [0]
    assert person.predict(X).tolist() == [300.0, 80.0, 80.0]


def test_positions_say_which_test_rows_are_asked(tmp_path: Path) -> None:
    person = human(tmp_path, "row,answer\n0,300\n1,60\n2,80\n")
    assert [(p.row, p.value) for p in person.iter_predict(X[2:], positions=[2])] == [(0, 80.0)]


@pytest.mark.parametrize(
    ("csv", "error", "says"),
    [
        ("row,answer\n0,300\n", AnswerMissingError, "2 of 3 rows have no answer, the first is row 1"),
        ("row,answer\n0,300\n1,\n2,80\n", AnswerMissingError, "1 of 3"),
        ("row,anser\n0,300\n", DataError, "did you mean 'anser'"),
        ("answer\n300\n", DataError, "says which row"),
        ("row,answer\nx,300\n", DataError, "line 2: the row 'x'"),
        ("row,answer\n-1,300\n", DataError, "'-1'"),
        ("row,answer\n7,300\n", DataError, "another task"),
        ("input,answer\nsomething else,300\n", DataError, "another task"),
        ("", DataError, "empty"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, csv: str, error: type[KurabeError], says: str) -> None:
    with pytest.raises(error, match=says):
        list(human(tmp_path, csv).iter_predict(X))


def test_a_column_that_does_not_tell_the_rows_apart(tmp_path: Path) -> None:
    person = human(tmp_path, "id,answer\na,1\n")
    with pytest.raises(DataError, match="tell the rows apart"):
        person.predict(X.with_columns(id=pl.lit("a")))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Human(answers=str(tmp_path / "none.csv")).fit(X, Y).predict(X)


def test_without_answers_it_is_skipped() -> None:
    reason = Human().skipped_reason()
    assert reason is not None
    assert "kurabe human TASK" in reason
    assert Human(answers="x.csv").skipped_reason() is None
    with pytest.raises(AnswerMissingError, match="kurabe human"):
        Human().fit(X, Y).predict(X)


def test_clone_keeps_the_settings() -> None:
    assert clone(Human(answers="x.csv", rows=3, kind="label")).get_params() == {
        "answers": "x.csv",
        "rows": 3,
        "kind": "label",
    }


def session(lines: Iterable[str], **settings: Any) -> tuple[list[Prediction], str]:
    """Hold a session that is given these lines; returns the answers and what was shown."""
    shown = io.StringIO()
    console = Console(file=shown, width=80)
    given = iter(lines)

    def ask(question: str) -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    tell: Callable[[Any], None] = console.print
    arguments = {"kind": "number", "target": "price", **settings}
    return list(ask_person(X, ask=ask, tell=tell, **arguments)), shown.getvalue()


def test_a_session_yields_answers_as_they_come() -> None:
    answers, shown = session(["about $300", "60", "1,5k"])
    assert [(p.row, p.value, p.raw) for p in answers] == [
        (0, 300.0, "about $300"),
        (1, 60.0, "60"),
        (2, 1500.0, "1,5k"),
    ]
    assert "oak table" in shown
    assert "row 3 of 3 · 2 answered" in shown
    assert "What is the price?" in shown
    assert "\x1b" not in shown  # a text cannot send commands to the terminal


def test_unreadable_answers_are_asked_again() -> None:
    answers, shown = session(["dunno", "", "300", "q"])
    assert [(p.row, p.value) for p in answers] == [(0, 300.0)]
    assert shown.count("can't be read as a number") == 2


def test_skip_quit_and_end_of_input() -> None:
    assert [p.row for p in session(["s", "60", "q"])[0]] == [1]
    assert [p.row for p in session(["300"])[0]] == [0]


def test_back_corrects_the_row_before() -> None:
    answers, _ = session(["300", "6", "b", "60", "80"])
    assert [(p.row, p.value) for p in answers] == [(0, 300.0), (1, 6.0), (1, 60.0), (2, 80.0)]
    assert [p.row for p in session(["b", "300", "q"])[0]] == [0]


def test_a_session_goes_on_where_it_was() -> None:
    answers, shown = session(["80"], answered={0, 1})
    assert [(p.row, p.value) for p in answers] == [(2, 80.0)]
    assert "oak table" not in shown
    assert [(p.row) for p in session(["b", "61", "80"], answered={0, 1})[0]] == [1, 2]
    assert session([], answered={0, 1, 2}) == ([], "")


@pytest.mark.parametrize(
    ("line", "label"), [("1", "not spam"), ("2", "spam"), ("spam", "spam"), ("n", "not spam"), ("NOT SPAM", "not spam")]
)
def test_labels_by_number_name_or_beginning(line: str, label: str) -> None:
    answers, shown = session([line, "q"], kind="label", labels=SPAM, target="class")
    assert [(p.row, p.value) for p in answers] == [(0, label)]
    assert "1 not spam" in shown


@pytest.mark.parametrize("line", ["3", "0", "ham", "x"])
def test_what_is_no_label_is_asked_again(line: str) -> None:
    answers, shown = session([line, "q"], kind="label", labels=SPAM, target="class")
    assert answers == []
    assert "can't be read as a label" in shown


def test_labels_that_are_numbers_mean_themselves() -> None:
    answers, _ = session(["2", "q"], kind="label", labels=["2", "1"], target="stars")
    assert answers[0].value == "2"


def test_a_label_called_like_a_command_is_a_label() -> None:
    answers, _ = session(["s", "q"], kind="label", labels=["s", "m"], target="size")
    assert [p.value for p in answers] == ["s"]


def test_texts() -> None:
    assert session([" Paris ", "q"], kind="text", target="answer")[0][0].value == "Paris"
