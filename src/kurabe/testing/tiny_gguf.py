"""Tiny random models as GGUF files, for tests: each some hundred kilobytes, with a vocabulary of single characters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CHARACTERS = "\n " + "".join(map(chr, range(33, 127)))
TOOLS_TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}"
    "{{- tool | tojson }}{%- endfor %}{{- '\\n</tools>\\n\\nFor each function call, return a json object with function"
    " name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n\' }}{%- endif %}'
    "{%- for message in messages %}{%- if message.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' +"
    " message.content + '\\n</tool_response><|im_end|>\\n' }}{%- else %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content %}{{- message.content }}{%- endif %}{%- if message.tool_calls %}"
    "{%- for call in message.tool_calls %}"
    '{{- \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{%- if call.function.arguments is string %}{{- call.function.arguments }}{%- else %}"
    "{{- call.function.arguments | tojson }}{%- endif %}{{- '}\\n</tool_call>' }}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Shows tools and their calls as Qwen's and Hermes' models do."""


def tiny_llama(
    path: Path,
    *,
    template: str | None = None,
    context: int = 512,
    bos: bool = True,
    follows: Mapping[str, str] | None = None,
    split: int = 0,
    seed: int = 0,
) -> Path:
    """A Llama of 2 layers and width 64. `bos`: its tokenizer puts `<s>` before every text. `follows`: the token that it
    writes after a token, where that is not left to chance. `split`: at most so many tensors in a file, the first of
    which is named `…-00001-of-….gguf`."""
    writer = _writer(path, "llama", context, split)
    writer.add_feed_forward_length(128)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_tokenizer_model("llama")
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS.replace(" ", "▁")]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, 3, 3, 4, 4, *[6] * 256, *[1] * len(CHARACTERS)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(bos)
    writer.add_add_space_prefix(False)
    if template is not None:
        writer.add_chat_template(template)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(tokens), 64), "output_norm.weight": (64,)}
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
                "ffn_norm": (64,), "ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128),
            }.items()
        }  # fmt: skip
    values = _random(shapes, seed)
    values["output.weight"] = values["token_embd.weight"].copy()
    for place, (before, after) in enumerate((follows or {}).items()):
        values["token_embd.weight"][tokens.index(before)] = np.eye(64)[place] * 8
        values["output.weight"][tokens.index(after)] += np.eye(64)[place] * 50
    return _write(writer, path, values)


def tiny_bert(path: Path, *, pooling: int = 1, seed: int = 0) -> Path:
    """An encoder of 2 layers and width 64; `pooling` 1: the mean, 2: the first token's, 4: a relevance (reranker)."""
    writer = _writer(path, "bert", 64)
    writer.add_feed_forward_length(128)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", pooling)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # llama.cpp writes a word's beginning as ▁ and its other pieces as they are.
    tokens = [*special, *(f"▁{each}" for each in CHARACTERS[2:]), *CHARACTERS[2:]]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 2, 3, 3, 3, *[1] * (len(tokens) - 5)])
    writer.add_token_type_count(2)
    for name, token in (("unknown", 1), ("seperator", 3), ("padding", 0), ("cls", 2), ("mask", 4), ("bos", 2)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), 64), "position_embd.weight": (64, 64), "token_types.weight": (2, 64),
        "token_embd_norm.weight": (64,), "token_embd_norm.bias": (64,),
    }  # fmt: skip
    for layer in range(2):
        for name, (out, into) in {
            "attn_q": (64, 64), "attn_k": (64, 64), "attn_v": (64, 64), "attn_output": (64, 64), "ffn_up": (128, 64),
            "ffn_down": (64, 128),
        }.items():  # fmt: skip
            shapes |= {f"blk.{layer}.{name}.weight": (out, into), f"blk.{layer}.{name}.bias": (out,)}
        for name in ("attn_output_norm", "layer_output_norm"):
            shapes |= {f"blk.{layer}.{name}.weight": (64,), f"blk.{layer}.{name}.bias": (64,)}
    if pooling == 4:
        shapes |= {"cls.weight": (64, 64), "cls.bias": (64,), "cls.output.weight": (1, 64), "cls.output.bias": (1,)}
    return _write(writer, path, _random(shapes, seed))


def tiny_lora(
    path: Path,
    factors: Mapping[str, tuple[int, int]],
    *,
    architecture: str = "llama",
    size: float = 0.05,
    seed: int = 1,
) -> Path:
    """A LoRA adapter of rank 2 in llama.cpp's format. `factors`: (rows, columns) of each weight that it changes."""
    import gguf

    writer: Any = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    random = np.random.default_rng(seed)
    values = {}
    for name, (rows, columns) in factors.items():
        values[f"{name}.lora_a"] = random.normal(0, size, (2, columns))
        values[f"{name}.lora_b"] = random.normal(0, size, (rows, 2))
    return _write(writer, path, values)


def _writer(path: Path, architecture: str, context: int, split: int = 0) -> Any:
    import gguf

    writer: Any = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    writer.add_context_length(context)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    return writer


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: np.ones(shape)
        if "norm" in name and name.endswith("weight")
        else random.normal(0, 1.0 if "embd" in name else 0.1, shape)
        for name, shape in shapes.items()
    }


def _write(writer: Any, path: Path, values: Mapping[str, np.ndarray]) -> Path:
    for name, array in values.items():
        writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if path.is_file() else min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))
