"""Fetching a model from the Hugging Face hub into the hub's own cache folder.

`huggingface_hub` lists the files, links them and keeps the cache. It begins a file that was cut from the start again
(2.4), so large files are fetched here before it looks for them: they are continued, and checked by their SHA-256.
"""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2
import msgspec
from filelock import FileLock

from kurabe.errors import DownloadError, missing
from kurabe.models.files import download as http
from kurabe.models.files.download import FetchError, Progress
from kurabe.models.files.hub import INDEX, HubName, cache_folder, cached, check_links, repository_folder, split_parts
from kurabe.models.files.small_files import ENDINGS, MOST_BYTES

_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MOST_BY_HTTP: Final = 50_000_000_000  # the hub gives larger files by its own protocol alone
_SECONDS: Final = 15.0


class _File(NamedTuple):
    """A file of a repository; `size` is None where the hub doesn't say, `sha256` where it isn't kept as a large one."""

    name: str
    stated: int | None
    sha256: str | None

    @property
    def size(self) -> int:
        """The bytes that the hub states, else 0."""
        return self.stated or 0


def fetch(name: HubName, progress: Progress) -> Path:
    """Fetch what `name` needs unless it is there, and return its path. `progress` is called with (bytes, bytes in all),
    the first time before anything is fetched.

    A call that was interrupted is continued by the next. Raises DownloadError where the hub does not have it, does not
    allow it or is out of reach, or where the disk is full.
    """
    if _offline():
        if (there := cached(name)) is not None:
            return there
        raise DownloadError(f"cannot fetch '{name}': HF_HUB_OFFLINE turns the Hugging Face hub off; unset it")
    with _explained(name):
        commit, files = _listing(name)
        wanted = _wanted(name, files)
        total = sum(file.size for file in wanted)
        blobs = repository_folder(name.repository) / "blobs"
        folder = _make(blobs)
        check_links(blobs.with_name("snapshots") / commit)
        large = [file for file in wanted if file.sha256 is not None and file.size <= _MOST_BY_HTTP]
        left = sum(file.size for file in wanted if not _there(file, folder, name, commit))
        http.require_space(folder, left - _begun(large, folder), str(name), "HF_HOME")
        done = total - left
        progress(done, total)
        for file in large:
            if not _there(file, folder, name, commit):
                _fetch_large(name, commit, file, folder, done, total, progress)
                done += file.size
        _link(name, commit, wanted)
        progress(total, total)
    path = cached(name._replace(revision=commit))
    if path is None:
        raise DownloadError(f"'{name}' is not whole on the hub: its index names files that it does not have")
    return cached(name) or path


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


class _Large(msgspec.Struct):
    sha256: Any = None


class _Sibling(msgspec.Struct):
    rfilename: Any = None
    size: Any = None
    lfs: _Large | None = None


class _Info(msgspec.Struct):
    sha: Any = None
    siblings: list[_Sibling] | None = None


