"""Rows of a PostgreSQL database, from a server that the tests start themselves."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kurabe.api import Task
from kurabe.contest.prepare import journal_path
from kurabe.errors import DataError
from kurabe.tasks import sql
from kurabe.tasks.spec import Query
from kurabe.tasks.sql import read_query

SECRET = "pa55-w0rd"
NEEDED = ("initdb", "pg_ctl")


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian leaves out of the PATH."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in folders if all(shutil.which(name, path=one) for name in NEEDED)), None)


FOLDER = binaries()
pytestmark = [
    pytest.mark.skipif(FOLDER is None, reason="needs the programs of PostgreSQL"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A new server on loopback, as an unprivileged user; the connection string of its owner. Its files go with it."""
    pytest.importorskip("psycopg")
    assert FOLDER is not None
    user = "nobody" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="kurabe-postgres-"))
    if user is not None:
        shutil.chown(home, user)

    def run(program: str, *arguments: str, check: bool = True) -> None:
        command = [str(FOLDER / program), "-D", str(home / "data"), *arguments]
        done = subprocess.run(
            command, check=False, user=user, cwd=home, timeout=60, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout or (home / "log").read_text()

    (home / "password").write_text(SECRET)
    (home / "password").chmod(0o644)
    try:
        words = ["--username=owner", f"--pwfile={home / 'password'}", "--auth=scram-sha-256"]
        run("initdb", *words, "--encoding=UTF8", "--locale=C", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "-w", "-l", str(home / "log"), "-o", options, "start")
        yield f"postgresql://owner:{SECRET}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop", check=False)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def shop(server: str) -> str:
    import psycopg

    with psycopg.connect(server) as connection:
        connection.execute(
            "CREATE TABLE items (title text, price numeric(8,2), n int, sold boolean, day date, at timestamptz,"
            " raw bytea, size real, tags text[], more jsonb, id uuid DEFAULT gen_random_uuid())"
        )
        connection.execute(
            "INSERT INTO items SELECT 'Lámp ' || i, i + 0.5, i, i % 2 = 0, date '2024-01-01' + i,"
            " '2024-01-01 12:00+00', 'x', i / 4.0, ARRAY['a', 'b'], '{\"a\": 1}' FROM generate_series(0, 29) AS i"
        )
        connection.execute("UPDATE items SET price = NULL WHERE n = 29")
        connection.execute("CREATE SEQUENCE counter")
    return server


def rows_left(shop: str) -> int:
    import psycopg

    with psycopg.connect(shop) as connection:
        row = connection.execute("SELECT count(*) FROM items WHERE title LIKE 'Lámp%'").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("dialect", ["postgresql", "postgresql+psycopg"])
def test_a_query_is_a_table(shop: str, tmp_path: Path, dialect: str) -> None:
    connection = shop.replace("postgresql", dialect, 1)
    query = "SELECT *, price::float AS p, '12:30%' AS t FROM items WHERE title LIKE 'L%' ORDER BY n"
    table = read_query(Query(connection, query), tmp_path)
    assert table.typed
    row = table.frame.row(3, named=True)
    assert (row["title"], row["price"], row["n"], row["sold"]) == ("Lámp 3", 3.5, 3, False)
    assert (row["p"], row["size"], row["t"], row["tags"], row["more"]) == (3.5, 0.75, "12:30%", '["a","b"]', '{"a":1}')
    assert str(row["day"]) == "2024-01-04"
    assert table.frame["price"].null_count() == 1
    assert "raw" not in table.frame.columns
    assert len(row["id"]) == 36
    assert SECRET not in table.locate(1)
    assert table.locate(1).endswith("/postgres, row index 1")


def test_a_task_over_a_database_keeps_no_secret(shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", shop)
    (tmp_path / "task.yaml").write_text(
        "name: t\ntarget: price\nkind: number\ncontestants: [constant, linear_features]\n"
        "data: {source: {sql: '${SHOP}', query: 'SELECT title, n, price FROM items WHERE price IS NOT NULL'}}\n"
    )
    board = Task.from_file(tmp_path / "task.yaml").compete()
    assert [row.score is not None for row in board.rows] == [True, True]
    files = [path for path in journal_path(tmp_path).parent.rglob("*") if path.is_file()]
    assert files
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM thing", 'relation "thing" does not exist'),
        ("DELETE FROM items RETURNING n", "read-only|syntax error"),
        ("WITH gone AS (DELETE FROM items RETURNING n) SELECT * FROM gone", "read-only|WITH"),
        ("UPDATE items SET title = 'x'", "syntax error|read-only"),
        ("CREATE TABLE other (a int)", "syntax error|read-only"),
        ("SELECT nextval('counter')", "read-only"),
        ("SELECT 1; COMMIT; DELETE FROM items", "cannot insert multiple commands|syntax error"),
        (
            "SELECT 1; COMMIT; SET default_transaction_read_only = off; DELETE FROM items",
            "multiple commands|syntax error",
        ),
        ("SELECT set_config('transaction_read_only', 'off', false)", "read-write mode"),
        ("COPY items TO STDOUT", "syntax error"),
        ("SELECT title, title FROM items", "two columns of the query are called 'title'"),
    ],
)
def test_a_query_can_do_nothing_but_read(shop: str, tmp_path: Path, query: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_query(Query(shop, query), tmp_path)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert rows_left(shop) == 30


def test_a_wrong_password_or_address_is_one_message_without_secrets(shop: str, tmp_path: Path) -> None:
    wrong = shop.replace(SECRET, "0ther-w0rd")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        read_query(Query(wrong, "SELECT 1"), tmp_path)
    assert "0ther-w0rd" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"postgresql://owner:{SECRET}@127.0.0.1:{closed.getsockname()[1]}/postgres"
        with pytest.raises(DataError, match="refused") as caught:
            read_query(Query(address, "SELECT 1"), tmp_path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("query", ["SELECT pg_sleep(600)", "SELECT i FROM generate_series(1, 100000000000) AS i"])
def test_a_query_without_end_ends_at_the_deadline(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(sql, "SECONDS", 0.5)
    with pytest.raises(DataError, match="takes more than 0 seconds"):
        read_query(Query(shop, query), tmp_path)


def test_a_query_without_end_ends_at_the_limit_of_memory(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match="the query gives more than 1,048,576 bytes, after"):
        read_query(Query(shop, "SELECT generate_series(1, 100000000000) AS i"), tmp_path)
