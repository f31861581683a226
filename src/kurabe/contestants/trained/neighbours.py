"""Nearest neighbours: what the most similar training rows had."""

from typing import Any, ClassVar

import numpy as np
import polars as pl
from scipy import sparse

from kurabe.contestants.alias import saved
from kurabe.contestants.features import ALONE, Embeddings, Features, NGrams, OfTexts
from kurabe.contestants.shared import Shared
from kurabe.contestants.trained.learner import Learner, Log, Settings
from kurabe.contestants.trained.similarity import Products, nearest
from kurabe.models.embeddings import DEFAULT
from kurabe.tasks.spec import Kind

NEIGHBOURS = (1, 3, 5, 10, 20, 40)
CELLS = 2**22  # similarities computed at a time, 32 MiB


@saved
class Similarity(OfTexts):
    """Vectors of length 1 whose product is the mean of two cosines: of TF-IDF, and of embeddings by `model`."""

    def __init__(self, model: str = DEFAULT) -> None:
        self.model = model

    def fit_transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> sparse.csr_matrix:
        self.ngrams_ = NGrams()
        self.embeddings_ = Embeddings(model=self.model)
        return self._join(self.ngrams_.fit_transform(X, shared), self.embeddings_.fit_transform(X, shared))

    def transform(self, X: pl.DataFrame, shared: Shared = ALONE) -> sparse.csr_matrix:
        return self._join(self.ngrams_.transform(X, shared), self.embeddings_.transform(X, shared))

    def _join(self, ngrams: sparse.csr_matrix, vectors: np.ndarray) -> sparse.csr_matrix:
        # The n-grams are two blocks of length 1.
        return sparse.hstack([ngrams / 2, sparse.csr_matrix(vectors * np.sqrt(0.5))], format="csr")


class NearestNeighbours(Learner):
    """The weighted mean, vote or answer of the training rows whose texts are nearest, by TF-IDF and by embeddings.

    Parameters
    ----------
    neighbours
        How many neighbours count. None: chosen on the validation part; for kind `text`, the nearest one answers.
    sharpness
        A neighbour's weight is its similarity to this power.
    embeddings
        The reference of the model that embeds the text.
    """

    revision: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label", "text"})
    held_rows: ClassVar[int] = 2_000

    def __init__(
        self,
        neighbours: int | None = None,
        sharpness: float = 4.0,
        embeddings: str = DEFAULT,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.neighbours = neighbours
        self.sharpness = sharpness
        self.embeddings = embeddings
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    @property
    def searches(self) -> bool:  # type: ignore[override]
        return self.neighbours is None and self.kind_ != "text"

    def _features(self) -> Features:
        return Similarity(self.embeddings)

    def _learn(self, F: Any, t: np.ndarray, settings: Settings) -> Any:
        count = 1 if self.kind_ == "text" else settings.get("neighbours", self.neighbours or 10)
        return {"F": F, "t": t, "neighbours": min(count, len(t))}

    def _apply(self, model: Any, F: Any) -> np.ndarray:
        near, weights = self._nearest(model["F"], F, model["neighbours"])
        return self._answer(model["t"], near, weights)

    def _nearest(self, train: Any, F: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the `count` nearest rows, the nearest first, and their weights, both (m, count)."""
        near, weights = np.empty((F.shape[0], count), dtype=np.intp), np.empty((F.shape[0], count))
        products, chunk = Products(train), max(1, CELLS // train.shape[0])
        for start in range(0, F.shape[0], chunk):
            # Rounded, so that rows as near as each other stay in their order whatever the chunk is.
            similarity = np.round(products(F[start : start + chunk]), 7)
            order = nearest(similarity, count)
            near[start : start + chunk] = order
            weights[start : start + chunk] = np.take_along_axis(similarity, order, axis=1)
        return near, np.maximum(weights, 1e-3) ** self.sharpness

    def _answer(self, t: np.ndarray, near: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if self.kind_ == "text":
            return np.asarray(t[near[:, 0]])
        if self.kind_ == "number":
            return np.asarray((t[near] * weights).sum(axis=1) / weights.sum(axis=1))
        votes = np.zeros((len(near), len(self.classes_)))
        np.add.at(votes, (np.arange(len(near))[:, None], t[near]), weights)
        return np.asarray(votes / votes.sum(axis=1, keepdims=True))

    def _search(self, F: Any, t: np.ndarray, held_F: Any, held_t: np.ndarray) -> tuple[Settings, np.ndarray]:
        if not self.searches:
            return super()._search(F, t, held_F, held_t)
        counts = [count for count in NEIGHBOURS if count <= len(t)]
        near, weights = self._nearest(F, held_F, counts[-1])
        found = []
        for count in counts:
            answer = self._answer(t, near[:, :count], weights[:, :count])
            wrong = answer.argmax(axis=1) != held_t if self.kind_ == "label" else np.abs(answer - held_t)
            found.append((float(wrong.mean()), count, answer))
        _, count, answer = min(found, key=lambda one: one[:2])
        return {"neighbours": count}, answer
