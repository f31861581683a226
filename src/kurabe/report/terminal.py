"""The board in a terminal: interval bars on one axis, as many columns as the width holds, plain ASCII where need be."""

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from kurabe.contest.board import Board, BoardRow
from kurabe.report import format as fmt
from kurabe.report.axis import Axis, axis
from kurabe.report.data import second_metrics
from kurabe.report.notes import direction, notes

SVG_WIDTH = 118
LINES = 40  # of a board that prints itself in Python
_GAP = 2
_BAR = (12, 36)
_WIDE = 100
_NAME = (14, 30)
_ASCII = str.maketrans({
    "├": "|", "┤": "|", "─": "-", "●": "o", "◂": "<", "▸": ">", "–": "-", "−": "-", "…": "~", "≥": ">=", "×": "x",
    "⚠": "!", "“": '"', "”": '"', "•": "*", "’": "'", "→": "->", "∞": "inf", "━": "=", "²": "2",
    "·": ".", "✓": "+", "✗": "x",
})  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column: a heading, the text of a cell, and whether numbers stand right-aligned in it."""

    title: str
    cell: Callable[[BoardRow], str]
    right: bool = True


def interval_bar(score: float | None, interval: tuple[float, float] | None, scale: Axis, width: int) -> str:
    """`   ├──●──┤    `, `width` characters wide; `▸` or `◂` at the end where the bar leaves the axis."""
    if score is None or not math.isfinite(score):
        return " " * width
    low, high = interval or (score, score)
    left, right, dot = (round(scale.share(value) * (width - 1)) for value in (low, high, score))
    cells = [" "] * width
    cells[left : right + 1] = "─" * (right + 1 - left)
    cells[left], cells[right] = "├", "┤"
    if low < scale.low:
        cells[left] = "◂"
    if high > scale.high:
        cells[right] = "▸"
    if scale.low <= score <= scale.high:
        cells[dot] = "●"
    return "".join(cells)


def axis_title(scale: Axis, decimals: int, width: int) -> str:
    """The ends of the axis as the heading of a column of bars; '' where there is no room for them."""
    low, high = fmt.number(scale.low, decimals), fmt.number(scale.high, decimals)
    title = low + " " * max(width - len(low) - len(high), 1) + high
    return title if len(title) <= width else ""


class BoardTable:
    """A board as a rich renderable; `board_table` makes it."""

    def __init__(self, board: Board, width: int | None = None) -> None:
        self.board = board
        self.width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self.width or options.max_width, options.max_width)
        clean = to_ascii if options.ascii_only else _same
        yield Text(clean(_heading(self.board)), style="bold", overflow="ellipsis", no_wrap=True)
        yield Text()
        if any(row.score is not None for row in self.board.rows):
            yield _scores(self.board, width, clean)
        else:
            yield Text("No contestant has a score.", style="yellow")
        yield from _unscored(self.board, clean)
        yield Text()
        for note in notes(self.board):
            mark, style = ("⚠ ", "yellow") if note.warning else ("• ", "dim")
            yield hanging(Text(clean(mark), style=style), Text(clean(note.text), style=style))


def board_table(board: Board, width: int | None = None) -> BoardTable:
    """The board as a rich renderable at most `width` columns wide (the console's width where None).

    Print it with `rich.console.Console().print(board_table(board))`. Where the console's encoding is not UTF-8 it uses
    ASCII only.
    """
    return BoardTable(board, width)


def board_text(board: Board, width: int = 100) -> str:
    """The terminal board as plain text of at most LINES lines, each at most `width` wide and without colours."""
    console = Console(
        width=width, file=(file := io.StringIO()), color_system=None, force_jupyter=False, legacy_windows=False,
        _environ={},
    )  # fmt: skip
    console.print(board_table(board, width))
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    if len(lines) > LINES:
        rest = len(lines) - LINES + 1
        lines = [*lines[: LINES - 1], f"… and {fmt.count(rest, 'line')} more; print(board.to_markdown()) shows all"]
    return "\n".join(lines)


def board_svg(board: Board, width: int = SVG_WIDTH) -> str:
    """The terminal board as an SVG picture that refers to nothing outside itself."""
    return picture(board_table(board, width), f"kurabe board {fmt.plain(board.evidence.task)}", width)


def picture(shown: RenderableType, title: str, width: int = SVG_WIDTH) -> str:
    """What a terminal shows as an SVG picture that refers to nothing outside itself."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, force_jupyter=False,
        color_system="truecolor", legacy_windows=False, _environ={},
    )  # fmt: skip
    console.print(shown)
    without_web_fonts = re.sub(r"@font-face \{\{.*?\}\}|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    code_format = without_web_fonts.replace(
        "Fira Code", "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono"
    )
    return console.export_svg(title=title, code_format=code_format, unique_id="kurabe-board")


