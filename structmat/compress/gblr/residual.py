"""Rank-1 blocks on cyclic runs, and what a set of them leaves of a matrix.

The search sees the residual only through products with narrow vectors and through
`change`, so that it runs alike on a dense array and on a factored one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray, offsets

#: Entries of an outer product that are formed at once.
PORTION = 2**15


def squares(x: NDArray) -> NDArray:
    """|x|^2, real."""
    return x.real**2 + x.imag**2 if np.iscomplexobj(x) else x * x


class Block(NamedTuple):
    """One block u v^H: u on the rows from `row` on, v on the columns from `col` on."""

    row: int
    u: NDArray
    col: int
    v: NDArray

    @property
    def cost(self) -> int:
        """Multiplications of one product with a vector."""
        return self.u.size + self.v.size


def pieces(start: int, width: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Where a cyclic run lies on the axis, and in its contents: one piece, or two."""
    first = min(width, n - start)
    yield slice(start, start + first), slice(0, first)
    if first < width:
        yield slice(0, width - first), slice(first, width)


def take(full: NDArray, start: int, width: int) -> NDArray:
    """Entries of `full`, shape (n,), on a cyclic run: shape (width,), a copy."""
    return np.concatenate([full[on] for on, _ in pieces(start, width, full.size)])


def widen(start: int, content: NDArray, n: int) -> NDArray:
    """A run's contents with zeros around them: shape (n,)."""
    full = np.zeros(n, content.dtype)
    for on, part in pieces(start, content.size, n):
        full[on] = content[part]
    return full


def total_cost(blocks: list[Block]) -> int:
    """Multiplications of one product with a vector."""
    return sum(block.cost for block in blocks)


class Blocks(NamedTuple):
    """Many blocks with packed contents, as `GBLR` takes them; a tenth of the objects."""

    row_start: IntArray
    row_width: IntArray
    u: NDArray
    col_start: IntArray
    col_width: IntArray
    v: NDArray


def pack(blocks: list[Block], dtype: np.dtype) -> Blocks:
    """Join the contents of all blocks."""
    none = [np.zeros(0, dtype)]
    return Blocks(
        np.array([b.row for b in blocks], np.int64),
        np.array([b.u.size for b in blocks], np.int64),
        np.concatenate([b.u for b in blocks] or none),
        np.array([b.col for b in blocks], np.int64),
        np.array([b.v.size for b in blocks], np.int64),
        np.concatenate([b.v for b in blocks] or none),
    )


def unpack(packed: Blocks) -> Iterator[Block]:
    """The blocks again, on views of the packed contents."""
    rows, cols = offsets(packed.row_width), offsets(packed.col_width)
    for k in range(len(packed.row_start)):
        u, v = packed.u[rows[k] : rows[k + 1]], packed.v[cols[k] : cols[k + 1]]
        yield Block(int(packed.row_start[k]), u, int(packed.col_start[k]), v)


class Residual(Protocol):
    """What the search may ask of R = A - (the blocks taken out so far)."""

    shape: tuple[int, int]
    dtype: np.dtype
    #: On how many scales tiles of the array may be looked at; 0 where there is no array.
    levels: int

    @property
    def array(self) -> NDArray | None:
        """R itself, where it is held."""

    def times(self, start: int, v: NDArray) -> NDArray:
        """R v for v on a run of columns: shape (m,)."""

    def adjoint_times(self, start: int, u: NDArray) -> NDArray:
        """R^H u for u on a run of rows: shape (n,)."""

    def matmat(self, X: NDArray) -> NDArray:
        """R X for X of shape (n, s)."""

    def rmatmat(self, X: NDArray) -> NDArray:
        """R^H X for X of shape (m, s)."""

    def change(self, block: Block, sign: int) -> None:
        """R <- R + sign * block."""

    def energy(self) -> float:
        """Squared Frobenius norm of R."""

    def effort(self, blocks: Sequence[Block]) -> float:
        """What it takes to fit the blocks anew, in units of about 100 microseconds."""


