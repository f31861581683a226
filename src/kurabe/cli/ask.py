"""kurabe ask"""

import json
import sys
import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.live import Live

from kurabe.cli.answer import facts, shown
from kurabe.cli.columns import columns
from kurabe.cli.default_model import default_model, is_reference
from kurabe.cli.json_output import print_json
from kurabe.cli.main import Command
from kurabe.cli.race import Runner, race
from kurabe.errors import InputError
from kurabe.models import loop
from kurabe.models.reference import parse_reference, split_chain

FRAMES = 12  # a second


@click.command(cls=Command)
@click.argument("words", metavar='[REF...] "QUESTION"', nargs=-1, required=True)
@click.option("--system", metavar="TEXT", help="What the models are told before everything else.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="The longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="0 to 2; higher is more varied.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of the answers.")
@click.pass_context
def command(
    context: click.Context,
    words: tuple[str, ...],
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
) -> None:
    """Ask several models the same and compare them side by side.

    All are asked at once. Below each answer stand tokens, time to the first token and in all, and cost. Exit code 1
    where every model failed. Without REF the model that `kurabe chat` would ask answers.
    """
    references, question = _split(words)
    settings = {"max_tokens": max_tokens, "temperature": temperature}
    given = {name: value for name, value in settings.items() if value is not None}
    runners = [Runner(reference) for reference in references]
    drawn = sys.stdout.isatty() and not as_json
    future = loop.start(race(runners, system, question, given))
    stopped = False
    try:
        if drawn:
            _watch(runners, future.done)
        future.result()
    except KeyboardInterrupt:  # what has come is shown all the same
        future.cancel()
        stopped = True
    if as_json:
        print_json(json.dumps([runner.as_dict() for runner in runners], ensure_ascii=False))
    elif drawn:
        console = Console()
        console.print(columns(runners, console.width, None))
    else:
        click.echo("\n\n".join(_plain(runner) for runner in runners))
    if stopped:
        context.exit(130)
    if all(runner.error is not None for runner in runners):
        context.exit(1)


def _split(words: tuple[str, ...]) -> tuple[list[str], str]:
    """(references, question). Raises InputError where there is no question."""
    *references, question = words
    if not question.strip() or is_reference(question):
        raise InputError('ask some models a question, which stands last: kurabe ask REF REF "QUESTION"')
    for reference in references:
        for link in split_chain(reference):
            parse_reference(link)  # a typing mistake is said at once, before anybody is asked
    return references or [default_model()], question


def _watch(runners: list[Runner], done: Callable[[], bool]) -> None:
    console = Console()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while not done():
            live.update(columns(runners, console.width, console.height), refresh=True)
            time.sleep(1 / FRAMES)


def _plain(runner: Runner) -> str:
    body = shown(str(runner.error)) if runner.error is not None else shown(runner.text).strip()
    note = f"\n[{facts(runner.reply)}]" if runner.reply is not None else ""
    return f"── {shown(runner.reference)}\n{'error: ' if runner.error is not None else ''}{body}{note}"
