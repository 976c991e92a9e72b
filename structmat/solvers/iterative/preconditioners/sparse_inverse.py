"""Sparse approximate inverses of hermitian positive definite matrices: Vecchia's, or FSAI.

Row i of G is the last one of the inverse Cholesky factor of a small block of S: of row i and a few
rows near it, earlier in an order from coarse to fine. G^H G is then near S^-1 (Kolotilina and
Yeremin 1993; for covariances, Vecchia 1988). An entry of the diagonal of G S G^H is one.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from structmat import _array
from structmat._array import Array
from structmat.intervals import IntArray, offsets
from structmat.kernels.arrays.csr import RowsFactor
from structmat.kernels.cpu.threads import num_threads, shared_out
from structmat.matrices.from_sparse import from_sparse
from structmat.matrix import StructuredMatrix
from structmat.project.compiled import HAS_NUMBA
from structmat.solvers.iterative.preconditioners.preconditioner import Halves

#: Rows whose blocks are held at once by one thread.
ROWS = 512

#: Rows (b, s) of numbers, -1 at their ends, to blocks (b, s, s), lower triangles at least.
Blocks = Callable[[IntArray], NDArray]


class Indefinite(Exception):
    """A block of S that is not positive definite: its row, and the pivot that is not positive."""

    def __init__(self, row: int, pivot: float) -> None:
        super().__init__(row, pivot)
        self.row, self.pivot = row, pivot


class SparseInverse(Halves):
    """Preconditioner G^H G of a sparse G (n, n), in compressed rows."""

    name = "sparse inverse"

    def __init__(self, rows: csr_array, log_half: float, like: StructuredMatrix) -> None:
        self.log_half = log_half
        if _array.is_numpy(like.xp):
            self._product = RowsFactor(rows)
        else:
            moved = from_sparse(rows).to(like.xp)
            self._product = moved if moved.device == like.device else moved.to(like.device)

    def half(self, r: Array) -> Array:
        """G r for columns r (n, k)."""
        return self._product.matmat(r)

    def half_adjoint(self, r: Array) -> Array:
        """G^H r for columns r (n, k)."""
        return self._product.rmatmat(r)


def sparse_inverse(near: IntArray, blocks: Blocks, like: StructuredMatrix) -> SparseInverse:
    """The sparse approximate inverse with given rows, (n, s), by the blocks of S.

    Row t of `near` lists the places of the row of G that belongs to its last entry.

    Raises
    ------
    Indefinite
        If a block is not positive definite; then S is not, either.
    """
    dtype = _array.to_numpy(like.xp.zeros(0, dtype=like.dtype)).dtype
    rows, log_half = inverse_rows(near, blocks, dtype, len(near))
    return SparseInverse(rows, log_half, like)


def inverse_rows(
    near: IntArray, blocks: Blocks, dtype: np.dtype, n: int
) -> tuple[csr_array, float]:
    """Some rows of G, in the order of the last entries of `near`, as a matrix of n columns.

    Beside them the logarithm of the product of their diagonal entries.

    Raises
    ------
    Indefinite
        If a block is not positive definite.
    """
    count, width = near.shape
    size = (near >= 0).sum(axis=1)
    values = np.zeros((count, width), np.complex128 if dtype.kind == "c" else np.float64)
    failed = np.full(-(-count // ROWS), -1)

    def work(first: int, last: int) -> None:
        for piece in range(first, last):
            some = slice(piece * ROWS, (piece + 1) * ROWS)
            failed[piece] = last_rows(blocks(near[some]), size[some], values[some])

    # Blocks of a library other than NumPy come one after another.
    shared_out(work, failed.size, num_threads() if HAS_NUMBA else 1)
    if (failed >= 0).any():
        piece = int(np.argmax(failed >= 0))
        row = piece * ROWS + int(failed[piece])
        raise Indefinite(int(near[row, size[row] - 1]), float(values[row, 0].real))
    own = near[np.arange(count), size - 1]
    pivots = values[np.arange(count), size - 1].real
    kept, order = near >= 0, np.argsort(own)
    begin = offsets(size[order])
    inner = kept[order]
    rows = csr_array(
        (values[order][inner].astype(dtype), near[order][inner].astype(np.int32), begin),
        shape=(count, n),
    )
    return rows, float(np.log(pivots).sum())


def last_rows(blocks: NDArray, size: IntArray, out: NDArray) -> int:
    """Write the last rows of the inverse Cholesky factors of blocks (b, s, s) to `out`, (b, s).

    Returns the number of the first block that is not positive definite, whose pivot then stands
    in the first place of its row, and -1 if all are.
    """
    if HAS_NUMBA:
        from structmat.solvers.iterative.preconditioners.sparse_inverse_loops import (
            last_rows as compiled,
        )

        return int(compiled(blocks, size, out))
    for t, (block, m) in enumerate(zip(blocks, size, strict=True)):
        try:
            L = np.linalg.cholesky(block[:m, :m])
        except np.linalg.LinAlgError:
            least = np.linalg.eigvalsh(block[:m, :m])[0]
            out[t, 0] = min(float(least), 0.0)
            return t
        unit = np.zeros(m, out.dtype)
        unit[-1] = 1
        out[t, :m] = np.linalg.solve(L.T, unit)
    return -1
