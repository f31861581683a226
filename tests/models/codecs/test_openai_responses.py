"""What the conformance tests can't show: bad bytes, odd answers, and turns that go back as they came."""

import contextlib
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import (
    AuthenticationError,
    ContentFilteredError,
    ContextTooLongError,
    CutStreamError,
    InputError,
    ProviderError,
    QuotaExceededError,
    ServerError,
    UnreadableAnswerError,
)
from kurabe.messages import (
    Assistant,
    Audio,
    Delta,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Reply,
    Request,
    System,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    User,
    text_of,
)
from kurabe.models.codecs._openai_responses import OpenAIResponses
from kurabe.models.codecs.base import Profile

CODEC = OpenAIResponses()
PLAIN = Profile()


def encoded(*messages: Message, profile: Profile = PLAIN, **fields: Any) -> Any:
    request = Request(messages, **fields)
    return msgspec.json.decode(CODEC.chat("gpt-5.1", request, profile, stream=False).body)


def body(*output: Any, **fields: Any) -> bytes:
    return msgspec.json.encode({"status": "completed", "output": list(output), **fields})


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {msgspec.json.encode({'type': kind, **fields}).decode()}\n\n".encode()


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}], **fields}


def read(stream: bytes) -> tuple[list[Delta], Reply]:
    reader = CODEC.decoder()
    deltas = reader.feed(stream)
    return deltas, reader.finish()


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"city":"Paris"}'}
OTHER = {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "list", "arguments": "{}"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "gAAA",
}
STREAM = b"".join(
    (
        event("response.created", response={"status": "in_progress", "output": [], "model": "gpt-5.1"}),
        event("response.output_item.added", output_index=0, item={**THOUGHT, "summary": []}),
        event("response.reasoning_summary_part.added", output_index=0, summary_index=0),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Hm."),
        event("response.output_item.done", output_index=0, item=THOUGHT),
        event("response.output_item.added", output_index=1, item={"type": "message", "id": "msg_1", "content": []}),
        event("response.output_text.delta", output_index=1, content_index=0, delta="I lo"),
        event("response.output_text.delta", output_index=1, content_index=0, delta="ok 🌍"),
        event("response.output_item.done", output_index=1, item=said("I look 🌍", id="msg_1", phase="commentary")),
        event("response.output_item.added", output_index=2, item={**CALL, "arguments": ""}),
        event("response.output_item.added", output_index=3, item={**OTHER, "arguments": ""}),
        event("response.function_call_arguments.delta", output_index=2, delta='{"city":'),
        event("response.function_call_arguments.delta", output_index=3, delta="{}"),
        event("response.function_call_arguments.delta", output_index=2, delta='"Paris"}'),
        event("response.output_item.done", output_index=2, item=CALL),
        event("response.output_item.done", output_index=3, item=OTHER),
    )
)
OUTPUT = [THOUGHT, said("I look 🌍", id="msg_1", phase="commentary"), CALL, OTHER]
USAGE = {"input_tokens": 9, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}}
END = event(
    "response.completed", response={"status": "completed", "model": "gpt-5.1", "output": OUTPUT, "usage": USAGE}
)
PARTS = (
    Reasoning("Hm.", data="gAAA", id="rs_1"),
    Text("I look 🌍", "commentary"),
    ToolCall("call_1", "look", {"city": "Paris"}, item="fc_1"),
    ToolCall("call_2", "list", {}, item="fc_2"),
)


def test_a_whole_stream() -> None:
    deltas, reply = read(STREAM + END)
    assert reply == Reply(PARTS, "tool_calls", Usage(9, 5, reasoning=2), model="gpt-5.1", raw=STREAM + END)
    assert deltas == [
        Delta(reasoning="Hm."),
        Delta(text="I lo"),
        Delta(text="ok 🌍"),
        Delta(index=0, id="call_1", name="look"),
        Delta(index=1, id="call_2", name="list"),
        Delta(index=0, arguments='{"city":'),
        Delta(index=1, arguments="{}"),
        Delta(index=0, arguments='"Paris"}'),
    ]


@given(st.lists(st.integers(0, len(STREAM + END)), max_size=9))
def test_cuts_make_no_difference(cuts: list[int]) -> None:
    raw = STREAM + END
    reader = CODEC.decoder()
    places = [0, *sorted(cuts), len(raw)]
    deltas = [delta for start, end in itertools.pairwise(places) for delta in reader.feed(raw[start:end])]
    assert (deltas, reader.finish()) == read(raw)


def test_what_came_goes_back_as_it_came() -> None:
    reply = CODEC.reply(body(*OUTPUT))
    items = encoded(User("x"), reply.message)["input"][1:]
    spoken = {"role": "assistant", "content": "I look 🌍", "phase": "commentary"}
    assert items == [THOUGHT, spoken, CALL, OTHER]


def test_a_stream_with_an_end_that_repeats_nothing() -> None:
    end = event("response.completed", response={"status": "completed", "output": []})
    assert read(STREAM + end)[1].content == PARTS


