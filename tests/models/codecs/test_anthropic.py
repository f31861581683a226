import base64
import contextlib
import random
import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgspec
import pytest
from anthropic import AnthropicVertex as AnthropicVertexSdk
from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.errors import InputError, ProviderError
from kurabe.messages import (
    Assistant,
    Audio,
    Delta,
    Document,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Reply,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models.codecs._anthropic import Anthropic, AnthropicBedrock, AnthropicVertex
from kurabe.models.codecs._anthropic_schema import closed_schema
from kurabe.models.codecs.base import Decoder, Profile
from kurabe.models.hosted.auth import fill
from kurabe.models.providers import providers

WEATHER = Tool("weather", "", {"type": "object", "properties": {}})
REFUSED = {"prefill", "temperature", "top_p", "top_k"}
CODECS = [Anthropic(), AnthropicVertex(), AnthropicBedrock()]


def body(*messages: Message, profile: Profile | None = None, **settings: Any) -> dict[str, Any]:
    request = Request(messages or (User("Hi"),), **settings)
    sent = Anthropic().chat("claude", request, profile or Profile(), stream=False)
    decoded: dict[str, Any] = msgspec.json.decode(sent.body)
    return decoded


def test_max_tokens_are_always_sent() -> None:
    assert body()["max_tokens"] == 4096
    assert body(profile=Profile(max_tokens=16_384))["max_tokens"] == 16_384
    assert body(max_tokens=5)["max_tokens"] == 5
    assert set(body()) == {"model", "max_tokens", "messages"}


def test_names_of_settings_can_be_others() -> None:
    sent = body(max_tokens=5, stop=("x",), profile=Profile(names={"max_tokens": "limit", "stop": "stop"}))
    assert (sent["limit"], sent["stop"]) == (5, ["x"])
    assert "max_tokens" not in sent


def test_extra_replaces() -> None:
    assert body(max_tokens=5, extra={"max_tokens": 6, "inference_geo": "eu"}) == body(max_tokens=6) | {
        "inference_geo": "eu"
    }


def test_system_turns() -> None:
    turns = (System("A"), System("B"), User("Hi"), System("C"), System(""))
    sent = body(*turns)
    assert sent["system"] == "A\n\nB"
    assert [turn["role"] for turn in sent["messages"]] == ["user", "system", "system"]
    sent = body(*turns, profile=Profile(quirks=frozenset({"system_first"})))
    assert sent["system"] == "A\n\nB\n\nC"
    assert [turn["role"] for turn in sent["messages"]] == ["user"]


def test_results_of_parallel_calls_stand_first_in_one_turn() -> None:
    calls = Assistant(ToolCall("1", "a"), ToolCall("2", "b"), ToolCall("3", "c"))
    sent = body(
        User("Hi"),
        calls,
        User(ToolResult("1", "a", "x")),
        User(ToolResult("2", "b", "y")),
        User("And?", ToolResult("3", "c", "z")),
    )
    assert [len(turn["content"]) for turn in sent["messages"][1:]] == [3, 2, 2]
    assert [block["tool_use_id"] for block in sent["messages"][2]["content"]] == ["1", "2"]
    assert [block["type"] for block in sent["messages"][3]["content"]] == ["tool_result", "text"]


def test_what_the_service_refuses_is_left_out() -> None:
    sent = body(
        User("Hi"),
        Assistant(""),
        Assistant(Reasoning(data="another's", id="rs_1"), Reasoning("Hm"), Text("")),
        User("Hm", ""),
    )
    assert sent["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "Hm"}]},
    ]
    assert body(prefill="Price: ")["messages"][-1] == {"role": "assistant", "content": "Price:"}
    assert len(body(prefill=" \n")["messages"]) == 1


def test_thinking_by_quirk() -> None:
    def sent(effort: str, *quirks: str, **settings: Any) -> tuple[Any, Any]:
        made = body(reasoning=effort, profile=Profile(quirks=frozenset(quirks)), **settings)
        return made["thinking"], made.get("output_config")

    assert sent("minimal") == ({"type": "adaptive"}, {"effort": "low"})
    assert sent("xhigh") == ({"type": "adaptive"}, {"effort": "xhigh"})
    assert sent("none") == ({"type": "disabled"}, None)
    assert sent("none", "thinking_between_tools") == ({"type": "between_tools"}, None)
    budgets = [
        sent(effort, "thinking_budget", max_tokens=16_000)[0]["budget_tokens"]
        for effort in ("minimal", "low", "medium", "high", "xhigh")
    ]
    assert budgets == [2_000, 4_000, 8_000, 12_000, 14_000]
    assert sent("low", "thinking_budget", max_tokens=1_025) == ({"type": "enabled", "budget_tokens": 1_024}, None)
    with pytest.raises(InputError, match="max_tokens above 1,024"):
        sent("low", "thinking_budget", max_tokens=1_024)
    with pytest.raises(InputError, match="always thinks"):
        sent("none", "thinking_always")


def test_a_model_that_cannot_be_made_to_call() -> None:
    profile = Profile(quirks=frozenset({"unforced_tools"}))
    assert body(tools=(WEATHER,), tool_choice="auto", profile=profile)["tool_choice"] == {"type": "auto"}
    for choice in ("required", "weather"):
        with pytest.raises(InputError, match="tool_choice='auto'"):
            body(tools=(WEATHER,), tool_choice=choice, profile=profile)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (User(Audio(b"RIFF", "audio/wav")), "no audio in user turns"),
        (Assistant(Image(url="https://e.org/a.png")), "no image in assistant turns"),
        (Assistant(Document(b"x", "text/plain")), "no document in assistant turns"),
        (Assistant(ToolResult("1", "a", "x")), "no toolresult in assistant turns"),
        (User(ToolCall("1", "a")), "no toolcall in user turns"),
        (User(Document(b"x", "application/zip")), "PDF and text documents, not application/zip"),
        (User(Document(b"x")), "not an unknown type"),
        (User(Document(url="https://e.org/a.txt", media_type="text/plain")), "PDF documents only"),
        (User(Document(b"\xff\xfe", "text/plain")), "no text in UTF-8"),
        (Message("system", (Image(url="https://e.org/a.png"),)), "text only"),
    ],
)
def test_parts_that_cannot_be_sent(message: Message, words: str) -> None:
    with pytest.raises(InputError, match=words):
        body(message)


