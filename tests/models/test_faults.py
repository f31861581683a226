"""Every fault of every provider gives its typed error or, after retries, the answer: nothing is swallowed."""

import asyncio
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import psutil
import pytest

from kurabe import errors
from kurabe.messages import Reply
from kurabe.models import loop
from kurabe.models.hosted.transport.http import Timeouts
from kurabe.models.hosted.transport.policy import Policy
from kurabe.testing import Fault, Simulator

Wait = Callable[[Callable[[], bool]], None]  # the fixture `settled`

MODELS = {
    "openai": "gpt-4.1-mini", "openai-responses": "gpt-4.1-mini", "anthropic": "claude-sonnet-5-5",
    "anthropic-vertex": "claude-sonnet-5-5", "anthropic-bedrock": "anthropic.claude-sonnet-5-5-v1:0",
    "gemini": "gemini-3-pro", "vertex": "gemini-3-pro", "bedrock": "us.amazon.nova-pro-v1:0", "cohere": "command-a",
    "mistral": "mistral-large", "ollama": "llama3.2",
}  # fmt: skip
"""One provider of each protocol."""
ANSWER = "one two three four five six"
SHORT = Timeouts(connect=5, first=0.15, between=0.15, total=0.15)
STATUS = {
    400: errors.BadRequestError, 401: errors.AuthenticationError, 403: errors.PermissionDeniedError,
    404: errors.NotFoundError, 408: errors.CallTimeoutError, 409: errors.BadRequestError,
    413: errors.RequestTooLargeError, 422: errors.BadRequestError, 429: errors.RateLimitedError,
    500: errors.ServerError, 502: errors.ServerError, 503: errors.OverloadedError, 529: errors.OverloadedError,
}  # fmt: skip
KIND: dict[str, type[errors.ProviderError]] = {
    "reset": errors.ConnectionFailedError, "silence": errors.CallTimeoutError, "stall": errors.CallTimeoutError,
    "truncated": errors.UnreadableAnswerError, "invalid_json": errors.UnreadableAnswerError,
    "empty": errors.UnreadableAnswerError, "cut": errors.UnreadableAnswerError, "end": errors.UnreadableAnswerError,
    "invalid_event": errors.UnreadableAnswerError,
}  # fmt: skip
IN_STREAM = ("cut", "end", "stall", "truncated", "error_event", "invalid_event")
ONCE = ("silence", "stall")
"""Not asked again: the provider may be at work on an answer that will be paid for."""

QUICK = Policy(first_wait=0.001, first_pause=0.001, least_rate=10**9)  # faults at random are no limit to learn


def ask(model: Any, stream: bool) -> Reply:
    reply: Reply = model.stream("hello").reply if stream else model.chat("hello")
    return reply


def check_error(error: errors.ProviderError, fault: Fault, provider: str, stream: bool) -> None:
    """The error is the one that the fault stands for, and says where it happened."""
    assert (error.provider, error.model) == (provider, MODELS[provider])
    assert error.provider in str(error)
    if fault.kind in ("status", "html"):
        assert type(error) is STATUS[fault.code]
        assert error.status == fault.code
        assert f"status {fault.code}" in str(error)
        assert (fault.message or f"simulated fault {fault.code}") in str(error)
        assert error.retry_after == fault.retry_after
    elif fault.kind == "error_event":
        amazon = "bedrock" in provider and not stream  # it has no such answer, so there it only can't be read
        assert isinstance(error, errors.UnreadableAnswerError if amazon else errors.ServerError)
        assert "simulated fault in the answer" in str(error) or (provider == "cohere" and not stream)
    elif stream and fault.kind in ("cut", "truncated"):
        assert type(error) is errors.CutStreamError
    elif stream and fault.kind in ("end", "empty", "invalid_json"):
        assert isinstance(error, errors.CutStreamError | errors.UnreadableAnswerError)
    else:
        assert type(error) is KIND[fault.kind]
    if fault.kind not in ("reset", "silence") and (stream or fault.kind in ("status", "html", "empty", "end")):
        assert error.request_id.startswith("req-")
    if stream and fault.kind in IN_STREAM:
        assert error.partial is not None
        assert error.partial.text
        assert ANSWER.startswith(error.partial.text)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("provider", MODELS)
def test_each_fault_has_its_error(provider: str, stream: bool, settled: Wait) -> None:
    with Simulator(provider, answer=ANSWER) as server:
        model = server.open(MODELS[provider], attempts=1, policy=QUICK)
        hasty = server.open(MODELS[provider], attempts=1, timeout=SHORT, policy=QUICK)
        for fault in Fault.every():
            server.faults(fault)
            with pytest.raises(errors.ProviderError) as caught:
                ask(hasty if fault.kind in ONCE else model, stream)
            check_error(caught.value, fault, provider, stream)
            assert caught.value.attempts == 1
        server.faults(None)
        assert ask(model, stream).text == ANSWER
        settled(lambda: server.in_flight == 0)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("provider", MODELS)
