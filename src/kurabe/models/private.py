"""Files and folders that nobody but their owner can read, as they may hold what people asked and were answered."""

import os
from contextlib import suppress
from pathlib import Path


def make_private(path: Path) -> None:
    """Close a file or folder to others; one of another user's is left as it is."""
    with suppress(OSError):
        os.chmod(path, 0o700 if path.is_dir() else 0o600)


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read, where there is none, and close one that is there to others.

    What SQLite keeps beside its file gets the same mode. Raises OSError.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    make_private(path)