def test_items_that_do_not_come_in_pieces() -> None:
    items = b"".join(event("response.output_item.done", output_index=i, item=item) for i, item in enumerate(OUTPUT))
    deltas, reply = read(items + END)
    assert reply.content == PARTS
    assert "".join(delta.text for delta in deltas) == reply.text
    assert "".join(delta.reasoning for delta in deltas) == reply.reasoning
    assert [delta.arguments for delta in deltas if delta.arguments] == ['{"city":"Paris"}', "{}"]


@pytest.mark.parametrize("places", range(1, 16))
def test_a_cut_stream_keeps_what_came(places: int) -> None:
    events = STREAM.split(b"\n\n")
    with pytest.raises(CutStreamError) as caught:
        read(b"\n\n".join(events[:places]) + b"\n\n")
    partial = caught.value.partial
    assert partial.finish_reason == "other"
    assert "I look 🌍".startswith(partial.text)
    assert partial.text == ("", "I lo", "I look 🌍")[(places > 6) + (places > 7)]
    whole = ["look"] * (places >= 15)  # a call that is not done is none, and no arguments yet are not no arguments
    assert [call.name for call in partial.tool_calls] == whole


def test_an_end_inside_an_event_is_a_cut() -> None:
    with pytest.raises(CutStreamError) as caught:
        read(STREAM + END[:60])
    assert caught.value.partial.text == "I look 🌍"
    assert read(STREAM + END.rstrip())[1].content == PARTS, "only the empty line is missing"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", CutStreamError),
        (b": keep-alive\n\n", CutStreamError),
        (b"<html>busy</html>", UnreadableAnswerError),
        (b'{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}', QuotaExceededError),
        (b'{"error":{"mess', UnreadableAnswerError),
        (b"data: {oops\n\n", UnreadableAnswerError),
        (b'data: {"type":"response.output_text.delta","delta":"x"}\n\n', UnreadableAnswerError),
        (b'data: {"type":"response.output_text.delta","output_index":0,"delta":7}\n\n', UnreadableAnswerError),
        (b'data: {"type":"response.completed"}\n\n', UnreadableAnswerError),
        (event("error", code="server_error", message="x"), ServerError),
        (event("error", error={"type": "invalid_api_key", "message": "authentication failed"}), AuthenticationError),
        (event("response.failed", response={"status": "failed"}), ServerError),
        (event("response.failed", response={"error": {"code": "server_error", "message": "x"}}), ServerError),
    ],
)
def test_bad_streams(raw: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        read(raw)
    assert type(caught.value) is kind
    assert isinstance(caught.value.partial, Reply)


@pytest.mark.parametrize("item", [CALL | {"arguments": '{"city":"Pa'}, CALL | {"arguments": "[1]"}])
def test_arguments_that_are_cut_off(item: dict[str, Any]) -> None:
    incomplete = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    with pytest.raises(UnreadableAnswerError, match="max_tokens") as caught:
        CODEC.reply(body(said("Hi"), item, **incomplete))
    assert (caught.value.partial.text, caught.value.partial.finish_reason) == ("Hi", "length")
    end = event("response.incomplete", response={"output": [said("Hi"), item], **incomplete})
    with pytest.raises(UnreadableAnswerError, match="max_tokens"):
        read(end)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", UnreadableAnswerError),
        (b"{}", UnreadableAnswerError),
        (b"[]", UnreadableAnswerError),
        (b"null", UnreadableAnswerError),
        (b'{"output":{}}', UnreadableAnswerError),
        (b'{"output":[{"type":"message","content":[{"text":7}]}]}', UnreadableAnswerError),
        (b'{"output":[' + b"[" * 100_000, UnreadableAnswerError),
        (b'{"output":[{"type":"function_call","arguments":7}]}', UnreadableAnswerError),
        (b'{"error":"context_length_exceeded"}', ContextTooLongError),
        (b'{"status":"failed"}', ServerError),
        (body(status="failed", error={"code": "content_filter", "message": "no"}), ContentFilteredError),
    ],
)
def test_bad_answers(raw: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        CODEC.reply(raw)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"output": [said("Hi")]}, "stop"),
        ({"output": [said("Hi")], "status": None}, "stop"),
        ({"output": [said("Hi")], "status": "cancelled"}, "other"),
        ({"output": [said("Hi")], "status": "incomplete"}, "other"),
        ({"output": [said("Hi")], "status": "incomplete", "incomplete_details": {"reason": "steered"}}, "other"),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "Hi"}]}]}, "content_filter"),
        ({"output": [{"type": "tool_search_call", "arguments": {"a": 1}}, said("Hi")]}, "stop"),
        ({"output": [{"type": "something_new", "name": None}, said("Hi")], "usage": {"input_tokens": None}}, "stop"),
    ],
)
def test_odd_answers(fields: dict[str, Any], reason: str) -> None:
    reply = CODEC.reply(body(**fields))
    assert (reply.content, reply.finish_reason) == ("Hi", reason)


