"""Files that are there whole or as they were before."""

import os
from contextlib import suppress
from pathlib import Path

from kurabe.errors import TuningError


def write_bytes(path: Path, data: bytes) -> None:
    """A file that is there whole or as it was before, also after a power cut. Raises TuningError."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise TuningError(
            f"cannot write {path} ({len(data) / 1e6:,.0f} MB): {error.strerror or error}; what was kept before is still"
            " there: make room and run it again, and it goes on"
        ) from None
