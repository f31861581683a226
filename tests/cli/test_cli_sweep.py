"""kurabe sweep"""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from kurabe.cli.main import cli
from kurabe.errors import KurabeError

TASK = """
name: prices
data: {source: items.csv, split: {test: 40, validation: 60, seed: 1}}
input: "{{ text }}"
target: price
kind: number
contestants:
- constant
- {sweep: {contestant: nearest_neighbours, over: {neighbours: [1, 5, 20]}, rows: [40, 200]}}
- sweep: {contestant: {tfidf_ridge: {log: false}}, over: {alpha: {low: 0.1, high: 10, log: true}}, trials: 2}
  as: ridge
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = rng.choice(["red", "old", "new", "big"], (300, 3))
    worth = {"red": 5.0, "old": -4.0, "new": 9.0, "big": 1.0}
    price = [round(20 + sum(worth[word] for word in row) + float(rng.normal()), 2) for row in words]
    pl.DataFrame({"text": [" ".join(row) for row in words], "price": price}).write_csv(tmp_path / "items.csv")
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], env={"COLUMNS": "120"})


def test_it_runs_the_sweeps_alone_and_shows_what_they_chose(folder: Path) -> None:
    result = call("sweep", folder)
    assert result.exit_code == 0, (result.output, result.exception)
    shown = result.stdout
    assert "constant" not in shown
    assert re.search(r"sweep nearest_neighbours\nchose neighbours \d+ among 3 trials.* on 60 validation rows\.", shown)
    assert re.search(r"\n +40 +\d+\.\d+ +\[\d+\.\d+, \d+\.\d+\]\n +200 ", shown)
    assert "From 40 to 200 training rows" in shown
    assert re.search(r"\nridge\nchose alpha", shown)
    assert shown.count("On 40 test rows: ") == 2
    assert "kurabe report" in result.stderr


def test_json_holds_trials_curve_and_the_test_score(folder: Path) -> None:
    (found,) = json.loads(call("sweep", folder, "--contestant", "tfidf_ridge", "--json").stdout)
    assert found["contestant"] == "ridge"
    assert found["test"]["status"] == "done"
    sweep = found["sweep"]
    assert sweep["settings"] == sweep["trials"][sweep["chosen"]]["settings"]
    assert 0.1 <= sweep["settings"]["alpha"] <= 10
    assert [point["rows"] for point in sweep["curve"]] == [200]
    low, high = sweep["curve"][0]["interval"]
    assert low < sweep["curve"][0]["score"] < high
    again = call("sweep", folder, "--contestant", "ridge", "--json")
    assert json.loads(again.stdout) == [found]


def test_a_sweep_that_is_not_there(folder: Path) -> None:
    error = call("sweep", folder, "--contestant", "rigde").exception
    assert isinstance(error, KurabeError)
    assert "no sweep 'rigde'; did you mean 'ridge'" in str(error)
    (folder / "task.yaml").write_text(TASK.split("- {sweep")[0])
    error = call("sweep", folder).exception
    assert isinstance(error, KurabeError)
    assert "no contestant of this task is a sweep; add one" in str(error)


def test_the_board_and_the_report_show_it_too(folder: Path) -> None:
    assert call("sweep", folder, "--contestant", "ridge").exit_code == 0
    shown = " ".join(call("board", folder).stdout.split())
    assert re.search(r"ridge chose alpha \S+ among 2 trials", shown)
    assert call("report", folder, "--format", "json", "-o", folder / "board.json").exit_code == 0
    (row,) = json.loads((folder / "board.json").read_text())["rows"]
    assert row["sweep"]["validation_rows"] == 60
