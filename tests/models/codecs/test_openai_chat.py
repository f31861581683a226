"""What the conformance tests leave: the dialects of OpenAI's imitators, broken answers, and any bytes at all."""

import base64
import itertools
import random
import struct
from typing import Any

import msgspec
import pytest

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
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.openai_chat import OpenAIChat

CODEC = OpenAIChat()
DONE = b"data: [DONE]\n\n"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def answer(message: Any, reason: Any = "stop", **more: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "choices": [{"message": message, "finish_reason": reason}], **more})


def event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(delta: Any = None, reason: Any = None, **more: Any) -> bytes:
    return event({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more})


def call(name: str | None = None, arguments: Any = None, **head: Any) -> dict[str, Any]:
    return {"tool_calls": [{**head, "function": {"name": name, "arguments": arguments}}]}


def read(body: bytes) -> tuple[list[Delta], Reply]:
    """Read a stream whole, byte by byte and cut at random places; the result must be the same."""
    chance = random.Random(1)
    cuts = [[0, len(body)], list(range(len(body) + 1))]
    cuts += [sorted({0, len(body), *chance.choices(range(len(body) + 1), k=5)}) for _ in range(10)]
    results = []
    for places in cuts:
        reader = CODEC.decoder()
        deltas = [delta for start, end in itertools.pairwise(places) for delta in reader.feed(body[start:end])]
        results.append((deltas, reader.finish()))
    assert all(result == results[0] for result in results)
    return results[0]


