import itertools
import json
import random
import struct
from base64 import b64encode
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.messages import (
    Assistant,
    Audio,
    Delta,
    Document,
    Image,
    Message,
    OutputFormat,
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
from kurabe.models.codecs._bedrock import Bedrock
from kurabe.models.codecs.base import Profile
from kurabe.models.providers import providers

CODEC = Bedrock()
MODEL = "amazon.nova-lite-v1:0"
PLAIN = Profile()
TOOL = Tool("weather", "", {"type": "object"})
HI = (User("Hi"),)


def body(request: Request, profile: Profile = PLAIN) -> Any:
    encoded = CODEC.chat(MODEL, request, profile, stream=False)
    assert (encoded.method, encoded.query, encoded.headers) == ("POST", {}, {})
    return msgspec.json.decode(encoded.body)


def content(*parts: Any, role: str = "user") -> Any:
    messages = body(Request((Message(role, parts),)))["messages"]  # type: ignore[arg-type]
    assert [message["role"] for message in messages] == [role][: len(messages)]
    return messages[0]["content"] if messages else []


@pytest.mark.parametrize(
    ("effort", "quirks", "fields", "level"),
    [
        ("low", [], None, "low"),
        ("minimal", [], None, "low"),
        ("xhigh", [], None, "xhigh"),
        ("none", ["claude"], {"thinking": {"type": "disabled"}}, None),
        ("minimal", ["claude"], {"thinking": {"type": "adaptive"}}, "low"),
        ("xhigh", ["claude"], {"thinking": {"type": "adaptive"}}, "xhigh"),
        ("none", ["claude", "thinking_budget"], {"thinking": {"type": "disabled"}}, None),
        ("low", ["claude", "thinking_budget"], {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
        ("minimal", ["claude", "thinking_budget"], {"thinking": {"type": "enabled", "budget_tokens": 1024}}, None),
        ("none", ["claude", "thinking_between_tools"], {"thinking": {"type": "between_tools"}}, None),
        ("none", ["reasoning_config"], {"reasoningConfig": {"type": "disabled"}}, None),
        ("xhigh", ["reasoning_config"], {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, None),
        ("minimal", ["reasoning_effort"], {"reasoning_effort": "low"}, None),
        ("medium", ["reasoning_effort"], {"reasoning_effort": "medium"}, None),
    ],
)
def test_reasoning(effort: Any, quirks: list[str], fields: Any, level: str | None) -> None:
    sent = body(Request(HI, reasoning=effort), Profile(max_tokens=8000, quirks=frozenset(quirks)))
    assert sent.get("additionalModelRequestFields") == fields
    assert sent.get("outputConfig") == ({"effort": level} if level else None)


def test_where_a_model_has_its_settings() -> None:
    nova = Profile(names={"top_k": "inferenceConfig.topK", "max_tokens": "maxNewTokens"})
    sent = body(Request(HI, top_k=3, max_tokens=9), nova)
    assert sent["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 3}}
    assert sent["inferenceConfig"] == {"maxNewTokens": 9}


def test_output_and_effort_stand_together() -> None:
    sent = body(Request(HI, reasoning="low", output=OutputFormat("x", {"type": "object", "properties": {}})))
    assert sent["outputConfig"]["effort"] == "low"
    schema = sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (schema["name"], json.loads(schema["schema"])["additionalProperties"]) == ("x", False)


def test_turns_are_joined_and_empty_ones_left_out() -> None:
    turns = (
        System("One."), User("a"), User("", "b"), Assistant(""), User("c"), System("Two."),
        Assistant(ToolCall("1", "w")), User("And?", ToolResult("1", "w", "")),
    )  # fmt: skip
    sent = body(Request(turns, prefill="So "), Profile(quirks=frozenset({"system_first"})))
    assert sent["system"] == [{"text": "One."}, {"text": "Two."}]
    assert sent["messages"] == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}, {"text": "c"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "w", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": []}}, {"text": "And?"}]},
        {"role": "assistant", "content": [{"text": "So"}]},
    ]


def test_tools_need_no_description() -> None:
    assert body(Request(HI, tools=(TOOL,)))["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}]
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["report.final.pdf"], ["report final"]),
        (["a.pdf", "a.pdf", "a 2.pdf"], ["a", "a 2", "a 2 2"]),
        (["", "é.pdf"], ["document", "document 2"]),
        (["Übersicht_(neu) [1]--x.pdf"], ["bersicht (neu) [1]--x"]),
        (["x" * 300 + ".pdf"], ["x" * 190]),
    ],
)
def test_names_of_documents(names: list[str], expected: list[str]) -> None:
    blocks = content(*(Document(b"1", "application/pdf", name=name) for name in names))
    assert [block["document"]["name"] for block in blocks] == expected


def test_only_thinking_of_its_own_goes_back() -> None:
    parts = Reasoning("a"), Reasoning("b", id="rs_1", data="x"), Reasoning("c", signature="s"), Reasoning(data="ZA==")
    assert content(*parts, role="assistant") == [
        {"reasoningContent": {"reasoningText": {"text": "c", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "ZA=="}},
    ]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request((User(Image.from_url("https://a.example/b.png")),)), "s3:// only: load https://a.example/b.png"),
        (Request((User(Image(b"1", "image/tiff")),)), "no image of type 'image/tiff'; it takes png, jpeg, gif, webp"),
        (Request((User(Audio(b"1", "audio/midi")),)), "no audio of type"),
        (Request((User(Document(b"1")),)), "no document of an unknown type"),
        (Request((Assistant(Image(b"1", "image/png")),)), "images in a user's turn only"),
        (Request(HI, reasoning="none"), "can't be told not to think"),
        (Request((*HI, Assistant(ToolCall("1", "weather"))), tools=(TOOL,), tool_choice="none"), "tool_choice 'none'"),
        (Request(HI, output=OutputFormat("x", {"properties": {"a": {}}})), "type"),
    ],
)
def test_what_can_not_be_said_is_refused(request_: Request, words: str) -> None:
    with pytest.raises(errors.InputError, match=words):
        body(request_)


