"""Whether reading a file of skops takes no more time and memory than its size: checked before it is read."""

import io
import json
from typing import Any, Final
from zipfile import ZIP_STORED, ZipFile

from kurabe.errors import ContestantError

MEMORY: Final = 800 << 20
_SCHEMA: Final = "schema.json"
_BYTES: Final = {b"{": 240, b"[": 64, b",": 64}  # that Python takes for an object, a list and a place in one


def check_archive(data: bytes) -> None:
    """Raise ContestantError for an archive that unpacks to more than it is: skops packs nothing."""
    with ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if sum(one.file_size for one in members) > len(data) or any(one.compress_type != ZIP_STORED for one in members):
        raise ContestantError("it is packed, and a saved contestant is not")
    if len({one.filename for one in members}) != len(members):
        raise ContestantError("two parts of it have one name")


def described(data: bytes) -> tuple[Any, str | None]:
    """The description of the objects in a file that `check_archive` lets pass, and what would take more than MEMORY.

    Raises ContestantError where it refers to what it doesn't write out, as skops does, or reads a part twice: a few
    kilobytes of such references stand for years of work.
    """
    with ZipFile(io.BytesIO(data)) as archive:
        text = archive.read(_SCHEMA)
        if sum(size * text.count(sign) for sign, size in _BYTES.items()) > MEMORY:
            return None, "a description of so many objects"
        schema = json.loads(text)
        unpacked = _check_nodes(archive, schema)
    return schema, f"sparse matrices of {unpacked >> 20:,} MiB" if unpacked > MEMORY else None


def _check_nodes(archive: ZipFile, schema: Any) -> int:
    """How many bytes the sparse matrices unpack to."""
    containers = _containers(schema)
    sizes: dict[int, int] = {}
    known: dict[Any, tuple[int, Any]] = {}
    read: dict[str, Any] = {}
    unpacked = 0
    for value in reversed(containers):
        inside = value.values() if isinstance(value, dict) else value
        size = sizes[id(value)] = 1 + sum(sizes[id(one)] for one in inside if isinstance(one, dict | list))
        if not isinstance(value, dict) or not isinstance(loader := value.get("__loader__"), str):
            if isinstance(value, dict) and isinstance(value.get("__id__"), int):
                raise ContestantError("its description refers to what is not written there")
            continue
        number = value.get("__id__") or object()  # skops keeps nothing under 0
        if known.setdefault(number, (size, loader)) != (size, loader):
            raise ContestantError("its description has two objects under one number")
        if isinstance(file := value.get("file"), str):
            if read.setdefault(file, number) != number:
                raise ContestantError("its description reads a part twice")
            unpacked += _unpacked(archive, loader, file)
    return unpacked


def _containers(schema: Any) -> list[Any]:
    """All objects and lists, each before what is in it."""
    found, stack = list[Any](), [schema]
    while stack:
        value = stack.pop()
        if isinstance(value, dict | list):
            found.append(value)
            stack += value.values() if isinstance(value, dict) else value
    return found


def _unpacked(archive: ZipFile, loader: str, file: str) -> int:
    """The bytes of a sparse matrix, whose own archive is packed."""
    if loader == "NdArrayNode":
        with archive.open(file) as part:
            if part.read(6) != b"\x93NUMPY":
                raise ContestantError("an array of it is none")
    if loader != "SparseMatrixNode":
        return 0
    with archive.open(file) as part, ZipFile(part) as matrix:
        return sum(one.file_size for one in matrix.infolist())
