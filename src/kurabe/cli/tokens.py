"""kurabe tokens"""

import json
import os
import sys
from collections.abc import Sequence

import click
from rich.cells import cell_len
from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.errors import InputError, KurabeError
from kurabe.lens.tokenizers import check_tokenizer
from kurabe.lens.tokens import SAMPLES, Token, Tokens, sample_tokens, tokens
from kurabe.report.format import count

COLOURS = ("#2f5d8a", "#8a4b2f", "#2f7a52", "#7a3d73", "#6b6a24")
NARROWEST = 34
"""Columns of one tokenizer; where the terminal has fewer for each, they stand below each other."""


@click.command(cls=Command)
@click.argument("words", metavar='REF... "TEXT"', nargs=-1, required=True)
@click.option("--samples", is_flag=True, help="Compare the tokenizers on built-in texts instead of TEXT.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object a tokenizer.")
def command(words: tuple[str, ...], samples: bool, as_json: bool) -> None:
    """Show how tokenizers cut a text, side by side.

    REF is a model on this machine (gguf:…, hf:…, wordllama:256), a model of OpenAI's or an encoding (openai:gpt-5.1,
    tiktoken:o200k_base), or another hosted model, whose tokens are only counted. TEXT stands last, and - reads it from
    standard input. Below each token stands its number. A space is ·, a new line ↵; ‹日1–2/3› holds two of the three
    bytes of 日, and ‹E6› a byte of no character. Special tokens are underlined.
    """
    if samples:
        _samples(words, as_json)
        return
    references, text = _split(words)
    found = [tokens(reference, text) for reference in references]
    if as_json:
        print_json(json.dumps([each.as_dict() for each in found], ensure_ascii=False))
        return
    console = _console()
    console.print(side_by_side(found, console.width, marks=not console.is_terminal or console.no_color))


def _console() -> Console:
    console = Console()
    width = console.width if console.is_terminal or "COLUMNS" in os.environ else 120
    return Console(width=width, highlight=False)


def _samples(references: Sequence[str], as_json: bool) -> None:
    """Characters per token of each tokenizer for each of the built-in texts."""
    for reference in references:
        check_tokenizer(reference)
    found = {reference: sample_tokens(reference) for reference in references}
    if as_json:
        values = [
            {"reference": name, "samples": {kind: each.as_dict() for kind, each in cut.items()}}
            for name, cut in found.items()
        ]
        print_json(json.dumps(values, ensure_ascii=False))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("tokens, characters a token", overflow="fold")
    for kind in SAMPLES:
        table.add_column(kind, justify="right")
    for name, cut in found.items():
        cells = [f"{each.count} · {len(each.text) / max(each.count, 1):.2f}" for each in cut.values()]
        table.add_row(Text(name, "bold"), *cells)
    table.add_row(Text("characters", "dim"), *(Text(str(len(text)), "dim") for text in SAMPLES.values()))
    console = _console()
    console.print(table)
    for name, cut in found.items():
        for doubt in next(iter(cut.values())).doubts:
            console.print(_doubt(f"{name}: {doubt}"))


def _doubt(text: str) -> Text:
    return Text(f"✗ {text}", "yellow")


def _split(words: tuple[str, ...]) -> tuple[list[str], str]:
    *references, text = words
    if not references or _is_reference(text):
        raise InputError('name tokenizers and a text, which stands last: kurabe tokens REF REF "TEXT"')
    for reference in references:
        check_tokenizer(reference)  # a typing mistake is said before a model is opened
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    return references, text


def _is_reference(text: str) -> bool:
    try:
        check_tokenizer(text)
    except KurabeError:
        return False
    return " " not in text


def side_by_side(found: Sequence[Tokens], width: int, *, marks: bool) -> Table | Group:
    """One column for each tokenizer, or one below the other where there is no room. `marks`: a bar between tokens, for
    what shows no colours."""
    room = width // len(found) - 2
    if len(found) == 1 or room < NARROWEST:
        return Group(*(Group(_shown(each, width, marks), "") for each in found))
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in found:
        table.add_column(width=room, no_wrap=True)
    table.add_row(*(_shown(each, room, marks) for each in found))
    return table


def _shown(each: Tokens, width: int, marks: bool) -> Group:
    facts = f"{count(each.count, 'token')} of {count(len(each.text), 'character')}"
    if each.counted is not None:
        facts += ", as the provider counts them with the turn around them; it shows no tokens"
    kinds = [f"{name}: {characters:,} in {count(of, 'token')}" for name, (characters, of) in each.kinds.items()]
    lines = [line for pair in _lines(each.tokens, width, marks) for line in pair]
    return Group(
        Text(each.reference, "bold", overflow="fold", no_wrap=False),
        Text(facts, overflow="fold", no_wrap=False),
        *(_doubt(doubt) for doubt in each.doubts),
        *(Text(kind, "dim") for kind in kinds),
        Text(),
        *lines,
    )


def _lines(found: Sequence[Token], width: int, marks: bool) -> list[tuple[Text, Text]]:
    """Lines of tokens, each with the line of their numbers."""
    lines: list[tuple[Text, Text]] = []
    used = width + 1
    for place, token in enumerate(found):
        shown = token.shown or "∅"
        while cell_len(shown) > width - 1:
            shown = shown[: max(len(shown) * (width - 2) // cell_len(shown), 1)] + "…"
        size = max(cell_len(shown), len(str(token.id)))
        if used + size + 1 > width:
            lines.append((Text(no_wrap=True), Text(no_wrap=True)))
            used = 0
        above, below = lines[-1]
        style = Style(color="white", bgcolor=COLOURS[place % len(COLOURS)], underline=token.special or None)
        above.append(shown + " " * (size - cell_len(shown)), style)
        above.append("│" if marks else " ")
        below.append(str(token.id).ljust(size + 1), "dim")
        used += size + 1
        if token.shown.endswith("↵"):
            used = width + 1
    return lines
