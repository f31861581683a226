"""Where pulled models stand on this machine."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from kurabe.models.catalog import CatalogEntry, catalog_entry


def cache_folder() -> Path:
    """Where models are kept: the environment variable KURABE_CACHE, else the user's cache folder."""
    override = os.environ.get("KURABE_CACHE")
    return Path(override).expanduser() if override else user_cache_path("kurabe")


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
