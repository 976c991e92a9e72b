"""Small blocks of S = A + shift I, where the entries of A are cheap."""

from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat.intervals import IntArray
from structmat.matrices.diagonal import Diagonal
from structmat.matrices.hierarchical import Hierarchical
from structmat.matrices.lazy import Product, Sum, split_orders
from structmat.project.compiled import HAS_NUMBA
from structmat.solvers.iterative.preconditioners.sparse_inverse import Blocks
from structmat.sources.source import Source

#: Rows that lie together, whose blocks are cut out of one block of a source.
AT_ONCE = 32
#: Multiplications in whose time an entry is evaluated: of a named kernel, of hierarchical
#: matrices, and of others.
COMPILED_ENTRY, PICKED_ENTRY, ENTRY = 20.0, 400.0, 1500.0


def has_cheap_entries(A: Any) -> bool:
    """Tell whether single entries of a matrix cost little: by its structure, not by products."""
    if isinstance(A, Source):
        return True
    if isinstance(A, Product) and split_orders(A)[1] is A:
        return False
    return hasattr(A, "_pick") and all(map(has_cheap_entries, A.children))


def blocks_of(A: Any, shift: complex, *, whole: bool = False) -> Blocks:
    """Blocks of A + shift I by rows of numbers, -1 at their ends: compiled, or by entries.

    Lower triangles alone, which suffice for a hermitian A, unless whole blocks are asked for.
    """
    if isinstance(A, Sum):
        parts = [blocks_of(term, 0.0, whole=whole) for term in A.children]
        return lambda near: _shifted(reduce(add, (part(near) for part in parts)), near, shift)
    if isinstance(A, Source):
        if HAS_NUMBA and A.compiled is not None and not whole:
            return _compiled(A, shift.real)
        return lambda near: _shifted(_of_source(A, near), near, shift)
    return lambda near: _shifted(_of_entries(A, near, whole), near, shift)


def points_of(A: Any) -> NDArray[np.float64] | None:
    """Points of the rows of a source, or of one in a sum; None where there are none."""
    if isinstance(A, Sum):
        return next((found for term in A.children if (found := points_of(term)) is not None), None)
    if not isinstance(A, Source) or A.points is None or not A.points.shape[1]:
        return None
    return A.points


def price_of_entry(A: Any) -> float:
    """Multiplications in whose time an entry is evaluated."""
    if isinstance(A, Sum):
        return sum(map(price_of_entry, A.children))
    if isinstance(A, Diagonal) or (isinstance(A, Source) and HAS_NUMBA and A.compiled):
        return COMPILED_ENTRY
    return PICKED_ENTRY if isinstance(A, Hierarchical) else ENTRY


def _compiled(source: Source, shift: float) -> Blocks:
    from structmat.solvers.iterative.preconditioners.sparse_inverse_loops import kernel_blocks

    kernel = source.compiled
    assert kernel is not None
    X = np.ascontiguousarray(kernel.rows)

    def blocks(near: IntArray) -> NDArray:
        # Upper triangles stay, and are added with the rest of the blocks.
        out = np.zeros((*near.shape, near.shape[1]))
        kernel_blocks(kernel.code, kernel.scale, X, near, shift, out)
        size = (near >= 0).sum(axis=1)
        source.count(int((size * (size + 1) // 2).sum()))
        return out

    return blocks


def _of_source(source: Source, near: IntArray) -> NDArray:
    """Blocks cut out of blocks of all rows that some of them name."""
    parts = [_cut(source, near[i : i + AT_ONCE]) for i in range(0, len(near), AT_ONCE)]
    return np.concatenate(parts)


def _cut(source: Source, near: IntArray) -> NDArray:
    named, place = np.unique(np.maximum(near, 0), return_inverse=True)
    whole = _array.to_numpy(source.block(named, named))
    place = place.reshape(near.shape)
    return whole[place[:, :, None], place[:, None, :]]


def _of_entries(A: Any, near: IntArray, whole: bool) -> NDArray:
    """Blocks by single entries: all of them, or lower triangles."""
    side = near.shape[1]
    a, b = np.indices((side, side)).reshape(2, -1) if whole else np.tril_indices(side)
    rows, cols = np.maximum(near[:, a], 0), np.maximum(near[:, b], 0)
    found = _array.to_numpy(A._entries_at(rows.ravel(), cols.ravel()))
    out = np.zeros((*near.shape, near.shape[1]), found.dtype)
    out[:, a, b] = found.reshape(rows.shape)
    return out


def _shifted(blocks: NDArray, near: IntArray, shift: complex) -> NDArray:
    at = np.arange(near.shape[1])
    turned = blocks.dtype.kind == "c" or bool(np.imag(shift))
    blocks = blocks.astype(np.complex128 if turned else np.float64)
    blocks[:, at, at] += shift
    return blocks
