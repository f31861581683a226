"""What a report was made with: data, split, seed, prompt, settings and versions, so that somebody can make it again."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from shlex import quote
from typing import Any, NamedTuple

from kurabe import __version__
from kurabe.contest.board import Board
from kurabe.report import format as fmt

PACKAGES = ("numpy", "scikit-learn", "lightgbm", "polars", "xllamacpp", "torch", "transformers")
LONGEST = 2000  # characters of a prompt or an input template
LONGEST_SETTINGS = 400  # characters of a contestant's settings


class MadeWith(NamedTuple):
    """`facts`: (name, text) of what the run was made with. `winner`: the best contestant, and `use`: lines to copy that
    let it answer, none where there is no winner."""

    facts: list[tuple[str, str]]
    winner: str
    use: list[str]


def made_with(board: Board) -> MadeWith:
    """What the run was made with, from the journal; the versions are those of the program that writes the report."""
    spec = board.evidence.spec
    seed = (spec.get("run") or {}).get("seed")
    facts = [*_data(spec), *_prompt(spec), *_contestants(board), *_budget(spec)]
    facts.append(("Run", " · ".join(filter(None, [board.evidence.run, board.evidence.started[:19].replace("T", " ")]))))
    facts.append(("Seed of the run", "" if seed is None else str(seed)))
    facts.append(("Report written by", _versions()))
    winner = board.winner_name
    return MadeWith(
        [(name, fmt.redact(fmt.shorten(_lines(text), LONGEST))) for name, text in facts if text],
        fmt.plain(winner or ""),
        []
        if winner is None
        else _use(spec, [name for name in board.evidence.rows.columns if name != spec.get("target")]),
    )


def _use(spec: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Lines to copy that let the winner answer, on a command line and in Python: a text, or where the input is made of
    several columns a table of them."""
    table = len(columns) > 1 and not spec.get("input")
    data, run = spec.get("data") or {}, spec.get("run") or {}
    made_in_python = run.get("file") is None if run else "frame" in (data.get("source"), data.get("train"))
    seed = run.get("seed") or 0
    asked = f"compete({f'seed={seed}' if seed else ''})  # nothing is asked again"
    new, rows = ("--file new.csv", "frame") if table else ('"a text"', '["a text", "another"]')
    answer = f"board.winner.predict({rows})"
    if made_in_python:
        return [f"board = task.{asked}; `task` is made as for this run\n{answer}"]
    file = fmt.plain(run.get("file") or "task.yaml")
    split = (data.get("split") or {}).get("seed")
    again = f", seed={split}" if seed and split is not None else ""
    read = f"Task.from_file({json.dumps(file, ensure_ascii=False)}{again})"
    return [
        f"kurabe predict {quote(file)} {new}",
        f"from kurabe import Task\n\nboard = {read}.{asked}\n{answer}",
    ]


def _data(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = dict(spec.get("data") or {})
    split = dict(data.pop("split", None) or {})
    seed = split.pop("seed", None)
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
        lines.append(fmt.shorten(f"{entry.name}: {said}" if said else entry.name, LONGEST_SETTINGS))
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
