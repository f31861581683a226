"""kurabe pull"""

from pathlib import Path

import click

from kurabe.cli.main import Command
from kurabe.models.files.catalog import catalog
from kurabe.models.files.download import Progress as Report
from kurabe.models.hosted import ollama
from kurabe.models.pull import pull
from kurabe.models.reference import parse_reference
from kurabe.report.progress import Progress


@click.command(cls=Command, epilog="Short names: " + ", ".join(catalog()))
@click.argument("reference")
def command(reference: str) -> None:
    """Fetch a model to this machine.

    REFERENCE is a short name; gguf:owner/repo/file.gguf or hf:owner/repo[?revision=…] of the Hugging Face hub, also
    with sentence-transformers: or model2vec:; or ollama:NAME, which Ollama's server fetches. What is there already
    stays, what was cut goes on, and the disk is looked at first. HF_TOKEN opens gated models, HF_ENDPOINT names a
    mirror.
    """
    name = reference.partition("?")[0]
    with Progress() as progress:
        path = _pull(reference, lambda done, total: progress.fetching(name, done, total))
    click.echo(reference if path is None else str(path))


def _pull(reference: str, progress: Report) -> Path | None:
    if reference.startswith("ollama:"):
        ollama.pull(parse_reference(reference), progress)
        return None
    return pull(reference, progress)
