"""kurabe next"""

import json
import os
import sys
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.pages import check_page
from kurabe.lens.next_tokens import COUNT, NextToken, NextTokens, Sampling, Walk, checked
from kurabe.lens.tokens import visible
from kurabe.report import format as fmt
from kurabe.report.files import write_text
from kurabe.report.format import percent

BLOCKS = " ▏▎▍▌▋▊▉█"
KEYS = "123456789"
ARROWS = {
    "\x1b[A": "up", "\x1bOA": "up", "k": "up", "\x1b[B": "down", "\x1bOB": "down", "j": "down",
    "\x1b[D": "back", "\x1bOD": "back", "\x7f": "back", "\b": "back",
    "q": "quit", "Q": "quit", "\x1b": "quit", "\x03": "quit", "\x04": "quit",
}  # fmt: skip
"""What keys mean; terminals send arrows in two ways."""
LINES = 8
"""Of the text that are shown."""


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("text")
@click.option("--temperature", type=float, metavar="T", help="Below 1 sharpens, above 1 flattens, 0 takes the first.")
@click.option("--top-k", type=int, metavar="K", help="Draw only from the K likeliest.")
@click.option("--top-p", type=float, metavar="P", help="Draw only from the likeliest that together reach P.")
@click.option("--count", type=click.IntRange(min=1), default=COUNT, show_default=True, help="How many to show.")
@click.option("--chat", is_flag=True, help="TEXT is a user's turn; show how the answer begins.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="An HTML page to write.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    reference: str,
    text: str,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    count: int,
    chat: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show what a model thinks comes next.

    REF is a model on this machine, such as gguf:smollm2-135m or hf:smollm2-135m. Each bar is a token's probability;
    with settings, a second one shows how likely it is to be drawn: first --top-k, then --top-p, then --temperature, as
    llama.cpp does. In a terminal it goes on step by step: arrows choose, Enter takes, a digit takes that one, ← goes
    back, q ends. With --output, a page that opens offline has the picture of the first step.
    """
    check_page(output)
    sampling = checked(Sampling(temperature, top_k, top_p))
    with Walk(reference, text, chat=chat) as walk:
        if output is not None:
            from kurabe.report.next import next_html  # with what draws pages, which takes a while

            write_text(output, next_html(walk.look(sampling, count=count)))
            click.echo(f"The page is {output}.", err=True)
        if as_json:
            print_json(json.dumps(walk.look(sampling, count=count).as_dict(), ensure_ascii=False))
        elif sys.stdout.isatty() and sys.stdin.isatty():
            _steps(walk, sampling, count)
        else:
            width = int(os.environ.get("COLUMNS", 120))
            Console(width=width, highlight=False).print(picture(walk.look(sampling, count=count), width))


def _steps(walk: Walk, sampling: Sampling, count: int) -> None:
    """Show, wait for a key, go on; at the end the text stands in the terminal."""
    console = Console(highlight=False)
    begun, start = walk.text, len(walk.ids)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            seen = walk.look(sampling, count=count)
            wish = _asked(live, seen, len(begun))
            if isinstance(wish, NextToken):
                walk.take(wish.token)
            elif wish == "back":
                walk.back()
            else:
                break
    console.print(picture(seen, console.width, begun=len(begun)))
    console.print(Text(f"{fmt.count(len(walk.ids) - start, 'token')} taken", "dim"))


def _asked(live: Live, seen: NextTokens, begun: int) -> NextToken | str:
    """The token that the keys take, `back` or `quit`."""
    console, chosen, last = live.console, 0, len(seen.tokens) - 1
    hint = Text(f"\n↑ ↓ choose   Enter takes   1–{min(last + 1, 9)} takes that one   ← back   q ends", "dim")
    while True:
        live.update(Group(picture(seen, console.width, begun=begun, chosen=chosen), hint), refresh=True)
        try:
            key = click.getchar()
        except (KeyboardInterrupt, EOFError):
            return "quit"
        wish = ARROWS.get(key)
        if wish in ("up", "down"):
            chosen = max(chosen - 1, 0) if wish == "up" else min(chosen + 1, last)
        elif wish is not None:
            return wish
        elif key in ("\r", "\n", "\x1b[C", "\x1bOC"):
            return seen.tokens[chosen]
        elif len(key) == 1 and 0 <= KEYS.find(key) <= last:
            return seen.tokens[KEYS.find(key)]


def picture(seen: NextTokens, width: int, *, begun: int | None = None, chosen: int | None = None) -> Group:
    """The end of the text, what was added to it in bold, and the tokens with their bars, one of them marked."""
    begun = len(seen.text) if begun is None else begun
    text = Text(overflow="fold")
    shown = _end(seen.text, width)
    split = max(len(shown) - (len(seen.text) - begun), 0)
    if len(seen.text) > len(shown):
        text.append("…", "dim")
    text.append(_printable(shown[:split]))
    text.append(_printable(shown[split:]), "bold green")
    return Group(text, Text(), _table(seen, width, chosen), *_notes(seen))


def _end(text: str, width: int) -> str:
    """The text's last lines, as many as leave room for the tokens below them."""
    return "\n".join(text[-LINES * width :].split("\n")[-LINES:])


def _table(seen: NextTokens, width: int, chosen: int | None) -> Table:
    two = seen.sampling != Sampling()
    words = max([5, *(Text(each.token.shown).cell_len for each in seen.tokens)])
    words = min(words, max(width // 4, 8))
    bar = max(min((width - words - 18 - (22 if two else 10)) // (2 if two else 1), 60), 4)
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=two, header_style="dim")
    table.add_column("", justify="right", style="dim", width=len(str(len(seen.tokens))) + 2)
    table.add_column("token", width=words, no_wrap=True, overflow="ellipsis")
    table.add_column("id", justify="right", style="dim", no_wrap=True)
    table.add_column("model", justify="right", no_wrap=True, width=7)
    table.add_column("", width=bar)
    if two:
        table.add_column("drawn", justify="right", no_wrap=True, width=7)
        table.add_column("", width=bar)
    for place, each in enumerate(seen.tokens, 1):
        cut = two and each.drawn == 0
        name = Text(each.token.shown, "dim" if cut else "italic magenta" if each.token.special else "bold")
        row: list[str | Text] = [
            Text(f"› {place}", "bold green") if place - 1 == chosen else str(place),
            name,
            str(each.token.id),
            percent(each.probability),
            Text(bars(each.probability, bar), "blue"),
        ]
        if two:
            row += [Text("cut", "dim") if cut else percent(each.drawn), Text(bars(each.drawn, bar), "green")]
        table.add_row(*row)
    return table


def _notes(seen: NextTokens) -> list[Text]:
    notes = [f"all other tokens: {percent(seen.rest)}"]
    if seen.kept is not None:
        notes.append(f"{seen.kept:,} {'token' if seen.kept == 1 else 'tokens'} can be drawn")
    return [Text(" · ".join(notes), "dim")]


def bars(share: float, width: int) -> str:
    """A bar of at most `width` cells, to an eighth of one; the whole width is 100 %."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + (BLOCKS[eighths % 8] if eighths % 8 else "")


def _printable(text: str) -> str:
    """Line breaks stay; other control characters are signs."""
    return "".join(c if c == "\n" or c.isprintable() else visible(c) for c in text)
