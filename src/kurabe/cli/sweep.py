"""kurabe sweep"""

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.shared import allow_code_option, exit_without_score, in_first, task_argument, task_file
from kurabe.contest.board import Board, BoardRow
from kurabe.contest.prepare import swept_labels
from kurabe.contest.run import run
from kurabe.contest.sweeps import SweepResult, sweep_result
from kurabe.report import format as fmt
from kurabe.report.data import finite
from kurabe.report.learning import chose, last_gain, setting_text, sweep_dict
from kurabe.report.progress import Progress
from kurabe.tasks.task import Task


@click.command(cls=Command)
@task_argument
@click.option("--contestant", metavar="NAME", help="Only the sweep of that name, or over that contestant.")
@allow_code_option
@click.option("--seed", type=int, default=None, help="For everything random; without it the task file's.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
@in_first
def command(task: Path, contestant: str | None, seed: int | None, allow_code: tuple[str, ...], as_json: bool) -> None:
    """Choose settings by a task's sweeps and show what they found.

    TASK is a task file or a folder that holds one. Settings are chosen on the validation part; the test part is scored
    once, for the setting chosen. Run it again to go on after a stop: no trial is made or paid for twice. It ends with 3
    where nothing swept has a score.
    """
    path = task_file(task)
    loaded = Task.from_file(path, seed=seed, allow_code=allow_code)
    labels = swept_labels(loaded, contestant)
    try:
        with Progress() as progress:
            board = run(loaded, only=labels, seed=seed or 0, observer=progress)
    except KeyboardInterrupt:
        click.echo("\nStopped. The trials made are kept; the same command goes on from here.", err=True)
        sys.exit(130)
    entries = {entry.name: entry for entry in board.evidence.entries}
    found = [(board.row(label), sweep_result(entries[label], board.evidence.kind)) for label in labels]
    if as_json:
        print_json(json.dumps(finite([_as_dict(row, result) for row, result in found]), ensure_ascii=False))
        exit_without_score(board, labels)
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for row, result in found:
        _show(console, board, row, result)
    click.echo(f"\nSee the curves and all trials: kurabe report {path}", err=True)
    exit_without_score(board, labels)


def _as_dict(row: BoardRow, result: SweepResult | None) -> dict[str, object]:
    test = {"score": row.score, "interval": row.interval, "status": row.status, "reason": row.reason}
    return {"contestant": row.contestant, "test": test, "sweep": None if result is None else sweep_dict(result)}


def _show(console: Console, board: Board, row: BoardRow, result: SweepResult | None) -> None:
    """The chosen setting, its curve as a small table, and the score on the test part."""
    console.print(f"\n{fmt.plain(row.contestant)}", style="bold", markup=False, highlight=False)
    if result is None:
        console.print(f"{row.status}: {fmt.plain(row.reason or 'no trial was made')}", markup=False, highlight=False)
        return
    console.print(f"{chose(result)}.", markup=False, highlight=False)
    for name, value in result.settings.items():
        console.print(f"  {name}: {setting_text(value, 500)}", markup=False, highlight=False)
    if result.curve:
        decimals = fmt.column_places(point.score for point in result.curve)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
        for title in ("training rows", f"{fmt.metric(board)}, validation", "95 % interval"):
            table.add_column(title, justify="right", no_wrap=True)
        for point in result.curve:
            score, interval = fmt.number(point.score, decimals), fmt.interval(point.interval, decimals)
            table.add_row(f"{point.rows:,}", score, interval)
        console.print(table)
        if gain := last_gain(result, board.greater_is_better):
            console.print(f"{gain}.", markup=False, highlight=False)
    if row.score is not None:
        decimals = fmt.score_places(board)
        score, interval = fmt.number(row.score, decimals), fmt.interval(row.interval, decimals)
        rows = fmt.count(row.answered, "test row")
        console.print(f"On {rows}: {score} {interval}.", markup=False, highlight=False)
