"""What the conformance tests can't show: bad bytes, odd answers, and turns that go back as they came."""

import contextlib
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import (
    AuthenticationError,
    BadRequestError,
    CallTimeoutError,
    ContextTooLongError,
    CutStreamError,
    InputError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    UnreadableAnswerError,
)
from kurabe.messages import (
    Assistant,
    Audio,
    Delta,
    Document,
    Image,
    Message,
    Reasoning,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    User,
)
from kurabe.models.codecs._cohere import Cohere
from kurabe.models.codecs.base import Profile
from kurabe.models.providers import providers

CODEC = Cohere()
PLAIN = Profile()


def encoded(*messages: Message, profile: Profile = PLAIN, **fields: Any) -> Any:
    request = Request(messages, **fields)
    return msgspec.json.decode(CODEC.chat("command-a", request, profile, stream=False).body)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {msgspec.json.encode({'type': kind, **fields}).decode()}\n\n".encode()


def said(kind: str, index: int | None = None, **message: Any) -> bytes:
    return event(kind, **({} if index is None else {"index": index}), delta={"message": message})


def end(finish_reason: str | None, **fields: Any) -> bytes:
    return event("message-end", delta={"finish_reason": finish_reason, **fields})


def read(stream: bytes) -> tuple[list[Delta], Reply]:
    reader = CODEC.decoder()
    deltas = reader.feed(stream)
    return deltas, reader.finish()


