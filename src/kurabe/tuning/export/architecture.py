"""The names and the layout that llama.cpp's GGUF files have for the weights of Transformers' models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import gguf
import numpy as np

from kurabe.errors import TuningError, missing
from kurabe.models.engines.hf.load import read_tokenizer
from kurabe.models.reference import Reference
from kurabe.models.weights.gguf import read_header

KNOWN: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""The name in GGUF files of each of Transformers' architectures whose layout is known here."""
_PERMUTED: Final = frozenset({"llama"})
"""Whose rotary embedding turns neighbours there, not halves: rows of queries and keys lie in another order."""


class Architecture(NamedTuple):
    """What tells where a model's weights go in a GGUF file. `heads` and `kv_heads`: of queries, and of keys."""

    name: str
    layers: int
    heads: int
    kv_heads: int

    def namer(self) -> Callable[[str], str | None]:
        """From the name of one of Transformers' tensors to the one in a GGUF file, None without one."""
        arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == self.name)
        names = gguf.get_tensor_name_map(arch, self.layers)
        return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))

    def laid_out(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The rows of the tensor `name` of a GGUF file, or of what is added to it, in the order of the file.

        As `LlamaModel.permute` of llama.cpp's converter: each head's rows (i, i + half) become neighbours.
        """
        heads = {"attn_q": self.heads, "attn_k": self.kv_heads}.get(name.split(".")[-2])
        if self.name not in _PERMUTED or heads is None:
            return rows
        halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)


def architecture_of(path: Path, reference: Reference) -> Architecture:
    """That of a GGUF file or of a folder. Raises TuningError that names those that work."""
    if path.is_file():
        values = read_header(path).metadata
        kind = str(values.get("general.architecture"))
        _require_known(kind, KNOWN.values(), reference)
        heads = values.get(f"{kind}.attention.head_count")
        return _checked(
            kind, values.get(f"{kind}.block_count"), heads, values.get(f"{kind}.attention.head_count_kv", heads),
            reference,
        )  # fmt: skip
    config, _ = read_tokenizer(path, reference)
    _require_known(config.model_type, KNOWN, reference)
    return architecture_of_config(config, reference)


def architecture_of_config(config: Any, reference: Reference) -> Architecture:
    """That of one of Transformers' configs of a known kind."""
    return _checked(
        KNOWN[config.model_type], config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads,
        reference,
    )  # fmt: skip


def _require_known(kind: str, known: Any, reference: Reference) -> None:
    if kind not in known:
        raise TuningError(
            f"{missing('architecture', kind, sorted(set(known)))}, so {str(reference)!r} cannot be written as GGUF;"
            " llama.cpp's convert_lora_to_gguf.py knows more adapters, and its convert_hf_to_gguf.py more models, from"
            " what `--to adapter` and `--to merged` write"
        )


def _checked(kind: str, layers: Any, heads: Any, kv_heads: Any, reference: Reference) -> Architecture:
    if not all(isinstance(count, int) and count > 0 for count in (layers, heads, kv_heads)):
        raise TuningError(f"{str(reference)!r} does not say how many layers and heads it has, the same in every layer")
    return Architecture(kind, layers, heads, kv_heads)