class DenseResidual:
    """A residual held as an array that it may overwrite."""

    def __init__(self, array: NDArray) -> None:
        self.array = array
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])
        self.dtype = array.dtype
        self.levels = max(1, min(self.shape).bit_length() - 3)
        # A complex product takes four real ones.
        self._weight = 4 if np.iscomplexobj(array) else 1

    def times(self, start: int, v: NDArray) -> NDArray:
        """R v for v on a run of columns: O(m width)."""
        parts = [self.array[:, on] @ v[p] for on, p in pieces(start, v.size, self.shape[1])]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def adjoint_times(self, start: int, u: NDArray) -> NDArray:
        """R^H u for u on a run of rows: O(n width)."""
        bar = u.conj()
        parts = [bar[p] @ self.array[on] for on, p in pieces(start, u.size, self.shape[0])]
        return (parts[0] if len(parts) == 1 else parts[0] + parts[1]).conj()

    def matmat(self, X: NDArray) -> NDArray:
        """R X: O(m n s)."""
        return self.array @ X

    def rmatmat(self, X: NDArray) -> NDArray:
        """R^H X: O(m n s)."""
        return (X.conj().T @ self.array).conj().T

    def change(self, block: Block, sign: int) -> None:
        """R <- R + sign * block, in place, on the block's rectangle only."""
        u = block.u if sign > 0 else -block.u
        bar = block.v.conj()
        for rows, i in pieces(block.row, u.size, self.shape[0]):
            for cols, j in pieces(block.col, bar.size, self.shape[1]):
                _add_outer(self.array[rows, cols], u[i], bar[j])

    def energy(self) -> float:
        """Squared Frobenius norm of R."""
        return float(np.linalg.norm(self.array)) ** 2

    def effort(self, blocks: Sequence[Block]) -> float:
        """Some forty calls a block, and products with two strips of the array."""
        m, n = self.shape
        entries = sum(m * b.v.size + n * b.u.size + 2 * b.u.size * b.v.size for b in blocks)
        return len(blocks) + entries * self._weight / 5e5


def _add_outer(target: NDArray, u: NDArray, bar: NDArray) -> None:
    """Add an outer product in place, by portions of rows that stay in the cache."""
    step = max(1, PORTION // bar.size)
    for first in range(0, u.size, step):
        some = slice(first, first + step)
        target[some] += u[some, None] * bar


class FactoredResidual:
    """A residual Y Z^H - (blocks) that is never formed: O((m + n) r + cost) memory.

    Parameters
    ----------
    Y : ndarray, shape (m, r)
    Z : ndarray, shape (n, r)
    """

    def __init__(self, Y: NDArray, Z: NDArray) -> None:
        self.Y, self.Z = Y, Z
        self.shape: tuple[int, int] = (Y.shape[0], Z.shape[0])
        self.dtype = Y.dtype
        self.levels = 0
        self.array = None
        self._blocks: dict[int, Block] = {}
        self._energy = float((squares(np.linalg.qr(Y, mode="r") @ Z.conj().T)).sum())

    def times(self, start: int, v: NDArray) -> NDArray:
        """R v for v on a run of columns: O((m + width) r + cost)."""
        return self.matmat(widen(start, v, self.shape[1])[:, None])[:, 0]

    def adjoint_times(self, start: int, u: NDArray) -> NDArray:
        """R^H u for u on a run of rows: O((n + width) r + cost)."""
        return self.rmatmat(widen(start, u, self.shape[0])[:, None])[:, 0]

    def matmat(self, X: NDArray) -> NDArray:
        """R X: O(((m + n) r + cost) s)."""
        out = self.Y @ (self.Z.conj().T @ X)
        for block in self._blocks.values():
            inner = sum(block.v[p].conj() @ X[on] for on, p in self._cols(block))
            for on, p in self._rows(block):
                out[on] -= block.u[p, None] * inner
        return out

    def rmatmat(self, X: NDArray) -> NDArray:
        """R^H X: O(((m + n) r + cost) s)."""
        out = self.Z @ (self.Y.conj().T @ X)
        for block in self._blocks.values():
            inner = sum(block.u[p].conj() @ X[on] for on, p in self._rows(block))
            for on, p in self._cols(block):
                out[on] -= block.v[p, None] * inner
        return out

    def change(self, block: Block, sign: int) -> None:
        """R <- R + sign * block; what is put back must have been taken out."""
        p = take(self.times(block.col, block.v), block.row, block.u.size)
        own = float(squares(block.u).sum() * squares(block.v).sum())
        self._energy += 2 * sign * float(np.vdot(block.u, p).real) + own
        if sign < 0:
            self._blocks[id(block)] = block
        else:
            del self._blocks[id(block)]

    def energy(self) -> float:
        """Squared Frobenius norm of R, carried along with every change."""
        return max(self._energy, 0.0)

    def effort(self, blocks: Sequence[Block]) -> float:
        """Four products a block, each with both factors and all blocks."""
        factors = sum(self.shape) * self.Y.shape[1]
        return len(blocks) * (2 + len(self._blocks) / 2 + factors / 2e5)

    def _rows(self, block: Block) -> Iterator[tuple[slice, slice]]:
        return pieces(block.row, block.u.size, self.shape[0])

    def _cols(self, block: Block) -> Iterator[tuple[slice, slice]]:
        return pieces(block.col, block.v.size, self.shape[1])
