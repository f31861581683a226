"""A metric: the share of guesses that are at most 10 % off."""

import numpy as np

from kurabe import Metric


def _close(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return (np.abs(guess - truth) <= 0.1 * np.abs(truth)).astype(float)[:, None]


WITHIN_10_PERCENT = Metric(
    name="within_10_percent",
    title="within 10 %",
    kind="number",
    greater_is_better=True,
    unit="share",
    statistics=_close,
    finish=lambda means: means[..., 0],
    proportion=True,
)
