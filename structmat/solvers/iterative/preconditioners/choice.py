"""The choice of a preconditioner by a forecast: building it, and the steps that it leaves.

All figures are multiplications. A step takes a product with S and one with the preconditioner.
The steps without one follow from a bound of the condition number, where the shift gives it. What a
preconditioner leaves of them was measured on kernel matrices of points in the square, in space and
on a sphere, and on a stiffness matrix (bcsstk16).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from structmat.matrix import StructuredMatrix
from structmat.solvers.iterative.preconditioners.block_jacobi import TILE, block_jacobi
from structmat.solvers.iterative.preconditioners.blocks import (
    blocks_of,
    has_cheap_entries,
    price_of_entry,
)
from structmat.solvers.iterative.preconditioners.hierarchical import is_hierarchical, loose_factors
from structmat.solvers.iterative.preconditioners.patterns import (
    MARKS,
    has_points,
    neighbours_by_entries,
    neighbours_by_points,
    rows_together,
)
from structmat.solvers.iterative.preconditioners.preconditioner import (
    Halves,
    Preconditioner,
    Unpreconditioned,
)
from structmat.solvers.iterative.preconditioners.sparse_inverse import sparse_inverse

#: Neighbours of a row of a sparse inverse, by points and by entries.
NEIGHBOURS, NEIGHBOURS_BY_ENTRIES = 30, 20
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
    points = has_points(A)
    s = min(NEIGHBOURS if points else NEIGHBOURS_BY_ENTRIES, n - 1) + 1
    entries = s * (s + 1) / 2 + (0 if points else MARKS + 2 * s)
    left = min(SPARSE_SHARE * steps, SPARSE_STEPS if points else 2 * SPARSE_STEPS)
    building = n * (entries * entry + s**3 / 3)
    return Offer("sparse inverse", building, 2 * n * s, left, partial(_sparse, system, s - 1))


def _sparse(system: System, count: int) -> Preconditioner:
    A = system.A
    near = neighbours_by_points(A, count) if has_points(A) else neighbours_by_entries(A, count)
    return sparse_inverse(near, blocks_of(A, system.shift.real), system.S)


def _tiles(system: System) -> Preconditioner | None:
    A = system.A
    return block_jacobi(
        blocks_of(A, system.shift, whole=not system.S.hermitian),
        rows_together(A),
        system.S,
        hermitian=system.S.hermitian,
        definite=system.may_be_definite,
    )
