"""Panel products on PyTorch, with gradients of their own.

They compute the same as `panels.Panels`. Differentiated step by step, each panel's
part of a gradient would be an array as large as the whole operand; the two products
are each other's transpose, so each is the other's gradient instead.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat._backends import BACKENDS
from structmat._derivatives import is_transformed, is_translated
from structmat.kernels.bound import BoundFactor
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import PanelLayout

_by_columns = BACKENDS["torch"].stored_by_columns


def torch_panels(structure: FactorStructure, contents: list[Tensor]) -> list[BoundFactor]:
    """All factors of a matrix as panels that hold these packed contents."""
    pairs = zip(panel_indices(structure, contents), contents, strict=True)
    return [TorchPanels(index, c) for index, c in pairs]


def panel_indices(structure: FactorStructure, contents: list[Tensor]) -> "list[PanelIndex]":
    """Layouts of all factors, kept, as contents may change while the structure stays."""
    device = structure.device
    return structure.layouts("panels", lambda p, _: PanelIndex(p.layout(), device), contents)


class PanelIndex:
    """A panel layout as tensors on a device.

    Attributes
    ----------
    rows : list of tuple of int
        First row and the end of each panel.
    columns, slices, num_columns
        As in `PanelLayout`, the columns as tensors.
    shapes : list of tuple of int
        Rows and columns of each panel.
    entries : Tensor of int
        Entries of all panels, one after another.
    """

    def __init__(self, layout: PanelLayout, device: torch.device | str) -> None:
        self.rows = [(int(a), int(b)) for a, b in pairwise(layout.bounds)]
        self.columns = [torch.from_numpy(c.astype(np.int64)).to(device) for c in layout.columns]
        self.slices = layout.slices
        self.shapes = [e.shape for e in layout.entries]
        self.num_columns = layout.num_columns
        entries = np.concatenate([e.ravel() for e in layout.entries])
        small = np.int32 if entries.max(initial=0) < 2**31 else np.int64
        self.entries = torch.from_numpy(entries.astype(small)).to(device)

    def panels(self, flat: Tensor) -> list[Tensor]:
        """Views of all entries, one after another, as one matrix a panel."""
        parts = flat.split([r * c for r, c in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def take(self, z: Tensor, panel: int) -> Tensor:
        """Rows of z, shape (K, k), that a panel multiplies."""
        if (consecutive := self.slices[panel]) is not None:
            return z[consecutive]
        if _by_columns(z):
            return z.T.index_select(1, self.columns[panel]).T
        return z.index_select(0, self.columns[panel])


class TorchPanels:
    """A sparse matrix S, shape (m, K), of packed contents (total,), ready to multiply."""

    def __init__(self, index: PanelIndex, contents: Tensor) -> None:
        self._index = index
        padded = torch.cat([contents, contents.new_zeros(1)])
        self._flat = padded.index_select(0, index.entries)
        # With gradients a product cuts the panels itself.
        self._panels = [] if self._flat.requires_grad else index.panels(self._flat)

    def matmat(self, z: Tensor, *, by_columns: bool = False) -> Tensor:
        """S @ z: (K, k) to (m, k), in memory column after column if asked."""
        if self._records(z):
            y = _Times.apply(z, self._flat, self._index, by_columns)
        else:
            y = _times(self._cut(), z, self._index, by_columns)
        return y.T if by_columns else y

    def rmatmat(self, y: Tensor) -> Tensor:
        """S^H @ y: (m, k) to (K, k)."""
        # conj(Sᵀ conj(y)) keeps the panels as they are: no conjugated copy of them.
        if self._records(y):
            return _TransposeTimes.apply(y.conj(), self._flat, self._index).conj()
        return _transpose_times(self._cut(), y.conj(), self._index).conj()

    def _cut(self) -> list[Tensor]:
        return self._panels or self._index.panels(self._flat)

    def _records(self, operand: Tensor) -> bool:
        if is_transformed(operand, self._flat):
            return False  # torch differentiates the operations themselves
        return self._flat.requires_grad or (operand.requires_grad and torch.is_grad_enabled())


def _times(panels: list[Tensor], z: Tensor, index: PanelIndex, by_columns: bool) -> Tensor:
    """S z, or its transpose where asked by columns: gradients must not flow through a view."""
    parts = []
    for t, panel in enumerate(panels):
        chosen = index.take(z, t)
        parts.append(chosen.T @ panel.T if by_columns else panel @ chosen)
    return torch.cat(parts, 1 if by_columns else 0)


def _transpose_times(panels: list[Tensor], y: Tensor, index: PanelIndex) -> Tensor:
    z: Any = None
    for panel, (a, b), columns in zip(panels, index.rows, index.columns, strict=True):
        part = panel.T @ y[a:b]
        # In the part's dtype, which autocast may have chosen. ONNX Runtime adds no half ones.
        dtype = part.dtype
        part = part.float() if dtype == torch.float16 and is_translated() else part
        z = part.new_zeros(index.num_columns, part.shape[1]) if z is None else z
        z.index_add_(0, columns, part)
    return z.to(dtype)


def _outer(y: Tensor, z: Tensor, index: PanelIndex) -> Tensor:
    """Entries of y z^H in all panels: the gradient of each product by its matrix."""
    parts = [y[a:b] @ index.take(z, t).mH for t, (a, b) in enumerate(index.rows)]
    return torch.cat([part.reshape(-1) for part in parts])


class _Times(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, flat: Tensor, index: PanelIndex, by_columns: bool) -> Tensor:
        return _times(index.panels(flat), z, index, by_columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, flat, ctx.index, ctx.by_columns = inputs
        ctx.save_for_backward(z, flat)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, flat = ctx.saved_tensors
        grad = grad.T if ctx.by_columns else grad
        grad_z = grad_flat = None
        if ctx.needs_input_grad[0]:
            grad_z = _TransposeTimes.apply(grad, flat.conj(), ctx.index)
        if ctx.needs_input_grad[1]:
            grad_flat = _outer(grad, z, ctx.index)
        return grad_z, grad_flat, None, None


class _TransposeTimes(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, flat: Tensor, index: PanelIndex) -> Tensor:
        return _transpose_times(index.panels(flat), y, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        y, flat, ctx.index = inputs
        ctx.save_for_backward(y, flat)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, flat = ctx.saved_tensors
        grad_y = grad_flat = None
        if ctx.needs_input_grad[0]:
            by_columns = _by_columns(y)
            grad_y = _Times.apply(grad, flat.conj(), ctx.index, by_columns)
            grad_y = grad_y.T if by_columns else grad_y
        if ctx.needs_input_grad[1]:
            # The gradient conj(y) grad^T, by rows of y.
            grad_flat = _outer(y.conj(), grad.conj(), ctx.index)
        return grad_y, grad_flat, None
