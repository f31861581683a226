"""A stream that breaks: each format's decoder hands on what stands before the fault, wherever the bytes are cut."""

import time
from base64 import b64encode
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.messages import Delta
from kurabe.models.codecs._anthropic import Anthropic, AnthropicBedrock
from kurabe.models.codecs._bedrock import Bedrock
from kurabe.models.codecs._cohere import Cohere
from kurabe.models.codecs._gemini import Gemini
from kurabe.models.codecs._mistral import Mistral
from kurabe.models.codecs._openai_responses import OpenAIResponses
from kurabe.models.codecs.base import Codec
from kurabe.models.codecs.ollama import Ollama
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.testing.wire.aws import event


def sse(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


def chat(text: str) -> bytes:
    return sse({"choices": [{"index": 0, "delta": {"content": text}}]})


def gemini(text: str) -> bytes:
    return sse({"candidates": [{"content": {"parts": [{"text": text}]}}]})


def cohere(text: str) -> bytes:
    return sse({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}})


def responses(text: str) -> bytes:
    return sse({"type": "response.output_text.delta", "output_index": 0, "delta": text})


def converse(text: str) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


START = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
FAULT = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}


def piece(text: str) -> Any:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def chunk(value: Any) -> bytes:
    return event("chunk", {"bytes": b64encode(msgspec.json.encode(value)).decode()})


BROKEN = b"data: {nope\n\n"
# name: (codec, what comes before the fault, the fault, its kind)
STREAMS: dict[str, tuple[Codec, bytes, bytes, type[errors.ProviderError]]] = {
    "openai": (OpenAIChat(), chat("a") + chat("b"), sse({"error": {"message": "overloaded"}}), errors.OverloadedError),
    "mistral": (Mistral(), chat("a") + chat("b"), BROKEN, errors.UnreadableAnswerError),
    "responses": (
        OpenAIResponses(), responses("a") + responses("b"), sse({"type": "error", "message": "overloaded"}),
        errors.OverloadedError,
    ),
    "anthropic": (
        Anthropic(),
        sse(START, "content_block_start") + b"".join(sse(piece(text), "content_block_delta") for text in "ab"),
        sse(FAULT, "error"),
        errors.OverloadedError,
    ),
    "anthropic on bedrock": (
        AnthropicBedrock(), chunk(START) + chunk(piece("a")) + chunk(piece("b")), chunk(FAULT), errors.OverloadedError,
    ),
    "gemini": (
        Gemini(), gemini("a") + gemini("b"), sse({"error": {"code": 503, "message": "busy"}}), errors.OverloadedError,
    ),
    "bedrock": (Bedrock(), converse("a") + converse("b"), bytes(16), errors.UnreadableAnswerError),
    "cohere": (
        Cohere(), cohere("a") + cohere("b"), sse({"type": "message-end", "delta": {"finish_reason": "ERROR"}}),
        errors.ServerError,
    ),
    "ollama": (
        Ollama(), b'{"message": {"content": "a"}}\n{"message": {"content": "b"}}\n', b'{"error": "overloaded"}\n',
        errors.OverloadedError,
    ),
}  # fmt: skip


def read(codec: Codec, pieces: list[bytes]) -> tuple[list[Delta], errors.ProviderError]:
    """What came, and the error that the stream ended in."""
    decoder = codec.decoder()
    deltas: list[Delta] = []
    try:
        for data in pieces:
            deltas += decoder.feed(data)
        decoder.finish()
    except errors.ProviderError as error:
        return deltas, error
    raise AssertionError("no error")


@pytest.mark.parametrize("name", STREAMS)
@given(places=st.lists(st.integers(1, 600), max_size=6))
def test_what_stands_before_a_fault_is_handed_on(name: str, places: list[int]) -> None:
    codec, before, fault, kind = STREAMS[name]
    body = before + fault
    cuts = [0, *sorted({place for place in places if place < len(body)}), len(body)]
    for pieces in (
        [body[start:end] for start, end in pairwise(cuts)],
        [body[at : at + 1] for at in range(len(body))],
    ):
        deltas, error = read(codec, pieces)
        assert deltas == [Delta("a"), Delta("b")]
        assert type(error) is kind
        assert error.partial.text == "ab"


@pytest.mark.parametrize("name", STREAMS)
def test_a_fault_stays(name: str) -> None:
    """However often one asks."""
    codec, before, fault, kind = STREAMS[name]
    decoder = codec.decoder()
    assert decoder.feed(before + fault) == [Delta("a"), Delta("b")]
    for _ in range(2):
        with pytest.raises(kind):
            decoder.feed(b"")
        with pytest.raises(kind):
            decoder.finish()


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    "body", [b'{"error": {"type": "x", "message": "it is overloaded"}}', b"<html><h1>busy</h1></html>", b""]
)
def test_what_is_no_stream_at_all_is_a_typed_error(name: str, body: bytes) -> None:
    _, error = read(STREAMS[name][0], [body])
    assert isinstance(error, errors.OverloadedError | errors.UnreadableAnswerError | errors.CutStreamError)
    if body.startswith(b"{") and "bedrock" not in name:
        assert type(error) is errors.OverloadedError
        assert "it is overloaded" in error.message
    if body.startswith(b"<"):
        assert type(error) is errors.UnreadableAnswerError


ARGUMENTS = msgspec.json.encode({"a": "x" * 200_000}).decode()
TENS = [ARGUMENTS[at : at + 10] for at in range(0, len(ARGUMENTS), 10)]
CALL_START = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "1", "name": "f"}}


def tool(piece: dict[str, Any]) -> bytes:
    return sse({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **piece}]}}]})


def input_piece(text: str) -> Any:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}}


LONG_CALLS: dict[str, tuple[Codec, bytes]] = {
    "openai": (
        OpenAIChat(),
        tool({"id": "1", "function": {"name": "f"}})
        + b"".join(tool({"function": {"arguments": piece}}) for piece in TENS)
        + b"data: [DONE]\n\n",
    ),
    "anthropic": (
        Anthropic(),
        sse(CALL_START, "content_block_start")
        + b"".join(sse(input_piece(piece), "content_block_delta") for piece in TENS)
        + sse({"type": "message_stop"}, "message_stop"),
    ),
    "bedrock": (
        Bedrock(),
        event("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "1", "name": "f"}}})
        + b"".join(
            event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": piece}}})
            for piece in TENS
        )
        + event("messageStop", {"stopReason": "tool_use"})
        + event("metadata", {"usage": {}}),
    ),
}


@pytest.mark.parametrize("name", LONG_CALLS)
def test_long_arguments_take_time_that_grows_with_their_length(name: str) -> None:
    """20,000 pieces of ten bytes; joining what came with each would copy some 2 GB."""
    codec, body = LONG_CALLS[name]
    decoder = codec.decoder()
    started = time.process_time()
    for at in range(0, len(body), 1400):
        decoder.feed(body[at : at + 1400])
    reply = decoder.finish()
    assert time.process_time() - started < 2
    assert reply.tool_calls[0].arguments == {"a": "x" * 200_000}
