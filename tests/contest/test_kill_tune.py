"""SIGKILL in the middle of the training of a contestant that is tuned: the run goes on to the same board."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kurabe.testing.tiny import tiny_model

# One process loads the libraries, and each run is a fork of it, killed behind so many steps of training.
CHILD = """
import json, os, signal, sys
import peft, torch
from transformers import LlamaForCausalLM
from kurabe.contest.run import run
from kurabe.contestants.tuned import tune
from kurabe.models.engines.hf import model as transformers
from kurabe.tasks.task import Task
from kurabe.tuning import train
train.KEEP_SECONDS = 0.0
follow = tune._follow

def start(task, kill_behind):
    end, begin = os.pipe()
    if not (child := os.fork()):
        def noted(steps, tell):
            def each():
                for step in steps:
                    os.write(begin, f"{step.number}\\n".encode())
                    if step.number == kill_behind:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield step
            follow(each(), tell)
        tune._follow = noted
        try:
            board = run(Task.from_file(task)).to_dict()
            os.write(begin, (json.dumps(board) + "\\n").encode())
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    os.close(begin)
    with open(end) as lines:
        said = [json.loads(line) for line in lines]
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([said, ended]), flush=True)

start(sys.argv[1] + "/task.yaml", 0)
start(sys.argv[2] + "/task.yaml", 3)
start(sys.argv[2] + "/task.yaml", 6)
start(sys.argv[2] + "/task.yaml", 0)
"""

TASK = """
name: colours
data: {{source: items.csv, split: {{test: 20, validation: 0.2, seed: 5}}}}
input: "{{{{ text }}}}"
target: colour
kind: label
contestants:
- constant
- tune: {{model: "hf:{model}", general: false, step_tokens: 250, epochs: 2, evaluations: 3, learning_rate: 0.01,
    dropout: 0.1}}
prompt: {{user: "{{{{ input }}}}", prefill: ""}}
"""


def without_times(board: dict[str, Any]) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if not k.endswith(("seconds", "per_second"))} for row in board["rows"]]
    return {**board, "rows": rows}


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_run_that_is_killed_while_it_tunes_ends_with_the_same_board(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", hidden_size=64, initializer_range=0.05)
    colours = {"rot": "red", "blau": "blue", "gelb": "yellow"}
    words = [list(colours)[n % 3] for n in range(100)]
    frame = pl.DataFrame({"text": [f"{word} {n}" for n, word in enumerate(words)],
                          "colour": [colours[word] for word in words]})  # fmt: skip
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        frame.write_csv(tmp_path / name / "items.csv")
        (tmp_path / name / "task.yaml").write_text(TASK.format(model=model))
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path / "calm"), str(tmp_path / "killed")],
        stdout=subprocess.PIPE, text=True, timeout=240, check=True,
    ).stdout  # fmt: skip
    calm, first, second, last = [json.loads(line) for line in output.splitlines()]
    steps = calm[0][:-1]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 8
    assert first == [[1, 2, 3], -signal.SIGKILL]
    assert second == [[4, 5, 6], -signal.SIGKILL]
    assert last[0][:-1] == steps[6:]
    assert calm[1] == last[1] == 0
    assert {row["status"] for row in calm[0][-1]["rows"]} == {"done"}
    assert without_times(last[0][-1]) == without_times(calm[0][-1])
