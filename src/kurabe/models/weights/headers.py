"""A model's header as values: its tensors and settings, from a GGUF file or a folder of safetensors. No weights."""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import msgspec
from safetensors import SafetensorError, safe_open

from kurabe.errors import ModelError, missing
from kurabe.models.files.catalog import catalog
from kurabe.models.files.hub import INDEX, hub_name, snapshot
from kurabe.models.files.local import located, pull_command
from kurabe.models.files.small_files import check_small_files, read_small
from kurabe.models.files.store import named_path
from kurabe.models.reference import Reference, parse_reference
from kurabe.models.weights.gguf import BLOCK_TYPES, read_header

# Bytes of one element, by the names of the safetensors format.
ELEMENT_BYTES: Final = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1, "F4": 0.5,
}  # fmt: skip

CONFIG: Final = "config.json"
_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class Tensor(msgspec.Struct, frozen=True):
    """One tensor. `shape` has the outermost dimension first, as PyTorch prints it; a linear layer's is (out, in)."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int

    @property
    def parameters(self) -> int:
        """The number of elements."""
        return prod(self.shape)


class Header(msgspec.Struct, frozen=True):
    """What a model's files say of it. `settings` are GGUF metadata or config.json; `tokenizer` is the number of tokens,
    None where the files don't say; `promised_bytes` the total that an index of shards names. `files` is 0 where a
    configuration is all there is."""

    path: Path
    format: str
    files: int
    settings: dict[str, Any]
    tensors: tuple[Tensor, ...]
    tokenizer: int | None
    promised_bytes: int | None = None


def locate(ref: str) -> Path:
    """The file or folder that `ref` means: a path, or what is on this machine of a model of the catalog, the hub or
    Ollama, with or without `gguf:` or `hf:` in front. Of a model of the hub that may be the configuration alone. Raises
    ModelError."""
    if ref and (path := named_path(ref)).exists():
        return path
    parsed = _reference(ref)
    if (found := located(parsed) or _described(parsed)) is None:
        raise ModelError(f"the model {parsed.name!r} is not on this machine yet; fetch it with: {pull_command(parsed)}")
    if not found.exists():
        raise ModelError(f"there is no file or folder {found}; name a GGUF file or a folder with config.json")
    return found


def _reference(ref: str) -> Reference:
    """The reference with its engine, which a bare name leaves out."""
    if ref.startswith(("gguf:", "hf:")):
        return parse_reference(ref)
    name = ref.partition("?")[0]
    if name in catalog() or name.lower().endswith(".gguf") or name.startswith("ollama/"):
        return parse_reference(f"gguf:{ref}")
    if "/" in name or "\\" in name:
        return parse_reference(f"hf:{ref}")
    if ":" in name and not parse_reference(ref).local:
        raise ModelError(
            f"'{ref}' runs elsewhere, and what it is made of is not known here; name a GGUF file or a folder"
        )
    raise ModelError(f"{missing('model', name, catalog())}; or name a GGUF file or a folder with config.json")


def _described(parsed: Reference) -> Path | None:
    """The hub's folder of a model of which no more than the configuration is here."""
    name = hub_name(parsed.name, parsed.options.get("revision")) if parsed.scheme == "hf" else None
    folder = snapshot(name) if name is not None else None
    return folder if folder is not None and only_described(folder) else None


def only_described(path: Path) -> bool:
    """Whether the folder has a config.json and no weights that a header could be read of."""
    return (path / CONFIG).is_file() and not any(any(path.glob(name)) for name in ("*.safetensors", INDEX))


def read_path(path: Path) -> Header:
    """The header of a GGUF file (the first of several) or of a folder with config.json and .safetensors. Raises
    ModelError where there is none or it can't be read."""
    return _folder(path) if path.is_dir() else _gguf(path)


def _gguf(path: Path) -> Header:
    if path.suffix == ".safetensors":
        raise ModelError(f"{path.name} doesn't describe its model by itself; name the folder {path.parent}")
    header = read_header(path)
    files = parts(path, header.metadata.get("split.count"))
    tensors = []
    for info in (info for part in files for info in (header if part == path else read_header(part)).infos):
        if (size := info.bytes) is None:
            raise ModelError(
                f"{path}: the tensor {info.name!r} has the type {info.type}, newer than this version of kurabe knows"
            )
        tensors.append(Tensor(info.name, info.shape[::-1], BLOCK_TYPES[info.type].name, size))
    tokens = header.lengths.get("tokenizer.ggml.tokens")
    return Header(path, "GGUF", len(files), header.metadata, tuple(tensors), tokens)


