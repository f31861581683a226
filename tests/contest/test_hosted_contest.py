"""Contests with hosted models, against simulated providers on the loopback."""

import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kurabe import Task
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path, make_entrants
from kurabe.contestants.base import Contestant
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.errors import JournalError
from kurabe.testing import Fault, Simulator

PRICE = {"input": 1.0, "output": 2.0}
PASSING = [
    Fault.status(429), Fault.status(500), Fault.html(), Fault.status(503), Fault.status(529), Fault.reset(),
    Fault.truncated(), Fault.invalid_json(), Fault.empty(),
]  # fmt: skip
"""Faults that another try gets over."""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")


def price(text: str) -> str:
    """A model that sees the number in the text, and is a little off."""
    words = [word for word in text.replace("?", " ").split() if word.isdigit()]
    return f"{int(words[-1]) + 1}" if words else "no idea"


def make_task(folder: Path, rows: int, server: Simulator, *, usd: float | None = None, **options: Any) -> Task:
    values = [n % 90 + 10 for n in range(rows)]
    frame = pl.DataFrame({"text": [f"thing {n} at {value}" for n, value in enumerate(values)], "price": values})
    frame.write_csv(folder / "rows.csv")
    given = {"base_url": server.url, "price": PRICE, "policy": {"first_wait": 0.01}, **options}
    test = rows - 200
    (folder / "task.yaml").write_text(
        textwrap.dedent(f"""
        name: hosted
        data: {{source: rows.csv, split: {{test: {test}, validation: 50, seed: 0}}}}
        input: "{{{{ text }}}}"
        target: price
        kind: number
        rows: all
        contestants:
          - constant
          - prompt: {{model: "openai:gpt-4o-mini", options: {given!r}}}
        """)
        + (f"budget: {{usd: {usd}}}\n" if usd else ""),
        encoding="utf-8",
    )
    return Task.from_file(folder / "task.yaml")


def test_a_hosted_model_competes_with_faults_on_the_way(tmp_path: Path) -> None:
    with Simulator("openai", answer=price, faults=Fault.mix(0.1, seed=1, of=PASSING)) as server:
        board = make_task(tmp_path, 500, server, concurrency=32, attempts=12).compete()
        row = next(row for row in board.rows if row.model == "openai:gpt-4o-mini")
        assert (row.status, row.unread, row.rank) == ("done", 0, 1)
        assert row.score == pytest.approx(1.0)
        assert row.usd is not None
        assert row.usd > 0
        assert sum(server.outcomes.values()) > 300  # some were asked again
        calls = server.calls
        again = Task.from_file(tmp_path / "task.yaml").compete()
        assert server.calls == calls  # every answer was in the journal
        assert again.to_dict() == board.to_dict()
        waits = {"first_wait": 0.01, "failures": 50}
        board = make_task(tmp_path, 500, server, concurrency=32, attempts=12, policy=waits).compete()
        assert (board.rows[0].score, server.calls) == (row.score, calls)  # how long is waited changes no answer


def test_the_budget_of_dollars_is_never_exceeded_and_nothing_paid_is_lost(tmp_path: Path) -> None:
    with Simulator("openai", answer=price, delay=0.02) as server:
        task = make_task(tmp_path, 700, server, usd=0.005, concurrency=64)
        board = task.compete()
        row = next(row for row in board.rows if row.model is not None)
        assert row.status == "partial"
        assert row.usd is not None
        assert 0.003 < row.usd <= 0.005
        kept = int(str(row.reason).split(" ")[0].replace(",", ""))
        assert kept == server.calls == server.outcomes["answer"]
        assert "budget of $0.0" in str(row.reason)


class Breaks(Contestant):
    """Finds, beside a model whose calls are under way, that the journal can't be used."""

    server: Simulator

    def models(self) -> tuple[str, ...]:
        return ("openai:gpt-4o-mini",)

    def may_cost(self) -> bool:
        return True

    def fit(self, X: Any, y: Any, validation: Any = None) -> "Breaks":
        while not self.server.calls:
            time.sleep(0.01)
        raise JournalError("the journal is gone")


