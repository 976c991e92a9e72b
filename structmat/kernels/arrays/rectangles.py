"""Products of rectangles in NumPy: those of one shape and one rank in one batched product."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import Group, Rectangles, triangle_index

#: Most entries of the operands of a batched product.
_MOST_ENTRIES = 2**22


class RectangleBatches:
    """The sum of all rectangles, times operands on NumPy; contents of any dtype."""

    def __init__(self, rectangles: Rectangles, u: NDArray, v: NDArray, dense: NDArray) -> None:
        self._rectangles, self._contents = rectangles, (u, v, dense)
        self._groups = rectangles.groups()

    def multiply(self, x: NDArray) -> NDArray:
        """A x: (n, k) to (m, k)."""
        return self._product(x, adjoint=False)

    def multiply_adjoint(self, y: NDArray) -> NDArray:
        """A^H y: (m, k) to (n, k)."""
        return self._product(y, adjoint=True)

    def stacks(self) -> Iterator[tuple[Group, tuple[NDArray, ...]]]:
        """Every group with its contents: U^T (c, r, p) and V^T (c, r, q), or entries (c, p, q).

        Large groups come in parts. Triangles are filled in.
        """
        for group in self._groups:
            size = max(1, sum(group.shape) * max(group.rank, 1), group.shape[0] * group.shape[1])
            step = max(1, _MOST_ENTRIES // size)
            for first in range(0, group.members.size, step):
                part = group._replace(members=group.members[first : first + step])
                yield part, self._stacked(part)

    def _stacked(self, group: Group) -> tuple[NDArray, ...]:
        (p, q), (u, v, dense) = group.shape, self._contents
        in_u, in_v, in_dense = (begin[group.members, None] for begin in self._rectangles.begins)
        if group.rank >= 0:
            sides = (u, in_u, p), (v, in_v, q)
            return tuple(
                flat[begin + np.arange(group.rank * size)].reshape(
                    group.members.size, group.rank, size
                )
                for flat, begin, size in sides
            )
        if not group.triangular:
            return (dense[in_dense + np.arange(p * q)].reshape(-1, p, q),)
        i, j = np.indices((p, p))
        full = dense[in_dense[:, :, None] + triangle_index(i, j)]
        if np.iscomplexobj(full):
            full = np.where(i < j, full.conj(), np.where(i == j, full.real, full))
        return (full,)

    def _product(self, x: NDArray, *, adjoint: bool) -> NDArray:
        symmetric, shape = self._rectangles.symmetric, self._rectangles.shape
        y = np.zeros((shape[adjoint], x.shape[1]), x.dtype)
        for group, contents in self.stacks():
            sides = [self._rectangles.table[group.members, side] for side in (0, 2)]
            sizes = list(group.shape)
            if symmetric or not adjoint:
                _add(y, x, sides, sizes, _forwards(contents))
            if (symmetric and not group.triangular) or (adjoint and not symmetric):
                _add(y, x, sides[::-1], sizes[::-1], _backwards(contents))
        return y


def _forwards(contents: tuple[NDArray, ...]) -> tuple[NDArray, ...]:
    """Factors of a group, from the left."""
    if len(contents) == 1:
        return contents
    return contents[0].swapaxes(1, 2), contents[1].conj()


def _backwards(contents: tuple[NDArray, ...]) -> tuple[NDArray, ...]:
    """Factors of the adjoint of a group, from the left."""
    return tuple(factor.conj().swapaxes(1, 2) for factor in reversed(_forwards(contents)))


def _add(
    y: NDArray, x: NDArray, starts: list[IntArray], sizes: list[int], factors: tuple[NDArray, ...]
) -> None:
    """Add the products of a group to y, some columns at a time."""
    rows, cols = (
        start[:, None] + np.arange(size) for start, size in zip(starts, sizes, strict=True)
    )
    ones = np.ones(rows.size, y.real.dtype)
    where = csr_array((ones, (rows.ravel(), np.arange(rows.size))), shape=(y.shape[0], rows.size))
    step = max(1, _MOST_ENTRIES // max(rows.size + cols.size, 1))
    for first in range(0, x.shape[1], step):
        some = slice(first, first + step)
        z = x[cols, some]
        for factor in reversed(factors):
            z = factor @ z
        y[:, some] += where @ z.reshape(rows.size, z.shape[-1])
