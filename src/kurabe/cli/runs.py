"""kurabe runs"""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from kurabe.cli.main import Command
from kurabe.cli.shared import task_argument
from kurabe.contest.journal import Journal
from kurabe.contest.lock import locked
from kurabe.contest.prepare import FOLDER, journal_path
from kurabe.contest.repair import repair


@click.command(cls=Command)
@task_argument
@click.option("--repair", "mend", is_flag=True, help="Save what can be saved of a damaged journal.")
def command(task: Path, mend: bool) -> None:
    """List the runs in a folder.

    TASK is the folder, or a task file in it.
    """
    folder = task if task.is_dir() else task.parent
    if mend:
        with locked(folder / FOLDER):
            count, damaged = repair(journal_path(folder))
        saved = f"{count:,} predictions are saved; the damaged journal is kept as {damaged}"
        click.echo("The journal is sound; nothing was changed." if damaged is None else f"{saved}.", err=True)
    with Journal(journal_path(folder), create=False) as journal:
        runs = journal.runs()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "task", "kind", "metric", "rows", "contestants", "last change (UTC)"):
        table.add_column(title, justify="right" if title == "rows" else "left")
    for info in runs:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(info.counts.items()))
        changed = info.updated[:19].replace("T", " ")
        table.add_row(info.id, info.task, info.kind, info.metric, f"{info.test_rows:,}", counts, changed)
    Console().print(table)
