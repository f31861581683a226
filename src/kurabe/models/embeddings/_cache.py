"""Vectors kept in SQLite, off unless asked for: the same text is computed or paid for once."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from kurabe.errors import InputError
from kurabe.models.files.store import cache_folder
from kurabe.models.hosted.transport.cache import Table

VERSION = 1


class VectorCache:
    """Unit vectors, as the bytes of float32 numbers, by model, task, length and text. Processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._table = Table(path, f"vectors_{VERSION}")

    def keys(self, fingerprint: str, task: str | None, dimensions: int | None, texts: Sequence[str]) -> list[bytes]:
        """The names under which the texts' vectors lie."""
        about = hashlib.sha256(msgspec.msgpack.encode([fingerprint, task, dimensions]))
        keys = []
        for text in texts:
            one = about.copy()
            one.update(text.encode())
            keys.append(one.digest())
        return keys

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Those vectors that are there."""
        found = self._table.get(keys)
        if any(len(value) % 4 or not value for value in found.values()):
            raise InputError(f"the cache {self._table.path} is damaged; delete it")
        return {key: np.frombuffer(value, "<f4").astype(np.float32) for key, value in found.items()}

    def put(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Keep vectors; where that fails, they are not kept."""
        self._table.put({key: vector.astype("<f4").tobytes() for key, vector in vectors.items()})

    def close(self) -> None:
        """Close the file."""
        self._table.close()


def vector_cache(cache: bool | str | Path | None) -> VectorCache | None:
    """None for False, the user's for True, else that at a path."""
    if cache is None or cache is False:
        return None
    if cache is True:
        return VectorCache(cache_folder() / "embeddings.sqlite")
    if not isinstance(cache, str | Path):
        raise InputError("cache must be True or the path of a file")
    return VectorCache(Path(cache).expanduser())
