"""Suite "layers": Gaudi masks and layers in training, frozen layers in evaluation, with torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.progress import Progress
from benchmarks.results import BenchmarkError, Row, Suite, short
from benchmarks.timing import Call, interleaved

try:
    import torch
    from torch import Tensor, nn

    from structmat.nn import GaudiLinear, StructuredLinear, gaudi_mask
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[torch]'"
    ) from None


@dataclass(frozen=True)
class Plan:
    """Circles with their number of masks, layers with their vectors, and how long each."""

    masks: Sequence[tuple[int, int]]
    layer: tuple[int, int]
    tokens: int
    frozen_tokens: Sequence[int]
    costs: Sequence[float]
    seconds: float
    least: int
    minutes: float


FULL = Plan(
    masks=((768, 768), (3072, 768)),
    layer=(768, 3072),
    tokens=4096,
    frozen_tokens=(1, 16, 256, 4096),
    costs=(0.05, 0.12, 0.25, 0.5, 0.75, 1.0),
    seconds=6.0,
    least=5,
    minutes=4,
)
QUICK = Plan(
    masks=((256, 64),),
    layer=(96, 192),
    tokens=64,
    frozen_tokens=(1, 64),
    costs=(0.12,),
    seconds=0.05,
    least=3,
    minutes=0.2,
)


def run(plan: Plan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Check and measure everything in the plan; structures come from the first seed."""
    suite = Suite("layers", seeds[:1])
    torch.manual_seed(seeds[0])
    with Progress("layers", len(plan.masks) + 2) as progress:
        for n, count in plan.masks:
            progress.step(f"{count} masks on {n} samples")
            suite.rows.append(_masks(suite, plan, n, count))
        progress.step("training steps")
        _training(suite, plan)
        progress.step("frozen layers")
        _frozen(suite, plan)
    return suite


def _masks(suite: Suite, plan: Plan, n: int, count: int) -> Row:
    """The table algorithm against the Fourier formula, forward and backward."""
    width = torch.randint(n, (count,)) / n
    location = torch.randint(n, (count,)) / n
    grad = torch.randn(count, n)

    def step(straight_through: bool) -> tuple[Tensor, ...]:
        w, l = width.clone().requires_grad_(), location.clone().requires_grad_()
        mask = gaudi_mask(w, l, n, sigma=100.0, straight_through=straight_through)
        mask.backward(grad)
        return mask.detach(), w.grad, l.grad

    for ours, formula in zip(step(True), step(False), strict=True):
        error = float((ours - formula).abs().max() / formula.abs().max())
        suite.check(error < 1e-3, f"masks on {n} samples: off the formula by {error:.1e}")
    calls: dict[str, Call] = {"table": partial(step, True), "formula": partial(step, False)}
    timing = interleaved(calls, seconds=plan.seconds, least=plan.least)
    return {
        "what": "masks",
        "n": n,
        "masks": count,
        "seconds": short(timing.seconds("table")),
        "formula_over_table": short(timing.ratio("formula", "table")),
    }


def _training(suite: Suite, plan: Plan) -> None:
    """A training step of Gaudi layers against that of a dense one."""
    n, m = plan.layer
    dense = nn.Linear(n, m)
    x, grad = torch.randn(plan.tokens, n, requires_grad=True), torch.randn(plan.tokens, m)

    def step(layer: nn.Module) -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(grad)

    layers = _gaudi_layers(n, m)
    calls: dict[str, Call] = {"dense": partial(step, dense)}
    calls |= {name: partial(step, layer) for name, layer in layers.items()}
    timing = interleaved(calls, seconds=plan.seconds * len(calls), least=plan.least)
    beside = _kept_bytes(dense, x)
    for name, layer in layers.items():
        weight = layer.matrix
        factors = weight.u.nbytes + weight.v.nbytes
        with torch.no_grad():
            error = float((layer(x) - x @ layer.weight.T - layer.bias).abs().max())
        suite.check(error < 1e-3, f"{name}: output off the dense weight's by {error:.1e}")
        suite.rows.append(
            {
                "what": "training",
                "layer": name,
                "tokens": plan.tokens,
                "blocks": weight.num_blocks,
                "rank": weight.rank,
                "cost": short(weight.cost / (m * n)),
                "sigma": None if math.isinf(weight.sigma) else weight.sigma,
                "seconds": short(timing.seconds(name)),
                "over_dense": short(timing.ratio(name, "dense")),
                "kept_over_factors": short((_kept_bytes(layer, x) - beside) / factors),
            }
        )


def _gaudi_layers(n: int, m: int) -> dict[str, GaudiLinear]:
    """Starts, and structures that have shrunk."""
    count = min(m, n)
    make = partial(GaudiLinear, n, m)
    return {
        "default": make(sigma=100.0),
        "default, blurred": make(sigma=10.0),
        "grid, 50 %": make(budget=0.5, sigma=100.0),
        "grid, 20 %": make(budget=0.2, sigma=100.0),
        "grid, 10 %": make(budget=0.1, sigma=100.0),
        "splr": make(num_blocks=count, width_init="splr", sigma=100.0),
        "splr, blurred": make(num_blocks=count, width_init="splr", sigma=1.0),
        "shrunk to 25 %": make(num_blocks=count, width_init=0.2, sigma=100.0),
        "shrunk to 12 %": make(num_blocks=count, width_init=0.1, sigma=100.0),
    }


def _kept_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward one, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x)
    return sum(kept.values())


def _frozen(suite: Suite, plan: Plan) -> None:
    """Frozen layers against dense ones, in evaluation."""
    n, m = plan.layer
    dense = nn.Linear(n, m).eval()
    for cost in plan.costs:
        for start, options in _structures(n, m, cost).items():
            gaudi = GaudiLinear(n, m, **options)
            frozen = StructuredLinear(gaudi.to_matrix(), gaudi.bias).eval()
            for tokens in plan.frozen_tokens:
                suite.rows.append(
                    {"what": "frozen", "start": start, "budget": cost}
                    | _frozen_row(suite, plan, dense, frozen, gaudi, tokens)
                )


def _structures(n: int, m: int, cost: float) -> dict[str, dict[str, Any]]:
    """The same cost as a grid of tiles and as blocks in random places."""
    return {
        "grid": {"budget": cost},
        "random": {"num_blocks": min(m, n), "width_init": min(1.0, cost * max(m, n) / (m + n))},
    }


@torch.no_grad()
def _frozen_row(
    suite: Suite,
    plan: Plan,
    dense: nn.Module,
    frozen: StructuredLinear,
    gaudi: GaudiLinear,
    tokens: int,
) -> Row:
    x = torch.randn(tokens, frozen.in_features)
    error = float((frozen(x) - gaudi.eval()(x)).abs().max())
    suite.check(error < 1e-3, f"frozen layer: off the trained one by {error:.1e}")
    calls: dict[str, Call] = {"dense": partial(dense, x), "frozen": partial(frozen, x)}
    timing = interleaved(calls, seconds=plan.seconds / 6, least=plan.least)
    return {
        "tokens": tokens,
        "cost": short(frozen.matrix.to_matrix().relative_cost),
        "seconds": short(timing.seconds("frozen")),
        "over_dense": short(timing.ratio("frozen", "dense")),
    }
