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
    ContentFilteredError,
    CutStreamError,
    InputError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    UnreadableAnswerError,
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
    User,
)
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.gemini import Gemini, Vertex
from kurabe.models.providers import providers

GEMINI, VERTEX = Gemini(), Vertex()


def body_of(request: Request, profile: Profile | None = None) -> Any:
    return msgspec.json.decode(GEMINI.chat("gemini-3-pro", request, profile or Profile(), stream=False).body)


def contents_of(*messages: Message) -> Any:
    return body_of(Request(messages))["contents"]


def answer(*parts: Any, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, **more}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], "responseId": "r1"}


def reply_to(value: Any) -> Reply:
    return GEMINI.reply(msgspec.json.encode(value))


def stream_of(*events: Any) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\r\n\r\n" for event in events)


def read(body: bytes) -> Reply:
    decoder = GEMINI.decoder()
    decoder.feed(body)
    return decoder.finish()


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_request_without_settings_holds_the_turns_alone() -> None:
    assert body_of(Request((User("Hi"),))) == {"contents": [{"parts": [{"text": "Hi"}], "role": "user"}]}


def test_system_turns_go_out_together_wherever_they_stand() -> None:
    body = body_of(Request((System("One."), User("Hi"), System("Two."))))
    assert body["systemInstruction"] == {"parts": [{"text": "One."}, {"text": "Two."}], "role": "user"}
    assert len(body["contents"]) == 1


def test_a_stream_has_its_own_method_and_asks_for_events() -> None:
    sent = GEMINI.chat("gemini-3-pro", Request((User("Hi"),)), Profile(), stream=True)
    assert (sent.path, sent.query) == ("/models/gemini-3-pro:streamGenerateContent", {"alt": "sse"})


def test_extra_goes_over_the_body_and_into_its_objects() -> None:
    extra = {"generationConfig": {"topK": 1, "candidateCount": 2}, "labels": {"a": "b"}, "contents": []}
    body = body_of(Request((User("Hi"),), temperature=0.5, top_k=9, extra=extra))
    assert body["generationConfig"] == {"temperature": 0.5, "topK": 1, "candidateCount": 2}
    assert (body["labels"], body["contents"]) == ({"a": "b"}, [])


def test_a_profile_renames_settings() -> None:
    profile = Profile(names={"max_tokens": "maxTokens", "stop": "stops"})
    config = body_of(Request((User("Hi"),), max_tokens=5, stop=("x",)), profile)["generationConfig"]
    assert config == {"maxTokens": 5, "stops": ["x"]}


def test_a_tool_without_description() -> None:
    body = body_of(Request((User("Hi"),), tools=(Tool("f", "", {"type": "object"}),)))
    assert body["tools"] == [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]


def test_logprobs_without_alternatives() -> None:
    assert body_of(Request((User("Hi"),), logprobs=0))["generationConfig"] == {"responseLogprobs": True}


def test_only_turns_of_results_alone_are_joined() -> None:
    one, two, note = ToolResult("a", "f", "1"), ToolResult("b", "g", "2"), Text("And?")
    assert [len(turn["parts"]) for turn in contents_of(User(one), User(two), User("And?"))] == [2, 1]
    assert [len(turn["parts"]) for turn in contents_of(User(one, note), User(two), User(note))] == [2, 1, 1]
    assert len(contents_of(User("One"), User("Two"))) == 2


def test_thinking_without_a_signature_stays_here() -> None:
    assert contents_of(Assistant(Reasoning("Hm."), Text("Yes"))) == [{"parts": [{"text": "Yes"}], "role": "model"}]
    assert contents_of(User("Hi"), Assistant(Reasoning("Hm.")), Assistant("")) == contents_of(User("Hi"))


