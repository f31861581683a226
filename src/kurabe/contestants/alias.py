"""The names that classes have in saved contestants, wherever their modules lie."""

from typing import TypeVar

_Class = TypeVar("_Class", bound=type)
CLASSES: dict[str, type] = {}
"""Of each name its class, once the class's module is imported."""


def saved(cls: _Class) -> _Class:
    """Let saved contestants hold objects of a class, under the class's name; contestants are registered otherwise.

    Raises TypeError where another class has that name.
    """
    other = CLASSES.setdefault(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(f"saved contestants know two classes as {cls.__name__}: {other!r} and {cls!r}")
    CLASSES[cls.__name__] = cls
    return cls
