"""Steps of conjugate gradients on chunks of rows, as they run on workers.

Each chunk of a vector carries the numbers that go with it, one a column. Every chunk computes
these from the same inner products, in the same order, so that none is sent twice.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.distributed.product import Piece, rows_of, taken
from structmat.solvers.iterative.krylov.columns import Numbers, inner, quotient, times

#: Array library of the workers.
_XP: Any = np


class Image(NamedTuple):
    """Rows of a product, and the inner products (2, k) that a step needs of it."""

    rows: NDArray[Any]
    inner: NDArray[np.float64]


class Residual(NamedTuple):
    """Rows of the residual r, the length of the step to it, and the least curvature of it."""

    rows: NDArray[Any]
    length: NDArray[np.float64]
    curvature: float


class Direction(NamedTuple):
    """Rows of the direction p of the next step, with r^H M r and the norms |r| of columns."""

    rows: NDArray[Any]
    rho: NDArray[np.float64]
    norm: NDArray[np.float64]
    curvature: float


class Report(NamedTuple):
    """Norms of the residuals of a step, and the least curvature that it has met."""

    norm: NDArray[np.float64]
    curvature: float


def imaged(p: Direction, shift: float, first: int, last: int, *pieces: Piece) -> Image:
    """Rows of q = (A + shift I) p, with p^H q and p^H p."""
    with np.errstate(all="ignore"):
        q = rows_of(first, last, *pieces)
        q = q + shift * p.rows if shift else q
        return Image(q, np.array([inner(p.rows, q, _XP).real, inner(p.rows, p.rows, _XP).real]))


def stepped(
    r: Any, p: Direction, image: Image, bound: NDArray[np.float64], *every: Numbers
) -> Residual:
    """Rows of the residual after a step along p; columns within their bounds stay.

    `every` has the inner products of all chunks, where there are several.
    """
    with np.errstate(all="ignore"):
        curvature, square = np.sum(every, axis=0) if every else image.inner
        moves = ~(p.norm <= bound)
        length = np.where(moves, quotient(p.rho, curvature), 0.0)
        least = np.min(quotient(curvature, square), where=moves, initial=np.inf)
        rows = taken(0, len(p.rows), r) - times(image.rows, length, _XP)
        return Residual(rows, length, float(least))


def moved(x: NDArray[Any], p: Direction, r: Residual) -> NDArray[Any]:
    """Rows of x after a step along p."""
    return x + times(p.rows, r.length, _XP)


def preconditioned(r: Any, first: int, last: int, *pieces: Piece) -> Image:
    """Rows of z = M r, with r^H z and r^H r."""
    with np.errstate(all="ignore"):
        rows = taken(0, last - first, r)
        z = rows_of(first, last, *pieces) if pieces else rows
        return Image(z, np.array([inner(rows, z, _XP).real, inner(rows, rows, _XP).real]))


def turned(z: Image, r: Any, p: Direction | None, *every: Numbers) -> Direction:
    """Rows of the next direction; the first one is z itself."""
    with np.errstate(all="ignore"):
        rho, square = np.sum(every, axis=0) if every else z.inner
        norm = np.sqrt(square)
        if p is None:
            return Direction(z.rows, rho, norm, np.inf)
        rows = z.rows + times(p.rows, quotient(rho, p.rho), _XP)
        return Direction(rows, rho, norm, r.curvature)


def inner_of(image: Image) -> NDArray[np.float64]:
    """The inner products of a chunk alone."""
    return image.inner


def report_of(p: Direction) -> Report:
    """The numbers of a step."""
    return Report(p.norm, p.curvature)
