"""The journal's file: its tables, how an older one is carried forward, and how damage is found.

Every row carries a checksum. When a journal is opened, SQLite checks the structure of all its pages and every row is
held against its checksum, so that whatever is read afterwards is what was written.
"""

import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kurabe.errors import JournalError, is_disk_full
from kurabe.models.files.sqlite_file import CHECKSUM, MAX_VALUE, definitions, guard
from kurabe.models.hosted.transport.ledger import IN_FLIGHT, IN_FLIGHT_WITHOUT, add_checksums

VERSION: Final = 4
KEPT: Final = ("trained", "tuned", "sweeps", "features")
"""The folders beside a journal in which contestants keep what they have learned."""
APPLICATION_ID: Final = 0x6B757261  # "kura" in ASCII: tells a journal from other SQLite files

TABLES: Final = {
    "tests": "id BLOB PRIMARY KEY, rows BLOB NOT NULL, inputs BLOB NOT NULL",
    "runs": (
        "id TEXT PRIMARY KEY, task TEXT NOT NULL, kind TEXT NOT NULL, metric TEXT NOT NULL, test BLOB NOT NULL,"
        " fallback TEXT NOT NULL, train_rows INTEGER NOT NULL, leaks TEXT NOT NULL, spec TEXT NOT NULL,"
        " columns TEXT NOT NULL, started TEXT NOT NULL, updated TEXT NOT NULL"
    ),
    "entries": (
        "run TEXT NOT NULL, label TEXT NOT NULL, entry BLOB NOT NULL, position INTEGER NOT NULL, model TEXT,"
        " status TEXT NOT NULL, reason TEXT"
    ),
    "measurements": "entry BLOB PRIMARY KEY, fit_seconds REAL, peak_bytes INTEGER, notes TEXT",
    "predictions": "entry BLOB NOT NULL, input BLOB NOT NULL, value, raw TEXT, usd REAL, seconds REAL NOT NULL",
}
_KEYS: Final = {"entries": ", PRIMARY KEY (run, label)", "predictions": ", PRIMARY KEY (entry, input)"}
COLUMNS: Final = {
    "tests": 3, "runs": 12, "entries": 7, "measurements": 4, "predictions": 6,
}  # fmt: skip
"""How many columns of each table the checksum, which stands after them, is taken of."""
NAMES: Final = {table: tuple(part.split()[0] for part in columns.split(", ")) for table, columns in TABLES.items()}
CHECKED: Final = {**NAMES, "in_flight": ("owner", "usd")}
"""The columns that a checksum is taken of, by table."""


def insert(table: str) -> str:
    """The statement that writes a row, over one with the same key, with its checksum.

    >>> insert("tests")
    'INSERT OR REPLACE INTO tests VALUES (?1, ?2, ?3, kurabe_checksum(?1, ?2, ?3))'
    """
    values = ", ".join(f"?{place}" for place in range(1, COLUMNS[table] + 1))
    return f"INSERT OR REPLACE INTO {table} VALUES ({values}, {CHECKSUM}({values}))"


def connect(path: Path | str) -> sqlite3.Connection:
    """An open connection that knows the checksum; the file may be a stranger's. "" is a new file, gone when closed."""
    db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    guard(db)
    return db


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new journal, carry an older one forward, and check what is there.

    Raises JournalError where it is not a journal, of a later version, or damaged.
    """
    try:
        _prepare(db, path)
    except (ValueError, OverflowError) as error:  # a text that is not UTF-8 any more, also in SQLite's own messages
        raise DamageError(path, str(error)) from error


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    fresh = not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    version = VERSION if fresh else _value(db, "PRAGMA user_version")
    tables = VERSION if fresh else version_of_tables(db)
    if not fresh and _value(db, "PRAGMA application_id") != APPLICATION_ID:
        if tables is None:
            raise JournalError(f"{path} is not a kurabe journal; move it away and run again")
        raise DamageError(path, "its header is not that of a journal, and its tables are")
    if tables not in (None, version):
        raise DamageError(path, f"its header says version {version}, and its tables are of version {tables}")
    if version != VERSION and version not in MIGRATIONS:
        raise JournalError(
            f"the journal {path} has version {version}, and this kurabe reads versions {min(MIGRATIONS)} to {VERSION}. "
            f"Use the kurabe that wrote it, or move the file away and run again; it was not changed"
        )
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    if fresh:
        _in_transaction(db, _create, VERSION)
        return
    try:
        if (wrong := _structure(db)) is not None:
            raise DamageError(path, wrong)
        if tables is None:
            raise DamageError(path, "its tables are defined in another way")
        while version != VERSION:
            _in_transaction(db, MIGRATIONS[version], version + 1)
            version += 1
        _check_rows(db, path)
    except sqlite3.Error as error:
        if _is_trouble(error):
            raise
        raise DamageError(path, str(error)) from error


class DamageError(JournalError):
    """A journal is not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"the journal {path} is damaged ({what})")


def refuse_links(*paths: Path) -> None:
    """Raise JournalError where one of these, or a file that SQLite keeps beside it, is a symbolic link."""
    for path in paths:
        for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
            if one.is_symlink():
                raise _link(one)


