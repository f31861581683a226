"""Products of sparse rows and nearest rows are what the plain way gives."""

import numpy as np
import pytest
from scipy import sparse

from kurabe.contestants.trained import similarity
from kurabe.contestants.trained.similarity import Products, nearest


def _matrix(rows: int, columns: int, seed: int) -> sparse.csr_matrix:
    """Rows in which the first columns often have a value, and the last ones seldom."""
    rng = np.random.default_rng(seed)
    present = rng.random((rows, columns)) < np.linspace(0.9, 0.001, columns)
    return sparse.csr_matrix(np.where(present, rng.random((rows, columns)), 0.0))


@pytest.mark.parametrize("cells", [0, 7 * 80, 2**25])
def test_products_are_those_of_the_matrices(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "DENSE_CELLS", cells)
    base, rows = _matrix(80, 50, seed=0), _matrix(30, 50, seed=1)
    np.testing.assert_allclose(Products(base)(rows), rows.toarray() @ base.toarray().T, rtol=1e-13)
    np.testing.assert_allclose(Products(base)(rows[:0]), np.zeros((0, 80)))


def test_a_matrix_without_values_has_products_of_zero() -> None:
    assert not Products(sparse.csr_matrix((4, 3)))(sparse.csr_matrix((2, 3))).any()


@pytest.mark.parametrize("count", [1, 3, 17, 39, 40, 60])
def test_the_nearest_are_those_that_a_stable_sort_gives(count: int) -> None:
    values = np.round(np.random.default_rng(count).random((200, 40)), 1)  # many are equal
    np.testing.assert_array_equal(nearest(values, count), np.argsort(-values, axis=1, kind="stable")[:, :count])
