"""Trained contestants in files, without pickle: what is loaded can hold data, and no code that runs by itself."""

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from kurabe.contestants.sweep import Sweep
from kurabe.errors import ContestantError

FILE = "estimator.skops"
MANIFEST = "manifest.json"
FORMAT = 1

# Beyond what skops trusts by itself (scikit-learn's estimators, numpy's and scipy's arrays, Python's plain types).
TRUSTED = frozenset(
    f"kurabe.contestants.{name}"
    for name in (
        "blend.Blend",
        "constant.Constant",
        "features.Columns",
        "features.Dense",
        "features.Embeddings",
        "features.Measures",
        "features.NGrams",
        "features.Quantities",
        "features.Scaled",
        "features.TextStatistics",
        "features.Topics",
        "human.Human",
        "linear.BagOfWords",
        "linear.EmbeddingsRidge",
        "linear.LinearFeatures",
        "linear.TfidfLogistic",
        "linear.TfidfRidge",
        "neighbours.NearestNeighbours",
        "neighbours.Similarity",
        "prompt.Prompt",
        "stack.AllViews",
        "stack.Directions",
        "stack.StackedBoosting",
        "sweep.Sweep",
        "target.Scale",
        "trees.Booster",
        "trees.GradientBoosting",
        "trees.RandomForest",
        "tune.Tune",
        "tune_hosted.TuneHosted",
    )
) | {
    "kurabe.tasks.spec.Prompt",
    "kurabe.tasks.spec.Example",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.tree._tree.Tree",
}


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside the file: its digest, what it was written with, and the module of a class of the user's own."""

    format: int
    sha256: str
    type: str
    module: str | None
    versions: dict[str, str]


def module_of(estimator: Any) -> str:
    """The module of an estimator's class, or of the one that it sweeps over: what `load` is to trust."""
    return type(estimator.base() if isinstance(estimator, Sweep) else estimator).__module__


def warm_up() -> None:
    """Import what saving and loading need, so that it doesn't count as memory or time of the first contestant.

    It takes some 200 MB where torch is installed, which scikit-learn's modules then import.
    """
    import skops.io  # noqa: F401  # too heavy for `import kurabe`


def save(estimator: Any, folder: Path) -> None:
    """Write a fitted estimator to a folder, which is made anew; a folder half written is never left behind.

    Raises ContestantError where the estimator holds something that cannot be saved without pickle.
    """
    folder = Path(folder)
    module = module_of(estimator)
    own = None if module.partition(".")[0] in ("kurabe", "sklearn") else module
    import skops.io  # only now: with all of scikit-learn it imports torch, where that is installed

    try:
        data = skops.io.dumps(estimator)
        _check_types(data, own)
        skops.io.loads(data, trusted=_untrusted(data))
    except ContestantError:
        raise
    except Exception as error:  # skops raises what the objects inside do
        raise ContestantError(f"{type(estimator).__name__} cannot be saved without pickle: {error}") from error
    manifest = _Manifest(
        FORMAT, hashlib.sha256(data).hexdigest(), f"{module}.{type(estimator).__qualname__}", own, _versions()
    )
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    (new / FILE).write_bytes(data)
    (new / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def load(folder: Path, module: str | None = None) -> Any:
    """The estimator that `save` wrote there. `module` is the one whose classes may be in it, beside kurabe's own and
    scikit-learn's: that which the task file names.

    Raises ContestantError where the files are missing, damaged, changed, of other versions, or hold any other type.
    """
    folder = Path(folder)
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
        data = (folder / FILE).read_bytes()
    except OSError as error:
        raise ContestantError(f"no saved contestant can be read in {folder}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContestantError(f"{folder / MANIFEST} is damaged: {error}") from None
    if manifest.format != FORMAT or manifest.versions != _versions():
        written = ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
        raise ContestantError(f"the contestant in {folder} was saved by other versions ({written}): train it again")
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ContestantError(f"{folder / FILE} was changed after it was saved: train it again")
    import skops.io

    try:
        _check_types(data, module)
        return skops.io.loads(data, trusted=_untrusted(data))
    except ContestantError:
        raise
    except Exception as error:
        raise ContestantError(f"{folder / FILE} cannot be read: {type(error).__name__}: {error}") from error


def _untrusted(data: bytes) -> list[str]:
    import skops.io

    return list(skops.io.get_untrusted_types(data=data))


def _check_types(data: bytes, module: str | None) -> None:
    """Raise ContestantError where the data hold a type that is neither trusted nor of the user's own module."""
    refused = [
        name
        for name in _untrusted(data)
        if name not in TRUSTED and not (module is not None and name.rpartition(".")[0] == module)
    ]
    if refused:
        raise ContestantError(f"it holds types that are not trusted: {', '.join(sorted(refused))}")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("kurabe", "scikit-learn", "lightgbm", "numpy")}
