"""Progress of a run in a notebook: one output cell that is drawn anew as predictions come."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from markupsafe import Markup

from kurabe.contest.evidence import Status
from kurabe.report import format as fmt

DRAWN_SECONDS = 0.25  # no more often than this, however fast predictions come
_MARKS: dict[Status, str] = {"done": "✓", "partial": "…", "failed": "✗", "skipped": "–"}
_CELL = Markup('<td style="text-align:{};padding:1px 8px;white-space:nowrap">{}</td>')


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, VS Code, Colab), which shows HTML."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@dataclass
class _Line:
    """What is known of one contestant so far; times are of `time.monotonic`."""

    total: int
    mark: str = ""
    done: int = 0
    score: float | None = None
    note: str = ""
    began: float | None = None
    ended: float | None = None
    first: tuple[float, int] | None = None
    """When it first told of predictions, and how many there were: those of an earlier start took no time now."""

    def left(self, now: float) -> str:
        """`45 s left`, or how long it took; '' where nothing can be said yet."""
        if self.began is None:
            return ""
        if self.ended is not None:
            return fmt.seconds(self.ended - self.began)
        if self.first is None or self.done <= self.first[1]:
            return ""
        each = (now - self.first[0]) / (self.done - self.first[1])
        return f"{fmt.seconds(each * (self.total - self.done))} left"


class NotebookProgress:
    """An observer that shows a line a contestant in one output cell: rows answered, running score, time left."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._notes: list[str] = []
        self._fetch = ""
        self._rows = 0
        self._handle: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._draw()

    def began(self, labels: tuple[str, ...], rows: int, journal: Path) -> None:
        self._rows = rows
        self._lines = {label: _Line(rows) for label in labels}
        self._draw()

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw()

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        of = f" of {fmt.size(total)}" if total else ""
        self._fetch = "" if total is not None and done >= total else f"fetching {reference}: {fmt.size(done)}{of}"
        self._draw_sometimes()

    def fitting(self, label: str, said: str = "") -> None:
        line = self._line(label)
        line.note = said or "fitting"
        self._draw_sometimes()

    def predicted(self, label: str, done: int, total: int, score: float | None) -> None:
        line = self._line(label)
        line.first = line.first or (time.monotonic(), done)
        line.done, line.total, line.note = done, total, ""
        line.score = score if score is not None else line.score
        self._draw_sometimes()

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        line = self._line(label)
        line.mark, line.note, line.ended = _MARKS[status], reason or "", time.monotonic()
        self._fetch = ""
        self._draw()

    def _line(self, label: str) -> _Line:
        line = self._lines.setdefault(label, _Line(self._rows))
        if line.began is None:
            line.began = time.monotonic()
        return line

    def _draw_sometimes(self) -> None:
        if time.monotonic() - self._drawn >= DRAWN_SECONDS:
            self._draw()

    def _draw(self) -> None:
        from IPython import display as shown

        ipython: Any = shown  # its functions have no types
        self._drawn = time.monotonic()
        page = ipython.HTML(self.html())
        if self._handle is None:
            self._handle = ipython.display(page, display_id=True)
        else:
            self._handle.update(page)

    def html(self) -> str:
        """The cell's content: a table of contestants, what is being fetched, and the notes."""
        now = time.monotonic()
        rows = Markup("").join(
            Markup("<tr>{}{}{}{}{}{}</tr>").format(
                _CELL.format("center", line.mark),
                _CELL.format("left", fmt.plain(label)),
                _CELL.format("right", f"{line.done:,}/{line.total:,}"),
                _CELL.format("right", fmt.number(line.score) if line.score is not None else ""),
                _CELL.format("right", line.left(now)),
                _CELL.format("left", fmt.shorten(fmt.redact(fmt.plain(line.note)), 100)),
            )
            for label, line in self._lines.items()
        )
        said = [*([self._fetch] if self._fetch else []), *(f"! {note}" for note in self._notes)]
        below = Markup("").join(Markup("<div>{}</div>").format(fmt.plain(text)) for text in said)
        return str(Markup("<table>{}</table>{}").format(rows, below))
