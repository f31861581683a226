"""How much memory an Arrow file takes once unpacked, found without unpacking it.

The file's footer lists its batches of rows, and each batch its buffers; a compressed buffer begins with its unpacked
size. Places and types are those of the Arrow columnar format 1.5 (Footer, Message, RecordBatch), which are written as
FlatBuffers.
"""

import struct
from collections.abc import Iterator

_MAGIC = b"ARROW1"
_DICTIONARY, _BATCH = 2, 3  # what a message may be besides a schema
_ZSTD = 1
_AS_IT_IS = -1  # in place of the unpacked size of a buffer that compression would not make smaller


def unpacked_size(data: bytes) -> int:
    """The bytes that all buffers of an Arrow file take.

    Raises
    ------
    ValueError, struct.error
        Where it is not an Arrow file with buffers that are plain or compressed with zstd.
    """
    (length,) = _read(data, "<i", len(data) - len(_MAGIC) - 4)
    start = len(data) - len(_MAGIC) - 4 - length
    if not data.startswith(_MAGIC) or not data.endswith(_MAGIC) or length <= 0 or start < 0:
        raise ValueError("not an Arrow file")
    footer = _table(data, start)
    blocks = [*_vector(data, footer, 2, 24), *_vector(data, footer, 3, 24)]
    return sum(_batch_size(data, *_read(data, "<qi", block)) for block in blocks)


def _batch_size(data: bytes, offset: int, metadata: int) -> int:
    mark, _ = _read(data, "<Ii", offset)
    message = _table(data, offset + 8)
    kind_at, header_at = _field(data, message, 1), _field(data, message, 2)
    if mark != 0xFFFFFFFF or kind_at is None or header_at is None or data[kind_at] not in (_DICTIONARY, _BATCH):
        raise ValueError("no batch of rows where the Arrow file says that one is")
    batch = _table(data, header_at)
    if data[kind_at] == _DICTIONARY:
        if (values_at := _field(data, batch, 1)) is None:
            raise ValueError("a dictionary without values in an Arrow file")
        batch = _table(data, values_at)
    if (compression := _field(data, batch, 3)) is not None:
        codec = _field(data, _table(data, compression), 0)
        if codec is None or data[codec] != _ZSTD:  # None is LZ4
            raise ValueError("an Arrow file compressed otherwise than with zstd")
    total = 0
    for buffer in _vector(data, batch, 2, 16):
        place, size = _read(data, "<qq", buffer)
        if compression is not None and size:
            (unpacked,) = _read(data, "<q", offset + metadata + place)
            size = size if unpacked == _AS_IT_IS else unpacked
        if size < 0:
            raise ValueError("a buffer of negative size in an Arrow file")
        total += size
    return total


def _read(data: bytes, form: str, place: int) -> tuple[int, ...]:
    if place < 0:
        raise ValueError("a negative place in an Arrow file")
    return struct.unpack_from(form, data, place)


def _table(data: bytes, place: int) -> int:
    """Where the table is that a reference at `place` leads to."""
    return place + _read(data, "<I", place)[0]


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a table's field is, or None where it has its default."""
    layout = table - _read(data, "<i", table)[0]
    if 4 + 2 * number >= _read(data, "<H", layout)[0]:
        return None
    offset = _read(data, "<H", layout + 4 + 2 * number)[0]
    return table + offset if offset else None


def _vector(data: bytes, table: int, number: int, size: int) -> Iterator[int]:
    """Where the structs of `size` bytes are that a field lists."""
    if (field := _field(data, table, number)) is None:
        return iter(())
    first = _table(data, field)
    count = _read(data, "<I", first)[0]
    if first + 4 + size * count > len(data):
        raise ValueError("a list that is longer than the Arrow file")
    return iter(range(first + 4, first + 4 + size * count, size))
