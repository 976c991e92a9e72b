"""Panel products: one primitive, in the array API alone, behind every sparse structure.

A sparse matrix S, shape (m, K), is cut into row panels. Each panel is a dense array
on the columns it touches, so that S @ Z is one BLAS product a panel. Both factors of
a GBLR matrix, both sides of a block-low-rank one and a block-sparse matrix have this
form; they differ in how the panels are laid out over their packed contents.

The floor is one multiplication for each stored scalar and column. What comes on top
is padding (zeros inside a panel) and the copying of the rows of Z that a panel needs.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from structmat._array import (
    Array,
    Device,
    backend_name,
    backend_of,
    conj,
    integers,
    is_complex,
    product,
)
from structmat.intervals import IntArray
from structmat.kernels.layouts.panels import PanelLayout


class PanelPlan:
    """What the panels of a sparse matrix owe to its structure alone; contents fill them.

    Parameters
    ----------
    layout : callable
        Returns the `PanelLayout`.
    shape : tuple of int
        ``(m, K)``.
    xp : namespace
    device : device

    Attributes
    ----------
    index : PanelIndex or None
        On torch, where contents may change while the structure stays, the layout as
        index tensors. Elsewhere nothing: a layout is larger than the contents, so it is
        made anew for each form the products take, and not kept.
    """

    def __init__(
        self,
        layout: Callable[[], PanelLayout],
        shape: tuple[int, int],
        xp: ModuleType,
        device: Device,
    ) -> None:
        self.layout, self.shape, self.xp, self.device = layout, shape, xp, device
        self.index: Any = None
        if backend_name(xp) == "torch":
            from structmat.kernels.arrays.torch_panels import PanelIndex

            self.index = PanelIndex(layout(), device)

    def fill(self, contents: Array) -> Any:
        """Panels that hold these packed contents, by the kernel for their library."""
        if self.index is None:
            return Panels(self.layout, contents, self.shape, self.xp, self.device)
        from structmat.kernels.arrays.torch_panels import TorchPanels

        return TorchPanels(self.index, contents)


class Panels:
    """A sparse matrix, filled in when it is first needed and ready to multiply.

    Parameters
    ----------
    layout : callable
        Returns the `PanelLayout`. It is larger than the contents, so it is made anew
        for each form the products take, and not kept.
    contents : array, shape (total,)
        Packed entries.
    shape : tuple of int
        ``(m, K)``.
    xp : namespace
    device : device
    """

    def __init__(
        self,
        layout: Callable[[], PanelLayout],
        contents: Array,
        shape: tuple[int, int],
        xp: ModuleType,
        device: Device,
    ) -> None:
        self.shape, self.xp, self.device = shape, xp, device
        self._layout, self._contents = layout, contents
        self._complex = is_complex(contents, xp)

    @cached_property
    def _panels(self) -> list[tuple[slice, Array | slice, Array]]:
        """Rows, columns and entries of every panel."""
        xp, device, layout = self.xp, self.device, self._layout()
        with backend_of(xp).caching():
            nothing = xp.zeros(1, dtype=self._contents.dtype, device=device)
            padded = xp.concat([self._contents, nothing])
            return [
                (
                    slice(*rows),
                    _as_slice(columns, xp, device),
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
        # NumPy adds to a slice faster than to a list of rows; others need the list.
        if backend_of(self.xp).name in ("numpy", "cupy"):
            return columns
        return integers(np.arange(columns.start, columns.stop), self.xp, self.device)


def _as_slice(columns: IntArray, xp: ModuleType, device: Device) -> Array | slice:
    """Consecutive columns as a slice, others as an index array on the device."""
    if columns.size == 0:
        return slice(0, 0)
    first = int(columns[0])
    if np.array_equal(columns, np.arange(first, first + columns.size)):
        return slice(first, first + columns.size)
    return integers(columns, xp, device)


def monarch_matmat(
    left: Array, right: Array, x: Array, xp: ModuleType, *, by_columns: bool = False
) -> Array:
    """Monarch product on padded operands: (k p, c) to (l s, c), by columns if asked.

    `left` has shape (l, s, r), `right` (k, q, p), with k q = l r. The middle index
    t = a l + j, a < r, belongs to block j of `left`; the output index is i l + j.
    """
    (l, s, r), (k, _, p), c = left.shape, right.shape, x.shape[1]
    middle = xp.reshape(right @ xp.reshape(x, (k, p, c)), (r, l, c))
    if by_columns:
        out = xp.permute_dims(middle, (1, 2, 0)) @ xp.matrix_transpose(left)
        return xp.matrix_transpose(xp.reshape(xp.permute_dims(out, (1, 2, 0)), (c, s * l)))
    out = left @ xp.permute_dims(middle, (1, 0, 2))
    return xp.reshape(xp.permute_dims(out, (1, 0, 2)), (s * l, c))


def monarch_rmatmat(left: Array, right: Array, y: Array, xp: ModuleType) -> Array:
    """Adjoint of `monarch_matmat`: (l s, c) to (k p, c)."""
    (l, s, _), (k, q, p), c = left.shape, right.shape, y.shape[1]
    y = xp.permute_dims(xp.reshape(conj(y, xp), (s, l, c)), (1, 0, 2))
    middle = xp.permute_dims(xp.matrix_transpose(left) @ y, (1, 0, 2))
    out = xp.matrix_transpose(right) @ xp.reshape(middle, (k, q, c))
    return conj(xp.reshape(out, (k * p, c)), xp)
