"""LightGBM models kept as text, and how many threads they use."""

import os

import lightgbm
import numpy as np

from kurabe.contestants.alias import saved
from kurabe.errors import ContestantError

THREADS = "KURABE_THREADS"
"""The environment variable that says how many threads a worker's contestants may use."""


def processors() -> int:
    """The processors that this process may use; fewer in a worker of a contest, which shares them with others."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, int(os.environ.get(THREADS, there)))


def threads(values: int) -> int:
    """Threads for boosting on a matrix of so many values: on a small one they wait for each other more than they work,
    and on a busy machine ten times as long."""
    return 1 if values < 5_000_000 else processors()


@saved
class Booster:
    """A LightGBM model that is kept as its own text format."""

    def __init__(self, text: str) -> None:
        self.text = text

    def predict(self, F: np.ndarray) -> np.ndarray:
        try:
            if "_booster" not in self.__dict__:
                self._booster = lightgbm.Booster(model_str=self.text)
            return np.asarray(self._booster.predict(F, num_threads=threads(F.size)))
        except lightgbm.basic.LightGBMError as error:
            raise ContestantError(f"the saved model cannot be read: {error}") from None

    def __getstate__(self) -> dict[str, str]:
        return {"text": self.text}
