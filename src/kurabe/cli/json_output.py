"""Printing JSON on standard output."""

import json
import re
import sys

import click

from kurabe.errors import printable

_SURROGATE = re.compile("[\ud800-\udfff]")


def print_json(text: str) -> None:
    """Print a JSON text, and nothing else, on standard output.

    On a terminal, characters that it would obey or that hide text are written as escapes, which mean the same to a
    reader of JSON. Half a surrogate pair, which UTF-8 cannot hold, is always written as an escape.
    """
    if sys.stdout.isatty():
        text = "".join(character if printable(character) else _escaped(character) for character in text)
    click.echo(_SURROGATE.sub(lambda match: _escaped(match[0]), text))


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]
