"""SIGKILL at random moments, of the run or of a worker, while trained and hosted contestants run side by side: the
board is the undisturbed one, and no answer that was journaled is asked for again."""

import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import psutil
import pytest

from kurabe import Task
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.contest.run import run
from kurabe.testing import Simulator

ROWS = 40


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")


def price(text: str) -> str:
    """Something that depends on the question alone."""
    return str(sum(text.encode()) % 97 + 1)


def write_task(folder: Path, server: Simulator) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(3)
    sizes = rng.permutation(240)
    texts = [f"A thing of size {size}, as good as new" for size in sizes]
    pl.DataFrame({"text": texts, "price": np.round(sizes * 1.7 + 9, 2)}).write_csv(folder / "items.csv")
    options = {"base_url": server.url, "price": {"input": 1.0, "output": 2.0}, "concurrency": 2}
    (folder / "task.yaml").write_text(
        textwrap.dedent(f"""
        name: things
        data: {{source: items.csv, split: {{test: {ROWS}, validation: 0.2, seed: 1}}}}
        input: "{{{{ text }}}}"
        target: price
        kind: number
        contestants:
          - tfidf_ridge
          - random_forest
          - gradient_boosting
          - nearest_neighbours
          - prompt: {{model: "openai:gpt-4o-mini", options: {options!r}}}
        """),
        encoding="utf-8",
    )
    return folder / "task.yaml"


def answers(folder: Path) -> dict[str, bytes]:
    with Journal(journal_path(folder), create=False) as journal:
        found = journal.evidence(journal.runs()[0].id)
        assert {entry.status for entry in found.entries} == {"done"}
        return {entry.name: entry.guesses.tobytes() for entry in found.entries}


def journaled(folder: Path) -> set[str]:
    """The texts that the hosted model's answers are kept of."""
    with Journal(journal_path(folder), create=False) as journal:
        found = journal.evidence(journal.runs()[0].id)
        entry = next(entry for entry in found.entries if entry.model is not None)
        texts = found.rows["text"].to_list()
        return {text for text, there in zip(texts, entry.answered, strict=True) if there}


def asked(server: Simulator, since: int) -> set[str]:
    calls = [call for call in server.requests if call.kind == "chat"][since:]
    return {str(msgspec.json.decode(call.body)["messages"][-1]["content"]) for call in calls}


def kill_at_a_random_moment(path: Path, draw: random.Random) -> str:
    """Begin a run and kill it, or one of its workers; which was killed."""
    command = [sys.executable, "-m", "kurabe", "run", str(path), "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        parent = psutil.Process(process.pid)
        until = time.monotonic() + 60
        while not (there := parent.children()) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 6))
        victim = draw.choice(["run", "worker"])
        there = parent.children() if process.poll() is None else []
        if process.poll() is None and (victim == "run" or not there):
            victim = "run"
            process.kill()
        elif there:
            draw.choice(there).kill()
        process.wait(timeout=120)
    _, alive = psutil.wait_procs(there, timeout=30)
    assert not alive
    return victim


def check(folder: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    with Simulator("openai", answer=price, delay=0.1) as server:
        whole = write_task(folder / "whole", server)
        run(Task.from_file(whole), jobs=1)
        expected = answers(whole.parent)
        for kill in range(kills):
            path = write_task(folder / str(kill), server)
            kill_at_a_random_moment(path, draw)
            before = journaled(path.parent) if journal_path(path.parent).exists() else set()
            since = sum(call.kind == "chat" for call in server.requests)
            run(Task.from_file(path), jobs=2 if kill % 2 else 1)
            again = {text for text in before for question in asked(server, since) if text in question}
            assert again == set()
            assert answers(path.parent) == expected


def test_three_kills(tmp_path: Path) -> None:
    check(tmp_path, 3, 7)


@pytest.mark.slow
def test_25_kills(tmp_path: Path) -> None:
    check(tmp_path, 25, 11)
