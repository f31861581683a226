"""Scores of many contestants on the same bootstrap resamples of the rows.

A resample of n rows is a vector of n counts, multinomial with equal chances, that says how often each row was drawn.
The scores of all contestants follow from one matrix product of counts and row statistics, so every contestant sees the
same resamples and each pair of them is compared on equal terms.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kurabe.tasks.metrics import Metric, Statistics

# Rows are drawn by chunks whose counters stay in the processor's cache; a row's place in its chunk has 15 bits.
_CHUNK = 2**15
_FIFTEEN_BITS = np.uint64(0x7FFF7FFF7FFF7FFF)
_BLOCK_BYTES = 32 * 2**20
_DENSE_BYTES = 256 * 2**20


def draw_counts(n: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each row stands in each resample of n rows with replacement: (resamples, n) float64, rows sum to n.

    How many draws fall into each chunk of rows is multinomial, and within a chunk each draw is uniform: together that
    is exactly the multinomial distribution of n uniform draws.
    """
    edges = np.append(np.arange(0, n, _CHUNK), n)
    sizes = np.diff(edges)
    draws = generator.multinomial(n, sizes / n, size=resamples)
    counts = np.empty((resamples, n))
    for resample in range(resamples):
        for start, size, drawn in zip(edges, sizes, draws[resample], strict=False):
            places = _places(int(size), int(drawn), generator)
            # bincount of 16-bit numbers takes five times as long as a cast and bincount of machine words.
            counts[resample, start : start + size] = np.bincount(places.astype(np.intp), minlength=size)
    return counts


def _places(size: int, drawn: int, generator: np.random.Generator) -> np.ndarray:
    """`drawn` uniform numbers below `size`, uint16. A full chunk takes 15 random bits each, four from one 64-bit word,
    which is eight times as fast as drawing numbers below a bound."""
    if size < _CHUNK:
        return generator.integers(0, size, drawn, dtype=np.uint16)
    words = generator.integers(0, 2**64, -(-drawn // 4), dtype=np.uint64) & _FIFTEEN_BITS
    return words.view(np.uint16)[:drawn]


def resampled_scores(metric: Metric, rows: Sequence[Statistics], resamples: int, seed: int) -> np.ndarray:
    """Scores on bootstrap resamples, (resamples, contestants); `rows` holds each contestant's (n, k) statistics.

    The same seed gives the same resamples, whatever the number of processors. Works in blocks: memory stays below
    some 300 MB beside the result.
    """
    n = rows[0].shape[0]
    score = _median_scorer(rows) if metric.center == "median" else _mean_scorer(metric, rows)
    size = max(1, min(256, _BLOCK_BYTES // (8 * n)))
    starts = range(0, resamples, size)

    def block(start: int) -> np.ndarray:
        generator = np.random.Generator(np.random.SFC64([seed, start]))
        return score(draw_counts(n, min(size, resamples - start), generator))

    # numpy lets go of the interpreter's lock while it draws and multiplies; BLAS's own threads would only get in
    # the way of ours.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(block, starts)))


def _mean_scorer(metric: Metric, rows: Sequence[Statistics]) -> Callable[[np.ndarray], np.ndarray]:
    widths = [part.shape[1] for part in rows]
    n, edges = rows[0].shape[0], np.cumsum([0, *widths])
    columns: Statistics
    if any(sparse.issparse(part) for part in rows) and 8 * n * edges[-1] > _DENSE_BYTES:
        columns = sparse.hstack(rows, format="csr")
    else:
        columns = np.hstack([part if isinstance(part, np.ndarray) else part.toarray() for part in rows])

    def score(counts: np.ndarray) -> np.ndarray:
        means = (counts @ columns) / n
        parts = itertools.pairwise(edges)
        return np.stack([metric.finish(means[:, start:end]) for start, end in parts], axis=1)

    return score


def _median_scorer(rows: Sequence[Statistics]) -> Callable[[np.ndarray], np.ndarray]:
    """Medians from counts. The rank in the whole table of a resample's median has a standard deviation of about
    sqrt(n) / 2, so only rows within 6 sqrt(n) ranks of the middle are looked at one by one; of those below them the
    sum of their counts is enough."""
    n = rows[0].shape[0]
    reach = int(6 * np.sqrt(n)) + 2
    low, high = max(0, n // 2 - reach), min(n, n // 2 + reach)
    orders = [np.argsort(np.asarray(part)[:, 0], kind="stable") for part in rows]
    windows = [np.asarray(part)[order[low:high], 0] for part, order in zip(rows, orders, strict=True)]
    below = np.zeros((n, len(rows)))
    for contestant, order in enumerate(orders):
        below[order[:low], contestant] = 1.0

    def score(counts: np.ndarray) -> np.ndarray:
        scores = np.empty((len(counts), len(rows)))
        sums_below = counts @ below
        for contestant, (order, window) in enumerate(zip(orders, windows, strict=True)):
            reached = sums_below[:, [contestant]] + np.cumsum(counts[:, order[low:high]], axis=1)
            lower = (reached <= (n - 1) // 2).sum(axis=1)
            upper = (reached <= n // 2).sum(axis=1)
            scores[:, contestant] = (window[lower] + window[upper]) / 2
        return scores

    return score
