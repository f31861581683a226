"""The journal: every prediction is one durable row in SQLite before it counts.

One file beside the task file holds all runs of all tasks of that folder. A prediction is found by what produced it:
`entry`, a digest of the contestant's parameters, prompt and training data, and `input`, a digest of the row. So a run
that is killed, repeated, or repeated with more rows or contestants makes only the predictions that are not here yet.

WAL with `synchronous=FULL`: a commit has reached the disk when it returns, and a reader never waits for a writer.
"""

import io
import json
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import polars as pl

from kurabe.contest.arrow_size import unpacked_size
from kurabe.contest.evidence import Entry, Evidence, Judged, Leaks, Status
from kurabe.contest.history import Rate, rates, uses
from kurabe.contest.journal_file import (
    CHECKED,
    DamageError,
    connect,
    copied,
    failure,
    insert,
    is_read_only,
    prepare,
    refuse_links,
    refuse_links_beside,
)
from kurabe.contest.notes import readable
from kurabe.contest.repair import salvageable
from kurabe.contest.style import person_key, style_key
from kurabe.contest.under_way import tuning_so_far
from kurabe.errors import JournalError
from kurabe.models.cost import total
from kurabe.models.files.private import create_private
from kurabe.models.files.sqlite_file import CHECKSUM
from kurabe.models.hosted.transport.ledger import Ledger, unaccounted
from kurabe.tasks.spec import Check, Kind, Style

_PREDICTION = insert("predictions")
_BY_ENTRY = {"predictions": "entry", "measurements": "entry", "entries": "entry", "in_flight": "owner"}
"""The tables with rows of a contestant, and the column with the digest that it is known by."""
_IS_KEPT = tuple(f"SELECT 1 FROM {table} WHERE {column}=? LIMIT 1" for table, column in _BY_ENTRY.items())
MAX_UNPACKED = 1 << 30  # bytes of a run's test rows
TRUTH = "__truth__"  # the name under which the truth is kept beside the rows of a test part
PLACE = "__place__"  # likewise each row's place in its source; journals of the first edition lack it


