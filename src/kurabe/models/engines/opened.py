"""Opening a model of this machine: the engine for its reference, imported when it is needed."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from kurabe.errors import MissingExtraError, ModelError
from kurabe.models.base import ChatModel
from kurabe.models.engines.base import LocalModel
from kurabe.models.files.local import (
    kinds_of_files,
    located,
    located_adapter,
    pull_command,
    sources,
    stored_by_ollama,
)
from kurabe.models.reference import Reference, added


def open_local(parsed: Reference) -> ChatModel:
    """Load the model. Raises ModelError where it is not on this machine yet, can't be loaded or does not fit the
    memory, and MissingExtraError where its engine is not installed."""
    if (engine := added(parsed.scheme)) is not None:
        if (problem := unavailable_local(parsed)) is not None:
            raise ModelError(problem)
        return _made(engine, parsed)
    if sources(parsed):
        raise ModelError(f"the model {parsed.name!r} is not on this machine yet; fetch it with: {pull_command(parsed)}")
    path = located(parsed)
    assert path is not None  # else there were sources
    if (problem := unavailable_local(parsed)) is not None:
        raise ModelError(problem)
    model = _engine(parsed.scheme)(path, _with_adapter(parsed))
    model.reference = str(parsed)
    return model


def _made(engine: Callable[[Reference], ChatModel], parsed: Reference) -> ChatModel:
    model = engine(parsed)
    model.reference = str(parsed)
    return model


def _nothing(parsed: Reference) -> None:
    """What keeps an engine that doesn't say from running."""


def _engine(scheme: str) -> Callable[[Path, Reference], LocalModel]:
    """What loads the model; imported only here."""
    if scheme == "hf":
        from kurabe.models.engines.hf.model import Transformers

        return Transformers
    try:
        from kurabe.models.engines.llama.model import LlamaCpp
    except ImportError as error:  # the wheel leaves OpenMP to the system, and small images lack it
        raise ModelError(
            f"llama.cpp cannot be loaded: {error}; where libgomp is missing, install it (Debian, Ubuntu: libgomp1)"
        ) from None
    return LlamaCpp


def unavailable_local(parsed: Reference) -> str | None:
    """Why the model could not run, not even after `kurabe pull`; None where it could. Loads nothing."""
    if (engine := added(parsed.scheme)) is not None:
        if not (isinstance(engine, type) and issubclass(engine, ChatModel)):
            return f"'{parsed}': {parsed.scheme}: gives embeddings and no chat model"
        return getattr(engine, "unavailable", _nothing)(parsed)
    path, adapter = located(parsed), located_adapter(parsed)
    require_engine(parsed.scheme)
    if path is not None and not path.exists():
        return f"there is no file {path}; name {kinds_of_files(parsed)}"
    if adapter is not None and not adapter.exists():
        return f"there is no adapter {adapter}; name a path, or a repository of the Hugging Face hub"
    return None


def _with_adapter(parsed: Reference) -> Reference:
    """The reference with the path of its adapter, or of the one that Ollama's model brings."""
    options = dict(parsed.options)
    if (adapter := located_adapter(parsed)) is not None:
        options["adapter"] = str(adapter)
    elif parsed.scheme == "gguf" and (stored := stored_by_ollama(parsed)) is not None:
        if stored.left_out:
            warnings.warn(
                f"{parsed.scheme}:{parsed.name}: kurabe takes the weights of Ollama's '{stored.name}', not"
                f" {' or '.join(stored.left_out)};"
                f" 'ollama:{stored.name}' asks Ollama itself, with all of it",
                stacklevel=4,
            )
        if len(stored.adapters) > 1:
            raise ModelError(f"Ollama's '{stored.name}' has {len(stored.adapters)} adapters, and one can be loaded")
        if stored.adapters:
            options["adapter"] = str(stored.adapters[0])
    return replace(parsed, options=options)


def require_engine(scheme: str) -> None:
    """Raise MissingExtraError where the engine of a scheme is not installed."""
    needed, extra, what = {
        "gguf": (("xllamacpp", "llguidance"), "local", "a model on this machine (llama.cpp)"),
        "hf": (
            ("transformers", "torch", "accelerate", "gguf", "llguidance"),
            "transformers",
            "a model on this machine (Transformers)",
        ),
    }[scheme]
    if any(find_spec(library) is None for library in needed):
        raise MissingExtraError(what, extra)
