"""Counting tokens before a call, beside the official SDKs: what goes over the wire and what is read of the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import boto3
import botocore.config
import cohere
import google.genai as genai
import httpx
import msgspec
import openai
import pytest
from google.genai import types
from google.oauth2.credentials import Credentials

from kurabe.errors import InputError, UnreadableAnswerError
from kurabe.messages import Assistant, Request, System, Tool, ToolCall, ToolResult, User
from kurabe.models import open_model
from kurabe.models.codecs._anthropic import Anthropic, AnthropicBedrock, AnthropicVertex
from kurabe.models.codecs._bedrock import Bedrock
from kurabe.models.codecs._cohere import Cohere
from kurabe.models.codecs._gemini import Gemini, Vertex
from kurabe.models.codecs._openai_responses import OpenAIResponses
from kurabe.models.codecs.base import Codec, Profile
from kurabe.models.codecs.openai_chat import OpenAIChat

TEXT = "How many tokens are 日本語?"
HI: Any = [{"role": "user", "content": TEXT}]


@dataclass
class Provider:
    """Our codec; the SDK's count at an address; the path of its base address; an answer of `tokens`."""

    codec: Codec
    model: str
    theirs: Callable[[str, str], int | None]
    prefix: str
    answer: dict[str, Any]


def _anthropic(url: str, model: str) -> int:
    with anthropic.Anthropic(api_key="test-key", base_url=url, max_retries=0) as client:
        return client.messages.count_tokens(model=model, messages=HI).input_tokens


def _anthropic_vertex(url: str, model: str) -> int:
    with anthropic.AnthropicVertex(
        region="us-east5", project_id="p-1", access_token="test-key", base_url=f"{url}/v1", max_retries=0
    ) as client:
        return client.messages.count_tokens(model=model, messages=HI).input_tokens


def _gemini(url: str, model: str) -> int | None:
    options = types.HttpOptions(base_url=url, api_version="v1")
    client = genai.Client(api_key="test-key", http_options=options)
    found = client.models.count_tokens(model=model, contents=TEXT).total_tokens
    client.close()
    return found


def _vertex(url: str, model: str) -> int | None:
    options = types.HttpOptions(base_url=url)
    credentials = Credentials(token="test-token")  # type: ignore[no-untyped-call]
    client = genai.Client(
        vertexai=True, project="p-1", location="us-central1", credentials=credentials, http_options=options
    )
    found = client.models.count_tokens(model=model, contents=TEXT).total_tokens
    client.close()
    return found


def _cohere(url: str, model: str) -> int:
    with httpx.Client() as http:
        client = cohere.ClientV2("test-key", base_url=url, httpx_client=http)
        return len(client.tokenize(text=TEXT, model=model).tokens)


def _bedrock(url: str, model: str) -> int:
    client = boto3.client(
        "bedrock-runtime", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="test-key", config=botocore.config.Config(retries={"max_attempts": 0}),
    )  # fmt: skip
    found: int = client.count_tokens(
        modelId=model, input={"converse": {"messages": [{"role": "user", "content": [{"text": TEXT}]}]}}
    )["inputTokens"]
    client.close()
    return found


