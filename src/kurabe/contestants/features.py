"""Features of a table: each class learns from a frame and turns frames into matrices with one row a row.

A row's features depend on that row and on what was learned, never on the other rows of its table.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer

from kurabe.contestants.alias import saved
from kurabe.contestants.frames import TEXT, require, texts
from kurabe.contestants.shared import CHARACTERS, Shared
from kurabe.models.embeddings import DEFAULT
from kurabe.models.shortcuts import embed

ALONE = Shared()


class Features(Protocol):
    """What every class here does."""

    def fit_transform(self, X: pl.DataFrame) -> Any:
        """Learn from a frame and return its matrix, (n, d)."""

    def transform(self, X: pl.DataFrame) -> Any:
        """The matrix of another frame, (m, d)."""


class OfTexts(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Features that are computed, in part, from each text alone, so that they can be shared."""

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> Any:
        """As `Features.fit_transform`, with what is shared."""
        return self.transform(X, shared)

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> Any:
        """As `Features.transform`, with what is shared."""
        raise NotImplementedError


def learn_features(features: Features, X: pl.DataFrame, shared: Shared) -> Any:
    """The matrix of a frame that features learn from."""
    return features.fit_transform(X, shared) if isinstance(features, OfTexts) else features.fit_transform(X)


def apply_features(features: Features, X: pl.DataFrame, shared: Shared) -> Any:
    """The matrix of another frame."""
    return features.transform(X, shared) if isinstance(features, OfTexts) else features.transform(X)


# ---------------------------------------------------------------------------------------------------------- n-grams

_BUCKETS = 2**20
_ANALYSERS: dict[str, dict[str, Any]] = {
    "word": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "word1": {"analyzer": "word", "ngram_range": (1, 1), "token_pattern": r"(?u)\b\w+\b"},
    "char": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}


def _counts(texts: Sequence[str], analyser: str, words: int | None, shared: Shared) -> sparse.csr_matrix:
    """(n, 2^20) counts of hashed n-grams (the hashing trick: Weinberger et al. 2009)."""
    return shared.rows(f"{analyser} n-grams of {words} words", texts, partial(_count, analyser, words))


def _count(analyser: str, words: int | None, texts: Sequence[str]) -> sparse.csr_matrix:
    vectorizer = HashingVectorizer(
        n_features=_BUCKETS, norm=None, alternate_sign=False, dtype=np.float32, **_ANALYSERS[analyser]
    )
    return vectorizer.transform(_heads(texts, words))


def _heads(texts: Sequence[str], words: int | None) -> list[str]:
    return [" ".join(text.split(maxsplit=words)[:words]) for text in texts] if words else list(texts)


@saved
class NGrams(OfTexts):
    """TF-IDF (or 0/1) of word and character n-grams, each block scaled to length 1.

    `min_df`: rows an n-gram must stand in; None: 1 below 300 rows, 2 from there on. `max_features`: of each block, the
    most frequent. `binary`: 0/1 without weights and scaling. `words`: only so many first words of a text are read.
    Of more than ten million characters only the first block is learned from, at the length of all: characters would
    fill gigabytes, and with so many rows each word is seen often enough.
    """

    def __init__(
        self,
        blocks: Sequence[str] = ("word", "char"),
        min_df: int | None = None,
        max_features: int = 100_000,
        binary: bool = False,
        words: int | None = None,
    ) -> None:
        self.blocks = blocks
        self.min_df = min_df
        self.max_features = max_features
        self.binary = binary
        self.words = words

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> sparse.csr_matrix:
        self.columns_: list[np.ndarray] = []
        self.idf_: list[np.ndarray] = []
        documents = texts(X)
        blocks = self.blocks[:1] if sum(map(len, documents)) > CHARACTERS else self.blocks
        counts = [_counts(documents, block, self.words, shared) for block in blocks]
        for matrix in counts:
            frequency = np.bincount(matrix.indices, minlength=_BUCKETS)
            least = (1 if X.height < 300 else 2) if self.min_df is None else self.min_df
            columns = np.flatnonzero(frequency >= max(least, 1))
            if not len(columns):
                columns = np.zeros(1, dtype=np.intp)  # blank texts: a matrix without columns is no use to anyone
            if len(columns) > self.max_features:
                most = np.argsort(-frequency[columns], kind="stable")[: self.max_features]
                columns = np.sort(columns[most])
            self.columns_.append(columns.astype(np.int32))
            self.idf_.append(np.log((1 + X.height) / (1 + frequency[columns])) + 1)
        return self._weigh(counts)

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> sparse.csr_matrix:
        documents = texts(X)
        learned = self.blocks[: len(self.columns_)]
        return self._weigh([_counts(documents, block, self.words, shared) for block in learned])

    def _weigh(self, counts: list[sparse.csr_matrix]) -> sparse.csr_matrix:
        weighed = []
        for matrix, columns, idf in zip(counts, self.columns_, self.idf_, strict=True):
            chosen = _select(matrix, columns)
            if self.binary:
                chosen.data[:] = 1.0
            else:
                chosen.data = (1 + np.log(chosen.data)) * idf[chosen.indices]
                length = np.sqrt(np.asarray(chosen.multiply(chosen).sum(axis=1)).ravel())
                length = length / np.sqrt(len(self.blocks) / len(self.columns_))
                chosen.data /= np.repeat(np.maximum(length, 1e-12), np.diff(chosen.indptr))
            weighed.append(chosen)
        return sparse.hstack(weighed, format="csr")


