"""What every model can do, wherever it runs."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from kurabe.messages import Reply, Request


@runtime_checkable
class Model(Protocol):
    """A chat model. Safe to use from one thread at a time; `close` gives its memory back."""

    @property
    def reference(self) -> str:
        """The reference it was opened by, such as `gguf:smollm2-135m`."""

    def chat_many(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (index of the request, reply) as replies come, in any order; requests are drawn lazily."""

    def close(self) -> None:
        """Release the model's memory."""
