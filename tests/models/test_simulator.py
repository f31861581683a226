"""The simulator beside the official SDKs, and what it counts and does to order."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import boto3
import cohere
import mistralai.client
import numpy as np
import ollama
import openai
import pytest
from botocore.config import Config
from google import genai
from google.genai import types

from kurabe import errors
from kurabe.messages import Reasoning, Reply, Text, ToolCall, Usage, User
from kurabe.testing import EchoModel, Fault, ScriptedModel, Simulator

Wait = Callable[[Callable[[], bool]], None]  # the fixture `settled`

MODELS = {
    "openai": "gpt-4.1-mini", "openai-responses": "gpt-4.1-mini", "azure": "deployed", "anthropic": "claude-sonnet-5-5",
    "anthropic-vertex": "claude-sonnet-5-5", "anthropic-bedrock": "anthropic.claude-sonnet-5-5-v1:0",
    "gemini": "gemini-3-pro", "vertex": "gemini-3-pro", "bedrock": "us.amazon.nova-pro-v1:0", "cohere": "command-a",
    "mistral": "mistral-large", "ollama": "llama3.2", "groq": "llama-4",
}  # fmt: skip
ANSWER = "one two  three\nfour"
CALLS = (
    Reasoning("let me think"),
    Text("I will ask."),
    ToolCall("c1", "weather", {"city": "Paris"}),
    ToolCall("c2", "clock", {}),
)


@pytest.mark.parametrize("provider", MODELS)
def test_our_models_read_it_plain_and_streamed(provider: str) -> None:
    with Simulator(provider, answer=ANSWER) as server:
        model = server.open(MODELS[provider])
        stream = model.stream("hello there")
        pieces = [delta.text for delta in stream]
        for reply in (model.chat("hello there"), stream.reply):
            assert (reply.text, reply.finish_reason, reply.usage) == (ANSWER, "stop", Usage(2, 4))
        assert "".join(pieces) == ANSWER
        assert len([piece for piece in pieces if piece]) == 4
        assert [call.text for call in server.requests] == ["hello there", "hello there"]
        assert [call.stream for call in server.requests] == [True, False]
        server.answer = CALLS
        for reply in (model.chat("Weather?"), model.stream("Weather?").reply):
            named = [(call.name, call.arguments) for call in reply.tool_calls]
            assert named == [("weather", {"city": "Paris"}), ("clock", {})]
            assert "let me think" in reply.reasoning or provider == "cohere"
            assert reply.finish_reason == "tool_calls"
        server.answer = Reply("cut", "length", Usage(100, 20, 30))
        for reply in (model.chat("x"), model.stream("x").reply):
            assert (reply.finish_reason, reply.usage.input, reply.usage.output) == ("length", 100, 20)
            assert reply.usage.cached in (30, 0 if provider == "ollama" else 30)


@pytest.mark.parametrize("provider", ["openai", "gemini", "cohere", "mistral", "ollama", "azure"])
def test_embeddings_come_in_order(provider: str) -> None:
    with Simulator(provider) as server:
        vectors = server.open("embedder").embed(["a", "b c"])
        assert np.array_equal(vectors, [server.vector("a"), server.vector("b c")])


@pytest.mark.parametrize("name", ["amazon.titan-embed-text-v2:0", "cohere.embed-v4:0", "amazon.nova-2-multimodal"])
def test_embeddings_of_bedrock(name: str) -> None:
    with Simulator("bedrock") as server:
        vectors = server.open(name).embed(["a", "b c"])
        assert np.array_equal(vectors, [server.vector("a"), server.vector("b c")])


@pytest.mark.parametrize("name", ["text-embedding-005", "gemini-embedding-2"])
def test_embeddings_of_vertex(name: str) -> None:
    with Simulator("vertex") as server:
        assert np.array_equal(server.open(name).embed("a"), [server.vector("a")])


@pytest.mark.parametrize(
    "provider", ["openai", "openai-responses", "anthropic", "gemini", "vertex", "cohere", "mistral", "ollama"]
)
def test_lists_of_models(provider: str) -> None:
    with Simulator(provider, models=["a", "b"]) as server:
        assert server.open("x").models() == ["a", "b"]  # type: ignore[attr-defined]


def test_ranking() -> None:
    with Simulator("cohere") as server:
        ranking = server.open("rerank-v4").rerank("red apple", ["a pear", "a red apple", "red"], top=2)
        assert [position for position, _ in ranking.results] == [1, 2]


# ── The official SDKs read it ────────────────────────────────────────────────────────────────────────────────────────


def by_openai(url: str) -> tuple[str, str]:
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        whole = client.chat.completions.create(**asked).choices[0].message.content or ""
        chunks = client.chat.completions.create(**asked, stream=True)
        return whole, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def by_openai_responses(url: str) -> tuple[str, str]:
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
        whole = client.responses.create(model="m", input="Hi").output_text
        with client.responses.stream(model="m", input="Hi") as stream:
            return whole, stream.get_final_response().output_text


def by_anthropic(url: str) -> tuple[str, str]:
    with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client:
        asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        block: Any = client.messages.create(**asked).content[0]
        with client.messages.stream(**asked) as stream:
            return block.text, stream.get_final_text()


def by_anthropic_bedrock(url: str) -> tuple[str, str]:
    keys = {"aws_access_key": "k", "aws_secret_key": "s", "aws_region": "us-east-1"}
    with anthropic.AnthropicBedrock(**keys, base_url=url, max_retries=0) as client:  # type: ignore[arg-type]
        asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        block: Any = client.messages.create(**asked).content[0]
        with client.messages.stream(**asked) as stream:
            return block.text, stream.get_final_text()


def by_gemini(url: str) -> tuple[str, str]:
    options = types.HttpOptions(base_url=url.removesuffix("/v1"))
    with genai.Client(api_key="k", http_options=options) as client:
        whole = client.models.generate_content(model="m", contents="Hi").text or ""
        chunks = client.models.generate_content_stream(model="m", contents="Hi")
        return whole, "".join(chunk.text or "" for chunk in chunks)


def by_bedrock(url: str) -> tuple[str, str]:
    session = boto3.Session("k", "s", region_name="us-east-1")
    client = session.client("bedrock-runtime", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
    asked = {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    whole = client.converse(**asked)["output"]["message"]["content"][0]["text"]
    events = client.converse_stream(**asked)["stream"]
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    client.close()
    return whole, "".join(deltas)


def by_cohere(url: str) -> tuple[str, str]:
    client = cohere.ClientV2("k", base_url=url, max_retries=0)
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    content: Any = client.chat(**asked).message.content
    events: Any = client.chat_stream(**asked)
    deltas = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    client._client_wrapper.httpx_client.httpx_client.close()
    return content[0].text, "".join(deltas)


def by_mistral(url: str) -> tuple[str, str]:
    with mistralai.client.Mistral(api_key="k", server_url=url.removesuffix("/v1")) as client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        whole: Any = client.chat.complete(**asked).choices[0].message
        events: Any = client.chat.stream(**asked)
        return whole.content, "".join(event.data.choices[0].delta.content for event in events)


def by_ollama(url: str) -> tuple[str, str]:
    with ollama.Client(url) as client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        whole = client.chat(**asked).message.content or ""
        return whole, "".join(part.message.content or "" for part in client.chat(**asked, stream=True))


@pytest.mark.parametrize(
    ("provider", "read"),
    [
        ("openai", by_openai), ("openai-responses", by_openai_responses), ("anthropic", by_anthropic),
        ("anthropic-bedrock", by_anthropic_bedrock), ("gemini", by_gemini), ("bedrock", by_bedrock),
        ("cohere", by_cohere), ("mistral", by_mistral), ("ollama", by_ollama),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_official_sdk_reads_it(
    provider: str, read: Callable[[str], tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with Simulator(provider, answer=ANSWER) as server:
        assert read(server.url) == (ANSWER, ANSWER)
        assert server.outcomes == {"answer": 2}


# ── What it does to order ────────────────────────────────────────────────────────────────────────────────────────────


def test_answers_by_function_by_list_and_by_echo() -> None:
    with Simulator("openai") as server:
        model = server.open()
        assert model.complete("say it") == "say it"
        server.answer = str.upper
        assert model.complete("say it") == "SAY IT"
        server.answer = ["a", "b"]
        assert [model.complete("x") for _ in range(3)] == ["a", "b", "b"]


def test_faults_in_turn_leave_the_calls_after_them_alone() -> None:
    with Simulator("anthropic", answer="Hello", faults=[None, Fault.status(400, "no such thing")]) as server:
        model = server.open("claude-sonnet-5-5")
        assert model.complete("x") == "Hello"
        with pytest.raises(errors.BadRequestError, match="no such thing"):
            model.complete("x")
        assert model.complete("x") == "Hello"
        assert server.outcomes == {"answer": 2, "status 400": 1}


def test_a_mix_has_its_share_and_repeats_itself() -> None:
    with Simulator("openai") as server:
        server.open().chat("x")
        call = server.requests[0]
    drawn = [Fault.mix(0.2, seed=1), Fault.mix(0.2, seed=1)]
    first, second = ([mix(call) for _ in range(2000)] for mix in drawn)
    assert first == second
    failed = [fault for fault in first if fault is not None]
    assert 320 < len(failed) < 480
    assert {fault.kind for fault in failed} == {fault.kind for fault in Fault.every()}


def test_counts_calls_in_flight_and_waits(settled: Wait) -> None:
    with Simulator("openai", delay=1, keep=3) as server:
        model = server.open()
        with ThreadPoolExecutor(8) as pool:
            began = time.perf_counter()
            waiting = [pool.submit(model.chat, "x") for _ in range(8)]
            settled(lambda: server.in_flight == 8)
            assert all(one.result().text == "x" for one in waiting)
            assert time.perf_counter() - began > 1
        settled(lambda: server.in_flight == 0)  # counted down when the last bytes have gone out
        assert (server.most_in_flight, server.calls) == (8, 8)
        assert [call.number for call in server.requests] == [5, 6, 7]


def test_the_pace_of_a_stream() -> None:
    with Simulator("openai", answer="a b c d", pace=0.05) as server:
        began = time.perf_counter()
        assert len(list(server.open().stream("x"))) == 4
        assert time.perf_counter() - began > 0.15


def test_a_limit_is_stated_and_kept() -> None:
    with Simulator("openai", requests_per_minute=2) as server:
        model = server.open(attempts=1)
        model.chat("x")
        model.chat("x")
        assert server.outcomes == {"answer": 2}
        with pytest.raises(errors.RateLimitedError) as caught:
            server.open(attempts=1, api_key="another-key").chat("x")
        assert caught.value.retry_after == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "cohere", "mistral", "bedrock"])
def test_a_call_without_a_key_or_sense_is_refused(provider: str) -> None:
    import httpx2

    with Simulator(provider) as server, httpx2.Client(base_url=server.address) as client:
        assert client.post("/nowhere", headers={"authorization": "Bearer k"}).status_code == 404
        server.open(MODELS[provider]).chat("x")
        call = server.requests[-1]
        assert client.post(call.path, content=call.body).status_code == 401
        assert client.post(call.path, content=b"{", headers={"authorization": "Bearer k"}).status_code == 400
        assert client.post(call.path, content=b"{}", headers={"authorization": "Bearer k"}).status_code == 400


def test_names_of_protocols_and_unknown_ones() -> None:
    with Simulator("anthropic_vertex") as server:
        assert server.provider.name == "anthropic-vertex"
    with pytest.raises(errors.InputError, match="did you mean 'anthropic'"):
        Simulator("antropic")


def test_closing_ends_the_thread_and_the_calls_under_way() -> None:
    server = Simulator("openai", faults=Fault.silence())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.open(attempts=1).chat, "x")
        while server.in_flight == 0:
            time.sleep(0.001)
        server.close()
        server.close()
        with pytest.raises(errors.ConnectionFailedError):
            waiting.result(5)
    assert (server.in_flight, server.connections) == (0, 0)


def test_models_without_a_server_can_do_all() -> None:
    model = ScriptedModel(["one two", "three"], usd=0.5)
    assert model.complete("x") == "one two"
    stream = model.stream(User("y"))
    assert [delta.text for delta in stream] == ["three"]
    assert (stream.reply.text, stream.reply.usd, model.calls) == ("three", 0.5, 2)
    assert [request.messages[-1].text for request in model.requests] == ["x", "y"]
    assert EchoModel().complete("back") == "back"
