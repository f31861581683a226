"""What several commands need: finding a task's run, and printing a board."""

import functools
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import ParamSpec

import click
from rich.console import Console

from kurabe.contest.board import Board, compute_board
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.errors import JournalError, TaskError, missing
from kurabe.report.terminal import board_table
from kurabe.tasks.file import load_spec
from kurabe.tuning.processes import World, together

Given = ParamSpec("Given")

allow_code_option = click.option(
    "--allow-code",
    multiple=True,
    metavar="NAME",
    help="Let the task file run this code of others (a module with estimators, a program, or a model's own code), send"
    " a key to this address (https://HOST), or load a saved contestant that can't be checked (sha256:…); may be given"
    " several times.",
)
seed_option = click.option(
    "--seed", type=int, help="Seed of the split and of everything random; without it the task file's."
)
task_argument = click.argument("task", type=click.Path(path_type=Path), default=Path())


def _assist(world: World) -> None:
    from kurabe.tuning.train import assist  # torch is loaded where it is needed

    assist(world)


def in_first(command: Callable[Given, None]) -> Callable[Given, None]:
    """Of several processes that were started together, run the command in the first; the others help it to tune."""

    @functools.wraps(command)
    def run(*args: Given.args, **options: Given.kwargs) -> None:
        with together(_assist) as first:
            if first:
                command(*args, **options)

    return run


def task_file(path: Path) -> Path:
    """The task file a person means: the file itself, or the one in the folder. Raises TaskError."""
    if not path.is_dir():
        return path
    if (path / "task.yaml").exists():
        return path / "task.yaml"
    found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if len(found) == 1:
        return found[0]
    what = f"several: {', '.join(file.name for file in found)}; name one" if found else "none; `kurabe new` writes one"
    raise TaskError(f"which task file in {path}? There are {what}" if found else f"no task file in {path}: {what}")


def load_board(task: Path, run: str | None) -> Board:
    """The board of a run: the one named, or the newest of the task. Raises JournalError if there has been no run."""
    path = task_file(task)
    with Journal(journal_path(path.parent), create=False) as journal:
        return compute_board(journal.evidence(find_run(journal, path, run)))


def find_run(journal: Journal, path: Path, run: str | None) -> str:
    """The id of the run that is named, or of the newest run of the task file's task."""
    known = journal.runs()
    if run is not None:
        if run not in [info.id for info in known]:
            raise JournalError(missing("run", run, [info.id for info in known]))
        return run
    spec = load_spec(path)
    for info in known:
        if (info.task, info.kind, journal.target(info.id)) == (spec.name, spec.kind, spec.target):
            return info.id
    raise JournalError(f"the task {spec.name!r} has not been run yet; start with: kurabe run {path}")


def print_board(board: Board) -> None:
    """Show a board on standard output, as wide as the terminal is."""
    console = Console()
    width = console.width if console.is_terminal or "COLUMNS" in os.environ else 120
    console = Console(width=width, file=sys.stdout)
    console.print(board_table(board, width))


def exit_without_score(board: Board, labels: Collection[str]) -> None:
    """End with 3 where not one of these contestants has a score, so that a script sees it."""
    if all(row.score is None for row in board.rows if row.contestant in labels):
        sys.exit(3)
