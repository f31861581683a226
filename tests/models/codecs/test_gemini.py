from collections.abc import Callable
from typing import Any

import msgspec
import pytest

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
    Reasoning,
    Reply,
    Request,
    System,
    Text,
    Tool,
    ToolResult,
    User,
)
from kurabe.models.codecs._gemini import Gemini, Vertex
from kurabe.models.codecs.base import Profile
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
    with pytest.raises(UnreadableAnswerError, match="an invalid place"):
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