def _select(matrix: sparse.csr_matrix, columns: np.ndarray) -> sparse.csr_matrix:
    """`matrix[:, columns]` for sorted columns, without scipy's detour over a column index."""
    place = np.full(matrix.shape[1], -1, dtype=np.int32)
    place[columns] = np.arange(len(columns), dtype=np.int32)
    kept = place[matrix.indices]
    mask = kept >= 0
    before = np.concatenate([[0], np.cumsum(mask)])
    data = matrix.data[mask].astype(np.float64)
    return sparse.csr_matrix((data, kept[mask], before[matrix.indptr]), (matrix.shape[0], len(columns)))


# --------------------------------------------------------------------------------------------------- dense features


@saved
class Embeddings(OfTexts):
    """A vector a text, (n, d) float32 of length 1. `words`: only so many first words of a text are read. `model`: the
    reference of what makes the vectors."""

    def __init__(self, words: int | None = None, model: str = DEFAULT) -> None:
        self.words = words
        self.model = model

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        # A model of files may be another one under the same name: what it says is not kept on disk.
        shared = shared if self.model == DEFAULT else replace(shared, folder=None)
        return np.asarray(shared.rows(f"{self.model} of {self.words} words", texts(X), self._embed))

    def _embed(self, documents: Sequence[str]) -> np.ndarray:
        return embed(self.model, _heads(documents, self.words))


_LARGEST = 1e30  # of a feature, which is kept in single precision
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_SIGN = re.compile(r"[^\w\s]|_")
_STATISTICS = 14


@saved
class TextStatistics(OfTexts):
    """Lengths, shares of kinds of characters and what numbers stand in the text, (n, 14)."""

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        return np.asarray(shared.rows("statistics", texts(X), _all_statistics))


def _all_statistics(documents: Sequence[str]) -> np.ndarray:
    return np.array([_statistics(text) for text in documents], dtype=np.float64).reshape(-1, _STATISTICS)


def _statistics(text: str) -> list[float]:
    words = text.split()
    size = max(len(text), 1)
    numbers = [_log_number(found) for found in _NUMBER.findall(text)] or [0.0]
    return [
        np.log1p(len(text)),
        np.log1p(len(words)),
        len(text) / max(len(words), 1),
        len(set(words)) / max(len(words), 1),
        text.count("\n"),
        sum(map(str.isdigit, text)) / size,
        sum(map(str.isupper, text)) / size,
        len(_SIGN.findall(text)) / size,
        sum(word.isupper() for word in words) / max(len(words), 1),
        len(numbers),
        numbers[0],
        max(numbers),
        min(numbers),
        sum(numbers) / len(numbers),
    ]


def _log_number(text: str) -> float:
    return float(np.log1p(min(float(text.replace(",", "")), 1e15)))


