"""Products by batches of dense groups on PyTorch: a bounded number of plain operations.

A layer on a device waits for the host, so the number of its operations must not grow with its
blocks. A product by a factor is one gather, at most two batched products and one copy. All are
operations that torch differentiates, transforms, traces and compiles by itself.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from structmat._backends import BACKENDS
from structmat.intervals import IntArray
from structmat.kernels.layouts.batches import (
    Batch,
    BatchLayout,
    batch_layout,
    column_order,
    coordinates,
)
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.strips import Strips

_by_columns = BACKENDS["torch"].stored_by_columns


def _index(array: IntArray, device: torch.device | str) -> Tensor:
    """An index in half the memory, wherever 32 bits suffice."""
    small = np.int32 if array.max(initial=0) < 2**31 else np.int64
    return torch.from_numpy(array.astype(small)).to(device)


class BatchedFactor:
    """The structure of a sparse matrix W, (p, q), for products W^T x, on a device.

    Parameters
    ----------
    layout : BatchLayout
    device : device
    before : BatchLayout, optional
        The layout of the factor before, whose result this one takes as it lies.
    beside : int
        Rows of the operand that follow those of the factor before.
    ordered : bool
        Whether the result is in the order of the columns of W, and not as the batches leave it.
    """

    def __init__(
        self,
        layout: BatchLayout,
        device: torch.device | str,
        *,
        before: BatchLayout | None = None,
        beside: int = 0,
        ordered: bool = True,
    ) -> None:
        self._batches = layout.batches
        if before is not None:
            rows = np.concatenate([before.columns, before.width + np.arange(beside)])
            self._batches = [Batch(rows[b.inputs], b.lanes) for b in layout.batches]
        self._windows = [batch.window for batch in self._batches]
        gathered = [
            batch.inputs.ravel()
            for batch, window in zip(self._batches, self._windows, strict=True)
            if window is None
        ]
        self._gathered = _index(np.concatenate([np.zeros(0, np.int64), *gathered]), device)
        self._shapes = [batch.shape for batch in self._batches]
        self._size, self._places = layout.size, _index(layout.places, device)
        q = layout.shape[1]
        own = not ordered or np.array_equal(layout.columns, np.arange(q))
        self._columns = None if own else _index(layout.columns, device)
        #: Rows of the result.
        self.rows = q if ordered else layout.width

    def fill(self, contents: Tensor) -> list[Tensor]:
        """Packed contents in the batches: one array (g, b, a) for each."""
        # The last place takes scalars that are not part of the matrix.
        empty = contents.new_zeros(self._size + 1)
        flat = empty.index_copy(0, self._places.long(), contents)
        sizes = [g * b * a for g, b, a in self._shapes]
        parts = flat.split([*sizes, 1])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=False)]

    def times(self, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """W^T x: (p, k) to (rows, k)."""
        chosen = self._chosen(x)
        parts = [v @ c for v, c in zip(values, chosen, strict=True)]
        flat = [part.reshape(part.shape[0] * part.shape[1], x.shape[1]) for part in parts]
        y = flat[0] if len(flat) == 1 else torch.cat(flat)
        if self._columns is not None:
            return y.index_select(0, self._columns)
        return y[: self.rows]

    def _chosen(self, x: Tensor) -> list[Tensor]:
        """Rows of x for each batch, (g, a, k)."""
        k, found = x.shape[1], []
        gathered = iter(self._gather(x))
        for window, (groups, _, rows) in zip(self._windows, self._shapes, strict=True):
            if window is None:
                found.append(next(gathered))
                continue
            first, step = window
            span = x[first : first + step * (groups - 1) + rows]
            found.append(
                span.reshape(1, rows, k)
                if groups == 1
                else span.unfold(0, rows, step).transpose(1, 2)
            )
        return found

    def _gather(self, x: Tensor) -> list[Tensor]:
        """The gathered rows of x, in one operation for all batches, as views."""
        shapes = [s for s, w in zip(self._shapes, self._windows, strict=True) if w is None]
        if not shapes:
            return []
        sizes, k = [g * a for g, _, a in shapes], x.shape[1]
        if x.shape[0] == 0:
            return [x.new_zeros(g, a, k) for g, _, a in shapes]
        # An operand keeps its order in memory, so that reading and writing are consecutive.
        if _by_columns(x):
            parts = x.T.index_select(1, self._gathered).split(sizes, 1)
            pairs = zip(parts, shapes, strict=True)
            return [part.view(k, g, a).permute(1, 2, 0) for part, (g, _, a) in pairs]
        pairs = zip(x.index_select(0, self._gathered).split(sizes), shapes, strict=True)
        return [part.view(g, a, k) for part, (g, _, a) in pairs]


class BatchedStructure:
    """The factors of A = R [C^H; I] for products by A and by A^H, on a device."""

    def __init__(self, structure: FactorStructure, totals: list[int]) -> None:
        device = structure.device
        make = partial(BatchedFactor, device=device)
        self.through, self.middle = structure.through, structure.middle
        self.strips = Strips.apart(structure)
        if self.strips is not None:
            rows, cols = self.strips.coordinates
            self.times = [make(batch_layout(cols, rows, structure.shape[::-1]))]
            self.adjoint = [make(batch_layout(rows, cols, structure.shape))]
            return
        places = [coordinates(p, t) for p, t in zip(structure.patterns, totals, strict=True)]
        (rows, cols), (row, col) = places[0], (structure.row, structure.col)
        forward = batch_layout(cols, rows, row.shape[::-1])
        back = make(batch_layout(rows, cols, row.shape, order=column_order(row)))
        if col is None:
            self.times, self.adjoint = [make(forward)], [back]
            return
        rows, cols = places[1]
        first = batch_layout(rows, cols, col.shape, order=column_order(col))
        beside = structure.shape[1] if structure.through else 0
        self.times = [
            make(first, ordered=False),
            make(forward, before=first, beside=beside),
        ]
        self.adjoint = [back, make(batch_layout(cols, rows, col.shape[::-1]))]

    def contents(self, contents: list[Tensor]) -> list[Tensor]:
        """Packed contents of R and C as those of the sparse matrices that multiply."""
        return contents if self.strips is None else [self.strips.merged(contents)]


class TorchBatches:
    """A = R [C^H; I] bound to batches: contents in the batches of A, not in those of A^H."""

    def __init__(self, structure: BatchedStructure, contents: list[Tensor]) -> None:
        self._structure, self._contents = structure, structure.contents(contents)
        self._values = self._filled(structure.times)

    def _filled(self, factors: list[BatchedFactor]) -> list[list[Tensor]]:
        """Values for the factors of a product, in the order in which they multiply."""
        if len(factors) == 1:
            return [factors[0].fill(self._contents[0])]
        row, col = self._contents
        given = (col.conj(), row) if factors is self._structure.times else (row.conj(), col)
        return [factor.fill(c) for factor, c in zip(factors, given, strict=True)]

    def multiply(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """A x: (n, k) to (m, k), in memory row after row."""
        factors, values = self._structure.times, self._values
        if len(factors) == 1:
            return factors[0].times(x, values[0])
        z = factors[0].times(x, values[0])
        if self._structure.through:
            z = torch.cat([z, x])
        return factors[1].times(z, values[1])

    def multiply_adjoint(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """A^H y: (m, k) to (n, k), in memory row after row."""
        structure, factors = self._structure, self._structure.adjoint
        if len(factors) == 1:
            return factors[0].times(y, factors[0].fill(self._contents[0].conj()))
        values = self._filled(factors)
        z = factors[0].times(y, values[0])
        x = factors[1].times(z[: structure.middle], values[1])
        return x + z[structure.middle :] if structure.through else x


def torch_batches(structure: FactorStructure, contents: list[Tensor]) -> TorchBatches:
    """A matrix as batches that hold these packed contents."""
    totals = [c.shape[0] for c in contents]
    kept = structure.kept("batches", lambda: BatchedStructure(structure, totals))
    return TorchBatches(kept, contents)
