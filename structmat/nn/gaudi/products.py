"""Products with Gaudi blocks, forward and backward, without masks kept in between.

A block's contents live on a window of S samples around its run, S = n unless widths
are limited. Both products recompute masked contents from whole numbers in the backward
pass, so what they keep is their operand and at most one array of the smaller size.

*Assembled* forms the weight (m, n) once and multiplies it like a dense layer: best for
small layers. *Factors* multiplies by one side's blocks and then the other's, so that work
follows the widths. What a mask or its derivatives leave farther beside a run than `Axis`
looks is taken as zero: 1e-5 of the height where the blur is Gaussian, and up to 2e-3 from
σ ≈ n / 8 on, where its spectrum is cut off and rings. The derivatives by width and
location of so sharp a mask ring on and on: their gradients then lack up to 15 %.
"""

from typing import Any

import torch
from torch import Tensor

from structmat.kernels.cost_model.layers import StepCost
from structmat.nn.gaudi.factors import factor_product, is_compiled
from structmat.nn.gaudi.side import Axis, as_given


def assemble(u: Tensor, v: Tensor, runs: tuple[Tensor, ...], rows: Axis, cols: Axis) -> Tensor:
    """The weight Σ_k u_k v_k^T under masks, (m, n); both windows are whole circles.

    `runs` are the four parameters behind `rows` and `cols`: row width and location,
    column width and location, for their gradients.
    """
    with as_given(u):
        return _Assemble.apply(u, v, *runs, rows, cols)


class _Assemble(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *_runs, rows, cols = rest
        ctx.save_for_backward(u, v)
        ctx.axes = rows, cols
        # Masks are in single precision at least, and so is this product.
        return (rows.masked(u).flatten(0, 1).T @ cols.masked(v).flatten(0, 1)).to(u.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (u, v), (rows, cols) = ctx.saved_tensors, ctx.axes
        grad = grad.to(rows.table.integral.dtype)
        with as_given(grad):
            grad_u = (cols.masked(v).flatten(0, 1) @ grad.T).view_as(u)
            grad_v = (rows.masked(u).flatten(0, 1) @ grad).view_as(v)
        grad_u, *by_row = rows.gradients(u, grad_u)
        grad_v, *by_col = cols.gradients(v, grad_v)
        return grad_u, grad_v, *by_row, *by_col, None, None


def weight_of(
    u: Tensor, v: Tensor, runs: tuple[Tensor, ...], rows: Axis, cols: Axis, *, assembled: bool
) -> Tensor:
    """The weight (m, n): in one product where `assembled`, else factors times an identity."""
    if assembled:
        return assemble(u, v, runs, rows, cols)
    m, n = rows.size, cols.size
    unit = torch.eye(min(m, n), dtype=u.dtype, device=u.device)
    if n <= m:
        return factor_product(unit, u, v, runs, rows, cols).T
    return factor_product(unit, v, u, (*runs[2:], *runs[:2]), cols, rows)


def step_cost(count: int, rows: Axis, cols: Axis, contents: Tensor, dtype: torch.dtype) -> StepCost:
    """Multiplications of a training step for `count` vectors of a dtype; nothing is measured."""
    blocks, rank, _ = contents.shape
    return StepCost.of(
        count,
        (rows.size, cols.size),
        (blocks, rank),
        [float(axis.reach[1].sum()) for axis in (rows, cols)],
        whole=rows.window == rows.size and cols.window == cols.size,
        compiled=is_compiled(contents, dtype, rows, cols),
    )
