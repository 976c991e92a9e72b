"""Products with Gaudi blocks, forward and backward, without masks kept in between.

A block's contents live on a window of S samples around its run; S = n unless widths are
limited. Both products recompute masked contents from whole numbers in the backward pass,
and so keep their operand and at most one array of the smaller size.

*Assembled* forms the weight (m, n) once and multiplies it like a dense layer: best for
small layers. *Factors* multiplies by one side's blocks and then the other's, so that work
follows the widths. Beyond the margin of a `Side`, masks and their derivatives are taken
as zero: 1e-5 of the height where the blur is Gaussian, and up to 2e-3 from σ ≈ n / 8 on,
where its spectrum is cut off and rings. The derivatives of masks that sharp by width and
location ring without end: their gradients then lack up to 15 %.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from structmat._derivatives import (
    is_recorded,
    is_traced,
    mean_over_samples,
    recorded_gradients,
)
from structmat.kernels.cost_model.coefficients import place_of
from structmat.kernels.cost_model.steps import StepCost, assembles_masked
from structmat.nn.gaudi import plain
from structmat.nn.gaudi.factors import factor_gradients, factor_product, is_compiled
from structmat.nn.gaudi.side import Side, mask_dtype
from structmat.nn.gaudi.structure import Runs

PRODUCTS = ("auto", "assembled", "factors")
#: Vectors of a traced product, whose number is open.
ANY_COUNT = 2**40


def multiply(
    x: Tensor, u: Tensor, v: Tensor, runs: Runs, rows: Side, cols: Side, product: str
) -> Tensor:
    """Vectors (…, n) to (…, m), by the product that is named or that takes less work.

    `runs` are the parameters behind `rows` and `cols`, for their gradients.
    """
    if is_traced():
        return linear(x, _assembled(u, v, runs, rows, cols))
    lead, dtype = x.shape[:-1], product_dtype(x)
    work = step_cost(math.prod(lead), rows, cols, u, dtype)
    if assembles(work, product):
        return linear(x.to(dtype), _weight(u, v, runs, rows, cols, work).to(dtype))
    y = factor_product(x.reshape(math.prod(lead), cols.size).to(dtype), u, v, runs, rows, cols)
    return y.reshape(*lead, rows.size)


def multiply_masked(
    x: Tensor, left: Tensor, right: Tensor, device: str, product: str, bias: Tensor | None
) -> Tensor:
    """Vectors (…, n) to (…, m) by masked contents (K r, m) and (K r, n) on a device of a name."""
    if bias is not None:
        bias = bias.to(left.dtype)
    shape = left.shape[1], right.shape[1]
    # A trace is for any number of vectors.
    count = ANY_COUNT if torch.compiler.is_compiling() else math.prod(x.shape[:-1])
    if assembles_on_device(device, left.dtype, count, shape, left.shape[0], product):
        return linear(x, left.T @ right, bias)
    return linear(linear(x, right), left.T, bias)


def assembles_on_device(
    device: str, dtype: torch.dtype, count: int, shape: tuple[int, int], terms: int, product: str
) -> bool:
    """Tell whether a weight is assembled there, by name or as the step that takes less time."""
    if product != "auto":
        return product == "assembled"
    place = place_of(device, dtype=str(dtype).removeprefix("torch."))
    return assembles_masked(place, count, shape, terms)


def assembles(work: StepCost, product: str) -> bool:
    """Tell whether the named product, or for "auto" the one of less work, assembles the weight."""
    if product != "auto":
        return product == "assembled"
    return work.factors > min(work.assembled, work.by_identity)


def weight_of(u: Tensor, v: Tensor, runs: Runs, rows: Side, cols: Side) -> Tensor:
    """The weight Σ_k u_k v_k^T under masks, (m, n), assembled with the least work."""
    if is_traced():
        return _assembled(u, v, runs, rows, cols)
    return _weight(u, v, runs, rows, cols, step_cost(0, rows, cols, u, u.dtype))


def _weight(u: Tensor, v: Tensor, runs: Runs, rows: Side, cols: Side, work: StepCost) -> Tensor:
    if work.assembled <= work.by_identity:
        return _assembled(u, v, runs, rows, cols)
    m, n = rows.size, cols.size
    unit = torch.eye(min(m, n), dtype=u.dtype, device=u.device)
    if n <= m:
        return factor_product(unit, u, v, runs, rows, cols).T
    return factor_product(unit, v, u, Runs(*runs[2:], *runs[:2]), cols, rows)


def product_dtype(x: Tensor) -> torch.dtype:
    """Dtype of a matrix product here: autocast's, or the operand's."""
    device = x.device.type
    if x.is_meta:  # which autocast does not know
        return x.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _assembled(u: Tensor, v: Tensor, runs: Runs, rows: Side, cols: Side) -> Tensor:
    """The weight in one product of both sides; their windows are whole circles."""
    with torch.autocast(u.device.type, enabled=False):
        if plain.is_plain(u, v, *runs):
            return plain.weight(u, v, runs, rows, cols)
        return _Assemble.apply(u, v, *runs, rows, cols)


class _Assemble(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *runs, rows, cols = rest
        ctx.save_for_backward(u, v, *runs)
        ctx.sides = rows, cols
        # Masks are in single precision at least, and so is this product.
        return (rows.masked(u).flatten(0, 1).T @ cols.masked(v).flatten(0, 1)).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            if is_recorded(grad):
                return *_recorded(ctx, grad), None, None
            by_rows, by_cols = any(ctx.needs_input_grad[2:4]), any(ctx.needs_input_grad[4:6])
            (u, v, *_), (rows, cols) = ctx.saved_tensors, ctx.sides
            return *_assembled_gradients(grad, u, v, rows, cols, by_rows, by_cols), None, None


def _assembled_gradients(
    grad: Tensor, u: Tensor, v: Tensor, rows: Side, cols: Side, by_rows: bool, by_cols: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of contents and runs from that of the weight."""
    grad = grad.to(mask_dtype(u.dtype))
    grad_u = (cols.masked(v).flatten(0, 1) @ grad.T).view_as(u)
    grad_v = (rows.masked(u).flatten(0, 1) @ grad).view_as(v)
    grad_u, *by_row = rows.gradients(u, grad_u, by_rows)
    grad_v, *by_col = cols.gradients(v, grad_v, by_cols)
    return grad_u, grad_v, *by_row, *by_col


