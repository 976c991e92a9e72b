"""Factorization of a matrix that is block diagonal between two orders, block by block."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from structmat._array import Array, identity, integers, taken
from structmat.contract.operand import multiplied
from structmat.intervals import IntArray, offsets
from structmat.matrices import BlockLowRank, Diagonal, Sum
from structmat.matrices.diagonal import is_multiple
from structmat.matrices.grid import Grid
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import direct
from structmat.solvers.direct.components import Components, components_of
from structmat.solvers.direct.simple import parity
from structmat.solvers.direct.stacks import SIDE, Stack
from structmat.solvers.factorization import Factorization
from structmat.solvers.results import LogDeterminant, of_product
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import double

#: Blocks of at most this many rows are formed.
_FORMED_ROWS = 512
#: Blocks are formed while they hold at most this many numbers, or this many a stored one.
_FORMED_ENTRIES, _FORMED_RATIO = 2**24, 8
#: Most parts that are solved one after another where another method may take all at once.
_MOST_PARTS = 4
#: Blocks that hold more numbers than this for each stored one are sparse.
_FULL_RATIO = 4
#: A tile of low rank is thin if its shorter side is at least this many times its rank.
_THIN_RATIO = 8
#: Most entries of the columns that find the blocks at once.
_COLUMNS_ENTRIES = 2**22


class Part(NamedTuple):
    """Consecutive blocks, solved together or by a factorization of their own."""

    first: int
    solver: Stack | Factorization


class BlockDiagonalFactorization(Factorization):
    """Blocks between an order of the rows and one of the columns."""

    method = "block diagonal"

    def __init__(
        self,
        S: StructuredMatrix,
        parts: list[Part],
        orders: tuple[IntArray, IntArray],
        tol: float,
    ) -> None:
        super().__init__(S, tol)
        self.parts = parts
        self.sign = parity(orders[0]) * parity(orders[1])
        self.rows, self.cols = (integers(order, S.xp, S.device) for order in orders)
        self.to_rows, self.to_cols = (
            integers(np.argsort(order), S.xp, S.device) for order in orders
        )

    def _solve(self, b: Array) -> Array:
        x = self._blockwise(taken(b, self.rows, self.xp, axis=0), adjoint=False)
        return taken(x, self.to_cols, self.xp, axis=0)

    def _solve_adjoint(self, b: Array) -> Array:
        x = self._blockwise(taken(b, self.cols, self.xp, axis=0), adjoint=True)
        return taken(x, self.to_rows, self.xp, axis=0)

    def _blockwise(self, b: Array, *, adjoint: bool) -> Array:
        xp, found = self.xp, []
        for first, solver in self.parts:
            if isinstance(solver, Stack):
                count, size, _ = solver.shape
                some = xp.reshape(b[first : first + count * size, :], (count, size, b.shape[1]))
                x = solver.solve_all(some, xp, adjoint=adjoint)
                found.append(xp.reshape(x, (count * size, b.shape[1])))
            else:
                some = b[first : first + solver.shape[0], :]
                found.append(solver.unmeasured(some, adjoint=adjoint))
        return xp.concat(found, axis=0)

    def _logdet(self) -> Any:
        solvers = (solver for _, solver in self.parts)
        found = (s.logdet() if isinstance(s, Stack) else s._logdet() for s in solvers)
        return of_product(itertools.chain([LogDeterminant(self.sign, 0.0)], found))


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """Factorization of a matrix whose blocks share no rows and no columns, block by block.

    NotImplemented for a matrix of one block, and where a large block has no direct method. Also
    where a method of the kind does better: one block of most rows, many different blocks, or
    blocks of few entries, of a matrix that is no grid and has no thin tiles. Sums are taken with
    thin tiles alone.
    """
    if isinstance(A, Sum) and not are_thin(A):
        return NotImplemented
    return _by_blocks(A, shift, tol, always=isinstance(A, Grid) or are_thin(A))


def factorize_all(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """The same for all blocks, where no other method of the kind applies."""
    return _by_blocks(A, shift, tol, always=True)


def _by_blocks(A: StructuredMatrix, shift: complex, tol: float, *, always: bool) -> Any:
    found = components_of(A, shifted=shift != 0)
    if found is None or len(found.sizes) < 2:
        return NotImplemented
    formed = int((found.sizes <= _FORMED_ROWS).sum())
    if are_thin(A):
        formed = int((np.cumsum(found.sizes[:formed] ** 2) <= _FORMED_RATIO * A.storage).sum())
    entries = int((found.sizes[:formed] ** 2).sum())
    if entries > max(_FORMED_ENTRIES, _FORMED_RATIO * A.storage):
        return NotImplemented
    if not always and (
        _count(found.sizes) > _MOST_PARTS
        or 2 * found.sizes[-1] > A.shape[0]
        or entries > _FULL_RATIO * A.storage
    ):
        return NotImplemented
    parts = _formed_parts(A, shift, found, formed)
    begin = offsets(found.sizes)
    for i in range(formed, len(found.sizes)):
        some = slice(begin[i], begin[i + 1])
        inner = direct(A._submatrix(found.rows[some], found.cols[some]), shift, tol)
        if inner is NotImplemented:
            return inner
        parts.append(Part(int(begin[i]), inner))
    return BlockDiagonalFactorization(shifted(A, shift), parts, (found.rows, found.cols), tol)


def are_thin(A: StructuredMatrix) -> bool:
    """True for tiles of low rank, each much wider than that, alone or beside a diagonal.

    Examples
    --------
    >>> from structmat import LowRank, block_diag
    >>> A = LowRank(np.ones((9, 1)), np.ones((9, 1)))
    >>> are_thin(block_diag(A, A)), are_thin(block_diag(A, np.eye(2)))
    (True, False)
    """
    tiled = 0
    for term in A.children if isinstance(A, Sum) else (A,):
        if isinstance(term, BlockLowRank):
            i, j = term.places.T
            sizes = np.minimum(term.row_sizes[i], term.col_sizes[j])
            if (term.ranks < 0).any() or (_THIN_RATIO * term.ranks > sizes).any():
                return False
            tiled += 1
        elif not (isinstance(term, Diagonal) or is_multiple(term)):
            return False
    return tiled > 0


def _count(sizes: IntArray) -> int:
    """Number of solves that follow one another: small blocks of one size are one."""
    small = sizes <= SIDE
    return len(np.unique(sizes[small])) + int((~small).sum())


def _formed_parts(
    A: StructuredMatrix, shift: complex, found: Components, formed: int
) -> list[Part]:
    """Stacks of the small blocks, one for each size."""
    begin, parts = offsets(found.sizes), []
    for size in np.unique(found.sizes[:formed]).tolist():
        some = np.flatnonzero(found.sizes[:formed] == size)
        first, last = int(begin[some[0]]), int(begin[some[-1] + 1])
        rows, cols = (order[first:last].reshape(-1, size) for order in (found.rows, found.cols))
        blocks = _blocks(A, rows, cols)
        if shift:
            blocks = blocks + shift * identity(size, blocks.dtype, A.xp, A.device)
        name = _namer(A, rows)
        hermitian = A.hermitian and not complex(shift).imag and np.array_equal(rows, cols)
        parts.append(Part(first, Stack(blocks, A.xp, hermitian=hermitian, name=name)))
    return parts


def _namer(A: StructuredMatrix, rows: IntArray) -> Any:
    return lambda i: f"the block of rows {rows[i, 0]} to {rows[i, -1]} of {A!r}"


def _blocks(A: StructuredMatrix, rows: IntArray, cols: IntArray) -> Array:
    """Entries (c, p, p) of blocks that share no rows and no columns.

    Column j of all blocks comes from one product, with the sum of their unit vectors, in double
    precision: rounding errors would hide that a block is singular.
    """
    xp, (count, size) = A.xp, rows.shape
    wide = double(A.dtype, xp)
    at = integers(rows.ravel(), xp, A.device)
    place = np.full(A.shape[1], -1)
    place[cols.ravel()] = np.tile(np.arange(size), count)
    index = integers(place, xp, A.device)
    step, found = max(1, _COLUMNS_ENTRIES // max(A.shape)), []
    for first in range(0, size, step):
        some = integers(np.arange(first, min(first + step, size)), xp, A.device)
        units = xp.astype(index[:, None] == some[None, :], wide)
        found.append(taken(multiplied(A, units, adjoint=False), at, xp, axis=0))
    return xp.reshape(xp.concat(found, axis=1), (count, size, size))
