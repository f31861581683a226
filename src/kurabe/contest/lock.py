"""One run at a time in the folder of a task."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from kurabe.contest.journal_file import disk_full, refuse_links
from kurabe.contest.prepare import FOLDER
from kurabe.errors import JournalError, is_disk_full
from kurabe.models.files.private import make_private


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time in a folder. The lock goes with the process, however that ends."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(folder)
        refuse_links(folder / "lock")
        lock = filelock.FileLock(folder / "lock", timeout=0.2)  # `is_running` holds it for a moment
        lock.acquire()
    except filelock.Timeout:
        raise JournalError(f"another run is going on in {folder.parent}; wait for it to end, or stop it") from None
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Whether a run is going on in the folder of a task."""
    path = folder / FOLDER / "lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0.1):
            return False
    except filelock.Timeout:
        return True


def disk_error(folder: Path, error: OSError) -> JournalError:
    """The error to raise where a folder cannot be written to."""
    if is_disk_full(error):
        return JournalError(disk_full(folder))
    return JournalError(f"cannot write to {folder}: {error.strerror or error}; check the folder's permissions")
