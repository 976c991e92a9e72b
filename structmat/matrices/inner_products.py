"""Frobenius norms from inner products: of sums with simple terms, and of sparse factors."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, issparse

from structmat._array import Array, to_numpy
from structmat.intervals import offsets, positions
from structmat.matrix import StructuredMatrix

#: Matrices with fewer entries take their norm from products, which lose no digits.
LARGE = 2**20
#: Most entries of products that are held at once: 64 MiB in double precision.
ENTRIES = 2**23

#: Terms whose inner product with any matrix takes a few of its products, or its diagonal.
_SIMPLE = ("low_rank", "hermitian_low_rank", "diagonal", "identity", "permutation")
#: Least norm, as a share of those of the terms, that inner products leave enough digits of.
_LEAST = 1e-2


def norm_of_sum(terms: tuple[StructuredMatrix, ...]) -> float | None:
    """Frobenius norm of a sum of at most one term that is not simple.

    None for others, and where terms cancel so far that digits would be lost.
    """
    found = sorted(map(unscaled, terms), key=lambda part: not is_simple(part[0]))
    if not all(is_simple(A) for A, _ in found[:-1]):
        return None
    parts = [(A, 1.0 if alpha is None else complex(alpha)) for A, alpha in found]
    sizes = [A.norm() * abs(alpha) for A, alpha in parts]
    square = sum(size**2 for size in sizes)
    for (A, alpha), (B, beta) in itertools.combinations(parts, 2):
        square += 2 * float(np.real(np.conj(alpha) * beta * _inner(A, B)))
    if not square > _LEAST**2 * sum(size**2 for size in sizes):
        return None
    return math.sqrt(square)


def is_simple(A: StructuredMatrix) -> bool:
    """True for a matrix whose inner product with another one is cheap."""
    return A.kind in _SIMPLE


def unscaled(A: StructuredMatrix) -> tuple[StructuredMatrix, Array | None]:
    """The matrix inside a multiple, and its number; A and None for no multiple.

    Examples
    --------
    >>> import structmat
    >>> unscaled(2.0 * structmat.Identity(3))[1]
    array(2.)
    """
    if A.kind != "scaled":
        return A, None
    special: Any = A
    return A.children[0], special.alpha


def _inner(A: Any, B: StructuredMatrix) -> complex:
    """Sum of all conj(a_ij) b_ij, for a simple A."""
    if A.kind in ("low_rank", "hermitian_low_rank"):
        low = A.to_kind("low_rank")
        image = to_numpy(B.matmat(B.xp.astype(low.V, _wide(A, B))))
        return complex((to_numpy(low.U).conj() * image).sum())
    at = np.arange(A.shape[0])
    if A.kind == "permutation":
        return complex(to_numpy(B._entries_at(at, to_numpy(A.p))).sum())
    entries = to_numpy(B._entries_at(at, at))
    return complex((to_numpy(A.diagonal()).conj() * entries).sum())


def _wide(A: StructuredMatrix, B: StructuredMatrix) -> Any:
    return A.xp.result_type(A.dtype, B.dtype)


def columns_of_runs(contents: Any, start: Any, width: Any, n: int) -> csc_array:
    """Contents on runs as the columns of a sparse matrix (n, K), in double precision."""
    wide = contents.astype(np.result_type(contents.dtype, np.float64))
    at = positions(start, width, n)
    matrix = csc_array((wide, at, offsets(width)), shape=(n, len(width)))
    matrix.sort_indices()
    return matrix


def norm_of_factors(U: Any, V: Any) -> float | None:
    """Norm of U V^H for sparse factors; None where cancellation would lose digits."""
    square, terms = square_of_factors(U, V)
    return math.sqrt(square) if square > _LEAST**2 * terms else None


def square_of_factors(U: Any, V: Any) -> tuple[float, float]:
    """Square of the norm of U V^H, and the sum of the absolute values of its terms."""
    total = terms = 0.0
    step = max(1, ENTRIES // max(V.shape[1], 1))
    for first in range(0, V.shape[1], step):
        some = slice(first, first + step)
        left, right = (_wide_array(F[:, some]).conj().T @ _wide_array(F) for F in (U, V))
        part, part_terms = product_sum(left, right)
        total, terms = total + part, terms + part_terms
    return total, terms


def product_sum(X: Any, Y: Any) -> tuple[float, float]:
    """Real part and absolute sum of all X conj(Y), for dense or sparse arrays of one shape."""
    if issparse(X) and issparse(Y):
        product: NDArray = X.multiply(Y.conj()).tocoo().data
    else:
        complex_ = any(a.dtype.kind == "c" for a in (X, Y))
        product = _dense(X).astype(np.complex128 if complex_ else np.float64)
        product = product * _dense(Y).conj()
    return float(product.real.sum()), float(np.abs(product).sum())


def _wide_array(X: Any) -> Any:
    return X.astype(np.result_type(X.dtype, np.float64))


def _dense(X: Any) -> NDArray:
    dense: NDArray = X.toarray() if issparse(X) else X
    return dense
