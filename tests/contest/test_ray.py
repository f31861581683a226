"""Contestants on a Ray cluster: the board of a run on this machine alone, also where a node is lost.

Run with `pytest -m slow tests/contest/test_ray.py` where the extra `ray` is installed.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from click.testing import CliRunner

from kurabe import Task
from kurabe.cli.main import cli
from kurabe.contest.board import Board
from kurabe.contest.evidence import Evidence
from kurabe.contest.journal import Journal
from kurabe.contest.observer import Silent, Standing
from kurabe.contest.on_ray import OnRay
from kurabe.contest.prepare import journal_path, make_entrants, trained_path
from kurabe.contest.run import run
from kurabe.contestants import persist
from kurabe.errors import InputError

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

NAMES = ["constant", "linear_features", "tfidf_ridge", "random_forest", "gradient_boosting", "blend"]
TEST = 600


def write_task(folder: Path, contestants: str = str(NAMES)) -> Path:
    rng = np.random.default_rng(3)
    things = rng.choice(["kettle", "lamp", "chair", "radio"], TEST + 300)
    sizes = rng.integers(1, 40, len(things))
    texts = [f"A {thing} of size {size}, as good as new" for thing, size in zip(things, sizes, strict=True)]
    prices = np.round(sizes * 1.7 + rng.normal(0, 1, len(things)) + 9, 2)
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"text": texts, "size": sizes, "price": prices}).write_csv(folder / "items.csv")
    (folder / "task.yaml").write_text(
        f"name: things\ndata: {{source: items.csv, split: {{test: {TEST}, validation: 0.2, seed: 1}}}}\n"
        f"target: price\nkind: number\ncontestants: {contestants}\n"
    )
    return folder / "task.yaml"


def evidence(folder: Path) -> Evidence:
    with Journal(journal_path(folder), create=False) as journal:
        return journal.evidence(journal.runs()[0].id)


def answers(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.guesses.tobytes() for entry in evidence(folder).entries}


def scores(board: Board) -> dict[str, tuple[float | None, str]]:
    return {row.contestant: (row.score, row.status) for row in board.rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a task that was run in this process alone."""
    folder = tmp_path_factory.mktemp("whole")
    board = run(Task.from_file(write_task(folder)), jobs=1)
    assert {row.status for row in board.rows} == {"done"}
    return folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of three nodes, the head's without a core."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        found.add_node(num_cpus=1, object_store_memory=100 << 20)
    found.wait_for_nodes()
    yield found
    ray.shutdown()
    found.shutdown()


def at(cluster: Any) -> str:
    return f"127.0.0.1:{cluster.address.rpartition(':')[2]}"


def test_three_nodes_give_the_same_board(whole: Path, cluster: Any, tmp_path: Path) -> None:
    board = run(Task.from_file(write_task(tmp_path)), on=f"ray:{at(cluster)}")
    assert answers(tmp_path) == answers(whole)
    assert scores(board) == scores(run(Task.from_file(whole / "task.yaml"), jobs=1))
    entries = {entry.name: entry for entry in evidence(tmp_path).entries}
    assert all(entry.fit_seconds is not None and entry.peak_bytes is not None for entry in entries.values())
    assert not ray.is_initialized()


class KillsOneNode(Silent):
    """Kills a node of the cluster at the first event of a kind."""

    def __init__(self, cluster: Any, when: str) -> None:
        self._cluster, self._when = cluster, when
        self.killed = 0
        self.notes: list[str] = []

    def fitting(self, label: str, said: str = "") -> None:
        if self._when == "fitting" and label == "blend" and not self.killed:
            self.killed += 1
            threading.Timer(3.0, self._kill).start()  # it is learning by then

    def predicted(self, label: str, standing: Standing) -> None:
        if self._when == "answering" and 0 < standing.done < standing.total and not self.killed:
            self.killed += 1
            self._kill()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _kill(self) -> None:
        node = self._cluster.list_all_nodes()[-1]
        self._cluster.remove_node(node, allow_graceful=False)


@pytest.mark.parametrize("when", ["fitting", "answering"])
def test_a_node_that_is_killed_changes_nothing(when: str, whole: Path, cluster: Any, tmp_path: Path) -> None:
    watching = KillsOneNode(cluster, when)
    board = run(Task.from_file(write_task(tmp_path)), on=f"ray:{at(cluster)}", observer=watching)
    assert watching.killed == 1
    assert {row.status for row in board.rows} == {"done"}
    found = answers(tmp_path)
    if when == "fitting":
        assert found == answers(whole)
    for name, guesses in answers(
        whole
    ).items():  # what begins again answers other pieces, which shows in the last digit
        np.testing.assert_allclose(np.frombuffer(found[name]), np.frombuffer(guesses), rtol=1e-12)


