"""Writing what a person asked for, whole or not at all."""

import os
import sys
import tempfile
from pathlib import Path

from kurabe.errors import DataError


def is_standard_output(path: Path | None) -> bool:
    """Whether `-o -` is meant."""
    return str(path) == "-"


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a half; `-` is standard output.

    Raises DataError where it can't be written there.
    """
    if is_standard_output(path):
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path} cannot be written: {why}; name another file with -o") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
