"""How far one contestant is in a run: what it has answered, what is left, and how it ended."""

from kurabe.contest.evidence import Status
from kurabe.contest.journal import EntryRecord, Journal, Row, RunRecord
from kurabe.contest.prepare import Entrant
from kurabe.errors import without_secrets

LEAST_ROWS = 30
"""Of so many rows a sample is made up at least where time runs out."""


class Work:
    """One contestant's part of a run, read from the journal and written to it.

    `positions`: the test rows by input digest; rows with the same input are answered once. `guesses`: the answers there
    are, by test row; the fallback where one could not be read. `priced`: what each of them cost is known. `total`: rows
    that have an answer in the end: those it is asked, their copies, and those that it has answered before.
    """

    def __init__(self, entrant: Entrant, record: RunRecord, journal: Journal) -> None:
        self.record, self.journal = record, journal
        self.renew(entrant)

    def renew(self, entrant: Entrant) -> None:
        """Go on as `entrant`, which may be known by another key now, with the answers that the journal has of it."""
        record, journal = self.record, self.journal
        self.entrant = entrant
        self.guesses: dict[int, float | str] = {}
        self.priced = True
        self.positions: dict[bytes, list[int]] = {}
        for position, key in enumerate(record.inputs):
            self.positions.setdefault(key, []).append(position)
        for row in journal.predictions(entrant.key).values():
            self._note(row)
        self.total = self.done + sum(len(self.positions[record.inputs[row]]) for row in self.left())

    @property
    def done(self) -> int:
        return len(self.guesses)

    @property
    def complete(self) -> bool:
        return self.done == self.total

    def asked(self) -> list[int]:
        """The test rows it is asked, one of each input."""
        return [self.positions[key][0] for key in dict.fromkeys(self.record.inputs[: self.entrant.rows])]

    def left(self) -> list[int]:
        """The test rows to be answered still, one of each input."""
        return [row for row in self.asked() if row not in self.guesses]

    def add(self, rows: list[Row], seconds: float) -> None:
        """Keep answers. When this returns they are on the disk."""
        self.journal.add(self.entrant.key, rows, seconds)
        for row in rows:
            self._note(row)

    def _note(self, row: Row) -> None:
        self.priced = self.priced and row.usd is not None
        for position in self.positions.get(row.input, ()):
            self.guesses[position] = self.record.fallback if row.value is None else row.value

    def stopped(self, why: str) -> tuple[Status, str | None]:
        """(status, reason) of a contestant that answers no more for now."""
        if self.complete:
            return "done", None
        if self.done:
            return "partial", f"{self.done:,} of {self.total:,} rows answered; {why}"
        return "skipped", why

    def cut_short(self, why: str) -> tuple[Status, str | None]:
        """(status, reason) of a contestant that has answered fewer rows of its sample than were planned: done where
        they are enough for a smaller one. One that was to answer all rows has no sample."""
        if not self.complete and self.done >= LEAST_ROWS and self.entrant.rows is not None:
            return "done", why
        return self.stopped(why)

    def end(self, status: Status, reason: str | None) -> str | None:
        """Write the contestant's state down and return the reason that stands on the board."""
        if status == "done" and self.done < len(self.record.inputs):
            reason = f"{self.done:,} of {len(self.record.inputs):,} rows were asked" + (f"; {reason}" if reason else "")
        reason = without_secrets(reason) if reason else reason
        entrant = self.entrant
        self.journal.record_entry(
            self.record.id, EntryRecord(entrant.label, entrant.key, entrant.position, entrant.model, status, reason)
        )
        return reason
