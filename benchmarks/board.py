"""A board's intervals and paired tests beside `scipy.stats.bootstrap`, measured in one run.

    python benchmarks/board.py [--rows 100000] [--contestants 20] [--resamples 10000] [--looped 2]

Ours is `compute_board` of contestants of kind `number` by mean absolute error: bootstrap-t intervals, all paired
differences with intervals and adjusted p-values, ranges of ranks, second metrics. scipy's is
`bootstrap(errors, mean, method="BCa")` in a loop over the contestants, for the intervals alone: no pairs, no second
metrics. Rows and confidence are the same; of more than 20,000 rows ours takes fewer resamples. Its `batch`, which
bounds its memory and sets its speed, is the quickest of a few in a short trial. The loop is run over `--looped` of the
contestants and multiplied, since each is the same work. Method "percentile", which corrects neither bias nor skewness
and needs no jackknife, is shown too: it is the least that scipy can do.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from _machine import header
from scipy import stats

from kurabe.contest.board import compute_board
from kurabe.contest.evidence import Entry, Evidence

BATCHES = (1, 4, 16, 64, 256)


def make_evidence(rows: int, contestants: int) -> Evidence:
    random = np.random.default_rng(0)
    truth = random.lognormal(4, 1, rows)
    everywhere = np.ones(rows, dtype=bool)
    entries = tuple(
        Entry(
            name=f"contestant {number}",
            model=None,
            status="done",
            reason=None,
            guesses=truth * random.lognormal(0, 0.3 + 0.01 * number, rows),
            answered=everywhere,
            unread=~everywhere,
        )
        for number in range(contestants)
    )
    return Evidence(
        "benchmark", "number", "mean_absolute_error", truth, pl.DataFrame({"input": [""] * rows}), 0.0, entries
    )


def scipy_bootstrap(errors: np.ndarray, resamples: int, method: str, batch: int) -> Any:
    return stats.bootstrap(
        (errors,),
        np.mean,
        n_resamples=resamples,
        batch=batch,
        vectorized=True,
        method=method,
        rng=np.random.default_rng(0),
    ).confidence_interval


def quickest_batch(errors: np.ndarray, method: str) -> int:
    # scipy's jackknife takes the square of the rows, whatever the resamples: a trial of all rows would be the whole.
    part = errors[:20_000] if method == "BCa" else errors
    return min(BATCHES, key=lambda batch: timed(partial(scipy_bootstrap, part, 200, method, batch))[0])


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, what the call returned)."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def peak_gib() -> float:
    """Most memory the process has held so far; the unit of ru_maxrss is KiB on Linux, bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--contestants", type=int, default=20)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--looped", type=int, default=2)
    options = parser.parse_args()
    looped = min(options.looped, options.contestants)

    evidence = make_evidence(options.rows, options.contestants)
    ours, board = timed(partial(compute_board, evidence, options.resamples))
    print(header("numpy", "scipy"), end="\n\n")
    print(f"{options.contestants} contestants × {options.rows:,} rows × {options.resamples:,} resamples\n")
    print("| what | seconds | times ours | interval of the first |")
    print("| --- | ---: | ---: | --- |")
    low, high = board.row("contestant 0").interval or (float("nan"), float("nan"))
    what = f"kurabe, with {len(board.comparisons)} pairs, peak {peak_gib():.2f} GiB"
    print(f"| {what} | {ours:.1f} | 1 | {low:.4f} to {high:.4f} |", flush=True)
    errors = [np.abs(entry.guesses - evidence.truth) for entry in evidence.entries[:looped]]
    for method in ("BCa", "percentile"):
        batch = quickest_batch(errors[0], method)
        call = partial(scipy_bootstrap, resamples=options.resamples, method=method, batch=batch)
        seconds, found = timed(partial(lambda call: [call(one) for one in errors], call))
        times = options.contestants / looped
        what = f"scipy {method}, batch {batch}: {looped} contestants in {seconds:.1f} s, × {times:g}"
        interval = f"{found[0].low:.4f} to {found[0].high:.4f}"
        print(f"| {what} | {times * seconds:.1f} | {times * seconds / ours:.1f} | {interval} |", flush=True)


if __name__ == "__main__":
    main()
