"""Which texts an embedding model holds alike: cosine similarities, clusters with their most typical text, a map."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from kurabe.errors import InputError
from kurabe.models.shortcuts import embed

MODEL: Final = "wordllama:256"
MOST: Final = 2_000
"""Texts: their similarities are a table of that many rows and columns."""
MOST_CLUSTERS: Final = 12
"""That are tried where their number is not given."""


class Cluster(msgspec.Struct, frozen=True):
    """Texts that are alike. `name` is the most typical of them, which is most similar to the others on average;
    `members` are their places among the texts, neighbours beside each other."""

    name: str
    members: tuple[int, ...]


class Similar(msgspec.Struct, frozen=True, eq=False):
    """Texts and how alike they are.

    `similarities` (n, n) are cosines from -1 to 1 in the order of `texts`, `clusters` stand with similar ones beside
    each other, `points` (n, 2) are the texts on the plane that keeps most of their spread, and `spread` is the share of
    the variance that each of its axes keeps. `silhouette` says how well the clusters are set apart, from -1 to 1; None
    where there is one cluster or one for each text.
    """

    model: str
    texts: tuple[str, ...]
    similarities: np.ndarray
    clusters: tuple[Cluster, ...]
    points: np.ndarray
    spread: tuple[float, float]
    silhouette: float | None

    @property
    def order(self) -> list[int]:
        """The texts' places, cluster by cluster."""
        return [member for cluster in self.clusters for member in cluster.members]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; clusters name texts by their places from 0."""
        return {
            "model": self.model,
            "texts": list(self.texts),
            "clusters": [{"name": cluster.name, "members": list(cluster.members)} for cluster in self.clusters],
            "silhouette": self.silhouette,
            "similarities": [[round(float(value), 6) for value in row] for row in self.similarities],
            "points": [[round(float(value), 6) for value in row] for row in self.points],
            "spread": list(self.spread),
        }


def similar(texts: Sequence[str], *, model: str = MODEL, clusters: int | None = None) -> Similar:
    """How alike `texts` are to the embedding model `model`, in `clusters` clusters or in as many as part them best.

    The clusters are cut from the tree of Ward's linkage over the vectors at unit length, where the squared distance is
    2 − 2 × cosine; without `clusters`, the cut of 2 to 12 with the greatest mean silhouette over cosine distances
    (Rousseeuw 1987, https://doi.org/10.1016/0377-0427(87)90125-7).
    Raises InputError for fewer than two texts, an empty one, more than 2,000, or a number of clusters they can't make;
    and ModelError.
    """
    _check(texts, clusters)
    vectors = np.asarray(embed(model, list(texts)), dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1.0)
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    labels, order, silhouette = _clustered(units, cosines, clusters)
    points, spread = _plane(units)
    found = []
    for label in dict.fromkeys(labels[order].tolist()):
        members = [place for place in order if labels[place] == label]
        typical = members[int(np.argmax(cosines[np.ix_(members, members)].mean(axis=1)))]
        found.append(Cluster(texts[typical], tuple(members)))
    return Similar(model, tuple(texts), cosines, tuple(found), points, spread, silhouette)


def _check(texts: Sequence[str], clusters: int | None) -> None:
    if isinstance(texts, str):
        raise InputError("texts are a list; one text has nothing to be similar to")
    if len(texts) < 2:
        raise InputError(f"give at least two texts to compare; you gave {'one' if texts else 'none'}")
    if len(texts) > MOST:
        raise InputError(f"{len(texts):,} texts are too many to compare each with each; give at most {MOST:,}")
    for place, text in enumerate(texts, 1):
        if not text.strip():
            raise InputError(f"text {place} is empty; an empty text is similar to nothing")
    if clusters is not None and not 1 <= clusters <= len(texts):
        raise InputError(f"{len(texts)} texts make 1 to {len(texts)} clusters, not {clusters}")


def _clustered(
    units: np.ndarray, cosines: np.ndarray, clusters: int | None
) -> tuple[np.ndarray, list[int], float | None]:
    """(each text's cluster, the texts' places in the tree's order, the mean silhouette)."""
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from sklearn.metrics import silhouette_score

    # Average linkage would part a single odd text from all the others, and call that the best cut.
    tree = linkage(units, "ward", optimal_ordering=len(units) <= MOST // 4)
    distances = 1.0 - (cosines + cosines.T) / 2
    order = [int(place) for place in leaves_list(tree)]
    size = len(cosines)
    tried = range(2, min(MOST_CLUSTERS, size - 1) + 1) if clusters is None else (clusters,)
    best, chosen = None, np.ones(size, dtype=int)
    for count in tried:
        labels = fcluster(tree, count, "maxclust")
        if clusters is not None:
            chosen = labels
        if 2 <= len(set(labels.tolist())) < size:
            score = float(silhouette_score(distances, labels, metric="precomputed"))
            if best is None or score > best:
                best, chosen = score, labels
    return chosen, order, best


def _plane(units: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The first two principal components, (n, 2), and the share of the variance that each keeps."""
    centred = units - units.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(units), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = left[:, :kept] * sizes[:kept]
    # A component's sign is arbitrary: the largest value points to the right and up.
    signs = np.sign(points[np.abs(points).argmax(axis=0), range(2)])
    total = float((sizes**2).sum()) or 1.0
    shares = [float(size**2) / total for size in sizes[:2]] + [0.0, 0.0]
    return points * np.where(signs == 0, 1.0, signs), (shares[0], shares[1])


def picked(order: Sequence[int], most: int) -> list[int]:
    """At most `most` places of an order, at even distances.

    >>> picked([5, 3, 8, 1, 9], 3)
    [5, 8, 9]
    """
    if len(order) <= most:
        return list(order)
    return [order[round(i * (len(order) - 1) / max(most - 1, 1))] for i in range(most)]