def call(number: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


STREAM = b"".join(
    (
        said("message-start", role="assistant", content=[], tool_plan="", tool_calls=[], citations=[]),
        said("content-start", 0, content={"type": "thinking", "thinking": ""}),
        said("content-delta", 0, content={"thinking": "Hm."}),
        event("content-end", index=0),
        said("content-start", 1, content={"type": "text", "text": ""}),
        said("content-delta", 1, content={"text": "Well"}),
        said("content-delta", 1, content={"text": " 🌍"}),
        event("content-end", index=1),
        said("tool-plan-delta", tool_plan="I will "),
        said("tool-plan-delta", tool_plan="look."),
        said("tool-call-start", 0, tool_calls=call(1, "look", "")),
        said("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"city":'}}),
        said("tool-call-delta", 0, tool_calls={"function": {"arguments": '"Paris"}'}}),
        event("tool-call-end", index=0),
        said("tool-call-start", 1, tool_calls=call(2, "list", "")),
        event("tool-call-end", index=1),
    )
)
END = end("TOOL_CALL", usage={"tokens": {"input_tokens": 9.0, "output_tokens": 5.0}, "cached_tokens": 4.0})
PARTS = (
    Reasoning("Hm.", id="thinking"),
    Text("Well 🌍"),
    Reasoning("I will look.", id="tool_plan"),
    ToolCall("c1", "look", {"city": "Paris"}),
    ToolCall("c2", "list", {}),
)
MESSAGE = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Well 🌍"}],
    "tool_plan": "I will look.",
    "tool_calls": [call(1, "look", '{"city":"Paris"}'), call(2, "list", "{}")],
}


def body(message: Any, finish_reason: str | None = "COMPLETE", **fields: Any) -> bytes:
    return msgspec.json.encode({"message": message, "finish_reason": finish_reason, **fields})


def test_a_whole_stream() -> None:
    deltas, reply = read(STREAM + END)
    assert reply == Reply(PARTS, "tool_calls", Usage(9, 5, cached=4), raw=STREAM + END)
    assert deltas == [
        Delta(reasoning="Hm."),
        Delta(text="Well"),
        Delta(text=" 🌍"),
        Delta(reasoning="I will "),
        Delta(reasoning="look."),
        Delta(index=0, id="c1", name="look"),
        Delta(index=0, arguments='{"city":'),
        Delta(index=0, arguments='"Paris"}'),
        Delta(index=1, id="c2", name="list"),
    ]


@given(st.lists(st.integers(0, len(STREAM + END)), max_size=9))
def test_cuts_make_no_difference(cuts: list[int]) -> None:
    raw = STREAM + END
    reader = CODEC.decoder()
    places = [0, *sorted(cuts), len(raw)]
    deltas = [delta for start, stop in itertools.pairwise(places) for delta in reader.feed(raw[start:stop])]
    assert (deltas, reader.finish()) == read(raw)


def test_what_came_goes_back_as_it_came() -> None:
    reply = CODEC.reply(body(MESSAGE))
    assert reply.content == PARTS
    assert encoded(User("x"), reply.message)["messages"][1] == MESSAGE


@pytest.mark.parametrize("places", range(17))
def test_a_cut_stream_keeps_what_came(places: int) -> None:
    events = STREAM.split(b"\n\n")
    with pytest.raises(CutStreamError) as caught:
        read(b"\n\n".join(events[:places]) + b"\n\n")
    partial = caught.value.partial
    assert partial.text == ("", "Well", "Well 🌍")[(places > 5) + (places > 6)]
    whole = ["look"] * (places >= 14) + ["list"] * (places >= 16)
    assert [made.name for made in partial.tool_calls] == whole, "no arguments yet are not no arguments"


def test_an_end_inside_an_event_is_a_cut() -> None:
    with pytest.raises(CutStreamError) as caught:
        read(STREAM + END[:60])
    assert caught.value.partial.text == "Well 🌍"
    assert read(STREAM + END.rstrip())[1].content == PARTS, "only the empty line is missing"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", CutStreamError),
        (b"<html>busy</html>", UnreadableAnswerError),
        (b'{"message":"rate limit exceeded"}', RateLimitedError),
        (b"data: {oops\n\n", UnreadableAnswerError),
        (b"data: [1]\n\n", UnreadableAnswerError),
        (b"data: {}\n\n", UnreadableAnswerError),
        (b'data: {"message":"too many tokens: 5000 of 4000"}\n\n', ContextTooLongError),
        (said("tool-call-delta", 0, tool_calls={"function": {"arguments": "{"}}), UnreadableAnswerError),
        (said("content-delta", 0, content={"text": 7}), UnreadableAnswerError),
        (end("ERROR"), ServerError),
        (end("ERROR", error="input is too long"), ContextTooLongError),
        (end("TIMEOUT"), CallTimeoutError),
        (end(None, error="It broke."), ServerError),
    ],
)
def test_bad_streams(raw: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        read(raw)
    assert type(caught.value) is kind
    assert isinstance(caught.value.partial, Reply)


@pytest.mark.parametrize("arguments", ['{"city":"Pa', "[1]"])
def test_arguments_that_are_cut_off(arguments: str) -> None:
    message = {"content": [{"type": "text", "text": "Hi"}], "tool_calls": [call(1, "look", arguments)]}
    with pytest.raises(UnreadableAnswerError, match="max_tokens") as caught:
        CODEC.reply(body(message, "MAX_TOKENS"))
    assert (caught.value.partial.text, caught.value.partial.finish_reason) == ("Hi", "length")
    with pytest.raises(UnreadableAnswerError, match="max_tokens"):
        read(said("tool-call-start", 0, tool_calls=call(1, "look", arguments)) + end("MAX_TOKENS"))


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", UnreadableAnswerError),
        (b"{}", UnreadableAnswerError),
        (b"null", UnreadableAnswerError),
        (b'{"message":[]}', UnreadableAnswerError),
        (b'{"message":{"content":[{"text":7}]}}', UnreadableAnswerError),
        (b'{"message":' + b"[" * 100_000, UnreadableAnswerError),
        (b'{"message":"invalid request: no such model"}', BadRequestError),
        (b'{"error":"it broke"}', ServerError),
        (body({}, "ERROR"), ServerError),
        (body({}, "TIMEOUT"), CallTimeoutError),
    ],
)
def test_bad_answers(raw: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        CODEC.reply(raw)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("message", "finish_reason", "fields", "expected"),
    [
        ({"content": "Hi"}, "COMPLETE", {}, ("Hi", "stop")),
        ({"content": [{"text": "Hi"}]}, "STOP_SEQUENCE", {"usage": {}}, ("Hi", "stop")),
        ({"content": [{"type": "text", "text": "Hi"}]}, "SOMETHING", {"usage": {"tokens": None}}, ("Hi", "other")),
        ({"content": None, "tool_calls": None, "citations": None}, None, {"usage": None}, ("", "other")),
        ({"tool_calls": [{}]}, "COMPLETE", {}, ((ToolCall("", ""),), "tool_calls")),
    ],
)
def test_odd_answers(message: Any, finish_reason: str | None, fields: Any, expected: Any) -> None:
    reply = CODEC.reply(body(message, finish_reason, **fields))
    assert (reply.content, reply.finish_reason) == expected


def test_billed_tokens_count_where_there_are_no_others() -> None:
    usage = {"billed_units": {"input_tokens": 3.0, "output_tokens": 2.0}}
    assert CODEC.reply(body({}, usage=usage)).usage == Usage(3, 2)


@pytest.mark.parametrize(
    "message",
    [
        User(Audio(b"x", "audio/wav")),
        User(Document(b"x", "application/pdf")),
        User(ToolCall("1", "a")),
        Assistant(Image(url="https://x.org/a.png")),
        Message("system", (Image(url="https://x.org/a.png"),)),
        Message("system", (ToolResult("1", "a", "b"),)),
    ],
)
def test_what_the_format_has_no_place_for(message: Message) -> None:
    with pytest.raises(InputError, match="Cohere takes no"):
        encoded(message)


def test_wishes_that_cannot_be_sent() -> None:
    with pytest.raises(InputError, match="'lok'"):
        encoded(User("x"), tools=(Tool("look", "", {}),), tool_choice="lok")
    with pytest.raises(InputError, match="logprobs=0"):
        encoded(User("x"), logprobs=3)


