"""Ranks chosen over a whole network, as ALDS chooses them.

Liebenwein, Maalouf, Feldman and Rus, "Compressing Neural Networks: Towards Determining the
Optimal Layer-wise Decomposition", NeurIPS 2021, arXiv 2107.11442: minimise, under one
budget, the greatest relative error of any layer in the operator norm,
max over layers of ‖W - Ŵ‖₂ / ‖W‖₂ = σ_{r+1} / σ_1. ALDS also cuts the inputs of a layer
into k groups, W = [W_1 … W_k], each with a subspace of dimension r. The error is then at most
(Σ_i σ_{r+1}(W_i)²)^(1/2), and the cost of an m × n weight r (k m + n). `alds_ranks` has k = 1,
so that what is compared is where ranks go and not another structure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.models._replacing import check_finite, check_linear, check_start
from benchmarks.results import BenchmarkError
from structmat import BlockLowRank, LowRank
from structmat.nn import StructuredLinear
from structmat.nn.models.modules import replace_
from structmat.nn.starts.kinds import random_init

__all__ = [
    "Subspaces",
    "alds_ranks",
    "alds_subspaces",
    "convert_to_ranks_",
    "convert_to_subspaces_",
]


class Subspaces(NamedTuple):
    """Number of groups of a layer's inputs, and the rank of each."""

    groups: int
    rank: int


class _Choice(NamedTuple):
    """Cost of a layer by some subspaces, and a bound on its relative error."""

    cost: int
    error: float
    subspaces: Subspaces


@dataclass(frozen=True)
class _Layer:
    """Choices of a layer that no cheaper one beats, by rising cost."""

    name: str
    choices: list[_Choice]


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
    chosen = alds_subspaces(weights, positions, budget, groups=(1,))
    return {name: subspaces.rank for name, subspaces in chosen.items()}


def alds_subspaces(
    weights: Mapping[str, Tensor],
    positions: Mapping[str, int],
    budget: float,
    *,
    groups: Sequence[int],
) -> dict[str, Subspaces]:
    """Groups and ranks that minimise the greatest bound on the error of any layer.

    As `alds_ranks`, with a number of groups for each layer from `groups`; numbers above a
    layer's inputs are left out for it. Of the choices of a layer, those count that no cheaper
    one beats, so that the layer with the largest error always moves to the next of them.

    Examples
    --------
    >>> W = torch.zeros(8, 8)
    >>> W[:4, :4], W[4:, 4:] = 1, 1
    >>> alds_subspaces({"layer": W}, {"layer": 1}, 0.4, groups=(1, 2))
    {'layer': Subspaces(groups=2, rank=1)}
    """
    if not weights or any(positions.get(name, 0) < 1 for name in weights):
        raise BenchmarkError(
            f"positions {dict(positions)} for weights {list(weights)}; expected at least one "
            "weight and a positive number for each"
        )
    layers = [_layer(name, W, positions[name], groups) for name, W in weights.items()]
    cap = math.floor(budget * sum(positions[name] * W.numel() for name, W in weights.items()))
    least = sum(layer.choices[0].cost for layer in layers)
    if cap < least:
        raise BenchmarkError(
            f"budget = {budget:g}, {cap} multiplications; expected at least {least}, the cost of "
            "rank 1 in every layer (raise the budget)"
        )
    return _spend(layers, cap)


def _layer(name: str, W: Tensor, positions: int, groups: Sequence[int]) -> _Layer:
    check_finite(f"weight {name!r}", W)
    m, n = W.shape
    W = W.detach().double()
    # For a weight of zeros, all errors are 0.
    size = float(torch.linalg.svdvals(W)[0].clamp(min=torch.finfo(W.dtype).tiny))
    choices = []
    for k in groups:
        if k > n:
            continue
        errors = torch.zeros(min(m, n) + 1, dtype=W.dtype)
        for part in torch.tensor_split(W, k, dim=1):
            singular = torch.linalg.svdvals(part)
            errors[: len(singular)] += singular.square()
        most = min(max(1, m * n // (k * m + n)), m, math.ceil(n / k))
        for rank in range(1, most + 1):
            cost = positions * rank * (k * m + n)
            choices.append(_Choice(cost, float(errors[rank].sqrt()) / size, Subspaces(k, rank)))
    kept: list[_Choice] = []
    for choice in sorted(choices):
        if not kept or choice.error <= kept[-1].error:
            kept.append(choice)
    return _Layer(name, kept)


def _spend(layers: list[_Layer], cap: int) -> dict[str, Subspaces]:
    """Move on where the relative error is largest, until no further choice fits."""
    at = {layer.name: 0 for layer in layers}
    left = cap - sum(layer.choices[0].cost for layer in layers)

    def step(layer: _Layer) -> int:
        here = at[layer.name]
        return layer.choices[here + 1].cost - layer.choices[here].cost

    while True:
        open_ = [la for la in layers if at[la.name] + 1 < len(la.choices) and step(la) <= left]
        if not open_:
            return {layer.name: layer.choices[at[layer.name]].subspaces for layer in layers}
        worst = max(open_, key=lambda layer: layer.choices[at[layer.name]].error)
        left -= step(worst)
        at[worst.name] += 1


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
    _convert_(model, {name: Subspaces(1, rank) for name, rank in ranks.items()}, start, generator)


def convert_to_subspaces_(model: nn.Module, subspaces: Mapping[str, Subspaces]) -> None:
    """Replace the named linear layers by truncations of each group of inputs, in place.

    A layer becomes a low-rank matrix, or a block-low-rank one with a row of tiles. Errors are
    those of `convert_to_ranks_`.
    """
    _convert_(model, subspaces, "weights", None)


def _convert_(
    model: nn.Module,
    subspaces: Mapping[str, Subspaces],
    start: str,
    generator: torch.Generator | None,
) -> None:
    modules = dict(model.named_modules())
    new = {}
    for name, (groups, rank) in subspaces.items():
        if name not in modules:
            raise BenchmarkError(f"layer {name!r}; expected one of the model's: {list(modules)}")
        layer = check_linear(name, modules[name])
        m, n = layer.weight.shape
        if not 1 <= rank <= min(m, n):
            raise BenchmarkError(
                f"rank of {name!r} = {rank}; expected 1 to {min(m, n)} for a weight of {m}x{n}"
            )
        if start == "weights":
            matrix = _truncated(name, layer.weight.detach(), groups, rank)
        else:
            plan = random_init("low_rank", (m, n), rank * (m + n))
            matrix = plan.draw(1 / (3 * n), generator)
        new[layer] = StructuredLinear(matrix, layer.bias)
        new[layer].to(layer.weight.device, layer.weight.dtype)
    replace_(model, new)


def _truncated(name: str, W: Tensor, groups: int, rank: int) -> LowRank | BlockLowRank:
    check_finite(f"weight {name!r}", W)
    factors = []
    for part in torch.tensor_split(W, groups, dim=1):
        U, S, Vh = torch.linalg.svd(part, full_matrices=False)
        root = S[:rank].sqrt()
        factors.append((U[:, :rank] * root, Vh[:rank].mT * root))
    if groups == 1:
        return LowRank(*factors[0])
    tiles = {(0, i): pair for i, pair in enumerate(factors)}
    return BlockLowRank(tiles, row_sizes=[len(W)], col_sizes=[len(V) for _, V in factors])
