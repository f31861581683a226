"""Embeddings and reranking of GGUF files, by a llama.cpp server started for it."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from kurabe.errors import InputError
from kurabe.models.codecs.base import Ranking
from kurabe.models.engines.llama.server import Servers, encodable, error_of
from kurabe.models.weights.gguf import Header

MEAN: Final = 1
RANK: Final = 4
_BATCH: Final = 64


def pooling(header: Header) -> int | None:
    """How the file says that its vectors become one: 1 mean, 2 the first token's, 3 the last one's, 4 a relevance. None
    of a model that writes text."""
    architecture = header.metadata.get("general.architecture")
    value = header.metadata.get(f"{architecture}.pooling_type")
    if isinstance(value, int) and 0 < value <= RANK:
        return value
    return MEAN if header.metadata.get(f"{architecture}.attention.causal") is False else None


def embed(servers: Servers, texts: Sequence[str], dimensions: int | None) -> np.ndarray:
    """(texts, d) float32, each of length 1; the first `dimensions` of each where fewer are asked for. Raises InputError
    where the model has fewer, and ContextTooLongError."""
    if not texts:
        return np.zeros((0, dimensions or 0), dtype=np.float32)
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), _BATCH):
        batch = [encodable(text) for text in texts[start : start + _BATCH]]
        answer = _handle(servers, "handle_embeddings", {"input": batch})
        found = sorted(answer["data"], key=lambda each: int(each["index"]))
        rows += [np.asarray(each["embedding"], dtype=np.float64) for each in found]
    vectors = np.array(rows)
    if dimensions is not None:
        if not 0 < dimensions <= vectors.shape[1]:
            raise InputError(
                f"{servers.reference!r} has {vectors.shape[1]} dimensions; {dimensions} can't be cut from them"
            )
        vectors = vectors[:, :dimensions]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def rerank(servers: Servers, query: str, documents: Sequence[str], top: int | None) -> Ranking:
    """The documents by their relevance for the query, the best first."""
    if not documents:
        return Ranking(())
    body = {"query": encodable(query), "documents": [encodable(text) for text in documents]}
    found = [
        (int(each["index"]), float(each["relevance_score"]))
        for each in _handle(servers, "handle_rerank", body)["results"]
    ]
    found.sort(key=lambda pair: (-pair[1], pair[0]))
    return Ranking(tuple(found[:top]))


def _handle(servers: Servers, method: str, body: dict[str, Any]) -> dict[str, Any]:
    with servers.lane() as lane:
        answer: dict[str, Any] = getattr(lane.server, method)(body)
    if "error" in answer:
        raise error_of(servers.reference, answer["error"])
    return answer
