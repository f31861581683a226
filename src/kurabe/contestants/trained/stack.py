"""Kernel ridge on the similarity of rows, and trees on what it says of rows that it left out."""

from typing import Any, ClassVar, NamedTuple

import lightgbm
import numpy as np
import polars as pl
from scipy import linalg, sparse
from sklearn.ensemble import ExtraTreesRegressor

from kurabe.contestants.alias import saved
from kurabe.contestants.features import (
    ALONE,
    Columns,
    Dense,
    Embeddings,
    Features,
    Measures,
    NGrams,
    OfTexts,
    Quantities,
    Scaled,
    TextStatistics,
    Topics,
    apply_features,
    learn_features,
)
from kurabe.contestants.shared import Shared
from kurabe.contestants.trained.boosters import Booster, threads
from kurabe.contestants.trained.learner import Learner, Log, Settings
from kurabe.contestants.trained.similarity import Products, nearest
from kurabe.tasks.spec import Kind

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CHOOSING_ROWS = 800  # of the leave-one-out that chooses a penalty: the time grows with their cube
NEIGHBOURS = 20
HEAD = 16  # words: what a text is about mostly stands at its beginning
# Below what features are, yet near: an extra tree draws its thresholds between the least and the largest value.
ABSENT = np.float32(-3)


class Views(NamedTuple):
    """One table seen in several ways, each with n rows: n-grams and embeddings of the text and of its head, scaled
    facts and measures, features for trees."""

    ngrams: sparse.csr_matrix
    head_ngrams: sparse.csr_matrix
    vectors: np.ndarray
    head_vectors: np.ndarray
    facts: np.ndarray
    measures: np.ndarray
    trees: np.ndarray

    def rows(self, positions: np.ndarray) -> "Views":
        return Views(*(view[positions] for view in self))


@saved
class Directions(OfTexts):
    """Embeddings seen from their mean, (n, d) float64 of length 1. `words`: as of Embeddings."""

    def __init__(self, words: int | None = None) -> None:
        self.words = words

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        self.center_ = Embeddings(self.words).fit_transform(X, shared).mean(axis=0)
        return self.transform(X, shared)

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> np.ndarray:
        centered = (Embeddings(self.words).transform(X, shared) - self.center_).astype(np.float64)
        return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-9))


@saved
class AllViews(OfTexts):
    """Features as Views."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> Views:
        self.parts_: list[Features] = [
            NGrams(),
            NGrams(words=HEAD),
            Directions(),
            Directions(words=HEAD),
            Scaled(Dense([TextStatistics(), Quantities(), Columns(one_hot=True)])),
            Scaled(Measures()),
            Dense([Topics(60, self.random_state), TextStatistics(), Quantities(), Measures(), Columns()]),
        ]
        return Views(*(learn_features(part, X, shared) for part in self.parts_))

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> Views:
        return Views(*(apply_features(part, X, shared) for part in self.parts_))


class Similarities(NamedTuple):
    """Of n rows to m others, each (n, m) and 1 for equal rows."""

    ngrams: np.ndarray
    head_ngrams: np.ndarray
    vectors: np.ndarray
    head_vectors: np.ndarray
    facts: np.ndarray
    together: np.ndarray

    def orders(self) -> list[np.ndarray]:
        """The similarities by which neighbours are chosen: whole texts, their heads, their meaning."""
        return [(2 * self.ngrams + self.vectors) / 3, (self.head_ngrams + self.head_vectors) / 2, self.vectors]


class Kernels:
    """How similar rows are to those of `base`. Each kernel is positive definite."""

    def __init__(self, base: Views) -> None:
        self._base = base
        self._ngrams, self._head_ngrams = Products(base.ngrams), Products(base.head_ngrams)

    def __call__(self, rows: Views) -> Similarities:
        base = self._base
        ngrams = self._ngrams(rows.ngrams) / 2
        head_ngrams = self._head_ngrams(rows.head_ngrams) / 2
        vectors = np.exp(3 * (rows.vectors @ base.vectors.T - 1))
        head_vectors = np.exp(3 * (rows.head_vectors @ base.head_vectors.T - 1))
        facts = (_gaussian(rows.facts, base.facts, 2.0) + _gaussian(rows.measures, base.measures, 0.25)) / 2
        together = (2 * ngrams + head_ngrams + 2 * vectors + facts) / 6
        return Similarities(ngrams, head_ngrams, vectors, head_vectors, facts, together)


def _gaussian(one: np.ndarray, other: np.ndarray, width: float) -> np.ndarray:
    """exp(-squared distance / (width * columns)), (n, m)."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.exp(-np.maximum(squares, 0) / (width * max(one.shape[1], 1))))


