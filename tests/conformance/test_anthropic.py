"""Our requests beside those of the official SDK, anthropic: directly, on Vertex AI and on Bedrock.

Habits of the SDK that we do not follow, each with its reason:

- It sends temperature, top_p and top_k (through `extra_body`) in the version 2026-10-21, which refuses them for every
  model. We send the last version that takes them, with a request that has one; so here the SDK is told that version.
- It refuses, before it sends, a call without a stream whose max_tokens may take longer than ten minutes. How long a
  call may take is a setting of ours (`test_a_long_answer_without_a_stream`).
- It sends headers about itself (x-stainless-…, user-agent). They say nothing to the service.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anthropic as sdk
import msgspec
import pydantic
import pytest

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
from kurabe.models.codecs._anthropic import Anthropic, AnthropicBedrock, AnthropicVertex
from kurabe.models.codecs.base import Profile
from kurabe.models.hosted.sigv4 import sign

MODEL = "claude-sonnet-5-5"
PROFILE = Profile(max_tokens=80)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PDF = b"%PDF-1.7\n" + bytes(range(255, 0, -1))
HI = [{"role": "user", "content": "Hi"}]

Json = dict[str, Any]


@dataclass
class Platform:
    """One way to the Messages API: our codec, the SDK's client, and the path of its base address."""

    codec: Anthropic
    client: Callable[[str], Any]
    prefix: str
    model: str = MODEL

    def sampling(self) -> Json:
        """What tells the SDK our version for a request with a sampling setting."""
        version = self.codec.versions[1]
        if type(self.codec) is Anthropic:
            return {"extra_headers": {"anthropic-version": version}}
        return {"extra_body": {"anthropic_version": version}}


PLATFORMS = {
    "direct": Platform(
        Anthropic(),
        lambda url: sdk.Anthropic(api_key="test-key", base_url=url, max_retries=0),
        "",
    ),
    "vertex": Platform(
        AnthropicVertex(),
        lambda url: sdk.AnthropicVertex(
            region="us-east5", project_id="p-1", access_token="test-key", base_url=f"{url}/v1", max_retries=0
        ),
        "/v1/projects/p-1/locations/us-east5/publishers/anthropic",
        "claude-haiku-4-5@20251001",
    ),
    "bedrock": Platform(
        AnthropicBedrock(),
        lambda url: sdk.AnthropicBedrock(
            aws_access_key="AKIDEXAMPLE",
            aws_secret_key="test-key",
            aws_region="us-east-1",
            base_url=url,
            max_retries=0,
        ),
        "",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    ),
}


@pytest.fixture(params=list(PLATFORMS))
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    for variable in ("AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_AUTH_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return PLATFORMS[request.param]


class Answer(pydantic.BaseModel):
    """An answer with what the service's schemas do not know: a minimum, and a closed set of words."""

    price: float = pydantic.Field(ge=0, description="In dollars")
    words: list[str]
    unit: str | None = None


SCHEMA: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "The weather of a city", SCHEMA)
CLOCK = Tool("clock", "", {"type": "object", "properties": {}})
WEATHER_PARAM: Json = {"name": "weather", "description": "The weather of a city", "input_schema": SCHEMA}
CLOCK_PARAM: Json = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}


ANSWER: Json = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": '{"price": 1, "words": []}'}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def asked(*messages: Message, **settings: Any) -> Request:
    return Request(messages or (User("Hi"),), **settings)


CALLS = (
    Assistant(
        Reasoning("I need both.", signature="sig=="),
        Reasoning(data="opaque=="),
        "Let me look.",
        ToolCall("toolu_1", "weather", {"city": "Oslo"}),
        ToolCall("toolu_2", "clock"),
    ),
    User(ToolResult("toolu_1", "weather", "-3 °C"), ToolResult("toolu_2", "clock", "no clock", error=True)),
)
CALL_PARAMS: list[Json] = [
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I need both.", "signature": "sig=="},
            {"type": "redacted_thinking", "data": "opaque=="},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "-3 °C"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no clock", "is_error": True},
        ],
    },
]

