"""Files and folders that nobody but their owner can read, as they may hold what people asked and were answered."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_SQLITE: Final = b"SQLite format 3\0"
"""How a file of SQLite begins."""


def make_private(path: Path) -> None:
    """Close a file or folder to others; one of another user's is left as it is."""
    with suppress(OSError):
        os.chmod(path, 0o700 if path.is_dir() else 0o600)


def create_private(path: Path) -> None:
    """Make an empty file for SQLite that only its owner can read; close a database that is there to others.

    What SQLite keeps beside its file gets the same mode. A file of another kind keeps its mode: it is not ours. Raises
    OSError.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        if not path.is_file():
            return
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) not in (b"", _SQLITE):
                return
        make_private(path)
