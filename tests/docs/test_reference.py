"""The API reference has every public name, and each docstring says what a caller has to know."""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docstring_parser
import pytest

import kurabe

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference.md").read_text("utf-8")
CALLED = {"Contestant": {"fit", "predict"}}  # its other methods answer the runner's questions and are rarely written
NUMPYDOC = docstring_parser.DocstringStyle.NUMPYDOC


def _documented(name: str) -> Iterator[tuple[str, Any]]:
    """A public name, and the public methods and properties that its class or a class of kurabe's below it defines."""
    value = getattr(kurabe, name)
    yield name, value
    if inspect.isclass(value):
        for owner in value.__mro__:
            if owner.__module__.startswith("kurabe."):
                for member, of_class in vars(owner).items():
                    plain = getattr(of_class, "__func__", getattr(of_class, "fget", of_class))
                    wanted = member in CALLED.get(name, {member}) and not member.startswith("_")
                    if wanted and inspect.isfunction(plain):
                        yield f"{name}.{member}", plain


EVERYTHING = [found for name in kurabe.__all__ for found in _documented(name)]


def faults(name: str, value: Any) -> list[str]:
    """What a docstring leaves out: a summary, parameters, errors that the code itself raises, or what is returned."""
    parsed = docstring_parser.parse(value.__doc__ or "", NUMPYDOC)
    found = [] if (parsed.short_description or "").endswith(".") else [f"{name}: no summary that ends with a full stop"]
    if re.search(r"\bRaises [A-Z]", value.__doc__ or ""):
        found.append(f"{name}: says in prose what it raises")
    described = [one.strip().lstrip("*") for param in parsed.params for one in param.arg_name.split(",")]
    if (taken := _taken(value)) != described:
        found.append(f"{name}: takes {taken}, and Parameters describes {described}")
    told = {one.type_name for one in parsed.raises}
    if missing := _raised(value) - told - {"NotImplementedError", "AttributeError"}:
        found.append(f"{name}: raises {sorted(missing)}, and Raises has {sorted(map(str, told))}")
    if inspect.isfunction(value) and "." not in name and _returns(value) and parsed.returns is None:
        found.append(f"{name}: does not say what it returns")
    return found


def _taken(value: Any) -> list[str]:
    """The parameters that a caller gives; of a class without a constructor of its own, or of an abstract one, none."""
    if inspect.isclass(value) and (
        inspect.isabstract(value) or (issubclass(value, Exception) and "__init__" not in vars(value))
    ):
        return []
    return [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]


def _raised(value: Any) -> set[str]:
    """The errors that the function, or the class's constructor, names in a `raise` of its own."""
    functions = [value]
    if inspect.isclass(value):
        makers = [vars(value).get(name) for name in ("__init__", "__post_init__")]
        functions = [one for one in makers if inspect.isfunction(one) and one.__code__.co_filename != "<string>"]
    trees = [ast.parse(textwrap.dedent(inspect.getsource(function))) for function in functions]
    calls = [node.exc for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return {one.func.id for one in calls if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}


def _returns(function: Any) -> bool:
    return inspect.signature(function).return_annotation not in (None, "None", inspect.Signature.empty)


@pytest.mark.parametrize(("name", "value"), EVERYTHING, ids=[name for name, _ in EVERYTHING])
def test_a_public_docstring_says_what_a_caller_has_to_know(name: str, value: Any) -> None:
    assert faults(name, value) == []


def test_a_docstring_that_leaves_something_out_is_found() -> None:
    def halve(number: int, places: int) -> float:
        """Half of a number. Raises ValueError for 0.

        Parameters
        ----------
        number : int
            The number.
        """
        if not number:
            raise ValueError("0 has no half here")
        return round(number / 2, places)

    def silent(number: int) -> None:
        pass

    assert faults("halve", halve) == [
        "halve: says in prose what it raises",
        "halve: takes ['number', 'places'], and Parameters describes ['number']",
        "halve: raises ['ValueError'], and Raises has []",
        "halve: does not say what it returns",
    ]
    assert len(faults("silent", silent)) == 2


def test_the_reference_lists_every_public_name_once() -> None:
    listed = re.findall(r"^\.\. auto(?:class|function|exception):: kurabe\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(listed) == kurabe.__all__


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    absent = [name for name in ("sphinx", "myst_parser", "numpydoc") if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}: pip install 'kurabe[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "reference.html").read_text("utf-8")
    assert [name for name in kurabe.__all__ if f'id="kurabe.{name}"' not in page] == []
