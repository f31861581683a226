"""Test rows that also stand in the training part, exactly or nearly: a contestant may know their answers by heart."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from scipy import sparse

from kurabe.contest.evidence import Leaks
from kurabe.tasks.text_metrics import fold

RENDERED = "input"
SHINGLE_WORDS = 2
LEAST_SHARED = 2 / 3
"""Of the pairs of words of the longer text. One changed word in seven leaves four or five pairs of six."""
LEAST_CONTAINED, CONTAINED_PAIRS = 0.8, 9
"""Of the pairs of words of the shorter text, where it has so many."""
LEAST_RARE, ENOUGH_RARE, LONG_PAIRS = 0.25, 3, 25
RARE_SHARE = 0.001
"""Of the pairs that two texts share a quarter, or three, must stand in at most 5 or this share of the training rows,
unless both texts are long. What a whole catalogue has in common (`Women's Solid Casual Shirt`) makes no rows near."""
LEAST_WORDS = 6.0
"""Shorter texts, and rows of facts, are near each other by chance: they are only compared exactly. A character of a
script without spaces counts as half a word, and a number does not count."""
PROSE_WORDS = 3.0
PROSE_VARIETY = 0.05
"""A column is prose if its values have so many words on average and this share of them differ. Others are facts."""

_SLICE = 4096
# A test row's rarest word pairs name its candidates: all that stand in so few training rows, and the rarest of all.
_RARE_ROWS, _RAREST = 5, 8
# Of the training rows that share a word pair no more than this many are verified against one test row.
_BUCKET = 50
_PAIRS = 100_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERED = rf"[\w--[{_UNSPACED}\d_]]+"
_WORD = rf"[{_UNSPACED}]|[\w--[{_UNSPACED}]]+"


def find_leaks(train: pl.DataFrame, test: pl.DataFrame, targets: tuple[np.ndarray, np.ndarray] | None = None) -> Leaks:
    """Positions of the test rows that stand in the training rows too.

    `targets`: the true values of train and test rows. Where they are given, a row is exact only if its target is the
    same too: many computers of one make at different prices are no copies, and one does not give the other away. A
    longer text is near whatever its target.

    Compared are the values of the input columns and not `input`, the rendered text: the template's own words would make
    all rows alike (where there is no other column, `input` is compared). Exact: all values are the same after Unicode
    NFKC, case folding and joining of white space. Near: not exact, and the texts share two thirds of the longer one's
    pairs of neighbouring words (a word in seven changed), or the longer one holds four fifths of the shorter one's (one
    is half of the other, or quoted in it). Of short texts some of what they share must be rare in the training rows.
    Only columns of prose are compared so. Candidates are the training rows that share a test row's rarest pairs of
    words; each is verified on the sets themselves.
    """
    columns = [name for name in test.columns if name != RENDERED and name in train.columns] or [RENDERED]
    known, asked = _texts(train, columns), _texts(test, columns)
    of_known, of_asked = targets if targets is not None else (np.zeros(len(known)), np.zeros(len(asked)))
    pairs = set(zip(known, of_known.tolist(), strict=True))
    exact = {
        row for row, pair in enumerate(zip(asked, of_asked.tolist(), strict=True)) if pair[0].strip() and pair in pairs
    }
    rest = [row for row in range(len(asked)) if row not in exact]
    prose = [name for name in columns if _is_prose(train[name])]
    if not prose:
        return Leaks(exact=tuple(sorted(exact)))
    asked = _texts(test, prose)
    near = _near(sorted(set(_texts(train, prose))), [asked[row] for row in rest])
    return Leaks(exact=tuple(sorted(exact)), near=tuple(rest[row] for row in near))


def _texts(frame: pl.DataFrame, columns: list[str]) -> list[str]:
    """The values of each row, folded, one a line."""
    return [
        "\n".join("" if value is None else fold(str(value)) for value in row) for row in frame.select(columns).rows()
    ]


def _is_prose(column: pl.Series) -> bool:
    values = column.drop_nulls()
    if values.dtype != pl.String or values.is_empty():
        return False
    words = values.str.count_matches(_WORD).mean()
    return isinstance(words, float) and words >= PROSE_WORDS and values.n_unique() >= PROSE_VARIETY * len(values)


def _near(known: list[str], asked: list[str]) -> list[int]:
    """Positions in `asked` of the texts that are nearly one of `known`."""
    known_bags, asked_bags = _shingles(known), _shingles(asked)
    if not known_bags.rows.size or not asked_bags.rows.size:
        return []
    found = np.zeros(len(asked_bags.rows), dtype=bool)
    holders = _Holders(known_bags, asked_bags)
    for first in range(0, len(found), _SLICE):
        pairs = holders.candidates(first, min(first + _SLICE, len(found)))
        for start in range(0, len(pairs), _PAIRS):
            part = pairs[start : start + _PAIRS]
            found[part[_alike(known_bags, asked_bags, holders, part), 1]] = True
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
    folded = pl.Series(texts, dtype=pl.String)
    words = folded.str.extract_all(_WORD)
    long = folded.str.count_matches(_LETTERED) + 0.5 * folded.str.count_matches(f"[{_UNSPACED}]")
    rows = np.flatnonzero(((long >= LEAST_WORDS) & (words.list.len() >= SHINGLE_WORDS)).to_numpy())
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


class _Holders:
    """Which of the known texts hold each word pair of the asked ones."""

    def __init__(self, known: _Shingles, asked: _Shingles) -> None:
        self._vocabulary, self._pairs = np.unique(asked.hashes, return_inverse=True)
        self._offsets = asked.offsets
        order = np.argsort(known.hashes, kind="stable")
        self._holder = np.repeat(np.arange(len(known.rows)), np.diff(known.offsets))[order]
        ordered = known.hashes[order]
        self._start = np.searchsorted(ordered, self._vocabulary, "left")
        self._size = np.searchsorted(ordered, self._vocabulary, "right") - self._start
        self._few = max(_RARE_ROWS, round(RARE_SHARE * len(known.rows)))

    def rare(self, hashes: np.ndarray) -> np.ndarray:
        """Which of these word pairs stand in few known texts; of those that no asked text has it says nothing."""
        place = np.minimum(np.searchsorted(self._vocabulary, hashes), len(self._vocabulary) - 1)
        return self._size[place] <= self._few

    def candidates(self, first: int, last: int) -> np.ndarray:
        """Pairs (position in known, position in asked) of the asked texts from `first` to before `last`, each once."""
        begin, end = self._offsets[first], self._offsets[last]
        asking = np.repeat(np.arange(first, last), np.diff(self._offsets[first : last + 1]))
        pair = self._pairs[begin:end]
        held = self._size[pair] > 0
        asking, pair = asking[held], pair[held]
        order = np.lexsort((self._size[pair], asking))
        asking, pair = asking[order], pair[order]
        place = np.arange(len(asking)) - np.searchsorted(asking, asking)
        chosen = (place < _RAREST) | (self._size[pair] <= _RARE_ROWS)
        asking, pair = asking[chosen], pair[chosen]
        size = np.minimum(self._size[pair], _BUCKET)
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        holder = self._holder[np.repeat(self._start[pair], size) + within]
        keys, shared = np.unique(holder * np.int64(last) + np.repeat(asking, size), return_counts=True)
        return np.stack(np.divmod(keys[shared > 1], last), axis=1)


def _alike(known: _Shingles, asked: _Shingles, holders: _Holders, pairs: np.ndarray) -> np.ndarray:
    """Whether each pair of texts is near, (pairs,)."""
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
    shared = sets[first].multiply(sets[second]).tocsr()
    common, rare = shared.sum(axis=1), shared @ holders.rare(vocabulary).astype(np.float64)
    smaller, larger = np.minimum(size[first], size[second]), np.maximum(size[first], size[second])
    contained = (smaller >= CONTAINED_PAIRS) & (common >= LEAST_CONTAINED * smaller)
    changed = common >= LEAST_SHARED * larger - 1e-9
    telling = (rare >= np.minimum(LEAST_RARE * common, ENOUGH_RARE)) | (smaller >= LONG_PAIRS)
    return np.asarray((contained | changed) & telling)
