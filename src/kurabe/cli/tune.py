"""kurabe tune"""

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from sklearn.base import clone

from kurabe.api import Task
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command, debug_option
from kurabe.cli.shared import (
    allow_code_option,
    exit_without_score,
    in_first,
    print_board,
    seed_option,
    task_argument,
    task_file,
)
from kurabe.contest.prepare import Entrant, choose, make_entrants
from kurabe.contest.run import run
from kurabe.contestants.base import Learning
from kurabe.contestants.contract import contestant_of
from kurabe.errors import ContestantError, missing, nearest
from kurabe.models.reference import parse_reference
from kurabe.report.format import plain
from kurabe.report.progress import Progress
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.record import Job


class Tuning(click.Group):
    """A group that takes an argument that is not one of its commands for a task."""

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            if not Path(args[0]).exists() and nearest(args[0], self.commands):
                context.fail(missing("command of tune, and no file,", args[0], self.commands))
            args = ["run", *args]
        return super().resolve_command(context, args)


@click.group(
    cls=Tuning, context_settings={"ignore_unknown_options": True}, subcommand_metavar="TASK | COMMAND [ARGS]..."
)
def command() -> None:
    """Tune a task's contestants; look after hosted jobs.

    `kurabe tune TASK` is `kurabe tune run TASK`. A JOB is named by how its key begins, as `kurabe tune list` shows it.
    """


command.params.append(debug_option())


