"""Gemini's readers on any bytes, any shapes and any cuts, and round trips of messages."""

import contextlib
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import (
    CutStreamError,
    ProviderError,
    UnreadableAnswerError,
)
from kurabe.messages import (
    Assistant,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    Text,
    ToolCall,
    User,
)
from kurabe.models.codecs._gemini import Gemini, Vertex
from kurabe.models.codecs.base import Profile

GEMINI, VERTEX = Gemini(), Vertex()


def contents_of(*messages: Message) -> Any:
    sent = GEMINI.chat("gemini-3-pro", Request(messages), Profile(), stream=False)
    return msgspec.json.decode(sent.body)["contents"]


def answer(*parts: Any, finish: str | None = "STOP") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], "responseId": "r1"}


def reply_to(value: Any) -> Reply:
    return GEMINI.reply(msgspec.json.encode(value))


def stream_of(*events: Any) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\r\n\r\n" for event in events)


def read(body: bytes) -> Reply:
    decoder = GEMINI.decoder()
    decoder.feed(body)
    return decoder.finish()


# ── Any bytes, any shapes, any cuts ──────────────────────────────────────────────────────────────────────────────────
def read_cut(body: bytes, cuts: list[int]) -> tuple[str, Any]:
    """What a stream gives, cut at these places: its deltas' text and its reply, or the kind of its error."""
    decoder = GEMINI.decoder()
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    deltas = []
    try:
        for start, end in itertools.pairwise(places):
            deltas += decoder.feed(body[start:end])
        reply = decoder.finish()
    except ProviderError as error:
        partial: Reply = error.partial
        return "", (type(error), error.message, msgspec.structs.replace(partial, raw=b""))
    assert reply.raw == body
    return "".join(delta.text + delta.reasoning + delta.name + delta.arguments for delta in deltas), reply


def survives(body: bytes) -> None:
    """Every reader gives a value or a ProviderError."""
    readers: list[Callable[[bytes], Any]] = [
        GEMINI.reply, GEMINI.embeddings, GEMINI.model_names, VERTEX.model_names,
        lambda data: read(b"data: " + data + b"\n\n"), read,
    ]  # fmt: skip
    for reader in readers:
        with contextlib.suppress(ProviderError):
            reader(body)
    assert isinstance(GEMINI.error(400, {}, body), ProviderError)


KEYS = [
    "candidates", "content", "parts", "text", "thought", "thoughtSignature", "functionCall", "name", "args", "id",
    "partialArgs", "jsonPath", "stringValue", "willContinue", "inlineData", "mimeType", "data", "finishReason", "index",
    "usageMetadata", "promptTokenCount", "candidatesTokenCount", "promptFeedback", "blockReason", "error", "code",
    "message", "status", "details", "retryDelay", "violations", "quotaId", "logprobsResult", "chosenCandidates",
    "topCandidates", "token", "logProbability", "citationMetadata", "citations", "uri", "groundingMetadata",
    "groundingChunks", "web", "embeddings", "embedding", "values", "predictions", "statistics", "token_count", "models",
    "publisherModels", "modelVersion", "responseId",
]  # fmt: skip
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["STOP", "$.a", "\ud800", 10**400])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)
PARTS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {"text": st.text(max_size=8)},
        optional={"thought": st.booleans(), "thoughtSignature": st.sampled_from(["c2ln", "+/8="])},
    ),
    st.fixed_dictionaries(
        {
            "functionCall": st.fixed_dictionaries(
                {"name": st.sampled_from(["f", "g"])},
                optional={
                    "id": st.sampled_from(["c1", "c2"]),
                    "args": st.dictionaries(st.text(max_size=3), st.integers(0, 9) | st.text(max_size=3), max_size=2),
                },
            )
        },
        optional={"thoughtSignature": st.sampled_from(["c2ln", "+/8="])},
    ),
)
CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary())
def test_any_bytes(body: bytes) -> None:
    survives(body)


@given(VALUES)
def test_any_json(value: Any) -> None:
    survives(json.dumps(value).encode())


