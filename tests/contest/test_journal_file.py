"""Journals of earlier versions, damaged ones, and whose files they are."""

import io
import os
import random
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.contest.test_journal import ENTRY, entry, inputs, record

from kurabe.contest.arrow_size import unpacked_size
from kurabe.contest.evidence import Evidence
from kurabe.contest.journal import Journal, Row
from kurabe.contest.journal_file import VERSION, connect
from kurabe.contest.lock import locked
from kurabe.contest.repair import repair
from kurabe.errors import JournalError

DATA = Path(__file__).with_name("data")
ASKED = b"a" * 16
ROWS = 60


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "journal-2.sqlite", tmp_path / "journal.sqlite"))


@pytest.fixture
def old_3(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "journal-3.sqlite", tmp_path / "journal.sqlite"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of today with answers of every form."""
    path = tmp_path / ".kurabe" / "journal.sqlite"
    with Journal(path) as journal:
        journal.begin(record(ROWS))
        journal.record_entry("prices-1", entry())
        journal.record_fit(ENTRY, 1.5, {"alpha": 3.0})
        numbered = list(enumerate(inputs(ROWS)))
        journal.add(ENTRY, [Row(key, float(n), f"about {n} $", n / 7) for n, key in numbered], 0.5)
    return path


def evidence(path: Path) -> Evidence:
    with Journal(path, create=False) as journal:
        return journal.evidence("prices-1")


def test_a_journal_of_version_2_keeps_its_answers(old: Path) -> None:
    for _ in range(2):  # carried forward, and as it is then
        found = evidence(old)
        assert found.rows["size"].to_list() == [0, 1, 2, 3]
        ridge, asked = found.entries
        np.testing.assert_array_equal(ridge.guesses, [0, 1, 2, 3])
        assert (ridge.fit_seconds, ridge.peak_bytes, ridge.notes, ridge.status) == (1.5, 1000, {"alpha": 3.0}, "done")
        np.testing.assert_array_equal(asked.guesses, [7.0, np.nan, 2.5, np.nan])
        assert asked.raw == ("7 dollars é", None, "no idea", None)
        assert asked.model == "openai:gpt-4o-mini"
    with Journal(old) as journal:
        assert journal.spent([ENTRY, ASKED]) == (0.25, 0.25)
        journal.add(ASKED, [Row(inputs(4)[1], 3.0, "3", 0.5)], 0.1)
        assert journal.spent([ASKED]) == (0.75, 0.5)


def test_a_journal_of_version_3_keeps_its_answers_and_what_calls_under_way_may_cost(old_3: Path) -> None:
    for _ in range(2):
        ridge, asked = evidence(old_3).entries
        np.testing.assert_array_equal(ridge.guesses, [0, 1, 2, 3])
        assert asked.raw == ("7 dollars é", None, "no idea", None)
    with Journal(old_3) as journal:
        assert journal.spent([ENTRY, ASKED]) == (0.75, 0.25)
        with journal.ledger(ASKED) as ledger:
            ledger.change(0.5)
        assert journal.spent([ASKED]) == (1.25, 0.25)
    assert len(evidence(old_3).entries) == 2


def test_repair_of_a_journal_of_version_3_keeps_what_calls_under_way_may_cost(old_3: Path) -> None:
    change(old_3, "UPDATE entries SET reason = 'else'")
    assert repair(old_3)[0] == 6
    with Journal(old_3) as journal:
        assert journal.spent([ASKED]) == (0.75, 0.25)


def change(path: Path, statement: str) -> None:
    """Change a journal behind its back."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def test_what_calls_may_cost_is_held_against_its_checksum(path: Path) -> None:
    with Journal(path) as journal, journal.ledger(ENTRY) as ledger, journal.ledger(ASKED) as other:
        for one in (ledger, ledger, other):
            one.change(0.1)
    assert len(evidence(path).entries) == 1
    change(path, f"UPDATE in_flight SET usd = 0.0 WHERE owner = x'{ENTRY.hex()}'")
    with pytest.raises(JournalError, match=r"1 of the rows of in_flight are not what was written.*--repair"):
        evidence(path)
    repair(path)
    with Journal(path) as journal:
        assert journal.spent([ASKED])[0] == pytest.approx(0.1)


@pytest.mark.parametrize("pragma", ["application_id = 7", "user_version = 99", "user_version = 2", "user_version = 3"])
def test_a_header_that_was_changed_is_one_message_and_repaired(path: Path, pragma: str) -> None:
    right = evidence(path)
    change(path, f"PRAGMA {pragma}")
    for create in (False, True):
        with pytest.raises(JournalError, match=r"its header .*60 predictions can be saved: `kurabe runs .* --repair`"):
            Journal(path, create=create)
    count, damaged = repair(path)
    assert (count, damaged is None) == (ROWS, False)
    assert same(evidence(path), right)


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_of_an_older_journal_is_repaired_too(tmp_path: Path, version: int) -> None:
    path = Path(shutil.copy(DATA / f"journal-{version}.sqlite", tmp_path / "journal.sqlite"))
    right = evidence(Path(shutil.copy(path, tmp_path / "right.sqlite")))
    change(path, "PRAGMA user_version = 77")
    with pytest.raises(JournalError, match=f"says version 77, and its tables are of version {version}"):
        Journal(path)
    repair(path)
    assert same(evidence(path), right)


def test_every_bit_of_the_header_is_one_message_or_no_matter(path: Path) -> None:
    right, original = evidence(path), path.read_bytes()
    refused = 0
    for bit in range(800):
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert same(evidence(path), right), f"bit {bit} of the header: a board that is wrong was not noticed"
        except JournalError:
            refused += 1
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    assert refused > 200


NEVER_ENDS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
FORGED = {
    "a view that never ends": "DROP TABLE predictions; CREATE VIEW predictions AS " + NEVER_ENDS + " x AS entry,"
    " x AS input, x AS value, x AS raw, x AS usd, x AS seconds, x AS checksum FROM n",
    "a column that is computed": "DROP TABLE predictions; CREATE TABLE predictions (entry BLOB, input BLOB, value AS"
    " (hex(zeroblob(200000000))), raw TEXT, usd REAL, seconds REAL, checksum INTEGER); INSERT INTO predictions"
    " VALUES (x'00', x'00', NULL, NULL, 0.0, 0)",
    "a trigger": "CREATE TRIGGER late AFTER INSERT ON predictions BEGIN INSERT INTO runs " + NEVER_ENDS
    + " x, x, x, x, x, x, x, x, x, x, x, x, x FROM n; END",
    "a large blob": "INSERT INTO tests VALUES (x'00', zeroblob(130000000), x'00', 1)",
    "a blob that is too large": "INSERT INTO tests VALUES (x'00', zeroblob(900000000), x'00', 1)",
}  # fmt: skip
OPENED = """
import resource, sys
import kurabe.contest.run
from kurabe.contest.journal import Journal
from kurabe.errors import JournalError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Journal(sys.argv[1], create=False)
except JournalError as error:
    assert "is damaged" in str(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("statements", FORGED.values(), ids=FORGED)
def test_a_forged_journal_is_one_message_and_takes_no_gigabyte(path: Path, statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(statements)
    command = [sys.executable, "-c", OPENED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 1 << 20  # kibibytes
    path.unlink()


def test_test_rows_that_are_too_many_for_the_journal_are_one_message(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(JournalError, match=r"more than 128 MiB; test on fewer rows"):
        journal.begin(replace(record(), test=b"u" * 16, inputs=[bytes(16)] * (1 << 23)))


def test_another_program_s_file_is_no_journal(tmp_path: Path) -> None:
    change(tmp_path / "journal.sqlite", "CREATE TABLE predictions (x)")
    for act in (Journal, repair):
        with pytest.raises(JournalError, match="is not a kurabe journal; move it away"):
            act(tmp_path / "journal.sqlite")


def test_a_migration_that_is_cut_short_changes_nothing(old: Path) -> None:
    before = old.read_bytes()
    with sqlite3.connect(old) as db:
        db.execute("CREATE TABLE in_flight (x)")  # so that its last step fails
    db.close()
    with pytest.raises(JournalError, match="is damaged"):
        Journal(old)
    with sqlite3.connect(old) as db:
        db.execute("DROP TABLE in_flight")
    db.close()
    assert len(old.read_bytes()) >= len(before)
    assert len(evidence(old).entries) == 2


def same(one: Evidence, other: Evidence) -> bool:
    """Whether everything that a board is computed from is the same."""

    def plain(found: Evidence) -> list[object]:
        told = [found.task, found.kind, found.metric, found.fallback, found.leaks, found.train_rows, found.started]
        return [*told, found.truth.tolist(), *(repr(vars(entry)) for entry in found.entries)]

    return plain(one) == plain(other) and one.rows.equals(other.rows)


def check_flips(path: Path, seed: int, flips: int, right: Evidence, original: bytes) -> bool:
    """Whether a journal with flipped bytes is refused with one message; where it is not, its board is right."""
    draw = random.Random(seed)
    damaged = bytearray(original)
    for _ in range(flips):
        damaged[draw.randrange(len(damaged))] ^= draw.randrange(1, 256)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(damaged)
    try:
        found = evidence(path)
    except JournalError:
        return True
    assert same(found, right), f"seed {seed}: a board that is wrong was not noticed"
    return False


def test_flipped_bytes_are_one_message_and_never_a_wrong_board(path: Path) -> None:
    right, original = evidence(path), path.read_bytes()
    refused = [check_flips(path, seed, 10 if seed < 60 else 1, right, original) for seed in range(200)]
    assert sum(refused) > 80  # the others met bytes that hold nothing


@pytest.mark.slow
def test_thousands_of_flipped_bytes(path: Path) -> None:
    right, original = evidence(path), path.read_bytes()
    for seed in range(1500):
        check_flips(path, seed, 1 + seed % 10, right, original)


def test_a_value_that_was_changed_by_hand_is_noticed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE predictions SET value = 1000.0 WHERE value = 7.0")
    db.close()
    with pytest.raises(JournalError, match=r"1 of the rows of predictions .* 59 predictions can be saved"):
        evidence(path)


def test_repair_saves_what_is_sound(path: Path) -> None:
    right = evidence(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE predictions SET raw = 'else' WHERE value = 7.0")
    db.close()
    count, damaged = repair(path)
    assert count == ROWS - 1
    assert damaged is not None
    assert damaged.exists()
    found = evidence(path)
    (only,) = found.entries
    assert np.flatnonzero(~only.answered).tolist() == [7]
    assert found.rows.equals(right.rows)
    assert repair(path) == (ROWS - 1, None)


def test_repair_of_a_torn_file_saves_what_can_be_read(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(ASKED, [Row(n.to_bytes(16, "big"), float(n), "x" * 50) for n in range(2000)], 0.0)
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3 // 4096 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"is damaged .* predictions can be saved: `kurabe runs .* --repair`"):
        Journal(path)
    count, _ = repair(path)
    assert count > 1000
    with Journal(path) as journal:
        kept = journal.predictions(ASKED)
    assert all(row.value == int.from_bytes(key, "big") for key, row in kept.items())


def test_a_sound_journal_in_use_is_not_taken_for_a_damaged_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(path: Path | str) -> sqlite3.Connection:
        db = connect(path)
        db.execute("PRAGMA busy_timeout=10")
        return db

    monkeypatch.setattr("kurabe.contest.repair.connect", impatient)
    before = sorted(path.parent.iterdir())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="is in use by another program"):
            repair(path)
    assert sorted(path.parent.iterdir()) == before
    assert len(evidence(path).entries) == 1


@pytest.mark.parametrize("code", ["SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR_READ", "SQLITE_NOMEM", "SQLITE_CANTOPEN"])
def test_repair_moves_nothing_where_the_file_cannot_be_reached(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("no")
        error.sqlite_errorname = code
        raise error

    for name in ("kurabe.contest.repair.prepare", "kurabe.contest.journal_file._check_rows"):
        with monkeypatch.context() as patch:
            patch.setattr(name, fail)
            with pytest.raises(JournalError):
                repair(path)
    assert [file.name for file in path.parent.glob("*.damaged*")] == []
    assert len(evidence(path).entries) == 1


def test_calls_under_way_are_saved_too(path: Path) -> None:
    with Journal(path) as journal, journal.ledger(ENTRY) as ledger:
        ledger.change(0.5)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entries SET reason = 'else'")
    db.close()
    repair(path)
    with Journal(path) as journal:
        assert journal.spent([ENTRY])[0] == pytest.approx(sum(range(ROWS)) / 7 + 0.5)


@pytest.mark.parametrize(
    ("column", "value"),
    [("spec", "{"), ("spec", "[" * 100_000), ("columns", "7"), ("leaks", '{"other": 1}'), ("fallback", "")],
)
def test_values_of_a_wrong_kind_are_one_message(path: Path, column: str, value: str) -> None:
    """Their checksums agree, as in a journal that somebody made for us."""
    with Journal(path) as journal:
        known = list(journal._db.execute("SELECT * FROM runs").fetchone()[:-1])
        known[["id", "task", "kind", "metric", "test", "fallback", "train_rows", "leaks", "spec"].index(column)
              if column != "columns" else 9] = value  # fmt: skip
        journal._put("runs", *known)
        if column == "columns":
            with pytest.raises(JournalError, match="can't be read"):
                journal.spec("prices-1")
            return
    with pytest.raises(JournalError, match="can't be read"):
        evidence(path)


def test_test_rows_that_are_no_table_are_one_message(path: Path) -> None:
    for data in (b"", b"ARROW1" + bytes(200), bytes(range(256)) * 20):
        with Journal(path) as journal:
            journal._put("tests", b"t" * 16, data, b"".join(inputs(ROWS)))
        with pytest.raises(JournalError, match="can't be read"):
            evidence(path)


def test_test_rows_that_unpack_to_gigabytes_are_refused(path: Path) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"input": ["x" * 1000] * 20_000}).write_ipc(buffer, compression="zstd")
    data = buffer.getvalue()
    assert len(data) < 1e6
    place = data.index(b"\x28\xb5\x2f\xfd")
    bomb = data[: place - 8] + (1 << 40).to_bytes(8, "little") + data[place:]
    with Journal(path) as journal:
        journal._put("tests", b"t" * 16, bomb, b"".join(inputs(ROWS)))
    with pytest.raises(JournalError, match="unpack to 1,"):
        evidence(path)


def test_only_zstd_unpacks_and_what_it_says_it_unpacks_to_is_known() -> None:
    frame = pl.DataFrame({"a": ["x" * 1000] * 20_000, "b": range(20_000), "c": [[1.5, 2.5]] * 20_000})
    frame = frame.with_columns(d=pl.Series(["u", "v"] * 10_000, dtype=pl.Categorical))
    for compression in ("zstd", "uncompressed"):
        buffer = io.BytesIO()
        frame.write_ipc(buffer, compression=compression)
        assert 1 <= unpacked_size(buffer.getvalue()) / frame.estimated_size() < 1.2
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    with pytest.raises(ValueError, match="otherwise than with zstd"):
        unpacked_size(buffer.getvalue())


def test_test_rows_in_lz4_are_refused(path: Path) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"input": ["x" * 1000] * ROWS}).write_ipc(buffer, compression="lz4")
    with Journal(path) as journal:
        journal._put("tests", b"t" * 16, buffer.getvalue(), b"".join(inputs(ROWS)))
    with pytest.raises(JournalError, match="compressed otherwise than with zstd"):
        evidence(path)


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"ARROW1" * 9, b"ARROW1\0\0" + b"\xff" * 90 + b"\x20\0\0\0ARROW1"])
def test_what_is_no_arrow_file_has_no_size(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        unpacked_size(data)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_reads_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / ".kurabe"
    with locked(folder), Journal(folder / "journal.sqlite") as journal:
        journal.add(ENTRY, [Row(inputs(1)[0], 1.0)], 1.0)
        assert mode(folder) == 0o700
        assert {mode(file) for file in folder.glob("journal*")} == {0o600}
        assert len(list(folder.glob("journal*"))) == 3


def test_a_journal_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / ".kurabe"
    Journal(folder / "journal.sqlite").close()
    folder.chmod(0o755)
    (folder / "journal.sqlite").chmod(0o644)
    with locked(folder):
        Journal(folder / "journal.sqlite").close()
    assert (mode(folder), mode(folder / "journal.sqlite")) == (0o700, 0o600)


@pytest.mark.parametrize("name", ["lock", "journal.sqlite", "journal.sqlite-wal"])
def test_a_link_in_the_folder_leads_nowhere(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("a key")
    folder = tmp_path / ".kurabe"
    folder.mkdir()
    (folder / name).symlink_to(precious)
    with pytest.raises(JournalError, match=r"symbolic link.*remove it"), locked(folder):
        Journal(folder / "journal.sqlite")
    assert precious.read_text() == "a key"


@pytest.mark.parametrize("place", ["trained", "tuned", "sweeps"])
@pytest.mark.parametrize("form", ["folder", "below", "file", "dangling"])
def test_a_link_among_what_contestants_keep_leads_nowhere(path: Path, tmp_path: Path, place: str, form: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("a key")
    link = path.parent / place / ("" if form in ("folder", "dangling") else "0123/inner")
    link.parent.mkdir(parents=True, exist_ok=True)
    target = {"file": outside / "precious", "dangling": outside / "new"}.get(form, outside)
    link.symlink_to(target, target_is_directory=target == outside)
    for create in (False, True):
        with pytest.raises(
            JournalError, match=f"{place}.* is a symbolic link, which kurabe does not follow; remove it"
        ):
            Journal(path, create=create)
    assert [file.read_text() for file in outside.iterdir()] == ["a key"]
    link.unlink()
    assert len(evidence(path).entries) == 1


def test_a_journal_that_is_a_link_is_neither_read_nor_repaired(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "other" / "journal.sqlite"
    link.parent.mkdir()
    link.symlink_to(path)
    for act in (lambda: Journal(link, create=False), lambda: repair(link)):
        with pytest.raises(JournalError, match="is a symbolic link"):
            act()


@pytest.fixture
def read_only(path: Path, tmp_path: Path) -> Iterator[Path]:
    """A journal on a file system that nothing can be written to, with what a killed writer left in the -wal file."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_autocheckpoint=0")
    writer = Journal(path)
    writer.add(ASKED, [Row(inputs(1)[0], 1.0)], 1.0)
    place = tmp_path / "mounted"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        for end in ("", "-wal"):
            shutil.copy(path.with_name(path.name + end), place / ("j" + end))
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place / "j"
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        writer.close()


def test_a_journal_is_read_where_nothing_can_be_written(read_only: Path) -> None:
    assert len(evidence(read_only).entries) == 1
    with Journal(read_only, create=False) as journal:
        assert list(journal.predictions(ASKED)) == inputs(1)
    with pytest.raises(JournalError, match="cannot"):
        Journal(read_only)


def test_the_version_is_4() -> None:
    assert VERSION == 4
