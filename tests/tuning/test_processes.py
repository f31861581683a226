"""Several processes that train together: the steps are those of one process, and a checkpoint fits any number."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from kurabe.errors import MissingExtraError, TuningError
from kurabe.models.reference import Reference
from kurabe.testing.tiny import tiny_model
from kurabe.tuning import head, processes
from kurabe.tuning.processes import World, deal, hand, together
from kurabe.tuning.rows import Row
from kurabe.tuning.settings import TuneSettings
from kurabe.tuning.train import _Learner, _loss, assist, attach, train


@given(st.lists(st.integers(1, 900), min_size=1, max_size=30), st.integers(1, 5))
def test_all_work_is_dealt_out_and_nobody_has_much_more(costs: list[int], hands: int) -> None:
    dealt = deal(costs, hands)
    assert sorted(piece for pieces in dealt for piece in pieces) == list(range(len(costs)))
    loads = [sum(costs[piece] for piece in pieces) for pieces in dealt]
    assert max(loads) - min(loads) <= max(costs)
    worlds = [World(rank, hands, rank, True, None) for rank in range(hands)]
    handed = [hand(costs, world) for world in worlds]
    assert len({len(pieces) for pieces in handed}) == 1
    assert [[piece for piece, share in pieces if share] for pieces in handed] == dealt


def test_alone_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters say for other purposes
    monkeypatch.delenv("RANK", raising=False)
    with together(assist) as first:
        assert first
    assert hand([3, 4], None) == [(0, 1.0), (1, 1.0)]


def test_processes_that_cannot_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(TuningError, match=r"MASTER_ADDR.*accelerate launch or torchrun, or unset RANK"),
        together(assist),
    ):
        pass
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="transformers"), together(assist):
        pass


# One process loads the libraries; those that train are forks of it.
CHILD = """
import json, os, random, signal, sys
from pathlib import Path
import peft, torch
from torch.distributed import fsdp, tensor  # loaded once, here
from kurabe.models.engines.hf import load as hf_load
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.reference import parse_reference
from kurabe.tuning import checkpoint
from kurabe.tuning.processes import together
from kurabe.tuning.train import assist
from kurabe.tuning.rows import Row
from kurabe.tuning.settings import TuneSettings
from kurabe.tuning.train import attach, train
base, out = map(Path, sys.argv[1:3])
ports = json.loads(sys.argv[3])
reference = parse_reference(f"hf:{base}")
draw = random.Random(0)
rows = []
for _ in range(24):
    prompt = [draw.randrange(10, 200) for _ in range(draw.randrange(4, 20))]
    rows.append(Row((*prompt, *prompt[-3:], 0), len(prompt)))

def work(name, end, broken):
    settings = TuneSettings(method=method, step_tokens=100, micro_tokens=50, epochs=2, rank=4, dropout=0.1,
                            learning_rate=1e-3, evaluations=2, patience=9)
    said, shared = json.loads((out / f"{name}.json").read_text())[1:] if (out / name).exists() else ([], [])
    loaded = hf_load.load(base, reference)
    model = attach(loaded.model, settings)
    def evaluate():
        shared.append(any(hasattr(weights, "full_tensor") for weights in loaded.model.parameters()))
        if broken:
            loaded.model.model.layers[1].register_forward_pre_hook(fail)
        engine = Transformers.of(loaded, str(reference))
        said.append(engine.chat("a kettle", max_tokens=4, temperature=0.0).text)
        return float(len(said))
    for step in train(model, rows, settings, out / name, pad=0, evaluate=evaluate, base=reference):
        if step.number == end:
            break
    kept = checkpoint.read(out / name)
    (out / f"{name}.json").write_text(json.dumps([kept.notes["losses"], said, shared]))

def fail(*_):
    raise MemoryError("no room")

def start(name, count, end=0, sharded=False, broken=False):
    port = ports.pop()
    children = []
    for rank in range(count):
        if not (child := os.fork()):
            signal.alarm(20)  # none is left behind where they wait for each other
            if count > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                               "ACCELERATE_USE_FSDP": str(sharded).lower()}
            try:
                with together(assist) as first:
                    if first:
                        work(name, end, broken)
                os._exit(0)
            except BaseException as error:
                print(name, rank, repr(error), flush=True)
                os._exit(1)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ended == [int(broken)] * count, (name, ended)

