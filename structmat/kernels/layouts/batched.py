"""Batches of all factors of a matrix A = R [C^H; I], for products by A and by A^H.

Plain NumPy on the host. The result of the first factor stays as its batches leave it, since the
batches of the second gather its rows in any order.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from structmat.intervals import IntArray
from structmat.kernels.layouts.batches import (
    GATHERED_EXACTLY,
    Batch,
    BatchLayout,
    batch_layout,
    column_order,
    coordinates,
)
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.strips import Strips


class BatchCounts(NamedTuple):
    """Counts of a product by batches; the last three for each column of the operand."""

    #: Operations.
    starts: int
    #: Entries, padding included.
    area: int
    #: Multiplications; a small group counts as one of the size that takes as long.
    multiplications: int
    #: Numbers of an operand that are gathered, and of a result that are written.
    gathered: int
    written: int


@dataclass(frozen=True)
class FactorBatches:
    """The batches of one factor W, (p, q), for products W^T x.

    Attributes
    ----------
    batches : list of Batch
        With the rows of the operand as it comes.
    size : int
        Number of entries, padding included.
    places : ndarray of int
        Place of each packed scalar among all entries; `size` for one outside the matrix.
    columns : ndarray of int or None
        Rows of the result among those of the batches; None where they are the first ones.
    rows : int
        Number of rows of the result.
    """

    batches: list[Batch]
    size: int
    places: IntArray
    columns: IntArray | None
    rows: int

    @classmethod
    def of(
        cls,
        layout: BatchLayout,
        *,
        before: BatchLayout | None = None,
        beside: int = 0,
        ordered: bool = True,
    ) -> "FactorBatches":
        """The batches of a layout.

        The operand is the result of the layout `before`, as its batches leave it, with as many
        rows `beside` it below. The own result is `ordered` as the columns of W, or not.
        """
        batches, q = layout.batches, layout.shape[1]
        if before is not None:
            rows = np.concatenate([before.columns, before.width + np.arange(beside)])
            batches = [Batch(rows[b.inputs], b.lanes) for b in batches]
        own = not ordered or np.array_equal(layout.columns, np.arange(q))
        return cls(
            batches,
            layout.size,
            layout.places,
            None if own else layout.columns,
            q if ordered else layout.width,
        )

    @property
    def counts(self) -> BatchCounts:
        """Counts of a product where windows are views if they follow one another."""
        gathered = [b.inputs.size for b in self.batches if not b.follows]
        ordering = self.columns is not None
        joining = len(self.batches) > 1
        written = sum(b.shape[0] * b.lanes for b in self.batches) * (1 + joining)
        starts = len(self.batches) + (len(gathered) > 0) + joining + ordering
        multiplications = sum(b.multiplications for b in self.batches)
        written += ordering * self.rows
        return BatchCounts(starts, self.size, multiplications, sum(gathered), written)

    def inverse(self, total: int) -> IntArray:
        """The packed scalar of each entry; their number `total` for padding."""
        found = np.full(self.size + 1, total)
        found[self.places] = np.arange(total)
        return found[:-1]


class MatrixBatches:
    """The batches of both factors, in the order in which a product takes them.

    Attributes
    ----------
    times, adjoint : list of FactorBatches
        For products by A and by A^H: two, or one where a single sparse matrix multiplies.
    strips : Strips or None
        The strips that were merged into one sparse matrix.
    """

    def __init__(
        self, structure: FactorStructure, totals: list[int], gathered: float | None = None
    ) -> None:
        lay = partial(batch_layout, gathered=gathered)
        self.strips = Strips.apart(structure)
        if self.strips is not None:
            rows, cols = self.strips.coordinates
            self.times = [FactorBatches.of(lay(cols, rows, structure.shape[::-1]))]
            self.adjoint = [FactorBatches.of(lay(rows, cols, structure.shape))]
            return
        places = [coordinates(p, t) for p, t in zip(structure.patterns, totals, strict=True)]
        (rows, cols), (row, col) = places[0], (structure.row, structure.col)
        forward = lay(cols, rows, row.shape[::-1])
        back = FactorBatches.of(lay(rows, cols, row.shape, order=column_order(row)))
        if col is None:
            self.times, self.adjoint = [FactorBatches.of(forward)], [back]
            return
        rows, cols = places[1]
        first = lay(rows, cols, col.shape, order=column_order(col))
        beside = structure.shape[1] if structure.through else 0
        self.times = [
            FactorBatches.of(first, ordered=False),
            FactorBatches.of(forward, before=first, beside=beside),
        ]
        self.adjoint = [back, FactorBatches.of(lay(cols, rows, col.shape[::-1]))]

    @property
    def counts(self) -> BatchCounts:
        """Counts of a product by A."""
        return BatchCounts(*map(sum, zip(*(f.counts for f in self.times), strict=True)))


def exact_batches(structure: FactorStructure, totals: list[int]) -> MatrixBatches:
    """The batches of a matrix for a device that multiplies without matrix units, once."""
    return structure.kept(
        "exact batches", lambda: MatrixBatches(structure, totals, GATHERED_EXACTLY)
    )
