"""The target of kind `number` on its own or on the log scale, and back."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from kurabe.errors import ContestantError

SQUARED = frozenset({"root_mean_squared_error", "r2"})


@dataclass(frozen=True)
class Scale:
    """A monotone map between the target and the scale that a model learns on.

    With `log`, z = log(y + shift). `smear` multiplies what comes back from the log scale: 1 where the metric asks for a
    median, which passes through a monotone map; for squared metrics, which ask for a mean, the mean of exp(residual)
    (Duan, Smearing estimate, JASA 1983). Guesses stay within `low` and `high`, the range of the training target.
    """

    log: bool
    shift: float
    low: float
    high: float
    smear: float = 1.0

    @classmethod
    def of(cls, y: np.ndarray, *, log: bool) -> Self:
        """The scale for a target, (n,). The shift, a fiftieth of the median, keeps values near 0 from weighing most.

        Raises ContestantError where the log of a negative target is asked for.
        """
        if log and not log_fits(y):
            count = int((y < 0).sum())
            raise ContestantError(
                f"{count} target values are below 0 and have no logarithm: set log to false or 'auto'"
            )
        shift = float(np.median(y)) / 50 or 1.0
        return cls(log, shift, float(y.min()), float(y.max()))

    def forward(self, y: np.ndarray) -> np.ndarray:
        """(n,) target to (n,) scale."""
        return np.asarray(np.log(y + self.shift)) if self.log else y

    def back(self, z: np.ndarray) -> np.ndarray:
        """(n,) scale to (n,) guesses, within the training target's range."""
        if self.log:
            z = np.exp(np.minimum(z, 700.0)) * self.smear - self.shift
        return np.asarray(np.clip(z, self.low, self.high))

    def smearing(self, y: np.ndarray, z: np.ndarray) -> float:
        """The mean of exp(residual) of scale values z against a target y they were not learned from."""
        return float(np.mean(np.exp(np.clip(self.forward(y) - z, -5, 5)))) if self.log and len(y) else 1.0


def log_fits(y: np.ndarray) -> bool:
    """Whether the log scale is to be thought of: no value below 0, and not all the same."""
    return bool((y >= 0).all() and (y > 0).any())
