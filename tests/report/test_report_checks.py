"""The task's further columns in every form of the board."""

import csv
import io
import json
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from kurabe.contest.board import Board
from kurabe.contest.checks import CheckResult
from kurabe.report import format as fmt
from kurabe.report.data import to_csv, to_json
from kurabe.report.html import html_report
from kurabe.report.markdown import markdown
from kurabe.report.notebook import notebook_html
from kurabe.report.notes import notes
from kurabe.report.terminal import board_table
from kurabe.tasks.checks import labels_of

MODEL = "prompt_3_nearest"


@pytest.fixture(scope="module")
def board(boards: dict[str, Board]) -> Board:
    return boards["checks"]


def shown(board: Board, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(board_table(board, width))
    return stream.getvalue().splitlines()


def cell(board: Board, label: str) -> str:
    return fmt.check(board.row(MODEL).checks.get(label), fmt.check_decimals(board)[label])


def test_a_cell_says_the_share_its_interval_and_what_it_was_tested_against() -> None:
    assert fmt.check(CheckResult(0.92, (0.861, 0.958), 50, p=0.0041, against="x"), None) == "92 % [86, 96] (p 0.004)"
    assert fmt.check(CheckResult(0.64, (0.5, 0.76), 50, agreement=0.84), None) == "64 % [50, 76] (84 % agree)"
    assert fmt.check(CheckResult(12.3, (10.1, 15.0), 50), 1) == "12.3 [10.1, 15.0]"
    assert fmt.check(CheckResult(12.3, None, 1), 1) == "12.3"
    assert fmt.check(None, None) == "–"


@pytest.mark.parametrize("width", [60, 80, 100, 140, 240])
def test_the_columns_asked_for_come_before_others_and_fit(board: Board, width: int) -> None:
    lines = shown(board, width)
    assert max(map(cell_len, lines)) <= width
    head = next(line for line in lines if line.lstrip().startswith("#"))
    assert "format" in head
    assert ("predictions/s" in head) <= ("tone" in head)
    if width == 240:
        row = next(line for line in lines if MODEL in line)
        for label in labels_of(board.evidence.checks):
            assert cell(board, label) in row


def test_every_form_has_every_column(board: Board) -> None:
    labels = labels_of(board.evidence.checks)
    told = markdown(board)
    page = html_report(board)
    small = notebook_html(board)
    row = board.row(MODEL)
    for label, decimals in fmt.check_decimals(board).items():
        value, rest = fmt.check_value(row.checks.get(label), decimals), fmt.check_rest(row.checks.get(label), decimals)
        assert f"| {cell(board, label)} |" in told
        html = rest.replace("<", "&lt;")
        assert f'<td class="num check">{value}{f"<small>{html}</small>" if rest else ""}</td>' in page
        assert cell(board, label).replace("<", "&lt;") in small
    assert page.count('class="num check"') == len(labels) * len(board.rows)
    assert "<img src=x" not in page + small + told.replace("\\<", "")


def test_the_data_have_every_figure(board: Board) -> None:
    row = board.row(MODEL)
    line = next(line for line in csv.DictReader(io.StringIO(to_csv(board))) if line["contestant"] == MODEL)
    found, tone = row.checks["format"], row.checks["tone"]
    assert found.interval is not None
    assert float(line["check_format"]) == found.value
    assert (float(line["check_format_low"]), float(line["check_format_high"])) == found.interval
    assert int(line["check_format_rows"]) == 120
    assert float(line["check_tone_agreement"]) == tone.agreement
    assert "check_tone_p" not in line
    records = {record["contestant"]: record for record in json.loads(to_json(board))["rows"]}
    assert records[MODEL]["checks"]["tone"]["agreement"] == tone.agreement
    assert set(records[MODEL]["checks"]) == set(labels_of(board.evidence.checks))


def test_notes_say_what_each_column_is_and_where_a_judge_stopped(board: Board) -> None:
    said = notes(board)
    texts = [note.text for note in said]
    rows = int((board.evidence.rows["topic"] == "pay").sum())
    assert any(text.startswith("format: share of answers that follow “The price is") for text in texts)
    assert any(f"token F1 on the {rows} test rows where topic = 'pay'" in text for text in texts)
    (tone,) = (text for text in texts if text.startswith("tone: how often openai:gpt-5.1 prefers the answer"))
    assert re.search(r"which it was in \d+ % to \d+ % of the pairs\. It cost \$0\.25\.$", tone)
    (stopped,) = (note for note in said if "has not judged everything" in note.text)
    assert stopped.warning
