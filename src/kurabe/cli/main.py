"""The command line. `kurabe --help` imports click and this file, nothing else; a command is imported when it runs."""

import os
import sys
import warnings
from importlib import import_module
from typing import Any, TextIO

import click

from kurabe import __version__
from kurabe.plugins import plugin, plugin_names

# The commands by group, one line each, so that help needs no imports; a test compares each line with the command's own.
GROUPS = {
    "Contests": {
        "new": "Look at a table and write a first task file.",
        "plan": "Show what a run will take: calls, tokens, dollars and minutes.",
        "run": "Let a task's contestants compete and show the board.",
        "board": "Show the board of an earlier run.",
        "report": "Write a run's report: HTML, Markdown, CSV, JSON or SVG.",
        "predict": "Let a trained contestant answer new rows.",
        "human": "Answer a task's test rows yourself and join the board.",
        "runs": "List the runs in a folder.",
        "track": "Send a run to an experiment tracker.",
    },
    "Tuning": {
        "tune": "Tune a task's contestants; look after hosted jobs.",
        "sweep": "Choose settings by a task's sweeps and show what they found.",
        "export": "Write a tuned model as files for others.",
    },
    "Models": {
        "chat": "Talk with a model.",
        "ask": "Ask several models the same and compare them side by side.",
        "compare": "Ask several models many prompts and show all answers.",
        "embed": "Turn texts into vectors of length 1.",
        "summarise": "Fetch a web page and summarise it.",
        "models": "List the models that a provider offers.",
        "pull": "Fetch a model to this machine.",
    },
    "Lens": {
        "tokens": "Show how tokenizers cut a text, side by side.",
        "next": "Show what a model thinks comes next.",
        "similar": "Show which texts are alike.",
        "architecture": "Show how a model is built.",
        "memory": "Estimate the memory that a model takes.",
    },
    "Setup": {
        "doctor": "Show engines, devices, models and keys.",
        "providers": "List the providers and whether a key is set.",
        "keys": "Keep providers' keys in the system's keyring.",
    },
}
COMMANDS = {name: line for group in GROUPS.values() for name, line in group.items()}


_LONGEST = max(map(len, COMMANDS))  # so that the lines of all groups begin in one column
_PACKAGE = os.path.join(os.path.realpath(os.path.dirname(os.path.dirname(__file__))), "")


class Command(click.Command):
    """A command that also takes `--debug` behind its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(debug_option())


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*COMMANDS, *plugin_names("commands", taken=COMMANDS)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return _added(name)
        command = import_module(f"kurabe.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            known = self.list_commands(context)  # looks through all packages, which a command of ours need not wait for
            if args[0] not in known:
                from kurabe.errors import missing

                context.fail(missing("command", args[0], known))
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(_LONGEST), line) for name, line in commands.items()])
        if added := plugin_names("commands", taken=COMMANDS):
            with formatter.section("Of other packages"):
                formatter.write_dl([(name.ljust(_LONGEST), _line(name)) for name in added])


def _added(name: str) -> click.Command | None:
    """The command that another package adds; None where none does."""
    command = plugin("commands", name)
    if command is None or isinstance(command, click.Command):
        return command
    from kurabe.errors import PluginError

    raise PluginError(f"the command {name} of another package is not a click.Command: {command!r}")


def _line(name: str) -> str:
    """What the help says of a command of another package; one that can't be imported spoils no help."""
    from kurabe.errors import PluginError

    try:
        command = _added(name)
        return "" if command is None else command.get_short_help_str()
    except PluginError as error:
        return str(error)


def _set_debug(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        os.environ["KURABE_DEBUG"] = "1"


def debug_option() -> click.Option:
    """`--debug`: show the traceback of an error."""
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of an error."
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kurabe")
def cli() -> None:
    """A contest side by side: baselines, trees, language models and people on the same rows under the same metric.

    \b
    kurabe new items.csv --target price     write a first task file
    kurabe run task.yaml                    run the contest and show the board
    kurabe report task.yaml                 write one HTML file that opens offline
    """


cli.params.append(debug_option())


def main() -> None:
    """Run the command line. Exit code 0, 2 for what the user can mend, 3 where a contest ends without a score, 130
    after Ctrl-C, 1 for a fault of kurabe's."""
    warnings.showwarning = _warn
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("kurabe: stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        sys.exit(_explain(error))
    sys.exit(code if isinstance(code, int) else 0)


_shown_by_python = warnings.showwarning


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of kurabe's own as one line; what others warn of, as Python shows it."""
    from kurabe.errors import printable

    if category is UserWarning and os.path.realpath(filename).startswith(_PACKAGE):
        click.echo(printable(f"kurabe: {message}"), err=True)
    else:
        _shown_by_python(message, category, filename, lineno, file, line)


def _explain(error: Exception) -> int:
    from kurabe.errors import KurabeError, printable

    if os.environ.get("KURABE_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, KurabeError):
        click.echo(f"kurabe: {error}", err=True)
        return error.exit_code
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        click.echo(printable(f"kurabe: {error.strerror or error}{place}"), err=True)
        return 2
    click.echo(
        printable(f"kurabe: {type(error).__name__}: {error}\n")
        + "This is a fault of kurabe's. `--debug` shows where it happened.",
        err=True,
    )
    return 1
