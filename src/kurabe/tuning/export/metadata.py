"""What a GGUF file says beside its tensors, from a config and a byte-level BPE tokenizer of Transformers."""

import json
import math
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from gguf import GGUFValueType, TokenType

from kurabe.errors import TuningError
from kurabe.tuning.export.architecture import Architecture

_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


class Value(NamedTuple):
    """A value with its type; of an array, also that of its elements."""

    value: Any
    type: GGUFValueType
    of: GGUFValueType | None = None


def metadata_of_config(config: Any, tokenizer: Any, architecture: Architecture, path: Path) -> dict[str, Value]:
    """Hyperparameters and tokenizer as llama.cpp's convert_hf_to_gguf.py writes them. Raises TuningError where that
    is not possible here."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    counts = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": head,
        "vocab_size": config.vocab_size,
    }
    rope = _rope(config, path)
    found = {
        "general.type": Value("model", GGUFValueType.STRING),
        "general.name": Value(path.name, GGUFValueType.STRING),
    }
    found |= {f"{architecture.name}.{key}": Value(count, GGUFValueType.UINT32) for key, count in counts.items()}
    shares = {"attention.layer_norm_rms_epsilon": config.rms_norm_eps, "rope.freq_base": rope["rope_theta"]}
    if rope["rope_type"] == "linear":
        found[f"{architecture.name}.rope.scaling.type"] = Value("linear", GGUFValueType.STRING)
        shares["rope.scaling.factor"] = rope["factor"]
    found |= {f"{architecture.name}.{key}": Value(float(share), GGUFValueType.FLOAT32) for key, share in shares.items()}
    return found | _vocabulary(config, tokenizer, path)


def rope_factors(config: Any) -> np.ndarray | None:
    """By how much Llama 3.1 and later slow each frequency of the rotary embedding down, (head length / 2,) float32;
    None of other models. As `_compute_llama3_parameters` of Transformers."""
    rope = config.rope_parameters
    if rope["rope_type"] != "llama3":
        return None
    length = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    waves = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, length, 2) / length)
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    smooth = (old / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    factors = np.where(waves < old / high, 1.0, np.where(waves > old / low, rope["factor"], between))
    return factors.astype(np.float32)


def _rope(config: Any, path: Path) -> dict[str, Any]:
    rope = dict(config.rope_parameters)
    rope.setdefault("rope_type", "default")
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise TuningError(f"the positions of the model in {path} are of the type {rope['rope_type']!r}; {CONVERTER}")
    return rope


CONVERTER: Final = (
    "this conversion is left to llama.cpp: write merged weights by `--to merged`, and give their folder to its"
    " convert_hf_to_gguf.py"
)


def _vocabulary(config: Any, tokenizer: Any, path: Path) -> dict[str, Value]:
    model = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = _pre_tokenizer(model)
    if kind is None:
        raise TuningError(
            f"the tokenizer in {path} is none of the byte-level BPE tokenizers that are known; {CONVERTER}"
        )
    tokens = [f"[PAD{number}]" for number in range(config.vocab_size)]
    types = [int(TokenType.UNUSED)] * config.vocab_size
    added = {entry["id"]: entry for entry in model["added_tokens"]}
    for token, number in (model["model"]["vocab"] | {entry["content"]: n for n, entry in added.items()}).items():
        if number >= config.vocab_size:
            raise TuningError(
                f"the tokenizer in {path} has the token {number}, and the model {config.vocab_size} of them"
            )
        tokens[number] = token
        types[number] = int(TokenType.NORMAL)
    for number, entry in added.items():
        types[number] = int(TokenType.CONTROL if entry["special"] else TokenType.USER_DEFINED)
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["model"]["merges"]]
    found = {
        "model": Value("gpt2", GGUFValueType.STRING),
        "pre": Value(kind, GGUFValueType.STRING),
        "tokens": Value(tokens, GGUFValueType.ARRAY, GGUFValueType.STRING),
        "token_type": Value(types, GGUFValueType.ARRAY, GGUFValueType.INT32),
        "merges": Value(merges, GGUFValueType.ARRAY, GGUFValueType.STRING),
        "add_bos_token": Value(_begins(tokenizer), GGUFValueType.BOOL),
        "add_space_prefix": Value(False, GGUFValueType.BOOL),
    }
    for name, number in (
        ("bos", tokenizer.bos_token_id),
        ("eos", tokenizer.eos_token_id),
        ("unknown", tokenizer.unk_token_id),
        ("padding", tokenizer.pad_token_id),
    ):
        if number is not None:
            found[f"{name}_token_id"] = Value(number, GGUFValueType.UINT32)
    named = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    if isinstance(tokenizer.chat_template, str):
        named["tokenizer.chat_template"] = Value(tokenizer.chat_template, GGUFValueType.STRING)
    return named


def _begins(tokenizer: Any) -> bool:
    """Whether the tokenizer puts the token that begins a text before it."""
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """llama.cpp's name for how a text is cut before pairs are merged; None for an unknown one."""
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer")
    if model["type"] != "BPE" or model.get("byte_fallback") or normalizer not in (None, {"type": "NFC"}):
        return None
    before = tokenizer.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    shapes = [_shape(step) for step in steps]
    known: dict[str, list[Any]] = {
        "gpt-2": [("ByteLevel", True)],
        "smollm": [("Digits", True), ("ByteLevel", True)],
        "llama-bpe": [("Split", _LLAMA3), ("ByteLevel", False)],
        "qwen2": [("Split", _QWEN2), ("ByteLevel", False)],
    }
    return next((name for name, wanted in known.items() if shapes == wanted), None)


def _shape(step: dict[str, Any]) -> Any:
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "ByteLevel", step.get("use_regex", True)
        case {"type": "Digits"}:
            return "Digits", step["individual_digits"]
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": regex}}:
            return "Split", regex
    return step
