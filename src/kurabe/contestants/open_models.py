"""The models that contestants have open, handed to whoever asks one."""

import threading
from typing import Any, Self

from kurabe.models.base import ChatModel
from kurabe.models.hosted.transport.budget import Budget
from kurabe.models.reference import is_local


class OpenModels:
    """Opens each model once, for all who ask for it; threads may share it. Use as a context manager.

    Hosted models stay open until the end, so that those who ask one at the same time share its limits. A local model
    takes memory, so it is closed before another one is opened.

    Parameters
    ----------
    budget
        What calls of hosted models may cost together. None: as much as they cost.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], ChatModel] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, reference: str, options: dict[str, Any] | None = None) -> ChatModel:
        """The open model of this reference and options. Raises ModelError."""
        name = reference, repr(sorted((options or {}).items()))
        with self._lock:
            if name not in self._open:
                if is_local(reference):
                    self._close(local=True)
                self._open[name] = _opened(reference, options, self._budget)
            return self._open[name]

    def close_local(self) -> None:
        """Give the memory of the local model back."""
        with self._lock:
            self._close(local=True)

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            self._close(local=False)

    def _close(self, *, local: bool) -> None:
        for name in [name for name in self._open if not local or is_local(name[0])]:
            self._open.pop(name).close()


def _opened(reference: str, options: dict[str, Any] | None, budget: Budget | None) -> ChatModel:
    from kurabe.models import open_model

    given = dict(options or {})
    if budget is not None and not is_local(reference):
        given["budget"] = budget
    return open_model(reference, **given)
