import re

import pytest

from kurabe.contest.board import Board
from kurabe.report import format as fmt
from kurabe.report.notebook import notebook_html

NAMES = ("number", "label", "text", "every_status", "nothing_ran", "one")


@pytest.mark.parametrize("name", NAMES)
def test_a_row_a_scored_contestant_and_no_script_or_style_sheet(boards: dict[str, Board], name: str) -> None:
    board = boards[name]
    text = notebook_html(board)
    scored = [row for row in board.rows if row.score is not None]
    assert text.count("<tr>") == (len(scored) + 1 if scored else 0)
    assert text.count("<svg") == len(scored)
    assert not re.search(r"<(script|style|link|img)|https?:|\bon\w+=[\"']", text)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in re.findall(r"<tr>(<td.*?)</tr>", text)]
    decimals = fmt.score_places(board)
    assert [row[2] for row in cells] == [fmt.number(row.score, decimals) for row in scored]
    assert [row[0] for row in cells] == [fmt.rank(row) for row in scored]
    assert len(text) < 30_000


def test_what_is_hostile_stays_text(boards: dict[str, Board]) -> None:
    text = notebook_html(boards["every_status"])
    assert "&lt;/script&gt;&lt;script&gt;" in text
    assert "/home/ann" not in text
