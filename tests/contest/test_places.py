"""Each test row's place in its source goes with it into the journal and every export."""

import io
from pathlib import Path

import polars as pl
import pytest

from kurabe.api import Task
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.report.data import predictions_csv, to_json

ROWS = pl.DataFrame({"a": [i * 7 % 50 / 3 for i in range(50)], "y": [float(i) for i in range(50)]})


def exported(task: Task) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(predictions_csv(task.compete(only=["constant"]))))


def test_a_test_file_is_exported_in_its_own_order(tmp_path: Path) -> None:
    ROWS[:40].write_csv(tmp_path / "train.csv")
    ROWS[40:].write_csv(tmp_path / "test.csv")
    (tmp_path / "task.yaml").write_text(
        "name: t\ndata: {train: train.csv, test: test.csv}\ntarget: y\nkind: number\ncontestants: [constant]\n"
    )
    frame = exported(Task.from_file(tmp_path / "task.yaml"))
    assert frame["row"].to_list() == list(range(10))
    assert frame["truth"].to_list() == ROWS["y"][40:].to_list()


def test_rows_of_one_source_are_counted_in_the_whole_source(tmp_path: Path) -> None:
    task = Task.from_frame(ROWS, target="y", contestants=["constant"], folder=tmp_path)
    frame = exported(task)
    assert frame["row"].is_sorted()
    assert frame["truth"].to_list() == frame["row"].cast(pl.Float64).to_list()
    assert task.test.places is not None
    assert task.test.places.tolist() == task.test.y.tolist()


def test_rows_without_a_target_are_counted_too(tmp_path: Path) -> None:
    frame = ROWS.with_columns(pl.when(pl.col("y") % 3 != 0).then("y"))
    shown = exported(Task.from_frame(frame, target="y", contestants=["constant"], folder=tmp_path))
    assert shown["truth"].to_list() == shown["row"].cast(pl.Float64).to_list()


def test_a_limited_run_keeps_its_random_sample(tmp_path: Path) -> None:
    task = Task.from_frame(ROWS, target="y", contestants=["constant"], folder=tmp_path)
    board = task.compete(limit=3)
    assert task.test.places is not None
    assert pl.read_csv(io.StringIO(predictions_csv(board)))["row"].to_list() == sorted(task.test.places[:3])


def test_leaks_are_named_by_their_place(tmp_path: Path) -> None:
    train = pl.DataFrame({"a": ["the same long text of many words that stands on both sides"] * 8, "y": [1.5] * 8})
    test = pl.DataFrame({"a": ["one", "two", train["a"][0], "three"], "y": [2.0, 3.0, 1.5, 4.0]})
    task = Task.from_frame(train, test=test, target="y", contestants=["constant"], folder=tmp_path, kind="number")
    assert '"exact": [\n      2\n    ]' in to_json(task.compete())


def test_a_journal_without_places_numbers_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kurabe.contest.prepare.PLACE", "__unknown__")
    task = Task.from_frame(ROWS, target="y", contestants=["constant"], folder=tmp_path)
    board = task.compete()
    with Journal(journal_path(tmp_path)) as journal:
        assert journal.evidence(board.evidence.run).places is None
    assert pl.read_csv(io.StringIO(predictions_csv(board)))["row"].to_list() == list(range(10))
