"""Interpolation between GBLR matrices: Theorem 2."""

import math
import numbers
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from structmat import _array
from structmat._array import Array
from structmat.contract.operand import is_scalar
from structmat.errors import BackendError, ConversionError, InputError, ShapeError
from structmat.intervals import IntArray, entry_index, offsets, positions
from structmat.matrices import GBLR, in_orders, same_orders, split_orders
from structmat.matrix import StructuredMatrix

_Runs = tuple[IntArray, IntArray]


def interpolate(
    A: StructuredMatrix,
    B: StructuredMatrix,
    alpha: float | Fraction,
    *,
    path: Literal["linear", "geodesic"] = "linear",
    match: Literal["assignment"] | None = None,
) -> StructuredMatrix:
    """Matrix between two, in structure and contents: A at alpha = 1, B at alpha = 0.

    Every block's widths become ``floor(alpha w + (1 - alpha) w')``, so their sum, the storage,
    never exceeds the weighted mean of the two storages: GBLR matrices of one storage stay
    inside it (Lee & Kim, arXiv 2310.18882, Theorem 2). The cost is never above the storage. The
    contents are the weighted mean of
    the zero-padded ones, cut to the new runs.

    Parameters
    ----------
    A, B : StructuredMatrix, shape (m, n)
        GBLR, or of a kind that `convert` turns into it. Both may be between permutations of
        rows and columns, the same for both.
    alpha : float or Fraction, 0 to 1
        Weight of `A`, taken exactly: no rounding enters the widths.
    path : {"linear", "geodesic"}
        Starts move by ``floor(alpha l + (1 - alpha) l')``, or along the shorter arc.
    match : {None, "assignment"}
        Pair blocks in order, or by the assignment that moves the ends of the runs least
        in total.

    Returns
    -------
    StructuredMatrix, shape (m, n)
        GBLR, between the permutations of `A` and `B` if they have any. It has as many blocks
        as the larger of the two. Blocks without a partner are paired with blocks of width zero
        at their own place.

    Raises
    ------
    InputError
        If alpha is outside [0, 1], or `path` or `match` is unknown.
    ShapeError
        If the shapes differ.
    ConversionError
        If a matrix has no exact GBLR form, or the permutations around the two differ.

    Notes
    -----
    Cost O(Σ widths), and O(K^3) for the assignment of K blocks.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.GBLR([0], [4], [1.0] * 4, [0], [4], [1.0] * 4, shape=(8, 8))
    >>> B = structmat.GBLR([4], [2], [1.0] * 2, [4], [2], [1.0] * 2, shape=(8, 8))
    >>> C = structmat.interpolate(A, B, 0.5)
    >>> C.row_start, C.row_width
    (array([2]), array([3]))
    """
    weight = _weight(alpha)
    for name, M in (("A", A), ("B", B)):
        if not isinstance(M, StructuredMatrix):
            raise InputError(
                f"{name} is a {type(M).__qualname__}; expected a StructuredMatrix (see compress)"
            )
    if not isinstance(path, str) or path not in ("linear", "geodesic"):  # type: ignore[redundant-expr]
        raise InputError(f"path = {path!r}; expected 'linear' or 'geodesic'")
    if match is not None and match != "assignment":
        raise InputError(f"match = {match!r}; expected None or 'assignment'")
    if A.shape != B.shape:
        raise ShapeError(f"A has shape {A.shape} and B {B.shape}; expected one shape")
    A, B = A.to_kind("gblr"), B.to_kind("gblr")
    if A.xp is not B.xp or A.device != B.device:
        raise BackendError(f"{A!r} and {B!r}; expected one library and device (use .to(…))")
    if not same_orders(A, B):
        raise ConversionError(
            f"A = {A!r} and B = {B!r} have their rows or columns in different orders, and blocks "
            "of two orders cannot be paired; expected one order for both (approximate one of them "
            "in the orders P and Q of the other, from both sides, by "
            "structmat.compress(P.H @ B @ Q.H, 'gblr', budget=…), and put them around the result)"
        )
    (left, first, right), (_, second, _) = split_orders(A), split_orders(B)
    for M in (first, second):
        if not isinstance(M, GBLR):
            raise ConversionError(
                f"{M!r} is a product of several matrices; expected a GBLR matrix, perhaps between "
                "permutations (approximate it with structmat.compress(A, 'gblr', budget=…))"
            )
    pairing = _assigned if match else _in_order
    with _array.computing_on(A.xp, A.device):
        return in_orders(left, _mixed(first, second, weight, pairing, path), right)