@settings(max_examples=60)
@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(st.tuples(st.integers(0, 5000), VALUES), max_size=3))
def test_an_answer_with_wrong_values_in_it(parts: list[Any], changes: list[tuple[int, Any]]) -> None:
    value: Any = answer(*parts)
    value["usageMetadata"] = {"promptTokenCount": 1}
    for place, change in changes:
        at, chance = value, random.Random(place)
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(at[key], dict | list) and chance.random() < 0.8:
                at = at[key]
            else:
                at[key] = change
                break
    survives(json.dumps(value).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"error":' * 50_000,
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":' + b"[" * 5000,
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":' + b"9" * 5000 + b"}}}]}}]}",
        b'{"usageMetadata":{"promptTokenCount":' + b"9" * 400 + b"}}",
        b'{"candidates":[{"content":{"parts":[{"text":"\\ud800"}]},"finishReason":"STOP"}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":NaN}}}]}}]}',
        b'{"error":{"code":429,"details":[{"retryDelay":"' + b"9" * 400 + b's"}]}}',
        b"\xff\xfe",
        b"data: \xff\n\n",
    ],
)
def test_hard_bodies(body: bytes) -> None:
    survives(body)


@settings(max_examples=60)
@given(st.lists(st.lists(PARTS, max_size=3), min_size=1, max_size=4), CUTS)
def test_a_stream_is_read_alike_wherever_it_is_cut(chunks: list[list[Any]], cuts: list[int]) -> None:
    events = [answer(*parts, finish=None) for parts in chunks[:-1]] + [answer(*chunks[-1])]
    body = stream_of(*events)
    seen = read_cut(body, cuts)
    assert seen == read_cut(body, []) == read_cut(body, list(range(len(body))))
    whole = reply_to(answer(*(part for parts in chunks for part in parts)))
    assert msgspec.structs.replace(seen[1], raw=b"") == msgspec.structs.replace(whole, raw=b"")


@settings(max_examples=60)
@given(st.lists(PARTS, min_size=1, max_size=4), st.integers(0, 10_000), st.binary(max_size=3), CUTS)
def test_a_damaged_stream_is_read_alike_wherever_it_is_cut(
    parts: list[Any], place: int, damage: bytes, cuts: list[int]
) -> None:
    body = stream_of(*(answer(part, finish=None) for part in parts), answer())
    place %= len(body)
    body = body[:place] + damage + body[place + 1 :]
    assert read_cut(body, cuts) == read_cut(body, [])


@settings(max_examples=60)
@given(st.lists(PARTS, min_size=1, max_size=4), st.integers(0, 10_000))
def test_a_stream_that_ends_early_is_an_error_with_what_came(parts: list[Any], place: int) -> None:
    events = [stream_of(answer(part, finish=None)) for part in parts]
    body = b"".join(events)
    cut = body[: place % (len(body) + 1)]
    with pytest.raises((CutStreamError, UnreadableAnswerError)) as error:
        read(cut)
    came = itertools.takewhile(lambda end: end <= len(cut), itertools.accumulate(map(len, events)))
    whole = answer(*parts[: len(list(came))])
    assert error.value.partial.text.startswith(reply_to(whole).text)


@given(st.lists(PARTS, min_size=1, max_size=6))
def test_what_came_goes_back_as_it_came(parts: list[Any]) -> None:
    """Every text, call and signature, on the same part, in the same order; unsigned thinking stays here."""
    reply = reply_to(answer(*parts))
    turns = contents_of(User("Hi"), reply.message)[1:]
    sent = turns[0]["parts"] if turns else []
    kept = [part for part in parts if part.get("thoughtSignature") or (part.get("text") or "functionCall" in part)]
    expected: list[Any] = []
    for part in kept:
        unsigned = "thoughtSignature" not in part
        if unsigned and part.get("thought"):
            expected.append(None)  # it parts the texts around it
        elif unsigned and "text" in part and expected and set(expected[-1] or ()) == {"text"}:
            expected[-1] = {"text": expected[-1]["text"] + part["text"]}
        else:
            part = {name: value for name, value in part.items() if name != "thought" or value}
            if "functionCall" in part:
                part["functionCall"] = {"args": {}} | part["functionCall"]
            expected.append(part)
    expected = [part for part in expected if part]
    assert sent == expected


def parts_strategy() -> st.SearchStrategy[Part]:
    signature = st.sampled_from(["", "c2ln"])
    return st.one_of(
        st.builds(Text, st.text(min_size=1, max_size=9), signature),
        st.builds(Reasoning, st.text(max_size=9), st.just("c2ln")),
        st.builds(ToolCall, st.sampled_from(["c1", "c2"]), st.just("f"), st.just({"a": 1}), signature),
    )


@given(st.lists(parts_strategy(), min_size=1, max_size=6))
def test_messages_survive_the_round_trip(parts: list[Part]) -> None:
    [turn] = contents_of(Assistant(*parts))
    back = reply_to(answer(*turn["parts"])).message.parts
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text) and not (part.signature or last.signature):
            joined[-1] = Text(last.text + part.text)
        else:
            joined.append(part)
    assert back == tuple(joined)
