"""What the trials of a sweep answered, in a file."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from kurabe.contestants.base import Prediction
from kurabe.contestants.sweeps.trials import OWNER, Evaluations
from kurabe.errors import JournalError


def test_a_file_without_checksums_keeps_what_calls_under_way_may_cost(tmp_path: Path) -> None:
    path = tmp_path / "trials.sqlite"
    with Evaluations(path) as store:
        store.add("one", [Prediction(3, 2.5, "2.5", 0.125)], 1.0)
    with closing(sqlite3.connect(path)) as db, db:  # as version 0.1 made it
        db.execute("DROP TABLE in_flight")
        db.execute("CREATE TABLE in_flight (owner BLOB PRIMARY KEY, usd REAL NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO in_flight VALUES (?, 0.5)", (OWNER,))
    for held in (0.5, 0.75):
        with Evaluations(path) as store:
            assert store.unaccounted() == held
            assert store.answers("one") == {3: 2.5}
            ledger = store.ledger()
            assert ledger is not None
            with ledger:
                ledger.change(0.25)


def test_sweeps_may_open_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    def total(path: Path) -> float:
        with Evaluations(path) as store:
            return store.total()

    with ThreadPoolExecutor(6) as pool:
        for attempt in range(20):
            assert list(pool.map(total, [tmp_path / f"{attempt}.sqlite"] * 6)) == [0.0] * 6


def test_all_that_was_spent_is_in_the_total(tmp_path: Path) -> None:
    with Evaluations(tmp_path / "trials.sqlite") as store:
        store.add("one", [Prediction(3, 2.5, None, 0.125), Prediction(4, 2.5, None, None)], 1.0)
        store.add("two", [Prediction(3, 2.5, None, 0.25)], 1.0, learned=1.0)
        store.add("two", (), 0.0, learned=1.0)
        assert store.spent("one") == (1.0, 0.125, False)
        assert store.spent("two") == (1.0, 1.25, True)
        ledger = store.ledger()
        assert ledger is not None
        with ledger:
            ledger.change(0.5)
        assert store.total() == 1.875


@pytest.mark.parametrize(
    "statements",
    [
        "DROP TABLE answers; CREATE VIEW answers AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT x AS evaluation, x AS row, x AS value, x AS usd FROM n",
        "CREATE TRIGGER late AFTER INSERT ON answers BEGIN DELETE FROM answers; END",
        "DROP TABLE evaluations; CREATE TABLE evaluations (x)",
    ],
    ids=["view", "trigger", "table"],
)
def test_a_file_with_other_tables_is_one_message(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "trials.sqlite"
    Evaluations(path).__exit__()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(statements)
    with pytest.raises(JournalError, match=r"cannot be kept in .*trials\.sqlite.*run again to go on"):
        Evaluations(path)
