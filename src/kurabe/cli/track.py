"""kurabe track"""

from pathlib import Path

import click

from kurabe.cli.main import Command
from kurabe.cli.shared import load_board, task_argument, task_file
from kurabe.report.tracking import TRACKERS, send
from kurabe.tasks.file import contestant_specs, load_spec


@click.command(cls=Command)
@task_argument
@click.option("--to", type=click.Choice(TRACKERS), required=True, help="The tracker.")
@click.option("--at", metavar="PLACE", help="MLflow's tracking URI, or the project; see below.")
@click.option("--run", "run_id", metavar="ID", help="A run as `kurabe runs` lists it; without it the newest.")
def command(task: Path, to: str, at: str | None, run_id: str | None) -> None:
    """Send a run to an experiment tracker.

    One run of the tracker for each contestant, with settings, scores, cost, times and learning curves, and one with the
    report. Send it again, and what is there is brought up to date.

    \b
    mlflow   --at URI; without it MLFLOW_TRACKING_URI, or mlflow.db beside the task file
    wandb    --at PROJECT or ENTITY/PROJECT; without it the task's name. WANDB_MODE=offline keeps it on this machine
    trackio  --at PROJECT; without it the task's name
    """
    path = task_file(task)
    settings = {one.label: one.settings for one in contestant_specs(load_spec(path))}
    place = send(load_board(task, run_id), settings, to, at, path.parent)
    click.echo(f"Sent to {to}: {place}")
