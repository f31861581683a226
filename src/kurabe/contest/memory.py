"""The most memory a piece of work takes, seen from outside."""

import ctypes
import sys
import threading
from types import TracebackType
from typing import Self

import psutil

INTERVAL = 0.02  # seconds between looks; a peak shorter than this can be missed


class PeakMemory:
    """Context manager: `peak` is how far, in bytes, the process's resident memory rose above where it stood on entry.

    Memory that the allocator kept from earlier work is handed back first (glibc), so that it is not used unseen.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._process = psutil.Process()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
            if trim is not None:
                trim(0)
        self._start = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, name="kurabe-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        self.peak = max(self.peak, self._process.memory_info().rss - self._start)

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look()
        self._look()
