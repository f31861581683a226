"""Contestants that others wrote: CatBoost, and AutoGluon in an environment of its own."""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kurabe.api import Task
from kurabe.contest.prepare import make_entrants
from kurabe.contestants import persist, registry
from kurabe.contestants.checks import table
from kurabe.contestants.trained.autogluon import AutoGluon
from kurabe.contestants.trained.catboost import CatBoost
from kurabe.errors import ContestantError

# What stands in for AutoGluon: it answers with what the training part says of the row's first column.
STAND_IN = """
import json, pathlib
class TabularPredictor:
    def __init__(self, label, problem_type, eval_metric, path, verbosity):
        self.label, self.path = label, pathlib.Path(path)
        self.about = {"problem_type": problem_type, "eval_metric": eval_metric}
    def fit(self, rows, presets, time_limit, ag_args_ensemble):
        first = [name for name in rows.columns if name != self.label][0]
        means = rows.groupby(first, dropna=False)[self.label].agg(lambda group: group.mode()[0]).to_dict()
        self.path.mkdir()
        about = self.about | {"presets": presets, "time_limit": time_limit, "columns": list(rows.columns)}
        about["answers"], about["first"] = {str(key): float(value) for key, value in means.items()}, first
        (self.path / "model.json").write_text(json.dumps(about))
    @classmethod
    def load(cls, path):
        found = cls("", "", "", path, 0)
        found.about = json.loads((found.path / "model.json").read_text())
        return found
    def predict(self, rows):
        answers = self.about["answers"]
        return rows[self.about["first"]].map(lambda value: answers.get(str(value), 0.0))
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An interpreter that has the stand-in for AutoGluon."""
    package = tmp_path / "packages" / "autogluon" / "tabular"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path / "packages"}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_they_take_part_only_where_they_are_named() -> None:
    for kind in ("number", "label"):
        assert not {"catboost", "autogluon"} & {spec.name for spec in registry.defaults(kind)}


@pytest.mark.skipif(importlib.util.find_spec("catboost") is not None, reason="catboost is installed")
def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    assert CatBoost().skipped_reason() == (
        "CatBoost needs the extra 'catboost'. Install it with: pip install 'kurabe[catboost]'"
    )
    frame = pl.DataFrame({"a": range(40), "price": [float(row) for row in range(40)]})
    task = Task.from_frame(frame, target="price", kind="number", contestants=["constant", "catboost"], folder=tmp_path)
    assert [entrant.reason is None for entrant in make_entrants(task, 0)] == [True, False]


def test_catboost_learns() -> None:
    pytest.importorskip("catboost", reason="the extra catboost is not installed")
    X, y = table("number", rows=200)
    new_X, new_y = table("number", rows=60, seed=3)
    guesses = CatBoost(rounds=200).fit(X, y).predict(new_X)
    assert np.abs(guesses - new_y).mean() < 0.2 * np.abs(np.median(y) - new_y).mean()
    X, y = table("label", rows=100)
    assert (CatBoost(rounds=50).fit(X, y).predict(X) == y).mean() > 0.95


def test_an_environment_without_autogluon_says_how_to_install_it(tmp_path: Path) -> None:
    reason = AutoGluon(python=sys.executable).skipped_reason()
    assert (
        reason
        == f"{sys.executable} has no AutoGluon. Install it with: {sys.executable} -m pip install autogluon.tabular"
    )
    nobody = str(tmp_path / "nobody")
    assert str(AutoGluon(python=nobody).skipped_reason()).startswith(f"the Python at {nobody} cannot be run")


def test_autogluon_runs_in_its_own_environment(python: str, tmp_path: Path) -> None:
    X = pl.DataFrame({"size": [1, 2, 3] * 10, "colour": ["red", None, 'b,\n"l'] * 10, "input": ["x"] * 30})
    labels = np.array(["01", "NA", "1.0"] * 10, dtype=object)
    estimator = AutoGluon(0.5, python, kind="label", metric="macro_f1")
    assert estimator.skipped_reason() is None
    fitted = estimator.fit(X, labels)
    assert fitted.predict(X).tolist() == labels.tolist()
    assert fitted.predict(X.head(0)).shape == (0,)
    numbers = AutoGluon(python=python, kind="number").fit(X, np.array([10.5, 20.0, 30.0] * 10))
    assert numbers.predict(X.tail(3)).tolist() == [10.5, 20.0, 30.0]
    with pytest.raises(ContestantError, match="no column 'size'"):
        numbers.predict(X.drop("size"))
    with pytest.raises(ContestantError, match="AutoGluon's models are pickles, which kurabe does not load"):
        persist.save(fitted, tmp_path / "saved")


def test_autogluon_is_not_looked_for_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "autogluon" / "tabular").mkdir(parents=True)
    for package in ("autogluon", "autogluon/tabular"):
        (tmp_path / package / "__init__.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    reason = AutoGluon().skipped_reason()
    assert not (tmp_path / "PWNED").exists()
    if importlib.util.find_spec("autogluon") is None:
        assert "has no AutoGluon" in str(reason)


def test_a_relative_interpreter_is_the_same_for_the_check_and_the_training(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    estimator = AutoGluon(python="./python", kind="number")
    assert estimator.skipped_reason() is None
    X, y = table("number")
    assert len(estimator.fit(X, y).predict(X)) == len(y)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks into /proc")
def test_what_autogluon_started_ends_with_it(tmp_path: Path) -> None:
    """Its processes are children of its own process, so that an interrupt has to reach them too."""
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\nsleep 600 &\necho $! > "{tmp_path}/child"\nsleep 1\nkill -USR1 {os.getpid()}\nwait\n'
    )
    script.chmod(0o755)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            AutoGluon(python=str(script)).fit(*table("number"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _runs(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child is still there")


def _runs(process: int) -> bool:
    """Whether there is such a process, and not only its exit status, which waits for a parent to fetch it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_its_rows_and_models_are_removed(python: str) -> None:
    fitted = AutoGluon(python=python).fit(*table("number"))
    folder = Path(fitted.folder_)
    assert (folder / "models").exists()
    del fitted
    assert not folder.exists()


def test_a_failure_of_autogluon_is_one_message(python: str) -> None:
    X = pl.DataFrame({"input": ["a lamp", "a chair", "a table"] * 5})
    fitted = AutoGluon(python=python, kind="number").fit(X, np.arange(15.0) % 3)
    (Path(fitted.folder_) / "models" / "model.json").write_text("{")
    with pytest.raises(ContestantError, match=r"AutoGluon failed to predict: json\.decoder\.JSONDecodeError"):
        fitted.predict(X)


@pytest.mark.slow
def test_the_real_autogluon() -> None:
    python = os.environ.get("KURABE_TEST_AUTOGLUON")
    if python is None:
        pytest.skip("set KURABE_TEST_AUTOGLUON to an interpreter that has autogluon.tabular")
    X, y = table("number", rows=200)
    new_X, new_y = table("number", rows=60, seed=3)
    guesses = AutoGluon(0.5, python).fit(X, y).predict(new_X)
    assert np.abs(guesses - new_y).mean() < 0.3 * np.abs(np.median(y) - new_y).mean()
