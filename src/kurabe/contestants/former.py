"""What kurabe 0.1.0 knew contestants by, so that answers in its journals are found and not asked for again.

There kurabe's version, the path of the class and all settings counted, and of an estimator of another package that
package's version. Nothing here changes any more: it describes what was. Of a contestant that answers otherwise by now,
by a later `revision` or a setting that there was not, nothing is found.
"""

import functools
import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kurabe.contestants.base import effective
from kurabe.contestants.code import held_by
from kurabe.contestants.identity import name_of

VERSION = "0.1.0"
_LEARNED = ("kind", "metric", "random_state")
_ASKED = ("kind", "prompt", "target", "random_state")
_WORDS = ("system", "user", "prefill", "max_tokens")
CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "constant": ("constant.Constant", ("strategy", "kind", "metric")),
    "linear_features": ("linear.LinearFeatures", ("alpha", "C", "log", *_LEARNED)),
    "bag_of_words": ("linear.BagOfWords", ("words", "min_df", "alpha", "C", "log", *_LEARNED)),
    "tfidf_ridge": ("linear.TfidfRidge", ("alpha", "min_df", "max_features", "log", *_LEARNED)),
    "tfidf_logistic": ("linear.TfidfLogistic", ("C", "min_df", "max_features", *_LEARNED)),
    "random_forest": (
        "trees.RandomForest",
        ("trees", "min_samples_leaf", "max_features", "embeddings", "log", *_LEARNED),
    ),
    "gradient_boosting": (
        "trees.GradientBoosting",
        ("learning_rate", "leaves", "min_samples_leaf", "rounds", "stop_after", "embeddings", "log", *_LEARNED),
    ),
    "embeddings_ridge": ("linear.EmbeddingsRidge", ("alpha", "C", "embeddings", "log", *_LEARNED)),
    "nearest_neighbours": (
        "neighbours.NearestNeighbours",
        ("neighbours", "sharpness", "embeddings", "log", *_LEARNED),
    ),
    "stacked_boosting": (
        "stack.StackedBoosting",
        ("rows", "boosters", "rounds", "learning_rate", "trees", "log", *_LEARNED),
    ),
    "blend": ("blend.Blend", ("members", "folds", *_LEARNED)),
    "catboost": ("catboost.CatBoost", ("rounds", "learning_rate", "depth", "log", *_LEARNED)),
    "autogluon": ("autogluon.AutoGluon", ("minutes", "preset", "kind", "metric")),
    "prompt": (
        "prompt.Prompt",
        (
            "model", "options", "examples", "choose", *_WORDS, "temperature", "decode", "calibrate", "max_input_chars",
            *_ASKED,
        ),
    ),
    "tune": (
        "tune.Tune",
        (
            "model", "method", "head", "rank", "alpha", "dropout", "target_modules", "learning_rate", "schedule",
            "warmup", "weight_decay", "clip", "epochs", "max_steps", "step_tokens", "micro_tokens", "context",
            "checkpointing", "evaluations", "patience", *_WORDS, "decode", "max_input_chars", "general", "folder",
            "metric", *_ASKED,
        ),
    ),
    "sweep": (
        "sweep.Sweep",
        (
            "contestant", "over", "rows", "trials", "minutes", "usd", "folder", "kind", "metric", "prompt", "target",
            "random_state",
        ),
    ),
    "human": ("human.Human", ("answers", "rows", "kind")),
    "tune_hosted": (
        "tune_hosted.TuneHosted",
        (
            "model", "options", "epochs", "batch_size", "learning_rate_multiplier", "learning_rate", "rank", "seed",
            "deployment", "bucket", "role", "account", *_WORDS, "decode", "max_input_chars", "general", *_ASKED,
        ),
    ),
    "kurabe:ColumnEncoder": ("encoding.ColumnEncoder", ("text", "topics", "one_hot", "fill", "random_state")),
}  # fmt: skip
"""Of each class its path below `kurabe.contestants` and the settings that counted."""
_UNSAVED = ("autogluon", "kurabe:ColumnEncoder")
_SAVED: Mapping[str, str] = {
    "boosters": "Booster",
    "catboost": "CatBoostModel Codes",
    "column_boosting": "ColumnFeatures",
    "encoding": "ColumnEncoder",
    "features": "Columns Dense Embeddings Measures NGrams Quantities Scaled TextStatistics Topics",
    "neighbours": "Similarity",
    "plain": "Texts",
    "stack": "AllViews Directions",
    "target": "Scale",
    "trees": "Booster",
}
SAVED: Mapping[str, str] = {
    **{f"kurabe.contestants.{path}": name for name, (path, _) in CLASSES.items() if name not in _UNSAVED},
    **{f"kurabe.contestants.{module}.{name}": name for module, names in _SAVED.items() for name in names.split()},
    **{f"kurabe.tasks.spec.{name}": f"spec.{name}" for name in ("Prompt", "Example")},
}
"""The paths that saved contestants hold in place of names, as skops writes them, and the names that they have now."""
STRUCTS: Mapping[str, tuple[str, ...]] = {
    "Prompt": ("system", "user", "prefill", "examples"),
    "Example": ("input", "output"),
    "Range": ("low", "high", "log"),
}
LATER = ("options.policy",)
"""Options that came later and shape no answer."""
RELEASES: Mapping[str, tuple[str, ...]] = {
    "sklearn": ("1.9.1", "1.9.0", "1.8.0", "1.7.2", "1.7.1", "1.7.0", "1.6.1", "1.6.0", "1.5.2", "1.5.1", "1.5.0"),
}
"""Releases that answers may have been made with, beside the one that is installed."""


