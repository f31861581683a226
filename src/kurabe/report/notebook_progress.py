"""A run followed in a notebook: the board in one output cell, which is drawn anew as predictions come."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from markupsafe import Markup, escape

from kurabe.contest.evidence import Status
from kurabe.contest.observer import Opening, Standing
from kurabe.report import format as fmt
from kurabe.report.axis import Axis, interval_svg
from kurabe.report.live import Following, LiveRow, live_axis, live_places

DRAWN_SECONDS = 0.25  # no more often than this, however fast predictions come
_LEFT = Markup(' style="text-align:left;padding:1px 8px;white-space:nowrap"')
_RIGHT = Markup(' style="text-align:right;padding:1px 8px;white-space:nowrap"')
_HEADS = ("", "contestant", "score", "", "95 % interval", "rows", "cost", "time", "")
_SIDES = (_LEFT, _LEFT, _RIGHT, _LEFT, _RIGHT, _RIGHT, _RIGHT, _RIGHT, _LEFT)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, VS Code, Colab), which shows HTML."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _display() -> Any:
    from IPython import display  # its functions have no types

    return display


def _cell() -> int:
    """The number of the cell that runs."""
    shell: Any = sys.modules["IPython"].get_ipython()
    return int(shell.execution_count)


def _bundle(page: str, said: str) -> dict[str, str]:
    return {"text/html": page, "text/plain": said}


class NotebookProgress:
    """An observer that shows the contestants by running score in one output cell, where the board takes their place."""

    def __init__(self) -> None:
        self._following = Following()
        self._notes: list[str] = []
        self._handle: Any = None
        self._cell: int | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._draw()

    def began(self, opening: Opening) -> None:
        self._following.began(opening)
        self._draw()

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw()

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        self._following.fetching(reference, done, total)
        self._draw_sometimes()

    def fitting(self, label: str, said: str = "") -> None:
        self._following.fitting(label, said)
        self._draw_sometimes()

    def predicted(self, label: str, standing: Standing) -> None:
        self._following.predicted(label, standing)
        self._draw_sometimes()

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        self._following.ended(label, status, reason)
        self._draw_sometimes()

    def show(self, page: str, said: str) -> None:
        """Put a page in the cell that followed the run while that cell is the one that runs, else in the present one.
        `said`: the page as text, for what shows no HTML."""
        if self._handle is not None and self._cell == _cell():
            self._handle.update(_bundle(page, said), raw=True)
        else:
            _display().display(_bundle(page, said), raw=True)

    def _draw_sometimes(self) -> None:
        if time.monotonic() - self._drawn >= DRAWN_SECONDS:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        page = _bundle(self.html(), self._following.footer(self._drawn))
        if self._handle is None:
            self._cell = _cell()
            self._handle = _display().display(page, raw=True, display_id=True)
        else:
            self._handle.update(page, raw=True)

    def html(self) -> str:
        """The cell's content: the contestants, what is being fetched, how far the run is, and the notes."""
        now, following = time.monotonic(), self._following
        rows = following.ranked()
        scored = [row for row in rows if row.score is not None]
        better = following.opening is not None and following.opening.greater_is_better
        scale, decimals = live_axis(scored, greater_is_better=better) or Axis(0.0, 1.0), live_places(scored)
        lines = Markup("").join(_line(row, scale, decimals, now) for row in rows)
        heads = Markup("").join(
            Markup('<th scope="col"{}>{}</th>').format(side, head) for head, side in zip(_HEADS, _SIDES, strict=True)
        )
        fetched = [
            f"fetching {name}: {fmt.size(done)}{f' of {fmt.size(total)}' if total is not None else ''}"
            for name, (done, total) in following.fetches.items()
        ]
        said = [*fetched, following.footer(now), *(f"! {note}" for note in self._notes)]
        below = Markup("").join(Markup("<div>{}</div>").format(fmt.plain(text)) for text in said if text)
        table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(heads, lines)
        return str(Markup("<p><b>{}</b></p>{}{}").format(following.heading(), table if rows else "", below))


def _line(row: LiveRow, scale: Axis, decimals: int, now: float) -> Markup:
    label, shown = fmt.plain(row.label), row.score is not None
    cells = [
        row.mark,
        Markup("<b>{}</b>").format(label) if row.under_way else escape(label),
        fmt.number(row.score, decimals) if shown else "",
        Markup(interval_svg(row.score, row.interval, scale)),  # numbers only
        fmt.interval(row.interval, decimals) if shown else "",
        f"{row.done:,}/{row.total:,}" if not row.waiting else "",
        fmt.dollars(row.usd) if shown and row.usd != 0 else "",
        row.time(now),
        fmt.shorten(fmt.redact(fmt.plain(row.note)), 100),
    ]
    quiet = Markup(' style="opacity:.55"') if row.waiting or row.status in ("failed", "skipped") else ""
    body = Markup("").join(Markup("<td{}>{}</td>").format(side, cell) for cell, side in zip(cells, _SIDES, strict=True))
    return Markup("<tr{}>{}</tr>").format(quiet, body)
