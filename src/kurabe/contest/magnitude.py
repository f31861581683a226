"""Errors of any magnitude: their squares must stay within the range of a float, whatever unit the target has."""

from collections.abc import Sequence

import numpy as np

from kurabe.tasks.metrics import Metric, Statistics

_SAFE = 2.0**200
"""Within this and its inverse the squares of squares are floats."""


def unit_of(metric: Metric, statistics: Sequence[Statistics]) -> float:
    """The power of two of the size of these errors, (n, k) for each contestant; 1 where they are of no extreme size.

    By a power of two no digit changes. Scores with bounds, and those of several statistics, have no unit.
    """
    if metric.bounds is not None or metric.gradient is not None:
        return 1.0
    largest = max(float(np.abs(np.asarray(rows)[:, -1]).max(initial=0.0)) for rows in statistics)
    if not 0 < largest < np.inf or 1 / _SAFE < largest < _SAFE:
        return 1.0
    return float(2.0 ** round(np.log2(largest) / (2 if _is_squared(metric) else 1)))


def in_unit(metric: Metric, statistics: Statistics, unit: float) -> Statistics:
    """The statistics of errors measured in `unit`."""
    if unit == 1.0:
        return statistics
    if metric.name == "r2":
        return np.asarray(np.asarray(statistics) / unit / np.array([unit, 1.0, unit]))
    return np.asarray(np.asarray(statistics) / unit / (unit if _is_squared(metric) else 1.0))


def score_unit(metric: Metric, unit: float) -> float:
    """What a score of errors in `unit` is to be multiplied by; R² has no unit."""
    return 1.0 if metric.name == "r2" else unit


def _is_squared(metric: Metric) -> bool:
    return metric.name == "r2" or float(metric.finish(np.array([4.0]))) == 2.0
