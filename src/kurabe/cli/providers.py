"""kurabe providers"""

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.models.hosted.auth import fill, find_key
from kurabe.models.providers import Provider, providers
from kurabe.models.reference import COMPATIBLE

ELSEWHERE = {"aws": "AWS credentials", "google": "Google Cloud credentials"}


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(as_json: bool) -> None:
    """List the providers and whether a key is set.

    A reference is PROVIDER:MODEL. Keys are shown by name only, never by value.
    """
    rows = [describe(provider) for provider in providers().values()]
    if as_json:
        print_json(json.dumps(rows, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("provider", "", "key", "set in"):
        table.add_column(title, no_wrap=bool(title))
    for row in rows:
        keys = [f"[green]{name}[/]" if name == row["set"] else name for name in row["variables"]]
        keys += [f"[dim]or {row['or']}[/]"] if row["or"] and keys else [row["or"]] if row["or"] else []
        name = "openai@https://…" if row["provider"] == COMPATIBLE else row["provider"]
        state = "keyring" if row["set"] == "keyring" else "environment"
        state = f"[green]{state}[/]" if row["set"] else "[dim]local[/]" if row["local"] else "[dim]–[/]"
        table.add_row(name, escape(row["title"]), "\n".join(keys) or "[dim]none needed[/]", state)
    Console(highlight=False).print(table)


def describe(provider: Provider) -> dict[str, Any]:
    """A provider as plain values; `set` is where its key was found: a variable, `keyring`, or None."""
    found = find_key(provider)
    defaults = {name: option.default for name, option in provider.options.items() if option.default is not None}
    return {
        "provider": provider.name,
        "title": provider.title,
        "variables": list(provider.key),
        "or": ELSEWHERE.get(provider.auth),
        "set": None if found is None else found[1],
        "local": provider.local,
        "address": fill(provider.base_url, defaults),
    }
