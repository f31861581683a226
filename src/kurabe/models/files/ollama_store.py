"""Models that Ollama has downloaded, found in its own folder and only read.

Layout (https://github.com/ollama/ollama, `manifest/paths.go` and `types/model/name.go`): the model
`host/namespace/model:tag` is the JSON file `manifests/host/namespace/model/tag`, whose layers lie in `blobs/sha256-…`.
"""

import os
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from kurabe.errors import ModelError, missing

PREFIX: Final = "ollama/"
"""What stands before the name in `gguf:ollama/llama3.2`."""

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_PARTS: Final = (r"\w[\w.-]{0,349}", r"\w[\w-]{0,79}", r"\w[\w.-]{0,79}", r"\w[\w.-]{0,79}")
_DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_LARGEST_MANIFEST: Final = 1 << 24
_MODEL, _ADAPTER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"
_LEFT_OUT: Final = {
    "application/vnd.ollama.image.system": "its system prompt",
    "application/vnd.ollama.image.messages": "its first messages",
    "application/vnd.ollama.image.projector": "what it sees images with",
}
"""Layers that change what the model answers and that no other engine takes. The template of the GGUF file stands in for
the one in Go's format; parameters are only defaults."""


class Name(NamedTuple):
    """A model's name with the parts that people leave out."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """As `ollama list` shows it."""
        short = f"{self.model}:{self.tag}"
        if self.host != _HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == _NAMESPACE else f"{self.namespace}/{short}"


class Stored(NamedTuple):
    """A downloaded model: its GGUF file, LoRA adapters in GGUF, and the parts that kurabe does not take, in words."""

    name: Name
    model: Path
    adapters: tuple[Path, ...]
    left_out: tuple[str, ...]


class _Layer(msgspec.Struct):
    mediaType: str
    digest: str
    size: int


class _Manifest(msgspec.Struct):
    layers: list[_Layer]


def stores() -> list[Path]:
    """The folders where Ollama keeps models, of those that are here: OLLAMA_MODELS, else that of this user and that of
    Linux's service."""
    if named := os.environ.get("OLLAMA_MODELS", "").strip():
        places = [Path(named).expanduser()]
    else:
        places = [Path.home() / ".ollama" / "models"]
        if sys.platform == "linux":
            places += [
                Path("/usr/share/ollama/.ollama/models"),
                Path("/var/lib/ollama/models"),
                Path("/var/snap/ollama/common/models"),
            ]
    return [place for place in places if os.access(place / "manifests", os.R_OK | os.X_OK)]


def parse_name(text: str) -> Name:
    """The name in full; raises ModelError for what can't be one, such as a path.

    >>> parse_name("llama3.2")
    Name(host='registry.ollama.ai', namespace='library', model='llama3.2', tag='latest')
    """
    rest, tag = text, _TAG
    if text.rfind(":") > text.rfind("/"):
        rest, _, tag = text.rpartition(":")
    *before, model = rest.split("/")
    if len(before) <= 2:
        namespace = before[-1] if before else _NAMESPACE
        name = Name(before[0] if len(before) == 2 else _HOST, namespace, model, tag)
        if all(re.fullmatch(part, value, re.ASCII) for part, value in zip(_PARTS, name, strict=True)):
            return name
    raise ModelError(f"{text!r} is no name of an Ollama model; write MODEL, MODEL:TAG or USER/MODEL:TAG")


def names() -> list[Name]:
    """Every model of every store, sorted."""
    found = set()
    for store in stores():
        for path in (store / "manifests").glob("*/*/*/*"):
            name = Name(*path.parts[-4:])
            if path.is_file() and all(re.fullmatch(p, v, re.ASCII) for p, v in zip(_PARTS, name, strict=True)):
                found.add(name)
    return sorted(found)


def stored(text: str) -> Stored:
    """The downloaded model of that name. Raises ModelError where it is not here, is damaged, or holds no GGUF file."""
    name = parse_name(text)
    for store in stores():
        path = store.joinpath("manifests", *name)
        if path.is_file():
            return _read(store, path, name)
    here = [str(other) for other in names()]
    if not here:
        hint = "No model of Ollama's is on this machine; where they lie elsewhere, set OLLAMA_MODELS"
        raise ModelError(f"Ollama has not downloaded {text!r}. {hint}; else fetch it with: kurabe pull ollama:{text}")
    raise ModelError(f"{missing('downloaded Ollama model', str(name), here)}. Fetch it with: kurabe pull ollama:{text}")


def _read(store: Path, path: Path, name: Name) -> Stored:
    again = f"fetch it again with: kurabe pull ollama:{name}"
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise ModelError(f"Ollama's manifest {path} is too large to be one; {again}")
        layers = msgspec.json.decode(path.read_bytes(), type=_Manifest).layers
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"Ollama's manifest {path} can't be read: {error}; {again}") from None
    except OSError as error:
        raise ModelError(f"cannot read Ollama's manifest {path}: {error.strerror or error}") from None
    models = [_blob(store, layer, name) for layer in layers if layer.mediaType == _MODEL]
    if len(models) != 1:
        held = f"{len(models)} GGUF files" if models else "no GGUF file (a cloud model, or one of another format)"
        raise ModelError(f"the Ollama model '{name}' holds {held}; only Ollama itself can run it: 'ollama:{name}'")
    adapters = tuple(_blob(store, layer, name) for layer in layers if layer.mediaType == _ADAPTER)
    left_out = tuple(dict.fromkeys(_LEFT_OUT[x.mediaType] for x in layers if x.mediaType in _LEFT_OUT))
    return Stored(name, models[0], adapters, left_out)


def _blob(store: Path, layer: _Layer, name: Name) -> Path:
    """The layer's file, held to the size that the manifest names."""
    if not _DIGEST.fullmatch(layer.digest):
        raise ModelError(f"Ollama's manifest of '{name}' names the blob {layer.digest[:80]!r}, which is no SHA-256")
    path = store / "blobs" / layer.digest.replace(":", "-")
    try:
        size = path.stat().st_size
    except OSError as error:
        why = error.strerror or error
        raise ModelError(
            f"Ollama's file {path} of '{name}' can't be read: {why}; fetch it with: kurabe pull ollama:{name}"
        ) from None
    if size != layer.size:
        raise ModelError(
            f"Ollama's file {path} of '{name}' has {size:,} bytes of {layer.size:,}; fetch it again with: kurabe pull"
            f" ollama:{name}"
        )
    return path