method = sys.argv[4]
start("one", 1)
start("two", 2)
start("cut", 2, end=4, sharded=True)
start("cut", 1)
start("broken", 2, sharded=True, broken=True)
"""


def trained(folder: Path, method: str) -> Path:
    ports = []
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    base = tiny_model(folder / "base", initializer_range=0.1)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(base), str(folder), json.dumps(ports), method],
        timeout=240, check=True,
    )  # fmt: skip
    return folder


@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_the_steps_are_those_of_one_process(tmp_path: Path, method: str) -> None:
    """With rows dealt out over two; and with the weights shared out over two (FSDP), cut off, and gone on by one. Where
    the first can't go on in the midst of scoring, the other does not wait for it."""
    trained(tmp_path, method)
    one = load_file(tmp_path / "one" / "checkpoint.safetensors")
    losses, said, shared = json.loads((tmp_path / "one.json").read_text())
    assert len(losses) > 5
    assert shared == [False, False]
    for name, shares in (("two", [False, False]), ("cut", [True, False])):
        other = load_file(tmp_path / name / "checkpoint.safetensors")
        assert one.keys() == other.keys()
        for tensor in one:
            assert one[tensor].allclose(other[tensor], atol=1e-4), (name, tensor)
        found: list[Any] = json.loads((tmp_path / f"{name}.json").read_text())
        assert found == [pytest.approx(losses, abs=1e-4), said, shares]


def test_only_the_first_keeps_what_is_gathered(tmp_path: Path) -> None:
    """All of the weights need not fit beside the others' shares."""
    settings = TuneSettings()
    model = attach(AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "base")), settings)
    first, other = (
        _Learner(model, [Row((5, 6, 7), 2)], settings, 0, _loss, World(rank, 2, rank, False, None)) for rank in (0, 1)
    )
    assert first.gather("weights").keys() == {f"weights/{name}" for name in first.learned}
    assert other.gather("weights") == {}


def test_what_cannot_be_shared_out_is_said_before_the_others_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "base"))
    headed = head.Headed(model, head.HeadLayer(32, 1))
    monkeypatch.setattr(processes, "_world", World(0, 2, 0, True, None))
    with pytest.raises(TuningError, match="number head can't be trained with FSDP"):
        next(train(headed, [Row((5, 6, 7), 2)], TuneSettings(), tmp_path, pad=0, base=Reference("hf", "tiny", {})))


TASK = """
name: {name}
data: {{source: items.csv, split: {{test: 10, validation: 0.3, seed: 5}}}}
input: "{{{{ text }}}}"
target: {target}
kind: {kind}
contestants:
- tune: {{model: "hf:{base}", {settings}, step_tokens: 600, micro_tokens: 200, evaluations: 2, learning_rate: 0.001}}
prompt: {{user: "{{{{ input }}}}", prefill: ""}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how", "settings"),
    [
        ("colour", ("--use_fsdp", "--fsdp_version", "2"), "method: lora"),
        ("size", ("--multi_gpu",), "head: quantiles, general: false"),
    ],
)
def test_accelerate_launch(tmp_path: Path, name: str, how: tuple[str, ...], settings: str) -> None:
    """The commands in the documentation make of a task file what the same command makes in one process."""
    base = tiny_model(tmp_path / "base", initializer_range=0.1)
    colours = {"rot": "red", "blau": "blue", "gelb": "yellow"}
    words = [list(colours)[n % 3] for n in range(60)]
    rows = [f"{word} {n},{colours[word]},{n % 7 + 0.5}\n" for n, word in enumerate(words)]
    kind = "label" if name == "colour" else "number"
    made: list[tuple[dict[str, Any], Any]] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        (folder / "items.csv").write_text("text,colour,size\n" + "".join(rows))
        text = TASK.format(name=name, target=name, kind=kind, base=base, settings=settings)
        (folder / "task.yaml").write_text(text)
        launch = ("accelerate.commands.launch", *how, "--num_processes", "2", "-m") if folder.name == "two" else ()
        board = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *launch, "kurabe", "tune", str(folder / "task.yaml"), "--json"],
            timeout=280, check=True, capture_output=True,
        ).stdout  # fmt: skip
        (tuned,) = (folder / ".kurabe" / "tuned").iterdir()
        notes = json.loads((tuned / "tuned" / "notes.json").read_text())
        weights = {file.name: load_file(file) for file in sorted((tuned / "tuned").glob("*.safetensors"))}
        made.append((weights, (notes["tuning"]["losses"], json.loads(board)["rows"][0]["score"])))
    (one, (losses, score)), (two, (other, same)) = made
    assert one.keys() == two.keys()
    for file, tensors in one.items():
        assert tensors.keys() == two[file].keys()
        assert all(tensors[part].allclose(two[file][part], atol=1e-4) for part in tensors)
    assert other == pytest.approx(losses, abs=1e-4)
    assert same == pytest.approx(score, rel=1e-3)


def test_a_process_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(TuningError, match="what it printed says why"):
        World(0, 2, 0, False, None).with_others(broken)
