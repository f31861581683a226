"""Hosted models as a whole: chains, what a reply holds, and spans."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kurabe import errors
from kurabe.errors import InputError, ModelError
from kurabe.messages import Message, Request, System, User
from kurabe.models._fallback import Fallback
from kurabe.models.cost import Price
from kurabe.models.hosted.transport.budget import Budget
from kurabe.testing import Fault, Simulator


def test_a_reply_says_what_only_the_client_knows() -> None:
    with Simulator("openai", delay=0.05) as server:
        reply = server.open("gpt-4.1-mini").chat("hello there")
        assert reply.request_id == "req-0"
        assert reply.seconds >= 0.05
        assert reply.first_seconds is None
        assert reply.usd == pytest.approx((2 * 0.4 + 2 * 1.6) / 1e6)
        assert b"hello there" in reply.raw
        assert server.open("nobody-knows-me").chat("x").usd is None


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(401), Fault.reset(), Fault.empty(), Fault.html()])
def test_where_one_model_fails_the_next_is_asked(fault: Fault, stream: bool) -> None:
    with Simulator("openai", faults=fault) as first, Simulator("anthropic", answer="I am here") as second:
        chain = Fallback([first.open(attempts=1), second.open("claude-sonnet-5-5")])
        reply = chain.stream("x").reply if stream else chain.chat("x")
        assert (reply.text, reply.model, first.calls, second.calls) == ("I am here", "claude-sonnet-5-5", 1, 1)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_request_that_is_wrong_goes_to_nobody_else(stream: bool) -> None:
    with Simulator("openai", faults=Fault.status(400)) as first, Simulator("openai") as second:
        chain = Fallback([first.open(), second.open()])
        with pytest.raises(errors.BadRequestError):
            _ = chain.stream("x").reply if stream else chain.chat("x")
        assert second.calls == 0


def test_a_stream_that_was_begun_is_not_begun_again_elsewhere() -> None:
    with Simulator("openai", answer="a b c d", faults=Fault.end()) as first, Simulator("openai") as second:
        chain = Fallback([first.open(), second.open()])
        with pytest.raises(errors.CutStreamError):
            _ = chain.stream("x").reply
        assert second.calls == 0


def test_where_all_fail_the_last_error_comes() -> None:
    with Simulator("openai", faults=Fault.status(503)) as first, Simulator("mistral", faults=Fault.status(500)) as last:
        chain = Fallback([first.open(attempts=1), last.open(attempts=1)])
        with pytest.raises(errors.ServerError, match="mistral:small"):
            chain.chat("x")


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """Spans of this file's models; the program's provider can be set once only, so it is not set at all."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    patch = pytest.MonkeyPatch()
    patch.setattr(trace, "get_tracer", lambda name: provider.get_tracer(name))
    yield made
    patch.undo()
    provider.shutdown()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_spans_follow_the_conventions(stream: bool, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    with Simulator("openai", faults=[None, Fault.status(401)]) as server:
        model = server.open("gpt-4.1-mini")
        settings: dict[str, Any] = {"max_tokens": 9, "temperature": 0.5}
        _ = model.stream("a secret prompt", **settings).reply if stream else model.chat("a secret prompt", **settings)
        with pytest.raises(errors.AuthenticationError):
            _ = model.stream("x").reply if stream else model.chat("x")
    good, bad = exporter.get_finished_spans()
    assert (good.name, good.kind) == ("chat gpt-4.1-mini", trace.SpanKind.CLIENT)
    found = dict(good.attributes or {})
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4.1-mini",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "gpt-4.1-mini",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "server.address": "127.0.0.1",
    }
    assert not bad.status.is_ok
    assert (bad.attributes or {})["error.type"] == "AuthenticationError"
    assert (bad.attributes or {})["http.response.status_code"] == 401


