"""kurabe human"""

import sys
from pathlib import Path

import click
from rich.console import Console

from kurabe.api import Task
from kurabe.cli.main import Command
from kurabe.cli.shared import allow_code_option, task_argument, task_file
from kurabe.contest.sitting import sit
from kurabe.report.format import count


@click.command(cls=Command)
@task_argument
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first so many test rows, as in `run`.")
@allow_code_option
@click.option("--seed", type=int, help="The seed that `run` was given, if any.")
def command(task: Path, limit: int | None, seed: int | None, allow_code: tuple[str, ...]) -> None:
    """Answer a task's test rows yourself and join the board.

    Each answer is kept at once: stop when you like (q), and the next session goes on from there. The true values are
    not shown. In the task file, `{human: {rows: 50}}` says how many rows are asked.
    """
    path = task_file(task)
    loaded = Task.from_file(path, seed=seed, allow_code=allow_code)
    console = Console()
    ask = console.input if sys.stdin.isatty() else lambda prompt: _next_line()
    try:
        done, total = sit(loaded, ask=ask, tell=console.print, limit=limit, seed=seed or 0)
    except KeyboardInterrupt:
        click.echo("\nStopped. What you answered is kept; the same command goes on from here.", err=True)
        sys.exit(130)
    rest = f"{total - done:,} to go: the same command goes on." if done < total else f"See the board: kurabe run {path}"
    click.echo(f"{done:,} of {count(total, 'row')} answered. {rest}")


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
