"""The event loop behind calls that are not awaited: one thread of the process, started when first needed."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from kurabe.errors import ModelError

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_ident: int | None = None  # of the loop's thread


def background() -> asyncio.AbstractEventLoop:
    """The loop, running in a daemon thread."""
    global _loop, _ident
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="kurabe-io", daemon=True)
            thread.start()
            _loop, _ident = loop, thread.ident
        return _loop


def start(coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
    """Run in the background; the future can be cancelled.

    Raises ModelError on the background loop itself, where the caller's waiting would never end: in a generator that
    `chat_many` draws from, say.
    """
    if threading.get_ident() == _ident:
        coroutine.close()
        raise ModelError("a call inside the requests of another one would wait for itself; make those requests before")
    return asyncio.run_coroutine_threadsafe(coroutine, background())


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run and wait for the result, also where an event loop is running in this thread; Ctrl-C cancels the call."""
    future = start(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _forget() -> None:
    global _loop, _ident, _lock
    _loop, _ident, _lock = None, None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
