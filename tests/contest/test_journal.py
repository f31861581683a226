import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.contest.evidence import Leaks
from kurabe.contest.journal import EntryRecord, Journal, Row, RunRecord
from kurabe.errors import JournalError

ENTRY = b"e" * 16


def inputs(count: int) -> list[bytes]:
    return [position.to_bytes(16, "big") for position in range(count)]


def record(count: int = 4, kind: str = "number", same: bool = False) -> RunRecord:
    truth = np.arange(count, dtype=np.float64) if kind == "number" else np.array(["a"] * count, dtype=object)
    return RunRecord(
        id="prices-1", task="prices", kind=kind, metric="mean_absolute_error",  # type: ignore[arg-type]
        rows=pl.DataFrame({"input": [f"row {i}" for i in range(count)], "size": list(range(count))}),
        truth=truth, inputs=[b"x" * 16] * count if same else inputs(count), test=b"t" * 16,
        fallback=2.5 if kind == "number" else "a", train_rows=100, leaks=Leaks((0,), (1, 2)), spec="{}",
        columns=("size", "input"), now="2026-11-21T00:00:00+00:00",
    )  # fmt: skip


def entry(status: str = "done", reason: str | None = None, label: str = "ridge") -> EntryRecord:
    return EntryRecord(label, ENTRY, 0, None, status, reason)  # type: ignore[arg-type]


def test_evidence_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.sqlite"
    with Journal(path) as journal:
        journal.begin(record())
        journal.record_entry("prices-1", entry("partial", "running"))
        journal.record_fit(ENTRY, 1.5, {})
        journal.record_peak(ENTRY, 1000)
        journal.record_peak(ENTRY, 10)
        journal.add(ENTRY, [Row(inputs(4)[2], 7.0, "7 dollars", 0.25)], 0.5)
        journal.add(ENTRY, [Row(inputs(4)[0], None, "no idea", 0.25)], 0.25)
    with Journal(path, create=False) as journal:
        found = journal.evidence("prices-1")
        columns = journal.spec("prices-1")[1]
    assert columns == ("size", "input")
    assert (found.task, found.kind, found.metric, found.train_rows, found.fallback) == (
        "prices", "number", "mean_absolute_error", 100, 2.5,
    )  # fmt: skip
    assert found.leaks == Leaks((0,), (1, 2))
    assert found.rows.to_dict(as_series=False) == {"input": ["row 0", "row 1", "row 2", "row 3"], "size": [0, 1, 2, 3]}
    np.testing.assert_array_equal(found.truth, [0, 1, 2, 3])
    (only,) = found.entries
    np.testing.assert_array_equal(only.guesses, [2.5, np.nan, 7.0, np.nan])
    assert only.answered.tolist() == [True, False, True, False]
    assert only.unread.tolist() == [True, False, False, False]
    assert only.raw == ("no idea", None, "7 dollars", None)
    assert (only.usd, only.fit_seconds, only.predict_seconds, only.peak_bytes) == (0.5, 1.5, 0.75, 1000)
    assert (only.status, only.reason) == ("partial", "running")


