"""Runs a service's acts over the one transport."""

import time
from collections.abc import Callable
from typing import TypeVar

from kurabe.errors import ProviderError, UnreadableAnswerError
from kurabe.models.connect import connect
from kurabe.models.reference import Reference
from kurabe.models.transport import loop
from kurabe.models.transport.client import Client
from kurabe.models.transport.retry import ATTEMPTS, delay, worth_retrying
from kurabe.tuning.hosted.base import Steps

T = TypeVar("T")


class Connection:
    """One provider with one key. `base_url` and `api_key` as in `kurabe.open_model`."""

    def __init__(self, base: Reference, *, base_url: str | None = None, api_key: str | None = None) -> None:
        self.base, self.base_url = base, base_url
        self._clients: dict[tuple[str, bool], Client] = {}
        for again in (True, False):
            opened = connect(base, base_url=base_url, api_key=api_key, attempts=ATTEMPTS if again else 1)
            self._clients["", again] = opened.client

    def __repr__(self) -> str:
        return f"Connection({self.base})"

    def run(self, steps: Steps[T]) -> T:
        """Run an act to its end. Raises ProviderError."""
        return loop.run(self._run(steps))

    async def _run(self, steps: Steps[T]) -> T:
        try:
            ask = next(steps)
            while True:
                client = self._clients[ask.place, ask.again]
                try:
                    body, _ = await client.call(ask.request, bytes, 0)
                except ProviderError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(body)
        except StopIteration as done:
            value: T = done.value
            return value
        except ProviderError as error:
            error.provider, error.model = error.provider or self.base.scheme, error.model or self.base.name
            raise error.with_traceback(None) from None  # its frames hold what was sent

    def once(self, act: Callable[[], Steps[T]], find: Callable[[], Steps[T | None]]) -> T:
        """Run an act that must not happen twice. Where an answer was lost the act may have happened, so before another
        try `find` looks for what came of it. Raises ProviderError."""
        attempt = 1
        while True:
            try:
                return self.run(act())
            except ProviderError as error:
                lost = perhaps_done(error)
                again = attempt < ATTEMPTS and (lost or worth_retrying(error))
                wait = delay(error, attempt) if again else None
                if wait is None:
                    raise
            time.sleep(wait)
            if lost and (there := self.run(find())) is not None:
                return there
            attempt += 1


def perhaps_done(error: ProviderError) -> bool:
    """Whether the request may have been carried out, though no answer came that says so."""
    if isinstance(error, UnreadableAnswerError):
        return True
    return error.sent and (error.status is None or error.status >= 500 or error.status == 408)