def _heading(board: Board) -> str:
    evidence = board.evidence
    return f"{fmt.plain(evidence.task)}: {fmt.metric(board)}, {direction(board)}"


def _scores(board: Board, width: int, clean: Callable[[str], str]) -> Table:
    rows = [row for row in board.rows if row.score is not None]
    scale = axis(board) or Axis(0.0, 1.0)
    columns, extra, bar_width, name_width = _layout(board, rows, width)
    model_column = any(column.title == "model" for column in extra)
    decimals = fmt.score_places(board)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_edge=False, header_style="bold dim")
    for column in (columns[0], columns[1]):
        table.add_column(clean(column.title), justify="right" if column.right else "left", no_wrap=True)
    table.add_column(axis_title(scale, decimals, bar_width), no_wrap=True, width=bar_width)
    for column in (*columns[2:], *extra):
        table.add_column(clean(column.title), justify="right" if column.right else "left", no_wrap=True)
    best = min((row.rank for row in rows if row.rank is not None), default=None)
    for row in rows:
        style = "green" if row.rank is not None and row.rank == best else ("cyan" if row.rank else "dim")
        who = Text(clean(columns[1].cell(row)), style="bold" if row.rank == best and best else "")
        if row.model and not model_column and row.model not in row.contestant:
            who.append("\n" + clean(fit_text(fmt.plain(row.model), name_width)), "dim")
        cells = [Text(clean(column.cell(row))) for column in (*columns[2:], *extra)]
        bar = Text(clean(interval_bar(row.score, row.interval, scale, bar_width)), style=style)
        table.add_row(Text(clean(columns[0].cell(row)), style=style), who, bar, *cells)
    return table


