"""How many bytes a model's tensors take in each precision, with the scales of every block counted.

A GGUF file called Q4_K_M is a mixture: which tensor gets which type is chosen by its part in the model. The rules here
are those of llama.cpp's `llama_tensor_get_type` without an importance matrix:
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kurabe.errors import InputError, missing
from kurabe.models.weights.dimensions import Dimensions, layer, role
from kurabe.models.weights.gguf import BLOCK_TYPES
from kurabe.models.weights.headers import Tensor

# The type that most tensors of a GGUF mixture get, from the most bits to the fewest.
MIXTURES: Final = {
    "Q8_0": "Q8_0", "Q6_K": "Q6_K", "Q5_K_M": "Q5_K", "Q5_1": "Q5_1", "Q5_K_S": "Q5_K", "Q5_0": "Q5_0",
    "Q4_1": "Q4_1", "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K", "Q4_0": "Q4_0", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS",
    "Q3_K_L": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_S": "Q3_K", "Q2_K": "Q2_K",
}  # fmt: skip
FLOATS: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED: Final = ("nf4", "fp4", "int8", "int4")
"""What the Transformers engine quantizes to, by `?quantize=`."""
PRECISIONS: Final = (*FLOATS, *QUANTIZED, *MIXTURES)

# nf4 and fp4 with double quantization: 4 bits, 8 bits of scale for 64 weights, 32 bits for 256 such scales. Dettmers et
# al. 2023 (QLoRA), section 3: 0.127 bits of scales for each weight.
NF4_BITS: Final = 4 + 8 / 64 + 32 / (64 * 256)
INT4_GROUP: Final = 32
"""Values that share a scale and a zero, both in bfloat16."""
INT4_BITS: Final = 4 + 2 * 16 / INT4_GROUP

_BYTES: Final = {block.name: block for block in BLOCK_TYPES.values()}
_FALLBACK: Final = {
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL",
}  # fmt: skip


def bytes_in(precision: str, tensors: Sequence[Tensor], sizes: Dimensions) -> int:
    """Bytes of the weights in a precision: one of PRECISIONS. Raises InputError for another."""
    if precision in FLOATS:
        return FLOATS[precision] * sum(tensor.parameters for tensor in tensors)
    if precision in {"nf4", "fp4", "int4"}:
        width = (INT4_BITS if precision == "int4" else NF4_BITS) / 8
        return round(sum(tensor.parameters * (width if linear(tensor) else 2) for tensor in tensors))
    if precision == "int8":  # LLM.int8(): a scale in float32 for each row
        return sum(
            tensor.parameters + 4 * tensor.shape[0] if linear(tensor) else 2 * tensor.parameters for tensor in tensors
        )
    if precision not in MIXTURES:
        raise InputError(missing("precision", precision, PRECISIONS))
    return sum(stored_bytes(tensor, kind) for tensor, kind in mixture(precision, tensors, sizes))


def linear(tensor: Tensor) -> bool:
    """Whether bitsandbytes quantizes the tensor and LoRA adapts it: a linear layer inside a block."""
    return len(tensor.shape) == 2 and layer(tensor) is not None and tensor.name.endswith(".weight")


def stored_bytes(tensor: Tensor, kind: str) -> int:
    """Bytes of the tensor in a GGUF type."""
    block = _BYTES[kind]
    return tensor.parameters // block.elements * block.bytes


def mixture(name: str, tensors: Sequence[Tensor], sizes: Dimensions) -> Iterator[tuple[Tensor, str]]:
    """Each tensor with the type it gets in a GGUF mixture such as Q4_K_M."""
    most = MIXTURES[name]
    tied = not any(role(tensor) == "output" for tensor in tensors)
    shared = (sizes.heads or 1) // (sizes.kv_heads or sizes.heads or 1)
    for tensor in tensors:
        part = role(tensor)
        if len(tensor.shape) < 2 or part == "router" or "norm" in tensor.name:
            yield tensor, "F32"
        elif part == "output" or (tied and part == "embedding"):
            whole = tensor.shape[-1] % _BYTES[most].elements == 0
            yield tensor, _fitting(tensor, "Q6_K" if whole and most != "Q8_0" else "Q8_0")
        else:
            number = layer(tensor) or 0
            yield tensor, _fitting(tensor, _chosen(name, most, part, number, sizes.layers, shared, sizes.experts or 1))


def _chosen(name: str, most: str, part: str, number: int, layers: int, shared: int, experts: int) -> str:
    """The type of a tensor inside a block: what matters more gets more bits. `shared` heads use the same values."""
    if part in {"v", "qkv"}:
        if experts == 8:
            return "Q8_0"
        kind = _values(name, most, number, layers, shared)
        return "Q5_K" if layers == 80 and shared == 8 and kind in {"Q3_K", "Q4_K"} else kind  # the 70 B models
    if part == "k" and experts == 8:
        return "Q8_0"
    if part == "down":
        return _down(name, most, number, layers)
    if part == "attention_output":
        if experts == 8:
            return "Q5_K" if name in {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"} else most
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(name, most)
    return most


def _values(name: str, most: str, number: int, layers: int, shared: int) -> str:
    match name:
        case "Q2_K":
            return "Q4_K" if shared >= 4 else "Q3_K"
        case "Q3_K_M":
            return "Q5_K" if number < 2 else "Q4_K"
        case "Q3_K_L":
            return "Q5_K"
        case "IQ4_NL" | "IQ4_XS" if shared >= 4:
            return "Q5_K"
        case "Q4_K_M" | "Q5_K_M" if _more(number, layers):
            return "Q6_K"
        case "Q4_K_S" if number < 4:
            return "Q5_K"
    return most


def _down(name: str, most: str, number: int, layers: int) -> str:
    match name:
        case "Q2_K":
            return "Q3_K"
        case "Q3_K_M":
            return "Q5_K" if number < layers // 16 else "Q4_K"
        case "Q3_K_L":
            return "Q5_K"
        case "Q4_K_M" | "Q5_K_M" if _more(number, layers):
            return "Q6_K"
        case "Q4_K_S" | "IQ4_NL" | "IQ4_XS" if number < layers // 8:
            return "Q5_K"
    return most


def _more(number: int, layers: int) -> bool:
    """The first and the last eighth of the blocks, and every third between."""
    return number < layers // 8 or number >= 7 * layers // 8 or (number - layers // 8) % 3 == 2


def _fitting(tensor: Tensor, kind: str) -> str:
    """The type itself, or the next that the length of the tensor's rows allows."""
    if tensor.shape[-1] % _BYTES[kind].elements:
        kind = _FALLBACK.get(kind, "F16")
    return "F16" if tensor.shape[-1] % _BYTES[kind].elements else kind


def adapter_parameters(tensors: Iterable[Tensor], rank: int) -> int:
    """Parameters of LoRA adapters on every linear layer inside the blocks: rank × (in + out) each."""
    return sum(rank * (tensor.shape[0] + tensor.shape[1]) for tensor in tensors if linear(tensor))
