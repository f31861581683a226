"""kurabe predict"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import click
import polars as pl

from kurabe.api import load_trained, load_winner
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.shared import allow_code_option, find_run, task_file
from kurabe.contest.board import compute_board
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.errors import DataError, printable
from kurabe.report.data import csv_text
from kurabe.report.files import is_standard_output, write_text
from kurabe.report.format import count
from kurabe.tasks.file import load_spec
from kurabe.tasks.rows import empty_columns, rows_from_texts
from kurabe.tasks.sources import read_table, typed_like
from kurabe.tasks.task import INPUT


@click.command(cls=Command)
@click.argument("task", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", type=click.Path(path_type=Path), help="A table with the task's input columns.")
@click.option("--contestant", metavar="NAME", help="Who answers; without it the winner.")
@click.option("--run", "run_id", metavar="ID", help="A run as `kurabe runs` lists it; without it the newest.")
@allow_code_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the rows or texts with their answers, as CSV; `-` for standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of the answers.")
def command(
    task: Path,
    texts: tuple[str, ...],
    file: Path | None,
    contestant: str | None,
    run_id: str | None,
    allow_code: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Let a trained contestant answer new rows.

    Each TEXT is a finished input; with --file the rows of a table are rendered by the task's template.
    """
    if bool(texts) == bool(file):
        raise DataError("give either texts or --file FILE, to say what is to be answered")
    if file and output and file.resolve() == output.resolve():
        raise DataError(f"{output} is the table to be answered, and -o would write over it. Name another file")
    path = task_file(task)
    with Journal(journal_path(path.parent), create=False) as journal:
        run = find_run(journal, path, run_id)
        evidence = journal.evidence(run)
    spec = load_spec(path)
    if contestant:
        trained = load_trained(path.parent, run, contestant, spec, allow_code)
    else:
        trained = load_winner(path.parent, compute_board(evidence), spec, allow_code)
    if file:
        table = read_table(str(file), Path.cwd(), spec.data.encoding)
        asked = table.frame
        rows = trained.inputs(typed_like(table, evidence.rows.schema))
    else:
        asked = pl.DataFrame({INPUT: texts})
        rows = rows_from_texts(trained.spec, texts, trained.columns)
        if empty := empty_columns(trained.spec, trained.columns):
            listed = ", ".join(map(repr, empty))
            click.echo(f"Note: a text leaves {listed} empty; give a table by --file to fill these columns.", err=True)
    answers = trained.estimator.predict(rows).tolist()
    if output:
        free = next(column for column in _answer_names() if column not in asked.columns)
        write_text(output, csv_text(asked.with_columns(pl.Series(free, answers))))
        click.echo(
            f"Wrote {count(len(answers), 'answer')} of {trained.label} to {output}", err=is_standard_output(output)
        )
    elif as_json:
        print_json(json.dumps(answers, ensure_ascii=False))
    else:
        for answer in answers:
            click.echo(printable(str(answer)))


def _answer_names() -> Iterator[str]:
    """`answer`, `answer_2`, `answer_3` …"""
    yield "answer"
    yield from (f"answer_{number}" for number in itertools.count(2))
