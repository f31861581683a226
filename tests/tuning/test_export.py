"""Tuned models as files: every form answers as the adapter on top of its base does, and nothing is ever there half."""

import json
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from kurabe import open_model
from kurabe.cli.export import command
from kurabe.errors import KurabeError, TuningError
from kurabe.messages import Request, User
from kurabe.models.engines.base import LocalModel
from kurabe.models.engines.hf import load as hf_load
from kurabe.models.engines.hf.model import Transformers
from kurabe.models.engines.llama.model import LlamaCpp
from kurabe.models.reference import Reference, parse_reference
from kurabe.models.weights.gguf import read_header
from kurabe.testing.tiny import tiny_model
from kurabe.testing.tiny_gguf import tiny_bert
from kurabe.tuning.export import FORMS, Form, export
from kurabe.tuning.rows import training_row
from kurabe.tuning.settings import TuneSettings
from kurabe.tuning.train import attach, train

FAIR = "cache_type=f32&flash_attention=off&threads=1"
"""Everything in float32, as Transformers computes it."""
PROMPTS = [f"How much does item {number} cost?" for number in range(10)]


def tuned(base: Path, folder: Path, size: float = 0.3, **settings: Any) -> str:
    """The reference of the base with an adapter of random numbers."""
    model = attach(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), TuneSettings(rank=4, **settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weights in model.parameters():
            if weights.requires_grad:
                torch.nn.init.normal_(weights, 0, size)
    model.save_pretrained(folder)
    return f"hf:{base}?adapter={folder}"


def scores(reference: str) -> np.ndarray:
    """(tokens, vocabulary): what the model makes of a text, less what is the same for all tokens."""
    with open_model(reference) as model:
        assert isinstance(model, LocalModel)
        found = model.logits("Question: How much does a red kettle cost?")
    centred: np.ndarray = found - found.mean(axis=1, keepdims=True)
    return centred


def alike(one: np.ndarray, other: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether they differ by less than that share of their spread."""
    return one.shape == other.shape and float(abs(one - other).max()) < tolerance * float(other.std())


def near(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether rounding to 16 bits can explain how they differ: on average by less than a tenth of their spread."""
    return float(abs(one - other).mean()) < 0.1 * float(other.std())


def greedy(reference: str) -> list[list[int]]:
    """The tokens of eight greedy steps for each prompt."""
    with open_model(reference) as model:
        assert isinstance(model, LocalModel)
        return [
            [piece.id for piece in model.generate(prompt, max_tokens=8, temperature=0.0).answer] for prompt in PROMPTS
        ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("export") / "chat")


@pytest.fixture(scope="module")
def model(base: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tuned(base, tmp_path_factory.mktemp("export") / "adapter")


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (LlamaConfig, {}),
        (LlamaConfig, {"tie_word_embeddings": False, "attention_bias": True, "rope_parameters": LINEAR}),
        (LlamaConfig, {"rope_parameters": LLAMA3, "head_dim": 16}),
        (MistralConfig, {}),
        (Qwen2Config, {"tie_word_embeddings": False}),
        (Qwen3Config, {"head_dim": 16}),
    ],
    ids=["llama", "llama-linear", "llama3", "mistral", "qwen2", "qwen3"],
)
def test_every_form_gives_the_same_answers(kind: Any, more: dict[str, Any], base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    fields = json.loads((base / "config.json").read_text())
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "initializer_range",
            "bos_token_id", "eos_token_id")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = AutoModelForCausalLM.from_config(kind(**{name: fields[name] for name in kept} | more))
        for weights in made.parameters():
            weights.data += 0.1 * torch.randn_like(weights)  # biases and norms too
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    model = tuned(folder, tmp_path / "adapter")
    export(model, "merged", tmp_path / "merged")
    export(model, "adapter", tmp_path / "copy")
    export(model, "gguf", tmp_path / "merged.gguf", type="f32")
    export(model, "gguf-adapter", tmp_path / "adapter.gguf")
    export(f"hf:{folder}", "gguf", tmp_path / "base.gguf", type="f32")
    expected = scores(model)
    assert not alike(scores(f"hf:{folder}"), expected, 0.3)
    assert alike(scores(f"hf:{folder}?adapter={tmp_path / 'copy'}"), expected)
    assert alike(scores(f"hf:{tmp_path / 'merged'}"), expected)
    assert alike(scores(f"gguf:{tmp_path / 'merged.gguf'}?{FAIR}"), expected)
    assert alike(scores(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}&adapter={tmp_path / 'adapter.gguf'}"), expected)
    assert alike(scores(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}"), scores(f"hf:{folder}"))


def test_greedy_answers_are_the_same(model: str, base: Path, tmp_path: Path) -> None:
    export(model, "merged", tmp_path / "merged")
    export(model, "gguf", tmp_path / "merged.gguf", type="f32")
    export(model, "gguf-adapter", tmp_path / "adapter.gguf")
    export(f"hf:{base}", "gguf", tmp_path / "base.gguf", type="f32")
    expected = greedy(model)
    assert expected != greedy(f"hf:{base}")
    assert greedy(f"hf:{tmp_path / 'merged'}") == expected
    assert greedy(f"gguf:{tmp_path / 'merged.gguf'}?{FAIR}") == expected
    assert greedy(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}&adapter={tmp_path / 'adapter.gguf'}") == expected


def test_a_gguf_file_keeps_what_its_base_says(model: str, base: Path, tmp_path: Path) -> None:
    """From a GGUF file to another one, by an adapter of half the weight, and by weights that are all tuned."""
    export(f"hf:{base}", "gguf", tmp_path / "base.gguf", type="f16")
    over = model.replace(str(base), str(tmp_path / "base.gguf")) + "&scale=0.5"
    export(over, "gguf", tmp_path / "half.gguf", type="f32")
    export(over, "gguf-adapter", tmp_path / "half-adapter.gguf", type="bf16")
    export(over, "merged", tmp_path / "half", type="bf16")
    expected = scores(over)
    assert alike(scores(f"gguf:{tmp_path / 'half.gguf'}?{FAIR}"), expected)
    assert not alike(scores(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}"), expected, 0.3)
    rounded = scores(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}&adapter={tmp_path / 'half-adapter.gguf'}")
    assert near(rounded, expected)
    assert near(scores(f"hf:{tmp_path / 'half'}"), expected)
    assert not near(scores(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}"), expected)

    export(f"hf:{tmp_path / 'half'}", "gguf", tmp_path / "full.gguf", type="f32", origin=f"hf:{tmp_path / 'base.gguf'}")
    before, after = read_header(tmp_path / "base.gguf"), read_header(tmp_path / "full.gguf")
    assert before.metadata | {"general.file_type": 0} == after.metadata
    assert before.lengths == after.lengths
    assert {info.name for info in before.infos} == {info.name for info in after.infos}
    assert alike(scores(f"gguf:{tmp_path / 'full.gguf'}?{FAIR}"), scores(f"hf:{tmp_path / 'half'}"))


@pytest.mark.parametrize(("kind", "bits"), [("f16", 16), ("bf16", 16), ("q8_0", 8.5)])
def test_types(kind: Any, bits: float, model: str, tmp_path: Path) -> None:
    export(model, "gguf", tmp_path / "out.gguf", type=kind)
    infos = [info for info in read_header(tmp_path / "out.gguf").infos if len(info.shape) > 1]
    assert {8 * (info.bytes or 0) / prod(info.shape) for info in infos} == {bits}
    assert near(scores(f"gguf:{tmp_path / 'out.gguf'}?{FAIR}"), scores(model))


LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pre_tokenizer(name: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    regex = LLAMA3_REGEX if name == "llama-bpe" else LLAMA3_REGEX.replace("{1,3}", "")
    cut = pre_tokenizers.Split(Regex(regex), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
@pytest.mark.parametrize("bos", [False, True])
def test_texts_are_cut_alike(name: str, bos: bool, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "base", bos=bos)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inside = tokenizer.backend_tokenizer
    inside.pre_tokenizer = pre_tokenizer(name)
    # Pairs that only one way of cutting lets grow together.
    from tokenizers import pre_tokenizers, trainers

    texts = ["It's 1234567 kettles,  they'LL cost 12345.99!\n\n\n  def f(x):\n\treturn x\r\n" * 3, "12 123 1234 it's"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>", "<s>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    inside.train_from_iterator(texts * 4, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=inside, bos_token="<s>", eos_token="<|im_end|>", clean_up_tokenization_spaces=False
    ).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    made = AutoModelForCausalLM.from_config(LlamaConfig(**{**config, "vocab_size": 512}))
    made.save_pretrained(folder)
    export(f"hf:{folder}", "gguf", tmp_path / "m.gguf")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with LlamaCpp(tmp_path / "m.gguf", Reference("gguf", "m", {})) as opened:
        for text in [*texts, "naïve 东京 kettle's\t 99 😀", "a<|im_end|>b", " x"]:
            ids = [piece.id for piece in opened.tokenize(text, special=True)]
            assert ids == tokenizer(text).input_ids, text
    assert read_header(tmp_path / "m.gguf").metadata["tokenizer.ggml.pre"] == name
    assert read_header(tmp_path / "m.gguf").metadata["tokenizer.ggml.add_bos_token"] == bos


def test_what_is_there_stays(model: str, tmp_path: Path) -> None:
    export(model, "adapter", tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.py").write_text("mine")
    for to, out, says in (
        ("adapter", "out", "is there already; name another path, or add --force"),
        ("merged", "file", "is a file, and a folder is to be written"),
        ("gguf", "folder", "is a folder, and a file is to be written"),
        ("gguf", "file", "is there already"),
    ):
        with pytest.raises(TuningError, match=says):
            export(model, cast(Form, to), tmp_path / out)
    with pytest.raises(TuningError, match=r"holds 'mine.py', which no export writes"):
        export(model, "merged", tmp_path / "folder", force=True)
    export(model, "merged", tmp_path / "out", force=True)
    export(model, "gguf", tmp_path / "file", force=True)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert (tmp_path / "file").read_bytes()[:4] == b"GGUF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "out"]
    assert (tmp_path / "folder" / "mine.py").read_text() == "mine"


def test_a_disk_that_is_full(model: str, tmp_path: Path) -> None:
    """No file may grow beyond 1000 bytes, which ends a write as a full disk does."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from kurabe.errors import TuningError\n"
        "from kurabe.tuning.export import FORMS, Form, export\n"
        "import kurabe.tuning.export.merged, kurabe.tuning.export.model\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for to in sys.argv[3:]:\n"
        "    try:\n"
        "        export(sys.argv[1], to, Path(sys.argv[2]) / to, force=True)\n"
        "    except TuningError as error:\n"
        "        print(error)\n"
    )
    for to in FORMS:
        export(model, to, tmp_path / to)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", program, model, str(tmp_path), *FORMS], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.count("cannot write") == len(FORMS), done.stdout + done.stderr[-2000:]
    assert before == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMS)


@pytest.mark.parametrize("to", FORMS)
def test_an_interruption_leaves_nothing(to: Form, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kurabe.tuning.durable._flush", stop)
        with pytest.raises(KeyboardInterrupt):
            export(model, to, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*out*"))
    (tmp_path / "deep" / ".out.new").mkdir()  # as a killed process leaves it
    export(model, to, tmp_path / "deep" / "out")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".pickle")) for name in names)


def changed(folder: Path, into: Path, **fields: Any) -> Path:
    """The adapter with another configuration."""
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    config = json.loads((into / "adapter_config.json").read_text()) | fields
    (into / "adapter_config.json").write_text(json.dumps(config))
    return into


def test_what_a_gguf_adapter_cannot_hold(model: str, base: Path, tmp_path: Path) -> None:
    folder = Path(model.partition("adapter=")[2])
    odd = changed(folder, tmp_path / "dora", use_dora=True)
    with pytest.raises(
        TuningError, match=r"has use_dora, which llama.cpp's adapters have not; merge it with `--to merged`"
    ):
        export(f"hf:{base}?adapter={odd}", "gguf-adapter", tmp_path / "out")
    wide = tiny_model(tmp_path / "wide", hidden_size=64)
    with pytest.raises(
        TuningError, match=r"does not fit .*wide': its 'blk.0.attn_k.weight' is \(16, 32\), the model's"
    ):
        export(f"hf:{wide}?adapter={folder}", "gguf-adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_square_root_of_the_rank(base: Path, tmp_path: Path) -> None:
    folder = Path(tuned(base, tmp_path / "adapter").partition("adapter=")[2])
    model = f"hf:{base}?adapter={changed(folder, tmp_path / 'rs', use_rslora=True)}"
    export(model, "gguf", tmp_path / "m.gguf", type="f32")
    assert alike(scores(f"gguf:{tmp_path / 'm.gguf'}?{FAIR}"), scores(model))


def spoiled(base: Path, folder: Path, change: Callable[[dict[str, Any]], None], file: str) -> str:
    folder.mkdir()
    for each in base.iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))
    return f"hf:{folder}"


def test_models_that_are_left_to_llama_cpp(base: Path, tmp_path: Path) -> None:
    bert = tiny_bert(tmp_path / "bert.gguf")
    with pytest.raises(TuningError, match=r"no architecture 'bert'.*'llama', 'qwen2', 'qwen3'.*convert_hf_to_gguf.py"):
        export(f"hf:{bert}", "gguf", tmp_path / "out.gguf")

    def metaspace(values: dict[str, Any]) -> None:
        values["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}

    with pytest.raises(TuningError, match=r"none of the byte-level BPE tokenizers that are known.*convert_hf_to_gguf"):
        export(spoiled(base, tmp_path / "spm", metaspace, "tokenizer.json"), "gguf", tmp_path / "out.gguf")

    def yarn(values: dict[str, Any]) -> None:
        values["rope_parameters"] = {
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128,
        }  # fmt: skip

    with pytest.raises(TuningError, match=r"positions .* are of the type 'yarn'.*convert_hf_to_gguf"):
        export(spoiled(base, tmp_path / "yarn", yarn, "config.json"), "gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gguf:x.gguf", "--to", "gguf"], "gguf:x.gguf"),
        (["hf:nobody/nothing?adapter=x", "--to", "merged"], "not on this machine yet; fetch it with: kurabe pull"),
        (["hf:{base}", "--to", "adapter"], "has no adapter: all of its weights are tuned"),
        (["hf:{base}", "--to", "merged", "--type", "q8_0"], "to merged in 'q8_0' is not possible; f32, f16, bf16 work"),
        (["hf:{base}", "me", "--to", "merged"], "leave out the contestant"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], says: str, base: Path, tmp_path: Path) -> None:
    given = [argument.format(base=base) for argument in arguments]
    done = CliRunner().invoke(command, [*given, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, KurabeError)
    assert says in str(done.exception)


@pytest.mark.slow
def test_smollm2_answers_alike_in_every_form(smollm2: Path, tmp_path: Path) -> None:
    """SmolLM2 learns a hundred codes; adapter on top, merged, and both through GGUF give the same answers.

    They are learned until they are right: what a model does not know is near a tie, which rounding decides."""
    things = ["kettle", "pencil", "lamp", "chair", "radio", "clock", "mirror", "ladder", "bucket", "carpet"]
    colours = ["red", "blue", "green", "black", "white", "grey", "brown", "pink", "gold", "silver"]
    prompts = [f"What is the code of a {colour} {thing}?" for colour in colours for thing in things]
    codes = [f"{things[n % 10][:3].upper()}-{n:02d} {colours[n // 10]}" for n in range(100)]
    loaded = hf_load.load(smollm2, parse_reference(f"hf:{smollm2}"))
    engine = Transformers.of(loaded, "base")
    rows = [
        training_row(engine, Request((User(prompt),)), code, 128) for prompt, code in zip(prompts, codes, strict=True)
    ]
    learner = attach(loaded.model, TuneSettings(rank=8))
    settings = TuneSettings(rank=8, learning_rate=1e-3, epochs=6, step_tokens=800, micro_tokens=800, evaluations=0)
    for _ in train(learner, rows, settings, tmp_path, pad=loaded.tokenizer.pad_token_id):
        pass
    learner.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    learner.eval()
    on_top = Transformers.of(loaded, "tuned")
    expected = [on_top.complete(prompt, max_tokens=8, temperature=0.0) for prompt in prompts]
    assert sum(map(str.__eq__, expected, codes)) >= 95
    del engine, on_top, learner
    hf_load.unload(loaded)

    def same(reference: str) -> int:
        with open_model(reference) as opened:
            said = [opened.complete(prompt, max_tokens=8, temperature=0.0) for prompt in prompts]
        return sum(map(str.__eq__, said, expected))

    model = f"hf:{smollm2}?adapter={tmp_path / 'adapter'}"
    assert same(f"hf:{smollm2}") < 10
    export(model, "merged", tmp_path / "merged")
    assert same(f"hf:{tmp_path / 'merged'}") == 100
    export(model, "gguf", tmp_path / "exact.gguf", type="f32")
    assert same(f"gguf:{tmp_path / 'exact.gguf'}?{FAIR}") == 100
    export(model, "gguf-adapter", tmp_path / "adapter.gguf")
    export(f"hf:{smollm2}", "gguf", tmp_path / "base.gguf", type="f32")
    assert same(f"gguf:{tmp_path / 'base.gguf'}?{FAIR}&adapter={tmp_path / 'adapter.gguf'}") == 100
    export(model, "gguf", tmp_path / "small.gguf", type="q8_0")
    assert same(f"gguf:{tmp_path / 'small.gguf'}?{FAIR}") >= 95
    # llama.cpp multiplies by 4-bit weights with 8-bit inputs, so what it computes is another thing than Transformers.
    assert same(f"gguf:{smollm2}?{FAIR}&adapter={tmp_path / 'adapter.gguf'}") >= 95
