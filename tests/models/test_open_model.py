"""What `open_model` takes, refuses and shares along a chain."""

import asyncio
import time
from typing import Any

import pytest

from kurabe.errors import BudgetExceededError, InputError
from kurabe.messages import Message, Reply, Request, Usage
from kurabe.models import open_model
from kurabe.models._fallback import Fallback
from kurabe.models.cost import Price
from kurabe.models.hosted.transport.budget import Budget
from kurabe.models.hosted.transport.policy import Policy
from kurabe.testing import EchoModel, Fault, Simulator


@pytest.mark.parametrize("reference", [None, 5, ["openai:gpt-5.1"]])
def test_a_model_is_named_by_a_text(reference: Any) -> None:
    with pytest.raises(InputError, match="named by a text such as"):
        open_model(reference)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_kye": "x"}, "no option 'api_kye'; did you mean 'api_key'"),
        ({"api_key": ""}, "api_key must be"),
        ({"api_key": 5}, "api_key must be"),
        ({"base_url": 5}, "base_url must be"),
        ({"timeout": "5"}, "timeout must be seconds"),
        ({"timeout": 0}, "timeout must be seconds"),
        ({"attempts": 0}, "attempts must be"),
        ({"policy": 5}, "policy must be a Policy or a mapping such as"),
        ({"policy": {"failures": 0}}, "policy: failures must be a whole number above 0"),
        ({"policy": {"failures": 2.5}}, r"policy: .*`int`.* at `\$.failures`; it takes first_wait, "),
        ({"policy": {"rest": -1}}, "policy: rest must be a number above 0"),
        ({"policy": {"least_rate": 10**400}}, "policy: least_rate must be a whole number above 0 and at most"),
        ({"policy": {"first_wait": 1e300}}, "policy: first_wait must be a number above 0 and at most 1,000,000,000"),
        ({"policy": {"faliures": 5}}, r"policy: .*`faliures`; it takes .* failures, "),
        ({"requests_per_minute": 0}, "requests_per_minute must be"),
        ({"tokens_per_minute": -1}, "tokens_per_minute must be"),
        ({"concurrency": -1}, "concurrency must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"budget": "5"}, "budget must be dollars"),
        ({"budget": float("nan")}, "budget must be dollars"),
        ({"cache": 5}, "cache must be"),
        ({"price": 5}, "price must be"),
        ({"unsupported": "eror"}, "unsupported must be"),
        ({"headers": {"a": 5}}, "headers must be"),
    ],
)
def test_a_wrong_option_is_told_when_the_model_is_opened(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_model("openai:gpt-4.1", **{"api_key": "k", **options})


@pytest.mark.parametrize("address", ["https://me:planted-secret@host/v1", "https://host/v1?key=planted-secret"])
def test_an_address_with_a_secret_in_it_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InputError, match="hold no name or password") as caught:
        open_model("openai:gpt-4.1", api_key="k", base_url=address)
    assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize("option", [{"api_key": "k"}, {"base_url": "https://host/v1"}, {"headers": {"x-key": "k"}}])
def test_the_key_of_one_provider_goes_to_no_other(option: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(variable, "k")
    with pytest.raises(InputError, match="names several"):
        open_model("openai:a | anthropic:b", **option)
    assert isinstance(open_model("openai:a | openai:b", **option), Fallback)


def test_a_chain_has_one_budget() -> None:
    with Simulator("openai", answer=lambda _: Reply("y", "stop", Usage(1, 120_000))) as server:
        names = "openai:gpt-4.1 | openai:gpt-4.1-mini"
        chain = open_model(names, base_url=server.url, api_key="test-key", budget=1.0)
        assert isinstance(chain, Fallback)
        first, second = chain.models
        assert first.chat("x", max_tokens=120_000).usd == pytest.approx(0.96, rel=1e-3)
        with pytest.raises(BudgetExceededError):
            second.chat("x", max_tokens=50_000)  # $0.08 at most
        assert second.chat("x", max_tokens=10).text == "y"


def test_a_provider_that_is_left_alone_is_not_waited_for_where_there_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Simulator("openai", faults=Fault.status(503)) as down, Simulator("openai", answer="here") as up:
        monkeypatch.setenv("SERVER_KEY", "k")
        policy = Policy(first_wait=0.001, failures=4)
        chain = open_model(f"openai@{down.url}:m?key=SERVER_KEY | openai@{up.url}:m?key=SERVER_KEY", policy=policy)
        began = time.perf_counter()
        assert [chain.chat("x").text, chain.stream("x").reply.text] == ["here", "here"]
        assert down.calls == 4
        assert time.perf_counter() - began < 10


def test_waiting_for_a_turn_takes_nothing_from_the_time_for_attempts() -> None:
    quick = Policy(first_wait=0.001, window=0.5)
    with Simulator("openai", faults=lambda call: Fault.status(500) if call.number == 1 else None) as server:
        model = server.open(requests_per_minute=1, timeout=0.3, concurrency=2, policy=quick)
        replies = list(model.chat_many([Request((Message("user", text),)) for text in ("one", "two")]))
        assert sorted(reply.text for _, reply in replies) == ["one", "two"]
        assert server.calls == 3


def test_a_call_that_is_cancelled_before_it_was_sent_costs_nothing() -> None:
    with Simulator("openai") as server:
        budget = Budget(1.0)
        model = server.open(requests_per_minute=1, budget=budget, price=Price(1, 1))
        spent = model.chat("x").usd

        async def wait() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await model.achat("x")

        asyncio.run(wait())
        assert (budget.spent, budget.reserved, server.calls) == (spent, 0.0, 1)


def test_models_and_references_are_joined_into_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with Simulator("openai", answer="second") as server, Simulator("openai", faults=[Fault.status(500)] * 9) as broken:
        first, second = broken.open("a", attempts=1), server.open("b")
        chain = first | second
        assert isinstance(chain, Fallback)
        assert chain.chat("Hi").text == "second"
        longer = chain | (echo := EchoModel())
        assert isinstance(longer, Fallback)
        assert longer.models == (first, second, echo)
        name = "openai:gpt-4.1-mini"
        assert (second | name).reference == f"{second.reference} | {name}"
        assert (name | second).reference == f"{name} | {second.reference}"
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = first | 5  # type: ignore[operator]
