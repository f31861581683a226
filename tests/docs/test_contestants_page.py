"""The page of contestants says of every setting what it is: type, default and meaning, from the class's docstring."""

import importlib.util
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kurabe.contestants.registry import CONTESTANTS, HOSTED

DOCS = Path(__file__).parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
assert SPEC is not None
assert SPEC.loader is not None
generate: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


def _class(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(f"kurabe.contestants.{module}"), name)


@pytest.mark.parametrize("where", [listed.where for listed in (*CONTESTANTS.values(), HOSTED)])
def test_every_setting_has_a_row_with_type_default_and_meaning(where: str) -> None:
    cls = _class(where)
    page = (DOCS / "contestants.md").read_text("utf-8")
    [section] = [part for part in page.split("\n## ") if f"\n{generate.description(cls)}\n" in part]
    rows = [line.replace(r"\\|", " or ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"| `{name}`" for name in inspect.signature(cls).parameters]
    for row in rows:
        assert len(row) == 4
        assert all(cell.strip(" |") for cell in row)


class Silent:
    """A contestant that says nothing of one of its settings.

    Parameters
    ----------
    depth
        The depth of each tree.
    """

    def __init__(self, depth: int = 3, leaves: int = 7) -> None:
        self.depth, self.leaves = depth, leaves


class Outdated:
    """A contestant that still describes a setting which it lost.

    Parameters
    ----------
    depth
        The depth of each tree.
    leaves
        The leaves of each tree.
    """

    def __init__(self, depth: int = 3) -> None:
        self.depth = depth


def test_a_setting_without_its_line_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Silent, Outdated):
        monkeypatch.setattr(cls, "__module__", "kurabe.contestants.example")
    with pytest.raises(LookupError, match=r"Silent does not describe \['leaves'\]"):
        generate.meanings(Silent)
    with pytest.raises(LookupError, match=r"Outdated describes \['leaves'\]"):
        generate.meanings(Outdated)
