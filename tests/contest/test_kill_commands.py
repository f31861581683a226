"""SIGKILL in the midst of `kurabe run` with a local model and `kurabe tune`, with paid calls beside, under a budget in
dollars: the journal opens, what is in it is not asked again, the budget holds, and no process stays behind."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.testing import Simulator
from kurabe.testing.tiny import tiny_model
from kurabe.tuning.hosted import record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc"),
]

PRICE = {"input": 1.0, "output": 100.0}
MARK = "KURABE_TEST_MARK"
COLOURS = {"rot": "red", "blau": "blue", "gelb": "yellow"}

CONTEST = """
name: killed
data: {{source: rows.csv, split: {{test: 300, validation: 40, seed: 0}}}}
input: "{{{{ text }}}}"
target: price
kind: number
prompt: {{user: "{{{{ input }}}}", prefill: "Price is $"}}
contestants:
- tfidf_ridge
- {{prompt: {{model: "gguf:smollm2-135m", max_tokens: 6, rows: 24}}}}
- {{prompt: {{model: "openai:gpt-4o-mini", max_tokens: 4, rows: all, options: {options}}}}}
budget: {{usd: {usd}}}
"""
TUNING = """
name: colours
data: {{source: rows.csv, split: {{test: 200, validation: 40, seed: 0}}}}
input: "{{{{ text }}}}"
target: colour
kind: label
prompt: {{user: "{{{{ input }}}}", prefill: ""}}
contestants:
- constant
- tune: {{model: "hf:{model}", general: false, step_tokens: 250, epochs: 2, rows: 40}}
- tune: {{model: "openai:gpt-4.1-mini", max_tokens: 4, rows: all, options: {options}}}
budget: {{usd: {usd}}}
"""


class Killed:
    """A command that is started again and again on a task, and what must hold between its kills."""

    def __init__(self, folder: Path, server: Simulator, *command: str) -> None:
        self.task, self.server = folder / "task.yaml", server
        self.command = [sys.executable, "-m", "kurabe", *command, str(self.task)]
        self.mark = f"{MARK}={folder}"
        self.kept: dict[tuple[bytes, bytes], tuple[object, ...]] = {}
        self.draw = random.Random(3)

    def rows(self) -> dict[tuple[bytes, bytes], tuple[object, ...]]:
        """All predictions by contestant and input. A row that is made again is written with other seconds."""
        if not (path := journal_path(self.task.parent)).exists():
            return {}
        with closing(sqlite3.connect(path)) as db:
            try:
                found = db.execute("SELECT entry, input, value, raw, usd, seconds FROM predictions").fetchall()
            except sqlite3.OperationalError:  # not made yet
                return {}
        return {(entry, key): tuple(rest) for entry, key, *rest in found}

    def paid_for(self) -> set[str]:
        """The numbers of the rows that a paid model has answered durably. Opens the journal, which checks it."""
        if not journal_path(self.task.parent).exists():
            return set()
        with Journal(journal_path(self.task.parent), create=False) as journal:
            evidence = journal.evidence(journal.runs()[0].id)
        texts = evidence.rows["input"].to_list()
        paid = [entry for entry in evidence.entries if (entry.model or "").startswith("openai:")]
        return {number(texts[row]) for entry in paid for row in entry.answered.nonzero()[0].tolist()}

    def start(self) -> subprocess.Popen[bytes]:
        name, _, value = self.mark.partition("=")
        with (self.task.parent / "said").open("ab") as said:
            return subprocess.Popen(self.command, stdout=said, stderr=said, env={**os.environ, name: value})

    def processes(self) -> list[int]:
        """The processes that the command has left or still runs."""
        found = []
        for place in Path("/proc").iterdir():
            try:
                if place.name.isdigit() and self.mark.encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:  # it has ended, or is somebody else's
                continue
        return found

    def run(self, kill_when: Callable[[], bool] | None) -> None:
        """Start the command, kill it a moment after the condition holds, and check. It runs to its end where None."""
        known, calls = self.paid_for(), len(self.server.requests)
        child = self.start()
        if kill_when is not None:
            deadline = time.monotonic() + 120
            while not kill_when():
                assert child.poll() is None, f"it ended before it was killed: {self.said()}"
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.01)
            time.sleep(self.draw.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
        assert child.wait(timeout=240) == (0 if kill_when is None else -signal.SIGKILL), self.said()
        deadline = time.monotonic() + 30
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes stayed behind: {left}"
            time.sleep(0.05)
        asked = [number(call.text) for call in list(self.server.requests)[calls:] if "chat/completions" in call.path]
        assert not known & set(asked), "a paid answer that was in the journal was asked for again"
        rows = self.rows()
        assert {key: rows.get(key) for key in self.kept} == self.kept, "a row of the journal is gone or was made again"
        assert known <= self.paid_for()
        self.kept = rows

    def said(self) -> str:
        return (self.task.parent / "said").read_text()[-2000:]

    def billed(self) -> float:
        """What a provider takes for every answer, of as many tokens as may be, whether it arrived or not."""
        asked = [call.json for call in self.server.requests if "chat/completions" in call.path]
        tokens: int = sum(one.get("max_completion_tokens", one.get("max_tokens")) for one in asked)
        return tokens * PRICE["output"] / 1e6


def number(text: str) -> str:
    found = re.search(r"thing (\d+)", text)
    assert found is not None
    return found[1]


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    monkeypatch.setenv("KURABE_JOBS", str(tmp_path / "jobs"))
    with Simulator("openai", answer="5 is the price", delay=0.2) as server:  # four tokens, so that all are billed
        yield server


def options(server: Simulator, **more: object) -> dict[str, object]:
    return {"base_url": server.url, "price": PRICE, "concurrency": 16, **more}


def test_a_contest_with_a_local_and_a_paid_model_is_killed(tmp_path: Path, paid: Simulator, smollm2: Path) -> None:
    values = [n % 90 + 10 for n in range(400)]
    frame = pl.DataFrame({"text": [f"thing {n} at {value}" for n, value in enumerate(values)], "price": values})
    frame.write_csv(tmp_path / "rows.csv")
    usd = 0.05
    (tmp_path / "task.yaml").write_text(CONTEST.format(options=options(paid), usd=usd))
    killed = Killed(tmp_path, paid, "run")
    killed.run(lambda: len(killed.rows()) > 303)  # the local model has begun
    killed.run(lambda: len(killed.rows()) > 310)
    for _ in range(2):
        calls = paid.calls
        killed.run(lambda calls=calls: paid.calls > calls + 20)  # type: ignore[misc]
    killed.run(None)
    assert 0.4 * usd < killed.billed() <= usd
    assert 0 < len(killed.paid_for()) < 300


def test_tuning_is_killed(tmp_path: Path, paid: Simulator) -> None:
    words = [list(COLOURS)[n % 3] for n in range(400)]
    frame = pl.DataFrame({"text": [f"{word} thing {n}" for n, word in enumerate(words)],
                          "colour": [COLOURS[word] for word in words]})  # fmt: skip
    frame.write_csv(tmp_path / "rows.csv")
    usd = 0.15  # two thirds of it for the job
    paid.answer = "red is the colour"
    looks = {"first_look": 0.3, "longest_look": 0.3}
    model = tiny_model(tmp_path / "model", hidden_size=64, initializer_range=0.05)
    task = TUNING.format(model=model, options=options(paid, policy=looks), usd=usd)
    (tmp_path / "task.yaml").write_text(textwrap.dedent(task))
    killed = Killed(tmp_path, paid, "tune", "run", "--yes")
    killed.run(lambda: any(tmp_path.glob(".kurabe/tuned/*/learned-from")))
    killed.run(lambda: bool(paid.tuning.uploads))
    killed.run(lambda: bool(paid.tuning.jobs))
    for _ in range(2):
        calls = paid.calls
        killed.run(lambda calls=calls: paid.calls > calls + 20)  # type: ignore[misc]
    killed.run(None)
    assert (len(paid.tuning.uploads), len(paid.tuning.jobs)) == (1, 1)
    (job,) = [one for _, one in record.found(tmp_path / "jobs")[0]]
    assert job.usd is not None
    assert usd / 2 < job.usd + killed.billed() <= usd
