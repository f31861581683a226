"""The board of a running contest in a terminal, no taller and no wider than the terminal is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.text import Text

from kurabe.report import format as fmt
from kurabe.report.axis import Axis
from kurabe.report.live import Following, LiveRow, live_axis, live_places
from kurabe.report.terminal import axis_title, fit_text, interval_bar, to_ascii

_GAP = "  "
_NAME = (10, 30)
_WIDE = 100
_BAR = (12, 36)
_FETCH_BAR = 20
_STYLES = {"done": "green", "partial": "yellow", "failed": "red", "skipped": "dim", None: "dim"}


@dataclass(frozen=True)
class _Column:
    """A column of figures: its heading and the text of each contestant's cell."""

    title: str
    cell: Callable[[LiveRow], str]

    def width(self, rows: Sequence[LiveRow]) -> int:
        return max(cell_len(self.title), *(cell_len(self.cell(row)) for row in rows))


@dataclass(frozen=True)
class _Layout:
    """What stands beside the names: the bars, where there is room for them, and columns with their widths."""

    name: int
    bar: int
    scale: Axis
    decimals: int
    columns: Sequence[tuple[_Column, int]]


def live_picture(following: Following, console: Console) -> Group:
    """A running contest as the console has room for it, in ASCII where its encoding is not UTF-8."""
    lines = live_lines(following, console.width, console.height - 1, time.monotonic())
    for line in lines:
        if console.options.ascii_only:
            line.plain = to_ascii(line.plain)
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def live_lines(following: Following, width: int, height: int, now: float) -> list[Text]:
    """The lines of the board: at most `height`, at most `width` cells each.

    Where there are more contestants than lines, those that wait stand on one line, then those that have ended without a
    score, and then the worst of the others.
    """
    below = [_fetch_line(name, *progress, width) for name, progress in following.fetches.items()]
    if following.opening is None:
        return below[:height]
    below.append(Text(fit_text(following.footer(now), width), style="dim"))
    heading = Text(fit_text(following.heading(), width), style="bold")
    rows = following.ranked()
    if not rows:
        return [heading, *below]
    scored = [row for row in rows if row.score is not None]
    layout = _layout(rows, scored, width, now, greater_is_better=following.opening.greater_is_better)
    above = [heading, Text(), _head(layout)] if scored else [heading, Text()]
    body = _body(rows, layout, width, max(height - len(above) - len(below) - 1, 1))
    return [*above, *body, Text(), *below][:height]


def _body(rows: Sequence[LiveRow], layout: _Layout, width: int, room: int) -> list[Text]:
    waiting = [row for row in rows if row.waiting]
    over = [row for row in rows if row.score is None and row.status is not None]
    shown = list(rows)
    together: list[Text] = []
    for group, what in ((waiting, "waiting"), (over, "without a score")):
        if len(shown) + len(together) > room and len(group) > 1:
            shown = [row for row in shown if row not in group]
            together.append(_together(group, what, width))
    cut = len(shown) - (room - len(together))
    if cut > 0:  # the first, and those under way, are what one wants to see
        cut += 1
        ended = [row for row in reversed(shown) if not row.under_way]
        gone = [*ended, *(row for row in reversed(shown) if row.under_way)][:cut]
        shown = [row for row in shown if row not in gone]
        together.insert(0, Text(f"… {cut:,} more", style="dim"))
    return [*(_line(row, layout, width) for row in shown), *together][:room]


def _together(group: Sequence[LiveRow], what: str, width: int) -> Text:
    names = ", ".join(fmt.plain(row.label) for row in group)
    return Text(fit_text(f"{group[0].mark} {len(group)} {what}: {names}", width), style="dim")


def _layout(
    rows: Sequence[LiveRow], scored: Sequence[LiveRow], width: int, now: float, *, greater_is_better: bool
) -> _Layout:
    """The columns that there is room for: the most wanted first, and bars where there is room for them."""
    decimals = live_places(scored)
    scale = live_axis(scored, greater_is_better=greater_is_better) or Axis(0.0, 1.0)
    longest = max(cell_len(fmt.plain(row.label)) for row in rows)
    name = min(longest, _NAME[1] if width >= _WIDE else max(_NAME[0], width // 4))
    all_columns = [
        _Column("score", lambda row: fmt.number(row.score, decimals)),
        _Column("rows", lambda row: f"{row.done:,}/{row.total:,}"),
        _Column("time", lambda row: row.time(now)),
        _Column("95 % interval", lambda row: fmt.interval(row.interval, decimals)),
    ]
    if any(row.usd != 0 for row in scored):
        all_columns.insert(2, _Column("cost", lambda row: fmt.dollars(row.usd)))
    chosen: list[tuple[_Column, int]] = []
    left, bar = width - len(_GAP) - 1 - name, 0
    for column in all_columns if scored else []:
        if column.title == "95 % interval":  # after the bars, which say the same
            bar = _BAR[0] if left >= len(_GAP) + _BAR[0] else 0
            left -= len(_GAP) + bar if bar else 0
        wide = column.width(scored)
        if left >= len(_GAP) + wide:
            chosen.append((column, wide))
            left -= len(_GAP) + wide
    bar = min(bar + max(left, 0), _BAR[1]) if bar else 0
    order = ["score", "95 % interval", "rows", "cost", "time"]
    return _Layout(name, bar, scale, decimals, sorted(chosen, key=lambda pair: order.index(pair[0].title)))


def _head(layout: _Layout) -> Text:
    cells = [" ", set_cell_size("contestant", max(layout.name, 0))]
    if layout.bar:
        cells.append(set_cell_size(axis_title(layout.scale, layout.decimals, layout.bar), layout.bar))
    cells += [column.title.rjust(width) for column, width in layout.columns]
    return Text(_GAP.join(cells), style="bold dim")


def _line(row: LiveRow, layout: _Layout, width: int) -> Text:
    style = "cyan" if row.under_way else _STYLES[row.status]
    label = set_cell_size(fit_text(fmt.plain(row.label), layout.name), layout.name)
    line = Text(_GAP.join([row.mark, ""]), style=style) + Text(label, style="bold" if row.under_way else "")
    if row.score is None:
        line.stylize("dim" if row.status is not None or row.waiting else "")
        if not row.note and row.under_way:
            line += Text(f"{_GAP}{row.done:,}/{row.total:,}", style="dim")
    else:
        if layout.bar:
            line += Text(_GAP + interval_bar(row.score, row.interval, layout.scale, layout.bar), style=style)
        for column, wide in layout.columns:
            line += Text(_GAP + " " * (wide - cell_len(cell := column.cell(row))) + cell)
    room = width - line.cell_len - len(_GAP)
    if row.note and room >= (8 if row.score is None else 12):
        line += Text(_GAP + fit_text(fmt.plain(row.note), room), style="dim")
    return line


def _fetch_line(name: str, done: int, total: int | None, width: int) -> Text:
    """`fetching gguf:some  ━━━━━╸        98 MB of 1.2 GB`"""
    size = f"{fmt.size(done)} of {fmt.size(total)}" if total else fmt.size(done)
    bar = ""
    if total and width >= 60:
        full = round(min(done / total, 1.0) * _FETCH_BAR)
        bar = _GAP + ("━" * full).ljust(_FETCH_BAR, "─")
    room = width - cell_len(bar) - cell_len(size) - len(_GAP)
    return Text.assemble(fit_text(f"fetching {fmt.plain(name)}", max(room, 1)), (bar, "cyan"), _GAP, size)
