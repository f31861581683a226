"""kurabe embed"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from kurabe.cli.main import Command
from kurabe.errors import InputError, missing
from kurabe.models.embeddings import DEFAULT, Embedder, open_embedder
from kurabe.report.files import is_standard_output
from kurabe.report.format import count

ENDINGS = (".npy", ".jsonl", ".parquet")


@click.command(cls=Command)
@click.argument("reference", metavar="[REF]", default=DEFAULT)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--dimensions", type=click.IntRange(min=1), metavar="N", help="Cut vectors, where the model allows it.")
@click.option("--cache", is_flag=True, help="Keep vectors, and make none again that is kept.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write: .npy, .jsonl or .parquet.")
def command(reference: str, texts: tuple[str, ...], dimensions: int | None, cache: bool, output: Path | None) -> None:
    """Turn texts into vectors of length 1.

    REF is wordllama:256 and the like, which needs no download, sentence-transformers:NAME, model2vec:NAME, spacy:NAME,
    a hosted model or a GGUF file. It stands before the texts; without any argument it is wordllama:256. Each TEXT, or
    without one each line of standard input, becomes one vector; that of an empty line is all zeros. Without --output
    they are JSON lines on standard output: {"text": …, "embedding": […]}.
    """
    if is_standard_output(output):
        output = None
    if output is not None and output.suffix not in ENDINGS:
        raise InputError(f"{output}: {missing('file ending', output.suffix, ENDINGS)}")
    if output is not None and not output.parent.is_dir():  # said before a model is loaded or paid for
        raise InputError(f"{output} cannot be written: there is no folder {output.parent}")
    if ":" not in reference:
        raise InputError(
            f"{reference!r:.60} names no model, which stands before the texts: kurabe embed {DEFAULT} TEXT…"
        )
    if not texts and sys.stdin.isatty():
        raise InputError("give texts, or pipe some in, a line each")
    with open_embedder(reference, cache=cache) as embedder:
        total = len(texts) if texts else _count_lines()
        steps = _embedded(embedder, iter(texts) if texts else _lines(), dimensions, total)
        if output is None:
            for part, vectors in steps:
                click.echo(_frame(part, vectors).write_ndjson(), nl=False)
            return
        first = next(steps, None)
        if first is None:
            raise InputError("there are no texts: standard input is empty")
        size = _write(output, chain([first], steps))
    click.echo(f"{count(size, 'vector')} of {first[1].shape[1]:,} numbers in {output}", err=True)


def _count_lines() -> int | None:
    """Lines that standard input still has, where it is a file; None for a pipe."""
    if not sys.stdin.isatty() and sys.stdin.buffer.seekable():
        at = sys.stdin.buffer.tell()
        lines = sum(1 for _ in sys.stdin.buffer)
        sys.stdin.buffer.seek(at)
        return lines
    return None


def _lines() -> Iterator[str]:
    """Lines of standard input as they come."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"line {number} of standard input is not UTF-8") from None
        yield text


def _embedded(
    embedder: Embedder, texts: Iterator[str], dimensions: int | None, total: int | None
) -> Iterator[tuple[list[str], np.ndarray]]:
    """(texts, (n, d) float32) a step, with a bar on standard error."""
    bar = Progress(
        BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=total)
        for part, vectors in embedder.embed_batches(texts, dimensions=dimensions):
            yield part, vectors
            bar.advance(task, len(part))


def _frame(texts: Sequence[str], vectors: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"text": texts, "embedding": pl.Series(vectors)})


def _write(path: Path, steps: Iterator[tuple[list[str], np.ndarray]]) -> int:
    """Write the file whole or not at all; how many vectors it has."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            size = {".npy": _write_npy, ".jsonl": _write_lines, ".parquet": _write_parquet}[path.suffix](file, steps)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return size


def _write_npy(file: BinaryIO, steps: Iterator[tuple[list[str], np.ndarray]]) -> int:
    """As the vectors come; the header, which leaves room for any number of rows, is written again at the end."""
    size = width = 0

    def header() -> None:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (size, width)}
        np.lib.format.write_array_header_1_0(file, shape)

    for _, vectors in steps:
        if not size:
            width = vectors.shape[1]
            header()
        file.write(np.ascontiguousarray(vectors, "<f4").data)
        size += len(vectors)
    file.seek(0)
    header()
    return size


def _write_lines(file: BinaryIO, steps: Iterator[tuple[list[str], np.ndarray]]) -> int:
    size = 0
    for texts, vectors in steps:
        _frame(texts, vectors).write_ndjson(file)
        size += len(texts)
    return size


def _write_parquet(file: BinaryIO, steps: Iterator[tuple[list[str], np.ndarray]]) -> int:
    frame = pl.concat([_frame(texts, vectors) for texts, vectors in steps])
    frame.write_parquet(file)
    return frame.height
