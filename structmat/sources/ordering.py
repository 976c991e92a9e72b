"""Orders of points and of matrices in which neighbours stay together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from structmat import _array
from structmat._array import as_content
from structmat._checks import host_array
from structmat.contract.operators import Operators
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray
from structmat.matrices.permutation import Permutation
from structmat.sources.source import Source
from structmat.sources.tree import kd_tree

#: Columns, and rows, of a matrix by which its rows are told apart.
SAMPLED = 512
#: Coordinates that a row has in the end.
COORDINATES = 16


def ordering(points_or_matrix: Any) -> Permutation:
    """Order of points, or of a square matrix, in which neighbours stay together.

    Rows and columns of a kernel matrix in this order have near pairs at the diagonal, and smooth
    blocks of low rank beside it.

    Parameters
    ----------
    points_or_matrix : array, shape (n, d) or (n, n), or sparse or structured matrix
        Points, a row a point; or a matrix: a square array, a sparse or structured matrix, or a
        source, whose points say the order where it has some.

    Returns
    -------
    Permutation
        P, on NumPy: ``P @ points`` are the points in order, and ``P @ A @ P.T`` is the matrix.

    Raises
    ------
    InputError
        If points or entries are no finite numbers, or points are not real.
    ShapeError
        If there are not two dimensions, or a structured or sparse matrix is not square.

    Notes
    -----
    Points are the leaves of a k-d tree: O(n log² n) time. Ties keep their order, so the result
    is deterministic. A matrix is looked at in up to 512 of its columns and rows: each row gets
    coordinates by the leading singular vectors of their absolute values, scaled to equal sums
    (Dhillon, "Co-clustering documents and words using bipartite spectral graph partitioning",
    2001), and a k-d tree orders them. A sparse matrix is ordered by reverse Cuthill-McKee.

    Examples
    --------
    >>> import numpy as np
    >>> ordering(np.array([[5.0], [1.0], [4.0], [0.0]])).p
    array([3, 1, 2, 0])
    """
    given = points_or_matrix
    if issparse(given) or isinstance(given, Operators):
        if given.shape[0] != given.shape[1]:
            raise ShapeError(
                f"a matrix of shape {tuple(given.shape)}; expected a square one (for its rows "
                "give them as points, an array)"
            )
        points = given.points if isinstance(given, Source) else None
        if points is not None:
            return Permutation(kd_order(points))
        return Permutation(_of_sparse(given) if issparse(given) else _of_matrix(given))
    array = _finite(given)
    if array.shape[0] == array.shape[1]:
        return Permutation(_of_matrix(array))
    return Permutation(order_of_points(array))


def order_of_points(points: Any) -> IntArray:
    """Order of an array of points (n, d) in which neighbours stay together, checked."""
    array = _finite(points)
    if array.dtype.kind == "c":
        raise InputError(f"points have dtype {array.dtype}; expected real coordinates")
    return kd_order(array)


def _finite(points: Any) -> NDArray:
    """Finite numbers in two dimensions, on NumPy."""
    points = host_array(points, "points") if isinstance(points, (list, tuple)) else points
    if np.ndim(points) != 2:
        raise ShapeError(
            f"points of shape {tuple(np.shape(points))}; expected (n, d), a row a point, or a "
            "matrix (n, n)"
        )
    array = _array.to_numpy(as_content(points, "points", 2))
    if not np.isfinite(array).all():
        raise InputError("points hold NaN or infinity; expected finite numbers: drop those rows")
    return array


def kd_order(points: NDArray) -> IntArray:
    """Order of finite points (n, d) as the leaves of a k-d tree of single points.

    Examples
    --------
    >>> kd_order(np.array([[5.0], [1.0], [4.0], [0.0]]))
    array([3, 1, 2, 0])
    """
    return kd_tree(np.asarray(points, np.float64), 1).order


def _of_matrix(A: Any) -> IntArray:
    """Order of a square array, or of a matrix that has blocks or parts."""
    n = A.shape[0]
    if n < 3:
        return np.arange(n)
    some = np.linspace(0, n - 1, min(n, SAMPLED)).astype(np.int64)
    every = np.arange(n)
    parts = [_part(A, every, some), _part(A, some, every).T]
    return kd_order(_coordinates(np.abs(np.concatenate(parts, axis=1))))


def _part(A: Any, rows: IntArray, cols: IntArray) -> NDArray:
    if isinstance(A, np.ndarray):
        return A[np.ix_(rows, cols)]
    if isinstance(A, Source):
        return _array.to_numpy(A.block(rows, cols))
    return A._submatrix(rows, cols).toarray()


def _coordinates(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates of rows by nonnegative weights (n, s): alike where the weights are."""
    down, across = (np.sqrt(np.maximum(weights.sum(axis=axis), 0)) for axis in (1, 0))
    down, across = (np.where(side > 0, side, 1.0) for side in (down, across))
    scaled = weights / down[:, None] / across
    _, vectors = np.linalg.eigh(scaled.T @ scaled)
    leading = vectors[:, ::-1][:, : COORDINATES + 1]
    return (scaled @ leading) / down[:, None]


def _of_sparse(A: Any) -> IntArray:
    pattern = csr_array(A)
    pattern.data = np.ones(len(pattern.data), np.int8)
    order: IntArray = reverse_cuthill_mckee((pattern + pattern.T).tocsr(), symmetric_mode=True)
    return order.astype(np.int64)
