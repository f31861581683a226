"""Embeddings of any number of texts: in batches, side by side, in order, as one float32 array."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from kurabe.errors import InputError, UnreadableAnswerError
from kurabe.messages import Embeddings
from kurabe.models.codecs.base import Codec, HttpRequest
from kurabe.models.transport.client import Client

AT_ONCE = 8
"""Batches in flight."""
Route = Callable[[HttpRequest, str], HttpRequest]


async def embed_all(
    client: Client,
    codec: Codec,
    route: Route,
    model: str,
    texts: Sequence[str],
    dimensions: int | None,
    task: Literal["query", "document"] | None,
) -> np.ndarray:
    """(n, d) float32 vectors of n texts. Raises InputError for an empty text, and ProviderError."""
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text {position} is empty or no text; a provider embeds only texts with words in them")
    if not texts:
        return np.zeros((0, dimensions or 0), np.float32)
    batch = max(codec.batch, 1)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(start: int) -> np.ndarray:
        part = list(texts[start : start + batch])
        async with places:
            wire = route(codec.embed(model, part, dimensions, task), "embed")
            read = codec.embeddings
            tokens = sum(len(text) for text in part) // 4
            embeddings, _ = await client.call(wire, lambda body: as_array(read(body), len(part)), tokens)
            return embeddings

    arrays = await asyncio.gather(*(one(start) for start in range(0, len(texts), batch)))
    if len({array.shape[1] for array in arrays}) > 1:
        raise UnreadableAnswerError("the vectors have different lengths")
    return np.concatenate(arrays)


def as_array(embeddings: Embeddings, count: int) -> np.ndarray:
    """(count, d) float32; raises UnreadableAnswerError where there are more or fewer vectors, or of several lengths."""
    vectors: Any = embeddings.vectors
    if len(vectors) != count:
        raise UnreadableAnswerError(f"{len(vectors)} vectors for {count} texts")
    try:
        if vectors and isinstance(vectors[0], bytes):
            array = np.stack([np.frombuffer(vector, "<f4") for vector in vectors]).astype(np.float32)
        else:
            array = np.asarray(vectors, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise UnreadableAnswerError("vectors that are no lists of numbers of one length") from None
    if array.ndim != 2 or not np.isfinite(array).all():
        raise UnreadableAnswerError("vectors that are no lists of numbers of one length")
    return array
