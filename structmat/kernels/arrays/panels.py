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
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from structmat._array import (
    Array,
    Device,
    backend_name,
    backend_of,
    integers,
    is_complex,
    product,
)
from structmat.kernels.bound import BoundFactor
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import Pattern, as_slice

if TYPE_CHECKING:
    from structmat.kernels.arrays.torch_panels import PanelIndex


class UnfilledPanels:
    """The panels of a sparse matrix without contents.

    Parameters
    ----------
    pattern : Pattern
    xp : namespace
    device : device

    Attributes
    ----------
    index : PanelIndex or None
        On torch, where contents may change while the structure stays, the layout as
        index tensors. Elsewhere None: a layout is larger than the contents, so it is
        made for each form that the products take, and not kept.
    """

    def __init__(self, pattern: Pattern, xp: ModuleType, device: Device) -> None:
        self.pattern, self.shape, self.xp, self.device = pattern, pattern.shape, xp, device
        self.index: PanelIndex | None = None
        if backend_name(xp) == "torch":
            from structmat.kernels.arrays import torch_panels

            self.index = torch_panels.PanelIndex(pattern.layout(), device)

    def fill(self, contents: Array) -> BoundFactor:
        """Panels that hold these packed contents, by the kernel of their library."""
        if self.index is None:
            return Panels(self.pattern, contents, self.xp, self.device)
        from structmat.kernels.arrays.torch_panels import TorchPanels

        return TorchPanels(self.index, contents)


def unfilled_panels(structure: FactorStructure, contents: list[Array]) -> list[UnfilledPanels]:
    """Panels of all factors of a matrix without contents, made once for its structure."""
    xp, device = structure.xp, structure.device
    return structure.layouts(
        "panels without contents", lambda p, _: UnfilledPanels(p, xp, device), contents
    )


class Panels:
    """A sparse matrix, filled in when it is first needed and ready to multiply.

    Parameters
    ----------
    pattern : Pattern
    contents : array, shape (total,)
        Packed entries.
    xp : namespace
    device : device
    """

    def __init__(self, pattern: Pattern, contents: Array, xp: ModuleType, device: Device) -> None:
        self.shape, self.xp, self.device = pattern.shape, xp, device
        self._pattern, self._contents = pattern, contents
        self._complex = is_complex(contents, xp)

    @cached_property
    def _panels(self) -> list[tuple[slice, Array | slice, Array]]:
        """Rows, columns and entries of every panel."""
        xp, device, layout = self.xp, self.device, self._pattern.layout()
        with backend_of(xp).caching():
            nothing = xp.zeros(1, dtype=self._contents.dtype, device=device)
            padded = xp.concat([self._contents, nothing])
            return [
                (
                    slice(*rows),
                    as_slice(columns) or integers(columns, xp, device),
                    xp.reshape(xp.take(padded, integers(at.ravel(), xp, device)), at.shape),
                )
                for rows, columns, at in zip(
                    pairwise(layout.bounds), layout.columns, layout.entries, strict=True
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
        add_rows = backend_of(xp).add_rows
        z = xp.zeros((self.shape[1], y.shape[1]), dtype=y.dtype, device=self.device)
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
        if backend_of(self.xp).name in ("numpy", "cupy"):
            return columns
        return integers(np.arange(columns.start, columns.stop), self.xp, self.device)
