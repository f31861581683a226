"""Trained contestants in files, without pickle: what is loaded can hold data, and no code that runs by itself."""

import hashlib
import io
import os
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import msgspec

from kurabe.contestants.own import remote_code
from kurabe.contestants.plain import wrapped
from kurabe.contestants.sweep import Sweep
from kurabe.errors import ContestantError

FILE = "estimator.skops"
MANIFEST = "manifest.json"
FORMAT = 1

# Beyond scikit-learn's estimators, and what skops trusts by itself (numpy's and scipy's arrays, Python's plain types).
TRUSTED = frozenset(
    f"kurabe.contestants.{name}"
    for name in (
        "blend.Blend",
        "boosters.Booster",
        "catboost.CatBoost",
        "catboost.CatBoostModel",
        "catboost.Codes",
        "column_boosting.ColumnFeatures",
        "constant.Constant",
        "encoding.ColumnEncoder",
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
        "plain.Texts",
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


def _own_types(estimator: Any) -> frozenset[str]:
    """The classes and functions that an estimator and its parameters are made of, as skops names them.

    What the user's own code has made is trusted with the types that it is made of; nothing else of its modules is.
    """
    found: set[str] = set()
    stack = [estimator]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, list | tuple):
            stack += value
        elif hasattr(value, "get_params") and not isinstance(value, type):
            found.add(_name_of(type(value)))
            stack += value.get_params(deep=False).values()
        elif hasattr(value, "fit") and hasattr(value, "predict"):
            found.add(_name_of(value if isinstance(value, type) else type(value)))
        elif isinstance(value, type | FunctionType):
            found.add(_name_of(value))
    return frozenset(found)


def _name_of(value: type | FunctionType) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def warm_up() -> None:
    """Import what saving and loading need, so that it doesn't count as memory or time of the first contestant."""
    _skops()


def _skops() -> Any:
    """`skops.io`, without the second and a half that its import takes.

    To list the estimators that it trusts, it imports all modules of scikit-learn, and with them torch. An empty list
    is enough here: `_is_of_sklearn` knows an estimator of scikit-learn by its class.
    """
    if "skops.io" not in sys.modules:
        import sklearn.utils

        walk = sklearn.utils.all_estimators
        sklearn.utils.all_estimators = list
        try:
            import skops.io  # noqa: F401 - handed out by its name below
        finally:
            sklearn.utils.all_estimators = walk
    return sys.modules["skops.io"]


_SKLEARN_CLASS = re.compile(r"(sklearn(?:\.(?!externals|tests|conftest)\w+)+)\.([A-Z]\w*)")


def _is_of_sklearn(name: str) -> bool:
    """Whether a type's name is that of an estimator of scikit-learn, as skops asks by a list of all of them."""
    from sklearn.base import BaseEstimator

    if (parts := _SKLEARN_CLASS.fullmatch(name)) is None:
        return False
    try:
        found = getattr(import_module(parts[1]), parts[2], None)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, BaseEstimator) and _name_of(found) == name


def save(estimator: Any, folder: Path) -> None:
    """Write a fitted estimator to a folder, which is made anew; a folder half written is never left behind.

    Raises ContestantError where the estimator holds something that cannot be saved without pickle.
    """
    folder = Path(folder)
    module = type(estimator.base() if isinstance(estimator, Sweep) else wrapped(estimator)).__module__
    own = None if module.partition(".")[0] in ("kurabe", "sklearn") else module
    skops = _skops()

    try:
        data = skops.dumps(estimator)
        _check_types(data, estimator)
        skops.loads(data, trusted=_untrusted(data))
    except ContestantError:
        raise
    except Exception as error:  # skops raises what the objects inside do
        raise ContestantError(f"{type(estimator).__name__} cannot be saved without pickle: {error}") from error
    manifest = _Manifest(
        FORMAT, hashlib.sha256(data).hexdigest(), f"{module}.{type(estimator).__qualname__}", own, _versions()
    )
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.mkdir(mode=0o700)
    for name, content in ((FILE, data), (MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))):
        with os.fdopen(os.open(new / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def load(folder: Path, estimator: Any = None) -> Any:
    """The estimator that `save` wrote there.

    Parameters
    ----------
    folder
        What `save` was given.
    estimator
        The same contestant, not fitted, as the task describes it; None where the task no longer names it. The file may
        hold the types that this is made of, beside kurabe's own and those that skops trusts.

    Raises
    ------
    ContestantError
        Where the files are missing, damaged, changed, of other versions, or hold another contestant or any other type.
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
    try:
        _check_archive(data)
        _check_types(data, estimator)
        loaded = _skops().loads(data, trusted=_untrusted(data))
    except ContestantError:
        raise
    except Exception as error:
        raise ContestantError(f"{folder / FILE} cannot be read: {type(error).__name__}: {error}") from error
    if estimator is not None and type(estimator) not in (type(loaded), type(wrapped(loaded))):
        names = f"{type(wrapped(loaded)).__name__}, and the task describes {type(estimator).__name__}"
        raise ContestantError(f"{folder / FILE} holds {names}: train it again")
    if remote_code(loaded) - remote_code(estimator):
        raise ContestantError(f"{folder / FILE} names a model that runs code of its own, and the task does not")
    return loaded


def _check_archive(data: bytes) -> None:
    """Raise ContestantError for an archive that unpacks to more than it is: skops packs nothing."""
    with ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if sum(one.file_size for one in members) > len(data) or any(one.compress_type != ZIP_STORED for one in members):
        raise ContestantError("it is packed, and a saved contestant is not: train it again")


def _untrusted(data: bytes) -> list[str]:
    return list(_skops().get_untrusted_types(data=data))


def _check_types(data: bytes, estimator: Any) -> None:
    """Raise ContestantError where the data hold a type that is not trusted and no part of the estimator."""
    trusted = TRUSTED | _own_types(estimator)
    refused = [name for name in _untrusted(data) if name not in trusted and not _is_of_sklearn(name)]
    if refused:
        raise ContestantError(f"it holds types that are not trusted: {', '.join(sorted(refused))}")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("kurabe", "scikit-learn", "lightgbm", "numpy")}
