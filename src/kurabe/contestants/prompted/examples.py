"""Which training rows a prompt shows as examples, and how their answers are written."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from kurabe.tasks.spec import Kind


def spread(y: np.ndarray, kind: Kind, count: int, seed: int) -> list[int]:
    """Positions of `count` rows that cover the target, in random order.

    `number`: one row from each of `count` equal quantile ranges. `label`: the labels in turn, the frequent first.
    `text`: at random.
    """
    random = np.random.default_rng(seed)
    count = min(count, len(y))
    if count <= 0:
        return []
    if kind == "number":
        ranges = np.array_split(np.argsort(y, kind="stable"), count)
        chosen = [int(random.choice(part)) for part in ranges]
    elif kind == "label":
        labels, counts = np.unique(y.astype(str), return_counts=True)
        queues = [
            list(random.permutation(np.flatnonzero(y == label))) for label in labels[np.argsort(-counts, kind="stable")]
        ]
        chosen = []
        while len(chosen) < count:
            chosen += [int(queue.pop()) for queue in queues if queue]
        chosen = chosen[:count]
    else:
        chosen = [int(row) for row in random.choice(len(y), count, replace=False)]
    return [chosen[position] for position in random.permutation(count)]


class Nearest:
    """The training texts most like a new one, by the cosine of their TF-IDF vectors over words."""

    def __init__(self, vectorizer: TfidfVectorizer, vectors: object) -> None:
        self.vectorizer, self.vectors = vectorizer, vectors

    @classmethod
    def fit(cls, texts: Sequence[str]) -> "Nearest | None":
        """None where the texts have no words."""
        vectorizer = TfidfVectorizer(
            token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, max_features=50_000, dtype=np.float32
        )
        try:
            return cls(vectorizer, vectorizer.fit_transform(texts))
        except ValueError:
            return None

    def find(self, texts: Sequence[str], count: int) -> list[list[int]]:
        """For each text the positions of the `count` nearest rows, the nearest last."""
        likeness = (self.vectorizer.transform(texts) @ self.vectors.T).toarray()  # type: ignore[attr-defined]
        count = min(count, likeness.shape[1])
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count] if count else np.empty((len(texts), 0), int)
        return [
            sorted(row.tolist(), key=lambda i: (scores[i], -i)) for row, scores in zip(nearest, likeness, strict=True)
        ]


def decimals_of(y: np.ndarray) -> int | None:
    """How answers are written: 0 where all are whole numbers, 2 where none has more (prices), else None."""
    for decimals in (0, 2):
        if np.allclose(y, np.round(y, decimals), rtol=0, atol=1e-9):
            return decimals
    return None


def write_number(value: float, decimals: int | None) -> str:
    """A number as an example shows it.

    >>> write_number(35.3, 2), write_number(7.0, 0), write_number(0.123456789, None)
    ('35.30', '7', '0.123457')
    """
    return f"{value:.6g}" if decimals is None else f"{value:.{decimals}f}"
