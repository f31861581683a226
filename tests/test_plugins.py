"""Packages that add to kurabe: the example in `examples/plugin`, installed, and packages that can't be imported."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("setuptools", reason="pip builds the example package with setuptools")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example package is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    subprocess.run(["cp", "-r", str(ROOT / "examples" / "plugin"), str(source)], check=True)  # building writes there
    install = ["install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *install, str(source / "plugin")], check=True)
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"{'word ' * (n % 7 + 1)}no. {n},{10 * (n % 7 + 1)}\n" for n in range(80))
    (tmp_path / "items.csv").write_text("text,price\n" + rows)
    (tmp_path / "task.yaml").write_text(
        textwrap.dedent("""
        name: items
        data: {source: items.csv, split: {test: 20, validation: 10}}
        target: price
        kind: number
        metric: within_10_percent
        contestants: [constant, {by_length: {bins: 7}}]
        """)
    )
    return tmp_path


def kurabe(site: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "kurabe", *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def broken(folder: Path, group: str, name: str) -> Path:
    """A site folder with a package whose entry point can't be imported."""
    info = folder / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kurabe.{group}]\n{name} = broken_package:thing\n")
    (folder / "broken_package.py").write_text("raise RuntimeError('not today')\n")
    return folder


def test_the_example_package_adds_a_contestant_a_metric_a_format_and_a_command(site: Path, folder: Path) -> None:
    done = kurabe(site, folder, "run", "task.yaml")
    assert done.returncode == 0, done.stderr
    assert "within 10 %" in done.stdout
    written = kurabe(site, folder, "report", "task.yaml", "--format", "ranking", "-o", "-")
    assert written.returncode == 0, written.stderr
    assert written.stdout.splitlines()[0].startswith("1 by_length 1")
    assert kurabe(site, folder, "rows", "task.yaml").stdout == "50 training, 10 validation and 20 test rows\n"
    assert "Show how many rows a task's parts have." in kurabe(site, folder, "--help").stdout
    again = kurabe(site, folder, "predict", "task.yaml", "word word no. 3", "--contestant", "by_length")
    assert again.returncode == 0, again.stderr
    assert "20" in again.stdout


def test_its_contestant_passes_the_battery_and_is_told_of_the_task(site: Path, folder: Path) -> None:
    code = """
        from kurabe import check_contestant
        from kurabe.contest.prepare import make_entrants
        from kurabe.tasks.task import Task
        from kurabe_example.contestant import ByLength
        check_contestant(ByLength(), kind="number")
        made = make_entrants(Task.from_file("task.yaml"), 0)[1].estimator
        print(made.kind, made.metric, made.target)
    """
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "number within_10_percent price\n", done.stderr


def test_without_the_package_its_names_are_unknown(tmp_path: Path, folder: Path) -> None:
    done = kurabe(tmp_path, folder, "run", "task.yaml")
    assert done.returncode == 2
    assert "no metric for kind 'number' 'within_10_percent'" in done.stderr


@pytest.mark.parametrize(
    ("group", "name", "arguments"),
    [
        ("contestants", "by_length", ["run", "task.yaml"]),
        ("metrics", "within_10_percent", ["run", "task.yaml"]),
        ("commands", "rows", ["rows", "task.yaml"]),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(
    tmp_path: Path, folder: Path, group: str, name: str, arguments: list[str]
) -> None:
    text = (folder / "task.yaml").read_text()
    if group != "metrics":
        (folder / "task.yaml").write_text(text.replace("metric: within_10_percent\n", ""))
    done = kurabe(broken(tmp_path / "site", group, name), folder, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") < 4
    assert f"'{name}' comes with the package broken, which cannot be imported (RuntimeError: not today)" in done.stderr
    assert kurabe(tmp_path / "site", folder, "--help").returncode == 0
