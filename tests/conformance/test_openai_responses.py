"""Our Responses codec beside the openai SDK: the same call gives the same request, the same bytes the same reading.

At OpenAI and at Azure. No habit of the SDK had to be allowed for in a body: every recorded one is equal as it is. What
it does with an answer differs:

- It returns a failed answer and a cut stream without raising, and leaves a body that is no JSON to
  `json.JSONDecodeError`; ours are typed errors (`test_what_the_sdk_passes_over`).
- A refusal is content of its own kind; we give it as text that ends with `content_filter`, so that it can't be taken
  for the answer that was asked for (`test_a_refusal`).
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import openai
import pydantic
import pytest

from kurabe import errors
from kurabe.messages import (
    Assistant,
    Document,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Request,
    System,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    User,
)
from kurabe.models.codecs._openai_responses import OpenAIResponses
from kurabe.models.codecs.base import HttpRequest, Profile
from kurabe.models.hosted.auth import fill
from kurabe.models.providers import providers

CODEC = OpenAIResponses()
PNG = bytes.fromhex("89504e470d0a1a0a0000")
PNG_URL = "data:image/png;base64,iVBORw0KGgoAAA=="
STATELESS: dict[str, Any] = {"model": "gpt-5.1", "store": False}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "The weather in a city.", PARAMETERS)
FLAT_TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": PARAMETERS,
    "strict": False,
}


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(description="with the number")
    zip: str | None = None


class Person(pydantic.BaseModel):
    name: str
    home: Address = pydantic.Field(description="where they live")
    other: list[Address] = []


def asked(*messages: Message, **settings: Any) -> Request:
    return Request(messages, **settings)


def call_item(number: int, city: str) -> dict[str, Any]:
    arguments = json.dumps({"city": city}, separators=(",", ":"))
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"call_{number}",
        "name": "weather",
        "arguments": arguments,
    }


def result_item(number: int, text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": text}


THOUGHT = Reasoning("I need the weather.", data="gAAAA-cipher", id="rs_1")
CALLS = [ToolCall(f"call_{n}", "weather", {"city": city}, item=f"fc_{n}") for n, city in ((1, "Paris"), (2, "Oslo"))]
RESULTS = [ToolResult("call_1", "weather", "18 C"), ToolResult("call_2", "weather", "9 C")]
ASK = {"role": "user", "content": "Weather?"}
ENCRYPTED = {"include": ["reasoning.encrypted_content"]}

REQUESTS: dict[str, tuple[Request, dict[str, Any]]] = {
    "system, user, temperature, limit": (
        asked(System("Be brief."), User("Hi"), temperature=0.2, max_tokens=80),
        {"instructions": "Be brief.", "input": [{"role": "user", "content": "Hi"}], "temperature": 0.2,
         "max_output_tokens": 80},
    ),
    "several turns": (
        asked(System("A"), System("B"), User("1"), Assistant("2"), System("Now in French."), User("3")),
        {"instructions": "A\n\nB", "input": [
            {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
            {"role": "system", "content": "Now in French."}, {"role": "user", "content": "3"}]},
    ),
    "images": (
        asked(User("What?", Image(PNG, "image/png"), Image.from_url("https://example.org/a.png"))),
        {"input": [{"role": "user", "content": [
            {"type": "input_text", "text": "What?"},
            {"type": "input_image", "detail": "auto", "image_url": PNG_URL},
            {"type": "input_image", "detail": "auto", "image_url": "https://example.org/a.png"}]}]},
    ),
    "documents": (
        asked(User("Sum up.", Document(b"%PDF", "application/pdf", name="a.pdf"), Document(url="https://x.org/b.pdf"),
                   Document(b"hi", "application/pdf"))),
        {"input": [{"role": "user", "content": [
            {"type": "input_text", "text": "Sum up."},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
            {"type": "input_file", "file_url": "https://x.org/b.pdf"},
            {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="}]}]},
    ),
    **{
        f"tool choice {ours}": (
            asked(User("Weather?"), tools=(WEATHER,), tool_choice=ours, parallel_tool_calls=False),
            {"input": [ASK], "tools": [FLAT_TOOL], "tool_choice": theirs, "parallel_tool_calls": False},
        )
        for ours, theirs in (
            ("auto", "auto"), ("none", "none"), ("required", "required"),
            ("weather", {"type": "function", "name": "weather"}),
        )
    },
    "a tool without description or choice": (
        asked(User("Weather?"), tools=(Tool("weather", "", PARAMETERS),)),
        {"input": [ASK], "tools": [{k: v for k, v in FLAT_TOOL.items() if k != "description"}]},
    ),
    "a strict tool": (
        asked(User("Weather?"), tools=(msgspec.structs.replace(WEATHER, strict=True),)),
        {"input": [ASK], "tools": [FLAT_TOOL | {"strict": True}]},
    ),
    "an empty turn": (
        asked(User("Weather?"), Assistant("18 C"), User()),
        {"input": [ASK, {"role": "assistant", "content": "18 C"}, {"role": "user", "content": ""}]},
    ),
    "a picture and a document as a result": (
        asked(User("Weather?"), Assistant(CALLS[0]),
              User(ToolResult("call_1", "weather", (Text("Look."), Image(PNG, "image/png"),
                                                    Document(b"%PDF", "application/pdf", name="a.pdf"))))),
        {"input": [ASK, call_item(1, "Paris"), {
            "type": "function_call_output", "call_id": "call_1", "output": [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", "detail": "auto", "image_url": PNG_URL},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}]}]},
    ),
    "after a stored answer": (
        asked(System("Be brief."), User("And now?"), extra={"store": True, "previous_response_id": "resp_1"}),
        {"instructions": "Be brief.", "input": [{"role": "user", "content": "And now?"}], "store": True,
         "previous_response_id": "resp_1"},
    ),
    "tool round trip": (
        asked(User("Weather?"), Assistant(CALLS[0]), User(RESULTS[0]), tools=(WEATHER,)),
        {"input": [ASK, call_item(1, "Paris"), result_item(1, "18 C")], "tools": [FLAT_TOOL]},
    ),
    "parallel calls, reasoning before them, results and a word": (
        asked(User("Weather?"), Assistant(THOUGHT, "I look.", *CALLS), User(*RESULTS, "And now?"), tools=(WEATHER,),
              reasoning="low"),
        {"input": [
            ASK,
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I need the weather."}],
             "encrypted_content": "gAAAA-cipher"},
            {"role": "assistant", "content": "I look."}, call_item(1, "Paris"), call_item(2, "Oslo"),
            result_item(1, "18 C"), result_item(2, "9 C"),
            {"role": "user", "content": [{"type": "input_text", "text": "And now?"}]}],
         "tools": [FLAT_TOOL], "reasoning": {"effort": "low"}, **ENCRYPTED},
    ),
    "the phase of a message": (
        asked(User("Weather?"), Assistant(Text("I look.", "commentary"), CALLS[0]), User(RESULTS[0])),
        {"input": [ASK, {"role": "assistant", "content": "I look.", "phase": "commentary"}, call_item(1, "Paris"),
                   result_item(1, "18 C")]},
    ),
    "thinking that the service can't read": (
        asked(User("Weather?"), Assistant(Reasoning("hm", signature="x"), Reasoning("hm", id="rs_1"), "18 C")),
        {"input": [ASK, {"role": "assistant", "content": "18 C"}]},
    ),
    "no reasoning": (
        asked(User("Weather?"), reasoning="none"), {"input": [ASK], "reasoning": {"effort": "none"}},
    ),
    "top_p, logprobs": (
        asked(User("Weather?"), top_p=0.9, logprobs=3),
        {"input": [ASK], "top_p": 0.9, "top_logprobs": 3, "include": ["message.output_text.logprobs"]},
    ),
    "extra": (
        asked(User("Weather?"), extra={"service_tier": "flex", "store": True}),
        {"input": [ASK], "service_tier": "flex", "store": True},
    ),
}  # fmt: skip


SURFACES: dict[str, Callable[[str], openai.OpenAI]] = {
    "openai-responses": lambda url: openai.OpenAI(api_key="test-key", base_url=url + "/v1", max_retries=0),
    "azure-responses": lambda url: openai.AzureOpenAI(
        api_key="test-key", azure_endpoint=url, api_version="v", max_retries=0
    ),
}


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(surface: str, recorder: Any) -> Iterator[openai.OpenAI]:
    with SURFACES[surface](recorder.url) as made:
        yield made


def routed(surface: str, wire: HttpRequest) -> HttpRequest:
    """The request as the provider's row sends it, behind its endpoint; Azure's deployment stands in the body only."""
    row = providers()[surface]
    query = {name: fill(value, {"api_version": "v"}) for name, value in row.query.items()}
    path = urlsplit(row.base_url.removeprefix("{endpoint}")).path + row.paths.get("chat", wire.path)
    return msgspec.structs.replace(wire, path=path, query=query)


def answer(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A Response object as documented."""
    return {
        "id": "resp_1", "object": "response", "created_at": 1763700000, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "max_output_tokens": None, "model": "gpt-5.1-2026-04-14",
        "output": list(output), "parallel_tool_calls": True, "previous_response_id": None,
        "reasoning": {"effort": "low", "summary": None}, "store": False, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": {
            "input_tokens": 75, "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 5},
            "output_tokens": 30, "output_tokens_details": {"reasoning_tokens": 12}, "total_tokens": 105},
        "user": None, "metadata": {},
    } | fields  # fmt: skip


