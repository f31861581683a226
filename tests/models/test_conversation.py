"""Conversations: history, the context, tools, costs and files."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kurabe.errors import (
    ContextTooLongError,
    CutStreamError,
    InputError,
    ModelError,
    OutputError,
    ServerError,
)
from kurabe.messages import (
    Assistant,
    Audio,
    Delta,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    User,
)
from kurabe.models.base import ChatModel
from kurabe.models.conversation import Conversation, estimate_tokens

Answer = str | Reply | Exception | Callable[[Request], "Reply | Exception"]


class Scripted(ChatModel):
    """Gives the answers of a list in turn, and keeps the requests."""

    reference = "scripted:test"

    def __init__(self, *answers: Answer, context: int | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.context = context

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            return reply(answer)
        made = answer(request) if callable(answer) else answer
        if isinstance(made, Exception):
            raise made
        return made

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        made = await self.ask(request)
        for word in made.text.split():
            yield [Delta(word)]
        yield made

    @property
    def sent(self) -> list[str]:
        """The texts of the last request."""
        return [message.text for message in self.requests[-1].messages]


def reply(*content: str | Part, usd: float | None = 0.25) -> Reply:
    """An answer of ten tokens in and two out."""
    parts = content[0] if len(content) == 1 and isinstance(content[0], str) else Assistant(*content).content
    return Reply(parts, "stop", Usage(10, 2, cached=3), usd=usd)


def calls(*names: str) -> Reply:
    """An answer that asks for tools."""
    return reply("let me see", *(ToolCall(f"id_{name}", name, {"city": "Kyoto"}) for name in names))


def weather(city: str) -> str:
    """The weather."""
    return f"rain in {city}"


def shares(city: str) -> float:
    """The share price."""
    raise ValueError(f"no exchange in {city}")


How = Literal["chat", "achat", "stream", "astream"]


def say(how: How, talk: Conversation, content: Any, **more: Any) -> Reply:
    """The answer, in each of the four ways."""

    async def streamed() -> Reply:
        async with talk.astream(content, **more) as stream:
            async for _ in stream:
                pass
            return stream.reply

    if how == "chat":
        return talk.chat(content, **more)
    if how == "achat":
        return asyncio.run(talk.achat(content, **more))
    if how == "stream":
        return talk.stream(content, **more).reply
    return asyncio.run(streamed())


every_way = pytest.mark.parametrize("how", ["chat", "achat", "stream", "astream"])


@every_way
def test_the_history_goes_with_each_turn(how: How) -> None:
    model = Scripted("Hello.", "Paris.")
    talk = Conversation(model, "Be brief.", temperature=0.5)
    assert say(how, talk, "Hi").text == "Hello."
    assert say(how, talk, ["And the capital of", " France?"], max_tokens=9, temperature=0).text == "Paris."
    assert model.requests[0].temperature == 0.5
    assert (model.requests[1].temperature, model.requests[1].max_tokens) == (0, 9)
    assert model.requests[1].messages == (System("Be brief."), *talk.messages[:3])
    assert talk.messages == (
        User("Hi"),
        Assistant("Hello."),
        User("And the capital of", " France?"),
        Assistant("Paris."),
    )
    assert talk.usage == Usage(20, 4, cached=6)
    assert talk.usd == 0.5
    talk.system = None
    model.answers.append("Bye.")
    say(how, talk, "Bye")
    assert model.requests[2].messages[0] == User("Hi")


@every_way
def test_a_failed_call_leaves_the_history_as_it_was(how: How) -> None:
    partial = reply("half an", usd=0.125)
    model = Scripted("Hello.", ServerError(status=500), CutStreamError(partial=partial), OutputError(), "Yes.")
    talk = Conversation(model)
    say(how, talk, "Hi")
    before = talk.messages
    for error in (ServerError, CutStreamError, OutputError):
        with pytest.raises(error):
            say(how, talk, "Really?")
        assert talk.messages == before
    with pytest.raises(InputError, match="no setting 'temprature'"):
        say(how, talk, "Really?", temprature=1)
    assert talk.messages == before
    assert say(how, talk, "Really?").text == "Yes."
    assert model.sent == ["Hi", "Hello.", "Really?"]
    assert talk.usd == 0.25 + 0.125 + 0.25  # what came before the break was paid
    assert talk.usage.output == 6


def test_an_unknown_cost_makes_the_sum_unknown() -> None:
    talk = Conversation(Scripted("a", reply("b", usd=None), "c"))
    sums = []
    for _ in range(3):
        talk.chat("x")
        sums.append(talk.usd)
    assert sums == [0.25, None, None]
    assert talk.usage.input == 30


def test_a_stream_gives_its_pieces_and_counts_only_when_it_is_whole() -> None:
    talk = Conversation(Scripted("one two three", "four five"))
    stream = talk.stream("count")
    assert next(iter(stream)) == Delta("one")
    stream.close()
    assert not talk.messages
    assert [delta.text for delta in talk.stream("count")] == ["four", "five"]
    assert [message.text for message in talk.messages] == ["count", "four five"]


@every_way
def test_tools_run_until_the_model_answers(how: How) -> None:
    model = Scripted(calls("weather", "shares"), calls("weather"), "It rains.", "Still.")
    talk = Conversation(model, tools=(f for f in (weather, shares)), tool_choice="required", run_tools=True)
    assert say(how, talk, "The weather in Kyoto?").text == "It rains."
    results = talk.messages[2]
    assert results == User(
        ToolResult("id_weather", "weather", "rain in Kyoto"),
        ToolResult("id_shares", "shares", "ValueError: no exchange in Kyoto", error=True),
    )
    assert [message.role for message in talk.messages] == ["user", "assistant"] * 3
    assert model.requests[1].messages == talk.messages[:3]
    assert [request.tool_choice for request in model.requests] == ["required", None, None]
    assert talk.usage.output == 6
    say(how, talk, "And now?")
    assert [tool.name for tool in model.requests[3].tools] == ["weather", "shares"]
    assert model.requests[3].tool_choice == "required"


@every_way
def test_tools_that_never_end_are_an_error(how: How) -> None:
    talk = Conversation(Scripted(*[calls("weather")] * 3), tools=[weather], run_tools=True, max_rounds=3)
    with pytest.raises(ModelError, match="after 3 rounds; allow more with max_rounds="):
        say(how, talk, "Hi")
    assert talk.messages == ()
    assert talk.usd == 0.75


def test_calls_are_the_callers_without_run_tools_or_of_tools_without_function() -> None:
    answer = calls("weather")
    model = Scripted(answer, "Rain.")
    talk = Conversation(model, tools=[weather])
    assert talk.chat("Hi").tool_calls[0].name == "weather"
    assert talk.chat(ToolResult("id_weather", "weather", "rain")).text == "Rain."
    assert [message.role for message in talk.messages] == ["user", "assistant"] * 2

    described = Tool("shares", "", {"type": "object", "properties": {}})
    talk = Conversation(Scripted(calls("weather", "shares")), tools=[weather, described], run_tools=True)
    assert len(talk.chat("Hi").tool_calls) == 2


def test_a_tool_that_the_model_invents_is_told_to_it() -> None:
    talk = Conversation(Scripted(calls("wether"), "Sorry."), tools=[weather], run_tools=True)
    assert talk.chat("Hi").text == "Sorry."
    (result,) = talk.messages[2].parts
    assert isinstance(result, ToolResult)
    assert result.error
    assert "did you mean 'weather'" in result.content


def test_the_oldest_turns_are_not_sent_where_the_context_is_short() -> None:
    words = "word " * 80  # about 100 tokens
    model = Scripted(*[words] * 20, context=1000)
    talk = Conversation(model, "Always be kind.", max_tokens=200)
    for i in range(20):
        talk.chat(f"{i}. {words}")
        sent = model.requests[-1].messages
        assert sent[0] == System("Always be kind.")
        assert sent[1].role == "user"
        assert sent[-1].text.startswith(f"{i}. ")
        assert sum(estimate_tokens(message.text) for message in sent) <= 800
        assert len(sent) == min(2 * i + 2, 8)
    assert len(talk.messages) == 40  # the history itself is whole


def test_the_models_own_count_is_used_and_another_model_sees_all_again() -> None:
    class Counting(Scripted):
        def count_tokens(self, text: str) -> int:
            return 700 * len(text.split())

    model = Counting("a", "b", context=2_000)
    talk = Conversation(model, max_tokens=100)
    talk.chat("x")
    talk.chat("y")
    assert model.sent == ["y"]
    talk.model = Scripted("c", context=2_000)
    talk.chat("z")
    assert talk.model.sent == ["x", "a", "y", "b", "z"]


def test_no_call_is_ever_sent_without_its_result() -> None:
    big = "word " * 200

    def look(city: str) -> str:
        """Look."""
        return big

    answers: list[Answer] = [calls("look"), "done"]
    model = Scripted(*answers * 6, context=1_500)
    talk = Conversation(model, tools=[look], run_tools=True, max_tokens=100)
    for i in range(6):
        talk.chat(f"{i}")
    for request in model.requests:
        open_calls: set[str] = set()
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, ToolCall):
                    open_calls.add(part.id)
                if isinstance(part, ToolResult):
                    assert part.id in open_calls
        assert request.messages[0].role == "user"
        assert not isinstance(request.messages[0].parts[0], ToolResult)
    assert len(model.requests[-1].messages) < len(talk.messages)


def test_a_result_given_by_hand_keeps_its_call() -> None:
    model = Scripted("a", calls("weather"), "Rain.", context=60)
    talk = Conversation(model, max_tokens=10)
    talk.chat("word " * 20)
    talk.chat("How is it?", tools=[weather])
    talk.chat(ToolResult("id_weather", "weather", "rain " * 60))
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "user"]
    assert model.sent[0] == "How is it?"


def test_system_turns_inside_the_history_stay() -> None:
    model = Scripted("a", "b", context=120)
    talk = Conversation(model, max_tokens=20)
    talk.chat([System("From now on in verse."), User("word " * 60)])
    talk.chat("word " * 60)
    assert [message.role for message in model.requests[-1].messages] == ["system", "user"]
    assert model.sent[0] == "From now on in verse."


def too_long(limit: int, counts: bool) -> Answer:
    """A provider that counts a token a word."""

    def answer(request: Request) -> Reply | Exception:
        tokens = sum(len(message.text.split()) for message in request.messages)
        if tokens <= limit:
            return reply("ok")
        return ContextTooLongError("too long", tokens=tokens if counts else None, limit=limit if counts else None)

    return answer


@every_way
@pytest.mark.parametrize("counts", [True, False])
def test_a_provider_that_finds_it_too_long_gets_less(how: How, counts: bool) -> None:
    turns = [Message("user" if i % 2 == 0 else "assistant", "word " * 50) for i in range(20)]
    model = Scripted(*[too_long(400, counts)] * 10)
    talk = Conversation(model, messages=turns)
    assert say(how, talk, "word").text == "ok"
    assert len(model.requests) <= 3
    assert len(talk.messages) == 22
    before = len(model.requests)
    assert say(how, talk, "word").text == "ok"  # it is not tried in vain again
    assert len(model.requests) == before + 1


@every_way
def test_a_turn_too_long_by_itself_is_an_error_after_few_tries(how: How) -> None:
    turns = [Message("user" if i % 2 == 0 else "assistant", "word " * 50) for i in range(200)]
    model = Scripted(*[too_long(10, False)] * 10)
    talk = Conversation(model, messages=turns)
    with pytest.raises(ContextTooLongError):
        say(how, talk, "word " * 20)
    assert len(model.requests) == 3
    assert len(talk.messages) == 200
    with pytest.raises(ContextTooLongError):
        say(how, Conversation(model), "word " * 20)
    assert len(model.requests) == 4  # nothing to leave out


def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    class Breaking(Scripted):
        async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
            self.requests.append(request)
            yield [Delta("half")]
            raise ContextTooLongError("too long")

    model = Breaking()
    talk = Conversation(model, messages=[User("a"), Assistant("b")])
    got: list[Delta] = []
    with pytest.raises(ContextTooLongError):
        got.extend(talk.stream("c"))
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("The quick brown fox jumps over the lazy dog.", 10, 12),
        ("吾輩は猫である。名前はまだ無い。", 16, 16),
        ("ｶﾀｶﾅ と 한국어", 8, 10),
        ("😀" * 5, 5, 15),
        ("Съешь ещё этих мягких булок", 8, 20),
        ("\ud800", 1, 1),
    ],
)
def test_the_estimate_of_tokens(text: str, least: int, most: int) -> None:
    assert least <= estimate_tokens(text) <= most


def test_media_count_too() -> None:
    picture = Image(data=b"x", media_type="image/png")
    page = Document(data=b"x" * 120_000, media_type="application/pdf")
    model = Scripted("a", "b", context=14_000)
    talk = Conversation(model, max_tokens=1_000)
    talk.chat([picture, page, Document(data=b"word " * 4_00, media_type="text/plain")])
    talk.chat([picture, Audio(data=b"x" * 500_000, media_type="audio/mpeg")])
    assert len(model.requests[-1].messages) == 1


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
media: list[st.SearchStrategy[Part]] = [
    st.builds(kind, data=st.binary(max_size=50), media_type=texts, url=texts, name=texts)
    for kind in (Image, Audio, Document)
]
parts: st.SearchStrategy[Part] = st.one_of(
    *media,
    st.builds(Text, texts, texts),
    st.builds(Reasoning, texts, texts, texts, texts),
    st.builds(ToolCall, texts, texts, st.dictionaries(texts, values, max_size=3), texts, texts),
    st.builds(ToolResult, texts, texts, texts, st.booleans()),
)
messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant"]), texts | st.lists(parts, max_size=4).map(tuple)
)
usages = st.builds(Usage, *[st.integers(0, 2**40)] * 5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.none() | texts, st.lists(messages, max_size=5), usages, st.none() | st.floats(0, 1e6))
def test_a_conversation_is_read_as_it_was_written(
    tmp_path: Path, system: str | None, turns: list[Message], usage: Usage, usd: float | None
) -> None:
    talk = Conversation(Scripted(), system, messages=turns)
    talk._usage, talk._usd = usage, usd
    talk.save(tmp_path / "talk.jsonl")
    read = Conversation.load(Scripted(), tmp_path / "talk.jsonl", temperature=0)
    assert (read.messages, read.system, read.usage, read.usd) == (tuple(turns), system, usage, usd)
    assert read.settings == {"temperature": 0, "tools": ()}
    lines = (tmp_path / "talk.jsonl").read_bytes().splitlines()
    assert len([msgspec.json.decode(line) for line in lines]) == len(turns) + 1
    assert os.listdir(tmp_path) == ["talk.jsonl"]


def test_a_lone_surrogate_does_not_stop_the_saving(tmp_path: Path) -> None:
    talk = Conversation(Scripted(), messages=[User("a\ud800b")])
    talk.save(tmp_path / "talk.jsonl")
    assert Conversation.load(Scripted(), tmp_path / "talk.jsonl").messages == (User("a?b"),)


def test_a_loaded_conversation_goes_on(tmp_path: Path) -> None:
    talk = Conversation(Scripted("Hello."), "Be brief.")
    talk.chat("Hi")
    talk.save(str(tmp_path / "talk.jsonl"))
    model = Scripted("Bye.")
    read = Conversation.load(model, str(tmp_path / "talk.jsonl"))
    read.chat("Bye")
    assert model.sent == ["Be brief.", "Hi", "Hello.", "Bye"]
    assert read.usd == 0.5


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.jsonl"
    Conversation(Scripted(), "old").save(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"can't be written to .*No space left"):
        Conversation(Scripted(), "new").save(path)
    assert Conversation.load(Scripted(), path).system == "old"
    assert os.listdir(tmp_path) == ["talk.jsonl"]
    with pytest.raises(InputError, match="can't be written"):
        Conversation(Scripted()).save(tmp_path / "nowhere" / "talk.jsonl")


HEAD = b'{"conversation":1,"system":null,"usage":{"input":0,"output":0},"usd":0}\n'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "line 1, is not of a saved conversation"),
        (b"hello\n", "line 1"),
        (b"\xff\xfe\n", "line 1"),
        (HEAD.replace(b":1,", b":2,"), "of version 2; this kurabe reads 1"),
        (HEAD + b'{"role":"user","content":"a"}\n{"role":"robot","content":"b"}\n', "line 3, .*robot"),
        (HEAD + b'{"role":"user","content":[{"type":"film"}]}\n', "line 2, .*film"),
        (HEAD + b'{"role":"user","content":"a', "line 2"),
    ],
)
def test_a_file_that_is_no_conversation_is_told(tmp_path: Path, body: bytes, said: str) -> None:
    (tmp_path / "talk.jsonl").write_bytes(body)
    with pytest.raises(InputError, match=said):
        Conversation.load(Scripted(), tmp_path / "talk.jsonl")
    with pytest.raises(InputError, match="can't be read"):
        Conversation.load(Scripted(), tmp_path / "nothing.jsonl")


def test_its_repr_is_short_and_its_text_a_transcript() -> None:
    turns = (
        User("What is it like?", Image(url="https://example.org/a.png")),
        Assistant(ToolCall("1", "weather", {"city": "Ōsaka"})),
        User(ToolResult("1", "weather", "rain")),
        Assistant("It rains."),
    )
    talk = Conversation(Scripted(), "Be brief.", messages=turns)
    assert repr(talk) == "Conversation(Scripted('scripted:test'), 4 messages, $0)"
    assert str(talk) == (
        "system: Be brief.\n\n"
        "user: What is it like? [Image(https://example.org/a.png)]\n\n"
        'assistant: [calls weather({"city":"Ōsaka"})]\n\n'
        "user: [weather answers: rain]\n\n"
        "assistant: It rains."
    )
