"""Which MinHash library the leak check stands on: rensa or datasketch, by speed and recall, in one run.

    python benchmarks/leaks.py [TABLE.jsonl ...]

Each table (by default those of ../shared/data, where there are any) is cut in half; every tenth row of the test half
becomes a training row with a word in forty changed. A made-up table of 100,000 training and 20,000 test rows of 50
words follows. Both libraries get the same shingle hashes, 126 permutations and 21 bands, and their candidates are
verified by the same code. Recall is of all test rows that an exhaustive comparison finds near. "all" is the seconds of
the whole leak check as kurabe runs it, on rensa, from the frames to the positions.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _machine import header
from datasketch import MinHash, MinHashLSH
from scipy import sparse

from kurabe.contest import leaks
from kurabe.tasks.text_metrics import fold

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
Bags = leaks._Shingles


def rensa_pairs(known: Bags, asked: Bags) -> np.ndarray:
    return leaks._candidates(leaks._band_keys(known), leaks._band_keys(asked))


def datasketch_pairs(known: Bags, asked: Bags) -> np.ndarray:
    settings = {"num_perm": leaks._BANDS * leaks._BAND_HASHES, "hashfunc": int, "scheme": "affine64"}
    index = MinHashLSH(num_perm=leaks._BANDS * leaks._BAND_HASHES, params=(leaks._BANDS, leaks._BAND_HASHES))
    for row, sketch in enumerate(MinHash.bulk(bag_lists(known), **settings)):
        index.insert(row, sketch, check_duplication=False)
    sketches = MinHash.bulk(bag_lists(asked), **settings)
    pairs = [(found, row) for row, sketch in enumerate(sketches) for found in index.query(sketch)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def bag_lists(bags: Bags) -> list[list[int]]:
    return [part.tolist() for part in np.split(bags.hashes, bags.offsets[1:-1])]


def verified(known: Bags, asked: Bags, pairs: np.ndarray) -> set[int]:
    near: set[int] = set()
    for start in range(0, len(pairs), leaks._PAIRS):
        part = pairs[start : start + leaks._PAIRS]
        near.update(part[leaks._jaccard(known, asked, part) >= leaks.LEAST_SIMILARITY, 1].tolist())
    return near


def exhaustive(known: Bags, asked: Bags) -> set[int]:
    """Rows of `asked` near any of `known`, by comparing every pair that shares a shingle."""
    vocabulary, columns = np.unique(np.concatenate([known.hashes, asked.hashes]), return_inverse=True)
    matrices = []
    for bags, part in ((known, columns[: len(known.hashes)]), (asked, columns[len(known.hashes) :])):
        # The matrix joins duplicates in place, so it must not share the bags' offsets.
        cells = (np.ones(len(part)), part, bags.offsets.copy())
        matrix = sparse.csr_array(cells, shape=(len(bags.rows), len(vocabulary)))
        matrix.sum_duplicates()
        matrix.data[:] = 1
        matrices.append(matrix)
    left, right = (np.diff(matrix.indptr) for matrix in matrices)
    turned, near = matrices[0].T.tocsr(), set()
    for start in range(0, len(asked.rows), 500):
        common = (matrices[1][start : start + 500] @ turned).tocoo()
        rows = common.row + start
        similarity = common.data / (left[common.col] + right[rows] - common.data)
        large = np.minimum(left[common.col], right[rows]) >= leaks.LEAST_SHINGLES
        near.update(rows[large & (similarity >= leaks.LEAST_SIMILARITY)].tolist())
    return near


def planted(texts: list[str], train: int, test: int) -> tuple[list[str], list[str]]:
    generator = random.Random(0)
    known, asked = texts[:train], texts[train : train + test]
    for row in range(0, len(asked), 10):
        changed = generator.choice(known).split()
        for place in generator.sample(range(len(changed)), len(changed) // 40 + (len(changed) > 10)):
            changed[place] = "changed"
        asked[row] = " ".join(changed)
    return known, asked


def compare(name: str, known_texts: list[str], asked_texts: list[str]) -> None:
    train, test = (pl.DataFrame({"text": texts, "input": texts}) for texts in (known_texts, asked_texts))
    whole, _ = timed(partial(leaks.find_leaks, train, test))
    known, asked = (leaks._shingles([fold(text) for text in texts]) for texts in (known_texts, asked_texts))
    truth = exhaustive(known, asked)
    cells = []
    for pairs in (rensa_pairs, datasketch_pairs):
        seconds, candidates = timed(partial(pairs, known, asked))
        found = verified(known, asked, candidates)
        recall = len(found & truth) / len(truth) if truth else 1.0
        cells.append(f"{seconds:.2f} | {recall:.3f}")
    size = f"{len(known_texts):,} × {len(asked_texts):,}"
    print(f"| {name} | {size} | {len(truth):,} | {' | '.join(cells)} | {whole:.2f} |", flush=True)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def read_texts(path: Path) -> list[str]:
    """The text of each row: all its values that are strings but the id."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [" ".join(value for name, value in row.items() if isinstance(value, str) and name != "id") for row in rows]


def main() -> None:
    paths = [Path(argument) for argument in sys.argv[1:]] or sorted(SHARED.glob("*/*.jsonl"))
    print(header("rensa", "datasketch", "polars"), end="\n\n")
    print("| table | rows | near | rensa s | recall | datasketch s | recall | all s |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    if not paths:
        print("no tables given and none in ../shared/data: only the made-up one is measured", file=sys.stderr)
    for path in paths:
        texts = read_texts(path)
        random.Random(1).shuffle(texts)
        compare(path.stem, *planted(texts, len(texts) // 2, len(texts) - len(texts) // 2))
    generator = random.Random(2)
    vocabulary = [f"word{number}" for number in range(20_000)]
    texts = [" ".join(generator.choices(vocabulary, k=50)) for _ in range(120_000)]
    compare("made up", *planted(texts, 100_000, 20_000))


if __name__ == "__main__":
    main()
