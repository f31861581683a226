"""How far one contestant is in a run: what it has answered, what is left, and how it ended."""

from kurabe.contest.evidence import Status
from kurabe.contest.journal import EntryRecord, Journal, Row, RunRecord
from kurabe.contest.prepare import Entrant
from kurabe.contestants.human import Human
from kurabe.errors import without_secrets


class Work:
    """One contestant's part of a run, read from the journal and written to it.

    `positions`: the test rows to be answered, by input digest; rows with the same input are answered once. `guesses`:
    the answers there are, by test row; the fallback where one could not be read. `total`: rows to be answered.
    """

    def __init__(self, entrant: Entrant, record: RunRecord, journal: Journal) -> None:
        self.record, self.journal = record, journal
        self.renew(entrant)

    def renew(self, entrant: Entrant) -> None:
        """Go on as `entrant`, which may be known by another key now, with the answers that the journal has of it."""
        record, journal = self.record, self.journal
        self.entrant = entrant
        asked = entrant.estimator.rows if isinstance(entrant.estimator, Human) else None
        rows = len(record.inputs)
        self.total = rows if asked is None else min(asked, rows)
        self.guesses: dict[int, float | str] = {}
        self.positions: dict[bytes, list[int]] = {}
        for position, key in enumerate(record.inputs[: self.total]):
            self.positions.setdefault(key, []).append(position)
        for row in journal.predictions(entrant.key).values():
            self._note(row)

    @property
    def done(self) -> int:
        return len(self.guesses)

    @property
    def complete(self) -> bool:
        return self.done == self.total

    def left(self) -> list[int]:
        """The test rows to be answered still, one of each input."""
        return [rows[0] for rows in self.positions.values() if rows[0] not in self.guesses]

    def add(self, rows: list[Row], seconds: float) -> None:
        """Keep answers. When this returns they are on the disk."""
        self.journal.add(self.entrant.key, rows, seconds)
        for row in rows:
            self._note(row)

    def _note(self, row: Row) -> None:
        for position in self.positions.get(row.input, ()):
            self.guesses[position] = self.record.fallback if row.value is None else row.value

    def stopped(self, why: str) -> tuple[Status, str | None]:
        """(status, reason) of a contestant that answers no more for now."""
        if self.complete:
            return "done", None
        if self.done:
            return "partial", f"{self.done:,} of {self.total:,} rows answered; {why}"
        return "skipped", why

    def end(self, status: Status, reason: str | None) -> str | None:
        """Write the contestant's state down and return the reason that stands on the board."""
        if status == "done" and self.total < len(self.record.inputs):
            reason = f"{self.total:,} of {len(self.record.inputs):,} rows were asked"
        reason = without_secrets(reason) if reason else reason
        entrant = self.entrant
        self.journal.record_entry(
            self.record.id, EntryRecord(entrant.label, entrant.key, entrant.position, entrant.model, status, reason)
        )
        return reason
