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
    """The model's answer to a text, parts or a conversation; with `stream=True` a Stream of Deltas.

    `settings` are those of `ChatModel.chat` and the options of `open_model`, such as `api_key`.
    """
    model, settings = _opened(reference, settings)
    return model.stream(content, **settings) if stream else model.chat(content, **settings)


async def achat(reference: str, content: Content, *, stream: bool = False, **settings: Any) -> Reply | AsyncStream:
    """`chat`, awaited."""
    model, settings = _opened(reference, settings)
    return model.astream(content, **settings) if stream else await model.achat(content, **settings)


def complete(reference: str, text: str, **settings: Any) -> str:
    """The text of the model's answer to a text."""
    model, settings = _opened(reference, settings)
    return model.complete(text, **settings)


async def acomplete(reference: str, text: str, **settings: Any) -> str:
    """`complete`, awaited."""
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
    """(n, d) float32: a vector of length 1 for each text, in order. `options` are those of `open_embedder`, and the
    rest as in `Embedder.embed`.

    A list alone, `embed(["one", "two"])`, is texts, and so is what `texts=` names: wordllama:256 makes their vectors. A
    string alone could be either, and is an InputError.
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
    """`embed`, awaited."""
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
    from kurabe.models.connect import OPTIONS

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
