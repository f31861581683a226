"""kurabe embed"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from kurabe.cli.main import Command
from kurabe.errors import InputError, missing
from kurabe.models.shortcuts import embed
from kurabe.report.format import count

AT_ONCE = 2_000
"""Texts between two steps of the progress; each step is sent in the provider's batches, side by side."""
ENDINGS = (".npy", ".jsonl", ".parquet")


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write: .npy, .jsonl or .parquet.")
def command(reference: str, texts: tuple[str, ...], output: Path | None) -> None:
    """Turn texts into vectors.

    Each TEXT, or without one each line of standard input, becomes one vector. Without --output they are JSON lines on
    standard output: {"text": …, "embedding": […]}.
    """
    if output is not None and output.suffix not in ENDINGS:
        raise InputError(f"{output}: {missing('file ending', output.suffix, ENDINGS)}")
    if not texts and sys.stdin.isatty():
        raise InputError("give texts, or pipe some in, a line each")
    lines = iter(texts) if texts else _lines()
    if output is None:
        for part, vectors in _embedded(reference, lines, len(texts) or None):
            click.echo(_frame(part, vectors).write_ndjson(), nl=False)
        return
    parts = list(_embedded(reference, lines, len(texts) or None))
    if not parts:
        raise InputError("there are no texts: standard input is empty")
    vectors = np.concatenate([vectors for _, vectors in parts])
    _write(output, [text for part, _ in parts for text in part], vectors)
    click.echo(f"{count(len(vectors), 'vector')} of {vectors.shape[1]:,} numbers in {output}", err=True)


def _lines() -> Iterator[str]:
    """Lines of standard input as they come."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"line {number} of standard input is not UTF-8") from None
        if not text.strip():
            raise InputError(f"line {number} of standard input is empty, and an empty text has no vector")
        yield text


def _embedded(reference: str, texts: Iterator[str], total: int | None) -> Iterator[tuple[list[str], np.ndarray]]:
    """(texts, (n, d) float32) a step, with a bar on standard error."""
    bar = Progress(
        BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True),
        transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=total)
        while part := list(islice(texts, AT_ONCE)):
            yield part, embed(reference, part)
            bar.advance(task, len(part))


def _frame(texts: Sequence[str], vectors: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"text": texts, "embedding": pl.Series(vectors)})


def _write(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """Write the file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            if path.suffix == ".npy":
                np.save(file, vectors, allow_pickle=False)
            elif path.suffix == ".jsonl":
                _frame(texts, vectors).write_ndjson(file)
            else:
                _frame(texts, vectors).write_parquet(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