def test_a_budget_of_thinking_needs_room() -> None:
    with pytest.raises(errors.InputError, match="max_tokens above 1,024"):
        body(Request(HI, reasoning="low", max_tokens=1000), Profile(quirks=frozenset({"claude", "thinking_budget"})))


def test_a_system_turn_inside_the_conversation_keeps_its_place() -> None:
    sent = body(Request((System("One."), User("a"), System("Two."), User("b"))))
    assert sent["system"] == [{"text": "One."}]
    assert sent["messages"] == [
        {"role": "user", "content": [{"text": "a"}]},
        {"role": "system", "content": [{"text": "Two."}]},
        {"role": "user", "content": [{"text": "b"}]},
    ]


@pytest.mark.parametrize(
    ("model", "refused", "quirks", "top_k"),
    [
        ("us.anthropic.claude-opus-5-5-v1:0", {"top_k", "top_p", "temperature", "prefill"},
         {"claude", "thinking_always", "unforced_tools", "cache_points"}, None),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", set(),
         {"claude", "thinking_budget", "system_first", "cache_points"}, None),
        ("anthropic.claude-3-haiku-20240307-v1:0", {"reasoning", "output"},
         {"claude", "thinking_budget", "system_first"}, None),
        ("eu.anthropic.claude-sonnet-4-6", {"prefill"}, {"claude", "system_first", "cache_points"}, None),
        ("us.amazon.nova-2-lite-v1:0", {"output", "prefill"}, {"reasoning_config", "system_first", "cache_points"},
         "inferenceConfig.topK"),
        ("amazon.nova-lite-v1:0", {"output", "prefill", "reasoning"}, {"system_first", "cache_points"},
         "inferenceConfig.topK"),
        ("openai.gpt-oss-120b-1:0", {"top_k", "prefill"}, {"reasoning_effort", "system_first"}, None),
        ("cohere.command-r-plus-v1:0", {"output", "prefill", "reasoning"}, {"system_first"}, "k"),
        ("mistral.mistral-7b-instruct-v0:2", {"system", "tools", "tool_choice", "output", "prefill", "reasoning"},
         {"system_first"}, None),
        ("some.model", {"top_k", "prefill", "reasoning"}, set(), None),
    ],
)  # fmt: skip
def test_what_models_take(model: str, refused: set[str], quirks: set[str], top_k: str | None) -> None:
    profile = providers()["bedrock"].profile(model)
    assert (set(profile.without), set(profile.quirks)) == (refused, quirks)
    assert profile.names.get("top_k") == top_k