def sent(request: Request, *quirks: str, stream: bool = False, **names: str) -> dict[str, Any]:
    profile = Profile(quirks=frozenset(quirks), names=names)
    body: dict[str, Any] = msgspec.json.decode(CODEC.chat("m", request, profile, stream=stream).body)
    return body


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_shortest_request() -> None:
    request = CODEC.chat("m", Request((User("Hi"),)), Profile(), stream=False)
    assert (request.method, request.path, request.query) == ("POST", "/chat/completions", {})
    assert msgspec.json.decode(request.body) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def test_quirks() -> None:
    hello = (User("Hi"),)
    output = OutputFormat("o", SCHEMA)
    assert sent(Request(hello), stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(Request(hello), "no_stream_options", stream=True)
    strict = sent(Request(hello, output=output))["response_format"]["json_schema"]
    assert strict == {
        "name": "o",
        "strict": True,
        "schema": SCHEMA | {"additionalProperties": False, "required": ["a"]},
    }
    loose = sent(Request(hello, output=output), "no_strict")["response_format"]["json_schema"]
    assert loose == {"name": "o", "schema": SCHEMA}
    assert sent(Request(hello, reasoning="low"), "reasoning_object")["reasoning"] == {"effort": "low"}
    assert sent(Request(hello, reasoning="none"), "thinking_toggle")["thinking"] == {"type": "disabled"}
    assert sent(Request(hello, reasoning="high"), "thinking_toggle")["reasoning_effort"] == "high"
    last = {"role": "assistant", "content": "So"}
    assert sent(Request(hello, prefill="So"))["messages"][-1] == last
    assert sent(Request(hello, prefill="So"), "prefix")["messages"][-1] == last | {"prefix": True}
    continued = sent(Request(hello, prefill="So"), "continue_final_message")
    assert (continued["continue_final_message"], continued["add_generation_prompt"]) == (True, False)
    assert sent(Request(hello, max_tokens=5, seed=1, top_k=3, grammar="g"), max_tokens="limit") == {
        "model": "m", "messages": [{"role": "user", "content": "Hi"}],
        "limit": 5, "seed": 1, "top_k": 3, "grammar": "g",
    }  # fmt: skip


@pytest.mark.parametrize("system", [(), (System("Be brief."),)])
def test_a_server_without_schemas_is_told_the_schema(system: tuple[Message, ...]) -> None:
    body = sent(Request((*system, User("Hi")), output=OutputFormat("o", SCHEMA)), "json_object")
    assert body["response_format"] == {"type": "json_object"}
    first, second = body["messages"]
    assert (first["role"], second) == ("system", {"role": "user", "content": "Hi"})
    assert first["content"].endswith(msgspec.json.encode(SCHEMA).decode())
    assert "JSON" in first["content"], "DeepSeek asks for the word"
    assert first["content"].startswith("Be brief.") == bool(system)


def test_extra_goes_last() -> None:
    assert sent(Request((User("Hi"),), temperature=1.0, extra={"temperature": 2, "x": None}))["temperature"] == 2


def test_tools_without_description_and_choices_without_tools() -> None:
    body = sent(Request((User("Hi"),), tools=(Tool("t", "", SCHEMA),)))
    assert body["tools"] == [{"type": "function", "function": {"name": "t", "parameters": SCHEMA}}]
    assert sent(Request((User("Hi"),), tool_choice="auto", parallel_tool_calls=True)).keys() == {"model", "messages"}


def test_turns() -> None:
    thought = Reasoning("Hm.")
    turns = (
        System("a"),
        Message("system", (Text("b"), Text("c"))),
        User(),
        User(Text("d"), ToolResult("1", "t", "e")),
        Assistant(thought, Text("f")),
        Assistant(thought, ToolCall("2", "t", {"x": "é"})),
    )
    messages = sent(Request(turns))["messages"]
    tool_calls = [{"id": "2", "type": "function", "function": {"name": "t", "arguments": '{"x":"é"}'}}]
    assert messages == [
        {"role": "system", "content": "a"},
        {"role": "system", "content": "bc"},
        {"role": "user", "content": ""},
        {"role": "tool", "tool_call_id": "1", "content": "e"},
        {"role": "user", "content": [{"type": "text", "text": "d"}]},
        {"role": "assistant", "content": "f"},
        {"role": "assistant", "content": None, "tool_calls": tool_calls},
    ]
    for quirk in ("reasoning_content", "reasoning"):
        with_thinking = sent(Request(turns), f"send_{quirk}")["messages"]
        assert with_thinking == [*messages[:-2], *(message | {quirk: "Hm."} for message in messages[-2:])]


@pytest.mark.parametrize(
    "message",
    [
        User(Audio(url="https://example.com/a.wav")),
        User(Document(url="https://example.com/a.pdf")),
        User(ToolCall("1", "t")),
        User(Reasoning("Hm.")),
        Message("system", (Image(url="https://example.com/a.png"),)),
        Assistant(Image(url="https://example.com/a.png")),
    ],
)
def test_what_the_format_cannot_express(message: Message) -> None:
    with pytest.raises(errors.InputError):
        sent(Request((message,)))


def test_names_of_files_and_sounds() -> None:
    (message,) = sent(
        Request((User(Document(b"x", "text/plain"), Document(b"x", "application/pdf"), Audio(b"x", "audio/flac")),))
    )["messages"]
    assert [part["file"]["filename"] for part in message["content"][:2]] == ["document.txt", "document.pdf"]
    assert message["content"][2]["input_audio"]["format"] == "flac"


def test_lone_surrogates_do_not_break_a_request() -> None:
    assert sent(Request((User("a\ud800b"),)))["messages"][0]["content"] == "a?b"


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
THOUGHT = {"completion_tokens_details": {"reasoning_tokens": 6}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage(0, 0)),
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(5, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, Usage(9, 2, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 3}, Usage(9, 2, 3)),
        ({"prompt_tokens": 9, "num_cached_tokens": 3, "prompt_tokens_details": {}}, Usage(9, 0, 3)),
        ({"prompt_tokens": 9, "completion_tokens": 8, "reasoning_tokens": 6}, Usage(9, 8, reasoning=6)),
        ({"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17} | THOUGHT, Usage(9, 8, reasoning=6)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 17} | THOUGHT, Usage(9, 8, reasoning=6)),  # xAI
    ],
)
def test_usage(usage: Any, expected: Usage) -> None:
    assert CODEC.reply(answer({"content": "Hi"}, usage=usage)).usage == expected
    assert read(chunk({"content": "Hi"}, "stop") + event({"choices": [], "usage": usage}) + DONE)[1].usage == expected


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking(field: str) -> None:
    expected = (Reasoning("Hm."), Text("Yes."))
    assert CODEC.reply(answer({"content": "Yes.", field: "Hm."})).content == expected
    body = chunk({"content": None, field: "H"}) + chunk({field: "m."}) + chunk({"content": "Yes.", field: None}, "stop")
    deltas, reply = read(body + DONE)
    assert reply.content == expected
    assert deltas == [Delta(reasoning="H"), Delta(reasoning="m."), Delta("Yes.")]
    assert CODEC.reply(answer({"content": "Yes.", "reasoning": {"odd": 1}})).content == "Yes."


DETAILS = [
    {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "x==", "id": "r", "index": 1},
]


def test_details_of_thinking_go_back_as_they_came() -> None:
    whole = {"content": None, "reasoning": "Hm.", "reasoning_details": DETAILS} | call("f", "{}", index=0, id="1")
    pieces = [
        {"reasoning": "H", "reasoning_details": [{"type": "reasoning.text", "text": "H", "index": 0}]},
        {"reasoning": "m.", "reasoning_details": [{"type": "reasoning.text", "text": "m.", "index": 0}]},
        {"reasoning_details": [DETAILS[0] | {"text": ""}, DETAILS[1]]},
        call("f", "{}", index=0, id="1"),
    ]
    for reply in (CODEC.reply(answer(whole)), read(b"".join(map(chunk, pieces)) + chunk({}, "stop"))[1]):
        thinking, tool = reply.message.parts
        assert (reply.reasoning, tool) == ("Hm.", ToolCall("1", "f"))
        (back,) = sent(Request((reply.message,)), "send_reasoning")["messages"]
        assert sorted(back) == ["content", "reasoning_details", "role", "tool_calls"]
        assert back["reasoning_details"] == DETAILS
        assert isinstance(thinking, Reasoning)
    encrypted = CODEC.reply(answer({"content": "Yes.", "reasoning_details": DETAILS[1:]}))
    assert [type(part) for part in encrypted.message.parts] == [Reasoning, Text]
    assert CODEC.reply(answer({"content": "Yes.", "reasoning_details": [1, "odd"]})).content == "Yes."


def test_thinking_of_another_provider_goes_back_as_text() -> None:
    turn = Assistant(Reasoning("Hm.", data="gAAAA=="), Reasoning(data="7"), ToolCall("1", "f"))
    (back,) = sent(Request((turn,)), "send_reasoning")["messages"]
    assert (back["reasoning"], "reasoning_details" in back) == ("Hm.", False)


def test_thinking_between_texts_keeps_its_place() -> None:
    body = chunk({"content": "a"}) + chunk({"reasoning": "b"}) + chunk({"content": "c"}, "stop") + DONE
    assert read(body)[1].content == (Text("a"), Reasoning("b"), Text("c"))


def test_citations() -> None:
    found: dict[str, Any] = {
        "citations": ["https://a.test", "https://b.test"],
        "search_results": [{"url": "https://b.test", "title": "B"}, {"url": "https://c.test"}, {"title": "none"}],
    }
    expected = ("https://a.test", "https://b.test", "https://c.test")
    assert CODEC.reply(answer({"content": "Hi [1]"}, **found)).citations == expected
    assert read(chunk({"content": "Hi"}, **found) + chunk({}, "stop", **found))[1].citations == expected
    assert CODEC.reply(answer({"content": "Hi"}, citations="odd", search_results=[1])).citations == ()


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        (None, "other"),
        ("new", "other"),
    ],
)
def test_finish_reasons(reason: Any, expected: str) -> None:
    assert CODEC.reply(answer({"content": "Hi"}, reason)).finish_reason == expected
    assert read(chunk({"content": "Hi"}, reason) + DONE)[1].finish_reason == expected


