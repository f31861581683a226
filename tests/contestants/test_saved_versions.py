"""Saved contestants outlive releases of kurabe and of the libraries, and moved files, as long as they answer alike."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

import kurabe
from kurabe.contestants import alias, persist, replay, saved_names
from kurabe.contestants.checks import table
from kurabe.contestants.former import SAVED
from kurabe.contestants.plain import fit_plain
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.trained.blend import Blend
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import LinearFeatures
from kurabe.contestants.trained.neighbours import NearestNeighbours
from kurabe.errors import ContestantError, NotTrainedError

OLDER = Path(__file__).with_name("data") / "saved-sklearn-1.8.zip"
"""Contestants that were fitted on `table(kind, 60)` and saved with scikit-learn 1.8.0, and their answers."""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    with zipfile.ZipFile(OLDER) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    X, y = table("label", 60)
    persist.save(LinearFeatures(kind="label").fit(X, y), tmp_path / "one", X)
    return tmp_path / "one"


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a manifest says, and sign it."""
    manifest = json.loads((folder / persist.MANIFEST).read_bytes())
    change(manifest)
    signed = persist._signed({persist.MANIFEST: msgspec.json.encode(manifest)})
    (folder / persist.MANIFEST).write_bytes(signed[persist.MANIFEST])


def of_other_version(folder: Path) -> None:
    changed(folder, lambda manifest: manifest["versions"].update({"scikit-learn": "0.24.2"}))


def with_other_rows(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rows = json.loads((folder / persist.ROWS).read_bytes())
    change(rows)
    (folder / persist.ROWS).write_text(json.dumps(rows))
    digest = hashlib.sha256((folder / persist.ROWS).read_bytes()).hexdigest()
    changed(folder, lambda manifest: manifest.update(rows=digest))


NAMES = ["blend label", "gradient_boosting number", "HistGradientBoostingClassifier label", "random_forest label"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_with_the_previous_minor_release_of_scikit_learn_is_loaded(name: str, older: Path) -> None:
    kind: Any = name.split()[-1]
    manifest = persist._checked_manifest(older / name)
    assert manifest.versions["scikit-learn"] == "1.8.0"
    expected = json.loads((older / f"{name}.json").read_bytes())
    answers = persist.load(older / name).predict(table(kind, 60)[0])
    assert list(answers) == (pytest.approx(expected) if kind == "number" else expected)


def _another_answer(rows: dict[str, Any]) -> None:
    rows["answers"]["texts"][2] = "another label"


def _another_probability(rows: dict[str, Any]) -> None:
    rows["answers"]["probabilities"][3][0] += 1e-4


def _another_column(rows: dict[str, Any]) -> None:
    rows["columns"] = [column for column in rows["columns"] if column["name"] != "size"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_another_answer, "it gives other answers to 1 of 8 training rows"),
        (_another_probability, "it gives other answers to 1 of 8 training rows"),
        (_another_column, "it can't answer a row"),
    ],
)
def test_only_what_answers_otherwise_is_refused(
    change: Callable[[dict[str, Any]], None], said: str, saved: Path
) -> None:
    of_other_version(saved)
    persist.load(saved)
    assert persist.is_usable(saved)
    with_other_rows(saved, change)
    with pytest.raises(NotTrainedError, match=rf"{said}.*it was saved with scikit-learn 0\.24\.2, and here is"):
        persist.load(saved)
    assert not persist.is_usable(saved)
    changed(saved, lambda manifest: manifest.update(versions=persist._versions()))
    persist.load(saved)  # the same versions answer alike, and no row is asked


def test_last_digits_make_no_difference(saved: Path) -> None:
    def slightly(rows: dict[str, Any]) -> None:
        rows["answers"]["probabilities"][0][0] += 1e-7

    of_other_version(saved)
    with_other_rows(saved, slightly)
    persist.load(saved)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 40_000, b'{"columns":[],"answers":{"numbers":[1]}}'])
def test_damaged_rows_are_one_message(content: bytes, saved: Path) -> None:
    of_other_version(saved)
    (saved / persist.ROWS).write_bytes(content)
    with pytest.raises(NotTrainedError, match=r"rows\.json was changed after it was saved"):
        persist.load(saved)
    changed(saved, lambda manifest: manifest.update(rows=hashlib.sha256(content).hexdigest()))
    with pytest.raises(NotTrainedError, match="can't be used with these versions"):
        persist.load(saved)


