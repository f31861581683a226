"""What a contestant's answers depend on: its registered name, its revision and the settings that shape an answer.

Neither kurabe's version nor the place of a class counts, so that a release or a moved file makes nobody pay again.
"""

import functools
import hashlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kurabe.contestants.base import effective
from kurabe.contestants.code import held_by, text_of_code
from kurabe.contestants.registry import CONTESTANTS, HOSTED

PACKAGE = "kurabe"
_ALWAYS_THERE = {PACKAGE, *sys.stdlib_module_names} - {"__main__"}
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
        if value.dtype.hasobject:  # its bytes are places in memory
            return ["array", value.shape, described(value.tolist())]
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
    if isinstance(value, functools.partial):
        return ["partial", *map(described, (value.func, value.args, value.keywords))]
    if callable(value) and hasattr(value, "__qualname__"):
        held = held_by(value)
        return [name_of(value), _text_of(value), *([described(held)] if held else [])]
    if hasattr(value, "reference"):
        return ["model", value.reference]
    if _is_distribution(value):
        return ["distribution", value.dist.name, described(value.args), described(value.kwds)]
    if getattr(value, "__dict__", None):
        return [name_of(type(value)), _revision(type(value)), described(vars(value))]
    return _kept_by(value)


def _is_distribution(value: Any) -> bool:
    """Whether a value is a distribution of scipy with its parameters; it holds a generator of random numbers too."""
    return hasattr(value, "dist") and hasattr(value, "args") and hasattr(value, "kwds")


def _kept_by(value: Any) -> Any:
    """What an object is made of that shows no attributes: what it says of itself unless that is its place in memory,
    else what it would be copied by."""
    text = repr(value)
    if " at 0x" not in text:
        return text
    try:
        _, *parts = value.__reduce_ex__(2)
    except Exception:  # it may be anybody's, and can't be copied
        return text
    return [name_of(type(value)), [described(part) for part in parts if part is not None]]


def name_of(owner: Any) -> str:
    """The registered name of a class, or `module:object` by the outermost public module that has it.

    >>> from sklearn.linear_model import Ridge
    >>> name_of(Ridge)
    'sklearn.linear_model:Ridge'
    """
    module, name = owner.__module__ or "builtins", owner.__qualname__
    package = module.partition(".")[0]
    if package == PACKAGE:
        where = f"{module.removeprefix('kurabe.contestants.')}:{name}"
        return _NAMES.get(where, f"{PACKAGE}:{name}")
    parts = module.split(".")
    for end in range(1, len(parts)):
        outer = ".".join(parts[:end])
        if getattr(sys.modules.get(outer), name, None) is owner:
            return f"{outer}:{name}"
    return f"{module}:{name}"


def _revision(owner: type) -> Any:
    """What is raised, or changes, where a class answers otherwise: its `revision`; and the text of one that is edited
    and has none of its own, such as a subclass in a notebook."""
    revision = getattr(owner, "revision", None)
    known = revision if isinstance(revision, int) else None
    if _is_released(owner) or any("revision" in vars(one) for one in owner.__mro__ if not _is_released(one)):
        return known
    return _text_of(owner) if known is None else [known, _text_of(owner)]


def _is_released(owner: Any) -> bool:
    """Whether a class or function is Python's own, or of a package with a version."""
    package = (owner.__module__ or "builtins").partition(".")[0]
    return package in _ALWAYS_THERE or hasattr(sys.modules.get(package), "__version__")


def _text_of(owner: Any) -> str:
    """A digest of the text of a class or function that is edited; "" of any other."""
    text = "" if _is_released(owner) else text_of_code(owner)
    return hashlib.blake2b(text.encode("utf-8", "replace")).hexdigest() if text else ""


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
