"""What the trials of a sweep answered, kept so that none is made or paid for twice."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from kurabe.contestants.base import Prediction
from kurabe.errors import JournalError
from kurabe.models.files.private import create_private
from kurabe.models.files.sqlite_file import definitions, guard, in_one_line
from kurabe.models.hosted.transport.ledger import IN_FLIGHT, IN_FLIGHT_WITHOUT, Ledger, add_checksums, unaccounted

OWNER = b"trials"
WAIT = 10.0  # seconds for another connection to let go of the file

_TABLES = (
    """CREATE TABLE answers (
    evaluation TEXT NOT NULL, row INTEGER NOT NULL, value, usd REAL, PRIMARY KEY (evaluation, row)
) WITHOUT ROWID""",
    """CREATE TABLE evaluations (
    evaluation TEXT PRIMARY KEY, seconds REAL NOT NULL, usd REAL NOT NULL, failure TEXT
) WITHOUT ROWID""",
)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Turn write-ahead logging on. SQLite does not wait there for others that open the file at the same time."""
    last = time.monotonic() + WAIT
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > last:
                raise
            time.sleep(0.01)
        else:
            return


def trials_path(folder: str) -> Path:
    """Where the trials of a sweep are kept in its folder."""
    return Path(folder) / "trials.sqlite"


class Evaluations:
    """Answers to rows of the validation part by evaluation, a setting learned on so many rows.

    In an SQLite file, where a commit has reached the disk when it returns; in memory where `path` is None. Raises
    JournalError where the file can't be read or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        with self._explained():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                create_private(path)
            self._db = sqlite3.connect(path or ":memory:", timeout=WAIT)
            try:
                _write_ahead(self._db)
                self._db.execute("PRAGMA synchronous=FULL")
                guard(self._db)
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        """Make the tables that are not there, and refuse a file that holds anything else."""
        expected = (*map(in_one_line, _TABLES), IN_FLIGHT)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")  # waits for another sweep that opens the file, as no other BEGIN does
            if IN_FLIGHT_WITHOUT in definitions(self._db):
                add_checksums(self._db)
            for table in expected:
                if table not in definitions(self._db):
                    self._db.execute(table)
            if definitions(self._db) != set(expected):
                raise sqlite3.DatabaseError("its tables are not those of a sweep")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def ledger(self) -> Ledger | None:
        """What calls under way may cost, kept beside the answers; None in memory."""
        return Ledger(self._path, OWNER) if self._path is not None else None

    def unaccounted(self) -> float:
        """Dollars of calls that no answer accounts for, as a process was killed that had them under way."""
        with self._explained():
            return unaccounted(self._db, OWNER)

    def rename(self, former: str, now: str) -> None:
        """Keep by one digest, with which names of evaluations begin, what is kept by another."""
        with self._explained(), self._db:
            for table in ("answers", "evaluations"):
                self._db.execute(
                    f"UPDATE OR IGNORE {table} SET evaluation=replace(evaluation, ?1, ?2) WHERE instr(evaluation, ?1)",
                    (former, now),
                )

    def answers(self, evaluation: str) -> dict[int, float | str | None]:
        """The answers by row; None where one could not be read."""
        with self._explained():
            return dict(self._db.execute("SELECT row, value FROM answers WHERE evaluation=?", (evaluation,)))

    def total(self) -> float:
        """Dollars of all evaluations, with learning and what calls that no answer accounts for may have cost."""
        with self._explained():
            (answered,) = self._db.execute("SELECT ifnull(sum(usd), 0.0) FROM answers").fetchone()
            (learned,) = self._db.execute("SELECT ifnull(sum(usd), 0.0) FROM evaluations").fetchone()
        return float(answered + learned) + self.unaccounted()

    def spent(self, evaluation: str) -> tuple[float, float, bool]:
        """(seconds, dollars) that an evaluation took so far, with learning, and whether all its dollars are known."""
        with self._explained():
            seconds, learned = self._db.execute(
                "SELECT seconds, usd FROM evaluations WHERE evaluation=?", (evaluation,)
            ).fetchone() or (0.0, 0.0)
            usd, known, made = self._db.execute(
                "SELECT ifnull(sum(usd), 0.0), count(usd), count(*) FROM answers WHERE evaluation=?", (evaluation,)
            ).fetchone()
        return seconds, learned + usd, known == made

    def failure(self, evaluation: str) -> str | None:
        """Why an evaluation failed, or None."""
        with self._explained():
            found = self._db.execute("SELECT failure FROM evaluations WHERE evaluation=?", (evaluation,)).fetchone()
        return found[0] if found else None

    def add(
        self,
        evaluation: str,
        answers: Iterable[Prediction],
        seconds: float,
        *,
        learned: float = 0.0,
        failure: str | None = None,
    ) -> None:
        """Keep answers, all or none, and the seconds they took. `learned`: dollars for learning, counted once however
        often they are told; `failure`: why there are no answers."""
        with self._explained(), self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?,?,?,?)",
                ((evaluation, answer.row, answer.value, answer.usd) for answer in answers),
            )
            self._db.execute(
                "INSERT INTO evaluations VALUES (?,?,?,?) ON CONFLICT (evaluation) DO UPDATE SET"
                " seconds=seconds+excluded.seconds, usd=max(usd, excluded.usd), failure=excluded.failure",
                (evaluation, seconds, learned, failure),
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"the trials of a sweep cannot be kept in {self._path}: {error}; what is there stays. Make room, or"
                " move a damaged file away, and run again to go on"
            ) from error