def test_addresses() -> None:
    request = Request((User("Hi"),))
    for codec, model, stream, path in [
        (AnthropicVertex(), "claude-a@1", False, "/models/claude-a@1:rawPredict"),
        (AnthropicVertex(), "../x?y", True, "/models/..%2Fx%3Fy:streamRawPredict"),
        (AnthropicBedrock(), "us.anthropic.a-v1:0", True, "/model/us.anthropic.a-v1:0/invoke-with-response-stream"),
        (AnthropicBedrock(), "arn:aws:b/c", False, "/model/arn:aws:b%2Fc/invoke"),
    ]:
        sent = codec.chat(model, request, Profile(), stream=stream)
        assert sent.path == path
        assert "model" not in msgspec.json.decode(sent.body)
        assert msgspec.json.decode(sent.body)["anthropic_version"] == "2026-10-21"
        with pytest.raises(InputError, match="list of"):
            codec.models()


@pytest.mark.parametrize(
    ("model", "refused", "quirks"),
    [
        ("claude-haiku-4-5-20251001", set(), {"thinking_budget", "system_first"}),
        ("claude-opus-4-20250514", set(), {"thinking_budget", "system_first"}),
        ("claude-sonnet-4-6", {"prefill"}, {"system_first"}),
        ("claude-opus-4-7", REFUSED, {"system_first"}),
        ("claude-opus-4-8", REFUSED, set()),
        ("claude-sonnet-5", REFUSED, set()),
        ("claude-sonnet-5-5", REFUSED, {"thinking_between_tools"}),
        ("claude-haiku-5-5", REFUSED, set()),
        ("claude-opus-5-5", REFUSED, {"thinking_always", "unforced_tools"}),
        ("claude-fable-5", REFUSED, {"thinking_always"}),
        ("claude-fable-5-1", REFUSED, {"thinking_always", "unforced_tools"}),
        ("claude-new-9", REFUSED, set()),
    ],
)
def test_what_models_accept(model: str, refused: set[str], quirks: set[str]) -> None:
    rows = providers()
    profile = rows["anthropic"].profile(model)
    assert (set(profile.without), set(profile.quirks)) == (refused, quirks)
    for row, name in (("anthropic-vertex", f"{model}@20260101"), ("anthropic-bedrock", f"eu.anthropic.{model}-v1:0")):
        other = rows[row].profile(name)
        assert (set(other.without), set(other.quirks)) == (refused, quirks | {"system_first"})
        assert (other.max_tokens, other.context) == (profile.max_tokens, profile.context)


