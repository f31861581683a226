"""Tables from databases: a query over an SQLAlchemy connection string, read and never written.

What a connection string holds beside the database's place, such as a password, is shown to nobody and stored nowhere.
"""

import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import polars as pl

from kurabe.errors import DataError, MissingExtraError, missing
from kurabe.tasks.readers import Stretch, Table, column, plain_frame
from kurabe.tasks.spec import Query

SECONDS = 300.0  # for a query and its rows
CONNECT_SECONDS = 30  # until a server answers
MAX_BYTES = 2**30  # of all rows as Python holds them
MAX_CELL = 10**8  # bytes of one value of SQLite
_READING = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
})  # fmt: skip
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def read_query(source: Query, folder: Path) -> Table:
    """The rows that a query gives.

    Parameters
    ----------
    source : Query
        A path in an SQLite connection string is relative to `folder`.
    folder : Path

    Raises
    ------
    DataError
        If the database can't be reached, or the query fails, takes more than SECONDS or gives more than MAX_BYTES; of
        the connection string, the message shows the kind of database, the host and the database's name.
    MissingExtraError
        Without the extra `sql`.
    """
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    except ImportError:
        raise MissingExtraError("a database", "sql") from None
    try:
        url = sqlalchemy.make_url(_expanded(source.sql))
        shown = masked(str(url.render_as_string(hide_password=True)))
    except (ArgumentError, ValueError, TypeError):
        raise DataError(
            "data: `sql` is not a connection string. Write DIALECT://USER@HOST/DATABASE, such as"
            " postgresql://reader@localhost/shop or sqlite:///shop.db"
        ) from None
    sqlite = url.get_backend_name() == "sqlite"
    postgres = url.get_backend_name() == "postgresql"
    if postgres:
        named = "postgresql+psycopg" if url.drivername == "postgresql" else url.drivername  # SQLAlchemy 2.0: psycopg2
        url = url.set(drivername=named)
    if postgres and "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)})
    if sqlite:
        url = url.set(database=_sqlite_file(url.database, folder), query={"mode": "ro", "uri": "true"})
    deadline = time.monotonic() + SECONDS
    try:
        engine = sqlalchemy.create_engine(
            url, execution_options={"stream_results": True}, poolclass=sqlalchemy.pool.NullPool
        )
        with engine.connect() as connection:
            names, rows = _answer(connection, source.query, shown, deadline)
    except NoSuchModuleError:
        raise DataError(f"{shown}: SQLAlchemy knows no such database; the dialect stands before ://") from None
    except ImportError as error:
        driver = "'kurabe[sql]'" if url.drivername == "postgresql+psycopg" else error.name
        raise DataError(f"{shown}: its driver is not installed. Install it with: pip install {driver}") from None
    except (SQLAlchemyError, ValueError, OSError) as error:
        if time.monotonic() > deadline:
            raise DataError(_too_slow(shown)) from None
        raise DataError(f"{shown}: {_reason(error, url.password)}") from None
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{shown}: two columns of the query are called {twice[0]!r}. Rename one with AS")
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    frame = pl.DataFrame([column(name, list(cells)) for name, cells in zip(names, values, strict=True)])
    return Table(plain_frame(frame), (Stretch(shown, len(rows)),))


def _confine(database: Any, deadline: float) -> None:
    """Let SQLite do nothing but read this one database, until the deadline; ATTACH would make files anywhere."""

    def allowed(action: int, name: str | None, value: str | None, *_: str | None) -> int:
        # Full-text search declares its table, which counts as an update of the schema though none is written.
        declares = action == sqlite3.SQLITE_UPDATE and name in ("sqlite_master", "sqlite_schema")
        asks = action == sqlite3.SQLITE_PRAGMA and value is None
        return sqlite3.SQLITE_OK if action in _READING or declares or asks else sqlite3.SQLITE_DENY

    database.set_authorizer(allowed)
    database.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)


