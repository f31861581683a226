from dataclasses import replace
from pathlib import Path

import pytest

from kurabe.contest.board import Board
from kurabe.report import format as fmt
from kurabe.report.notes import notes, stands_for_unread


def test_numbers_at_the_edges() -> None:
    assert fmt.number(-0.0001, 1) == "0.0"
    assert fmt.number(float("nan")) == "–"
    assert fmt.number(float("-inf")) == "−∞"
    assert fmt.number(2.5e12, 1) == "2.50e+12"
    assert fmt.number(-12.34, 1) == "-12.3"
    assert fmt.number(0.0) == "0.00"
    assert fmt.size(999_999) == "1.00 MB"
    assert fmt.seconds(59.7) == "1 min 00 s"
    assert fmt.seconds(0.0) == "0 s"
    assert fmt.dollars(1e-12) == "$0.00000000"
    assert fmt.interval(None, 2) == "–"


def test_a_score_too_small_for_the_decimals_is_not_nought() -> None:
    assert fmt.number(3.2e-9, fmt.places(3.2e-9)) == "3.20e-09"
    assert fmt.number(-3.2e-9, 6) == "-3.20e-09"
    assert fmt.number(0.0000123, 6) == "0.000012"
    assert fmt.number(0.0, 6) == "0.000000"
    assert fmt.number(3.2e-9, 3) == "0.000"


def test_scores_of_a_board_share_their_decimals(boards: dict[str, Board]) -> None:
    assert fmt.score_places(boards["number"]) == 1
    assert fmt.score_places(boards["label"]) == 3
    assert fmt.score_places(boards["nothing_ran"]) == 2


def test_secrets_and_paths_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefgh12345678")
    said = fmt.redact(f"bad key sk-abcdefgh12345678 in {Path.home()}/a/b.txt and C:\\Users\\ann\\c.csv or 3/4 and/or x")
    assert said == "bad key ••• in …/b.txt and …/c.csv or 3/4 and/or x"
    assert fmt.redact("see https://example.org/a/b") == "see https://example.org/a/b"


@pytest.mark.parametrize("home", ["/", ""])
def test_a_home_that_is_the_root_leaves_slashes_alone(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert fmt.redact("and/or hf:some/model at /srv/a/b.txt") == "and/or hf:some/model at …/b.txt"


def test_plain_takes_out_what_a_terminal_obeys() -> None:
    assert fmt.plain("a\x1b[31mb\u202ec\td\n\u2028e\x00") == "a[31mbc d e"


def test_the_unread_rule_names_the_value(boards: dict[str, Board]) -> None:
    assert stands_for_unread(boards["number"]).startswith("the training median (")
    assert stands_for_unread(boards["label"]) == "the most frequent label ('Clothing')"
    assert stands_for_unread(boards["text"]).startswith("the most frequent text ('")


def test_a_small_test_part_is_a_warning(boards: dict[str, Board]) -> None:
    assert any(note.warning and "30 test rows" in note.text for note in notes(boards["nothing_ran"]))
    assert not any("only large differences can be seen" in note.text for note in notes(boards["number"]))


def test_only_what_was_answered_in_part_is_called_scored_in_part(boards: dict[str, Board]) -> None:
    board = boards["every_status"]
    texts = [note.text for note in notes(board) if note.text.startswith("Not finished")]
    assert texts == [
        "Not finished, so scored on the rows answered and not ranked: prompt_zero_shot (90 of 250 rows). "
        "Run again to go on."
    ]
    unanswered = tuple(replace(row, answered=0) if row.status == "partial" else row for row in board.rows)
    assert not any(note.text.startswith("Not finished") for note in notes(replace(board, rows=unanswered)))
