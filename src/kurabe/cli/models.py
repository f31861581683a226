"""kurabe models"""

import json
import re

import click

from kurabe.cli.main import Command
from kurabe.models.connect import connect, listed_provider
from kurabe.models.reference import COMPATIBLE, KEY, Reference


@click.command(cls=Command)
@click.argument("provider")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(provider: str, as_json: bool) -> None:
    """List the models that a provider offers.

    PROVIDER is a name that `kurabe providers` lists, or openai@ADDRESS for any server of that format, with
    ?key=VARIABLE where it needs a key. The provider is asked, with your key.
    """
    options: dict[str, str] = {}
    if found := re.fullmatch(r"openai@(https?://[^?]+)(?:\?key=(\w+))?", provider):
        options = {KEY: found[2]} if found[2] else {}
        reference, prefix = Reference(COMPATIBLE, "", options, found[1].rstrip("/")), f"openai@{found[1].rstrip('/')}"
    else:
        reference, prefix = Reference(listed_provider(provider).name, ""), provider
    query = "".join(f"?{name}={value}" for name, value in options.items())
    with connect(reference) as opened:
        names = opened.models()
    if as_json:
        click.echo(json.dumps(names, ensure_ascii=False))
    else:
        for name in names:
            click.echo(f"{prefix}:{name}{query}")
