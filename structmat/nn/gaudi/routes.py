"""Ways by which a learning weight multiplies: real-valued, by whole circles, by runs, compiled.

A weight that records the gradient of the dense weight does so on each of them.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from structmat._derivatives import is_traced
from structmat.nn.gaudi import products
from structmat.nn.gaudi.circles import Circles, masked
from structmat.nn.gaudi.operators import gaudi
from structmat.nn.gaudi.plain import smooth_mask
from structmat.nn.gaudi.structure import Runs
from structmat.nn.structured.products import without_autocast

#: Sharpness of the masks of evaluation.
_SHARP = torch.tensor(math.inf, dtype=torch.float64)


def multiply(weight: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """Vectors (…, n) to (…, m), plus a bias (m,) if there is one."""
    if _is_real_valued(weight):
        y = nn.functional.linear(x, dense(weight))
    elif (there := weight._constants()) is not None:
        left, right = _masked(weight, there, products.product_dtype(x))
        y = products.multiply_masked(x, left, right, there.device_name, weight.product, bias)
        bias = None
    else:
        y = _by_runs(weight, x)
    if weight.record_weight_grad and y.requires_grad:
        y.register_hook(lambda grad: _record_from(weight, grad, x))
    return y if bias is None else y + bias.to(y.dtype)


def multiplies(weight: Any, count: int) -> bool:
    """Tell whether `count` vectors are better multiplied by factors than by a dense weight."""
    if _is_real_valued(weight) or is_traced():
        return False
    if (there := weight._constants()) is not None:
        terms = weight.num_blocks * weight.rank
        facts = (there.device_name, weight.u.dtype, count, weight.shape, terms, weight.product)
        return not products.assembles_on_device(*facts)
    rows, cols = weight.sides()
    work = products.step_cost(count, rows, cols, weight.u, weight.u.dtype)
    return not products.assembles(work, weight.product)


def dense(weight: Any) -> Tensor:
    """The weight (m, n) as the present mode multiplies by it, with gradients."""
    if _is_real_valued(weight):
        return _between_samples(weight, weight.structure())
    if (there := weight._constants()) is not None:
        with without_autocast(weight.u.device.type):
            left, right = _masked(weight, there, weight.u.dtype)
            result = left.T @ right
    else:
        result = _dense_by_runs(weight)
    if weight.record_weight_grad and result.requires_grad:
        result.register_hook(lambda grad: _record(weight, grad.float()))
    return result


def _by_runs(weight: Any, x: Tensor) -> Tensor:
    if torch.compiler.is_dynamo_compiling():
        return _as_operator(weight, x.to(products.product_dtype(x)))
    runs = weight.structure()
    rows, cols = weight._sides(runs)
    return products.multiply(x, weight.u, weight.v, runs, rows, cols, weight.product)


def _dense_by_runs(weight: Any) -> Tensor:
    if torch.compiler.is_dynamo_compiling():
        return _as_operator(weight, None)
    runs = weight.structure()
    return products.weight_of(weight.u, weight.v, runs, *weight._sides(runs))


def _as_operator(weight: Any, x: Tensor | None) -> Tensor:
    """Vectors (…, n) to (…, m), or the weight, as one operation for a compiler on a CPU."""
    sigma = weight._sharpness if weight.training else _SHARP
    rest = sigma, weight._sizes, weight.structure.is_pinned, weight.product
    y: Tensor = gaudi(x, weight.u, weight.v, torch.stack(weight.structure()), *rest)
    return y


def _masked(weight: Any, circles: Circles, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Contents under the masks of the mode, on a device."""
    runs = weight.structure()
    name = "sigma" if weight.training else "sharp"
    pinned = weight.structure.is_pinned
    sides = partial(weight._sides, runs)
    return masked(circles, name, sides, weight.u, weight.v, runs, pinned=pinned, dtype=dtype)


def _is_real_valued(weight: Any) -> bool:
    return bool(weight.training and not weight.straight_through)


def _between_samples(weight: Any, runs: Runs) -> Tensor:
    m, n = weight.shape
    row = smooth_mask(runs.row_width.clamp(0, 1) * m, runs.row_location * m, m, weight.sigma)
    col = smooth_mask(runs.col_width.clamp(0, 1) * n, runs.col_location * n, n, weight.sigma)
    left = (weight.u * row[:, None].to(weight.u)).flatten(0, 1)
    return left.T @ (weight.v * col[:, None].to(weight.v)).flatten(0, 1)


def _record_from(weight: Any, grad: Tensor, x: Tensor) -> None:
    m, n = weight.shape
    _record(weight, grad.reshape(-1, m).T.float() @ x.detach().reshape(-1, n).float())


@torch.no_grad()
def _record(weight: Any, part: Tensor) -> None:
    """Add to the recorded gradient of the dense weight."""
    # A step that was skipped for its infinite gradients leaves them here.
    old = weight.weight_grad
    if old is not None:
        part = part + torch.where(old.isfinite().all(), old, 0)
    weight.weight_grad = part
