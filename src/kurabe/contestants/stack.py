"""Kernel ridge on the similarity of rows, and gradient boosting on what it says of rows that it left out."""

from typing import Any, ClassVar, NamedTuple

import lightgbm
import numpy as np
import polars as pl
from scipy import linalg, sparse
from sklearn.base import BaseEstimator

from kurabe.contestants.features import (
    Columns,
    Dense,
    Embeddings,
    Features,
    NGrams,
    Quantities,
    Scaled,
    TextStatistics,
    Topics,
)
from kurabe.contestants.learner import Learner, Log, Settings
from kurabe.contestants.trees import Booster, threads
from kurabe.tasks.spec import Kind

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CHOOSING_ROWS = 800  # of the leave-one-out that chooses a penalty: the time grows with their cube
NEIGHBOURS = 20


class Views(NamedTuple):
    """One table seen in several ways, each with n rows: n-grams, embeddings, scaled facts, features for trees."""

    ngrams: sparse.csr_matrix
    vectors: np.ndarray
    facts: np.ndarray
    trees: np.ndarray

    def rows(self, positions: np.ndarray) -> "Views":
        return Views(*(view[positions] for view in self))


class AllViews(BaseEstimator):  # type: ignore[misc]
    """Features as Views."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit_transform(self, X: pl.DataFrame) -> Views:
        self.ngrams_ = NGrams()
        self.words_ = NGrams(("word1",), max_features=600, binary=True)
        self.facts_ = Scaled(Dense([TextStatistics(), Quantities(), Columns(one_hot=True)]))
        self.trees_ = Dense([Topics(60, self.random_state), Embeddings(), TextStatistics(), Quantities(), Columns()])
        vectors = Embeddings().fit_transform(X)
        self.center_ = vectors.mean(axis=0)
        trees = np.hstack([self.trees_.fit_transform(X), self.words_.fit_transform(X).toarray().astype(np.float32)])
        return Views(self.ngrams_.fit_transform(X), self._center(vectors), self.facts_.fit_transform(X), trees)

    def transform(self, X: pl.DataFrame) -> Views:
        trees = np.hstack([self.trees_.transform(X), self.words_.transform(X).toarray().astype(np.float32)])
        vectors = self._center(Embeddings().transform(X))
        return Views(self.ngrams_.transform(X), vectors, self.facts_.transform(X), trees)

    def _center(self, vectors: np.ndarray) -> np.ndarray:
        centered = (vectors - self.center_).astype(np.float64)
        return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-9))


def kernels(one: Views, other: Views) -> list[np.ndarray]:
    """Similarities of the rows of `one` to those of `other`, each (n, m) and 1 for equal rows: by n-grams, by
    embeddings, and by both and the facts."""
    ngrams = (one.ngrams @ other.ngrams.T).toarray() / 2
    vectors = np.exp(one.vectors @ other.vectors.T - 1)
    width = max(one.facts.shape[1], 1)
    squares = (one.facts**2).sum(axis=1)[:, None] + (other.facts**2).sum(axis=1) - 2 * one.facts @ other.facts.T
    facts = np.exp(-np.maximum(squares, 0) / (2 * width))
    return [ngrams, vectors, (2 * ngrams + vectors + facts / 2) / 3.5]


class StackedBoosting(Learner):
    """Gradient boosting that knows, of each row, what kernel ridge regressions and its nearest neighbours say of it.

    For training rows these are leave-one-out predictions, which a kernel ridge gives without fitting again: the row's
    coefficient over the diagonal of the inverted kernel is its residual (Rasmussen & Williams, Gaussian Processes,
    2006, eq. 5.12). Half of the boosters learn the target, half what the kernel ridge leaves; their mean is the answer.
    `rows`: the training rows that others are compared with at most. `boosters`: how many of each, with other seeds;
    None: 3, 1 from 3,000 rows on, where one is steady by itself. `rounds`, `learning_rate`: of each booster.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number"})

    def __init__(
        self,
        rows: int = 2_000,
        boosters: int | None = None,
        rounds: int = 300,
        learning_rate: float = 0.03,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.rows = rows
        self.boosters = boosters
        self.rounds = rounds
        self.learning_rate = learning_rate
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
        similarities = kernels(base, base)
        weights, said = [], np.empty((len(t), 3))
        for position, kernel in enumerate(similarities):
            coefficients, left_out = _kernel_ridge(kernel, t[kept] - mean, self.random_state)
            weights.append(coefficients)
            said[kept, position] = left_out + mean
        model = {"base": base._replace(trees=base.trees[:, :0])._asdict(), "t": t[kept], "mean": mean}
        model["weights"] = np.stack(weights)
        near = np.empty((len(t), 8))
        near[kept] = _neighbours(similarities, t[kept], itself=True)
        if len(others):
            said[others], near[others] = self._compare(model, F.rows(others))
        matrix = np.hstack([said, near, F.trees]).astype(np.float32)
        model["whole"] = self._boost(matrix, t)
        model["rest"] = self._boost(matrix, t - said[:, -1])
        return model

    def _compare(self, model: dict[str, Any], F: Views) -> tuple[np.ndarray, np.ndarray]:
        """What the kernel ridges, (m, 3), and the neighbours, (m, 8), say of rows not learned from."""
        said, near = np.empty((len(F.facts), 3)), np.empty((len(F.facts), 8))
        base = Views(**model["base"])
        for start in range(0, len(said), 512):
            rows = np.arange(start, min(start + 512, len(said)))
            similarities = kernels(F.rows(rows), base)
            pairs = zip(similarities, model["weights"], strict=True)
            said[rows] = np.stack([kernel @ weights + model["mean"] for kernel, weights in pairs], axis=1)
            near[rows] = _neighbours(similarities, model["t"])
        return said, near

    def _apply(self, model: dict[str, Any], F: Views) -> np.ndarray:
        said, near = self._compare(model, F)
        matrix = np.hstack([said, near, F.trees]).astype(np.float32)
        whole = np.mean([booster.predict(matrix) for booster in model["whole"]], axis=0)
        rest = np.mean([booster.predict(matrix) for booster in model["rest"]], axis=0)
        return np.asarray((whole + rest + said[:, -1]) / 2)

    def _boost(self, matrix: np.ndarray, t: np.ndarray) -> list[Booster]:
        parameters = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": 8,
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
        count = self.boosters or (3 if len(t) < 3_000 else 1)
        return [
            Booster(lightgbm.train(parameters | {"seed": seed}, data, self.rounds).model_to_string())
            for seed in range(self.random_state, self.random_state + count)
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


def _neighbours(similarities: list[np.ndarray], t: np.ndarray, *, itself: bool = False) -> np.ndarray:
    """(m, 8): mean and spread of the nearest rows' targets, how near they are, and the nearest targets themselves."""
    # Rounded, so that rows as near as each other stay in their order whatever they are compared beside.
    similarity = np.round(2 * similarities[0] + similarities[1], 7)
    if itself:
        np.fill_diagonal(similarity, -1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(t) - itself)]
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
