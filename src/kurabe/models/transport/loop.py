"""The event loop behind calls that are not awaited: one thread of the process, started when first needed."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background() -> asyncio.AbstractEventLoop:
    """The loop, running in a daemon thread."""
    global _loop
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="kurabe-io", daemon=True).start()
            _loop = loop
        return _loop


def start(coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
    """Run in the background; the future can be cancelled."""
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
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
