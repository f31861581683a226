"""Answers side by side in a terminal."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kurabe.cli.answer import facts, shown
from kurabe.cli.race import Runner

NARROWEST = 36
"""Characters of a column; with less room the models stand below one another."""
_FRAME = 4  # what a panel's border and padding take, across
_EDGE = 2  # its upper and lower border


def columns(runners: Sequence[Runner], width: int, height: int | None) -> RenderableType:
    """A panel for each model, as many beside each other as there is room. With `height` lines each shows its end."""
    across = max(1, min(len(runners), width // NARROWEST))
    rows = [runners[start : start + across] for start in range(0, len(runners), across)]
    lines = None if height is None else max(1, height // len(rows) - _EDGE)
    tables = []
    for row in rows:
        table = Table.grid(expand=True)
        for _ in range(across):
            table.add_column(ratio=1)
        table.add_row(*(_panel(runner, width // across - _FRAME, lines) for runner in row))
        tables.append(table)
    return Group(*tables)


def _panel(runner: Runner, width: int, lines: int | None) -> Panel:
    text = shown(runner.text).strip() if lines is None else shown(runner.text[-width * (lines + 1) * 2 :]).strip()
    body = Text(text)
    if runner.error is not None:
        body.append(f"\n\n{shown(str(runner.error))}" if text else shown(str(runner.error)), style="red")
    note = (
        facts(runner.reply)
        if runner.reply is not None
        else "failed"
        if runner.error is not None
        else "no whole answer"
        if lines is None
        else "…"
    )
    foot = Text(f"\n{note}" if body else note, style="dim")
    if lines is not None:
        console = Console(width=width)
        wrapped = body.wrap(console, width)
        room = max(1, lines - len(foot.wrap(console, width)))
        body = Text("\n").join(wrapped[-room:])
    style = "red" if runner.error is not None else "green" if runner.reply is not None else "dim"
    title = Text(runner.reference, style="bold", overflow="ellipsis", no_wrap=True)
    return Panel(
        Group(body, foot) if body else foot, title=title, title_align="left", border_style=style, width=width + _FRAME
    )
