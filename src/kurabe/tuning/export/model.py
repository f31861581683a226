"""GGUF files: a tuned model's tensors one by one, the tuned ones among them, and adapters."""

import json
import logging
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, LlamaFileType
from safetensors import safe_open

from kurabe.errors import TuningError
from kurabe.models.engines.hf.load import read_tokenizer
from kurabe.models.files.hub import weight_files
from kurabe.models.reference import Reference
from kurabe.models.weights.gguf import read_header
from kurabe.models.weights.headers import parts
from kurabe.tuning.export.architecture import Architecture, architecture_of
from kurabe.tuning.export.lora import Lora, read_lora
from kurabe.tuning.export.metadata import Value, metadata_of_config, rope_factors
from kurabe.tuning.export.tuned import Tuned, Type

FILE_TYPES: Final[dict[Type, LlamaFileType]] = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
_OWN: Final = ("GGUF.", "split.", "general.architecture", "general.file_type", "general.quantization_version")
"""What a file says of itself alone; of the metadata that is kept, all else."""


class Tensor(NamedTuple):
    """A tensor that is read when it is its turn: its shape, the outermost dimension first, and its float32 values."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def adapter_writer(tuned: Tuned, type: Type) -> Callable[[Path], None]:
    """What writes the adapter for llama.cpp. Raises TuningError where it can't be one."""
    architecture, lora = _lora(tuned)
    assert lora is not None
    weights = _weights(tuned.path, tuned.base, architecture)
    _require_fit(tuned, weights, lora)
    tensors = {}
    for name, factors in lora.factors.items():
        tensors[f"{name}.lora_a"] = _held(factors.a)
        tensors[f"{name}.lora_b"] = _held(factors.b)
    metadata = {
        "general.type": Value("adapter", GGUFValueType.STRING),
        "adapter.type": Value("lora", GGUFValueType.STRING),
        "adapter.lora.alpha": Value(lora.alpha, GGUFValueType.FLOAT32),
    }
    return lambda fresh: write(fresh, architecture.name, metadata, tensors, type)


def model_writer(tuned: Tuned, type: Type) -> Callable[[Path], None]:
    """What writes the model, the adapter merged. Raises TuningError where it can't be one."""
    architecture, lora = _lora(tuned)
    tensors = _weights(tuned.path, tuned.base, architecture)
    source = tuned.metadata or tuned.path
    if source.is_file():
        metadata = _metadata(source)
        tensors = _weights(source, tuned.base, architecture) | tensors
    else:
        config, tokenizer = read_tokenizer(tuned.path, tuned.base)
        metadata = metadata_of_config(config, tokenizer, architecture, tuned.path)
        if (factors := rope_factors(config)) is not None:
            tensors["rope_freqs.weight"] = _held(factors)
    if lora is not None:
        _require_fit(tuned, tensors, lora)
        tensors |= {name: _changed(tensors[name], lora, name) for name in lora.factors}
    return lambda fresh: write(fresh, architecture.name, metadata, tensors, type)


