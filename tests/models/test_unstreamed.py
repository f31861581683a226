"""A server that ignores `stream: true` and answers plain JSON: the answer is paid for, so it is read."""

import json
from typing import Any

import pytest

from kurabe import errors
from kurabe.messages import ToolCall
from kurabe.models.codecs.gemini import Gemini
from kurabe.testing import Fault, Simulator
from kurabe.testing.simulator import _WIRES

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