def _layout(board: Board, rows: list[BoardRow], width: int) -> tuple[list[Column], list[Column], int, int]:
    """The fixed columns, those that still fit, and the widths of bar and name."""
    decimals = fmt.score_places(board)
    longest = max(cell_len(fmt.plain(text)) for row in rows for text in (row.contestant, row.model or ""))
    room = _NAME[1] if width >= _WIDE else max(_NAME[0], width // 4)
    name_width = min(longest, room)
    fixed = [
        Column("#", lambda row: fmt.rank(row)),
        Column("contestant", lambda row: fit_text(fmt.plain(row.contestant), name_width), right=False),
        Column("score", lambda row: fmt.number(row.score, decimals)),
    ]
    least_bar = _BAR[0] if width < _WIDE else 2 * _BAR[0]
    below = any(
        row.model and row.model not in row.contestant for row in rows
    )  # the model's name, under the contestant's
    widths = [name_width if below and column.title == "contestant" else _width(column, rows) for column in fixed]
    used = sum(widths) + _GAP * len(widths) + least_bar
    chosen: list[Column] = []
    wanted, asked = _wanted(board, rows, decimals), _checks(board, brief=True)
    steps: list[tuple[Column, Column | None]] = [(column, None) for column in [*asked, wanted[0]]]
    steps += zip(_checks(board, brief=False), asked, strict=True)  # in place of the brief ones, where there is room
    steps += [(column, None) for column in wanted[1:]]
    for column, brief in steps:
        before = brief if brief in chosen else None
        cost = _width(column, rows) - _width(before, rows) if before else _width(column, rows) + _GAP
        if used + cost <= width:
            chosen = [*(one for one in chosen if one is not before), column]
            used += cost
    bar_width = min(least_bar + max(width - used, 0), _BAR[1])
    shorts = [fmt.metric_short(name) for name in second_metrics(board)]
    order = [
        "95 % interval",
        "model",
        *(column.title for column in asked),
        "general",
        "unread",
        *shorts,
    ]
    order += ["cost", "fit", "predictions/s", "memory"]
    chosen.sort(key=lambda column: order.index(column.title))
    return fixed, chosen, bar_width, name_width


def _wanted(board: Board, rows: list[BoardRow], decimals: int) -> list[Column]:
    """Columns beside the fixed ones, the most wanted first; those with nothing to say are left out."""
    cost = Column("cost", lambda row: fmt.dollars(row.usd))
    all_free = all(row.usd == 0 for row in rows)
    columns = [Column("95 % interval", lambda row: fmt.interval(row.interval, decimals))]
    columns += [] if all_free else [cost]
    if any(row.forgetting for row in rows):
        columns.append(Column("general", fmt.general))
    if any(row.unread for row in rows):
        columns.append(Column("unread", lambda row: f"{row.unread:,}" if row.unread else fmt.NOT_MEASURED))
    columns.append(Column("fit", lambda row: fmt.seconds(row.fit_seconds)))
    columns.append(Column("predictions/s", lambda row: fmt.number(row.predictions_per_second)))
    second = [_second_column(name, rows) for name in second_metrics(board)]
    columns += second[:2]
    if any(row.model and row.model not in row.contestant for row in rows):
        columns.append(Column("model", lambda row: fit_text(fmt.plain(row.model or ""), 28), right=False))
    columns.append(Column("memory", lambda row: fmt.size(row.peak_bytes)))
    columns += [cost] if all_free else []
    return columns + second[2:]


def _checks(board: Board, *, brief: bool) -> list[Column]:
    """The columns that the task asks for; `brief`: of each cell the value alone."""
    say = fmt.check_value if brief else fmt.check

    def column(label: str, places: int | None) -> Column:
        return Column(fmt.check_title(label), lambda row: say(row.checks.get(label), places))

    return [column(label, places) for label, places in fmt.check_decimals(board).items()]


def _second_column(name: str, rows: list[BoardRow]) -> Column:
    decimals = fmt.column_places(row.second.get(name) for row in rows)
    return Column(fmt.metric_short(name), lambda row: fmt.number(row.second.get(name), decimals))


def _width(column: Column, rows: list[BoardRow]) -> int:
    return max(cell_len(column.title), *(cell_len(column.cell(row)) for row in rows))


def _unscored(board: Board, clean: Callable[[str], str]) -> RenderResult:
    rows = [row for row in board.rows if row.score is None]
    if rows:
        yield Text()
    for row in rows:
        style = "red" if row.status == "failed" else "dim"
        reason = fmt.shorten(fmt.plain(row.reason or "no reason was given"), 300)
        yield hanging(
            Text(clean(f"{row.status} ".rjust(8)), style=style),
            Text(clean(f"{fmt.plain(row.contestant)}: {reason}"), style="dim"),
        )


def hanging(mark: Text, text: Text) -> Table:
    """`text` wrapped beside `mark`, so that its further lines are indented."""
    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(mark, text)
    return grid


def fit_text(text: str, width: int) -> str:
    """`text` cut to `width` terminal cells, not characters: CJK characters take two."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _same(text: str) -> str:
    return text


def to_ascii(text: str) -> str:
    """`text` in characters that every terminal has."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
