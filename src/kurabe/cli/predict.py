"""kurabe predict"""

import json
from pathlib import Path

import click
import polars as pl

from kurabe.api import load_trained
from kurabe.cli.main import Command
from kurabe.cli.shared import find_run, task_file
from kurabe.contest.board import compute_board
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.errors import ContestantError, DataError
from kurabe.report.files import write_text
from kurabe.tasks.sources import read_table, typed_frame


@click.command(cls=Command)
@click.argument("task", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", type=click.Path(path_type=Path), help="A table with the task's input columns.")
@click.option("--contestant", metavar="NAME", help="Who answers; without it the winner.")
@click.option("--run", "run_id", metavar="ID", help="A run as `kurabe runs` lists it; without it the newest.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write FILE with the answers beside it, as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of the answers.")
def command(
    task: Path,
    texts: tuple[str, ...],
    file: Path | None,
    contestant: str | None,
    run_id: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Let a trained contestant answer new rows.

    Each TEXT is a finished input; with --file the rows of a table are rendered by the task's template.
    """
    if bool(texts) == bool(file):
        raise DataError("give either texts or --file FILE, to say what is to be answered")
    path = task_file(task)
    with Journal(journal_path(path.parent), create=False) as journal:
        run = find_run(journal, path, run_id)
        name = contestant or compute_board(journal.evidence(run)).winner_name
    if name is None:
        raise ContestantError(f"no contestant of the run {run} came through; `kurabe board {path}` says why")
    trained = load_trained(path.parent, run, name)
    table = read_table(str(file), Path.cwd()) if file else None
    answers = trained.predict(list(texts) if table is None else table).tolist()
    if output is not None and table is not None:
        write_text(output, typed_frame(table).with_columns(pl.Series("answer", answers)).write_csv())
        click.echo(f"Wrote {len(answers):,} answers of {name} to {output}")
    elif as_json:
        click.echo(json.dumps(answers, ensure_ascii=False))
    else:
        for answer in answers:
            click.echo(answer)