def test_the_span_of_a_stream_is_not_its_caller_s(exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    with Simulator("openai", answer="a b c") as server:
        with server.open("m").stream("x") as stream:
            next(iter(stream))

        async def left() -> bool:
            pieces = server.open("m").astream("x")
            await anext(aiter(pieces))
            found = trace.get_current_span().get_span_context().is_valid
            await pieces.aclose()
            return found

        assert not asyncio.run(left())
    assert [span.name for span in exporter.get_finished_spans()] == ["chat m", "chat m"]


def test_a_call_inside_the_requests_of_another_says_why_it_cannot_be() -> None:
    with Simulator("openai") as server:
        model = server.open("m")

        def requests() -> Iterator[Request]:
            yield Request((Message("user", "one"),))
            yield Request((Message("user", model.chat("what comes next?").text),))

        replies = model.chat_many(requests())
        assert next(replies)[1].text == "one"
        with pytest.raises(ModelError, match="wait for itself"):
            next(replies)


def test_answers_of_one_model_are_not_drawn_from_by_another_s_requests_unseen() -> None:
    with Simulator("openai") as server:
        model = server.open("m")
        first = model.chat_many([Request((Message("user", "one"),))])
        with pytest.raises(ModelError, match="wait for itself"):
            list(model.chat_many(Request((reply.message,)) for _, reply in first))


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (None, "not NoneType"),
        (5, "not int"),
        ("a", "not str; for one use chat"),
        ({"role": "user", "content": "a"}, "not dict"),
        (["a", 5], "request 1: a conversation is a text"),
    ],
)
def test_what_are_no_requests_is_told(requests: Any, said: str) -> None:
    with Simulator("openai") as server, pytest.raises(InputError, match=said):
        list(server.open("m").chat_many(requests))


def test_chat_many_takes_texts_conversations_and_settings() -> None:
    with Simulator("openai", answer="yes") as server:
        model = server.open("m")
        asked: list[Any] = ["one", [{"role": "user", "content": "two"}], (System("Be brief."), User("three"))]
        assert sorted(index for index, _ in model.chat_many(asked, max_tokens=5)) == [0, 1, 2]
        assert {call.json["max_completion_tokens"] for call in server.requests} == {5}
        with pytest.raises(InputError, match="request 0 is a Request, which has settings of its own"):
            list(model.chat_many([Request((User("a"),))], max_tokens=5))


def test_an_answer_of_many_that_does_not_follow_its_type_is_kept() -> None:
    with Simulator("openai", answer="no JSON") as server:
        ((_, reply),) = server.open("m").chat_many(
            ["one"], output={"type": "object", "properties": {"a": {"type": "string"}}}
        )
    assert (reply.text, reply.parsed) == ("no JSON", None)


def test_what_was_used_counts_against_the_limit_instead_of_the_guess() -> None:
    with Simulator("openai", answer="yes") as server:
        model = server.open("m", tokens_per_minute=1000)
        for _ in range(20):  # each guesses 256 tokens of output: four of them would fill the minute
            assert model.chat("again").text == "yes"
        assert server.calls == 20


def test_a_model_without_embeddings_says_so() -> None:
    with Simulator("anthropic") as server, pytest.raises(InputError, match="embeddings"):
        server.open("m").embed("text")


def test_embeddings_count_against_the_budget() -> None:
    with Simulator("openai") as server:
        budget = Budget(1.0)
        model = server.open("m", budget=budget, price=Price(1000, 0))
        assert model.embed(["one two three"]).shape == (1, 8)
        assert budget.spent == pytest.approx(3e-3)
        assert budget.reserved == 0
        with pytest.raises(errors.BudgetExceededError):
            model.embed(["word " * 1000])
        assert server.calls == 1
        with pytest.raises(ModelError, match="no budget can be kept"):
            model.rerank("a", ["b"])


def test_after_a_fault_no_more_is_embedded() -> None:
    with Simulator("openai", faults=Fault.status(400), delay=0.05) as server:
        with pytest.raises(errors.BadRequestError):
            server.open("m").embed([f"text {n}" for n in range(256 * 60)])
        time.sleep(0.5)  # in which the others would have been asked
        assert server.calls < 40


@pytest.mark.parametrize("texts", [5, None])
def test_what_is_no_text_is_not_embedded(texts: Any) -> None:
    with Simulator("openai") as server, pytest.raises(InputError, match="a list of texts"):
        server.open("m").embed(texts)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_what_is_too_long_for_one_model_goes_to_the_next(stream: bool) -> None:
    long = Fault.status(400, "prompt is too long: 9000 tokens > 8192 maximum")
    with Simulator("openai", faults=long) as first, Simulator("openai", answer="it fits") as second:
        chain = Fallback([first.open(), second.open()])
        assert (chain.stream("x").reply if stream else chain.chat("x")).text == "it fits"
