"""Ways to take a step, by which a network learns the structure that plain steps learn.

A small transformer learns in each way of learning, on the CPU, on the path of devices, and on a GPU
where there is one.
"""

import contextlib
import itertools
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

sys.path.append(str(Path(__file__).parents[1]))
from device_steps import apart

from structmat.learn.models import build_model
from structmat.learn.tasks import is_inner
from structmat.nn import (
    Anneal,
    AnnealWeight,
    BudgetProjection,
    Config,
    GaudiWeight,
    SigmaSchedule,
    convert_,
    freeze_,
    parameter_groups,
)
from structmat.nn.sharded import whole

STEPS, BUDGET = 6, 0.3
SIZE = {"dim": 16, "depth": 1, "heads": 2, "patch": 4}
#: Ways to learn, and structures that stay.
WAYS = {
    "runs": {"kind": "gblr"},
    "tiles": {"kind": "block_sparse", "learn": True, "tile": 8},
    "masks": {"kind": "gblr", "learn": "gaudi", "options": {"width_init": "grid"}},
    "fixed": {"kind": "block_sparse", "learn": False},
}
DEVICES = ("cpu", "path of devices", "cuda")
#: Those of every run of the tests.
QUICK = (("masks", "cpu"), ("tiles", "path of devices"))


def cases(quick):
    """All ways on all devices."""
    found = []
    for way, device in itertools.product(WAYS, DEVICES):
        marks = [pytest.mark.slow] * (device != "cuda" and (way, device) not in quick)
        marks += [pytest.mark.gpu] * (device == "cuda")
        found.append(pytest.param(way, device, marks=marks))
    return found


def network(way):
    torch.manual_seed(0)
    model = build_model("vit", size=SIZE, image=(1, 8, 8), classes=3)
    convert_(
        model,
        Config(budget=BUDGET, **WAYS[way]),
        is_inner,
        example=torch.zeros(1, 1, 8, 8),
        generator=torch.Generator().manual_seed(0),
    )
    return model.double()


def batches(device):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, 8, 1, 8, 8, dtype=torch.float64, generator=generator)
    y = torch.randint(3, (STEPS, 8), generator=generator)
    return zip(x.to(device), y.to(device), strict=True)


def rules_of(model, optimizer):
    modules = list(model.modules())
    if any(isinstance(m, AnnealWeight) for m in modules):
        return [Anneal(model, optimizer, BUDGET, STEPS, every=0.25)]
    if any(isinstance(m, GaudiWeight) for m in modules):
        rule = BudgetProjection(model, optimizer, BUDGET / 2, STEPS, ramp=0.6)
        return [rule, SigmaSchedule(model, optimizer, STEPS, start=3.0, stop=9.0)]
    return []


def plain(model, x, y, optimizer):
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def accumulated(model, x, y, optimizer):
    """Gradients of parts of a batch, summed."""
    for some, labels in zip(x.split(2), y.split(2), strict=True):
        (F.cross_entropy(model(some), labels) / 4).backward()
    optimizer.step()


def uneven(model, x, y, optimizer):
    """Parts of several sizes."""
    for some, labels in zip(x.split([5, 3]), y.split([5, 3]), strict=True):
        (F.cross_entropy(model(some), labels) * len(labels) / 8).backward()
    optimizer.step()


class Scaled:
    """Steps under gradient scaling, each after one that is skipped for its infinite gradients."""

    def __init__(self, device):
        self.scaler = torch.amp.GradScaler(device, init_scale=2.0**16)

    def __call__(self, model, x, y, optimizer):
        for factor in (torch.inf, 1.0):
            optimizer.zero_grad()
            loss = factor * F.cross_entropy(model(x), y)
            self.scaler.scale(loss).backward()
            self.scaler.step(optimizer)
            self.scaler.update()


class Again(nn.Module):
    """A block whose activations are computed again in the backward pass."""

    def __init__(self, block, reentrant):
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


def checkpointed(reentrant):
    def wrap(model):
        for i, block in enumerate(model.blocks):
            model.blocks[i] = Again(block, reentrant)
        return model

    return wrap


def compiled(model, **options):
    return torch.compile(model, fullgraph=True, **options)


