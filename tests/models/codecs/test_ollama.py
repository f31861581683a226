import itertools
import json
import random
from typing import Any

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
    TokenLogprob,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    User,
)
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.ollama import Ollama
from kurabe.models.providers import providers

CODEC = Ollama()
PLAIN = Profile()
TOOL = Tool("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def body(request: Request, profile: Profile = PLAIN, *, stream: bool = False) -> Any:
    encoded = CODEC.chat("llama3.2", request, profile, stream=stream)
    assert (encoded.method, encoded.path, encoded.query, encoded.headers) == ("POST", "/api/chat", {}, {})
    return msgspec.json.decode(encoded.body)


def request(*messages: Message, **settings: Any) -> Request:
    return Request(messages or (User("Hi"),), **settings)


HI = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}], "stream": False}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"max_tokens": 5, "temperature": 0}, {"options": {"num_predict": 5, "temperature": 0}}),
        (
            {"top_p": 0.5, "top_k": 3, "frequency_penalty": 0.1, "presence_penalty": 0.2, "seed": 0, "stop": ("a",)},
            {
                "options": {
                    "top_p": 0.5, "top_k": 3, "frequency_penalty": 0.1, "presence_penalty": 0.2, "seed": 0,
                    "stop": ["a"],
                }
            },
        ),
        ({"output": OutputFormat("x", {"type": "object"})}, {"format": {"type": "object"}}),
        ({"reasoning": "none"}, {"think": False}),
        ({"reasoning": "low"}, {"think": True}),
        ({"logprobs": 0}, {"logprobs": True}),
        ({"logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"tools": (TOOL,), "tool_choice": "none"}, {}),
        ({"extra": {"keep_alive": "1h"}}, {"keep_alive": "1h"}),
        ({"seed": 1, "extra": {"options": {"num_ctx": 8}}}, {"options": {"seed": 1, "num_ctx": 8}}),
        ({"extra": {"options": {"num_ctx": 8}, "model": "m"}}, {"options": {"num_ctx": 8}, "model": "m"}),
    ],
)  # fmt: skip
def test_settings(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    assert body(request(**settings)) == HI | expected


def test_names_and_quirks_of_a_profile() -> None:
    profile = Profile(names={"max_tokens": "n"}, quirks=frozenset({"think_levels"}))
    for effort, think in {"none": False, "minimal": "low", "low": "low", "medium": "medium", "xhigh": "high"}.items():
        expected = HI | {"options": {"n": 1}, "think": think}
        assert body(request(max_tokens=1, reasoning=effort), profile) == expected


@pytest.mark.parametrize("address", ["1:2:3", "host:port", "[::1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(errors.InputError, match="is no address of Ollama"):
        CODEC.address(address)


def test_which_models_think_by_levels() -> None:
    row = providers()["ollama"]
    assert [name for name in ("gpt-oss:20b", "me/gpt-oss-mine", "qwen3") if row.profile(name).quirks] == [
        "gpt-oss:20b",
        "me/gpt-oss-mine",
    ]


@pytest.mark.parametrize("choice", [None, "auto"])
def test_tools(choice: str | None) -> None:
    function = {"name": "weather", "description": "Tells the weather.", "parameters": TOOL.parameters}
    expected = HI | {"tools": [{"type": "function", "function": function}], "stream": True}
    assert body(request(tools=(TOOL,), tool_choice=choice), stream=True) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (System("Be brief."), [{"role": "system", "content": "Be brief."}]),
        (User(""), [{"role": "user"}]),
        (Message("assistant", ()), []),
        (
            User("What", " is", Image.from_bytes(b"\x89PNG\r\n\x1a\n")),
            [{"role": "user", "content": "What is", "images": ["iVBORw0KGgo="]}],
        ),
        (
            Assistant(Reasoning("hm"), "Yes.", ToolCall("1", "weather", {"city": "Oslo"}), ToolCall("2", "weather")),
            [
                {
                    "role": "assistant", "content": "Yes.", "thinking": "hm",
                    "tool_calls": [
                        {"function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                        {"function": {"name": "weather", "arguments": {}}},
                    ],
                }
            ],
        ),
        (
            User("And now?", ToolResult("1", "weather", "rain"), ToolResult("2", "weather", "sun", error=True)),
            [
                {"role": "tool", "content": "rain", "tool_name": "weather"},
                {"role": "tool", "content": "sun", "tool_name": "weather"},
                {"role": "user", "content": "And now?"},
            ],
        ),
    ],
)  # fmt: skip
def test_messages(message: Message, expected: list[dict[str, Any]]) -> None:
    assert body(request(message))["messages"] == expected


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (request(User(Image.from_url("https://a.example/b.png"))), "fetches no images: load https://a.example/b.png"),
        (request(User(Audio(b"x", "audio/wav"))), "no audio"),
        (request(User(Document(b"x", "application/pdf"))), "no document"),
        (request(tools=(TOOL,), tool_choice="required"), "tool_choice is 'auto' or 'none'"),
        (request(tools=(TOOL,), tool_choice="weather"), "tool_choice is 'auto' or 'none'"),
    ],
)
def test_what_can_not_be_said_is_refused(refused: Request, words: str) -> None:
    with pytest.raises(errors.InputError, match=words):
        body(refused)


