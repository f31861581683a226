"""Progress of a run in a terminal: a bar for each contestant with time left, predictions and running score."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from kurabe.contest.evidence import Status
from kurabe.report.format import number, plain

MARKS: dict[Status, str] = {
    "done": "[green]✓[/]",
    "partial": "[yellow]…[/]",
    "failed": "[red]✗[/]",
    "skipped": "[dim]–[/]",
}
LINE_SECONDS = 10.0  # without a terminal, a line about a slow contestant no more often than this


class Progress:
    """An observer that draws bars on standard error; where that is no terminal it writes a line a contestant."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._console = Console(stderr=True)
        self._enabled = enabled
        self._bars = Bars(
            TextColumn("{task.fields[mark]}", markup=True),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>7,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[score]:>10}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=self._console,
            disable=not enabled,
        )
        self._downloads = Bars(
            TextColumn("  fetching {task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not enabled,
        )
        self._ids: dict[str, TaskID] = {}
        self._fetches: dict[str, TaskID] = {}
        self._rows = 0
        self._began = False
        self._said = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._downloads.stop()
        self._bars.stop()

    def began(self, labels: tuple[str, ...], rows: int, journal: Path) -> None:
        self._rows, self._began, self._said = rows, True, time.monotonic()
        self._bars.start()

    def note(self, text: str) -> None:
        if self._enabled:
            self._console.print(Text.assemble(("! ", "yellow"), plain(text)))
        else:
            print(f"note: {plain(text)}", file=sys.stderr)

    def fetching(self, reference: str, done: int, total: int | None) -> None:
        if reference not in self._fetches:
            self._bars.stop()
            self._downloads.start()
            self._fetches[reference] = self._downloads.add_task(plain(reference), total=total)
            if not self._enabled:
                print(f"fetching {plain(reference)}", file=sys.stderr)
        self._downloads.update(self._fetches[reference], completed=done, total=total)
        if total is not None and done >= total:
            self._fetched()

    def _fetched(self) -> None:
        """Take the downloads away, whether they came to their end or not, and go on with the bars of a run."""
        if not self._fetches:
            return
        self._downloads.stop()
        for task in self._fetches.values():
            self._downloads.remove_task(task)
        self._fetches.clear()
        if self._began:
            self._bars.start()

    def fitting(self, label: str, said: str = "") -> None:
        self._bars.update(self._bar(label), note=plain(said) or "fitting")
        now = time.monotonic()
        if not self._enabled and said and now - self._said > LINE_SECONDS:
            self._said = now
            print(f"{plain(label)}: {plain(said)}", file=sys.stderr)

    def predicted(self, label: str, done: int, total: int, score: float | None) -> None:
        bar = self._bar(label)
        self._bars.update(bar, completed=done, total=total, note="")
        if score is not None:
            self._bars.update(bar, score=number(score))
        now = time.monotonic()
        if not self._enabled and done < total and now - self._said > LINE_SECONDS:
            self._said = now
            print(f"{plain(label)}: {done:,}/{total:,}", file=sys.stderr)

    def ended(self, label: str, status: Status, reason: str | None) -> None:
        bar, why = self._bar(label), plain(reason or "")
        total = next(task.total for task in self._bars.tasks if task.id == bar)
        self._bars.update(bar, mark=MARKS[status], note=why, completed=total if status == "done" else None)
        self._bars.stop_task(bar)
        if not self._enabled:
            print(f"{plain(label)}: {status}{f' ({why})' if why else ''}", file=sys.stderr)

    def _bar(self, label: str) -> TaskID:
        self._fetched()
        if label not in self._ids:
            fields = {"mark": " ", "score": "", "note": ""}
            self._ids[label] = self._bars.add_task(plain(label), total=self._rows, **fields)  # type: ignore[arg-type]
        return self._ids[label]
