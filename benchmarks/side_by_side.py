"""How soon a run shows something, and what three hosted contestants add to those that learn.

python benchmarks/side_by_side.py [--rounds N]

`kurabe run` of a copy of examples/computers without its local model, in a pseudo-terminal of 100 x 40: the seconds from
the command to the first scored row and to eight contestants that are through. Then with three hosted models, simulated
on the loopback with 0.3 s an answer and 8 calls at a time: alone, the trained ones alone, and all together.
"""

import argparse
import fcntl
import os
import pty
import shutil
import statistics
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from _machine import header

from kurabe.testing import Simulator

HERE = Path(__file__).parents[1]
DELAY = 0.3
AT_ONCE = 8
HEADING = "lower is better"


class Watched(NamedTuple):
    """Seconds from the command to the first scored row, to eight contestants that are through, and to the end."""

    first: float
    eighth: float
    whole: float


def watch(contestants: list[str]) -> Watched:
    """Run the example with these entries of its list in a pseudo-terminal."""
    with TemporaryDirectory() as folder:
        task = Path(folder, "computers")
        shutil.copytree(HERE / "examples" / "computers", task, ignore=shutil.ignore_patterns(".kurabe", "*.html"))
        text = (task / "task.yaml").read_text("utf-8")
        before, _, _ = text.partition("contestants:")
        (task / "task.yaml").write_text(f"{before}contestants:\n" + "".join(contestants), "utf-8")
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
        environment = kept | {
            "PYTHONPATH": str(HERE / "src"), "TERM": "xterm-256color", "OPENAI_API_KEY": "sk-simulated",
            "KURABE_ALLOW_CODE": "http://127.0.0.1",
        }  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "kurabe", "run", str(task)],
            stdin=follower, stdout=follower, stderr=follower, env=environment,
        )  # fmt: skip
        os.close(follower)
        first = eighth = float("nan")
        written = b""
        while True:
            try:
                piece = os.read(leader, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            written = (written + piece)[-(1 << 16) :]
            now = time.perf_counter() - start
            frame = written.decode("utf-8", "ignore").rpartition(HEADING)[2]
            if first != first and "├" in frame:
                first = now
            if eighth != eighth and frame.count("✓") >= 8:
                eighth = now
        os.close(leader)
        if process.wait() != 0:
            raise SystemExit(written.decode("utf-8", "replace")[-2000:])
        return Watched(first, eighth, time.perf_counter() - start)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    listed = (HERE / "examples" / "computers" / "task.yaml").read_text("utf-8").partition("contestants:\n")[2]
    trained = [line for line in listed.splitlines(keepends=True) if "prompt:" not in line]
    with ExitStack() as stack:
        hosted = []
        for number in range(3):
            server = stack.enter_context(Simulator("openai", answer="1500", delay=DELAY))
            options = f"{{base_url: '{server.url}', concurrency: {AT_ONCE}, price: {{input: 1, output: 1}}}}"
            model = f"{{model: 'openai:gpt-4.1-mini', options: {options}}}"
            hosted.append(f"  - {{prompt: {model}, as: hosted {number + 1}}}\n")
        kinds = {"trained": trained, "hosted": hosted, "all together": trained + hosted}
        found: dict[str, list[Watched]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, entries in kinds.items():
                found[name].append(watch(entries))
    print(f"{header('scikit-learn', 'lightgbm')}\n\nMedians of rounds in turns: {rounds}.\n")
    print("| contestants | first scored row | eight through | whole run | of the longest part |")
    print("|---|---:|---:|---:|---:|")
    medians = {name: Watched(*map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()}
    longest = max(medians["trained"].whole, medians["hosted"].whole)
    for name, one in medians.items():
        ratio = f"{one.whole / longest:.2f}" if name == "all together" else ""
        eighth = f"{one.eighth:.1f} s" if one.eighth == one.eighth else "–"
        print(f"| {name} | {one.first:.1f} s | {eighth} | {one.whole:.1f} s | {ratio} |")


if __name__ == "__main__":
    main()
