"""Rank-one blocks on cyclic runs, the residual that they leave, and the fit of one block.

A search sees the residual only through products with narrow vectors and through `change`,
so that one search serves a dense array and a factored matrix.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray, multiplications

#: Multiplications that a block has to earn beyond its cost, for the four integers of its
#: runs. Without them the search ends in thousands of tiny blocks.
BLOCK_OVERHEAD = 4
#: Bytes of the Python objects around the contents of a block.
BLOCK_BYTES = 400
#: Blocks that a search may hold in any case, however small the matrix.
FEW_BLOCKS = 256
#: Entries of an outer product that are formed at once, to stay in the cache.
OUTER_ENTRIES = 2**15


def squares(x: NDArray) -> NDArray:
    """|x|^2, real."""
    return x.real**2 + x.imag**2 if np.iscomplexobj(x) else x * x


def pieces(start: int, width: int, n: int) -> Iterator[tuple[slice, slice]]:
    """One or two slices of the axis that make up a cyclic run, each with its slice of contents."""
    first = min(width, n - start)
    yield slice(start, start + first), slice(0, first)
    if first < width:
        yield slice(0, width - first), slice(first, width)


def take(full: NDArray, start: int, width: int) -> NDArray:
    """Entries of `full`, shape (n,), on a cyclic run: shape (width,), a copy."""
    beyond = start + width - full.size
    if beyond <= 0:
        return full[start : start + width].copy()
    return np.concatenate([full[start:], full[:beyond]])


class Block(NamedTuple):
    """One block u v^H: u on the rows from `row` on, v on the columns from `col` on."""

    row: int
    u: NDArray
    col: int
    v: NDArray

    @property
    def cost(self) -> int:
        """Multiplications of one product with a vector."""
        return int(multiplications(self.u.size, self.v.size))

    @property
    def energy(self) -> float:
        """Squared Frobenius norm."""
        u, v = squares(self.u), squares(self.v)
        return float(u.sum(dtype=np.float64) * v.sum(dtype=np.float64))


def total_cost(blocks: list[Block]) -> int:
    """Cost of all blocks."""
    sizes = np.array([(block.u.size, block.v.size) for block in blocks]).reshape(-1, 2)
    return int(multiplications(*sizes.T).sum())


def most_blocks(A: "NDArray | Residual") -> int:
    """Number of blocks that a search may hold, so that the matrix bounds their memory."""
    return max(FEW_BLOCKS, A.shape[0] * A.shape[1] * A.dtype.itemsize // BLOCK_BYTES)


class Blocks(NamedTuple):
    """Blocks with packed contents, as `GBLR` takes them; a tenth of the objects."""

    row_start: IntArray
    row_width: IntArray
    u: NDArray
    col_start: IntArray
    col_width: IntArray
    v: NDArray

    @classmethod
    def of(cls, blocks: Sequence[Block], dtype: np.dtype) -> Self:
        """Join the contents of all blocks."""
        empty = [np.zeros(0, dtype)]
        return cls(
            np.array([b.row for b in blocks], np.int64),
            np.array([b.u.size for b in blocks], np.int64),
            np.concatenate([b.u for b in blocks] or empty),
            np.array([b.col for b in blocks], np.int64),
            np.array([b.v.size for b in blocks], np.int64),
            np.concatenate([b.v for b in blocks] or empty),
        )

    @classmethod
    def at(cls, places: IntArray, contents: NDArray) -> Self:
        """Blocks at (row, height, col, width), their contents on rows and on columns in turn."""
        widths = places[:, [1, 3]].ravel()
        on_columns = np.repeat(np.arange(widths.size) % 2 == 1, widths)
        row, height, col, width = places.T
        return cls(row, height, contents[~on_columns], col, width, contents[on_columns])

    @property
    def cost(self) -> int:
        """Multiplications of one product with a vector."""
        return int(multiplications(self.row_width, self.col_width).sum())

    def unpack(self) -> Iterator[Block]:
        """The blocks one by one, on views of the packed contents."""
        i = j = 0
        sides = (self.row_start, self.row_width, self.col_start, self.col_width)
        for row, height, col, width in zip(*(side.tolist() for side in sides), strict=True):
            yield Block(row, self.u[i : i + height], col, self.v[j : j + width])
            i, j = i + height, j + width


class Candidate(NamedTuple):
    """Blocks that may be the result, or a start for annealing."""

    blocks: Blocks
    #: Multiplications of one product with a vector.
    cost: int
    #: Energy that the blocks leave of the matrix.
    energy: float
    #: Energy by which a multiplication pays for itself, about as the blocks were chosen.
    price: float

    @classmethod
    def of(cls, A: NDArray, scale: np.number, blocks: list[Block], price: float) -> Self:
        """Pack blocks of A / scale, and measure the energy that they leave; empties the list."""
        packed = Blocks.of(blocks, A.dtype)
        blocks.clear()
        return cls.measured(A, scale, packed, price)

    @classmethod
    def measured(cls, A: NDArray, scale: np.number, blocks: Blocks, price: float) -> Self:
        """Measure the energy that packed blocks leave of A / scale."""
        residual = DenseResidual(A / scale)
        for block in blocks.unpack():
            residual.change(block, -1)
        return cls(blocks, blocks.cost, residual.energy(), price)


class Residual(Protocol):
    """Operations of R = A - (the blocks taken out so far) that a search needs."""

    shape: tuple[int, int]
    dtype: np.dtype
    #: Number of scales on which tiles of the array may be searched; 0 without an array.
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
        """Work of fitting the blocks again, in units of about 100 microseconds."""


class DenseResidual:
    """A residual held as an array, which is overwritten."""

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
        """Some forty calls a block, and products with two slices of the array."""
        m, n = self.shape
        entries = sum(m * b.v.size + n * b.u.size + 2 * b.u.size * b.v.size for b in blocks)
        return len(blocks) + entries * self._weight / 5e5


def _add_outer(target: NDArray, u: NDArray, bar: NDArray) -> None:
    """Add an outer product in place, a few rows at a time."""
    step = max(1, OUTER_ENTRIES // bar.size)
    for first in range(0, u.size, step):
        some = slice(first, first + step)
        target[some] += u[some, None] * bar


class Proposal(NamedTuple):
    """A block, and its gain: the energy that it takes away less the price of its cost."""

    block: Block
    gain: float


def climb(residual: Residual, col: int, v: NDArray, price: float) -> Proposal | None:
    """Best rows for v, then best columns for those rows; None without a gain.

    One step of max-subarray power iteration. For a unit vector v on a run of columns, the
    best rows are the cyclic run with the greatest sum of |(R v)_i|^2 - price. Taking turns
    between rows and columns never lowers the gain. O(m w_C + n w_R) for a block of w_R rows
    and w_C columns.
    """
    norm = float(np.linalg.norm(v))
    if not norm > 0:
        return None
    p = residual.times(col, v / v.dtype.type(norm))
    _, row, height = _best_run(squares(p) - price)
    u = take(p, row, height)
    norm = float(np.linalg.norm(u))
    if not norm > 0:
        return None
    u /= u.dtype.type(norm)
    q = residual.adjoint_times(row, u)
    total, col, width = _best_run(squares(q) - price)
    gain = total - price * (height + BLOCK_OVERHEAD)
    return Proposal(Block(row, u, col, take(q, col, width)), gain) if gain > 0 else None


def _best_run(score: NDArray) -> tuple[float, int, int]:
    """Total, start and width: `intervals.best_runs` for one row, without its overhead."""
    n = score.size
    prefix = np.empty(n + 1)
    prefix[0] = 0.0
    np.cumsum(score, out=prefix[1:])
    rise = prefix - np.minimum.accumulate(prefix)
    fall = np.maximum.accumulate(prefix) - prefix
    i, j = int(rise.argmax()), int(fall.argmax())
    inner, outer = float(rise[i]), float(prefix[n] + fall[j])
    if max(inner, outer) <= 0:
        return 0.0, 0, 0
    if inner >= outer:
        start = int(prefix[: i + 1].argmin())
        return inner, start, i - start
    start = int(prefix[: j + 1].argmax())
    return outer, j % n, n - (j - start)


def sweep(residual: Residual, blocks: list[Block], price: float) -> None:
    """Take out each block in turn, climb from it, and put back the ones that gain; in place."""
    kept = 0
    for block in blocks:
        residual.change(block, +1)
        found = climb(residual, block.col, block.v, price)
        if found is not None:
            residual.change(found.block, -1)
            blocks[kept] = found.block
            kept += 1
    del blocks[kept:]


def refit(residual: Residual, blocks: list[Block]) -> None:
    """Fit the contents of each block in turn on its own runs; the error never grows."""
    for k, block in enumerate(blocks):
        residual.change(block, +1)
        p = residual.times(block.col, unit(block.v))
        u = unit(take(p, block.row, block.u.size))
        v = take(residual.adjoint_times(block.row, u), block.col, block.v.size)
        blocks[k] = Block(block.row, u, block.col, v)
        residual.change(blocks[k], -1)


def unit(x: NDArray) -> NDArray:
    """Vectors (…, n) over their norms; zero stays zero."""
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)
