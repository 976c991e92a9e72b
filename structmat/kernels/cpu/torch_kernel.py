"""Compiled kernels for torch on a CPU: operators, direct calls, or panels, as torch allows."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from structmat._derivatives import is_plain, is_transformed, is_translated
from structmat.kernels.bound import BoundKernel, DirectKernel
from structmat.kernels.cpu.torch_blocks import TorchBlockIndex, TorchBlocks
from structmat.kernels.cpu.torch_op import TorchTiles, on_numpy


class TorchKernel:
    """A matrix on CPU tensors, bound to compiled kernels and, where they do not serve, to panels.

    Products with gradients and traced ones go by `operators`. Plain ones call the kernels
    directly; few vectors go by the kernel for single vectors. Transforms of `torch.func`,
    and ONNX, follow the plain operations of panels.

    `vectors` binds the matrix to the kernel for single vectors, on NumPy, and `panels` to
    panels; `few` is the number of vectors up to which they are multiplied one by one. All
    three are called when first needed. `recorded` tells that contents need gradients.
    """

    def __init__(
        self,
        operators: TorchTiles | TorchBlocks,
        *,
        vectors: Callable[[], BoundKernel],
        panels: Callable[[], BoundKernel],
        few: Callable[[], int],
        recorded: bool,
    ) -> None:
        self._operators, self._recorded = operators, recorded
        self._bind_vectors, self._bind_panels, self._count_few = vectors, panels, few

    def lists(self, x: Tensor) -> bool:
        """Tell whether an operand is multiplied by listed places, which may be moved."""
        return self.lists_places and not is_transformed(x) and not is_translated()

    @property
    def lists_places(self) -> bool:
        """Tell whether plain operands are multiplied by listed places."""
        return isinstance(self._operators, TorchBlocks)

    @property
    def index(self) -> TorchBlockIndex:
        """The listed places."""
        assert isinstance(self._operators, TorchBlocks)
        return self._operators.index

    def listed(self, index: TorchBlockIndex) -> "TorchKernel":
        """The kernel of the same contents at other places; panels keep theirs."""
        assert isinstance(self._operators, TorchBlocks)

        def vectors() -> BoundKernel:
            bound: Any = self._vectors
            return cast(BoundKernel, bound.listed(index.orders))

        return TorchKernel(
            TorchBlocks(index, self._operators.contents),
            vectors=vectors,
            panels=self._bind_panels,
            few=self._count_few,
            recorded=self._recorded,
        )

    @cached_property
    def _few(self) -> int:
        return self._count_few()

    @cached_property
    def _vectors(self) -> BoundKernel:
        return self._bind_vectors()

    @cached_property
    def _panels(self) -> BoundKernel:
        return self._bind_panels()

    def multiply(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """A x: (n, k) to (m, k)."""
        if self._is_plain(x):
            kernel = self.direct(x.shape[1])
            return torch.from_numpy(kernel.multiply(on_numpy(x), by_columns=True))
        return self._traceable(x).multiply(x, by_columns=by_columns)

    def multiply_adjoint(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """A^T y: (m, k) to (n, k)."""
        if self._is_plain(y):
            kernel = self.direct(y.shape[1])
            return torch.from_numpy(kernel.multiply_adjoint(on_numpy(y), by_columns=True))
        return self._traceable(y).multiply_adjoint(y, by_columns=by_columns)

    def _is_plain(self, x: Tensor) -> bool:
        """Tell whether torch follows nothing: gradients, tracing or counting of operations."""
        return not self._recorded and is_plain(x)

    def direct(self, columns: int) -> DirectKernel:
        """The kernel on NumPy for a number of columns; contents must need no gradients."""
        product: Any = self._vectors if columns <= self._few else self._operators.product
        product.threads = torch.get_num_threads()  # it may have been set since
        return cast(DirectKernel, product)

    def _traceable(self, x: Tensor) -> BoundKernel:
        return self._panels if is_transformed(x) or is_translated() else self._operators
