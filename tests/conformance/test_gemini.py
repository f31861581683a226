"""Gemini and Vertex AI against Google's own SDK: what is sent, and what is read.

Habits of google-genai 3.4 that we do not follow:

- It mixes snake_case into a camelCase body (`SPELLINGS`); the reference, and we, write camelCase.
- It decodes a thought signature and encodes it again as URL-safe base64; we send the text that came.
- It sends `generationConfig: {}` where none of its settings is set.
- It names its version in `x-goog-api-client` and `user-agent`, and sends a caller's time-out as `x-server-timeout`.
- Asked for the embeddings of a list of texts from a newer Gemini model, it sends them as parts of one content and gets
  one vector; a list of contents gives one each, which is what we always mean.
- On `finishReason: CONTINUATION` it asks again by itself; we end there, with `length`.
- A stream that ends early is a short answer to it, and an empty body an empty one; to us both are errors.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from kurabe.messages import (
    Assistant,
    Audio,
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
from kurabe.models import open_model
from kurabe.models.codecs._gemini import Gemini, Vertex
from kurabe.models.codecs.base import Profile
from kurabe.models.providers import providers

SPELLINGS = {
    "mime_type": "mimeType",
    "file_uri": "fileUri",
    "parameters_json_schema": "parametersJsonSchema",
    "allowed_function_names": "allowedFunctionNames",
    "inline_data": "inlineData",
    "include_thoughts": "includeThoughts",
    "thinking_level": "thinkingLevel",
    "thinking_budget": "thinkingBudget",
}
PREFIXES = {"gemini": "/v1", "vertex": "/v1beta1/projects/test-project/locations/us-central1"}
CODECS = {"gemini": Gemini(), "vertex": Vertex()}


def spelled(value: Any) -> Any:
    """The SDK's body in the spelling of the reference, with signatures in plain base64, without an empty config."""
    if isinstance(value, list):
        return [spelled(item) for item in value]
    if isinstance(value, dict):
        value = {SPELLINGS.get(name, name): spelled(item) for name, item in value.items()}
        if not value.get("generationConfig", True):
            del value["generationConfig"]
        if "thoughtSignature" in value:
            value["thoughtSignature"] = value["thoughtSignature"].translate(str.maketrans("-_", "+/"))
    return value


@pytest.fixture(params=["gemini", "vertex"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, genai.Client]]:
    """Made once: each reads all certificates anew. Nothing is sent before `client` has set the address."""
    options = types.HttpOptions(base_url="http://127.0.0.1:9")
    credentials = Credentials(token="test-token")  # type: ignore[no-untyped-call]
    place: Any = {"project": "test-project", "location": "us-central1", "credentials": credentials}
    with (
        genai.Client(api_key="test-key", http_options=options) as gemini,
        genai.Client(vertexai=True, **place, http_options=options) as vertex,
    ):
        yield {"gemini": gemini, "vertex": vertex}


@pytest.fixture
def client(where: str, clients: dict[str, genai.Client], recorder: Any) -> genai.Client:
    clients[where]._api_client._http_options.base_url = recorder.url
    return clients[where]


# ── What is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────
PNG = b"\x89PNG\r\n\x1a\n\xfb\xff\xfe"
SCHEMA = {"type": "object", "properties": {"city_name": {"type": "string"}}, "required": ["city_name"]}
WEATHER = Tool("weather", "The weather in a city.", SCHEMA)
CLOCK = Tool("clock", "The time.", {"type": "object", "properties": {}})
SIGNATURE = "++//+/8="  # as it came; base64 of bytes that are written otherwise in its URL-safe form


def content(role: str, *parts: types.Part) -> types.Content:
    return types.Content(role=role, parts=list(parts))


def text(said: str, **more: Any) -> types.Part:
    return types.Part(text=said, **more)


def call(name: str, args: dict[str, Any], id: str | None = None, signature: bytes | None = None) -> types.Part:
    return types.Part(function_call=types.FunctionCall(id=id, name=name, args=args), thought_signature=signature)