def trained(way, device, step=plain, wrap=lambda model: model):
    """Values after the training, its costs, and the matrices of the frozen network."""
    model = network(way).to(device)
    run = wrap(model)
    groups = parameter_groups(model, lr=0.02, structure_lr=0.02)
    optimizer = torch.optim.AdamW(groups, fused=True)
    rules, costs = rules_of(model, optimizer), []
    values = list(model.parameters())
    for x, y in batches(device):
        optimizer.zero_grad()
        step(run, x, y, optimizer)
        costs.append([rule.step for rule in rules] + [m.cost for m in learned(model)])
    for rule in rules:
        rule.remove()
    x = next(iter(batches(device)))[0]
    frozen = network(way)
    frozen.load_state_dict(whole_state(network_of(run)))
    freeze_(frozen.eval())
    return costs, [whole(p.detach()).cpu() for p in values], frozen(x.cpu()).detach()


def whole_state(model):
    """State on the CPU, gathered where it is sharded."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options)


def network_of(run):
    model = getattr(run, "_orig_mod", getattr(run, "module", run))
    for i, block in enumerate(model.blocks):
        model.blocks[i] = getattr(block, "block", block)
    return model


def learned(model):
    return [m for m in model.modules() if isinstance(m, AnnealWeight | GaudiWeight)]


def agree(found, wanted, tolerance=1e-8):
    assert found[0] == wanted[0]
    for a, b in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)
    torch.testing.assert_close(found[2], wanted[2], rtol=0, atol=tolerance)


@contextlib.contextmanager
def one_process(device):
    """A group of this process alone."""
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def sharded(model):
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    return fully_shard(model)


@contextlib.contextmanager
def deterministic():
    """Results alike in each run, and fresh memory full of NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def place(device, monkeypatch):
    """The device of tensors, with its path."""
    if device == "path of devices":
        apart(monkeypatch)
        return "cpu"
    return device


@pytest.mark.parametrize(("way", "device"), cases(QUICK))
def test_every_mechanism_learns_as_plain_steps_do(way, device, monkeypatch):
    device = place(device, monkeypatch)
    wanted = trained(way, device)
    assert len(set(map(str, wanted[0]))) == (STEPS if way != "fixed" else 1)
    agree(trained(way, device, accumulated), wanted)
    agree(trained(way, device, Scaled(device)), wanted)
    for reentrant in (False, True):
        agree(trained(way, device, wrap=checkpointed(reentrant)), wanted)
    with deterministic():
        first, second = (trained(way, device) for _ in range(2))
    agree(first, second, 0)
    agree(first, wanted)


@pytest.mark.parametrize(("way", "device"), cases((("tiles", "cpu"),)))
def test_wrapped_networks_learn_as_they_do_by_themselves(way, device, monkeypatch):
    """In a process alone, for devices of which there is one; others are tested by two processes."""
    device = place(device, monkeypatch)
    wanted = trained(way, device)
    with one_process(device):
        for wrap in (nn.parallel.DistributedDataParallel, sharded):
            agree(trained(way, device, wrap=wrap), wanted)


@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
@pytest.mark.parametrize(("way", "device"), cases(()))
def test_compiled_networks_learn_as_they_do_by_themselves(way, device, monkeypatch):
    """In one graph for batches of any size, which projections and masks change little."""
    kinds = {"backend": "aot_eager"} if device != "cuda" else {}
    device = place(device, monkeypatch)
    torch.compiler.reset()
    wrap = partial(compiled, dynamic=True, **kinds)
    agree(trained(way, device, uneven, wrap), trained(way, device, uneven), 1e-6)
    torch.compiler.reset()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_graphs_of_cuda_learn_as_plain_steps_do(way):
    """Forward and backward pass are replayed; optimizer and rules act between them."""
    torch.compiler.reset()

    def step(model, x, y, optimizer):
        torch.compiler.cudagraph_mark_step_begin()
        plain(model, x, y, optimizer)

    wrap = partial(compiled, mode="reduce-overhead")
    agree(trained(way, "cuda", step, wrap), trained(way, "cuda"), 1e-6)
    torch.compiler.reset()
