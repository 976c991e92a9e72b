"""Sparse matrices as a few batches of dense groups of equal size.

Plain NumPy on the host: layouts are structure. The columns of a matrix W, shape (p, q), are cut
into groups, and each group multiplies the rows of W that it touches. Groups of equal size form a
batch: one gather of rows of the operand, and one batched product, whatever their number. A
layout has two batches at most, so that a product has a bounded number of operations.

Where the rows of all groups are windows at equal distances, as in a block diagonal, the gather
is a view.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from structmat.intervals import IntArray, offsets, positions
from structmat.kernels.layouts.panels import Pattern, RunPattern
from structmat.kernels.layouts.tiles import run_order

#: Columns of a group at first; wider groups have four times as many, again and again.
LANES = 32
#: Fewest columns with the same rows that are a group of their own.
_LEAST_LANES = 8
#: Multiplications in the time in which one number of an operand is gathered: of a GPU with matrix
#: units, 400 for each ps, and 4 bytes per ps of memory for reading and writing 16 bits.
GATHERED = 500
#: The same without matrix units: 33 for each ps, and 12 bytes that are read, written and read.
GATHERED_EXACTLY = 100
#: Sides up to which a smaller product takes as long on matrix units.
_LEAST_SIDES = (32, 64)
#: A second batch has to save this part of all multiplications.
_LEAST_SAVED = 0.1


@dataclass(frozen=True)
class Batch:
    """Groups of equal size: `inputs`, (g, a), are rows of W, and each group has b columns."""

    inputs: IntArray
    lanes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Groups, columns and rows of each: (g, b, a)."""
        return self.inputs.shape[0], self.lanes, self.inputs.shape[1]

    @property
    def window(self) -> tuple[int, int] | None:
        """First row and distance of the windows, where the rows are windows at equal distances."""
        groups, rows = self.inputs.shape
        if rows == 0 or (np.diff(self.inputs, axis=1) != 1).any():
            return None
        steps = np.diff(self.inputs[:, 0])
        step = int(steps[0]) if groups > 1 else 1
        return (int(self.inputs[0, 0]), step) if step > 0 and (steps == step).all() else None

    @property
    def multiplications(self) -> int:
        """Multiplications for a vector; small groups as those of the sizes that take as long."""
        return timed(*self.shape)

    @property
    def follows(self) -> bool:
        """True where the rows of all groups are consecutive, one group after another."""
        window, (groups, rows) = self.window, self.inputs.shape
        return window is not None and (groups == 1 or window[1] == rows)


@dataclass(frozen=True)
class BatchLayout:
    """Places of the stored scalars of a sparse matrix W, (p, q), in batches of dense groups.

    Examples
    --------
    >>> layout = batch_layout(np.arange(64), np.arange(64) // 32, (64, 2))
    >>> [batch.shape for batch in layout.batches], layout.places[:3]
    ([(1, 2, 64)], array([0, 1, 2]))
    """

    shape: tuple[int, int]
    batches: list[Batch]
    #: Place of each packed scalar among all entries (g, b, a), batch after batch; one past their
    #: end for a scalar that is not part of the matrix.
    places: IntArray
    #: Place of each column of W among the columns of all batches, shape (q,).
    columns: IntArray

    @property
    def size(self) -> int:
        """Number of entries, padding included."""
        return sum(int(np.prod(batch.shape)) for batch in self.batches)

    @property
    def width(self) -> int:
        """Number of columns of all batches, padding included."""
        return sum(batch.shape[0] * batch.lanes for batch in self.batches)


