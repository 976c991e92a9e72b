"""Figures of a trained network: cost of its layers, time of inference, its matrices."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from structmat.learn.devices import wait_for
from structmat.learn.tasks import is_inner
from structmat.matrix import StructuredMatrix
from structmat.nn import StructuredWeight, cost

# Timings of a pass over the test set, for their median.
_TIMING_COUNT = 5


def layer_costs(model: nn.Module, dense: nn.Module, example: Tensor) -> list[dict[str, Any]]:
    """Cost of each structured layer for one example, or of the dense layer in its place."""
    inner = {name for name, module in dense.named_modules() if is_inner(name, module)}
    return [
        {
            "name": r.name,
            "kind": r.kind,
            "shape": list(r.shape),
            "cost": r.positions * r.cost,
            "dense_cost": r.positions * r.dense_cost,
            "storage": r.storage,
            "positions": r.positions,
        }
        for r in cost(model, example).rows
        # A weight may be a part of a layer.
        if any(r.name == layer or r.name.startswith(f"{layer}.") for layer in inner)
    ]


def totals(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cost and storage of all layers, and their ratios to those of the dense layers."""
    own, dense, storage = (
        sum(layer[key] for layer in layers) for key in ("cost", "dense_cost", "storage")
    )
    stored_dense = sum(math.prod(layer["shape"]) for layer in layers)
    return {
        "cost": own,
        "dense_cost": dense,
        "relative_cost": own / max(dense, 1),
        "storage": storage,
        "relative_storage": storage / max(stored_dense, 1),
    }


@torch.no_grad()
def inference_seconds(
    model: nn.Module, dense: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Median seconds of a pass over the whole test set by both networks, turn by turn."""
    networks, device = (model.eval(), dense.eval()), str(batches[0][0].device)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMING_COUNT + 1):
        for network, own in zip(networks, times, strict=True):
            begin = time.perf_counter()
            for x, _ in batches:
                network(x)
            wait_for(device)
            own.append(time.perf_counter() - begin)
    # The first pass compiles and fills caches.
    first, second = (statistics.median(own[1:]) for own in times)
    return first, second


def matrices_of(model: nn.Module) -> dict[str, StructuredMatrix]:
    """Structured matrices of a frozen model by the names of their layers, on NumPy."""
    return {
        name: module.to_matrix().to("numpy")
        for name, module in model.named_modules()
        if isinstance(module, StructuredWeight)
    }
