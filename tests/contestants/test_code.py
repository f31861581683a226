"""A contestant that is edited is another one, and its answers of before are not taken for those of now."""

import functools
import linecache
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import RandomizedSearchCV
from sklearn.preprocessing import FunctionTransformer

from kurabe.contestants.keys import estimator_digest

CODE = """
import numpy as np
from sklearn.base import BaseEstimator
from kurabe.contestants.base import Contestant

def unused(x):
    return x

def inner(x):
    return x + 1

def helper(x):
    return inner(x)

class Base(BaseEstimator):
    def answer_of(self, x):
        return helper(x)

class Mine(Base):
    power = 1

    def fit(self, X, y):
        self.mean_ = self.answer_of(float(np.mean(y)))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_ ** self.power)

class Ours(Contestant):
    def fit(self, X, y, validation=None):
        self.value_ = 1.0
        return self
"""
Cell = Callable[[str], dict[str, Any]]


@pytest.fixture(params=["module", "notebook", "shell"])
def cell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    """Runs code as a module that is imported, as a cell of a notebook, or as what is typed; what it defines."""
    count = iter(range(100))

    def run(code: str) -> dict[str, Any]:
        module = ModuleType("edited_by_me")
        monkeypatch.setitem(sys.modules, "edited_by_me", module)
        name = f"<input-{next(count)}>"
        if request.param == "module":
            name = str(tmp_path / "edited_by_me.py")
            Path(name).write_text(code)
            linecache.clearcache()
            module.__file__ = name
        elif request.param == "notebook":
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), module.__dict__)
        return module.__dict__

    yield run
    linecache.clearcache()


def key(names: dict[str, Any], name: str = "Mine") -> bytes:
    return estimator_digest(names[name]())


@pytest.mark.parametrize(
    ("old", "new"),
    [("** self.power", "* self.power"), ("return inner(x)", "return -inner(x)"), ("x + 1", "x + 2")],
    ids=["a method", "a helper that the base calls", "a helper of the helper"],
)
def test_an_edited_contestant_is_another_one(old: str, new: str, cell: Cell) -> None:
    assert old in CODE
    before = key(cell(CODE))
    assert key(cell(CODE)) == before
    assert key(cell(CODE.replace(old, new))) != before


def test_what_it_does_not_call_does_not_count(cell: Cell) -> None:
    before = key(cell(CODE))
    assert key(cell(CODE.replace("    return x\n", "    return -x\n"))) == before


def test_a_revision_that_is_inherited_does_not_stand_for_the_text(cell: Cell) -> None:
    before = key(cell(CODE), "Ours")
    assert key(cell(CODE.replace("self.value_ = 1.0", "self.value_ = 2.0")), "Ours") != before
    revised = CODE.replace("    def fit(self, X, y, validation", "    revision = 3\n    def fit(self, X, y, validation")
    assert key(cell(revised.replace("self.value_ = 1.0", "self.value_ = 2.0")), "Ours") == key(cell(revised), "Ours")


def times(k: int) -> Callable[[Any], Any]:
    return lambda x: x * k


def times_by_default(k: int) -> Callable[..., Any]:
    def multiply(x: Any, by: int = k) -> Any:
        return x * by

    return multiply


class Slots:
    __slots__ = ("by",)

    def __init__(self, by: int) -> None:
        self.by = by

    def multiply(self, x: Any) -> Any:
        return x * self.by


@pytest.mark.parametrize(
    "make",
    [
        times,
        times_by_default,
        lambda k: functools.partial(np.multiply, k),
        lambda k: Slots(k).multiply,
        Slots,
        np.random.RandomState,
        np.random.default_rng,
        lambda k: np.array([f"word {k}", None], dtype=object),
        lambda k: re.compile(str(k)).sub,
        lambda k: stats.loguniform(1e-3, k),
    ],
    ids=[
        "closure",
        "default",
        "partial",
        "method",
        "slots",
        "random",
        "generator",
        "objects",
        "builtin",
        "distribution",
    ],
)
def test_what_a_setting_holds_counts(make: Callable[[int], Any]) -> None:
    two, again, three = (estimator_digest(FunctionTransformer(make(k))) for k in (2, 2, 3))
    assert two == again
    assert two != three


def test_two_functions_on_one_line_are_two() -> None:
    one, two = [lambda x: x + 1, lambda x: x + 2]
    assert estimator_digest(FunctionTransformer(one)) != estimator_digest(FunctionTransformer(two))


def test_a_function_that_calls_itself_has_a_key() -> None:
    def down(n: int) -> int:
        return down(n - 1) if n else 0

    assert estimator_digest(FunctionTransformer(down)) == estimator_digest(FunctionTransformer(down))


def test_a_search_over_a_distribution_has_the_same_key_in_every_process() -> None:
    code = """
        from scipy import stats
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import RandomizedSearchCV
        from kurabe.contestants.keys import estimator_digest
        drawn = {"alpha": stats.loguniform(1e-3, 1e3)}
        print(estimator_digest(RandomizedSearchCV(Ridge(), drawn, random_state=0)).hex())
    """
    here = estimator_digest(RandomizedSearchCV(Ridge(), {"alpha": stats.loguniform(1e-3, 1e3)}, random_state=0)).hex()
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == here
