"""Files that are there whole or as they were before."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

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


@contextmanager
def whole(path: Path, *, folder: bool) -> Iterator[Path]:
    """Write a file, or fill a folder that is there and empty, and have it at `path` once all of it is written.

    An error or an interruption leaves what was at `path` before; what a killed process leaves beside it is cleared away
    the next time. Raises TuningError where nothing can be written.
    """
    path = Path(os.path.realpath(path))
    fresh, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    try:
        _remove(fresh)
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            fresh.mkdir()
        yield fresh
        for file in fresh.rglob("*") if folder else [fresh]:
            file.chmod(0o666 & ~_umask())  # safetensors makes files that nobody else may read
            _flush(file)
        if path.is_dir():  # a folder takes the place of an empty one at most
            _remove(old)
            path.rename(old)
        fresh.replace(path)
        _remove(old)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise TuningError(f"cannot write {path}: {why}; make room or name another place, and try again") from None
    finally:
        with suppress(OSError):
            _remove(fresh)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
