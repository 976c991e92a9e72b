"""Parts of a matrix on workers: what each is, and how a local matrix is cut and joined."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.intervals import IntArray
from structmat.matrices import Hierarchical

#: First row or column, and the end.
Range = tuple[int, int]


class Part(NamedTuple):
    """A matrix on some rows and columns of the ordered matrix; parts that overlap add up.

    Of a symmetric matrix, a part is symmetric as well, on a square that may be as large as the
    whole: its blocks are those of its own rows in the lower triangle, and stand for their mirror
    images.

    Examples
    --------
    >>> import structmat
    >>> part = Part((1, 3), (0, 2), structmat.Permutation([1, 0]))
    >>> part.outline.cost, part.outline.rows
    (0, (1, 3))
    """

    rows: Range
    cols: Range
    matrix: Any

    @property
    def outline(self) -> "Outline":
        """The facts about the part that plans need."""
        A = self.matrix
        mirrored = bool(A.hermitian) and self.rows == self.cols
        return Outline(self.rows, self.cols, np.dtype(A.dtype), A.kind, A.cost, A.storage, mirrored)


class Outline(NamedTuple):
    """Facts about a part, without its contents."""

    rows: Range
    cols: Range
    dtype: np.dtype[Any]
    kind: str
    cost: int
    storage: int
    #: Whether the part is Hermitian, in one place of rows and columns.
    hermitian: bool


class Parts:
    """Parts of a matrix as futures of a cluster, with their outlines."""

    def __init__(self, client: Any, futures: Sequence[Any]) -> None:
        if not futures:
            raise InputError("parts is empty; expected a future of at least one Part")
        self.client, self.futures = client, tuple(futures)
        self.outlines: list[Outline] = client.gather(client.map(_outline, futures, pure=False))

    def __len__(self) -> int:
        return len(self.futures)


def _outline(part: Part) -> Outline:
    return part.outline


def parts_of(A: Hierarchical, count: int) -> list[Part]:
    """A hierarchical matrix between its orders as at most `count` parts of about equal work.

    Examples
    --------
    >>> A = Hierarchical([[0, 1, 0, 2, -1], [1, 1, 0, 2, -1]], [], [], [1.0, 2, 3, 4],
    ...                  shape=(2, 2))
    >>> [part.rows for part in parts_of(A, 2)]
    [(0, 1), (1, 2)]
    """
    of = A.rectangles
    done = np.cumsum(of.work)
    total = int(done[-1]) if done.size else 0
    ends = np.searchsorted(done, total * np.arange(1, count) / count) + 1
    bounds = np.unique(np.concatenate([[0], np.minimum(ends, done.size), [done.size]]))
    return [_cut(A, int(a), int(b)) for a, b in pairwise(bounds)]


def _cut(A: Hierarchical, first: int, last: int) -> Part:
    """Blocks `first` to `last`, on the rows and columns that hold them."""
    some = (
        flat[begin[first] : begin[last]]
        for flat, begin in zip((A.u, A.v, A.dense), A.rectangles.begins, strict=True)
    )
    return on_hull(A.blocks[first:last], *some, symmetric=A.symmetric)


def on_hull(
    blocks: IntArray, u: NDArray[Any], v: NDArray[Any], dense: NDArray[Any], *, symmetric: bool
) -> Part:
    """Blocks of the ordered matrix as a part, on the rows and columns that hold them."""
    rows, cols = _hull(blocks[:, :2]), _hull(blocks[:, 2:4])
    if symmetric:
        rows = cols = min(rows[0], cols[0]), max(rows[1], cols[1])
    matrix = Hierarchical(
        blocks - np.array([rows[0], 0, cols[0], 0, 0]), u, v, dense,
        shape=(rows[1] - rows[0], cols[1] - cols[0]), symmetric=symmetric,
    )  # fmt: skip
    return Part(rows, cols, matrix)


def _hull(sides: IntArray) -> Range:
    """The range that holds runs of (start, width); an empty one without any."""
    if not len(sides):
        return 0, 0
    return int(sides[:, 0].min()), int(sides.sum(axis=1).max())


def joined(
    parts: Sequence[Part], shape: tuple[int, int], row_order: IntArray, col_order: IntArray
) -> Hierarchical:
    """The hierarchical matrix of some parts, between orders; the reverse of `parts_of`.

    Examples
    --------
    >>> A = Hierarchical([[0, 1, 0, 2, -1], [1, 1, 0, 2, -1]], [], [], [1.0, 2, 3, 4],
    ...                  shape=(2, 2))
    >>> joined(parts_of(A, 2), A.shape, A.row_order, A.col_order).to_dense()
    array([[1., 2.],
           [3., 4.]])
    """
    tables = [
        part.matrix.blocks + np.array([part.rows[0], 0, part.cols[0], 0, 0]) for part in parts
    ]
    contents = (
        np.concatenate([np.zeros(0, part.matrix.dtype) for part in parts[:1]] + found)
        for found in (
            [getattr(part.matrix, name) for part in parts] for name in Hierarchical.data_names
        )
    )
    return Hierarchical(
        np.concatenate([np.zeros((0, 5), np.int64), *tables]), *contents,
        shape=shape, row_order=row_order, col_order=col_order,
        symmetric=bool(parts) and all(part.matrix.symmetric for part in parts),
    )  # fmt: skip
