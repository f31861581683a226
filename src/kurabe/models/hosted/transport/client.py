"""One model of one provider: a request is sent within the limits, repeated where that is safe, and read."""

import hashlib
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from kurabe.errors import (
    HIDDEN,
    SHORTEST_SECRET,
    CallTimeoutError,
    ConnectionFailedError,
    CutStreamError,
    OverloadedError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    printable,
)
from kurabe.messages import Delta, Reply
from kurabe.models.codecs.base import Codec, Decoder, HttpRequest, as_deltas
from kurabe.models.hosted.auth import Authorize, Key
from kurabe.models.hosted.transport._breaker import Breaker
from kurabe.models.hosted.transport.http import Http
from kurabe.models.hosted.transport.limits import Limiter, Turn, retry_after
from kurabe.models.hosted.transport.policy import USUAL, Policy
from kurabe.models.hosted.transport.retry import ATTEMPTS, delay, worth_retrying
from kurabe.models.waiting import in_batch, wait

T = TypeVar("T")
Paid = Callable[[float], Awaitable[None]]
"""Counts an attempt that may have been paid for and sets the next one aside, given the end of the call's time."""
LONGEST_ID = 200
REQUEST_IDS = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-goog-request-id",
    "mistral-correlation-id",
    "cf-ray",
)


_SHOULD_RETRY = {"true": True, "false": False}


class Lane(msgspec.Struct, frozen=True):
    """What all models that are called with one key of one provider, by one policy, share."""

    policy: Policy
    limiter: Limiter
    breaker: Breaker


_lanes: dict[tuple[str, str, Policy], Lane] = {}


def lane(base_url: str, secret: str, policy: Policy = USUAL) -> Lane:
    """The lane of this address, key and policy; the key itself is not kept."""
    name = (base_url, hashlib.sha256(secret.encode()).hexdigest(), policy)
    return _lanes.get(name) or _lanes.setdefault(name, Lane(policy, Limiter(policy=policy), Breaker(policy)))


