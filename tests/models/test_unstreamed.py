"""A server that ignores `stream: true` and answers plain JSON: the answer is paid for, so it is read."""

import json
from typing import Any

import pytest

from kurabe import errors
from kurabe.messages import Reply, ToolCall
from kurabe.models.codecs._gemini import Gemini
from kurabe.models.codecs.base import Codec
from kurabe.models.codecs.ollama import Ollama
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.testing import Fault, Simulator
from kurabe.testing.simulator import _WIRES
from kurabe.testing.wire.base import Call
from kurabe.testing.wire.ollama import OllamaWire

PROTOCOLS = tuple(_WIRES)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "test-key")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_whole_answer_is_one_delta(protocol: str, key: None) -> None:
    with Simulator(protocol, answer="Grüße 🌍, all of it", streams=False) as server, server.open() as model:
        stream = model.stream("Hello")
        assert [delta.text for delta in stream] == ["Grüße 🌍, all of it"]
        plain = model.chat("Hello")
        assert (stream.reply.text, stream.reply.usage) == (plain.text, plain.usage)
        assert stream.reply.finish_reason == "stop"
        assert server.calls == 2  # it was not asked again


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_tool_call_of_it_is_a_delta_too(protocol: str, key: None) -> None:
    call = ToolCall("t1", "weather", {"city": "Oslo"})
    with Simulator(protocol, answer=call, streams=False) as server, server.open() as model:
        stream = model.stream("Weather?")
        (delta,) = list(stream)
        assert (delta.name, json.loads(delta.arguments)) == ("weather", {"city": "Oslo"})
        assert stream.reply.tool_calls[0].arguments == {"city": "Oslo"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", [Fault.error_event("it is overloaded"), Fault.invalid_json(), Fault.end()])
def test_what_is_wrong_with_it_is_a_typed_error(protocol: str, fault: Fault, key: None) -> None:
    with (
        Simulator(protocol, answer="a b c", streams=False, faults=fault) as server,
        server.open(attempts=1) as model,
        pytest.raises(errors.ProviderError),
    ):
        list(model.stream("Hello"))


ENDS: dict[str, tuple[Codec, bytes]] = {
    "ollama": (Ollama(), b'{"message": {"content": "a"}}\n{"message": {"content": "b"}, "done": true}'),
    "openai": (
        OpenAIChat(),
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}',
    ),
    "gemini": (
        Gemini(),
        b'data: {"candidates": [{"content": {"parts": [{"text": "a"}]}}]}\n\n'
        b'data: {"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]}',
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_last_event_without_its_line_end_is_passed_on_too(name: str) -> None:
    codec, body = ENDS[name]
    decoder = codec.decoder()
    assert [delta.text for delta in decoder.feed(body)] == ["a"]
    assert decoder.finish().text == "ab"
    assert [delta.text for delta in decoder.late] == ["b"]


def test_a_stream_without_its_last_line_end_is_passed_on_whole() -> None:
    class Blunt(OllamaWire):
        def events(self, call: Call, reply: Reply) -> list[bytes]:
            return [b'{"message": {"content": "a"}}\n', b'{"message": {"content": "b"}, "done": true}']

    with Simulator("ollama") as server, server.open() as model:
        server._wire = Blunt()
        stream = model.stream("Hello")
        assert [delta.text for delta in stream] == ["a", "b"]
        assert stream.reply.text == "ab"


def test_events_of_gemini_in_a_list() -> None:
    """What comes where a proxy drops `alt=sse`."""

    def event(text: str, **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, **more}]}

    decoder = Gemini().decoder()
    assert decoder.feed(json.dumps([event("He"), event("llo", finishReason="STOP")]).encode()) == []
    assert decoder.finish().text == "Hello"
    decoder = Gemini().decoder()
    decoder.feed(json.dumps([event("He")]).encode())
    with pytest.raises(errors.CutStreamError) as cut:
        decoder.finish()
    assert cut.value.partial.text == "He"
