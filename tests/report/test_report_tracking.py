"""What experiment trackers are sent, as values; and, where they are installed, what they have stored of it."""

import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kurabe.contest.board import Board
from kurabe.contest.checks import CheckResult
from kurabe.contest.evidence import Evidence
from kurabe.errors import KurabeError, MissingExtraError
from kurabe.report.tracking import Point, by_step, send, tracked

KEY = "sk-proj-0123456789abcdef"
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"alpha": 3.0, "over": {"log": True, "api_key": "not-to-be-sent"}, "note": f"with {KEY}"},
    "blend": {"max_tokens": 8},
}


@pytest.fixture(scope="module")
def tuned(boards: dict[str, Board], make_board: Callable[[Evidence], Board]) -> Board:
    """A contest whose contestant `linear` is tuned."""
    evidence = boards["number"].evidence
    tuning = {"tuning": {"losses": [3.0, float("nan"), 2.0], "scores": [[3, 60.0]]}}
    entries = [replace(entry, notes=tuning) if entry.name == "linear" else entry for entry in evidence.entries]
    return make_board(
        replace(evidence, entries=tuple(entries), run="prices-1a2b3c", started="2026-11-01T10:00:00+00:00")
    )


def test_what_is_sent(tuned: Board) -> None:
    whole, *runs = tracked(tuned, SETTINGS)
    assert whole.metrics == {"contestants": len(tuned.rows), "test_rows": 250, "train_rows": tuned.evidence.train_rows}
    assert [run.name for run in runs] == [row.contestant for row in tuned.rows]
    assert len({run.key for run in [whole, *runs]}) == len(runs) + 1
    run, row = next(run for run in runs if run.name == "linear"), tuned.row("linear")
    assert row.interval is not None
    assert run.settings == {"alpha": "3.0", "over.log": "True", "note": "with •••"}
    assert (run.metrics["score"], run.metrics["score_low"], run.metrics["score_high"]) == (row.score, *row.interval)
    assert run.metrics["usd"] == row.usd
    assert run.metrics["fit_seconds"] == row.fit_seconds
    assert run.curves == (
        Point("tuning_loss", 1, 3.0), Point("tuning_loss", 3, 2.0), Point("validation_score", 3, 60.0),
    )  # fmt: skip
    assert by_step(run.curves) == [(1, {"tuning_loss": 3.0}), (3, {"tuning_loss": 2.0, "validation_score": 60.0})]
    assert run.about["kurabe.run"] == "prices-1a2b3c"
    assert next(run for run in runs if run.name == "blend").settings == {"max_tokens": "8"}
    assert KEY not in repr(runs)
    assert "not-to-be-sent" not in repr(runs)


def test_settings_in_lists_lose_their_keys_and_odd_names_fit_every_tracker(tuned: Board) -> None:
    given = {"linear": {"parts": [{"api_key": "not-to-be-sent", "size": 3}, "x"], "weights": {"größe, " * 50: 2}}}
    run = next(run for run in tracked(tuned, given) if run.name == "linear")
    assert run.settings.pop("parts.0.size") == "3"
    assert run.settings.pop("parts.1") == "x"
    ((name, value),) = run.settings.items()
    assert value == "2"
    assert re.fullmatch(r"[\w. -]{1,250}", name, re.ASCII)
    checked = replace(tuned.rows[0], checks={"x" * 300: CheckResult(1.0, None, 3)})
    (whole,) = (one for one in tracked(replace(tuned, rows=(checked,)), {}) if one.name == checked.contestant)
    assert all(len(metric) <= 250 for metric in whole.metrics)


