"""Factors in batches on PyTorch, by plain operations.

All are operations that torch differentiates, transforms, traces and compiles by itself. Windows
at equal distances are views, even where they overlap.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from structmat._backends import BACKENDS
from structmat.intervals import IntArray
from structmat.kernels.layouts.batched import FactorBatches
from structmat.kernels.layouts.factors import FactorStructure

_by_columns = BACKENDS["torch"].stored_by_columns


def _index(array: IntArray, device: torch.device | str) -> Tensor:
    """An index in half the memory, wherever 32 bits suffice."""
    small = np.int32 if array.max(initial=0) < 2**31 else np.int64
    return torch.from_numpy(array.astype(small)).to(device)


class TorchFactor:
    """The structure of a sparse matrix W, (p, q), for products W^T x, on a device."""

    def __init__(self, factor: FactorBatches, structure: FactorStructure) -> None:
        device = structure.device
        self._windows = [batch.window for batch in factor.batches]
        gathered = [
            batch.inputs.ravel()
            for batch, window in zip(factor.batches, self._windows, strict=True)
            if window is None
        ]
        self._gathered = _index(np.concatenate([np.zeros(0, np.int64), *gathered]), device)
        self._shapes = [batch.shape for batch in factor.batches]
        self._size, self._places = factor.size, _index(factor.places, device)
        columns = factor.columns
        self._columns = None if columns is None else _index(columns, device)
        self._rows = factor.rows

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
        return y[: self._rows]

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