def test_a_refusal_is_streamed_as_text() -> None:
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "I can't."}]}
    deltas, reply = read(
        event("response.output_item.added", output_index=0, item={"type": "message", "content": []})
        + event("response.refusal.delta", output_index=0, content_index=0, delta="I can't.")
        + event("response.output_item.done", output_index=0, item=item)
        + event("response.completed", response={"status": "completed", "output": [item]})
    )
    assert deltas == [Delta(text="I can't.")]
    assert (reply.text, reply.finish_reason) == ("I can't.", "content_filter")


@pytest.mark.parametrize(
    "message",
    [
        User(Audio(b"x", "audio/wav")),
        User(ToolCall("1", "a")),
        Assistant(Image(url="https://x.org/a.png")),
        Assistant(ToolResult("1", "a", "b")),
        Message("system", (Image(url="https://x.org/a.png"),)),
    ],
)
def test_what_the_format_has_no_place_for(message: Message) -> None:
    with pytest.raises(InputError, match="OpenAI"):
        encoded(User("x"), message)
    if message.role == "system":
        with pytest.raises(InputError, match="text only"):
            encoded(message, User("x"))


def test_stored_thinking_goes_back_by_its_id() -> None:
    turns = (User("x"), Assistant(Reasoning("Hm.", id="rs_1"), "y"))
    assert len(encoded(*turns)["input"]) == 2
    summary = [{"type": "summary_text", "text": "Hm."}]
    stored = encoded(*turns, extra={"store": True})["input"]
    assert stored[1] == {"type": "reasoning", "id": "rs_1", "summary": summary}


def test_what_is_not_set_is_not_sent() -> None:
    assert encoded(User("x")) == {"model": "gpt-5.1", "store": False, "input": [{"role": "user", "content": "x"}]}


def test_extra_adds_to_what_a_setting_says() -> None:
    extra = {"reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}}
    sent = encoded(User("x"), reasoning="low", extra=extra)
    assert (sent["reasoning"], sent["text"]) == ({"effort": "low", "summary": "auto"}, {"verbosity": "low"})


def test_settings_by_another_name() -> None:
    profile = Profile(names={"max_tokens": "max_completion_tokens"})
    sent = encoded(User("x"), profile=profile, max_tokens=5)
    assert sent["max_completion_tokens"] == 5
    assert "max_output_tokens" not in sent


def test_a_schema_is_made_strict_and_left_alone() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "default": None}}}
    sent = encoded(User("x"), output=OutputFormat("made", schema))["text"]["format"]["schema"]
    assert sent["required"] == ["a"]
    assert sent["additionalProperties"] is False
    assert schema == {"type": "object", "properties": {"a": {"type": "string", "default": None}}}


def test_a_lone_surrogate_is_no_error() -> None:
    sent = encoded(System("\ud800"), User("a\udfff"), Assistant(ToolCall("1", "f", {"x": "\ud800"})))
    assert sent["input"][0]["content"] == "a?"
    assert json.loads(sent["input"][1]["arguments"]) == {"x": "?"}


texts = st.text(max_size=20)
parts = st.one_of(
    st.builds(Text, texts, st.sampled_from(["", "commentary", "final_answer"])),
    st.builds(Reasoning, texts, data=st.text(min_size=1), id=st.text(min_size=1)),
    st.builds(ToolCall, texts, texts, st.dictionaries(texts, st.integers() | texts, max_size=2), item=texts),
)


@given(st.lists(parts, max_size=5))
def test_a_turn_that_goes_back_comes_out_the_same(made: list[Any]) -> None:
    """The items we send for a turn, read as an answer, are the turn."""
    sent = encoded(User("x"), Message("assistant", tuple(made)))["input"][1:]
    items = [
        said(item["content"], phase=item.get("phase")) if item.get("role") == "assistant" else item for item in sent
    ]
    read_back = CODEC.reply(body(*items)).message.parts
    kept = tuple(part for part in made if not isinstance(part, Text) or part.text)  # an empty text says nothing
    if all(isinstance(part, Text) and not part.signature for part in kept):
        assert text_of(read_back) == text_of(kept)
    else:
        assert read_back == kept


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_our_error(raw: bytes) -> None:
    check(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(
        ["type", "output", "content", "text", "summary", "arguments", "item", "response", "delta", "output_index",
         "usage", "error", "status", "annotations", "logprobs", "input_tokens", "call_id", "incomplete_details"]
    )), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
kinds = st.sampled_from(
    ["response.output_item.added", "response.output_item.done", "response.output_text.delta", "response.completed",
     "response.function_call_arguments.delta", "response.failed", "error", "message", "function_call", "reasoning"]
)  # fmt: skip


@given(json_values, kinds)
def test_json_of_any_shape_gives_an_answer_or_our_error(value: Any, kind: str) -> None:
    shaped = {**value, "type": kind} if isinstance(value, dict) else value
    check(msgspec.json.encode(shaped))
    check(b"data: " + msgspec.json.encode(shaped) + b"\n\n" + END)
    check(body(shaped))


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
    reader = CODEC.decoder()
    partial: Any = None
    try:
        for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
            assert all(isinstance(delta, Delta) for delta in reader.feed(piece))
        partial = reader.finish()
    except ProviderError as error:
        partial = error.partial
    assert isinstance(partial, Reply)
