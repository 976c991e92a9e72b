"""Checks of hierarchical matrices: their blocks, orders, symmetry and contents."""

from typing import Any

import numpy as np

from structmat._array import Array
from structmat._checks import exact_total, integer_array
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray
from structmat.kernels.layouts.rectangles import DENSE, Rectangles


def checked_blocks(blocks: Any, shape: tuple[int, int]) -> IntArray:
    """Check the table of blocks, and return it as a new array (b, 5) that is read only."""
    table = np.asarray(blocks)
    if table.size == 0:
        table = np.zeros((0, 5), np.int64)
    if table.ndim != 2 or table.shape[1] != 5:
        raise ShapeError(
            f"blocks has shape {table.shape}; expected (b, 5): first row, height, first column, "
            "width, rank"
        )
    table = integer_array(table.ravel(), "blocks").reshape(-1, 5)
    start, size, rank = table[:, [0, 2]], table[:, [1, 3]], table[:, 4]
    # Subtractions: sums might not fit in 64 bits.
    off = (start < 0) | (size < 1) | (size > np.asarray(shape))
    off |= start > np.asarray(shape) - np.where(off, 0, size)
    wrong = np.flatnonzero(off[:, 0] | off[:, 1] | (rank < DENSE))
    if wrong.size:
        k = wrong[0]
        raise InputError(
            f"block {k} = {table[k].tolist()}; expected first row, height, first column and width "
            f"of at least one row and column inside {shape}, and a rank of at least 0, or -1"
        )
    table.flags.writeable = False
    return table


def checked_order(order: Any, n: int, name: str) -> IntArray:
    """Check an order of n positions, and return it as a new array that is read only."""
    found = np.arange(n) if order is None else integer_array(order, name)
    inside = found.size == n and ((found >= 0) & (found < n)).all()
    if not (inside and (np.bincount(found, minlength=n) == 1).all()):
        raise InputError(
            f"{name} with {found.size} entries is no order of {n} positions; expected each of 0 to "
            f"{n - 1} exactly once"
        )
    found.flags.writeable = False
    return found


def check_symmetry(of: Rectangles, row_order: IntArray, col_order: IntArray) -> None:
    """Refuse rectangles or orders that no symmetric matrix has."""
    (m, n), table = of.shape, of.table
    if m != n or not np.array_equal(row_order, col_order):
        raise ShapeError(
            f"symmetric, with shape {(m, n)} and orders that "
            f"{'differ' if m == n else 'have two lengths'}; expected as many rows as columns, in "
            "one order (or symmetric=False)"
        )
    top, height, left, width, _ = table.T
    apart = (top + height <= left) | (left + width <= top)
    wrong = np.flatnonzero(~apart & ~(of.is_triangular & of.is_dense))
    if wrong.size:
        k = wrong[0]
        raise InputError(
            f"block {k} = {table[k].tolist()} of a symmetric matrix meets the diagonal; "
            "expected equal rows and columns and rank -1 there (or symmetric=False)"
        )


def check_contents(of: Rectangles, arrays: dict[str, Array]) -> None:
    """Refuse contents of other lengths than those of the rectangles."""
    triangular = of.is_triangular
    dense = of.is_dense.astype(np.int64)
    full, half = dense * ~triangular, dense * triangular
    # p (p + 1) is even; the two halves are exact in any number of bits.
    totals = {
        "u": exact_total(of.height, of.rank),
        "v": exact_total(of.width, of.rank),
        "dense": exact_total(of.height, of.width, full)
        + exact_total(of.height, of.height + 1, half) // 2,
    }
    for name, total in totals.items():
        if arrays[name].shape[0] != total:
            raise ShapeError(
                f"{name} holds {arrays[name].shape[0]} entries; expected {total}, by the "
                "heights, widths and ranks of the blocks"
            )
