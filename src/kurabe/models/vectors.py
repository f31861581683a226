"""Embeddings of any number of texts: in batches, side by side, in order, as one float32 array."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from kurabe.errors import InputError, UnreadableAnswerError
from kurabe.messages import Embeddings

AT_ONCE = 8
"""Batches in flight."""


async def embed_all(
    texts: Sequence[str], batch: int, dimensions: int | None, embed: Callable[[list[str]], Awaitable[np.ndarray]]
) -> np.ndarray:
    """(n, d) float32 vectors of n texts, made by `embed` of at most `batch` texts at a time.

    Raises InputError for an empty text, and ProviderError.
    """
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text {position} is empty or no text; a provider embeds only texts with words in them")
    if not texts:
        return np.zeros((0, dimensions or 0), np.float32)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(part: list[str]) -> np.ndarray:
        async with places:
            return await embed(part)

    batch = max(batch, 1)
    tasks = [asyncio.ensure_future(one(list(texts[at : at + batch]))) for at in range(0, len(texts), batch)]
    try:
        arrays = await asyncio.gather(*tasks)
    finally:
        for task in tasks:  # after a fault nothing more is asked, which would be paid for nothing
            task.cancel()
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
