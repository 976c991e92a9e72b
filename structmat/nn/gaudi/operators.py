"""Products with Gaudi blocks on a CPU as one operator of torch, for compilers.

Which cells are multiplied follows from the widths of the moment, so a compiler finds nothing to
compile within a product. The operator computes as the layer does by itself, in the middle of one
graph.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn.functional import linear

from structmat._derivatives import is_recorded, recorded_gradients
from structmat.nn.gaudi import plain, products
from structmat.nn.gaudi.side import Side, sides_of
from structmat.nn.gaudi.structure import Runs
from structmat.nn.structured.products import without_autocast


@custom_op("structmat::gaudi", mutates_args=(), device_types="cpu")
def gaudi(
    x: Tensor | None,
    u: Tensor,
    v: Tensor,
    runs: Tensor,
    sigma: Tensor,
    sizes: list[int],
    pinned: bool,
    product: str,
) -> Tensor:
    """Vectors (…, n) to (…, m) by contents under the masks of runs (4, K); for None the weight.

    The sharpness is a tensor, so that a schedule changes a number and no graph. `sizes` are the
    whole numbers of `sides_of`.
    """
    rows, cols = _sides(runs, sigma, sizes, pinned)
    with without_autocast("cpu"):
        if x is None:
            return products.weight_of(u, v, Runs(*runs), rows, cols).contiguous()
        return products.multiply(x, u, v, Runs(*runs), rows, cols, product).contiguous()


@gaudi.register_fake
def _(x: Tensor | None, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
    _, _, (m, n, *_), _, _ = rest
    return u.new_empty(m, n) if x is None else x.new_empty(*x.shape[:-1], m)


@custom_op("structmat::gaudi_gradients", mutates_args=(), device_types="cpu")
def _gradients(
    grad: Tensor,
    x: Tensor | None,
    u: Tensor,
    v: Tensor,
    runs: Tensor,
    sigma: Tensor,
    sizes: list[int],
    pinned: bool,
    product: str,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, cols = _sides(runs, sigma, sizes, pinned)
    with without_autocast("cpu"):
        found = products.gradients(grad, x, u, v, Runs(*runs), rows, cols, product, needed)
    by_x, by_u, by_v, *by_runs = found
    none = u.new_empty(0)
    if needed[3]:
        none_there = u.new_zeros(len(u))
        by_run = torch.stack([none_there if g is None else g for g in by_runs]).to(runs.dtype)
    parts = (by_x, by_u, by_v, by_run if needed[3] else None)
    given = [
        none if p is None or not asked else p.contiguous()
        for p, asked in zip(parts, needed, strict=True)
    ]
    return given[0], given[1], given[2], given[3]


@_gradients.register_fake
def _(grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *tensors, _, _, _, _, needed = rest
    made = [
        torch.empty_like(t, memory_format=torch.contiguous_format) if asked else grad.new_empty(0)
        for t, asked in zip(tensors, needed, strict=True)
    ]
    return made[0], made[1], made[2], made[3]


def _sides(runs: Tensor, sigma: Tensor, sizes: list[int], pinned: bool) -> tuple[Side, Side]:
    return sides_of(Runs(*runs.detach()), sizes, float(sigma), pinned=pinned)


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.sizes, ctx.pinned, ctx.product = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    *tensors, sigma = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:4])
    rest = sigma, ctx.sizes, ctx.pinned
    if is_recorded(grad):
        return *_recorded(tensors, *rest, needed, grad), None, None, None, None
    found = _gradients(grad, *tensors, *rest, ctx.product, needed)
    parts = [part if asked else None for part, asked in zip(found, needed, strict=True)]
    return *parts, None, None, None, None


def _recorded(
    tensors: list[Any],
    sigma: Tensor,
    sizes: list[int],
    pinned: bool,
    needed: list[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, by plain operations."""
    x, u, v, runs = tensors
    rows, cols = _sides(runs, sigma, sizes, pinned)
    first = [] if x is None else [x]

    def plainly(*tensors: Tensor) -> Tensor:
        *operand, u, v, runs = tensors
        weight = plain.weight(u, v, Runs(*runs), rows, cols)
        return linear(operand[0], weight) if operand else weight

    found = recorded_gradients(plainly, [*first, u, v, runs], needed[1 - len(first) :], grad)
    return [None] * (1 - len(first)) + found


gaudi.register_autograd(_backward, setup_context=_context)
