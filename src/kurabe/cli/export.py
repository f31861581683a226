"""kurabe export"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kurabe.api import load_trained
from kurabe.cli.main import Command
from kurabe.cli.shared import allow_code_option, find_run, task_file
from kurabe.contest.journal import EntryRecord, Journal
from kurabe.contest.prepare import journal_path
from kurabe.contestants.contract import contestant_of
from kurabe.errors import InputError
from kurabe.tasks.file import contestant_specs, load_spec
from kurabe.tasks.spec import TaskSpec
from kurabe.tuning.export import FORMS, TYPES, export


@click.command(cls=Command)
@click.argument("what", metavar="TASK|MODEL")
@click.argument("contestant", required=False)
@click.option("--to", type=click.Choice(FORMS), required=True, help="What to write.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The folder, or of GGUF the file, to write."
)
@click.option("--type", "kind", type=click.Choice(TYPES["gguf"]), help="The type of the numbers.")
@click.option("--run", "run_id", metavar="ID", help="A run as `kurabe runs` lists it; without it the newest.")
@allow_code_option
@click.option("--force", is_flag=True, help="Replace what an earlier export wrote.")
def command(
    what: str,
    contestant: str | None,
    to: Any,
    out: Path,
    kind: Any,
    run_id: str | None,
    allow_code: tuple[str, ...],
    force: bool,
) -> None:
    """Write a tuned model as files for others.

    Give a TASK and its tuned CONTESTANT, which may be left out where there is one, or a MODEL such as
    'hf:smollm2-135m?adapter=FOLDER'.

    \b
    --to adapter       a folder of PEFT's, for hf:BASE?adapter=FOLDER
    --to merged        a folder of safetensors with tokenizer and card, for hf:FOLDER
    --to gguf-adapter  a file of llama.cpp's, for gguf:BASE?adapter=FILE
    --to gguf          a file of llama.cpp's, for gguf:FILE
    """
    if what.startswith("hf:"):
        if contestant is not None or run_id is not None:
            raise InputError("a model is exported by its reference alone; leave out the contestant and --run")
        model, origin = what, None
    else:
        model, origin = _tuned(Path(what), contestant, run_id, allow_code)
    export(model, to, out, type=kind, origin=origin, force=force)
    click.echo(f"Wrote {out}")


def _tuned(task: Path, contestant: str | None, run_id: str | None, allow_code: tuple[str, ...]) -> tuple[str, str]:
    """The references of what tuning made, and of what it was made of."""
    path = task_file(task)
    spec = load_spec(path)
    with Journal(journal_path(path.parent), create=False) as journal:
        run = find_run(journal, path, run_id)
        contestant = contestant or _only_tuned(spec, journal.entries(run))
    estimator = load_trained(path.parent, run, contestant, spec, allow_code).estimator
    estimator = contestant_of(contestant_of(estimator).answering())
    if (tuned := estimator.tuned_here()) is None:
        raise InputError(f"{contestant!r} is no model that was tuned on this machine, so there is nothing to export")
    return tuned


def _only_tuned(spec: TaskSpec, entries: Sequence[EntryRecord]) -> str:
    """The one contestant of a run that was tuned. Raises InputError where there are several, or none."""
    tunes = {one.label for one in contestant_specs(spec) if one.name == "tune" or "tune" in one.settings}
    names = [entry.label for entry in entries if entry.label in tunes]
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError("no contestant of this run was tuned, so there is nothing to export")
    raise InputError(f"which contestant? Write: kurabe export TASK CONTESTANT …, with one of {', '.join(names)}")
