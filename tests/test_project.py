"""The whole project: layers, types, style, public names, generated pages, and what the README promises."""

import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import kurabe
from kurabe.contestants import registry

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
    code = {word for path in (ROOT / "docs").glob("*.md") for word in _words_of_code(path.read_text("utf-8"))}
    for name in kurabe.__all__:
        assert getattr(kurabe, name).__doc__, name
        assert name in code, f"{name} is not in the code of any page of docs/"
    assert set(kurabe.__all__) <= set(dir(kurabe))
    with pytest.raises(AttributeError, match="no attribute 'Taks'"):
        _ = kurabe.Taks


def _words_of_code(page: str) -> list[str]:
    """The words of a Markdown page that are code: in backticks, fenced or indented by four. Prose doesn't count, since
    "a tool" is no documentation of `Tool`."""
    fenced = re.findall(r"^```.*?^```", page, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    .*$", page, re.MULTILINE)
    return re.findall(r"\w+", "\n".join([*fenced, *indented, *re.findall(r"`[^`\n]+`", page)]))


def test_words_of_prose_are_not_words_of_code() -> None:
    page = "Tools call `Tool`.\n\n    Task.from_file\n\n```python\nchat(1)\n```\nand embed"
    assert sorted(_words_of_code(page)) == ["1", "Task", "Tool", "chat", "from_file", "python"]


_WITH_EXAMPLES = [path for path in sorted((ROOT / "src").rglob("*.py")) if ">>> " in path.read_text("utf-8")]


@pytest.mark.parametrize("path", _WITH_EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_in_the_docstrings_hold(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted >= 1
    assert result.failed == 0


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


def test_the_public_workflow_runs_ci_on_every_python_that_the_project_names() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    pythons = [found[1] for one in classifiers if (found := re.search(r":: Python :: (3\.\d+)$", one))]
    job = workflow["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert job["steps"][-1]["run"] == "bash .ci/run"
    assert workflow["permissions"] == {"contents": "read"}


def test_the_hooks_run_the_checks_of_the_suite() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook["entry"].removeprefix(".venv/bin/") for repo in config["repos"] for hook in repo["hooks"]]
    assert hooks == [
        "python -m ruff check --fix",
        "python -m ruff format",
        "python docs/generate.py",
        "python -m mypy",
        "lint-imports",
    ]


@pytest.mark.parametrize("form", ["bug.yml", "idea.yml"])
def test_the_issue_forms_ask_something(form: str) -> None:
    page = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / form).read_text("utf-8"))
    assert page["name"]
    assert page["description"]
    fields = [field for field in page["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_nothing_outside_their_folder_knows_a_class_of_contestants() -> None:
    """The contest, its reports and the command line ask `kurabe.contestants.contract`, so that others' contestants are
    equal to ours."""
    source = ROOT / "src" / "kurabe"
    concrete = {listed.where.partition(":")[0] for listed in (*registry.CONTESTANTS.values(), registry.HOSTED)}
    for path in source.rglob("*.py"):
        if path.is_relative_to(source / "contestants"):
            continue
        imported = set(re.findall(r"kurabe\.contestants\.(\w+)", path.read_text()))
        assert not imported & concrete, f"{path.name} imports {sorted(imported & concrete)}"
