"""SIGKILL at ten random moments of a run with the real local model: nothing is lost and nothing is made twice."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path

KILLS = 10
ROWS = 24

# The child runs the task and writes down each question the model is asked, at the moment it is asked.
CHILD = textwrap.dedent("""
    import json, os, sys
    from kurabe.contest.observer import Silent
    from kurabe.contest.run import run
    from kurabe.models.engines.llama_cpp import LlamaCpp
    from kurabe.tasks.task import Task

    log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chat_many = LlamaCpp.chat_many

    def counted(self, requests):
        def noted():
            for request in requests:
                os.write(log, (json.dumps(request.messages[-1].content) + "\\n").encode())
                yield request
        yield from chat_many(self, noted())

    LlamaCpp.chat_many = counted

    class Said(Silent):
        def began(self, labels, rows, journal):
            print("began", flush=True)

    print(json.dumps(run(Task.from_file(sys.argv[1]), observer=Said()).to_dict()))
""")

TASK = textwrap.dedent("""
    name: prices
    data: {source: items.csv, split: {test: 24, validation: 0.1, seed: 5}}
    input: "{{ text }}"
    target: price
    kind: number
    contestants:
    - constant
    - tfidf_ridge
    - linear_features
    - nearest_neighbours
    - {prompt: {model: "gguf:smollm2-135m", max_tokens: 6}}
    prompt: {user: "{{ input }}", prefill: "Price is $"}
""")


def write_task(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    things = rng.choice(["kettle", "lamp", "chair", "radio", "clock"], 100)
    numbers = rng.permutation(100)
    frame = pl.DataFrame(
        {
            "text": [f"How much is the {thing} of model {n}?" for thing, n in zip(things, numbers, strict=True)],
            "price": rng.lognormal(3, 1, 100).round(2),
        }
    )
    frame.write_csv(folder / "items.csv")
    (folder / "task.yaml").write_text(TASK)
    return folder / "task.yaml"


def start(task: Path, log: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(task), str(log)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "began\n"
    return child


def asked(log: Path) -> list[str]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def journaled(task: Path) -> set[str]:
    """The texts that the model has answered durably."""
    with Journal(journal_path(task.parent), create=False) as journal:
        evidence = journal.evidence(journal.runs()[0].id)
    texts = evidence.rows["input"].to_list()
    return {texts[row] for entry in evidence.entries if entry.model for row in np.flatnonzero(entry.answered).tolist()}


def without_times(board: dict[str, Any]) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if not k.endswith(("seconds", "per_second"))} for row in board["rows"]]
    return {**board, "rows": rows}


def test_ten_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, smollm2: Path) -> None:
    calm, killed = write_task(tmp_path / "calm"), write_task(tmp_path / "killed")
    child = start(calm, tmp_path / "calm.log")
    began = time.monotonic()
    output, _ = child.communicate(timeout=240)
    seconds = time.monotonic() - began
    assert child.returncode == 0
    expected = json.loads(output)
    assert {row["status"] for row in expected["rows"]} == {"done"}
    assert sorted(asked(tmp_path / "calm.log")) == sorted(journaled(calm))
    assert len(journaled(calm)) == ROWS

    rng = random.Random(1)
    kept: set[str] = set()
    for attempt in range(KILLS):
        log = tmp_path / f"{attempt}.log"
        child = start(killed, log)
        time.sleep(rng.uniform(0, seconds / 3))
        child.kill()
        child.communicate()
        assert not kept & set(asked(log)), "a prediction that was in the journal was made again"
        assert kept <= journaled(killed), "a prediction that was in the journal is gone"
        kept = journaled(killed)

    last = tmp_path / "last.log"
    child = start(killed, last)
    output, _ = child.communicate(timeout=240)
    assert child.returncode == 0
    assert sorted(asked(last)) == sorted(journaled(killed) - kept)
    assert without_times(json.loads(output)) == without_times(expected)
