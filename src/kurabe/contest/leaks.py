"""Test rows that also stand in the training part, exactly or nearly: a contestant may know their answers by heart."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from rensa import RMinHash
from scipy import sparse

from kurabe.contest.evidence import Leaks
from kurabe.tasks.text_metrics import fold

RENDERED = "input"
SHINGLE_WORDS = 3
LEAST_SIMILARITY = 0.8
# Below this two rows of facts, or two short titles, are near each other by chance: they are only compared exactly.
LEAST_SHINGLES = 8

# A pair at similarity s shares one of 21 bands of 6 hashes with probability 1 - (1 - s^6)^21: 0.998 at 0.8, 0.999 at
# 0.85, but 0.28 at 0.5, so few pairs are verified in vain.
_BANDS, _BAND_HASHES = 21, 6
_SLICE = 8192
# Of rows that agree in a band no more than this many are verified against one test row.
_BUCKET = 50
_PAIRS = 100_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"[{_UNSPACED}]|[\w--[{_UNSPACED}]]+"


def find_leaks(train: pl.DataFrame, test: pl.DataFrame, targets: tuple[np.ndarray, np.ndarray] | None = None) -> Leaks:
    """Positions of the test rows that stand in the training rows too.

    `targets`: the true values of train and test rows. Where they are given, a row is exact only if its target is the
    same too: many computers of one make at different prices are no copies, and one does not give the other away. A
    longer text is near whatever its target.

    Compared are the values of the input columns and not `input`, the rendered text: the template's own words would make
    all rows alike (where there is no other column, `input` is compared). Exact: all values are the same after Unicode
    NFKC, case folding and joining of white space. Near: not exact, and the sets of word 3-shingles have a Jaccard
    similarity of 0.8 or more; candidates come from MinHash with locality-sensitive hashing (Broder, 1997; Leskovec,
    Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3) and each is verified on the sets themselves. Rows of
    fewer than 8 different shingles are compared exactly only.
    """
    columns = [name for name in test.columns if name != RENDERED and name in train.columns] or [RENDERED]
    known, asked = _texts(train, columns), _texts(test, columns)
    of_known, of_asked = targets if targets is not None else (np.zeros(len(known)), np.zeros(len(asked)))
    pairs = set(zip(known, of_known.tolist(), strict=True))
    exact = {
        row for row, pair in enumerate(zip(asked, of_asked.tolist(), strict=True)) if pair[0].strip() and pair in pairs
    }
    rest = [row for row in range(len(asked)) if row not in exact]
    near = _near(sorted(set(known)), [asked[row] for row in rest])
    return Leaks(exact=tuple(sorted(exact)), near=tuple(rest[row] for row in near))


def _texts(frame: pl.DataFrame, columns: list[str]) -> list[str]:
    """The values of each row, folded, one a line."""
    return [
        "\n".join("" if value is None else fold(str(value)) for value in row) for row in frame.select(columns).rows()
    ]


def _near(known: list[str], asked: list[str]) -> list[int]:
    """Positions in `asked` of the texts that are nearly one of `known`."""
    known_bags, asked_bags = _shingles(known), _shingles(asked)
    if not known_bags.rows.size or not asked_bags.rows.size:
        return []
    pairs = _candidates(_band_keys(known_bags), _band_keys(asked_bags))
    found = np.zeros(len(asked_bags.rows), dtype=bool)
    for start in range(0, len(pairs), _PAIRS):
        part = pairs[start : start + _PAIRS]
        similarity = _jaccard(known_bags, asked_bags, part)
        found[part[similarity >= LEAST_SIMILARITY, 1]] = True
    return [int(row) for row in asked_bags.rows[found]]


@dataclass(frozen=True, eq=False)
class _Shingles:
    """Bags of 64-bit hashes, one after the other: bag i is hashes[offsets[i]:offsets[i + 1]] and of text rows[i]. Texts
    that have too few words have none."""

    rows: np.ndarray
    hashes: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, bags: np.ndarray) -> Self:
        sizes = np.diff(self.offsets)[bags]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[bags] - offsets[:-1], sizes)
        return type(self)(self.rows[bags], self.hashes[places], offsets)


def _shingles(texts: list[str]) -> _Shingles:
    words = pl.Series(texts, dtype=pl.String).str.extract_all(_WORD)
    rows = np.flatnonzero(words.list.len().to_numpy() >= LEAST_SHINGLES + SHINGLE_WORDS - 1)
    words = words.gather(rows)
    hashed = words.explode(empty_as_null=False).hash(seed=0).to_numpy()
    sizes = words.list.len().to_numpy().astype(np.int64)
    shingle_sizes = sizes - (SHINGLE_WORDS - 1)
    starts = np.repeat(np.cumsum(sizes) - sizes - (np.cumsum(shingle_sizes) - shingle_sizes), shingle_sizes)
    first = np.arange(shingle_sizes.sum()) + starts
    hashes = np.zeros(len(first), dtype=np.uint64)
    for offset in range(SHINGLE_WORDS):
        hashes = hashes * _MULTIPLIER + hashed[first + offset]
    return _Shingles(rows, hashes, np.concatenate([[0], np.cumsum(shingle_sizes)]))


def _band_keys(bags: _Shingles) -> np.ndarray:
    """(bags, bands) 64-bit keys: two bags that agree in a band's hashes have the same key there."""
    keys = np.empty((len(bags.rows), _BANDS), dtype=np.uint64)
    for start in range(0, len(bags.rows), _SLICE):
        part = bags[np.arange(start, min(start + _SLICE, len(bags.rows)))]
        digests = RMinHash.digest_matrix_from_flat_token_hashes(
            part.hashes, part.offsets.astype(np.uint64), _BANDS * _BAND_HASHES, 1
        )
        bands = np.array(digests.to_rows(), dtype=np.uint64).reshape(-1, _BANDS, _BAND_HASHES)
        key = np.zeros(bands.shape[:2], dtype=np.uint64)
        for place in range(_BAND_HASHES):
            key = key * _MULTIPLIER + bands[:, :, place]
        keys[start : start + len(key)] = key
    return keys