def test_a_trackers_error_shows_no_password(tuned: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise OSError("no answer from https://ann:hunter2@tracker.example/api")

    monkeypatch.setattr("kurabe.report.tracking._to_mlflow", refuse)
    with pytest.raises(KurabeError, match=r"no answer from https://tracker\.example/api"):
        send(tuned, {}, "mlflow", None, tmp_path)


@pytest.mark.parametrize("name", ["label", "text", "every_status", "nothing_ran", "checks", "one"])
def test_every_board_can_be_sent(boards: dict[str, Board], name: str) -> None:
    for run in tracked(boards[name], {}):
        assert all(isinstance(value, float) for value in run.metrics.values())
        assert all(metric.isascii() for metric in run.metrics)


@pytest.mark.parametrize(
    ("to", "says"), [("mlflow", "kurabe[tracking]"), ("trackio", "kurabe[tracking]"), ("wandb", "pip install wandb")]
)
def test_a_tracker_that_is_not_installed(
    tuned: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, says: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, to, None)
    with pytest.raises(KurabeError) as caught:
        send(tuned, SETTINGS, to, None, tmp_path)
    assert says in str(caught.value)
    assert isinstance(caught.value, MissingExtraError) == (to != "wandb")


def more(board: Board, make_board: Callable[[Evidence], Board]) -> Board:
    """The same run after one more step of training."""
    evidence = board.evidence
    tuning = {"tuning": {"losses": [3.0, 2.5, 2.0, 1.5], "scores": [[3, 60.0], [4, 50.0]]}}
    entries = [replace(entry, notes=tuning) if entry.name == "linear" else entry for entry in evidence.entries]
    return make_board(replace(evidence, entries=tuple(entries)))


def halved(board: Board) -> Board:
    """The same run, all of whose scores have fallen."""
    return replace(
        board, rows=tuple(replace(row, score=row.score and row.score / 2, reason=None) for row in board.rows)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the trackers'
def test_mlflow(tuned: Board, make_board: Callable[[Evidence], Board], tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    stopped = replace(tuned, rows=tuple(replace(row, reason="stopped") for row in tuned.rows))
    for board in (stopped, tuned, more(tuned, make_board)):
        uri = send(board, SETTINGS, "mlflow", f"sqlite:///{tmp_path / 'kept.db'}", tmp_path)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(tuned.evidence.task)
    runs = {run.data.tags["mlflow.runName"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == len(tuned.rows) + 1
    linear = runs["linear"]
    assert linear.data.params == {"alpha": "3.0", "over.log": "True", "note": "with •••"}
    assert linear.data.metrics["score"] == tuned.row("linear").score
    history = client.get_metric_history(linear.info.run_id, "tuning_loss")
    assert sorted((one.step, one.value) for one in history) == [(1, 3.0), (2, 2.5), (3, 2.0), (4, 1.5)]
    whole = runs[f"board {tuned.evidence.run}"]
    assert linear.data.tags["mlflow.parentRunId"] == whole.info.run_id
    assert {file.path for file in client.list_artifacts(whole.info.run_id)} == {"report.html", "board.json"}
    send(halved(tuned), SETTINGS, "mlflow", uri, tmp_path)
    linear = client.get_run(linear.info.run_id)
    assert linear.data.metrics["score"] == halved(tuned).row("linear").score
    assert linear.data.tags["reason"] == ""
    send(tuned, {"linear": {"alpha": 4.0}}, "mlflow", uri, tmp_path)
    found = client.search_runs([experiment.experiment_id], "tags.`mlflow.runName` = 'linear'")
    assert [run.data.params for run in found] == [{"alpha": "4.0"}]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio(
    tuned: Board, make_board: Callable[[Evidence], Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when it is imported
    trackio = pytest.importorskip("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    for board in (tuned, tuned, more(tuned, make_board)):
        assert send(board, SETTINGS, "trackio", "prices", tmp_path) == "prices"
    runs = {run.name: run for run in trackio.Api().runs("prices")}
    assert sorted(run.name for run in trackio.Api().runs("prices")) == sorted(runs)
    assert len(runs) == len(tuned.rows) + 1
    assert runs["linear"].config["alpha"] == "3.0"
    logs = storage.get_logs("prices", "linear", run_id=runs["linear"].id)
    assert [(one["step"], one["tuning_loss"]) for one in logs if "tuning_loss" in one] == [
        (1, 3.0),
        (2, 2.5),
        (3, 2.0),
        (4, 1.5),
    ]
    assert [one["score"] for one in logs if "score" in one] == [tuned.row("linear").score]
    assert {one["name"] for one in storage.list_artifacts("prices")} == {"report-prices-1a2b3c", "board-prices-1a2b3c"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases(
    tuned: Board, make_board: Callable[[Evidence], Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for board in (tuned, tuned, more(tuned, make_board)):
        send(board, SETTINGS, "wandb", "prices", tmp_path)
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == len(tuned.rows) + 1
    (file,) = [file for file in files if tracked(tuned, {})[1:] and _named(file, messages) == "linear"]
    losses = []
    for record in _records(file, messages):
        if record.WhichOneof("record_type") == "history":
            values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            losses.append((int(values["step"]), float(values["tuning_loss"])))
    assert losses == [(1, 3.0), (2, 2.5), (3, 2.0), (4, 1.5)]
    told = [getattr(record, record.WhichOneof("record_type")) for record in _records(file, messages)]
    private = ("host", "program", "executable", "args", "git_repo", "code_path", "root")
    assert [(name, value) for one in told for name in private if (value := getattr(one, name, None))] == []
    assert list(file.parent.rglob("requirements.txt")) == []


_CHILD = """
import sys

asked = []
sys.addaudithook(lambda event, args: asked.append(args[0]) if event == "socket.getaddrinfo" else None)

import pickle, time
from pathlib import Path

from kurabe.report.tracking import send

send(pickle.load(sys.stdin.buffer), {}, sys.argv[1], None, Path.cwd())
time.sleep(3)  # MLflow asks in a thread of its own
print(sorted({host for host in asked if host not in ("127.0.0.1", "localhost", None)}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["mlflow", "trackio", "wandb"])
def test_a_tracker_tells_its_makers_nothing(to: str, tuned: Board, tmp_path: Path) -> None:
    pytest.importorskip(to)
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
    }  # MLflow is silent in tests
    environment = kept | {"HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, to], input=pickle.dumps(tuned), env=environment, cwd=tmp_path,
        capture_output=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines()[-1] == "[]"


def _named(file: Path, messages: Any) -> str:
    return next(str(r.run.display_name) for r in _records(file, messages) if r.WhichOneof("record_type") == "run")


def _records(file: Path, messages: Any) -> list[Any]:
    """The records of an offline run: LevelDB's log format behind seven bytes."""
    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a record in one piece, or its last piece
            record = messages.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found