@saved
class Quantities(BaseEstimator):  # type: ignore[misc]
    """Numbers by the words beside them, such as the 16 of `16 GB` or the 6 of `pack of 6`; (n, d) with NaN for absent.

    The words are learned: those that stand beside a number in at least `share` of the rows, at most `most` of them.
    """

    # The words after a number are looked at and left, as they may stand before the next one. A word is tried from its
    # beginning alone: from each of its letters, a long one would take the square of its length.
    _beside = re.compile(
        r"(?:(?<![^\W\d])([^\W\d]+)\W{1,3})?(?:(?<![^\W\d])([^\W\d]+)\W{1,3})?(\d[\d,]*(?:\.\d+)?)"
        r"(?=(?:[\s-]?([^\W\d]+|[\"%°$]))?(?:\W+([^\W\d]+))?)"
    )

    def __init__(self, share: float = 0.02, most: int = 60) -> None:
        self.share = share
        self.most = most

    def fit_transform(self, X: pl.DataFrame) -> np.ndarray:
        rows = [self._read(text) for text in texts(X)]
        frequency = Counter(key for row in rows for key in row)
        least = max(3, self.share * len(rows))
        self.keys_ = sorted(key for key, count in frequency.most_common(self.most) if count >= least)
        return self._matrix(rows)

    def transform(self, X: pl.DataFrame) -> np.ndarray:
        return self._matrix([self._read(text) for text in texts(X)])

    def _matrix(self, rows: list[dict[str, float]]) -> np.ndarray:
        absent = float("nan")
        values = [[row.get(key, absent) for key in self.keys_] for row in rows]
        return np.array(values, dtype=np.float64).reshape(len(rows), len(self.keys_))

    def _read(self, text: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for match in self._beside.finditer(text.lower()):
            first, second, digits, unit, after = match.groups()
            value = min(float(digits.replace(",", "")), _LARGEST)
            keys = [f"# {unit}", f"# {unit} {after}"] if unit else []
            near = second or first
            keys += [f"{near} #"] if near else []
            keys += [f"{first} {second} #"] if first and second else []
            for key in keys:
                found.setdefault(key, value)
        return found


_UNITS: dict[str, dict[str, float]] = {  # in grams, centimetres, litres, watts, volts, amperes, Ah, hertz, MB, hours
    "mass": {"mg": 0.001, "g": 1, "gram": 1, "kg": 1000, "kilogram": 1000, "oz": 28.35, "ounce": 28.35}
    | {"lb": 453.6, "pound": 453.6},
    "length": {"mm": 0.1, "millimeter": 0.1, "cm": 1, "centimeter": 1, "m": 100, "meter": 100, "metre": 100}
    | {"in": 2.54, "inch": 2.54, "inches": 2.54, '"': 2.54, "″": 2.54, "”": 2.54, "ft": 30.48, "foot": 30.48}
    | {"feet": 30.48, "yard": 91.44},
    "volume": {"ml": 0.001, "l": 1, "liter": 1, "litre": 1, "gallon": 3.785, "gal": 3.785, "quart": 0.946, "qt": 0.946},
    "power": {"w": 1, "watt": 1, "kw": 1000, "hp": 746, "horsepower": 746},
    "voltage": {"v": 1, "volt": 1, "vdc": 1, "vac": 1},
    "current": {"ma": 0.001, "a": 1, "amp": 1},
    "charge": {"mah": 0.001, "ah": 1},
    "frequency": {"hz": 1, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "data": {"kb": 0.001, "mb": 1, "gb": 1000, "tb": 1e6},
    "time": {"minute": 1 / 60, "min": 1 / 60, "h": 1, "hr": 1, "hour": 1, "day": 24, "month": 720, "year": 8760},
    "pieces": {"pack": 1, "pk": 1, "pc": 1, "piece": 1, "count": 1, "ct": 1, "set": 1},
}
_UNIT = {unit: (place, factor) for place, units in enumerate(_UNITS.values()) for unit, factor in units.items()}


@saved
class Measures(OfTexts):
    """Logarithms of the numbers that have a unit, each in the base unit of its quantity: 2 lbs and 32 oz are the same;
    (n, 2 * quantities + 2) with NaN for absent.

    Of each quantity the largest and the first, then the volume and the longest edge of the first `A x B x C`.
    """

    # Quantifiers are possessive and a number is read from its beginning alone, so that the time is linear.
    _number = r"(?<![\d.,])(\d[\d,]*+(?:\.\d++)?+)"
    _measure = re.compile(_number + r"[\s‑-]?([^\W\d_]{1,12}+(?!\w)|[\"″”])")
    _edge = _number + r"[\s‑-]?(?:[^\W\d_]{2,11}+|[\"″”])?+\s?[lwhd]?\s?"
    _box = re.compile(_edge + r"[x×]\s?" + _edge + r"[x×]\s?" + _number)

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        return np.asarray(shared.rows("measures", texts(X), self._all))

    def _all(self, documents: Sequence[str]) -> np.ndarray:
        return np.array([self._read(text.lower()) for text in documents]).reshape(-1, 2 * len(_UNITS) + 2)

    def _read(self, text: str) -> list[float]:
        found: list[list[float]] = [[] for _ in _UNITS]
        for digits, unit in self._measure.findall(text):
            known = _UNIT.get(unit) or _UNIT.get(unit.removesuffix("s"))
            if known:
                found[known[0]].append(_log_positive(float(digits.replace(",", "")) * known[1]))
        absent = float("nan")
        values = [value for each in found for value in ((max(each), each[0]) if each else (absent, absent))]
        box = self._box.search(text)
        edges = [_log_positive(float(edge.replace(",", ""))) for edge in box.groups()] if box else [absent]
        return [*values, sum(edges), max(edges)]


def _log_positive(number: float) -> float:
    return float(np.log(np.clip(number, 1e-3, 1e15)))


@saved
class Columns(BaseEstimator):  # type: ignore[misc]
    """The table's columns but the text, (n, d) float64: numbers and truth values as numbers, dates and durations as
    days, categories as codes; NaN for none.

    A text column counts as categories where a value stands in five rows on average and there are at most 200 values.
    With `one_hot` each category is a column of 0 and 1 instead of a code.
    """

    def __init__(self, one_hot: bool = False) -> None:
        self.one_hot = one_hot

    def fit_transform(self, X: pl.DataFrame) -> np.ndarray:
        self.numbers_: list[str] = []
        self.values_: dict[str, list[str]] = {}
        for name in (name for name in X.columns if name != TEXT):
            dtype = X.schema[name]
            if dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean:
                if X[name].n_unique() > 1:
                    self.numbers_.append(name)
            elif dtype in (pl.String, pl.Categorical, pl.Enum):
                counts = X[name].cast(pl.String).drop_nulls().value_counts()
                if 1 < counts.height <= min(200, max(2, X.height // 5)):
                    self.values_[name] = sorted(counts[name].to_list())
        return self.transform(X)

    def transform(self, X: pl.DataFrame) -> np.ndarray:
        require(X, [*self.numbers_, *self.values_])
        columns = [as_numbers(X[name]) for name in self.numbers_]
        for name, values in self.values_.items():
            found = X[name].cast(pl.String).to_list()
            if self.one_hot:
                columns += [np.array([each == value for each in found], dtype=np.float64) for value in values]
                continue
            code = {value: float(position) for position, value in enumerate(values)}
            columns.append(np.array([code.get(value, np.nan) for value in found], dtype=np.float64))
        return np.stack(columns, axis=1) if columns else np.zeros((X.height, 0))


def as_numbers(column: pl.Series) -> np.ndarray:
    """A column as numbers, (n,) float64: truth values as 0 and 1, dates and durations as days, NaN for none."""
    days = 1.0
    if column.dtype in (pl.Date, pl.Datetime, pl.Duration):  # one unit, whichever the file had
        column, days = column.cast(pl.Duration("us") if column.dtype == pl.Duration else pl.Datetime("us")), 86_400e6
    if column.dtype.is_temporal():
        column = column.to_physical()
    numbers = column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy() / days
    return np.where(np.isfinite(numbers), np.clip(numbers, -_LARGEST, _LARGEST), np.nan)


@saved
class Dense(OfTexts):
    """Several dense features side by side, (n, d) float32 with NaN for absent."""

    def __init__(self, parts: Sequence[Any] = ()) -> None:
        self.parts = parts

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        parts = [learn_features(part, X, shared) for part in self.parts]
        return np.hstack(parts, dtype=np.float32, casting="same_kind")

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        parts = [apply_features(part, X, shared) for part in self.parts]
        return np.hstack(parts, dtype=np.float32, casting="same_kind")


@saved
class Scaled(OfTexts):
    """Dense features with the mean in place of NaN, each then scaled to mean 0 and variance 1."""

    def __init__(self, features: Any) -> None:
        self.features = features

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        matrix = np.asarray(learn_features(self.features, X, shared), dtype=np.float64)
        known = np.isfinite(matrix)
        count = np.maximum(known.sum(axis=0), 1)
        self.mean_ = np.where(known, matrix, 0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, matrix - self.mean_, 0) ** 2).sum(axis=0) / count)
        self.spread_ = np.where(spread > 1e-9, spread, np.inf)
        return self._scale(matrix)

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        return self._scale(np.asarray(apply_features(self.features, X, shared), dtype=np.float64))

    def _scale(self, matrix: np.ndarray) -> np.ndarray:
        scaled = (np.where(np.isfinite(matrix), matrix, self.mean_) - self.mean_) / self.spread_
        return np.asarray(np.clip(scaled, -10, 10))


@saved
class Topics(OfTexts):
    """The leading directions of the word n-grams (latent semantic analysis), (n, d); d at most `size`."""

    def __init__(self, size: int = 50, random_state: int = 0) -> None:
        self.size = size
        self.random_state = random_state

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        self.ngrams_ = NGrams(blocks=("word",), max_features=10_000)
        matrix = self.ngrams_.fit_transform(X, shared)
        size = min(self.size, min(matrix.shape) - 1)
        self.svd_ = None
        if size < 1:
            return np.zeros((X.height, 0))
        self.svd_ = TruncatedSVD(size, random_state=self.random_state).fit(matrix)
        return np.asarray(self.svd_.transform(matrix))

    @property
    def width(self) -> int:
        """How many directions there are."""
        return 0 if self.svd_ is None else self.svd_.components_.shape[0]

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        if self.svd_ is None:
            return np.zeros((X.height, 0))
        return np.asarray(self.svd_.transform(self.ngrams_.transform(X, shared)))