def test_rows_with_the_same_input_share_one_prediction_and_its_cost(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin(record(3, kind="label", same=True))
        journal.record_entry("prices-1", entry())
        journal.add(ENTRY, [Row(b"x" * 16, "b", None, 0.1)], 1.0)
        (only,) = journal.evidence("prices-1").entries
    assert only.guesses.tolist() == ["b", "b", "b"]
    assert only.usd == pytest.approx(0.1)


def test_one_unknown_cost_makes_the_sum_unknown(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin(record())
        journal.record_entry("prices-1", entry())
        journal.add(ENTRY, [Row(inputs(4)[0], 1.0, None, 0.1), Row(inputs(4)[1], 1.0, None, None)], 1.0)
        (only,) = journal.evidence("prices-1").entries
    assert only.usd is None


def test_a_run_written_again_keeps_its_start_and_drops_only_what_left_the_task(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin(record())
        for label in ("ridge", "gone"):
            journal.record_entry("prices-1", entry(label=label))
        journal.add(ENTRY, [Row(inputs(4)[0], 1.0)], 1.0)
        journal.begin(record())
        journal.keep_entries("prices-1", ["ridge"])
        assert [found.label for found in journal.entries("prices-1")] == ["ridge"]
        (run,) = journal.runs()
        assert (run.id, run.test_rows, run.counts) == ("prices-1", 4, {"done": 1})
        assert journal.predictions(ENTRY) == {inputs(4)[0]: Row(inputs(4)[0], 1.0)}


def test_writing_many_is_all_or_nothing(tmp_path: Path) -> None:
    def rows() -> object:
        yield Row(inputs(1)[0], 1.0)
        raise KeyboardInterrupt

    with Journal(tmp_path / "j") as journal:
        with pytest.raises(KeyboardInterrupt):
            journal.add(ENTRY, rows(), 1.0)  # type: ignore[arg-type]
        assert journal.predictions(ENTRY) == {}
        journal.add(ENTRY, [Row(inputs(1)[0], 1.0)], 1.0)
        assert len(journal.predictions(ENTRY)) == 1


def test_a_journal_of_another_version_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE of_later_versions (x)")
        db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"version 99.*move the file away"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="move it away"):
        Journal(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(JournalError, match="not a kurabe journal"):
        Journal(path)


def test_a_missing_journal_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="kurabe run"):
        Journal(tmp_path / "j", create=False)
    assert not (tmp_path / "j").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot make the folder"):
        Journal(tmp_path / "file" / "under" / "j")


def test_an_unknown_run_is_said(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal, pytest.raises(JournalError, match="kurabe runs"):
        journal.evidence("nothing")


def test_a_full_database_keeps_what_was_finished(tmp_path: Path) -> None:
    """SQLite itself reports the same error for a page limit as for a full disk."""
    with Journal(tmp_path / "j") as journal:
        journal.add(ENTRY, [Row(inputs(1)[0], 1.0)], 1.0)
        journal._db.execute("PRAGMA max_page_count=20")
        with pytest.raises(JournalError, match=r"full.*run the same command again"):
            journal.add(ENTRY, [Row(inputs(2)[1], 1.0, "x" * 1_000_000)], 1.0)
        assert list(journal.predictions(ENTRY)) == inputs(1)
        journal._db.execute("PRAGMA max_page_count=1000000")
        journal.add(ENTRY, [Row(inputs(2)[1], 1.0, "x" * 1_000_000)], 1.0)
        assert len(journal.predictions(ENTRY)) == 2


def test_a_reader_sees_what_a_writer_has_committed(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as writer, Journal(tmp_path / "j") as reader:
        writer.add(ENTRY, [Row(inputs(1)[0], 1.0)], 1.0)
        assert len(reader.predictions(ENTRY)) == 1


def test_every_row_said_to_be_durable_outlives_sigkill(tmp_path: Path) -> None:
    """A child prints the number of each row after `add` returned, and is killed; every printed row must be there."""
    program = textwrap.dedent("""
        import sys
        from kurabe.contest.journal import Journal, Row
        with Journal(sys.argv[1]) as journal:
            for i in range(100_000):
                journal.add(b"e" * 16, [Row(i.to_bytes(16, "big"), float(i))], 0.0)
                print(i, flush=True)
    """)
    path = tmp_path / "j"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(50)]
        child.kill()
        rest = child.stdout.read().split("\n")
        child.wait()
        child.stdout.close()
        said += [int(line) for line in rest[:-1] if line]
        with Journal(path, create=False) as journal:
            kept = journal.predictions(ENTRY)
        assert {number.to_bytes(16, "big") for number in said} <= set(kept)
        assert all(row.value == int.from_bytes(key, "big") for key, row in kept.items())


def test_a_limit_on_the_size_of_files_is_no_riddle(tmp_path: Path) -> None:
    """SQLite says "disk I/O error"."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "j") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        try:
            with pytest.raises(
                JournalError, match=r"limit on the size of files is reached.*run the same command again"
            ):
                _fill(journal)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        kept = len(journal.predictions(ENTRY))
        assert kept > 5
        journal.add(ENTRY, [Row(b"x" * 16, 1.0)], 1.0)
        assert len(journal.predictions(ENTRY)) == kept + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        journal = Journal(small / "j")
        with pytest.raises(JournalError, match="is full"):
            _fill(journal)
        kept = len(journal.predictions(ENTRY))
        assert kept > 5
        journal.close()
        with Journal(small / "j", create=False) as again:
            assert len(again.predictions(ENTRY)) == kept
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def _fill(journal: Journal) -> None:
    for number, key in enumerate(inputs(1000)):
        journal.add(ENTRY, [Row(key, float(number), "x" * 5000)], 1.0)


values = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8"))
rows = st.builds(
    Row,
    st.binary(min_size=16, max_size=16),
    values,
    st.none() | st.text(st.characters(codec="utf-8")),
    st.none() | st.floats(0, 1e6),
)


@settings(max_examples=50)
@given(st.lists(st.lists(rows, max_size=5), max_size=6))
def test_any_prediction_comes_back_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[Row]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    expected: dict[bytes, Row] = {}
    for piece in pieces:
        with Journal(path) as journal:
            journal.add(ENTRY, piece, 0.0)
        expected |= {row.input: row for row in piece}
    with Journal(path) as journal:
        assert journal.predictions(ENTRY) == expected
