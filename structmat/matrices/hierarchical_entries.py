"""Entries of hierarchical matrices: single ones, all of them, and their norm.

Rows and columns are those of the ordered matrix; `contents` are its arrays u, v and dense.
"""

from types import ModuleType
from typing import Any

import numpy as np

from structmat._array import Array, conj, device, from_numpy, integers, is_complex, is_numpy
from structmat.intervals import IntArray
from structmat.kernels.arrays.rectangles import RectangleBatches
from structmat.kernels.choice.record import has, imports
from structmat.kernels.layouts.rectangle_index import dense_entries, factor_entries
from structmat.kernels.layouts.rectangles import Rectangles

#: Arrays u, v and dense.
Contents = tuple[Array, Array, Array]

#: Most pairs of an entry and a rank at once.
_PAIRS = 2**20
#: Fewest entries that are picked by compiled loops.
_LEAST_COMPILED = 2**14


def places_in(order: IntArray) -> IntArray:
    """Place of each row or column in an order."""
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return back


def picked(
    of: Rectangles, contents: Contents, rows: IntArray, cols: IntArray, xp: ModuleType
) -> Any:
    """Entries of the rectangles that hold them: O(rank) each. NotImplemented if they overlap."""
    if rows.size >= _LEAST_COMPILED and is_numpy(xp) and of.cells and _compiles():
        from structmat.kernels.cpu.rectangle_picks import picked_entries

        return picked_entries(of, of.cells, contents, rows, cols)
    located = of.locate(rows, cols)
    if located is None:
        return NotImplemented
    number, flipped = located
    i, j = np.where(flipped, cols, rows), np.where(flipped, rows, cols)
    found = [xp.zeros(0, dtype=contents[0].dtype, device=device(contents[0]))]
    step = max(1, _PAIRS // max(int(of.rank.max(initial=0)), 1))
    for first in range(0, number.size, step):
        some = slice(first, first + step)
        found.append(_stored(of, contents, number[some], i[some], j[some], flipped[some], xp))
    return xp.concat(found)


def _compiles() -> bool:
    return has("numba") and imports("numba")


def _stored(
    of: Rectangles,
    contents: Contents,
    number: IntArray,
    i: IntArray,
    j: IntArray,
    flipped: np.ndarray,
    xp: ModuleType,
) -> Array:
    """Entries (i, j) of the rectangles of these numbers, some of them conjugated."""
    zero = xp.zeros(1, dtype=contents[0].dtype, device=device(contents[0]))
    u, v, dense = (xp.concat([flat, zero]) for flat in contents)
    in_u, in_v, in_dense = (flat.shape[0] for flat in contents)
    factors = factor_entries(of, number, i, j, (in_u, in_v))
    left, right = (entries_at(flat, at, xp) for flat, at in zip((u, v), factors, strict=True))
    entries = dense_entries(of, number, i, j, in_dense)
    value = xp.sum(left * conj(right, xp), axis=1) + entries_at(dense, entries.at, xp)
    return turned(value, entries.conjugated | flipped, entries.real, xp)


def entries_at(flat: Array, at: IntArray, xp: ModuleType) -> Array:
    """Entries of packed contents at places, in the shape of the places."""
    taken = xp.take(flat, integers(at.ravel(), xp, device(flat)), axis=0)
    return xp.reshape(taken, at.shape)


def turned(value: Array, conjugated: np.ndarray, real: np.ndarray, xp: ModuleType) -> Array:
    """Entries, some of them conjugated, and of some the real part."""
    if not is_complex(value, xp):
        return value
    other, plain = (from_numpy(mask, xp, device(value)) for mask in (conjugated, real))
    value = xp.where(other, conj(value, xp), value)
    return xp.where(plain, (value + conj(value, xp)) / 2, value)


def filled(of: Rectangles, contents: Contents) -> np.ndarray:
    """The whole array, on NumPy."""
    total = np.zeros(of.shape, contents[0].dtype)
    for group, stacks in RectangleBatches(of, *contents).stacks():
        full = stacks[0]
        if group.rank >= 0:
            full = stacks[0].swapaxes(1, 2) @ stacks[1].conj()
        for (top, p, left, q, _), block in zip(of.table[group.members], full, strict=True):
            total[top : top + p, left : left + q] += block
            if of.symmetric and not group.triangular:
                total[left : left + q, top : top + p] += block.conj().T
    return total


def frobenius_norm(of: Rectangles, contents: Contents) -> Any:
    """Norm of contents on NumPy, of rectangles that do not overlap: O(r^2 (p + q)) each."""
    norms = [np.zeros(0)]
    for group, stacks in RectangleBatches(of, *contents).stacks():
        full = stacks[0]
        if group.rank >= 0:
            triangles = (np.linalg.qr(F.swapaxes(1, 2), mode="r") for F in stacks)
            left, right = (np.asarray(R) for R in triangles)
            full = left @ right.conj().swapaxes(1, 2)
        twice = np.sqrt(2.0) if of.symmetric and not group.triangular else 1.0
        norms.append(twice * np.asarray(np.linalg.norm(full, axis=(1, 2))))
    return np.linalg.norm(np.concatenate(norms))
