"""What a report was made with: data, split, seed, prompt, settings and versions, so that somebody can make it again."""

import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from kurabe import __version__
from kurabe.contest.board import Board
from kurabe.report import format as fmt

PACKAGES = ("numpy", "scikit-learn", "lightgbm", "polars", "xllamacpp", "torch", "transformers")
LONGEST = 2000  # characters of a prompt or an input template


class MadeWith(NamedTuple):
    """`facts`: (name, text) of what the run was made with. `winner`: the best contestant, and `use`: lines to copy that
    let it answer, none where there is no winner."""

    facts: list[tuple[str, str]]
    winner: str
    use: list[str]


def made_with(board: Board) -> MadeWith:
    """What the run was made with, from the journal; the versions are those of the program that writes the report."""
    spec = board.evidence.spec
    facts = [*_data(spec), *_prompt(spec), *_contestants(board), *_budget(spec)]
    facts.append(("Run", " · ".join(filter(None, [board.evidence.run, board.evidence.started[:19].replace("T", " ")]))))
    facts.append(("Report written by", _versions()))
    winner = board.winner_name
    return MadeWith(
        [(name, fmt.redact(fmt.shorten(_lines(text), LONGEST))) for name, text in facts if text],
        fmt.plain(winner or ""),
        [] if winner is None else [
            'kurabe predict task.yaml "a text"',
            'from kurabe import Task\n\nboard = Task.from_file("task.yaml").compete()  # nothing is asked again\n'
            'board.winner.predict(["a text", "another"])',
        ],
    )  # fmt: skip


def _data(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = dict(spec.get("data") or {})
    split = data.pop("split", None) or {}
    seed = split.pop("seed", None) if isinstance(split, dict) else None
    return [
        ("Data", _words(data)),
        ("Split", _words(split)),
        ("Seed of the split", "" if seed is None else str(seed)),
        ("Target", f"{spec['target']} ({spec.get('kind', '')})" if spec.get("target") else ""),
        ("Input", str(spec.get("input") or "")),
        ("Rows that belong together", str(spec.get("cluster") or "")),
    ]


def _prompt(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    prompt = spec.get("prompt") or {}
    return [(f"Prompt, {name}", value if isinstance(value, str) else _words(value)) for name, value in prompt.items()]


def _contestants(board: Board) -> list[tuple[str, str]]:
    """`prompt: model gguf:smollm2-135m, examples 3`, a line for each contestant of the run: its model, and those of its
    settings that the journal keeps. Journals before the settings were kept have the names and models."""
    settings = {}
    for one in board.evidence.spec.get("contestants") or ():
        if isinstance(one, Mapping):
            label = one.get("as")
            settings[label] = next((known for name, known in one.items() if name != "as"), None)
    lines = []
    for entry in board.evidence.entries:
        known = {"model": entry.model, **(settings.get(entry.name) or {})}
        said = _words(known)
        lines.append(f"{entry.name}: {said}" if said else entry.name)
    return [("Contestants", "\n".join(lines))]


def _budget(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    budget = {name: value for name, value in (spec.get("budget") or {}).items() if value is not None}
    return [("Budget", _words(budget))]


def _versions() -> str:
    found = [f"kurabe {__version__}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found) + f"; {sys.platform} {platform.machine()}"


def _words(value: Any) -> str:
    """Plain values as a person reads them: `test 0.2, validation 0.1`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, str | int | float) or value is None:
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _lines(text: str) -> str:
    """`text` without control characters; its lines stay."""
    return "\n".join(fmt.plain(line) for line in text.splitlines())
