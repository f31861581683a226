import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from kurabe.contest.board import Board
from kurabe.report import format as fmt
from kurabe.report.axis import Axis
from kurabe.report.terminal import LINES, board_svg, board_table, board_text, interval_bar

NAMES = ("number", "label", "text", "every_status", "nothing_ran", "one")


def shown(board: Board, width: int, encoding: str = "utf-8") -> str:
    """What a console of this width and encoding writes, read back from its bytes."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="strict", write_through=True)
    Console(file=stream, width=width, color_system=None).print(board_table(board, width))
    return written.getvalue().decode(encoding)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_longer_than_the_width(boards: dict[str, Board], name: str, width: int) -> None:
    lines = shown(boards[name], width).splitlines()
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_scored_row_stands_with_its_rank_and_score_best_first(boards: dict[str, Board], width: int) -> None:
    board = boards["number"]
    text = shown(board, width)
    found = re.findall(r"^ *([\d–]+)  (\w[\w…]+) .*?●.*? (\d+\.\d)", text, re.MULTILINE)
    assert [score for _, _, score in found] == [f"{row.score:.1f}" for row in board.rows]
    assert [name[:12] for _, name, _ in found] == [row.contestant[:12] for row in board.rows]
    assert [rank for rank, _, _ in found] == [fmt.rank(row) for row in board.rows]
    assert any("–" in rank for rank, _, _ in found)


def test_wide_terminals_show_more(boards: dict[str, Board]) -> None:
    board = boards["every_status"]
    narrow, wide = shown(board, 80), shown(board, 200)
    assert "95 % interval" in narrow
    assert "memory" not in narrow
    for title in ("95 % interval", "model", "unread", "median AE", "R²", "cost", "fit", "predictions/s", "memory"):
        assert title in wide


def test_what_did_not_run_is_shown_with_the_reason_and_what_was_unread_with_the_rule(boards: dict[str, Board]) -> None:
    text = " ".join(shown(boards["every_status"], 120).split())
    assert "failed nearest_neighbours: MemoryError" in text
    assert "skipped linear: no answers yet; run `kurabe human prices.yaml`" in text
    assert "3 test rows (1.2 %) also stand in the training part: 2 exactly, 1 nearly." in text
    assert "(prompt_3_nearest 3) are scored as the training median (" in text
    assert "prompt_zero_shot (90 of 250 rows)" in text
    assert "A rank like 1–3 is a range that paired tests can't narrow" in text
    assert "A cost of ? is unknown, not zero." in text


def test_nothing_from_outside_reaches_the_terminal_as_control_or_markup(boards: dict[str, Board]) -> None:
    text = shown(boards["every_status"], 200)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    assert "[bold]red[/bold]" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_console_that_is_not_utf8_gets_ascii(boards: dict[str, Board], name: str) -> None:
    text = shown(boards[name], 80, encoding="ascii")
    assert text.isascii()
    if name != "nothing_ran":
        assert re.search(r"\|-*o-*\|", text)


def test_nothing_ran(boards: dict[str, Board]) -> None:
    text = shown(boards["nothing_ran"], 80)
    assert "No contestant has a score." in text
    assert text.count("needs OPENAI_API_KEY") == 3


def test_interval_bar_is_drawn_to_scale_and_arrows_leave_the_axis(boards: dict[str, Board]) -> None:
    row = replace(boards["one"].rows[0], score=50.0, interval=(25.0, 80.0))
    assert interval_bar(row.score, row.interval, Axis(0.0, 100.0), 21) == "     ├────●─────┤    "
    assert interval_bar(row.score, row.interval, Axis(0.0, 60.0), 21) == "        ├────────●──▸"
    assert interval_bar(row.score, row.interval, Axis(40.0, 100.0), 21) == "◂──●─────────┤       "
    assert interval_bar(row.score, row.interval, Axis(90.0, 100.0), 21) == "◂" + " " * 20
    assert interval_bar(row.score, row.interval, Axis(0.0, 10.0), 21) == " " * 20 + "▸"
    assert interval_bar(row.score, None, Axis(0.0, 100.0), 21) == " " * 10 + "●" + " " * 10


def test_svg_stands_alone_and_shows_every_name(boards: dict[str, Board]) -> None:
    svg = board_svg(boards["number"])
    assert svg.startswith("<svg")
    assert not re.search(r"https?://(?!www\.w3\.org)", svg)
    assert "url(http" not in svg
    for row in boards["number"].rows:
        assert row.contestant in svg
    assert "<script" not in board_svg(boards["every_status"])


@pytest.mark.parametrize("name", NAMES)
def test_a_board_in_python_is_a_short_text(boards: dict[str, Board], name: str) -> None:
    text = board_text(boards[name])
    assert len(text.splitlines()) <= LINES
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert boards[name].evidence.task[:5] in text
    assert len(repr(boards[name])) < 200


def test_a_long_board_in_python_is_cut_and_says_so(boards: dict[str, Board]) -> None:
    board = boards["number"]
    rows = [replace(row, contestant=f"{row.contestant} {n}") for row in board.rows for n in range(9)]
    entries = [replace(one, name=f"{one.name} {n}") for one in board.evidence.entries for n in range(9)]
    many = replace(board, rows=tuple(rows), evidence=replace(board.evidence, entries=tuple(entries)))
    lines = board_text(many).splitlines()
    assert len(lines) == LINES
    assert re.fullmatch(r"… and \d+ lines more; print\(board.to_markdown\(\)\) shows all", lines[-1])