def _recorded(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    def assembled(u: Tensor, v: Tensor, *runs: Tensor) -> Tensor:
        return plain.weight(u, v, Runs(*runs), *ctx.sides)

    return recorded_gradients(assembled, ctx.saved_tensors, ctx.needs_input_grad[:6], grad)


def gradients(
    grad: Tensor,
    x: Tensor | None,
    u: Tensor,
    v: Tensor,
    runs: Runs,
    rows: Side,
    cols: Side,
    product: str,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of the operand, the contents and the four runs, from that of `multiply`.

    Without an operand, from that of `weight_of`. `needed` tells of operand, u, v and the runs
    whether they need one.
    """
    by_run = needed[3]
    if x is None:
        work = step_cost(0, rows, cols, u, u.dtype)
        return None, *_weight_gradients(grad, u, v, rows, cols, work, by_run)
    m, n = rows.size, cols.size
    work = step_cost(math.prod(x.shape[:-1]), rows, cols, u, x.dtype)
    operand, slope = x.reshape(-1, n), grad.reshape(-1, m)
    if not assembles(work, product):
        by_x, *rest = factor_gradients(slope, operand, u, v, rows, cols, needed[0], by_run, by_run)
        return None if by_x is None else by_x.reshape(x.shape), *rest
    by_x = None
    if needed[0]:
        by_x = grad @ _weight(u, v, runs, rows, cols, work).to(grad.dtype)
    return by_x, *_weight_gradients(slope.T @ operand, u, v, rows, cols, work, by_run)


def _weight_gradients(
    grad: Tensor, u: Tensor, v: Tensor, rows: Side, cols: Side, work: StepCost, by_run: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of contents and runs from that of a weight assembled as `_weight` does."""
    if work.assembled <= work.by_identity:
        return _assembled_gradients(grad, u, v, rows, cols, by_run, by_run)
    m, n = rows.size, cols.size
    grad, unit = grad.to(u.dtype), torch.eye(min(m, n), dtype=u.dtype, device=u.device)
    if n <= m:
        return factor_gradients(grad.T, unit, u, v, rows, cols, False, by_run, by_run)[1:]
    _, by_v, by_u, *by_runs = factor_gradients(grad, unit, v, u, cols, rows, False, by_run, by_run)
    return by_u, by_v, *by_runs[2:], *by_runs[:2]


def step_cost(count: int, rows: Side, cols: Side, contents: Tensor, dtype: torch.dtype) -> StepCost:
    """Multiplications of a training step for `count` vectors of a dtype; nothing is measured."""
    blocks, rank, _ = contents.shape
    return StepCost.of(
        count,
        (rows.size, cols.size),
        (blocks, rank),
        [mean_over_samples(side.reach[1].sum()) for side in (rows, cols)],
        whole=rows.window == rows.size and cols.window == cols.size,
        compiled=is_compiled(contents, dtype, rows, cols),
    )
