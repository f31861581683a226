"""What contestants share is the same whether it was read or computed, and no file can make it anything else."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from kurabe.contestants import registry, shared
from kurabe.contestants.base import ALONE, Learning
from kurabe.contestants.checks import table
from kurabe.contestants.shared import Shared
from kurabe.contestants.trained.blend import Blend
from kurabe.contestants.trained.linear import LinearFeatures, TfidfRidge


class Counted:
    """A computation that knows how often it was made."""

    def __init__(self, value: Any) -> None:
        self.value, self.times = value, 0

    def __call__(self, *_: Any) -> Any:
        self.times += 1
        return self.value


VALUES = {
    "array": np.arange(6.0).reshape(2, 3),
    "matrix": sparse.csr_matrix(np.eye(3, dtype=np.float32)),
    "json": {"log": True, "rounds": [1, 2]},
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_computed_once(name: str, tmp_path: Path) -> None:
    compute = Counted(VALUES[name])
    values = [Shared(tmp_path / "features").get(name, [b"1"], compute) for _ in range(3)]
    assert compute.times == 1
    for value in values:
        if name == "matrix":
            assert value.dtype == np.float32
            assert (value != VALUES[name]).nnz == 0
        else:
            np.testing.assert_array_equal(value, VALUES[name])
    assert Shared(tmp_path / "features").get(name, [b"2"], Counted("another")) == "another"
    assert [path.suffix for path in (tmp_path / "features").iterdir() if path.suffix == ".new"] == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _another(path: Path) -> None:
    path.write_text("this is no archive")


def _objects(path: Path) -> None:
    np.savez(path, array=np.array([print], dtype=object))


def _outside(path: Path) -> None:
    """A matrix that has C code read where nothing is."""
    np.savez(path, data=np.ones(1), indices=np.array([10**6]), indptr=np.array([0, 1]), shape=np.array([1, 2]))


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


@pytest.mark.parametrize("damage", [_cut, _another, _objects, _outside, _link])
def test_a_damaged_file_is_computed_anew(damage: Callable[[Path], None], tmp_path: Path) -> None:
    compute = Counted(np.ones(5))
    Shared(tmp_path).get("ones", [], compute)
    [path] = tmp_path.glob("*.npz")
    damage(path)
    for _ in range(2):
        np.testing.assert_array_equal(Shared(tmp_path).get("ones", [], compute), np.ones(5))
    assert compute.times == 2


def test_several_at_the_same_time_wait_for_the_first(tmp_path: Path) -> None:
    begun, times = threading.Barrier(4), []

    def compute() -> np.ndarray:
        times.append(1)
        threading.Event().wait(0.2)
        return np.ones(3)

    def ask() -> None:
        begun.wait()
        Shared(tmp_path).get("ones", [], compute)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 1


def test_where_nothing_can_be_written_everything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compute = Counted(np.ones(2))
    for _ in range(2):
        assert Shared(tmp_path / "file" / "features").get("ones", [], compute).sum() == 2
    assert compute.times == 2


def test_what_was_not_read_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LARGEST", 20_000)
    store = Shared(tmp_path)
    for name in "abc":
        store.get(name, [], Counted(np.zeros(1_000)))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.npz")) <= 20_000
    compute = Counted(np.zeros(1_000))
    store.get("c", [], compute)
    assert compute.times == 0


def test_an_error_of_a_computation_is_the_callers(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("no such model")

    with pytest.raises(OSError, match="no such model"):
        Shared(tmp_path).get("model", [], fail)
    assert Shared(tmp_path).get("model", [], Counted([1])) == [1]


def test_rows_of_known_texts_are_computed_once() -> None:
    compute = Counted(np.array([[1.0], [2.0], [3.0]]))
    store = Shared().over(["a", "b", "a", "c"])
    np.testing.assert_array_equal(store.rows("x", ["c", "a", "a"], compute), [[3.0], [1.0], [1.0]])
    np.testing.assert_array_equal(store.over(["a", "b"]).rows("x", ["a", "b", "c"], compute), [[1.0], [2.0], [3.0]])
    assert compute.times == 1
    store.rows("x", ["new"], compute)
    assert compute.times == 2


def test_many_texts_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "CHARACTERS", 3)
    compute = Counted(np.zeros((2, 1)))
    store = Shared().over(["ab", "cd"])
    store.rows("x", ["ab", "cd"], compute)
    store.rows("x", ["ab", "cd"], compute)
    assert compute.times == 2


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("number", "tfidf_ridge"), ("number", "stacked_boosting"), ("number", "blend"),
        ("label", "nearest_neighbours"), ("label", "blend"),
    ],
)  # fmt: skip
def test_answers_are_the_same_bytes_whether_features_were_read_or_computed(
    kind: Any, name: str, tmp_path: Path
) -> None:
    X, y = table(kind, rows=90)
    new_X, _ = table(kind, rows=30, seed=3)
    estimator = registry.from_name(name, registry.Context(kind))
    if "rounds" in estimator.get_params():
        estimator.set_params(rounds=20)
    if name == "blend":
        members = ["nearest_neighbours", "tfidf_ridge" if kind == "number" else "tfidf_logistic"]
        estimator.set_params(members=members)
    kept = Learning(shared=Shared(tmp_path))
    validation = (X[60:], y[60:])
    answers = [
        estimator.fit_with(X[:60], y[:60], validation, context).predict(new_X).tolist()
        for context in (ALONE, kept, kept)
    ]
    assert list(tmp_path.glob("*.npz"))
    assert answers[0] == answers[1] == answers[2]


def test_a_blend_takes_what_the_contest_has_fitted() -> None:
    X, y = table("number", rows=60)
    known = TfidfRidge(kind="number").fit(X, y)
    asked = []

    def trained(estimator: Any) -> Any:
        asked.append(type(estimator))
        return known if isinstance(estimator, TfidfRidge) else None

    blend = Blend(["tfidf_ridge", "linear_features"], kind="number").fit_with(
        X, y, None, replace(ALONE, trained=trained)
    )
    assert asked
    assert set(asked) <= {TfidfRidge, LinearFeatures}
    assert any(member is known for member in blend.members_) == (TfidfRidge in asked)
    alone = Blend(["tfidf_ridge", "linear_features"], kind="number").fit(X, y)
    assert blend.predict(X).tolist() == alone.predict(X).tolist()