# name → our request, and the SDK's arguments beside model and max_tokens=80
CASES: dict[str, tuple[Request, Json]] = {
    "system and user with a limit": (
        asked(System("Be brief."), User("Hi"), max_tokens=7),
        {"system": "Be brief.", "messages": HI, "max_tokens": 7},
    ),
    "several turns": (
        asked(System("Be brief."), User("Hi"), Assistant("Hello."), System("Now in French."), User("And now?")),
        {
            "system": "Be brief.",
            "messages": [
                *HI,
                {"role": "assistant", "content": "Hello."},
                {"role": "system", "content": "Now in French."},
                {"role": "user", "content": "And now?"},
            ],
        },
    ),
    "images": (
        asked(User("What is this?", Image.from_bytes(PNG), Image.from_url("https://e.org/cat.png"))),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)},
                        },
                        {"type": "image", "source": {"type": "url", "url": "https://e.org/cat.png"}},
                    ],
                }
            ]
        },
    ),
    "documents": (
        asked(
            User(
                Document(PDF, "application/pdf", name="a.pdf"),
                Document(url="https://e.org/b.pdf"),
                Document("naïve".encode(), "text/plain"),
            )
        ),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "title": "a.pdf",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)},
                        },
                        {"type": "document", "source": {"type": "url", "url": "https://e.org/b.pdf"}},
                        {
                            "type": "document",
                            "source": {"type": "text", "media_type": "text/plain", "data": "naïve"},
                        },
                    ],
                }
            ]
        },
    ),
    "the beginning to be kept": (
        asked(
            System("Be brief."),
            System("You know all about Oslo: …", cache=True),
            User("Hi"),
            Assistant("Hello.", cache=True),
            User("And", " now?", Image.from_bytes(PNG), cache=True),
            tools=(WEATHER, msgspec.structs.replace(CLOCK, cache=True)),
        ),
        {
            "system": [
                {"type": "text", "text": "Be brief."},
                {"type": "text", "text": "You know all about Oslo: …", "cache_control": {"type": "ephemeral"}},
            ],
            "tools": [WEATHER_PARAM, CLOCK_PARAM | {"cache_control": {"type": "ephemeral"}}],
            "messages": [
                *HI,
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "Hello.", "cache_control": {"type": "ephemeral"}}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "And"},
                        {"type": "text", "text": " now?"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)},
                            "cache_control": {"type": "ephemeral"},
                        },
                    ],
                },
            ],
        },
    ),
    "a strict tool": (
        asked(tools=(msgspec.structs.replace(WEATHER, strict=True),)),
        {"messages": HI, "tools": [WEATHER_PARAM | {"strict": True}]},
    ),
    "an empty turn": (
        asked(User("Hi"), Assistant("Hello."), User("")),
        {"messages": [*HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": ""}]},
    ),
    "a picture and a document as results": (
        asked(
            User("Hi"),
            Assistant(ToolCall("toolu_1", "weather", {"city": "Oslo"})),
            User(
                ToolResult(
                    "toolu_1", "weather", (Text("Look."), Image.from_bytes(PNG), Document(PDF, "application/pdf"))
                )
            ),
        ),
        {
            "messages": [
                *HI,
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "content": [
                                {"type": "text", "text": "Look."},
                                {
                                    "type": "image",
                                    "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)},
                                },
                                {
                                    "type": "document",
                                    "source": {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)},
                                },
                            ],
                        }
                    ],
                },
            ],
        },
    ),
    "tools": (asked(tools=(WEATHER, CLOCK)), {"messages": HI, "tools": [WEATHER_PARAM, CLOCK_PARAM]}),
    **{
        f"tool_choice {wish}, parallel {parallel}": (
            asked(tools=(WEATHER,), tool_choice=wish, parallel_tool_calls=parallel),
            {"messages": HI, "tools": [WEATHER_PARAM], "tool_choice": choice},
        )
        for wish, parallel, choice in [
            ("auto", None, {"type": "auto"}),
            ("auto", True, {"type": "auto"}),
            ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
            (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
            ("required", None, {"type": "any"}),
            ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
            ("weather", None, {"type": "tool", "name": "weather"}),
            ("none", False, {"type": "none"}),
        ]
    },
    "parallel calls and their results": (
        asked(User("Hi"), *CALLS, tools=(WEATHER, CLOCK)),
        {"messages": [*HI, *CALL_PARAMS], "tools": [WEATHER_PARAM, CLOCK_PARAM]},
    ),
    "reasoning": (
        asked(reasoning="high"),
        {"messages": HI, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
    ),
    "no reasoning": (asked(reasoning="none"), {"messages": HI, "thinking": {"type": "disabled"}}),
    "stop": (asked(stop=("\n\n", "END")), {"messages": HI, "stop_sequences": ["\n\n", "END"]}),
    "prefill": (
        asked(prefill="The price is $"),
        {"messages": [*HI, {"role": "assistant", "content": "The price is $"}]},
    ),
    "extra": (
        asked(max_tokens=9, extra={"metadata": {"user_id": "u"}, "service_tier": "auto"}),
        {"messages": HI, "max_tokens": 9, "metadata": {"user_id": "u"}, "service_tier": "auto"},
    ),
}


def send(platform: Platform, recorder: Any, *arguments: Json) -> None:
    recorder.answer(ANSWER)
    given: Json = {"model": platform.model, "max_tokens": 80}
    for more in arguments:
        given |= more
    with platform.client(recorder.url) as client:
        answer = client.messages.create(**given)
        if isinstance(answer, sdk.Stream):
            answer.response.read()


@pytest.mark.parametrize("case", list(CASES))
def test_requests_are_equal(case: str, platform: Platform, recorder: Any, same: Any) -> None:
    request, arguments = CASES[case]
    for stream in (False, True):
        send(platform, recorder, {"stream": True} if stream else {}, arguments)
        same(platform.codec.chat(platform.model, request, PROFILE, stream=stream), recorder.last, platform.prefix)
    assert_authorized_alike(platform, recorder)


def assert_authorized_alike(platform: Platform, recorder: Any) -> None:
    """A bearer key or token; on Bedrock our signature of what the SDK sent is the one that it sent."""
    sent = recorder.last
    if not isinstance(platform.codec, AnthropicBedrock):
        assert sent.headers["authorization"] == "Bearer test-key"
        assert "x-api-key" not in sent.headers
        return
    now = datetime.strptime(sent.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    names = sent.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: sent.headers[name] for name in names if name not in ("host", "x-amz-date")}
    made = sign(
        sent.method, recorder.url + sent.path, headers, sent.body,
        "AKIDEXAMPLE", "test-key", "", "us-east-1", "bedrock", now,
    )  # fmt: skip
    assert made["authorization"] == sent.headers["authorization"]


def test_a_long_answer_without_a_stream(platform: Platform, recorder: Any) -> None:
    with platform.client(recorder.url) as client, pytest.raises(ValueError, match="10 minutes"):
        client.messages.create(model=platform.model, max_tokens=100_000, messages=HI)
    ours = platform.codec.chat(platform.model, asked(max_tokens=100_000), PROFILE, stream=False)
    assert msgspec.json.decode(ours.body)["max_tokens"] == 100_000


def test_sampling_settings_go_in_the_version_that_takes_them(platform: Platform, recorder: Any, same: Any) -> None:
    arguments = platform.sampling()
    arguments["extra_body"] = {"temperature": 0.0, "top_p": 0.5, "top_k": 3} | arguments.get("extra_body", {})
    send(platform, recorder, {"messages": HI}, arguments)
    request = asked(temperature=0.0, top_p=0.5, top_k=3)
    same(platform.codec.chat(platform.model, request, PROFILE, stream=False), recorder.last, platform.prefix)


def test_structured_output(platform: Platform, recorder: Any, same: Any) -> None:
    recorder.answer(ANSWER)
    with platform.client(recorder.url) as client:
        theirs = client.messages.parse(
            model=platform.model,
            max_tokens=80,
            messages=HI,
            output_format=Answer,
            output_config={"effort": "low"},
            thinking={"type": "adaptive"},
        )
    request = asked(output=OutputFormat("answer", Answer.model_json_schema()), reasoning="low")
    same(platform.codec.chat(platform.model, request, PROFILE, stream=False), recorder.last, platform.prefix)
    assert Answer.model_validate_json(platform.codec.reply(recorder.answers[0].pieces[0]).text) == theirs.parsed_output


def test_list_of_models(recorder: Any, same: Any) -> None:
    codec = Anthropic()
    body = {
        "data": [{"type": "model", "id": name, "display_name": name} for name in ("claude-a", "claude-b")],
        "has_more": False,
        "first_id": "claude-a",
        "last_id": "claude-b",
    }
    recorder.answer(body)
    with PLATFORMS["direct"].client(recorder.url) as client:
        theirs = list(client.models.list(limit=1000))
    same(codec.models(), recorder.last)
    assert codec.model_names(msgspec.json.encode(body)) == [model.id for model in theirs] == ["claude-a", "claude-b"]


def test_texts_by_themselves_and_in_parts() -> None:
    """A text part by itself goes as a block, which the service reads as the same."""
    body = msgspec.json.decode(Anthropic().chat(MODEL, asked(User(Text("Hi"))), PROFILE, stream=False).body)
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