def result(name: str, response: dict[str, Any], id: str | None = None) -> types.Part:
    return types.Part(function_response=types.FunctionResponse(id=id, name=name, response=response))


def declared(*tools: Tool) -> list[types.Tool]:
    declarations = [
        types.FunctionDeclaration(name=tool.name, description=tool.description, parameters_json_schema=tool.parameters)
        for tool in tools
    ]
    return [types.Tool(function_declarations=declarations)]


def chosen(mode: str, *names: str) -> types.ToolConfig:
    config = types.FunctionCallingConfig(
        mode=types.FunctionCallingConfigMode(mode), allowed_function_names=list(names) or None
    )
    return types.ToolConfig(function_calling_config=config)


def thinking(**config: Any) -> dict[str, Any]:
    return {"thinking_config": types.ThinkingConfig(**config)}


def request(*messages: Message, **settings: Any) -> Request:
    return Request(messages or (User("Hi"),), **settings)


HI = [content("user", text("Hi"))]
SIGNED = b"\xfb\xef\xff\xfb\xff"
ANSWER = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi."}]}, "finishReason": "STOP"}]}
# name: (our request, the SDK's contents, the SDK's config)
SENT: dict[str, tuple[Request, list[types.Content], dict[str, Any]]] = {
    "plain": (request(), HI, {}),
    "system, temperature, limit": (
        request(System("Be brief."), User("Hi"), temperature=0, max_tokens=80),
        HI,
        {"system_instruction": "Be brief.", "temperature": 0, "max_output_tokens": 80},
    ),
    "turns": (
        request(User("One"), Assistant("Two"), User("Three")),
        [content("user", text("One")), content("model", text("Two")), content("user", text("Three"))],
        {},
    ),
    "an empty turn": (
        request(User("One"), Assistant("Two"), User("")),
        [content("user", text("One")), content("model", text("Two")), content("user", text(""))],
        {},
    ),
    "media": (
        request(
            User(
                "What is this?",
                Image.from_bytes(PNG),
                Image.from_url("https://example.org/a.png"),
                Audio(b"RIFF\xff\xfe", "audio/wav"),
                Document(b"%PDF-1.7", "application/pdf"),
            )
        ),
        [
            content(
                "user",
                text("What is this?"),
                types.Part.from_bytes(data=PNG, mime_type="image/png"),
                types.Part.from_uri(file_uri="https://example.org/a.png", mime_type="image/png"),
                types.Part.from_bytes(data=b"RIFF\xff\xfe", mime_type="audio/wav"),
                types.Part.from_bytes(data=b"%PDF-1.7", mime_type="application/pdf"),
            )
        ],
        {},
    ),
    "tools": (request(tools=(WEATHER, CLOCK)), HI, {"tools": declared(WEATHER, CLOCK)}),
    "tools: auto": (
        request(tools=(WEATHER,), tool_choice="auto"),
        HI,
        {"tools": declared(WEATHER), "tool_config": chosen("AUTO")},
    ),
    "tools: none": (
        request(tools=(WEATHER,), tool_choice="none"),
        HI,
        {"tools": declared(WEATHER), "tool_config": chosen("NONE")},
    ),
    "tools: required": (
        request(tools=(WEATHER,), tool_choice="required"),
        HI,
        {"tools": declared(WEATHER), "tool_config": chosen("ANY")},
    ),
    "tools: named": (
        request(tools=(WEATHER, CLOCK), tool_choice="weather"),
        HI,
        {"tools": declared(WEATHER, CLOCK), "tool_config": chosen("ANY", "weather")},
    ),
    "round trip": (
        request(
            User("Hi"),
            Assistant(ToolCall("c1", "weather", {"city_name": "Kyoto"}, SIGNATURE)),
            User(ToolResult("c1", "weather", "rain")),
            tools=(WEATHER,),
        ),
        [
            *HI,
            content("model", call("weather", {"city_name": "Kyoto"}, "c1", SIGNED)),
            content("user", result("weather", {"output": "rain"}, "c1")),
        ],
        {"tools": declared(WEATHER)},
    ),
    "a picture as a result": (
        request(
            User("Hi"),
            Assistant(ToolCall("c1", "clock")),
            User(ToolResult("c1", "clock", (Text("noon"), Image.from_bytes(PNG)))),
        ),
        [
            *HI,
            content("model", call("clock", {}, "c1")),
            content(
                "user",
                types.Part(
                    function_response=types.FunctionResponse(
                        id="c1",
                        name="clock",
                        response={"output": "noon"},
                        parts=[types.FunctionResponsePart.from_bytes(data=PNG, mime_type="image/png")],
                    )
                ),
            ),
        ],
        {},
    ),
    "parallel calls without ids": (
        request(
            User("Hi"),
            Assistant(
                ToolCall("kurabe-0-0", "weather", {"city_name": "Kyoto"}, SIGNATURE), ToolCall("kurabe-0-1", "clock")
            ),
            User(ToolResult("kurabe-0-0", "weather", "rain")),
            User(ToolResult("kurabe-0-1", "clock", "stopped", error=True)),
            tools=(WEATHER, CLOCK),
        ),
        [
            *HI,
            content("model", call("weather", {"city_name": "Kyoto"}, None, SIGNED), call("clock", {})),
            content("user", result("weather", {"output": "rain"}), result("clock", {"error": "stopped"})),
        ],
        {"tools": declared(WEATHER, CLOCK)},
    ),
    "signatures": (
        request(
            User("Hi"),
            Assistant(Reasoning("Hm.", SIGNATURE), Text("Hello"), Text("", SIGNATURE)),
            User("Again"),
        ),
        [
            *HI,
            content(
                "model",
                text("Hm.", thought=True, thought_signature=SIGNED),
                text("Hello"),
                text("", thought_signature=SIGNED),
            ),
            content("user", text("Again")),
        ],
        {},
    ),
    "structured": (
        request(output=OutputFormat("place", SCHEMA)),
        HI,
        {"response_mime_type": "application/json", "response_json_schema": SCHEMA},
    ),
    "sampling": (
        request(
            stop=("\n\n", "END"), top_p=0.5, top_k=40, seed=7, frequency_penalty=0.1, presence_penalty=-0.2, logprobs=3
        ),
        HI,
        {
            "stop_sequences": ["\n\n", "END"],
            "top_p": 0.5,
            "top_k": 40,
            "seed": 7,
            "frequency_penalty": 0.1,
            "presence_penalty": -0.2,
            "response_logprobs": True,
            "logprobs": 3,
        },
    ),
    "reasoning": (request(reasoning="low"), HI, thinking(thinking_level="LOW", include_thoughts=True)),
    "reasoning: xhigh": (request(reasoning="xhigh"), HI, thinking(thinking_level="XHIGH", include_thoughts=True)),
    "extra": (
        request(temperature=0, extra={"generationConfig": {"candidateCount": 2}, "cachedContent": "cachedContents/1"}),
        HI,
        {"temperature": 0, "candidate_count": 2, "cached_content": "cachedContents/1"},
    ),
}


