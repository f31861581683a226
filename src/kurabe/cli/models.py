"""kurabe models"""

import json
import re

import click
from msgspec.structs import replace

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.errors import printable
from kurabe.models.files.downloaded import downloaded
from kurabe.models.hosted.connect import connect, listed_provider
from kurabe.models.reference import COMPATIBLE, ENGINES, KEY, Reference, parse_reference
from kurabe.report.format import size


@click.command(cls=Command)
@click.argument("provider")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(provider: str, as_json: bool) -> None:
    """List the models that a provider offers.

    PROVIDER is a name that `kurabe providers` lists, or openai@ADDRESS for any server of that format, with
    ?key=VARIABLE where it needs a key. The provider is asked, with your key. For gguf and hf, the models on this
    machine are listed with their sizes: pulled ones, and those in the folders of the Hugging Face hub and of Ollama.
    """
    if provider in ENGINES:
        _list_downloaded(provider, as_json=as_json)
        return
    name, question, query = provider.partition("?")
    options: dict[str, str] = {}
    if found := re.fullmatch(r"openai@(https?://[^?]+)(?:\?key=(\w+))?", provider):
        options = {KEY: found[2]} if found[2] else {}
        reference, name = Reference(COMPATIBLE, "", options, found[1].rstrip("/")), f"openai@{found[1].rstrip('/')}"
    else:
        listed_provider(name)
        reference = replace(parse_reference(f"{name}:-{question}{query}"), name="")
    with connect(reference) as opened:
        names = opened.models()
    if as_json:
        print_json(json.dumps(names, ensure_ascii=False))
    else:
        for model in names:
            click.echo(printable(str(replace(reference, name=model))))


def _list_downloaded(engine: str, *, as_json: bool) -> None:
    models = downloaded(engine)
    if as_json:
        print_json(json.dumps([model._asdict() for model in models], ensure_ascii=False))
        return
    width = max((len(model.reference) for model in models), default=0)
    for model in models:
        click.echo(printable(f"{model.reference:<{width}}  {size(model.size):>8}  {model.where}"))
    if not models:
        click.echo(f"no model for {engine} is on this machine yet; fetch one with: kurabe pull smollm2-135m", err=True)
