"""Scores of parts of the test rows, with intervals: as rows accumulate, and for slices of a column.

The board's own intervals are resampled; these are for looking, and have Student's quantiles, so that thousands of them
take no time.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from kurabe.contest.evidence import Entry, Evidence, usable
from kurabe.contest.intervals import score_intervals
from kurabe.contest.intervals import scored as by_units
from kurabe.contest.units import Units
from kurabe.tasks.metrics import Metric, Statistics, metric_for

Estimate = tuple[float, float, float]
MAX_COLUMNS = 30
_CHECKPOINTS = 40
_QUANTILES = 5
_VALUES = 8
_LABEL = 40


@dataclass(frozen=True, eq=False)
class Scored:
    """One contestant's answered rows: `positions` in the test part, (m,), the metric's `statistics` of them, (m, k),
    `loss`, (m,), how wrong each is, and their `units`."""

    name: str
    positions: np.ndarray
    statistics: Statistics
    loss: np.ndarray
    units: Units


@dataclass(frozen=True, eq=False)
class Slicing:
    """A column cut into slices: `labels` in order, and `codes`, (n,), each test row's slice."""

    column: str
    labels: tuple[str, ...]
    codes: np.ndarray


def metric_of(evidence: Evidence) -> Metric:
    """The metric by which the evidence is scored."""
    return metric_for(evidence.metric, evidence.kind)


def scored(evidence: Evidence, entry: Entry) -> Scored:
    """The rows that `entry` answered, with how wrong each is."""
    metric = metric_of(evidence)
    mask = usable(entry)
    truth, guess = evidence.truth[mask], entry.guesses[mask]
    statistics, loss = metric.statistics(truth, guess), metric.row_loss(truth, guess)
    return Scored(entry.name, np.flatnonzero(mask), statistics, loss, evidence.units.on(mask))


def estimate(metric: Metric, rows: Statistics, units: Units) -> Estimate:
    """Score and 95 % interval of some rows' statistics, (n, k), which are of these units; NaN where they have no score.

    The intervals are the board's, with Student's quantiles in place of resampled ones.
    """
    if not rows.shape[0]:
        return math.nan, math.nan, math.nan
    one = by_units(metric, rows, units)
    if units.count < 2:
        return one.score(metric), math.nan, math.nan
    return (one.score(metric), *score_intervals(metric, [one], resamples=0)[0])


def accumulated(metric: Metric, one: Scored) -> list[tuple[int, Estimate]]:
    """(rows so far, estimate over them) at up to 40 even steps, in the order of the test part."""
    rows, n = one.statistics, len(one.positions)
    places = np.arange(n)
    steps = np.unique(np.linspace(min(n, max(10, n // _CHECKPOINTS)), n, _CHECKPOINTS).astype(int))
    return [(int(step), estimate(metric, rows[:step], one.units.on(places < step))) for step in steps if step > 0]


def slicings(evidence: Evidence) -> list[Slicing]:
    """The columns by which the test rows can be cut, at most 30: numbers at their quantiles, other values by how often
    they come, and the length of the input. Columns with one value, or with hardly any value twice, are left out, and so
    are numbers of the rows; texts that are mostly different stand last."""
    rows = evidence.rows
    names = [name for name in rows.columns if name != "input" and not _numbers_rows(rows[name])]
    names.sort(key=lambda name: _mostly_different(rows[name]))
    found = [slicing for name in names if (slicing := _slicing(name, rows[name]))]
    if target_column(evidence) is None:
        truth = pl.Series("truth", evidence.truth.tolist())
        found = [*filter(None, [_slicing("truth", truth)]), *found]
    if "input" in rows.columns:
        length = rows["input"].cast(pl.String).str.len_chars()
        found += filter(None, [_slicing("length of the input (characters)", length)])
    return found[:MAX_COLUMNS]


def _numbers_rows(column: pl.Series) -> bool:
    return column.dtype.is_integer() and len(column) > _VALUES and column.n_unique() == len(column)


def _mostly_different(column: pl.Series) -> bool:
    return column.dtype == pl.String and column.n_unique() > len(column) / 2


def target_column(evidence: Evidence) -> str | None:
    """The column that holds the truth, or None where no column does."""
    return next((name for name in evidence.rows.columns if _is_truth(evidence.rows[name], evidence.truth)), None)


def slice_scores(metric: Metric, one: Scored, cut: Slicing) -> list[tuple[int, Estimate]]:
    """(answered rows, estimate) of each slice, in the order of the labels."""
    codes = cut.codes[one.positions]
    return [
        (int(members.sum()), estimate(metric, one.statistics[members], one.units.on(members)))
        for code in range(len(cut.labels))
        if (members := codes == code) is not None
    ]


def _slicing(name: str, column: pl.Series) -> Slicing | None:
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary, pl.Null):
        return None
    distinct = column.n_unique()
    if distinct < 2:
        return None
    if (column.dtype.is_numeric() or column.dtype.is_temporal()) and distinct > _VALUES:
        return _at_quantiles(name, column) or _by_value(name, column)  # most values are the largest one
    return _by_value(name, column)


def _at_quantiles(name: str, column: pl.Series) -> Slicing | None:
    values = column.to_physical().cast(pl.Float64).to_numpy()
    known = np.isfinite(values)
    if not known.any():
        return None
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, _QUANTILES + 1)[1:-1], method="inverted_cdf"))
    edges = edges[edges < values[known].max()]
    codes = np.searchsorted(edges, values, side="left")
    say = _edge_labels(column, values, known)
    texts = [say(edge) for edge in edges]
    if not texts:
        return None
    labels = [
        f"up to {texts[0]}",
        *(f"{a} to {b}" for a, b in itertools.pairwise(texts)),
        f"over {texts[-1]}",
    ]
    if not known.all():
        labels.append("missing")
        codes = np.where(known, codes, len(labels) - 1)
    return Slicing(name, tuple(labels), codes)


def _edge_labels(column: pl.Series, values: np.ndarray, known: np.ndarray) -> Callable[[float], str]:
    """How an edge is written: a date as a date, a number with four significant digits."""
    if column.dtype.is_temporal():
        places = np.flatnonzero(known)
        return lambda edge: str(column[int(places[np.argmin(np.abs(values[places] - edge))])])
    return lambda edge: f"{edge:,.0f}" if 1e4 <= abs(edge) < 1e15 else f"{edge:,.4g}"


def _by_value(name: str, column: pl.Series) -> Slicing | None:
    if column.dtype == pl.Duration:  # has no form as a text
        column = pl.Series([None if value is None else str(value) for value in column], dtype=pl.String)
    texts = column.cast(pl.String).fill_null("missing")
    counts = texts.value_counts(sort=True)
    values = counts[counts.columns[0]].to_list()
    if counts["count"][0] < max(3, 0.01 * len(column)):
        return None
    top = values[: _VALUES if len(values) <= _VALUES else _VALUES - 1]
    place = {value: code for code, value in enumerate(top)}
    codes = np.array([place.get(value, len(top)) for value in texts.to_list()])
    labels = [value if len(value) <= _LABEL else value[: _LABEL - 1] + "…" for value in top]
    labels += [f"{len(values) - len(top):,} other values"] if len(values) > len(top) else []
    return Slicing(name, tuple(labels), codes)


def _is_truth(column: pl.Series, truth: np.ndarray) -> bool:
    try:
        values = column.cast(pl.Float64 if truth.dtype != object else pl.String).to_list()
    except pl.exceptions.PolarsError:  # it holds something that is neither
        return False
    return bool(values == truth.tolist())
