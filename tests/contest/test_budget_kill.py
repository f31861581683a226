"""A budget in dollars holds however often a run is killed: what calls under way may cost is on the disk before them."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import polars as pl
import pytest

from kurabe import Budget
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.testing import Simulator

PROMPT = 20  # tokens of a question, at most
TOKENS = 4
PRICE = {"input": 1.0, "output": 100.0}
CONTESTANT = '{{prompt: {{model: "openai:gpt-4o-mini", max_tokens: {tokens}, options: {options}}}}}'
SWEEP = (
    '{{sweep: {{contestant: {{prompt: {{model: "openai:gpt-4o-mini", max_tokens: {tokens}, options: {options}}}}},'
    " over: {{system: [Be brief., Be exact.]}}}}}}"
)
# One process loads the libraries, and each run is a fork of it.
CHILD = textwrap.dedent("""
    import os, sys
    import kurabe.contestants.prompted.prompt, kurabe.contestants.sweeps.search, kurabe.models.hosted.model, skops.io
    from kurabe import Task

    for line in sys.stdin:
        if not (child := os.fork()):
            print(os.getpid(), flush=True)
            try:
                Task.from_file(line.strip()).compete()
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""")


def write_task(folder: Path, server: Simulator, usd: float, rows: int, contestant: str) -> Path:
    values = [n % 90 + 10 for n in range(rows + 60)]
    frame = pl.DataFrame({"text": [f"thing {n} at {value}" for n, value in enumerate(values)], "price": values})
    frame.write_csv(folder / "rows.csv")
    options = {"base_url": server.url, "price": PRICE, "concurrency": 256}
    (folder / "task.yaml").write_text(
        textwrap.dedent(f"""
        name: killed
        data: {{source: rows.csv, split: {{test: {rows}, validation: 40, seed: 0}}}}
        input: "{{{{ text }}}}"
        target: price
        kind: number
        rows: all
        contestants:
          - {contestant.format(options=options, tokens=TOKENS)}
        budget: {{usd: {usd}}}
        """)
    )
    return folder / "task.yaml"


class Runs:
    """Runs of a task, one after another, each in a fork of one process."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, task: Path) -> int:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write(f"{task}\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def end(self) -> int:
        assert self.parent.stdout is not None
        return int(self.parent.stdout.readline())

    def close(self) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        self.parent.wait()
        assert self.parent.stdout is not None
        self.parent.stdout.close()


def billed(server: Simulator) -> float:
    """What a provider takes for every call that came, whether its answer arrived or not."""
    usage: int = sum(
        call.json["max_tokens" if "max_tokens" in call.json else "max_completion_tokens"] for call in server.requests
    )
    return usage * PRICE["output"] / 1e6


@pytest.mark.parametrize(
    ("contestant", "kills"),
    [
        pytest.param(CONTESTANT, 2, id="two kills"),
        pytest.param(CONTESTANT, 6, id="six kills", marks=pytest.mark.slow),
        pytest.param(SWEEP, 3, id="sweep", marks=pytest.mark.slow),
    ],
)
def test_kills_with_256_calls_in_flight_stay_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contestant: str, kills: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    each = TOKENS * PRICE["output"] / 1e6
    usd = 1300 * each  # several times what 256 calls in flight may cost
    draw = random.Random(3)
    runs = Runs()
    try:
        # Four tokens are billed of every call, and it answers late, so that most are in flight when the kill comes.
        with Simulator("openai", answer="5 is the price", delay=0.4) as server:
            task = write_task(tmp_path, server, usd, 2_000, contestant)
            for _ in range(kills):
                child, calls = runs.start(task), server.calls
                deadline = time.monotonic() + 60
                while server.calls - calls < 30 and time.monotonic() < deadline and _alive(child):
                    time.sleep(0.005)
                time.sleep(draw.uniform(0, 0.5))
                if _alive(child):
                    os.kill(child, signal.SIGKILL)
                runs.end()
            runs.start(task)
            assert runs.end() == 0
            assert server.most_in_flight > 100
            assert billed(server) <= usd
            assert billed(server) > 0.4 * usd
    finally:
        runs.close()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_in_peace_leaves_nothing_unaccounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("KURABE_ALLOW_CODE", "http://127.0.0.1")
    from kurabe import Task

    with Simulator("openai", answer="5 is the price") as server:
        task = write_task(tmp_path, server, 1.0, 100, CONTESTANT)
        board = Task.from_file(task).compete()
        (row,) = board.rows
        assert row.status == "done"
        with Journal(journal_path(tmp_path), create=False) as journal:
            (entry,) = journal.entries(board.evidence.run)
            assert journal.spent([entry.entry])[0] == pytest.approx(row.usd, rel=1e-9)


def test_what_was_held_outlives_the_process_and_what_was_settled_does_not(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        ledger = journal.ledger(b"e" * 16)
        budget = Budget(1.0)
        budget.ledger = ledger

        async def reserve() -> None:
            await budget.reserve(0.25)
            await budget.reserve(0.5)

        asyncio.run(reserve())
        assert journal.spent([b"e" * 16])[0] == 0.75  # a killed process leaves this behind
        budget.settle(0.25, 0.125)
        ledger.change(-0.125)  # the answer is kept
        ledger.close()
        assert journal.spent([b"e" * 16])[0] == 0.5
