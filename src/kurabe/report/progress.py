"""A run followed in a terminal: the board itself, which grows as predictions come. Elsewhere a line a contestant."""

import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kurabe.contest.evidence import Status
from kurabe.contest.observer import Opening, Standing
from kurabe.report.format import plain
from kurabe.report.live import Following
from kurabe.report.live_table import live_picture

DRAWN_A_SECOND = 4
LINE_SECONDS = 10.0  # without a terminal, a line about a slow contestant no more often than this


def can_redraw() -> bool:
    """Whether standard error is a terminal in which lines may be drawn anew: not with NO_COLOR or CI, or a dumb one."""
    plain_wanted = os.environ.get("NO_COLOR") or os.environ.get("CI")
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stderr.isatty() and not plain_wanted and not dumb


class Progress:
    """An observer that draws the board on standard error as it grows, where that can be; else it writes lines.

    Parameters
    ----------
    stays
        Whether the last picture stays in the end. Else it goes, since the final board is to stand in its place. After
        an error it stays in any case.
    """

    def __init__(self, *, stays: bool = False) -> None:
        self._console = Console(stderr=True)
        self._following = Following()
        self._lock = threading.RLock()  # the picture is drawn in a thread of its own
        self._said = time.monotonic()
        self._live = None if not can_redraw() else Live(
            get_renderable=self._picture, console=self._console, refresh_per_second=DRAWN_A_SECOND,
            transient=not stays, vertical_overflow="crop",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            if kind is not None and kind is not KeyboardInterrupt:
                self._live.transient = False
            self._live.stop()

    def _picture(self) -> Group:
        with self._lock:
            return live_picture(self._following, self._console)

    def began(self, opening: Opening) -> None:
        with self._lock:
            self._following.began(opening)
            self._said = time.monotonic()
        self._show()

    def note(self, text: str) -> None:
        if self._live is not None:
            self._console.print(Text.assemble(("! ", "yellow"), plain(text)))
        else:
            print(f"note: {plain(text)}", file=sys.stderr)

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        with self._lock:
            known = reference in self._following.fetches
            self._following.fetching(reference, done, total)
        if self._live is None and not known and (total is None or done < total or done == 0):
            print(f"fetching {plain(reference)}", file=sys.stderr)
        self._show()

    def fitting(self, label: str, said: str = "") -> None:
        with self._lock:
            self._following.fitting(label, said)
        if said:
            self._say_sometimes(f"{plain(label)}: {plain(said)}")

    def predicted(self, label: str, standing: Standing) -> None:
        with self._lock:
            self._following.predicted(label, standing)
        if standing.done < standing.total:
            self._say_sometimes(f"{plain(label)}: {standing.done:,}/{standing.total:,}")

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        with self._lock:
            self._following.ended(label, status, reason)
        if self._live is None:
            why = plain(reason or "")
            print(f"{plain(label)}: {status}{f' ({why})' if why else ''}", file=sys.stderr)

    def _show(self) -> None:
        if self._live is not None and not self._live.is_started:
            self._live.start(refresh=True)

    def _say_sometimes(self, line: str) -> None:
        """Write a line, where nothing can be drawn and none was written for a while."""
        now = time.monotonic()
        if self._live is None and now - self._said > LINE_SECONDS:
            self._said = now
            print(line, file=sys.stderr)
