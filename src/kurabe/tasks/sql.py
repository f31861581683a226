"""Tables from databases: a query over an SQLAlchemy connection string, read and never written.

What a connection string holds beside the database's place, such as a password, is shown to nobody and stored nowhere.
"""

import os
import re
from pathlib import Path
from typing import Any

import polars as pl

from kurabe.errors import DataError, MissingExtraError, missing
from kurabe.tasks.readers import Stretch, Table, column, plain_frame
from kurabe.tasks.spec import Query

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
        Where the database can't be reached or the query fails; the message holds no part of the connection string but
        the kind of database, the host and the database's name.
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
    if sqlite:
        url = url.set(database=_sqlite_file(url.database, folder), query={"mode": "ro", "uri": "true"})
    try:
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            if sqlite:
                connection.exec_driver_sql("PRAGMA query_only = ON")
            elif url.get_backend_name() == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            result = connection.execute(sqlalchemy.text(source.query.replace(":", r"\:")))
            if not result.returns_rows:
                raise DataError(f"{shown}: the query gives no rows: {source.query[:80]!r}. Write a SELECT")
            names, rows = list(result.keys()), result.fetchall()
            connection.rollback()
        engine.dispose()
    except NoSuchModuleError:
        raise DataError(f"{shown}: SQLAlchemy knows no such database; the dialect stands before ://") from None
    except ModuleNotFoundError as error:
        raise DataError(f"{shown}: its driver is not installed. Install it with: pip install {error.name}") from None
    except (SQLAlchemyError, ValueError, OSError) as error:
        raise DataError(f"{shown}: {_reason(error, url.password)}") from None
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{shown}: two columns of the query are called {twice[0]!r}. Rename one with AS")
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    frame = pl.DataFrame([column(name, list(cells)) for name, cells in zip(names, values, strict=True)])
    return Table(plain_frame(frame), (Stretch(shown, len(rows)),))


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
    said = " ".join(str(getattr(error, "orig", None) or error).split())[:300] or type(error).__name__
    return said.replace(password, "***") if password else said
