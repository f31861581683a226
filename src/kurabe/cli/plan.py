"""kurabe plan"""

import json
from pathlib import Path

import click
from rich.console import Console

from kurabe.api import Task
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.shared import allow_code_option, seed_option, task_argument, task_file
from kurabe.report.plan import PlanTable


@click.command(cls=Command)
@task_argument
@click.option("--limit", type=click.IntRange(min=1), help="Plan for only the first N test rows.", metavar="N")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="What the run may take, as of `kurabe run`."
)
@click.option("--only", multiple=True, metavar="NAME", help="Plan only this contestant; may be given several times.")
@allow_code_option
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one JSON object.")
def command(
    task: Path,
    limit: int | None,
    minutes: float | None,
    only: tuple[str, ...],
    seed: int | None,
    allow_code: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what a run will take: calls, tokens, dollars and minutes.

    TASK is a task file or a folder that holds one. It also says what the task's budget would stop and how small a
    difference the test rows can show. No model is asked, nothing is written, and no key is needed.
    """
    loaded = Task.from_file(task_file(task), seed=seed, allow_code=allow_code)
    plan = loaded.plan(only=only, limit=limit, minutes=minutes, seed=seed or 0)
    if as_json:
        print_json(json.dumps(plan.to_dict(), ensure_ascii=False))
    else:
        Console().print(PlanTable(plan))
