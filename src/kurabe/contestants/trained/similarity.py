"""Products of sparse rows such as n-grams, and the rows that are nearest by them."""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import safe_sparse_dot

OFTEN = 0.05  # of the rows have a value in a column that is multiplied as a dense one
DENSE_CELLS = 2**25  # of such columns at most, 256 MiB


class Products:
    """The products of any rows with the rows of one matrix.

    Columns in which many rows have a value are multiplied by BLAS, all others as sparse ones. Of n-grams, a few columns
    make nearly all of the work, so that this takes a thirtieth of the time of scipy's product of sparse matrices.

    Parameters
    ----------
    base
        (n, d), the rows that others are multiplied with.

    Examples
    --------
    >>> rows = sparse.csr_matrix(np.array([[1.0, 2.0], [0.0, 3.0]]))
    >>> Products(rows)(rows)
    array([[5., 6.],
           [6., 9.]])
    """

    def __init__(self, base: sparse.csr_matrix) -> None:
        counts = np.bincount(base.indices, minlength=base.shape[1])
        most = np.argsort(-counts, kind="stable")[: DENSE_CELLS // max(base.shape[0], 1)]
        dense = np.zeros(base.shape[1], dtype=bool)
        dense[most[counts[most] > OFTEN * base.shape[0]]] = True
        self._dense, self._sparse = np.flatnonzero(dense), np.flatnonzero(~dense)
        columns = base.tocsc()
        self._often = columns[:, self._dense].toarray()
        self._seldom = sparse.csr_matrix(columns[:, self._sparse].T)

    def __call__(self, rows: sparse.csr_matrix) -> np.ndarray:
        """The (m, n) products of (m, d) rows."""
        columns = rows.tocsc()
        products = columns[:, self._dense].toarray() @ self._often.T
        products += safe_sparse_dot(columns[:, self._sparse].tocsr(), self._seldom, dense_output=True)
        return np.asarray(products)


def nearest(similarity: np.ndarray, count: int) -> np.ndarray:
    """The positions of the `count` largest values of each row of (m, n), (m, count), the largest first; of equal values
    the first ones.

    Examples
    --------
    >>> nearest(np.array([[0.5, 0.9, 0.5, 0.9]]), 3)
    array([[1, 3, 0]])
    """
    rows, columns = similarity.shape
    if count >= columns:
        return np.argsort(-similarity, axis=1, kind="stable")
    least = np.partition(similarity, columns - count, axis=1)[:, columns - count]
    order = np.empty((rows, count), dtype=np.intp)
    for row, values in enumerate(similarity):
        near = np.flatnonzero(values >= least[row])  # more than `count` where several are equal to the last
        order[row] = near[np.argsort(-values[near], kind="stable")[:count]]
    return order
