"""A strict reader of GGUF headers, in pure Python with every bound checked.

llama.cpp trusts much of a file and may abort the whole process on a damaged one; reading the header here first turns
that into an error. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

from kurabe.errors import ModelError

MAX_DIMENSIONS: Final = 4
MAX_NESTING: Final = 2

_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9

_FLOAT: Final = 6
_ALPHA: Final = "adapter.lora.alpha"
"""llama.cpp ends the process where this is of another type, and only says that it can't load where another key is."""

MAX_TENSORS: Final = 1_000_000


class BlockType(NamedTuple):
    """A tensor type: a row is cut into blocks of so many `elements`, each of so many `bytes`, scales included."""

    name: str
    elements: int
    bytes: int


# A type missing here (newer than this table) is only held to start inside the file.
BLOCK_TYPES: Final = {number: BlockType(*row) for number, row in {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}.items()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says of one tensor. `shape` is as stored: the length of a row first. `type` is the number of a
    BlockType; `bytes` is None where that type is newer than the table."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def bytes(self) -> int | None:
        """Bytes of the tensor's data."""
        block = BLOCK_TYPES.get(self.type)
        return prod(self.shape) // block.elements * block.bytes if block else None


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself. `metadata` holds scalars and strings; of arrays, which are checked and left out,
    `lengths` says how many elements they have."""

    version: int
    metadata: dict[str, Any]
    infos: tuple[TensorInfo, ...]
    lengths: dict[str, int]

    @property
    def tensors(self) -> int:
        """The number of tensors."""
        return len(self.infos)

    @property
    def context_length(self) -> int | None:
        """Tokens of context the model was trained for, None where the file does not say."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture')}.context_length")
        return value if isinstance(value, int) and value > 0 else None


class _DamagedError(Exception):
    """The header cannot be read; the message says at which byte and why."""


class _Length(int):
    """The number of elements of an array that was walked over."""


class _Cursor:
    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.at = 0

    def skip(self, count: int) -> int:
        """Move over `count` bytes and return where they begin."""
        if count > len(self.data) - self.at:
            raise _DamagedError(f"it ends inside the header, at byte {self.at:,}")
        start, self.at = self.at, self.at + count
        return start

    def scalar(self, code: str) -> Any:
        packed = struct.Struct("<" + code)
        return packed.unpack_from(self.data, self.skip(packed.size))[0]

    def string(self) -> str:
        length = self.scalar("Q")
        start = self.skip(length)
        return bytes(self.data[start : start + length]).decode("utf-8", "replace")

    def value(self, kind: int, nesting: int = 0) -> Any:
        """Read a value; an array is walked over and given back as its length."""
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or nesting >= MAX_NESTING:
            raise _DamagedError(f"it holds a value of the unknown type {kind}, at byte {self.at:,}")
        element, count = self.scalar("I"), self.scalar("Q")
        if element in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[element]))
        else:
            skip: Callable[[], object] = (
                (lambda: self.skip(self.scalar("Q")))
                if element == _STRING
                else (lambda: self.value(element, nesting + 1))
            )
            # Bounded by the file: every element takes at least eight bytes of it.
            for _ in range(count):
                skip()
        return _Length(count)


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file: magic, version, metadata, and that every tensor lies inside the file.

    Raises ModelError where the file is missing, unreadable, no GGUF file, damaged, or cut short.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 24:
                raise _DamagedError(f"it has {size} bytes, too few for a header")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                return _read(_Cursor(view), size)
    except _DamagedError as error:
        raise ModelError(f"{path} is not a usable GGUF file: {error}; fetch it again") from None
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}; name a GGUF file, or a model that `kurabe pull` knows") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None


def token_names(path: Path) -> list[str]:
    """The tokens of the tokenizer in a file that `read_header` has read, by their numbers; none where it has none."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        cursor = _Cursor(view)
        cursor.skip(16)  # magic, version, number of tensors
        for _ in range(cursor.scalar("Q")):
            key, kind = cursor.string(), cursor.scalar("I")
            if key != "tokenizer.ggml.tokens" or kind != _ARRAY:
                cursor.value(kind)
                continue
            element, count = cursor.scalar("I"), cursor.scalar("Q")
            return [cursor.string() for _ in range(count)] if element == _STRING else []
    return []


def _read(cursor: _Cursor, size: int) -> Header:
    if bytes(cursor.data[: cursor.skip(4) + 4]) != b"GGUF":
        raise _DamagedError("it does not begin with 'GGUF'")
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise _DamagedError(f"its format version is {version}, and llama.cpp reads 2 and 3")
    tensors, pairs = cursor.scalar("Q"), cursor.scalar("Q")
    if tensors > MAX_TENSORS:
        raise _DamagedError(f"its header promises {tensors:,} tensors, and no model has that many")
    metadata: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(pairs):
        key, kind = cursor.string(), cursor.scalar("I")
        if key == _ALPHA and kind != _FLOAT:
            raise _DamagedError(f"{key!r} is of the type {kind}, not a float")
        value = cursor.value(kind)
        if isinstance(value, _Length):
            lengths[key] = int(value)
        else:
            metadata[key] = value
    infos = tuple(_tensor(cursor) for _ in range(tensors))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
        raise _DamagedError(f"its alignment is {alignment!r}")
    data_start = -(-cursor.at // alignment) * alignment
    end = data_start + max((info.offset + (info.bytes or 0) for info in infos), default=0)
    if end > size:
        raise _DamagedError(f"it is cut short: {size:,} bytes of {end:,}")
    # A model may be cut into several files: the first may hold all the metadata and no tensor.
    if "split.count" not in metadata and ("general.architecture" not in metadata or not tensors):
        raise _DamagedError("it names no architecture or holds no tensors")
    return Header(version, metadata, infos, lengths)


def _tensor(cursor: _Cursor) -> TensorInfo:
    """Read one tensor's description."""
    name = cursor.string()
    count = cursor.scalar("I")
    if not 1 <= count <= MAX_DIMENSIONS:
        raise _DamagedError(f"the tensor {name!r} has {count} dimensions")
    shape = tuple(cursor.scalar("Q") for _ in range(count))
    kind, offset = cursor.scalar("I"), cursor.scalar("Q")
    elements = BLOCK_TYPES[kind].elements if kind in BLOCK_TYPES else 1
    if shape[0] % elements:
        raise _DamagedError(f"the tensor {name!r} has rows of {shape[0]}, no multiple of {elements}")
    return TensorInfo(name, shape, kind, offset)
