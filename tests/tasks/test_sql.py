"""Rows of a database, over SQLite, which every Python has."""

import sqlite3
import sys
from pathlib import Path

import msgspec
import pytest

from kurabe.api import Task
from kurabe.contest.prepare import journal_path
from kurabe.errors import DataError, MissingExtraError, TaskError
from kurabe.tasks import sql
from kurabe.tasks.file import parse_spec
from kurabe.tasks.spec import Query
from kurabe.tasks.sql import masked, read_query

SECRET = "pa55-w0rd"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE items (title TEXT, price REAL, n INTEGER, day DATE, raw BLOB)")
        rows = [(f"Lamp {i}", i + 0.5, i, "2024-01-02", b"x") for i in range(30)]
        database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
    database.close()
    return tmp_path


def test_a_query_is_a_table(shop: Path) -> None:
    query = "SELECT title, price, n, '12:30%' AS t FROM items ORDER BY n"
    table = read_query(Query("sqlite:///shop.db", query), shop)
    assert table.frame.columns == ["title", "price", "n", "t"]
    assert table.frame.row(1) == ("Lamp 1", 1.5, 1, "12:30%")
    assert table.locate(1) == "sqlite:///shop.db, row index 1"
    assert table.typed


def test_a_task_over_a_database_keeps_no_secret(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", f"sqlite:///shop.db?password={SECRET}")
    (shop / "task.yaml").write_text(
        "name: t\ntarget: price\nkind: number\ncontestants: [constant]\n"
        "data: {source: {sql: '${SHOP}', query: 'SELECT title, price FROM items'}}\n"
    )
    task = Task.from_file(shop / "task.yaml")
    board = task.compete()
    assert board.rows[0].score is not None
    written = (shop / "task.yaml").read_text().replace("'${SHOP}'", f"'sqlite:///shop.db?password={SECRET}'")
    (shop / "other.yaml").write_text(written.replace("name: t", "name: other"))
    other = Task.from_file(shop / "other.yaml")
    other.compete()
    kept = b"".join(path.read_bytes() for path in journal_path(shop).parent.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept
    assert SECRET not in repr(other.spec)
    assert SECRET not in msgspec.json.encode(other.spec).decode()


@pytest.mark.parametrize(
    ("connection", "query", "said"),
    [
        ("sqlite:///shop.db", "SELECT * FROM thing", "no such table: thing"),
        ("sqlite:///shop.db", "DELETE FROM items", "something else than read"),
        ("sqlite:///shop.db", "CREATE TABLE other (a)", "something else than read"),
        ("sqlite:///shop.db", "PRAGMA query_only = OFF", "something else than read"),
        ("sqlite:///shop.db", "VACUUM INTO 'copy.db'", "something else than read"),
        ("sqlite:///shop.db", "SELECT zeroblob(500000000) AS a", "too big"),
        ("sqlite:///shop.db", "SELECT title, title FROM items", "two columns of the query are called 'title'"),
        ("sqlite:///shp.db", "SELECT 1", "no database 'shp.db'; did you mean 'shop.db'"),
        ("sqlite://", "SELECT 1", "a database in memory is empty"),
        (f"nothing://me:{SECRET}@host/x", "SELECT 1", r"nothing://host/x: SQLAlchemy knows no such database"),
        (f"postgresql+pg8000://me:{SECRET}@127.0.0.1:9/x", "SELECT 1", r"pip install pg8000"),
        (f"{SECRET}", "SELECT 1", "`sql` is not a connection string"),
        ("${NOT_SET_ANYWHERE}", "SELECT 1", "the environment variable NOT_SET_ANYWHERE is not set"),
    ],
)
def test_what_goes_wrong_is_one_message_without_secrets(shop: Path, connection: str, query: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_query(Query(connection, query), shop)
    assert SECRET not in str(caught.value)
    assert sqlite3.connect(shop / "shop.db").execute("SELECT count(*) FROM items").fetchone() == (30,)


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"


@pytest.mark.parametrize("shown", ["x", "hex(zeroblob(100000)) AS t"])
def test_a_query_without_end_ends_at_the_limit_of_memory(
    shop: Path, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    monkeypatch.setattr(sql, "MAX_BYTES", 2**22)
    with pytest.raises(DataError, match="the query gives more than 4,194,304 bytes, after"):
        read_query(Query("sqlite:///shop.db", ENDLESS.format(shown)), shop)


@pytest.mark.parametrize("shown", ["x", "count(*)"])
def test_a_query_without_end_ends_at_the_deadline(shop: Path, monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    monkeypatch.setattr(sql, "SECONDS", 0.3)
    with pytest.raises(DataError, match="takes more than 0 seconds"):
        read_query(Query("sqlite:///shop.db", ENDLESS.format(shown)), shop)


@pytest.mark.parametrize("name", ["{}/made.db", "file:{}/made.db?mode=rwc"])
def test_a_query_makes_no_file(shop: Path, name: str) -> None:
    with pytest.raises(DataError, match="does something else than read this database"):
        read_query(Query("sqlite:///shop.db", f"ATTACH DATABASE '{name.format(shop)}' AS made"), shop)
    assert [path.name for path in shop.iterdir()] == ["shop.db"]


def test_full_text_search_and_the_names_of_columns_can_be_read(shop: Path) -> None:
    with sqlite3.connect(shop / "shop.db") as database:
        database.execute("CREATE VIRTUAL TABLE texts USING fts5(body)")
        database.execute("INSERT INTO texts VALUES ('a green lamp'), ('a chair')")
    database.close()
    found = read_query(Query("sqlite:///shop.db", "SELECT body FROM texts WHERE texts MATCH 'lamp'"), shop)
    assert found.frame["body"].to_list() == ["a green lamp"]
    assert read_query(Query("sqlite:///shop.db", "PRAGMA user_version"), shop).frame.height == 1


def test_a_variable_is_the_whole_string_or_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    with pytest.raises(DataError) as caught:
        read_query(Query("sqlite:///${SOME_KEY}.db", "SELECT 1"), shop)
    assert SECRET not in str(caught.value)


def test_without_the_library_the_extra_is_named(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kurabe\[sql\]'"):
        read_query(Query("sqlite:///shop.db", "SELECT 1"), shop)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{source: {sql: 'sqlite:///a.db'}}", "'query' is missing"),
        ("{source: {sql: 'sqlite:///a.db', querry: x}}", "no key 'querry'; did you mean 'query'"),
        ("{train: '-', test: '-'}", "standard input, `-`, can be read once only"),
        ("{source: a.csv, encoding: utf-7}", "no encoding 'utf-7'"),
        ("{source: a.csv, encoding: undefined}", "no encoding 'undefined'"),
        ("{source: a.csv, encoding: unicode_escape}", "no encoding 'unicode_escape'"),
        ("{source: a.csv, encoding: base64}", "no encoding 'base64'"),
    ],
)
def test_a_task_file_that_names_no_source_is_refused(data: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        parse_spec(f"name: t\ntarget: y\nkind: number\ndata: {data}\n")


@pytest.mark.parametrize(
    ("connection", "shown"),
    [
        ("postgresql+psycopg://me:p@ss@db:5432/shop?sslkey=k", "postgresql+psycopg://db:5432/shop"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
        ("nonsense secret", "(hidden)"),
        ("${SHOP}", "${SHOP}"),
    ],
)
def test_a_connection_string_is_shown_without_what_may_be_secret(connection: str, shown: str) -> None:
    assert masked(connection) == shown