def test_a_model_that_is_not_to_be_forced() -> None:
    profile = Profile(quirks=frozenset({"claude", "unforced_tools"}))
    assert body(Request(HI, tools=(TOOL,), tool_choice="auto"), profile)["toolConfig"]["toolChoice"] == {"auto": {}}
    for choice in ("required", "weather"):
        with pytest.raises(errors.InputError, match="can't be made to call a tool"):
            body(Request(HI, tools=(TOOL,), tool_choice=choice), profile)


USAGE = {"inputTokens": 10, "outputTokens": 7, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 30}


def answer(*blocks: Any, stop: str | None = "end_turn", usage: Any = USAGE) -> bytes:
    message = {"role": "assistant", "content": list(blocks)}
    return json.dumps({"output": {"message": message}, "stopReason": stop, "usage": usage}).encode()


def test_usage_counts_every_token_of_the_prompt() -> None:
    assert CODEC.reply(answer({"text": "a"})).usage == Usage(60, 7, 20, 30)
    assert CODEC.reply(answer({"text": "a"}, usage=None)).usage == Usage(0, 0)
    assert CODEC.reply(answer(usage={"inputTokens": 1, "cacheReadInputTokens": None})).usage == Usage(1, 0)


CITED = {
    "content": [{"text": "Oslo."}],
    "citations": [{"location": {"web": {"url": "https://a.example"}}}, {"title": "t"}, {"location": {}}],
}


@pytest.mark.parametrize(
    ("raw", "expected", "finish"),
    [
        (answer({"text": "a"}, {"text": "b"}), "ab", "stop"),
        (answer(), "", "stop"),
        (answer({"text": "a"}, stop="model_context_window_exceeded"), "a", "length"),
        (answer({"text": "a"}, stop="content_filtered"), "a", "content_filter"),
        (answer({"text": "a"}, stop="stop_sequence"), "a", "stop"),
        (answer({"text": "a"}, stop=None), "a", "other"),
        (answer({"toolUse": {"toolUseId": "1", "name": "w"}}), (ToolCall("1", "w"),), "tool_calls"),
        (answer({"toolUse": {"toolUseId": "1", "name": "w", "type": "server_tool_use"}}, {"text": "a"}), "a", "stop"),
        (answer({"image": {"format": "png"}}, {"text": None}), "", "stop"),
        (answer({"reasoningContent": {"reasoningText": {"text": "hm"}}}), (Reasoning("hm"),), "stop"),
    ],
)
def test_replies(raw: bytes, expected: Any, finish: str) -> None:
    reply = CODEC.reply(raw)
    assert (reply.content, reply.finish_reason, reply.raw) == (expected, finish, raw)


def test_citations() -> None:
    reply = CODEC.reply(answer({"text": "Where? "}, {"citationsContent": CITED}))
    assert (reply.text, reply.citations) == ("Where? Oslo.", ("https://a.example",))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"<html>502</html>", b"{}", b'{"output": null}', b'{"output": {"message": null}}', answer()[:-3],
        answer({"toolUse": {"input": "text"}}), b'{"output": {"message": {"content": [{"text": "\xff"}]}}}',
        b'{"output":' * 5000, b'{"message": "no such thing"}',
    ],
)  # fmt: skip
def test_unreadable_replies(raw: bytes) -> None:
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(raw)


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return message + struct.pack("!I", crc32(message))


