"""What the leak check finds and what it cries wolf over, and how long it takes.

    python benchmarks/leaks.py [TABLE.jsonl ...]

Each table (by default those of ../shared/data, where there are any) and two made-up ones are cut in half. Recall is of
500 planted near copies of training rows: one word in seven changed, three in forty, the first half, and a row quoted in
another. "alarms" is the share of the untouched test half that is found near: in a table that holds near copies of its
own rows these are no errors, in the made-up ones they are. The last line is the speed at 100,000 training and 20,000
test rows of 50 words.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from _machine import header

from kurabe.contest.evidence import Leaks
from kurabe.contest.leaks import find_leaks

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
PLANTED = 500


def check(known: list[str], asked: list[str]) -> Leaks:
    train, test = (pl.DataFrame({"text": texts, "input": texts}) for texts in (known, asked))
    return find_leaks(train, test)


def changed(text: str, count: int, generator: random.Random) -> str:
    words = text.split()
    for place in generator.sample(range(len(words)), count):
        words[place] = f"other{generator.randrange(10**6)}"
    return " ".join(words)


def first(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def recall(known: list[str], sources: list[str], plant: Callable[[str], str]) -> float:
    found = check([*known, *sources], [plant(text) for text in sources])
    return (len(found.exact) + len(found.near)) / len(sources)


def measure(name: str, texts: list[str]) -> None:
    generator = random.Random(0)
    generator.shuffle(texts)
    known, asked = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    started = time.process_time()
    alarms = len(check(known, asked).near) / len(asked)
    seconds = time.process_time() - started
    long = [text for text in known if len(text.split()) >= 40]
    if not long:
        print(f"| {name} | {len(known):,} × {len(asked):,} | {alarms:.3f} | | | | | {seconds:.2f} |", flush=True)
        return
    long = generator.sample(long, min(PLANTED, len(long)))
    cells = [
        recall(known, [first(text, 7) for text in long], lambda text: changed(text, 1, generator)),
        recall(known, [first(text, 40) for text in long], lambda text: changed(text, 3, generator)),
        recall(known, long, lambda text: first(text, len(text.split()) // 2)),
        recall(known, long, lambda text: f"{generator.choice(asked)} {text}"),
    ]
    found = " | ".join(f"{cell:.3f}" for cell in cells)
    print(f"| {name} | {len(known):,} × {len(asked):,} | {alarms:.3f} | {found} | {seconds:.2f} |", flush=True)


def read_texts(path: Path) -> list[str]:
    """The text of each row: all its values that are strings but the id."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [" ".join(value for name, value in row.items() if isinstance(value, str) and name != "id") for row in rows]


def made_up(rows: int, words: int) -> list[str]:
    """Texts whose words are as unevenly common as those of a language."""
    drawn = np.random.default_rng(0).zipf(1.25, size=(rows, words)) % 20_000
    return [" ".join(f"word{number}" for number in row) for row in drawn]


def main() -> None:
    paths = [Path(argument) for argument in sys.argv[1:]] or sorted(SHARED.glob("*/*.jsonl"))
    print(header("polars", "numpy", "scipy"), end="\n\n")
    print("| table | rows | alarms | 1 of 7 words | 3 of 40 words | half | quoted | processor s |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for path in paths:
        measure(path.stem, read_texts(path))
    generator = random.Random(2)
    vocabulary = [f"word{number}" for number in range(20_000)]
    measure("made up, as a language", made_up(20_000, 40))
    measure("made up, evenly", [" ".join(generator.choices(vocabulary, k=50)) for _ in range(20_000)])
    texts = [" ".join(generator.choices(vocabulary, k=50)) for _ in range(120_000)]
    started = time.process_time()
    check(texts[:100_000], texts[100_000:])
    print(f"\n100,000 × 20,000 rows of 50 words: {time.process_time() - started:.1f} processor seconds")


if __name__ == "__main__":
    main()
