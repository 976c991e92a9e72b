"""Ranks chosen over a whole network, as ALDS chooses them.

Liebenwein, Maalouf, Feldman and Rus, "Compressing Neural Networks: Towards Determining the
Optimal Layer-wise Decomposition", NeurIPS 2021, arXiv 2107.11442: minimise, under one
budget, the greatest relative error of any layer in the operator norm,
max over layers of ‖W - Ŵ‖₂ / ‖W‖₂ = σ_{r+1} / σ_1. ALDS also cuts the inputs of a layer
into k groups with a subspace each; here k = 1, one subspace a layer, so that what is
compared is where ranks go and not another structure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.models._replacing import check_finite, check_linear, check_start
from benchmarks.results import BenchmarkError
from structmat import LowRank
from structmat.nn import StructuredLinear
from structmat.nn.models.modules import replace_
from structmat.nn.starts.kinds import random_init

__all__ = ["alds_ranks", "convert_to_ranks_"]


@dataclass(frozen=True)
class _LayerErrors:
    """Relative errors of a layer by rank, the cost of one rank, and the highest rank."""

    name: str
    errors: list[float]
    step: int
    most: int


def alds_ranks(
    weights: Mapping[str, Tensor], positions: Mapping[str, int], budget: float
) -> dict[str, int]:
    """Ranks that minimise the greatest relative error of any layer under one budget.

    Ranks go, one by one, to the layer with the largest relative error. Until that layer
    has to be passed over for want of budget, every layer has the least rank that meets the
    present greatest error, which is what a bisection of the error finds; what is then left
    goes on to the largest errors that a rank still fits.

    Parameters
    ----------
    weights : mapping
        Trained weights (m, n) by name.
    positions : mapping
        How many vectors each layer multiplies for one example.
    budget : float
        Cap on Σ positions · rank · (m + n), as a fraction of Σ positions · m n.

    Returns
    -------
    dict
        A rank for every weight: at least 1, and at most mn / (m + n), beyond which two
        factors cost more than the dense weight.

    Raises
    ------
    BenchmarkError
        If the budget does not pay for rank 1 everywhere, or the input is no such mapping.

    Examples
    --------
    >>> weights = {"flat": torch.eye(8), "steep": torch.diag(0.1 ** torch.arange(8.0))}
    >>> alds_ranks(weights, {"flat": 1, "steep": 1}, 0.75)
    {'flat': 4, 'steep': 2}
    """
    if not weights or any(positions.get(name, 0) < 1 for name in weights):
        raise BenchmarkError(
            f"positions {dict(positions)} for weights {list(weights)}; expected at least one "
            "weight and a positive number for each"
        )
    layers = [_layer(name, W, positions[name]) for name, W in weights.items()]
    cap = math.floor(budget * sum(positions[name] * W.numel() for name, W in weights.items()))
    least = sum(layer.step for layer in layers)
    if cap < least:
        raise BenchmarkError(
            f"budget = {budget:g}, {cap} multiplications; expected at least {least}, the cost of "
            "rank 1 in every layer (raise the budget)"
        )
    return _spend(layers, cap)


def _layer(name: str, W: Tensor, positions: int) -> _LayerErrors:
    check_finite(f"weight {name!r}", W)
    m, n = W.shape
    singular = torch.linalg.svdvals(W.detach().double())
    # For a weight of zeros, all errors are 0.
    errors = singular / singular[0].clamp(min=torch.finfo(singular.dtype).tiny)
    return _LayerErrors(name, errors.tolist(), positions * (m + n), max(1, m * n // (m + n)))


def _spend(layers: list[_LayerErrors], cap: int) -> dict[str, int]:
    """Raise ranks from 1 where the relative error is largest, until no further rank fits."""
    ranks = {layer.name: 1 for layer in layers}
    left = cap - sum(layer.step for layer in layers)
    while True:
        open_ = [la for la in layers if ranks[la.name] < la.most and la.step <= left]
        if not open_:
            return ranks
        worst = max(open_, key=lambda layer: layer.errors[ranks[layer.name]])
        ranks[worst.name] += 1
        left -= worst.step


def convert_to_ranks_(
    model: nn.Module,
    ranks: Mapping[str, int],
    *,
    start: str = "weights",
    generator: torch.Generator | None = None,
) -> None:
    """Replace the named linear layers by low-rank ones of these ranks, in place.

    Parameters
    ----------
    model : Module
    ranks : mapping
        Rank by name of the layer.
    start : str
        "weights" truncates the singular value decomposition and halves the singular
        values, in logarithm, between the factors; "scratch" draws factors at random under
        which the mean squared entry is that of a fresh `torch.nn.Linear`.
    generator : torch.Generator, optional

    Raises
    ------
    BenchmarkError
        If a layer is missing or no plain `nn.Linear`, or a rank outside 1 to min(m, n).

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
    >>> convert_to_ranks_(model, {"0": 2})
    >>> model[0].matrix.cost
    28
    """
    check_start(start)
    modules = dict(model.named_modules())
    new = {}
    for name, rank in ranks.items():
        if name not in modules:
            raise BenchmarkError(f"layer {name!r}; expected one of the model's: {list(modules)}")
        layer = check_linear(name, modules[name])
        m, n = layer.weight.shape
        if not 1 <= rank <= min(m, n):
            raise BenchmarkError(
                f"rank of {name!r} = {rank}; expected 1 to {min(m, n)} for a weight of {m}x{n}"
            )
        if start == "weights":
            matrix = _truncated(name, layer.weight.detach(), rank)
        else:
            plan = random_init("low_rank", (m, n), rank * (m + n))
            matrix = plan.draw(1 / (3 * n), generator)
        new[layer] = StructuredLinear(matrix, layer.bias)
        new[layer].to(layer.weight.device, layer.weight.dtype)
    replace_(model, new)


def _truncated(name: str, W: Tensor, rank: int) -> LowRank:
    check_finite(f"weight {name!r}", W)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    root = S[:rank].sqrt()
    return LowRank(U[:, :rank] * root, Vh[:rank].mT * root)