def test_media_by_address_and_by_bytes() -> None:
    [turn] = contents_of(
        User(
            Image(url="gs://b/c"),
            Document(url="gs://b/c.pdf", media_type="application/pdf"),
            Audio(b"\xff", "audio/wav"),
        )
    )
    assert turn["parts"] == [
        {"fileData": {"fileUri": "gs://b/c"}},
        {"fileData": {"fileUri": "gs://b/c.pdf", "mimeType": "application/pdf"}},
        {"inlineData": {"data": "_w==", "mimeType": "audio/wav"}},
    ]


@pytest.mark.parametrize("part", [Image(), Audio(b"x"), Document(media_type="text/plain")])
def test_media_without_data_or_type(part: Any) -> None:
    with pytest.raises(InputError, match=f"the {type(part).__name__.lower()} needs data with a media type"):
        contents_of(User(part))


@pytest.mark.parametrize("codec", [GEMINI, VERTEX])
@pytest.mark.parametrize("model", ["../../secrets", "models/../x", ".."])
def test_a_model_that_leads_elsewhere(codec: Gemini, model: str) -> None:
    with pytest.raises(InputError, match="is no name of a model"):
        codec.chat(model, Request((User("Hi"),)), Profile(), stream=False)


def test_odd_names_of_models_are_percent_encoded() -> None:
    sent = GEMINI.chat("a b?c#d&e", Request((User("Hi"),)), Profile(), stream=False)
    assert sent.path == "/models/a%20b%3Fc%23d%26e:generateContent"


def test_a_model_that_always_thinks() -> None:
    with pytest.raises(InputError, match="'minimal' is the least"):
        body_of(Request((User("Hi"),), reasoning="none"))


@pytest.mark.parametrize("provider", ["gemini", "vertex"])
def test_older_models_think_by_a_budget(provider: str) -> None:
    rows = providers()[provider]
    request = Request((User("Hi"),), reasoning="none")
    thinking = body_of(request, rows.profile("gemini-2.5-flash"))["generationConfig"]["thinkingConfig"]
    assert thinking == {"thinkingBudget": 0}
    assert "thinking_budget" not in rows.profile("gemini-3-flash").quirks
    assert "reasoning" in rows.profile("gemini-2.0-flash").without


def test_lone_surrogates_go_out_as_question_marks() -> None:
    assert contents_of(User("a\ud800b")) == contents_of(User("a?b"))


def test_one_text_at_a_time_for_open_models_on_vertex() -> None:
    with pytest.raises(InputError, match="one text at a time"):
        VERTEX.embed("intfloat/multilingual-e5-large-maas", ["a", "b"], None, None)


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_ids_of_our_own_are_never_sent() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    reply = reply_to(answer(call, call))
    first, second = reply.tool_calls
    assert first.id != second.id
    assert reply == msgspec.structs.replace(read(stream_of(answer(call, call))), raw=reply.raw)
    other = reply_to({**answer(call), "responseId": "r2"}).tool_calls[0]
    assert other.id not in (first.id, second.id)
    turns = contents_of(reply.message, User(*(ToolResult(c.id, c.name, "ok") for c in reply.tool_calls)))
    assert "id" not in turns[0]["parts"][0]["functionCall"]
    assert "id" not in turns[1]["parts"][1]["functionResponse"]


def test_pictures_that_the_model_made() -> None:
    blob = {"mimeType": "image/png", "data": "-_-_"}
    sound = {"mimeType": "audio/L16", "data": "+/+/"}
    reply = reply_to(answer({"text": "Here:"}, {"inlineData": blob}, {"inlineData": sound}))
    data = b"\xfb\xff\xbf"
    assert reply.content == (Text("Here:"), Image(data, "image/png"), Audio(data, "audio/L16"))
    with pytest.raises(UnreadableAnswerError, match="no valid base64"):
        reply_to(answer({"inlineData": {"mimeType": "image/png", "data": "é"}}))


def test_citations_of_both_kinds() -> None:
    cited: dict[str, Any] = {
        "citationMetadata": {"citationSources": [{"uri": "https://a"}, {"startIndex": 1}]},
        "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://b"}}, {"web": {"uri": "https://a"}}, {}]},
    }
    assert reply_to(answer({"text": "x"}, **cited)).citations == ("https://a", "https://b")


