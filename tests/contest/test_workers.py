"""Contestants in worker processes: the same answers as in the run's own process, whatever becomes of a worker."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
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
from kurabe.contest.executor import Learned
from kurabe.contest.journal import Journal
from kurabe.contest.lanes import lanes
from kurabe.contest.observer import Silent
from kurabe.contest.prepare import cheap_first, journal_path, make_entrants
from kurabe.contest.run import run
from kurabe.contest.workers import Worker
from kurabe.contestants.base import Contestant, Needs
from kurabe.errors import InputError, MissingExtraError

NAMES = ["constant", "linear_features", "tfidf_ridge", "random_forest", "gradient_boosting", "nearest_neighbours"]


def table(rows: int = 240) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    things = rng.choice(["kettle", "lamp", "chair", "radio"], rows)
    sizes = rng.integers(1, 40, rows)
    texts = [f"A {thing} of size {size}, as good as new" for thing, size in zip(things, sizes, strict=True)]
    return pl.DataFrame({"text": texts, "size": sizes, "price": np.round(sizes * 1.7 + rng.normal(0, 1, rows) + 9, 2)})


def write_task(folder: Path, contestants: str = str(NAMES), more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table().write_csv(folder / "items.csv")
    (folder / "task.yaml").write_text(
        textwrap.dedent(f"""
        name: things
        data: {{source: items.csv, split: {{test: 60, validation: 0.2, seed: 1}}}}
        target: price
        kind: number
        contestants: {contestants}
        """)
        + more,
        encoding="utf-8",
    )
    return folder / "task.yaml"


def evidence(folder: Path) -> Evidence:
    with Journal(journal_path(folder), create=False) as journal:
        return journal.evidence(journal.runs()[0].id)


def answers(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.guesses.tobytes() for entry in evidence(folder).entries}


def scores(board: Board) -> dict[str, float | None]:
    return {row.contestant: row.score for row in board.rows}


def test_the_scores_are_the_same_bytes_with_one_and_with_two_jobs(tmp_path: Path) -> None:
    over = "{sweep: {contestant: linear_features, over: {log: [true, false]}}}"
    for jobs in (1, 2):
        write_task(tmp_path / str(jobs), f"[{', '.join(NAMES)}, {over}]")
    boards = [run(Task.from_file(tmp_path / str(jobs) / "task.yaml"), jobs=jobs) for jobs in (1, 2)]
    assert scores(boards[0]) == scores(boards[1])
    assert all(row.status == "done" for board in boards for row in board.rows)
    assert answers(tmp_path / "1") == answers(tmp_path / "2")
    fitted = [entry.fit_seconds for entry in evidence(tmp_path / "2").entries]
    assert all(seconds is not None for seconds in fitted)
    assert all(entry.peak_bytes is not None for entry in evidence(tmp_path / "2").entries)


class Places(Silent):
    """Notes in which processes contestants are when they begin to learn."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.most = 0

    def fitting(self, label: str, said: str = "") -> None:
        self.most = max(self.most, len(children()))

    def note(self, text: str) -> None:
        self.notes.append(text)


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "kurabe.contest.worker" in " ".join(_command(one))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_no_process_is_started_for_little_work_and_none_stays(tmp_path: Path) -> None:
    path = write_task(tmp_path / "a", "[constant, linear_features]")
    watching = Places()
    run(Task.from_file(path), observer=watching)
    assert watching.most == 0
    path = write_task(tmp_path / "b")
    run(Task.from_file(path), jobs=2, observer=watching)
    assert watching.most > 0
    assert children() == []


def kill_once(monkeypatch: pytest.MonkeyPatch, when: Callable[[Any], bool]) -> list[int]:
    """Have a worker killed with the first reply that `when` holds of; the processes that were."""
    killed: list[int] = []
    receive = Worker.receive

    def received(self: Worker, clock: Any) -> Any:
        reply = receive(self, clock)
        if not killed and when(reply):
            assert self._process is not None
            killed.append(self._process.pid)
            os.kill(self._process.pid, signal.SIGKILL)
        return reply

    monkeypatch.setattr(Worker, "receive", received)
    return killed


