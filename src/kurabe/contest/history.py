"""What earlier runs in a journal tell: how fast contestants were, and how often the same test rows were used."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

KEY_BYTES = 16  # of an input's digest
SAMPLE = 200  # inputs by which it is told whether a contestant answered the same rows


@dataclass(frozen=True)
class Rate:
    """What a contestant took in an earlier run.

    `seconds` and `usd` of one answer, the latter None where unknown; `fit_seconds` None where nothing was measured;
    `train_rows`: what it learned from then.
    """

    seconds: float
    usd: float | None
    fit_seconds: float | None
    train_rows: int


@dataclass(frozen=True)
class Uses:
    """How often test rows were used: in `runs` runs that share at least half of them, by `contestants` contestants that
    answered about half of them, those included that have left the task file."""

    runs: int
    contestants: int


def rates(db: sqlite3.Connection, task: str) -> dict[str, Rate]:
    """The contestants of a task by label, as they were measured in the newest run that has answers of them."""
    found: dict[str, Rate] = {}
    for label, seconds, usd, known, answers, fit, train_rows in db.execute(
        "SELECT label, avg(p.seconds), sum(p.usd), count(p.usd), count(*), m.fit_seconds, runs.train_rows"
        " FROM entries JOIN runs ON runs.id = entries.run JOIN predictions p ON p.entry = entries.entry"
        " LEFT JOIN measurements m ON m.entry = entries.entry WHERE runs.task = ?"
        " GROUP BY runs.id, label ORDER BY runs.updated DESC",
        (task,),
    ):
        found.setdefault(label, Rate(seconds, usd / answers if known == answers else None, fit, train_rows))
    return found


def uses(db: sqlite3.Connection, inputs: Sequence[bytes], kind: str, target: str | None) -> Uses:
    """How often the test rows with these inputs were used for a target."""
    wanted = set(inputs)
    ours, others = [], []
    for run, digests, same in db.execute(
        "SELECT runs.id, tests.inputs, kind = ? AND json_extract(spec, '$.target') IS ?"
        " FROM runs JOIN tests ON tests.id = runs.test",
        (kind, target),
    ):
        rows = {digests[place : place + KEY_BYTES] for place in range(0, len(digests), KEY_BYTES)}
        if not same:
            others.append(run)
        elif 2 * len(rows & wanted) >= min(len(rows), len(wanted)):
            ours.append(run)
    elsewhere = {entry for run in others for (entry,) in db.execute("SELECT entry FROM entries WHERE run = ?", (run,))}
    here = {entry for run in ours for (entry,) in db.execute("SELECT entry FROM entries WHERE run = ?", (run,))}
    seen = {
        entry for entry in _answering(db) if entry in here or (entry not in elsewhere and _shares(db, entry, inputs))
    }
    return Uses(len(ours), len(seen))


def _answering(db: sqlite3.Connection) -> list[bytes]:
    """All contestants with answers. Each step jumps to the next one, past all its answers."""
    step = "SELECT min(entry) FROM predictions WHERE entry > ?"
    found, (entry,) = [], db.execute("SELECT min(entry) FROM predictions").fetchone()
    while entry is not None:
        found.append(entry)
        (entry,) = db.execute(step, (entry,)).fetchone()
    return found


def _shares(db: sqlite3.Connection, entry: bytes, wanted: Sequence[bytes]) -> bool:
    """Whether a contestant answered about half of the inputs, or about half of what it answered is among them. Digests
    are random, so that the first of them by value are a sample."""
    some = sorted(wanted)[:SAMPLE]
    marks = ", ".join("?" * len(some))
    (answered,) = db.execute(
        f"SELECT count(*) FROM predictions WHERE entry = ? AND input IN ({marks})", (entry, *some)
    ).fetchone()
    known = set(wanted)
    own = [
        key in known for (key,) in db.execute("SELECT input FROM predictions WHERE entry = ? LIMIT ?", (entry, SAMPLE))
    ]
    return 2 * answered >= len(some) or 2 * sum(own) >= len(own)