def test_vertex_addresses() -> None:
    """As the SDK makes them."""
    row = providers()["anthropic-vertex"]
    for location in ("us-east5", "global", "us", "eu"):
        options = {"project": "p-1", "location": location}
        sdk = AnthropicVertexSdk(region=location, project_id="p-1", access_token="test-key")
        with sdk:
            url = str(sdk.base_url).rstrip("/") + f"/projects/p-1/locations/{location}/publishers/anthropic"
            assert AnthropicVertex().address(fill(row.base_url, options)) == url


# ── Structured output ────────────────────────────────────────────────────────────────────────────────────────────────
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
NOTES = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(max_size=5), "title": st.text(max_size=5), "default": PLAIN,
        "minimum": st.integers(), "pattern": st.text(max_size=3),
    },
)  # fmt: skip
LEAVES = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.sampled_from(["date", "uuid", "binary"]).map(lambda name: {"type": "string", "format": name}),
    st.lists(PLAIN, min_size=1, max_size=3).map(lambda options: {"type": "string", "enum": options}),
    PLAIN.map(lambda value: {"const": value}),
    st.just({"$ref": "#/$defs/A"}),
)


def _nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    return st.one_of(
        st.tuples(named, st.lists(st.sampled_from("abc"))).map(
            lambda made: {
                "type": "object",
                "properties": made[0],
                "required": made[1],
                "additionalProperties": True,
            }
        ),
        st.tuples(inner, st.integers(0, 3)).map(
            lambda made: {"type": "array", "items": made[0], "minItems": made[1], "maxItems": 5}
        ),
        st.tuples(st.sampled_from(["anyOf", "oneOf", "allOf"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda made: {made[0]: made[1]}
        ),
        named.map(lambda definitions: {"$defs": definitions, "$ref": "#/$defs/a"}),
    )


SCHEMAS = st.recursive(st.tuples(LEAVES, NOTES).map(lambda made: made[0] | made[1]), _nested, max_leaves=6)


@given(SCHEMAS)
def test_schemas_are_made_as_the_sdk_makes_them(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) == transform_schema(schema)


def test_schemas_that_cannot_be_sent() -> None:
    for schema in ({}, {"type": "object", "properties": {"a": {}}}, {"type": "array", "items": 5}):
        with pytest.raises(InputError, match="JSON Schema"):
            body(output=OutputFormat("answer", schema))
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InputError, match="too deeply"):
        closed_schema(deep)
    assert closed_schema({"type": ["object", "null"], "properties": {}}) == {
        "type": ["object", "null"], "properties": {}, "additionalProperties": False,
    }  # fmt: skip


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def sse(*events: Any) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), msgspec.json.encode(each)) for each in events)


def frames(*events: Any) -> bytes:
    found = b""
    for event in events:
        payload = msgspec.json.encode({"bytes": base64.b64encode(msgspec.json.encode(event)).decode(), "p": "abcd"})
        prelude = struct.pack("!II", 16 + len(payload), 0)
        whole = prelude + struct.pack("!I", crc32(prelude)) + payload
        found += whole + struct.pack("!I", crc32(whole))
    return found


def started(index: int, **block: Any) -> Any:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, **delta: Any) -> Any:
    return {"type": "content_block_delta", "index": index, "delta": delta}


START = {"type": "message_start", "message": {"model": "claude-x", "usage": {"input_tokens": 5, "output_tokens": 1}}}
END = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}
EVENTS = (
    START,
    {"type": "ping"},
    started(0, type="thinking", thinking="", signature=""),
    piece(0, type="thinking_delta", thinking="Hm"),
    piece(0, type="signature_delta", signature="sig"),
    started(1, type="text", text=""),
    piece(1, type="text_delta", text="Höl"),
    piece(1, type="text_delta", text="lo"),
    started(2, type="tool_use", id="t1", name="a", input={}),
    started(3, type="tool_use", id="t2", name="b", input={}),
    piece(3, type="input_json_delta", partial_json='{"x"'),
    piece(2, type="input_json_delta", partial_json=""),
    piece(3, type="input_json_delta", partial_json=": 1}"),
    END,
    STOP,
)
FORMS: list[tuple[Callable[[], Decoder], Callable[..., bytes]]] = [
    (Anthropic().decoder, sse),
    (AnthropicBedrock().decoder, frames),
]


