"""kurabe new"""

from pathlib import Path

import click

from kurabe.cli.main import Command
from kurabe.errors import TaskError
from kurabe.report.files import is_standard_output, write_text
from kurabe.tasks.sources import STANDARD_INPUT, find_files
from kurabe.tasks.suggest import suggest


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", metavar="COLUMN", help="The column that must come out.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where to write; without it task.yaml beside FILE; `-` for standard output.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def command(file: Path, target: str | None, output: Path | None, force: bool) -> None:
    """Look at a table and write a first task file.

    FILE is csv, tsv, jsonl, parquet, Arrow (arrow, feather, ipc) or Excel (xlsx, xlsb, xls, ods); - is standard input.
    The task file has comments that say what was guessed and what can be changed.
    """
    if str(file) != STANDARD_INPUT:
        find_files(file.name, file.parent)
    output = output or file.with_name("task.yaml")
    if output.exists() and not force and not is_standard_output(output):
        raise TaskError(f"{output} is there already; choose another with -o, or write over it with --force")
    write_text(output, suggest(file, target, output.parent))
    if not is_standard_output(output):
        click.echo(f"Wrote {output}. Look at it, then: kurabe run {output}")
