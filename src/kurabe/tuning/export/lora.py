"""A LoRA adapter of PEFT's in the names and the layout of llama.cpp."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from kurabe.errors import TuningError
from kurabe.models.files.small_files import read_small
from kurabe.tuning.export.architecture import Architecture

_PREFIX = "base_model.model."


class Factors(NamedTuple):
    """What is added to a weight is `scale` · `b` @ `a`; `a` has the shape (rank, inputs), `b` (outputs, rank)."""

    a: np.ndarray
    b: np.ndarray
    scale: float

    def change(self) -> np.ndarray:
        """What is added, (outputs, inputs) float32."""
        added: np.ndarray = (self.b @ self.a) * np.float32(self.scale)
        return added


class Lora(NamedTuple):
    """`alpha`, by which llama.cpp multiplies and divides by the rank, and the factors by the weights' GGUF names."""

    alpha: float
    factors: dict[str, Factors]


def read_lora(folder: Path, architecture: Architecture, scale: float) -> Lora:
    """Read the adapter, times `scale`. Raises TuningError where it can't be read or does what llama.cpp's can't."""
    try:
        config = msgspec.json.decode(read_small(folder / "adapter_config.json"), type=dict[str, Any])
        tensors = {name: each.float().numpy() for name, each in load_file(folder / "adapter_model.safetensors").items()}
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise TuningError(f"the adapter {folder} cannot be read: {error}") from None
    _require_plain(folder, config)
    named = architecture.namer()
    factors = {}
    alpha = float(config["lora_alpha"]) * scale
    if config.get("use_rslora"):
        alpha *= math.sqrt(config["r"])
    for name in sorted(tensors):
        module, kind, _ = name.removeprefix(_PREFIX).rpartition(".lora_A.weight")
        if not kind:
            if name.endswith(".lora_B.weight") and name.replace(".lora_B.", ".lora_A.") in tensors:
                continue
            raise TuningError(
                f"the adapter {folder} holds {name!r}, which no LoRA adapter of llama.cpp can hold; {_MERGE}"
            )
        b = tensors.get(name.replace(".lora_A.", ".lora_B."))
        theirs = named(module + ".weight")
        if b is None or theirs is None:
            lacks = "its other half is missing" if b is None else f"GGUF's {architecture.name} has no such weight"
            raise TuningError(f"the adapter {folder} holds {name!r}, and {lacks}")
        a = tensors[name]
        factors[theirs] = Factors(a, np.ascontiguousarray(architecture.laid_out(theirs, b)), alpha / len(a))
    return Lora(alpha, factors)


_MERGE = "merge it with `--to merged`, and export the merged weights to GGUF"


def _require_plain(folder: Path, config: dict[str, Any]) -> None:
    """Raises TuningError for what is more than two factors a weight, all with one alpha and one rank."""
    if config.get("peft_type") != "LORA":
        raise TuningError(f"the adapter {folder} is of the kind {config.get('peft_type')!r}, and no LoRA; {_MERGE}")
    more = [name for name in ("use_dora", "rank_pattern", "alpha_pattern", "lora_bias") if config.get(name)]
    if more:
        raise TuningError(f"the adapter {folder} has {more[0]}, which llama.cpp's adapters have not; {_MERGE}")