END = {"model": "llama3.2:3b", "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4}
CALLS = [{"id": "x1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}, {"function": {"name": "time"}}]


@pytest.mark.parametrize(
    ("answer", "content", "finish"),
    [
        ({"message": {"role": "assistant", "content": "Hi"}}, "Hi", "stop"),
        ({"message": {"content": ""}}, "", "stop"),
        ({"message": {"content": "Hi"}, "done_reason": "length"}, "Hi", "length"),
        ({"message": {"content": "Hi"}, "done_reason": None}, "Hi", "stop"),
        ({"message": {"content": "Hi"}, "done_reason": "unload"}, "Hi", "other"),
        ({"message": {"content": "Hi", "thinking": "hm"}}, (Reasoning("hm"), Text("Hi")), "stop"),
        (
            {"message": {"content": None, "tool_calls": CALLS}},
            (ToolCall("x1", "weather", {"city": "Oslo"}), ToolCall("call_1", "time")),
            "tool_calls",
        ),
    ],
)
def test_replies(answer: dict[str, Any], content: Any, finish: str) -> None:
    raw = json.dumps(END | answer).encode()
    reply = CODEC.reply(raw)
    assert reply == Reply(content, finish, Usage(9, 4), model="llama3.2:3b", raw=raw)  # type: ignore[arg-type]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)


@given(
    st.none() | WORDS,
    st.none() | WORDS,
    st.lists(st.tuples(WORDS, st.dictionaries(WORDS, st.integers(-9, 9) | WORDS | st.none()))),
)
def test_an_answer_goes_back_as_it_came(thinking: str | None, text: str | None, calls: list[tuple[str, Any]]) -> None:
    parts = [Reasoning(thinking)] if thinking else []
    parts += [Text(text)] if text else []  # type: ignore[list-item]
    parts += [ToolCall(f"call_{i}", *call) for i, call in enumerate(calls)]  # type: ignore[misc]
    content: Any = tuple(parts) if thinking or calls else text or ""
    sent = body(request(Message("assistant", content)))["messages"][0]
    assert CODEC.reply(json.dumps({"message": sent, "done": True}).encode()).content == content


def test_logprobs() -> None:
    tokens = [{"token": "H", "logprob": -0.5, "top_logprobs": [{"token": "A", "logprob": -1}]}]
    tokens.append({"token": "i", "logprob": -0.25})
    reply = CODEC.reply(json.dumps(END | {"message": {"content": "Hi"}, "logprobs": tokens}).encode())
    assert reply.logprobs == (TokenLogprob("H", -0.5, (("A", -1.0),)), TokenLogprob("i", -0.25))


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (b"", errors.UnreadableAnswerError, "an empty body"),
        (b"<html>Bad gateway</html>", errors.UnreadableAnswerError, "Bad gateway"),
        (b'{"message": {"content": "Hi', errors.UnreadableAnswerError, "begins with"),
        (b"{}", errors.UnreadableAnswerError, "without a message"),
        (b'{"message": []}', errors.UnreadableAnswerError, "message"),
        (b'{"message": {"content": "\xff"}}', errors.UnreadableAnswerError, "begins with"),
        (b'{"message": {"tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]}}', errors.UnreadableAnswerError,
         "arguments"),
        (b'{"error": "model is overloaded"}', errors.OverloadedError, "model is overloaded"),
        (b'{"error": {"message": "invalid image"}}', errors.BadRequestError, "invalid image"),
        (b"[" * 5000, errors.UnreadableAnswerError, "begins with"),
    ],
)  # fmt: skip
def test_unreadable_replies(raw: bytes, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        CODEC.reply(raw)


def lines(*chunks: dict[str, Any]) -> bytes:
    return b"".join(
        json.dumps({"model": "llama3.2:3b"} | chunk, ensure_ascii=False).encode() + b"\n" for chunk in chunks
    )


STREAM = lines(
    {"message": {"role": "assistant", "content": "", "thinking": "h"}, "done": False},
    {"message": {"content": "", "thinking": "m"}},
    {"message": {"content": "Grüß"}, "logprobs": [{"token": "Grüß", "logprob": -1.0}]},
    {"message": {"content": " Gott\n"}},
    {"message": {"content": "", "tool_calls": CALLS[:1]}},
    {"message": {"content": "", "tool_calls": CALLS[1:]}},
    END | {"message": {"content": ""}},
)


def whole(data: bytes, places: list[int]) -> tuple[list[Delta], Reply]:
    decoder = CODEC.decoder()
    deltas = [delta for start, end in itertools.pairwise(places) for delta in decoder.feed(data[start:end])]
    return deltas, decoder.finish()


def test_streams_whole_bytewise_and_cut_anywhere() -> None:
    deltas, reply = whole(STREAM, [0, len(STREAM)])
    assert deltas == [
        Delta(reasoning="h"), Delta(reasoning="m"), Delta("Grüß"), Delta(" Gott\n"),
        Delta(index=0, id="x1", name="weather", arguments='{"city":"Oslo"}'),
        Delta(index=1, id="call_1", name="time", arguments="{}"),
    ]  # fmt: skip
    calls = (ToolCall("x1", "weather", {"city": "Oslo"}), ToolCall("call_1", "time"))
    content = (Reasoning("hm"), Text("Grüß Gott\n"), *calls)
    tokens = (TokenLogprob("Grüß", -1.0),)
    assert reply == Reply(content, "tool_calls", Usage(9, 4), model="llama3.2:3b", logprobs=tokens, raw=STREAM)
    assert whole(STREAM, list(range(len(STREAM) + 1))) == (deltas, reply)
    chance = random.Random(0)
    for _ in range(100):
        places = sorted({0, len(STREAM), *chance.choices(range(len(STREAM) + 1), k=8)})
        assert whole(STREAM, places) == (deltas, reply)


def test_the_last_line_may_lack_its_end() -> None:
    data = STREAM[:-1]
    assert whole(data, [0, len(data)])[1] == msgspec.structs.replace(whole(STREAM, [0, len(STREAM)])[1], raw=data)


FIRST = lines({"message": {"content": "Hel"}}, {"message": {"content": "lo"}})


@pytest.mark.parametrize(
    ("rest", "kind", "words"),
    [
        (b"", errors.CutStreamError, "done: true"),
        (b'{"error": "an unexpected error was encountered"}\n', errors.ServerError, "unexpected"),
        (b'{"error": "the service is overloaded, try later"}', errors.OverloadedError, "try later"),
        (b"<html>\n", errors.UnreadableAnswerError, "<html>"),
        (b'{"message": {"content"', errors.UnreadableAnswerError, "content"),
        (b'{"message": 1}\n', errors.UnreadableAnswerError, "message"),
        (b"\xff\n", errors.UnreadableAnswerError, "it begins with"),
        (b"[" * 5000 + b"\n", errors.UnreadableAnswerError, "it begins with"),
    ],
)
def test_streams_that_break_hold_what_came(rest: bytes, kind: type[errors.ProviderError], words: str) -> None:
    for step in (1, 10_000):
        decoder, data = CODEC.decoder(), FIRST + rest
        with pytest.raises(kind, match=words) as caught:  # noqa: PT012
            for start in range(0, len(data), step):
                decoder.feed(data[start : start + step])
            decoder.finish()
        assert caught.value.partial.text == "Hello"
        assert type(caught.value) is kind


def test_a_line_without_end_is_given_up() -> None:
    decoder = CODEC.decoder()
    with pytest.raises(errors.UnreadableAnswerError, match="64 MiB"):  # noqa: PT012
        for _ in range(65):
            decoder.feed(bytes(1 << 20))


@given(st.binary(max_size=60), st.integers(0, len(STREAM)), st.integers(0, 30), st.integers(1, 99))
def test_any_bytes_are_an_answer_or_an_error_of_ours(noise: bytes, place: int, skipped: int, step: int) -> None:
    data = STREAM[:place] + noise + STREAM[place + skipped :]
    found: list[Any] = []
    for size in (len(data) or 1, step):
        decoder, deltas = CODEC.decoder(), []
        try:
            for start in range(0, len(data), size):
                deltas += decoder.feed(data[start : start + size])
            found.append((deltas, decoder.finish()))
        except errors.ProviderError as error:
            found.append((type(error), msgspec.structs.replace(error.partial, raw=b"")))
    assert found[0] == found[1]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "message", "content", "thinking", "tool_calls", "function", "arguments", "name", "id", "done", "done_reason",
    "prompt_eval_count", "eval_count", "error", "logprobs", "token", "logprob", "model", "models", "embeddings",
]  # fmt: skip


@given(
    st.recursive(
        JSON,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
        max_leaves=12,
    ),
    st.integers(100, 599),
)
def test_any_json_is_an_answer_or_an_error_of_ours(value: Any, status: int) -> None:
    raw = json.dumps(value).encode()
    for read in (CODEC.reply, CODEC.embeddings, CODEC.model_names, CODEC.decoder().feed):
        try:
            read(raw + b"\n")
        except errors.ProviderError:
            continue
    assert isinstance(CODEC.error(status, {}, raw), errors.ProviderError)


@given(st.binary(max_size=100), st.integers(100, 599))
def test_any_bytes_as_a_body(raw: bytes, status: int) -> None:
    for read in (CODEC.reply, CODEC.embeddings, CODEC.model_names):
        try:
            read(raw)
        except errors.ProviderError:
            continue
    assert isinstance(CODEC.error(status, {}, raw), errors.ProviderError)


def test_embeddings_and_models() -> None:
    encoded = CODEC.embed("nomic", ["a", "b"], None, None)
    assert (encoded.path, encoded.body) == ("/api/embed", b'{"model":"nomic","input":["a","b"]}')
    assert json.loads(CODEC.embed("nomic", ["a"], 64, "query").body) == {
        "model": "nomic", "input": ["a"], "dimensions": 64,
    }  # fmt: skip
    read = CODEC.embeddings(b'{"embeddings": [[0.5, 1], [2, -3]], "prompt_eval_count": 7}')
    assert (read.vectors, read.input_tokens) == ([[0.5, 1.0], [2.0, -3.0]], 7)
    with pytest.raises(errors.UnreadableAnswerError, match="without embeddings"):
        CODEC.embeddings(b"{}")
    with pytest.raises(errors.ServerError, match="no luck"):
        CODEC.embeddings(b'{"error": "no luck"}')
    listing = CODEC.models()
    assert (listing.method, listing.path, listing.body) == ("GET", "/api/tags", b"")
    assert CODEC.model_names(b'{"models": [{"model": "a:1", "name": "a:1"}, {"model": "b:2"}]}') == ["a:1", "b:2"]


def test_errors_of_a_status() -> None:
    error = CODEC.error(404, {}, b'{"error":"model \'x\' not found"}')
    assert type(error) is errors.NotFoundError
    assert error.message == "model 'x' not found"
    assert type(CODEC.error(503, {}, b'{"error":"server busy"}')) is errors.OverloadedError
    long = CODEC.error(400, {}, b'{"error":"the input length exceeds the context length"}')
    assert type(long) is errors.ContextTooLongError
