"""Never more than the limit in any minute, turns in order, and what answers teach."""

import asyncio
import random
import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.models import loop
from kurabe.models.hosted.transport import client as clients
from kurabe.models.hosted.transport._breaker import Breaker
from kurabe.models.hosted.transport.client import Lane
from kurabe.models.hosted.transport.limits import CUT, Limiter, retry_after, stated_limits
from kurabe.models.hosted.transport.policy import Policy
from kurabe.models.hosted.transport.retry import delay
from kurabe.testing import Fault, Simulator

USUAL = Policy()
ASKS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 400)), min_size=1, max_size=150)
"""(seconds after the one before, tokens) of calls."""


def most_in_a_window(starts: list[tuple[float, int]]) -> tuple[int, int]:
    """(requests, tokens) that start at most within any 60 seconds: the fullest window begins with a start."""
    requests = tokens = 0
    for position, (begin, _) in enumerate(starts):
        inside = [count for start, count in starts[position:] if start < begin + USUAL.window]
        requests, tokens = max(requests, len(inside)), max(tokens, sum(inside))
    return requests, tokens


@given(ASKS, st.integers(1, 20), st.none() | st.integers(400, 2000))
def test_no_window_holds_more_than_the_limits(asks: list[tuple[float, int]], requests: int, tokens: int | None) -> None:
    limiter = Limiter(requests, tokens)
    now = 1000.0
    starts = []
    for gap, count in asks:
        now += gap
        turn = limiter.take(now, count)
        assert turn.start >= now
        starts.append((turn.start, count))
    assert starts == sorted(starts, key=lambda pair: pair[0])  # in the order of asking
    most_requests, most_tokens = most_in_a_window(starts)
    assert most_requests <= requests
    assert tokens is None or most_tokens <= tokens


@given(ASKS, st.integers(1, 20))
def test_nobody_waits_longer_than_needed(asks: list[tuple[float, int]], requests: int) -> None:
    """The start is `now`, or one window after that of the call so many places before."""
    limiter = Limiter(requests)
    now, starts = 1000.0, []
    for gap, count in asks:
        now += gap
        starts.append(limiter.take(now, count).start)
        before = starts[-1 - requests] + USUAL.window if len(starts) > requests else 0.0
        assert starts[-1] == pytest.approx(max(now, before), abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 300), st.integers(0, 300)), max_size=80))
def test_tokens_that_were_really_used_count(calls: list[tuple[float, int, int]]) -> None:
    limiter = Limiter(tokens=1000)
    now = 0.0
    counted: list[tuple[float, int]] = []
    for gap, guess, real in calls:
        now += gap
        turn = limiter.take(now, guess)
        now = max(now, turn.start)  # the call is over before the next one asks
        limiter.used(turn, real)
        counted.append((turn.start, real))
        inside = sum(tokens for start, tokens in counted if start > now - USUAL.window + 1e-6)
        assert inside <= 1000 + max(0, real - guess)


def test_a_call_larger_than_the_limit_has_a_minute_of_its_own() -> None:
    limiter = Limiter(tokens=100)
    assert [limiter.take(0.0, count).start for count in (10, 500, 10)] == [0.0, 60.0, 120.0]


def test_without_limits_nobody_waits() -> None:
    limiter = Limiter()
    assert all(limiter.take(5.0, 10**9).start == 5.0 for _ in range(1000))


def test_after_a_429_nothing_starts_for_a_while() -> None:
    limiter = Limiter()
    turn = limiter.take(100.0, 1)
    limiter.limited(100.0, 7.0)
    assert limiter.paused_since(turn)
    assert limiter.take(101.0, 1).start == 107.0
    assert limiter.take(108.0, 1).start == 108.0
    limiter = Limiter()
    pauses = []
    for now in (100.0, 200.0, 300.0):
        limiter.limited(now, None)
        limiter.limited(now + 0.1, None)  # one that was under way with it
        pauses.append(limiter.take(now, 1).start - now)
    assert pauses == pytest.approx([1.0, 2.0, 4.0])


def test_a_limit_is_learned_from_a_429_and_grows_back() -> None:
    limiter = Limiter()
    for call in range(6000):
        limiter.take(1000.0 + call * 0.01, 1)
    limiter.limited(1060.0, 1.0)
    assert limiter.requests == pytest.approx(6000 * CUT, rel=0.02)
    learned = limiter.requests or 0
    limiter.limited(1060.5, 1.0)  # one that was under way with it
    assert limiter.requests == learned
    for _ in range(100):
        limiter.answered({})
    assert (limiter.requests or 0) > learned * 1.5
    for _ in range(1000):
        limiter.answered({})
    assert limiter.requests is None


def test_a_learned_limit_leaves_some_and_a_given_one_stays() -> None:
    limiter = Limiter()
    limiter.take(0.0, 1)
    for again in range(100):
        limiter.limited(again * 100.0, 1.0)
    assert limiter.requests == USUAL.least_rate
    given = Limiter(requests=5)
    given.take(0.0, 1)
    given.limited(0.0, 1.0)
    assert given.requests == 5


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}, (500, 30_000)),
        ({"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-tokens-limit": "8000"}, (50, 8000)),
        ({"x-ratelimit-limit-requests": "-1"}, (None, None)),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-limit-tokens": "many"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_limits_that_headers_state(headers: dict[str, str], limit: tuple[int | None, int | None]) -> None:
    assert stated_limits(headers) == limit
    limiter = Limiter()
    limiter.answered(headers)
    assert (limiter.requests, limiter.tokens) == limit
    given = Limiter(3, 4)
    given.answered(headers)
    assert (given.requests, given.tokens) == (3, 4)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "in a while"}, None),
        ({}, None),
    ],
)
def test_what_an_answer_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, 100.0) == seconds


