"""What is sent beside the codecs' own work: keys, batches, empty turns, marks of the cache, repeats, counts."""

import json
from typing import Any

import pytest

from kurabe import errors
from kurabe.messages import Assistant, Message, Request, System, Tool, User
from kurabe.models import open_model
from kurabe.models.codecs.base import Profile
from kurabe.models.hosted.connect import codec_of
from kurabe.models.hosted.transport.policy import Policy
from kurabe.models.providers import Provider, providers
from kurabe.models.tools import tool
from kurabe.testing import Fault, Simulator
from kurabe.testing.server import Response

TOOL = Tool("clock", "", {"type": "object", "properties": {}})
ROWS: dict[str, Provider] = {row.protocol: row for row in reversed(providers().values())}
"""One provider of each protocol."""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "test-key")
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)


def sent(protocol: str, *messages: Message, **settings: Any) -> Any:
    wire = codec_of(ROWS[protocol]).chat("m", Request(messages, **settings), Profile(), stream=False)
    return json.loads(wire.body)


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_ollama_s_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator("ollama") as server:
        open_model("ollama:m", base_url=server.url).chat("a")
        assert "authorization" not in server.requests[-1].headers
        open_model("ollama:m", base_url=server.url, api_key="one").chat("a")
        assert server.requests[-1].headers["authorization"] == "Bearer one"
        monkeypatch.setenv("OLLAMA_API_KEY", "two")
        model = open_model("ollama:m", base_url=server.url)
        model.chat("a")
        list(model.stream("a"))
        assert [call.headers["authorization"] for call in list(server.requests)[-2:]] == ["Bearer two"] * 2


def test_ollama_s_key_goes_with_its_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    from kurabe.models.hosted.ollama import running

    with Simulator("ollama", models=["small"]) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        monkeypatch.setenv("OLLAMA_API_KEY", "two")
        assert [model.name for model in running() or ()] == ["small"]
        assert server.requests[-1].headers["authorization"] == "Bearer two"


def test_vertex_with_a_key_is_express_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with Simulator("vertex-express") as server:
        for reference, options in (
            ("vertex:gemini-3-pro", {"api_key": "AIza-test"}),
            ("vertex:gemini-3-pro?project=p-1", {"api_key": "AIza-test"}),
            ("vertex-express:gemini-3-pro", {"api_key": "AIza-test"}),
        ):
            open_model(reference, base_url=server.url, **options).chat("Hi")
            call = server.requests[-1]
            assert call.path == "/v1beta1/publishers/google/models/gemini-3-pro:generateContent"
            assert call.headers["x-goog-api-key"] == "AIza-test"
            assert "authorization" not in call.headers
        open_model("vertex:m?project=p-1", base_url=server.url, api_key="ya29.token").chat("Hi")
        assert server.requests[-1].headers["authorization"] == "Bearer ya29.token"
    assert open_model("vertex:m", api_key="AIza-test").client.base_url == providers()["vertex-express"].base_url  # type: ignore[attr-defined]


def test_the_rules_of_vertex_are_those_of_express_mode() -> None:
    assert providers()["vertex"].models == providers()["vertex-express"].models


# ── Batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("reference", "calls"),
    [
        ("bedrock:cohere.embed-v4:0", 3),
        ("bedrock:us.cohere.embed-english-v3", 3),
        ("bedrock:amazon.titan-embed-text-v2:0", 200),
    ],
)
def test_bedrock_embeds_as_many_texts_a_call_as_the_model_takes(reference: str, calls: int) -> None:
    texts = [f"text {i}" for i in range(200)]
    with Simulator("bedrock") as server:
        vectors = open_model(reference, base_url=server.url).embed(texts)
        assert server.calls == calls
        assert [vector.tolist() for vector in vectors] == [server.vector(text) for text in texts]


# ── Empty turns ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("protocol", ROWS)
@pytest.mark.parametrize("empty", [User(""), User()], ids=["text", "no parts"])
def test_an_empty_turn_does_not_vanish(protocol: str, empty: Message) -> None:
    turns = User("a"), Assistant("b"), empty
    if protocol == "bedrock":
        with pytest.raises(errors.InputError, match="no empty turn"):
            sent(protocol, *turns)
        return
    body = sent(protocol, *turns)
    listed = body.get("messages") or body.get("contents") or body["input"]
    assert [turn["role"] for turn in listed] == ["user", "model" if "contents" in body else "assistant", "user"]
    assert listed[-1].get("content", listed[-1].get("parts", "")) in ("", [{"text": ""}])


@pytest.mark.parametrize("protocol", ROWS)
def test_a_conversation_of_system_turns_alone(protocol: str) -> None:
    """It goes out where the service takes it."""
    if protocol in ("openai_chat", "cohere", "ollama"):
        assert sent(protocol, System("Be brief."))["messages"] == [{"role": "system", "content": "Be brief."}]
    else:
        with pytest.raises(errors.InputError, match="needs a user's turn"):
            sent(protocol, System("Be brief."))


@pytest.mark.parametrize("reference", ["gemini:m", "bedrock:amazon.nova-pro-v1:0", "anthropic:claude-haiku-4-5"])
def test_a_system_turn_that_moves_to_the_front_is_told(reference: str) -> None:
    provider, _, model = reference.partition(":")
    with Simulator(provider) as server, server.open(model) as opened:
        opened.chat([System("One."), User("a")])
        with pytest.warns(UserWarning, match="moved to the front"):
            opened.chat([System("One."), User("a"), Assistant("b"), System("Two."), User("c")])
        body = server.requests[-1].json
        assert "Two." in json.dumps(body.get("system") or body["systemInstruction"])


