"""Write the parts of the docs that code prints. `python docs/generate.py --check` only compares."""

import inspect
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click

from kurabe.cli.main import COMMANDS, cli
from kurabe.contestants.registry import CONTESTANTS
from kurabe.tasks.file import json_schema
from kurabe.tasks.metrics import ALIASES, METRICS

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LAYERS_BEGIN = "<!-- layers: written by docs/generate.py from pyproject.toml -->"
LAYERS_END = "<!-- end of layers -->"
SHARED = {  # settings that mean the same everywhere
    "kind": "what must come out; the task's where it is not set",
    "metric": "the metric to do well by; the task's where it is not set",
    "random_state": "the seed; that of the run where it is not set",
    "prompt": "the task's prompt where it is not set",
    "target": "the name of what must come out; the task's where it is not set",
    "log": "whether numbers are learned on the log scale; `auto`: what the validation part prefers",
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
    parts = ["# Contestants\n\nThis page is generated from the registry and the classes' docstrings.\n"]
    for name, entry in CONTESTANTS.items():
        module, _, class_name = entry.where.partition(":")
        cls = getattr(import_module(f"kurabe.contestants.{module}"), class_name)
        parts.append(f"## `{name}`\n\nFor kind {', '.join(sorted(entry.kinds))}.\n\n{_dedented(cls.__doc__)}\n")
        parts.append("| setting | type | default | meaning |\n|---|---|---|---|")
        for setting, parameter in inspect.signature(cls, eval_str=True).parameters.items():
            shown = _type(parameter.annotation).replace("|", "\\|")
            meaning = _meaning(cls, setting).replace("|", "\\|")
            parts.append(f"| `{setting}` | {shown} | `{parameter.default!r}` | {meaning} |")
        parts.append("")
    return "\n".join(parts)


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
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(annotation, getattr(annotation, "__name__", "object"))


def _meaning(cls: type, setting: str) -> str:
    """What the docstring of a class, or of one that it derives from, says of a setting."""
    named = r"(?:`\w+`(?:, | and ))*"
    pattern = rf"{named}`{setting}`(?:(?:, | and )`\w+`)*: (.+?)(?= {named}`\w+`(?:(?:, | and )`\w+`)*: |\n\n|$)"
    for owner in cls.__mro__:
        paragraphs = re.split(r"\n\s*\n", owner.__doc__ or "") if owner.__module__.startswith("kurabe") else []
        for paragraph in paragraphs:
            if found := re.search(pattern, " ".join(paragraph.split())):
                return found[1].rstrip(".")
    return SHARED.get(setting, "see above")


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


def _dedented(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return "\n".join([lines[0], *(line.removeprefix("    ") for line in lines[1:])]) if lines else ""


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
