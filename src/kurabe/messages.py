"""The values that pass between contestants and models: frozen, comparable, free of behaviour."""

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `input` counts every prompt token; `cached` is the part of it that was not evaluated anew."""

    input: int
    output: int
    cached: int = 0


class Request(msgspec.Struct, frozen=True):
    """One chat call, complete in itself.

    `prefill` is put at the beginning of the assistant's turn and the model continues it; it is not part of the reply's
    text. `grammar` is a GBNF grammar that the answer must follow. `max_tokens` counts tokens of the answer.
    """

    messages: tuple[Message, ...]
    prefill: str = ""
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    grammar: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """A model's answer. `usd` is None where the cost is unknown, 0.0 where there is none. `seconds` is wall time."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    usd: float | None
    seconds: float
