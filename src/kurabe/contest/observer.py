"""Who watches a run: the progress bars of the command line, a notebook, a test."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kurabe.contest.evidence import Status

Interval = tuple[float, float]


@dataclass(frozen=True)
class Opening:
    """What is known of a run as it begins.

    `labels`: the contestants, with `rows` test rows each. `minutes`, `usd`: what it may take and cost; None: no limit.
    """

    task: str
    metric: str
    greater_is_better: bool
    labels: tuple[str, ...]
    rows: int
    journal: Path
    minutes: float | None = None
    usd: float | None = None


@dataclass(frozen=True)
class Standing:
    """How a contestant stands: `done` of its `total` rows are journaled.

    `score`: the metric over them, with a quick 95 % `interval`; None where it was not computed this time, so that the
    last one stands. `usd`: what it has cost, None where unknown. `spent`: what all contestants have cost, in all runs.
    """

    done: int
    total: int
    score: float | None = None
    interval: Interval | None = None
    usd: float | None = 0.0
    spent: float = 0.0


class Observer(Protocol):
    """Told of each step of a run, one at a time; of contestants that run side by side in any order and from any thread.
    `label` is the contestant's name."""

    def began(self, opening: Opening) -> None:
        """The run begins."""

    def note(self, text: str) -> None:
        """Something a person should know, one sentence."""

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        """A model is being fetched: bytes so far, and in all where known."""

    def fitting(self, label: str, said: str = "") -> None:
        """A contestant begins to learn, or says how far it is."""

    def predicted(self, label: str, standing: Standing) -> None:
        """More of its rows are journaled."""

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        """A contestant is through with its part."""


class Silent:
    """An observer that says nothing."""

    def began(self, opening: Opening) -> None: ...
    def note(self, text: str) -> None: ...
    def fetching(self, reference: str, done: int, total: int | None) -> None: ...
    def fitting(self, label: str, said: str = "") -> None: ...
    def predicted(self, label: str, standing: Standing) -> None: ...
    def ended(self, label: str, status: Status, reason: str | None) -> None: ...


class Serial:
    """Tells an observer one thing at a time, whichever threads they come from, and nothing once it is closed."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.RLock()
        self._closed = False

    def close(self) -> None:
        """Tell nothing more: a thread that was left behind may go on for a while."""
        with self._lock:
            self._closed = True

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        with self._lock:
            if not self._closed:
                tell(self._observer)

    def began(self, opening: Opening) -> None:
        self._tell(lambda one: one.began(opening))

    def note(self, text: str) -> None:
        self._tell(lambda one: one.note(text))

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        self._tell(lambda one: one.fetching(reference, done, total))

    def fitting(self, label: str, said: str = "") -> None:
        self._tell(lambda one: one.fitting(label, said))

    def predicted(self, label: str, standing: Standing) -> None:
        self._tell(lambda one: one.predicted(label, standing))

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        self._tell(lambda one: one.ended(label, status, reason))
