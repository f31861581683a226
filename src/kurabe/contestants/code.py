"""What code of the user's own does, as its text tells: a class of a notebook is edited between runs, and answers that
it gave before are not those of now."""

import ast
import inspect
import linecache
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any


def text_of_code(owner: Any) -> str:
    """The text of a class or function, and of what it calls that is defined beside it, in the same package.

    Parameters
    ----------
    owner : class or function
        Of a builtin or a compiled one the text is "".

    Returns
    -------
    str
        Where there is no source, as in a shell, what it was compiled to.
    """
    package, texts, seen = _package(owner), [], {id(owner)}
    waiting = [owner]
    while waiting:
        one = waiting.pop(0)
        if text := _text(one):
            texts.append(text)
        for other in _named(one):
            if _package(other) == package and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return "\n".join(texts)


def held_by(function: Any) -> list[Any]:
    """What a function holds beside its text: the values of its closure, its defaults, and the object of a method."""
    function, owners = (function.__func__, [function.__self__]) if inspect.ismethod(function) else (function, [])
    if inspect.isbuiltin(function) and not inspect.ismodule(function.__self__) and function.__self__ is not None:
        owners = [function.__self__]
    if not isinstance(function, types.FunctionType):
        return owners
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_full(cell)]
    # `super()` holds the function's own class, and a function that calls itself holds itself.
    values = [one for one in cells if not isinstance(one, type) and one is not function]
    return [*owners, *values, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]


def _package(owner: Any) -> str:
    return str(getattr(owner, "__module__", None) or "").partition(".")[0]


def _is_full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises where nothing was assigned yet
    except ValueError:
        return False
    return True


def _text(owner: Any) -> str:
    """The text of one class or function alone."""
    try:
        text = inspect.getsource(owner)  # of a lambda the whole line, with others on it
        return text if owner.__name__ != "<lambda>" else text + repr(_compiled(owner.__code__))
    except (OSError, TypeError):
        if isinstance(owner, type):
            return _text_of_class(owner)
    return repr(_compiled(owner.__code__)) if isinstance(owner, types.FunctionType) else ""


def _text_of_class(owner: type) -> str:
    """The text of a class of a notebook, where `inspect` looks for a file: it stands in the cell of its methods."""
    functions = list(_functions(owner))
    for file in {function.__code__.co_filename: None for function in functions}:
        cell = "".join(linecache.getlines(file))
        with suppress(SyntaxError, ValueError):
            nodes = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ClassDef)]
            if text := next(
                (ast.get_source_segment(cell, node) for node in nodes if node.name == owner.__name__), None
            ):
                return text
    return "\n".join(map(_text, functions))


def _functions(owner: Any) -> Iterator[types.FunctionType]:
    """A function itself, or the methods of a class that are its own."""
    if isinstance(owner, types.FunctionType):
        yield owner
        return
    for value in vars(owner).values() if isinstance(owner, type) else ():
        for one in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
            if isinstance(one, types.FunctionType):
                yield one


def _named(owner: Any) -> Iterator[Any]:
    """The classes and functions that a class or function names, and the bases of a class."""
    if isinstance(owner, type):
        yield from owner.__mro__[1:]
    for function in _functions(owner):
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, type | types.FunctionType):
                yield value


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _compiled(code: types.CodeType) -> tuple[Any, ...]:
    constants = [_compiled(one) if isinstance(one, types.CodeType) else one for one in code.co_consts]
    plain = (sorted(map(repr, one)) if isinstance(one, frozenset) else one for one in constants)
    return code.co_code.hex(), code.co_names, *plain
