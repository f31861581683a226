"""kurabe track: which run and which settings go to a tracker."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kurabe.api import Task
from kurabe.cli import track
from kurabe.cli.main import cli
from kurabe.contest.board import Board
from kurabe.errors import JournalError, MissingExtraError

TASK = """
name: prices
data: {source: items.csv, split: {test: 20, validation: 0}}
input: "{{ text }}"
target: price
kind: number
contestants: [constant, {constant: {strategy: mean}, as: mine}]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = "".join(f"thing {n},{n % 7 + 1}\n" for n in range(60))
    (tmp_path / "items.csv").write_text("text,price\n" + rows)
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path / "task.yaml"


def test_the_newest_run_is_sent(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def send(*given: Any) -> str:
        sent.append(given)
        return "there"

    monkeypatch.setattr(track, "send", send)
    assert isinstance(CliRunner().invoke(cli, ["track", str(task), "--to", "mlflow"]).exception, JournalError)
    Task.from_file(task).compete(progress=False)
    done = CliRunner().invoke(cli, ["track", str(task), "--to", "trackio", "--at", "mine"])
    assert done.output == "Sent to trackio: there\n"
    ((board, settings, to, at, folder),) = sent
    assert isinstance(board, Board)
    assert {row.contestant for row in board.rows} == set(settings)
    assert settings["mine"] == {"strategy": "mean"}
    assert (to, at, folder) == ("trackio", "mine", task.parent)


def test_without_the_tracker(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Task.from_file(task).compete(progress=False)
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    error = CliRunner().invoke(cli, ["track", str(task), "--to", "mlflow"]).exception
    assert isinstance(error, MissingExtraError)
    assert "pip install 'kurabe[tracking]'" in str(error)