@pytest.mark.parametrize("message", [{"content": None}, {}, None, {"content": []}, {"content": ""}])
def test_an_empty_answer(message: Any) -> None:
    assert CODEC.reply(answer(message)).content == ""
    assert read(chunk(message, "stop") + DONE)[1].content == ""


CALLS: dict[str, bytes] = {
    "numbered": chunk(call("f", "", index=0, id="1"))
    + chunk(call("g", "{}", index=1, id="2"))
    + chunk(call(None, "{}", index=0)),
    "no numbers": chunk(call("f", "{", id="1")) + chunk(call(None, "}")) + chunk(call("g", "{}", id="2")),
    "all number 0": chunk(call("f", "{}", index=0, id="1")) + chunk(call("g", "{}", index=0, id="2")),
    "at once": chunk({"tool_calls": call("f", {}, id="1")["tool_calls"] + call("g", None, id="2")["tool_calls"]}),
    "id and name in every piece": chunk(call("f", "{", index=0, id="1"))
    + chunk(call("f", "}", index=0, id="1"))
    + chunk(call("g", "{}", index=1, id="2")),
    "an id anew in every piece": chunk(call("f", "{", index=0, id="1"))
    + chunk(call(None, "}", index=0, id="9"))
    + chunk(call("g", "", index=1, id="2")),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_calls_in_dialects(case: str) -> None:
    deltas, reply = read(CALLS[case] + chunk({}, "stop") + DONE)
    assert reply.content == (ToolCall("1", "f"), ToolCall("2", "g"))
    assert reply.finish_reason == "tool_calls"
    assert {delta.index for delta in deltas} == {0, 1}
    assert [(delta.index, delta.id, delta.name) for delta in deltas if delta.name] == [(0, "1", "f"), (1, "2", "g")]


def test_whole_calls_stay_apart_whatever_their_numbers() -> None:
    calls = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}, {"index": 0, "function": {"name": "f"}}]
    assert CODEC.reply(answer({"tool_calls": calls})).content == (ToolCall("", "f"), ToolCall("", "f"))