def refuse_links_beside(path: Path) -> None:
    """Raise JournalError where a symbolic link is among what contestants keep beside the journal: a folder from
    elsewhere could have kurabe read and write through it."""
    tops = [path.parent / name for name in KEPT]
    below = (Path(folder) / name for top in tops for folder, *names in os.walk(top) for name in itertools.chain(*names))
    for one in itertools.chain(tops, below):
        if one.is_symlink():
            raise _link(one)


def _link(path: Path) -> JournalError:
    return JournalError(f"{path} is a symbolic link, which kurabe does not follow; remove it")


def copied(path: Path) -> tuple[Path, "tempfile.TemporaryDirectory[str]"]:
    """A copy of a journal that lies where nothing can be written, with what its last writer left, and its folder."""
    folder = tempfile.TemporaryDirectory(prefix="kurabe-journal-")
    try:
        for end in ("", "-wal"):
            if (source := path.with_name(path.name + end)).exists():
                target = Path(folder.name) / source.name
                shutil.copyfile(source, target)
                os.chmod(target, 0o600)
    except BaseException:
        folder.cleanup()
        raise
    return Path(folder.name) / path.name, folder


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether SQLite could not write where the journal lies."""
    return _name(error).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file's content is wrong, and not that it could not get at it."""
    return _name(error).startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT"))


def failure(path: Path, error: sqlite3.Error) -> JournalError:
    """What went wrong with SQLite, in words that say what to do; a DamageError where the file is damaged."""
    name = _name(error)
    if name.startswith("SQLITE_CORRUPT"):
        return DamageError(path, str(error))
    return JournalError(_explanation(path, name, error))


def _explanation(path: Path, name: str, error: sqlite3.Error) -> str:
    if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and not _can_grow(path)):
        return disk_full(path)
    if name.startswith("SQLITE_NOTADB"):
        return f"{path} is damaged or not a journal ({error}); move it away and run again"
    if name.startswith("SQLITE_TOOBIG"):
        return f"the journal {path} holds no value of more than {MAX_VALUE >> 20} MiB; test on fewer rows (--limit)"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"the journal {path} is in use by another program; wait for it to end and run again"
    if is_read_only(error):
        return f"the journal {path} cannot be opened for writing ({error}); check the folder's permissions"
    return f"the journal {path} cannot be used: {error}"


def disk_full(path: Path) -> str:
    """What to say where no more can be written."""
    return (
        f"the disk that holds {path} is full, or a quota or limit on the size of files is reached. Every finished"
        " prediction is kept: make room and run the same command again to go on"
    )


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def _is_trouble(error: sqlite3.Error) -> bool:
    """Whether an error is not about our tables: the file is in use, out of reach, or damaged as a whole."""
    troubles = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM")
    return is_read_only(error) or is_damage(error) or _name(error).startswith(troubles)


def _can_grow(path: Path) -> bool:
    """Whether a file as large as the journal's can have another megabyte: SQLite does not say why it can't write."""
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.seek(max((one.stat().st_size for one in files if one.exists()), default=0))
            file.write(bytes(1 << 20))
    except OSError as error:
        return not is_disk_full(error)
    return True


def _value(db: sqlite3.Connection, query: str) -> Any:
    return db.execute(query).fetchone()[0]


def _in_transaction(db: sqlite3.Connection, step: Callable[[sqlite3.Connection], None], version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        step(db)
        db.execute(f"PRAGMA user_version={version}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _create(db: sqlite3.Connection) -> None:
    for table in TABLES:
        db.execute(_definition(table))
    db.execute(IN_FLIGHT)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")


def _definition(table: str, checksum: str = ", checksum INTEGER NOT NULL") -> str:
    return f"CREATE TABLE {table} ({TABLES[table]}{checksum}{_KEYS.get(table, '')}) WITHOUT ROWID"


_OF_VERSION: Final = {
    2: {_definition(table, checksum="") for table in TABLES},
    3: {*map(_definition, TABLES), IN_FLIGHT_WITHOUT},
    4: {*map(_definition, TABLES), IN_FLIGHT},
}
"""The statements that make the tables of each version."""


def _from_2(db: sqlite3.Connection) -> None:
    """Version 3 gives each row a checksum, and keeps what calls under way may cost."""
    for table in TABLES:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        db.execute(_definition(table))
        names = ", ".join(NAMES[table])
        db.execute(f"INSERT INTO {table} SELECT {names}, {CHECKSUM}({names}) FROM old_{table}")
        db.execute(f"DROP TABLE old_{table}")
    db.execute(IN_FLIGHT_WITHOUT)


MIGRATIONS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {2: _from_2, 3: add_checksums}
"""How a journal of each version becomes one of the next. Version 4 gives what calls under way may cost a checksum."""


def version_of_tables(db: sqlite3.Connection) -> int | None:
    """The version whose tables these are, and nothing else; None where there is anything that no version has."""
    found = definitions(db)
    return next((version for version, tables in _OF_VERSION.items() if tables == found), None)


def _structure(db: sqlite3.Connection) -> str | None:
    """What is wrong with the pages of the file, or None."""
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    return None if found == "ok" else str(found).splitlines()[-1]


def _check_rows(db: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError where a row is not what was written."""
    for table, names in CHECKED.items():
        columns = ", ".join(names)
        wrong = _value(db, f"SELECT count(*) FROM {table} WHERE checksum IS NOT {CHECKSUM}({columns})")
        if wrong:
            raise DamageError(path, f"{wrong:,} of the rows of {table} are not what was written")
