"""What gradient boosting is told of each row: never the row's own answer."""

import numpy as np
import pytest

from kurabe.contestants.checks import table
from kurabe.contestants.trained.stack import AllViews, Kernels, StackedBoosting, _neighbours


def test_equal_rows_have_a_similarity_of_one() -> None:
    X, _ = table("number", rows=20)
    views = AllViews().fit_transform(X)
    for kernel in Kernels(views)(views):
        np.testing.assert_allclose(np.diag(kernel), 1, atol=1e-6)
        assert kernel.max() <= 1 + 1e-6
        assert np.linalg.eigvalsh(kernel).min() > -1e-6


def test_a_training_row_is_not_its_own_neighbour() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.uniform(0.1, 0.5, (30, 30)) + np.eye(30)
    t = np.arange(30.0)
    known = _neighbours(similarity, t, itself=True)
    new = _neighbours(similarity, t)
    # The last two columns are the targets of the two nearest rows.
    assert (known[:, 6] != t).all()
    assert (known[:, 7] != t).all()
    assert (new[:, 6] == t).all()
    np.testing.assert_array_equal(known[:, 6], new[:, 7])


@pytest.mark.parametrize("rows", [20, 1000])
def test_rows_that_others_are_not_compared_with_are_learned_from_too(rows: int) -> None:
    X, y = table("number", rows=200)
    new_X, new_y = table("number", rows=100, seed=3)
    guess = StackedBoosting(rows=rows, rounds=60, boosters=1).fit(X, y).predict(new_X)
    assert np.abs(guess - new_y).mean() < 0.5 * np.abs(np.median(y) - new_y).mean()