def test_calls_under_way_are_kept_where_another_contestant_ends_the_run(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": [f"thing at {n}" for n in range(90)], "price": [float(n) for n in range(90)]})
    with Simulator("openai", answer=price, delay=1.0) as server:
        Breaks.server = server
        asked = {"model": "openai:gpt-4o-mini", "options": {"base_url": server.url, "price": PRICE, "concurrency": 4}}
        contestants = ["constant", {"prompt": asked}, ("breaks", Breaks())]
        task = Task.from_frame(frame, target="price", kind="number", contestants=contestants, folder=tmp_path)
        with pytest.raises(JournalError, match="the journal is gone"):
            task.compete()
        with Journal(journal_path(tmp_path), create=False) as journal:
            entries = {one.name: one for one in journal.evidence(journal.runs()[0].id).entries}
        (prompt,) = (one for label, one in entries.items() if label.startswith("prompt"))
        assert 0 < int(prompt.answered.sum()) == server.calls
        assert str(prompt.reason).endswith("run again to go on")


def test_a_key_that_is_refused_stops_the_contestant_and_no_other(tmp_path: Path) -> None:
    with Simulator("openai", faults=Fault.status(401)) as server:
        board = make_task(tmp_path, 260, server, concurrency=4).compete()
        rows = {row.contestant: row for row in board.rows}
        assert rows["constant"].status == "done"
        (asked,) = (row for row in board.rows if row.model is not None)
        assert asked.status == "failed"
        assert "does not accept the key" in str(asked.reason)
        assert server.calls <= 4  # those under way when the first refusal came


def test_a_missing_key_is_a_reason_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    with Simulator("openai") as server:
        board = make_task(tmp_path, 260, server).compete()
        (row,) = (row for row in board.rows if row.model is not None)
        assert row.status == "skipped"
        assert "OPENAI_API_KEY" in str(row.reason)
        assert "kurabe keys set openai" in str(row.reason)


RUN = """
import sys
from kurabe import Task
Task.from_file(sys.argv[1]).compete()
"""


def test_ctrl_c_lets_the_calls_under_way_come_in(tmp_path: Path) -> None:
    with Simulator("openai", answer=price, delay=0.5) as server:
        make_task(tmp_path, 2200, server, concurrency=16)
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, tmp_path / "task.yaml"], env=os.environ, stderr=subprocess.PIPE
        )
        until = time.monotonic() + 60
        while server.calls < 40 and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
        assert child.returncode != 0, errors
        made = server.calls
        assert 40 <= made < 2000
        server.delay = 0.0
        board = Task.from_file(tmp_path / "task.yaml").compete()
        assert server.calls == 2000  # none of those that were under way was asked twice
        (row,) = (row for row in board.rows if row.model is not None)
        assert row.status == "done"


def test_ctrl_c_lets_the_calls_of_a_trial_come_in(tmp_path: Path) -> None:
    """Also those that take longer than a thread is waited for which nobody has paid for."""
    with Simulator("openai", answer=price, delay=7.0) as server:
        path = make_sweep(tmp_path, server)
        child = subprocess.Popen([sys.executable, "-c", RUN, path], env=os.environ, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while server.calls < 4 and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
        assert child.returncode != 0, errors
        assert server.calls == 4
        (folder,) = (tmp_path / ".kurabe" / "sweeps").iterdir()
        with sqlite3.connect(folder / "trials.sqlite") as trials:
            assert trials.execute("SELECT count(*) FROM answers").fetchone() == (4,)


def test_minutes_end_a_sweep_that_asks_a_hosted_model(tmp_path: Path) -> None:
    """It runs in a thread, where no signal interrupts it."""
    with Simulator("openai", answer=price, delay=3.0) as server:
        board = Task.from_file(make_sweep(tmp_path, server)).compete(minutes=0.3)
        rows = {row.contestant: row for row in board.rows}
        assert server.calls < 60  # 2 trials of 50 rows, 4 at a time, would take 75 s
        (swept,) = (row for label, row in rows.items() if label.startswith("sweep"))
        assert swept.status == "skipped"
        assert "run again to go on" in str(swept.reason)
        assert swept.peak_bytes is None  # others take memory at the same time


def test_the_budget_counts_what_contestants_have_cost_that_are_not_run_now(tmp_path: Path) -> None:
    with Simulator("openai", answer=price) as server:
        path = make_task_of_two(tmp_path, server, "budget: {usd: 0.0004}\n")  # a call may cost $0.00024
        first, second = (entrant.label for entrant in make_entrants(Task.from_file(path), 0))
        (row,) = Task.from_file(path).compete(only=[first]).rows
        assert (row.status, server.calls) == ("done", 20)
        rows = {row.contestant: row for row in Task.from_file(path).compete(only=[second]).rows}
        assert server.calls == 20
        assert "budget of $0.0004" in str(rows[second].reason)


def make_sweep(folder: Path, server: Simulator) -> Path:
    """A task of a sweep over a hosted model that asks four rows at a time."""
    rows = "".join(f"thing {n} at {n % 90 + 10},{n % 90 + 10}\n" for n in range(200))
    (folder / "rows.csv").write_text("text,price\n" + rows)
    given = {"base_url": server.url, "price": PRICE, "concurrency": 4}
    asked = {"prompt": {"model": "openai:gpt-4o-mini", "options": given}}
    over = {"sweep": {"contestant": asked, "over": {"examples": [0, 1]}}}
    (folder / "task.yaml").write_text(
        "name: swept\ndata: {source: rows.csv, split: {test: 20, validation: 50, seed: 0}}\n"
        f"target: price\nkind: number\ncontestants: [constant, {over!r}]\n"
    )
    return folder / "task.yaml"


@pytest.mark.slow
def test_20_000_rows_keep_256_calls_in_flight(tmp_path: Path) -> None:
    with Simulator("openai", answer=price, delay=0.3, keep=10) as server:
        task = make_task(tmp_path, 20_200, server)
        seen: list[int] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.05):
                if 1000 < server.calls < 19_500:
                    seen.append(server.in_flight)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            board = task.compete()
        finally:
            over.set()
            watcher.join()
        (row,) = (row for row in board.rows if row.model is not None)
        print(f"in flight: median {statistics.median(seen)}, least {min(seen)}, looks {len(seen)}")
        assert (row.status, row.unread) == ("done", 0)
        assert server.calls == 20_000
        assert server.most_in_flight <= 256
        assert statistics.median(seen) >= 250
        assert statistics.quantiles(seen, n=20)[0] >= 200  # 95 % of the looks


