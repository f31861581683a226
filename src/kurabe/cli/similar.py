"""kurabe similar"""

import json
import os
import sys
from pathlib import Path
from textwrap import wrap

import click
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.pages import check_page
from kurabe.errors import InputError
from kurabe.lens.similar import MODEL, MOST, Similar, picked, similar
from kurabe.lens.texts import read_texts, split_lines
from kurabe.lens.tokens import visible
from kurabe.report.format import count
from kurabe.tasks.readers import SUFFIXES

SHADES = ((24, 28, 44), (38, 66, 110), (44, 122, 142), (94, 190, 122), (250, 230, 90))
"""From the least similarity to the greatest, by even steps."""
SIGNS = " ░▒▓█"
LEAST_NAME = 18
WIDE = 4  # columns of a cell with its number
NARROW = 2


@click.command(cls=Command)
@click.argument("words", metavar="FILE|TEXT...", nargs=-1, required=True)
@click.option("--model", metavar="REF", default=MODEL, show_default=True, help="The embedding model.")
@click.option("--column", metavar="NAME", help="The column of a CSV, TSV, JSON Lines or parquet file.")
@click.option("--clusters", type=click.IntRange(min=1), metavar="N", help="How many clusters, instead of the best cut.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="An HTML page to write.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    words: tuple[str, ...], model: str, column: str | None, clusters: int | None, output: Path | None, as_json: bool
) -> None:
    """Show which texts are alike.

    FILE has a text in each line, or is a table with the column `text`, or --column; - is standard input. Of more than
    2,000 texts, that many at even distances are taken. Each cell is the cosine similarity of two texts, times 100
    where there is room for it. Rows stand cluster by cluster, and each cluster is named by its most typical text. With
    --output, a page that opens offline has the picture and a map.
    """
    check_page(output)
    texts = _texts(words, column)
    if len(texts) > MOST:
        click.echo(f"{MOST:,} of {len(texts):,} texts are compared, at even distances.", err=True)
        texts = [texts[place] for place in picked(range(len(texts)), MOST)]
    found = similar(texts, model=model, clusters=clusters)
    if output is not None:
        from kurabe.report.files import write_text
        from kurabe.report.similar import similar_html

        write_text(output, similar_html(found))
    if as_json:
        print_json(json.dumps(found.as_dict(), ensure_ascii=False))
        return
    console = Console()
    width = console.width if console.is_terminal or "COLUMNS" in os.environ else 120
    marks = not console.is_terminal or console.no_color
    Console(width=width, highlight=False, soft_wrap=True).print(heatmap(found, width, marks=marks))
    if output is not None:
        click.echo(f"The page is {output}.", err=True)


def _texts(words: tuple[str, ...], column: str | None) -> list[str]:
    """The texts themselves, or those of the one file; blank ones are left out. Raises InputError and DataError."""
    if len(words) > 1:
        if column is not None:
            raise InputError("--column is that of one file, and these are texts")
        return list(words)
    (name,) = words
    if name == "-":
        return split_lines(sys.stdin.buffer.read(), name)
    try:
        there = Path(name).is_file() or Path(name).suffix.lower() in SUFFIXES
    except (OSError, ValueError) as error:
        raise InputError(f"{name!r:.80} cannot be read: {error}") from None
    if not there:
        raise InputError(f"there is no file {name!r}; name a file with a text in each line, or give several texts")
    return read_texts(name, column, usual=("text", "title", "input", "prompt"))


def heatmap(found: Similar, width: int, *, marks: bool) -> Text:
    """Clusters with their texts and a row of cells for each; where there is no room for all, texts at even distances.

    `marks`: shades of signs, for what shows no colours.
    """
    cell = WIDE if width - len(found.texts) * WIDE - 6 >= LEAST_NAME else NARROW
    shown = picked(found.order, max((width - LEAST_NAME - 6) // cell, 1))
    names = min(width - cell * len(shown) - 6, max(cell_len(_cut(text, width)) for text in found.texts))
    places = {member: place for place, member in enumerate(shown, 1)}
    low = min(float(found.similarities.min()), 0.0)
    lines = [Text(line, "bold") for line in wrap(_facts(found), width)] + [Text()]
    if cell == WIDE:
        lines.append(Text(" " * (names + 6) + "".join(f"{place:>{cell}}" for place in range(1, len(shown) + 1)), "dim"))
    for number, cluster in enumerate(found.clusters, 1):
        if not (members := [member for member in cluster.members if member in places]):
            continue
        size = f" ({len(cluster.members):,})"
        lines.append(Text(f"{number} {_cut(cluster.name, width - len(size) - 3)}{size}", "bold"))
        for member in members:
            line = Text(f"{places[member]:>4} {set_cell_size(_cut(found.texts[member], names), names)} ")
            for other in shown:
                value = float(found.similarities[member, other])
                share = (value - low) / (1.0 - low)
                sign = (
                    f"{round(value * 100)}".rjust(WIDE) if cell == WIDE else (_sign(share) if marks else " ") * NARROW
                )
                line.append(sign, None if marks else _style(share))
            lines.append(line)
    if len(shown) < len(found.texts):
        note = f"{len(shown)} of {len(found.texts):,} are shown, at even distances."
        lines += [Text(), Text(_cut(note, width), "dim")]
    return Text("\n").join(lines)


def _facts(found: Similar) -> str:
    set_apart = f", silhouette {found.silhouette:.2f}" if found.silhouette is not None else ""
    return f"{count(len(found.texts), 'text')} in {count(len(found.clusters), 'cluster')} by {found.model}{set_apart}"


def _sign(share: float) -> str:
    return SIGNS[min(int(max(share, 0.0) * len(SIGNS)), len(SIGNS) - 1)]


def _style(share: float) -> Style:
    place = min(max(share, 0.0), 1.0) * (len(SHADES) - 1)
    under = min(int(place), len(SHADES) - 2)
    mixed = [a + (b - a) * (place - under) for a, b in zip(SHADES[under], SHADES[under + 1], strict=True)]
    return Style(color="black" if share > 0.6 else "white", bgcolor=Color.from_rgb(*mixed).name)


def _cut(text: str, width: int) -> str:
    """One line of at most `width` columns."""
    line = "".join(c if c.isprintable() else visible(c) for c in text)
    return line if cell_len(line) <= width else set_cell_size(line, max(width - 1, 0)).rstrip() + "…"
