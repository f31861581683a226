"""Embeddings behind one interface, wherever they are made: open what makes them by its reference."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

from kurabe.errors import InputError, KurabeError, MissingExtraError, ModelError
from kurabe.models.embeddings.base import Embedder, files_fingerprint, model_folder
from kurabe.models.reference import FOLDERS, Reference, added, parse_reference, split_chain
from kurabe.plugins import loaded

DEFAULT: Final = "wordllama:256"

_HERE: Final = {
    "wordllama": "wordllama:Wordllama",
    "fake": "_fake:Fake",
    "sentence-transformers": "_sentence_transformers:SentenceTransformers",
    "model2vec": "_model2vec:Model2Vec",
    "spacy": "_spacy:Spacy",
}
_PACKAGES: Final = {"sentence-transformers": "sentence_transformers", "model2vec": "model2vec", "spacy": "spacy"}


def open_embedder(reference: str = DEFAULT, *, cache: Any = False, **options: Any) -> Embedder:
    """Open an embedding model.

    Parameters
    ----------
    reference : str
        `wordllama:64`, `:128` or `:256` needs no download. `sentence-transformers:`, `model2vec:` and `spacy:` take a
        folder,
        a repository of the Hugging Face hub that is on this machine, or an installed pipeline. `gguf:` and hosted
        models are
        as for `open_model`. `fake:64` makes vectors from hashed words, for tests.
    cache : bool or path
        Keep vectors in a file: True for the usual one, or its path.
    **options
        Those of `open_model`, for hosted models.

    Returns
    -------
    Embedder

    Raises
    ------
    ModelError
        If there is no such model, or it is not on this machine.
    InputError
        If the model does not take an option.
    MissingExtraError
        If the engine is not installed. The message has the `pip install` line.

    Examples
    --------
    >>> from kurabe import open_embedder
    >>> with open_embedder("fake:64") as model:
    ...     model.embed(["red", "blue", "red"]).shape
    (3, 64)
    """
    from kurabe.models.embeddings._cache import vector_cache

    if not isinstance(reference, str):
        raise InputError(f"a model is named by a text such as {DEFAULT!r}, not {type(reference).__name__}")
    if len(split_chain(reference)) > 1:
        raise ModelError(f"{reference!r} is a chain, and vectors of different models can't be compared; name one model")
    parsed = parse_reference(reference)
    _require(parsed)
    maker = _maker(parsed)
    if maker is None:
        from kurabe.models.embeddings._opened import Opened

        embedder: Embedder = Opened(reference, options)
    else:
        if options:
            raise InputError(f"{reference!r} is a local model and takes no {', '.join(options)}")
        embedder = maker(parsed)
    embedder.cache = vector_cache(cache)
    return embedder


def unavailable(reference: str) -> str | None:
    """Why nothing could be embedded by `reference` here, or None where it could. Loads nothing heavy."""
    from kurabe.models import availability

    try:
        if len(split_chain(reference)) > 1:
            return f"{reference!r} is a chain, and vectors of different models can't be compared; name one model"
        parsed = parse_reference(reference)
        _require(parsed)
        if parsed.scheme not in _HERE:
            return None if _maker(parsed) is not None else availability(reference)
        if parsed.scheme in ("wordllama", "fake"):
            open_embedder(reference)
        elif parsed.scheme != "spacy":
            model_folder(parsed)
    except KurabeError as error:
        return str(error)
    return None


def _maker(parsed: Reference) -> Callable[[Reference], Embedder] | None:
    """What makes vectors in this process; None for what `open_model` opens."""
    made: Any = added(parsed.scheme)
    if parsed.scheme in _HERE:
        made = loaded(f"kurabe.models.embeddings.{_HERE[parsed.scheme]}")
    return made if isinstance(made, type) and issubclass(made, Embedder) else None


def _require(parsed: Reference) -> None:
    """Raises ModelError where the scheme gives no embeddings, and MissingExtraError where its library is not there."""
    if parsed.scheme == "hf":
        raise ModelError(
            f"'{parsed}' writes text and gives no embeddings; name an embedding model:"
            " sentence-transformers:OWNER/NAME, gguf:FILE or wordllama:256"
        )
    if (needed := _PACKAGES.get(parsed.scheme)) is not None and find_spec(needed) is None:
        raise MissingExtraError(f"{parsed.scheme}:", "embeddings")


def fingerprint(reference: str) -> str:
    """What tells the files behind `reference` from others in their place; '' without files. Loads nothing."""
    from kurabe import models

    try:
        parsed = parse_reference(reference)
        if parsed.scheme in FOLDERS:
            return files_fingerprint(model_folder(parsed))
    except KurabeError:
        return ""
    return models.fingerprint(reference)


__all__ = ["DEFAULT", "Embedder", "fingerprint", "open_embedder", "unavailable"]
