"""Factors of a matrix of tiles to a tolerance: scales, order, Cholesky or LU, condition."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.errors import SolveError
from structmat.intervals import IntArray
from structmat.solvers.elimination.inverse_norm import SINGLE_LIMIT, inverse_norm, single_dtype
from structmat.solvers.elimination.scaling import Scales
from structmat.solvers.elimination.tile_arithmetic import Thin, Tile, times
from structmat.solvers.elimination.tile_form import TileForm, is_hermitian, shifted
from structmat.solvers.elimination.tile_loops import Eliminated, SingularTile, eliminate
from structmat.solvers.elimination.tile_plan import ordered
from structmat.solvers.elimination.tile_scaling import (
    balanced,
    frobenius,
    has_positive_diagonal,
    one_norm,
)
from structmat.solvers.verify import LIMIT

#: Truncation is repeated at the rounding error where it times the inverse is above this.
SAFE = 0.1
#: Errors of the factors below this many roundings are not counted.
ROUNDINGS = 1e4
#: Vectors that estimate the size of the inverse.
PROBES = 4


class TileFactors(NamedTuple):
    """Factors of a scaled and ordered matrix of tiles.

    Attributes
    ----------
    factors : Eliminated
    scales : Scales or None
    order : ndarray of int or None
        Rows of the matrix in the order of the factors.
    method : str
    truncation : float
        Frobenius norm of what the factors miss of the scaled matrix; 0 at the rounding error.
    condition : float
        Estimate of the condition number of the scaled matrix.
    """

    factors: Eliminated
    scales: Scales | None
    order: IntArray | None
    method: str
    truncation: float
    condition: float

    def log_determinant_error(self) -> float:
        """Size of the change of the logarithm that truncation makes, to first order.

        The change is the trace of S^-1 times what was left out, so at most the product of the
        two Frobenius norms; a few solves estimate that of the inverse.
        """
        if self.truncation == 0:
            return 0.0
        n = int(self.factors.begins[-1])
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (n, PROBES))
        size = np.linalg.norm(self.factors.solve(signs.astype(self.factors.dtype)))
        return float(self.truncation * size / np.sqrt(PROBES))


def tile_factors(
    form: TileForm, shift: complex, tol: float, *, single: bool, most_size: float = np.inf
) -> TileFactors | None:
    """Factors of a matrix of tiles, in double precision, plus a multiple of the identity.

    What truncation leaves out is at most `tol` times the smaller of the shift and the root mean
    square of the singular values. It is repeated at the rounding error where it could have
    cost definiteness or the inverse. The factors are in single precision if that is asked for,
    and enough.

    Parameters
    ----------
    form : TileForm
    shift : float or complex
    tol : float
    single : bool
    most_size : float
        Most scalars that the factors may hold.

    Returns
    -------
    TileFactors or None
        None where row interchanges inside diagonal tiles are not enough.

    Raises
    ------
    SolveError
        If the matrix is singular, exactly or numerically.
    TooLarge
        If the factors hold more than `most_size` scalars.
    """
    S = shifted(form, shift)
    found = None
    if single:
        found = _factors(_astype(S, single_dtype(S.dtype)), shift, tol, most_size)
    if found is None or found.condition > SINGLE_LIMIT:
        found = _factors(S, shift, tol, most_size)
    if found is not None and not found.condition < LIMIT:
        raise SolveError(
            f"the matrix is numerically singular: its condition number is about "
            f"{found.condition:.2g}; expected less than {LIMIT:.2g} (add a shift)"
        )
    return found


def _factors(S: TileForm, shift: complex, tol: float, most_size: float) -> TileFactors | None:
    definite = is_hermitian(S) and has_positive_diagonal(S)
    S, scales = balanced(S, definite=definite)
    S, order = ordered(S)
    n, norm, size = int(S.begins[-1]), one_norm(S), frobenius(S)
    eps = float(np.finfo(S.dtype).eps)
    least = min(size / max(np.sqrt(n), 1), _smallest(shift, scales) or np.inf)
    found = _eliminated(S, definite, max(eps * size, tol * least), eps * size, most_size)
    if found is None:
        return None
    factors, inverse, error = found
    measured = _backward_error(factors, S, norm)
    if not measured <= tol:
        return None
    missed = factors.truncation if error > eps * size else 0.0
    if measured > ROUNDINGS * eps:
        missed = max(missed, measured * size)
    thin = any(isinstance(tile, Thin) for tile in S.tiles.values())
    method = f"block{'-low-rank' if thin else ''} {'Cholesky' if factors.definite else 'LU'}"
    return TileFactors(factors, scales, order, method, missed, norm * inverse)


def _eliminated(
    S: TileForm, definite: bool, error: float, precise: float, most_size: float
) -> tuple[Eliminated, float, float] | None:
    """Factors, the size of the inverse, and what truncation may have left out.

    Truncation that may have cost definiteness or the inverse is repeated at the rounding error.
    """
    ways = [(way, most) for way in {definite, False} for most in {error, precise}]
    indefinite = False
    for way, most in sorted(ways, reverse=True):
        if way and indefinite:
            continue
        tile_error = most / max(len(S.sizes), 1)
        try:
            factors = eliminate(
                S.tiles, S.begins, S.dtype,
                definite=way, tile_error=tile_error, most_size=most_size,
            )  # fmt: skip
        except SingularTile as found:
            indefinite = found.lowest < -most
            continue
        inverse = inverse_norm(factors, int(S.begins[-1]), S.dtype)
        if factors.truncation * inverse <= SAFE or most <= precise:
            return factors, inverse, most
    return None


def _smallest(shift: complex, scales: Scales | None) -> float:
    """Smallest multiple of the identity that the shift adds to the scaled matrix."""
    least = 1.0 if scales is None else float((scales.rows * scales.cols).min(initial=np.inf))
    return abs(shift) * least


def _backward_error(factors: Eliminated, S: TileForm, norm: float) -> float:
    """Backward error of a solve with random numbers, large where pivots were too small."""
    n = int(S.begins[-1])
    b = np.random.default_rng(0).standard_normal((n, 1)).astype(S.dtype)
    with np.errstate(all="ignore"):
        x = factors.solve(b)
        left = np.linalg.norm(b - product(S, x))
        size = norm * np.linalg.norm(x) + np.linalg.norm(b)
    return float(left / size) if n else 0.0


def product(form: TileForm, x: NDArray) -> NDArray:
    """S x for columns x (n, k)."""
    y = np.zeros((x.shape[0], x.shape[1]), np.result_type(form.dtype, x.dtype))
    begins = form.begins
    for (i, j), tile in form.tiles.items():
        y[begins[i] : begins[i + 1]] += times(tile, x[begins[j] : begins[j + 1]])
    return y


def _astype(form: TileForm, dtype: Any) -> TileForm:
    def change(tile: Tile) -> Tile:
        if isinstance(tile, Thin):
            return Thin(tile.U.astype(dtype), tile.V.astype(dtype))
        return tile.astype(dtype)

    return replace(form.map(change), dtype=np.dtype(dtype))
