"""Loading for the Transformers engine: tiny random models, and what must be refused before anything large happens."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from kurabe.errors import MissingExtraError, ModelError
from kurabe.models.engines.hf._quantize import require_blocks
from kurabe.models.engines.hf.check import mismatches
from kurabe.models.engines.hf.load import Loaded, load, unload
from kurabe.models.engines.hf.quiet import quiet
from kurabe.models.reference import Reference
from kurabe.models.weights.headers import Tensor
from kurabe.testing.tiny import tiny_model
from kurabe.testing.tiny_gguf import tiny_llama

TEXT = "Question: How much does a red kettle cost? Answer: It costs $34.99"


def opened(path: Path, **options: str) -> Loaded:
    return load(path, Reference("hf", str(path), options))


def logprobs(loaded: Loaded) -> torch.Tensor:
    ids = torch.tensor([loaded.tokenizer(TEXT).input_ids])
    with torch.inference_mode():
        result: torch.Tensor = loaded.model(ids).logits[0].float().log_softmax(-1)
    return result


def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean Kullback-Leibler divergence of `other` from `one`, in nats."""
    return float((one.exp() * (one - other)).sum(-1).mean())


def changed(model: Path, to: Path, file: str = "config.json", **fields: Any) -> Path:
    """A copy of the model with some fields of a file changed; those that are None are taken out."""
    if to != model:
        shutil.copytree(model, to)
    settings = json.loads((to / file).read_text()) | fields
    (to / file).write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    return to


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for blocks of quantization, and narrow in its logits, so that precisions can be compared."""
    folder = tmp_path_factory.mktemp("wide")
    return tiny_model(folder, hidden_size=128, intermediate_size=256, initializer_range=0.1)


def test_a_folder(tiny_chat: Path) -> None:
    loaded = opened(tiny_chat)
    assert isinstance(loaded.model, transformers.LlamaForCausalLM)
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert (loaded.context, loaded.end_ids, loaded.reference) == (512, (0, 3), f"hf:{tiny_chat}")
    tokenizer = loaded.tokenizer
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<|im_end|>")
    assert len(tokenizer) == loaded.model.config.vocab_size
    padded = tokenizer(["a kettle", "a"], padding=True).input_ids
    assert padded[1][0] == tokenizer.pad_token_id


def test_a_pad_token_that_is_there_stays(tiny_no_system: Path, tiny_base: Path) -> None:
    assert opened(tiny_no_system).tokenizer.pad_token == "<|endoftext|>"
    base = opened(tiny_base)
    assert (base.end_ids, base.tokenizer.pad_token) == ((0,), "<|endoftext|>")


def test_the_end_of_a_turn_that_the_config_forgets_is_read_off_the_template(tiny_chat: Path, tmp_path: Path) -> None:
    folder = changed(tiny_chat, tmp_path / "m", "generation_config.json", eos_token_id=0)
    changed(folder, folder, "tokenizer_config.json", eos_token="<|endoftext|>")
    assert opened(folder).end_ids == (0, 3)


def test_context(tiny_chat: Path) -> None:
    assert opened(tiny_chat, context="64").context == 64
    with pytest.raises(ModelError, match="asks for a context of 513 tokens, and the model has 512"):
        opened(tiny_chat, context="513")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype(tiny_chat: Path, dtype: str) -> None:
    assert opened(tiny_chat, dtype=dtype).model.dtype == getattr(torch, dtype)


def test_attention(tiny_chat: Path) -> None:
    assert opened(tiny_chat, attention="eager").model.config._attn_implementation == "eager"
    assert torch.allclose(logprobs(opened(tiny_chat, attention="eager")), logprobs(opened(tiny_chat)), atol=1e-3)
    with pytest.raises(ModelError, match="no value of attention 'flash'"):
        opened(tiny_chat, attention="flash")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            "Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U bitsandbytes>=0.46.1`",
            "extra",
        ),
        ("FlashAttention2 has been toggled on, but the package flash_attn seems to be not installed", "library"),
    ],
)
def test_a_library_that_is_not_installed(
    tiny_chat: Path, monkeypatch: pytest.MonkeyPatch, error: str, kind: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ImportError(error)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(MissingExtraError if kind == "extra" else ModelError, match=kind) as raised:
        opened(tiny_chat)
    assert error[:20] in str(raised.value)
    assert ("pip install flash-attn" in str(raised.value)) == (kind == "library")


def test_devices(tiny_chat: Path) -> None:
    assert opened(tiny_chat, device="cpu").model.device.type == "cpu"
    with pytest.raises(ModelError, match="'device' is auto, cpu"):
        opened(tiny_chat, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no cuda device here; leave out"):
            opened(tiny_chat, device="cuda")


@pytest.mark.parametrize(("quantization", "most"), [("nf4", 0.2), ("fp4", 0.3), ("int8", 0.01), ("int4", 0.2)])
def test_quantized_layers_are_small_and_answer_nearly_alike(wide: Path, quantization: str, most: float) -> None:
    plain, small = opened(wide), opened(wide, quantize=quantization)
    layer = small.model.model.layers[0].mlp.up_proj
    assert layer.weight.__class__.__name__ in ("Params4bit", "Int8Params", "Int4OpaqueTensor")
    assert type(small.model.lm_head) is torch.nn.Linear
    assert 0 < divergence(logprobs(plain), logprobs(small)) < most


def test_layers_that_do_not_fill_blocks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: True)
    for hidden, between, says in ((32, 128, "weight has 32 inputs"), (64, 80, "weight has 80 inputs|80 outputs")):
        folder = tiny_model(tmp_path / str(hidden), hidden_size=hidden, intermediate_size=between)
        for quantization in ("nf4", "fp4"):
            with pytest.raises(ModelError, match=f"multiple of 64 .*({says}).*quantize=int8"):
                opened(folder, quantize=quantization)
        assert opened(folder, quantize="int8").model is not None
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: False)
    assert opened(folder, quantize="nf4").model is not None


def test_routers_may_have_any_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: True)
    router, expert = (
        Tensor(f"model.layers.0.block_sparse_moe.{name}.weight", shape, "BF16", 2)
        for name, shape in (("gate", (8, 64)), ("experts.0.w1", (80, 64)))
    )
    require_blocks("nf4", [router], "hf:x")
    with pytest.raises(ModelError, match=r"w1\.weight has 64 inputs and 80 outputs"):
        require_blocks("nf4", [router, expert], "hf:x")


def test_int4_does_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    require_blocks("int4", [], "hf:x")


def test_nf4_is_double_quantized_and_computes_in_bfloat16(wide: Path) -> None:
    layer = opened(wide, quantize="nf4").model.model.layers[0].mlp.up_proj
    assert layer.weight.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.compute_dtype == torch.bfloat16
    assert layer.weight.numel() * 2 == 128 * 256


def test_a_quantized_checkpoint_loads_as_it_is(wide: Path, tmp_path: Path) -> None:
    loaded = opened(wide, quantize="nf4")
    with quiet():
        loaded.model.save_pretrained(tmp_path)
        loaded.tokenizer.save_pretrained(tmp_path)
    again = opened(tmp_path, dtype="bfloat16")
    assert torch.allclose(logprobs(again), logprobs(loaded), atol=1e-2)
    with pytest.raises(ModelError, match="quantized already; leave out"):
        opened(tmp_path, quantize="nf4")


def adapter(model: Path, folder: Path, seed: int = 0, **settings: Any) -> Path:
    """A LoRA adapter with random weights."""
    with quiet():
        base = transformers.AutoModelForCausalLM.from_pretrained(model)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False, **settings)
        torch.manual_seed(seed)
        peft.get_peft_model(base, config).save_pretrained(folder)
    return folder


def test_an_adapter_is_merged_and_scaled(wide: Path, tmp_path: Path) -> None:
    folder = adapter(wide, tmp_path / "lora")
    plain, with_it = opened(wide), opened(wide, adapter=str(folder))
    assert type(with_it.model) is transformers.LlamaForCausalLM
    assert type(with_it.model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    tensors = load_file(folder / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.0.mlp.up_proj.lora_"
    change = 8 / 4 * tensors[prefix + "B.weight"] @ tensors[prefix + "A.weight"]  # alpha (8) / r

    def weight(loaded: Loaded) -> torch.Tensor:
        found: torch.Tensor = loaded.model.model.layers[0].mlp.up_proj.weight
        return found

    assert torch.allclose(weight(with_it), weight(plain) + change, atol=1e-5)
    half = opened(wide, adapter=str(folder), scale="0.5")
    assert torch.allclose(weight(half), weight(plain) + change / 2, atol=1e-5)
    none = opened(wide, adapter=str(folder), scale="0")
    assert torch.allclose(logprobs(none), logprobs(plain), atol=1e-5)


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int4"])
def test_an_adapter_lies_beside_quantized_weights(wide: Path, tmp_path: Path, quantization: str) -> None:
    folder = adapter(wide, tmp_path / "lora")
    exact = logprobs(opened(wide, adapter=str(folder)))
    beside = opened(wide, adapter=str(folder), quantize=quantization)
    assert isinstance(beside.model, transformers.PreTrainedModel)
    without = opened(wide, quantize=quantization)
    assert divergence(exact, logprobs(beside)) < 0.5 * divergence(exact, logprobs(without))


def test_adapters_that_do_not_fit(wide: Path, tiny_chat: Path, tmp_path: Path) -> None:
    folder = adapter(wide, tmp_path / "lora")
    with pytest.raises(ModelError, match=r"does not fit the model .*shape"):
        opened(tiny_chat, adapter=str(folder))
    deep = tiny_model(tmp_path / "deep", hidden_size=128, intermediate_size=256, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"it lacks .*layers\.2"):
        opened(deep, adapter=str(folder))
    with pytest.raises(ModelError, match="layer that the model lacks"):
        opened(wide, adapter=str(adapter(deep, tmp_path / "deep-lora")))
    changed(folder, tmp_path / "other", "adapter_config.json", target_modules=["query_key_value"])
    with pytest.raises(ModelError, match=r"does not fit the model .*query_key_value"):
        opened(wide, adapter=str(tmp_path / "other"))
    for pattern, says in (
        ("(([a-z0-9_.])+)+!", "a pattern that takes more than 10 s"), ("(q_proj", "that can't be used: missing \\)"),
    ):  # fmt: skip
        for field in ({"target_modules": pattern}, {"rank_pattern": {pattern: 4}}):
            place = tmp_path / str(len(list(tmp_path.iterdir())))
            changed(folder, place, "adapter_config.json", **field)
            with pytest.raises(ModelError, match=says):
                opened(wide, adapter=str(place))
    changed(folder, tmp_path / "pattern", "adapter_config.json", target_modules=r".*\.(q_proj|up_proj)")
    opened(wide, adapter=str(tmp_path / "pattern"))
    with pytest.raises(ModelError, match="scale' must be a number"):
        opened(wide, adapter=str(folder), scale="much")
    with pytest.raises(ModelError, match="holds an adapter; name the model it was trained on"):
        opened(folder)


def test_pickled_and_broken_adapters_are_refused(wide: Path, tmp_path: Path) -> None:
    folder = adapter(wide, tmp_path / "lora")
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(ModelError, match=r"pickled adapters .* are never loaded"):
        opened(wide, adapter=str(folder))
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        opened(wide, adapter=str(folder))
    with pytest.raises(ModelError, match="is no adapter"):
        opened(wide, adapter=str(tmp_path))


CODE = """
import pathlib
pathlib.Path(__file__).parent.joinpath("RAN").touch()
pathlib.Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def coded(model: Path, folder: Path, marker: Path, repository: str = "") -> Path:
    """A copy of the model that brings code of its own, which leaves a marker where it runs."""
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    table = {kind: f"{repository}--{name}" if repository else name for kind, name in names.items()}
    changed(model, folder, model_type="own", architectures=["OwnModel"], auto_map=table)
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    return folder