@dataclass(frozen=True)
class _Cut:
    """Groups of some number of columns: the pairs of a group and a row that it touches."""

    lanes: int
    groups: int
    owner: IntArray
    row: IntArray

    def counts(self) -> IntArray:
        return np.bincount(self.owner, minlength=self.groups)

    def merged(self, times: int, p: int) -> "_Cut":
        touched = np.unique(self.owner // times * p + self.row)
        groups = -(-self.groups // times)
        return _Cut(self.lanes * times, groups, *np.divmod(touched, max(p, 1)))


def batch_layout(
    rows: IntArray,
    cols: IntArray,
    shape: tuple[int, int],
    *,
    order: IntArray | None = None,
    gathered: float | None = None,
) -> BatchLayout:
    """Cut a sparse matrix, given by the coordinates of its stored scalars, into batches.

    Each packed scalar has one place, and no two have the same; those beyond `shape` are dropped.
    Groups take columns in `order`, shape (q,), by default their own. A row that is gathered counts
    as a number of multiplications, `GATHERED` by default. Time is O(total log total).
    """
    p, q = shape
    inside = (rows < p) & (cols < q)
    place = np.arange(q)
    if order is not None:
        place[order] = np.arange(q)
    row, lane = rows[inside], place[cols[inside]]
    gathered = GATHERED if gathered is None else gathered
    cut = min(_cuts(row, lane, shape), key=lambda cut: _price(cut, gathered))
    counts = cut.counts()
    batches: list[Batch] = []
    # First entry, first column, and rows of each group's batch.
    first = np.zeros((3, cut.groups), np.int64)
    begin, entries, columns = offsets(counts), 0, 0
    slot = np.arange(cut.row.size) - begin[cut.owner]
    for groups in _batches(counts):
        wide = int(counts[groups].max(initial=0))
        batch = Batch(_inputs(cut, begin, counts, groups, wide), cut.lanes)
        batches.append(batch)
        along = np.arange(groups.size)
        first[0, groups] = entries + along * (cut.lanes * wide)
        first[1, groups] = columns + along * cut.lanes
        first[2, groups] = wide
        entries += groups.size * cut.lanes * wide
        columns += groups.size * cut.lanes
    group, inner = np.divmod(lane, cut.lanes)
    # The pairs are sorted by group, then row.
    at = slot[np.searchsorted(cut.owner * p + cut.row, group * p + row)]
    places = np.full(rows.size, entries)
    places[inside] = first[0, group] + inner * first[2, group] + at
    group, inner = np.divmod(place, cut.lanes)
    return BatchLayout(shape, batches, places, first[1, group] + inner)


def _cuts(row: IntArray, lane: IntArray, shape: tuple[int, int]) -> Iterator[_Cut]:
    """Cuts into groups of different numbers of columns."""
    p, q = shape
    for lanes in {LANES, shared_lanes(row, lane, q)}:
        lanes = min(lanes, max(q, 1))
        touched = np.unique(lane // lanes * p + row)
        cut = _Cut(lanes, -(-q // lanes), *np.divmod(touched, max(p, 1)))
        yield cut
        while cut.groups > 1:
            cut = cut.merged(min(4, cut.groups), p)
            # One group has no more columns than there are.
            yield cut if cut.groups > 1 else replace(cut, lanes=q)


def shared_lanes(row: IntArray, lane: IntArray, q: int) -> int:
    """Greatest number of columns whose multiples hold all places where the touched rows change."""
    # Not a proof of equal rows, which no layout needs.
    marks = [np.bincount(lane, w, minlength=q) for w in (None, row, row.astype(float) ** 2)]
    changes = np.flatnonzero(np.any([np.diff(mark) != 0 for mark in marks], axis=0)) + 1
    side = int(np.gcd.reduce(changes)) if changes.size else q
    return side if side >= _LEAST_LANES else LANES


def _batches(counts: IntArray) -> list[IntArray]:
    """Groups of each batch: all in one, or those of few rows apart where this saves enough."""
    order = np.argsort(counts, kind="stable")
    groups, most = counts.size, int(counts.max(initial=0))
    if groups < 2:
        return [order]
    few = np.arange(1, groups)
    saved = few * (most - counts[order][:-1])
    best = int(np.argmax(saved))
    if saved[best] < _LEAST_SAVED * groups * most or not saved[best]:
        return [np.arange(groups)]
    return [np.sort(order[: best + 1]), np.sort(order[best + 1 :])]


def timed(groups: int, lanes: int, wide: int) -> int:
    """Multiplications that take as long as those of groups with this many columns and rows."""
    least = _LEAST_SIDES
    return groups * max(lanes, least[1]) * max(wide, least[0])


def _price(cut: _Cut, gathered: float) -> float:
    """Multiplications of a product, with those in whose time the operand is gathered."""
    counts, total = cut.counts(), 0.0
    for groups in _batches(counts):
        wide = int(counts[groups].max(initial=0))
        total += timed(groups.size, cut.lanes, wide)
        total += groups.size * wide * gathered
    return total


def _inputs(cut: _Cut, begin: IntArray, counts: IntArray, groups: IntArray, wide: int) -> IntArray:
    """Rows of some groups, (g, wide); a group with fewer repeats its last one."""
    if wide == 0:
        return np.zeros((groups.size, 0), np.int64)
    last = np.maximum(counts[groups] - 1, 0)[:, None]
    at = begin[groups][:, None] + np.minimum(np.arange(wide), last)
    # A group that touches no row has one all the same.
    return cut.row[np.minimum(at, cut.row.size - 1)]


def coordinates(pattern: Pattern, total: int) -> tuple[IntArray, IntArray]:
    """Row and column of each of a pattern's packed scalars; beyond the matrix for one in none."""
    if isinstance(pattern, RunPattern):
        at = positions(pattern.start, pattern.width, pattern.n)
        return at, np.repeat(np.arange(pattern.width.size), pattern.width)
    rows, cols = (np.full(total, size, np.int64) for size in pattern.shape)
    layout = pattern.layout()
    for first, columns, entries in zip(
        layout.bounds[:-1], layout.columns, layout.entries, strict=True
    ):
        i, j = np.nonzero(entries < total)
        rows[entries[i, j]], cols[entries[i, j]] = first + i, columns[j]
    return rows, cols


def column_order(pattern: Pattern) -> IntArray | None:
    """An order of the columns in which neighbours touch the same rows; None for their own."""
    if isinstance(pattern, RunPattern):
        return run_order(pattern.start, pattern.width, pattern.n)
    return None
