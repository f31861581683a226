"""Code of others that a task file names: modules, programs and models with code of their own.

None of it is run without the user's consent, which a task file cannot give. To import a module is to run it, and an
object is called only if it is a class with `fit` and `predict`: `os:system` is refused even where `os` is allowed.
"""

import importlib
import json
import os
import re
import shlex
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from sklearn.base import BaseEstimator, clone

from kurabe.errors import ContestantError, InputError, ModelError, missing
from kurabe.models.reference import parse_reference, shown_reference
from kurabe.tasks.file import contestant_entry
from kurabe.tasks.spec import ContestantSpec

VARIABLE = "KURABE_ALLOW_CODE"
_REMOTE = "remote_code"
_NAME = re.compile(r"(?!\d)\w+(\.(?!\d)\w+)*:(?!\d)\w+(\.(?!\d)\w+)*")
_PROGRAMS = {"autogluon": "python"}
"""The contestants that start a program, with the setting that names it."""


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The user's settings file."""

    allow_code: tuple[str, ...] = ()


def own_estimator(spec: ContestantSpec, allow_code: Collection[str] = ()) -> Any:
    """The estimator behind `module:object`: a class with `fit` and `predict` or an instance of one.

    Parameters
    ----------
    spec
        Its `name` is `module:object`; its settings go to the class, or to the instance by `set_params`.
    allow_code
        Modules that the user allows to be imported, with what lies below them, beside those of the user's settings.
        Estimators of scikit-learn need no consent.

    Raises
    ------
    ContestantError
        Where the module is not allowed or cannot be imported, or the object is not an estimator.
    """
    if not _NAME.fullmatch(spec.name):
        raise ContestantError(f"{spec.name!r} is not of the form module:object")
    module, _, path = spec.name.partition(":")
    allowed = _covers(allow_code, module) or _covers(_users_own(), module)
    if not allowed and not _is_scikit_learn(module, spec.settings):
        raise ContestantError(_refusal(spec.name, f"code of the module {module!r}", module))
    found = _resolve(module, path)
    lacking = [method for method in ("fit", "predict") if not callable(getattr(found, method, None))]
    if lacking:
        kind = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ContestantError(
            f"{spec.name} is not an estimator: {kind} has no {' and no '.join(lacking)}."
            " Name a class with fit and predict, or an instance of one"
        )
    if not allowed and not _defined_in_scikit_learn(found):
        raise ContestantError(_refusal(spec.name, f"code of the module {module!r}", module))
    return _made(spec, found)


def is_allowed(name: str, allow_code: Collection[str]) -> bool:
    """Whether the user allows this, by `allow_code`, the environment or the settings file."""
    return name in allow_code or name in _users_own()


def check_consent(spec: ContestantSpec, allow_code: Collection[str]) -> None:
    """Raise ContestantError where a contestant of a task file would run a program, or code that comes with a model, or
    send a key elsewhere, without the user's consent; `own_estimator` asks for that to import a module."""
    check_references({spec.name: spec.settings}, allow_code)
    for program in _programs(spec):
        if not is_allowed(program, allow_code):
            raise ContestantError(_refusal(spec.name, f"the program {program!r}", program))


def _programs(spec: ContestantSpec) -> list[str]:
    """The programs that a contestant's settings name; of a sweep those of the contestant, and those that it tries."""
    if spec.name != "sweep":
        named = [spec.settings.get(_PROGRAMS.get(spec.name, ""))]
        return [one for one in named if isinstance(one, str)]
    swept, over = spec.settings.get("contestant"), spec.settings.get("over")
    if not isinstance(swept, str | dict):
        return []
    entry = contestant_entry(swept, "sweep: contestant")
    tried = over.get(_PROGRAMS.get(entry.name, "")) if isinstance(over, dict) else None
    tried = tried if isinstance(tried, list | tuple) else ()  # anything else is refused where the sweep is made
    return _programs(entry) + [one for one in tried if isinstance(one, str)]


def check_references(values: Any, allow_code: Collection[str]) -> None:
    """Raise ContestantError where a model that a task file names would run code of its own, or a key would go to an
    address of the file's choice, without the user's consent.

    `values`: settings, with references anywhere in them. `?remote_code=NAME` in a reference is the consent of who wrote
    the file; that of the user is NAME among `allow_code` or in the user's settings. That to an address is
    `https://host` among the same.
    """
    for reference, name in _remote(values):
        if not is_allowed(name, allow_code):
            raise ContestantError(
                f"{reference!r} would run code that comes with the model, which needs your consent. If you trust it,"
                f" add --allow-code {shlex.quote(name)} (in Python, allow_code=[{name!r}])"
            )
    _check_destinations(values, allow_code)
    _check_paths(values)


def _check_destinations(values: Any, allow_code: Collection[str]) -> None:
    """Raise ContestantError where a key would go to an address that the user has not allowed."""
    mappings, texts = _parts(values)
    if not any(":" in text for text in texts):
        return
    from kurabe.models.hosted.destinations import covers, foreign_origins

    addresses = {one for found in mappings for one in _texts(found.get("base_url"))}
    for text in sorted(texts):
        for place in foreign_origins(text, addresses):
            if not any(covers(one, place) for one in (*allow_code, *_users_own())):
                raise ContestantError(
                    f"{shown_reference(text)!r} would send your key to {place}, which needs your consent. If you trust"
                    f" it, add --allow-code {place} (in Python, allow_code=[{place!r}])"
                )


