"""Models whose weights lie in this process, from their reference: where the file is, and the engine that loads it."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kurabe.errors import MissingExtraError, ModelError, missing
from kurabe.models.catalog import catalog, catalog_entry
from kurabe.models.reference import EMBEDDINGS, Reference
from kurabe.models.store import pulled_path

if TYPE_CHECKING:
    from kurabe.models.engines.base import LocalModel


def open_local(parsed: Reference) -> "LocalModel":
    """Load the model. Raises ModelError where it is not on this machine yet, can't be loaded or does not fit the
    memory, and MissingExtraError where its engine is not installed."""
    path = located(parsed)
    if path is None:
        raise ModelError(f"the model {parsed.name!r} is not on this machine yet; fetch it with: {pull_command(parsed)}")
    _require_engine(parsed.scheme)
    if parsed.scheme == "hf":
        from kurabe.models.engines.transformers import Transformers

        return Transformers(path, parsed)
    try:
        from kurabe.models.engines.llama_cpp import LlamaCpp
    except ImportError as error:  # the wheel leaves OpenMP to the system, and small images lack it
        raise ModelError(
            f"llama.cpp cannot be loaded: {error}; where libgomp is missing, install it (Debian, Ubuntu: libgomp1)"
        ) from None
    return LlamaCpp(path, parsed)


def unavailable_local(parsed: Reference) -> str | None:
    """Why the model could not run, not even after `kurabe pull`; None where it could. Loads nothing."""
    path = located(parsed)
    _require_engine(parsed.scheme)
    if path is not None and not path.exists():
        return f"there is no file {path}; name a GGUF file, or a model that `kurabe pull` knows"
    return None


def located(parsed: Reference) -> Path | None:
    """The file or folder that the reference names, whether it is there or not; None where it is to be pulled.

    Raises ModelError for what is neither a path nor a known model, and for an embedding model.
    """
    if parsed.scheme in EMBEDDINGS:
        raise ModelError(f"'{parsed}' is an embedding model; a chat model is needed, such as 'gguf:smollm2-135m'")
    if "/" in parsed.name or "\\" in parsed.name or parsed.name.lower().endswith(".gguf"):
        return Path(parsed.name).expanduser()
    if parsed.name not in catalog():
        raise ModelError(
            f"model reference '{parsed}': {missing('model', parsed.name, catalog())}; or give the path of a .gguf file"
        )
    return pulled_path(parsed.name)


def pull_command(parsed: Reference) -> str:
    """What to type to fetch the model."""
    return f"kurabe pull {parsed.name}"


def fingerprint_local(parsed: Reference) -> str:
    """What tells the model's file from another one under the same reference."""
    path = located(parsed)
    if parsed.name in catalog():
        return catalog_entry(parsed.name).sha256
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}" if path is not None and path.is_file() else ""


def _require_engine(scheme: str) -> None:
    needed, extra, what = {
        "gguf": ("xllamacpp", "local", "a model on this machine (llama.cpp)"),
        "hf": ("transformers", "transformers", "a model on this machine (Transformers)"),
    }[scheme]
    if find_spec(needed) is None:
        raise MissingExtraError(what, extra)