@pytest.mark.parametrize("kind", ["learned", "batch"])
def test_a_worker_that_is_killed_is_started_again(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = run(Task.from_file(write_task(tmp_path / "whole")), jobs=1)
    killed = kill_once(monkeypatch, lambda reply: type(reply).__name__.lower() == kind)
    watching = Places()
    again = run(Task.from_file(write_task(tmp_path / "killed")), jobs=2, observer=watching)
    assert len(killed) == 1
    assert scores(again) == scores(board)
    assert answers(tmp_path / "killed") == answers(tmp_path / "whole")
    if kind == "learned":  # it had said all it had to say perhaps, where it was answering
        assert len(watching.notes) == 1
    assert all("SIGKILL" in said and "starts again" in said for said in watching.notes)


OWN = """
    import os, signal
    import numpy as np
    from sklearn.base import BaseEstimator

    class Greedy(BaseEstimator):
        def fit(self, X, y):
            raise MemoryError("too much")

    class Fatal(BaseEstimator):
        def fit(self, X, y):
            os.kill(os.getpid(), signal.SIGKILL)

    class Wrong(BaseEstimator):
        def fit(self, X, y):
            raise ValueError("these rows\\nare no good")

    class Full(BaseEstimator):
        def fit(self, X, y):
            raise OSError(28, "No space left on device")

    class Prints(BaseEstimator):
        def fit(self, X, y):
            print("not a message" * 1000, flush=True)
            os.write(1, b"nor is this")
            self.mean_ = float(np.mean(y))
            return self

        def predict(self, X):
            return np.full(len(X), self.mean_)

    for one in (Greedy, Fatal, Wrong, Full):
        one.predict = Prints.predict
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of contestants of one's own, which workers find as this process does."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "contestants_of_mine.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(folder)
    return "contestants_of_mine"


def test_what_goes_wrong_in_a_worker_is_that_contestants_matter(tmp_path: Path, own: str) -> None:
    names = ", ".join(f"'{own}:{name}'" for name in ("Greedy", "Fatal", "Wrong", "Prints"))
    task = Task.from_file(write_task(tmp_path, f"[linear_features, {names}]"), allow_code=[own])
    board = run(task, jobs=2)
    reasons = {row.contestant: (row.status, row.reason) for row in board.rows}
    assert reasons["linear_features"][0] == "done"
    assert reasons[f"{own}:Prints"][0] == "done"
    assert reasons[f"{own}:Wrong"] == ("failed", "ValueError: these rows")
    assert reasons[f"{own}:Greedy"][0] == "failed"
    assert "ran out of memory" in str(reasons[f"{own}:Greedy"][1])
    assert reasons[f"{own}:Fatal"][0] == "failed"
    assert "SIGKILL" in str(reasons[f"{own}:Fatal"][1])
    assert children() == []


def test_a_full_disk_in_a_worker_ends_the_run(tmp_path: Path, own: str) -> None:
    task = Task.from_file(write_task(tmp_path, f"[linear_features, tfidf_ridge, '{own}:Full']"), allow_code=[own])
    with pytest.raises(Exception, match="Every finished prediction is kept: make room"):
        run(task, jobs=2)
    assert children() == []


def test_time_ends_what_a_worker_does(tmp_path: Path, own: str) -> None:
    (tmp_path / "modules" / "slow_one.py").write_text(
        "import time\nfrom sklearn.base import BaseEstimator\nclass Slow(BaseEstimator):\n"
        "    def fit(self, X, y):\n        time.sleep(600)\n    def predict(self, X): return X\n"
        "class Other(Slow): pass\n"
    )
    task = Task.from_file(write_task(tmp_path, "['slow_one:Slow', 'slow_one:Other']"), allow_code=["slow_one"])
    began = time.monotonic()
    board = run(task, jobs=2, minutes=0.1)
    assert time.monotonic() - began < 60
    assert {row.status for row in board.rows} == {"skipped"}
    assert all("--minutes" in str(row.reason) or "is used up" in str(row.reason) for row in board.rows)
    assert children() == []


def test_ctrl_c_ends_the_workers_and_a_second_run_goes_on(tmp_path: Path) -> None:
    path = write_task(tmp_path)
    command = [sys.executable, "-m", "kurabe", "run", str(path), "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "done" in line or "linear_features" in line:
                break
        time.sleep(1)
        there = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    _, alive = psutil.wait_procs(there, timeout=20)
    assert not alive
    assert code in (0, 130)  # the machine may have been through with it
    board = run(Task.from_file(path), jobs=2)
    assert {row.status for row in board.rows} == {"done"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_run_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    path = write_task(tmp_path)
    command = [sys.executable, "-m", "kurabe", "run", str(path), "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        there: list[psutil.Process] = []
        while len(there) < 2 and time.monotonic() < until and process.poll() is None:
            there = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.05)
        assert len(there) >= 2
        process.send_signal(number)
        process.wait(timeout=30)
    _, alive = psutil.wait_procs(there, timeout=30)
    assert not alive


def test_fewer_than_one_job_is_refused(tmp_path: Path) -> None:
    path = write_task(tmp_path, "[constant]")
    with pytest.raises(InputError, match="1 or more, not 0"):
        Task.from_file(path).compete(jobs=0)
    found = CliRunner().invoke(cli, ["run", str(path), "--jobs", "0"])
    assert found.exit_code == 2
    assert "--jobs" in found.output


def test_an_unknown_executor_and_a_missing_ray_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task.from_file(write_task(tmp_path, "[constant]"))
    with pytest.raises(InputError, match="no executor 'rey'; did you mean 'ray'"):
        task.compete(on="rey")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kurabe\[ray\]'"):
        task.compete(on="ray")
    assert not journal_path(tmp_path).exists()


class Demanding(Contestant):
    """Needs more than any machine has."""

    def __init__(self, cores: int = 1, memory: int = 0, gpu: bool = False) -> None:
        self.cores, self.memory, self.gpu = cores, memory, gpu

    def needs(self) -> Needs:
        return Needs(self.cores, self.memory, self.gpu)


def test_a_contestant_whose_needs_are_not_met_is_skipped_with_what_it_takes(tmp_path: Path) -> None:
    given = [("cores", Demanding(cores=10_000)), ("memory", Demanding(memory=1 << 50)), "constant"]
    task = Task.from_frame(table(), target="price", contestants=given, folder=tmp_path)
    rows = {row.contestant: row for row in task.compete().rows}
    assert rows["constant"].status == "done"
    assert rows["cores"].status == "skipped"
    assert "needs 10000 processor cores" in str(rows["cores"].reason)
    assert "GB of memory" in str(rows["memory"].reason)


def test_where_contestants_are_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    asked = "{prompt: {model: 'openai:gpt-4o-mini'}}, {prompt: {model: 'gguf:smollm2-135m'}}"
    task = Task.from_file(write_task(tmp_path, f"[{asked}, human, constant, tfidf_ridge, blend]"))
    entrants = cheap_first(make_entrants(task, 0))
    with Journal(journal_path(tmp_path)) as journal:

        def placed(jobs: int | None, usd: float | None = None) -> list[Any]:
            found = lanes(entrants, task, [bytes(16)] * 60, journal, jobs, usd)
            return [[one.name for one in part] for part in (found.here, found.workers, *found.network, found.alone)]

        assert placed(1)[0] == ["human", "constant", "tfidf_ridge", "blend"] or "blend" in placed(1)[0]
        assert placed(1)[1] == []
        assert "constant" in placed(2)[0]  # it is through before a worker has started
        assert placed(2)[2:] == [["prompt"], ["prompt"]]
        swept = "{sweep: {contestant: {prompt: {model: 'openai:gpt-4o-mini'}}, over: {system: [One, Two]}}, as: "
        again = f"{swept}one}}, {swept}two, }}".replace("Two]}}, as: two", "Three]}}, as: two")
        task = Task.from_file(write_task(tmp_path, f"[{asked}, {again}]"))
        entrants = cheap_first(make_entrants(task, 0))
        assert sorted(placed(2)[2:-1]) == [["prompt"], ["sweep", "sweep"]]  # which share trials


def test_a_thread_reads_what_another_wrote(tmp_path: Path) -> None:
    """The journal is used from several threads, one at a time."""
    with Journal(tmp_path / "j.sqlite") as journal:
        failures: list[BaseException] = []

        def work(entry: bytes) -> None:
            try:
                for _ in range(50):
                    journal.record_fit(entry, 1.0, {"n": 1})
                    assert journal.notes(entry) == {"n": 1}
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(bytes([n]) * 16,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_notes_of_a_fit_survive_the_way_from_a_worker() -> None:
    import msgspec

    from kurabe.contest import worker

    sent = Learned(1.5, {"a": [1, 2.5, "x", None], "usd": None}, (b"1" * 16,), ("said",))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=worker.Reply) == sent
