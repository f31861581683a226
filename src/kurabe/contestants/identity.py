"""What a contestant's answers depend on: its registered name, its revision and the settings that shape an answer.

Neither kurabe's version nor the place of a class counts, so that a release or a moved file makes nobody pay again.
"""

import hashlib
import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kurabe.contestants.base import effective
from kurabe.contestants.registry import CONTESTANTS, HOSTED

PACKAGE = "kurabe"
_NAMES = {listed.where: name for name, listed in CONTESTANTS.items()} | {HOSTED.where: "tune_hosted"}


def described(value: Any) -> Any:
    """A JSON value that is equal for contestants, and settings, which answer alike.

    Of an estimator these are its name, its revision and the settings that differ from their defaults, so that a new
    setting changes nothing for those who don't use it. A class whose defaults or answers change raises its `revision`.
    For an estimator of a package that is its public name; for a class without a package and a `revision`, such as
    one in a notebook, its source stands for the revision.
    """
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, np.generic):
        return described(value.item())
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, np.ndarray):
        return ["array", value.shape, str(value.dtype), hashlib.blake2b(value.tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return ["set", sorted(msgspec.json.encode(described(item)).decode() for item in value)]
    if isinstance(value, Sequence):
        return [described(item) for item in value]
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        values = {field.name: getattr(value, field.name) for field in fields}
        return [
            type(value).__name__,
            {name: described(one) for name, one in values.items() if one != _default(fields, name)},
        ]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "get_params") and not isinstance(value, type):
        return [name_of(type(value)), _revision(type(value)), _settings(value)]
    if callable(value) and hasattr(value, "__qualname__"):
        return [name_of(value), _source(value)]
    if hasattr(value, "reference"):
        return ["model", value.reference]
    if hasattr(value, "__dict__"):
        return [name_of(type(value)), _revision(type(value)), described(vars(value))]
    return repr(value)


def name_of(owner: Any) -> str:
    """The registered name of a class, or `module:object` by the outermost public module that has it.

    >>> from sklearn.linear_model import Ridge
    >>> name_of(Ridge)
    'sklearn.linear_model:Ridge'
    """
    module, name = owner.__module__, owner.__qualname__
    package = module.partition(".")[0]
    if package == PACKAGE:
        where = f"{module.removeprefix('kurabe.contestants.')}:{name}"
        return _NAMES.get(where, f"{PACKAGE}:{name}")
    parts = module.split(".")
    for end in range(1, len(parts)):
        outer = importlib.import_module(".".join(parts[:end]))
        if getattr(outer, name, None) is owner:
            return f"{'.'.join(parts[:end])}:{name}"
    return f"{module}:{name}"


def _revision(owner: type) -> Any:
    revision = getattr(owner, "revision", None)
    if isinstance(revision, int):
        return revision
    package = importlib.import_module(owner.__module__.partition(".")[0])
    return None if package.__name__ == PACKAGE or hasattr(package, "__version__") else _source(owner)


def _settings(estimator: Any) -> dict[str, Any]:
    parameters = inspect.signature(type(estimator)).parameters
    settings = {}
    for name, value in effective(estimator.get_params(deep=False), getattr(estimator, "no_effect", ())).items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        one = described(value)
        if default is inspect.Parameter.empty or one != described(default):
            settings[name] = one
    return settings


def _default(fields: Sequence[msgspec.structs.FieldInfo], name: str) -> Any:
    (field,) = (one for one in fields if one.name == name)
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def _source(value: Any) -> str:
    try:
        return hashlib.blake2b(inspect.getsource(value).encode()).hexdigest()
    except (OSError, TypeError):
        return ""