def _answer(connection: Any, query: str, shown: str, deadline: float) -> tuple[list[str], list[Any]]:
    """The names of a query's columns and its rows, from a connection that it can't write with."""
    from sqlalchemy import text

    database = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
        _confine(database, deadline)
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection = connection.execution_options(postgresql_readonly=True)
    with (
        _cancelled_at(database, deadline) if postgres else nullcontext(),
        connection.execute(text(query.replace(":", r"\:"))) as result,
    ):
        if not result.returns_rows:
            raise DataError(f"{shown}: the query gives no rows: {query[:80]!r}. Write a SELECT")
        names, rows = list(result.keys()), _fetched(result, shown, deadline)
    connection.rollback()
    return names, rows


@contextmanager
def _cancelled_at(database: Any, deadline: float) -> Iterator[None]:
    """Cancel the query at the deadline: while the server computes, nothing here can look at the clock."""
    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), getattr(database, "cancel", lambda: None))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _fetched(result: Iterable[Any], shown: str, deadline: float) -> list[Any]:
    """The rows, as far as they stay within the limits of time and memory."""
    rows, size = [], 0
    for row in result:
        rows.append(row)
        cells = tuple(row)  # a row of SQLAlchemy holds one, which its own size leaves out
        size += sys.getsizeof(row) + sys.getsizeof(cells) + sum(map(sys.getsizeof, cells))
        if size > MAX_BYTES:
            raise DataError(
                f"{shown}: the query gives more than {MAX_BYTES:,} bytes, after {len(rows):,} rows. Select fewer"
                " columns, add a LIMIT, or export the table as parquet"
            )
        if time.monotonic() > deadline:
            raise DataError(_too_slow(shown))
    return rows


def _too_slow(shown: str) -> str:
    return f"{shown}: the query takes more than {SECONDS:,.0f} seconds. Make it simpler, or store its rows in a file"


def masked(connection: str) -> str:
    """A connection string with nothing in it that may be secret: without user, password and options.

    >>> masked("postgresql+psycopg://me:secret@db.example.org:5432/shop?sslkey=k")
    'postgresql+psycopg://db.example.org:5432/shop'
    >>> masked("${SHOP_DATABASE}")
    '${SHOP_DATABASE}'
    """
    if _VARIABLE.fullmatch(connection):
        return connection
    match = re.fullmatch(r"([\w+]+)://(?:.*@)?([^@?#]*)(?:[?#].*)?", connection, re.DOTALL)
    return f"{match[1]}://{match[2]}" if match else "(hidden)"


def _expanded(connection: str) -> str:
    """The connection string, which may be that of an environment variable: `${NAME}` and nothing else.

    Not a part of it: a task file of a stranger could send a key to a host of its own.
    """
    match = _VARIABLE.fullmatch(connection)
    if match is None:
        return connection
    value = os.environ.get(match[1])
    if not value:
        raise DataError(
            f"data: the environment variable {match[1]} is not set; it holds the database's connection string"
        )
    return value


def _sqlite_file(name: str | None, folder: Path) -> str:
    """SQLite's name for a database that is there, opened for reading alone."""
    if not name or name == ":memory:":
        raise DataError("data: a database in memory is empty; name a file: sqlite:///shop.db")
    path = folder / name
    if not path.is_file():
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"data: {missing('database', path.name, names)} in {path.parent.resolve()}")
    return path.resolve().as_uri()


def _reason(error: Any, password: str | None) -> str:
    """What a driver says, on one line, without the statement and without the password."""
    orig = getattr(error, "orig", None)
    if isinstance(orig, sqlite3.Error) and ("not authorized" in str(orig) or orig.sqlite_errorname == "SQLITE_AUTH"):
        return "the query does something else than read this database. Write a SELECT"
    said = " ".join(str(getattr(error, "orig", None) or error).split())[:300] or type(error).__name__
    return said.replace(password, "***") if password else said
