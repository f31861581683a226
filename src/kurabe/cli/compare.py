"""kurabe compare"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as Grid
from rich.text import Text

from kurabe.cli.answer import shown
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.pages import check_page
from kurabe.errors import InputError
from kurabe.lens.compare import Cell, Comparison, Table, Total
from kurabe.lens.texts import read_texts, split_lines
from kurabe.report.format import count, dollars, seconds

LINES = 5
"""Of an answer that are shown in the terminal."""
MOST = 30
"""Prompts that are shown in the terminal."""
NARROWEST = 24
"""Columns of one model; with less room the models stand below one another."""
_WIDEST_PROMPT = 40
_ENDS = {"length": "cut at the token limit", "content_filter": "stopped by the content filter"}


@click.command(cls=Command)
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--prompts", metavar="FILE", required=True, help="A line each, or a table's column; - is standard input.")
@click.option("--column", metavar="NAME", help="The column of a CSV, TSV, JSON Lines or parquet file.")
@click.option("--system", metavar="TEXT", help="What the models are told before everything else.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="The longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="0 to 2; higher is more varied.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="An HTML page to write.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def command(
    context: click.Context,
    references: tuple[str, ...],
    prompts: str,
    column: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Ask several models many prompts and show all answers.

    FILE has a prompt in each line, or is a table with the column `prompt`, or --column. Hosted models are asked at the
    same time, those of this machine one after the other. The terminal shows the beginning of each answer; --output
    writes a page with all of them. Ctrl-C shows what has come. Exit code 1 where every answer failed.
    """
    check_page(output)
    settings = {"max_tokens": max_tokens, "temperature": temperature}
    given = {name: value for name, value in settings.items() if value is not None}
    table = Table(references, _prompts(prompts, column), system, given)
    stopped = _fill(table)
    found = table.comparison
    if output is not None:
        from kurabe.report.compare import compare_html
        from kurabe.report.files import write_text

        write_text(output, compare_html(found))
    if as_json:
        print_json(json.dumps(found.as_dict(), ensure_ascii=False))
    else:
        console = Console()
        width = console.width if console.is_terminal or "COLUMNS" in os.environ else 120
        Console(width=width, highlight=False).print(picture(found, width))
    if output is not None:
        click.echo(f"The page is {output}.", err=True)
    if stopped:
        context.exit(130)
    if all(total.failed and not total.answered for total in found.totals):
        context.exit(1)


def _prompts(source: str, column: str | None) -> list[str]:
    if source != "-":
        return read_texts(source, column, usual=("prompt", "question", "text"))
    texts = split_lines(sys.stdin.buffer.read(), "standard input")
    if not texts:
        raise InputError("standard input is empty; a prompt a line")
    return texts


def _fill(table: Table) -> bool:
    """Fill the table, with a bar on standard error; whether Ctrl-C stopped it."""
    bar = Progress(
        BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[failed]}", style="red"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    failed = 0
    try:
        with bar:
            task = bar.add_task("", total=len(table.prompts) * len(table.references), failed="")
            for answered in table.answers():
                table.put(answered)
                failed += answered.cell.error is not None
                bar.update(task, advance=1, failed=f"{failed:,} failed" if failed else "")
    except KeyboardInterrupt:  # what has come is shown all the same
        return True
    return False


def picture(found: Comparison, width: int) -> Group:
    """The beginning of each answer beside its prompt, and what each model took."""
    models = len(found.references)
    room = (width - _WIDEST_PROMPT) // models - 2
    prompts = found.prompts[:MOST]
    parts: list[Any] = [_wide(found, prompts, room) if room >= NARROWEST else _narrow(found, prompts, width), Text()]
    if len(prompts) < len(found.prompts):
        note = f"{len(prompts)} of {len(found.prompts):,} prompts are shown; --output and --json have all."
        parts += [Text(note, "dim"), Text()]
    return Group(*parts, *(_total(total, width) for total in found.totals))


def _wide(found: Comparison, prompts: tuple[str, ...], room: int) -> Grid:
    table = Grid(box=None, padding=(0, 2, 1, 0), header_style="bold", pad_edge=False)
    table.add_column("prompt", width=_WIDEST_PROMPT - 2, header_style="dim")
    for reference in found.references:
        table.add_column(Text(shown(reference), overflow="fold"), width=room)
    for prompt, row, again in zip(prompts, found.cells, found.repeats, strict=False):
        cells = (_cell(cell, room, same) for cell, same in zip(row, again, strict=True))
        table.add_row(_begin(Text(shown(prompt)), _WIDEST_PROMPT - 2), *cells)
    return table


def _narrow(found: Comparison, prompts: tuple[str, ...], width: int) -> Group:
    lines: list[Any] = []
    for prompt, row, again in zip(prompts, found.cells, found.repeats, strict=False):
        lines.append(_begin(Text(shown(prompt), "bold"), width))
        for reference, cell, same in zip(found.references, row, again, strict=True):
            lines += [Text(shown(reference), "cyan", overflow="fold"), _cell(cell, width, same), Text()]
    return Group(*lines[:-1])


def _cell(cell: Cell | None, width: int, repeats: bool) -> Group:
    if cell is None:
        return Group(Text("no answer yet", "dim"))
    if repeats:
        return Group(Text("the same error", "dim"))
    if cell.error is not None:
        return Group(_begin(Text(shown(cell.error), "red"), width))
    text = _begin(Text(shown(cell.text).strip() or "(empty)"), width)
    return Group(text, Text(facts(cell), "dim"))


def _begin(text: Text, width: int) -> Text:
    """The first lines, the last one with … where there are more."""
    # Far more cells than can be shown need no wrapping.
    short = text[: width * (LINES + 1) * 2]
    lines = short.wrap(Console(width=width), width)
    if len(lines) <= LINES:
        return short
    last = lines[LINES - 1]
    last.rstrip()
    last.truncate(width - 1)
    last.append("…")
    return Text("\n").join(lines[:LINES])


def facts(cell: Cell) -> str:
    """`34 tokens · 0.8 s · $0.0012`, and why the answer ended where it is cut."""
    parts = [count(cell.usage.output, "token"), seconds(cell.seconds)]
    parts += [dollars(cell.usd)] if cell.usd != 0 else []
    return " · ".join([*parts, *([_ENDS[cell.finish_reason]] if cell.finish_reason in _ENDS else [])])


def _total(total: Total, width: int) -> Text:
    facts = [count(total.answered, "answer")]
    facts += [f"{total.failed:,} failed"] if total.failed else []
    if total.answered:
        facts += [f"{total.usage.input:,} → {total.usage.output:,} tokens", f"{seconds(total.seconds)} each",
                  "cost unknown" if total.usd is None else dollars(total.usd)]  # fmt: skip
    line = Text(overflow="fold")
    line.append(shown(total.reference), "bold").append("  " + " · ".join(facts))
    return line
