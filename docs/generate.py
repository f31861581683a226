"""Write the parts of the docs that code prints. `python docs/generate.py --check` only compares."""

import inspect
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import docstring_parser

from kurabe.cli.main import COMMANDS, cli
from kurabe.contestants.registry import CONTESTANTS, HOSTED
from kurabe.tasks.file import json_schema
from kurabe.tasks.metrics import ALIASES, METRICS

PIPE = r"\|"  # a pipe inside a cell of a table
DOCS = Path(__file__).parent
ROOT = DOCS.parent
LAYERS_BEGIN = "<!-- layers: written by docs/generate.py from pyproject.toml -->"
LAYERS_END = "<!-- end of layers -->"
SHARED = {  # settings that mean the same everywhere
    "kind": "What must come out. None: what the task says.",
    "metric": "The metric to do well by. None: the task's.",
    "random_state": "The seed. If you don't set it, the run's.",
    "prompt": "The prompt. None: the task's.",
    "target": "The name of what must come out. None: the task's.",
}


def command_line() -> str:
    """Every command's help."""
    parts = ["# The command line\n\nThis page is generated from the commands' own help.\n"]
    commands = [("", cli), *((name, import_module(f"kurabe.cli.{name}").command) for name in COMMANDS)]
    for name, command in [(name, command) for found in commands for name, command in _with_subcommands(*found)]:
        title = f"kurabe {name}".strip()
        context = click.Context(command, info_name=title, terminal_width=100, max_content_width=100)
        parts.append(f"## {title}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _with_subcommands(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    below = command.commands if isinstance(command, click.Group) else {}
    return [(name, command), *((f"{name} {word}", below[word]) for word in below)]


def contestants() -> str:
    """The contestants with their kinds and settings."""
    parts = [
        "# Contestants\n\nThis page is generated from the registry and the classes' docstrings. A task file names a"
        " contestant alone, or with settings: `{tfidf_ridge: {alpha: 1.0}}`.\n"
    ]
    headings = {f"`{name}`": listed for name, listed in CONTESTANTS.items()} | {"`tune` of a hosted model": HOSTED}
    for heading, listed in headings.items():
        module, _, class_name = listed.where.partition(":")
        cls = getattr(import_module(f"kurabe.contestants.{module}"), class_name)
        parts.append(f"## {heading}\n\nFor kind {', '.join(sorted(listed.kinds))}.\n\n{description(cls)}\n")
        parts.append("| setting | type | default | meaning |\n|---|---|---|---|")
        meaning = meanings(cls)
        for setting, parameter in inspect.signature(cls, eval_str=True).parameters.items():
            cells = (f"`{setting}`", _type(parameter.annotation), f"`{parameter.default!r}`", meaning[setting])
            parts.append(f"| {' | '.join(cell.replace('|', PIPE) for cell in cells)} |")
        parts.append("")
    return "\n".join(parts)


def description(cls: type) -> str:
    """What a class's docstring says before its sections."""
    doc = docstring_parser.parse(cls.__doc__ or "", docstring_parser.DocstringStyle.NUMPYDOC)
    return "\n\n".join(text for text in (doc.short_description, doc.long_description) if text)


def meanings(cls: type) -> dict[str, str]:
    """What each setting of a contestant means, from the section Parameters of its class and of those it derives from.

    Raises LookupError for a setting that no class describes, and for a described one that the contestant doesn't take.
    """
    settings = inspect.signature(cls).parameters
    found = dict(SHARED)
    for owner in reversed(cls.__mro__):
        if owner.__module__.startswith("kurabe."):
            found |= _parameters(owner)
    if missing := [name for name in settings if not found.get(name)]:
        raise LookupError(f"{cls.__name__} does not describe {missing}; add them to the Parameters of its docstring")
    if stale := [name for name in _parameters(cls) if name not in settings]:
        raise LookupError(f"{cls.__name__} describes {stale}, which are no settings of it")
    return {name: found[name] for name in settings}


def _parameters(cls: type) -> dict[str, str]:
    doc = docstring_parser.parse(cls.__doc__ or "", docstring_parser.DocstringStyle.NUMPYDOC)
    return {one.arg_name: " ".join((one.description or "").split()) for one in doc.params}


def _type(annotation: Any) -> str:
    """A type as a task file has it: `number`, `text`, `list`, or the words that may stand there."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inside[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inside)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in inside))
    if isinstance(origin or annotation, type) and issubclass(origin or annotation, Sequence) and annotation is not str:
        return "list"
    if isinstance(origin or annotation, type) and issubclass(origin or annotation, Mapping):
        return "mapping"
    names = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        type(None): "nothing",
        Any: "anything",
    }
    return names.get(annotation, getattr(annotation, "__name__", "object"))


def metrics() -> str:
    """The metrics by kind."""
    parts = [
        "# Metrics\n\nThis page is generated from the code. A task file takes the short names too.\n\n"
        "| metric | kind | better | short names |\n|---|---|---|---|"
    ]
    for name, metric in METRICS.items():
        better = "greater" if metric.greater_is_better else "smaller"
        short = ", ".join(f"`{alias}`" for alias, meant in ALIASES[metric.kind].items() if meant == name)
        parts.append(f"| `{name}` | {metric.kind} | {better} | {short} |")
    return "\n".join(parts) + "\n"


def contributing() -> str:
    """CONTRIBUTING.md with the table of layers, from the contract that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["containers"] == ["kurabe"])["layers"]
    rows = ["| layer | holds |", "|---|---|"]
    for layer in layers:
        for name in layer.split(" : "):
            holds, _, _ = inspect.cleandoc(import_module(f"kurabe.{name}").__doc__ or "").partition("\n\n")
            rows.append(f"| `{name}` | {' '.join(holds.split())} |")
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    before, _, rest = page.partition(LAYERS_BEGIN)
    _, _, after = rest.partition(LAYERS_END)
    return f"{before}{LAYERS_BEGIN}\n{chr(10).join(rows)}\n{LAYERS_END}{after}"


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    return {
        ROOT / "CONTRIBUTING.md": contributing(),
        DOCS / "command-line.md": command_line(),
        DOCS / "contestants.md": contestants(),
        DOCS / "metrics.md": metrics(),
        DOCS / "task.schema.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
    }


def main() -> int:
    """Write the pages, or with --check name those that are not what the code prints."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" not in sys.argv:
        for path in stale:
            path.write_text(pages()[path], "utf-8")
        return 0
    for path in stale:
        print(f"{path.name} is not what the code prints; run: python docs/generate.py")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())
