"""How often equal contestants are told apart, and how many different ones are found: ours beside evalstats and evalsig.

    python benchmarks/claims.py [--equal 60] [--graded 20]
    pip install evalstats==0.3.3 evalsig==0.1.2    # the peers, best in an environment of their own with kurabe

Boards have 8 contestants (28 pairs) of numbers (absolute errors, lognormal), labels (right or wrong) and texts (scores
from 0 to 1, many of them 1). On boards of equals every pair told apart is a mistake; wanted: on at most 5 % of boards.
On graded boards each contestant is a little better than the next. evalstats is `all_pairwise` as it comes; evalsig's
`compare` of each pair, adjusted by its `holm`. The time is for all 190 pairs of 20 × 10,000 rows.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from _machine import header

from kurabe.contest.pairs import Answered, compare
from kurabe.tasks.metrics import METRICS

METRIC = {"numbers": "mean_absolute_error", "labels": "accuracy", "texts": "token_f1"}
STEP = {"numbers": 1.9, "labels": 0.8, "texts": 1.4}  # over the root of the rows
CONTESTANTS = 8

Test = Callable[[str, np.ndarray], np.ndarray]
"""From a kind and (contestants, n) scores of rows to (pairs,) adjusted p-values."""


def ours(kind: str, scores: np.ndarray) -> np.ndarray:
    everywhere = np.ones(scores.shape[1], dtype=bool)
    entered = [Answered(everywhere, one[:, None]) for one in scores]
    pairs = list(itertools.combinations(range(len(scores)), 2))
    return np.array([test.p_adjusted for test in compare(METRICS[METRIC[kind]], entered, pairs)])


def evalstats_(kind: str, scores: np.ndarray) -> np.ndarray:
    import evalstats

    names = [str(place) for place in range(len(scores))]
    found = evalstats.all_pairwise(scores, names, rng=np.random.default_rng(0)).results
    return np.array([one.p_value for one in found.values()])


def evalsig_(kind: str, scores: np.ndarray) -> np.ndarray:
    import evalsig

    runs = [
        evalsig.RunFrame(str(place), "m", "t", kind, [evalsig.ItemResult(str(i), float(x)) for i, x in enumerate(one)])
        for place, one in enumerate(scores)
    ]
    p = [evalsig.compare(a, b).p_value for a, b in itertools.combinations(runs, 2)]
    return np.asarray(evalsig.holm(np.array(p)).p_adjusted)


def board(kind: str, n: int, step: float, contestants: int, random: np.random.Generator) -> np.ndarray:
    """(contestants, n) scores of rows, of which each contestant's are better than the next one's by `step`."""
    hard = random.normal(0, 1, n)
    rows = 0.6 * hard + 0.8 * random.normal(0, 1, (contestants, n))
    place = step * np.arange(contestants)[:, None]
    if kind == "numbers":
        return np.asarray(np.exp(rows + place))
    if kind == "labels":
        return np.asarray(rows < 0.7 - place / 0.35, dtype=float)
    return np.asarray(np.clip(1 - 0.4 * np.maximum(rows + place, 0), 0, 1))


def timed(test: Test) -> float:
    scores = board("numbers", 10_000, 0.02, 20, np.random.default_rng(5))
    started = time.perf_counter()
    test("numbers", scores)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equal", type=int, default=60, help="boards of equals of each kind and size")
    parser.add_argument("--graded", type=int, default=20, help="graded boards of each kind and size")
    options = parser.parse_args()
    tests: dict[str, Test] = {"kurabe": ours}
    peers: dict[str, Test] = {"evalstats": evalstats_, "evalsig": evalsig_}
    for name, peer in peers.items():
        if find_spec(name) is None:
            print(f"{name} is not installed: pip install evalstats==0.3.3 evalsig==0.1.2\n")
        else:
            tests[name] = peer
    print(header("numpy", "scipy", *(name for name in tests if name != "kurabe")), end="\n\n")
    print(f"| boards | {' | '.join(tests)} |\n|---|{'---:|' * len(tests)}", flush=True)
    totals = dict.fromkeys(tests, 0)
    for kind, n in itertools.product(METRIC, (60, 250, 1000)):
        random = np.random.default_rng(n)
        claims, found = dict.fromkeys(tests, 0), dict.fromkeys(tests, 0)
        for scores in (board(kind, n, 0.0, CONTESTANTS, random) for _ in range(options.equal)):
            for name, test in tests.items():
                claims[name] += bool((test(kind, scores) < 0.05).any())
        for scores in (board(kind, n, STEP[kind] / np.sqrt(n), CONTESTANTS, random) for _ in range(options.graded)):
            for name, test in tests.items():
                found[name] += int((test(kind, scores) < 0.05).sum())
        wrong = " | ".join(f"{claims[name]} of {options.equal}" for name in tests)
        right = " | ".join(f"{found[name] / options.graded:.1f} of 28" for name in tests)
        print(f"| {kind}, {n} rows: equal, boards with a mistake | {wrong} |")
        print(f"| {kind}, {n} rows: graded, pairs found | {right} |", flush=True)
        totals = {name: totals[name] + claims[name] for name in tests}
    every = len(METRIC) * 3 * options.equal
    print(f"| all boards of equals | {' | '.join(f'{100 * totals[name] / every:.1f} %' for name in tests)} |")
    print(f"| seconds for 190 pairs of 10,000 rows | {' | '.join(f'{timed(test):.1f}' for test in tests.values())} |")


if __name__ == "__main__":
    main()
