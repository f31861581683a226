"""Saving what can be saved of a damaged journal."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kurabe.contest.journal_file import (
    NAMES,
    TABLES,
    DamageError,
    connect,
    copied,
    failure,
    insert,
    is_damage,
    prepare,
    refuse_links,
)
from kurabe.errors import JournalError
from kurabe.models.files.private import create_private
from kurabe.models.files.sqlite_file import CHECKSUM


def repair(path: Path) -> tuple[int, Path | None]:
    """Put a journal of the rows that are what was written in place of a damaged one.

    Returns
    -------
    (predictions, damaged)
        How many predictions the journal has now, and where the damaged file is kept; None where nothing was damaged.

    Raises
    ------
    JournalError
        Where there is no journal, or it is a symbolic link, in use, or out of reach for another reason than damage.
    """
    if not path.exists():
        raise JournalError(f"there is no journal at {path}; start with: kurabe run TASK")
    refuse_links(path)
    try:
        with closing(connect(path)) as db:
            prepare(db, path)
            return int(db.execute("SELECT count(*) FROM predictions").fetchone()[0]), None
    except sqlite3.Error as error:
        if not is_damage(error):  # a sound file stays where it is
            raise failure(path, error) from None
    except DamageError:
        pass
    fresh = path.with_name(f"{path.name}.repaired")
    for end in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + end).unlink(missing_ok=True)
    create_private(fresh)
    with closing(connect(fresh)) as db:
        prepare(db, fresh)
        count = _save(path, db)
        db.execute("PRAGMA journal_mode=DELETE")  # one file, to be moved
    moved = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    for end in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(moved.with_name(moved.name + end))
    fresh.rename(path)
    return count, moved


def salvageable(path: Path) -> str:
    """What can be saved of a damaged journal, and how, in a sentence."""
    try:
        with closing(connect("")) as db:
            prepare(db, path)
            count = _save(path, db)
    except (sqlite3.Error, OSError, ValueError):
        count = 0
    if not count:
        return "No prediction in it can be saved: move it away and run again"
    return (
        f"{count:,} predictions can be saved: `kurabe runs {path.parent.parent} --repair` does it and keeps the damaged"
        " file beside the new one"
    )


def _save(path: Path, target: sqlite3.Connection) -> int:
    """Copy the rows that are what was written; return how many predictions there are."""
    copy, folder = copied(path)
    with folder, closing(connect(copy)) as source:
        with suppress(sqlite3.Error):
            source.execute("PRAGMA writable_schema=ON")  # tables are read though another one is not defined right
        target.execute("BEGIN")
        for table in TABLES:
            for row in _rows(source, table, NAMES[table]):
                target.execute(insert(table), row)
        for owner, usd in _rows(source, "in_flight", ("owner", "usd")):
            if isinstance(owner, bytes) and isinstance(usd, float):
                target.execute(f"INSERT OR REPLACE INTO in_flight VALUES (?1, ?2, {CHECKSUM}(?1, ?2))", (owner, usd))
        _complete(target)
        target.execute("COMMIT")
        return int(target.execute("SELECT count(*) FROM predictions").fetchone()[0])


def _rows(db: sqlite3.Connection, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a table that can be read from its beginning and from its end, up to where it is damaged.

    Nothing where it is no plain table: a view, or a column that is computed, may never end.
    """
    try:
        ((kind,),) = db.execute("SELECT type FROM pragma_table_list WHERE schema='main' AND name=?", (table,))
        known = dict(db.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (table,)))
    except (sqlite3.Error, ValueError):
        return
    if kind != "table" or any(known.values()):
        return
    names = ", ".join(columns)
    keys = {"entries": "run, label", "predictions": "entry, input"}.get(table, columns[0])
    right = f"checksum IS {CHECKSUM}({names})" if "checksum" in known else "1"
    for order in ("", " DESC"):
        ordered = ", ".join(key + order for key in keys.split(", "))
        try:
            for row in db.execute(f"SELECT {names}, {right} FROM {table} ORDER BY {ordered}"):
                if row[-1]:
                    yield row[:-1]
            return
        except (sqlite3.Error, ValueError, OverflowError):
            continue


def _complete(db: sqlite3.Connection) -> None:
    """Take away runs whose test rows are gone, and contestants whose runs are gone."""
    db.execute("DELETE FROM runs WHERE test NOT IN (SELECT id FROM tests)")
    db.execute("DELETE FROM entries WHERE run NOT IN (SELECT id FROM runs)")
