"""A chain of models: where one fails, the next is asked."""

import contextlib
from collections.abc import AsyncGenerator, Sequence

from kurabe.errors import BadRequestError, ContentFilteredError, ContextTooLongError, ProviderError
from kurabe.messages import Delta, Reply, Request
from kurabe.models.base import ChatModel


def is_final(error: ProviderError) -> bool:
    """Whether the next model is not to be asked: it would refuse the request as well, or should not be asked what
    another one's filter stopped. What is too long for one may fit the next."""
    return isinstance(error, BadRequestError | ContentFilteredError) and not isinstance(error, ContextTooLongError)


class Fallback(ChatModel):
    """Asks the first model, and where its provider fails, the next. The Reply's `model` says who answered."""

    def __init__(self, models: Sequence[ChatModel]) -> None:
        self.models = tuple(models)
        self.reference = " | ".join(model.reference for model in models)
        self.concurrency = models[0].concurrency
        known = [model.context for model in models if model.context is not None]
        self.context = min(known) if known else None

    async def ask(self, request: Request) -> Reply:
        """Answer; raises the last model's error where all fail."""
        for model in self.models[:-1]:
            try:
                return await model.ask(request)
            except ProviderError as error:
                if is_final(error):
                    raise
        return await self.models[-1].ask(request)

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        """The next model is asked only while nothing was passed on."""
        for position, model in enumerate(self.models):
            passed_on = False
            try:
                async with contextlib.aclosing(model._stream(request)) as pieces:
                    async for piece in pieces:
                        passed_on = True
                        yield piece
                return
            except ProviderError as error:
                if passed_on or is_final(error) or position == len(self.models) - 1:
                    raise

    def takes(self, setting: str) -> bool:
        """Whether every model of the chain takes a field of Request."""
        return all(model.takes(setting) for model in self.models)

    def close(self) -> None:
        """Close every model of the chain."""
        for model in self.models:
            model.close()
