"""Number heads on tiny random models: what they learn, and that they come back as they were kept."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.base import clone

from kurabe.contestants import persist
from kurabe.contestants.tuned.tune import Tune
from kurabe.errors import ContestantError, TuningError
from kurabe.report.learning import checked_points
from kurabe.testing.tiny import tiny_model
from kurabe.tuning import checkpoint
from kurabe.tuning.export import Form, export
from kurabe.tuning.head import Headed, Scale, begin, load, loss_of, numbers_for, read, save, skewness
from kurabe.tuning.rows import Row
from kurabe.tuning.settings import LEVELS, TuneSettings
from kurabe.tuning.train import Step, attach, train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("head") / "chat", hidden_size=64, initializer_range=0.1)


def table(rows: int, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Numbers that are written in the texts, behind words of different lengths."""
    draw = np.random.default_rng(seed)
    y = draw.integers(1, 10, rows).astype(float)
    return pl.DataFrame({"input": [f"{'so ' * draw.integers(0, 3)}{value:.0f} kg" for value in y]}), y


def tuner(base: Path, **settings: Any) -> Tune:
    given: dict[str, Any] = {
        "head": "regression", "learning_rate": 5e-3, "epochs": 5, "step_tokens": 300, "system": "", "evaluations": 3,
        "user": "{{ input }}", "prefill": "", "general": False, "kind": "number",
    }  # fmt: skip
    return Tune(model=f"hf:{base}", **given | settings)


@pytest.fixture(scope="module")
def quantiled(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tune]:
    """A head of quantiles that was tuned."""
    made = tuner(base, head="quantiles", epochs=7, folder=str(tmp_path_factory.mktemp("quantiles")))
    yield made.fit(*table(100), table(30, 1))
    made.close()


@pytest.mark.parametrize(("method", "metric"), [("lora", None), ("full", "r2"), ("qlora", None)])
def test_numbers_in_the_text_are_learned(base: Path, tmp_path: Path, method: Any, metric: str | None) -> None:
    X, y = table(100)
    rate = 1e-3 if method == "full" else 5e-3
    made = tuner(base, method=method, metric=metric, learning_rate=rate, folder=str(tmp_path)).fit(X, y, table(30, 1))
    new, truth = table(60, 2)
    error = np.abs(made.predict(new) - truth).mean()
    made.close()
    assert error < 0.65 * np.abs(np.median(y) - truth).mean()
    losses = made.notes_["tuning"]["losses"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    scores = [score for _, score in made.notes_["tuning"]["scores"]]
    assert made.notes_["tuning"]["best"][1] == (max(scores) if metric == "r2" else min(scores))


def test_it_begins_as_the_constant(base: Path, tmp_path: Path) -> None:
    X, y = table(20)
    made = tuner(base, head="quantiles", learning_rate=1e-12, max_steps=1, evaluations=0, folder=str(tmp_path))
    found = made.fit(X, y).predict_quantiles(X)
    made.close()
    assert found == pytest.approx(np.tile(np.quantile(y, LEVELS), (20, 1)), abs=1e-4)


def test_quantiles_ascend_and_cover(quantiled: Tune) -> None:
    X, y = table(80, 3)
    found = quantiled.predict_quantiles(X)
    assert found.shape == (80, len(LEVELS))
    assert quantiled.levels_ == list(LEVELS)
    assert (np.diff(found, axis=1) >= 0).all()
    assert ((y >= found[:, 0] - 0.5) & (y <= found[:, -1] + 0.5)).mean() > 0.8
    assert (found[:, -1] - found[:, 0]).mean() < 0.5 * (np.quantile(y, 0.95) - np.quantile(y, 0.05))
    assert quantiled.predict(X) == pytest.approx(found[:, 2])
    answers = [answer for batch in quantiled.iter_batches(X, lambda: False, quantiled.opened()) for answer in batch]
    assert [answer.row for answer in answers] == list(range(80))
    assert answers[0].raw is not None
    assert len(answers[0].raw.split()) == len(LEVELS)
    assert list(quantiled.iter_batches(X, lambda: True, quantiled.opened())) == []
    assert quantiled.predict_quantiles(X[:0]).shape == (0, len(LEVELS))


def test_what_is_loaded_answers_as_before(quantiled: Tune, tmp_path: Path) -> None:
    X, _ = table(20, 4)
    before = quantiled.predict(X)
    quantiled.close()
    persist.save(quantiled, tmp_path / "kept")
    again = persist.load(tmp_path / "kept")
    assert np.array_equal(again.predict(X), before)
    again.close()


def test_a_prompt_that_does_not_fit_gets_the_training_parts_quantiles(base: Path, tmp_path: Path) -> None:
    X, y = table(9)
    made = tuner(base, head="quantiles", epochs=1, evaluations=0, folder=str(tmp_path), system="so " * 30).fit(X, y)
    assert all(answer.value is not None for answer in made.iter_predict(X))
    made.tuned_ += "&context=16"
    assert made.predict_quantiles(X) == pytest.approx(np.tile(np.quantile(y, LEVELS), (9, 1)))
    assert (made.predict(X) == np.median(y)).all()
    made.close()


def test_a_killed_tuning_ends_with_the_same_head_to_the_bit(base: Path, tmp_path: Path) -> None:
    numbers = numbers_for("quantiles", np.arange(1.0, 40.0), "mean_absolute_error")
    draw = np.random.default_rng(0)
    rows = [Row(tuple(draw.integers(10, 200, 6 + n % 5).tolist()), 5 + n % 5, n / 20 - 1) for n in range(40)]
    settings = TuneSettings(
        head="quantiles", step_tokens=60, micro_tokens=40, rank=4, dropout=0.1, epochs=2, patience=9
    )

    def steps(folder: Path) -> tuple[Headed, Iterator[Step]]:
        from transformers import AutoModelForCausalLM

        model = attach(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), settings)
        headed = begin(model, numbers, np.array([row.target for row in rows]))

        def score() -> float:
            return float(read(headed, [rows[0].ids], 0, 100)[0, 0])

        return headed, train(headed, rows, settings, folder, pad=0, evaluate=score, loss=loss_of(numbers))

    calm, undisturbed = steps(tmp_path / "calm")
    assert len(list(undisturbed)) > 10
    cut, begun = steps(tmp_path / "cut")
    for step in begun:
        if step.number == 9:
            break
    begun.close()  # type: ignore[attr-defined]
    state = checkpoint.read(tmp_path / "cut")
    assert state is not None
    assert 0 < state.step < 10
    assert "weights/head.weight" in state.tensors
    cut, resumed = steps(tmp_path / "cut")
    assert next(resumed).number == state.step + 1
    list(resumed)
    learned = {name: weights for name, weights in calm.named_parameters() if weights.requires_grad}
    others = dict(cut.named_parameters())
    assert torch.count_nonzero(learned["head.weight"])
    assert all(torch.equal(weights, others[name]) for name, weights in learned.items())
    save(calm, numbers, tmp_path)
    again, told = load(calm.model, tmp_path)
    assert told == numbers
    assert np.array_equal(
        read(again, [row.ids for row in rows], 0, 50), read(calm.eval(), [row.ids for row in rows], 0, 50)
    )


