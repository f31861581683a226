"""Saved contestants hold data alone, and whatever is not what was saved is refused."""

import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.svm import SVR
from sklearn.utils import all_estimators
from tests.contestants.forge import agree

from kurabe.contestants import persist, signature
from kurabe.contestants.checks import table
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import LinearFeatures
from kurabe.errors import ContestantError, NotTrainedError


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
    with pytest.raises(ContestantError, match="there is no saved contestant"):
        persist.load(tmp_path / "nothing")


def test_a_changed_file_is_refused(saved: Path) -> None:
    path = saved / persist.FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ContestantError, match="was changed after it was saved"):
        persist.load(saved)


def test_a_forged_file_with_another_type_is_refused(saved: Path) -> None:
    allowed = agree(saved, skops.io.dumps(Own()))
    with pytest.raises(ContestantError, match=r"types that are not trusted: .*Own"):
        persist.load(saved, None, [allowed])


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_a_forged_file_that_is_no_archive_is_refused(saved: Path, data: bytes) -> None:
    allowed = agree(saved, data)
    with pytest.raises(ContestantError, match="cannot be read"):
        persist.load(saved, None, [allowed])


def test_a_file_of_another_user_is_loaded_where_all_in_it_can_be_checked(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _ = table("number")
    expected = persist.load(saved).predict(X)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    for _ in range(2):  # without a key, and with one
        assert (persist.load(saved).predict(X) == expected).all()
        assert persist.is_usable(saved)
        persist.save(Constant(strategy="mean").fit(*table("number")), tmp_path / "two")


def test_a_file_of_another_user_needs_consent_where_something_in_it_cannot_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table("number")
    numbers = X.select("size").to_numpy()
    persist.save(SVR().fit(numbers, y), tmp_path / "one")
    expected = persist.load(tmp_path / "one").predict(numbers)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    with pytest.raises(NotTrainedError, match=r"can't check what is in it: sklearn\.svm\._classes\.SVR") as refused:
        persist.load(tmp_path / "one")
    assert not persist.is_usable(tmp_path / "one")
    name = re.search(r"--allow-code (\S+)", str(refused.value))[1]  # type: ignore[index]
    assert (persist.load(tmp_path / "one", None, [name]).predict(numbers) == expected).all()
    assert persist.is_usable(tmp_path / "one", [name])
    monkeypatch.setenv("KURABE_ALLOW_CODE", name)
    persist.load(tmp_path / "one")


def test_an_address_in_a_file_of_somebody_else_needs_consent_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    asked = Prompt(model="openai:gpt-4o-mini", kind="number", options={"base_url": "http://198.51.100.1/v1"})
    persist.save(asked.fit(*table("number")), tmp_path / "one")
    persist.load(tmp_path / "one")  # the user's own
    agree(tmp_path / "one", (tmp_path / "one" / persist.FILE).read_bytes())
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    with pytest.raises(ContestantError, match=r"would send your key to http://198\.51\.100\.1:80"):
        persist.load(tmp_path / "one")
    persist.load(tmp_path / "one", None, ["http://198.51.100.1"])


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(signature.sign, ["0" * 64] * 8))) == 1
    (key,) = (tmp_path / "kurabe").iterdir()
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    key.write_bytes(b"")
    assert not signature.is_signed("0" * 64, "")
    with pytest.raises(ContestantError, match="is not a key of kurabe's: remove it"):
        signature.sign("0" * 64)


def test_where_no_key_can_be_kept_it_is_said_and_nothing_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(ContestantError, match=r"the key that signs it, .*contestants\.key, cannot be read or made"):
        persist.save(Constant(strategy="mean").fit(*table("number")), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_whatever_is_changed_in_a_manifest_nothing_but_what_was_saved_is_loaded(saved: Path) -> None:
    X, _ = table("number")
    expected, text = persist.load(saved).predict(X), (saved / persist.MANIFEST).read_bytes()
    draw = random.Random(3)
    refused = 0
    for _ in range(300):
        changed = bytearray(text)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        (saved / persist.MANIFEST).write_bytes(changed)
        try:
            assert (persist.load(saved).predict(X) == expected).all()
        except NotTrainedError:
            refused += 1
    assert refused > 200


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_in_place_of_a_manifest_is_not_waited_for(saved: Path) -> None:
    (saved / persist.MANIFEST).unlink()
    os.mkfifo(saved / persist.MANIFEST)
    with pytest.raises(NotTrainedError, match="there is no saved contestant"):
        persist.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\udcff".encode("utf-8", "surrogatepass")])
def test_a_damaged_manifest_is_refused(saved: Path, text: str | bytes) -> None:
    (saved / persist.MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ContestantError, match="is damaged"):
        persist.load(saved)


def _saved_by(saved: Path, name: str, version: str) -> None:
    manifest = json.loads((saved / persist.MANIFEST).read_bytes())
    manifest["versions"][name] = version
    (saved / persist.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(("name", "version"), [("scikit-learn", "0.1"), ("lightgbm", "3.3.5"), ("numpy", "1.26.4")])
def test_another_major_version_is_refused_without_rows(saved: Path, name: str, version: str) -> None:
    _saved_by(saved, name, version)
    with pytest.raises(ContestantError, match=rf"was saved with {name} {re.escape(version)}, and no rows"):
        persist.load(saved)


@pytest.mark.parametrize("name", ["kurabe", "scikit-learn", "lightgbm", "numpy"])
def test_a_release_that_promises_to_change_nothing_loads_what_was_saved(saved: Path, name: str) -> None:
    X, _ = table("number")
    expected = persist.load(saved).predict(X)
    major, minor = persist._versions()[name].split(".")[:2]
    _saved_by(saved, name, "0.0.1" if name == "kurabe" else f"{major}.{minor}.99")
    assert (persist.load(saved).predict(X) == expected).all()


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


def test_what_another_process_learned_is_kept_as_this_user_s(tmp_path: Path) -> None:
    X, y = table("number")
    numbers = X.select("size").to_numpy()
    files = persist.packed(SVR().fit(numbers, y), X.select("size"))
    persist.keep({**files, "../other": b"not ours"}, tmp_path / "one", SVR())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]
    loaded = persist.load(tmp_path / "one", SVR())  # signed, or it would need consent
    assert (persist.unpacked(persist.read(tmp_path / "one"), SVR()).predict(numbers) == loaded.predict(numbers)).all()


def test_what_another_process_sent_is_checked(tmp_path: Path) -> None:
    X, y = table("number")
    files = persist.packed(Constant(strategy="mean").fit(X, y), X)
    changed = {**files, persist.FILE: files[persist.FILE] + b"x"}
    with pytest.raises(NotTrainedError, match="was changed"):
        persist.keep(changed, tmp_path / "one", Constant())
    with pytest.raises(NotTrainedError, match="damaged"):
        persist.unpacked({}, Constant())
    assert not (tmp_path / "one").exists()