def write(
    path: Path, architecture: str, metadata: Mapping[str, Value], tensors: Mapping[str, Tensor], type: Type
) -> None:
    """Write a GGUF file, one tensor in memory at a time. What has one dimension stays float32, as llama.cpp wants it;
    a row that is no multiple of a block becomes float16."""
    logging.getLogger("gguf").setLevel(logging.ERROR)
    writer: Any = gguf.GGUFWriter(path, architecture)
    writer.data_alignment = next(
        (value.value for key, value in metadata.items() if key == "general.alignment"), writer.data_alignment
    )
    for key, value in metadata.items():
        if value.type != GGUFValueType.ARRAY or len(value.value):
            writer.add_key_value(key, *value)
    writer.add_file_type(FILE_TYPES[type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    kinds = {name: _kind(tensor.shape, type) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        elements, size = gguf.GGML_QUANT_SIZES[kinds[name]]
        writer.add_tensor_info(
            name, tensor.shape, np.dtype(np.float32), prod(tensor.shape) // elements * size, kinds[name]
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            values = np.ascontiguousarray(tensor.read(), dtype=np.float32)
            writer.write_tensor_data(gguf.quants.quantize(values, kinds[name]))
    finally:
        writer.close()


def _kind(shape: tuple[int, ...], type: Type) -> GGMLQuantizationType:
    if len(shape) < 2:
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[type.upper()]
    return kind if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else GGMLQuantizationType.F16


def _lora(tuned: Tuned) -> tuple[Architecture, Lora | None]:
    architecture = architecture_of(tuned.path, tuned.base)
    if tuned.adapter is None:
        return architecture, None
    return architecture, read_lora(tuned.adapter, architecture, tuned.scale)


def _require_fit(tuned: Tuned, weights: Mapping[str, Tensor], lora: Lora) -> None:
    for name, factors in sorted(lora.factors.items()):
        shape = (len(factors.b), factors.a.shape[1])
        if name not in weights:
            raise TuningError(
                f"the adapter {tuned.adapter} changes {name!r}, and {str(tuned.base)!r} has no such tensor as GGUF; an"
                " output layer that is the embedding too can be tuned, but not kept apart"
            )
        if weights[name].shape != shape:
            raise TuningError(
                f"the adapter {tuned.adapter} does not fit {str(tuned.base)!r}: its {name!r} is {shape}, the model's"
                f" {weights[name].shape}"
            )


def _changed(tensor: Tensor, lora: Lora, name: str) -> Tensor:
    return Tensor(tensor.shape, lambda: tensor.read() + lora.factors[name].change())


def _held(values: np.ndarray) -> Tensor:
    return Tensor(values.shape, lambda: values)


def _weights(path: Path, reference: Reference, architecture: Architecture) -> dict[str, Tensor]:
    """The tensors of a GGUF file or of a folder by their GGUF names."""
    if path.is_dir():
        return _of_folder(path, reference, architecture)
    tensors = {}
    for file in parts(path, read_header(path).metadata.get("split.count")):
        read_header(file)
        for found in gguf.GGUFReader(file).tensors:
            tensors[found.name] = Tensor(tuple(found.shape.tolist()[::-1]), _unpacked(found))
    return tensors


def _unpacked(found: Any) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            values: np.ndarray = gguf.dequantize(found.data, found.tensor_type)
        except NotImplementedError:
            raise TuningError(f"tensors of the type {found.tensor_type.name} cannot be unpacked") from None
        return values

    return read


def _of_folder(path: Path, reference: Reference, architecture: Architecture) -> dict[str, Tensor]:
    config = json.loads((path / "config.json").read_bytes())
    if config.get("quantization_config"):
        raise TuningError(
            f"the weights in {path} are quantized already, and cannot be written anew; name what they were"
        )
    named = architecture.namer()
    tensors = {}
    for file in weight_files(path):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if name.endswith("rotary_emb.inv_freq"):
                    continue
                if name == "lm_head.weight" and _tied(config):
                    continue
                theirs = named(name)
                if theirs is None:
                    raise TuningError(f"{str(reference)!r} has the tensor {name!r}, unknown for {architecture.name}")
                shape = tuple(opened.get_slice(name).get_shape())
                tensors[theirs] = Tensor(shape, _from_file(file, name, theirs, architecture))
    if not tensors:
        raise TuningError(f"there are no whole safetensors weights in {path}")
    return tensors


def _tied(config: dict[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings"))


def _from_file(file: Path, name: str, theirs: str, architecture: Architecture) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        with safe_open(file, framework="pt") as opened:
            return architecture.laid_out(theirs, opened.get_tensor(name).float().numpy())

    return read


def _metadata(path: Path) -> dict[str, Value]:
    """The metadata of a GGUF file that hold for a tuned model too, the tokenizer among them."""
    found = {}
    for key, field in gguf.GGUFReader(path).fields.items():
        if not key.startswith(_OWN):
            kind = field.types[0]
            found[key] = Value(field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    return found
