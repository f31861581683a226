"""What a race saves, and how often it stops the wrong contestant: simulated boards, no model is asked.

`python benchmarks/race.py`: boards of 13 contestants with the spread of examples/computers, of which the language
models stand where they stand there (12th and 13th) or anywhere; then boards of equal contestants, with a look after
every row.
"""

from collections.abc import Callable, Sequence

import numpy as np

from kurabe.contest.race import LEVEL, stopped_at

SPREAD = (109, 110, 129, 131, 140, 180, 209, 211, 363, 452, 454, 547, 1818)
"""Mean absolute errors of examples/computers."""
BOARDS = 500
ROW, OWN = 0.5, 0.75
"""Standard deviations of the logarithms of errors: of the row, which all share, and of each contestant."""

Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def errors(rng: np.random.Generator, scores: Sequence[float], rows: int) -> np.ndarray:
    """(contestants, rows) lognormal errors of these means."""
    spread = ROW * rng.normal(size=(1, rows)) + OWN * rng.normal(size=(len(scores), rows))
    return np.asarray(np.array(scores)[:, None] * np.exp(spread - (ROW**2 + OWN**2) / 2))


def race(found: np.ndarray, racers: Sequence[int], bound: float, *, shares: bool = False) -> dict[int, int]:
    """After how many rows each racer is stopped, of those that are."""
    ends = {}
    for racer in racers:
        rivals = [one for place, one in enumerate(found) if place != racer]
        end = stopped_at(found[racer], rivals, bound, LEVEL / len(racers), shares=shares)
        if end is not None:
            ends[racer] = end
    return ends


def savings(rows: int, racers: int | None) -> tuple[float, float]:
    """(share of calls saved, share of boards with the full contest's winner); `racers` anywhere, or the last two."""
    rng = np.random.default_rng(rows)
    saved, same = [], []
    for _ in range(BOARDS):
        found = errors(rng, SPREAD, rows)
        asked = [11, 12] if racers is None else rng.choice(len(SPREAD), racers, replace=False).tolist()
        bound = float(errors(rng, [452], 400).max())  # of the constant in a training part
        ends = race(found, asked, bound)
        saved.append(1 - sum(ends.get(racer, rows) for racer in asked) / (len(asked) * rows))
        left = [place for place in range(len(SPREAD)) if ends.get(place, rows) == rows]
        means = found.mean(axis=1)
        same.append(int(np.argmin(means)) == min(left, key=lambda place: means[place]))
    return float(np.mean(saved)), float(np.mean(same))


EQUALS: dict[str, tuple[Draw, bool]] = {
    "hits (0 or 1)": (lambda rng, k, n: (rng.random((k, n)) < 0.5).astype(float), True),
    "hits, 80 % ties": (
        lambda rng, k, n: np.where(rng.random(n) < 0.8, rng.random(n) < 0.5, rng.random((k, n)) < 0.5).astype(float),
        True,
    ),
    "normal errors": (lambda rng, k, n: np.abs(rng.normal(size=(k, n))), False),
    "lognormal errors": (lambda rng, k, n: errors(rng, [1.0] * k, n), False),
    "wide lognormal errors": (lambda rng, k, n: np.exp(rng.normal(size=(1, n)) + rng.normal(size=(k, n))), False),
    "errors of Student's t with 2 degrees": (lambda rng, k, n: np.abs(rng.standard_t(2, size=(k, n))), False),
    "Pareto errors of tail 1.5": (lambda rng, k, n: rng.pareto(1.5, size=(k, n)), False),
    "one in 50 errors 50 times as large": (
        lambda rng, k, n: np.where(rng.random((k, n)) < 0.02, 50.0, 1.0) * rng.random((k, n)),
        False,
    ),
}


def wrongly(draw: Draw, contestants: int, racers: int, rows: int, *, shares: bool) -> float:
    """The share of boards of equals on which anybody is stopped."""
    rng = np.random.default_rng(rows)
    stopped = 0
    for _ in range(BOARDS):
        bound = 1.0 if shares else float(draw(rng, 1, 400).max())
        stopped += bool(race(draw(rng, contestants, rows), range(racers), bound, shares=shares))
    return stopped / BOARDS


def rarely_wrong() -> float:
    """The share of models stopped that are as good as their rival only because it makes rare large errors."""
    rng = np.random.default_rng(3)
    stopped = 0
    for _ in range(BOARDS):
        rival = np.where(rng.random(150) < 0.02, 50.0, 1.0) * rng.random(150)
        stopped += stopped_at(1.98 * rng.random(150), [rival], 50.0, LEVEL) is not None
    return stopped / BOARDS


def main() -> None:
    """Print both tables."""
    print(f"{BOARDS} boards each; level {LEVEL:.0%}\n")
    print("| rows | language models | calls saved | the full contest's winner |\n|---|---|---|---|")
    for rows in (100, 150, 300, 1000):
        for racers, where in ((None, "12th and 13th, as in the example"), (4, "4 anywhere among the 13")):
            saved, same = savings(rows, racers)
            print(f"| {rows:,} | {where} | {saved:.0%} | {same:.1%} |", flush=True)
    shapes = ((2, 2, 150), (2, 2, 600), (4, 4, 300), (13, 4, 150))
    print("\n| equal contestants | " + " | ".join(f"{k} ({r} race), {n} rows" for k, r, n in shapes) + " |")
    print("|---" * (len(shapes) + 1) + "|")
    for name, (draw, shares) in EQUALS.items():
        cells = [f"{wrongly(draw, k, r, n, shares=shares):.1%}" for k, r, n in shapes]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nAs good only by a rival's rare large errors, and stopped: {rarely_wrong():.1%}")


if __name__ == "__main__":
    main()