def ends_in(decoder: Decoder, data: bytes, size: int = 1 << 30) -> tuple[list[Delta], Reply | ProviderError]:
    deltas: list[Delta] = []
    try:
        for start in range(0, len(data), size):
            deltas += decoder.feed(data[start : start + size])
        return deltas, decoder.finish()
    except ProviderError as error:
        return deltas, error


@pytest.mark.parametrize(("decoder", "form"), FORMS)
def test_a_stream(decoder: Callable[[], Decoder], form: Callable[..., bytes]) -> None:
    data = form(*EVENTS)
    deltas, reply = ends_in(decoder(), data)
    assert isinstance(reply, Reply)
    assert reply.content == (
        Reasoning("Hm", signature="sig"),
        Text("Höllo"),
        ToolCall("t1", "a"),
        ToolCall("t2", "b", {"x": 1}),
    )
    assert (reply.finish_reason, reply.model, reply.raw) == ("tool_calls", "claude-x", data)
    assert (reply.usage.input, reply.usage.output) == (5, 9)
    assert deltas == [
        Delta(reasoning="Hm"),
        Delta(text="Höl"),
        Delta(text="lo"),
        Delta(index=0, id="t1", name="a"),
        Delta(index=1, id="t2", name="b"),
        Delta(index=1, arguments='{"x"'),
        Delta(index=1, arguments=": 1}"),
    ]
    chance = random.Random(0)
    for size in [1, 2, 3, *chance.choices(range(4, 200), k=10)]:
        assert ends_in(decoder(), data, size) == (deltas, reply)


@pytest.mark.parametrize(("decoder", "form"), FORMS)
@pytest.mark.parametrize(
    ("events", "kind", "text"),
    [
        (EVENTS[:-1], errors.CutStreamError, "Höllo"),
        (EVENTS[:7], errors.CutStreamError, "Höl"),
        ((), errors.CutStreamError, ""),
        ((*EVENTS[:7], piece(9, type="text_delta", text="x"), *EVENTS[7:]), errors.UnreadableAnswerError, "Höl"),
        ((*EVENTS[:7], {"type": "content_block_start", "index": 4}), errors.UnreadableAnswerError, "Höl"),
        ((*EVENTS[:7], piece(1, type="text_delta", text=5)), errors.UnreadableAnswerError, "Höl"),
        ((*EVENTS[:7], {"type": "error", "error": {"type": "api_error", "message": "x"}}), errors.ServerError, "Höl"),
        ((*EVENTS[:-3], END, STOP), errors.UnreadableAnswerError, "Höllo"),
    ],
)
def test_streams_that_break(
    decoder: Callable[[], Decoder],
    form: Callable[..., bytes],
    events: tuple[Any, ...],
    kind: type[ProviderError],
    text: str,
) -> None:
    for size in (1 << 30, 1):
        deltas, error = ends_in(decoder(), form(*events), size)
        assert type(error) is kind
        assert isinstance(error.partial, Reply)
        assert error.partial.text == text == "".join(delta.text for delta in deltas)
        assert error.partial.raw in form(*events)


def test_a_tool_call_that_max_tokens_cut() -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {}}
    _, error = ends_in(Anthropic().decoder(), sse(*EVENTS[:-3], end, STOP))
    assert isinstance(error, errors.UnreadableAnswerError)
    assert "allow more with max_tokens" in str(error)
    assert error.partial.tool_calls == (ToolCall("t1", "a"),)
    assert error.partial.finish_reason == "length"


def test_lines_decide_what_an_event_is() -> None:
    """Data without an `event:` line, and events of other kinds, are skipped, whatever they hold."""
    odd = b'data: {"type": "content_block_delta"}\n\nevent: news\ndata: {nope\n\n: comment\n\n'
    assert ends_in(Anthropic().decoder(), odd + sse(*EVENTS))[0] == ends_in(Anthropic().decoder(), sse(*EVENTS))[0]


def test_bedrock_skips_what_is_no_event_of_a_message() -> None:
    _, reply = ends_in(AnthropicBedrock().decoder(), frames({"metrics": 1}, *EVENTS))
    assert isinstance(reply, Reply)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "ThrottlingException:http://internal.amazon.com/", errors.RateLimitedError),
        (429, "ThrottlingException", errors.RateLimitedError),
        (403, "AccessDeniedException:", errors.PermissionDeniedError),
        (400, "ValidationException", errors.BadRequestError),
        (424, "ModelErrorException", errors.ServerError),
        (408, "ModelTimeoutException", errors.CallTimeoutError),
        (503, "ServiceUnavailableException", errors.OverloadedError),
    ],
)
def test_errors_of_bedrock(status: int, kind: str, expected: type[ProviderError]) -> None:
    error = AnthropicBedrock().error(status, {"x-amzn-errortype": kind}, b'{"message": "Because."}')
    assert type(error) is expected
    assert (error.code, error.message) == (kind.partition(":")[0], "Because.")


