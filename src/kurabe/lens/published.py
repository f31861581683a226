"""Decoders as their published configurations describe them: what a bare size such as `7B` is taken to look like."""

import math
import re
from typing import Final, NamedTuple

from kurabe.errors import InputError
from kurabe.models.weights.dimensions import Dimensions
from kurabe.models.weights.headers import Tensor

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMBT])", re.IGNORECASE)
_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


class Decoder(NamedTuple):
    """The sizes in a model's config.json."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    tied: bool = False
    context: int = 4096


# From the models' config.json on the Hugging Face hub.
DECODERS: Final = (
    Decoder("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, True, 8192),
    Decoder("SmolLM2-360M", 32, 960, 15, 5, 64, 2560, 49152, True, 8192),
    Decoder("Llama-3.2-1B", 16, 2048, 32, 8, 64, 8192, 128256, True, 131072),
    Decoder("Llama-3.2-3B", 28, 3072, 24, 8, 128, 8192, 128256, True, 131072),
    Decoder("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, False, 131072),
    Decoder("Qwen2.5-14B", 48, 5120, 40, 8, 128, 13824, 152064, False, 131072),
    Decoder("Qwen2.5-32B", 64, 5120, 40, 8, 128, 27648, 152064, False, 131072),
    Decoder("Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256, False, 131072),
    Decoder("Llama-3.1-405B", 126, 16384, 128, 8, 128, 53248, 128256, False, 131072),
)


def parse_size(text: str) -> int | None:
    """Parameters of a size such as `7B`, `1.5b` or `135M`; None where the text is no size. Raises InputError for 0.

    >>> parse_size("176B"), parse_size("0.5b"), parse_size("model.gguf")
    (176000000000, 500000000, None)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    parameters = round(float(found[1]) * _UNITS[found[2].upper()]) if len(found[1]) < 16 else 0
    if not 0 < parameters <= 10**15:
        raise InputError(f"{text!r} is no size of a model; write one such as 7B, 176B or 135M")
    return parameters


def nearest(parameters: int) -> Decoder:
    """The published decoder whose size is nearest by ratio."""
    return min(DECODERS, key=lambda decoder: abs(math.log(parameters / count(decoder))))


def count(decoder: Decoder) -> int:
    """Parameters of a decoder."""
    return sum(tensor.parameters for tensor in tensors(decoder))


def dimensions(decoder: Decoder) -> Dimensions:
    """The decoder's sizes as a header would give them."""
    return Dimensions(
        layers=decoder.layers,
        hidden=decoder.hidden,
        feed_forward=decoder.feed_forward,
        heads=decoder.heads,
        kv_heads=decoder.kv_heads,
        head_size=decoder.head_size,
        vocabulary=decoder.vocabulary,
        context=decoder.context,
        experts=None,
        experts_used=None,
        kv_elements=2 * decoder.layers * decoder.kv_heads * decoder.head_size,
    )


def tensors(decoder: Decoder) -> tuple[Tensor, ...]:
    """The tensors of a decoder with gated feed-forward layers, in bfloat16, by their names in GGUF files."""
    hidden, queries = decoder.hidden, decoder.heads * decoder.head_size
    values, wide = decoder.kv_heads * decoder.head_size, decoder.feed_forward
    block = {
        "attn_q": (queries, hidden), "attn_k": (values, hidden), "attn_v": (values, hidden),
        "attn_output": (hidden, queries), "ffn_gate": (wide, hidden), "ffn_up": (wide, hidden),
        "ffn_down": (hidden, wide), "attn_norm": (hidden,), "ffn_norm": (hidden,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (decoder.vocabulary, hidden)}
    for number in range(decoder.layers):
        shapes |= {f"blk.{number}.{name}.weight": shape for name, shape in block.items()}
    shapes["output_norm.weight"] = (hidden,)
    if not decoder.tied:
        shapes["output.weight"] = (decoder.vocabulary, hidden)
    return tuple(Tensor(name, shape, "BF16", 2 * math.prod(shape)) for name, shape in shapes.items())
