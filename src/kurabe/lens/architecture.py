"""How a model is built, from its header or its configuration alone: a model of 70 billion parameters is shown without
loading it."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from kurabe.lens import meta
from kurabe.lens.belongs import special_doubts
from kurabe.lens.layers import Node, tree
from kurabe.models.weights.dimensions import Dimensions, dimensions, embedding_of, layer, role
from kurabe.models.weights.headers import Header, Tensor, locate, only_described, read_path


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
    """How a model is built. `bytes` counts the tensors' data; `tokenizer` the tokenizer's tokens, None if unknown.
    `files` is 0 where the weights are not there."""

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
    shards), or what is here of a model of the catalog, the hub or Ollama. Only headers are read; where a config.json is
    all there is, Transformers builds the model on the meta device.

    Raises ModelError where there is no such model, or its files are damaged or cut short; MissingExtraError where it
    takes Transformers, which is not installed.
    """
    path = locate(ref)
    header = meta.build(path) if only_described(path) else read_path(path)
    sizes = dimensions(header)
    tied = not any(role(tensor) == "output" for tensor in header.tensors) and not _gives_vectors(header)
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


def _gives_vectors(header: Header) -> bool:
    """Whether it is an embedding model, which has no logits: a file says how it pools, a folder names a bare model."""
    named = header.settings.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    bare = bool(names) and all(name.endswith("Model") and "LMHead" not in name for name in names)
    return bare or f"{header.settings.get('general.architecture')}.pooling_type" in header.settings


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
    embedding = embedding_of(header.tensors)
    if embedding is None or len(embedding.shape) != 2:
        yield Check("token embeddings", "note", "no tensor has a name that embeddings of tokens usually have")
    else:
        yield _vocabulary(embedding.shape[0], header, tied)
        yield _tokenizer(embedding.shape[0], header.tokenizer)
        yield _compared("hidden size", sizes.hidden, embedding.shape[1], "stated", "columns of the embeddings")
    for state, doubt in special_doubts(header):
        yield Check("special tokens", state, doubt)
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
    output = next((tensor for tensor in header.tensors if role(tensor) == "output"), None)
    if output is None:
        return Check(name, "ok", f"{rows:,} in; an embedding model gives vectors and no logits")
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
