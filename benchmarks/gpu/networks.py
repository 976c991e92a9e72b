"""Part "vit": whole training steps of a vision transformer, against those of the dense one."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.session import Session, agree
from benchmarks.gpu.training import project_once_
from benchmarks.gpu.ways import clock, host, optimized, over_dense
from benchmarks.micro.timing import Call, interleaved
from structmat.learn.models import build_model
from structmat.nn import Config, convert_, to_dense_

#: Relative error of logits in single precision, through all layers.
LOGIT_ERROR = 2e-3
#: Images on which converted networks are compared with dense ones.
CHECKED_IMAGES = 2


@dataclass(frozen=True)
class VitPlan:
    """Size of the network, images and their number, cost of layers, and seconds for each."""

    size: str | Mapping[str, Any]
    image: tuple[int, int, int]
    batch: int
    cost: float
    seconds: float
    least: int


FULL = VitPlan(size="full", image=(3, 32, 32), batch=512, cost=0.25, seconds=2.0, least=3)
TINY = VitPlan(
    size={"dim": 32, "depth": 1, "heads": 2}, image=(3, 8, 8), batch=2, cost=0.25,
    seconds=0.0, least=1,
)  # fmt: skip


def run(session: Session) -> None:
    """Check every network, and time its steps, first eager and then compiled."""
    plan = TINY if session.tiny else FULL
    models = {}
    for name in networks(plan):
        model = session.attempt(name, partial(_made, session, plan, name))
        if model is not None:
            models[name] = model
    if "dense" not in models:
        return
    session.case("eager", partial(_eager, session, plan, models))
    session.case("compiled", partial(_compiled, session, plan, models))


def networks(plan: VitPlan) -> dict[str, Callable[[], nn.Module]]:
    """Makers of networks by the name of their layers, the dense ones first."""
    dense = partial(build_model, "vit", size=plan.size, image=plan.image, classes=10)

    def learning() -> nn.Module:
        model = dense()
        project_once_(model, plan.cost, torch.zeros(1, *plan.image))
        return model

    def pinned(kind: str) -> nn.Module:
        model = dense()
        convert_(model, Config(budget=plan.cost, kind=kind, learn=False))
        return model

    return {
        "dense": dense,
        "learning": learning,
        "pinned, tiles": partial(pinned, "block_sparse"),
        "pinned, runs": partial(pinned, "gblr"),
    }


def _made(session: Session, plan: VitPlan, name: str) -> nn.Module:
    """Network on the device, compared with its dense copy."""
    torch.manual_seed(0)
    model = networks(plan)[name]().to(session.device)
    if name != "dense":
        images = torch.randn(CHECKED_IMAGES, *plan.image, device=session.device)
        twin = copy.deepcopy(model)
        to_dense_(twin)
        with torch.no_grad():
            agree("the logits", host(model(images)), host(twin(images)), LOGIT_ERROR)
    return model


def _steps(plan: VitPlan, device: str, model: nn.Module, run: Any) -> Call:
    """Call of a whole step: forward and backward in bfloat16, and the optimizer."""
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(plan.batch, *plan.image, device=device, generator=generator)
    labels = torch.randint(10, (plan.batch,), device=device, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def call() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            loss = F.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    call()
    return call


def _eager(session: Session, plan: VitPlan, models: Mapping[str, nn.Module]) -> None:
    """Time all networks side by side."""
    calls = {name: _steps(plan, session.device, model, model) for name, model in models.items()}
    _time(session, plan, "eager", calls)


def _compiled(session: Session, plan: VitPlan, models: Mapping[str, nn.Module]) -> None:
    """Compile the dense network once, and time each of the others beside it as it comes."""

    def made(name: str) -> Call:
        model = models[name]
        return _steps(plan, session.device, model, optimized(model, session.device))

    dense = made("dense")
    for name in [name for name in models if name != "dense"]:
        call = session.attempt(f"{name}, compiled", partial(made, name))
        if call is not None:
            _time(session, plan, "compiled", {"dense": dense, name: call})


def _time(session: Session, plan: VitPlan, way: str, calls: Mapping[str, Call]) -> None:
    timing = interleaved(calls, seconds=plan.seconds, least=plan.least, clock=clock(session.device))
    for name in calls:
        session.add(
            {
                "layers": name,
                "way": way,
                "batch": plan.batch,
                "budget": 1.0 if name == "dense" else plan.cost,
                **over_dense(timing, name),
            }
        )
