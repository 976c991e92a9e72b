"""Penalised pursuit: a sum of rank-one blocks with free ends, at one price a multiplication."""

import math
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from structmat._checks import host_array
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray
from structmat.matrices.gblr import GBLR
from structmat.project.prices import search, side_norms


def pursue(
    W: ArrayLike,
    cap: int,
    *,
    start: GBLR | None = None,
    price: float | None = None,
    charge: float = 8.0,
    thorough: bool = True,
) -> tuple[GBLR, float]:
    """Approximate a matrix by a sum of rank-one blocks on cyclic runs.

    For a price of a multiplication, each block ascends its gain: the energy that it takes
    from the residual, less the price of its rows, its columns and the charge. For given
    contents on the rows, the best columns are exactly the cyclic run of the largest sum of
    the energy of each column less the price, and the other way round. All blocks are fitted
    to the residual in turn, contents and ends; those without a gain are dropped, and new ones
    begin at the best run of each row and each column. The price is searched until the cost
    meets the cap, and what is left of the cap is filled.

    Parameters
    ----------
    W : array_like, shape (m, n)
        Real and finite.
    cap : int
        Most multiplications of the result, as `GBLR` counts them.
    start : GBLR, shape (m, n), optional
        Blocks to begin with, such as those of an earlier call for a matrix nearby. If they
        respect the cap, the result leaves at most their energy.
    price : float, optional
        Price to begin with: energy a multiplication, such as an earlier call returned. It is
        searched from the largest entry downward by default.
    charge : float, default 8
        Multiplications that a block is charged for beyond its cost. A product spends time on
        a block whatever its size, and a charge keeps blocks few and large.

    thorough : bool, default True
        Whether the price falls in small steps, and the blocks also grow beyond the cap once and
        come back, which takes three times as long and finds sums of blocks that overlap.

    Returns
    -------
    matrix : GBLR, shape (m, n)
        Of the precision of `W`. The two contents of a block have the same norm.
    price : float
        The price that meets the cap; 0 if the matrix is zero or the cap allows no block.

    Raises
    ------
    InputError
        If `W` is not real and finite, or a number is out of its range.
    ShapeError
        If `W` is no matrix, or `start` has another shape.

    Notes
    -----
    The same input gives the same result. One step of the search reads the residual twice, and
    makes as many climbs as there are blocks, of some tens of (height + width) multiplications
    each; about ten steps are made from nothing, two or three from a start. Memory is about eight
    times `W`.

    Examples
    --------
    >>> import numpy as np
    >>> from structmat.project.pursuit import pursue
    >>> W = np.zeros((6, 8))
    >>> W[np.ix_([5, 0], [2, 3, 4])] = 2.0
    >>> matrix, price = pursue(W, 5)
    >>> matrix.cost, bool(np.allclose(matrix.to_dense(), W))
    (5, True)
    """
    W = _checked_matrix(W)
    if not isinstance(cap, Integral) or cap < 0:
        raise InputError(f"cap = {cap!r}; expected a number of multiplications, an integer >= 0")
    _check_number("charge", charge)
    if price is not None:
        _check_number("price", price)
    largest = float(np.abs(W).max(initial=0.0))
    if cap < 1 or largest == 0.0:
        return _to_matrix(np.zeros((0, 4), np.int64), np.zeros(0, W.dtype), W.shape), 0.0
    # A power of four, so that scaling by it, and by its root, is exact.
    root = math.ldexp(1.0, (math.frexp(largest)[1] - 1) // 2)
    R = W / W.dtype.type(root**2)
    given = None if start is None else _from_matrix(start, R, root)
    first = price / root**4 if price else None
    places, contents, price = search(R, int(cap), given, first, float(charge), thorough=thorough)
    _balance(places, contents)
    return _to_matrix(places, contents * W.dtype.type(root), W.shape), price * root**4


def _checked_matrix(W: ArrayLike) -> NDArray:
    """A real finite matrix in single or double precision."""
    array = host_array(W, "W")
    if array.ndim != 2:
        raise ShapeError(f"W has shape {array.shape}; expected a matrix, shape (m, n)")
    if array.dtype.kind not in "fiub":
        raise InputError(f"W has dtype {array.dtype}; expected real numbers (take its real part)")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError("W has NaN or infinite entries; expected finite ones (replace them)")
    return array


def _check_number(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} = {value!r}; expected a finite number >= 0")


def _from_matrix(start: GBLR, R: NDArray, root: float) -> tuple[IntArray, NDArray]:
    """Places and packed contents of the blocks of a matrix over `root` squared."""
    if start.shape != R.shape:
        raise ShapeError(f"start has shape {start.shape}; expected that of W, {R.shape}")
    u, v = host_array(start.u, "start.u"), host_array(start.v, "start.v")
    for name, side in (("u", u), ("v", v)):
        if side.dtype.kind not in "fiub" or not np.isfinite(side).all():
            raise InputError(
                f"start.{name} has dtype {side.dtype} and entries up to {np.abs(side).max()}; "
                "expected real finite ones (leave start out)"
            )
    live = (start.row_width > 0) & (start.col_width > 0)
    sides = (start.row_start, start.row_width, start.col_start, start.col_width)
    places = np.stack(sides, axis=1)[live]
    u, v = u[np.repeat(live, start.row_width)], v[np.repeat(live, start.col_width)]
    contents, of_columns = np.empty(u.size + v.size), _of_columns(places)
    contents[~of_columns], contents[of_columns] = u, v
    _balance(places, contents)
    with np.errstate(over="ignore"):
        return places, (contents / root).astype(R.dtype)


def _of_columns(places: IntArray) -> NDArray[np.bool_]:
    """True for the packed contents that stand on columns."""
    widths = places[:, [1, 3]].ravel()
    return np.repeat(np.arange(widths.size) % 2 == 1, widths)


def _balance(places: IntArray, contents: NDArray) -> None:
    """Give the two contents of every block the same norm, in place."""
    if not len(places):
        return
    norms = side_norms(places, contents)
    wanted = np.sqrt(norms[:, :1]) * np.sqrt(norms[:, 1:])
    factors = wanted / np.where(norms > 0, norms, 1.0)
    contents *= np.repeat(factors.ravel(), places[:, [1, 3]].ravel()).astype(contents.dtype)


def _to_matrix(places: IntArray, contents: NDArray, shape: tuple[int, int]) -> GBLR:
    of_columns = _of_columns(places)
    row, height, col, width = places.T
    return GBLR(row, height, contents[~of_columns], col, width, contents[of_columns], shape=shape)
