"""Parts "vit" and "gpt2": whole training steps of networks, against those of the dense one."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.host import LaunchCount
from benchmarks.gpu.session import Session, agree
from benchmarks.gpu.step_bytes import peak_bytes
from benchmarks.gpu.training import project_once_
from benchmarks.gpu.ways import clock, host, optimized, over_dense, synchronize
from benchmarks.micro.timing import Call, interleaved
from benchmarks.results import short
from structmat.learn.models import build_model
from structmat.nn import Config, convert_, to_dense_

#: Relative error of logits in single precision, through all layers.
LOGIT_ERROR = 2e-3
#: Examples on which converted networks are compared with dense ones.
CHECKED = 2
#: Steps whose host time is measured.
ROUNDS = 3
#: Masks as published, in the way that takes the least time: looked up in tables, as an assembled
#: weight.
GAUDI = {"width_init": "splr", "sigma": 100.0, "product": "assembled"}


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """Network with its options, examples of a step, cost of layers, and seconds for each."""

    model: str
    size: str | Mapping[str, Any]
    options: Mapping[str, Any]
    batch: int
    seconds: float
    least: int
    cost: float = 0.25

    def dense(self) -> nn.Module:
        """The dense network."""
        return build_model(self.model, size=self.size, **self.options)

    def examples(self, count: int, device: str) -> tuple[Tensor, Tensor]:
        """Random inputs, and a label for each result."""
        generator = torch.Generator(device).manual_seed(0)
        if self.model == "gpt":
            shape = (count, self.options["context"])
            draw = partial(torch.randint, self.options["vocabulary"], shape)
            return tuple(draw(device=device, generator=generator) for _ in range(2))
        shape = (count, *self.options["image"])
        images = torch.randn(shape, device=device, generator=generator)
        return images, torch.randint(10, (count,), device=device, generator=generator)


_VIT = {"image": (3, 32, 32), "classes": 10}
#: Plans of each part, and those of toy sizes.
PLANS = {
    "vit": NetworkPlan(model="vit", size="full", options=_VIT, batch=512, seconds=2.0, least=3),
    "gpt2": NetworkPlan(
        model="gpt",
        size={"dim": 768, "depth": 12, "heads": 12},
        options={"vocabulary": 50257, "context": 1024},
        batch=8,
        seconds=2.0,
        least=3,
    ),
}
TINY = {
    "vit": NetworkPlan(
        model="vit",
        size={"dim": 32, "depth": 1, "heads": 2},
        options={"image": (3, 8, 8), "classes": 10},
        batch=2,
        seconds=0.0,
        least=1,
    ),
    "gpt2": NetworkPlan(
        model="gpt",
        size={"dim": 32, "depth": 1, "heads": 2},
        options={"vocabulary": 64, "context": 8},
        batch=2,
        seconds=0.0,
        least=1,
    ),
}


def run(session: Session) -> None:
    """Check every network, and measure its steps, first eager and then compiled."""
    plan = (TINY if session.tiny else PLANS)[session.part]
    models = {}
    for name in networks(plan):
        model = session.attempt(name, partial(_made, session, plan, name))
        if model is not None:
            models[name] = model
    if "dense" not in models:
        return
    session.case("eager", partial(_eager, session, plan, models))
    session.case("compiled", partial(_compiled, session, plan, models))


def networks(plan: NetworkPlan) -> dict[str, Callable[[], nn.Module]]:
    """Makers of networks by the name of their layers, the dense ones first."""

    def learning() -> nn.Module:
        model = plan.dense()
        project_once_(model, plan.cost, plan.examples(1, "cpu")[0])
        return model

    def converted(**options: Any) -> nn.Module:
        model = plan.dense()
        convert_(model, Config(budget=plan.cost, **options), example=plan.examples(1, "cpu")[0])
        return model

    return {
        "dense": plan.dense,
        "learning": learning,
        "pinned, tiles": partial(converted, kind="block_sparse", learn=False),
        "pinned, runs": partial(converted, kind="gblr", learn=False),
        "Gaudi, assembled": partial(converted, learn="gaudi", options=GAUDI),
    }


def _made(session: Session, plan: NetworkPlan, name: str) -> nn.Module:
    """Network on the device, compared with its dense copy."""
    torch.manual_seed(0)
    model = networks(plan)[name]().to(session.device)
    if name != "dense":
        inputs, _ = plan.examples(CHECKED, session.device)
        twin = copy.deepcopy(model).eval()
        to_dense_(twin)
        with torch.no_grad():
            agree("the logits", host(model.eval()(inputs)), host(twin(inputs)), LOGIT_ERROR)
    return model.train()


def loss_of(run: Any, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a network's results."""
    logits = run(inputs)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.flatten())


def _steps(plan: NetworkPlan, device: str, model: nn.Module, run: Any) -> Call:
    """Call of a whole step: forward and backward in bfloat16, and the optimizer."""
    inputs, labels = plan.examples(plan.batch, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def call() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(run, inputs, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    call()
    return call


def _eager(session: Session, plan: NetworkPlan, models: Mapping[str, nn.Module]) -> None:
    """Time all networks side by side, and count what their steps ask for."""
    calls = {name: _steps(plan, session.device, model, model) for name, model in models.items()}
    _time(session, plan, "eager", calls)
    bytes_of_dense = None
    for name, call in calls.items():
        needed = peak_bytes(session.device, models[name], call)
        bytes_of_dense = bytes_of_dense or needed
        with LaunchCount() as count:
            call()
        session.add(
            {
                "layers": name,
                "batch": plan.batch,
                "budget": 1.0 if name == "dense" else plan.cost,
                "operations": count.total,
                "host_seconds": short(_host_seconds(call, session.device)),
                "bytes": needed,
                "bytes_over_dense": short(needed / bytes_of_dense),
            }
        )


def _host_seconds(call: Call, device: str) -> float:
    """Seconds for which a step keeps the host; a GPU goes on for longer."""
    found = []
    for _ in range(ROUNDS):
        synchronize(device)
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return median(found)


def _compiled(session: Session, plan: NetworkPlan, models: Mapping[str, nn.Module]) -> None:
    """Compile the dense network once, and time each of the others beside it as it comes."""

    def made(name: str) -> Call:
        model = models[name]
        return _steps(plan, session.device, model, optimized(model, session.device))

    dense = made("dense")
    for name in [name for name in models if name != "dense"]:
        call = session.attempt(f"{name}, compiled", partial(made, name))
        if call is not None:
            _time(session, plan, "compiled", {"dense": dense, name: call})


def _time(session: Session, plan: NetworkPlan, way: str, calls: Mapping[str, Call]) -> None:
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
