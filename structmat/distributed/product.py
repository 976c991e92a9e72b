"""Products with parts on workers as graphs of pure tasks: pieces of x out, sums of y back.

A sum is taken in the order of the parts, by groups of a few, so its bits depend neither on the
number of workers nor on where a task has run, or run again. Functions here run on workers.
"""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat._operand import multiplied
from structmat.distributed.part import Outline, Part, Range

#: Tasks by their keys, as Dask takes them.
Graph = dict[Hashable, Any]
#: Rows of a chunk of a vector at least, and the most chunks.
CHUNK, CHUNKS = 2**16, 64
#: Pieces that one task adds up.
TOGETHER = 4


class Piece(NamedTuple):
    """Rows of a product from a first one on, (p, k); all others are zero."""

    first: int
    rows: NDArray[Any]


class Vectors(NamedTuple):
    """Columns (n, k) cut into chunks of rows, each of which is a key of a task."""

    bounds: tuple[int, ...]
    chunks: tuple[Any, ...]

    def within(self, some: Range) -> tuple[int, tuple[Any, ...]]:
        """The chunks that hold a range of rows, and the place of its first row in them."""
        first = int(np.searchsorted(self.bounds, some[0], side="right")) - 1
        last = max(int(np.searchsorted(self.bounds, some[1], side="left")), first + 1)
        return some[0] - self.bounds[first], self.chunks[first:last]


def even_bounds(n: int) -> tuple[int, ...]:
    """Ends of the chunks of n rows: a matter of n alone.

    Examples
    --------
    >>> even_bounds(100_000)
    (0, 50000, 100000)
    """
    count = min(max(-(-n // CHUNK), 1), CHUNKS)
    return tuple(n * i // count for i in range(count + 1))


def sent(graph: Graph, x: NDArray[Any], name: str) -> Vectors:
    """Columns x (n, k) as tasks of their own, so that whatever is lost can be sent again."""
    bounds = even_bounds(len(x))
    keys = tuple((name, i) for i in range(len(bounds) - 1))
    graph.update({key: x[a:b] for key, (a, b) in zip(keys, pairwise(bounds), strict=True)})
    return Vectors(bounds, keys)


def product(
    graph: Graph,
    parts: Sequence[Any],
    outlines: Sequence[Outline],
    x: Vectors,
    name: str,
    *,
    adjoint: bool = False,
) -> Hashable:
    """Key of the `Piece` that holds A x, or A^H x; its tasks are added to a graph."""
    keys: list[Hashable] = []
    for i, (part, outline) in enumerate(zip(parts, outlines, strict=True)):
        read, written = (outline.cols, outline.rows)[:: -1 if adjoint else 1]
        first, chunks = x.within(read)
        key = (f"multiply-{name}", i)
        graph[key] = (times_part, part, adjoint, first, read[1] - read[0], written[0], *chunks)
        keys.append(key)
    return _summed(graph, keys, name)


def _summed(graph: Graph, keys: list[Hashable], name: str) -> Hashable:
    """Key of the sum of pieces, by groups of neighbours."""
    level = 0
    while len(keys) > 1:
        groups = [keys[i : i + TOGETHER] for i in range(0, len(keys), TOGETHER)]
        keys = [(f"add-{name}", level, i) for i in range(len(groups))]
        graph.update({key: (added, *group) for key, group in zip(keys, groups, strict=True)})
        level += 1
    return keys[0]


def times_part(
    part: Part, adjoint: bool, first: int, count: int, to: int, *chunks: NDArray[Any]
) -> Piece:
    """The product of a part with `count` rows of the chunks, from row `first` on."""
    x = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return Piece(to, multiplied(part.matrix, x[first : first + count], adjoint=adjoint))


def added(*pieces: Piece) -> Piece:
    """The sum of pieces, one after another.

    Examples
    --------
    >>> added(Piece(2, np.ones((1, 1))), Piece(1, np.ones((2, 1)))).rows[:, 0]
    array([1., 2.])
    """
    first = min(piece.first for piece in pieces)
    last = max(piece.first + len(piece.rows) for piece in pieces)
    dtype = np.result_type(*(piece.rows for piece in pieces))
    total = np.zeros((last - first, pieces[0].rows.shape[1]), dtype)
    for piece in pieces:
        total[piece.first - first : piece.first - first + len(piece.rows)] += piece.rows
    return Piece(first, total)


def rows_of(piece: Piece, first: int, last: int) -> NDArray[Any]:
    """Rows `first` to `last` of a product, with zeros where the piece has none.

    Examples
    --------
    >>> rows_of(Piece(1, np.ones((2, 1))), 0, 2)[:, 0]
    array([0., 1.])
    """
    begin, end = piece.first, piece.first + len(piece.rows)
    found = np.zeros((last - first, piece.rows.shape[1]), piece.rows.dtype)
    low, high = max(first, begin), min(last, end)
    if low < high:
        found[low - first : high - first] = piece.rows[low - begin : high - begin]
    return found
