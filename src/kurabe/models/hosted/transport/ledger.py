"""What calls under way may cost, on the disk before they are sent: it counts as spent after the process is killed."""

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Final, Self

from kurabe.errors import JournalError
from kurabe.models.files.sqlite_file import CHECKSUM, guard

IN_FLIGHT: Final = (
    "CREATE TABLE in_flight (owner BLOB PRIMARY KEY, usd REAL NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"
)
"""The table, in the SQLite file that also keeps the answers. A row holds dollars that no answer of its owner accounts
for: of calls under way, of calls that a killed process had under way, and of attempts that may have been paid for."""

IN_FLIGHT_WITHOUT: Final = "CREATE TABLE in_flight (owner BLOB PRIMARY KEY, usd REAL NOT NULL) WITHOUT ROWID"
"""The table as it was before it had checksums."""


def add_checksums(db: sqlite3.Connection) -> None:
    """Give the rows of a table without checksums theirs."""
    db.execute("ALTER TABLE in_flight RENAME TO old_in_flight")
    db.execute(IN_FLIGHT)
    db.execute(f"INSERT INTO in_flight SELECT owner, usd, {CHECKSUM}(owner, usd) FROM old_in_flight")
    db.execute("DROP TABLE old_in_flight")


def unaccounted(db: sqlite3.Connection, owner: bytes) -> float:
    """Dollars of `owner` that must count as spent beside those of its answers."""
    found = db.execute("SELECT usd FROM in_flight WHERE owner=?", (owner,)).fetchone()
    return max(float(found[0]), 0.0) if found else 0.0


class Ledger:
    """One owner's row. The sum of its dollars and those of the answers kept is never less than what was spent.

    Used from any thread and event loop. Calls that begin at the same time share a write. Raises JournalError where
    nothing can be written.
    """

    def __init__(self, path: Path, owner: bytes) -> None:
        self._path, self._owner = path, owner
        self._changing, self._writing = threading.Lock(), threading.Lock()
        self._change = 0.0  # not written yet
        self._asked = self._written = 0
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            guard(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"INSERT OR IGNORE INTO in_flight VALUES (?1, 0.0, {CHECKSUM}(?1, 0.0))", (owner,))
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        try:
            self._write(self._asked + 1)
        finally:
            self._db.close()

    async def hold(self, usd: float) -> None:
        """Write down what a call that is about to be sent may cost. When this returns it is on the disk."""
        with self._changing:
            self._change += usd
            self._asked += 1
            turn = self._asked
        await asyncio.to_thread(self._write, turn)

    def change(self, usd: float) -> None:
        """Note that a call cost less than was held, or that its answer is kept now; written with the next call."""
        with self._changing:
            self._change += usd

    def _write(self, turn: int) -> None:
        with self._writing:
            if self._written >= turn:  # written with another call's
                return
            with self._changing:
                change, upto = self._change, max(self._asked, turn)
                self._change = 0.0
            try:
                self._db.execute(
                    f"UPDATE in_flight SET usd = usd + ?1, checksum = {CHECKSUM}(owner, usd + ?1) WHERE owner = ?2",
                    (change, self._owner),
                )
            except sqlite3.Error as error:
                with self._changing:
                    self._change += change
                raise self._failure(error) from error
            self._written = upto

    def _failure(self, error: sqlite3.Error) -> JournalError:
        return JournalError(
            f"what calls may cost cannot be written to {self._path}: {error}. Make room or check the permissions, and"
            " run again to go on"
        )
