"""A tuned model as a contestant: tiny random ones, which learn what they are shown."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn.base import clone

from kurabe import open_model
from kurabe.contestants.base import Learning
from kurabe.contestants.tuned.tune import Tune
from kurabe.errors import ContestantError, TuningError
from kurabe.models.engines.base import LocalModel
from kurabe.testing.tiny import tiny_model
from kurabe.tuning.general import general, general_rows

COLOURS = {"rot": "red", "blau": "blue", "gelb": "yellow"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tune") / "chat", hidden_size=64, initializer_range=0.05)


def table(rows: int) -> tuple[pl.DataFrame, np.ndarray]:
    words = [list(COLOURS)[n % 3] for n in range(rows)]
    return pl.DataFrame({"input": words}), np.array([COLOURS[word] for word in words], dtype=object)


def tuner(base: Path, **settings: Any) -> Tune:
    given: dict[str, Any] = {
        "learning_rate": 1e-2, "epochs": 6, "step_tokens": 300, "system": "", "user": "{{ input }}", "prefill": "",
        "evaluations": 3, "general": False,
    }  # fmt: skip
    return Tune(model=f"hf:{base}", **given | settings)


@pytest.mark.parametrize(("method", "decode"), [("lora", "score"), ("full", "free"), ("qlora", "score")])
def test_it_learns_and_answers(base: Path, tmp_path: Path, method: Any, decode: Any) -> None:
    X, y = table(60)
    said: list[str] = []
    made = tuner(base, method=method, decode=decode, target="colour", folder=str(tmp_path / "kept"))
    made.fit_with(X, y, table(12), Learning(said.append))
    assert (made.predict(X) == y).all()
    made.close()
    assert "validation" in said[-1]
    assert "loss" in said[0]
    with open_model(made.tuned_) as model:
        assert model.complete("blau", temperature=0.0, max_tokens=4) == "blue"
    files = {path.name for path in (tmp_path / "kept" / "tuned").iterdir()}
    assert files >= {"README.md", "model.safetensors" if method == "full" else "adapter_model.safetensors"}
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    text = (tmp_path / "kept" / "tuned" / "README.md").read_text()
    assert "60 rows" in text
    assert f"method: {method}" in text
    assert "- target: `colour`, of kind label" in text
    assert "- columns: `input`" in text
    assert re.search("- training part: 60 rows, BLAKE2b of inputs and targets `[0-9a-f]{32}`", text)
    assert "- scored of the validation part: 12 rows" in text
    assert "    {{ input }}" in text  # how a row is asked
    assert "| step | validation, " in text
    assert f"base_model: {json.dumps(base.name)}" in text
    assert str(base.parent) not in text
    assert "blau" not in text
    assert "yellow" not in text


def test_a_second_fit_takes_what_the_first_made(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table(9)
    monkeypatch.chdir(tmp_path)
    estimator = tuner(base, epochs=1, evaluations=0, folder=".")
    estimator.fit(X, y)
    assert estimator.tuned_.endswith(f"?adapter={tmp_path / 'tuned'}")  # it answers from everywhere
    changed = (tmp_path / "tuned" / "adapter_model.safetensors").stat().st_mtime_ns
    clone(estimator).fit(X, y)
    assert (tmp_path / "tuned" / "adapter_model.safetensors").stat().st_mtime_ns == changed


@pytest.mark.parametrize("other", ["rows", "setting", "option"])
def test_a_folder_of_other_data_or_settings_is_refused(base: Path, tmp_path: Path, other: str) -> None:
    X, y = table(9)
    made = tuner(base, epochs=1, evaluations=0, folder=str(tmp_path)).fit(X, y)
    changed: dict[str, dict[str, Any]] = {"setting": {"rank": 4}, "option": {"model": f"hf:{base}?dtype=bfloat16"}}
    again = clone(made).set_params(**changed.get(other, {}))
    count = 6 if other == "rows" else 9
    with pytest.raises(TuningError, match="other data or other settings"):
        again.fit(X[:count], y[:count])


def test_settings_that_could_not_be_used_are_put_right_in_the_same_folder(base: Path, tmp_path: Path) -> None:
    X, y = table(9)
    with pytest.raises(TuningError, match="raise context"):
        tuner(base, epochs=1, evaluations=0, context=8, folder=str(tmp_path)).fit(X, y)
    made = tuner(base, epochs=1, evaluations=0, folder=str(tmp_path)).fit(X, y)
    assert (tmp_path / "tuned").is_dir()
    with pytest.raises(TuningError, match="other data or other settings"):
        clone(made).set_params(context=8).fit(X, y)


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Files that grow beyond so many bytes can't be written."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a checkpoint, at the adapter, and with room again: the weights are those of a tuning in peace."""
    X, y = table(30)
    settings: dict[str, Any] = {"epochs": 2, "evaluations": 2}
    calm = tuner(base, folder=str(tmp_path / "calm"), **settings).fit(X, y, table(6))
    calm.close()
    estimator = tuner(base, folder=str(tmp_path / "full"), **settings)
    with full_disk(20_000), pytest.raises(TuningError, match=r"cannot write .*make room") as caught:
        estimator.fit(X, y, table(6))
    assert "rot" not in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr("kurabe.tuning.adapter.save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X, y, table(6))
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"checkpoint.safetensors", "learned-from"}
    with full_disk(20_000), pytest.raises(TuningError, match=r"cannot write .*make room"):
        estimator.fit(X, y, table(6))
    with monkeypatch.context() as patch:
        patch.setattr("kurabe.tuning.train._update", lambda *_: pytest.fail("a step was made again"))
        estimator.fit(X, y, table(6)).close()
    one, other = (load_file(tmp_path / name / "tuned" / "adapter_model.safetensors") for name in ("calm", "full"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert calm.notes_["tuning"] == estimator.notes_["tuning"]


def test_scoring_in_between_is_that_of_the_model_that_comes_out(base: Path, tmp_path: Path) -> None:
    """The adapters that are learned and the adapter that is loaded answer alike."""
    X, y = table(30)
    said: list[str] = []
    made = tuner(base, epochs=1, evaluations=1, patience=9, folder=str(tmp_path))
    made.fit_with(X, y, (X, y), Learning(said.append))
    accuracy = float((made.predict(X) == y).mean())
    made.close()
    assert f"validation {accuracy:.4g}" in said[-1]


def test_rows_are_scored_so_many_at_once_as_the_reference_says(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table(9)
    at_once: list[int] = []

    def predict_by(self: Tune, model: Any, X: Any) -> np.ndarray:
        at_once.append(model.concurrency)
        return y

    monkeypatch.setattr(Tune, "predict_by", predict_by)
    made = tuner(base, epochs=1, evaluations=1, folder=str(tmp_path)).set_params(model=f"hf:{base}?batch=2")
    made.fit(X, y, (X, y))
    assert at_once == [2]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"model": "gguf:smollm2-135m"}, ContestantError, "write hf:NAME"),
        ({"rank": 0}, ContestantError, "tune: the setting rank is 0: expected int >= 1"),
        ({"target_modules": ("nothing",)}, TuningError, "q_proj"),
        ({"context": 8}, TuningError, "row 1 of 6 has .* at most 8: .* or raise context"),
    ],
)
def test_what_cannot_be_tuned(base: Path, tmp_path: Path, settings: dict[str, Any], error: Any, says: str) -> None:
    X, y = table(6)
    with pytest.raises(error, match=says):
        tuner(base, folder=str(tmp_path)).set_params(**settings).fit(X, y)