def test_only_the_first_candidate_counts() -> None:
    value = answer({"text": "one"})
    value["candidates"].append({"index": 1, "content": {"parts": [{"text": "two"}]}, "finishReason": "SAFETY"})
    assert (reply_to(value).text, reply_to(value).finish_reason) == ("one", "stop")


@pytest.mark.parametrize("value", [{}, {"candidates": []}, {"candidates": [{}]}, {"usageMetadata": {}}, [], None, 3])
def test_an_answer_that_is_none(value: Any) -> None:
    with pytest.raises(UnreadableAnswerError):
        reply_to(value)


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: [error]], ids=["object", "list"])
def test_an_error_in_an_answer_of_status_200(wrap: Callable[[Any], Any]) -> None:
    body = wrap({"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}})
    with pytest.raises(OverloadedError) as whole:
        reply_to(body)
    with pytest.raises(OverloadedError) as streamed:
        read(stream_of(answer({"text": "a"}, finish=None), body))
    assert (whole.value.status, whole.value.code) == (None, "UNAVAILABLE")
    assert streamed.value.partial.text == "a"
    with pytest.raises(OverloadedError):
        GEMINI.embeddings(msgspec.json.encode({"error": {"code": 503}}))


def test_a_prompt_blocked_after_all_keeps_what_came() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "Not so."}}
    with pytest.raises(ContentFilteredError, match=r"SAFETY.*the prompt was blocked: Not so\.") as error:
        read(stream_of(answer({"text": "a"}, finish=None), blocked))
    assert error.value.partial.text == "a"


@pytest.mark.parametrize(
    ("end", "kind"), [(b"\n\n", UnreadableAnswerError), (b"", CutStreamError)], ids=["whole", "cut"]
)
def test_an_unreadable_event_keeps_what_came(end: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as error:
        read(stream_of(answer({"text": "a"}, finish=None)) + b'data: {"candidates": [' + end)
    assert error.value.partial.text == "a"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", CutStreamError),
        (b"<html>Bad Gateway</html>", UnreadableAnswerError),
        (b'{"candidates": [', UnreadableAnswerError),
        (b'[{"error": {"code": 503, "message": "Overloaded."}}]', OverloadedError),
        (b': ping\n\n{\n  "error": {\n    "code": 503\n  }\n}\n', OverloadedError),
    ],
)
def test_what_is_no_stream(body: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind):
        read(body)


def test_usage_may_come_after_the_finish_reason() -> None:
    assert read(stream_of(answer({"text": "a"}), {"usageMetadata": {"promptTokenCount": 7}})).usage.input == 7


def test_what_stands_before_a_fault_is_handed_on_first() -> None:
    decoder = GEMINI.decoder()
    fault = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "Overloaded."}}
    assert decoder.feed(stream_of(answer({"text": "a"}, finish=None), fault)) == [Delta(text="a")]
    with pytest.raises(OverloadedError) as error:
        decoder.finish()
    assert error.value.partial.text == "a"


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert read(stream_of(answer({"text": "a"}, finish=None), answer({"text": "b"})).rstrip()).text == "ab"


def test_a_call_that_has_begun_is_none_until_it_is_whole() -> None:
    call: dict[str, Any] = {"name": "f", "partialArgs": [{"jsonPath": "$.a", "boolValue": True}], "willContinue": True}
    start = answer({"text": "So:"}, {"functionCall": call}, finish=None)
    with pytest.raises(CutStreamError) as error:
        read(stream_of(start))
    assert error.value.partial.content == "So:"
    limited = read(stream_of(start, answer(finish="MAX_TOKENS")))
    assert (limited.content, limited.finish_reason) == ("So:", "length")
    stopped = read(stream_of(start, answer()))
    assert (stopped.tool_calls[0].arguments, stopped.finish_reason) == ({"a": True}, "tool_calls")


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        ([("$.a.b[0].c", "x"), ("$.a.b[1]", 2), ("$['x.y']", False), ('$["q\\"r"]', None)],
         {"a": {"b": [{"c": "x"}, 2]}, "x.y": False, 'q"r': None}),
        ([("$.a", 1), ("$.a", 2)], {"a": 2}),
        ([("$.日本", 1.5)], {"日本": 1.5}),
    ],
)  # fmt: skip
def test_pieces_of_arguments(pieces: list[tuple[str, Any]], arguments: dict[str, Any]) -> None:
    kinds = {str: "stringValue", int: "numberValue", float: "numberValue", bool: "boolValue", type(None): "nullValue"}
    args = [{"jsonPath": path, kinds[type(value)]: value} for path, value in pieces]
    reply = read(stream_of(answer({"functionCall": {"name": "f", "partialArgs": args}})))
    assert reply.tool_calls[0].arguments == arguments


