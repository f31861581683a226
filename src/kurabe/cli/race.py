"""Several models that answer the same question at the same time."""

import asyncio
from typing import Any

from msgspec import to_builtins

from kurabe.errors import KurabeError
from kurabe.messages import Reply, System, User
from kurabe.models import open_model


class Runner:
    """One model's answer as far as it has come; `error` where it failed."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.pieces: list[str] = []
        self.reply: Reply | None = None
        self.error: KurabeError | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.pieces)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""
        reply = self.reply
        return {
            "model": self.reference,
            "text": self.text.encode("utf-8", "replace").decode(),
            "error": None if self.error is None else str(self.error),
            "finish_reason": None if reply is None else reply.finish_reason,
            "usage": None if reply is None else to_builtins(reply.usage),
            "usd": None if reply is None else reply.usd,
            "first_seconds": None if reply is None else reply.first_seconds,
            "seconds": None if reply is None else reply.seconds,
        }


async def race(runners: list[Runner], system: str | None, question: str, settings: dict[str, Any]) -> None:
    """Let all answer at once; each keeps its own error."""
    messages = [*([System(system)] if system else []), User(question)]
    await asyncio.gather(*(_answer(runner, messages, settings) for runner in runners))


async def _answer(runner: Runner, messages: list[Any], settings: dict[str, Any]) -> None:
    try:
        model = await asyncio.to_thread(open_model, runner.reference)  # a local one takes seconds to load
        try:
            async with model.astream(messages, **settings) as stream:
                async for delta in stream:
                    if delta.text:
                        runner.pieces.append(delta.text)
                runner.reply = stream.reply
        finally:
            await asyncio.to_thread(model.close)
    except KurabeError as error:
        runner.error = error
