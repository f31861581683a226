"""What a prediction is identified by: digests of the contestant, of the data it learned from, and of the row."""

import hashlib
import importlib
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from kurabe import __version__
from kurabe.contestants.base import effective
from kurabe.tasks.task import Part


def digest(*parts: bytes | str) -> bytes:
    """16 bytes of BLAKE2b over the parts, each with its length before it."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.digest()


def input_digests(X: pl.DataFrame) -> list[bytes]:
    """One digest a row of `X`; rows with the same values in all columns have the same one."""
    if not X.width:
        return [digest("")] * X.height
    encoded = X.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return [digest(text) for text in encoded]


def part_digest(parts: Iterable[Part | None]) -> bytes:
    """A digest of inputs and targets of the parts, in their order."""
    pieces: list[bytes | str] = []
    for part in parts:
        if part is None:
            pieces.append("none")
        else:
            pieces += [json.dumps(part.X.columns), b"".join(input_digests(part.X)), json.dumps(part.y.tolist())]
    return digest(*pieces)


def estimator_digest(estimator: Any) -> bytes:
    """A digest of an estimator's class and parameters, and of kurabe's version.

    For a class that is not kurabe's own, its source counts too, so that an edited estimator is run anew.
    """
    described = json.dumps(_describe(estimator), sort_keys=True, ensure_ascii=True)
    return digest(__version__, described)


def _describe(value: Any) -> Any:
    """A JSON value that is equal for equal parameters."""
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, np.generic):
        return _describe(value.item())
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, np.ndarray):
        return ["array", value.shape, str(value.dtype), hashlib.blake2b(value.tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): _describe(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(_describe(item)) for item in value)]
    if isinstance(value, Sequence):
        return [_describe(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return [type(value).__name__, _describe(msgspec.to_builtins(value))]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "get_params"):
        params = effective(value.get_params(deep=False), getattr(value, "no_effect", ()))
        return [_class_of(value), _describe(params)]
    if callable(value) and hasattr(value, "__qualname__"):
        return [f"{value.__module__}.{value.__qualname__}", _source(value)]
    if hasattr(value, "reference"):
        return ["model", value.reference]
    if hasattr(value, "__dict__"):
        return [_class_of(value), _describe(vars(value))]
    return repr(value)


def _class_of(value: Any) -> list[str]:
    owner = type(value)
    name = f"{owner.__module__}.{owner.__qualname__}"
    package = owner.__module__.partition(".")[0]
    if package == "kurabe":
        return [name]
    version = getattr(importlib.import_module(package), "__version__", None)
    return [name, str(version) if version else _source(owner)]


def _source(value: Any) -> str:
    try:
        return hashlib.blake2b(inspect.getsource(value).encode()).hexdigest()
    except (OSError, TypeError):
        return ""
