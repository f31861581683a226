"""The models on this machine that references name without a path: pulled ones, the hub's cache, Ollama's folder."""

from typing import NamedTuple

from kurabe.errors import ModelError
from kurabe.models.files import hub, ollama_store
from kurabe.models.files.catalog import catalog
from kurabe.models.files.store import pulled_path


class Downloaded(NamedTuple):
    """A model: its reference, its bytes on the disk, and whose folder it lies in."""

    reference: str
    size: int
    where: str


def downloaded(engine: str) -> list[Downloaded]:
    """The models that `gguf:` or `hf:` can open without fetching anything."""
    found = [
        Downloaded(f"{engine}:{name}", path.stat().st_size, "kurabe")
        for name in catalog()
        if (path := pulled_path(name)) is not None
    ]
    found += [
        Downloaded(f"{engine}:{kept.name}", kept.size, "Hugging Face hub")
        for kept in hub.kept()
        if engine == "hf" or kept.path.is_file()
    ]
    if engine == "gguf":
        for name in ollama_store.names():
            try:
                stored = ollama_store.stored(str(name))
            except ModelError:  # damaged, or one that only Ollama runs
                continue
            size = sum(path.stat().st_size for path in (stored.model, *stored.adapters))
            found.append(Downloaded(f"gguf:{ollama_store.PREFIX}{name}", size, "Ollama"))
    return found