def _check_paths(values: Any) -> None:
    """Raise ContestantError where a task file says which files kurabe opens for its own use."""
    for found in _parts(values)[0]:
        for options in (found.get("options"), *_listed(found.get("options"))):
            if isinstance(options, Mapping) and not isinstance(options.get("cache", False), bool | None):
                raise ContestantError(
                    "options: cache: a task file says true or false; only Python may name a file, as in"
                    " open_model(…, cache=PATH)"
                )
        named = (found.get(name) for name in ("tune", "sweep", "over"))
        if any(isinstance(settings, Mapping) and "folder" in settings for settings in named):
            raise ContestantError("folder cannot be set in a task file: answers are kept in .kurabe beside it")


def _parts(values: Any) -> tuple[list[Mapping[Any, Any]], set[str]]:
    """The mappings and the texts among some values and in what they hold."""
    mappings: list[Mapping[Any, Any]] = []
    texts: set[str] = set()
    stack, seen = [values], set[int]()
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            texts.add(value)
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Mapping):
                mappings.append(value)
                stack += [*value, *value.values()]
            elif isinstance(value, list | tuple | set | frozenset):
                stack += value
            elif isinstance(value, BaseEstimator):
                mappings.append(vars(value))
                stack += vars(value).values()
    return mappings, texts


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _texts(value: Any) -> list[str]:
    return [one for one in (value, *_listed(value)) if isinstance(one, str)]


def remote_code(values: Any) -> set[str]:
    """The references among some values, and in what they hold, that have code of a model's own run."""
    return {reference for reference, _ in _remote(values)}


def _remote(values: Any) -> set[tuple[str, str]]:
    """(reference, the name that its `?remote_code=` gives) of each."""
    return {(text, name) for text in _parts(values)[1] for name in _remote_names(text)}


def _remote_names(text: str) -> set[str]:
    """What `?remote_code=` says in a reference, read as what opens models reads it, and in each link of a chain.

    A text that cannot be read as a reference opens no model.
    """
    names: set[str] = set()
    if _REMOTE not in text:  # options are written by their names: most texts need no closer look
        return names
    for link in (text, *text.split(" | ")):
        try:
            options = parse_reference(link.strip()).options
        except ModelError:
            continue
        if _REMOTE in options:
            names.add(options[_REMOTE])
    return names


def settings_file() -> Path:
    """Where the user's settings are: `settings.toml` in the user's configuration folder."""
    from platformdirs import user_config_path

    return user_config_path("kurabe") / "settings.toml"


def _covers(modules: Collection[str], module: str) -> bool:
    """Whether a module is one of these or lies below one of them."""
    return any(module == one or module.startswith(f"{one}.") for one in modules)


def _users_own() -> list[str]:
    """The modules that the user's environment and settings file allow. Raises InputError if the file is not valid."""
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    path = settings_file()
    try:
        settings = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _Settings)
    except (FileNotFoundError, NotADirectoryError):
        return [name for name in named if name]
    except (OSError, ValueError) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise InputError(f'{path} cannot be read: {error}. It is TOML, such as allow_code = ["my_package"]') from None
    return [name for name in (*named, *settings.allow_code) if name]


def _refusal(name: str, what: str, allow: str) -> str:
    quoted = shlex.quote(allow)
    return (
        f"{name} would run {what}, which needs your consent. If you trust it, add"
        f" --allow-code {quoted} (in Python, allow_code=[{allow!r}]). To allow it for every task, set"
        f" {VARIABLE}={quoted}, or write allow_code = [{json.dumps(allow)}] in {settings_file()}"
    )


def _is_scikit_learn(module: str, settings: dict[str, Any]) -> bool:
    """Whether scikit-learn's public modules are meant. A `memory` is not allowed: joblib unpickles what is in it."""
    parts = module.split(".")
    hidden = any(part.startswith("_") or part in ("tests", "externals", "conftest") for part in parts)
    return parts[0] == "sklearn" and not hidden and "memory" not in settings


def _defined_in_scikit_learn(found: Any) -> bool:
    cls = found if isinstance(found, type) else type(found)
    return issubclass(cls, BaseEstimator) and cls.__module__.partition(".")[0] == "sklearn"


def _resolve(module: str, path: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ContestantError(
            f"{module}:{path}: {error}. The module must be importable: install it, or set PYTHONPATH to its folder"
        ) from None
    except Exception as error:  # a module may raise anything
        raise ContestantError(f"{module}:{path}: importing {module} failed: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")] if hasattr(found, "__dict__") else []
            raise ContestantError(f"{module}: {missing('object', part, names)}")
        found = getattr(found, part)
    return found


def _made(spec: ContestantSpec, found: Any) -> Any:
    if isinstance(found, type):
        try:
            return found(**spec.settings)
        except Exception as error:  # a class may raise anything
            raise ContestantError(f"{spec.name} cannot be made: {error}") from None
    if not hasattr(found, "get_params"):
        if spec.settings:
            raise ContestantError(f"{spec.name} takes no settings: it has no set_params")
        return found
    estimator = clone(found)
    for setting in spec.settings:
        if setting not in estimator.get_params():
            raise ContestantError(f"{spec.name}: {missing('setting', setting, estimator.get_params(deep=False))}")
    return estimator.set_params(**spec.settings)
