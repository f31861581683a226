"""The target of kind `number` on its own or on the log scale, and back."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from kurabe.contestants.alias import saved
from kurabe.errors import ContestantError

SQUARED = frozenset({"root_mean_squared_error", "r2"})


@saved
@dataclass(frozen=True)
class Scale:
    """A monotone map between the target and the scale that a model learns on.

    z = (y - center) / unit, or with `log` z = (log(y + shift) - center) / unit. `smear` multiplies what comes back from
    the log scale: 1 where the metric asks for a median, which passes through a monotone map; for squared metrics, which
    ask for a mean, the mean of exp(residual) (Duan, Smearing estimate, JASA 1983). Guesses stay within `low` and
    `high`, the range of the training target.
    """

    log: bool
    shift: float
    low: float
    high: float
    center: float = 0.0
    unit: float = 1.0
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
        center, unit = _standard(np.log(y + shift) if log else y)
        return cls(log, shift, float(y.min()), float(y.max()), center, unit)

    def forward(self, y: np.ndarray) -> np.ndarray:
        """(n,) target to (n,) scale. With `log` a value below the training target's range counts as its lowest."""
        z = np.log(np.maximum(y, self.low) + self.shift) if self.log else y
        return np.asarray((z - self.center) / self.unit)

    def back(self, z: np.ndarray) -> np.ndarray:
        """(n,) scale to (n,) guesses, within the training target's range."""
        y = z * self.unit + self.center
        if self.log:
            y = np.exp(np.minimum(y, 700.0)) * self.smear - self.shift
        return np.asarray(np.clip(y, self.low, self.high))

    def smearing(self, y: np.ndarray, z: np.ndarray) -> float:
        """The mean of exp(residual) of scale values z against a target y they were not learned from."""
        if not self.log or not len(y):
            return 1.0
        return float(np.mean(np.exp(np.clip((self.forward(y) - z) * self.unit, -5, 5))))


def _standard(values: np.ndarray) -> tuple[float, float]:
    """(center, unit) that bring values to a size where trees, which compare with fixed thresholds and in part in single
    precision, lose nothing. The unit is the power of two nearest the standard deviation, and the center a multiple of
    1,024 units, so that values whose size is usual keep every digit."""
    middle = float(np.median(values))
    largest = float(np.abs(values - middle).max())
    if largest == 0 or not np.isfinite(largest):
        return 0.0, 1.0
    spread = largest * float(np.sqrt(np.mean(((values - middle) / largest) ** 2)))
    unit = float(np.exp2(np.round(np.log2(spread))))
    return float(np.round(middle / unit / 1024) * 1024 * unit), unit


def log_fits(y: np.ndarray) -> bool:
    """Whether the log scale is to be thought of: no value below 0, and not all of them 0."""
    return bool((y >= 0).all() and (y > 0).any())