TWO_THAT_WAIT = """
name: waits
data: {source: rows.csv, split: {test: 20, validation: 10}}
input: "{{ text }}"
target: price
kind: number
contestants:
  - prompt: {model: "openai:gpt-4o-mini", options: OPTIONS}
  - prompt: {model: "openai:gpt-4.1-mini", options: OPTIONS}
"""


def make_task_of_two(folder: Path, server: Simulator, more: str = "", **given: Any) -> Path:
    """Two contestants of one provider."""
    pl.DataFrame({"text": [f"thing at {n}" for n in range(60)], "price": list(range(60))}).write_csv(
        folder / "rows.csv"
    )
    options = repr({"base_url": server.url, "price": PRICE, "policy": {"first_wait": 0.01}, "concurrency": 4} | given)
    (folder / "task.yaml").write_text(TWO_THAT_WAIT.replace("OPTIONS", options) + more, encoding="utf-8")
    return folder / "task.yaml"


def test_minutes_end_a_wait_for_the_rate_limit(tmp_path: Path) -> None:
    with Simulator("openai", answer="7") as server:
        path = make_task_of_two(tmp_path, server, "budget: {minutes: 0.1}\n", requests_per_minute=1)
        began = time.monotonic()
        rows = Task.from_file(path).compete().rows
        assert time.monotonic() - began < 60
        reasons = [str(row.reason) for row in rows]
        assert any("0.1 minutes is used up" in reason for reason in reasons), reasons


def test_the_first_ctrl_c_ends_a_wait_for_the_rate_limit(tmp_path: Path) -> None:
    with Simulator("openai", answer="7") as server:
        path = make_task_of_two(tmp_path, server, requests_per_minute=1)
        command = [sys.executable, "-m", "kurabe", "run", str(path)]
        environment = os.environ | {"OPENAI_API_KEY": "test-key", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        ) as process:
            until = time.monotonic() + 60
            while server.calls < 2 and time.monotonic() < until:  # one of each; the others wait a minute
                time.sleep(0.02)
            time.sleep(0.5)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
            assert time.monotonic() - began < 30
        assert server.calls == 2


@pytest.mark.parametrize("chained", [False, True])
def test_a_model_object_is_asked_in_later_runs_too(
    chained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")  # so that its reference alone opens no other
    frame = pl.DataFrame({"text": [f"thing {n} at {n % 90 + 10}" for n in range(200)]})
    frame = frame.with_columns(price=pl.col("text").str.extract("at ([0-9]+)").cast(pl.Int64))
    with Simulator("openai", answer="50") as server:
        model = server.open("gpt-4o-mini")
        asked = Prompt(model=model | server.open("gpt-4o") if chained else model, rows="all")
        task = Task.from_frame(frame, target="price", kind="number", contestants=[("it", asked)], folder=tmp_path)
        for rows in (10, 20):
            (row,) = task.compete(limit=rows).rows
            assert (row.status, row.reason, server.calls) == ("done", None, rows)
        assert task.compete(limit=20).winner.predict(["thing at 40"]) == [50]
        assert server.calls == 21
