"""Who watches a run: the progress bars of the command line, a notebook, a test."""

from pathlib import Path
from typing import Protocol

from kurabe.contest.evidence import Status


class Observer(Protocol):
    """Told of each step of a run, in order, from the thread that runs it. `label` is the contestant's name."""

    def began(self, labels: tuple[str, ...], rows: int, journal: Path) -> None:
        """The run begins: these contestants, this many test rows each."""

    def note(self, text: str) -> None:
        """Something a person should know, one sentence."""

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        """A model is being fetched: bytes so far, and in all where known."""

    def fitting(self, label: str, said: str = "") -> None:
        """A contestant begins to learn, or says how far it is."""

    def predicted(self, label: str, done: int, total: int, score: float | None) -> None:
        """So many of its rows are journaled; `score` is the metric over them."""

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        """A contestant is through with its part."""


class Silent:
    """An observer that says nothing."""

    def began(self, labels: tuple[str, ...], rows: int, journal: Path) -> None: ...
    def note(self, text: str) -> None: ...
    def fetching(self, reference: str, done: int, total: int | None) -> None: ...
    def fitting(self, label: str, said: str = "") -> None: ...
    def predicted(self, label: str, done: int, total: int, score: float | None) -> None: ...
    def ended(self, label: str, status: Status, reason: str | None) -> None: ...
