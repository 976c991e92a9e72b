"""Sparse approximate inverses whose rows are made, and lie, on workers.

G has rows as those of `solvers.iterative.preconditioners.sparse_inverse`: of a few points near
each one, earlier in an order from coarse to fine. Some rows of G in a stretch are a part of it.
"""

from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from structmat._array import Array, namespace
from structmat.distributed.graph import Graph
from structmat.distributed.part import Part, Parts
from structmat.distributed.product import Way, applied
from structmat.intervals import IntArray
from structmat.kernels.arrays.csr import RowsFactor
from structmat.kernels.cpu.threads import one_thread
from structmat.solvers.iterative.preconditioners.blocks import blocks_of, points_of
from structmat.solvers.iterative.preconditioners.choice import NEIGHBOURS
from structmat.solvers.iterative.preconditioners.neighbours import (
    coarse_to_fine,
    earlier_neighbours,
)
from structmat.solvers.iterative.preconditioners.preconditioner import Halves
from structmat.solvers.iterative.preconditioners.sparse_inverse import inverse_rows


class DistributedInverse(Halves):
    """Preconditioner G^H G of a sparse G (n, n) whose rows lie on workers.

    Columns r are in the order of the matrix, G r is in the order of its parts.
    """

    name = "sparse inverse"

    def __init__(self, parts: Parts, order: IntArray, log_half: float) -> None:
        self.parts, self._order, self.log_half = parts, order, log_half

    def half(self, r: Array) -> Array:
        """G r for columns r (n, k)."""
        return applied(self.parts, r[self._order], self._order.size, Way.PLAIN)

    def half_adjoint(self, r: Array) -> Array:
        """G^H r for columns r (n, k)."""
        found = applied(self.parts, r, self._order.size, Way.ADJOINT)
        z = np.empty_like(found)
        z[self._order] = found
        return z


def distributed_inverse(
    client: Any, source: Any, order: IntArray, shift: float, count: int
) -> DistributedInverse:
    """A sparse approximate inverse of A + shift I for a source A that has points.

    Its rows are cut into `count` stretches of an order in which neighbours are together. About
    NEIGHBOURS³ / 3 multiplications a row, shared out among workers.

    Raises
    ------
    Indefinite
        If a small block of A + shift I is not positive definite.
    """
    graph, n = Graph(client), order.size
    given = graph.add("points", [], source), graph.add("order", [], order)
    bounds = [n * i // count for i in range(count + 1)]
    keys = [
        graph.add("sparse-inverse", [i], (rows_of_inverse, *given, shift, a, b))
        for i, (a, b) in enumerate(pairwise(bounds))
        if a < b
    ]
    parts = Parts(client, graph.run(keys))
    logs = client.gather(client.map(_log_half, parts.futures, pure=False))
    return DistributedInverse(parts, order, float(np.sum(logs)))


class SparseRows:
    """Some rows of a sparse G, as a factor of products."""

    kind, hermitian, neutral, device = "sparse", False, True, "cpu"

    def __init__(self, rows: csr_array, log_half: float) -> None:
        self.shape, self.dtype, self.log_half = rows.shape, rows.dtype, log_half
        self.cost = self.storage = rows.nnz
        self._rows = rows

    @property
    def xp(self) -> ModuleType:
        """NumPy."""
        return namespace(self._rows.data)

    def _multiply(self, x: NDArray[Any]) -> NDArray[Any]:
        return RowsFactor(self._rows).matmat(x)

    def _multiply_adjoint(self, y: NDArray[Any]) -> NDArray[Any]:
        return RowsFactor(self._rows).rmatmat(y)


def rows_of_inverse(source: Any, order: IntArray, shift: float, first: int, last: int) -> Part:
    """Rows `first` to `last` of G, of the matrix in an order; runs on a worker."""
    points = points_of(source)
    assert points is not None
    elimination = coarse_to_fine(order.size)
    places = np.flatnonzero((elimination >= first) & (elimination < last))
    with one_thread():
        near = earlier_neighbours(points[order], elimination, NEIGHBOURS, places)
    blocks = blocks_of(source, shift)
    begin, end = int(near[near >= 0].min()), int(near.max()) + 1
    named = np.append(order, -1)
    with one_thread():
        rows, log_half = inverse_rows(
            np.where(near >= 0, near - begin, -1),
            lambda some: blocks(named[np.where(some >= 0, some + begin, -1)]),
            np.dtype(source.dtype),
            end - begin,
        )
    return Part((first, last), (begin, end), SparseRows(rows, log_half))


def _log_half(part: Part) -> float:
    found: float = part.matrix.log_half
    return found
