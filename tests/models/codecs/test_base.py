"""What the codecs share: `extra` over the body, the content of a reply, errors of any shape."""

from typing import Any

import msgspec
import pytest

from kurabe.errors import ContextTooLongError
from kurabe.messages import OutputFormat, Part, Reasoning, Request, Text, ToolCall, User
from kurabe.models.codecs._anthropic import Anthropic, AnthropicBedrock, AnthropicVertex
from kurabe.models.codecs._bedrock import Bedrock
from kurabe.models.codecs._cohere import Cohere
from kurabe.models.codecs._gemini import Gemini, Vertex
from kurabe.models.codecs._mistral import Mistral
from kurabe.models.codecs._openai_responses import OpenAIResponses
from kurabe.models.codecs.base import Codec, Profile, generic_error, joined, merged, provider_error
from kurabe.models.codecs.openai_chat import OpenAIChat

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
# (codec, the object in its body that holds the schema of the output)
OUTPUTS: list[tuple[Codec, str]] = [
    (OpenAIChat(), "response_format"),
    (Mistral(), "response_format"),
    (OpenAIResponses(), "text"),
    (Anthropic(), "output_config"),
    (AnthropicVertex(), "output_config"),
    (AnthropicBedrock(), "output_config"),
    (Gemini(), "generationConfig"),
    (Vertex(), "generationConfig"),
    (Bedrock(), "outputConfig"),
    (Cohere(), "response_format"),
]


@pytest.mark.parametrize(("codec", "place"), OUTPUTS)
@pytest.mark.parametrize("stream", [False, True])
def test_extra_adds_to_an_object_and_takes_nothing_from_it(codec: Codec, place: str, stream: bool) -> None:
    asked = Request((User("?"),), output=OutputFormat("n", SCHEMA))
    alone = msgspec.json.decode(codec.chat("m", asked, Profile(), stream=stream).body)
    asked = msgspec.structs.replace(asked, extra={place: {"new": 1}, "other": [2]})
    body = msgspec.json.decode(codec.chat("m", asked, Profile(), stream=stream).body)
    assert body == alone | {place: alone[place] | {"new": 1}, "other": [2]}


def test_extra_goes_over_what_is_there() -> None:
    assert merged({"a": 1, "b": {"c": 1, "d": 2}}, {"a": {"x": 1}, "b": {"c": 3}, "e": None}) == {
        "a": {"x": 1},
        "b": {"c": 3, "d": 2},
        "e": None,
    }
    assert merged({"b": {"c": 1}}, {"b": 2}) == {"b": 2}


def test_the_content_of_a_reply() -> None:
    assert joined([]) == ""
    assert joined([Text("a"), Text("b")]) == "ab"
    kept: list[list[Part]] = [[Text("a", "signed")], [Reasoning("a")], [Text("a"), ToolCall("1", "f")]]
    for parts in kept:
        assert joined(parts) == tuple(parts)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"error": {"message": "m", "code": "c"}}, ("c", "m")),
        ({"error": None, "message": "m", "code": 7}, ("7", "m")),
        ({"error": "m"}, ("", "m")),
        ([{"error": {"message": "m", "status": "S", "code": None}}], ("S", "m")),
        ({"detail": [{"msg": "m"}]}, ("", '[{"msg":"m"}]')),
        ({"error": []}, ("", '{"error":[]}')),
        (None, ("", "null")),
    ],
)
def test_errors_of_any_shape(body: Any, found: tuple[str, str]) -> None:
    assert generic_error(msgspec.json.encode(body)) == found


def test_a_page_is_read_without_its_tags() -> None:
    page = b"<html><head><title>502</title><style>p {}</style></head>\n<body><h1>Bad</h1> gateway \xff</body></html>"
    assert generic_error(page) == ("", "Bad gateway �")


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        ("prompt is too long: 215000 tokens > 200000 maximum", (215_000, 200_000)),
        ("Model gpt-4-0613: maximum context length is 8,192 tokens, you requested 9,000 tokens", (9_000, 8_192)),
        ("claude-3-5-20241022: input is too long: 205000 of 200000 tokens", (205_000, 200_000)),
        ("The input token count (1200000) exceeds the maximum allowed (1048576).", (1_200_000, 1_048_576)),
        (
            "too many tokens: size limit exceeded by 8192 tokens. The limit for this model is 128000 tokens.",
            (136_192, 128_000),
        ),
        ("gpt-4-0613: the prompt is too long for its 8192 tokens", (None, None)),
    ],
)
def test_by_how_much_a_conversation_is_too_long(message: str, counts: tuple[int | None, int | None]) -> None:
    error = provider_error(400, "", message)
    assert isinstance(error, ContextTooLongError)
    assert (error.tokens, error.limit) == counts
