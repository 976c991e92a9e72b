"""Part "projections": projections of a layer that learns, against its training steps."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median

import torch
from torch import nn

from benchmarks.gpu.session import Session, WrongResult, agree, library, tolerance
from benchmarks.gpu.training import learning_layer
from benchmarks.gpu.ways import clock, host, synchronize
from benchmarks.micro.settings import Setting
from benchmarks.micro.timing import interleaved
from benchmarks.micro.training import step
from benchmarks.results import short
from structmat.nn import Anneal, Config, convert_

#: Steps of the training over which projections are spread, and projections in it.
TRAINING_STEPS, PROJECTIONS = 10_000, 10
#: Steps of this measurement, and projections among them.
STEPS, MEASURED = 20, 4


@dataclass(frozen=True)
class ProjectionsPlan:
    """Kinds and sizes, budget, and vectors of a training step."""

    cases: Sequence[tuple[str, int]]
    budget: float
    vectors: int
    seconds: float


FULL = ProjectionsPlan(
    cases=(("block_sparse", 1024), ("gblr", 1024), ("block_sparse", 4096), ("gblr", 4096)),
    budget=0.125,
    vectors=8192,
    seconds=0.5,
)
TINY = ProjectionsPlan(cases=(("block_sparse", 32),), budget=0.125, vectors=8, seconds=0.0)


def run(session: Session) -> None:
    """Project and time each kind."""
    plan = TINY if session.tiny else FULL
    for kind, n in plan.cases:
        session.case(f"{kind}, n = {n}", partial(_kind, session, plan, kind, n))


def _kind(session: Session, plan: ProjectionsPlan, kind: str, n: int) -> None:
    if kind == "gblr":
        library("numba")  # without it the search for blocks takes minutes
    if not session.tiny:
        # Projectors compile in their first run, which is not timed.
        projection_seconds(kind, 64, plan.budget, session.device)
    times = projection_seconds(kind, n, plan.budget, session.device)
    setting = Setting((n, n, plan.vectors), session.device, "bfloat16", 1)
    layer = setting.moved(learning_layer(n, plan.budget))
    x, grad = (setting.moved(torch.randn(plan.vectors, n)) for _ in range(2))
    x.requires_grad_()
    calls = {"step": partial(step, layer, x, grad)}
    timing = interleaved(calls, seconds=plan.seconds, least=3, clock=clock(session.device))
    one = timing.seconds("step")
    session.add(
        {
            "kind": kind,
            "n": n,
            "vectors": plan.vectors,
            "budget": plan.budget,
            "seconds": short(fmean(times)),
            "longest": short(max(times)),
            "step_seconds": short(one),
            "share": short(PROJECTIONS * fmean(times) / (TRAINING_STEPS * one)),
        }
    )


def projection_seconds(kind: str, n: int, budget: float, device: str) -> list[float]:
    """Seconds of each projection on the way to a budget; the layer that is left is checked."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(n, n).to(device))
    convert_(model, Config(budget=budget, kind=kind, learn=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rule = Anneal(
        model, optimizer, budget, total_steps=STEPS, begin=0.0, end=1.0, every=1 / MEASURED
    )
    x, times = torch.randn(8, n, device=device), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        synchronize(device)
        begin = time.perf_counter()
        optimizer.step()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    rule.remove()
    if rule.relative_cost > budget:
        raise WrongResult(f"the cost is {rule.relative_cost:.4g}; expected at most {budget}")
    dense = host(model[0].to_matrix().to_dense())
    y = host(model(x) - model[0].bias)
    agree("the layer that is left", y, host(x) @ dense.T, tolerance("float32", n))
    every = STEPS // MEASURED
    plain = median(t for k, t in enumerate(times, 1) if k % every)
    return [max(times[k - 1] - plain, 0.0) for k in range(every, STEPS + 1, every)]
