"""kurabe report"""

import time
from collections.abc import Callable
from pathlib import Path

import click

from kurabe.cli.main import Command
from kurabe.cli.shared import load_board, task_argument, task_file
from kurabe.contest.board import Board
from kurabe.contest.lock import is_running
from kurabe.errors import PluginError
from kurabe.plugins import plugin, plugin_names
from kurabe.report.data import predictions_csv, to_csv, to_json
from kurabe.report.files import write_text
from kurabe.report.html import html_report
from kurabe.report.markdown import markdown
from kurabe.report.terminal import board_svg

PAUSE = 5
"""Seconds between two looks at a run that goes on."""
FORMATS: dict[str, tuple[str, Callable[[Board], str]]] = {
    "html": ("html", html_report),
    "markdown": ("md", markdown),
    "csv": ("csv", to_csv),
    "json": ("json", to_json),
    "svg": ("svg", board_svg),
    "predictions": ("predictions.csv", predictions_csv),
}


class _Form(click.Choice[str]):
    """A format of kurabe's, or one that another package adds."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if value in plugin_names("formats", taken=FORMATS) else super().convert(value, param, ctx)


def _added(form: str) -> tuple[str, Callable[[Board], str]]:
    """The name's ending and the function of a format of another package."""
    write = plugin("formats", form)
    if not callable(write):
        raise PluginError(f"the format {form} of another package is not a function of a board: {write!r}")

    def written(board: Board) -> str:
        try:
            text = write(board)
        except Exception as error:
            raise PluginError(
                f"the format {form} of another package failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(text, str):
            raise PluginError(f"the format {form} of another package gave no text: {text!r:.100}")
        return text

    return getattr(write, "ending", form), written


@click.command(cls=Command)
@task_argument
@click.option("--run", "run_id", metavar="ID", help="A run as `kurabe runs` lists it; without it the newest.")
@click.option("--format", "form", type=_Form([*FORMATS]), help="What to write; without it by the file's name.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write; `-` for standard output.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@click.option(
    "--live", is_flag=True, help="Write the HTML file again and again while a run goes on; the page reloads itself."
)
def command(task: Path, run_id: str | None, form: str | None, output: Path | None, show: bool, live: bool) -> None:
    """Write a run's report: HTML, Markdown, CSV, JSON or SVG.

    The HTML report is one file that opens without a network. `predictions` is a table of every guess beside the truth.
    """
    form = form or _by_name(output)
    ending, write = FORMATS[form] if form in FORMATS else _added(form)
    path = task_file(task)
    if live and (form != "html" or str(output) == "-"):
        raise click.UsageError("--live writes an HTML file; leave --format out, and name a file that ends in .html")
    reload = PAUSE if live and is_running(path.parent) else None
    board = load_board(task, run_id)
    text = html_report(board, reload=reload) if reload else write(board)
    if str(output) == "-":
        click.echo(text)
        return
    output = output or path.with_name(f"{path.stem}-report.{ending}")
    write_text(output, text)
    click.echo(str(output))
    if show:
        click.launch(str(output))
    try:
        while reload:
            time.sleep(PAUSE)
            going = is_running(path.parent)
            board = load_board(task, run_id)
            reload = PAUSE if going else None
            write_text(output, html_report(board, reload=reload))
    except KeyboardInterrupt:
        pass
    finally:
        if reload:
            write_text(output, html_report(board))  # what there is, on a page that stays


def _by_name(output: Path | None) -> str:
    for form, (ending, _) in FORMATS.items():
        if output is not None and output.name.endswith(f".{ending.split('.')[-1]}"):
            return form
    return "html"
