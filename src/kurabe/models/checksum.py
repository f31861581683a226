"""A checksum of rows in SQLite: it tells rows that were damaged, not rows that were forged."""

import sqlite3
import zlib
from typing import Any, Final

CHECKSUM: Final = "kurabe_checksum"
"""The function's name in SQL. It takes the values of a row."""


def add_checksum(db: sqlite3.Connection) -> None:
    """Let the statements of a connection call the function."""
    db.create_function(CHECKSUM, -1, _checksum, deterministic=True)


def _checksum(*values: Any) -> int:
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))