@dataclass(frozen=True)
class RunInfo:
    """A run as `kurabe runs` lists it. `started` and `updated` are ISO 8601 in UTC; `counts` has entries by status."""

    id: str
    task: str
    kind: Kind
    metric: str
    test_rows: int
    started: str
    updated: str
    counts: dict[str, int]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What is written down when a run begins. `inputs`: one digest of 16 bytes a test row. `columns`: the columns of
    `X` and their types, so that a trained contestant can be given new rows of the same shape."""

    id: str
    task: str
    kind: Kind
    metric: str
    rows: pl.DataFrame
    truth: np.ndarray
    inputs: Sequence[bytes]
    test: bytes
    fallback: float | str
    train_rows: int
    leaks: Leaks
    spec: str
    columns: tuple[str, ...]
    now: str


@dataclass(frozen=True)
class EntryRecord:
    """One contestant of a run. `entry` is the digest its predictions are kept under; `position` its place in the task
    file."""

    label: str
    entry: bytes
    position: int
    model: str | None
    status: Status
    reason: str | None


@dataclass(frozen=True)
class Row:
    """One prediction as it is written. `value` is None where the answer could not be read."""

    input: bytes
    value: float | str | None
    raw: str | None = None
    usd: float | None = 0.0


class Journal:
    """An open journal. Use as a context manager; one writer at a time (the runner holds a lock file).

    Where nothing can be written and `create` is False, a copy is read.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.exists():
            raise JournalError(f"there is no journal at {self.path}; start with: kurabe run TASK")
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.RLock()
        with self._explained():
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                refuse_links(self.path)
                refuse_links_beside(self.path)
                if create:
                    create_private(self.path)
            except OSError as error:
                raise JournalError(f"cannot make the folder {self.path.parent}: {error.strerror}") from error
            try:
                self._db = self._open(self.path)
            except (sqlite3.Error, OSError) as error:
                if create or not (isinstance(error, OSError) or is_read_only(error)):
                    raise
                self._db = self._open_copy()

    def _open(self, path: Path) -> sqlite3.Connection:
        db = connect(path)
        try:
            prepare(db, self.path)
        except BaseException:
            db.close()
            raise
        return db

    def _open_copy(self) -> sqlite3.Connection:
        try:
            copy, self._copy = copied(self.path)
            return self._open(copy)
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be read: {error.strerror}") from error
        except BaseException:
            self._remove_copy()
            raise

    def _remove_copy(self) -> None:
        if self._copy is not None:
            self._copy.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._db.close()
        self._remove_copy()

    # --- writing ---------------------------------------------------------------------------------------------------

    def begin(self, run: RunRecord) -> None:
        """Write the run down, or note that it goes on."""
        with self._explained(), self._transaction():
            if not self._db.execute("SELECT 1 FROM tests WHERE id=?", (run.test,)).fetchone():
                truth = pl.Series(TRUTH, run.truth.tolist(), dtype=pl.Float64 if run.kind == "number" else pl.String)
                self._put("tests", run.test, _pack(run.rows.with_columns(truth)), b"".join(run.inputs))
            leaks = json.dumps({"exact": run.leaks.exact, "near": run.leaks.near})
            if known := self._db.execute("SELECT * FROM runs WHERE id=?", (run.id,)).fetchone():
                self._put("runs", *known[:8], run.spec, *known[9:11], run.now)
            else:
                self._put(
                    "runs", run.id, run.task, run.kind, run.metric, run.test, json.dumps(run.fallback), run.train_rows,
                    leaks, run.spec, json.dumps(run.columns), run.now, run.now,
                )  # fmt: skip

    def record_entry(self, run: str, entry: EntryRecord) -> None:
        """Write a contestant's state in a run, over what stood there."""
        with self._explained():
            self._put("entries", run, entry.label, entry.entry, entry.position, entry.model, entry.status, entry.reason)

    def keep_entries(self, run: str, labels: Iterable[str]) -> None:
        """Take contestants that are no longer in the task off the run; their predictions stay."""
        with self._explained(), self._transaction():
            known = [row[0] for row in self._db.execute("SELECT label FROM entries WHERE run=?", (run,))]
            gone = set(known) - set(labels)
            self._db.executemany("DELETE FROM entries WHERE run=? AND label=?", ((run, label) for label in gone))

    def record_fit(self, entry: bytes, seconds: float, notes: dict[str, Any]) -> None:
        """Write how long a contestant took to fit, and what it noted on the way: plain values for the report."""
        with self._explained(), self._transaction():
            self._put("measurements", entry, float(seconds), self._measured(entry)[1], json.dumps(notes))

    def record_note(self, entry: bytes, note: str, value: Any) -> None:
        """Write something about a contestant, plain values, such as after how long its learning was broken off.
        Learning that ends takes the note away."""
        with self._explained(), self._transaction():
            fit, peak, notes = self._measured(entry)
            self._put("measurements", entry, fit, peak, json.dumps(notes | {note: value}))

    def record_judge(self, style: Style, reason: str | None) -> None:
        """Write why the judge of a style stopped before the end, None where it came to it."""
        with self._explained():
            self._put("measurements", style_key(style), None, None, json.dumps({"reason": reason}))

    def record_peak(self, entry: bytes, peak: int) -> None:
        """Write the most memory, in bytes, that a contestant was seen to take."""
        with self._explained(), self._transaction():
            seconds, before, notes = self._measured(entry)
            kept = json.dumps(notes) if notes else None
            self._put("measurements", entry, seconds, max(before or 0, int(peak)), kept)

    def add(self, entry: bytes, rows: Iterable[Row], seconds: float) -> None:
        """Write predictions, all or none, and the seconds they took in all. When this returns they are on the disk."""
        rows = list(rows)
        with self._explained(), self._transaction():
            self._db.executemany(
                _PREDICTION,
                (
                    (entry, row.input, row.value, row.raw, None if row.usd is None else float(row.usd),
                     float(seconds / len(rows)))
                    for row in rows
                ),
            )  # fmt: skip

    def answer_alike(self, entry: bytes, *alike: bytes) -> None:
        """Give a contestant the predictions of the last one that answered `alike`, digests of what answers depend on,
        today's first and then those of earlier versions of kurabe; from now on it is that one itself."""
        with self._explained(), self._transaction():
            last = next((found for one in alike if (found := self._measured(one)[2].get("entry")) is not None), None)
            if last is not None:
                self._db.execute(_copy("predictions"), (entry, bytes.fromhex(last)))
            self._put("measurements", alike[0], None, None, json.dumps({"entry": entry.hex()}))

    def adopt(self, entry: bytes, former: Sequence[bytes]) -> None:
        """Keep by `entry` all that is kept by one of the `former` digests of the same contestant."""
        with self._explained():
            known = [one for one in former if any(self._db.execute(text, (one,)).fetchone() for text in _IS_KEPT)]
            if not known:
                return
            with self._transaction():
                for one in known:
                    for table in _BY_ENTRY:
                        self._db.execute(_copy(table), (entry, one))
                        self._db.execute(f"DELETE FROM {table} WHERE {_BY_ENTRY[table]}=?", (one,))
                    self._db.execute(
                        f"UPDATE measurements SET notes=?1, checksum={CHECKSUM}(entry, fit_seconds, peak_bytes, ?1)"
                        " WHERE notes=?2",
                        (json.dumps({"entry": entry.hex()}), json.dumps({"entry": one.hex()})),
                    )

    def touch(self, run: str, now: str) -> None:
        """Note that a run was worked on until now, ISO 8601 in UTC."""
        with self._explained(), self._transaction():
            known = self._db.execute("SELECT * FROM runs WHERE id=?", (run,)).fetchone()
            self._put("runs", *known[:11], now)

    # --- reading ---------------------------------------------------------------------------------------------------

    def predictions(self, entry: bytes) -> dict[bytes, Row]:
        """Every prediction of a contestant, by input."""
        return {key: row for key, (row, _) in self._made(entry).items()}

    def spent(self, entries: Iterable[bytes]) -> tuple[float, float]:
        """Dollars that contestants have cost so far: in all, with learning and what calls that no answer accounts for
        may have cost, and the dearest prediction."""
        entries = set(entries)
        learned = sum(self._measured(entry)[2].get("usd") or 0.0 for entry in entries)
        with self._explained():
            costs = [
                self._db.execute(
                    "SELECT ifnull(sum(usd), 0.0), ifnull(max(usd), 0.0) FROM predictions WHERE entry=?", (entry,)
                ).fetchone()
                for entry in entries
            ]
            lost = sum(unaccounted(self._db, entry) for entry in entries)
        return learned + lost + sum(total for total, _ in costs), max((dearest for _, dearest in costs), default=0.0)

    def _made(self, entry: bytes) -> dict[bytes, tuple[Row, float]]:
        """Every prediction of a contestant and the seconds it took, by input."""
        with self._explained():
            cursor = self._db.execute("SELECT seconds, input, value, raw, usd FROM predictions WHERE entry=?", (entry,))
            return {row[1]: (Row(*row[1:]), row[0]) for row in cursor}

    def rates(self, task: str) -> dict[str, Rate]:
        """What the contestants of a task took in earlier runs, by label."""
        with self._explained():
            return rates(self._db, task)

    def notes(self, entry: bytes) -> dict[str, Any]:
        """What a contestant noted on the way, plain values."""
        return self._measured(entry)[2]

    def runs(self) -> list[RunInfo]:
        """All runs, the newest first."""
        with self._explained():
            counts: dict[str, dict[str, int]] = {}
            for run, status, count in self._db.execute("SELECT run, status, count(*) FROM entries GROUP BY 1, 2"):
                counts.setdefault(run, {})[status] = count
            return [
                RunInfo(run, task, kind, metric, size // 16, started, updated, counts.get(run, {}))
                for run, task, kind, metric, size, started, updated in self._db.execute(
                    "SELECT runs.id, task, kind, metric, length(inputs), started, updated FROM runs"
                    " JOIN tests ON tests.id = runs.test ORDER BY updated DESC, runs.id"
                )
            ]

    def spec(self, run: str) -> tuple[str, tuple[str, ...]]:
        """The task specification of a run, as JSON, and the columns of its `X`."""
        with self._explained():
            spec, columns = self._db.execute("SELECT spec, columns FROM runs WHERE id=?", (run,)).fetchone()
        with self._readable(run):
            return spec, tuple(map(str, json.loads(columns)))

    def target(self, run: str) -> str:
        """The target column of a run's task."""
        return str(json.loads(self.spec(run)[0])["target"])

    def entries(self, run: str) -> list[EntryRecord]:
        """The contestants of a run in the order of the task file."""
        with self._explained():
            cursor = self._db.execute(
                "SELECT label, entry, position, model, status, reason FROM entries WHERE run=?"
                " ORDER BY position, label",
                (run,),
            )
            return [EntryRecord(*row) for row in cursor]

    def evidence(self, run: str) -> Evidence:
        """Everything that the board of a run is computed from."""
        with self._explained():
            found = self._db.execute(
                "SELECT task, kind, metric, fallback, train_rows, leaks, started, spec, tests.rows, tests.inputs"
                " FROM runs JOIN tests ON tests.id = runs.test WHERE runs.id=?",
                (run,),
            ).fetchone()
        if not found:
            raise JournalError(f"no run {run!r} in {self.path}; `kurabe runs` lists them")
        with self._readable(run):
            return self._read_evidence(run, found)

    def _read_evidence(self, run: str, found: tuple[Any, ...]) -> Evidence:
        task, kind, metric, fallback, train_rows, leaks, started, spec, packed, digests = found
        rows = _unpack(packed)
        inputs = [digests[i : i + 16] for i in range(0, len(digests), 16)]
        fallback = json.loads(fallback)
        known = json.loads(spec)
        checks = msgspec.convert(known.get("checks", ()), tuple[Check, ...])
        split = (known.get("data") or {}).get("split") or {}
        return Evidence(
            task=task,
            kind=kind,
            metric=metric,
            truth=_array(rows[TRUTH].to_list(), kind),
            rows=rows.drop(TRUTH, PLACE, strict=False),
            places=rows[PLACE].to_numpy() if PLACE in rows.columns else None,
            fallback=fallback,
            entries=tuple(self._entry(record, inputs, kind, fallback) for record in self.entries(run)),
            leaks=Leaks(**{name: tuple(positions) for name, positions in json.loads(leaks).items()}),
            train_rows=train_rows,
            run=run,
            started=started,
            checks=checks,
            spec=known,
            inputs=tuple(inputs),
            cluster=known.get("cluster") or split.get("group"),
            uses=uses(self._db, inputs, kind, known.get("target")),
            judged={place: self.judged(check.style) for place, check in enumerate(checks) if check.style is not None},
        )

    def judged(self, style: Style) -> Judged:
        """What the judge of a style has said so far, in all runs."""
        key = style_key(style)
        said = self.predictions(key)
        verdicts = {shown: None if row.value is None else str(row.value) for shown, row in said.items()}
        costs = [row.usd for row in said.values()]
        by_person = {shown: str(row.value) for shown, row in self.predictions(person_key(style)).items()}
        return Judged(verdicts, total(costs), self._measured(key)[2].get("reason"), by_person)

    def _entry(self, record: EntryRecord, inputs: Sequence[bytes], kind: Kind, fallback: float | str) -> Entry:
        """A contestant's answers in the order of the test rows; rows with the same input share one prediction."""
        found = self._made(record.entry)
        made = {key: row for key, (row, _) in found.items()}
        answers = [made.get(digest) for digest in inputs]
        answered = np.array([answer is not None for answer in answers], dtype=bool)
        unread = np.array([answer is not None and answer.value is None for answer in answers], dtype=bool)
        values = [None if a is None else fallback if a.value is None else a.value for a in answers]
        raw = tuple(answer.raw if answer else None for answer in answers)
        distinct = [digest for digest in dict.fromkeys(inputs) if digest in made]
        costs = [made[digest].usd for digest in distinct]
        # Rows with the same input were answered once; as if each had been, so that answers per second are those made.
        predict = (
            sum(found[digest][1] for digest in distinct) * int(answered.sum()) / len(distinct) if distinct else None
        )
        fit, peak, notes = self._measured(record.entry)
        costs.append(notes.get("usd", 0.0))
        return Entry(
            name=record.label,
            model=record.model,
            status=record.status,
            reason=record.reason,
            guesses=_array(values, kind),
            answered=answered,
            unread=unread,
            raw=raw if any(text is not None for text in raw) else None,
            usd=total(costs) if distinct or "usd" in notes else None,
            fit_seconds=fit,
            predict_seconds=predict,
            peak_bytes=peak,
            notes=notes or tuning_so_far(self.path.parent, record.entry),
        )

    def _measured(self, entry: bytes) -> tuple[float | None, int | None, dict[str, Any]]:
        """(seconds of the fit, most bytes, notes) of a contestant."""
        with self._explained():
            fit, peak, notes = self._db.execute(
                "SELECT fit_seconds, peak_bytes, notes FROM measurements WHERE entry=?", (entry,)
            ).fetchone() or (None, None, None)
        try:
            return fit, peak, readable(json.loads(notes or "{}"))
        except (ValueError, TypeError, RecursionError):
            raise JournalError(
                f"the journal {self.path} holds notes that can't be read; move it away and run again"
            ) from None

    # --- SQLite ----------------------------------------------------------------------------------------------------

    def ledger(self, entry: bytes) -> Ledger:
        """What calls of a contestant that are under way may cost, kept beside its predictions."""
        return Ledger(self.path, entry)

    def _put(self, table: str, *values: Any) -> None:
        """Write a row, over one with the same key."""
        self._db.execute(insert(table), values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _readable(self, run: str) -> Iterator[None]:
        """Turn what values of a wrong kind raise, anywhere in JSON, Arrow or numpy, into one message."""
        try:
            yield
        except JournalError:
            raise
        except (Exception, pl.exceptions.PanicException) as error:
            why = str(error).strip().partition("\n")[0][:200]
            raise JournalError(
                f"the journal {self.path} holds values of the run {run!r} that can't be read"
                f" ({type(error).__name__}: {why}); move it away and run again"
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into ours; one thread at a time."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, DamageError) as error:
            failed = failure(self.path, error) if isinstance(error, sqlite3.Error) else error
            if isinstance(failed, DamageError):
                failed = JournalError(f"{failed}. {salvageable(self.path)}")
            raise failed from error


def _copy(table: str) -> str:
    """The statement that gives the contestant ?1 the rows of ?2, where it has none with the same key.

    >>> _copy("in_flight")
    'INSERT OR IGNORE INTO in_flight SELECT ?1, usd, kurabe_checksum(?1, usd) FROM in_flight WHERE owner=?2'
    """
    column = _BY_ENTRY[table]
    values = ", ".join("?1" if name == column else name for name in CHECKED[table])
    # In `entries` the row itself is the one that is known otherwise.
    verb = "REPLACE" if table == "entries" else "IGNORE"
    return f"INSERT OR {verb} INTO {table} SELECT {values}, {CHECKSUM}({values}) FROM {table} WHERE {column}=?2"


def _array(values: Sequence[Any], kind: Kind) -> np.ndarray:
    if kind == "number":
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _pack(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def _unpack(data: bytes) -> pl.DataFrame:
    if (size := unpacked_size(data)) > MAX_UNPACKED:
        raise JournalError(f"test rows that unpack to {size:,} bytes are more than a journal may hold")
    return pl.read_ipc(io.BytesIO(data))