@pytest.mark.parametrize("arguments", ['{"a":', "[]", "7", "null"])
def test_arguments_that_are_no_object(arguments: str) -> None:
    good = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    bad = {"id": "2", "function": {"name": "g", "arguments": arguments}}
    body = answer({"content": "Hi", "tool_calls": [good, bad]}, "length")
    with pytest.raises(errors.UnreadableAnswerError, match="arguments") as caught:
        CODEC.reply(body)
    assert caught.value.partial.content == (Text("Hi"), ToolCall("1", "f"))
    assert caught.value.partial.raw == body
    reader = CODEC.decoder()
    reader.feed(chunk({"content": "Hi"}) + chunk(call("g", arguments, index=0, id="2"), "length") + DONE)
    with pytest.raises(errors.UnreadableAnswerError, match="arguments") as caught:
        reader.finish()
    assert caught.value.partial.text == "Hi"


def test_several_choices() -> None:
    two = {
        "choices": [
            {"index": 1, "delta": {"content": "no"}},
            {"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"},
        ]
    }
    assert read(event(two) + DONE)[1].text == "yes"


def test_the_end_of_a_stream() -> None:
    assert read(chunk({"content": "Hi"}) + DONE)[1].finish_reason == "other"
    assert read(chunk({"content": "Hi"}, "stop"))[1].text == "Hi"
    assert read(chunk({"content": "Hi"}, "stop").rstrip())[1].text == "Hi", "the last event without its empty line"
    assert read(chunk({"content": "Hi"}, "stop") + DONE + chunk({"content": "late"}))[1].text == "Hi"
    assert read(b": keep-alive\n\n" + chunk({"content": "Hi"}, "stop").replace(b"\n", b"\r\n"))[1].text == "Hi"
    body = chunk({"content": "Hi"}, "stop") + DONE
    assert read(body)[1].raw == body


