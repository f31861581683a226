"""`chat`, `complete` and `embed` in one line: the model is opened by its reference and kept for the next call."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np

from kurabe.errors import InputError
from kurabe.messages import Reply
from kurabe.models import open_model
from kurabe.models.base import AsyncStream, ChatModel, Stream
from kurabe.models.embeddings import DEFAULT, open_embedder
from kurabe.models.embeddings.base import Embedder, LocalEmbedder
from kurabe.models.reference import is_local
from kurabe.models.request import Content

T = TypeVar("T")

MOST_OPEN = 32
"""Hosted models kept open; of local ones, only the last."""

_open: dict[str, ChatModel | Embedder] = {}
"""By the reference and a digest of the options; an embedder's name begins with `embed `."""
_lock = threading.Lock()


def chat(reference: str, content: Content, *, stream: bool = False, **settings: Any) -> Reply | Stream:
    """Ask a model, which is opened by its reference.

    Parameters
    ----------
    reference : str
        The model, such as `gguf:smollm2-135m` or `openai:gpt-5.1`. It stays open for the next call.
    content : str, part, Message, mapping, or iterable of these
        A text, parts, or a conversation.
    stream : bool
        Return a Stream of pieces.
    **settings
        Those of `ChatModel.chat`, and the options of `open_model`, such as `api_key`.

    Returns
    -------
    Reply or Stream

    Raises
    ------
    InputError
        If a key is missing, or the model does not take a setting.
    ModelError
        If there is no such model, or it gives no answer.
    """
    model, settings = _opened(reference, settings)
    return model.stream(content, **settings) if stream else model.chat(content, **settings)


async def achat(reference: str, content: Content, *, stream: bool = False, **settings: Any) -> Reply | AsyncStream:
    """`chat`, awaited.

    Parameters
    ----------
    reference, content, stream, **settings
        As for `chat`.

    Returns
    -------
    Reply or AsyncStream
    """
    model, settings = _opened(reference, settings)
    return model.astream(content, **settings) if stream else await model.achat(content, **settings)


def complete(reference: str, text: str, **settings: Any) -> str:
    """Answer a text with a text, by a model that is opened by its reference.

    Parameters
    ----------
    reference : str
        The model, such as `gguf:smollm2-135m` or `openai:gpt-5.1`. It stays open for the next call.
    text : str
        The user's turn.
    **settings
        As for `chat`.

    Returns
    -------
    str
    """
    model, settings = _opened(reference, settings)
    return model.complete(text, **settings)


async def acomplete(reference: str, text: str, **settings: Any) -> str:
    """`complete`, awaited.

    Parameters
    ----------
    reference, text, **settings
        As for `complete`.

    Returns
    -------
    str
    """
    model, settings = _opened(reference, settings)
    return await model.acomplete(text, **settings)


def embed(
    reference: str | Sequence[str] = DEFAULT,
    texts: str | Sequence[str] | None = None,
    *,
    dimensions: int | None = None,
    task: Literal["query", "document"] | None = None,
    **options: Any,
) -> np.ndarray:
    """Vectors of texts, by a model that is opened by its reference.

    Parameters
    ----------
    reference : str
        The model, as for `open_embedder`. It may be left out if the texts are a list: `embed(["one", "two"])`.
    texts : str or sequence of str
        The texts, or one text.
    dimensions : int, optional
        Cut each vector to so many numbers and scale it to length 1 again, if the model allows that.
    task : {"query", "document"}, optional
        What the texts are, for models that tell queries from documents; others ignore it.
    **options
        Those of `open_embedder`.

    Returns
    -------
    ndarray, shape (n, d), float32
        One vector of length 1 for each text, in order; (1, d) for one text.

    Raises
    ------
    InputError
        If something is not a text, or if there is only a str, which could be the model or a text.

    Examples
    --------
    >>> from kurabe import embed
    >>> embed("fake:64", ["red", "blue"]).shape
    (2, 64)
    """
    reference, texts = _texts_of(reference, texts)
    return _embedder(reference, options).embed(texts, dimensions=dimensions, task=task)


async def aembed(
    reference: str | Sequence[str] = DEFAULT,
    texts: str | Sequence[str] | None = None,
    *,
    dimensions: int | None = None,
    task: Literal["query", "document"] | None = None,
    **options: Any,
) -> np.ndarray:
    """`embed`, awaited.

    Parameters
    ----------
    reference, texts, dimensions, task, **options
        As for `embed`.

    Returns
    -------
    ndarray, shape (n, d), float32
    """
    reference, texts = _texts_of(reference, texts)
    return await _embedder(reference, options).aembed(texts, dimensions=dimensions, task=task)


def _texts_of(reference: str | Sequence[str], texts: str | Sequence[str] | None) -> tuple[str, str | Sequence[str]]:
    """(the reference, the texts), of which the reference may be left out."""
    if texts is not None:
        return cast(str, reference), texts  # `open_embedder` refuses what is no text
    if isinstance(reference, str):
        raise InputError(
            f"embed({reference!r:.60}) names no texts; write embed({DEFAULT!r}, texts), or embed([text]) for {DEFAULT}"
        )
    return DEFAULT, reference


def _embedder(reference: str, options: dict[str, Any]) -> Embedder:
    return _kept("embed ", reference, options, open_embedder)


def _opened(reference: str, settings: dict[str, Any]) -> tuple[ChatModel, dict[str, Any]]:
    """(the open model, the settings that are not options of `open_model`)."""
    from kurabe.models.hosted.connect import OPTIONS

    options = {name: value for name, value in settings.items() if name in OPTIONS}
    rest = {name: value for name, value in settings.items() if name not in options}
    return _kept("", reference, options, open_model), rest


def _kept(kind: str, reference: str, options: dict[str, Any], opened: Callable[..., T]) -> T:
    """What `opened` makes, from the call before where it was the same."""
    if any(name in options for name in ("budget", "timeout", "price", "headers")):
        return opened(reference, **options)  # values that can't be compared by what they say
    digest = hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()  # no key in sight
    name = f"{kind}{reference} {digest}"
    with _lock:
        if name not in _open:
            if is_local(reference):
                for other in [key for key in _open if key.startswith(kind) and is_local(key.removeprefix(kind))]:
                    last = _open.pop(other)
                    if not isinstance(last, LocalEmbedder):  # another thread may use it, and arrays need no closing
                        last.close()
            elif len(_open) >= MOST_OPEN:
                _open.pop(next(iter(_open))).close()
            _open[name] = cast(ChatModel | Embedder, opened(reference, **options))
        return cast(T, _open[name])
