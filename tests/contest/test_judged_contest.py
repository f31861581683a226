"""Contests whose answers a model judges, against simulated providers on the loopback."""

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from kurabe import Board, Task
from kurabe.contest.board import Board as Computed
from kurabe.contest.board import compute_board
from kurabe.contest.checks import CheckResult
from kurabe.contest.journal import Journal
from kurabe.contest.observer import Silent, Standing
from kurabe.contest.prepare import journal_path
from kurabe.contest.run import run
from kurabe.contest.style import FIRST, NEITHER, SECOND
from kurabe.errors import TaskError
from kurabe.report.notes import notes
from kurabe.testing import Fault, Simulator

PRICE = {"input": 1.0, "output": 2.0}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")


def make_task(folder: Path, server: Simulator, *, usd: float | None = None, **options: Any) -> Task:
    rows = [{"question": f"Where is order {n}?", "answer": f"Order {n} is on its way!"} for n in range(60)]
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    given = {"base_url": server.url, "price": PRICE, "policy": {"first_wait": 0.01}, "concurrency": 4, **options}
    (folder / "task.yaml").write_text(
        textwrap.dedent(f"""
        name: replies
        data: {{source: rows.csv, split: {{test: 20, validation: 10}}}}
        input: "{{{{ question }}}}"
        target: answer
        kind: text
        contestants: [constant, nearest_neighbours]
        checks:
        - style: {{rubric: no exclamation marks, judge: "openai:gpt-5.1", rows: 10, options: {given!r}}}
          as: calm
        """)
        + (f"budget: {{usd: {usd}}}\n" if usd else ""),
        encoding="utf-8",
    )
    return Task.from_file(folder / "task.yaml")


def calm(board: Board) -> dict[str, CheckResult]:
    return {row.contestant: row.checks["calm"] for row in board.rows if "calm" in row.checks}


def said(board: Computed) -> str:
    return " ".join(note.text for note in notes(board))


def test_a_judge_is_asked_in_both_orders_and_nothing_twice(tmp_path: Path) -> None:
    with Simulator("openai", answer="First.") as server:
        board = make_task(tmp_path, server).compete()
        found = calm(board)
        assert set(found) == {"constant", "nearest_neighbours"}
        for one in found.values():
            assert (one.value, one.rows, one.agreement) == (0.5, 10, 0.0)
        asked = [call.json["messages"][-1]["content"] for call in server.requests]
        assert len(asked) == len(set(asked)) == 40
        assert all("no exclamation marks" in call.json["messages"][0]["content"] for call in server.requests)
        again = Task.from_file(tmp_path / "task.yaml").compete()
        assert server.calls == 40
        assert calm(again) == found
        assert "It cost $" in said(board)


def test_verdicts_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with Simulator("openai", answer='{"better": 1}') as server:
        board = make_task(tmp_path, server).compete()
        assert {one.value for one in calm(board).values()} == {0.5}
        assert "calm: of 40 verdicts of the judge, 40 could not be read as first, second or neither" in said(board)


def test_a_judge_that_cannot_be_asked_leaves_the_column_empty_with_the_reason(tmp_path: Path) -> None:
    with Simulator("openai", faults=Fault.status(401)) as server:
        board = make_task(tmp_path, server).compete()
        assert calm(board) == {}
        assert [row.status for row in board.rows] == ["done", "done"]
        assert "calm: the judge has not judged everything:" in said(board)
        assert "does not accept the key" in said(board)
    with Simulator("openai", answer="neither") as server:  # another address is another judge
        board = make_task(tmp_path, server).compete()
        assert {one.agreement for one in calm(board).values()} == {1.0}
        assert "not judged everything" not in said(board)


def test_a_judge_keeps_to_the_tasks_dollars_and_goes_on_with_more(tmp_path: Path) -> None:
    def shout(text: str) -> str:
        first, second = text.split("Second answer:")
        return NEITHER if first.count("!") == second.count("!") else FIRST if "!" not in first else SECOND

    with Simulator("openai", answer=shout) as server:
        board = make_task(tmp_path, server, usd=0.0035).compete()
        made = server.calls
        assert 0 < made < 40
        assert board.evidence.judged[0].usd is not None
        assert 0 < board.evidence.judged[0].usd <= 0.0035
        assert "budget of $0.0035" in said(board)
        whole = make_task(tmp_path, server, usd=1.0).compete()
        assert server.calls == 40  # what was paid was not asked again
        assert {one.rows for one in calm(whole).values()} == {10}


def test_a_judges_key_has_no_place_in_a_task_file(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        task = make_task(tmp_path, server, api_key="sk-secret-0123456789")
        with pytest.raises(TaskError, match=r"checks\[0\]\.style: options: api_key does not belong here"):
            task.compete()
        assert server.calls == 0
        journal = tmp_path / ".kurabe" / "journal.sqlite"
        assert not journal.exists() or b"sk-secret" not in journal.read_bytes()


def test_a_wrong_option_of_a_judge_is_named_with_its_place(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        task = make_task(tmp_path, server, concurency=4)
        with pytest.raises(TaskError, match=r"checks\[0\]\.style: no option 'concurency'; did you mean 'concurrency'"):
            task.compete()


def test_a_judge_that_was_killed_is_not_through_and_goes_on(tmp_path: Path) -> None:
    class Killed(Silent):
        def predicted(self, label: str, standing: Standing) -> None:
            if label == "judging calm":
                raise KeyboardInterrupt  # some verdicts are in the journal by then

    with Simulator("openai", answer="First.") as server:
        with pytest.raises(KeyboardInterrupt):
            run(make_task(tmp_path, server, concurrency=1), observer=Killed())
        with Journal(journal_path(tmp_path)) as journal:
            board = compute_board(journal.evidence(journal.runs()[0].id), 100)
        assert 0 < len(board.evidence.judged[0].verdicts) < 40
        assert "calm: the judge has not judged everything: run again to go on" in said(board)
        whole = make_task(tmp_path, server, concurrency=1).compete()
        assert "not judged everything" not in said(whole)
        assert {one.rows for one in calm(whole).values()} == {10}


def test_a_style_without_answers_to_hold_others_against_says_so(tmp_path: Path) -> None:
    with Simulator("openai") as server:
        task = make_task(tmp_path, server)
        (check,) = task.spec.checks
        assert check.style is not None
        style = msgspec.structs.replace(check.style, against="prompt")
        checks = (msgspec.structs.replace(check, style=style),)
        board = replace(task, spec=msgspec.structs.replace(task.spec, checks=checks)).compete()
        assert server.calls == 0
        assert calm(board) == {}
        assert "calm: there are no answers of “prompt” to hold others against." in said(board)