class StackedBoosting(Learner):
    """Trees that also see what kernel ridge regressions and the nearest neighbours predict for each row.

    For training rows these are leave-one-out predictions, which a kernel ridge gives without a second fit: the row's
    coefficient over the diagonal of the inverted kernel is its residual (Rasmussen & Williams, Gaussian Processes,
    2006, eq. 5.12). The answer is the mean of gradient boosting and a forest of extremely randomized trees (Geurts et
    al. 2006).

    Parameters
    ----------
    rows
        The most training rows that other rows are compared with.
    boosters
        How many boosters, each with another seed.
    rounds
        The trees of each booster.
    learning_rate
        The step of each tree.
    trees
        The trees of the forest.
    """

    revision: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset({"number"})

    def __init__(
        self,
        rows: int = 2_000,
        boosters: int = 3,
        rounds: int = 400,
        learning_rate: float = 0.03,
        trees: int = 100,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.rows = rows
        self.boosters = boosters
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.trees = trees
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        return AllViews(self.random_state)

    def _learn(self, F: Views, t: np.ndarray, settings: Settings) -> Any:
        order = np.random.default_rng(self.random_state).permutation(len(t))
        kept, others = np.sort(order[: self.rows]), np.sort(order[self.rows :])
        base = F.rows(kept)
        mean = float(t[kept].mean())
        similarities = Kernels(base)(base)
        fits = [_kernel_ridge(kernel, t[kept] - mean, self.random_state) for kernel in similarities]
        model: dict[str, Any] = {"base": base._replace(trees=base.trees[:, :0])._asdict(), "t": t[kept], "mean": mean}
        model["weights"] = np.stack([coefficients for coefficients, _ in fits])
        near = [_neighbours(similarity, t[kept], itself=True) for similarity in similarities.orders()]
        told = np.hstack([np.stack([left_out + mean for _, left_out in fits], axis=1), *near])
        matrix = np.hstack([F.trees, np.empty((len(t), told.shape[1]), dtype=np.float32)])
        matrix[kept, F.trees.shape[1] :] = told
        if len(others):
            matrix[others, F.trees.shape[1] :] = self._compare(model, F.rows(others))
        model["boosters"] = self._boost(matrix, t)
        forest = ExtraTreesRegressor(self.trees, min_samples_leaf=2, max_features=0.3, random_state=self.random_state)
        model["forest"] = forest.fit(np.where(np.isnan(matrix), ABSENT, matrix), t)
        return model

    def _compare(self, model: dict[str, Any], F: Views) -> np.ndarray:
        """What the kernel ridges and the neighbours say of rows not learned from, (m, d)."""
        kernels, told = Kernels(Views(**model["base"])), []
        for start in range(0, len(F.facts), 512):
            similarities = kernels(F.rows(np.arange(start, min(start + 512, len(F.facts)))))
            pairs = zip(similarities, model["weights"], strict=True)
            said = np.stack([kernel @ weights + model["mean"] for kernel, weights in pairs], axis=1)
            told.append(np.hstack([said, *(_neighbours(order, model["t"]) for order in similarities.orders())]))
        return np.vstack(told)

    def _apply(self, model: dict[str, Any], F: Views) -> np.ndarray:
        matrix = np.hstack([F.trees, self._compare(model, F).astype(np.float32)])
        boosted = np.mean([booster.predict(matrix) for booster in model["boosters"]], axis=0)
        return np.asarray((boosted + model["forest"].predict(np.where(np.isnan(matrix), ABSENT, matrix))) / 2)

    def _boost(self, matrix: np.ndarray, t: np.ndarray) -> list[Booster]:
        parameters = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": 12,
            "min_data_in_leaf": 20,
            "feature_fraction": 0.2,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "extra_trees": True,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": threads(matrix.size),
            "verbosity": -1,
        }
        data = lightgbm.Dataset(matrix, t, params=parameters, free_raw_data=False).construct()
        return [
            Booster(lightgbm.train(parameters | {"seed": seed}, data, self.rounds).model_to_string())
            for seed in range(self.random_state, self.random_state + self.boosters)
        ]


def _kernel_ridge(kernel: np.ndarray, t: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) coefficients and (n,) leave-one-out predictions, with the penalty that leaves the least absolute error."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(t))[:CHOOSING_ROWS])
    values, directions = linalg.eigh(kernel[np.ix_(rows, rows)])
    errors = []
    for penalty in PENALTIES:
        inverse = directions / (np.maximum(values, 0) + penalty)
        residual = (inverse @ (directions.T @ t[rows])) / np.einsum("ij,ij->i", inverse, directions)
        errors.append(np.abs(residual).mean())
    inverse = linalg.inv(kernel + PENALTIES[int(np.argmin(errors))] * np.eye(len(t)))
    coefficients = inverse @ t
    return coefficients, t - coefficients / np.diag(inverse)


def _neighbours(similarity: np.ndarray, t: np.ndarray, *, itself: bool = False) -> np.ndarray:
    """(m, 8): mean and spread of the nearest rows' targets, how near they are, and the nearest targets themselves."""
    # Rounded, so that rows as near as each other stay in their order whatever they are compared beside.
    similarity = np.round(similarity, 7)
    if itself:
        np.fill_diagonal(similarity, -1)
    order = nearest(similarity, min(NEIGHBOURS, len(t) - itself))
    near = np.take_along_axis(similarity, order, axis=1)
    weights = np.maximum(near, 1e-3) ** 4
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (t[order] * weights).sum(axis=1)
    spread = np.sqrt(((t[order] - mean[:, None]) ** 2 * weights).sum(axis=1))
    last = order.shape[1] - 1
    columns = [mean, spread, weights.max(axis=1)]
    columns += [near[:, min(place, last)] for place in (0, 2, 9)]
    columns += [t[order[:, min(place, last)]] for place in (0, 1)]
    return np.stack(columns, axis=1)
