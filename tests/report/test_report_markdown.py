import re

import pytest

from kurabe.contest.board import Board
from kurabe.report import format as fmt
from kurabe.report.markdown import escape, markdown

NAMES = ("number", "label", "text", "every_status", "nothing_ran", "one")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_one_line_a_scored_contestant_with_its_score(boards: dict[str, Board], name: str) -> None:
    board = boards[name]
    lines = [line for line in markdown(board).splitlines() if line.startswith("|")]
    scored = [row for row in board.rows if row.score is not None]
    if not scored:
        assert not lines
        assert "No contestant has a score." in markdown(board)
        return
    titles = cells(lines[0])
    assert {len(cells(line)) for line in lines} == {len(titles)}
    assert len(lines) == len(scored) + 2
    for line, row in zip(lines[2:], scored, strict=True):
        record = dict(zip(titles, cells(line), strict=True))
        assert escape(row.contestant) in record["contestant"]
        assert row.score is not None
        assert float(record["score"].replace(",", "")) == pytest.approx(row.score, rel=0.01)
        assert record["#"] == fmt.rank(row)


def test_what_comes_from_outside_is_no_markup(boards: dict[str, Board]) -> None:
    text = markdown(boards["every_status"])
    assert "<script" not in text.replace("\\<", "")
    assert "/home/ann" not in text
    assert "…/answers.csv" in text
    assert "\n\n\n" not in text


def test_escape_keeps_markup_links_and_mentions_plain() -> None:
    assert escape("a|b *c* [d](e) @f <g> http://h\nwww.i") == (r"a\|b \*c\* \[d\](e) \@f \<g\> http:\//h www\.i")
