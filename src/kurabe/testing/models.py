"""Models that answer by script, without a server."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

from kurabe.messages import Delta, Reply, Request, Usage
from kurabe.models.base import ChatModel
from kurabe.testing.wire.base import pieces_of


class ScriptedModel(ChatModel):
    """Answers each request by `script`: a function of the request, or a list drawn from in turn (the last one repeats).

    `requests` holds every request it was sent, in order.
    """

    def __init__(self, script: Callable[[Request], str] | Sequence[str], *, usd: float | None = 0.0) -> None:
        self.reference = "test:scripted"
        self.requests: list[Request] = []
        self.closed = False
        self._script = script
        self._usd = usd

    @property
    def calls(self) -> int:
        return len(self.requests)

    async def ask(self, request: Request) -> Reply:
        """Answer by the script."""
        return self._replied(request)

    def chat_batches(
        self, requests: Iterable[Request], stop: Callable[[], bool] | None = None
    ) -> Iterator[list[tuple[int, Reply]]]:
        """One after the other, in order, in the caller's thread."""
        for index, request in enumerate(requests):
            yield [(index, self._replied(request))]

    async def _stream(self, request: Request) -> AsyncGenerator[list[Delta] | Reply, None]:
        reply = self._replied(request)
        for piece in pieces_of(reply.text):
            yield [Delta(piece)]
        yield reply

    def _replied(self, request: Request) -> Reply:
        self.requests.append(request)
        text = self._answer(request)
        usage = Usage(input=sum(len(message.text.split()) for message in request.messages), output=len(text.split()))
        return Reply(text, "stop", usage, self._usd, 0.0)

    def _answer(self, request: Request) -> str:
        if callable(self._script):
            return self._script(request)
        return self._script[min(self.calls, len(self._script)) - 1]

    def close(self) -> None:
        self.closed = True


class EchoModel(ScriptedModel):
    """Answers with the last message's text."""

    def __init__(self) -> None:
        super().__init__(lambda request: request.messages[-1].text)
        self.reference = "test:echo"