def message(text: str, **fields: Any) -> dict[str, Any]:
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []} | fields
    return {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [content]}


REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
    "encrypted_content": "gAAAA-cipher",
}
CITED = [
    {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://a.org", "title": "A"},
    {"type": "url_citation", "start_index": 3, "end_index": 4, "url": "https://a.org", "title": "A"},
    {"type": "file_citation", "file_id": "f", "filename": "f.txt", "index": 1},
    {"type": "url_citation", "start_index": 3, "end_index": 4, "url": "https://b.org", "title": "B"},
]
LOGPROBS = [{"token": "Hi", "bytes": [72, 105], "logprob": -0.1,
             "top_logprobs": [{"token": "Ho", "bytes": [72, 111], "logprob": -3.5}]}]  # fmt: skip
SEARCHED = {"type": "web_search_call", "id": "ws_1", "status": "completed",
            "action": {"type": "search", "query": "x"}}  # fmt: skip

ANSWERS: dict[str, dict[str, Any]] = {
    "text": answer(message("Hello, 世界 🌍")),
    "two texts": answer(message("Hello, "), message("world") | {"id": "msg_2"}),
    "thinking, text and calls": answer(REASONING, message("I look."), call_item(1, "Paris"), call_item(2, "Oslo")),
    "citations and a search": answer(SEARCHED, message("See", annotations=CITED)),
    "logprobs": answer(message("Hi", logprobs=LOGPROBS)),
    "too long": answer(message("Hel"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
    "filtered": answer(message("Hel"), status="incomplete", incomplete_details={"reason": "content_filter"}),
    "no usage": answer(message("Hi"), usage=None),
    "nothing": answer(),
}


def assert_read_alike(ours: Any, theirs: Any) -> None:
    """A Reply against the SDK's Response."""
    assert ours.text == theirs.output_text
    assert ours.model == theirs.model
    calls = [item for item in theirs.output if item.type == "function_call"]
    assert [(c.id, c.item, c.name, c.arguments) for c in ours.tool_calls] == [
        (call.call_id, call.id, call.name, json.loads(call.arguments)) for call in calls
    ]
    reasons = {"max_output_tokens": "length", "content_filter": "content_filter"}
    if theirs.status == "incomplete":
        assert ours.finish_reason == reasons[theirs.incomplete_details.reason]
    else:
        assert ours.finish_reason == ("tool_calls" if calls else "stop")
    if theirs.usage is not None:
        usage, details = theirs.usage, theirs.usage.input_tokens_details
        read = (ours.usage.input, ours.usage.output, ours.usage.cached, ours.usage.cache_written, ours.usage.reasoning)
        assert read == (
            usage.input_tokens, usage.output_tokens, details.cached_tokens, details.cache_write_tokens,
            usage.output_tokens_details.reasoning_tokens,
        )  # fmt: skip
    thoughts = [item for item in theirs.output if item.type == "reasoning"]
    assert ours.reasoning == "".join("\n\n".join(s.text for s in thought.summary) for thought in thoughts)
    kept = [(p.id, p.data) for p in (ours.message.parts) if isinstance(p, Reasoning)]
    assert kept == [(thought.id, thought.encrypted_content) for thought in thoughts]
    contents = [c for item in theirs.output if item.type == "message" for c in item.content]
    notes = [note for content in contents for note in content.annotations if note.type == "url_citation"]
    assert ours.citations == tuple(dict.fromkeys(note.url for note in notes))
    probs = [entry for content in contents for entry in content.logprobs or []]
    assert [(p.token, p.logprob, p.top) for p in ours.logprobs] == [
        (p.token, p.logprob, tuple((t.token, t.logprob) for t in p.top_logprobs)) for p in probs
    ]


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_requests_are_equal(
    recorder: Any, same: Any, client: openai.OpenAI, surface: str, name: str, stream: bool
) -> None:
    request, theirs = REQUESTS[name]
    arguments = STATELESS | theirs
    recorder.answer(answer(message("ok")))
    if stream:
        recorder.answer(stream_of(ANSWERS["text"]), headers={"content-type": "text/event-stream"})
        list(client.responses.create(**arguments, stream=True))
    else:
        client.responses.create(**arguments)
    same(routed(surface, CODEC.chat("gpt-5.1", request, Profile(), stream=stream)), recorder.last)
    key = {"api-key": "test-key"} if surface == "azure-responses" else {"authorization": "Bearer test-key"}
    assert key.items() <= recorder.last.headers.items()


def test_a_model_that_thinks_is_asked_for_its_thinking(
    recorder: Any, same: Any, client: openai.OpenAI, surface: str
) -> None:
    recorder.answer(answer(message("ok")))
    client.responses.create(**STATELESS, input=[ASK], include=["reasoning.encrypted_content"])  # type: ignore[list-item]
    profile = Profile(quirks=frozenset({"reasoning"}))
    same(routed(surface, CODEC.chat("gpt-5.1", asked(User("Weather?")), profile, stream=False)), recorder.last)


def test_structured_output_is_equal(recorder: Any, same: Any, client: openai.OpenAI, surface: str) -> None:
    said = '{"name":"Ada","home":{"street":"1 Main","zip":null},"other":[]}'
    recorder.answer(answer(message(said)))
    theirs = client.responses.parse(**STATELESS, input=[ASK], text_format=Person)  # type: ignore[list-item]
    output = OutputFormat("Person", Person.model_json_schema())
    wire = CODEC.chat("gpt-5.1", asked(User("Weather?"), output=output), Profile(), stream=False)
    same(routed(surface, wire), recorder.last)
    ours = CODEC.reply(msgspec.json.encode(answer(message(said))))
    assert Person.model_validate_json(ours.text) == theirs.output_parsed


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read_alike(recorder: Any, client: openai.OpenAI, name: str) -> None:
    recorder.answer(ANSWERS[name])
    theirs = client.responses.create(**STATELESS, input="x")
    assert_read_alike(CODEC.reply(msgspec.json.encode(ANSWERS[name])), theirs)


def sse(kind: str, **fields: Any) -> bytes:
    data = msgspec.json.encode({"type": kind, "sequence_number": 0, **fields})
    return f"event: {kind}\ndata: {data.decode()}\n\n".encode()


def pieces(text: str) -> list[str]:
    return [text[i : i + 3] for i in range(0, len(text), 3)]


def stream_of(whole: dict[str, Any], end: str = "") -> bytes:
    """The events of a whole answer, as documented."""
    end = end or whole["status"]
    begun = whole | {"output": [], "status": "in_progress", "usage": None, "incomplete_details": None, "error": None}
    events = [sse("response.created", response=begun), sse("response.in_progress", response=begun)]
    for i, item in enumerate(whole["output"]):
        place: dict[str, Any] = {"item_id": item["id"], "output_index": i}
        empty = {"content": [], "summary": [], "arguments": ""}
        opened = {key: empty.get(key, value) for key, value in item.items()}
        events.append(sse("response.output_item.added", output_index=i, item=opened))
        if item["type"] == "message":
            part = item["content"][0]
            events.append(sse("response.content_part.added", **place, content_index=0, part={**part, "text": ""}))
            events += [
                sse("response.output_text.delta", **place, content_index=0, delta=piece, logprobs=[])
                for piece in pieces(part["text"])
            ]
            events.append(sse("response.output_text.done", **place, content_index=0, text=part["text"], logprobs=[]))
            events.append(sse("response.content_part.done", **place, content_index=0, part=part))
        elif item["type"] == "reasoning":
            for n, part in enumerate(item["summary"]):
                at = {**place, "summary_index": n}
                events.append(sse("response.reasoning_summary_part.added", **at, part={**part, "text": ""}))
                events += [
                    sse("response.reasoning_summary_text.delta", **at, delta=piece) for piece in pieces(part["text"])
                ]
                events.append(sse("response.reasoning_summary_text.done", **at, text=part["text"]))
        elif item["type"] == "function_call":
            events += [
                sse("response.function_call_arguments.delta", **place, delta=piece)
                for piece in pieces(item["arguments"])
            ]
            events.append(sse("response.function_call_arguments.done", **place, arguments=item["arguments"]))
        events.append(sse("response.output_item.done", output_index=i, item=item))
    events.append(sse(f"response.{end}", response=whole))
    return b"".join(events)


@pytest.mark.parametrize("name", ANSWERS)
def test_streams_are_read_alike(recorder: Any, client: openai.OpenAI, read_every_way: Any, name: str) -> None:
    body = stream_of(ANSWERS[name])
    recorder.answer(body, headers={"content-type": "text/event-stream"})
    with client.responses.stream(model="gpt-5.1", input="x", store=False) as stream:
        events = list(stream)
    last: Any = events[-1]
    theirs = last.response  # get_final_response() raises for an answer that is incomplete
    deltas, ours = read_every_way(CODEC.decoder, body)
    assert_read_alike(ours, theirs)
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [delta.text for delta in deltas if delta.text] == texts
    assert "".join(delta.reasoning for delta in deltas) == ours.reasoning
    starts = [(d.index, d.id, d.name) for d in deltas if d.name]
    assert starts == [(n, call.id, call.name) for n, call in enumerate(ours.tool_calls)]
    for n, call in enumerate(ours.tool_calls):
        assert json.loads("".join(d.arguments for d in deltas if d.index == n)) == call.arguments
    assert CODEC.reply(msgspec.json.encode(ANSWERS[name])) == msgspec.structs.replace(
        ours, raw=msgspec.json.encode(ANSWERS[name])
    )


STATUS = {
    400: (openai.BadRequestError, errors.BadRequestError),
    401: (openai.AuthenticationError, errors.AuthenticationError),
    403: (openai.PermissionDeniedError, errors.PermissionDeniedError),
    404: (openai.NotFoundError, errors.NotFoundError),
    408: (openai.APIStatusError, errors.CallTimeoutError),
    409: (openai.ConflictError, errors.BadRequestError),
    413: (openai.APIStatusError, errors.RequestTooLargeError),
    422: (openai.UnprocessableEntityError, errors.BadRequestError),
    429: (openai.RateLimitError, errors.RateLimitedError),
    500: (openai.InternalServerError, errors.ServerError),
    502: (openai.InternalServerError, errors.ServerError),
    503: (openai.InternalServerError, errors.OverloadedError),
    529: (openai.InternalServerError, errors.OverloadedError),
}


@pytest.mark.parametrize("status", STATUS)
@pytest.mark.parametrize("html", [False, True])
def test_errors_are_of_the_same_kind(recorder: Any, client: openai.OpenAI, status: int, html: bool) -> None:
    body: Any = {"error": {"message": "No.", "type": "some_error", "param": None, "code": "some_code"}}
    raw = b"<html><body><h1>Bad</h1></body></html>" if html else msgspec.json.encode(body)
    recorder.answer(raw, status=status)
    theirs, ours = STATUS[status]
    with pytest.raises(theirs) as caught:
        client.responses.create(**STATELESS, input="x")
    error = CODEC.error(status, {}, raw)
    assert type(error) is ours
    assert error.status == caught.value.status_code == status
    assert error.code == ("" if html else caught.value.code)
    assert error.message == ("Bad" if html else "No.")


def read_stream(body: bytes) -> Any:
    reader = CODEC.decoder()
    reader.feed(body)
    return reader.finish()


FAILED = answer(status="failed", error={"code": "rate_limit_exceeded", "message": "Too many."})
CUT = stream_of(ANSWERS["text"]).rpartition(b"event: response.completed")[0]
BROKEN = CUT + b"event: response.output_text.delta\ndata: {not json\n\n"
ERROR_EVENT = CUT + sse("error", code="server_error", message="It broke.", param=None)


def test_what_the_sdk_passes_over(recorder: Any, client: openai.OpenAI) -> None:
    recorder.answer(FAILED)
    assert client.responses.create(**STATELESS, input="x").status == "failed"
    with pytest.raises(errors.RateLimitedError, match=r"Too many\."):
        CODEC.reply(msgspec.json.encode(FAILED))
    for body, kind in (
        (stream_of(FAILED), errors.RateLimitedError), (CUT, errors.CutStreamError), (ERROR_EVENT, errors.ServerError),
    ):  # fmt: skip
        recorder.answer(body, headers={"content-type": "text/event-stream"})
        assert list(client.responses.create(**STATELESS, input="x", stream=True))
        with pytest.raises(kind):
            read_stream(body)


@pytest.mark.parametrize("body", [b"", b'{"id":"resp_1","out', b"<html>busy</html>"])
def test_a_body_that_is_no_json(recorder: Any, client: openai.OpenAI, body: bytes) -> None:
    recorder.answer(body)
    with pytest.raises(ValueError):
        client.responses.create(**STATELESS, input="x")
    with pytest.raises(errors.UnreadableAnswerError):
        CODEC.reply(body)


def test_a_stream_that_is_no_json(recorder: Any, client: openai.OpenAI) -> None:
    recorder.answer(BROKEN, headers={"content-type": "text/event-stream"})
    with pytest.raises(ValueError):
        list(client.responses.create(**STATELESS, input="x", stream=True))
    reader = CODEC.decoder()
    assert "".join(delta.text for delta in reader.feed(BROKEN)) == "Hello, 世界 🌍"
    with pytest.raises(errors.UnreadableAnswerError) as caught:
        reader.finish()
    assert caught.value.partial.text == "Hello, 世界 🌍"


@pytest.mark.parametrize("surface", ["openai-responses"])
def test_the_list_of_models(recorder: Any, same: Any, client: openai.OpenAI, surface: str) -> None:
    body = {"object": "list", "data": [{"id": "gpt-5.1", "object": "model", "created": 1, "owned_by": "openai"}]}
    recorder.answer(body)
    theirs = [model.id for model in client.models.list()]
    same(CODEC.models(), recorder.last, "/v1")
    assert CODEC.model_names(msgspec.json.encode(body)) == theirs


def test_a_refusal(recorder: Any, client: openai.OpenAI) -> None:
    said = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{"type": "refusal", "refusal": "I can't."}]}  # fmt: skip
    recorder.answer(answer(said))
    theirs: Any = client.responses.create(**STATELESS, input="x").output[0]
    ours = CODEC.reply(msgspec.json.encode(answer(said)))
    assert (ours.text, ours.finish_reason) == (theirs.content[0].refusal, "content_filter")
