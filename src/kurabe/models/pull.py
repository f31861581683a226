"""Fetching a model of the catalog into the user's cache folder."""

import os
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from kurabe.models.catalog import catalog_entry

Progress = Callable[[int, int], None]


def cache_folder() -> Path:
    """Where models are kept: the environment variable KURABE_CACHE, else the user's cache folder."""
    override = os.environ.get("KURABE_CACHE")
    return Path(override).expanduser() if override else user_cache_path("kurabe")


def pulled_path(name: str) -> Path | None:
    """The file of a model that was pulled before, None where it has to be pulled.

    Raises ModelError for an unknown name. A file gets its name only after its hash was checked, so
    only the size is looked at here.
    """
    entry = catalog_entry(name)
    path = cache_folder() / "models" / entry.file
    return path if path.is_file() and path.stat().st_size == entry.size else None