def test_without_rows_another_major_version_is_refused(tmp_path: Path) -> None:
    X, y = table("number")
    persist.save(Constant(strategy="mean").fit(X, y), tmp_path / "one")
    changed(tmp_path / "one", lambda manifest: manifest["versions"].update({"scikit-learn": "1.99.0"}))
    assert persist.load(tmp_path / "one").predict(X)[0] == pytest.approx(y.mean())
    changed(tmp_path / "one", lambda manifest: manifest["versions"].update({"numpy": "1.26.4"}))
    with pytest.raises(NotTrainedError, match=r"was saved with numpy 1\.26\.4, and no rows"):
        persist.load(tmp_path / "one")


class Paying(BaseEstimator):  # type: ignore[misc]
    """An estimator of somebody's own, whose answers may cost money."""

    def fit(self, X: Any, y: Any) -> "Paying":
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> Any:
        raise AssertionError("it was asked")


def test_who_asks_a_model_or_is_of_ones_own_code_is_asked_nothing(tmp_path: Path) -> None:
    X, y = table("number")
    prompt = Prompt(model="gguf:smollm2-135m", kind="number").fit(X, y)
    blend = Blend(members=["constant", "linear_features"]).fit(X, y)
    assert replay.record(blend, blend, X) is not None
    blend.members_[0] = prompt
    own = Paying().fit(X, y)
    nested = np.array([prompt, None], dtype=object)
    for one in (prompt, blend, own, make_pipeline(own), make_pipeline(LinearFeatures().set_params(alpha=nested))):
        assert replay.record(one, one, X) is None
        assert replay.differing(one, b"not even read") == (0, 0)
    persist.save(own, tmp_path / "own", X)
    assert not (tmp_path / "own" / persist.ROWS).exists()
    persist.load(tmp_path / "own", Paying())


def test_an_attribute_of_an_object_does_not_let_it_be_asked() -> None:
    prompt = Prompt(model="gguf:smollm2-135m", kind="number").fit(*table("number"))
    prompt.__dict__.update(asks=False)
    assert replay.record(prompt, prompt, table("number")[0]) is None


def test_rows_are_few_and_small() -> None:
    X, y = table("number", 60)
    model = Constant(strategy="mean").fit(X, y)
    kept = json.loads(replay.record(model, model, X) or b"")
    assert len(kept["answers"]["numbers"]) == replay.ROWS
    long = X.with_columns(pl.Series("input", ["é" * (10_000 if row % 2 else 10) for row in range(60)]))
    data = replay.record(model, model, long) or b""
    assert 0 < len(data) <= replay.MAX_BYTES
    assert all(len(text) == 10 or text.startswith("é") for text in json.loads(data)["columns"][0]["values"])
    assert replay.record(model, model, X.with_columns(pl.lit("x" * replay.MAX_BYTES).alias("input"))) is None
    assert replay.record(model, model, X.head(0)) is None
    assert replay.record(model, model, X.with_columns(pl.Series("list", [[1]] * 60))) is None


def test_rows_come_back_as_they_were() -> None:
    from datetime import date, datetime

    X = pl.DataFrame(
        {
            "text": ["a", None, "é"],
            "whole": pl.Series([1, None, 3], dtype=pl.Int8),
            "float": [1.5, float("nan"), float("-inf")],
            "yes": [True, None, False],
            "day": [date(2020, 1, 2), None, date(1, 1, 1)],
            "time": [datetime(2020, 1, 2, 3, 4, 5, 6), None, datetime(1, 1, 1)],
            "nothing": pl.Series([None, None, None], dtype=pl.Null),
            "category": pl.Series(["u", None, "v"], dtype=pl.Categorical),
        }
    )
    again = msgspec.json.decode(msgspec.json.encode(replay._columns(X)), type=tuple[replay._Column, ...])
    assert replay._frame(again).equals(X)
    assert replay._frame(again).schema == X.schema


# ---------------------------------------------------------------------------------------------------------------- names


def schema_of(folder: Path) -> str:
    with zipfile.ZipFile(folder / persist.FILE) as archive:
        return archive.read("schema.json").decode()


def test_a_file_holds_no_path_of_a_class_of_kurabe(tmp_path: Path) -> None:
    X, y = table("number", 60)
    for place, one in enumerate((Blend(members=["random_forest", "tfidf_ridge"]), NearestNeighbours(), Prompt())):
        persist.save(one.set_params(kind="number").fit(X, y), tmp_path / str(place), X)
        assert "kurabe.contestants" not in schema_of(tmp_path / str(place))
        assert "kurabe.tasks" not in schema_of(tmp_path / str(place))
    manifest = persist._checked_manifest(tmp_path / "0")
    assert (manifest.format, manifest.name) == (2, "blend")


def test_every_path_of_0_1_0_has_a_class_today() -> None:
    for path in SAVED:
        found = saved_names._path_of(path, [path])
        assert found in saved_names.trusted(), path


