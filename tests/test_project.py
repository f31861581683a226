"""The whole project: layers, types, style, public names, generated pages, and what the README promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kurabe

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["importlinter.cli", "lint"],
        ["docs/generate.py", "--check"],
    ],
    ids=" ".join,
)
def test_the_checks_pass(command: list[str]) -> None:
    if command[0] == "importlinter.cli":
        program = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    elif command[0].endswith(".py"):
        program = [sys.executable, *command]
    else:
        program = [sys.executable, "-m", *command]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_names_are_there_sorted_and_documented() -> None:
    assert list(kurabe.__all__) == sorted(kurabe.__all__)
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))
    for name in kurabe.__all__:
        assert getattr(kurabe, name).__doc__, name
        assert re.search(rf"\b{name}\b", pages), f"{name} stands in no page of docs/"
    assert set(kurabe.__all__) <= set(dir(kurabe))
    with pytest.raises(AttributeError, match="no attribute 'Taks'"):
        _ = kurabe.Taks


def test_import_loads_nothing_heavy() -> None:
    program = (
        "import sys, kurabe\n"
        "print(sorted({'numpy', 'polars', 'sklearn', 'click', 'msgspec', 'lightgbm', 'socket'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ci_runs_the_readmes_second_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^    (python3 -m venv .*)$", readme, re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text("utf-8")


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"
