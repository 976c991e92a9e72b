"""Part "host": host time of a call, operations that launch, and memory of a layer."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu import floor
from benchmarks.gpu.frozen import frozen_layer
from benchmarks.gpu.session import Session
from benchmarks.gpu.shapes import SHAPES, drawn
from benchmarks.gpu.training import makers
from benchmarks.gpu.ways import synchronize
from benchmarks.micro.settings import Setting
from benchmarks.micro.timing import Call
from benchmarks.micro.training import step
from benchmarks.results import short

DTYPE = "bfloat16"
#: Calls between two waits for the GPU: fewer than its queue holds.
BURST = 20
#: Objects that lead away from what a layer owns.
_SHARED = (type, ModuleType, FunctionType)


@dataclass(frozen=True)
class HostPlan:
    """Size and costs of frozen layers, sizes and vectors of training steps, rounds of a clock."""

    n: int
    costs: Sequence[float]
    sizes: Sequence[int]
    vectors: int
    rounds: int


FULL = HostPlan(n=4096, costs=(0.125, 0.25), sizes=(512, 1024), vectors=256, rounds=20)
TINY = HostPlan(n=64, costs=(0.25,), sizes=(32, 64), vectors=4, rounds=1)


def run(session: Session) -> None:
    """Measure calls, then memory, then launches."""
    plan = TINY if session.tiny else FULL
    session.case("host time", partial(_calls, session, plan))
    for cost in plan.costs:
        for name in SHAPES:
            session.case(
                f"memory, {name}, cost {cost:.3g}", partial(_memory, session, plan, name, cost)
            )
    for n in plan.sizes:
        session.case(f"launches, n = {n}", partial(_launches, session, plan, n))


@torch.no_grad()
def _calls(session: Session, plan: HostPlan) -> None:
    """Host time of eager calls with one row, and of the least that a call can cost."""
    like = {"device": session.device, "dtype": getattr(torch, DTYPE)}
    x = torch.randn(1, plan.n, **like)
    layers = {"empty operator": floor.launch, "dense": nn.Linear(plan.n, plan.n, **like)}
    for name in SHAPES:
        layers[name] = frozen_layer(drawn(name, plan.n, plan.costs[0]), like)
    for name, layer in layers.items():
        seconds = session.attempt(
            f"host time, {name}",
            partial(host_seconds, partial(layer, x), session.device, plan.rounds),
        )
        if seconds is not None:
            session.add({"what": "host", "call": name, "n": plan.n, "seconds": short(seconds)})


def host_seconds(call: Call, device: str, rounds: int) -> float:
    """Seconds for which a call keeps the host, without those of the GPU."""
    call()
    found = []
    for _ in range(rounds):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(BURST):
            call()
        found.append((time.perf_counter() - begin) / BURST)
    synchronize(device)
    return median(found)


@torch.no_grad()
def _memory(session: Session, plan: HostPlan, name: str, cost: float) -> None:
    """Bytes that a layer holds on its device once it was used, over those of its contents."""
    like = {"device": session.device, "dtype": getattr(torch, DTYPE)}
    subject = drawn(name, plan.n, cost)
    batches = [torch.randn(rows, plan.n, **like) for rows in (1, plan.vectors)]
    nn.Linear(plan.n, 1, **like)(batches[1])  # libraries take their workspace
    before = held_bytes(session.device, None)
    layer = frozen_layer(subject, like)
    for x in batches:
        layer(x)
    held = held_bytes(session.device, layer) - before
    contents = sum(p.nbytes for p in layer.parameters())
    session.add(
        {
            "what": "memory",
            "structure": name,
            "n": plan.n,
            "budget": cost,
            "dtype": DTYPE,
            "bytes": held,
            "over_contents": short(held / contents),
        }
    )


def held_bytes(device: str, owner: Any) -> int:
    """Bytes of all tensors on a GPU; on a CPU of those that an object reaches."""
    if device == "cuda":
        gc.collect()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    found, seen, storages = [owner], {id(owner)}, {}
    while found:
        one = found.pop()
        if type(one) in (torch.Tensor, nn.Parameter):
            storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        for other in gc.get_referents(one):
            if id(other) not in seen and not isinstance(other, _SHARED):
                seen.add(id(other))
                found.append(other)
    return sum(storages.values())


def _launches(session: Session, plan: HostPlan, n: int) -> None:
    """Operations of a training step that launch, by torch's count, and kernels on a GPU."""
    setting = Setting((n, n, plan.vectors), session.device, DTYPE, 1)
    x, grad = (setting.moved(torch.randn(plan.vectors, n)) for _ in range(2))
    x.requires_grad_()
    for name, make in makers(n, plan.costs[-1]).items():
        found = session.attempt(
            f"launches, {name}, n = {n}", partial(_counted, setting, make, x, grad)
        )
        if found is not None:
            session.add({"what": "launches", "layer": name, "n": n, **found})


def _counted(setting: Setting, make: Call, x: torch.Tensor, grad: torch.Tensor) -> dict[str, Any]:
    layer = setting.moved(make())
    call = partial(step, layer, x, grad)
    call()
    with LaunchCount() as count:
        call()
    return {
        "operations": count.total,
        "launches": launched(call) if setting.device == "cuda" else None,
    }


class LaunchCount(TorchDispatchMode):
    """Count of the operations that compute something: views and fresh memory do not."""

    _STILL = ("aten::empty", "aten::new_empty", "aten::detach", "aten::_unsafe_view")

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returns = func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        self.total += not view and not func.name().startswith(self._STILL)
        return func(*args, **(kwargs or {}))


def launched(call: Call) -> int:
    """Kernels, copies and fills that a call starts on the GPU."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        call()
        torch.cuda.synchronize()
    names = ("LaunchKernel", "MemcpyAsync", "MemsetAsync")
    return sum(e.count for e in found.key_averages() if any(name in e.key for name in names))