def test_a_row_that_cannot_be_learned_is_named(base: Path, tmp_path: Path) -> None:
    """By its number; where the limit is the model's own, no setting is said to raise it."""
    X, y = table(6)
    long = X.with_row_index().with_columns(
        input=pl.when(pl.col("index") == 3).then(pl.lit("kettle " * 100)).otherwise("input")
    )
    with pytest.raises(TuningError, match=r"^row 4 of 6 has \d+ tokens.* or raise context$"):
        tuner(base, folder=str(tmp_path), context=60).fit(long, y)
    small = tuner(base, folder=str(tmp_path), context=200).set_params(model=f"hf:{base}?context=24")
    with pytest.raises(
        TuningError, match=r"^row \d of 6 has \d+ tokens, and the context of .* is 24: .* longer context$"
    ):
        small.fit(X, np.array(["a rather long answer of very many words " * 3] * 6, dtype=object) + y)
    with pytest.raises(TuningError, match=r"^row 3 of 6 has an empty answer"):
        tuner(base, folder=str(tmp_path), kind="text").fit(X, np.array([*y[:2], " ", *y[3:]], dtype=object))
    with pytest.raises(TuningError, match=r"^row 4 of 6 has \d+ tokens"):
        tuner(base, folder=str(tmp_path), kind="number", context=60, head="regression").fit(long, np.arange(6.0))


def test_one_class_only(base: Path) -> None:
    X, _ = table(6)
    with pytest.raises(TuningError, match="nothing to learn"):
        tuner(base).fit(X, np.full(6, "red", dtype=object))


def test_what_is_forgotten_is_noted(base: Path, tmp_path: Path) -> None:
    X, y = table(9)
    made = tuner(base, epochs=1, evaluations=0, general=True, folder=str(tmp_path)).fit(X, y)
    before, after = (made.notes_["general"][when] for when in ("before", "after"))
    assert len(before["right"]) == len(after["right"]) == sum(row.kind != "text" for row in general_rows())
    assert before["nats"] != after["nats"]
    with open_model(f"hf:{base}") as model:
        assert isinstance(model, LocalModel)
        plain = general(model)
    assert list(plain.right) == before["right"]
    assert list(plain.nats) == pytest.approx(before["nats"], abs=1e-3)
    assert len(made.notes_["tuning"]["losses"]) >= 1


def test_a_base_model_without_a_chat_template_is_told(base: Path, tmp_path: Path) -> None:
    X, y = table(12)
    plain = tiny_model(tmp_path / "plain", template=None, hidden_size=64)
    made = tuner(plain, max_steps=1, evaluations=0, folder=str(tmp_path / "kept")).fit(X, y, None)
    made.close()
    assert made.notes_["no_template"] is True
    with_one = tuner(base, max_steps=1, evaluations=0, folder=str(tmp_path / "other")).fit(X, y, None)
    with_one.close()
    assert "no_template" not in with_one.notes_
