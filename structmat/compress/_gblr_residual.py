"""Rank-1 blocks on cyclic runs, and what a set of them leaves of a matrix.

The search sees the residual only through products with narrow vectors and through
`change`, so that it runs alike on a dense array and on a factored one.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "DenseResidual", "Residual", "squares", "take", "widen"]


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


class Residual(Protocol):
    """What the search may ask of R = A - (the blocks taken out so far)."""

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102

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


class DenseResidual:
    """A residual held as an array that it may overwrite."""

    def __init__(self, array: NDArray) -> None:
        self.array = array
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])

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
                self.array[rows, cols] += u[i, None] * bar[j]

    def energy(self) -> float:
        """Squared Frobenius norm of R."""
        return float(np.linalg.norm(self.array)) ** 2
