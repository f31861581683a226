"""A budget is never exceeded, whatever goes wrong; calls in flight are waited for."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe import errors
from kurabe.messages import Assistant, Document, Image, Reply, Text, ToolCall, ToolResult, Usage, User
from kurabe.models import loop
from kurabe.models.cost import Price
from kurabe.models.hosted.transport.budget import Budget, PartBudget
from kurabe.models.hosted.transport.http import Timeouts
from kurabe.models.hosted.transport.policy import Policy
from kurabe.testing import Fault, Simulator


@given(st.floats(0.01, 2), st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 1)), max_size=60), st.integers(1, 20))
@settings(max_examples=40)
def test_spent_and_reserved_never_exceed_it(usd: float, calls: list[tuple[float, float]], at_once: int) -> None:
    budget = Budget(usd)
    refused = 0

    async def call(most: float, share: float, places: asyncio.Semaphore) -> None:
        nonlocal refused
        async with places:
            try:
                await budget.reserve(most)
            except errors.BudgetExceededError:
                refused += 1
                return
            assert budget.spent + budget.reserved <= usd + 1e-9
            await asyncio.sleep(0)
            budget.settle(most, most * share)
            assert budget.spent + budget.reserved <= usd + 1e-9

    async def run() -> None:
        places = asyncio.Semaphore(at_once)
        await asyncio.gather(*(call(most, share, places) for most, share in calls))

    asyncio.run(run())
    assert budget.reserved == pytest.approx(0, abs=1e-9)
    assert budget.spent <= usd + 1e-9
    assert refused == 0 or budget.spent + max(most for most, _ in calls) > usd - 1e-9


@pytest.mark.parametrize("usd", [-1, float("nan"), float("inf"), "2", True, None])
def test_a_budget_that_is_none_says_so(usd: Any) -> None:
    with pytest.raises(errors.InputError, match="a number of dollars, 0 or more"):
        Budget(usd)


def test_small_amounts_are_shown() -> None:
    budget = Budget(0.0001)
    budget.spent = 4e-6
    assert repr(budget) == "Budget($4e-06 of $0.0001 spent, $0 in flight)"


def test_calls_in_flight_are_waited_for() -> None:
    async def run() -> None:
        budget = Budget(1.0)
        await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.5))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        budget.settle(0.8, 0.1)
        await asyncio.wait_for(waiting, 1)
        assert budget.spent == pytest.approx(0.1)
        assert budget.reserved == pytest.approx(0.5)
        budget.settle(0.5, 0.5)
        with pytest.raises(errors.BudgetExceededError, match="does not allow another call"):
            await budget.reserve(0.5)

    asyncio.run(run())


@given(st.lists(st.tuples(st.floats(0, 0.4), st.floats(0, 1), st.booleans()), max_size=60), st.integers(1, 20))
@settings(max_examples=40)
def test_a_part_is_never_exceeded_and_neither_is_the_whole(
    calls: list[tuple[float, float, bool]], at_once: int
) -> None:
    whole = Budget(1.5)
    part = PartBudget(1.0, whole)
    part.count(0.25)  # was spent before, and the whole knows of it
    paid = {True: 0.25, False: 0.0}

    async def call(most: float, share: float, within: bool, places: asyncio.Semaphore) -> None:
        budget = part if within else whole
        async with places:
            try:
                await budget.reserve(most)
            except errors.BudgetExceededError:
                return
            assert part.spent + part.reserved <= part.usd + 1e-9
            assert whole.spent + whole.reserved <= whole.usd + 1e-9
            await asyncio.sleep(0)
            budget.settle(most, most * share)
            paid[within] += most * share

    async def run() -> None:
        places = asyncio.Semaphore(at_once)
        await asyncio.gather(*(call(*one, places) for one in calls))

    asyncio.run(run())
    assert part.reserved == pytest.approx(0, abs=1e-9)
    assert whole.reserved == pytest.approx(0, abs=1e-9)
    assert part.spent == pytest.approx(paid[True])
    assert whole.spent == pytest.approx(paid[True] - 0.25 + paid[False])
    assert part.left == pytest.approx(min(1.0 - part.spent, 1.5 - whole.spent))


def test_what_rounding_leaves_is_not_waited_for() -> None:
    budget = Budget(1000.0)
    budget.settle(-4e-12, 1000.0)  # as after some hundred thousand calls of half a dollar, with none in flight

    async def run() -> None:
        async with asyncio.timeout(1):
            with pytest.raises(errors.BudgetExceededError, match="does not allow another call"):
                await budget.reserve(0.5)

    asyncio.run(run())


def test_a_cancelled_call_gives_its_reservation_back_or_counts_it() -> None:
    with Simulator("openai", faults=Fault.silence()) as server:
        budget = Budget(1.0)
        model = server.open(budget=budget, price=Price(1, 1), attempts=1)

        async def run() -> None:
            call = asyncio.create_task(model.achat("x", max_tokens=1000))
            while not server.in_flight:
                await asyncio.sleep(0.005)
            assert budget.reserved > 0
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        loop.run(run())
        assert budget.reserved == 0
        assert budget.spent > 0.001  # the provider may be at work on it


def test_what_was_refused_costs_nothing() -> None:
    with Simulator("openai", faults=[Fault.status(400)]) as server:
        budget = Budget(1.0)
        model = server.open(budget=budget, price=Price(1e3, 1e3))
        with pytest.raises(errors.BadRequestError):
            model.chat("x", max_tokens=10)
        assert (budget.spent, budget.reserved) == (0, 0)
        reply = model.chat("x", max_tokens=10)
        assert budget.spent == reply.usd == pytest.approx(2e-3)


def test_a_model_of_unknown_price_is_refused() -> None:
    with Simulator("openai") as server:
        model = server.open("nobody-knows-me", budget=1.0)
        with pytest.raises(errors.ModelError, match=r"the price of .* is not known.* options: \{price: \{input"):
            model.chat("x")
        assert server.calls == 0


def test_a_budget_bounds_the_answer() -> None:
    with Simulator("openai") as server:
        server.open("gpt-4.1-mini", budget=1.0).chat("x")
        assert server.requests[0].json["max_completion_tokens"] == 4096


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_storm_does_not_exceed_it(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Policy(first_wait=0.001, first_pause=0.001, least_rate=10**9)  # faults at random are no limit to learn
    chance = random.Random(3)
    charged: list[float] = []
    price = Price(1e3, 1e4)

    def answer(text: str) -> Reply:
        usage = Usage(len(text), chance.randint(1, 20))
        charged.append(price.usd(usage))
        return Reply("ok", "stop", usage)

    with Simulator("openai", answer=answer, faults=Fault.mix(0.2, seed=1)) as server:
        budget = Budget(20.0)
        times = Timeouts(5, 0.3, 0.3, 0.3)
        model = server.open(budget=budget, price=price, attempts=3, timeout=times, policy=quick)
        watched: list[float] = []
        settle = budget.settle

        def watch(most: float, usd: float) -> None:
            settle(most, usd)
            watched.append(budget.spent + budget.reserved)

        monkeypatch.setattr(budget, "settle", watch)
        ends: dict[str, int] = {"answer": 0, "fault": 0, "refused": 0}

        async def one(number: int) -> None:
            try:
                if stream:
                    pieces = model.astream("hello", max_tokens=20)
                    _ = [piece async for piece in pieces]
                else:
                    await model.achat("hello", max_tokens=20)
                ends["answer"] += 1
            except errors.BudgetExceededError:
                ends["refused"] += 1
            except errors.ProviderError:
                ends["fault"] += 1

        async def all_of_them() -> None:
            places = asyncio.Semaphore(40)

            async def in_turn(number: int) -> None:
                async with places:
                    await one(number)

            await asyncio.gather(*(in_turn(number) for number in range(400)))

        loop.run(all_of_them())
        assert sum(ends.values()) == 400
        assert ends["refused"] > 0
        assert ends["answer"] > 0
        assert max(watched) <= 20.0 + 1e-9
        assert budget.reserved == pytest.approx(0, abs=1e-9)
        assert sum(charged) <= 20.0, "what the provider charged is more than the budget"


def test_one_budget_serves_several_models() -> None:
    with Simulator("openai") as server:
        budget = Budget(1.0)
        options: dict[str, Any] = {"budget": budget, "price": Price(0, 4e5)}
        server.open("one", **options).chat("x", max_tokens=2)
        with pytest.raises(errors.BudgetExceededError):
            server.open("other", **options).chat("x", max_tokens=2)
        assert budget.spent == pytest.approx(0.4)


PDF = Document(url="https://example.org/long.pdf", media_type="application/pdf")


PICTURE = Image.from_url("https://example.org/a.png")


@pytest.mark.parametrize("content", [["x", PDF], ["x", PICTURE]])
def test_a_part_at_an_address_may_fill_the_whole_context(content: list[Any]) -> None:
    with Simulator("anthropic", answer=Reply("hi", "stop", Usage(90_000, 1))) as server:
        little, enough = Budget(0.15), Budget(0.3)
        with pytest.raises(errors.BudgetExceededError):
            server.open("claude-haiku-4-5", budget=little, price=Price(1, 1)).chat(content, max_tokens=5)
        assert (server.calls, little.spent) == (0, 0)
        server.open("claude-haiku-4-5", budget=enough, price=Price(1, 1)).chat(content, max_tokens=5)
        assert enough.spent == pytest.approx(90_001e-6)


def test_a_part_at_an_address_needs_a_known_context_under_a_budget() -> None:
    with Simulator("openai") as server:
        with pytest.raises(errors.ModelError, match="send the file itself"):
            server.open("m", budget=1.0, price=Price(1, 1)).chat(["x", PICTURE], max_tokens=5)
        assert server.calls == 0
        assert server.open("m", price=Price(1, 1)).chat(["x", PICTURE], max_tokens=5).text


PHOTO = Image(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 15, 192, 0, 0, 11, 208]), "image/png")  # 4032 by 3024
LOOK = Assistant(ToolCall("1", "look", {}))


@pytest.mark.parametrize(
    ("provider", "model", "most", "content"),
    [
        ("openai", "gpt-6", 14_364, ["x", PHOTO]),
        ("openai", "gpt-4o-mini", 48_169, ["x", PHOTO]),
        ("anthropic", "claude-opus-5-5", 4_784, ["x", PHOTO]),
        ("anthropic", "claude-opus-5-5", 4_784, [LOOK, User(ToolResult("1", "look", (Text("x"), PHOTO)))]),
    ],
)
def test_a_picture_reserves_what_it_may_cost(provider: str, model: str, most: int, content: list[Any]) -> None:
    with Simulator(provider, answer=Reply("hi", "stop", Usage(most, 1))) as server:
        little, enough = Budget(most * 1e-6), Budget(most * 1.3e-6)
        with pytest.raises(errors.BudgetExceededError):
            server.open(model, budget=little, price=Price(1, 1)).chat(content, max_tokens=1)
        assert (server.calls, little.spent) == (0, 0)
        server.open(model, budget=enough, price=Price(1, 1)).chat(content, max_tokens=1)
        assert enough.spent == pytest.approx((most + 1) * 1e-6)


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"max_tokens": 20_000}, "max_tokens"), ({"max_completion_tokens": 20_000}, "max_completion_tokens"),
        ({"n": 8}, "n"), ({"options": {"num_predict": -1}}, "options.num_predict"),
        ({"generationConfig": {"maxOutputTokens": 9}}, "generationConfig.maxOutputTokens"),
        ({"model": "dearer"}, "model"), ({"messages": []}, "messages"),
    ],
)  # fmt: skip
def test_extra_lifts_no_limit_under_a_budget(extra: dict[str, Any], named: str) -> None:
    with Simulator("openai") as server:
        model = server.open("gpt-4.1-mini", budget=1.0)
        with pytest.raises(errors.ModelError, match=f"extra: with '{named}'.*no budget"):
            model.chat("x", extra=extra, max_tokens=5)
        with (
            pytest.raises(errors.ModelError, match=f"extra: with '{named}'.*no budget"),
            model.stream("x", extra=extra, max_tokens=5) as stream,
        ):
            list(stream)
        assert server.calls == 0
        assert model.chat("x", extra={"user": "me"}, max_tokens=5).usd


@pytest.mark.parametrize("usage", [Usage(9, 0), Usage(0, 9)])
@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic", "gemini", "cohere", "bedrock"])
def test_an_answer_of_no_counted_tokens_costs_what_was_reserved(provider: str, usage: Usage) -> None:
    with Simulator(provider, answer=Reply("word " * 500, "stop", usage)) as server:
        budget = Budget(1.0)
        model = server.open(budget=budget, price=Price(10, 10))
        assert model.chat("x", max_tokens=1000).usd is None
        assert budget.spent >= 0.01
        assert budget.reserved == 0
        free = server.open(budget=budget, price=Price(10, 10))
        before = budget.spent
        with free.stream("x", max_tokens=1000) as stream:
            list(stream)
        assert budget.spent >= before + 0.01
