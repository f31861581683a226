"""Runs a service's acts over the one transport."""

import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from kurabe.errors import ProviderError, UnreadableAnswerError
from kurabe.models import loop
from kurabe.models.hosted.auth import Key, authorize, fill, find_key
from kurabe.models.hosted.connect import codec_of, connect, options_of
from kurabe.models.hosted.sigv4 import signer
from kurabe.models.hosted.transport.client import Client, lane
from kurabe.models.hosted.transport.policy import Policy
from kurabe.models.hosted.transport.retry import ATTEMPTS, delay, worth_retrying
from kurabe.models.providers import providers
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Steps
from kurabe.tuning.hosted.services import service_of

T = TypeVar("T")


class Connection:
    """One provider with one key. `base_url`, `api_key` and `policy` as in `kurabe.open_model`."""

    def __init__(
        self,
        base: Reference,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        policy: Policy | dict[str, float] | None = None,
    ) -> None:
        self.base, self.base_url = base, base_url
        self._clients: dict[tuple[str, bool], Client] = {}
        service, provider = service_of(base), providers()[base.scheme]
        options = options_of(base, provider)
        address = base_url or (fill(service.base_url, options) if service.base_url else None)
        key = (Key(api_key), "") if api_key is not None else find_key(provider)
        for again in (True, False):
            attempts = ATTEMPTS if again else 1
            client = connect(base, base_url=address, api_key=api_key, attempts=attempts, policy=policy).client
            self.policy = client.lane.policy
            self._clients["", again] = client
            for place, (where, signed) in service.places.items():
                there = _host(base_url) if base_url else fill(where, options)
                proved = signer(options["region"], signed) if signed else authorize(provider, key, options)
                self._clients[place, again] = Client(
                    where=base.scheme, model=base.name, base_url=there, query={}, headers={}, codec=codec_of(provider),
                    authorize=proved, http=client.http, lane=lane(there, "", self.policy), key=key[0] if key else None,
                    attempts=attempts,
                )  # fmt: skip

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
                wait = delay(error, attempt, self.policy) if again else None
                if wait is None:
                    raise
            time.sleep(wait)
            if lost and (there := self.run(find())) is not None:
                return there
            attempt += 1


def _host(address: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def perhaps_done(error: ProviderError) -> bool:
    """Whether the request may have been carried out, though no answer came that says so."""
    if isinstance(error, UnreadableAnswerError):
        return True
    return error.sent and (error.status is None or error.status >= 500 or error.status == 408)
