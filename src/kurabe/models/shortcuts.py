"""`chat`, `complete` and `embed` in one line: the model is opened by its reference and kept for the next call."""

import hashlib
import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kurabe.errors import InputError
from kurabe.messages import Reply
from kurabe.models import open_model
from kurabe.models.base import AsyncStream, ChatModel, Stream
from kurabe.models.reference import is_local
from kurabe.models.request import Content

MOST_OPEN = 32
"""Hosted models kept open; of local ones, only the last."""

_open: dict[str, ChatModel] = {}
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
    reference: str,
    texts: str | Sequence[str],
    *,
    dimensions: int | None = None,
    task: Literal["query", "document"] | None = None,
    **options: Any,
) -> np.ndarray:
    """(n, d) float32: one vector a text, in order, by a hosted embedding model or `wordllama:256`."""
    if reference.startswith("wordllama:"):
        return _wordllama(reference, texts)
    return _embedder(reference, options).embed(texts, dimensions=dimensions, task=task)


async def aembed(
    reference: str,
    texts: str | Sequence[str],
    *,
    dimensions: int | None = None,
    task: Literal["query", "document"] | None = None,
    **options: Any,
) -> np.ndarray:
    """`embed`, awaited."""
    if reference.startswith("wordllama:"):
        return _wordllama(reference, texts)
    return await _embedder(reference, options).aembed(texts, dimensions=dimensions, task=task)


def _embedder(reference: str, options: dict[str, Any]) -> ChatModel:
    model, rest = _opened(reference, options)
    if rest:
        raise InputError(f"embed takes no {', '.join(rest)}")
    return model


def _wordllama(reference: str, texts: str | Sequence[str]) -> np.ndarray:
    from kurabe.models.embeddings import embed as embed_here

    return embed_here([texts] if isinstance(texts, str) else list(texts), reference)


def _opened(reference: str, settings: dict[str, Any]) -> tuple[ChatModel, dict[str, Any]]:
    """(the open model, the settings that are not options of `open_model`)."""
    from kurabe.models.connect import OPTIONS

    options = {name: value for name, value in settings.items() if name in OPTIONS}
    rest = {name: value for name, value in settings.items() if name not in options}
    if any(name in options for name in ("budget", "cache", "timeout", "price", "headers")):
        return open_model(reference, **options), rest  # values that can't be compared by what they say
    name = f"{reference} {hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()}"  # no key in sight
    with _lock:
        if name not in _open:
            if is_local(reference):
                for other in [key for key in _open if is_local(key)]:
                    _open.pop(other).close()
            elif len(_open) >= MOST_OPEN:
                _open.pop(next(iter(_open))).close()
            _open[name] = open_model(reference, **options)
        return _open[name], rest
