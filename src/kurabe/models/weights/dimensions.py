"""What a model's tensors are for, by their names, and a decoder's sizes, from its header."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from kurabe.models.weights.headers import Header, Tensor

# Each setting by its names in GGUF metadata (behind the architecture's name) and in config.json.
_SETTINGS: Final = {
    "layers": ("block_count", "num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("embedding_length", "hidden_size", "n_embd", "d_model"),
    "feed_forward": ("feed_forward_length", "intermediate_size", "n_inner", "ffn_hidden_size"),
    "heads": ("attention.head_count", "num_attention_heads", "n_head"),
    "kv_heads": ("attention.head_count_kv", "num_key_value_heads", "num_kv_heads"),
    "head_size": ("attention.key_length", "head_dim"),
    "vocabulary": ("vocab_size",),
    "context": ("context_length", "max_position_embeddings", "n_positions", "seq_length"),
    "experts": ("expert_count", "num_local_experts", "n_routed_experts", "num_experts"),
    "experts_used": ("expert_used_count", "num_experts_per_tok"),
}
# Names as llama.cpp and as the common families in Transformers write them.
_ROLES: Final = {
    "embedding": r"(^|\.)(token_embd|embed_tokens|wte|word_embeddings|embed_in)\.weight$",
    "output": r"^(output|lm_head|embed_out)\.weight$",
    "qkv": r"(attn_qkv|qkv_proj|query_key_value|c_attn|Wqkv)\.weight$",
    "q": r"(attn_q|q_proj)\.weight$",
    "k": r"(attn_k|k_proj)\.weight$",
    "v": r"(attn_v|v_proj)\.weight$",
    "latent": r"(attn_kv_a_mqa|kv_a_proj_with_mqa)\.weight$",
    "attention_output": r"(attn_output|o_proj|out_proj|self_attention\.dense|attention\.dense|attn\.c_proj)\.weight$",
    "down": r"(ffn_down(_exps|_shexp)?|down_proj|dense_4h_to_h|mlp\.c_proj|experts\.\d+\.w2)(\.weight)?$",
    "router": r"(ffn_gate_inp|mlp\.gate|block_sparse_moe\.gate|router)\.weight$",
}
_ROLE: Final = re.compile("|".join(f"(?P<{role}>{pattern})" for role, pattern in _ROLES.items()))
_LAYER: Final = re.compile(r"(?:^|\.)(?:blk|layers|h|blocks)\.(\d{1,6})\.")


class Dimensions(msgspec.Struct, frozen=True):
    """A decoder's sizes. `kv_elements` is how many keys and values one token leaves in the cache, over all layers."""

    layers: int
    hidden: int
    feed_forward: int | None
    heads: int | None
    kv_heads: int | None
    head_size: int | None
    vocabulary: int
    context: int | None
    experts: int | None
    experts_used: int | None
    kv_elements: int | None


def role(tensor: Tensor) -> str:
    """What the tensor is for: `embedding`, `output`, `q`, `k`, `v`, `qkv`, `latent` (the compressed keys and values of
    multi-head latent attention), `attention_output`, `down`, `router`, or `` for everything else."""
    found = _ROLE.search(tensor.name)
    return found.lastgroup or "" if found else ""


def layer(tensor: Tensor) -> int | None:
    """The number of the block that the tensor belongs to, None outside the blocks."""
    found = _LAYER.search(tensor.name)
    return int(found[1]) if found else None


def dimensions(header: Header) -> Dimensions:
    """The sizes that the header states, and from the tensors' shapes what it doesn't."""
    settings = header.settings
    family = settings.get("general.architecture")
    stated = {name: _number(settings, [f"{family}.{key}" for key in keys] + list(keys)) for name, keys in
              _SETTINGS.items()}  # fmt: skip
    embedding = embedding_of(header.tensors)
    rows, width = embedding.shape if embedding is not None and len(embedding.shape) == 2 else (0, 0)
    layers = stated["layers"] or max((layer(tensor) or 0 for tensor in header.tensors), default=-1) + 1
    hidden, heads = stated["hidden"] or width, stated["heads"]
    head_size = stated["head_size"] or (hidden // heads if heads else None)
    # GGUF gives a list where layers differ; config.json says nothing where every head has its own keys and values.
    kv_heads = stated["kv_heads"]
    if kv_heads is None and heads is not None and not any(role(tensor) == "k" for tensor in header.tensors):
        kv_heads = 1 if settings.get("multi_query") else heads
    elements = kv_elements(header.tensors, hidden, heads, head_size)
    if kv_heads is None and elements and head_size and layers:
        kv_heads = elements // (2 * layers * head_size)
    if elements is None and kv_heads and head_size:
        elements = 2 * layers * kv_heads * head_size
    return Dimensions(
        layers,
        hidden,
        stated["feed_forward"],
        heads,
        kv_heads,
        head_size,
        rows or stated["vocabulary"] or 0,
        stated["context"],
        stated["experts"],
        stated["experts_used"],
        elements,
    )


def kv_elements(tensors: Iterable[Tensor], hidden: int, heads: int | None, head_size: int | None) -> int | None:
    """Keys and values of one token over all layers, from the shapes of what computes them; None where no tensor says.

    The rows of the K and the V projection; of a fused one, what the queries leave; of latent attention, its one row.
    """
    rows = 0
    for tensor in tensors:
        if len(tensor.shape) != 2 or tensor.shape[1] != hidden:  # packed weights say nothing of rows
            continue
        if role(tensor) in {"k", "v", "latent"}:
            rows += tensor.shape[0]
        elif role(tensor) == "qkv" and heads and head_size:
            rows += max(tensor.shape[0] - heads * head_size, 0)
    return rows or None


def embedding_of(tensors: Iterable[Tensor]) -> Tensor | None:
    """The tensor of the tokens' embeddings, None where no name says that it is one."""
    return next((tensor for tensor in tensors if role(tensor) == "embedding"), None)


def _number(settings: dict[str, Any], names: list[str]) -> int | None:
    found = (settings.get(name) for name in names)
    return next(
        (value for value in found if isinstance(value, int) and not isinstance(value, bool) and value > 0), None
    )
