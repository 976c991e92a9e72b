"""Panel products: the reference kernel, in the array API alone, for every sparse structure.

A sparse matrix S, shape (m, K), is cut into row panels. Each panel is a dense array
on the columns it touches, so that S @ Z is one BLAS product a panel. Both factors of
a GBLR matrix, both sides of a block-low-rank one and a block-sparse matrix have this
form; they differ in how the panels are laid out over their packed contents.

The floor is one multiplication for each stored scalar and column. Padding (zeros inside a
panel) and copies of the rows of Z that a panel needs come on top.
"""

from functools import cached_property
from itertools import pairwise

import numpy as np

from structmat._array import Array, computing_on, integers, is_complex, product
from structmat.kernels.bound import BoundFactor, BoundKernel, Chain
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import Pattern


def panel_factors(structure: FactorStructure, contents: list[Array]) -> list[BoundFactor]:
    """All factors of a matrix as panels, by the kernel of their library."""
    if structure.library == "torch":
        from structmat.kernels.arrays.torch_panels import torch_panels

        return torch_panels(structure, contents)
    pairs = zip(structure.patterns, contents, strict=True)
    return [Panels(structure, pattern, c) for pattern, c in pairs]


def by_panels(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    """The products of a matrix by the panels of its factors."""
    return Chain(structure, *panel_factors(structure, contents))


class Panels:
    """A sparse matrix S (m, K) of packed contents (total,), filled in when first needed."""

    def __init__(self, structure: FactorStructure, pattern: Pattern, contents: Array) -> None:
        self.xp, self.device, self.backend = structure.xp, structure.device, structure.backend
        self._pattern, self._contents = pattern, contents
        self._complex = is_complex(contents, self.xp)

    @cached_property
    def _panels(self) -> list[tuple[slice, Array | slice, Array]]:
        """Rows, columns and entries of every panel."""
        xp, device, layout = self.xp, self.device, self._pattern.layout()
        with computing_on(xp, device), self.backend.caching(xp):
            nothing = xp.zeros(1, dtype=self._contents.dtype, device=device)
            padded = xp.concat([self._contents, nothing])
            return [
                (
                    slice(*rows),
                    consecutive or integers(columns, xp, device),
                    xp.reshape(xp.take(padded, integers(at.ravel(), xp, device)), at.shape),
                )
                for rows, columns, consecutive, at in zip(
                    pairwise(layout.bounds),
                    layout.columns,
                    layout.slices,
                    layout.entries,
                    strict=True,
                )
            ]

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S @ z: (K, k) to (m, k), in memory column after column if asked."""
        xp = self.xp
        parts = [
            product(panel, self._take(z, columns), xp, by_columns=by_columns)
            for _, columns, panel in self._panels
        ]
        return xp.concat(parts, axis=0)

    def rmatmat(self, y: Array) -> Array:
        """S^H @ y: (m, k) to (K, k)."""
        xp = self.xp
        # conj(Sᵀ conj(y)) keeps the panels as they are: no conjugated copy of them.
        y = self._conj(y)
        add_rows = self.backend.add_rows
        z = xp.zeros((self._pattern.shape[1], y.shape[1]), dtype=y.dtype, device=self.device)
        for rows, columns, panel in self._panels:
            if panel.shape[1]:
                index = columns if not isinstance(columns, slice) else self._range(columns)
                z = add_rows(z, index, xp.matrix_transpose(panel) @ y[rows, :])
        return self._conj(z)

    def _conj(self, x: Array) -> Array:
        return self.xp.conj(x) if self._complex else x

    def _take(self, z: Array, columns: Array | slice) -> Array:
        if isinstance(columns, slice):
            return z[columns, :]
        return self.xp.take(z, columns, axis=0)

    def _range(self, columns: slice) -> Array:
        # NumPy adds to a slice faster than to a list of rows; the others need the list.
        if self.backend.name in ("numpy", "cupy"):
            return columns
        return integers(np.arange(columns.start, columns.stop), self.xp, self.device)
