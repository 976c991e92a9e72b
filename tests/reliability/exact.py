"""Products in long double, from the definition of each kind, with the sizes of their terms.

A reference knows a matrix by its contents and static attributes alone. It is a dense array in
long double and, beside it, the same sums with every stored scalar replaced by its absolute
value: the sums of the sizes of all terms, by which rounding errors are measured.
"""

import numpy as np

REAL, COMPLEX = np.longdouble, np.clongdouble


def wide(array):
    """An array in long double."""
    array = np.asarray(array)
    return array.astype(COMPLEX if array.dtype.kind == "c" else REAL)


def sizes(array):
    """Absolute values in long double."""
    return np.abs(wide(array)).astype(REAL)


def dense(A, cast=wide):
    """The matrix as a dense array, each content array taken through `cast`."""
    return _DEFINITIONS[A.kind](A, cast)


def _product(left, right):
    # Without a special case for NaN: long double has no BLAS that could skip zeros.
    return left @ right


def _low_rank(A, cast):
    return _product(cast(A.U), cast(A.V).conj().T)


def _dense(A, cast):
    return cast(A.A)


def _identity(A, cast):
    return np.eye(A.shape[0], dtype=REAL)


def _diagonal(A, cast):
    d = cast(A.d)
    D = np.zeros(A.shape, d.dtype)
    np.fill_diagonal(D, d)
    return D


def _permutation(A, cast):
    D = np.zeros(A.shape, REAL)
    D[np.arange(A.shape[0]), A.p] = 1
    return D


def _block_sparse(A, cast):
    blocks, (m, n) = cast(A.blocks), A.shape
    _, p, q = blocks.shape
    D = np.zeros((m + p, n + q), blocks.dtype)
    for block, r, s in zip(blocks, A.rows, A.cols, strict=True):
        D[r * p : (r + 1) * p, s * q : (s + 1) * q] = block
    return D[:m, :n]


def _block_low_rank(A, cast):
    top, left = np.cumsum([0, *A.row_sizes]), np.cumsum([0, *A.col_sizes])
    D = np.zeros(A.shape, cast(np.zeros(0, A.dtype)).dtype)
    for (i, j), tile in A.tiles.items():
        low_rank = isinstance(tile, tuple)
        part = _product(cast(tile[0]), cast(tile[1]).conj().T) if low_rank else cast(tile)
        D[top[i] : top[i + 1], left[j] : left[j + 1]] = part
    return D


def _monarch(A, cast):
    L, R = cast(A.L), cast(A.R)
    (l, s, _), (k, q, p) = L.shape, R.shape
    D = np.zeros((l * s, k * p), np.result_type(L, R))
    for t in range(k * q):
        row, column = t % l, t // q
        D[np.ix_(np.arange(s) * l + row, column * p + np.arange(p))] += np.outer(
            L[row, :, t // l], R[column, t % q]
        )
    return D[: A.shape[0], : A.shape[1]]


def _gblr(A, cast):
    (m, n), u, v = A.shape, cast(A.u), cast(A.v).conj()
    D = np.zeros((m, n), u.dtype)
    a = b = 0
    for l, w, s, x in zip(A.row_start, A.row_width, A.col_start, A.col_width, strict=True):
        rows, cols = (l + np.arange(w)) % max(m, 1), (s + np.arange(x)) % max(n, 1)
        D[np.ix_(rows, cols)] += np.outer(u[a : a + w], v[b : b + x])
        a, b = a + w, b + x
    return D


def _hierarchical(A, cast):
    u, v, entries = cast(A.u), cast(A.v), cast(A.dense)
    D = np.zeros(A.shape, entries.dtype)
    a = b = c = 0
    for top, p, left, q, rank in A.blocks:
        rows, cols, half = slice(top, top + p), slice(left, left + q), False
        if rank >= 0:
            U, V = u[a : a + p * rank].reshape(rank, p), v[b : b + q * rank].reshape(rank, q)
            part = _product(U.T, V.conj())
            a, b = a + p * rank, b + q * rank
        elif half := A.symmetric and top == left:
            lower = np.zeros((p, p), D.dtype)
            lower[np.tril_indices(p)] = entries[c : c + p * (p + 1) // 2]
            part = np.tril(lower, -1) + np.tril(lower, -1).conj().T + np.diag(lower.diagonal().real)
            c += p * (p + 1) // 2
        else:
            part = entries[c : c + p * q].reshape(p, q)
            c += p * q
        D[rows, cols] += part
        if A.symmetric and not half:
            D[cols, rows] += part.conj().T
    result = np.zeros_like(D)
    result[np.ix_(A.row_order, A.col_order)] = D
    return result


def _sum(A, cast):
    return sum(dense(term, cast) for term in A.children)


def _chain(A, cast):
    D = dense(A.children[0], cast)
    for factor in A.children[1:]:
        D = _product(D, dense(factor, cast))
    return D


def _scaled(A, cast):
    return dense(A.children[0], cast) * cast(A.alpha)


def _adjoint(A, cast):
    return dense(A.children[0], cast).conj().T


def _kronecker(A, cast):
    D, E = (dense(factor, cast) for factor in A.children)
    return (D[:, None, :, None] * E[None, :, None, :]).reshape(A.shape)


def _grid(A, cast):
    top, left = np.cumsum([0, *A.row_sizes]), np.cumsum([0, *A.col_sizes])
    D = np.zeros(A.shape, cast(np.zeros(0, A.dtype)).dtype)
    for block, (i, j) in zip(A.children, A.places, strict=True):
        D[top[i] : top[i + 1], left[j] : left[j + 1]] = dense(block, cast)
    return D


def _operator(A, cast):
    return cast(A.operator.A)


def _mirrored(A, cast):
    D = dense(A.children[0], cast)
    return D + D.conj().T


def _hermitian_low_rank(A, cast):
    U, d = cast(A.U), cast(A.d).real
    return _product(U * d, U.conj().T)


_DEFINITIONS = {
    "low_rank": _low_rank,
    "dense": _dense,
    "identity": _identity,
    "diagonal": _diagonal,
    "permutation": _permutation,
    "block_sparse": _block_sparse,
    "block_low_rank": _block_low_rank,
    "monarch": _monarch,
    "gblr": _gblr,
    "hierarchical": _hierarchical,
    "sum": _sum,
    "product": _chain,
    "scaled": _scaled,
    "adjoint": _adjoint,
    "kronecker": _kronecker,
    "grid": _grid,
    "operator": _operator,
    "mirrored": _mirrored,
    "hermitian_low_rank": _hermitian_low_rank,
}
