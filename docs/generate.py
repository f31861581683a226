"""Write the parts of the docs that code prints. `python docs/generate.py --check` only compares."""

import json
import sys
from importlib import import_module
from pathlib import Path

import click

from kurabe.cli.main import COMMANDS, cli
from kurabe.contestants.registry import CONTESTANTS
from kurabe.tasks.file import json_schema
from kurabe.tasks.metrics import ALIASES, METRICS

DOCS = Path(__file__).parent


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
    """The contestants with their kinds, settings and defaults."""
    parts = ["# Contestants\n\nThis page is generated from the registry and the classes' docstrings.\n"]
    for name, entry in CONTESTANTS.items():
        module, _, class_name = entry.where.partition(":")
        estimator = getattr(import_module(f"kurabe.contestants.{module}"), class_name)()
        parts.append(f"## `{name}`\n\nFor kind {', '.join(sorted(entry.kinds))}.\n\n{_dedented(estimator.__doc__)}\n")
        parts.append("| setting | default |\n|---|---|")
        parts += [f"| `{setting}` | `{value!r}` |" for setting, value in estimator.get_params(deep=False).items()]
        parts.append("")
    return "\n".join(parts)


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


def _dedented(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return "\n".join([lines[0], *(line.removeprefix("    ") for line in lines[1:])]) if lines else ""


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    return {
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