@pytest.mark.parametrize("name", ["regression", "quantiles"])
@pytest.mark.parametrize("metric", ["mean_absolute_error", "r2"])
def test_the_losses_are_scikit_learns(base: Path, name: Any, metric: str) -> None:
    from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error
    from transformers import AutoModelForCausalLM

    draw = np.random.default_rng(0)
    y = draw.normal(size=7)
    numbers = numbers_for(name, y, metric)
    model = begin(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval(), numbers, y)
    torch.nn.init.normal_(model.head.weight, 0, 0.1)
    rows = [Row(tuple(draw.integers(10, 200, 4 + n).tolist()), 3 + n, float(y[n])) for n in range(7)]
    found = read(model, [row.ids for row in rows], 0, 10_000)
    for row, numbers_found in zip(rows, found, strict=True):  # row by row, without padding
        hidden = model.model.model(input_ids=torch.tensor([row.ids])).last_hidden_state[0, -1]
        assert model.head(hidden).tolist() == pytest.approx(numbers_found.tolist(), abs=1e-4)
    loss = float(loss_of(numbers)(model, rows, 0).detach()) / 7
    if name == "quantiles":
        known = np.mean([mean_pinball_loss(y, found[:, n], alpha=level) for n, level in enumerate(LEVELS)])
    else:
        known = (mean_squared_error if metric == "r2" else mean_absolute_error)(y, found[:, 0])
    assert loss == pytest.approx(known, rel=1e-4)
    assert read(model, [row.ids for row in rows], 0, 10) == pytest.approx(found, abs=1e-4)


def test_when_the_log_scale_is_taken() -> None:
    even, skewed = np.arange(1.0, 100.0), np.exp(np.linspace(0, 6, 99))
    assert not numbers_for("regression", even, "mean_absolute_error").scale.log
    assert numbers_for("regression", skewed, "mean_absolute_error").scale.log
    assert numbers_for("regression", skewed, "root_mean_squared_log_error").scale.log
    assert not numbers_for("regression", skewed, "root_mean_squared_error").scale.log
    assert numbers_for("quantiles", skewed, "root_mean_squared_error").scale.log
    assert not numbers_for("quantiles", skewed - 2, "mean_absolute_error").scale.log
    assert not numbers_for("quantiles", np.append(np.zeros(200), skewed), "mean_absolute_error").scale.log
    assert numbers_for("regression", skewed, "mean_absolute_error").loss == "absolute"
    assert numbers_for("regression", skewed, "r2").loss == "squared"
    assert skewness(skewed) > 1 > abs(skewness(even))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("y", [np.exp(np.linspace(0, 9, 50)), np.array([0.0, 1.0, 5.0]), np.full(3, 0.1)])
