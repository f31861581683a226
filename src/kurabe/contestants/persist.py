"""Trained contestants in files, without pickle: what is loaded can hold data, and no code that runs by itself."""

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import warnings
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any

import msgspec
import polars as pl

from kurabe.contestants.archive import check_archive
from kurabe.contestants.identity import name_of
from kurabe.contestants.own import check_references, is_allowed, remote_code
from kurabe.contestants.plain import wrapped
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.replay import MAX_BYTES, differing, parts_of, record
from kurabe.contestants.saved_names import trusted as trusted_classes
from kurabe.contestants.saved_names import with_names, with_paths
from kurabe.contestants.signature import is_signed, sign
from kurabe.contestants.soundness import check, unchecked_types
from kurabe.contestants.sweeps.sweep import Sweep
from kurabe.errors import ContestantError, NotTrainedError
from kurabe.models.base import ChatModel

FILE = "estimator.skops"
MANIFEST = "manifest.json"
ROWS = "rows.json"
SENT = Path("what was sent")  # in messages, in place of a folder
MAX_MANIFEST = 1 << 20  # bytes
FORMAT = 2
LIBRARIES = ("numpy", "scipy", "scikit-learn", "lightgbm", "skops", "catboost")

# Beyond kurabe's own classes, scikit-learn's estimators, and what skops trusts by itself (numpy's and scipy's arrays,
# Python's plain types).
OF_LIBRARIES = frozenset(
    {
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
)


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What lies beside the file: its digest and that of the rows, the contestant's registered name, what it was written
    with, and the signature of who saved it. Format 1 had the path of the class in place of its name, and no rows; its
    signature is of the digest alone, and kurabe 0.1.0 wrote none."""

    format: int
    sha256: str
    versions: dict[str, str]
    name: str = ""
    rows: str = ""
    type: str = ""
    module: str | None = None
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


def save(estimator: Any, folder: Path, X: pl.DataFrame | None = None) -> None:
    """Write a fitted estimator to a folder, which is made anew; a folder half written is never left behind.

    Parameters
    ----------
    estimator
        The fitted estimator.
    folder
        The folder.
    X
        Rows that it learned from. A few of them are kept with the answers to them, so that other versions of the
        libraries can be seen to answer alike.

    Raises
    ------
    ContestantError
        Where the estimator holds something that cannot be saved without pickle, and where the key that signs it cannot
        be made.
    """
    _write(Path(folder), _signed(packed(estimator, X)))


def packed(estimator: Any, X: pl.DataFrame | None = None) -> dict[str, bytes]:
    """What `save` writes, by the names of the files, without a signature. Parameters and errors as of `save`."""
    skops = _skops()

    try:
        data = with_names(skops.dumps(estimator))
        readable = with_paths(data)
        _check_types(readable, estimator)
        loaded = skops.loads(readable, trusted=_untrusted(readable))
    except ContestantError:
        raise
    except Exception as error:  # skops raises what the objects inside do
        raise ContestantError(f"{type(estimator).__name__} cannot be saved without pickle: {error}") from error
    rows = None if X is None else _recorded(estimator, loaded, X)
    manifest = _Manifest(
        FORMAT,
        hashlib.sha256(data).hexdigest(),
        _versions(b"catboost" in data.lower()),
        name=name_of(type(estimator.base() if isinstance(estimator, Sweep) else wrapped(estimator))),
        rows="" if rows is None else hashlib.sha256(rows).hexdigest(),
    )
    files = {FILE: data, MANIFEST: msgspec.json.format(msgspec.json.encode(manifest))}
    return files if rows is None else files | {ROWS: rows}


def unpacked(files: Mapping[str, bytes], estimator: Any) -> Any:
    """The estimator that `packed` gave these files for, or `read`, in a process that this one trusts. `estimator` and
    errors as of `load`."""
    manifest, data, rows = _agreeing(files, SENT)
    return _estimator(SENT, manifest, data, rows, estimator, (), signed=True)


def keep(files: Mapping[str, bytes], folder: Path, estimator: Any) -> None:
    """Write to a folder, as this user's, what another process of his has `packed`, if it holds nothing but the types
    that `estimator`, the same one before it was fitted, may be made of. Raises ContestantError."""
    _, data, _ = _agreeing(files, SENT)
    check_archive(data)
    _check_types(with_paths(data), estimator)
    _write(Path(folder), _signed({name: files[name] for name in (FILE, MANIFEST, ROWS) if name in files}))


def read(folder: Path) -> dict[str, bytes]:
    """The files in a folder, by name, for `unpacked`. Raises NotTrainedError."""
    manifest, data, rows = _read(Path(folder))
    files = {FILE: data, MANIFEST: msgspec.json.encode(manifest)}
    return files | {ROWS: rows} if manifest.rows else files


def _agreeing(files: Mapping[str, bytes], where: Path) -> tuple[_Manifest, bytes, bytes]:
    manifest = _manifest(files.get(MANIFEST, b"")[:MAX_MANIFEST], where)
    data, rows = files.get(FILE, b""), files.get(ROWS, b"")
    _check_digests(manifest, data, rows, where)
    return manifest, data, rows


def _recorded(estimator: Any, loaded: Any, X: pl.DataFrame) -> bytes | None:
    try:
        return record(estimator, loaded, X)
    except Exception:  # an estimator may raise anything; what answers no row is kept without rows, and says so later
        return None


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.mkdir(mode=0o700)
    for name, content in files.items():
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
        Where the files are missing, damaged or changed, or hold another contestant or any other type; where these
        versions of the libraries can't read them or answer otherwise; and, unless this user has saved them, where
        their numbers are not sound or can't be checked.
    """
    folder = Path(folder)
    manifest, data, rows = _read(folder)
    return _estimator(folder, manifest, data, rows, estimator, allow_code, signed=_is_signed(manifest))


def _estimator(
    folder: Path,
    manifest: _Manifest,
    data: bytes,
    rows: bytes,
    estimator: Any,
    allow_code: Collection[str],
    *,
    signed: bool,
) -> Any:
    try:
        check_archive(data)
        data = with_paths(data)
        unchecked = frozenset[str]() if signed else unchecked_types(data)
        if not unchecked or _is_allowed(manifest, allow_code):
            _check_types(data, estimator)
            loaded = _loaded(data)
            unchecked |= frozenset() if signed else check(loaded)
            if not hasattr(loaded, "predict"):
                raise ContestantError(f"it holds a {type(loaded).__name__}, which predicts nothing")
    except ContestantError as error:
        raise NotTrainedError(f"{folder / FILE}: {error}{_of_others(manifest)}") from None
    except Exception as error:
        said = f"{folder / FILE} cannot be read: {type(error).__name__}: {error}{_of_others(manifest)}"
        raise NotTrainedError(said) from error
    if unchecked and not _is_allowed(manifest, allow_code):
        raise NotTrainedError(_refusal(folder, manifest, unchecked))
    if estimator is not None and type(estimator) not in (type(loaded), type(wrapped(loaded))):
        names = f"{type(wrapped(loaded)).__name__}, and the task describes {type(estimator).__name__}"
        raise NotTrainedError(f"{folder / FILE} holds {names}")
    if remote_code(loaded) - remote_code(estimator):
        raise NotTrainedError(f"{folder / FILE} names a model that runs code of its own, and the task does not")
    if not signed:
        check_references(loaded, allow_code)
    if manifest.rows and _others(manifest):
        _replay(folder, manifest, loaded, rows)
    _give_models(loaded, estimator)
    return loaded


def _loaded(data: bytes) -> Any:
    """What the file holds. That it was written by another version is no news: its answers are compared."""
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        return _skops().loads(data, trusted=_untrusted(data))


def _replay(folder: Path, manifest: _Manifest, loaded: Any, rows: bytes) -> None:
    """Raise NotTrainedError where the estimator answers rows otherwise than it did when it was saved."""
    try:
        other, count = differing(loaded, rows)
    except Exception as error:  # an estimator of other versions may raise anything
        said = f"it can't answer a row: {type(error).__name__}: {error}"
    else:
        if not other:
            return
        said = f"it gives other answers to {other} of {count} training rows than it did"
    raise NotTrainedError(f"the contestant in {folder} can't be used with these versions: {said}{_of_others(manifest)}")


def _others(manifest: _Manifest) -> dict[str, tuple[str, str]]:
    """Of each library that has another version now, both: the one that the contestant was saved with, and today's."""
    now = _versions("catboost" in manifest.versions)
    return {
        name: (saved, now.get(name, "none"))
        for name, saved in manifest.versions.items()
        if name in LIBRARIES and saved != now.get(name)
    }


def _of_others(manifest: _Manifest) -> str:
    others = _others(manifest)
    written = ", ".join(f"{name} {saved}" for name, (saved, _) in others.items())
    here = ", ".join(f"{name} {now}" for name, (_, now) in others.items())
    return f" (it was saved with {written}, and here is {here})" if others else ""


def _give_models(loaded: Any, estimator: Any) -> None:
    """Let prompts ask the models that the task's contestant was given as objects, for which references are saved: to
    open another one by its reference would lose its key, address and budget, and some have none that opens."""
    given = {value.reference: value for value in parts_of(estimator) if isinstance(value, ChatModel)}
    for value in parts_of(loaded) if given else ():
        if isinstance(value, Prompt) and isinstance(value.model, str):
            value.model = given.get(value.model, value.model)


def is_usable(folder: Path, allow_code: Collection[str] = (), estimator: Any = None) -> bool:
    """Whether a saved contestant lies there that `load` would load, as far as can be told without loading it; it is
    loaded, and compared, only where it was saved with other versions."""
    try:
        manifest, data, _ = _read(folder)
        if _others(manifest):
            load(folder, estimator, allow_code)
            return True
        if _is_signed(manifest) or _is_allowed(manifest, allow_code):
            return True
        check_archive(data)
        return not unchecked_types(with_paths(data))
    except Exception:  # a file that is no archive, or holds no description of what is in it
        return False


def _read(folder: Path) -> tuple[_Manifest, bytes, bytes]:
    """The manifest, and the estimator's file and the rows, which agree with it."""
    manifest = _checked_manifest(folder)
    if not (folder / FILE).is_file():
        raise NotTrainedError(f"no saved contestant can be read in {folder}: it has no file {FILE}")
    try:
        data = (folder / FILE).read_bytes()
        rows = _first_bytes(folder / ROWS, MAX_BYTES + 1) if manifest.rows else b""
    except OSError as error:
        raise NotTrainedError(f"no saved contestant can be read in {folder}: {error.strerror}") from None
    _check_digests(manifest, data, rows, folder)
    return manifest, data, rows


def _check_digests(manifest: _Manifest, data: bytes, rows: bytes, folder: Path) -> None:
    for name, content, digest in ((FILE, data, manifest.sha256), (ROWS, rows, manifest.rows)):
        if digest and hashlib.sha256(content).hexdigest() != digest:
            raise NotTrainedError(f"{folder / name} was changed after it was saved")


def _first_bytes(path: Path, count: int) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        return b""
    with path.open("rb") as file:
        return file.read(count)


def _checked_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise NotTrainedError(f"there is no saved contestant in {folder}")
    try:
        return _manifest(_first_bytes(path, MAX_MANIFEST), folder)
    except OSError as error:
        raise NotTrainedError(f"no saved contestant can be read in {folder}: {error.strerror}") from None


def _manifest(data: bytes, folder: Path) -> _Manifest:
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotTrainedError(f"{path} is damaged: {error}") from None
    if not manifest.sha256:
        raise NotTrainedError(f"{path} is damaged: it names no digest")
    if not 1 <= manifest.format <= FORMAT:
        raise NotTrainedError(f"the contestant in {folder} was saved by a later version of kurabe, in another format")
    if not manifest.rows and (others := _of_another_major(manifest)):
        raise NotTrainedError(
            f"the contestant in {folder} was saved with {others}, and no rows that would show whether today's versions"
            " answer alike"
        )
    return manifest


def _of_another_major(manifest: _Manifest) -> str:
    """The libraries whose major version was another: without rows, nothing tells what that changes."""
    others = _others(manifest).items()
    return ", ".join(f"{name} {saved}" for name, (saved, now) in others if saved.split(".")[0] != now.split(".")[0])


def _signed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files, with this user's signature in the manifest."""
    manifest = msgspec.json.decode(files[MANIFEST], type=_Manifest)
    manifest = msgspec.structs.replace(manifest, signature=sign(_digest(manifest)))
    return dict(files) | {MANIFEST: msgspec.json.format(msgspec.json.encode(manifest))}


def _is_signed(manifest: _Manifest) -> bool:
    return is_signed(_digest(manifest), manifest.signature)


def _digest(manifest: _Manifest) -> str:
    """What the signature is of: all that the manifest says."""
    if manifest.format == 1:
        return manifest.sha256
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, signature=""))).hexdigest()