def test_an_error_with_status_200() -> None:
    with pytest.raises(errors.OverloadedError, match="busy"):
        Anthropic().reply(b'{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}')


NOISE = st.sampled_from(
    [b"null", b"[]", b"{}", b'"\\ud800"', b"1" * 40, b"[" * 3000, b"\xff", b"", b"\r", b"\n\n", b'"type":', b"data: {"]
) | st.binary(max_size=12)


@given(st.binary(max_size=300) | NOISE)
def test_any_bytes_as_a_body(data: bytes) -> None:
    for codec in CODECS:
        with contextlib.suppress(ProviderError):
            assert isinstance(codec.reply(data), Reply)
        assert isinstance(codec.error(500, {}, data), ProviderError)
        with contextlib.suppress(ProviderError):
            codec.model_names(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["type", "content", "usage", "stop_reason", "model", "text", "input", "id", "name", "citations", "error"]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_json_as_a_body(value: dict[str, Any], inner: dict[str, Any]) -> None:
    for content in (value, value | {"content": [inner]}, {"type": "message", "content": [inner]}):
        with contextlib.suppress(ProviderError):
            assert isinstance(Anthropic().reply(msgspec.json.encode(content)), Reply)


@given(st.data())
def test_any_bytes_in_a_stream(data: st.DataObject) -> None:
    for decoder, form in FORMS:
        whole = form(*EVENTS)
        place = data.draw(st.integers(0, len(whole)))
        skipped = data.draw(st.integers(0, 40))
        changed = whole[:place] + data.draw(NOISE) + whole[place + skipped :]
        found = [ends_in(decoder(), changed, size) for size in (1 << 30, data.draw(st.integers(1, 50)))]
        for deltas, end in found:
            reply = end.partial if isinstance(end, ProviderError) else end
            assert isinstance(reply, Reply)
            assert "".join(delta.text for delta in deltas) == reply.text
        assert [type(end) for _, end in found] == [type(found[0][1])] * 2
        assert found[0][0] == found[1][0]


@given(st.lists(VALUES, max_size=3), st.integers(0, len(EVENTS) - 1), st.sampled_from(["index", "delta", "message"]))
def test_any_json_in_a_stream(values: list[Any], place: int, key: str) -> None:
    for value in values:
        events = [*EVENTS]
        events[place] = {**events[place], key: value}
        for decoder, form in FORMS:
            ends_in(decoder(), form(*events))


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), st.integers(-9, 9) | TEXTS, max_size=2)
PARTS: st.SearchStrategy[list[Part]] = st.lists(
    st.one_of(
        TEXTS.map(Text),
        st.builds(ToolCall, TEXTS, TEXTS, ARGUMENTS),
        st.builds(Reasoning, TEXTS, TEXTS),
        TEXTS.map(lambda data: Reasoning(data=data)),
    ),
    min_size=1,
    max_size=4,
)


@given(PARTS)
def test_an_answer_goes_back_as_it_came(parts: list[Part]) -> None:
    """What we send of an assistant's turn, read as an answer, is that turn; also as a stream."""
    blocks = body(User("Hi"), Assistant(*parts))["messages"][1]["content"]
    answer = {"type": "message", "content": blocks, "stop_reason": "end_turn"}
    reply = Anthropic().reply(msgspec.json.encode(answer))
    events = [started(index, **block) for index, block in enumerate(blocks)]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    _, streamed = ends_in(Anthropic().decoder(), sse(*events, end, STOP))
    assert isinstance(streamed, Reply)
    assert reply.content == streamed.content
    if all(isinstance(part, Text) for part in parts):
        assert reply.content == Message("assistant", tuple(parts)).text
    else:
        assert reply.content == tuple(parts)
    assert reply.finish_reason == ("tool_calls" if reply.tool_calls else "stop")


def test_lone_surrogates_are_sent() -> None:
    assert body(User("a\ud800b"))["messages"][0]["content"] == "a?b"