@pytest.mark.parametrize("case", SENT)
def test_the_request_is_the_sdks(where: str, client: genai.Client, recorder: Any, same: Any, case: str) -> None:
    ours, contents, config = SENT[case]
    if case == "extra" and where == "vertex":
        name = "projects/test-project/locations/us-central1/cachedContents/1"  # the SDK makes it from the short one
        ours = msgspec.structs.replace(ours, extra={**ours.extra, "cachedContent": name})
    for stream in (False, True):
        recorder.answer(b"data: " + msgspec.json.encode(ANSWER) + b"\r\n\r\n" if stream else ANSWER)
        ask(client, contents, config, stream)
        sent = CODECS[where].chat("gemini-3-pro", ours, Profile(), stream=stream)
        same(sent, recorder.last, PREFIXES[where], spelled)
    key = {"x-goog-api-key": "test-key"} if where == "gemini" else {"authorization": "Bearer test-token"}
    assert key.items() <= recorder.last.headers.items()


def ask(
    client: genai.Client, contents: Any, config: dict[str, Any], stream: bool, model: str = "gemini-3-pro"
) -> list[types.GenerateContentResponse]:
    settings = types.GenerateContentConfig(**config)
    if stream:
        return list(client.models.generate_content_stream(model=model, contents=contents, config=settings))
    return [client.models.generate_content(model=model, contents=contents, config=settings)]


