"""Models of the Hugging Face hub in the hub's own cache folder, which other programs share.

Layout of the cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from kurabe.errors import ModelError
from kurabe.models.files.small_files import read_small

MAIN: Final = "main"
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SPLIT: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_MOST_PARTS: Final = 1000
INDEX: Final = "model.safetensors.index.json"


class HubName(NamedTuple):
    """What a reference names on the hub: one `file` of a repository (the first part of a split one), or with '' a whole
    model. `code`: whether the model's own Python files are fetched too."""

    repository: str
    file: str = ""
    revision: str = MAIN
    code: bool = False

    def __str__(self) -> str:
        return f"{self.repository}/{self.file}" if self.file else self.repository


def hub_name(text: str, revision: str | None = None, *, code: bool = False) -> HubName | None:
    """`owner/repo` or `owner/repo/path/file.gguf` taken apart; None where the text can be neither.

    Raises ModelError for a revision that can't be one.
    """
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ModelError(f"{revision!r} is no revision of a model: it is a branch, a tag or a commit of the hub")
    owner, _, rest = text.partition("/")
    name, _, file = rest.partition("/")
    repository = f"{owner}/{name}"
    if not _REPOSITORY.fullmatch(repository) or any(mark in repository for mark in ("--", "..")):
        return None
    if file and (
        not file.lower().endswith(".gguf") or any(part in ("", ".", "..") for part in re.split(r"[/\\]", file))
    ):
        return None
    if not file and name.lower().endswith(".gguf"):
        return None
    return HubName(repository, split_parts(file)[0] if file else "", revision or MAIN, code)


def split_parts(file: str) -> list[str]:
    """The names of all parts of a model that is cut into several GGUF files, from the name of any; else the name alone.

    >>> split_parts("m-00002-of-00003.gguf")
    ['m-00001-of-00003.gguf', 'm-00002-of-00003.gguf', 'm-00003-of-00003.gguf']
    """
    found = _SPLIT.fullmatch(file)
    if found is None or not 1 <= int(found[3]) <= _MOST_PARTS:
        return [file]
    return [f"{found[1]}-{number:05}-of-{found[3]}.gguf" for number in range(1, int(found[3]) + 1)]


def cache_folder() -> Path:
    """Where the hub's programs keep models: HF_HUB_CACHE, else `hub` in HF_HOME, else in the user's cache folder."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if place := os.environ.get(variable):
            return Path(os.path.expandvars(place)).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def cached(name: HubName) -> Path | None:
    """The file or folder in the cache, whole; None where it, or a part of it, has to be fetched."""
    folder = snapshot(name)
    if folder is None:
        return None
    if name.file:
        return folder / name.file if all((folder / part).is_file() for part in split_parts(name.file)) else None
    return folder if weight_files(folder) else None


def snapshot(name: HubName) -> Path | None:
    """The folder of the revision as it was when it was fetched, all of it or some files; None where nothing was.

    Raises ModelError where a link in it leads out of the cache.
    """
    folder = repository_folder(name.repository)
    commit = name.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / name.revision).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    if not _COMMIT.fullmatch(commit):
        return None
    check_links(folder / "snapshots" / commit)
    return folder / "snapshots" / commit


def check_links(folder: Path) -> None:
    """Raises ModelError where the folder of a revision, or a link in it, leads out of the cache. The user may have
    moved the cache, or a repository in it, to another disk and left a link there."""
    homes = [cache_folder().resolve(), folder.parents[1].resolve()]
    for path in (folder, *folder.rglob("*")):
        if path == folder or path.is_symlink():
            try:
                target = path.resolve()
            except (OSError, RuntimeError):  # links in a circle
                target = Path("/")
            if not any(target.is_relative_to(home) for home in homes):
                raise ModelError(f"{path} is a link that leads out of the cache; delete it, and fetch the model again")


def repository_folder(repository: str) -> Path:
    """The folder of a model's repository in the cache."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def weight_files(folder: Path) -> list[Path]:
    """The .safetensors files of a model or of an adapter, all of them there; empty where one is missing."""
    index = folder / INDEX
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return []
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        listed = msgspec.json.decode(read_small(index), type=dict[str, Any]).get("weight_map")
    except (OSError, ModelError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    names = {str(name) for name in listed.values()} if isinstance(listed, dict) else set()
    files = [folder / name for name in sorted(names)]
    if any(file.parent != folder or file.name != name for file, name in zip(files, sorted(names), strict=True)):
        return []  # a name that leads out of the folder
    return files if all(file.is_file() for file in files) else []


class Kept(NamedTuple):
    """A model in the cache: `owner/repo` or `owner/repo/file.gguf`, where it is, and its bytes."""

    name: str
    path: Path
    size: int


def kept() -> list[Kept]:
    """The models that the cache holds whole: safetensors by repository, and GGUF files; those of `main`, else of the
    newest snapshot."""
    found = []
    for folder in sorted(cache_folder().glob("models--*--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/", 1)
        try:
            newest = snapshot(HubName(repository)) or max((folder / "snapshots").glob("*"), key=_changed, default=None)
            if hub_name(repository) is None or newest is None:
                continue
            check_links(newest)
        except ModelError:  # said when the model is opened
            continue
        if files := weight_files(newest):
            found.append(Kept(repository, newest, sum(file.stat().st_size for file in files)))
        for file in sorted(newest.rglob("*.gguf")):
            parts = [file.with_name(part) for part in split_parts(file.name)]
            if parts[0] == file and all(part.is_file() for part in parts):
                name = f"{repository}/{file.relative_to(newest).as_posix()}"
                found.append(Kept(name, file, sum(part.stat().st_size for part in parts)))
    return found


def _changed(path: Path) -> float:
    return path.stat().st_mtime
