"""Language models, wherever they run: open one by its reference."""

from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from kurabe.errors import KurabeError, MissingExtraError, ModelError, missing
from kurabe.models.base import Model
from kurabe.models.catalog import catalog as known_models
from kurabe.models.catalog import catalog_entry
from kurabe.models.reference import Reference, parse_reference


def open_model(reference: str) -> Model:
    """Load the chat model that `reference` names.

    Raises ModelError where there is no such model or its file is not on this machine yet, and MissingExtraError where
    its engine is not installed.
    """
    parsed = _chat_reference(reference)
    path = _model_file(parsed)
    if path is None:
        raise ModelError(
            f"the model {parsed.name!r} is not on this machine yet; fetch it with: kurabe pull {parsed.name}"
        )
    _require_engine()
    try:
        from kurabe.models.engines.llama_cpp import LlamaCpp
    except ImportError as error:  # the wheel leaves OpenMP to the system, and small images lack it
        raise ModelError(
            f"llama.cpp cannot be loaded: {error}; where libgomp is missing, install it (Debian, Ubuntu: libgomp1)"
        ) from None

    return LlamaCpp(path, reference=reference, context=parsed.options.get("context"))


def availability(reference: str) -> str | None:
    """None where the model could run now or after `kurabe pull`, else the reason why it can't. Loads nothing."""
    try:
        parsed = _chat_reference(reference)
        path = _model_file(parsed)
        _require_engine()
    except KurabeError as error:
        return str(error)
    if path is not None and not path.is_file():
        return f"there is no file {path}; name a GGUF file, or a model that `kurabe pull` knows"
    return None


def pull_name(reference: str) -> str | None:
    """The name to `pull` before `reference` can be opened; None where nothing is to be fetched."""
    parsed = _chat_reference(reference)
    return parsed.name if _model_file(parsed) is None else None


def beside(reference: str, folder: Path) -> str:
    """The reference with a relative path taken from `folder` where there is such a file; else as it is."""
    try:
        parsed = parse_reference(reference)
    except ModelError:
        return reference  # `availability` says what is wrong with it
    path = folder / parsed.name
    return str(replace(parsed, name=str(path.resolve()))) if parsed.scheme == "gguf" and path.is_file() else reference


def fingerprint(reference: str) -> str:
    """What tells a model's file from another one under the same reference: the catalog's SHA-256, or size and time of
    change of a file of one's own; '' where there is none."""
    try:
        parsed = _chat_reference(reference)
        path = _model_file(parsed)
    except KurabeError:
        return ""
    if parsed.name in known_models():
        return catalog_entry(parsed.name).sha256
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}" if path is not None and path.is_file() else ""


def _chat_reference(reference: str) -> Reference:
    parsed = parse_reference(reference)
    if parsed.scheme != "gguf":
        raise ModelError(f"{reference!r} is an embedding model; a chat model is needed, such as 'gguf:smollm2-135m'")
    return parsed


def _model_file(parsed: Reference) -> Path | None:
    """The path that the reference names, or the pulled file of the catalog's model; None where it is to be pulled."""
    from kurabe.models.store import pulled_path

    if "/" in parsed.name or "\\" in parsed.name or parsed.name.lower().endswith(".gguf"):
        return Path(parsed.name).expanduser()
    if parsed.name not in known_models():
        raise ModelError(
            f"model reference '{parsed}': {missing('model', parsed.name, known_models())};"
            " or give the path of a .gguf file"
        )
    return pulled_path(parsed.name)


def _require_engine() -> None:
    if find_spec("xllamacpp") is None:
        raise MissingExtraError("a model on this machine (llama.cpp)", "local")
