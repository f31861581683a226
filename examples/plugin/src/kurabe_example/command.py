"""A command: how many rows the parts of a task have."""

import click

from kurabe import Task


@click.command()
@click.argument("task")
def command(task: str) -> None:
    """Show how many rows a task's parts have."""
    loaded = Task.from_file(task)
    validation = 0 if loaded.validation is None else len(loaded.validation)
    click.echo(f"{len(loaded.train)} training, {validation} validation and {len(loaded.test)} test rows")