def test_a_scale_goes_there_and_back(y: np.ndarray, log: bool) -> None:
    scale = Scale.of(y, log=log)
    z = scale.forward(y)
    assert z.mean() == pytest.approx(0, abs=1e-9)
    assert z.std() == pytest.approx(1 if np.ptp(y) else 0, abs=1e-9)
    assert scale.back(z) == pytest.approx(y)
    assert scale.back(np.array([-1e9, 1e9])).tolist() == [y.min(), y.max()]


def test_crossed_quantiles_are_sorted() -> None:
    numbers = numbers_for("quantiles", np.arange(1.0, 40.0), "mean_absolute_error")
    found = numbers.quantiles(np.array([[0.5, 0.1, 0.2, 1.0, 0.3]]))
    assert (np.diff(found) >= 0).all()
    assert numbers.answers(found) == pytest.approx(numbers.scale.back(np.array([0.3])))


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("label", {}, "head: regression answers with numbers, and the task is of kind label"),
        ("text", {}, "leave head out"),
        ("number", {"decode": "grammar"}, "decode: grammar is for answers in text"),
        ("number", {"head": "median"}, "median"),
    ],
)
def test_what_a_head_cannot_do(base: Path, kind: Any, settings: dict[str, Any], says: str) -> None:
    X, y = table(6)
    with pytest.raises(ContestantError, match=says):
        tuner(base, kind=kind, **settings).fit(X, y if kind == "number" else y.astype(str).astype(object))
    with pytest.raises(AttributeError, match="predict_quantiles"):
        clone(tuner(base)).predict_quantiles  # noqa: B018


def test_the_folder_says_what_the_head_is(quantiled: Tune) -> None:
    folder = Path(str(quantiled.folder)) / "tuned"
    card = (folder / "README.md").read_text()
    assert "loss of a row" in card
    assert "head.safetensors" in card
    with safe_open(folder / "head.safetensors", framework="pt") as file:
        told = msgspec.json.decode(file.metadata()["kurabe"])
    assert told["levels"] == list(LEVELS)
    assert set(told["scale"]) == {"log", "shift", "center", "unit", "low", "high"}


def test_an_export_takes_the_head_along(quantiled: Tune, tmp_path: Path) -> None:
    X, _ = table(10)
    before = quantiled.predict_quantiles(X)
    export(quantiled.tuned_, "adapter", tmp_path / "out")
    moved = re.sub(r"adapter=.*", f"adapter={tmp_path / 'out'}", quantiled.tuned_)
    forms: tuple[Form, ...] = ("merged", "gguf-adapter", "gguf")
    for form in forms:
        with pytest.raises(TuningError, match="--to adapter"):
            export(moved, form, tmp_path / form)
        assert not (tmp_path / form).exists()
    again = clone(quantiled).set_params(folder=quantiled.folder).fit(*table(100), table(30, 1))
    again.tuned_ = moved
    assert np.array_equal(again.predict_quantiles(X), before)
    again.close()


def test_all_weights_with_a_head_are_a_model_still(base: Path, tmp_path: Path) -> None:
    from kurabe import open_model

    X, y = table(9)
    made = tuner(base, method="full", epochs=1, evaluations=0, folder=str(tmp_path)).fit(X, y)
    made.close()
    with open_model(made.tuned_) as model:
        assert model.complete("so", max_tokens=2) is not None
    with pytest.raises(TuningError, match="copy"):
        export(made.tuned_, "merged", tmp_path / "out")


def test_a_score_that_is_not_defined_is_left_out_of_the_curve(base: Path, tmp_path: Path) -> None:
    X, y = table(9)
    made = tuner(base, metric="r2", epochs=1, evaluations=1, folder=str(tmp_path)).fit(X, y, (X[:3], np.full(3, 5.0)))
    made.close()
    assert made.notes_["tuning"]["scores"] == []
    assert checked_points([SimpleNamespace(name="tune", notes=made.notes_)]) == []  # type: ignore[list-item]


def test_an_output_layer_that_nothing_reads_is_left_as_it_is(tmp_path: Path) -> None:
    untied = tiny_model(tmp_path / "untied", initializer_range=0.1, tie_word_embeddings=False)
    X, y = table(9)
    made = tuner(untied, method="full", epochs=1, evaluations=0, weight_decay=0.5, folder=str(tmp_path / "out"))
    made.fit(X, y).close()
    before, after = (load_file(folder / "model.safetensors") for folder in (untied, tmp_path / "out" / "tuned"))
    assert torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])


def test_a_head_that_is_damaged_or_of_another_model(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    numbers = numbers_for("regression", np.arange(5.0), "mean_absolute_error")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    save(begin(model, numbers, np.zeros(5)), numbers, tmp_path)
    assert load_file(tmp_path / "head.safetensors")["weight"].shape == (1, 64)
    other = tiny_model(tmp_path / "other", hidden_size=32)
    with pytest.raises(TuningError, match="name the base model"):
        load(AutoModelForCausalLM.from_pretrained(other), tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"no")
    with pytest.raises(TuningError, match="cannot be read"):
        load(model, tmp_path)
