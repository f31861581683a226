"""Data sets of the Hugging Face hub: `hf://owner/name[@revision][/path or glob][#split]`.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` hold, as everywhere with huggingface_hub.
"""

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kurabe.errors import DataError, missing

# Best first: types that say what a column holds before those that leave it to be guessed.
PREFERRED = ((".parquet",), (".jsonl", ".ndjson"), (".csv",), (".tsv",))
FORM = re.compile(r"hf://(?P<repo>[^/@#]+/[^/@#]+)(@(?P<revision>[^/#]+))?(/(?P<path>[^#]+))?(#(?P<split>.+))?")


def fetch(source: str) -> tuple[list[tuple[Path, str]], tuple[str, ...]]:
    """Download the files of a data set that `source` names: ((path, name for messages) of each, warnings).

    Without a path, the files of one type are taken, parquet before jsonl before csv; without `#split`, those of the
    split `train` where the names tell splits apart, with a warning. Raises DataError, which says what to do.
    """
    found = FORM.fullmatch(source)
    if found is None:
        raise DataError(f"{source!r} is not of the form hf://owner/name[@revision][/path][#split]")
    repo, revision = found["repo"], found["revision"]
    try:
        api = HfApi()
        files = _list(api, repo, revision)
        names, warnings = choose(files, found["path"], found["split"], source)
        paths = [api.hf_hub_download(repo, name, revision=revision, repo_type="dataset") for name in names]
    except Exception as error:
        raise DataError(_reason(error, repo, revision)) from None
    base = f"hf://{repo}" + (f"@{revision}" if revision else "")
    return [(Path(path), f"{base}/{name}") for path, name in zip(paths, names, strict=True)], warnings


def _list(api: HfApi, repo: str, revision: str | None) -> list[str]:
    """The files of a data set, as the hub has them, or the cache where no hub can be reached."""
    try:
        # Not list_repo_files, which tries again for half a minute where there is no network.
        info = api.dataset_info(repo, revision=revision, timeout=20)
        return [file.rfilename for file in info.siblings or ()]
    except HfHubHTTPError as error:
        raise error
    except Exception:
        try:
            cached = Path(snapshot_download(repo, repo_type="dataset", revision=revision, local_files_only=True))
        except Exception:
            cached = None
        if cached is None:
            raise
        return [path.relative_to(cached).as_posix() for path in cached.rglob("*") if path.is_file()]


def choose(files: Sequence[str], path: str | None, split: str | None, source: str) -> tuple[list[str], tuple[str, ...]]:
    """The files to read and a warning where others were left. Raises DataError where none fits."""
    tables = sorted(f for f in files if PurePosixPath(f).suffix.lower() in {s for group in PREFERRED for s in group})
    if path is not None:
        chosen = [
            f for f in tables if f == path or fnmatch.fnmatchcase(f, path) or f.startswith(f"{path.rstrip('/')}/")
        ]
        if not chosen:
            raise DataError(f"{source}: {missing('file', path, tables)}")
        tables = chosen
    if not tables:
        raise DataError(f"{source} has no parquet, jsonl, csv or tsv file. It has {', '.join(sorted(files)[:10])}")
    if path is None:
        group = next(g for g in PREFERRED if any(f.lower().endswith(g) for f in tables))
        tables = [f for f in tables if f.lower().endswith(group)]
    splits = {f: _split_of(f) for f in tables}
    known = sorted({name for name in splits.values() if name})
    if split is not None:
        chosen = [f for f, name in splits.items() if name == split]
        if not chosen:
            raise DataError(f"{source}: {missing('split', split, known)}")
        return chosen, ()
    if path is None and len(known) > 1 and "train" in known:
        others = ", ".join(name for name in known if name != "train")
        chosen = [f for f, name in splits.items() if name == "train"]
        return chosen, (f"{source}: only the split 'train' is used; there are also: {others} ({source}#{known[0]}).",)
    return tables, ()


def _split_of(name: str) -> str | None:
    """The split a file belongs to, by its name: `data/train-00000-of-00002.parquet`, `test.csv`, `test/0.parquet`."""
    path = PurePosixPath(name)
    stem = re.sub(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]+)?$", "", path.stem)
    if stem and not stem.startswith("part"):
        return stem
    return path.parent.name or None


def _reason(error: Exception, repo: str, revision: str | None) -> str:
    """One sentence for what went wrong at the hub; never the request itself, whose headers may hold a token."""
    name = f"hf://{repo}"
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: ask for access on its page, then set HF_TOKEN to a token of that account"
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision!r}"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no data set {name}, or it is private: check the name, or set HF_TOKEN to read a private one"
    if isinstance(error, HFValidationError):
        return f"{name} is not a valid name of a data set"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"a file of {name} is gone from the hub. Try again"
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return f"{name} cannot be fetched: HF_HUB_OFFLINE is set or there is no network. Name a local copy as `source`"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return f"the hub answers {error.response.status_code} for {name}. Try again later"
    kind = type(error).__name__
    return f"{name} cannot be fetched ({kind}): is there a network? Set HF_ENDPOINT for a mirror, or name a local copy"
