"""Revival of blocks that have lost a side.

A block with both widths at zero has no gradient and would stay dead. A revival moves such
a block to the tile where the gradient of the dense weight has most energy: there a step
along a rank-one block lowers the loss most. Its row contents begin at zero, so that the
network's function does not change, and its column contents along the leading singular
direction of the gradient, so that the row contents get a gradient.
"""

import torch
from torch import Tensor

from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole, write_
from structmat.nn.training.weight_grad import take_grad


@torch.no_grad()
def revive_(weight: GaudiWeight, *sharing: GaudiWeight) -> int:
    """Restart dead blocks from the recorded gradient of the weight; returns their number.

    Weights that share the structure follow. Without a gradient, which needs
    ``weight.record_weight_grad`` during the last backward pass, or with fixed widths, blocks
    stay dead. Fixed locations stay.
    """
    weights = list(dict.fromkeys([weight, *sharing]))
    gradients = [take_grad(w) for w in weights]
    structure = weight.structure
    (_, row_at, row, *_), (_, col_at, col, *_) = weight.sides()
    dead = torch.nonzero((row == 0) | (col == 0)).flatten()
    fixed = not (structure.row_width.requires_grad and structure.col_width.requires_grad)
    if fixed or not len(dead) or any(g is None for g in gradients):
        return 0
    known = [g for g in gradients if g is not None]
    alive = (row > 0) & (col > 0)
    p, q = (
        _typical(width[alive], n, weight.granularity, limit)
        for width, n, limit in zip((row, col), weight.shape, weight.max_width, strict=True)
    )
    places = _strongest(known, p, q, len(dead))
    dead = dead[: len(places[0])]
    placed = []
    for name, n, wide, begin, old in (
        ("row", weight.shape[0], p, places[0], row_at),
        ("col", weight.shape[1], q, places[1], col_at),
    ):
        location = getattr(structure, f"{name}_location")
        begin = begin if location.requires_grad else old[dead]
        placed.append(begin)
        if location.requires_grad:
            _write_at(location, dead, begin / n)
        _write_at(getattr(structure, f"{name}_width"), dead, torch.full_like(begin / n, wide / n))
    for w, gradient in zip(weights, known, strict=True):
        _restart_(w, gradient, dead, placed[0], placed[1], p, q)
    return len(dead)


def _typical(width: Tensor, n: int, granularity: int, limit: int) -> int:
    """Median width of live blocks, in whole grains."""
    median = int(width.median()) if len(width) else max(1, round(n**0.5))
    return min(max(granularity, median // granularity * granularity), limit, n)


def _strongest(gradients: list[Tensor], p: int, q: int, count: int) -> tuple[Tensor, Tensor]:
    """First rows and columns of the p x q tiles of most energy."""
    m, n = gradients[0].shape
    energy = torch.zeros(m // p, n // q, device=gradients[0].device)
    for gradient in gradients:
        tiles = gradient[: m // p * p, : n // q * q].reshape(m // p, p, n // q, q)
        energy += tiles.square().sum((1, 3))
    best = energy.flatten().topk(min(count, energy.numel())).indices
    return best // (n // q) * p, best % (n // q) * q


def _restart_(
    weight: GaudiWeight,
    gradient: Tensor,
    dead: Tensor,
    down: Tensor,
    across: Tensor,
    p: int,
    q: int,
) -> None:
    """Zero row contents; column contents along the gradient's leading directions there."""
    m, n = weight.shape
    rows = (down[:, None] + torch.arange(p, device=down.device)) % m
    cols = (across[:, None] + torch.arange(q, device=down.device)) % n
    chosen = gradient[rows[:, :, None], cols[:, None, :]].float()
    _, _, right = torch.linalg.svd(chosen, full_matrices=False)
    _write_at(weight.u, dead, 0.0)
    v = whole(weight.v).clone()
    size = v.abs().mean() * q**0.5
    slots = (across[:, None] + torch.arange(q, device=across.device)) % v.shape[-1]
    for r in range(min(weight.rank, right.shape[1])):
        v[dead[:, None], r, slots] = right[:, r].to(v) * size
    write_(weight.v, v)


def _write_at(parameter: Tensor, index: Tensor, values: Tensor | float) -> None:
    changed = whole(parameter).clone()
    changed[index] = values.to(changed) if isinstance(values, Tensor) else values
    write_(parameter, changed)
