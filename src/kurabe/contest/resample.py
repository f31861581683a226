"""How often each row stands in a bootstrap resample of the rows.

A resample of n rows is a vector of n counts, multinomial with equal chances. What is wanted of all contestants follows
from products of counts and row statistics, so every contestant sees the same resamples and each pair of them is
compared on equal terms.
"""

import numpy as np

# Rows are drawn by chunks whose counters stay in the processor's cache; a row's place in its chunk has 15 bits.
_CHUNK = 2**15
_FIFTEEN_BITS = np.uint64(0x7FFF7FFF7FFF7FFF)


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
