"""Suite "training": forward and backward of Gaudi layers and their rivals, with torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.micro.progress import Progress
from benchmarks.micro.suites import Suite
from benchmarks.results import BenchmarkError, Row, short

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from benchmarks.micro import rivals
    from benchmarks.micro.settings import Setting, Shape, limited, relative_error, settings
    from structmat.nn import GaudiLinear, StructuredLinear
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[torch]'"
    ) from None

#: Relative error that blurred masks add: products leave out the tails of the blur, and the
#: angles of a Fourier transform are too large for single precision.
BLUR_ERROR = 2e-3


@dataclass(frozen=True)
class TrainingPlan:
    """Shapes on the CPU and on a GPU, costs in units of the dense layer's, and seconds each."""

    cpu: Sequence[Shape]
    gpu: Sequence[Shape]
    costs: Sequence[float]
    seconds: float
    least: int
    minutes: float


FULL = TrainingPlan(
    cpu=((768, 3072, 4096), (1024, 1024, 2048)),
    gpu=((4096, 4096, 1), (4096, 4096, 8192), (8192, 8192, 1), (8192, 8192, 8192)),
    costs=(0.125, 0.25, 0.5),
    seconds=0.5,
    least=5,
    minutes=8,
)
QUICK = TrainingPlan(
    cpu=((96, 192, 64),),
    gpu=((256, 256, 64),),
    costs=(0.25,),
    seconds=0.01,
    least=3,
    minutes=0.2,
)


def run(plan: TrainingPlan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Check and measure everything in the plan; layers come from the first seed."""
    suite = Suite("training", seeds[:1])
    torch.manual_seed(seeds[0])
    chosen = settings(plan.cpu, plan.gpu, sorted({1, torch.get_num_threads()}))
    with Progress("training", len(chosen) * (len(plan.costs) + 1)) as progress:
        for setting in chosen:
            n, m, tokens = setting.shape
            groups = {f"cost {cost:.3g}": layers_of(n, m, cost) for cost in plan.costs}
            groups["starts"] = starts(n, m)
            for name, layers in groups.items():
                progress.step(f"{n}→{m}, {tokens} vectors, {setting.device}, {name}")
                with limited(setting.threads):
                    _measure(suite, plan, setting, layers)
    return suite


def layers_of(n: int, m: int, cost: float) -> dict[str, nn.Module]:
    """Every kind of layer at one cost."""
    shrunk = shrunk_layer(n, m, cost)
    return {
        "Gaudi, from a grid": GaudiLinear(n, m, budget=cost, width_init="grid", sigma=100.0),
        "Gaudi, shrunk": shrunk,
        "the same, contents alone": StructuredLinear(shrunk.to_matrix(), shrunk.bias),
        "low rank": rivals.LowRankLinear(n, m, cost),
        "Monarch": rivals.monarch(n, m, cost),
        "published formula": rivals.FourierLinear(n, m, cost),
    }


def shrunk_layer(n: int, m: int, cost: float) -> GaudiLinear:
    """Blocks of equal widths in random places, as many as the smaller side has samples."""
    width = min(1.0, cost * max(m, n) / (m + n))
    return GaudiLinear(n, m, num_blocks=min(m, n), width_init=width, sigma=100.0)


def starts(n: int, m: int) -> dict[str, nn.Module]:
    """Layers with other starts, and with masks still blurred."""
    make = partial(GaudiLinear, n, m)
    return {
        "Gaudi, from a grid, blurred": make(width_init="grid", sigma=10.0),
        "Gaudi, splr": make(num_blocks=min(m, n), width_init="splr", sigma=100.0),
        "Gaudi, splr, blurred": make(num_blocks=min(m, n), width_init="splr", sigma=1.0),
    }


def _measure(
    suite: Suite, plan: TrainingPlan, setting: Setting, layers: dict[str, nn.Module]
) -> None:
    """Time training steps in turns with that of a dense layer."""
    n, m, tokens = setting.shape
    layers = {"dense": nn.Linear(n, m)} | layers
    layers = {name: setting.moved(layer) for name, layer in layers.items()}
    x, grad = setting.moved(torch.randn(tokens, n)), setting.moved(torch.randn(tokens, m))
    x.requires_grad_()
    for name, layer in layers.items():
        limit = setting.limit + BLUR_ERROR * hasattr(_weight(layer), "sigma")
        for what, error in step_errors(layer, x, grad).items():
            place = f"{name}, {n}→{m}, {tokens} vectors, {setting.device}, {setting.dtype}"
            suite.check(error <= limit, f"{place}: {what} off by {error:.1e}")
    calls = {name: partial(step, layer, x, grad) for name, layer in layers.items()}
    timing = setting.timed(calls, seconds=plan.seconds * len(calls), least=plan.least)
    beside = _kept_bytes(layers.pop("dense"), x)
    for name, layer in layers.items():
        own = sum(p.nbytes for p in layer.parameters())
        suite.rows.append(
            setting.row()
            | {"layer": name, **_described(layer)}
            | {
                "cost": short(_cost(layer) / (m * n)),
                "rounds": timing.rounds,
                "seconds": short(timing.seconds(name)),
                "over_dense": short(timing.ratio(name, "dense")),
                "kept_over_parameters": short((_kept_bytes(layer, x) - beside) / own),
            }
        )


def step(layer: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    """Forward and backward of a layer; the output."""
    layer.zero_grad(set_to_none=True)
    x.grad = None
    y = layer(x)
    y.backward(grad)
    return y.detach()


def step_errors(layer: nn.Module, x: Tensor, grad: Tensor) -> dict[str, float]:
    """Relative errors of the output and of gradients against the dense weight's.

    The output is linear in each array of contents, so that an array's inner product with
    its gradient is that of the output, without the bias, with the gradient given.
    """
    y = step(layer, x, grad)
    with torch.no_grad():
        weight, given = layer.weight.float(), grad.float()
        expected = F.linear(x.float(), weight)
        product = float((expected * given).sum())
        errors = {
            "output": relative_error(y.float() - layer.bias.float(), expected),
            "gradient of the input": relative_error(x.grad, given @ weight),
        }
        for name, p in layer.named_parameters():
            if name.endswith(("bias", "width", "location", "widths", "locations")):
                continue
            got = float((p.float() * p.grad.float()).sum())
            size = float(p.float().norm() * p.grad.float().norm())
            errors[f"gradient of {name}"] = abs(got - product) / size
    return errors


def _weight(layer: nn.Module) -> nn.Module:
    return getattr(layer, "matrix", layer)


def _cost(layer: nn.Module) -> int:
    """Multiplications for one vector; a published layer counts its masked entries as skipped."""
    if isinstance(layer, GaudiLinear | StructuredLinear):
        return layer.matrix.cost
    if isinstance(layer, rivals.FourierLinear):
        sides = zip(layer.widths, (layer.u.shape[1], layer.v.shape[1]), strict=True)
        return sum(int((w * n).round().sum()) for w, n in sides)
    return sum(p.numel() for p in layer.parameters() if p.ndim == 2)


def _described(layer: nn.Module) -> Row:
    if not isinstance(layer, GaudiLinear):
        return {}
    weight = layer.matrix
    sigma = None if math.isinf(weight.sigma) else weight.sigma
    return {"blocks": weight.num_blocks, "rank": weight.rank, "sigma": sigma}


def _kept_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, parameters aside."""
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