def test_what_is_not_set_is_not_sent() -> None:
    plain = {"model": "command-a", "messages": [{"role": "user", "content": "x"}], "stream": False}
    assert encoded(User("x")) == plain
    assert encoded(User("x"), Assistant()) == plain, "an empty turn of the model says nothing"


def test_settings_by_another_name_and_extra() -> None:
    sent = encoded(
        User("x"),
        profile=Profile(names={"top_p": "top_p"}),
        top_p=0.5,
        reasoning="low",
        extra={"thinking": {"token_budget": 99}, "seed": 3},
    )
    assert (sent["top_p"], sent["seed"]) == (0.5, 3)
    assert sent["thinking"] == {"type": "enabled", "token_budget": 99}
    assert "p" not in sent


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (498, "invalid token", AuthenticationError),
        (429, "You are using a Trial key, which is limited to 40 API calls / minute.", RateLimitedError),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month.", QuotaExceededError),
        (400, "too many tokens: size limit exceeded by 9 tokens", ContextTooLongError),
        (502, "", ServerError),
    ],
)
def test_errors(status: int, message: str, kind: type[ProviderError]) -> None:
    error = CODEC.error(status, {}, msgspec.json.encode({"message": message}))
    assert (type(error), error.status) == (kind, status)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"embeddings":{}}', b'{"embeddings":{"float":[["x"]]}}', b"<html>"])
def test_bad_embeddings_rankings_and_lists(raw: bytes) -> None:
    for method in (CODEC.embeddings, CODEC.ranking, CODEC.model_names):
        with pytest.raises(UnreadableAnswerError):
            method(raw)


def test_the_best_document_comes_first() -> None:
    raw = b'{"results":[{"index":0,"relevance_score":0.1},{"index":2,"relevance_score":1}]}'
    assert CODEC.ranking(raw).results == ((2, 1.0), (0, 0.1))


def test_the_row() -> None:
    row = providers()["cohere"]
    assert row.base_url + CODEC.chat("m", Request(()), PLAIN, stream=True).path == "https://api.cohere.com/v2/chat"
    assert row.auth == "bearer"


texts = st.text(max_size=20)
arguments = st.dictionaries(texts, st.integers(-(2**50), 2**50) | texts, max_size=2)


@given(st.text(min_size=1), st.text(min_size=1), st.lists(st.builds(ToolCall, texts, texts, arguments), max_size=3))
def test_a_turn_that_goes_back_comes_out_the_same(plan: str, words: str, calls: list[ToolCall]) -> None:
    turn = Assistant(Reasoning("Hm.", id="thinking"), words, Reasoning(plan, id="tool_plan"), *calls)
    assert CODEC.reply(body(encoded(turn)["messages"][0])).message == turn


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_our_error(raw: bytes) -> None:
    check(raw)


names = ["message", "content", "text", "thinking", "tool_plan", "tool_calls", "function", "arguments", "citations",
         "sources", "document", "delta", "index", "usage", "tokens", "input_tokens", "logprobs", "error", "url",
         "finish_reason"]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=4),
    max_leaves=12,
)
kinds = st.sampled_from(
    ["content-start", "content-delta", "tool-call-start", "tool-call-delta", "tool-plan-delta", "citation-start",
     "message-end", "error"]
)  # fmt: skip


@given(json_values, kinds)
def test_json_of_any_shape_gives_an_answer_or_our_error(value: Any, kind: str) -> None:
    check(msgspec.json.encode(value))
    check(msgspec.json.encode({"message": value}))
    check(event(kind, delta=value, index=0) + END)
    check(said(kind, 0, content=value, tool_calls=value, citations=value) + END)


@given(st.data())
@settings(max_examples=200)
def test_a_changed_stream_gives_an_answer_or_our_error(data: st.DataObject) -> None:
    raw = bytearray(STREAM + END)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.binary(max_size=4) | st.sampled_from([b"null", b"7", b'"', b"{}", b"[]", b"\n\n"]))
        raw[place : place + data.draw(st.integers(0, 9))] = piece
    check(bytes(raw))


def check(raw: bytes) -> None:
    """Whole, and as a stream cut in two: a Reply or one of our errors, and nothing else."""
    with contextlib.suppress(ProviderError):
        assert isinstance(CODEC.reply(raw), Reply)
    for method in (CODEC.embeddings, CODEC.ranking, CODEC.model_names):
        with contextlib.suppress(ProviderError):
            method(raw)
    reader = CODEC.decoder()
    partial: Any = None
    try:
        for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
            assert all(isinstance(delta, Delta) for delta in reader.feed(piece))
        partial = reader.finish()
    except ProviderError as error:
        partial = error.partial
    assert isinstance(partial, Reply)