class Client:
    """Sends requests to one provider. `where` and `model` are what errors name. `patient`: whether a call waits while
    the breaker is open, as there is no other model to ask. Usable from any thread and loop."""

    def __init__(
        self,
        *,
        where: str,
        model: str,
        base_url: str,
        query: dict[str, str],
        headers: dict[str, str],
        codec: Codec,
        authorize: Authorize,
        http: Http,
        lane: Lane,
        key: Key | None = None,
        attempts: int = ATTEMPTS,
        patient: bool = True,
    ) -> None:
        self.where = where
        self.model = model
        self.http = http
        self.lane = lane
        self.host = urlsplit(base_url).hostname or ""
        self.base_url = base_url.rstrip("/")
        self._query = query
        self._headers = {"accept": "application/json", "content-type": "application/json", **headers}
        place = repr((where, self.base_url, sorted(query.items()), sorted(headers.items())))
        self.place = hashlib.sha256(place.encode()).hexdigest()
        """A name for all but the key that is sent with each call, for the cache."""
        self._codec = codec
        self._authorize = authorize
        self._key = key
        self._attempts = attempts
        self._patient = patient

    async def call(
        self,
        request: HttpRequest,
        read: Callable[[bytes], T],
        tokens: int,
        paid: Paid | None = None,
        until: float | None = None,
    ) -> tuple[T, str]:
        """What `read` makes of the answer, and the request id. `tokens`: about how many the call will count. `paid` is
        awaited before the repeat of an attempt that may have been paid for. `until`: as `until()` gave it, where the
        call has waited for something before.

        Raises ProviderError.
        """
        until = self.until() if until is None else until
        attempt = 1
        while True:
            try:
                turn, until = await self._turn(tokens, until)
                return await self._attempt(request, read, turn)
            except ProviderError as error:
                until = await self._again(error, attempt, until, paid)
                attempt += 1

    async def _attempt(self, request: HttpRequest, read: Callable[[bytes], T], turn: Turn) -> tuple[T, str]:
        """`call`, once."""
        answer = await self.http.send(request.method, *self._address(request), request.body)
        request_id = self._request_id(answer.headers)
        if not 200 <= answer.status < 300:
            raise self._fault(answer.status, answer.headers, answer.body)
        try:
            value = read(answer.body)
        except ProviderError as error:
            error.request_id = request_id
            raise
        self._succeeded(answer.headers, turn, value)
        return value, request_id

    async def stream(
        self, request: HttpRequest, tokens: int, paid: Paid | None = None, until: float | None = None
    ) -> AsyncGenerator[list[Delta] | tuple[Reply, str], None]:
        """Lists of deltas as they come, and at last (the whole reply, the request id).

        Repeated only while nothing was passed on. Raises ProviderError, with what came in `partial`.
        """
        until = self.until() if until is None else until
        attempt = 1
        while True:
            request_id, piece = "", b""
            passed_on = False
            decoder = self._codec.decoder()
            try:
                turn, until = await self._turn(tokens, until)
                async with self.http.stream(request.method, *self._address(request), request.body) as answer:
                    request_id = self._request_id(answer.headers)
                    if not 200 <= answer.status < 300:
                        raise self._fault(answer.status, answer.headers, await answer.read())
                    async for piece in answer.pieces():
                        if deltas := decoder.feed(piece):
                            passed_on = True
                            yield deltas
                    reply = decoder.finish()
                    self._succeeded(answer.headers, turn, reply)
                    if deltas := decoder.late if passed_on else as_deltas(reply):  # it came whole, or its end did
                        passed_on = True
                        yield deltas
                    yield reply, request_id
                    return
            except ProviderError as error:
                piece = b""  # it may repeat the key, and a traceback with locals would show it
                error.request_id = error.request_id or request_id
                if passed_on:
                    raise self._named(_with_partial(error, decoder), attempt) from None
                until = await self._again(error, attempt, until, paid)
                attempt += 1

    def until(self) -> float:
        """When a call that begins now has had its time (seconds of `time.monotonic`). A call of a batch is queued, and
        its time begins with its first turn."""
        return math.inf if in_batch() else time.monotonic() + self.http.timeouts.total

    async def _turn(self, tokens: int, until: float) -> tuple[Turn, float]:
        """Wait for a turn, and (turn, until) with the end of the call's time. Raises OverloadedError while the provider
        is left alone, and CallTimeoutError where a pause or the turns before this one take longer than the call may."""
        limiter, total = self.lane.limiter, self.http.timeouts.total
        now = time.monotonic()
        self.lane.breaker.check(now)
        pause_ends_by = now + total
        latest = math.inf if in_batch() else until
        while True:
            if limiter.paused_until > pause_ends_by:
                raise _late(limiter.paused_until - now, total)
            turn = limiter.take(now, tokens, latest)
            if turn.start > latest:
                raise _late(turn.start - now, total)
            while (seconds := turn.start - now) > 0 and not limiter.paused_since(turn):
                await wait(seconds)
                now = time.monotonic()
            if not limiter.paused_since(turn):
                return turn, min(until, now + total)

    def _address(self, request: HttpRequest) -> tuple[str, dict[str, str]]:
        """(URL, headers with the key)."""
        url = self.base_url + request.path
        if request.query or self._query:
            url += "?" + urlencode({**self._query, **request.query})
        return url, {**self._headers, **request.headers, **self._authorize(request, url)}

    def _succeeded(self, headers: Any, turn: Turn, value: Any) -> None:
        self.lane.breaker.succeeded()
        self.lane.limiter.answered(headers)
        if turn.counted and isinstance(value, Reply):
            self.lane.limiter.used(turn, value.usage.input + value.usage.output)

    def _fault(self, status: int, headers: Any, body: bytes) -> ProviderError:
        """The typed error for a failed call."""
        named = {name.lower(): value for name, value in headers.items()}
        error = self._codec.error(status, named, body)
        if error.retry_after is None:
            error.retry_after = retry_after(named, time.time())
        error.should_retry = _SHOULD_RETRY.get(named.get("x-should-retry", ""))
        error.request_id = self._request_id(named)
        return error

    async def _again(self, error: ProviderError, attempt: int, until: float, paid: Paid | None) -> float:
        """Wait before the next attempt and return the end of the call's time, or raise the error where there is to be
        none; `paid` is awaited where this one may have been paid for."""
        now = time.monotonic()
        if isinstance(error, RateLimitedError) and not isinstance(error, QuotaExceededError):
            self.lane.limiter.limited(now, error.retry_after)
        if isinstance(error, ServerError | ConnectionFailedError | CallTimeoutError):
            if error.sent or isinstance(error, ConnectionFailedError):
                self.lane.breaker.failed(now)
        else:
            self.lane.breaker.succeeded()
        left_alone = isinstance(error, OverloadedError) and not error.sent
        again = attempt < self._attempts and worth_retrying(error) and (self._patient or not left_alone)
        seconds = delay(error, attempt, self.lane.policy) if again else None
        queued = left_alone and in_batch()  # a batch waits for the breaker as it does for turns
        if seconds is None or (now + seconds > until and not queued):
            raise self._named(error, attempt) from None
        perhaps_paid = error.sent and error.status is None
        await wait(seconds, sent=perhaps_paid)
        if paid is not None and perhaps_paid:
            await paid(until)
        return until + seconds if queued else until

    def _request_id(self, headers: Any) -> str:
        """The id that the provider gave the request, without the key, as some servers send back what they were sent."""
        found = next((str(headers[name]) for name in REQUEST_IDS if name in headers), "")
        return self._without_key(printable(found))[:LONGEST_ID]

    def _without_key(self, text: str) -> str:
        key = self._key.reveal() if self._key is not None else ""
        return text.replace(key, HIDDEN) if len(key) >= SHORTEST_SECRET else text

    def _named(self, error: ProviderError, attempts: int) -> ProviderError:
        """The error with where it happened, and without the key: some providers repeat it."""
        error.provider, error.model = error.provider or self.where, error.model or self.model
        error.attempts = attempts
        error.message, error.code = self._without_key(error.message), self._without_key(error.code)
        error.request_id = self._without_key(error.request_id)
        if (
            isinstance(error.partial, Reply)
            and self._key is not None
            and len(key := self._key.reveal()) >= SHORTEST_SECRET
        ):
            raw = error.partial.raw.replace(key.encode(), HIDDEN.encode())
            error.partial = msgspec.structs.replace(error.partial, raw=raw)
        error.args = (error.message,)
        return error.with_traceback(None)  # its frames hold what was sent and what came


def _late(seconds: float, total: float) -> CallTimeoutError:
    """The error of a call whose turn would come after its time."""
    return CallTimeoutError(
        f"its turn would be in {seconds:.0f} s, and the call has {total:g} s", sent=False, retry_after=seconds
    )


def _with_partial(error: ProviderError, decoder: Decoder) -> ProviderError:
    """The error with what came of the answer before it."""
    if error.partial is None:
        try:
            error.partial = decoder.finish()
        except ProviderError as cut:
            error.partial = cut.partial
    if isinstance(error, ConnectionFailedError):
        return CutStreamError(error.message, partial=error.partial)
    return error
