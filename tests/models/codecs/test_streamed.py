"""A stream that breaks: each format's decoder hands on what stands before the fault, wherever the bytes are cut."""

import struct
from base64 import b64encode
from itertools import pairwise
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe import errors
from kurabe.messages import Delta
from kurabe.models.codecs.anthropic import Anthropic, AnthropicBedrock
from kurabe.models.codecs.base import Codec
from kurabe.models.codecs.bedrock import Bedrock
from kurabe.models.codecs.cohere import Cohere
from kurabe.models.codecs.gemini import Gemini
from kurabe.models.codecs.mistral import Mistral
from kurabe.models.codecs.ollama import Ollama
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.models.codecs.openai_responses import OpenAIResponses


def sse(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


def frame(kind: str, value: Any) -> bytes:
    """A message of an AWS event stream."""
    names = {":message-type": "event", ":event-type": kind}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(text)) + text.encode()
        for name, text in names.items()
    )
    payload = msgspec.json.encode(value)
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return whole + struct.pack("!I", crc32(whole))


def chat(text: str) -> bytes:
    return sse({"choices": [{"index": 0, "delta": {"content": text}}]})


def gemini(text: str) -> bytes:
    return sse({"candidates": [{"content": {"parts": [{"text": text}]}}]})


def cohere(text: str) -> bytes:
    return sse({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}})


def responses(text: str) -> bytes:
    return sse({"type": "response.output_text.delta", "output_index": 0, "delta": text})


def converse(text: str) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


START = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
FAULT = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}


def piece(text: str) -> Any:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def chunk(value: Any) -> bytes:
    return frame("chunk", {"bytes": b64encode(msgspec.json.encode(value)).decode()})


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
