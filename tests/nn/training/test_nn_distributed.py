"""Two processes give what one does: DistributedDataParallel and FSDP2, over gloo on this machine.

All distributed cases run in one pair of processes, each of which has half of every batch.
Where widths are in single precision, single precision's rounding is what is left to differ.
"""

import itertools

import numpy as np
import pytest
import torch
from processes import COUNT, process_group, run_together
from torch import distributed, nn
from torch.utils._pytree import tree_map_only

from structmat import LowRank
from structmat.nn import (
    BudgetProjection,
    GaudiLinear,
    GaudiWeight,
    SigmaSchedule,
    SoftThreshold,
    parameter_groups,
)
from structmat.nn.structured.layers import StructuredLinear
from structmat.nn.training.revive import revive_
from structmat.nn.training.weight_grad import take_grad

STEPS, SAVED, REVIVED = 6, 2, 3  # the checkpoint lies just before the first revival

# Parameters of an FSDP2 group have one dtype, so widths of another are a group of their own.
APART = "fsdp with widths apart"
CASES = list(itertools.product(("ddp", "fsdp", APART), ("budget", "threshold")))
cases = pytest.mark.parametrize("case", CASES, ids=", ".join)


class Net(nn.Module):
    """Layers with 5, 7, 3 and 1 blocks, which two processes cannot share evenly."""

    def __init__(self, widths=torch.float64):
        super().__init__()
        options = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        random = {"width_init": "uniform", **options}
        factors = np.random.default_rng(0).normal(size=(2, 12, 3)) / 3
        self.fixed = StructuredLinear(LowRank(*factors))
        self.first = GaudiLinear(12, 10, num_blocks=5, product="assembled", **random)
        self.second = GaudiLinear(10, 9, num_blocks=7, max_width=5, product="factors", **random)
        self.one = GaudiLinear(9, 4, num_blocks=1, rank=2, width_init=0.8, **options)
        self.dead = GaudiLinear(9, 4, bias=False, num_blocks=3, width_init=0.0, **options)
        for structure in self.structures():
            structure.to(widths)

    def structures(self):
        return [layer.matrix.structure for layer in self.children() if layer is not self.fixed]

    def forward(self, x):
        x = torch.tanh(self.second(torch.tanh(self.first(self.fixed(x)))))
        return self.one(x) + self.dead(x)


def wrapped(net, wrapper):
    if wrapper == "ddp":
        return nn.parallel.DistributedDataParallel(net)
    from torch.distributed.fsdp import fully_shard

    for module in net.structures() if wrapper == APART else net.children():
        fully_shard(module)
    return fully_shard(net)


def widths_of(wrapper):
    return torch.float32 if wrapper == APART else torch.float64


def batches():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, 16, 12, dtype=torch.float64, generator=g)
    return x, torch.randn(STEPS, 16, 4, dtype=torch.float64, generator=g)


class Training:
    """A network, its optimizer and what follows the optimizer's steps."""

    def __init__(self, net, model, rule):
        self.net, self.model = net, model
        self.optimizer = torch.optim.AdamW(parameter_groups(net, lr=0.02, structure_lr=0.02))
        if rule == "budget":
            self.rule = BudgetProjection(
                net, self.optimizer, 0.3, STEPS, ramp=0.5, revive_every=REVIVED
            )
        else:
            self.rule = SoftThreshold(net, self.optimizer, 1.0, target=0.45, freeze=True)
        self.schedule = SigmaSchedule(net, self.optimizer, STEPS, start=2.0, stop=20.0)
        self.losses, self.costs = [], []

    def run(self, begin, end, rank=0, processes=1):
        for x, y in zip(*(b[begin:end, rank::processes] for b in batches()), strict=True):
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.detach())
            self.costs.append([weight.cost for weight in self.rule.weights])
        return self

    def checkpoint(self):
        """Everything, gathered on every process."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        whole = StateDictOptions(full_state_dict=True)
        model, optimizer = get_state_dict(self.model, self.optimizer, options=whole)
        rules = {"rule": self.rule.state_dict(), "schedule": self.schedule.state_dict()}
        state = {"model": model, "optimizer": optimizer, **rules}
        return tree_map_only(torch.Tensor, torch.clone, state)  # training goes on in place

    @classmethod
    def resumed(cls, state, widths, rule):
        """In one process, from a checkpoint of two; the rule begins on the loaded model."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        net = Net(widths)
        net.load_state_dict(state["model"])
        training = cls(net, net, rule)
        set_optimizer_state_dict(net, training.optimizer, state["optimizer"])
        training.rule.load_state_dict(state["rule"])
        training.schedule.load_state_dict(state["schedule"])
        return training


def trained(wrapper, rule, rank):
    """What a process has to say of one case."""
    net = Net(widths_of(wrapper))
    training = Training(net, wrapped(net, wrapper), rule)
    before = [id(p) for p in net.parameters()]
    training.run(0, SAVED, rank, COUNT)
    saved = training.checkpoint()
    training.run(SAVED, STEPS, rank, COUNT)
    if rank == 0:
        repr(net)  # must not wait for the other process
    losses = torch.stack(training.losses)
    distributed.all_reduce(losses)
    held = [id(p) for group in training.optimizer.param_groups for p in group["params"]]
    return {
        "losses": losses / COUNT,
        "costs": training.costs,
        "sigma": net.first.matrix.sigma,
        "saved": saved,
        "state": training.checkpoint()["model"],
        "same parameters": [id(p) for p in net.parameters()] == before,
        "all optimized": sorted(held) == sorted(before),
        "packed": [torch.as_tensor(w.to_matrix().to_dense()) for w in training.rule.weights],
    }