def _mixed(A: GBLR, B: GBLR, weight: Fraction, pairing: Any, path: str) -> GBLR:
    if weight in (0, 1):
        return (A if weight == 1 else B).astype(A.xp.result_type(A.dtype, B.dtype))
    pair = pairing(A, B)
    rows, u = _between(A, B, 0, weight, pair, path)
    cols, v = _between(A, B, 1, weight, pair, path)
    return GBLR(*rows, u, *cols, v, shape=A.shape)


def _weight(alpha: Any) -> Fraction:
    weight = None
    if isinstance(alpha, numbers.Rational):
        weight = Fraction(alpha)
    elif is_scalar(alpha) and not isinstance(alpha, complex):
        weight = Fraction(float(alpha)) if math.isfinite(alpha) else None
    if weight is None or not 0 <= weight <= 1:
        raise InputError(f"alpha = {alpha!r}; expected a number from 0 to 1, the weight of A")
    return weight


def _runs(A: GBLR, axis: int) -> _Runs:
    return (A.row_start, A.row_width) if axis == 0 else (A.col_start, A.col_width)


def _in_order(A: GBLR, B: GBLR) -> tuple[IntArray, IntArray]:
    """Pairs of block numbers; a number past the end stands for a block of width zero."""
    together = np.arange(max(A.num_blocks, B.num_blocks))
    return np.minimum(together, A.num_blocks), np.minimum(together, B.num_blocks)


def _assigned(A: GBLR, B: GBLR) -> tuple[IntArray, IntArray]:
    count = max(A.num_blocks, B.num_blocks)
    travel = np.zeros((count, count))
    for axis, n in enumerate(A.shape):
        (s, w), (t, x) = _runs(A, axis), _runs(B, axis)
        for a, b in ((s, t), (s + w, t + x)):
            arc = (a[:, None] - b) % max(n, 1)
            travel[: len(s), : len(t)] += np.minimum(arc, n - arc)
    mine, yours = linear_sum_assignment(travel)
    return np.minimum(mine, A.num_blocks), np.minimum(yours, B.num_blocks)


def _between(
    A: GBLR, B: GBLR, axis: int, weight: Fraction, pair: tuple[IntArray, IntArray], path: str
) -> tuple[_Runs, Array]:
    """Runs and contents of all pairs on one axis."""
    n, name = A.shape[axis], ("u", "v")[axis]
    (s, w), (t, x) = (_padded(_runs(M, axis)) for M in (A, B))
    s, w, t, x = s[pair[0]], w[pair[0]], t[pair[1]], x[pair[1]]
    # A run of width zero takes its partner's place.
    s, t = np.where(w > 0, s, t), np.where(x > 0, t, s)
    width = _floor_mean(weight, w, x)
    if path == "geodesic":
        arc = (s - t + n // 2) % max(n, 1) - n // 2
        start = (t + _floor_mean(weight, arc, np.zeros_like(arc))) % max(n, 1)
    else:
        start = _floor_mean(weight, s, t)
    share = float(weight)
    contents = [
        factor * _cut(M, axis, name, which, start, width)
        for M, which, factor in ((A, pair[0], share), (B, pair[1], 1 - share))
    ]
    dtype = A.xp.result_type(A.dtype, B.dtype)
    first, second = (A.xp.astype(part, dtype) for part in contents)
    return (start, width), first + second


def _padded(runs: _Runs) -> _Runs:
    start, width = runs
    return np.append(start, 0), np.append(width, 0)


def _floor_mean(weight: Fraction, a: IntArray, b: IntArray) -> IntArray:
    """floor(weight a + (1 - weight) b) in exact integers."""
    p, q = weight.numerator, weight.denominator
    mean = (p * a.astype(object) + (q - p) * b.astype(object)) // q
    return mean.astype(np.int64)


def _cut(M: GBLR, axis: int, name: str, which: IntArray, start: IntArray, width: IntArray) -> Array:
    """Zero-padded contents of the chosen blocks, cut to new runs, packed."""
    xp, n = M.xp, M.shape[axis]
    old_start, old_width = _padded(_runs(M, axis))
    old = old_start, old_width, offsets(old_width), n
    index = entry_index(*old, np.repeat(which, width), positions(start, width, n))
    padded = xp.concat([getattr(M, name), xp.zeros(1, dtype=M.dtype, device=M.device)])
    return xp.take(padded, _array.integers(index, xp, M.device))
