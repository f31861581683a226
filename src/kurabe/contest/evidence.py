"""What the journal holds of one run, in memory: everything a board is computed from, and nothing else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import polars as pl

from kurabe.contest.history import Uses
from kurabe.contest.units import Units, find_units
from kurabe.tasks.metrics import Metric
from kurabe.tasks.spec import Check, Kind

RACED = "stopped after "
"""How the reason of a contestant begins that a race has stopped."""
Status = Literal["done", "partial", "skipped", "failed"]


@dataclass(frozen=True)
class Leaks:
    """Test rows that also stand in the training part (validation included): positions in the test part."""

    exact: tuple[int, ...] = ()
    near: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Entry:
    """One contestant's share of a run; arrays have one element a test row.

    `guesses`: (n,) float64 for `number` (NaN without an answer), object array of str or None otherwise; an unread
    answer already holds the fallback. `answered`: (n,) bool, unread answers included. `unread`: (n,) bool.
    `raw`: what a model or a person said, None for the others. `usd`: None where unknown. `notes`: what it
    noted while it learned, plain values.
    """

    name: str
    model: str | None
    status: Status
    reason: str | None
    guesses: np.ndarray
    answered: np.ndarray
    unread: np.ndarray
    raw: tuple[str | None, ...] | None = None
    usd: float | None = 0.0
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    peak_bytes: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def spared(self) -> int:
        """How many rows it was not asked because the race had shown that it could not be the winner."""
        raced = self.status == "partial" and (self.reason or "").startswith(RACED)
        return int(self.notes.get("race", {}).get("left", 0)) if raced else 0


def usable(entry: Entry) -> np.ndarray:
    """Which test rows have an answer that can be scored, (n,) bool."""
    if entry.guesses.dtype == object:
        return np.asarray(entry.answered & np.array([guess is not None for guess in entry.guesses], dtype=bool))
    return np.asarray(entry.answered & np.isfinite(entry.guesses))


@dataclass(frozen=True)
class Judged:
    """What the judge of a style said: `verdicts` by what it was shown, None where its answer could not be read. `usd`:
    what that cost, None where unknown. `reason`: why it stopped before the end. `by_person`: a person's verdicts on
    some of the pairs, by what the person was shown."""

    verdicts: Mapping[bytes, str | None] = field(default_factory=dict)
    usd: float | None = 0.0
    reason: str | None = None
    by_person: Mapping[bytes, str | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evidence:
    """One run. `rows` has every column of the test part and `input`; `truth` is (n,) float64 or an object array of str.

    `fallback` is the value that stands for an unread answer: the training median, or the most frequent label or text.
    `spec`: the task file as it was, plain values. `checks`: the further columns that the task asks for; `judged`: by a
    check's position, what its judge said. `inputs`: (n,) a digest of each row's input, () where nothing is known of
    repeats. `cluster`: the column that says which rows belong together. `uses`: how often these test rows were used;
    None where nothing is known of it.
    `places`: (n,) int64, each row's place in its source, from 0; None in journals of the first edition, where a row has
    its place in the test part.
    """

    task: str
    kind: Kind
    metric: str
    truth: np.ndarray
    rows: pl.DataFrame
    fallback: float | str
    entries: tuple[Entry, ...]
    leaks: Leaks = field(default_factory=Leaks)
    train_rows: int = 0
    run: str = ""
    started: str = ""
    checks: tuple[Check, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    judged: Mapping[int, Judged] = field(default_factory=dict)
    places: np.ndarray | None = None
    inputs: tuple[bytes, ...] = ()
    cluster: str | None = None
    uses: Uses | None = None

    @property
    def units(self) -> Units:
        """Which test rows belong together, and how much each counts."""
        return _units(self)

    def place(self, row: int) -> int:
        """Where a test row stands in its source, from 0."""
        return row if self.places is None else int(self.places[row])


@lru_cache(maxsize=4)
def _units(evidence: Evidence) -> Units:
    clusters = evidence.rows.to_dict(as_series=True).get(evidence.cluster or "")
    return find_units(evidence.truth, evidence.inputs, clusters)


def fallback_score(truth: np.ndarray, fallback: float | str, metric: Metric) -> float:
    """The score of answers that know nothing, in whose unit an error of 0 is uncertain."""
    if metric.kind != "number":
        return 0.0
    score = metric.score(truth, np.full(len(truth), float(fallback)))
    return score if math.isfinite(score) else 0.0
