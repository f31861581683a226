"""Where models stand on this machine: pulled ones, and those of a path."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from kurabe.errors import ModelError
from kurabe.models.files.catalog import CatalogEntry, catalog_entry


def cache_folder() -> Path:
    """Where models are kept: the environment variable KURABE_CACHE, else the user's cache folder."""
    override = os.environ.get("KURABE_CACHE")
    return Path(override).expanduser() if override else user_cache_path("kurabe")


def named_path(name: str) -> Path:
    """The file or folder that a name would be, there or not; `~` is the home folder. Raises ModelError for what can be
    no path."""
    try:
        path = Path(name).expanduser()
        path.exists()  # raises where a name is too long
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ModelError(
            f"{name[:80]!r} is not a file name: {why}; name a path, or a model such as 'owner/repo'"
        ) from None
    return path


def model_path(entry: CatalogEntry) -> Path:
    """Where the entry's file stands once it is pulled."""
    return cache_folder() / "models" / entry.file


def pulled_path(name: str) -> Path | None:
    """The file of a model that was pulled before, None where it has to be pulled.

    Raises ModelError for an unknown name. A file gets its name only after its hash was checked, so only the size is
    looked at here.
    """
    entry = catalog_entry(name)
    path = model_path(entry)
    return path if path.is_file() and path.stat().st_size == entry.size else None
