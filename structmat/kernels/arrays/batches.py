"""Products by batches of dense groups, in the array API: a bounded number of operations.

A layer on a device waits for the host, so the number of its operations must not grow with its
blocks. A product by a factor is one gather, at most two batched products and one copy. A device
multiplies a batch by one call of its library.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from structmat._array import Array, conj, from_numpy, taken
from structmat.kernels.layouts.batched import FactorBatches, MatrixBatches
from structmat.kernels.layouts.factors import FactorStructure


class BatchedFactor(Protocol):
    """The structure of a sparse matrix W, (p, q), for products W^T x."""

    def fill(self, contents: Array) -> Sequence[Array]:
        """Packed contents in the batches: one array (g, b, a) for each."""

    def times(self, x: Array, values: Sequence[Array]) -> Array:
        """W^T x: (p, k) to (rows, k)."""


class ArrayFactor:
    """A factor in the array API alone."""

    def __init__(self, factor: FactorBatches, structure: FactorStructure) -> None:
        self._factor, self._structure = factor, structure
        self._xp, self._device = structure.xp, structure.device
        self._firsts = [batch.window if batch.follows else None for batch in factor.batches]
        gathered = [b.inputs.ravel() for b in factor.batches if not b.follows]
        self._gathered = self._index(np.concatenate([np.zeros(0, np.int64), *gathered]))
        columns = factor.columns
        self._columns = None if columns is None else self._index(columns)

    def _index(self, array: np.ndarray) -> Array:
        small = np.int32 if array.max(initial=0) < 2**31 else np.int64
        return from_numpy(np.ascontiguousarray(array, dtype=small), self._xp, self._device)

    def fill(self, contents: Array) -> list[Array]:
        """Packed contents in the batches: one array (g, b, a) for each."""
        xp, first, found = self._xp, 0, []
        zero = xp.zeros(1, dtype=contents.dtype, device=self._device)
        # The index is as large as the batches, and no product needs it.
        inverse = self._index(self._factor.inverse(contents.shape[0]))
        flat = taken(xp.concat([contents, zero]), inverse, xp, axis=0)
        for shape in (batch.shape for batch in self._factor.batches):
            size = int(np.prod(shape))
            found.append(xp.reshape(flat[first : first + size], shape))
            first += size
        return found

    def times(self, x: Array, values: Sequence[Array]) -> Array:
        """W^T x: (p, k) to (rows, k)."""
        xp, k, first, parts = self._xp, x.shape[1], 0, []
        rows = taken(x, self._gathered, xp, axis=0) if self._gathered.shape[0] else x
        for value, window in zip(values, self._firsts, strict=True):
            groups, lanes, wide = value.shape
            if not wide:
                parts.append(xp.zeros((groups * lanes, k), dtype=x.dtype, device=self._device))
                continue
            if window is None:
                chosen = rows[first : first + groups * wide, :]
                first += groups * wide
            else:
                chosen = x[window[0] : window[0] + groups * wide, :]
            made = value @ xp.reshape(chosen, (groups, wide, k))
            parts.append(xp.reshape(made, (groups * lanes, k)))
        y = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
        if self._columns is not None:
            return taken(y, self._columns, xp, axis=0)
        return y[: self._factor.rows, :]


class BatchedStructure:
    """The factors of A = R [C^H; I] for products by A and by A^H, on a device.

    `factor` makes one of them. With `keeps`, contents for products by A^H are kept once they
    are there.
    """

    def __init__(
        self,
        structure: FactorStructure,
        batches: MatrixBatches,
        factor: Callable[[FactorBatches, FactorStructure], BatchedFactor],
        *,
        keeps: bool,
    ) -> None:
        self.structure, self.strips, self.keeps = structure, batches.strips, keeps
        self.times = [factor(f, structure) for f in batches.times]
        self.adjoint = [factor(f, structure) for f in batches.adjoint]

    def contents(self, contents: list[Array]) -> list[Array]:
        """Packed contents of R and C as those of the sparse matrices that multiply."""
        return contents if self.strips is None else [self.strips.merged(contents)]


class Batches:
    """A = R [C^H; I] bound to batches: contents in the batches of A."""

    def __init__(self, batched: BatchedStructure, contents: list[Array]) -> None:
        self._batched, self._contents = batched, batched.contents(contents)
        self._xp = batched.structure.xp
        self._values = self._filled(batched.times)
        self._back: list[Sequence[Array]] | None = None

    def _filled(self, factors: list[BatchedFactor]) -> list[Sequence[Array]]:
        """Values for the factors of a product, in the order in which they multiply."""
        row, *rest = self._contents
        if factors is self._batched.adjoint:
            given = [conj(row, self._xp), *rest]
        else:
            given = [*(conj(col, self._xp) for col in rest), row]
        return [factor.fill(c) for factor, c in zip(factors, given, strict=True)]

    def _adjoint_values(self) -> list[Sequence[Array]]:
        if self._back is not None:
            return self._back
        if not self._batched.keeps:
            return self._filled(self._batched.adjoint)
        with self._batched.structure.binding():
            self._back = self._filled(self._batched.adjoint)
        return self._back

    def multiply(self, x: Array, *, by_columns: bool = False) -> Array:
        """A x: (n, k) to (m, k), in memory row after row."""
        factors, values = self._batched.times, self._values
        z = factors[0].times(x, values[0])
        if len(factors) == 1:
            return z
        if self._batched.structure.through:
            z = self._xp.concat([z, x], axis=0)
        return factors[1].times(z, values[1])

    def multiply_adjoint(self, y: Array, *, by_columns: bool = False) -> Array:
        """A^H y: (m, k) to (n, k), in memory row after row."""
        structure, factors = self._batched.structure, self._batched.adjoint
        values = self._adjoint_values()
        z = factors[0].times(y, values[0])
        if len(factors) == 1:
            return z
        x = factors[1].times(z[: structure.middle, :], values[1])
        return x + z[structure.middle :, :] if structure.through else x
