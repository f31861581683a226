"""What a running contest shows: its contestants by running score, kept as the run tells of them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kurabe.contest.evidence import Status
from kurabe.contest.observer import Interval, Opening, Standing
from kurabe.report import format as fmt
from kurabe.report.axis import STRAGGLER, Axis, reach

MARKS: dict[Status | None, str] = {"done": "✓", "partial": "…", "failed": "✗", "skipped": "–", None: "·"}
UNDER_WAY = "▸"


@dataclass
class LiveRow:
    """What is known of one contestant so far. Times are of `time.monotonic`.

    `status`: how it ended; None where it has not. `first`: when it first told of predictions, and how many there were:
    those of an earlier run took no time now.
    """

    label: str
    total: int
    done: int = 0
    score: float | None = None
    interval: Interval | None = None
    usd: float | None = 0.0
    note: str = ""
    status: Status | None = None
    began: float | None = None
    ended: float | None = None
    first: tuple[float, int] | None = None

    @property
    def under_way(self) -> bool:
        """Whether it has begun and not ended."""
        return self.began is not None and self.status is None

    @property
    def waiting(self) -> bool:
        """Whether it has not begun."""
        return self.began is None and self.status is None

    @property
    def mark(self) -> str:
        """One character that says how far it is."""
        return UNDER_WAY if self.under_way else MARKS[self.status]

    def left(self, now: float) -> float | None:
        """Seconds until it has answered all its rows; None where nothing can be said yet."""
        if not self.under_way or self.first is None or self.done <= self.first[1]:
            return None
        return (now - self.first[0]) / (self.done - self.first[1]) * (self.total - self.done)

    def time(self, now: float) -> str:
        """`45 s left`, or how long it took; '' where nothing can be said yet."""
        if self.ended is not None and self.began is not None:
            return fmt.seconds(self.ended - self.began) if self.ended > self.began else ""
        left = self.left(now)
        return "" if left is None else f"{fmt.seconds(left)} left"


@dataclass
class Following:
    """A run as an observer is told of it."""

    opening: Opening | None = None
    rows: dict[str, LiveRow] = field(default_factory=dict)
    fetches: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def began(self, opening: Opening) -> None:
        """The run begins."""
        self.opening, self.started = opening, time.monotonic()
        self.rows = {label: LiveRow(label, opening.rows) for label in opening.labels}

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        """A model is being fetched."""
        self.fetches[reference] = done, total
        if total is not None and done >= total:
            del self.fetches[reference]

    def fitting(self, label: str, said: str = "") -> None:
        """A contestant learns."""
        self._begun(label).note = said or "fitting"

    def predicted(self, label: str, standing: Standing) -> None:
        """More rows of a contestant have answers."""
        row = self._begun(label)
        row.first = row.first or (time.monotonic(), standing.done)
        row.done, row.total, row.note = standing.done, standing.total, ""
        row.usd, self.spent = standing.usd, standing.spent
        if standing.score is not None:
            row.score, row.interval = standing.score, standing.interval

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        """A contestant is through."""
        at_once = label in self.rows and self.rows[label].began is None
        row = self._begun(label)
        row.status, row.note = status, reason or ""
        row.ended = row.began if at_once else time.monotonic()
        if status == "done" and not row.done:
            row.done = row.total
        self.fetches.clear()

    def _begun(self, label: str) -> LiveRow:
        row = self.rows.setdefault(label, LiveRow(label, self.opening.rows if self.opening else 0))
        if row.began is None:
            row.began = time.monotonic()
        return row

    def ranked(self) -> list[LiveRow]:
        """The contestants: by running score, then those that have none yet, those that wait, and those that have
        failed or were skipped."""
        sign = -1.0 if self.opening is not None and self.opening.greater_is_better else 1.0

        def place(row: LiveRow) -> tuple[int, float]:
            if row.status in ("failed", "skipped"):
                return 3, 0.0
            if row.score is not None:
                return 0, sign * row.score
            return (2, 0.0) if row.waiting else (1, 0.0)

        return sorted(self.rows.values(), key=place)

    def heading(self) -> str:
        """`computers: mean absolute error, lower is better`"""
        if self.opening is None:
            return ""
        better = "higher" if self.opening.greater_is_better else "lower"
        return f"{fmt.plain(self.opening.task)}: {fmt.metric_title(self.opening.metric)}, {better} is better"

    def footer(self, now: float) -> str:
        """Time taken and left, money, rows, and how many contestants are through."""
        if self.opening is None:
            return ""
        rows = list(self.rows.values())
        parts = [fmt.seconds(now - self.started)]
        if (left := self._left(now)) is not None:
            parts.append(f"{fmt.seconds(left)} left")
        if self.opening.usd is not None:
            parts.append(f"{fmt.dollars(self.spent)} of {fmt.dollars(self.opening.usd)}")
        elif self.spent:
            parts.append(f"{fmt.dollars(self.spent)} spent")
        in_run = [row for row in rows if row.status not in ("failed", "skipped")]
        answered, all_rows = sum(row.done for row in in_run), sum(row.total for row in in_run)
        parts.append(f"{answered:,} of {all_rows:,} rows")
        parts.append(f"{sum(row.status is not None for row in rows)} of {fmt.count(len(rows), 'contestant')} through")
        return " · ".join(parts)

    def _left(self, now: float) -> float | None:
        """Seconds until the run ends: until its limit, or until the last of those under way has answered, where none
        waits."""
        if self.opening is not None and self.opening.minutes is not None:
            return max(self.opening.minutes * 60 - (now - self.started), 0.0)
        lefts = [row.left(now) for row in self.rows.values() if row.under_way]
        if not lefts or any(row.waiting for row in self.rows.values()):
            return None
        known = [left for left in lefts if left is not None]
        return max(known) if len(known) == len(lefts) else None


def live_axis(rows: Sequence[LiveRow], *, greater_is_better: bool) -> Axis | None:
    """One axis for the bars of these contestants, as the final board has it; None where no one has a score."""
    bounds = [row.interval or (row.score, row.score) for row in rows if row.score is not None]
    if not bounds:
        return None
    low, high = reach(bounds, greater_is_better, STRAGGLER)
    return Axis(low, high) if high > low else Axis(low - 0.5, low + 0.5)


def live_places(rows: Sequence[LiveRow]) -> int:
    """Decimals of every score and interval: three significant digits of the best."""
    return fmt.places(next((row.score for row in rows if row.score and math.isfinite(row.score)), 0.0))
