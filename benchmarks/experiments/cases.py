"""Network of a case: dense, or converted under its budget."""

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.experiments.config import Job
from benchmarks.results import BenchmarkError, Row, Skip
from structmat import LowRank
from structmat.errors import BudgetError
from structmat.learn.tasks import is_inner
from structmat.nn import Config, GaudiLinear, convert_, cost
from structmat.nn.models.layer_types import STRUCTURED, layer_type, weights_of
from structmat.nn.starts.kinds import random_init
from structmat.nn.structured.layers import StructuredWeight

#: Relative cost of each layer by its name.
Shares = Mapping[str, float]


def dense_layers(model: nn.Module, example: Tensor) -> dict[str, tuple[int, int]]:
    """Size and positions of each layer of the dense network that may be converted."""
    inner = {name for name, module in model.named_modules() if is_inner(name, module)}
    rows = [row for row in cost(model, example).rows if row.name in inner]
    return {row.name: (row.dense_cost, row.positions) for row in rows}


def convert(
    model: nn.Module,
    example: Tensor,
    job: Job,
    shares: Shares | None,
    calibration: Sequence[Tensor] | None = None,
) -> None:
    """Convert the dense network to that of a job, in place.

    `shares` gives the cost of every layer, for cases that take the costs from elsewhere;
    `calibration` holds the inputs that trained weights are fitted to.

    Raises
    ------
    Skip
        If the kind has no such matrix.
    """
    case = job.case
    generator = torch.Generator().manual_seed(job.seed)
    try:
        if case.kind == "blast":
            blast = importlib.import_module("benchmarks.models.blast")
            options = {**case.convert, "generator": generator}
            blast.convert_to_blast_(model, job.budget, is_inner, **options)
        elif case.kind == "entries":
            pruned = importlib.import_module("benchmarks.models.pruned")
            share = job.budget if case.rule == "none" else None
            pruned.convert_to_pruned_(model, is_inner, frozen_at=share, generator=generator)
        elif shares is not None and case.convert.get("start") == "weights":
            _truncated(model, shares)
        elif shares is not None:
            _by_shares(model, case.kind, shares, generator)
        elif "start_rule" in case.convert:
            _by_rule(model, job, generator, **case.convert)
        elif case.kind != "dense":
            config = Config(kind=case.kind, budget=job.budget, **case.convert)
            convert_(
                model,
                config,
                is_inner,
                example=example,
                calibration=calibration,
                generator=generator,
            )
    except (BudgetError, BenchmarkError) as reason:
        raise Skip(str(reason)) from None


def shares_of(
    job: Job, rows: Sequence[Row], dense: nn.Module | None, example: Tensor
) -> Shares | None:
    """Cost of every layer of a job, if its case takes the costs from elsewhere."""
    like = job.case.like
    if not like:
        return None
    if like == "alds":
        if dense is None:
            raise BenchmarkError("ALDS needs the trained dense network; run the case 'dense' first")
        return _alds(dense, job.budget, example)
    for row in rows:
        if (row["case"], row["budget"], row["seed"]) == (like, job.budget, job.seed):
            return {layer["name"]: layer["relative_cost"] for layer in row["layers"]}
    raise BenchmarkError(
        f"{job.case.name!r} takes its layers' cost from {like!r}, which has no result for budget "
        f"{job.budget:g} and seed {job.seed}; run it first"
    )


def layer_costs(model: nn.Module, dense: Mapping[str, tuple[int, int]]) -> list[Row]:
    """Cost and storage of each of these layers, over those of the dense layer."""
    rows = []
    for name, (size, positions) in dense.items():
        module = model.get_submodule(name)
        if isinstance(module, STRUCTURED):
            own = sum(weight.cost for weight in weights_of(module))
            stored = sum(weight.storage for weight in weights_of(module))
        else:
            counted = getattr(module, "cost", None)
            own = stored = module.weight.numel() if counted is None else counted
        rows.append(
            {
                "name": name,
                "relative_cost": own / size,
                "relative_storage": stored / size,
                "size": size,
                "positions": positions,
            }
        )
    return rows


def totals(layers: Sequence[Row]) -> Row:
    """Cost and storage of all layers over those of the dense ones."""
    weighted = [(row["size"] * row["positions"], row["relative_cost"]) for row in layers]
    stored = [(row["size"], row["relative_storage"]) for row in layers]
    return {
        "relative_cost": sum(w * c for w, c in weighted) / sum(w for w, _ in weighted),
        "relative_storage": sum(w * s for w, s in stored) / sum(w for w, _ in stored),
    }


def _by_rule(
    model: nn.Module,
    job: Job,
    generator: torch.Generator,
    *,
    start_rule: str,
    oversize: float = 1.0,
    width: float | None = None,
    **options: Any,
) -> None:
    """Gaudi layers of min(m, n) blocks at random places, at `oversize` times their budget.

    Widths follow a published rule ("splr", "lr") or are "equal"; `width` gives their share of
    a side in place of the budget.
    """
    for name, module in list(model.named_modules()):
        if not is_inner(name, module):
            continue
        m, n = module.weight.shape
        share = width or min(1.0, oversize * job.budget * max(m, n) / (m + n))
        start: Any = share if start_rule == "equal" else f"{start_rule}{share:.6f}"
        layer = GaudiLinear(n, m, width_init=start, generator=generator, **options)
        _put(model, name, layer)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)


def _by_shares(model: nn.Module, kind: str, shares: Shares, generator: torch.Generator) -> None:
    """Draw matrices of a kind, each layer at its own cost; rank 0 where the cost allows no rank."""
    for name, share in shares.items():
        module = model.get_submodule(name)
        record = layer_type(module)
        if record is None:
            raise BenchmarkError(f"layer {name!r} is a {type(module).__name__}; expected a linear")
        m, n = record.matrix(module, False).shape
        cap = math.floor(share * m * n + 0.5)
        if cap < m + n:
            matrix: Any = LowRank(torch.zeros(m, 0), torch.zeros(n, 0))
        else:
            matrix = random_init(kind, (m, n), cap).draw(record.variance(module), generator)
        weight = StructuredWeight(matrix)
        _put(model, name, record.build(module, [weight]))


def _truncated(model: nn.Module, shares: Shares) -> None:
    """Truncate singular value decompositions, each layer at its own cost."""
    alds = importlib.import_module("benchmarks.models.alds")
    shapes = {name: model.get_submodule(name).weight.shape for name in shares}
    ranks = {n: round(c * math.prod(shapes[n]) / sum(shapes[n])) for n, c in shares.items()}
    alds.convert_to_ranks_(model, ranks, start="weights")


def _alds(dense: nn.Module, budget: float, example: Tensor) -> dict[str, float]:
    """Costs of the ranks that ALDS chooses for the trained dense network."""
    alds = importlib.import_module("benchmarks.models.alds")
    layers = dense_layers(dense, example)
    weights = {name: dense.get_submodule(name).weight.detach().flatten(1) for name in layers}
    positions = {name: count for name, (_, count) in layers.items()}
    ranks = alds.alds_ranks(weights, positions, budget)
    return {
        name: rank * sum(weights[name].shape) / weights[name].numel()
        for name, rank in ranks.items()
    }