PROVIDERS = {
    "anthropic": Provider(Anthropic(), "claude-sonnet-5-5", _anthropic, "", {"input_tokens": 3}),
    "anthropic-vertex": Provider(
        AnthropicVertex(), "claude-haiku-4-5@20251001", _anthropic_vertex,
        "/v1/projects/p-1/locations/us-east5/publishers/anthropic", {"input_tokens": 3},
    ),
    "gemini": Provider(Gemini(), "gemini-3-pro", _gemini, "/v1", {"totalTokens": 3, "promptTokensDetails": []}),
    "vertex": Provider(
        Vertex(), "gemini-3-pro", _vertex, "/v1beta1/projects/p-1/locations/us-central1", {"totalTokens": 3}
    ),
    "cohere": Provider(
        Cohere(), "command-a-03-2025", _cohere, "", {"tokens": [7, 8, 9], "token_strings": ["a", "b", "c"]}
    ),
    "bedrock": Provider(Bedrock(), "us.anthropic.claude-haiku-4-5-20251001-v1:0", _bedrock, "", {"inputTokens": 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_counting_tokens(name: str, recorder: Any, same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    provider = PROVIDERS[name]
    recorder.answer(provider.answer)
    theirs = provider.theirs(recorder.url, provider.model)
    same(provider.codec.count(provider.model, TEXT), recorder.last, provider.prefix)
    assert provider.codec.counted(msgspec.json.encode(provider.answer)) == theirs == 3


WEATHER = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CONVERSATION = Request(
    (
        System("Be brief."),
        User("Weather?"),
        Assistant(ToolCall("t1", "weather", {"city": "Oslo"})),
        User(ToolResult("t1", "weather", "rain")),
    ),
    tools=(WEATHER,),
)


def _whole_anthropic(url: str) -> None:
    with anthropic.Anthropic(api_key="test-key", base_url=url, max_retries=0) as client:
        client.messages.count_tokens(
            model="claude-sonnet-5-5",
            system="Be brief.",
            tools=[{"name": "weather", "description": "The weather.", "input_schema": WEATHER.parameters}],
            messages=[
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
            ],
        )


def _whole_vertex(url: str) -> None:
    credentials = Credentials(token="test-token")  # type: ignore[no-untyped-call]
    client = genai.Client(
        vertexai=True, project="p-1", location="us-central1", credentials=credentials,
        http_options=types.HttpOptions(base_url=url),
    )  # fmt: skip
    declared = types.FunctionDeclaration(
        name="weather", description="The weather.", parameters_json_schema=WEATHER.parameters
    )
    part = types.Part
    contents: Any = [
        types.Content(role="user", parts=[part(text="Weather?")]),
        types.Content(
            role="model",
            parts=[part(function_call=types.FunctionCall(id="t1", name="weather", args={"city": "Oslo"}))],
        ),
        types.Content(
            role="user",
            parts=[
                part(function_response=types.FunctionResponse(id="t1", name="weather", response={"output": "rain"}))
            ],
        ),
    ]
    config = types.CountTokensConfig(
        system_instruction="Be brief.", tools=[types.Tool(function_declarations=[declared])]
    )
    client.models.count_tokens(model="gemini-3-pro", contents=contents, config=config)
    client.close()


def _whole_bedrock(url: str) -> None:
    client = boto3.client(
        "bedrock-runtime", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="test-key", config=botocore.config.Config(retries={"max_attempts": 0}),
    )  # fmt: skip
    result = {"toolResult": {"toolUseId": "t1", "content": [{"text": "rain"}]}}
    schema = {"json": WEATHER.parameters}
    client.count_tokens(
        modelId="us.anthropic.claude-haiku-4-5-20251001-v1:0",
        input={
            "converse": {
                "system": [{"text": "Be brief."}],
                "messages": [
                    {"role": "user", "content": [{"text": "Weather?"}]},
                    {
                        "role": "assistant",
                        "content": [{"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}}],
                    },
                    {"role": "user", "content": [result]},
                ],
                "toolConfig": {
                    "tools": [{"toolSpec": {"name": "weather", "description": "The weather.", "inputSchema": schema}}]
                },
            }
        },
    )
    client.close()


def _whole_responses(url: str) -> None:
    with openai.OpenAI(api_key="test-key", base_url=f"{url}/v1", max_retries=0) as client:
        client.responses.input_tokens.count(
            model="gpt-5.1",
            instructions="Be brief.",
            input=[
                {"role": "user", "content": "Weather?"},
                {"type": "function_call", "call_id": "t1", "name": "weather", "arguments": '{"city":"Oslo"}'},
                {"type": "function_call_output", "call_id": "t1", "output": "rain"},
            ],
            tools=[
                {
                    "type": "function", "name": "weather", "description": "The weather.",
                    "parameters": dict(WEATHER.parameters), "strict": False,
                }
            ],
        )  # fmt: skip


WHOLE: dict[str, tuple[Codec, Callable[[str], None], str, dict[str, Any]]] = {
    "claude-sonnet-5-5": (Anthropic(), _whole_anthropic, "", {"input_tokens": 3}),
    "gemini-3-pro": (
        Vertex(), _whole_vertex, "/v1beta1/projects/p-1/locations/us-central1", {"totalTokens": 3}
    ),
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": (Bedrock(), _whole_bedrock, "", {"inputTokens": 3}),
    "gpt-5.1": (
        OpenAIResponses(), _whole_responses, "/v1", {"object": "response.input_tokens", "input_tokens": 3}
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", WHOLE)
def test_counting_a_conversation(model: str, recorder: Any, same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    codec, ask, prefix, answer = WHOLE[model]
    recorder.answer(answer)
    ask(recorder.url)
    recorder.last.body = recorder.last.body.replace(b"parameters_json_schema", b"parametersJsonSchema")
    same(codec.count(model, CONVERSATION), recorder.last, prefix)
    assert codec.counted(msgspec.json.encode(answer)) == 3


def test_counting_a_conversation_where_the_sdk_has_no_call() -> None:
    """google-genai refuses system text and tools for the Gemini API, which takes them as a whole request; Cohere counts
    one text, here all that is said."""
    body = msgspec.json.decode(Gemini().count("gemini-3-pro", CONVERSATION).body)["generateContentRequest"]
    chat = msgspec.json.decode(Gemini().chat("gemini-3-pro", CONVERSATION, Profile(), stream=False).body)
    assert body == {"model": "models/gemini-3-pro", **chat}
    text = msgspec.json.decode(Cohere().count("command-a-03-2025", CONVERSATION).body)["text"]
    assert text.splitlines() == [
        msgspec.json.encode(
            {"name": "weather", "parameters": WEATHER.parameters, "description": "The weather."}
        ).decode(),
        "Be brief.",
        "Weather?",
        '{"weather":{"city":"Oslo"}}',
        "rain",
    ]


def test_a_model_counts_a_conversation(recorder: Any) -> None:
    recorder.answer({"input_tokens": 3})
    model = open_model("anthropic:claude-sonnet-5-5", base_url=recorder.url, api_key="test-key")
    assert model.tokens_of("Hi") == 3  # type: ignore[attr-defined]
    assert model.tokens_of([System("Be brief."), User("Hi")], tools=[WEATHER]) == 3  # type: ignore[attr-defined]
    assert sorted(recorder.last.json) == ["messages", "model", "system", "tools"]


@pytest.mark.parametrize("name", list(PROVIDERS))
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"input_tokens": "many"}'])
def test_an_unreadable_count_has_its_error(name: str, body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        PROVIDERS[name].codec.counted(body)


def test_those_that_count_none_say_so() -> None:
    with pytest.raises(InputError, match="counts no tokens"):
        OpenAIChat().count("m", TEXT)
    with pytest.raises(InputError, match="'bedrock:"):
        AnthropicBedrock().count("m", TEXT)
