"""The choice of a preconditioner by a forecast: building it, and the steps that it leaves.

All figures are multiplications. A step takes a product with S and one with the preconditioner.
The steps without one follow from a bound of the condition number, where the shift gives it. What a
preconditioner leaves of them was measured on kernel matrices of points in the square, in space and
on a sphere, and on a stiffness matrix (bcsstk16).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from structmat._array import to_numpy
from structmat.intervals import IntArray
from structmat.matrices.hierarchical import Hierarchical
from structmat.matrices.lazy import split_orders
from structmat.matrix import StructuredMatrix
from structmat.solvers.preconditioners.block_jacobi import TILE, block_jacobi
from structmat.solvers.preconditioners.blocks import (
    blocks_of,
    has_cheap_entries,
    points_of,
    price_of_entry,
)
from structmat.solvers.preconditioners.hierarchical import is_hierarchical, loose_factors
from structmat.solvers.preconditioners.neighbours import (
    coarse_to_fine,
    earlier_neighbours,
    order_of_elimination,
)
from structmat.solvers.preconditioners.preconditioner import (
    Halves,
    Preconditioner,
    Unpreconditioned,
)
from structmat.solvers.preconditioners.sparse_inverse import sparse_inverse
from structmat.sources.tree import kd_tree

#: Neighbours of a row of a sparse inverse, by points and by entries.
NEIGHBOURS, NEIGHBOURS_BY_ENTRIES = 30, 16
#: Candidates for each neighbour, where entries tell which rows are near.
CANDIDATES = 3
#: Steps with sparse inverses by points, at most, and with loose factors.
SPARSE_STEPS, LOOSE_STEPS = 30.0, 6.0
#: Steps that are left of those without a preconditioner.
SPARSE_SHARE, JACOBI_SHARE = 0.5, 0.8
#: Multiplications of loose factors for each row, for a condition number of 100.
LOOSE_WORK = 1e5
#: Multiples of this forecast at which building loose factors is given up.
BEYOND = 30
#: Right-hand sides for which a preconditioner is expected to serve.
SIDES = 3


class System(NamedTuple):
    """Facts about S = A + shift I."""

    #: The matrix that entries are taken from, the one that stands for it, and S.
    A: StructuredMatrix
    near: StructuredMatrix
    S: StructuredMatrix
    shift: complex
    tol: float
    #: Whether S may be positive definite: it is hermitian, and nothing speaks against it.
    may_be_definite: bool
    #: A bound of the condition number, or infinity.
    condition: float


class Offer(NamedTuple):
    """A preconditioner that could be built: its forecast, and how."""

    name: str
    #: Multiplications of building it, of applying it once, and steps that it leaves.
    building: float
    applying: float
    steps: float
    build: Callable[[], Preconditioner | None]

    def total(self, product: float) -> float:
        """Multiplications of building it and of some solves."""
        return self.building + SIDES * self.steps * (product + self.applying)


def preconditioner_of(system: System) -> Preconditioner:
    """The preconditioner with which a solve is expected to end first.

    Raises
    ------
    Indefinite
        If building it shows that S is not positive definite.
    """
    for offer in _by_forecast(system):
        found = offer.build()
        if found is not None:
            return found
    return Unpreconditioned()


def halves_of(system: System) -> Halves:
    """The preconditioner G^H G of the best forecast, for traces of logarithms.

    Raises
    ------
    Indefinite
        If building it shows that S is not positive definite.
    """
    for offer in _by_forecast(system):
        if offer.name != "hierarchical" and isinstance(found := offer.build(), Halves):
            return found
    return Unpreconditioned()


def _by_forecast(system: System) -> list[Offer]:
    return sorted(offers(system), key=lambda offer: offer.total(system.S.cost))


def offers(system: System) -> list[Offer]:
    """All preconditioners that could be built for a system, none among them."""
    n, steps = system.S.shape[0], plain_steps(system)
    found = [Offer("none", 0.0, 0.0, steps, Unpreconditioned)]
    if n < 2:
        return found
    if is_hierarchical(system.near):
        found.append(_loose(system))
    if has_cheap_entries(system.A):
        if system.may_be_definite:
            found.append(_sparse_inverse(system, steps))
        building = n * TILE * price_of_entry(system.A) + 2 * n * TILE**2
        build = partial(_tiles, system)
        found.append(Offer("block Jacobi", building, n * TILE, JACOBI_SHARE * steps, build))
    return found


def plain_steps(system: System) -> float:
    """Steps that are expected without a preconditioner: at most n, as of conjugate gradients."""
    n = float(system.S.shape[0])
    if not math.isfinite(system.condition):
        return n
    return min(n, 1 + 0.5 * math.sqrt(system.condition) * math.log(2 / system.tol))


def _loose(system: System) -> Offer:
    hard = system.condition if math.isfinite(system.condition) else 1 / system.tol
    each = LOOSE_WORK * max(1.0, math.log10(hard) / 2) ** 2
    building, n = each * system.S.shape[0], system.S.shape[0]

    def build() -> Preconditioner | None:
        definite = system.may_be_definite
        return loose_factors(system.near, system.shift, definite=definite, most=BEYOND * building)

    return Offer("hierarchical", building, n * math.sqrt(each), LOOSE_STEPS, build)


def _sparse_inverse(system: System, steps: float) -> Offer:
    A, n, entry = system.A, system.S.shape[0], price_of_entry(system.A)
    has_points = points_of(A) is not None
    s = min(NEIGHBOURS if has_points else NEIGHBOURS_BY_ENTRIES, n - 1) + 1
    entries = s * (s + 1) / 2 + (0 if has_points else CANDIDATES * s)
    left = SPARSE_SHARE * steps
    left = min(left, SPARSE_STEPS) if has_points else left
    building = n * (entries * entry + s**3 / 3)
    return Offer("sparse inverse", building, 2 * n * s, left, partial(_sparse, system, s - 1))


def _sparse(system: System, count: int) -> Preconditioner:
    A = system.A
    points = points_of(A)
    if points is not None:
        order = order_of_elimination(points)
        near = earlier_neighbours(points, order, count)
        # Rows that lie together are built together.
        place = np.empty(order.size, np.int64)
        place[rows_together(A)] = np.arange(order.size)
        near = near[np.argsort(place[order])]
    else:
        near = _near_by_entries(A, count)
    return sparse_inverse(near, blocks_of(A, system.shift.real), system.S)


def _near_by_entries(A: Any, count: int) -> IntArray:
    """The earlier rows of the largest entries, among those that are near in the order of A."""
    n, along = A.shape[0], rows_together(A)
    positions = np.empty((n, 1))
    positions[along, 0] = np.arange(n)
    order = along[coarse_to_fine(n)]
    near = earlier_neighbours(positions, order, min(CANDIDATES * count, n - 1))
    size = (near >= 0).sum(axis=1)
    own = near[np.arange(n), size - 1]
    t, c = np.nonzero(np.arange(near.shape[1]) < (size - 1)[:, None])
    weight = np.full(near.shape, -np.inf)
    weight[t, c] = np.abs(to_numpy(A._entries_at(own[t], near[t, c])))
    kept = np.argsort(-weight, axis=1, kind="stable")[:, :count]
    rank = np.minimum(size - 1, count)
    chosen = np.where(np.arange(count) < rank[:, None], np.take_along_axis(near, kept, axis=1), -1)
    chosen = np.concatenate([chosen, np.full((n, 1), -1)], axis=1)
    chosen[np.arange(n), rank] = own
    return chosen


def _tiles(system: System) -> Preconditioner | None:
    A = system.A
    return block_jacobi(
        blocks_of(A, system.shift, whole=not system.S.hermitian),
        rows_together(A),
        system.S,
        hermitian=system.S.hermitian,
        definite=system.may_be_definite,
    )


def rows_together(A: Any) -> IntArray:
    """An order of rows in which neighbours belong together."""
    points = points_of(A)
    if points is not None:
        return kd_tree(points, 1).order
    left, inner, _ = split_orders(A)
    if left is not None:
        return to_numpy(left._inverse)[rows_together(inner)]
    if isinstance(A, Hierarchical):
        return np.asarray(A.row_order)
    return np.arange(A.shape[0])