def test_usage_of_groq() -> None:
    body = chunk({"content": "Hi"}) + chunk(
        {}, "stop", x_groq={"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    )
    assert read(body + DONE)[1].usage == Usage(3, 1)
    with pytest.raises(errors.OverloadedError):
        read(chunk({"content": "Hi"}) + chunk({}, None, x_groq={"error": "over capacity: overloaded"}))


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
REPORTED: list[tuple[Any, type[errors.ProviderError]]] = [
    ({"error": {"message": "m", "type": "server_error", "code": None}}, errors.ServerError),
    ({"error": {"message": "m", "code": 429}}, errors.RateLimitedError),
    ({"error": {"message": "m", "code": 401}, "choices": []}, errors.AuthenticationError),
    ({"error": "the model is overloaded"}, errors.OverloadedError),
    ({"object": "error", "message": "m", "type": "NotFoundError", "code": 404}, errors.NotFoundError),
    ({"detail": "rate limit reached"}, errors.RateLimitedError),
    ({"error": {"message": "m", "type": "exceed_context_size_error", "code": 400}}, errors.ContextTooLongError),
    ({"message": "The prompt was stopped by the safety system"}, errors.ContentFilteredError),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind"), REPORTED)
def test_errors_of_status_200(body: Any, kind: type[errors.ProviderError]) -> None:
    whole = msgspec.json.encode(body)
    with pytest.raises(errors.ProviderError) as caught:
        CODEC.reply(whole)
    assert (type(caught.value), caught.value.status) == (kind, None)
    reader = CODEC.decoder()
    assert reader.feed(chunk({"content": "Hi"}) + event(body)) == [Delta("Hi")]
    with pytest.raises(errors.ProviderError) as caught:
        reader.finish()
    assert (type(caught.value), caught.value.partial.text) == (kind, "Hi")
    reader = CODEC.decoder()
    assert reader.feed(whole) == []  # not even a stream
    with pytest.raises(errors.ProviderError) as caught:
        reader.finish()
    assert type(caught.value) is kind


def test_an_error_by_the_name_of_its_event() -> None:
    reader = CODEC.decoder()
    with pytest.raises(errors.OverloadedError):
        reader.feed(b'event: error\ndata: {"text": "overloaded"}\n\n')


@pytest.mark.parametrize(
    ("reason", "kind"), [("error", errors.ServerError), ("insufficient_system_resource", errors.OverloadedError)]
)
def test_an_answer_that_ends_in_an_error(reason: str, kind: type[errors.ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        CODEC.reply(answer({"content": "Hi"}, reason))
    assert caught.value.partial.text == "Hi"
    with pytest.raises(kind) as caught:
        read(chunk({"content": "Hi"}, reason) + DONE)
    assert caught.value.partial.text == "Hi"


def test_an_error_beside_what_came() -> None:
    choice = {"message": {"content": "Hi"}, "finish_reason": "error", "error": {"code": 429, "message": "slow down"}}
    streamed = event({"choices": [{"delta": choice["message"], "finish_reason": "error", "error": choice["error"]}]})
    with pytest.raises(errors.RateLimitedError, match="slow down") as caught:
        CODEC.reply(msgspec.json.encode({"choices": [choice]}))
    assert caught.value.partial.text == "Hi"
    with pytest.raises(errors.RateLimitedError, match="slow down") as caught:
        read(streamed + DONE)
    assert caught.value.partial.text == "Hi"


@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b"{", b"<html>502</html>", b"null", b"[]", b"7", b"{}", b'{"choices": []}', b'{"choices": 3}',
     b'{"choices": [{"message": {"content": 7}}]}', answer({"content": "Hi"})[:-20],
     b"\xff\xfe", b"[" * 100_000, b'{"choices":' * 50_000, b'"\\ud800"'],
)  # fmt: skip
def test_unreadable_answers(body: bytes) -> None:
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)
    if not body.startswith(b"data"):
        reader = CODEC.decoder()
        reader.feed(body)
        with pytest.raises(errors.UnreadableAnswerError):
            reader.finish()


@pytest.mark.parametrize("data", [b"{", b"[]", b"null", b"<html>", b'{"choices": 3}', b"\xff", b"[" * 100_000])
def test_an_unreadable_event(data: bytes) -> None:
    reader = CODEC.decoder()
    assert reader.feed(chunk({"content": "Hi"}) + b"data: " + data + b"\n\n") == [Delta("Hi")]
    with pytest.raises(errors.UnreadableAnswerError) as caught:
        reader.feed(b"")
    assert caught.value.partial.text == "Hi"


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"data: ",
        b'data: {"choi',
        b": ping\n\n",
        b"data: [DO",
        event({"choices": [], "usage": {"prompt_tokens": 5}}),
    ],
)
def test_a_cut_stream(tail: bytes) -> None:
    for start, text in ((chunk({"content": "Hi"}), "Hi"), (chunk({"content": ""}), "")):
        reader = CODEC.decoder()
        reader.feed(start + tail)
        with pytest.raises(errors.CutStreamError) as caught:
            reader.finish()
        assert (caught.value.partial.text, caught.value.partial.model) == (text, "m")


@pytest.mark.parametrize("start", [b"d", b"data: {", b": ping\n\n", b"event: x\n"])
def test_a_stream_cut_before_its_first_event(start: bytes) -> None:
    reader = CODEC.decoder()
    assert reader.feed(start) == []
    with pytest.raises(errors.CutStreamError):
        reader.finish()


def test_a_server_that_cannot_stream() -> None:
    deltas, reply = read(answer({"content": "Hi"}))
    assert (deltas, reply.text) == ([], "Hi")


def test_context_too_long_says_by_how_much() -> None:
    message = "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens."
    error = CODEC.error(
        400, {}, msgspec.json.encode({"error": {"message": message, "code": "context_length_exceeded"}})
    )
    assert isinstance(error, errors.ContextTooLongError)
    assert (error.tokens, error.limit) == (5000, 4096)


# ── Embeddings ───────────────────────────────────────────────────────────────────────────────────────────────────────
def vectors(*embeddings: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"data": [{"embedding": one} for one in embeddings], **more})


def test_embeddings_in_dialects() -> None:
    packed = struct.pack("<2f", 1.0, -2.5)
    text = base64.b64encode(packed).decode()
    assert CODEC.embeddings(vectors(text, text)).vectors == [packed, packed]
    assert CODEC.embeddings(vectors([1, 2.5], usage=None)).vectors == [[1.0, 2.5]]
    assert CODEC.embeddings(vectors()).vectors == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", vectors("no base64!"), vectors("AAA="), vectors(""), vectors([None]), vectors({}),
     vectors([1.0], "AACAPw=="), b'{"data": [{"embedding": [1], "index": 1}]}',
     b'{"data": [{"embedding": [1], "index": 0}, {"embedding": [1], "index": 0}]}'],
)  # fmt: skip
def test_unreadable_embeddings(body: bytes) -> None:
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.embeddings(body)
    with pytest.raises(errors.RateLimitedError):
        CODEC.embeddings(b'{"error": {"code": 429, "message": "slow down"}}')
