"""`kurabe export` of a contestant of a run: what comes out is what the contest tuned."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kurabe import open_model
from kurabe.api import Task
from kurabe.cli.export import _only_tuned, command
from kurabe.contest.journal import EntryRecord
from kurabe.errors import InputError
from kurabe.models.engines.base import LocalModel
from kurabe.tasks.spec import Data, TaskSpec
from kurabe.testing.tiny import tiny_model

TASK = """\
name: colours
kind: label
data: {{source: rows.csv}}
target: colour
contestants:
  - constant
  - {{tune: {{{settings}}}, as: adapters}}
  - {{tune: {{method: full, {settings}}}, as: everything}}
"""
SETTINGS = 'model: "hf:{base}", max_steps: 2, learning_rate: 1e-2, evaluations: 0, general: false'


def first_logits(reference: str) -> float:
    with open_model(reference) as model:
        assert isinstance(model, LocalModel)
        return float(model.logits("A red kettle")[-1].std())


def test_a_contestant_of_a_run(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    words = ["rot", "blau", "gelb"]
    rows = [f"{words[n % 3]} {n},{['red', 'blue', 'yellow'][n % 3]}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("word,colour\n" + "\n".join(rows) + "\n")
    (tmp_path / "task.yaml").write_text(TASK.format(settings=SETTINGS.format(base=base)))
    Task.from_file(tmp_path / "task.yaml").compete(limit=3, progress=False)

    def export(contestant: str | None, to: str, out: str) -> str:
        named = [] if contestant is None else [contestant]
        arguments = [str(tmp_path / "task.yaml"), *named, "--to", to, "--out", str(tmp_path / out)]
        done = CliRunner().invoke(command, arguments)
        if done.exception is not None:
            raise done.exception
        return done.output

    assert export("adapters", "adapter", "adapter") == f"Wrote {tmp_path / 'adapter'}\n"
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    export("adapters", "merged", "merged")
    assert "Tuned by kurabe on " in (tmp_path / "merged" / "README.md").read_text()
    adapted, plain = first_logits(f"hf:{base}?adapter={tmp_path / 'adapter'}"), first_logits(f"hf:{base}")
    assert first_logits(f"hf:{tmp_path / 'merged'}") == pytest.approx(adapted, rel=1e-5)
    assert adapted != pytest.approx(plain, rel=1e-4)
    export("everything", "merged", "full")
    assert first_logits(f"hf:{tmp_path / 'full'}") != pytest.approx(plain, rel=1e-4)
    export("everything", "gguf", "full.gguf")
    assert (tmp_path / "full.gguf").read_bytes()[:4] == b"GGUF"
    with pytest.raises(InputError, match="'constant' is no model that was tuned on this machine"):
        export("constant", "merged", "none")
    with pytest.raises(InputError, match=r"which contestant.* one of adapters, everything"):
        export(None, "merged", "none")


def test_the_one_tuned_contestant_needs_no_name() -> None:
    spec = TaskSpec("t", Data("t.csv"), "y", "label", contestants=("constant", {"tune": {"model": "hf:a"}}))
    entries = [EntryRecord(label, b"", n, None, "done", None) for n, label in enumerate(("constant", "tune"))]
    assert _only_tuned(spec, entries) == "tune"
    with pytest.raises(InputError, match="no contestant of this run was tuned"):
        _only_tuned(spec, entries[:1])
