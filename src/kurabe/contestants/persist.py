"""Trained contestants in files, without pickle: what is loaded can hold data, and no code that runs by itself."""

import hashlib
import io
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import msgspec

from kurabe.contestants.own import check_references, is_allowed, remote_code
from kurabe.contestants.plain import wrapped
from kurabe.contestants.prompt import Prompt
from kurabe.contestants.signature import is_signed, sign
from kurabe.contestants.soundness import check, unchecked_types
from kurabe.contestants.sweep import Sweep
from kurabe.errors import ContestantError, NotTrainedError
from kurabe.models.base import ChatModel

FILE = "estimator.skops"
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 20  # bytes
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
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
}


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside the file: its digest, what it was written with, the module of a class of the user's own, and the
    signature of who saved it, which earlier versions of kurabe did not write."""

    format: int
    sha256: str
    type: str
    module: str | None
    versions: dict[str, str]
    signature: str = ""


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

    Raises ContestantError where the estimator holds something that cannot be saved without pickle, and where the key
    that signs it cannot be made.
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
    digest = hashlib.sha256(data).hexdigest()
    manifest = _Manifest(FORMAT, digest, f"{module}.{type(estimator).__qualname__}", own, _versions(), sign(digest))
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.mkdir(mode=0o700)
    for name, content in ((FILE, data), (MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))):
        with os.fdopen(os.open(new / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def load(folder: Path, estimator: Any = None, allow_code: Collection[str] = ()) -> Any:
    """The estimator that `save` wrote there.

    Parameters
    ----------
    folder
        What `save` was given.
    estimator
        The same contestant, not fitted, as the task describes it; None where the task no longer names it. The file may
        hold the types that this is made of, beside kurabe's own and those that skops trusts.
    allow_code
        What the user allows: `sha256:DIGEST` for a file that this user has not saved on this machine, and that holds
        types whose content can't be checked.

    Raises
    ------
    NotTrainedError
        Where the files are missing, damaged, changed or of other versions, or hold another contestant or any other
        type; and, unless this user has saved them, where their numbers are not sound or can't be checked.
    """
    folder = Path(folder)
    manifest, data = _read(folder)
    signed = is_signed(manifest.sha256, manifest.signature)
    try:
        _check_archive(data)
        _check_types(data, estimator)
        unchecked = frozenset[str]() if signed else unchecked_types(data)
        if not unchecked or _is_allowed(manifest, allow_code):
            loaded = _skops().loads(data, trusted=_untrusted(data))
            unchecked |= frozenset() if signed else check(loaded)
    except ContestantError as error:
        raise NotTrainedError(f"{folder / FILE}: {error}") from None
    except Exception as error:
        raise NotTrainedError(f"{folder / FILE} cannot be read: {type(error).__name__}: {error}") from error
    if unchecked and not _is_allowed(manifest, allow_code):
        raise NotTrainedError(_refusal(folder, manifest, unchecked))
    if estimator is not None and type(estimator) not in (type(loaded), type(wrapped(loaded))):
        names = f"{type(wrapped(loaded)).__name__}, and the task describes {type(estimator).__name__}"
        raise NotTrainedError(f"{folder / FILE} holds {names}")
    if remote_code(loaded) - remote_code(estimator):
        raise NotTrainedError(f"{folder / FILE} names a model that runs code of its own, and the task does not")
    if not signed:
        check_references(loaded, allow_code)
    _give_models(loaded, estimator)
    return loaded


def _give_models(loaded: Any, estimator: Any) -> None:
    """Let prompts ask the models that the task's contestant was given as objects, for which references are saved: to
    open another one by its reference would lose its key, address and budget, and some have none that opens."""
    given = {value.reference: value for value in _values(estimator) if isinstance(value, ChatModel)}
    for value in _values(loaded) if given else ():
        if isinstance(value, Prompt) and isinstance(value.model, str):
            value.model = given.get(value.model, value.model)


def _values(estimator: Any) -> Iterator[Any]:
    """An estimator, and what it and the estimators in it hold."""
    seen: set[int] = set()
    stack = [estimator]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, list | tuple):
            stack += value
        elif hasattr(value, "get_params") and not isinstance(value, type):
            stack += vars(value).values()


def is_usable(folder: Path, allow_code: Collection[str] = ()) -> bool:
    """Whether a saved contestant lies there that this version may load, as far as can be told without loading it."""
    try:
        manifest, data = _read(folder)
        if is_signed(manifest.sha256, manifest.signature) or _is_allowed(manifest, allow_code):
            return True
        return not unchecked_types(data)
    except Exception:  # a file that is no archive, or holds no description of what is in it
        return False


def _read(folder: Path) -> tuple[_Manifest, bytes]:
    """The manifest, and the estimator's file, which agrees with it."""
    manifest = _checked_manifest(folder)
    try:
        data = (folder / FILE).read_bytes()
    except OSError as error:
        raise NotTrainedError(f"no saved contestant can be read in {folder}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise NotTrainedError(f"{folder / FILE} was changed after it was saved")
    return manifest, data


def _checked_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST
    if not path.is_file():  # a pipe would be waited for
        raise NotTrainedError(f"there is no saved contestant in {folder}")
    try:
        with path.open("rb") as file:
            manifest = msgspec.json.decode(file.read(MAX_MANIFEST), type=_Manifest)
    except OSError as error:
        raise NotTrainedError(f"no saved contestant can be read in {folder}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotTrainedError(f"{path} is damaged: {error}") from None
    if manifest.format != FORMAT or _series(manifest.versions) != _series(_versions()):
        written = ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
        raise NotTrainedError(f"the contestant in {folder} was saved by other versions ({written})")
    return manifest


def _is_allowed(manifest: _Manifest, allow_code: Collection[str]) -> bool:
    return is_allowed(f"sha256:{manifest.sha256}", allow_code)


def _refusal(folder: Path, manifest: _Manifest, unchecked: Collection[str]) -> str:
    name = f"sha256:{manifest.sha256}"
    return (
        f"the contestant in {folder} was saved by another user, on another machine or by an earlier version, and kurabe"
        f" can't check what is in it: {', '.join(sorted(unchecked))}. Such a file can crash kurabe, or do worse, so it"
        f" needs your consent: if you trust who saved it, add --allow-code {name} (in Python, allow_code=[{name!r}])"
    )


def _check_archive(data: bytes) -> None:
    """Raise ContestantError for an archive that unpacks to more than it is: skops packs nothing."""
    with ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if sum(one.file_size for one in members) > len(data) or any(one.compress_type != ZIP_STORED for one in members):
        raise ContestantError("it is packed, and a saved contestant is not")


def _untrusted(data: bytes) -> list[str]:
    return list(_skops().get_untrusted_types(data=data))


def _check_types(data: bytes, estimator: Any) -> None:
    """Raise ContestantError where the data hold a type that is not trusted and no part of the estimator."""
    trusted = TRUSTED | _own_types(estimator)
    refused = [name for name in _untrusted(data) if name not in trusted and not _is_of_sklearn(name)]
    if refused:
        raise ContestantError(f"it holds types that are not trusted: {', '.join(sorted(refused))}")


def _series(versions: Mapping[str, str]) -> dict[str, str]:
    """The releases among which a saved estimator reads and answers alike: of scikit-learn those with one minor number,
    whose fitted attributes may change with it, of the others those with one major number. What kurabe itself writes is
    told by FORMAT.

    >>> _series({"kurabe": "0.1.0", "scikit-learn": "1.9.1", "lightgbm": "4.7.0", "numpy": "2.4.6"})
    {'scikit-learn': '1.9', 'lightgbm': '4', 'numpy': '2'}
    """
    parts = {"scikit-learn": 2}
    return {name: ".".join(one.split(".")[: parts.get(name, 1)]) for name, one in versions.items() if name != "kurabe"}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("kurabe", "scikit-learn", "lightgbm", "numpy")}
