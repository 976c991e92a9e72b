"""Products by rank-one blocks on listed rows and columns, as operators of torch on a CPU.

The kernels of `structmat.kernels.cpu.blocks` multiply tensors where they lie. Contents are
packed as they are stored, so that gradients come back in their own form.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from structmat._derivatives import is_recorded, recorded_gradients
from structmat.intervals import IntArray
from structmat.kernels.bound import Orders
from structmat.kernels.cpu.blocks import BlockIndex, BlockProduct, packed, unpacked
from structmat.kernels.cpu.torch_op import on_numpy
from structmat.kernels.layouts.factors import FactorStructure

_OWN = Orders()


class TorchBlockIndex:
    """Places of the contents of all blocks as tensors; parameters as for `BlockIndex`.

    `orders` say where the blocks' rows and columns lie among those places.
    """

    def __init__(self, index: BlockIndex, orders: Orders = _OWN) -> None:
        #: The same on NumPy.
        self.listed, self.sizes, self.orders = index, list(index.shape), orders
        # Tensors made in inference mode could not serve a later backward pass.
        with torch.inference_mode(False):
            arrays = [*index.arrays, *packed(index.sides)]
            #: The arrays of the index, and both sides. Operators take few arguments sooner.
            self.tensors = [torch.from_numpy(array) for array in arrays]

    @classmethod
    def of(cls, structure: FactorStructure) -> "TorchBlockIndex":
        """Places of a matrix whose factors are made of runs."""
        return cls(BlockIndex.of(structure))

    def in_orders(self, rows: IntArray | None, cols: IntArray | None) -> "TorchBlockIndex":
        """The same blocks where row i lies at ``rows[i]`` and column j at ``cols[j]``."""
        return TorchBlockIndex(self.listed.in_orders(rows, cols), self.orders.in_orders(rows, cols))


class TorchBlocks:
    """A = Σ_k u_k v_k^T on listed rows and columns of CPU tensors, by operators of torch."""

    def __init__(self, index: TorchBlockIndex, contents: list[Tensor]) -> None:
        self.index, self.contents = index, contents

    @cached_property
    def product(self) -> BlockProduct:
        """The same product on NumPy."""
        contents = [on_numpy(c) for c in self.contents]
        return BlockProduct(self.index.listed, contents, threads=torch.get_num_threads())

    def multiply(self, x: Tensor, *, by_columns: bool = False) -> Tensor:
        """A x: (n, k) to (m, k), in memory column after column."""
        return self._product(x, adjoint=False)

    def multiply_adjoint(self, y: Tensor, *, by_columns: bool = False) -> Tensor:
        """A^T y: (m, k) to (n, k), in memory column after column."""
        return self._product(y, adjoint=True)

    def _product(self, x: Tensor, *, adjoint: bool) -> Tensor:
        return _blocks(x.T, self.index.tensors, *self.contents, self.index.sizes, adjoint).T


@custom_op("structmat::blocks", mutates_args=(), device_types="cpu")
def _blocks(
    x: Tensor, index: list[Tensor], u: Tensor, v: Tensor, sizes: list[int], adjoint: bool
) -> Tensor:
    product = _product(index, u, v, sizes)
    multiply = product.multiply_adjoint if adjoint else product.multiply
    return torch.from_numpy(multiply(on_numpy(x).T, by_columns=True).T)


@_blocks.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    *_, sizes, adjoint = rest
    return x.new_empty(x.shape[0], sizes[1 if adjoint else 0])


@custom_op("structmat::block_gradients", mutates_args=(), device_types="cpu")
def _gradients(
    x: Tensor,
    grad: Tensor,
    index: list[Tensor],
    u: Tensor,
    v: Tensor,
    sizes: list[int],
    operand: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    product = _product(index, u, v, sizes)
    by_x, *by_contents = product.gradients(on_numpy(x).T, on_numpy(grad).T, operand=operand)
    by_u, by_v = (torch.from_numpy(g) for g in by_contents)
    return x.new_empty(0) if by_x is None else torch.from_numpy(by_x.T), by_u, by_v


@_gradients.register_fake
def _(x: Tensor, grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, u, v, _, operand = rest
    return x.new_empty(x.shape if operand else 0), torch.empty_like(u), torch.empty_like(v)


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.index, u, v, ctx.sizes, ctx.adjoint = inputs
    ctx.save_for_backward(x, u, v)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, u, v = ctx.saved_tensors
    operand, contents = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:4])
    rest = ctx.index, u, v, ctx.sizes
    by_x = by_u = by_v = None
    if is_recorded(grad):
        by_x, by_u, by_v = _recorded_gradients(x, grad, *rest, ctx)
    elif not contents:
        by_x = _blocks(grad, *rest, not ctx.adjoint) if operand else None
    elif ctx.adjoint:
        # <g, A^T y> = <A g, y>: contents see g as the operand and y as the gradient.
        by_x = _blocks(grad, *rest, False) if operand else None
        _, by_u, by_v = _gradients(grad, x, *rest, False)
    else:
        by_x, by_u, by_v = _gradients(x, grad, *rest, operand)
    return by_x if operand else None, [None] * len(ctx.index), by_u, by_v, None, None


_blocks.register_autograd(_backward, setup_context=_context)


def _recorded_gradients(
    x: Tensor, grad: Tensor, index: list[Tensor], u: Tensor, v: Tensor, sizes: list[int], ctx: Any
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, by the dense matrix: right, not fast."""

    def product(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return _plain_blocks(x, index, u, v, sizes, ctx.adjoint)

    needed = ctx.needs_input_grad
    return recorded_gradients(product, (x, u, v), (needed[0], *needed[2:4]), grad)


@torch._decomp.register_decomposition(torch.ops.structmat.blocks.default)
def _plain_blocks(
    x: Tensor, index: list[Tensor], u: Tensor, v: Tensor, sizes: list[int], adjoint: bool
) -> Tensor:
    """The operator `structmat::blocks` by operations of torch alone, through the dense matrix.

    They are differentiated any number of times; exporters to ONNX take them for the operator.
    """
    rows, cols, spans = index[:3]
    R = _dense(u, rows, spans[:, 0], spans[:, 1], sizes[0])
    C = _dense(v, cols, spans[:, 2], spans[:, 3], sizes[1])
    return x @ (R @ C.T if adjoint else C @ R.T)


def _dense(contents: Tensor, places: Tensor, begin: Tensor, end: Tensor, size: int) -> Tensor:
    """Contents as the columns of a dense factor, (size, K)."""
    dense = contents.new_zeros(size, begin.shape[0])
    if not begin.shape[0]:
        return dense
    entry = torch.arange(contents.shape[0])
    block = torch.searchsorted(end.contiguous(), entry, right=True).clamp(max=begin.shape[0] - 1)
    # Entries of blocks with an empty side belong to none.
    inside = (entry >= begin[block]) & (entry < end[block])
    own = torch.where(inside, contents, contents.new_zeros(()))
    return dense.index_put((places.long(), block), own, accumulate=True)


def _product(index: list[Tensor], u: Tensor, v: Tensor, sizes: list[int]) -> BlockProduct:
    m, n = sizes
    # An operator keeps nothing from call to call.
    rows, cols, spans, numbers, columns = (i.numpy() for i in index)
    sides = unpacked(numbers, columns, (m, n))
    places = BlockIndex([rows, cols, spans], (m, n), sides)
    return BlockProduct(places, [on_numpy(u), on_numpy(v)], threads=torch.get_num_threads())
