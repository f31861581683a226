"""Texts, clusters and the map; the vectors are wordllama's own, or made by hand."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import InputError, ModelError
from kurabe.lens import similar as module_function
from kurabe.lens.similar import MOST, Similar, picked, similar
from kurabe.testing import Simulator

TRAVEL = (
    "Best travel neck pillow for long flights",
    "Lightweight backpack for hiking and travel",
    "Waterproof duffel bag for outdoor adventures",
)
KITCHEN = (
    "Stainless steel cookware set for induction cooktops",
    "High-quality set of chef's knives",
    "High-performance stand mixer for baking",
)
BOOKS = (
    "New releases in fiction literature",
    "Inspiring biographies and memoirs",
    "Top self-help books for personal growth",
)
GROUPS = {frozenset(TRAVEL), frozenset(KITCHEN), frozenset(BOOKS)}


def groups(found: Similar) -> set[frozenset[str]]:
    return {frozenset(found.texts[member] for member in cluster.members) for cluster in found.clusters}


@pytest.mark.parametrize("dimensions", [64, 128, 256])
@pytest.mark.parametrize("shift", range(9))
def test_the_nine_sentences_fall_into_their_groups(dimensions: int, shift: int) -> None:
    texts = [*TRAVEL, *KITCHEN, *BOOKS]
    mixed = [texts[(shift + 4 * i) % 9] for i in range(9)]
    found = module_function(mixed, model=f"wordllama:{dimensions}")
    assert groups(found) == GROUPS
    assert sorted(found.order) == list(range(9))
    for cluster in found.clusters:
        assert cluster.name in {mixed[member] for member in cluster.members}
        means = [found.similarities[member, list(cluster.members)].mean() for member in cluster.members]
        assert mixed[cluster.members[int(np.argmax(means))]] == cluster.name
    assert found.silhouette is not None
    assert 0.1 < found.silhouette < 0.5


def test_the_figures_are_cosines_and_principal_components() -> None:
    from sklearn.decomposition import PCA

    from kurabe import embed

    texts = [*TRAVEL, *KITCHEN, *BOOKS]
    vectors = embed("wordllama:256", texts).astype(np.float64)
    found = similar(texts)
    assert found.similarities == pytest.approx(vectors @ vectors.T, abs=1e-6)
    assert (np.diag(found.similarities) == 1).all()
    pca = PCA(2, svd_solver="full").fit(vectors)
    assert np.abs(found.points) == pytest.approx(np.abs(pca.transform(vectors)), abs=1e-5)
    assert found.spread == pytest.approx(tuple(pca.explained_variance_ratio_), abs=1e-5)


def test_the_number_of_clusters_can_be_given() -> None:
    texts = [*TRAVEL, *KITCHEN, *BOOKS]
    for count in range(1, 10):
        found = similar(texts, clusters=count)
        assert len(found.clusters) == count
        assert (found.silhouette is None) == (count in (1, 9))
        assert sorted(found.order) == list(range(9))


@pytest.mark.parametrize(
    ("texts", "clusters"),
    [(["a", "b"], 1), (["a", "a"], 1), (["a"] * 5, 1), (["cat", "cat", "house in Ohio", "house in Ohio"], 2)],
)
def test_few_and_equal_texts(texts: list[str], clusters: int) -> None:
    found = similar(texts)
    assert len(found.clusters) == clusters
    assert np.isfinite(found.points).all()
    json.dumps(found.as_dict(), allow_nan=False)


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=2, max_size=14))
def test_any_texts(texts: list[str]) -> None:
    found = similar(texts)
    assert sorted(found.order) == list(range(len(texts)))
    assert (np.abs(found.similarities) <= 1).all()
    assert found.similarities == pytest.approx(found.similarities.T)
    assert np.isfinite(found.points).all()
    assert sum(found.spread) <= 1 + 1e-9


def test_a_hosted_model() -> None:
    with Simulator("vllm") as server:
        found = similar(["one", "two", "three"], model=f"openai@{server.url}:small")
        vectors = np.array([server.vector(text) for text in ("one", "two", "three")])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert found.similarities == pytest.approx(units @ units.T, abs=1e-5)


@pytest.mark.parametrize(
    ("texts", "clusters", "says"),
    [
        ([], None, "you gave none"),
        (["a"], None, "you gave one"),
        ("text", None, "texts are a list"),
        (["a", " "], None, "text 2 is empty"),
        (["a", "b"], 3, "2 texts make 1 to 2 clusters, not 3"),
        (["a", "b"], 0, "not 0"),
        (["a"] * (MOST + 1), None, "at most 2,000"),
    ],
)
def test_bad_input(texts: Sequence[str], clusters: int | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        similar(texts, clusters=clusters)


def test_a_model_that_is_none() -> None:
    with pytest.raises(ModelError, match="did you mean '256'"):
        similar(["a", "b"], model="wordllama:255")


def test_picked() -> None:
    assert picked([3, 1, 2], 5) == [3, 1, 2]
    assert picked(list(range(100)), 3) == [0, 50, 99]
    assert picked(list(range(100)), 1) == [0]