@pytest.mark.parametrize("path", ["", "$", "a", "$.", "$.a[5]", "$[0]", "$.a..b", "$.a.b", "$.l.x", "$.l[99999999999]"])
def test_pieces_of_arguments_at_no_place(path: str) -> None:
    args = [
        {"jsonPath": "$.a", "stringValue": "x"},
        {"jsonPath": "$.l[0]", "stringValue": "x"},
        {"jsonPath": path, "stringValue": "y"},
    ]
    with pytest.raises(UnreadableAnswerError, match="a place that is none"):
        read(stream_of(answer({"functionCall": {"name": "f", "partialArgs": args}})))


def test_a_call_without_a_name() -> None:
    with pytest.raises(UnreadableAnswerError, match="without a name"):
        reply_to(answer({"functionCall": {"args": {"a": 1}}}))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (
            b'{"models": [{"name": "models/gemini-3-pro"}, {"name": "tunedModels/x"}]}',
            ["gemini-3-pro", "tunedModels/x"],
        ),
        (b"{}", []),
    ],
)
def test_names_of_models(body: bytes, names: list[str]) -> None:
    assert GEMINI.model_names(body) == names


def test_names_of_models_on_vertex_are_references() -> None:
    body = b'{"publisherModels": [{"name": "publishers/google/models/gemini-3"}, {"name": "publishers/meta/models/l"}]}'
    names = VERTEX.model_names(body)
    assert names == ["gemini-3", "meta/l"]
    sent = VERTEX.chat(names[1], Request((User("Hi"),)), Profile(), stream=False)
    assert sent.path == "/publishers/meta/models/l:generateContent"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", NotFoundError, ""),
        (b"<html><title>Nothing</title></html>", NotFoundError, "Nothing"),
        (b'{"error": "plain"}', NotFoundError, "plain"),
        (b'{"error": {"code": {"odd": 1}, "message": "said"}}', NotFoundError, "said"),
        (b'{"error": {"details": [1, {"violations": {}, "retryDelay": 5}], "message": null}}', NotFoundError, ""),
    ],
)
def test_odd_error_bodies(body: bytes, kind: type[ProviderError], said: str) -> None:
    error = GEMINI.error(404, {}, body)
    assert (type(error), error.message, error.status, error.retry_after) == (kind, said, 404, None)


@pytest.mark.parametrize(
    ("message", "details", "kind", "seconds"),
    [
        ("Please retry in 3.25s.", [{"retryDelay": "soon"}], RateLimitedError, 3.25),
        ("", [{"retryDelay": "7s"}], RateLimitedError, 7.0),
        ("limit: 0, model: x", [], QuotaExceededError, None),
        ("Your prepayment credits are depleted.", [], QuotaExceededError, None),
        ("", [{"violations": [{"quotaId": "TokensPerDay"}, 1]}, "x"], QuotaExceededError, None),
    ],
)
def test_limits_and_quotas(message: str, details: list[Any], kind: type[ProviderError], seconds: float | None) -> None:
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message, "details": details}}
    error = GEMINI.error(429, {}, msgspec.json.encode(body))
    assert (type(error), error.retry_after, error.code) == (kind, seconds, "RESOURCE_EXHAUSTED")


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
