"""`kurabe new`: where the table comes from, and what is said without one."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kurabe.cli.main import cli
from kurabe.errors import DataError
from kurabe.tasks.task import Task

ITEMS = "title,price\n" + "".join(f"a lamp of the year {i * 37 % 101} in green,{i}.5\n" for i in range(60))


def test_a_missing_table_is_named_even_where_a_task_file_stands(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "task.yaml").write_text("mine")
    done = CliRunner().invoke(cli, ["new", str(tmp_path / "item.csv"), "--target", "price"])
    assert isinstance(done.exception, DataError)
    assert "no file 'item.csv'; did you mean 'items.csv'?" in str(done.exception)


def test_a_table_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["new", "-", "--target", "price"], input=ITEMS, catch_exceptions=False)
    assert done.exit_code == 0
    text = (tmp_path / "task.yaml").read_text()
    assert '  source: "-"\n' in text
    assert text.startswith("# A first task file for standard input, 60 rows.")
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "task.yaml").write_text(text.replace('"-"', "items.csv"))
    assert Task.from_file(tmp_path / "task.yaml").kind == "number"
