"""kurabe: a contest side by side.

Baselines, trees, language models and people on the same rows under the same metric; which differences are real, what
each costs and how fast it is. Everything here is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kurabe.api import Board, Task, Trained
    from kurabe.contestants.base import Contestant, Prediction
    from kurabe.contestants.checks import check_contestant
    from kurabe.errors import KurabeError
    from kurabe.models import open_model
    from kurabe.models.pull import pull

__version__ = "0.1.0"

__all__ = [
    "Board",
    "Contestant",
    "KurabeError",
    "Prediction",
    "Task",
    "Trained",
    "check_contestant",
    "open_model",
    "pull",
]

_HOMES = {
    "Board": "kurabe.api",
    "Contestant": "kurabe.contestants.base",
    "KurabeError": "kurabe.errors",
    "Prediction": "kurabe.contestants.base",
    "Task": "kurabe.api",
    "Trained": "kurabe.api",
    "check_contestant": "kurabe.contestants.checks",
    "open_model": "kurabe.models",
    "pull": "kurabe.models.pull",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kurabe' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