def formerly(estimator: Any) -> list[str]:
    """The descriptions, as JSON, under which answers of such an estimator may have been kept; the likeliest first."""
    if not is_unchanged(estimator):
        return []
    inside = [one for one in _inside(estimator) if _is_estimator(one)]
    releases = RELEASES["sklearn"] if any(type(one).__module__.startswith("sklearn.") for one in inside) else ()
    installed = getattr(importlib.import_module("sklearn"), "__version__", "")
    versions = dict.fromkeys((installed, *releases))
    texts = (json.dumps(_described(estimator, one), sort_keys=True, ensure_ascii=True) for one in versions)
    return list(dict.fromkeys(texts))


def is_unchanged(estimator: Any) -> bool:
    """Whether such an estimator answers as it did, and was told from those that answer otherwise."""
    return not any(_is_other(one) for one in _inside(estimator))


def _is_other(value: Any) -> bool:
    if isinstance(value, functools.partial) or (callable(value) and not isinstance(value, type) and held_by(value)):
        return True  # what a function holds did not count
    if not _is_estimator(value) or (listed := CLASSES.get(name_of(type(value)))) is None:
        return False
    later = effective(value.get_params(deep=False), {*getattr(value, "no_effect", ()), *listed[1]})
    defaults = {name: one.default for name, one in inspect.signature(type(value)).parameters.items()}
    return value.revision != 1 or any(setting != defaults.get(name) for name, setting in later.items())


def _is_estimator(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)


def _inside(value: Any) -> Iterator[Any]:
    """A value, and what stands in it or is a setting of it."""
    yield value
    inner: Iterable[Any] = ()
    if isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, dict):
        inner = value.values()
    elif _is_estimator(value):
        inner = value.get_params(deep=False).values()
    for one in inner:
        yield from _inside(one)


def _described(value: Any, sklearn: str) -> Any:
    def inner(one: Any) -> Any:
        return _described(one, sklearn)

    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, np.generic):
        return inner(value.item())
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, np.ndarray):
        return ["array", value.shape, str(value.dtype), hashlib.blake2b(value.tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(inner(item)) for item in value)]
    if isinstance(value, Sequence):
        return [inner(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return [type(value).__name__, inner(_fields(msgspec.to_builtins(value), STRUCTS.get(type(value).__name__)))]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "get_params"):
        name = name_of(type(value))
        params = _fields(value.get_params(deep=False), CLASSES[name][1] if name in CLASSES else None)
        params = effective(params, LATER)
        return [_class_of(type(value), name, sklearn), inner(params)]
    if callable(value) and hasattr(value, "__qualname__"):
        return [f"{value.__module__}.{value.__qualname__}", _source(value)]
    if hasattr(value, "reference"):
        return ["model", value.reference]
    if hasattr(value, "__dict__"):
        return [_class_of(type(value), name_of(type(value)), sklearn), inner(vars(value))]
    return repr(value)


def _fields(values: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    return values if names is None else {name: value for name, value in values.items() if name in names}


def _class_of(owner: type, name: str, sklearn: str) -> list[str]:
    path = f"{owner.__module__}.{owner.__qualname__}"
    package = owner.__module__.partition(".")[0]
    if package == "kurabe":
        return [f"kurabe.contestants.{CLASSES[name][0]}" if name in CLASSES else path]
    if package == "sklearn":
        return [path, sklearn]
    version = getattr(sys.modules.get(package), "__version__", None)
    return [path, str(version) if version else _source(owner)]


def _source(value: Any) -> str:
    try:
        return hashlib.blake2b(inspect.getsource(value).encode()).hexdigest()
    except (OSError, TypeError):
        return ""
