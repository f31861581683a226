"""What other packages add to kurabe, by entry points of their distributions.

A package states them in its pyproject.toml, such as `[project.entry-points."kurabe.contestants"]` with
`nearest_price = "my_package.nearest:NearestPrice"`. Nothing is imported before it is asked for by its name.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Group = Literal["contestants", "metrics", "providers", "wire_formats", "engines", "embedders", "formats", "commands"]


def plugin_names(group: Group, *, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """The names that other packages add to a group, but for those that kurabe itself has."""
    return tuple(sorted(set(_points(group)) - set(taken)))


def plugin(group: Group, name: str) -> Any:
    """What a package adds to a group under a name; None where none does.

    Raises PluginError where it can't be imported, or several packages add that name.
    """
    points = _points(group).get(name, ())
    owners = [point.dist.name if point.dist is not None else point.value for point in points]
    if len(points) > 1:
        from kurabe.errors import PluginError

        raise PluginError(
            f"{name!r} comes with several packages, {', '.join(owners)}; keep one: pip uninstall {owners[-1]}"
        )
    for point, owner in zip(points, owners, strict=True):
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            from kurabe.errors import PluginError

            raise PluginError(
                f"{name!r} comes with the package {owner}, which cannot be imported ({type(error).__name__}: {error});"
                f" mend or uninstall it: pip uninstall {owner}"
            ) from error
    return None


def loaded(path: str) -> Any:
    """The object that `module:name` names; its module is imported."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@cache
def _points(group: Group) -> "dict[str, tuple[EntryPoint, ...]]":
    if not any(map(_states_any, sys.path)):
        return {}
    from importlib.metadata import entry_points  # takes a quarter of what help takes

    points = entry_points(group=f"kurabe.{group}")
    return {point.name: tuple(points.select(name=point.name)) for point in points}


@cache
def _states_any(folder: str) -> bool:
    """Whether a package that is installed in a folder adds anything."""
    try:
        installed = [entry.path for entry in os.scandir(folder or ".") if entry.name.endswith(".dist-info")]
    except OSError:  # an archive, or nothing
        return False
    for path in installed:
        with suppress(OSError), open(os.path.join(path, "entry_points.txt"), "rb") as file:
            if b"[kurabe." in file.read():
                return True
    return False
