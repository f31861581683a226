"""kurabe human"""

import sys
from pathlib import Path

import click
from rich.console import Console

from kurabe.api import Task
from kurabe.cli.main import Command
from kurabe.cli.shared import allow_code_option, task_argument, task_file
from kurabe.contest.person_verdicts import LEAST
from kurabe.contest.sitting import Verified, judge_by_hand, sit
from kurabe.report.format import check_title, count, share


@click.command(cls=Command)
@task_argument
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N test rows, as in `run`.")
@click.option("--judge", is_flag=True, help="Judge pairs of answers that a style check's judge has judged.")
@allow_code_option
@click.option("--seed", type=int, help="The seed that `run` was given, if any.")
def command(task: Path, limit: int | None, judge: bool, seed: int | None, allow_code: tuple[str, ...]) -> None:
    """Answer a task's test rows yourself and join the board.

    Each answer is kept at once: stop when you like (q), and the next session goes on from there. The true values are
    not shown. In the task file, `{human: {rows: 50}}` says how many rows are asked.

    With --judge you are shown pairs of answers from the last run, by whom is hidden, and say which follows the rubric
    better. From ten pairs a contestant on, the board says how often you, not the judge, would prefer its answers.
    """
    path = task_file(task)
    loaded = Task.from_file(path, seed=seed, allow_code=allow_code)
    console = Console()
    ask = console.input if sys.stdin.isatty() else lambda prompt: _next_line()
    try:
        if judge:
            for one in judge_by_hand(loaded, ask=ask, tell=console.print, limit=limit, seed=seed or 0):
                click.echo(_told(one))
            return
        done, total = sit(loaded, ask=ask, tell=console.print, limit=limit, seed=seed or 0)
    except KeyboardInterrupt:
        click.echo("\nStopped. What you answered is kept; the same command goes on from here.", err=True)
        sys.exit(130)
    rest = f"{total - done:,} to go: the same command goes on." if done < total else f"See the board: kurabe run {path}"
    click.echo(f"{done:,} of {count(total, 'row')} answered. {rest}")


def _told(one: Verified) -> str:
    text = f"{check_title(one.label)}: {one.done:,} of {count(one.pairs, 'pair')} judged."
    if one.agreement is not None:
        kappa = "" if one.agreement.kappa is None else f" (Cohen's kappa {one.agreement.kappa:.2f})"
        text += f" The judge agrees with you on {share(one.agreement.agreement)}{kappa}."
    return text + (f" The board is corrected from {LEAST} pairs of a contestant on." if one.done < LEAST else "")


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
