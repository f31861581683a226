"""Which test rows belong together: scores, intervals and tests count independent units, not rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from kurabe.tasks.metrics import Statistics


@dataclass(frozen=True, eq=False)
class Units:
    """The independent units of n rows.

    `codes`: (n,) int, the unit of each row, from 0 to `count` - 1. `weights`: (n,) float, how much each row counts in a
    score: 1, or 1 / r for each of r copies of one row, which together count once.
    """

    codes: np.ndarray
    weights: np.ndarray
    count: int

    @property
    def plain(self) -> bool:
        """Whether each row is a unit by itself."""
        return self.count == len(self.codes)

    @property
    def copies(self) -> int:
        """How many rows only repeat others."""
        return round(len(self.codes) - float(self.weights.sum()))

    def on(self, mask: np.ndarray) -> "Units":
        """The units of the rows in `mask`, (n,) bool, numbered anew. The weights stay."""
        if mask.all():
            return self
        kept, codes = np.unique(self.codes[mask], return_inverse=True)
        return Units(codes, self.weights[mask], len(kept))


def single_rows(n: int) -> Units:
    """Units of n rows of which each is independent of all others."""
    return Units(np.arange(n), np.ones(n), n)


def find_units(truth: np.ndarray, inputs: Sequence[bytes] = (), clusters: pl.Series | None = None) -> Units:
    """The units of a test part.

    Rows with the same input are copies of one row, unless most inputs that repeat have different truths: then they are
    few values that coincide by chance, such as class, age and sex of passengers, and each row is an observation.

    Parameters
    ----------
    truth
        (n,) the true values.
    inputs
        (n,) what tells inputs apart, such as digests; () where nothing is known of them.
    clusters
        (n,) the group of each row. A missing value is a group of its own. None: no rows are grouped.
    """
    n = len(truth)
    copies = _copies(truth, inputs)
    sizes = np.bincount(copies, minlength=n)
    weights = 1 / sizes[copies]
    codes = copies if clusters is None else _joined(copies, _groups(clusters))
    kept, codes = np.unique(codes, return_inverse=True)
    return Units(codes, weights, len(kept))


def unit_sums(statistics: Statistics, units: Units) -> tuple[Statistics, np.ndarray]:
    """Sums over units of row statistics.

    Returns
    -------
    (units, k) weighted sums of (n, k) `statistics`, and (units,) sizes: a score is
    `metric.finish(sums.sum(axis=0) / sizes.sum())`.
    """
    n = len(units.codes)
    if units.plain:
        order = np.argsort(units.codes, kind="stable")
        return statistics[order], np.ones(n)
    members = sparse.csr_array((units.weights, (units.codes, np.arange(n))), shape=(units.count, n))
    return members @ statistics, np.bincount(units.codes, units.weights, units.count)


def _copies(truth: np.ndarray, inputs: Sequence[bytes]) -> np.ndarray:
    """(n,) a number for each row, the same for copies."""
    n = len(truth)
    if not len(inputs):
        return np.arange(n)
    _, codes = np.unique(np.array(inputs, dtype=object), return_inverse=True)
    repeated = np.bincount(codes)[codes] > 1
    truths: dict[int, set[object]] = {}
    for code, value in zip(codes[repeated].tolist(), truth[repeated].tolist(), strict=True):
        truths.setdefault(code, set()).add(value)
    agreeing = sum(len(values) == 1 for values in truths.values())
    return np.asarray(codes) if 2 * agreeing >= len(truths) else np.arange(n)


def _groups(clusters: pl.Series) -> np.ndarray:
    """(n,) the number of each row's group, from 0."""
    values = clusters.to_list()
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(f"row {row}" if value is None else (value,), len(seen))
                     for row, value in enumerate(values)], dtype=np.intp)  # fmt: skip


def _joined(copies: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) one number for all rows that copies and groups connect, directly or through others."""
    n = len(copies)
    rows = np.arange(n)
    columns = np.concatenate([n + copies, n + copies.max(initial=-1) + 1 + groups])
    size = int(columns.max(initial=0)) + 1
    links = sparse.coo_array((np.ones(2 * n), (np.tile(rows, 2), columns)), shape=(size, size))
    return np.asarray(sparse.csgraph.connected_components(links, directed=False)[1][:n])
