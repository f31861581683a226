import csv
import io
import json
import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import Board
from kurabe.contest.evidence import Entry, Evidence
from kurabe.report.data import finite, predictions_csv, to_csv, to_json

NAMES = ("number", "label", "text", "every_status", "nothing_ran", "one")


@pytest.mark.parametrize("name", NAMES)
def test_csv_gives_back_every_value(boards: dict[str, Board], name: str) -> None:
    board = boards[name]
    records = list(csv.DictReader(io.StringIO(to_csv(board), newline="")))
    assert len(records) == len(board.rows)
    for record, row in zip(records, board.rows, strict=True):
        assert record["contestant"] == row.contestant
        assert record["status"] == row.status
        assert record["reason"] == (row.reason or "")
        assert (float(record["score"]) if record["score"] else None) == row.score
        low_high = (float(record["low"]), float(record["high"])) if record["low"] else None
        assert low_high == row.interval
        assert (float(record["usd"]) if record["usd"] else None) == row.usd
        assert (int(record["rank"]) if record["rank"] else None) == row.rank
        assert record["rank_range"] == (f"{row.rank_range[0]}–{row.rank_range[1]}" if row.rank_range else "")
        assert {k: float(record[k]) for k in row.second} == row.second


@pytest.mark.parametrize("name", NAMES)
def test_json_is_a_superset_of_the_boards_object(boards: dict[str, Board], name: str) -> None:
    board = boards[name]
    whole = json.loads(to_json(board))
    base = board.to_dict()
    assert {key: whole[key] for key in base if key != "rows"} == {key: base[key] for key in base if key != "rows"}
    for record, expected, row in zip(whole["rows"], base["rows"], board.rows, strict=True):
        assert expected.items() <= record.items()
        assert record["second"] == row.second
        assert record["peak_bytes"] == row.peak_bytes
    assert len(whole["comparisons"]) == len(board.comparisons)
    for record, comparison in zip(whole["comparisons"], board.comparisons, strict=True):
        assert (record["a"], record["b"]) == (comparison.a, comparison.b)
        assert record["p_holm"] == record["p_adjusted"] == comparison.p_adjusted
    assert whole["leaks"] == {"exact": list(board.evidence.leaks.exact), "near": list(board.evidence.leaks.near)}
    assert whole["test_rows"] == len(board.evidence.truth)


def test_what_is_not_finite_is_null() -> None:
    assert finite({"a": (float("nan"), np.float64("inf"), np.int64(3), "nan")}) == {"a": [None, None, 3, "nan"]}


@pytest.mark.parametrize("name", ["number", "label", "text", "every_status"])
def test_predictions_give_back_every_guess(boards: dict[str, Board], name: str) -> None:
    evidence = boards[name].evidence
    records = list(csv.DictReader(io.StringIO(predictions_csv(boards[name]), newline="")))
    read = float if evidence.kind == "number" else str
    assert [read(record["truth"]) for record in records] == list(evidence.truth)
    assert [record["input"] for record in records] == evidence.rows["input"].to_list()
    answered = [entry for entry in evidence.entries if entry.answered.any()]
    unread = [entry for entry in evidence.entries if entry.unread.any()]
    assert len(records[0]) == 3 + len(answered) + len(unread)
    for entry in answered:
        said = [record[entry.name] for record in records]
        assert [bool(text) for text in said] == entry.answered.tolist()
        assert [read(text) for text in said if text] == list(entry.guesses[entry.answered])
    for entry in unread:
        assert [record[f"unread: {entry.name}"] == "true" for record in records] == entry.unread.tolist()


def test_a_metric_that_is_not_defined_is_empty(
    make_board: Callable[[Evidence], Board], boards: dict[str, Board]
) -> None:
    evidence = boards["one"].evidence
    board = make_board(Evidence(**(evidence.__dict__ | {"truth": np.full(len(evidence.truth), 5.0)})))
    assert math.isnan(board.rows[0].second["r2"])
    record = next(csv.DictReader(io.StringIO(to_csv(board), newline="")))
    assert record["r2"] == ""
    assert float(record["score"]) == board.rows[0].score


def test_no_contestants_column_hides_another(make_board: Callable[[Evidence], Board], boards: dict[str, Board]) -> None:
    evidence = boards["every_status"].evidence
    one = next(entry for entry in evidence.entries if entry.unread.any())
    names = [f"unread: {one.name}", one.name, "guess: input", "input"]
    entries = tuple(Entry(**(one.__dict__ | {"name": name})) for name in names)
    frame = pl.read_csv(
        io.StringIO(predictions_csv(make_board(Evidence(**(evidence.__dict__ | {"entries": entries})))))
    )
    assert len(frame.columns) == 3 + 2 * len(names)
    assert sum(frame[name].to_list() == one.guesses.tolist() for name in frame.columns[3:]) == len(names)


def test_a_contestant_called_truth_does_not_hide_the_truth(
    boards: dict[str, Board], make_board: Callable[[Evidence], Board]
) -> None:
    evidence = boards["one"].evidence
    entry = type(evidence.entries[0])(**(evidence.entries[0].__dict__ | {"name": "truth"}))
    board = make_board(Evidence(**(evidence.__dict__ | {"entries": (entry,)})))
    frame = pl.read_csv(io.StringIO(predictions_csv(board)))
    assert frame["truth"].to_list() == list(evidence.truth)
    assert frame["guess: truth"].to_list() == list(entry.guesses)
