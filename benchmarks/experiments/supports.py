"""Supports of layers before and after a training, and structures with fresh contents."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from structmat.nn import StructuredWeight

#: Dense weight of each layer by its name.
Weights = Mapping[str, Tensor]
#: Turns of the scaling of fresh contents; each halves what is left, or ends it.
_SCALING_TURNS = 20


@torch.no_grad()
def dense_weights(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Dense weight (m, n) of each layer that has one, on the CPU."""
    found = {name: getattr(model.get_submodule(name), "weight", None) for name in names}
    return {n: w.detach().flatten(1).cpu().clone() for n, w in found.items() if w is not None}


def turnover(before: Weights, after: Weights) -> float | None:
    """Share of the final entries that the start would not have kept.

    The start keeps its largest entries, as many of each layer as there are at the end: all
    of them, if the structure is fixed. None without a layer that both have.
    """
    total, new = 0, 0
    for name in before.keys() & after.keys():
        kept = after[name] != 0
        count = int(kept.sum())
        largest = before[name].abs().flatten().topk(count).indices
        old = torch.zeros(kept.numel(), dtype=torch.bool)
        old[largest] = True
        old &= before[name].flatten() != 0
        total += count
        new += int((kept.flatten() & ~old).sum())
    return new / total if total else None


@torch.no_grad()
def redraw_(model: nn.Module, generator: torch.Generator) -> None:
    """Draw the contents of every structured weight afresh, in place; the structure stays.

    The mean squared entry of a matrix (m, n) becomes 1/(3 n), as `torch.nn.Linear` has it.
    """
    for weight in model.modules():
        if not isinstance(weight, StructuredWeight):
            continue
        contents = [p for p in weight.parameters() if p.numel()]
        for parameter in contents:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        wanted = (weight.shape[0] / 3) ** 0.5
        for _ in range(_SCALING_TURNS):
            norm = float(weight.dense().norm())
            if norm == 0:
                break
            # Most entries are products of two contents; with one, the turns converge.
            for parameter in contents:
                parameter.mul_((wanted / norm) ** 0.5)
        weight.refresh()
