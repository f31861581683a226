"""Where the files of a model of this machine are, from its reference."""

import hashlib
import re
from pathlib import Path

from msgspec.structs import replace

from kurabe.errors import ModelError, nearest
from kurabe.models.files import hub, ollama_store
from kurabe.models.files.catalog import CatalogEntry, catalog
from kurabe.models.files.hub import HubName, hub_name
from kurabe.models.files.store import model_path, named_path, pulled_path
from kurabe.models.reference import EMBEDDINGS, Reference


def located(parsed: Reference) -> Path | None:
    """The file or folder that the reference names, whether it is there or not; None where it is to be pulled. Of a
    model that is cut into several files it is the first.

    A path that exists comes first, then Ollama's models (`ollama/…`), the catalog, and the hub's cache. Raises
    ModelError for what is none of these, and for an embedding model.
    """
    found = _find(parsed)
    return found if isinstance(found, Path) else None


def located_adapter(parsed: Reference) -> Path | None:
    """The LoRA adapter that the reference names: a path, or a repository (hf) or file (gguf) of the hub. None where it
    names none, or one that is to be pulled."""
    found = _find_adapter(parsed)
    return found if isinstance(found, Path) else None


def sources(parsed: Reference) -> list[HubName | CatalogEntry]:
    """What has to be fetched before the model can be opened: its own files and those of its adapter."""
    return [
        found for found in (_find(parsed), _find_adapter(parsed)) if found is not None and not isinstance(found, Path)
    ]


def origins(parsed: Reference) -> list[HubName | CatalogEntry]:
    """Where the model and its adapter come from, on this machine or not; empty for files of one's own."""
    found = [_find(parsed, here=False), _find_adapter(parsed, here=False)]
    return [origin for origin in found if origin is not None and not isinstance(origin, Path)]


def pull_name(parsed: Reference) -> str | None:
    """What to give `pull` before the model can be opened; None where nothing is to be fetched."""
    missing_parts = sources(parsed)
    if not missing_parts:
        return None
    if parsed.name in catalog() and "adapter" not in parsed.options:
        return parsed.name
    kept = {name: value for name, value in parsed.options.items() if name in ("revision", "remote_code", "adapter")}
    return str(replace(parsed, options=kept))


def pull_command(parsed: Reference) -> str:
    """What to type to fetch the model."""
    name = pull_name(parsed) or str(parsed)
    return f"kurabe pull {name}" if re.fullmatch(r"[\w./:@=-]+", name) else f"kurabe pull '{name}'"


def _find(parsed: Reference, *, here: bool = True) -> Path | HubName | CatalogEntry:
    """The model's file or folder, or where it is to be fetched from; the latter without `here` even if it was."""
    if parsed.scheme in EMBEDDINGS:
        raise ModelError(f"'{parsed}' is an embedding model; a chat model is needed, such as 'gguf:smollm2-135m'")
    name, revision = parsed.name, parsed.options.get("revision")
    path = named_path(name)
    if path.exists():
        return path.with_name(hub.split_parts(path.name)[0]) if path.is_file() else path
    if parsed.scheme == "gguf" and name.startswith(ollama_store.PREFIX):
        return ollama_store.stored(name.removeprefix(ollama_store.PREFIX)).model
    if name in catalog():
        return (pulled_path(name) if here else None) or catalog()[name]
    on_hub = hub_name(name, revision, code="remote_code" in parsed.options)
    if on_hub is not None and (on_hub.file or parsed.scheme == "hf"):
        return (hub.cached(on_hub) if here else None) or on_hub
    if on_hub is not None:
        raise ModelError(_needs_file(parsed, on_hub))
    if name.lower().endswith(".gguf") or re.match(r"[./~\\]|[A-Za-z]:[/\\]", name):
        return path
    names = [*catalog(), *(f"{ollama_store.PREFIX}{other}" for other in _ollama_names(parsed))]
    raise ModelError(
        f"model reference '{parsed}': there is no file {name!r} and no model of that name{nearest(name, names) or '.'}"
        f" There are: {', '.join(map(repr, names[:20]))}; else name {kinds_of_files(parsed)}"
    )


def _find_adapter(parsed: Reference, *, here: bool = True) -> Path | HubName | None:
    name = parsed.options.get("adapter")
    if name is None:
        return None
    path = named_path(name)
    on_hub = None if path.exists() else hub_name(name)
    if on_hub is None or bool(on_hub.file) != (parsed.scheme == "gguf"):
        return path
    return (hub.cached(on_hub) if here else None) or on_hub


def stored_by_ollama(parsed: Reference) -> ollama_store.Stored | None:
    """Ollama's model that the reference names, where it names one."""
    if not parsed.name.startswith(ollama_store.PREFIX) or named_path(parsed.name).exists():
        return None
    return ollama_store.stored(parsed.name.removeprefix(ollama_store.PREFIX))


def _needs_file(parsed: Reference, on_hub: HubName) -> str:
    """What to write where `gguf:` names a repository, which may hold many files."""
    files = [kept.name for kept in hub.kept() if kept.name.startswith(f"{on_hub.repository}/")]
    example = files[0] if files else f"{on_hub.repository}/FILE.gguf"
    return (
        f"model reference '{parsed}': there is no file {parsed.name!r}, and of a repository of the Hugging Face hub"
        f" 'gguf:' needs the file's name too: 'gguf:{example}'"
    )


def kinds_of_files(parsed: Reference) -> str:
    """What a reference of this scheme may name."""
    if parsed.scheme == "hf":
        return (
            "a folder with config.json and .safetensors, a GGUF file, or a model of the Hugging Face hub as owner/repo"
        )
    return (
        "a GGUF file, one of the Hugging Face hub as owner/repo/FILE.gguf, a model of Ollama's as ollama/NAME, or one"
        " that `kurabe pull` knows"
    )


def _ollama_names(parsed: Reference) -> list[str]:
    return [str(name) for name in ollama_store.names()] if parsed.scheme == "gguf" else []


def fingerprint_local(parsed: Reference) -> str:
    """What tells the model's files, with those of its adapter, from others under the same reference."""
    found = _find(parsed)
    adapters = [located_adapter(parsed)]
    if (stored := stored_by_ollama(parsed)) is not None and adapters == [None]:
        adapters = [*stored.adapters]
    main = catalog()[parsed.name].sha256 if _from_catalog(parsed, found) else _identity(found)
    return "+".join([main, *(_identity(adapter) for adapter in adapters if adapter is not None)])


def _from_catalog(parsed: Reference, found: Path | HubName | CatalogEntry) -> bool:
    if parsed.name not in catalog():
        return False
    return isinstance(found, CatalogEntry) or found == model_path(catalog()[parsed.name])


def _identity(found: Path | HubName | CatalogEntry) -> str:
    """A file by the hash that Ollama and the hub name it by, else by size and time of change; a folder by its files."""
    if not isinstance(found, Path):
        return ""
    if found.is_dir():
        files = [file for file in sorted(found.iterdir()) if file.suffix in _SUFFIXES and file.is_file()]
        listed = "\n".join(f"{file.name} {_identity(file)}" for file in files)
        return hashlib.blake2b(listed.encode(), digest_size=16).hexdigest()
    if not found.is_file():
        return ""
    parts = [found.with_name(part) for part in hub.split_parts(found.name)]
    return ",".join(_of_file(part) for part in parts if part.is_file())


_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja", ".gguf", ".py"})


def _of_file(path: Path) -> str:
    blob = path.resolve()
    if re.fullmatch(r"sha256-[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return blob.name
    return f"{blob.stat().st_size}-{blob.stat().st_mtime_ns}"