def _listing(name: HubName) -> tuple[str, list[_File]]:
    """(commit, files) of the revision as it is now. The hub's own library would read an answer of any length."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    endpoint = HfApi(endpoint=_endpoint()).endpoint
    url = f"{endpoint}/api/models/{name.repository}/revision/{quote(name.revision, safe='')}?blobs=true"
    with http.new_client() as client:
        headers = build_hf_headers(library_name="kurabe")
        with client.stream("GET", url, headers=headers, timeout=_SECONDS) as response:
            body = http.read_body(response)
    hf_raise_for_status(
        httpx2.Response(response.status_code, headers=_errors_of(response), content=body, request=response.request)
    )
    try:
        found = msgspec.json.decode(body, type=_Info)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DownloadError(f"the hub's listing of '{name}' can't be used: {error}") from None
    files = [
        _File(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None)
        for file in found.siblings or ()
        if is_inside(file.rfilename)
    ]
    _check(name, found.sha, files)
    return str(found.sha), files


def _errors_of(response: httpx2.Response) -> dict[str, str]:
    """The headers in which the hub says what is wrong."""
    return {key: value for key, value in response.headers.items() if key.lower().startswith("x-error-")}


def _check(name: HubName, commit: object, files: Sequence[_File]) -> None:
    """Raises DownloadError unless commit and hashes, of which paths are made, are of their form."""
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise DownloadError(f"the hub's listing of '{name}' can't be used: {commit!r:.80} is not a commit")
    for file in files:
        if file.sha256 is not None and not (isinstance(file.sha256, str) and _SHA256.fullmatch(file.sha256)):
            raise DownloadError(f"the hub's listing of '{name}' can't be used: {file.sha256!r:.80} is not a SHA-256")
        if file.stated is None and file.sha256 is None:
            continue
        if not isinstance(file.stated, int) or file.stated < 0:
            raise DownloadError(
                f"the hub's listing of '{name}' can't be used: {file.stated!r:.80} is not a file's size"
            )


def is_inside(name: object) -> bool:
    """Whether a name that a server gives is a relative path of plain names, on Windows too.

    >>> is_inside("1_Pooling/config.json"), is_inside("../x"), is_inside("C:x")
    (True, False, False)
    """
    if not isinstance(name, str) or any(character in name for character in "\\:\0"):
        return False
    return all(part not in ("", ".", "..") and part.isprintable() for part in name.split("/"))


def _wanted(name: HubName, files: Sequence[_File]) -> list[_File]:
    """The files that are needed: never a pickle, of weights that are there twice only one kind, and of folders only
    those of sentence-transformers' modules, such as `1_Pooling`."""
    by_name = {file.name: file for file in files}
    if name.file:
        parts = split_parts(name.file)
        if any(part not in by_name for part in parts):
            there = [file for file in by_name if file.lower().endswith(".gguf") and split_parts(file)[0] == file]
            lacking = next(part for part in parts if part not in by_name)
            raise DownloadError(f"{name.repository} on the Hugging Face hub has {missing('file', lacking, there)}")
        return [by_name[part] for part in parts]
    top = [file for file in files if "/" not in file.name]
    weights = [file for file in top if file.name.endswith(".safetensors")]
    if usual := [file for file in weights if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", file.name)]:
        split = [file for file in usual if file.name != "model.safetensors"]
        weights = split if INDEX in by_name and split else usual
    if not weights:
        raise DownloadError(_no_weights(name, [file.name for file in files]))
    endings = (*ENDINGS, ".py") if name.code else ENDINGS
    modules = [file for file in files if re.match(r"\d+_\w+/[^/]+\.(json|safetensors)$", file.name)]
    plain = [file for file in top if file.name.endswith(endings)]
    for file in plain + modules:
        if file.size > MOST_BYTES and not file.name.endswith(".safetensors"):
            raise DownloadError(
                f"{name.repository} on the Hugging Face hub has a {file.name} of {file.size:,} bytes, more than any"
                " model needs; look for another copy of the model"
            )
    return plain + weights + modules


def _no_weights(name: HubName, files: list[str]) -> str:
    text = f"{name.repository} on the Hugging Face hub holds no .safetensors"
    if gguf := [file for file in files if file.lower().endswith(".gguf")]:
        return f"{text}, but GGUF files: name one of them, as in 'gguf:{name.repository}/{split_parts(gguf[0])[0]}'"
    if any(file.endswith(_PICKLES) for file in files):
        return f"{text}, only pickles, which can run code and are never loaded; look for another copy of the model"
    return f"{text}; look for another copy of the model"


def _make(blobs: Path) -> Path:
    """The folder of blobs. Raises DownloadError where it, or that of the snapshots, leads out of the repository's."""
    blobs.mkdir(parents=True, exist_ok=True)
    home = blobs.parent.resolve()
    for folder in (blobs, blobs.with_name("snapshots"), blobs.with_name("refs")):
        if not folder.resolve().is_relative_to(home):
            raise DownloadError(f"{folder} is a link that leads out of {blobs.parent}; delete it, and run it again")
    return blobs


def _there(file: _File, blobs: Path, name: HubName, commit: str) -> bool:
    """Whether the file is in the cache: as a blob, or where links can't be made in the snapshot itself."""
    places = [repository_folder(name.repository) / "snapshots" / commit / file.name]
    if file.sha256 is not None:
        places.append(blobs / file.sha256)
    return any(place.is_file() and place.stat().st_size == file.size for place in places)


def _part(file: _File, blobs: Path) -> Path:
    return blobs / f"{file.sha256}.incomplete"


def _begun(files: Sequence[_File], blobs: Path) -> int:
    """Bytes of the files that an earlier call left unfinished."""
    return sum(part.stat().st_size for file in files if (part := _part(file, blobs)).is_file())


def _fetch_large(
    name: HubName, commit: str, file: _File, blobs: Path, done: int, total: int, progress: Progress
) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    assert file.sha256 is not None
    url = hf_hub_url(name.repository, file.name, revision=commit, endpoint=_endpoint())
    get_hf_file_metadata(url, timeout=_SECONDS)  # raises the library's own errors, such as that of a gated model
    part = _part(file, blobs)
    if part.is_symlink():  # to write through it would write where it leads
        part.unlink()
    with FileLock(blobs / f"{file.sha256}.lock"), http.new_client() as client:
        if (blobs / file.sha256).is_file():  # another process has fetched it meanwhile
            return
        client.headers.update(build_hf_headers(library_name="kurabe"))
        http.download_checked(
            client, url, part, file.size, file.sha256, lambda here, _: progress(done + here, total), "HF_HOME"
        )
        http.put_in_place(part, blobs / file.sha256)


def _link(name: HubName, commit: str, files: Sequence[_File]) -> None:
    """Let the hub's library put the files in place, and fetch what is not there yet: the small ones."""
    from huggingface_hub import hf_hub_download

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symlinks.*")  # a file system without them is served all the same
        for file in files:
            path = hf_hub_download(
                name.repository,
                file.name,
                revision=name.revision if name.revision != commit else commit,
                cache_dir=cache_folder(),
                endpoint=_endpoint(),
                library_name="kurabe",
                tqdm_class=_counter(file),
            )
            size = Path(path).stat().st_size
            if size != (size if file.stated is None else file.stated):
                for place in (Path(path).resolve(), Path(path)):
                    place.unlink(missing_ok=True)
                raise FetchError(f"{file.name} has {size:,} bytes, not the {file.size:,} that the hub lists")


def _counter(file: _File) -> Any:
    """A bar of tqdm's that never shows, for the progress is our own, and that ends a file with more bytes than listed.

    The library writes what comes to the disk, however much it is."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    most = MOST_BYTES if file.stated is None else file.stated

    class Counter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            self.come = settings.get("initial") or 0
            super().__init__(*args, **(settings | {"disable": True}))

        def update(self, n: float | None = 1) -> None:
            self.come += n or 0
            if self.come > most:
                raise FetchError(f"{file.name} has more than the {most:,} bytes that it may have")

    return Counter


@contextmanager
def _explained(name: HubName) -> Iterator[None]:
    """The library's errors as one sentence that says what to do."""
    from huggingface_hub import errors

    what, at = f"'{name}'", f" at the revision {name.revision!r}"
    try:
        yield
    except FetchError as error:
        raise DownloadError(f"could not fetch {what}: {error}; run it again to go on") from None
    except errors.GatedRepoError:
        raise DownloadError(
            f"{name.repository} is gated: accept its terms at https://huggingface.co/{name.repository}, and set"
            " HF_TOKEN to a token of that account"
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"the Hugging Face hub has {name.repository}, but not{at}; check the revision") from None
    except errors.RepositoryNotFoundError:
        here = f", and there is no file {str(name)!r} on this machine" if name.file else ""
        raise DownloadError(
            f"the Hugging Face hub has no model '{name.repository}' that you may see{here}; check the name, or set"
            " HF_TOKEN where it is private"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise DownloadError(f"cannot fetch {what}: HF_HUB_OFFLINE turns the Hugging Face hub off; unset it") from None
    except (errors.HfHubHTTPError, httpx2.HTTPError, errors.LocalEntryNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = f"it answered {status}" if status else f"{type(error).__name__}: {str(error).splitlines()[0]:.200}"
        raise DownloadError(
            f"could not fetch {what} from the Hugging Face hub: {why}; check the network, or set HF_ENDPOINT to a"
            " mirror in reach, and run it again to go on"
        ) from None
    except OSError as error:
        raise http.disk_error(error, cache_folder(), 0, "HF_HOME") from None