@pytest.mark.parametrize("name", ["kurabe.nothing", "kurabe.spec.Nothing", "kurabe.models.bounded.call"])
def test_a_name_that_is_not_registered_is_refused(name: str, saved: Path) -> None:
    with zipfile.ZipFile(saved / persist.FILE) as archive:
        schema = archive.read("schema.json").decode()
    module, _, cls = name.rpartition(".")
    old = '"__class__": "linear_features",\n  "__module__": "kurabe"'
    assert old in schema
    forged = schema.replace(old, f'"__class__": "{cls}",\n  "__module__": "{module}"')
    data = saved_names._with_schema((saved / persist.FILE).read_bytes(), forged.encode())
    (saved / persist.FILE).write_bytes(data)
    changed(saved, lambda manifest: manifest.update(sha256=hashlib.sha256(data).hexdigest()))
    with pytest.raises(NotTrainedError, match=r"which this version of kurabe does not know|not trusted"):
        persist.load(saved)


def test_autogluon_whose_models_are_pickles_has_no_name() -> None:
    assert "kurabe.contestants.trained.autogluon.AutoGluon" not in saved_names.trusted()


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="two classes as Booster"):
        alias.saved(type("Booster", (), {}))


def test_what_looks_like_a_class_in_the_users_own_data_stays_as_it_is(tmp_path: Path) -> None:
    text = '"__class__": "linear_features",\n  "__module__": "kurabe.contestants.trained.linear"'
    X, y = table("number")
    trained = LinearFeatures().fit(X, y)
    trained.notes_ = {"text": text, "__class__": "Booster", "__module__": "kurabe.contestants.trained.boosters"}
    persist.save(trained, tmp_path / "one", X)
    assert persist.load(tmp_path / "one").notes_ == trained.notes_


LOAD = """
import json, sys
from pathlib import Path
from kurabe.contestants import persist
from kurabe.contestants.checks import table
loaded = persist.load(Path(sys.argv[1]))
print(json.dumps([type(loaded).__module__, list(loaded.predict(table("number", 60)[0]))]))
"""


def test_a_moved_file_changes_nothing(tmp_path: Path) -> None:
    """The package is copied, and a contestant's file moved there, before what was saved by this one is loaded."""
    X, y = table("number", 60)
    trained = NearestNeighbours().fit(X, y)
    persist.save(trained, tmp_path / "named", X)
    persist.save(trained, tmp_path / "by path", X)
    data = saved_names.with_paths((tmp_path / "by path" / persist.FILE).read_bytes())
    data = saved_names._renamed(data, lambda path, _: path.replace(".trained.", "."))  # as format 1 had it
    (tmp_path / "by path" / persist.FILE).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    changed(tmp_path / "by path", lambda manifest: manifest.update(sha256=digest))
    assert "kurabe.contestants.neighbours" in schema_of(tmp_path / "by path")

    copy = tmp_path / "copy" / "kurabe"
    shutil.copytree(Path(kurabe.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    moved = copy / "contestants" / "moved"
    moved.mkdir()
    (moved / "__init__.py").touch()
    (copy / "contestants" / "trained" / "neighbours.py").rename(moved / "near.py")
    registry = copy / "contestants" / "registry.py"
    registry.write_text(registry.read_text().replace('"trained.neighbours:Near', '"moved.near:Near'))
    for name in ("named", "by path"):
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(tmp_path / name)],
            env={"PYTHONPATH": str(copy.parent), "XDG_DATA_HOME": _data_home()}, cwd=tmp_path,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        module, answers = json.loads(done.stdout.splitlines()[-1])
        assert module == "kurabe.contestants.moved.near"
        assert answers == list(trained.predict(X))


def _data_home() -> str:
    from platformdirs import user_data_path

    return str(user_data_path())


def test_rows_of_a_contest_are_kept_and_signed(saved: Path) -> None:
    manifest = persist._checked_manifest(saved)
    assert persist._is_signed(manifest)
    assert manifest.rows == hashlib.sha256((saved / persist.ROWS).read_bytes()).hexdigest()
    changes: tuple[dict[str, Any], ...] = ({"rows": ""}, {"versions": {}}, {"name": "constant"})
    for change in changes:
        assert not persist._is_signed(msgspec.structs.replace(manifest, **change))


def test_an_estimator_of_scikit_learn_keeps_rows_too(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    X, y = table("number", 60)
    persist.save(fit_plain(Ridge(), X, y), tmp_path / "one", X)
    of_other_version(tmp_path / "one")
    persist.load(tmp_path / "one", Ridge())
    assert persist._checked_manifest(tmp_path / "one").name == "sklearn.linear_model:Ridge"
    with pytest.raises(ContestantError, match="holds Ridge, and the task describes Constant"):
        persist.load(tmp_path / "one", Constant())
