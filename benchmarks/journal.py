"""Durable predictions per second: one a commit, as for language models, and in pieces, as for the others.

python benchmarks/journal.py [FOLDER]

Beside it, in the same run on the same disk: bare sqlite3 with the same settings and a one-column table, and appending a
line to a file with an fsync each, which is the least that durable can cost.
"""

import argparse
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from _machine import header

from kurabe.contest.journal import Journal, Row

ENTRY = b"e" * 16
TEXT = "Price is $45.00 for this one, I would say."


def rows(start: int, count: int) -> list[Row]:
    return [Row(number.to_bytes(16, "big"), float(number), TEXT, 0.001) for number in range(start, start + count)]


def ours(folder: Path, count: int, size: int) -> None:
    with Journal(folder / f"journal-{size}.sqlite") as journal:
        for start in range(0, count, size):
            journal.add(ENTRY, rows(start, size), 0.01)


def bare_sqlite(folder: Path, count: int, size: int) -> None:
    db = sqlite3.connect(folder / f"bare-{size}.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE rows (line TEXT)")
    for start in range(0, count, size):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO rows VALUES (?)", [(f"{number} {TEXT}",) for number in range(start, start + size)])
        db.execute("COMMIT")
    db.close()


def fsynced_lines(folder: Path, count: int, size: int) -> None:
    with open(folder / f"lines-{size}.txt", "a", encoding="utf-8") as file:
        for start in range(0, count, size):
            file.writelines(f"{number} {TEXT}\n" for number in range(start, start + size))
            file.flush()
            os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="on the disk to measure; default: temporary files")
    parent = parser.parse_args().folder
    writers: dict[str, Callable[[Path, int, int], None]] = {
        "kurabe's journal": ours,
        "bare sqlite3, WAL, synchronous=FULL": bare_sqlite,
        "a file, fsync each": fsynced_lines,
    }
    print(header())
    print(
        "\nDurable predictions per second; the best of three turns.\n"
        "\n| writer | one a commit | 1,000 a commit |\n|---|---|---|"
    )
    best: dict[tuple[str, int], float] = {}
    for _ in range(3):
        for name, write in writers.items():
            for size, count in ((1, 2_000), (1_000, 100_000)):
                with TemporaryDirectory(dir=parent) as folder:
                    start = time.perf_counter()
                    write(Path(folder), count, size)
                    best[name, size] = max(best.get((name, size), 0.0), count / (time.perf_counter() - start))
    for name in writers:
        print(f"| {name} | {best[name, 1]:,.0f} | {best[name, 1_000]:,.0f} |")


if __name__ == "__main__":
    main()