@command.command("run", cls=Command)
@task_argument
@click.option("--contestant", "names", multiple=True, metavar="NAME", help="Only this one; may be given several times.")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N test rows.")
@allow_code_option
@seed_option
@click.option("--yes", is_flag=True, help="Accept what providers take for it, as it is estimated, without a question.")
@click.option("--json", "as_json", is_flag=True, help="Print the board as one JSON object.")
@in_first
def run_task(
    task: Path,
    names: tuple[str, ...],
    limit: int | None,
    seed: int | None,
    allow_code: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Tune a task's tuned contestants, local and hosted, and show their board.

    TASK is a task file or a folder that holds one. A provider gets the training rows once you have said yes to the
    estimate, or with --yes, or where confirm_usd in the contestant's settings allows it. Run it again to go on after a
    stop: no file is sent and no job started twice. The board shows what ran before on the same test rows too. It ends
    with 3 where nothing tuned has a score.
    """
    path = task_file(task)
    loaded = Task.from_file(path, seed=seed, allow_code=allow_code)
    entrants = [entrant for entrant in choose(make_entrants(loaded, seed or 0), loaded, names) if _is_tuned(entrant)]
    if not entrants:
        raise ContestantError(
            "no such contestant is tuned; add one to the task file, such as {tune: {model: hf:smollm2-135m}} or"
            " {tune: {model: openai:gpt-4.1-mini-2025-04-14, confirm_usd: 5}}"
        )
    accepted = frozenset(_asked(entrants, loaded, yes))
    try:
        with Progress() as progress:
            only = [entrant.label for entrant in entrants]
            board = run(loaded, only=only, limit=limit, seed=seed or 0, observer=progress, confirmed=accepted)
    except KeyboardInterrupt:
        click.echo("\nStopped. Jobs at providers go on; the same command follows them from here.", err=True)
        sys.exit(130)
    if as_json:
        print_json(json.dumps(board.to_dict(), ensure_ascii=False))
    else:
        print_board(board)
    exit_without_score(board, only)


def _is_tuned(entrant: Entrant) -> bool:
    contestant = contestant_of(entrant.estimator)
    return contestant.resumes and contestant.swept() is None


def _asked(entrants: list[Entrant], task: Task, yes: bool) -> list[str]:
    """The keys of the plans whose cost the person accepts. Nothing is sent meanwhile, and nothing is asked of a plan
    that the task's dollars do not allow."""
    accepted = []
    context = Learning(usd=task.spec.budget.usd)
    for entrant in entrants:
        if entrant.reason is not None:
            continue  # the board says so
        offer = contestant_of(clone(entrant.estimator)).offer(task.train.X, task.train.y, context)
        if offer is None:
            continue
        click.echo(f"{plain(entrant.label)}: {offer.text}.", err=True)
        if yes or (sys.stdin.isatty() and click.confirm("Send them and start the job?", err=True)):
            accepted.append(offer.key)
    return accepted


@command.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_jobs(as_json: bool) -> None:
    """List the jobs that were begun on this machine, as they were when last looked at."""
    jobs, broken = record.found(record.jobs_root())
    found = [job for _, job in jobs]
    for _, error in broken:
        click.echo(str(error), err=True)
    if as_json:
        print_json(json.dumps([_plain(job) for job in found]))
        return
    if not found:
        click.echo("No job was begun yet. `kurabe tune TASK` begins one for a contestant such as"
                   " {tune: {model: openai:gpt-4.1-mini-2025-04-14}}.")  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("job", "model", "rows", "state", "begun", "tuned model"):
        table.add_column(title, justify="right" if title == "rows" else "left", overflow="fold")
    for job in found:
        cells = (
            job.key,
            job.base,
            f"{job.rows:,}",
            str(job.state or "not started"),
            job.made[:16],
            job.reference or "",
        )
        table.add_row(*map(plain, cells))
    Console(highlight=False).print(table)


@command.command(cls=Command)
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(job: str, as_json: bool) -> None:
    """Ask the provider how a job is."""
    folder, known = record.named(record.jobs_root(), job)
    found = jobs.look(folder, _connected(known))
    if as_json:
        print_json(json.dumps(_plain(found)))
        return
    cost = "not known" if found.usd is None else f"about ${found.usd:,.2f}"
    lines = {
        "job": found.key, "model": found.base, "state": str(found.state or "not started"),
        "at the provider": found.job or "", "rows": f"{found.rows:,}, {found.tokens:,} tokens (by {found.counted})",
        "epochs": str(found.settings.epochs), "cost": cost,
        "tokens paid for": "" if found.trained is None else f"{found.trained:,}",
        "last loss": f"{found.metrics[-1].loss:.4g} at step {found.metrics[-1].step}" if found.metrics else "",
        "last news": found.news, "error": found.error, "tuned model": found.reference or "",
    }  # fmt: skip
    for name, value in lines.items():
        if value:
            click.echo(f"{name + ':':17}{plain(value)}")


@command.command(cls=Command)
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object of events and metrics.")
def events(job: str, as_json: bool) -> None:
    """Show what the provider said of a job, and its loss by step."""
    folder, known = record.named(record.jobs_root(), job)
    found = jobs.look(folder, _connected(known))
    if as_json:
        print_json(json.dumps({"events": _plain(found)["events"], "metrics": _plain(found)["metrics"]}))
        return
    for event in found.events:
        click.echo(f"{event.time}  {plain(event.text)}")
    for metric in found.metrics:
        click.echo(f"step {metric.step:>6}  loss {metric.loss:.4g}")


@command.command(cls=Command)
@click.argument("job")
def cancel(job: str) -> None:
    """Stop a job and delete its file at the provider."""
    folder, known = record.named(record.jobs_root(), job)
    found = jobs.cancel(folder, _connected(known))
    click.echo(f"{found.key} is {found.state}; its file at the provider is deleted.")


@command.command(cls=Command)
@click.argument("job")
def delete(job: str) -> None:
    """Forget a job, so that it can be begun anew; one that goes on is stopped. The tuned model stays."""
    folder, known = record.named(record.jobs_root(), job)
    jobs.delete(folder, _connected(known))
    click.echo(f"{known.key} is forgotten.")


def _connected(job: Job) -> Connection:
    return Connection(parse_reference(job.base), base_url=job.base_url)


def _plain(job: Job) -> Any:
    return msgspec.to_builtins(job)