def _candidates(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Pairs (position in known, position in asked) that share a band, (pairs, 2), each once."""
    pairs = []
    for band in range(_BANDS):
        order = np.argsort(known[:, band], kind="stable")
        ordered = known[order, band]
        start = np.searchsorted(ordered, asked[:, band], "left")
        size = np.minimum(np.searchsorted(ordered, asked[:, band], "right") - start, _BUCKET)
        asking = np.repeat(np.arange(len(asked)), size)
        within = np.arange(len(asking)) - np.repeat(np.cumsum(size) - size, size)
        pairs.append(order[np.repeat(start, size) + within] * len(asked) + asking)
    return np.stack(np.divmod(np.unique(np.concatenate(pairs)), len(asked)), axis=1)


def _jaccard(known: _Shingles, asked: _Shingles, pairs: np.ndarray) -> np.ndarray:
    """Similarity of the pairs' sets, (pairs,); 0 where a set is too small to say."""
    left, left_place = np.unique(pairs[:, 0], return_inverse=True)
    right, right_place = np.unique(pairs[:, 1], return_inverse=True)
    bags = [known[left], asked[right]]
    vocabulary, columns = np.unique(np.concatenate([bag.hashes for bag in bags]), return_inverse=True)
    sizes = np.concatenate([np.diff(bag.offsets) for bag in bags])
    rows = np.repeat(np.arange(len(sizes)), sizes)
    sets = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(sizes), len(vocabulary)))
    sets.sum_duplicates()
    sets.data[:] = 1
    size = np.diff(sets.indptr)
    first, second = left_place, len(left) + right_place
    common = sets[first].multiply(sets[second]).sum(axis=1)
    similarity = common / (size[first] + size[second] - common)
    return np.where(np.minimum(size[first], size[second]) >= LEAST_SHINGLES, similarity, 0.0)
