"""Saved contestants hold data alone, and whatever is not what was saved is refused."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.utils import all_estimators

from kurabe.contestants import persist
from kurabe.contestants.checks import table
from kurabe.contestants.constant import Constant
from kurabe.contestants.linear import LinearFeatures
from kurabe.errors import ContestantError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    persist.save(LinearFeatures().fit(*table("number")), tmp_path / "one")
    return tmp_path / "one"


def test_saving_again_replaces_and_leaves_nothing_beside(saved: Path) -> None:
    X, y = table("number")
    persist.save(Constant(strategy="mean").fit(X, y), saved)
    assert persist.load(saved).predict(X)[0] == pytest.approx(y.mean())
    assert [path.name for path in saved.parent.iterdir()] == ["one"]


def test_nothing_saved(tmp_path: Path) -> None:
    with pytest.raises(ContestantError, match="no saved contestant can be read"):
        persist.load(tmp_path / "nothing")


def test_a_changed_file_is_refused(saved: Path) -> None:
    path = saved / persist.FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ContestantError, match="was changed after it was saved"):
        persist.load(saved)


def _forge(folder: Path, data: bytes) -> None:
    """Put other data in place, with a manifest that agrees."""
    manifest = json.loads((folder / persist.MANIFEST).read_bytes())
    manifest["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / persist.FILE).write_bytes(data)
    (folder / persist.MANIFEST).write_text(json.dumps(manifest))


def test_a_forged_file_with_another_type_is_refused(saved: Path) -> None:
    _forge(saved, skops.io.dumps(Own()))
    with pytest.raises(ContestantError, match=r"types that are not trusted: .*Own"):
        persist.load(saved)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_a_forged_file_that_is_no_archive_is_refused(saved: Path, data: bytes) -> None:
    _forge(saved, data)
    with pytest.raises(ContestantError, match="cannot be read"):
        persist.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\udcff".encode("utf-8", "surrogatepass")])
def test_a_damaged_manifest_is_refused(saved: Path, text: str | bytes) -> None:
    (saved / persist.MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ContestantError, match="is damaged"):
        persist.load(saved)


def test_another_version_is_refused(saved: Path) -> None:
    manifest = json.loads((saved / persist.MANIFEST).read_bytes())
    manifest["versions"]["scikit-learn"] = "0.1"
    (saved / persist.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ContestantError, match=r"saved by other versions .*scikit-learn 0\.1"):
        persist.load(saved)


class Own(BaseEstimator):  # type: ignore[misc]
    """An estimator of the user's own."""

    def fit(self, X: Any, y: Any) -> "Own":
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.mean_)


class Unsavable(Own):
    def fit(self, X: Any, y: Any) -> "Unsavable":
        self.code_ = (row for row in range(3))
        return self


def test_ones_own_estimator_needs_its_module_named(tmp_path: Path) -> None:
    X, y = table("number")
    persist.save(Own().fit(X, y), tmp_path / "own")
    with pytest.raises(ContestantError, match="not trusted"):
        persist.load(tmp_path / "own")
    assert persist.load(tmp_path / "own", Own()).predict(X)[0] == pytest.approx(y.mean())


def test_what_cannot_be_saved_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ContestantError, match="Unsavable cannot be saved without pickle"):
        persist.save(Unsavable().fit(*table("number")), tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_estimators_of_scikit_learn_are_known_without_importing_all_of_it() -> None:
    program = (
        "import sys\n"
        "from kurabe.contestants import persist\n"
        "persist.warm_up()\n"
        "print('torch' in sys.modules, 'sklearn.cross_decomposition' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_every_estimator_of_scikit_learn_is_trusted_and_nothing_else_of_it() -> None:
    names = [f"{found.__module__}.{found.__qualname__}" for _, found in all_estimators()]
    assert [name for name in names if name.startswith("sklearn.") and not persist._is_of_sklearn(name)] == []
    for name in (
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils.discovery.all_estimators",
        "sklearn.externals.joblib.Memory",
        "sklearn.nothing.Here",
        "os.system",
        "sklearn.base.os.Path",
    ):
        assert not persist._is_of_sklearn(name), name