# ── Strict tools ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_strict_tool_of_a_function() -> None:
    def weather(city: str, unit: str = "celsius") -> str:
        """The weather."""
        return city + unit

    made = tool(weather, strict=True)
    assert made.strict
    assert made.parameters["required"] == ["city", "unit"]
    assert made.parameters["additionalProperties"] is False
    assert not tool(weather).strict


@pytest.mark.parametrize("reference", ["gemini:m", "ollama:m", "groq:m"])
def test_a_provider_without_strict_tools_says_so(reference: str) -> None:
    provider, _, model = reference.partition(":")
    strict = Tool("clock", "", TOOL.parameters, strict=True)
    with Simulator(provider) as server:
        with pytest.raises(errors.InputError, match="does not take strict"):
            server.open(model).chat("a", tools=[strict])
        with pytest.warns(UserWarning, match="strict"):
            server.open(model, unsupported="drop").chat("a", tools=[strict])
        assert b"strict" not in server.requests[-1].body


# ── Marks of the provider's cache ────────────────────────────────────────────────────────────────────────────────────
MARKED = System("Be brief.", cache=True), User("a", cache=True), Assistant("b", cache=True), User("c")


@pytest.mark.parametrize("protocol", [protocol for protocol in ROWS if not protocol.startswith("anthropic")])
def test_marks_say_nothing_to_others(protocol: str) -> None:
    tools = (Tool("clock", "", TOOL.parameters, cache=True),)
    plain = [Message(turn.role, turn.content) for turn in MARKED]
    assert sent(protocol, *MARKED, tools=tools) == sent(protocol, *plain, tools=(TOOL,))


def test_too_many_marks_are_refused_before_they_are_sent() -> None:
    with pytest.raises(errors.InputError, match="at most 4"):
        sent("anthropic", *MARKED, User("d", cache=True), User("e", cache=True))
    assert len(sent("anthropic", *MARKED, User("d", cache=True))["messages"]) == 4


@pytest.mark.parametrize(
    ("reference", "marked"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", True), ("anthropic.claude-3-haiku-20240307-v1:0", False),
        ("us.anthropic.claude-opus-5-5-v1:0", True), ("amazon.nova-lite-v1:0", True), ("meta.llama3-70b-v1:0", False),
    ],
)  # fmt: skip
def test_bedrock_s_models_that_keep_beginnings(reference: str, marked: bool) -> None:
    with Simulator("bedrock") as server:
        server.open(reference).chat(list(MARKED))
        assert (b"cachePoint" in server.requests[-1].body) is marked


def test_a_mark_does_not_change_the_name_of_a_cached_reply(tmp_path: Any) -> None:
    with Simulator("anthropic") as server:
        model = server.open("claude-sonnet-5-5", cache=tmp_path / "replies.sqlite")
        first = model.chat([User("a"), Assistant("b"), User("c")])
        again = model.chat([User("a"), Assistant("b", cache=True), User("c")])
        assert (server.calls, again.text) == (1, first.text)
        assert model.stream([User("a", cache=True), Assistant("b"), User("c")]).reply.text == first.text
        assert server.calls == 1


def test_one_request_goes_ahead_where_a_beginning_is_marked() -> None:
    requests = [Request((System("Long.", cache=True), User(str(i)))) for i in range(20)]
    with Simulator("anthropic", delay=0.02) as server, server.open("claude-sonnet-5-5", concurrency=8) as model:
        seen: list[int] = []

        def answer(text: str) -> str:
            seen.append(server.in_flight)
            return text

        server.answer = answer
        assert sorted(reply.text for _, reply in model.chat_many(requests)) == sorted(map(str, range(20)))
        assert seen[0] == 1
        assert server.most_in_flight > 1


def test_where_the_one_that_goes_ahead_fails_no_other_is_sent() -> None:
    requests = [Request((System("Long.", cache=True), User(str(i)))) for i in range(20)]
    with Simulator("anthropic", faults=Fault.status(401)) as server, server.open("claude-sonnet-5-5") as model:
        with pytest.raises(errors.AuthenticationError):
            list(model.chat_many(requests))
        assert server.calls == 1


# ── Repeats ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("status", "says", "calls"),
    [(503, "false", 1), (503, None, 2), (400, "true", 2), (400, None, 1), (503, "maybe", 2)],
)
def test_what_the_provider_says_of_a_repeat_is_obeyed(status: int, says: str | None, calls: int) -> None:
    class Telling(Simulator):
        def _error(self, *arguments: Any) -> Response:
            response = super()._error(*arguments)
            if says is not None:
                response.headers["x-should-retry"] = says
            return response

    with Telling("openai", faults=Fault.status(status)) as server:
        with pytest.raises(errors.ProviderError):
            server.open(attempts=2, policy=Policy(first_wait=0.001)).chat("a")
        assert server.calls == calls


# ── Stored answers ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_goes_on_from_a_stored_answer(stream: bool) -> None:
    with Simulator("openai-responses") as server, server.open("gpt-5.1") as model:
        extra = {"store": True}
        first = (
            model.stream("My name is Ann.", extra=extra).reply if stream else model.chat("My name is Ann.", extra=extra)
        )
        assert first.id
        assert server.requests[-1].json["store"] is True
        model.chat("What is my name?", extra={"previous_response_id": first.id})
        body = server.requests[-1].json
        assert (body["previous_response_id"], body["store"]) == (first.id, False)
        assert [turn["content"] for turn in body["input"]] == ["What is my name?"]


def test_a_fault_is_still_a_fault() -> None:
    with Simulator("anthropic", faults=Fault.status(401)) as server, pytest.raises(errors.AuthenticationError):
        server.open("claude-sonnet-5-5").chat(list(MARKED))
