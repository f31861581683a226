"""What saved contestants call kurabe's own classes: by registered name, so that a moved file changes nothing.

skops writes a class's module and name. Here the module becomes `kurabe` and the name that of the contestant in the
registry, or of a class that is `saved` (`alias.py`); when a file is read, both become those of today's class.
"""

import importlib
import io
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from typing import Any, Final
from zipfile import ZipFile

from kurabe.contestants import alias
from kurabe.contestants.former import SAVED
from kurabe.contestants.identity import PACKAGE
from kurabe.contestants.registry import CONTESTANTS, HOSTED
from kurabe.errors import ContestantError
from kurabe.tasks.spec import Example, Prompt

SCHEMA: Final = "schema.json"
# In a JSON text a quotation mark inside a string has a backslash before it, so this finds nothing in the user's data.
_CLASS: Final = re.compile(
    rb'"__class__": ?"(?P<name>[\w.]+)",(?P<space>\s*)'
    rb'"__module__": ?"(?P<module>kurabe(?:\.[\w.]+)?|(?:sklearn\._loss\.)?_loss)"'
)
_BELOW: Final = f"{PACKAGE}.contestants."
_TASKS: Final = {"spec.Prompt": Prompt, "spec.Example": Example}
_NEVER: Final = {"autogluon"}  # its models are pickles
_WHERE: Final = {name: listed.where for name, listed in CONTESTANTS.items() if name not in _NEVER} | {
    "tune_hosted": HOSTED.where
}
_CONTESTANTS: Final = {_BELOW + where.replace(":", "."): name for name, where in _WHERE.items()}


def with_names(data: bytes) -> bytes:
    """The file of skops in which registered names stand for the paths of kurabe's classes."""
    return _renamed(data, lambda path, _: f"{PACKAGE}.{name}" if (name := _name_of(path)) else path)


def with_paths(data: bytes) -> bytes:
    """The file of skops with the paths that kurabe's classes have today, whichever release has written it.

    Raises ContestantError for a name that is not registered.
    """
    return _renamed(data, _path_of)


def trusted() -> frozenset[str]:
    """The paths of kurabe's classes that a saved contestant may hold, of the modules that are imported so far."""
    classes = (*alias.CLASSES.values(), *_TASKS.values())
    return frozenset(_CONTESTANTS) | {f"{cls.__module__}.{cls.__qualname__}" for cls in classes}


def _name_of(path: str) -> str | None:
    if (name := _CONTESTANTS.get(path)) is not None:
        return name
    classes = alias.CLASSES | _TASKS
    return next((name for name, cls in classes.items() if f"{cls.__module__}.{cls.__qualname__}" == path), None)


def _path_of(path: str, names: Collection[str]) -> str:
    """Today's path of a class. `names`: all paths in the file, among them those of the contestants whose modules
    register what else is in it."""
    if not path.startswith(f"{PACKAGE}."):
        return _loss_of_sklearn(path)
    name = _registered(path)
    if name is None:
        return path
    if name in _WHERE:
        return _BELOW + _WHERE[name].replace(":", ".")
    known = alias.CLASSES | _TASKS
    if name not in known:
        for one in {_registered(other) for other in names} & _WHERE.keys():
            _import(one)
        known = alias.CLASSES | _TASKS
    if name not in known:
        for one in _WHERE:
            _import(one)
        known = alias.CLASSES | _TASKS
    if name not in known:
        raise ContestantError(f"it holds {name!r}, which this version of kurabe does not know")
    return f"{known[name].__module__}.{known[name].__qualname__}"


def _loss_of_sklearn(path: str) -> str:
    """scikit-learn's compiled losses, which are in the module `_loss` up to its release 1.8."""
    from sklearn._loss import _loss

    name = path.rpartition(".")[2]
    return f"{getattr(_loss, name).__module__}.{name}" if hasattr(_loss, name) else path


def _registered(path: str) -> str | None:
    module, _, name = path.partition(".")
    return SAVED.get(path) or (name if module == PACKAGE and not name.startswith(("contestants.", "tasks.")) else None)


@cache
def _import(name: str) -> None:
    with suppress(ImportError):  # of a package that is not installed
        importlib.import_module(_BELOW + _WHERE[name].partition(":")[0])


def _renamed(data: bytes, rename: Callable[[str, Collection[str]], str]) -> bytes:
    with ZipFile(io.BytesIO(data)) as archive:
        schema = archive.read(SCHEMA)
    paths = {_path_in(match) for match in _CLASS.finditer(schema)}
    renamed = {path: rename(path, paths) for path in sorted(paths)}
    if all(path == other for path, other in renamed.items()):
        return data

    def replaced(match: re.Match[bytes]) -> bytes:
        module, _, name = renamed[_path_in(match)].rpartition(".")
        return f'"__class__": "{name}",{match["space"].decode()}"__module__": "{module}"'.encode()

    return _with_schema(data, _CLASS.sub(replaced, schema))


def _path_in(match: re.Match[bytes]) -> str:
    return f"{match['module'].decode()}.{match['name'].decode()}"


def _with_schema(data: bytes, schema: bytes) -> bytes:
    file = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as archive, ZipFile(file, "w") as other:
        for member in archive.infolist():
            content: Any = schema if member.filename == SCHEMA else archive.read(member)
            other.writestr(member.filename, content)
    return file.getvalue()