def test_a_fault_that_passes_is_followed_by_the_answer(provider: str, stream: bool) -> None:
    """What may succeed later is asked again; a stream only while nothing of it was passed on."""
    with Simulator(provider, answer=ANSWER) as server:
        for fault in Fault.every():
            timeout = SHORT if fault.kind in ONCE else None
            model = server.open(MODELS[provider], attempts=3, timeout=timeout, policy=QUICK)
            refused = fault.kind == "status" and fault.code in (400, 401, 403, 404, 413, 422)
            passed_on = stream and fault.kind in IN_STREAM
            before = server.calls
            server.faults([fault, fault])
            if refused or passed_on or fault.kind in ONCE:
                with pytest.raises(errors.ProviderError):
                    ask(model, stream)
                assert server.calls == before + 1, fault
            else:
                assert ask(model, stream).text == ANSWER
                assert server.calls == before + 3, fault


def test_attempts_come_to_an_end() -> None:
    with Simulator("openai", faults=Fault.status(503)) as server:
        with pytest.raises(errors.OverloadedError, match="3 attempts") as caught:
            server.open(attempts=3, policy=QUICK).chat("x")
        assert (server.calls, caught.value.attempts) == (3, 3)


def test_a_wait_that_is_asked_for_is_kept_unless_it_is_too_long() -> None:
    with Simulator("openai", faults=[Fault.status(429, retry_after=0.2)]) as server:
        began = time.perf_counter()
        assert server.open(policy=QUICK).chat("x").text == "x"
        assert 0.2 <= time.perf_counter() - began < 20
    with Simulator("openai", faults=Fault.status(503, retry_after=QUICK.patience + 1)) as server:
        with pytest.raises(errors.OverloadedError):
            server.open(policy=QUICK).chat("x")
        assert server.calls == 1


def test_a_stream_that_breaks_gives_its_deltas_first() -> None:
    with Simulator("openai", answer=ANSWER, faults=Fault.cut(after=4)) as server:
        seen: list[str] = []
        with pytest.raises(errors.ProviderError) as caught:
            seen.extend(delta.text for delta in server.open(policy=QUICK).stream("x"))
        assert "".join(seen) == "one two three" == caught.value.partial.text
        assert server.calls == 1


# ── A storm ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def storm(calls: int, most: int, settled: Wait) -> None:
    """Many calls, a fifth of which meet a fault: each ends once, and nothing is left behind."""
    shared: list[Counter[str]] = []
    gc.collect()
    threads = threading.active_count()
    with Simulator("openai", answer=ANSWER, faults=Fault.mix(0.2, seed=7), keep=10) as server:
        # Of 200 calls that begin at once the faults come first, which must not stop the others here.
        policy = msgspec.structs.replace(QUICK, failures=10**9)
        model = server.open("gpt-4.1-mini", attempts=2, timeout=Timeouts(5, 2, 2, 10), policy=policy)

        async def one(number: int, ends: Counter[str], places: asyncio.Semaphore) -> None:
            async with places:
                try:
                    if number % 2:
                        stream = model.astream("hello")
                        text = "".join([delta.text async for delta in stream])
                        assert text == stream.reply.text == ANSWER
                    else:
                        assert (await model.achat("hello")).text == ANSWER
                    ends["answer"] += 1
                except errors.ProviderError as error:
                    ends[type(error).__name__] += 1

        async def all_of_them(count: int) -> None:
            ends: Counter[str] = Counter()
            places = asyncio.Semaphore(200)
            async with asyncio.timeout(300):
                await asyncio.gather(*(one(number, ends, places) for number in range(count)))
            shared.append(ends)
            assert len(asyncio.all_tasks()) == 1

        loop.run(all_of_them(calls // 2))  # what libraries keep for good is there after these
        gc.collect()
        before = psutil.Process(os.getpid()).memory_info().rss
        loop.run(all_of_them(calls // 2))
        for ends in shared:
            assert sum(ends.values()) == calls // 2
            assert ends["answer"] > 0.5 * calls // 2
            assert ends["answer"] + ends["CallTimeoutError"] > 0.8 * calls // 2  # a busy machine is late
            assert len(ends) > 8  # faults of many kinds came through
        both = shared[0] + shared[1]
        # An answer comes through, but to a call that could wait no longer on a busy machine.
        assert both["answer"] <= server.outcomes["answer"] <= both["answer"] + both["CallTimeoutError"]
        assert server.calls == sum(server.outcomes.values())
        settled(lambda: server.in_flight == 0)
        assert server.connections <= 201
        gc.collect()
        assert psutil.Process(os.getpid()).memory_info().rss - before < most
    settled(lambda: threading.active_count() <= threads + 1)  # the loop behind calls that are not awaited


def test_ten_thousand_calls_with_faults_of_all_kinds(settled: Wait) -> None:
    storm(10_000, 20 << 20, settled)