def _is_allowed(manifest: _Manifest, allow_code: Collection[str]) -> bool:
    return is_allowed(f"sha256:{manifest.sha256}", allow_code)


def _refusal(folder: Path, manifest: _Manifest, unchecked: Collection[str]) -> str:
    name = f"sha256:{manifest.sha256}"
    return (
        f"the contestant in {folder} was saved by another user, on another machine or by an earlier version, and kurabe"
        f" can't check what is in it: {', '.join(sorted(unchecked))}. Such a file can crash kurabe, or do worse, so it"
        f" needs your consent: if you trust who saved it, add --allow-code {name} (in Python, allow_code=[{name!r}])"
    )


def _untrusted(data: bytes) -> list[str]:
    return list(_skops().get_untrusted_types(data=data))


def _check_types(data: bytes, estimator: Any) -> None:
    """Raise ContestantError where the data hold a type that is not trusted and no part of the estimator."""
    trusted = trusted_classes() | OF_LIBRARIES | _own_types(estimator)
    refused = [name for name in _untrusted(data) if name not in trusted and not _is_of_sklearn(name)]
    if refused:
        raise ContestantError(f"it holds types that are not trusted: {', '.join(sorted(refused))}")


def _versions(catboost: bool = False) -> dict[str, str]:
    """kurabe's version, and those of the libraries that shape what is saved."""
    names = ["kurabe", *(name for name in LIBRARIES if name != "catboost")]
    if catboost and importlib.util.find_spec("catboost") is not None:
        names.append("catboost")
    return {name: version(name) for name in names}
