"""Block-low-rank matrices and square blocks: LU or Cholesky over tiles, where it pays."""

from typing import Any

import numpy as np

from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import is_small
from structmat.solvers.elimination.arranged import Arranged
from structmat.solvers.elimination.factorization import (
    EliminatedFactorization,
    in_double,
    is_single,
)
from structmat.solvers.elimination.tile_arithmetic import Thin
from structmat.solvers.elimination.tile_factors import tile_factors
from structmat.solvers.elimination.tile_form import TileForm, tile_form, tiles_in_a_row
from structmat.solvers.elimination.tile_loops import TooLarge
from structmat.solvers.elimination.tile_plan import forecast, ordered
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import has_source

#: Dense tiles with a shorter side on average are left to banded and sparse eliminations.
SHORTEST = 32
#: Most tiles in a row of the grid, whose pattern is held in full for the forecast.
MOST_TILES = 4096
#: Most scalars of the factors: 2 GiB in double precision.
MOST_SIZE = 2**28
#: A multiplication of tiles takes as long as this number of LAPACK's on a large array.
SLOWER = 3
#: Multiplications of LAPACK in the time that an operation on tiles takes beside its own.
OVERHEAD = 3e5


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """LU or Cholesky factors of A + shift I, for a matrix with square tiles on its diagonal.

    NotImplemented where a dense elimination is faster, or where row interchanges inside the
    diagonal tiles are not enough.
    """
    count = None if has_source(A) else tiles_in_a_row(A)
    if count is None or not _are_long(A.shape[0], *count):
        return NotImplemented
    form = tile_form(in_double(A))
    if form is None or not _pays(A, form):
        return NotImplemented
    return factorized(A, form, shift, tol)


def factorized(A: StructuredMatrix, form: TileForm, shift: complex, tol: float) -> Any:
    """The same for the tiles of A, whether it pays or not."""
    try:
        found = tile_factors(form, shift, tol, single=is_single(A), most_size=MOST_SIZE)
    except TooLarge:
        return NotImplemented
    if found is None:
        return NotImplemented
    factors = Arranged(found.factors, found.factors.dtype, found.scales, found.order)
    return EliminatedFactorization(
        shifted(A, shift), tol, factors, method=found.method, log_error=found.log_determinant_error
    )


def _are_long(n: int, count: int, thin: bool) -> bool:
    """Tell whether n rows in a number of tiles, some of them thin, are few long ones."""
    return count <= MOST_TILES and (thin or n >= SHORTEST * count)


def _pays(A: StructuredMatrix, form: TileForm) -> bool:
    n, thin = A.shape[0], any(isinstance(tile, Thin) for tile in form.tiles.values())
    if not form.tiles or not _are_long(n, len(form.sizes), thin):
        return False
    expected = forecast(ordered(form)[0])
    if expected.entries > MOST_SIZE:
        return False
    time = SLOWER * expected.multiplications + OVERHEAD * expected.operations
    return not is_small(A) or bool(time < np.float64(n) ** 3 / 3)
