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


def broken(
    folder: Path, group: str, name: str, code: str = "raise RuntimeError('not today')\n", package: str = "broken"
) -> Path:
    """A site folder with a package whose entry point can't be imported, or has some other `code`."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kurabe.{group}]\n{name} = {package}_package:thing\n")
    (folder / f"{package}_package.py").write_text(code)
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


def run(site: Path, folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_example_package_adds_an_engine(site: Path, folder: Path) -> None:
    task = (folder / "task.yaml").read_text()
    prompted = task.replace("contestants: [", "contestants: [{prompt: {model: greatest:number}}, ")
    (folder / "task.yaml").write_text(prompted)
    done = kurabe(site, folder, "run", "task.yaml")
    assert done.returncode == 0, done.stderr
    assert "greatest:number" in done.stdout
    code = """
        from kurabe import open_model
        from kurabe.errors import ModelError
        with open_model("greatest:number?digits=2") as model:
            print(model.reference, model.complete("3 or 5.256?"), [d.text for d in model.stream("3 or 5?")])
        for wrong in ("greatest:word", "greatest:number?colour=red", "letters:latin", "greatst:number"):
            try:
                open_model(wrong)
            except ModelError as error:
                print(error)
    """
    lines = run(site, folder, code).stdout.splitlines()
    assert lines[0] == "greatest:number?digits=2 5.26 ['5.00']"
    assert lines[1] == "there is no model 'word', only greatest:number"
    assert "'colour'" in lines[2]
    assert "digits" in lines[2]
    assert lines[3] == "'letters:latin': letters: gives embeddings and no chat model"
    assert "did you mean 'greatest'" in lines[4]


def test_the_example_package_adds_an_embedder(site: Path, folder: Path) -> None:
    code = """
        from kurabe import open_embedder
        with open_embedder("letters:latin") as model:
            print(model.embed(["aab", "b"])[:, :2].round(3).tolist())
    """
    done = run(site, folder, code)
    assert done.stdout == "[[0.8939999938011169, 0.44699999690055847], [0.0, 1.0]]\n", done.stderr


def test_the_example_package_adds_a_provider_and_its_wire_format(site: Path, folder: Path) -> None:
    code = """
        from kurabe import open_model
        from kurabe.testing.simulator import Simulator
        with Simulator("openai", answer="hello") as server:
            with open_model("example-gateway:m", api_key="k", base_url=server.url) as model:
                print(model.complete("Hi."), server.requests[0].json["team"])
    """
    done = run(site, folder, code)
    assert done.stdout == "hello search\n", done.stderr
    assert "example-gateway" in kurabe(site, folder, "providers").stdout


@pytest.mark.parametrize("group", ["providers", "wire_formats", "engines", "embedders"])
def test_models_of_others_work_beside_a_package_that_cannot_be_imported(
    tmp_path: Path, folder: Path, group: str
) -> None:
    site = broken(tmp_path / "site", group, "odd")
    code = """
        from kurabe.errors import KurabeError
        from kurabe.models import open_model
        from kurabe.models.embeddings import open_embedder
        with open_embedder("fake:8") as model:
            print(model.embed("a").shape)
        print(open_model("openai:gpt-4.1-mini", api_key="k").reference)
        try:
            open_model("odd:thing")
        except KurabeError as error:
            print(error)
    """
    done = run(site, folder, code)
    first, second, third = done.stdout.splitlines()
    assert (first, second) == ("(1, 8)", "openai:gpt-4.1-mini")
    said = third if group in ("engines", "embedders") else done.stderr
    if group != "wire_formats":  # nothing names that one
        assert "'odd' comes with the package broken, which cannot be imported (RuntimeError: not today)" in said


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


def test_a_package_that_exits_where_it_is_imported_spoils_no_help(tmp_path: Path, folder: Path) -> None:
    site = broken(tmp_path / "site", "commands", "rows", "import sys\nsys.exit('no licence')\n")
    done = kurabe(site, folder, "--help")
    assert done.returncode == 0
    assert "SystemExit: no licence" in " ".join(done.stdout.split())
    assert kurabe(site, folder, "rows").returncode == 2


def test_a_name_that_two_packages_add_belongs_to_neither(tmp_path: Path, folder: Path) -> None:
    site = tmp_path / "site"
    for package in ("one", "two"):
        broken(site, "commands", "rows", "import click\nthing = click.Command('rows')\n", package)
    done = kurabe(site, folder, "rows")
    assert done.returncode == 2
    assert "'rows' comes with several packages" in done.stderr
    assert kurabe(site, folder, "--help").returncode == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("thing = 5\n", "the format odd of another package is not a function of a board: 5"),
        ("def thing(board): return 3\n", "the format odd of another package gave no text: 3"),
        ("def thing(board): return 1 / 0\n", "the format odd of another package failed: ZeroDivisionError"),
    ],
)
def test_a_format_that_fails_is_no_fault_of_kurabes(tmp_path: Path, folder: Path, code: str, said: str) -> None:
    text = (folder / "task.yaml").read_text().replace("metric: within_10_percent\n", "")
    (folder / "task.yaml").write_text(text.replace(", {by_length: {bins: 7}}", ""))
    site = broken(tmp_path / "site", "formats", "odd", code)
    assert kurabe(site, folder, "run", "task.yaml").returncode == 0
    done = kurabe(site, folder, "report", "task.yaml", "--format", "odd", "-o", "-")
    assert done.returncode == 2
    assert said in done.stderr