def event(kind: str, value: Any) -> bytes:
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return frame({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, payload)


def delta(index: int, value: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": value, "p": "abc"})


def start(index: int, **tool: Any) -> bytes:
    return event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": tool}})


STOP = event("messageStop", {"stopReason": "tool_use"})
METADATA = event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})
EVENTS = [
    event("messageStart", {"role": "assistant"}),
    delta(0, {"reasoningContent": {"text": "h"}}),
    delta(0, {"reasoningContent": {"text": "m"}}),
    delta(0, {"reasoningContent": {"signature": "sig"}}),
    delta(1, {"reasoningContent": {"redactedContent": b64encode(b"ab").decode()}}),
    delta(1, {"reasoningContent": {"redactedContent": b64encode(b"c").decode()}}),
    delta(2, {"text": "Grüß"}),
    delta(2, {"citation": {"location": {"web": {"url": "https://a.example"}}}}),
    delta(2, {"text": " Gott"}),
    event("contentBlockStop", {"contentBlockIndex": 2}),
    start(3, toolUseId="s", name="search", type="server_tool_use"),
    delta(3, {"toolUse": {"input": '{"q":1}'}}),
    event("contentBlockStart", {"contentBlockIndex": 4, "start": {"toolResult": {"toolUseId": "s"}}}),
    delta(4, {"toolResult": [{"text": "found"}]}),
    start(5, toolUseId="a", name="weather"),
    start(6, toolUseId="b", name="time"),
    delta(5, {"toolUse": {"input": ""}}),
    delta(5, {"toolUse": {"input": '{"city": '}}),
    delta(6, {"toolUse": {"input": ""}}),
    delta(5, {"toolUse": {"input": '"Oslo"}'}}),
    event("somethingNew", {"x": 1}),
]
STREAM = b"".join((*EVENTS, STOP, METADATA))


def read(data: bytes, places: list[int]) -> tuple[list[Delta], Reply]:
    decoder = CODEC.decoder()
    deltas = [found for begin, end in itertools.pairwise(places) for found in decoder.feed(data[begin:end])]
    return deltas, decoder.finish()


def test_streams_whole_bytewise_and_cut_anywhere() -> None:
    deltas, reply = read(STREAM, [0, len(STREAM)])
    assert deltas == [
        Delta(reasoning="h"), Delta(reasoning="m"), Delta("Grüß"), Delta(" Gott"),
        Delta(index=0, id="a", name="weather"), Delta(index=1, id="b", name="time"),
        Delta(index=0, arguments='{"city": '), Delta(index=0, arguments='"Oslo"}'),
    ]  # fmt: skip
    hidden = Reasoning(data=b64encode(b"abc").decode())
    calls = ToolCall("a", "weather", {"city": "Oslo"}), ToolCall("b", "time")
    parts = (Reasoning("hm", "sig"), hidden, Text("Grüß Gott"), *calls)
    assert reply == Reply(parts, "tool_calls", Usage(60, 7, 20, 30), citations=("https://a.example",), raw=STREAM)
    assert read(STREAM, list(range(len(STREAM) + 1))) == (deltas, reply)
    chance = random.Random(0)
    for _ in range(50):
        places = sorted({0, len(STREAM), *chance.choices(range(len(STREAM) + 1), k=8)})
        assert read(STREAM, places) == (deltas, reply)


HELLO = delta(0, {"text": "Hello"})


@pytest.mark.parametrize(
    ("rest", "kind", "words"),
    [
        (b"", errors.CutStreamError, "no event messageStop"),
        (STOP, errors.CutStreamError, "no event metadata"),
        (METADATA, errors.CutStreamError, "no event messageStop"),
        (STOP + METADATA[:-1], errors.CutStreamError, "inside a message"),
        (STOP[:-1] + b"\x00" + METADATA, errors.UnreadableAnswerError, "checksum"),
        (event("contentBlockDelta", b"<html>"), errors.UnreadableAnswerError, "contentBlockDelta.*<html>"),
        (event("contentBlockDelta", b"\xff"), errors.UnreadableAnswerError, "contentBlockDelta"),
        (event("contentBlockDelta", b"[" * 5000), errors.UnreadableAnswerError, "contentBlockDelta"),
        (event("metadata", []), errors.UnreadableAnswerError, "metadata"),
        (delta(9, {"toolUse": {"input": "x"}}), errors.UnreadableAnswerError, "never began"),
        (start(1, toolUseId="a", name="w") + delta(1, {"toolUse": {"input": '{"a'}}) + STOP + METADATA,
         errors.UnreadableAnswerError, "no JSON object"),
        (delta(1, {"reasoningContent": {"redactedContent": "é"}}) * 2 + STOP + METADATA, errors.UnreadableAnswerError,
         "no base64"),
        (frame({":message-type": "exception", ":exception-type": "modelStreamErrorException"},
               b'{"message":"invalid"}'), errors.ServerError, "invalid"),
        (frame({":message-type": "error", ":error-code": "throttled", ":error-message": "Throttling"}, b""),
         errors.RateLimitedError, "Throttling"),
        (frame({":message-type": "error"}, b""), errors.ServerError, "failed"),
        (frame({}, b"what"), errors.UnreadableAnswerError, "without a type.*what"),
    ],
)  # fmt: skip
def test_streams_that_break_hold_what_came(rest: bytes, kind: type[errors.ProviderError], words: str) -> None:
    for step in (1, 100_000):
        decoder, data = CODEC.decoder(), HELLO + rest
        with pytest.raises(kind, match=words) as caught:  # noqa: PT012
            for begin in range(0, len(data), step):
                decoder.feed(data[begin : begin + step])
            decoder.finish()
        assert type(caught.value) is kind
        assert caught.value.partial.text == "Hello"
        assert caught.value.partial.tool_calls == ()


