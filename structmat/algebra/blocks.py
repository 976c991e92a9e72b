"""Matrices of blocks: `block`, `concatenate`, `block_diag`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from structmat.algebra.arguments import as_matrix
from structmat.algebra.placing import placed
from structmat.errors import InputError, ShapeError
from structmat.matrix import StructuredMatrix


def block_diag(*matrices: Any) -> StructuredMatrix:
    """The block-diagonal matrix of some matrices.

    Parameters
    ----------
    *matrices : StructuredMatrix, array, sparse matrix, or operator
        One or more, of any shapes.

    Returns
    -------
    StructuredMatrix
        One structure where it holds the blocks at no more cost: identities, permutations and
        diagonal matrices as they are, low-rank ones as `BlockLowRank`, block-sparse ones of one
        grid as `BlockSparse`, GBLR ones with shifted runs, hierarchical ones as one. Otherwise
        of kind ``"grid"``, which multiplies block by block at the sum of their costs.

    Raises
    ------
    InputError
        If there is no matrix, or an argument is none.
    BackendError
        If they belong to several libraries.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> B = block_diag(A, A)
    >>> B.kind, B.shape, B.cost == 2 * A.cost
    ('block_low_rank', (6, 4), True)
    """
    parts = [as_matrix(M, f"matrix {i}") for i, M in enumerate(matrices)]
    if not parts:
        raise InputError("block_diag of no matrices; expected one at least")
    sizes = [np.array([M.shape[axis] for M in parts], np.int64) for axis in (0, 1)]
    return placed(parts, [(i, i) for i in range(len(parts))], (sizes[0], sizes[1]))


def concatenate(matrices: Sequence[Any], axis: int = 0) -> StructuredMatrix:
    """Matrices below one another (axis 0), or side by side (axis 1).

    Parameters
    ----------
    matrices : sequence of StructuredMatrix, array, sparse matrix, or operator
        One or more, of one width (axis 0) or one height (axis 1).
    axis : {0, 1, -1, -2}

    Returns
    -------
    StructuredMatrix
        One structure where that is exact at no more cost, as `block_diag` chooses it.

    Raises
    ------
    ShapeError
        If the other sizes differ.
    InputError
        If there is no matrix, an argument is none, or the axis is another one.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.GBLR([0], [2], [1.0, 2.0], [1], [2], [1.0, 10.0], shape=(4, 3))
    >>> B = concatenate([A, A])
    >>> B.kind, B.shape, B.row_start.tolist()
    ('gblr', (8, 3), [0, 4])
    """
    if axis not in (0, 1, -1, -2) or isinstance(axis, bool):
        raise InputError(f"axis = {axis!r}; expected 0 for below one another, or 1 for beside")
    rows = [[M] for M in matrices] if axis in (0, -2) else [list(matrices)]
    if not rows or not rows[0]:
        raise InputError("concatenate of no matrices; expected one at least")
    return block(rows)


def block(blocks: Sequence[Sequence[Any]]) -> StructuredMatrix:
    """The matrix of rows of blocks; None stands for a block of zeros.

    Parameters
    ----------
    blocks : sequence of sequences
        Rows of blocks, each a StructuredMatrix, array, sparse matrix, operator, or None. As
        `numpy.block`, it takes a single row without brackets around it.

    Returns
    -------
    StructuredMatrix
        One structure where that is exact at no more cost, as `block_diag` chooses it.

    Raises
    ------
    ShapeError
        If rows have different numbers of blocks, or blocks beside or above one another differ in
        size.
    InputError
        If a row or a column of the grid has nothing but None, or an argument is no matrix.

    Examples
    --------
    >>> import structmat
    >>> D = structmat.Diagonal([1.0, 2.0])
    >>> block([[D, None], [structmat.Identity(2), D]]).to_dense()
    array([[1., 0., 0., 0.],
           [0., 2., 0., 0.],
           [1., 0., 1., 0.],
           [0., 1., 0., 2.]])
    """
    rows = _rows(blocks)
    parts, places = [], []
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            if entry is not None:
                parts.append(as_matrix(entry, f"block ({i}, {j})"))
                places.append((i, j))
    if not parts:
        raise InputError("block of no matrices; expected one at least")
    heights = _sizes(parts, places, 0, len(rows))
    widths = _sizes(parts, places, 1, len(rows[0]))
    return placed(parts, places, (heights, widths))


def _rows(blocks: Any) -> list[list[Any]]:
    if not isinstance(blocks, (list, tuple)) or not blocks:
        raise InputError(
            f"blocks is a {type(blocks).__qualname__}; expected rows of blocks, [[A, B], [C, D]]"
        )
    if not all(isinstance(row, (list, tuple)) for row in blocks):
        blocks = [blocks]
    rows = [list(row) for row in blocks]
    if len({len(row) for row in rows}) > 1:
        raise ShapeError(
            f"rows of {[len(row) for row in rows]} blocks; expected one number (None for a block "
            "of zeros)"
        )
    return rows


def _sizes(
    parts: list[StructuredMatrix], places: list[tuple[int, int]], axis: int, count: int
) -> np.ndarray:
    """Heights of the rows of blocks, or widths of the columns."""
    what, size = ("row", "height") if axis == 0 else ("column", "width")
    sizes: list[int | None] = [None] * count
    for M, place in zip(parts, places, strict=True):
        at = place[axis]
        if sizes[at] is None:
            sizes[at] = M.shape[axis]
        elif sizes[at] != M.shape[axis]:
            raise ShapeError(
                f"block {place} has shape {M.shape} in a {what} of {size} {sizes[at]}; expected "
                f"one {size}"
            )
    if None in sizes:
        raise InputError(
            f"{what} {sizes.index(None)} of blocks has nothing but None, so its {size} is not "
            "known; expected a matrix (structmat.LowRank of rank 0 is zero)"
        )
    return np.asarray(sizes, np.int64)
