"""The time that a run may take."""

import copy
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from kurabe.errors import BudgetExceededError

AGAIN = 1.0  # seconds after which learning that has caught an interruption is interrupted once more


class OutOfTimeError(BudgetExceededError):
    """The minutes of a run, or a contestant's share of them, are used up."""


class Clock:
    """Counts the minutes of a run that begins now. `minutes` None: there is no limit."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._end = None if minutes is None else time.monotonic() + minutes * 60
        self._until = self._end

    def left(self) -> float:
        """Seconds that are left; below 0 where more was taken."""
        return float("inf") if self._until is None else self._until - time.monotonic()

    def check(self) -> None:
        """Raise OutOfTimeError where no time is left."""
        if self.left() < 0:
            which = "" if self._until == self._end else "this contestant's share of "
            raise OutOfTimeError(f"{which}the budget of {self.minutes:g} minutes is used up; run again to go on")

    def share(self, seconds: float) -> Self:
        """The clock of a contestant that may take so many seconds, of those that are left."""
        other = copy.copy(self)
        if self._end is not None and seconds < self.left():
            other._until = time.monotonic() + seconds
        return other

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """End what runs within when the time is up, as Ctrl-C would, where the thread and the system allow it."""
        main = threading.current_thread() is threading.main_thread()
        if self._until is None or not main or not hasattr(signal, "setitimer"):
            yield
            return

        def interrupt(number: int, frame: Any) -> None:
            raise OutOfTimeError(f"its part of the {self.minutes:g} minutes is used up; run again to go on")

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 0.001), AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