def test_a_call_that_has_begun_is_none_until_its_end() -> None:
    begun = b"".join(
        start(place, toolUseId=id, name="w") + delta(place, {"toolUse": {"input": "{}"}})
        for place, id in enumerate("ab")
    ) + event("contentBlockStop", {"contentBlockIndex": 0})
    decoder = CODEC.decoder()
    decoder.feed(begun)
    with pytest.raises(errors.CutStreamError) as cut:
        decoder.finish()
    assert cut.value.partial.tool_calls == (ToolCall("a", "w"),)
    decoder = CODEC.decoder()
    decoder.feed(begun + STOP + METADATA)
    assert decoder.finish().tool_calls == (ToolCall("a", "w"), ToolCall("b", "w"))


@pytest.mark.parametrize(
    ("status", "headers", "raw", "kind", "code", "message"),
    [
        (400, {}, {"__type": "com.amazon.coral#ValidationException", "message": "m"}, errors.BadRequestError,
         "ValidationException", "m"),
        (400, {}, {"message": "Input is too long for requested model."}, errors.ContextTooLongError, "",
         "Input is too long for requested model."),
        (429, {"x-amzn-errortype": "ThrottlingException"}, {"message": "Too many tokens, please wait"},
         errors.RateLimitedError, "ThrottlingException", "Too many tokens, please wait"),
        (403, {"x-amzn-errortype": "AccessDeniedException:"}, {"Message": "Please make sure your API Key is valid."},
         errors.AuthenticationError, "AccessDeniedException", "Please make sure your API Key is valid."),
        (502, {}, b"<html><body><h1>Bad gateway</h1></body></html>", errors.ServerError, "", "Bad gateway"),
        (503, {}, b"", errors.OverloadedError, "", ""),
        (400, {}, [1], errors.BadRequestError, "", "[1]"),
    ],
)  # fmt: skip
def test_errors(status: int, headers: dict[str, str], raw: Any, kind: type[Any], code: str, message: str) -> None:
    error = CODEC.error(status, headers, raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    assert (type(error), error.status, error.code, error.message) == (kind, status, code, message)


@given(st.binary(max_size=60), st.integers(0, len(STREAM)), st.integers(0, 30), st.integers(1, 400))
def test_any_bytes_are_an_answer_or_an_error_of_ours(noise: bytes, place: int, skipped: int, step: int) -> None:
    data = STREAM[:place] + noise + STREAM[place + skipped :]
    found: list[Any] = []
    for size in (len(data) or 1, step):
        decoder, deltas = CODEC.decoder(), []
        try:
            for begin in range(0, len(data), size):
                deltas += decoder.feed(data[begin : begin + size])
            found.append((deltas, decoder.finish()))
        except errors.ProviderError as error:
            found.append((type(error), msgspec.structs.replace(error.partial, raw=b"")))
    assert found[0] == found[1]


FIELDS = [
    "output", "message", "content", "text", "toolUse", "toolUseId", "name", "input", "reasoningContent", "stopReason",
    "reasoningText", "redactedContent", "signature", "usage", "inputTokens", "contentBlockIndex", "delta", "start",
    "citation", "citationsContent", "citations", "location", "web", "url", "embedding", "embeddings", "__type", "float",
]  # fmt: skip
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)
KINDS = st.sampled_from(["messageStart", "contentBlockStart", "contentBlockDelta", "messageStop", "metadata", "other"])


