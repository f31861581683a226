"""kurabe run"""

import json
import sys
from pathlib import Path

import click

from kurabe.api import Task
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.shared import (
    allow_code_option,
    exit_without_score,
    in_first,
    load_board,
    print_board,
    seed_option,
    task_argument,
    task_file,
)
from kurabe.contest.prepare import is_meant
from kurabe.contest.run import run
from kurabe.errors import JournalError
from kurabe.report.progress import Progress


@click.command(cls=Command)
@task_argument
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N test rows.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="What the run may take: the best use of the time runs first, and what can't be ready is left out.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Have N processes learn at the same time. By default one a core, if there is enough to learn; 1: none.",
)
@click.option(
    "--race/--no-race",
    default=None,
    help="Ask language models no further once they are shown not to be the winner. By default as the task says.",
)
@click.option(
    "--on",
    default="local",
    metavar="WHERE",
    help="Where contestants learn: local; ray, at RAY_ADDRESS or started here; ray:HOST:PORT; ray://HOST:PORT.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Run only this contestant; may be given several times.")
@allow_code_option
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print the board as one JSON object.")
@in_first
def command(
    task: Path,
    limit: int | None,
    minutes: float | None,
    jobs: int | None,
    race: bool | None,
    on: str,
    only: tuple[str, ...],
    seed: int | None,
    allow_code: tuple[str, ...],
    as_json: bool,
) -> None:
    """Let a task's contestants compete and show the board.

    TASK is a task file or a folder that holds one. Run it again to go on after a stop: no prediction is made twice.
    It ends with 3 where no contestant has a score.
    """
    path = task_file(task)
    loaded = Task.from_file(path, seed=seed, allow_code=allow_code)
    try:
        with Progress(stays=not sys.stdout.isatty()) as progress:
            board = run(
                loaded, only=only, limit=limit, minutes=minutes, seed=seed or 0, jobs=jobs, race=race, on=on,
                observer=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        click.echo("\nStopped. What was answered is kept; the same command goes on from here.", err=True)
        if not as_json:
            _show_what_there_is(path)
        sys.exit(130)
    if as_json:
        print_json(json.dumps(board.to_dict(), ensure_ascii=False))
    else:
        print_board(board)
        click.echo(f"\nSee it all: kurabe report {path}", err=True)
    exit_without_score(board, [row.contestant for row in board.rows if is_meant(row.contestant, only)])


def _show_what_there_is(path: Path) -> None:
    try:
        print_board(load_board(path, None))
    except JournalError:
        return