def parts(path: Path, count: object) -> list[Path]:
    """The files of a model that `llama-gguf-split` cut: `…-00001-of-00003.gguf` and those after it."""
    if not isinstance(count, int) or count < 2:
        return [path]
    name = _PART.fullmatch(path.name)
    if name is None or int(name[3]) != count:
        raise ModelError(
            f"{path} is one of {count} parts and not named so; name it as it was: …-00001-of-{count:05}.gguf"
        )
    if int(name[2]) != 1:
        raise ModelError(f"{path} is not the first part; name {name[1]}-00001-of-{name[3]}.gguf")
    files = [path.with_name(f"{name[1]}-{number:05}-of-{name[3]}.gguf") for number in range(1, count + 1)]
    if lacking := [file.name for file in files if not file.exists()]:
        listed = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        raise ModelError(
            f"of the {count} parts of {path.name}'s model there {'is' if len(lacking) == 1 else 'are'} missing in"
            f" {path.parent}: {listed}; fetch {'it' if len(lacking) == 1 else 'them'} there"
        )
    return files


def _folder(path: Path) -> Header:
    config = read_config(path)
    index = path / INDEX
    promised = None
    if index.is_file():
        found = _json(index)
        weight_map, metadata = found.get("weight_map"), found.get("metadata")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{index} has no 'weight_map' from tensors to files; fetch it again")
        names = sorted(set(weight_map.values()))
        total = metadata.get("total_size") if isinstance(metadata, dict) else None
        promised = int(total) if isinstance(total, int | float) else None
    else:
        names = sorted(file.name for file in path.glob("*.safetensors"))
    if any("/" in name or "\\" in name for name in names):
        raise ModelError(f"{index} names a file outside its folder; fetch it again")
    tensors = [tensor for name in names for tensor in _safetensors(path / name)]
    if not tensors:
        raise ModelError(f"{path} holds a config.json and no .safetensors; fetch the model's weights there")
    return Header(
        path, "safetensors", len(names), text_settings(config), tuple(tensors), tokenizer_size(path), promised
    )


def read_config(path: Path) -> dict[str, Any]:
    """The folder's config.json. Raises ModelError where there is none, it can't be read, or a file beside it is larger
    than any of a model."""
    check_small_files(path)
    return _json(path / CONFIG)


def text_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the language model: those of models that also see or hear stand one level down."""
    return config | (config["text_config"] if isinstance(config.get("text_config"), dict) else {})


def _safetensors(path: Path) -> list[Tensor]:
    """The tensors of one file; the library reads its header and checks it against the file's size."""
    tensors = []
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                shape, kind = tuple(part.get_shape()), str(part.get_dtype())
                if kind not in ELEMENT_BYTES:
                    raise ModelError(f"{path}: the tensor {name!r} has the type {kind}, unknown to kurabe")
                tensors.append(Tensor(name, shape, kind, int(prod(shape) * ELEMENT_BYTES[kind])))
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}, which the index names; fetch the model again") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a usable safetensors file: {error}; fetch it again") from None
    return tensors


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(read_small(path), type=dict[str, Any])
    except FileNotFoundError:
        raise ModelError(
            f"there is no {path.name} in {path.parent}; name a GGUF file or a folder with config.json and .safetensors"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path} can't be read: {error}; fetch it again") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None


def tokenizer_size(path: Path) -> int | None:
    """One more than the largest token id of tokenizer.json; None where there is no such file."""
    if not (path / "tokenizer.json").is_file():
        return None
    found = _json(path / "tokenizer.json")
    model = found.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids: list[Any] = []
    if isinstance(vocabulary, Mapping):
        ids += vocabulary.values()
    elif isinstance(vocabulary, list):  # Unigram: pairs of piece and score, the id is the place
        ids.append(len(vocabulary) - 1)
    added = found.get("added_tokens")
    ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    return max((number for number in ids if isinstance(number, int)), default=-1) + 1 or None