@given(st.lists(st.tuples(KINDS, JSON), max_size=4), st.integers(100, 599))
def test_any_json_is_an_answer_or_an_error_of_ours(events: list[tuple[str, Any]], status: int) -> None:
    decoder = CODEC.decoder()
    with pytest.raises(errors.ProviderError) as caught:  # noqa: PT012
        for kind, value in events:
            decoder.feed(event(kind, value))
        decoder.finish()
        raise errors.ProviderError(partial=decoder.finish())
    assert isinstance(caught.value.partial, Reply)
    for kind, value in events:
        raw = json.dumps(value).encode()
        for reader in (CODEC.reply, CODEC.embeddings):
            try:
                reader(raw)
            except errors.ProviderError:
                continue
        assert isinstance(CODEC.error(status, {"x-amzn-errortype": kind}, raw), errors.ProviderError)


@given(st.binary(max_size=100), st.integers(100, 599))
def test_any_bytes_as_a_body(raw: bytes, status: int) -> None:
    for reader in (CODEC.reply, CODEC.embeddings):
        with pytest.raises(errors.ProviderError):
            reader(raw)
    assert isinstance(CODEC.error(status, {}, raw), errors.ProviderError)


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
PARTS = st.one_of(
    st.builds(Text, WORDS),
    st.builds(Reasoning, st.text(st.characters(codec="utf-8")), WORDS),
    st.builds(Reasoning, data=WORDS),
    st.builds(ToolCall, WORDS, WORDS, st.dictionaries(WORDS, st.integers(-9, 9) | WORDS | st.none())),
)


@given(st.lists(PARTS, max_size=5))
def test_an_answer_goes_back_as_it_came(parts: list[Any]) -> None:
    if all(isinstance(part, Text) for part in parts):
        parts = [Text("".join(part.text for part in parts))] if parts else []  # texts alone are one text
    raw = answer(*content(*parts, role="assistant"))
    assert list(CODEC.reply(raw).message.parts) == parts


def test_embeddings() -> None:
    titan = CODEC.embed("amazon.titan-embed-text-v1", ["a"], None, None)
    assert (titan.path, titan.body) == ("/model/amazon.titan-embed-text-v1/invoke", b'{"inputText":"a"}')
    cohere = CODEC.embed("cohere.embed-v4:0", ["a", "b"], 256, "query")
    assert cohere.path == "/model/cohere.embed-v4%3A0/invoke"
    assert json.loads(cohere.body) == {"texts": ["a", "b"], "input_type": "search_query", "output_dimension": 256}
    nova = json.loads(CODEC.embed("amazon.nova-2-multimodal-embeddings-v1:0", ["a"], 384, None).body)
    assert nova["singleEmbeddingParams"] == {
        "embeddingPurpose": "GENERIC_INDEX", "embeddingDimension": 384,
        "text": {"truncationMode": "NONE", "value": "a"},
    }  # fmt: skip
    with pytest.raises(errors.InputError, match="is no embedding model"):
        CODEC.embed("meta.llama3", ["a"], None, None)
    for raw in ({"embedding": [0.5, 1]}, {"embeddings": [[0.5, 1]]}, {"embeddings": {"float": [[0.5, 1]]}},
                {"embeddings": [{"embedding": [0.5, 1], "embeddingType": "TEXT"}]}):  # fmt: skip
        read = CODEC.embeddings(json.dumps({**raw, "inputTextTokenCount": 2}).encode())
        assert (read.vectors, read.input_tokens) == ([[0.5, 1.0]], 2)
    for bad in ({}, {"embeddings": {"int8": [[1]]}}):
        with pytest.raises(errors.UnreadableAnswerError, match="without embeddings"):
            CODEC.embeddings(json.dumps(bad).encode())
    with pytest.raises(errors.InputError, match="no list"):
        CODEC.models()