def dtypes_in_half_precision():
    """Of the widths and of the output in a forward pass whose parameters are cast to bfloat16."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    layer = GaudiLinear(12, 8, num_blocks=5, width_init="uniform", product="factors")
    seen = []
    layer.matrix.structure.register_forward_hook(lambda *call: seen.append(call[2][0].dtype))
    fully_shard(layer.matrix.structure)
    fully_shard(layer, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    y = layer(torch.ones(2, 12))
    y.sum().backward()
    return [*seen, y.dtype]


def revived_after_overflow(rank):
    """How many blocks start anew where only the first process has lost the gradient."""
    weight = GaudiWeight((4, 4), num_blocks=2, width_init=0.0)
    weight.weight_grad = torch.full((4, 4), torch.inf if rank == 0 else 1.0)
    return revive_(weight)


def taken_where_run(rank):
    """Gradients of layers that ran in no process, in the first and in both."""
    found = []
    for runs_in in ([], [0], [0, 1]):
        weight = GaudiWeight((2, 3))
        if rank in runs_in:
            weight.weight_grad = torch.full((2, 3), 1.0 + rank)
        found.append(take_grad(weight))
    return found


def work(rank, folder):
    with process_group(rank, folder):
        results = {case: trained(*case, rank) for case in CASES}
        results["dtypes"] = dtypes_in_half_precision()
        results["revived"] = revived_after_overflow(rank)
        results["taken"] = taken_where_run(rank)
        torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of each process, by case."""
    folder = tmp_path_factory.mktemp("processes")
    run_together(work, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(COUNT)]


@pytest.fixture(scope="module")
def single():
    """The same trainings in this process, with whole batches."""
    trainings = {}
    for widths, rule in {(widths_of(wrapper), rule) for wrapper, rule in CASES}:
        net = Net(widths)
        trainings[widths, rule] = Training(net, net, rule).run(0, STEPS)
    return trainings


def of(single, case):
    return single[widths_of(case[0]), case[1]]


def assert_same(actual, expected, atol=1e-6):
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )


@cases
def test_two_processes_train_as_one_does(results, single, case):
    one, two = of(single, case), results[0][case]
    torch.testing.assert_close(two["losses"], torch.stack(one.losses), rtol=0, atol=1e-6)
    assert two["costs"] == one.costs
    assert two["sigma"] == one.net.first.matrix.sigma == 20.0
    assert_same(two["state"], one.net.state_dict())
    for matrix, weight in zip(two["packed"], one.rule.weights, strict=True):
        torch.testing.assert_close(matrix, weight.to_matrix().to_dense(), rtol=0, atol=1e-6)


@cases
def test_both_processes_end_alike(results, case):
    first, second = (result[case] for result in results)
    assert_same(second["state"], first["state"], atol=0)
    assert first["costs"] == second["costs"]


@cases
def test_parameters_are_never_replaced(results, case):
    for result in results:
        assert result[case]["same parameters"]
        assert result[case]["all optimized"]


@cases
def test_checkpoints_load_in_one_process(results, single, case):
    net = Net(widths_of(case[0]))
    net.load_state_dict(results[0][case]["state"])
    x = batches()[0][0]
    expected = of(single, case).net.eval()(x)
    torch.testing.assert_close(net.eval()(x), expected, rtol=0, atol=1e-6)


@cases
def test_training_goes_on_in_one_process(results, single, case):
    one, state = of(single, case), results[0][case]["saved"]
    training = Training.resumed(state, widths_of(case[0]), case[1]).run(SAVED, STEPS)
    assert training.costs == one.costs[SAVED:]
    assert_same(training.net.state_dict(), one.net.state_dict())
    assert training.rule.state_dict() == one.rule.state_dict()
    assert training.schedule.state_dict() == one.schedule.state_dict()


def test_the_cases_revive_and_freeze(single):
    """What the trainings are to cover does take place in them."""
    budget, threshold = single[torch.float64, "budget"], single[torch.float64, "threshold"]
    dead = [costs[-1] for costs in budget.costs]
    assert dead[REVIVED - 2] == 0 < dead[REVIVED - 1]
    assert threshold.rule.state_dict()["frozen"]
    changes = [a != b for a, b in itertools.pairwise(threshold.costs)]
    assert changes[0]
    assert not any(changes[SAVED - 1 :])


def test_a_group_of_their_own_keeps_widths_precise(results):
    assert results[0]["dtypes"] == [torch.float32, torch.bfloat16]


def test_processes_skip_a_revival_together(results):
    assert [result["revived"] for result in results] == [0, 0]


def test_gradients_are_summed_over_processes_that_have_one(results):
    for result in results:
        nowhere, first, both = result["taken"]
        assert nowhere is None
        assert torch.equal(first, torch.ones(2, 3))
        assert torch.equal(both, torch.full((2, 3), 3.0))


@pytest.mark.parametrize("product", ["assembled", "factors"])
@pytest.mark.parametrize("max_width", [None, 5])
def test_dead_blocks_stay_in_the_graph(product, max_width):
    """DistributedDataParallel waits for the gradient of every parameter."""
    layer = GaudiLinear(9, 7, num_blocks=3, width_init=0.0, max_width=max_width, product=product)
    layer(torch.ones(2, 9)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
