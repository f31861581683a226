"""What several contestants of a task compute alike, computed once and kept on disk by its content."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import filelock
import msgspec
import numpy as np
import polars as pl
from scipy import sparse

LARGEST = 2**31  # bytes in a folder; what was not read for longest is removed beyond that
CHARACTERS = 10_000_000  # of texts of which several features are held at the same time, for memory's sake


@dataclass(frozen=True)
class Shared:
    """A store of arrays, sparse matrices and JSON values, each a function of what it is named by.

    A value is the same whether it was read or computed, so that no result depends on who came first. Several processes
    may use one folder: one computes, and the others wait for it.

    Parameters
    ----------
    folder
        Where it keeps values. None: nothing is kept.

    Examples
    --------
    >>> Shared().get("squares", [b"to 3"], lambda: np.arange(3) ** 2)
    array([0, 1, 4])
    """

    folder: Path | None = None
    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _matrices: dict[str, Any] = field(default_factory=dict, repr=False)

    def get(self, name: str, parts: Sequence[bytes], compute: Callable[[], Any]) -> Any:
        """The value of a name and parts: what was kept, or what `compute` gives now.

        Parameters
        ----------
        name
            What the value is; changed where `compute` changes.
        parts
            What it depends on.
        compute
            Gives an array without objects, a sparse matrix or what JSON can hold.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{content(name.encode(), *parts).hex()}.npz"
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (value := _read(path)) is not None:
            return value
        lock = filelock.FileLock(path.with_suffix(".lock"))
        with suppress(OSError):
            lock.acquire()  # where there can be no file, each computes for itself
        try:
            value = _read(path)
            if value is None:
                value = compute()
                with suppress(OSError):
                    _write(path, value)
                    _bound(self.folder)
            return value
        finally:
            lock.release()

    def over(self, texts: Sequence[str]) -> Self:
        """The same store for one `fit`, which will ask for rows of these texts: they are computed once for all."""
        if sum(map(len, texts)) > CHARACTERS:
            return replace(self, _places={}, _matrices={})
        if self._places and all(text in self._places for text in texts):
            return self
        return replace(self, _places={text: place for place, text in enumerate(dict.fromkeys(texts))}, _matrices={})

    def rows(self, name: str, texts: Sequence[str], compute: Callable[[Sequence[str]], Any]) -> Any:
        """The matrix of some texts, where each row depends on its text alone.

        Parameters
        ----------
        name
            As of `get`.
        texts
            m of them.
        compute
            Gives the (m, d) matrix of m texts, dense or CSR.
        """
        places = [self._places.get(text, -1) for text in texts]
        if not places or min(places) < 0:
            return compute(texts)
        if name not in self._matrices:
            known = list(self._places)
            matrix = self.get(
                name, [content(*(text.encode("utf-8", "replace") for text in known))], lambda: compute(known)
            )
            self._matrices[name] = matrix if matrix.shape[0] == len(known) else compute(known)
        matrix = self._matrices[name]
        return matrix if places == list(range(matrix.shape[0])) else matrix[np.array(places)]


def content(*parts: bytes) -> bytes:
    """16 bytes of BLAKE2b over the parts, each with its length before it."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def table_content(X: pl.DataFrame, y: np.ndarray) -> bytes:
    """A digest of a table and its target."""
    columns = (f"{name} {dtype}".encode() for name, dtype in X.schema.items())
    values = msgspec.json.encode(y.tolist())
    return content(*columns, X.rechunk().write_ipc(None).getvalue(), values)


def _read(path: Path) -> Any:
    """A value that was kept; None where there is none, or none that can be read."""
    try:
        if path.is_symlink():
            return None
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            if "json" in parts:
                value = msgspec.json.decode(parts["json"].tobytes())
            elif "array" in parts:
                value = parts["array"]
            else:
                shape = tuple(parts["shape"].tolist())
                value = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=shape)
                value.check_format(full_check=True)  # it may have come from elsewhere, and C code reads it
        with suppress(OSError):
            os.utime(path)
        return value
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, msgspec.DecodeError):
        return None


def _write(path: Path, value: Any) -> None:
    """Keep a value, in one step."""
    if sparse.issparse(value):
        parts = {"data": value.data, "indices": value.indices, "indptr": value.indptr, "shape": np.array(value.shape)}
    elif isinstance(value, np.ndarray):
        parts = {"array": value}
    else:
        parts = {"json": np.frombuffer(msgspec.json.encode(value), dtype=np.uint8)}
    handle, new = tempfile.mkstemp(dir=path.parent, suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **parts)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def _bound(folder: Path) -> None:
    """Remove what was not read for longest, as long as there is too much."""
    kept = sorted((path.stat().st_mtime, path) for path in folder.glob("*.npz"))
    size = sum(path.stat().st_size for _, path in kept)
    for _, path in kept[:-1]:
        if size <= LARGEST:
            return
        size -= path.stat().st_size
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
