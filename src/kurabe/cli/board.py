"""kurabe board"""

import json
from pathlib import Path

import click

from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.shared import load_board, print_board, task_argument


@click.command(cls=Command)
@task_argument
@click.option("--run", "run_id", metavar="ID", help="A run as `kurabe runs` lists it; without it the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print the board as one JSON object.")
def command(task: Path, run_id: str | None, as_json: bool) -> None:
    """Show the board of an earlier run.

    It is computed from the journal, so it also shows how far a run is that is still going on.
    """
    board = load_board(task, run_id)
    if as_json:
        print_json(json.dumps(board.to_dict(), ensure_ascii=False))
    else:
        print_board(board)
