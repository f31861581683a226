"""Nothing that is not paid for is waited for longer than a time-out, a budget's minutes or Ctrl-C allow."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kurabe import errors
from kurabe.messages import Request, User
from kurabe.models.base import ChatModel
from kurabe.models.cost import Price
from kurabe.models.hosted.transport.budget import Budget
from kurabe.models.hosted.transport.limits import Limiter
from kurabe.models.hosted.transport.policy import Policy
from kurabe.testing import Fault, Simulator

YEAR = 365 * 86_400
PATIENCE = Policy().patience


def hello() -> Request:
    return Request((User("hello"),), max_tokens=5)


def test_a_pause_of_a_year_is_a_short_one() -> None:
    limiter = Limiter()
    limiter.limited(100.0, YEAR)
    assert limiter.take(101.0, 1).start == 100.0 + PATIENCE
    limiter.limited(102.0, YEAR)
    assert limiter.take(103.0, 1).start == 102.0 + PATIENCE


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_does_not_wait_for_a_pause_that_ends_after_its_time(stream: bool) -> None:
    with Simulator("openai", faults=[Fault.status(429, retry_after=YEAR)]) as server:
        with pytest.raises(errors.RateLimitedError):
            server.open().chat("x")
        model = server.open(timeout=5)
        began = time.monotonic()
        with pytest.raises(errors.CallTimeoutError, match="turn would be in") as caught:
            _ = model.stream("x").reply if stream else model.chat("x")
        assert time.monotonic() - began < 5 + 5
        assert server.calls == 1
        assert not caught.value.sent
        assert caught.value.retry_after == pytest.approx(PATIENCE, abs=10)


def test_a_turn_that_comes_too_late_is_not_waited_for_and_not_counted() -> None:
    with Simulator("openai") as server:
        model = server.open(timeout=5, requests_per_minute=1)
        model.chat("x")
        for _ in range(3):
            with pytest.raises(errors.CallTimeoutError) as caught:
                model.chat("x")
            assert caught.value.retry_after is not None
            assert caught.value.retry_after <= 60  # the turns that were refused stand in nobody's way
    limiter = Limiter(requests=2, tokens=100)
    for now in (0.0, 1.0):
        limiter.take(now, 40)
    for _ in range(3):
        assert limiter.take(2.0, 40, 30.0).start == 60.0
    assert [limiter.take(2.0, 40).start, limiter.take(2.0, 40).start] == [60.0, 61.0]


def test_the_next_model_of_a_chain_is_asked_at_once() -> None:
    with Simulator("openai", faults=[Fault.status(429, retry_after=YEAR)]) as first, Simulator("openai") as second:
        with pytest.raises(errors.RateLimitedError):
            first.open().chat("x")
        from kurabe.models._fallback import Fallback

        chain = Fallback([first.open(timeout=5), second.open()])
        assert chain.chat("y").text == "y"
        assert (first.calls, second.calls) == (1, 1)


def left_alone(server: Simulator, rest: float, **options: Any) -> ChatModel:
    """A model of a provider that has just failed twice, is left alone for so long, and is well again."""
    policy = Policy(first_wait=0.001, failures=2, rest=rest)
    server.faults(Fault.status(500))
    for _ in range(policy.failures):
        with pytest.raises(errors.ServerError, match="simulated"):
            server.open(attempts=1, policy=policy).chat("x")
    server.faults(None)
    return server.open(policy=policy, **options)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_waits_for_the_breaker_as_long_as_it_may_take(stream: bool) -> None:
    with Simulator("openai") as server:
        model = left_alone(server, rest=0.3, timeout=60)
        assert (model.stream("y").reply if stream else model.chat("y")).text == "y"
    with Simulator("openai") as server:
        model = left_alone(server, rest=30, timeout=1)
        with pytest.raises(errors.OverloadedError, match="left alone for") as caught:
            _ = model.stream("y").reply if stream else model.chat("y")
        assert (server.calls, caught.value.sent, caught.value.attempts) == (2, False, 1)


def test_a_batch_waits_for_the_breaker_longer_than_one_call_may_take() -> None:
    with Simulator("openai") as server:
        model = left_alone(server, rest=3, timeout=2)
        assert [reply.text for _, reply in model.chat_many([hello()])] == ["hello"]


def test_a_call_does_not_wait_for_the_budget_past_its_time() -> None:
    budget = Budget(1.0)
    with Simulator("openai") as server:
        model = server.open(timeout=0.3, budget=budget, price=Price(1, 1))
        budget.reserved = 1.0  # another call holds all of it and never ends
        with pytest.raises(errors.CallTimeoutError, match="budget"):
            model.chat("x", max_tokens=5)
        assert (budget.reserved, budget.spent, server.calls) == (1.0, 0.0, 0)


def endless(model: ChatModel, stop: threading.Event) -> Iterator[list[tuple[int, object]]]:
    return iter(model.chat_batches((hello() for _ in range(20)), stop.is_set))  # type: ignore[arg-type]


def test_a_batch_that_is_stopped_waits_for_no_turn() -> None:
    """The answer under way is waited for: it is paid."""
    stop = threading.Event()
    with Simulator("openai", delay=0.5) as server:
        model = server.open(requests_per_minute=1, concurrency=8)
        threading.Timer(0.2, stop.set).start()
        began = time.monotonic()
        replies = [reply for batch in endless(model, stop) for reply in batch]
        assert len(replies) == server.calls == 1
        assert time.monotonic() - began < 20


def test_a_batch_that_is_stopped_waits_for_no_budget() -> None:
    stop = threading.Event()
    budget = Budget(1.0)
    budget.reserved = 1.0
    with Simulator("openai") as server:
        model = server.open(budget=budget, price=Price(1, 1), concurrency=4)
        threading.Timer(0.2, stop.set).start()
        assert list(endless(model, stop)) == []
        assert (budget.reserved, server.calls) == (1.0, 0)


def test_a_fault_of_a_batch_is_not_held_back_by_calls_that_wait() -> None:
    with Simulator("openai", faults=Fault.status(401)) as server:
        model = server.open(requests_per_minute=1, concurrency=8)
        with pytest.raises(errors.AuthenticationError):
            list(model.chat_many([hello() for _ in range(20)]))
        assert server.calls == 1


def test_a_batch_waits_for_turns_longer_than_one_call_may_take() -> None:
    with Simulator("openai") as server:
        model = server.open(timeout=1, requests_per_minute=1, concurrency=8, policy=Policy(window=0.5))
        assert len(list(model.chat_many([hello() for _ in range(4)]))) == 4
