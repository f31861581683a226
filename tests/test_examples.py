"""The examples run as written: a part of each always, the whole of each with `-m slow`."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from kurabe.cli.main import cli

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "task.yaml").exists())


def run(name: str, folder: Path, *options: str) -> dict[str, dict[str, object]]:
    """Run an example in a copy of its folder; its rows by contestant."""
    shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns(".kurabe"))
    result = CliRunner().invoke(cli, ["run", str(folder / name), "--json", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {row["contestant"]: row for row in json.loads(result.stdout)["rows"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_each(name: str, tmp_path: Path) -> None:
    rows = run(name, tmp_path, "--only", "constant", "--only", "linear_features", "--limit", "60")
    assert {row["status"] for row in rows.values()} == {"done"}
    ranks = {contestant: row["rank"] for contestant, row in rows.items()}
    assert ranks["linear_features"] == 1
    assert all(rank == 2 for contestant, rank in ranks.items() if contestant.startswith("constant"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("smollm2")
def test_the_whole_of_each(name: str, tmp_path: Path) -> None:
    rows = run(name, tmp_path)
    assert sum(row["status"] == "done" for row in rows.values()) >= 10
    assert [contestant for contestant, row in rows.items() if row["model"] and row["status"] == "done"]
    assert "human" not in rows  # nobody has answered