def test_code_of_a_model_runs_only_where_its_repository_is_named(
    tiny_chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    marker = tmp_path / "marker"
    folder = coded(tiny_chat, tmp_path / "own-model", marker)
    with pytest.raises(ModelError, match=r"brings code of its own.*\?remote_code=.*own-model"):
        opened(folder)
    with pytest.raises(ModelError, match="remote_code= names somebody/else"):
        opened(folder, remote_code="somebody/else")
    foreign = coded(tiny_chat, tmp_path / "foreign", marker, "somebody/code")
    with pytest.raises(ModelError, match=r"\?remote_code=somebody/code"):
        opened(foreign)
    with pytest.raises(ModelError, match="comes from somebody/code"):
        opened(foreign, remote_code=str(foreign))
    assert not marker.exists()
    assert type(opened(folder, remote_code=str(folder)).model).__name__ == "OwnModel"
    assert marker.exists()
    with pytest.raises(ModelError, match="no code of its own"):
        opened(tiny_chat, remote_code="somebody/code")


def test_a_known_architecture_with_code_beside_it_runs_without_the_code(tiny_chat: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = coded(tiny_chat, tmp_path / "m", marker)
    changed(folder, folder, model_type="llama", architectures=["LlamaForCausalLM"])
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    assert type(opened(folder).model) is transformers.LlamaForCausalLM
    assert not marker.exists()


def test_pickled_weights_are_never_read(tiny_chat: Path, tmp_path: Path) -> None:
    folder = changed(tiny_chat, tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"as a pickle .* never loaded; .* convert"):
        opened(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 10**12}, "no model can be made|promises"),
        ({"hidden_size": 2**20, "head_dim": 8}, "promises"),
        ({"num_hidden_layers": 10**9}, "promises 1,000,000,000 layers"),
        ({"vocab_size": 10**8}, "promises"),
        ({"intermediate_size": 10**7}, "promises"),
        ({"num_hidden_layers": 3}, "promises|lack"),
        ({"num_hidden_layers": -1}, "promises -1 layers"),
        ({"intermediate_size": 63}, "hold in another shape .*down_proj"),
        ({"model_type": "nobodys"}, "nobodys"),
        ({"model_type": None}, "model_type|cannot load"),
        ({"vocab_size": "many"}, "cannot load|no model"),
    ],
)
def test_a_config_that_does_not_describe_the_files(
    tiny_chat: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        opened(changed(tiny_chat, tmp_path / "m", **fields))


def test_files_that_are_missing_or_cut(tiny_chat: Path, tmp_path: Path) -> None:
    folder = changed(tiny_chat, tmp_path / "m")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="not a usable safetensors file"):
            opened(folder)
    file.write_bytes((2**62).to_bytes(8, "little") + whole[8:])
    with pytest.raises(ModelError, match="not a usable safetensors file"):
        opened(folder)
    tensors = load_file(tiny_chat / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack model\.norm\.weight"):
        opened(folder)
    file.unlink()
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        opened(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        opened(folder)


def test_no_tokenizer(tiny_chat: Path, tmp_path: Path) -> None:
    folder = changed(tiny_chat, tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        opened(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(ModelError, match="tokenizer"):
        opened(folder)


def test_a_tokenizer_of_another_model(tiny_chat: Path, tmp_path: Path) -> None:
    small = tiny_model(tmp_path / "small", vocab_size=300)
    with pytest.raises(ModelError, match=r"do not belong together: .* up to 383, and .* 300 rows"):
        opened(small)
    folder = changed(tiny_chat, tmp_path / "m", eos_token_id=128_001)
    with pytest.raises(ModelError, match="eos_token_id is 128,001"):
        opened(folder)


def test_mismatches(tiny_chat: Path, tiny_base: Path) -> None:
    base, chat = opened(tiny_base), opened(tiny_chat)
    assert mismatches(base.model.config, base.tokenizer) == []
    chat.model.config.bos_token_id = 2
    chat.tokenizer.chat_template += "<|eot_id|>"
    found = mismatches(chat.model.config, chat.tokenizer)
    assert any("bos_token: the tokenizer's is '<s>' (1), the model's '<|im_start|>' (2)" in doubt for doubt in found)
    assert any("<|eot_id|>" in doubt for doubt in found)
    chat.model.config.vocab_size = 32_000
    assert any("32,000" in doubt for doubt in mismatches(chat.model.config, chat.tokenizer))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 20 bytes"),
        RuntimeError("could not create a memory object"),
        RuntimeError("unable to mmap 538090408 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_too_little_memory(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelError, match=r"memory is not enough .*quantize=nf4"):
        opened(tiny_chat)


def test_what_does_not_fit_is_refused_before_it_is_loaded(
    tiny_chat: Path, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kurabe.models.weights.footprint._free_for", lambda _: 1000)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises(ModelError, match="does not fit main memory"):
        opened(tiny_chat)
    asked = []
    monkeypatch.setattr("kurabe.models.engines.hf.load.require_fit", lambda *_, **settings: asked.append(settings))
    for options in ({}, {"quantize": "int4"}, {"quantize": "nf4", "dtype": "float32"}):
        with pytest.raises(ModelError, match="cannot load"):
            opened(wide, **options)
    counted = [("float32", None), ("int4", "bfloat16"), ("nf4", "float32")]
    assert [(each["precision"], each["dtype"]) for each in asked] == counted


def test_a_cut_gguf_file(smollm2: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with smollm2.open("rb") as file:
        cut.write_bytes(file.read(3_000_000))
    with pytest.raises(ModelError, match="cut short"):
        opened(cut)


def test_nothing_is_said_and_nothing_is_fetched(wide: Path, tmp_path: Path) -> None:
    folder = adapter(wide, tmp_path / "lora")
    code = f"""
import socket, sys
def refuse(*_): print("a connection was tried", file=sys.stderr); raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from kurabe.models.engines.hf.load import load, unload
from kurabe.models.reference import Reference
import torch
ways = [{{"quantize": name}} for name in ("nf4", "int8", "int4")]
for options in ({{}}, *ways, {{"adapter": {str(folder)!r}}}):
    loaded = load(Path({str(wide)!r}), Reference("hf", "x", options))
    with torch.inference_mode():
        loaded.model(torch.tensor([loaded.tokenizer("a kettle").input_ids]))
    unload(loaded)
"""
    loud = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_VERBOSITY": "info", "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | loud, capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", "")


def test_unload_gives_back_what_somebody_still_holds(wide: Path) -> None:
    loaded = opened(wide, quantize="nf4")
    storage = loaded.model.model.embed_tokens.weight.untyped_storage()
    assert storage.nbytes() > 0
    unload(loaded)
    assert list(loaded.model.parameters()) == []
    assert list(loaded.model.buffers()) == []


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int4"])
def test_a_gguf_file_is_quantized_anew(tmp_path: Path, quantization: str) -> None:
    path = tiny_llama(tmp_path / "m.gguf")
    plain, small = opened(path), opened(path, quantize=quantization)
    assert (plain.model.dtype, plain.context) == (torch.float32, 512)
    assert type(small.model.model.layers[0].mlp.up_proj.weight) is not torch.nn.Parameter
    assert type(small.model.lm_head) is torch.nn.Linear
    assert logprobs(small).shape == logprobs(plain).shape
    assert divergence(logprobs(plain), logprobs(small)) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"quantize": "nf4"}])
def test_a_gguf_file_is_dequantized(smollm2: Path, options: dict[str, str]) -> None:
    loaded = load(smollm2, Reference("hf", "smollm2-135m", options))
    assert (loaded.context, loaded.end_ids) == (8192, (2,))
    ids = torch.tensor([loaded.tokenizer("The capital of France is").input_ids])
    answer = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)
    assert loaded.tokenizer.decode(answer[0, -1]) == " Paris"
    assert mismatches(loaded.model.config, loaded.tokenizer) == []
    unload(loaded)


TEN = """
import sys, psutil, torch
from pathlib import Path
from kurabe.models.engines.hf.load import load, unload
from kurabe.models.reference import Reference
gguf, folder = Path(sys.argv[1]), Path(sys.argv[2])
def once(path, options):
    loaded = load(path, Reference("hf", str(path), options))
    with torch.inference_mode():
        loaded.model(torch.tensor([loaded.tokenizer("The price of a kettle").input_ids]))
    unload(loaded)
nf4 = {"quantize": "nf4"}
ways = [(gguf, {}), (folder, {}), (gguf, nf4), (folder, nf4), (folder, {"dtype": "bfloat16"})]
for way in ways:
    once(*way)
began = psutil.Process().memory_info().rss
for way in ways + ways:
    once(*way)
    print(psutil.Process().memory_info().rss / began, began, flush=True)
"""


@pytest.mark.slow
def test_ten_models_in_turn_give_their_memory_back(smollm2: Path, tmp_path: Path) -> None:
    """Resident memory after ten models, against that after a first round of the five kinds, which leaves libraries and
    oneDNN's workspace (as large as its largest layer) behind; SmolLM2-135M from its GGUF file and as a folder."""
    folder = tmp_path / "folder"
    loaded = load(smollm2, Reference("hf", "smollm2-135m", {}))
    with quiet():
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    unload(loaded)
    command = [sys.executable, "-c", TEN, str(smollm2), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    ratios = [float(line.split()[0]) for line in ran.stdout.splitlines()]
    assert len(ratios) == 10
    assert ratios[-1] < 1.05, ran.stdout
