"""How long `kurabe run examples/computers` takes, of one checkout beside another, in turns.

python benchmarks/main_job.py [CHECKOUT ...] [--rounds N] [--trained] [--jobs N]

Each CHECKOUT is a folder with this repository, by default this one. Every run is a process of its own in a new copy of
the example, so that nothing is there from the run before; the local model has to be there. With `--trained`, only the
contestants that learn take part. Medians are compared; processor seconds are those of all processes of a run.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from _machine import header

HERE = Path(__file__).parents[1]
ASKED = "prompt"


class Run(NamedTuple):
    """Seconds by the clock and of processors, the largest process in MiB, and the scores."""

    wall: float
    processor: float
    memory: float
    scores: dict[str, float | None]


def run(checkout: Path, *, trained: bool, jobs: int | None) -> Run:
    """One run of the example by the code of a checkout."""
    with TemporaryDirectory() as folder:
        task = Path(folder, "computers")
        shutil.copytree(HERE / "examples" / "computers", task, ignore=shutil.ignore_patterns(".kurabe", "*.html"))
        if trained:
            lines = (task / "task.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
            (task / "task.yaml").write_text("".join(line for line in lines if f"{{{ASKED}:" not in line), "utf-8")
        command = [sys.executable, "-m", "kurabe", "run", str(task / "task.yaml"), "--json"]
        if jobs is not None:
            command += ["--jobs", str(jobs)]
        environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            assert process.stdout is not None
            board: Any = json.loads(process.stdout.read())
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
        wall = time.perf_counter() - start
    scores = {row["contestant"]: row["score"] for row in board["rows"]}
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, scores)


def _medians(runs: list[Run]) -> tuple[float, float]:
    return statistics.median(one.wall for one in runs), statistics.median(one.processor for one in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE], metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trained", action="store_true", help="without the local model")
    parser.add_argument("--jobs", type=int, help="as of `kurabe run`, which the newer checkouts have")
    arguments = parser.parse_args()
    runs: dict[Path, list[Run]] = {checkout.resolve(): [] for checkout in arguments.checkouts}
    for round_ in range(arguments.rounds):
        for checkout, done in runs.items():
            done.append(run(checkout, trained=arguments.trained, jobs=arguments.jobs))
            print(f"round {round_ + 1}, {checkout.name}: {done[-1].wall:.0f} s, {done[-1].processor:.0f} of processors")
    print(f"\n{header('scikit-learn', 'lightgbm')}\n")
    print("| checkout | by the clock | of the first | processor seconds | of the first | largest process |")
    print("|---|---:|---:|---:|---:|---:|")
    first = next(iter(runs.values()))
    for checkout, done in runs.items():
        wall, processor = _medians(done)
        of_wall, of_processor = wall / _medians(first)[0], processor / _medians(first)[1]
        shares = f"{wall:.1f} s | {of_wall:.2f} | {processor:.1f} | {of_processor:.2f}"
        print(f"| {checkout.name} | {shares} | {max(one.memory for one in done):.0f} MiB |")
    for label, score in first[0].scores.items():
        others = [done[0].scores.get(label) for done in runs.values()]
        if any(other != score for other in others):
            print(f"{label}: {', '.join(str(other) for other in others)}")


if __name__ == "__main__":
    main()
