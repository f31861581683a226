"""Models that answer by script, for tests of what stands on top of a model."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from kurabe.messages import Reply, Request, Usage


class ScriptedModel:
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

    def chat_many(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            self.requests.append(request)
            text = self._answer(request)
            usage = Usage(
                input=sum(len(message.text.split()) for message in request.messages), output=len(text.split())
            )
            yield index, Reply(text, "stop", usage, self._usd, 0.0)

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
