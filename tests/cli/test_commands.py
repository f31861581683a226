"""The command line as a person meets it: in a child process for what concerns the process, in this one for the rest."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from kurabe.api import Task
from kurabe.cli import doctor
from kurabe.cli.main import COMMANDS, GROUPS, cli
from kurabe.contest.lock import locked
from kurabe.errors import KurabeError

CLI = Path(doctor.__file__).parent
TASK = """
name: prices
data: {source: items.csv, split: {test: 30, validation: 0, seed: 1}}
input: "{{ text }}"
target: price
kind: number
contestants: [constant, linear_features, {human: {rows: 3}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["red", "old", "new", "big"], 3)) + f" {number}" for number in range(100)]
    pl.DataFrame({"text": texts, "price": rng.lognormal(3, 1, 100).round(2)}).write_csv(tmp_path / "items.csv")
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path


def call(*args: str | Path, text: str | None = None) -> Result:
    """Run a command as `main` does, without leaving the process."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args], input=text, catch_exceptions=True)
    if isinstance(result.exception, KurabeError):
        result.exit_code = result.exception.exit_code
    return result


def ok(*args: str | Path, text: str | None = None) -> str:
    result = call(*args, text=text)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def spawn(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kurabe", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    command = import_module(f"kurabe.cli.{name}").command
    assert command.help.split("\n")[0] == COMMANDS[name]
    assert COMMANDS[name] in ok("--help")
    assert "--debug" in ok(name, "--help")


def test_the_help_lists_the_commands_by_group() -> None:
    sections = [
        section.splitlines() for section in ok("--help").split("\n\n") if section.partition("\n")[0].endswith(":")
    ]
    listed = {lines[0].removesuffix(":"): [line.split()[0] for line in lines[1:]] for lines in sections}
    assert {title: names for title, names in listed.items() if title != "Options"} == {
        title: list(commands) for title, commands in GROUPS.items()
    }
    with_command = {path.stem for path in CLI.glob("*.py") if "\ndef command(" in path.read_text("utf-8")}
    assert with_command == set(COMMANDS)
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['kurabe', '--help']\n"
        "from kurabe.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'polars', 'sklearn', 'rich', 'altair', 'lightgbm', 'xllamacpp', 'msgspec'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_json_is_one_object_and_nothing_else(folder: Path) -> None:
    done = spawn("run", folder, "--json")
    assert done.returncode == 0, done.stderr
    board = json.loads(done.stdout)
    assert [row["contestant"] for row in board["rows"]][-1] == "human"
    assert board["rows"][-1]["status"] == "skipped"
    assert "kurabe human" in board["rows"][-1]["reason"]


def test_run_board_runs_report_predict(folder: Path) -> None:
    assert "linear_features" in ok("run", folder)
    assert json.loads(ok("board", folder, "--json"))["task"] == "prices"
    assert "linear_features" in ok("board", folder)
    assert "prices" in ok("runs", folder)
    for form, ending in {"html": "html", "markdown": "md", "csv": "csv", "json": "json", "svg": "svg"}.items():
        said = ok("report", folder, "--format", form).strip()
        assert said.endswith(f"task-report.{ending}")
        assert "constant" in Path(said).read_text()
    output = folder / "mine.md"
    ok("report", folder, "-o", output)
    assert output.read_text().lstrip().startswith(("#", "|"))
    assert "linear_features" in ok("report", folder, "-o", "-", "--format", "csv")
    answers = json.loads(ok("predict", folder, "red big 7", "old 3", "--json"))
    assert len(answers) == 2
    by_one = [float(line) for line in ok("predict", folder, "red big 7", "old 3").split()]
    assert by_one == answers
    new = folder / "new.csv"
    new.write_text("text\nred big 7\nold 3\n")
    ok("predict", folder, "--file", new, "-o", folder / "out.csv", "--contestant", "constant")
    assert pl.read_csv(folder / "out.csv").columns == ["text", "answer"]


def test_a_live_report_follows_a_run_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok("run", folder)
    monkeypatch.setattr("kurabe.cli.report.PAUSE", 0.2)
    page, reloads = folder / "task-report.html", '<meta http-equiv="refresh" content="0.2">'
    with ThreadPoolExecutor(1) as pool:
        with locked(folder / ".kurabe"):
            live = pool.submit(ok, "report", folder, "--live")
            until = time.monotonic() + 30
            while not (page.exists() and reloads in page.read_text()) and time.monotonic() < until:
                time.sleep(0.05)
            assert reloads in page.read_text()
            assert not live.done()
        live.result(30)
    assert reloads not in page.read_text()
    assert "constant" in page.read_text()
    ok("report", folder, "--live")  # no run goes on
    wrong = CliRunner().invoke(cli, ["report", str(folder), "--live", "--format", "csv"])
    assert (wrong.exit_code, "--live writes an HTML file" in wrong.output) == (2, True)


def test_a_run_in_which_nobody_has_a_score_ends_with_three(folder: Path) -> None:
    text = TASK.replace("constant,", "constant, {constant: {strategy: median}}, {constant: {strategy: mean}},")
    (folder / "task.yaml").write_text(text)
    assert call("run", folder, "--only", "human").exit_code == 3
    ok("run", folder, "--only", "constant, strategy mean")
    ok("run", folder, "--only", "constant")  # the first word of three names
    ok("run", folder)


def test_predict_writes_texts_too_and_overwrites_nothing(folder: Path) -> None:
    ok("run", folder, "--only", "constant", "--limit", "5")
    out = folder / "out.csv"
    ok("predict", folder, "red 7", "old 3", "-o", out)
    written = pl.read_csv(out)
    assert written.columns == ["input", "answer"]
    assert written["input"].to_list() == ["red 7", "old 3"]
    new = folder / "new.csv"
    new.write_text("text,answer,size\nred 7,mine,1.50\n")
    ok("predict", folder, "--file", new, "-o", out)
    assert out.read_text().startswith("text,answer,size,answer_2\nred 7,mine,1.50,")
    refused = call("predict", folder, "--file", new, "-o", folder / ".." / folder.name / "new.csv")
    assert "would write over it" in str(refused.exception)
    assert new.read_text() == "text,answer,size\nred 7,mine,1.50\n"


def test_predict_reads_the_encoding_of_the_task_file(folder: Path) -> None:
    (folder / "task.yaml").write_text(TASK.replace("source: items.csv", "source: items.csv, encoding: cp1252"))
    ok("run", folder, "--only", "constant", "--limit", "5")
    (folder / "new.csv").write_bytes("text\ngrün\n".encode("cp1252"))
    ok("predict", folder, "--file", folder / "new.csv", "-o", folder / "out.csv")
    assert pl.read_csv(folder / "out.csv")["text"].to_list() == ["grün"]


COLUMNS = TASK.replace('input: "{{ text }}"', "columns: [text, size, code]")


def test_predict_says_which_columns_a_text_leaves_empty(folder: Path) -> None:
    task = folder / "task.yaml"
    ok("run", folder, "--only", "constant", "--limit", "5")
    assert call("predict", folder, "red 7").stderr == ""  # the text is the only column
    frame = pl.read_csv(folder / "items.csv").with_columns(size=pl.int_range(100) % 4, code=pl.lit("a1"))
    frame.write_csv(folder / "items.csv")
    task.write_text(COLUMNS)
    ok("run", folder, "--only", "constant", "--limit", "5")
    done = call("predict", folder, "red 7")
    assert done.stderr.startswith("Note: a text leaves 'text', 'size', 'code' empty; give a table by --file")
    board = Task.from_file(task).compete(only=["constant"], limit=5)
    with pytest.warns(UserWarning, match="leaves the columns 'text', 'size', 'code' empty.*Give mappings") as caught:
        board.winner.predict("red 7")
    assert caught[0].filename == __file__


def test_a_row_gets_the_same_answer_in_any_company(folder: Path) -> None:
    """`code` is text and `size` a number since training, whatever the other rows of a new file are."""
    frame = pl.read_csv(folder / "items.csv")
    row = pl.int_range(100)
    code = pl.when(row % 3 == 0).then(pl.lit("7")).otherwise(pl.lit("b"))
    frame = frame.with_columns(size=row % 4, code=code, price=100.0 * (row % 3) + row % 4)
    frame.write_csv(folder / "items.csv")
    (folder / "task.yaml").write_text(COLUMNS.replace("linear_features", "gradient_boosting"))
    ok("run", folder, "--only", "gradient_boosting", "--limit", "5")
    new = folder / "new.csv"

    def answers(rows: str) -> list[float]:
        new.write_text("text,size,code\n" + rows)
        found: list[float] = json.loads(
            ok("predict", folder, "--file", new, "--contestant", "gradient_boosting", "--json")
        )
        return found

    assert answers("red,1,7\n")[0] == answers("red,1,7\nred,1,b\n")[0]
    assert answers("red,1,7\n")[0] == answers("red,1,7\nred,NA,7\n")[0]
    new.write_text("text,size,code\nred,1,7\nred,two,7\n")
    said = str(call("predict", folder, "--file", new).exception)
    assert "line 3: 'size' was a column of numbers in training, and 'two' is not a number" in said


def test_limit_only_and_seed(folder: Path) -> None:
    board = json.loads(ok("run", folder, "--json", "--limit", "5", "--only", "constant", "--seed", "4"))
    assert [row["contestant"] for row in board["rows"]] == ["constant"]
    other = json.loads(ok("run", folder, "--json", "--limit", "5", "--only", "constant", "--seed", "5"))
    assert other["rows"][0]["score"] != board["rows"][0]["score"]


def test_human(folder: Path) -> None:
    said = ok("human", folder, text="5\n7\nq\n")
    assert "2 of 3 rows answered" in said
    said = ok("human", folder, text="9\n")
    assert "3 of 3 rows answered" in said
    rows = {row["contestant"]: row for row in json.loads(ok("run", folder, "--json"))["rows"]}
    assert rows["human"]["status"] == "done"
    assert rows["human"]["score"] is not None


def test_new_writes_a_task_that_runs(folder: Path) -> None:
    (folder / "task.yaml").unlink()
    assert "kurabe run" in ok("new", folder / "items.csv", "--target", "price")
    assert "linear_features" in ok("run", folder, "--only", "linear_features", "--limit", "10")
    again = call("new", folder / "items.csv", "--target", "price")
    assert again.exit_code == 2
    assert "--force" in str(again.exception)


def test_doctor_names_keys_and_never_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123456789")
    found = json.loads(ok("doctor", "--json"))
    assert found["keys"]["OPENAI_API_KEY"] is True
    assert found["memory"]["total"] > 0
    monkeypatch.setitem(doctor.ENGINES, "Nothing", ("no-such-package", "transformers"))
    shown = ok("doctor")
    assert "pip install 'kurabe[transformers]'" in shown
    assert "OPENAI_API_KEY" in shown
    assert "planted" not in shown + json.dumps(found)


BAD = {
    "no task file": (["run", "nothing.yaml"], "no task file"),
    "no journal": (["board", "."], "kurabe run"),
    "unknown command": (["rum"], "did you mean 'run'"),
    "unknown contestant": (["run", ".", "--only", "constand"], "did you mean 'constant'"),
    "unknown option": (["run", "--jsom"], "--json"),
    "nothing to predict": (["predict", "."], "--file"),
    "unknown model": (["pull", "smollm2"], "did you mean 'smollm2-135m'"),
    "no such table": (["new", "itens.csv", "--target", "price", "-o", "x.yaml"], "items.csv"),
    "no such column": (["new", "items.csv", "--target", "prise", "-o", "x.yaml"], "did you mean 'price'"),
}


@pytest.mark.parametrize(("args", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_message(folder: Path, args: list[str], said: str) -> None:
    done = spawn(*args, cwd=folder)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback(folder: Path) -> None:
    for args in (["--debug", "run", "nothing.yaml"], ["run", "nothing.yaml", "--debug"]):
        done = spawn(*args, cwd=folder)
        assert done.returncode == 2
        assert "Traceback" in done.stderr


def test_a_journal_of_another_version(folder: Path) -> None:
    ok("run", folder, "--only", "constant")
    with sqlite3.connect(folder / ".kurabe" / "journal.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    done = spawn("run", folder)
    assert done.returncode == 2
    assert "version 99" in done.stderr


def test_a_folder_that_somebody_else_trained_in_predicts_as_it_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok("run", folder, "--only", "linear_features")
    expected = ok("predict", folder, "red 1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "mine"))
    assert ok("predict", folder, "red 1") == expected


def test_what_cannot_be_checked_of_somebody_else_needs_consent_or_training(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "theirs.py").write_text(
        "import numpy as np\nfrom sklearn.base import BaseEstimator\n"
        "class Five(BaseEstimator):\n"
        "    def fit(self, X, y): return self\n"
        "    def predict(self, X): return np.full(len(X), 5.0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    (folder / "task.yaml").write_text(TASK.replace("linear_features", "theirs:Five"))
    allowed = ("--allow-code", "theirs")
    assert spawn("run", folder, "--only", "theirs:Five", *allowed).returncode == 0
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "mine"))
    refused = spawn("predict", folder, "red 1", *allowed)
    assert refused.returncode == 2
    assert "can't check what is in it: theirs.Five" in refused.stderr
    assert "`kurabe run` with --only theirs:Five" in refused.stderr
    assert "Traceback" not in refused.stderr
    (name,) = set(re.findall(r"sha256:[0-9a-f]{64}", refused.stderr))
    assert spawn("predict", folder, "red 1", *allowed, "--allow-code", name).stdout.strip() == "5.0"
    assert spawn("run", folder, "--only", "theirs:Five", *allowed).returncode == 0
    assert spawn("predict", folder, "red 1", *allowed).stdout.strip() == "5.0"


def test_ctrl_c_stops_cleanly(folder: Path) -> None:
    (folder / "slow_estimator.py").write_text(
        "import time\nfrom sklearn.base import BaseEstimator\nimport numpy as np\n"
        "class Slow(BaseEstimator):\n"
        "    def fit(self, X, y):\n        return self\n"
        "    def predict(self, X):\n        time.sleep(1)\n        return np.ones(len(X))\n"
    )
    (folder / "task.yaml").write_text(TASK.replace("linear_features", '"slow_estimator:Slow"'))
    env = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}", "COLUMNS": "200"}
    child = subprocess.Popen(
        [sys.executable, "-m", "kurabe", "run", str(folder), "--allow-code", "slow_estimator"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    journal = folder / ".kurabe" / "trained"
    for _ in range(300):
        if journal.exists() and len(list(journal.iterdir())) >= 1:
            break
        time.sleep(0.1)
    time.sleep(2.5)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert "goes on from here" in err
    assert "un again to go on" in out
    done = spawn("run", folder, "--allow-code", "slow_estimator", "--json", env=env)
    assert json.loads(done.stdout)["rows"][0]["status"] == "done"