OWN = """
import os, signal, threading, time
import numpy as np
from sklearn.base import BaseEstimator

class Base(BaseEstimator):
    def fit(self, X, y):
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)

class Fatal(Base):
    def fit(self, X, y):
        os.kill(os.getpid(), signal.SIGKILL)

class Wrong(Base):
    def fit(self, X, y):
        raise ValueError("these rows\\nare no good")

class NotSaved(Base):
    def fit(self, X, y):
        self.lock_ = threading.Lock()
        return super().fit(X, y)

class Slow(Base):
    def fit(self, X, y):
        time.sleep(600)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of contestants of one's own, which the nodes find as this process does."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "mine_on_ray.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return "mine_on_ray"


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_ray_of_one_s_own_has_a_token_and_ends(tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "polars.py").write_text("raise SystemExit('what lies in the current folder was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names = ", ".join(f"'{own}:{name}'" for name in ("Fatal", "Wrong", "NotSaved"))
    task = Task.from_file(write_task(tmp_path / "task", f"[constant, linear_features, {names}]"), allow_code=[own])
    watching = Notes()
    board = run(task, on="ray", jobs=2, observer=watching)
    rows = {row.contestant: row for row in board.rows}
    assert {rows["constant"].status, rows["linear_features"].status, rows[f"{own}:NotSaved"].status} == {"done"}
    assert any("NotSaved was not saved" in said for said in watching.notes)
    assert (rows[f"{own}:Wrong"].status, rows[f"{own}:Wrong"].reason) == ("failed", "ValueError: these rows")
    assert rows[f"{own}:Fatal"].status == "failed"
    assert "Ray lost its process" in str(rows[f"{own}:Fatal"].reason)
    assert not ray.is_initialized()
    assert not (tmp_path / "home" / ".ray").exists()  # Ray would write a token that others can read
    assert not os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"}
    assert rays(psutil.Process()) == []
    key = make_entrants(task, 0)[1].key
    assert persist.is_usable(trained_path(task.folder, key))  # and is signed by this user, or it would be checked first


def rays(process: psutil.Process) -> list[psutil.Process]:
    """The processes of Ray among those that one has started."""
    return [one for one in process.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


def test_time_ends_what_a_node_does(tmp_path: Path, own: str, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    cancel = OnRay._cancel

    def cancelled(self: OnRay, asked: Any) -> None:
        ended.append(len(asked))
        cancel(self, asked)

    monkeypatch.setattr(OnRay, "_cancel", cancelled)
    task = Task.from_file(write_task(tmp_path / "task", f"['{own}:Slow']"), allow_code=[own])
    ray.init(
        address=at(cluster),
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), *sys.path])}},
    )
    began = time.monotonic()
    board = run(task, on="ray", minutes=0.25)
    assert time.monotonic() - began < 60
    assert board.rows[0].status == "skipped", board.rows[0].reason
    assert sum(ended) == 1
    assert ray.is_initialized()  # it is not ours to end
    until = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert ray.available_resources().get("CPU") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_however_a_run_ends(number: signal.Signals, tmp_path: Path, whole: Path) -> None:
    path = write_task(tmp_path)
    command = [sys.executable, "-m", "kurabe", "run", str(path), "--on", "ray", "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "linear_features" in line:
                break
        there = psutil.Process(process.pid).children(recursive=True)
        assert len(there) > 2, seen
        process.send_signal(number)
        process.stderr.read()
        process.wait(timeout=60)
    _, alive = psutil.wait_procs(there, timeout=120)  # Ray's agents look several times whether their node is gone
    assert alive == []
    board = run(Task.from_file(path), jobs=2)
    assert {row.status for row in board.rows} == {"done"}
    assert answers(tmp_path).keys() == answers(whole).keys()


def test_an_address_where_no_ray_answers_is_one_message(tmp_path: Path) -> None:
    path = write_task(tmp_path, "[constant]")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(InputError, match="but something else"):
            run(Task.from_file(path), on=f"ray:127.0.0.1:{port}")
    told = {f"ray:127.0.0.1:{port}": "no Ray answers at", f"ray://127.0.0.1:{port}": "no Ray answers at"}
    for address, said in {**told, "ray:here": "HOST:PORT"}.items():
        found = CliRunner().invoke(cli, ["run", str(path), "--on", address])
        assert isinstance(found.exception, InputError)
        assert said in str(found.exception)
    assert not journal_path(tmp_path).exists()
