"""A circuit breaker: a provider that fails again and again is left alone for a while."""

import threading

from kurabe.errors import OverloadedError
from kurabe.models.hosted.transport.policy import USUAL, Policy


class Breaker:
    """Counts failures in a row of one provider and key. Times are seconds of a monotonic clock."""

    def __init__(self, policy: Policy = USUAL) -> None:
        self.policy = policy
        self._failures = 0
        self._open_until = 0.0
        self._lock = threading.Lock()

    def check(self, now: float) -> None:
        """Raises OverloadedError while the provider is left alone; after that, one call is let through at a time."""
        if self._failures < self.policy.failures:
            return
        with self._lock:
            if now < self._open_until:
                raise OverloadedError(
                    f"{self._failures} calls in a row failed, so it is left alone for {self._open_until - now:.0f} s",
                    retry_after=self._open_until - now,
                    sent=False,
                )
            self._open_until = now + self.policy.rest

    def succeeded(self) -> None:
        """An answer came, if only to say that the request is wrong."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """The provider failed or could not be reached."""
        with self._lock:
            self._failures += 1
            if self._failures == self.policy.failures:
                self._open_until = now + self.policy.rest
