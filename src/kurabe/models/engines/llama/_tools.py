"""Chat with tools, by llama.cpp's own chat endpoint: it shows the model the tools as its template does, holds the
answer to a call's form where that is asked for, and reads the calls out of what the model writes."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kurabe.errors import ModelError
from kurabe.messages import Delta, Reply, Request
from kurabe.models.codecs.base import Profile
from kurabe.models.codecs.openai_chat import OpenAIChat
from kurabe.models.engines.llama.server import Lane, Servers, first_seconds

_CODEC: Final = OpenAIChat()
_PROFILE: Final = Profile(quirks=frozenset({"no_strict"}))


def chat_with_tools(
    servers: Servers,
    lane: Lane,
    request: Request,
    cancelled: threading.Event,
    put: Callable[[list[Delta]], None] | None = None,
) -> Reply:
    """The answer to a request with tools; `put` gets its pieces as they come. Raises ModelError."""
    began = time.perf_counter()
    body: dict[str, Any] = msgspec.json.decode(_CODEC.chat("", request, _PROFILE, stream=True).body)
    body |= {"temperature": request.temperature or 0.0, "seed": request.seed or 0, "return_progress": True}
    decoder = _CODEC.decoder()
    last: dict[str, Any] = {}

    def take(chunk: dict[str, Any]) -> bool:
        last.update(chunk)
        deltas = decoder.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
        if put is not None and deltas:
            put(deltas)
        return cancelled.is_set()

    servers.complete(lane, body, take, chat=True)
    if cancelled.is_set():
        raise ModelError(f"the model {servers.reference!r} was stopped in the middle of an answer")
    decoder.feed(b"data: [DONE]\n\n")
    reply = decoder.finish()
    took = {"seconds": time.perf_counter() - began, "first_seconds": first_seconds(last)}
    return msgspec.structs.replace(reply, usd=0.0, raw=b"", model="", **took)