@pytest.mark.parametrize(
    ("effort", "config"),
    [
        ("none", {"thinking_budget": 0}),
        ("minimal", {"thinking_budget": 512, "include_thoughts": True}),
        ("medium", {"thinking_budget": 8192, "include_thoughts": True}),
        ("high", {"thinking_budget": 24576, "include_thoughts": True}),
    ],
)
def test_older_models_think_by_a_budget(
    where: str, client: genai.Client, recorder: Any, same: Any, effort: Any, config: dict[str, Any]
) -> None:
    recorder.answer(ANSWER)
    ask(client, HI, thinking(**config), stream=False, model="gemini-2.5-flash")
    profile = providers()[where].profile("gemini-2.5-flash")
    ours = CODECS[where].chat("gemini-2.5-flash", request(reasoning=effort), profile, stream=False)
    same(ours, recorder.last, PREFIXES[where], spelled)


@pytest.mark.parametrize(
    ("where", "model"),
    [
        ("gemini", "models/gemini-3-pro"),
        ("gemini", "tunedModels/mine-1"),
        ("vertex", "models/gemini-3-pro"),
        ("vertex", "publishers/meta/models/llama-5"),
        ("vertex", "meta/llama-5"),
    ],
)
def test_a_models_path_is_the_sdks(where: str, client: genai.Client, recorder: Any, same: Any, model: str) -> None:
    recorder.answer(ANSWER)
    ask(client, HI, {}, stream=False, model=model)
    same(CODECS[where].chat(model, request(), Profile(), stream=False), recorder.last, PREFIXES[where], spelled)


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_express_mode(given: str, recorder: Any, same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vertex AI with an API key, which belongs to no project."""
    for variable in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    if given == "environment":
        monkeypatch.setenv("GOOGLE_API_KEY", "AIza-test")
    key = "AIza-test" if given == "argument" else None
    recorder.answer(ANSWER)
    with genai.Client(vertexai=True, api_key=key, http_options=types.HttpOptions(base_url=recorder.url)) as client:
        client.models.generate_content(model="gemini-3-pro", contents=HI)
    theirs = recorder.last
    same(CODECS["vertex"].chat("gemini-3-pro", request(), Profile(), stream=False), theirs, "/v1beta1", spelled)
    open_model("vertex:gemini-3-pro", api_key=key, base_url=f"{recorder.url}/v1beta1").chat("Hi")
    assert recorder.last.path == theirs.path
    assert recorder.last.headers["x-goog-api-key"] == theirs.headers["x-goog-api-key"] == "AIza-test"
    assert "authorization" not in recorder.last.headers.keys() | theirs.headers.keys()
    address = open_model("vertex:gemini-3-pro", api_key=key).client.base_url  # type: ignore[attr-defined]
    with genai.Client(vertexai=True, api_key=key) as client:
        assert address == f"{str(client._api_client._http_options.base_url).rstrip('/')}/v1beta1"


def test_the_sdk_continues_by_itself_and_we_do_not(client: genai.Client, where: str, recorder: Any) -> None:
    candidate = {"finishReason": "CONTINUATION", "continuationToken": "dG9rZW4="}
    first = {"candidates": [{"content": {"role": "model", "parts": [{"text": "One. "}]}, **candidate}]}
    recorder.answer(first)
    recorder.then(ANSWER)
    [theirs] = ask(client, HI, {}, stream=False)
    assert theirs.text == "One. Hi."
    reply = CODECS[where].reply(msgspec.json.encode(first))
    assert (reply.text, reply.finish_reason) == ("One. ", "length")
    ours = CODECS[where].chat("gemini-3-pro", request(extra={"continuationToken": "dG9rZW4="}), Profile(), stream=False)
    assert msgspec.json.decode(ours.body) == spelled(recorder.last.json)


# ── Embeddings and the list of models ────────────────────────────────────────────────────────────────────────────────
BATCH = {"embeddings": [{"values": [0.5, -1]}, {"values": [0.25, 2]}]}
ONE = {"embedding": {"values": [0.5, -1]}, "usageMetadata": {"promptTokenCount": 3}}
PREDICT = {
    "predictions": [
        {"embeddings": {"values": [0.5, -1], "statistics": {"truncated": False, "token_count": 3}}},
        {"embeddings": {"values": [0.25, 2], "statistics": {"truncated": False, "token_count": 4}}},
    ]
}
# (where, model, texts, answer, tokens)
EMBEDDINGS: list[tuple[str, str, list[str], dict[str, Any], int]] = [
    ("gemini", "gemini-embedding-001", ["one", "two"], BATCH, 0),
    ("gemini", "gemini-embedding-2", ["one", "two"], {**BATCH, "usageMetadata": {"promptTokenCount": 7}}, 7),
    ("gemini", "gemini-embedding-2", ["one"], {"embeddings": BATCH["embeddings"][:1]}, 0),
    ("vertex", "text-embedding-005", ["one", "two"], PREDICT, 7),
    ("vertex", "text-embedding-005", ["one"], {"predictions": PREDICT["predictions"][:1]}, 3),
    ("vertex", "gemini-embedding-001", ["one", "two"], BATCH, 0),
    ("vertex", "gemini-embedding-001", ["one"], ONE, 3),
    ("vertex", "gemini-embedding-2", ["one", "two"], BATCH, 0),
    ("vertex", "intfloat/multilingual-e5-maas", ["one"], ONE, 3),
]


@pytest.mark.parametrize(("where", "model", "texts", "body", "tokens"), EMBEDDINGS)
def test_embeddings(
    where: str,
    client: genai.Client,
    recorder: Any,
    same: Any,
    model: str,
    texts: list[str],
    body: dict[str, Any],
    tokens: int,
) -> None:
    recorder.answer(body)
    codec = CODECS[where]
    contents: Any = [content("user", text(said)) for said in texts]
    for task, dimensions in ((None, None), ("query", None), ("document", 2)):
        config = types.EmbedContentConfig(
            task_type=task and f"RETRIEVAL_{task.upper()}", output_dimensionality=dimensions
        )
        theirs = client.models.embed_content(model=model, contents=contents, config=config)
        same(codec.embed(model, texts, dimensions, task), recorder.last, PREFIXES[where], spelled)
    assert theirs.embeddings
    ours = codec.embeddings(msgspec.json.encode(body))
    assert ours.vectors == [one.values for one in theirs.embeddings]
    assert len(ours.vectors) == len(texts)
    assert ours.input_tokens == tokens


def test_the_list_of_models(where: str, client: genai.Client, recorder: Any, same: Any) -> None:
    """On Vertex the list stands outside the project: below `/v1beta1` alone."""
    listed = {
        "gemini": {"models": [{"name": "models/gemini-3-pro", "version": "3"}, {"name": "models/gemini-embedding-2"}]},
        "vertex": {
            "publisherModels": [
                {"name": "publishers/google/models/gemini-3-pro"},
                {"name": "publishers/google/models/gemini-embedding-2"},
            ]
        },
    }[where]
    recorder.answer(listed)
    theirs = list(client.models.list(config=types.ListModelsConfig(page_size=1000)))
    same(CODECS[where].models(), recorder.last, {"gemini": "/v1", "vertex": "/v1beta1"}[where])
    names = CODECS[where].model_names(msgspec.json.encode(listed))
    assert [one.name and one.name.rpartition("/")[2] for one in theirs] == names
