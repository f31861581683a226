"""The training loop on tiny random models: what a step does, and that a killed training ends as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from kurabe.errors import TuningError
from kurabe.models.engines.hf.load import Loaded
from kurabe.models.engines.hf.model import Transformers
from kurabe.testing.tiny import tiny_model
from kurabe.tuning import checkpoint
from kurabe.tuning.rows import Row, plan
from kurabe.tuning.settings import TuneSettings
from kurabe.tuning.train import Step, attach, train

SMALL = TuneSettings(step_tokens=200, micro_tokens=80, epochs=2, rank=4, warmup=0.0, evaluations=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("train") / "chat")


def some_rows(count: int = 40) -> list[Row]:
    """Rows whose answer is the prompt's last three tokens."""
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        prompt = [draw.randrange(10, 200) for _ in range(draw.randrange(4, 20))]
        rows.append(Row((*prompt, *prompt[-3:], 0), len(prompt)))
    return rows


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def run(model: Any, settings: TuneSettings, folder: Path, **more: Any) -> list[Step]:
    return list(train(model, some_rows(), settings, folder, pad=0, **more))


@pytest.mark.parametrize(("method", "answers"), [("lora", False), ("full", False), ("lora", True), ("full", True)])
def test_a_step_is_that_of_a_plain_loop(base: Path, tmp_path: Path, method: Any, answers: bool) -> None:
    """Row by row, unpadded, with all logits, and torch's own optimizer. `answers`: the model is asked before it is
    trained and in between, by the engine that changes its layers and its attention for speed."""
    settings = TuneSettings(
        method=method, learning_rate=1e-3, schedule="constant", warmup=0.0, rank=4, step_tokens=150, micro_tokens=80,
        max_steps=3, weight_decay=0.1,
    )  # fmt: skip
    ours, plain = attach(load(base), settings), attach(load(base), settings)

    def ask() -> float:
        loaded = Loaded(ours, AutoTokenizer.from_pretrained(base), 512, (0,), "hf:tiny")
        with_engine = Transformers.of(loaded)
        assert with_engine.chat("a kettle", max_tokens=3).usage.output
        return 1.0

    if answers:
        ask()
    settings = msgspec.structs.replace(settings, evaluations=3)
    steps = list(train(ours, some_rows(), settings, tmp_path, pad=0, evaluate=ask if answers else None,
                       lower_is_better=False))  # fmt: skip
    if answers:  # the best weights are those of the first score: all are alike
        state = checkpoint.read(tmp_path)
        assert state is not None
        with torch.no_grad():
            for name, weights in ours.named_parameters():
                if weights.requires_grad:
                    weights.copy_(state.tensors[f"weights/{name}"])
    assert len(steps) == 3
    rows = some_rows()
    learned = [weights for weights in plain.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, weight_decay=0.1)
    for step, batches in zip(steps, plan(rows, step_tokens=150, micro_tokens=80, epochs=1, seed=0), strict=False):
        losses = []
        for row in (rows[number] for batch in batches for number in batch):
            ids = torch.tensor([row.ids])
            labels = ids.clone()
            labels[:, : row.answer] = -100
            logits = plain(input_ids=ids).logits[0, :-1]
            losses += [torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="none", ignore_index=-100)]
        answered = sum(len(rows[number].ids) - rows[number].answer for batch in batches for number in batch)
        loss = torch.cat(losses).sum() / answered
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        assert step.loss == pytest.approx(float(loss.detach()), abs=1e-4)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


