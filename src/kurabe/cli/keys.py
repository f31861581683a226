"""kurabe keys"""

import json
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command, debug_option
from kurabe.cli.providers import describe
from kurabe.errors import InputError, MissingExtraError, missing
from kurabe.models.hosted.auth import SERVICE, Key, keyring_name
from kurabe.models.hosted.connect import listed_provider
from kurabe.models.providers import Provider, providers


class Keys(click.Group):
    """A group that says the nearest command."""

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            context.fail(missing("command", args[0], self.commands))
        return super().resolve_command(context, args)


@click.group(cls=Keys)
def command() -> None:
    """Keep providers' keys in the system's keyring.

    A variable of the environment comes before the keyring.
    """


command.params.append(debug_option())


@command.command("set", cls=Command)
@click.argument("provider")
def set_key(provider: str) -> None:
    """Keep a provider's key: typed unseen, or from standard input."""
    row = _provider(provider)
    typed = _typed(row) if sys.stdin.isatty() else sys.stdin.readline()
    if not typed.strip():
        raise InputError("no key was given")
    key = Key(typed.strip())
    _with_keyring(row, lambda keyring: keyring.set_password(SERVICE, keyring_name(row), key.reveal()))
    click.echo(f"The key of {row.title} is in the keyring.")
    if (found := describe(row)["set"]) != "keyring":
        click.echo(f"Note: {found} is set in the environment and comes before it.", err=True)


@command.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_keys(as_json: bool) -> None:
    """List the providers that have a key, and where it is."""
    rows = [row for row in map(describe, providers().values()) if row["set"]]
    if as_json:
        print_json(json.dumps([{"provider": row["provider"], "set": row["set"]} for row in rows]))
        return
    if not rows:
        click.echo("No key is set. Set one in the environment (`kurabe providers` names the variables), or run: kurabe"
                   " keys set PROVIDER")  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("provider", "", "where"):
        table.add_column(title)
    for row in rows:
        table.add_row(row["provider"], row["title"], row["set"])
    Console(highlight=False).print(table)


@command.command("delete", cls=Command)
@click.argument("provider")
def delete_key(provider: str) -> None:
    """Take a provider's key out of the keyring."""
    row = _provider(provider)
    if _with_keyring(row, lambda keyring: keyring.get_password(SERVICE, keyring_name(row))) is None:
        raise InputError(f"the keyring holds no key of {row.title}")
    _with_keyring(row, lambda keyring: keyring.delete_password(SERVICE, keyring_name(row)))
    click.echo(f"The key of {row.title} is no longer in the keyring.")


def _typed(row: Provider) -> str:
    return str(click.prompt(f"Key of {row.title}", hide_input=True, err=True))


def _provider(name: str) -> Provider:
    row = listed_provider(name)
    if not row.key:
        raise InputError(f"{row.title} needs no key")
    return row


def _with_keyring(row: Provider, use: Callable[[Any], Any]) -> Any:
    """Use the system's keyring; without one, say which variable to set instead."""
    instead = f"set {row.key[0]} in the environment instead"
    try:
        import keyring
        from keyring.errors import KeyringError, NoKeyringError
    except ImportError:
        error = MissingExtraError("the system's keyring", "keyring")
        raise InputError(f"{error}; or {instead}") from None
    try:
        return use(keyring)
    except NoKeyringError:
        raise InputError(f"this machine has no keyring; {instead}") from None
    except (KeyringError, RuntimeError, OSError) as error:
        raise InputError(f"the keyring can't be used ({error}); {instead}") from None
