"""Waits that no paid answer hangs on: for a turn, for a provider's pause, for the budget, before another attempt.

They may be given up at any moment. A batch of calls collects its own, to end them together when nobody wants the
answers any more; a call that is under way at the provider is never among them.
"""

import asyncio
from contextvars import ContextVar

_batch: ContextVar["Batch | None"] = ContextVar("kurabe_batch", default=None)


class Batch:
    """The waits of one batch of calls. To be used on one event loop, by `with` around the calls."""

    def __init__(self) -> None:
        self._idle: set[asyncio.Task[object]] = set()

    def __enter__(self) -> "Batch":
        self._token = _batch.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _batch.reset(self._token)

    def end_waits(self) -> None:
        """Cancel each call of the batch that is only waiting."""
        for task in list(self._idle):
            task.cancel()

    async def sleep(self, seconds: float) -> None:
        """Sleep as a wait of this batch."""
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._idle.discard(task)


def in_batch() -> bool:
    """Whether the current call is one of a batch, which queues its calls: waiting for their turns is no time-out."""
    return _batch.get() is not None


async def wait(seconds: float, *, sent: bool = False) -> None:
    """Sleep. `sent`: whether a call that is given up meanwhile may have to be paid for, as in ProviderError."""
    batch = _batch.get()
    try:
        await (asyncio.sleep(seconds) if batch is None else batch.sleep(seconds))
    except asyncio.CancelledError as error:
        error.sent = sent  # type: ignore[attr-defined]
        raise