@given(st.integers(1, 40), st.floats(0, 1), st.none() | st.floats(0, 500))
def test_waits_between_attempts(attempt: int, chance: float, asked: float | None) -> None:
    wait = delay(errors.ServerError(retry_after=asked), attempt, chance=lambda: chance)
    jitter = chance * min(USUAL.longest_wait, USUAL.first_wait * 2 ** (attempt - 1))
    if asked is not None and asked > USUAL.patience:
        assert wait is None
    else:
        assert wait == pytest.approx((asked or 0) + jitter)


def test_the_breaker_opens_lets_one_through_and_closes() -> None:
    breaker = Breaker()
    for _ in range(USUAL.failures - 1):
        breaker.failed(0.0)
        breaker.check(0.0)
    breaker.failed(0.0)
    with pytest.raises(errors.OverloadedError, match="20 calls in a row failed") as caught:
        breaker.check(1.0)
    assert caught.value.sent is False
    assert caught.value.retry_after == pytest.approx(USUAL.rest - 1)
    breaker.check(USUAL.rest)  # one is let through
    with pytest.raises(errors.OverloadedError):
        breaker.check(USUAL.rest + 0.1)
    breaker.succeeded()
    breaker.check(USUAL.rest + 0.2)


# ── Through a model ──────────────────────────────────────────────────────────────────────────────────────────────────


SHORT = Policy(first_wait=0.001, window=0.5, first_pause=0.01)


def test_calls_start_no_faster_than_allowed() -> None:
    with Simulator("openai") as server:
        model = server.open(requests_per_minute=10, policy=SHORT)
        times: list[float] = []

        def answer(text: str) -> str:
            times.append(time.monotonic())
            return text

        server.answer = answer

        async def many() -> None:
            await asyncio.gather(*(model.achat("x") for _ in range(30)))

        loop.run(many())
        times.sort()
        # A call may take longer to arrive than another one; hence the tolerance.
        assert all(later - earlier > 0.45 for earlier, later in zip(times, times[10:], strict=False))


def test_two_models_with_one_key_share_their_turns_fairly() -> None:
    with Simulator("openai") as server:
        one, other = server.open("one", policy=SHORT), server.open("other", policy=SHORT)
        assert one.client.lane is other.client.lane  # type: ignore[attr-defined]
        for unlike in ({"api_key": "other-key", "policy": SHORT}, {"policy": Policy()}):
            assert server.open("one", **unlike).client.lane is not one.client.lane  # type: ignore[attr-defined]
        one.client.lane.limiter.requests = 10  # type: ignore[attr-defined]

        async def greedy(model: Any) -> None:
            await asyncio.gather(*(model.achat("x") for _ in range(20)))

        async def both() -> None:
            waiting = [asyncio.create_task(greedy(one)), asyncio.create_task(greedy(other))]
            await asyncio.sleep(0)
            await asyncio.gather(*waiting)

        loop.run(both())
        assert Counter(call.model for call in server.requests) == {"one": 20, "other": 20}


def test_stated_limits_are_kept_from_the_first_answer_on() -> None:
    with Simulator("openai", requests_per_minute=500, tokens_per_minute=9000) as server:
        model = server.open(policy=SHORT)
        model.chat("x")
        limiter = model.client.lane.limiter  # type: ignore[attr-defined]
        assert (limiter.requests, limiter.tokens) == (500, 9000)
    with Simulator("anthropic", requests_per_minute=50) as server:
        model = server.open("claude-sonnet-5-5", policy=SHORT)
        model.chat("x")
        assert model.client.lane.limiter.requests == 50  # type: ignore[attr-defined]


def test_one_429_holds_back_the_calls_that_have_not_started() -> None:
    with Simulator("openai", faults=[Fault.status(429, retry_after=0.3)]) as server:
        model = server.open(policy=SHORT)

        async def many() -> None:
            began = time.monotonic()
            first = asyncio.create_task(model.achat("x"))
            while not server.outcomes["status 429"]:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            await model.achat("y")
            assert time.monotonic() - began > 0.3
            await first

        loop.run(many())
        assert server.calls == 3


def test_the_breaker_spares_a_provider_that_is_down() -> None:
    with Simulator("openai", faults=Fault.status(500)) as server:
        model = server.open(attempts=1, policy=msgspec.structs.replace(SHORT, rest=0.2))
        for _ in range(USUAL.failures):
            with pytest.raises(errors.ServerError, match="simulated"):
                model.chat("x")
        with pytest.raises(errors.OverloadedError, match="left alone"):
            model.chat("x")
        assert server.calls == USUAL.failures
        server.faults(None)
        time.sleep(0.25)
        assert model.chat("x").text == "x"
        assert model.chat("x").text == "x"


def test_an_error_of_the_request_does_not_open_the_breaker() -> None:
    with Simulator("openai", faults=Fault.status(400)) as server:
        model = server.open(attempts=1, policy=SHORT)
        for _ in range(USUAL.failures + 5):
            with pytest.raises(errors.BadRequestError):
                model.chat("x")


def test_a_lane_does_not_keep_the_key() -> None:
    assert "planted" not in repr(clients.lane("http://127.0.0.1", "planted-key"))
    assert isinstance(clients.lane("http://127.0.0.1", "planted-key"), Lane)
    assert "planted" not in repr(clients._lanes.keys())


def test_random_waits_spread() -> None:
    random.seed(0)
    waits = [delay(errors.ServerError(), 3) or 0 for _ in range(200)]
    assert min(waits) < 0.2
    assert max(waits) > 1.8
