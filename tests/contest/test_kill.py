"""SIGKILL at random moments of a run with a local model: nothing is lost and nothing is made twice."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.testing.tiny import tiny_model
from kurabe.tuning.export import export

# One process loads the libraries, and each run is a fork of it, which writes down each question the model is asked, at
# the moment it is asked.
CHILD = textwrap.dedent("""
    import json, os, sys
    import lightgbm, skops.io, xllamacpp
    from kurabe.contest.observer import Silent
    from kurabe.contest.run import run
    from kurabe.contestants.prompted.prompt import Prompt
    from kurabe.tasks.task import Task

    asked = Prompt._asked

    class Said(Silent):
        def began(self, opening):
            print("began", flush=True)

    def work(task, log):
        log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def noted(self, X, model, request):
            for text, shots in asked(self, X, model, request):
                os.write(log, (json.dumps(text) + "\\n").encode())
                yield text, shots

        Prompt._asked = noted
        print(json.dumps(run(Task.from_file(task), observer=Said()).to_dict()), flush=True)

    for line in sys.stdin:
        if not (child := os.fork()):
            print(os.getpid(), flush=True)
            try:
                work(*json.loads(line))
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""")

DATA = """
name: things
data: {{source: items.csv, split: {{test: {rows}, validation: 0.1, seed: 5}}}}
input: "{{{{ text }}}}"
target: {target}
kind: {kind}
rows: {asked}
contestants:
{contestants}
- {{prompt: {{model: "{model}", max_tokens: 6}}}}
prompt: {{user: "{{{{ input }}}}", prefill: "{prefill}"}}
"""
NUMBER: dict[str, Any] = {"kind": "number", "target": "price", "prefill": "Price is $"}
LABEL: dict[str, Any] = {"kind": "label", "target": "thing", "prefill": "It is a"}


def write_task(folder: Path, rows: int, asked: int | str = "all", **settings: Any) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    count = max(100, rows * 5 // 4)
    things = rng.choice(["kettle", "lamp", "chair", "radio", "clock"], count)
    numbers = rng.permutation(count)
    frame = pl.DataFrame(
        {
            "text": [f"How much is the {thing} of model {n}?" for thing, n in zip(things, numbers, strict=True)],
            "price": rng.lognormal(3, 1, count).round(2),
            "thing": things,
        }
    )
    frame.write_csv(folder / "items.csv")
    (folder / "task.yaml").write_text(DATA.format(rows=rows, asked=asked, **settings))
    return folder / "task.yaml"


class Runs:
    """Runs of tasks, one at a time, each in a process of its own."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.child = 0

    def said(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()

    def start(self, task: Path, log: Path) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps([str(task), str(log)]) + "\n")
        self.parent.stdin.flush()
        self.child = int(self.said())
        assert self.said() == "began"

    def board(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said())
        assert self.said() == "ended 0"
        return found

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(self.child, signal.SIGKILL)
        while not (line := self.said()).startswith("ended"):
            assert line.startswith("{")


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


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    found = Runs()
    yield found
    assert found.parent.stdin is not None
    found.parent.stdin.close()
    assert found.parent.wait() == 0
    assert found.parent.stdout is not None
    found.parent.stdout.close()


def check_kills(runs: Runs, folder: Path, kills: int, rows: int, sample: int | None = None, **settings: Any) -> None:
    """A run in peace and one that is killed so many times and started again have the same board."""
    calm, killed = (write_task(folder / name, rows, sample or "all", **settings) for name in ("calm", "killed"))
    runs.start(calm, folder / "calm.log")
    began = time.monotonic()
    expected = runs.board()
    seconds = time.monotonic() - began
    assert {row["status"] for row in expected["rows"]} == {"done"}
    assert sorted(asked(folder / "calm.log")) == sorted(journaled(calm))
    assert len(journaled(calm)) == (sample or rows)

    rng = random.Random(1)
    kept: set[str] = set()
    for attempt in range(kills):
        log = folder / f"{attempt}.log"
        runs.start(killed, log)
        time.sleep(rng.uniform(0, seconds / 3))
        runs.kill()
        assert not kept & set(asked(log)), "a prediction that was in the journal was made again"
        assert kept <= journaled(killed), "a prediction that was in the journal is gone"
        kept = journaled(killed)

    last = folder / "last.log"
    runs.start(killed, last)
    board = runs.board()
    assert sorted(asked(last)) == sorted(journaled(killed) - kept)
    assert without_times(board) == without_times(expected)


def test_ten_kills_lose_nothing_and_repeat_nothing(runs: Runs, tmp_path: Path, smollm2: Path) -> None:
    others = "- constant\n- tfidf_ridge\n- linear_features\n- nearest_neighbours"
    check_kills(runs, tmp_path, 10, 24, contestants=others, model="gguf:smollm2-135m", **NUMBER)


def test_kills_while_labels_are_scored(runs: Runs, tmp_path: Path, smollm2: Path) -> None:
    check_kills(runs, tmp_path, 4, 40, contestants="- constant", model="gguf:smollm2-135m", **LABEL)


def test_kills_while_a_sample_is_asked(runs: Runs, tmp_path: Path, smollm2: Path) -> None:
    check_kills(runs, tmp_path, 2, 30, sample=10, contestants="- constant", model="gguf:smollm2-135m", **NUMBER)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [NUMBER, LABEL], ids=["number", "label"])
@pytest.mark.parametrize("engine", ["gguf", "hf"])
def test_two_thousand_rows_are_killed_and_go_on(
    runs: Runs, tmp_path: Path, engine: str, settings: dict[str, Any]
) -> None:
    model = f"hf:{tiny_model(tmp_path / 'model')}"
    if engine == "gguf":
        export(model, "gguf", tmp_path / "model.gguf")
        model = f"gguf:{tmp_path / 'model.gguf'}"
    check_kills(runs, tmp_path, 3, 2_000, contestants="- constant", model=model, **settings)
