"""Files of SQLite that may come from elsewhere: what they may do, and a checksum of rows.

The checksum tells rows that were damaged, not rows that were forged.
"""

import re
import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any, Final

CHECKSUM: Final = "kurabe_checksum"
"""The function's name in SQL. It takes the values of a row."""
MAX_VALUE: Final = 1 << 27
"""Bytes of a text or blob at most. SQLite and Python hold up to four copies of one at a time."""
_CHUNK: Final = 1 << 20


def guard(db: sqlite3.Connection) -> None:
    """Limit what a file can have a connection do, and let its statements call the checksum."""
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    db.execute("PRAGMA trusted_schema=OFF")
    db.create_function(CHECKSUM, -1, _checksum, deterministic=True)


def definitions(db: sqlite3.Connection) -> set[str]:
    """The statements that made what is in the file, each in one line. A view or a trigger of a stranger may never end,
    so nothing is read where one is among them."""
    return {in_one_line(str(sql)) for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}


def in_one_line(sql: str) -> str:
    """A statement without the line breaks and spaces that are only for its readers."""
    return re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")").strip()


def _checksum(*values: Any) -> int:
    """The CRC-32 of the row's `repr`."""
    for value in values:
        if value.__class__ in (bytes, str) and len(value) > _CHUNK:
            return _of_large(values)
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))


def _of_large(values: tuple[Any, ...]) -> int:
    """The same without the whole `repr`, which may be four times as large as the values."""
    found = zlib.crc32(b"(")
    for place, value in enumerate(values):
        parts = _repr(value) if isinstance(value, bytes | str) else [repr(value)]
        for part in (", " if place else "", *parts):
            found = zlib.crc32(part.encode("utf-8", "surrogatepass"), found)
    return zlib.crc32(b",)" if len(values) == 1 else b")", found)


def _repr(value: Any) -> Iterator[str]:
    """The `repr` of bytes or of a text in parts. Quotes behind each part have it delimited as the whole is."""
    prefix = "" if isinstance(value, str) else "b"
    single: Any = "'" if isinstance(value, str) else b"'"
    double: Any = '"' if isinstance(value, str) else b'"'
    delimiter, quotes, written = "'", double + single, 4
    if single in value and double not in value:
        delimiter, quotes, written = '"', single, 2
    yield prefix + delimiter
    for start in range(0, len(value), _CHUNK):
        yield repr(value[start : start + _CHUNK] + quotes)[len(prefix) + 1 : -written]
    yield delimiter
