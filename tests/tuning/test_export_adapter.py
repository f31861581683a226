"""An adapter that is copied keeps what its reference says, and a sweep's tuned model is exported as any other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM

from kurabe import open_model
from kurabe.api import Task
from kurabe.cli.export import command
from kurabe.errors import ModelError, TuningError
from kurabe.models.engines.base import LocalModel
from kurabe.testing.tiny import tiny_model
from kurabe.tuning.export import export
from kurabe.tuning.settings import TuneSettings
from kurabe.tuning.train import attach


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = attach(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), TuneSettings(rank=4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weights in model.parameters():
            if weights.requires_grad:
                torch.nn.init.normal_(weights, 0, 0.3)
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    model.save_pretrained(folder)
    return folder


def logits(reference: str) -> np.ndarray:
    with open_model(reference) as model:
        assert isinstance(model, LocalModel)
        return model.logits("A red kettle")


def test_the_scale_is_in_the_copy(base: Path, adapter: Path, tmp_path: Path) -> None:
    scaled = f"hf:{base}?adapter={adapter}&scale=0.25"
    export(scaled, "adapter", tmp_path / "copy")
    found = logits(f"hf:{base}?adapter={tmp_path / 'copy'}")
    assert np.allclose(found, logits(scaled), atol=1e-5)
    assert not np.allclose(found, logits(f"hf:{base}?adapter={adapter}"), atol=1e-2)


@pytest.mark.parametrize("form", ["adapter", "merged", "gguf-adapter", "gguf"])
def test_a_scale_that_is_no_number(base: Path, adapter: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(ModelError, match="'scale' must be a number, not 'half'"):
        export(f"hf:{base}?adapter={adapter}&scale=half", form, tmp_path / "out")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_what_has_no_scale(base: Path, adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in adapter.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "adapter_config.json").read_bytes()) | {"peft_type": "IA3"}
    (other / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(TuningError, match="scale is for LoRA"):
        export(f"hf:{base}?adapter={other}&scale=0.5", "adapter", tmp_path / "out")


def test_the_model_that_a_sweep_chose(base: Path, tmp_path: Path) -> None:
    words = ["rot", "blau", "gelb"]
    rows = [f"{words[n % 3]} {n},{['red', 'blue', 'yellow'][n % 3]}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("word,colour\n" + "\n".join(rows) + "\n")
    tune = f'{{tune: {{model: "hf:{base}", max_steps: 1, evaluations: 0, general: false}}}}'
    (tmp_path / "task.yaml").write_text(
        "name: colours\nkind: label\ndata: {source: rows.csv}\ntarget: colour\ncontestants:\n"
        f"- {{sweep: {{contestant: {tune}, over: {{rank: [2]}}}}, as: best}}\n"
    )
    Task.from_file(tmp_path / "task.yaml").compete(limit=2, progress=False)
    given = [str(tmp_path / "task.yaml"), "best", "--to", "adapter", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(command, given).exception is None
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_bytes())["r"] == 2
    (home,) = tmp_path.glob(".kurabe/sweeps/*/*/tuned")
    export(f"hf:{base}?adapter={home}", "merged", tmp_path / "merged")
    for card in (tmp_path / "out" / "README.md", tmp_path / "merged" / "README.md"):
        assert "Tuned by kurabe on " in card.read_text()
        assert str(base.parent) not in card.read_text()  # where a model lies on this machine is nobody else's business


def test_what_is_exported_is_not_replaced(base: Path, adapter: Path) -> None:
    before = (base / "model.safetensors").read_bytes()
    for form, out in (("merged", base), ("adapter", adapter)):
        with pytest.raises(TuningError, match="is what is exported; name another path"):
            export(f"hf:{base}?adapter={adapter}", form, out, force=True)  # type: ignore[arg-type]
    assert (base / "model.safetensors").read_bytes() == before
