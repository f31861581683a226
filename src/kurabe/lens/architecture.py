"""How a model is built, from its header alone: a model of 70 billion parameters is shown without loading it."""

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from kurabe.lens.header import Header, Tensor, read
from kurabe.lens.layers import Node, layer, role, tree

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


class TypeTotal(msgspec.Struct, frozen=True):
    """What is stored in one type."""

    tensors: int
    parameters: int
    bytes: int


class Check(msgspec.Struct, frozen=True):
    """`ok`, `note` where it is unusual but works, `wrong` where parts don't belong together."""

    name: str
    state: Literal["ok", "note", "wrong"]
    detail: str


class Architecture(msgspec.Struct, frozen=True):
    """How a model is built. `bytes` counts the tensors' data; `tokenizer` the tokenizer's tokens, None if unknown."""

    reference: str
    name: str
    family: str
    format: str
    files: int
    parameters: int
    bytes: int
    tied: bool
    tokenizer: int | None
    dimensions: Dimensions
    types: dict[str, TypeTotal]
    checks: tuple[Check, ...]
    tree: tuple[Node, ...]
    tensors: tuple[Tensor, ...]


def architecture(ref: str) -> Architecture:
    """How the model is built that `ref` names: a GGUF file, a folder with config.json and .safetensors (one or in
    shards), or a pulled model of the catalog. Only headers are read.

    Raises ModelError where there is no such model, or its files are damaged or cut short.
    """
    header = read(ref)
    sizes = dimensions(header)
    tied = not any(role(tensor) == "output" for tensor in header.tensors)
    settings = header.settings
    return Architecture(
        reference=ref,
        name=_text(settings.get("general.name") or settings.get("_name_or_path")) or header.path.stem,
        family=_text(settings.get("general.architecture") or settings.get("model_type")) or "unknown",
        format=header.format,
        files=header.files,
        parameters=sum(tensor.parameters for tensor in header.tensors),
        bytes=sum(tensor.bytes for tensor in header.tensors),
        tied=tied,
        tokenizer=header.tokenizer,
        dimensions=sizes,
        types=_types(header.tensors),
        checks=tuple(_checks(header, sizes, tied)),
        tree=tree(header.tensors),
        tensors=header.tensors,
    )


def dimensions(header: Header) -> Dimensions:
    """The sizes that the header states, and from the tensors' shapes what it doesn't."""
    settings = header.settings
    family = settings.get("general.architecture")
    stated = {name: _number(settings, [f"{family}.{key}" for key in keys] + list(keys)) for name, keys in
              _SETTINGS.items()}  # fmt: skip
    embedding = _embedding(header.tensors)
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


def _embedding(tensors: Iterable[Tensor]) -> Tensor | None:
    return next((tensor for tensor in tensors if role(tensor) == "embedding"), None)


def _number(settings: dict[str, Any], names: list[str]) -> int | None:
    found = (settings.get(name) for name in names)
    return next(
        (value for value in found if isinstance(value, int) and not isinstance(value, bool) and value > 0), None
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _types(tensors: Iterable[Tensor]) -> dict[str, TypeTotal]:
    found: dict[str, TypeTotal] = {}
    for tensor in tensors:
        before = found.get(tensor.type, TypeTotal(0, 0, 0))
        found[tensor.type] = TypeTotal(
            before.tensors + 1, before.parameters + tensor.parameters, before.bytes + tensor.bytes
        )
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))


def _checks(header: Header, sizes: Dimensions, tied: bool) -> Iterable[Check]:
    embedding = _embedding(header.tensors)
    if embedding is None or len(embedding.shape) != 2:
        yield Check("token embeddings", "note", "no tensor has a name that embeddings of tokens usually have")
    else:
        yield _vocabulary(embedding.shape[0], header, tied)
        yield _tokenizer(embedding.shape[0], header.tokenizer)
        yield _compared("hidden size", sizes.hidden, embedding.shape[1], "stated", "columns of the embeddings")
    if sizes.heads and sizes.kv_heads:
        divides = sizes.heads % sizes.kv_heads == 0
        yield Check(
            "heads share keys and values evenly",
            "ok" if divides else "wrong",
            f"{sizes.heads} heads, {sizes.kv_heads} for keys and values: "
            + (f"{sizes.heads // sizes.kv_heads} each" if divides else "the one does not divide the other"),
        )
    if sizes.heads and sizes.head_size:
        equal = sizes.heads * sizes.head_size == sizes.hidden
        yield Check(
            "heads × head size = hidden size",
            "ok" if equal else "note",
            f"{sizes.heads} × {sizes.head_size} = {sizes.heads * sizes.head_size:,}"
            + ("" if equal else f", and the hidden size is {sizes.hidden:,}"),
        )
    found = {number for tensor in header.tensors if (number := layer(tensor)) is not None}
    if found:
        yield _compared("blocks", sizes.layers, len(found), "stated", "found")
    yield Check(
        "context length",
        "ok" if sizes.context else "note",
        f"{sizes.context:,} tokens" if sizes.context else "not stated",
    )
    if header.promised_bytes is not None:
        size = sum(tensor.bytes for tensor in header.tensors)
        yield _compared("bytes of the shards", header.promised_bytes, size, "in the index", "found")
    if "quantization_config" in header.settings:
        yield Check("packed weights", "note", "quantized; parameters are counted as stored, several to an element")


def _vocabulary(rows: int, header: Header, tied: bool) -> Check:
    name = "vocabulary in = vocabulary out"
    if tied:
        return Check(name, "ok", f"tied: the {rows:,} rows of the embeddings also give the logits")
    output = next(tensor for tensor in header.tensors if role(tensor) == "output")
    return _compared(name, rows, output.shape[0], "in", "out")


def _tokenizer(rows: int, tokens: int | None) -> Check:
    name = "tokenizer = rows of the embeddings"
    if tokens is None:
        return Check(name, "note", f"{rows:,} rows; the tokenizer is not here")
    if tokens == rows:
        return Check(name, "ok", f"{rows:,}")
    if tokens < rows:
        return Check(
            name, "note", f"{tokens:,} tokens, {rows:,} rows: {rows - tokens:,} to spare, as padding leaves them"
        )
    return Check(name, "wrong", f"{tokens:,} tokens, {rows:,} rows: {tokens - rows:,} tokens have no embedding")


def _compared(name: str, left: int, right: int, left_is: str, right_is: str) -> Check:
    if left == right:
        return Check(name, "ok", f"{left:,}")
    return Check(name, "wrong", f"{left:,} {left_is}, {right:,} {right_is}")