def test_it_learns(base: Path, tmp_path: Path) -> None:
    settings = TuneSettings(learning_rate=1e-2, step_tokens=100, epochs=8, rank=8)
    losses = [step.loss for step in run(attach(load(base), settings), settings, tmp_path)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_only_adapters_are_learned(base: Path, tmp_path: Path) -> None:
    model = attach(load(base), SMALL)
    run(model, SMALL, tmp_path)
    before = dict(load(base).named_parameters())
    for name, weights in model.named_parameters():
        if "lora_" in name:
            assert weights.requires_grad
        else:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(weights, before[plain])


def test_checkpointing_changes_nothing(base: Path, tmp_path: Path) -> None:
    plain = run(attach(load(base), SMALL), SMALL, tmp_path / "a")
    again = msgspec.structs.replace(SMALL, checkpointing=True)
    less = run(attach(load(base), again), again, tmp_path / "b")
    assert [step.loss for step in plain] == pytest.approx([step.loss for step in less], abs=1e-6)


def test_the_best_weights_are_taken_and_patience_ends_it(base: Path, tmp_path: Path) -> None:
    settings = TuneSettings(step_tokens=100, rank=4, evaluations=100, patience=2)
    scores = iter([5.0, 3.0, 4.0, 4.5, 1.0])
    kept: list[dict[str, torch.Tensor]] = []
    model = attach(load(base), settings)

    def evaluate() -> float:
        assert not model.training
        kept.append({name: weights.detach().clone() for name, weights in model.named_parameters()})
        return next(scores)

    steps = run(model, settings, tmp_path, evaluate=evaluate)
    assert [step.score for step in steps] == [5.0, 3.0, 4.0, 4.5]
    for name, weights in model.named_parameters():
        assert torch.equal(weights, kept[1][name])


CHILD = """
import os, random, signal, sys, time
from pathlib import Path
import msgspec, peft, torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM
from kurabe.tuning import train as loop
from kurabe.tuning.rows import Row, plan
from kurabe.tuning.settings import TuneSettings
loop.KEEP_SECONDS = 0.02
base, out = map(Path, sys.argv[1:3])
rows = msgspec.json.decode(sys.argv[3], type=list[Row])
settings = TuneSettings(step_tokens=60, micro_tokens=60, epochs=4, rank=4, dropout=0.1, evaluations=5, patience=9)

def work(name, pipe):
    model = loop.attach(LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), settings)
    def evaluate():
        return float(sum(w.abs().sum() for w in model.parameters() if w.requires_grad))
    for step in loop.train(model, rows, settings, out / name, pad=0, evaluate=evaluate):
        os.write(pipe, f"{step.number} {step.of}\\n".encode())
    save_file({n: w.detach() for n, w in model.named_parameters() if w.requires_grad}, out / f"{name}.safetensors")

def start(name, share):
    \"\"\"Train in a process of its own, killed behind that share of the steps; (first, last step, how it ended).\"\"\"
    end, begin = os.pipe()
    if not (child := os.fork()):
        try:
            work(name, begin)
            os._exit(0)
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
    os.close(begin)
    steps = []
    with open(end) as lines:
        for line in lines:
            done, count = map(int, line.split())
            steps.append(done)
            if done >= share * count:
                time.sleep(random.Random(share).random() * 0.05)
                os.kill(child, signal.SIGKILL)
                steps += [int(line.split()[0]) for line in lines]
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(steps[0], steps[-1], count, ended, flush=True)

start("whole", 2)
for share in (0.2, 0.5, 0.8):
    start("killed", share)
start("killed", 2)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_killed_three_times_it_ends_with_the_same_weights_to_the_bit(base: Path, tmp_path: Path) -> None:
    """One process loads the libraries, and each training is a fork of it."""
    rows = msgspec.json.encode(some_rows(60)).decode()
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(base), str(tmp_path), rows],
        stdout=subprocess.PIPE, text=True, timeout=240, check=True,
    ).stdout  # fmt: skip
    whole, *killed, last = [tuple(map(int, line.split())) for line in said.splitlines()]
    count = whole[2]
    assert count > 30
    assert whole == (1, count, count, 0)
    assert [ended for *_, ended in killed] == [-signal.SIGKILL] * 3
    assert all(
        1 < begun <= before + 2 for (begun, *_), (_, before, *_) in zip([*killed[1:], last], killed, strict=True)
    )
    assert last[1:] == (count, count, 0)
    one, other = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "killed.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_score_that_is_no_number_is_none_that_is_kept(base: Path, tmp_path: Path) -> None:
    settings = TuneSettings(step_tokens=100, rank=4, evaluations=100, patience=9, max_steps=4)
    scores = iter([float("nan"), 3.0, float("nan"), 4.0])
    kept: list[dict[str, torch.Tensor]] = []
    model = attach(load(base), settings)

    def evaluate() -> float:
        kept.append({name: weights.detach().clone() for name, weights in model.named_parameters()})
        return next(scores)

    run(model, settings, tmp_path, evaluate=evaluate)
    for name, weights in model.named_parameters():
        assert torch.equal(weights, kept[1][name])


@pytest.mark.parametrize("given", [("query",), "query", ("q_proj", "query")])
def test_a_target_module_that_does_not_exist(base: Path, given: Any) -> None:
    with pytest.raises(TuningError, match=r"no layer 'query'; its linear layers are called down_proj.*q_proj"):
        attach(load(base), TuneSettings(target_modules=given))


@pytest.mark.parametrize("given", [("q_proj",), "q_proj", ("self_attn.q_proj",)])
def test_target_modules_by_name(base: Path, given: Any) -> None:
    model = attach(load(base), TuneSettings(target_modules=given))
    learned = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert len(learned) == 4
    assert all(".q_proj.lora_" in name for name in learned)


def test_all_weights_are_learned_in_float32(base: Path, tmp_path: Path) -> None:
    """In bfloat16 most steps of the default rate would be rounded away."""
    settings = TuneSettings(method="full", step_tokens=200, max_steps=2, warmup=0.0, evaluations=0)
    model = attach(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), settings)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    run(model, settings, tmp_path)
    for name, weights in model.named_parameters():
        assert weights.dtype == torch.float32
        if "layers." in name:
            assert (weights != before[name]).float().mean() > 0.9, name


def test_weights_that_nothing_reads_stay_and_stand_in_nothings_way(base: Path, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SMALL, method="full")
    model = load(base)
    model.unread = torch.nn.Parameter(torch.ones(3))
    model = attach(model, settings)
    for step in (steps := train(model, some_rows(), settings, tmp_path, pad=0, evaluate=lambda: 1.0)):
        if step.number == 2:
            break
    steps.close()  # type: ignore[attr-defined]
    run(model, settings, tmp_path)
    state = checkpoint.read(tmp_path)
    assert state is not None
    assert state.tensors["mean/unread"].tolist() == [0, 0, 0]
    assert model.unread.tolist() == [1, 1, 1]


def test_a_loss_that_is_no_number(base: Path, tmp_path: Path) -> None:
    model = attach(load(base), SMALL)
    with torch.no_grad():
        next(weights for name, weights in model.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(TuningError, match="lower learning_rate"):
        run(model, SMALL, tmp_path)


def test_a_damaged_and_a_foreign_checkpoint(base: Path, tmp_path: Path) -> None:
    run(attach(load(base), SMALL), SMALL, tmp_path)
    with pytest.raises(TuningError, match="other settings"):
        run(attach(load(base), TuneSettings(rank=8)), TuneSettings(rank=8, epochs=9), tmp_path)
    path = tmp_path / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TuningError, match="damaged"):
        run(attach(load(base), SMALL), SMALL, tmp_path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(TuningError, match="damaged"):
        run(attach(load(base), SMALL), SMALL, tmp_path)


def test_a_folder_that_cannot_be_written_loses_nothing(base: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(TuningError, match="make room and run it again"):
        run(attach(load(base), SMALL), SMALL, blocked)


def test_no_rows(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="no rows"):
        list(train(attach(load(base), SMALL), [], SMALL, tmp_path, pad=0))
