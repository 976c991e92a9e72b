"""Part "training": forward and backward of layers, against those of a dense layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu.session import Session, WrongResult
from benchmarks.gpu.shapes import drawn
from benchmarks.gpu.ways import WAYS, clock, over_dense
from benchmarks.micro.settings import Setting
from benchmarks.micro.timing import Call, interleaved
from benchmarks.micro.training import BLUR_ERROR, shrunk_layer, step, step_errors
from structmat.nn import Anneal, Config, GaudiLinear, StructuredLinear, convert_

DTYPE = "bfloat16"
#: Structures of layers whose contents alone are trained.
PINNED = ("tiles", "windows", "runs")


@dataclass(frozen=True)
class TrainingPlan:
    """Sizes with the ways to call, vectors, cost, and seconds for each size."""

    sizes: Sequence[tuple[int, Sequence[str]]]
    vectors: int
    cost: float
    seconds: float
    least: int


FULL = TrainingPlan(
    sizes=((4096, ("eager",)), (1024, ("eager", "graph", "compiled"))),
    vectors=8192,
    cost=0.25,
    seconds=3.0,
    least=5,
)
TINY = TrainingPlan(sizes=((64, tuple(WAYS)),), vectors=8, cost=0.25, seconds=0.0, least=1)


def run(session: Session) -> None:
    """Check and time every size."""
    plan = TINY if session.tiny else FULL
    for n, ways in plan.sizes:
        session.case(f"n = {n}", partial(_size, session, plan, n, ways))


def makers(n: int, cost: float) -> dict[str, Call]:
    """Makers of layers by name: one that learns, pinned ones, and those with Gaudi masks."""
    gaudi = partial(GaudiLinear, n, n, budget=cost, sigma=100.0)
    return {
        "dense": partial(nn.Linear, n, n),
        "learning": partial(learning_layer, n, cost),
        **{name: partial(pinned_layer, name, n, cost) for name in PINNED},
        "Gaudi, from strips": partial(gaudi, width_init="strips"),
        "Gaudi, from a grid": partial(gaudi, width_init="grid"),
        "Gaudi, shrunk": partial(shrunk_layer, n, n, cost),
        "Gaudi, published": partial(gaudi, width_init="splr", product="assembled"),
    }


def pinned_layer(name: str, n: int, cost: float) -> nn.Module:
    """Layer with a structure that stays."""
    return StructuredLinear(drawn(name, n, cost).matrix.astype("float32"), torch.zeros(n))


def learning_layer(n: int, cost: float) -> nn.Module:
    """Layer that learns, in the middle of its training: a dense weight on a support."""
    model = nn.Sequential(nn.Linear(n, n))
    project_once_(model, cost)
    return model[0]


def project_once_(model: nn.Module, cost: float, example: Tensor | None = None) -> None:
    """Convert a model to layers that learn tiles, and bring them down to a cost in one step."""
    convert_(model, Config(budget=cost, kind="block_sparse", learn=True), example=example)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rule = Anneal(model, optimizer, cost, total_steps=1, begin=0.0, end=1.0, every=1.0)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    model.zero_grad()
    rule.remove()


def _size(session: Session, plan: TrainingPlan, n: int, ways: Sequence[str]) -> None:
    """Time the steps of all layers side by side."""
    torch.manual_seed(0)
    setting = Setting((n, n, plan.vectors), session.device, DTYPE, 1)
    x, grad = (setting.moved(torch.randn(plan.vectors, n)) for _ in range(2))
    x.requires_grad_()
    layers = session.attempts(
        {
            name: (f"{name}, n = {n}", partial(_checked, make, setting, x, grad))
            for name, make in makers(n, plan.cost).items()
        }
    )
    # Graphs come last: a capture that fails may leave the device in disorder.
    for way in ways:
        calls = session.attempts(
            {
                name: (
                    f"{name}, n = {n}, {way}",
                    partial(WAYS[way], layer, partial(_step, x, grad), session.device),
                )
                for name, layer in layers.items()
            }
        )
        timing = interleaved(
            calls, seconds=plan.seconds, least=plan.least, clock=clock(session.device)
        )
        for name in [name for name in calls if name != "dense"]:
            session.add(
                {
                    "layer": name,
                    "n": n,
                    "vectors": plan.vectors,
                    "dtype": DTYPE,
                    "budget": plan.cost,
                    "way": way,
                    **over_dense(timing, name),
                }
            )


def _step(x: Tensor, grad: Tensor, layer: nn.Module) -> Tensor:
    return step(layer, x, grad)


def _checked(make: Call, setting: Setting, x: Tensor, grad: Tensor) -> nn.Module:
    """Layer on the device whose output and gradients are right."""
    layer = setting.moved(make())
    limit = setting.limit + BLUR_ERROR * hasattr(getattr(layer, "matrix", layer), "sigma")
    for what, error in step_errors(layer, x, grad).items():
        if not error <= limit:
            raise WrongResult(f"{what} is off by {error:.1e}; expected at most {limit:.1e}")
    return layer
