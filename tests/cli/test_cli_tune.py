"""kurabe tune: a yes before anything is sent, and jobs that are looked after from other processes."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kurabe.cli import tune
from kurabe.cli.main import cli
from kurabe.errors import ContestantError, TuningError
from kurabe.testing import Simulator, Tuning
from kurabe.tuning.hosted import jobs

COLOURS = {"rot": "red", "blau": "blue", "gelb": "yellow"}


def knows(text: str) -> str:
    return next(COLOURS[word] for word in COLOURS if word in text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-0123")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("KURABE_JOBS", str(tmp_path / "jobs"))
    with Simulator("openai", answer=knows) as server:
        yield server


@pytest.fixture
def task(tmp_path: Path, server: Simulator) -> Path:
    words = [list(COLOURS)[n % 3] for n in range(60)]
    rows = "".join(f"{word} {n},{COLOURS[word]}\n" for n, word in enumerate(words))
    (tmp_path / "words.csv").write_text("word,colour\n" + rows)
    path = tmp_path / "task.yaml"
    path.write_text(
        "name: colours\ndata:\n  source: words.csv\ntarget: colour\nkind: label\ninput: '{{ word }}'\ncontestants:\n"
        "- constant\n- tune:\n    model: openai:gpt-4.1-mini\n"
        f"    options: {{base_url: '{server.url}', policy: {{first_look: 0.001}}}}\n"
    )
    return path


def called(*args: object, **options: object) -> Result:
    return CliRunner().invoke(cli, ["tune", *map(str, args)], **options)  # type: ignore[arg-type]


def test_without_a_yes_nothing_is_sent(task: Path, server: Simulator) -> None:
    done = called(task, "--json")
    assert done.exit_code == 3, done.output
    assert "42 rows with" in done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["status"] == "skipped"
    assert row["reason"].endswith(
        "confirm_usd: 1 in its settings allows it; outside of a sweep, so does `kurabe tune TASK --yes`"
    )
    assert server.accepted == 0


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_a_person_is_asked(task: Path, server: Simulator, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirm(text: str, err: bool) -> bool:
        asked.append(text)
        assert server.accepted == 0
        return answer == "y\n"

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("click.confirm", confirm)
    monkeypatch.setattr("sys.stdin", Terminal())
    command = tune.run_task.callback
    assert command is not None
    with nullcontext() if answer == "y\n" else pytest.raises(SystemExit):
        command(task, (), None, None, (), False, True)
    assert asked == ["Send them and start the job?"]
    assert len(server.tuning.jobs) == (1 if answer == "y\n" else 0)
    assert (server.accepted > 0) == (answer == "y\n")


def test_the_whole_road(task: Path, server: Simulator) -> None:
    done = called("run", task, "--yes", "--contestant", "tune", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["status"], row["score"]) == ("done", 1.0)
    (job,) = json.loads(called("list", "--json").stdout)
    assert job["state"] == "succeeded"
    assert job["reference"] in called("list", env={"COLUMNS": "200"}).stdout
    assert "1,234" in called("status", job["key"][:5]).stdout
    assert json.loads(called("status", job["job"], "--json").stdout)["trained"] == 1234
    shown = called("events", job["key"]).stdout
    assert "Job is queued." in shown
    assert "loss 0.5" in shown
    assert json.loads(called("events", job["key"], "--json").stdout)["metrics"][0] == {"step": 2, "loss": 0.5}
    assert "forgotten" in called("delete", job["key"]).stdout
    assert "No job was begun yet" in called("list").stdout


def test_what_the_budget_cannot_hold_is_told_before_anybody_is_asked(task: Path, server: Simulator) -> None:
    """Without a price of the tuned model's answers a budget could not be kept, once the job is paid for."""
    task.write_text(task.read_text() + "budget: {usd: 3}\n")
    done = called(task, "--yes", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert "add options: {price: {input: …, output: …}}" in row["reason"]
    assert "would be sent" not in done.stderr
    assert server.accepted == 0
    task.write_text(task.read_text().replace("options: {", "options: {price: {input: 0.8, output: 3.2}, "))
    done = called(task, "--yes", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["status"], row["score"]) == ("done", 1.0)
    assert 0 < row["usd"] < 3


def test_cancel(task: Path, server: Simulator) -> None:
    server.tuning.states = ["running"]
    held = server.tuning

    class Stop(Exception):
        pass

    def look(*args: object) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "look", look)  # the process ends right after the job was started
        called(task, "--yes")
    (job,) = json.loads(called("list", "--json").stdout)
    assert job["state"] == "validating"
    assert "running" in called("status", job["key"]).stdout
    assert "is cancelled" in called("cancel", job["key"]).stdout
    assert held.jobs["ftjob-0"].cancelled
    assert held.deleted == ["file-0"]


def test_a_damaged_file_is_in_nobodys_way(task: Path, server: Simulator, tmp_path: Path) -> None:
    called("run", task, "--yes")
    (tmp_path / "jobs" / "0badjob").mkdir()
    (tmp_path / "jobs" / "0badjob" / "job.json").write_text('{"key": "0badjob", "na')
    listed = called("list", "--json")
    assert listed.exit_code == 0
    (job,) = json.loads(listed.stdout)
    assert "job.json is damaged" in listed.stderr
    assert "succeeded" in called("status", job["key"]).stdout
    assert "forgotten" in called("delete", job["key"]).stdout
    with pytest.raises(TuningError, match=r"job\.json is damaged .* remove the file"):
        CliRunner().invoke(cli, ["tune", "delete", "0bad"], catch_exceptions=False, standalone_mode=False)


def test_a_command_that_is_mistyped() -> None:
    done = called("cancle", "3f2a")
    assert done.exit_code == 2
    assert "no command of tune, and no file, 'cancle'; did you mean 'cancel'?" in done.output


def test_what_is_not_there(task: Path, server: Simulator) -> None:
    with pytest.raises(TuningError, match="no job 'abc'"):
        CliRunner().invoke(cli, ["tune", "status", "abc"], catch_exceptions=False, standalone_mode=False)
    with pytest.raises(ContestantError, match="add one to the task file"):
        CliRunner().invoke(
            cli, ["tune", str(task), "--contestant", "constant"], catch_exceptions=False, standalone_mode=False
        )


def test_a_job_that_fails(task: Path, server: Simulator) -> None:
    server.tuning = Tuning(states=("failed",), error="bad rows.")
    done = called(task, "--yes", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert "failed: bad rows. `kurabe tune events" in row["reason"]
