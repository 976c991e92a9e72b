"""Two processes learn the structure that one does: DistributedDataParallel and FSDP2, over gloo."""

import itertools
import tempfile

import pytest
import torch
from processes import COUNT, process_group, run_together
from torch import nn
from torch.utils._pytree import tree_map_only

from structmat.nn import Anneal, AnnealWeight, Config, convert_, load_model, save_model

# By default the script of the guide, tests/nn/test_nn_devices_page.py, trains in both wrappers.
pytestmark = pytest.mark.slow

STEPS, SAVED = 10, (3, 5, 6)  # among runs, among blocks, and at the last projection
CASES = [("ddp", "gblr"), ("fsdp", "gblr"), ("ddp", "low_rank"), ("fsdp", "block_sparse")]
cases = pytest.mark.parametrize("case", CASES, ids=", ".join)


def network(kind, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(13, 21), nn.Tanh(), nn.Linear(21, 3), nn.Linear(3, 5))
    config = Config(budget=0.2, kind=kind, learn=True, min_features=3)
    convert_(model, config, generator=torch.Generator().manual_seed(seed))
    return model.double()


def wrapped(model, wrapper):
    if wrapper == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    from torch.distributed.fsdp import fully_shard

    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


class Training:
    def __init__(self, net, model):
        self.net, self.model = net, model
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.1)
        self.rule = Anneal(net, self.optimizer, 0.2, STEPS)
        self.costs = []

    def run(self, begin, end, rank=0, processes=1):
        g = torch.Generator().manual_seed(1)
        x = torch.randn(STEPS, 16, 13, dtype=torch.float64, generator=g)
        for batch in x[begin:end, rank::processes]:
            self.optimizer.zero_grad()
            (self.model(batch) - batch[:, :5]).square().mean().backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 0.5)
            self.optimizer.step()
            self.costs.append([weight.cost for weight in self.rule.weights])
        return self

    def state(self):
        """Everything, gathered on every process."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        whole = StateDictOptions(full_state_dict=True)
        parts = get_state_dict(self.model, self.optimizer, options=whole)
        state = dict(zip(("model", "optimizer"), parts, strict=True))
        state["rule"] = self.rule.state_dict()
        return tree_map_only(torch.Tensor, torch.clone, state)


def trained(wrapper, kind, rank, folder):
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    net = network(kind)
    training = Training(net, wrapped(net, wrapper))
    before = [id(p) for p in net.parameters()]
    saved = {}
    for begin, end in itertools.pairwise((0, *SAVED, STEPS)):
        training.run(begin, end, rank, COUNT)
        saved[end] = training.state()
    model, optimizer = get_state_dict(training.model, training.optimizer)
    path = f"{folder}/{wrapper}-{kind}"
    dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    # Into a network that has not begun, sharded or not.
    other = network(kind, seed=1)
    again = Training(other, wrapped(other, wrapper))
    model, optimizer = get_state_dict(again.model, again.optimizer)
    dcp.load({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    set_state_dict(again.model, again.optimizer, model_state_dict=model, optim_state_dict=optimizer)
    again.rule.load_state_dict(training.rule.state_dict())
    file = f"{folder}/{wrapper}-{kind}-{rank}.safetensors"
    save_model(file, net)
    plain = nn.Sequential(nn.Linear(13, 21), nn.Tanh(), nn.Linear(21, 3), nn.Linear(3, 5))
    x = torch.ones(2, 13, dtype=torch.float64)
    return {
        "costs": training.costs,
        "saved": saved,
        "same parameters": [id(p) for p in net.parameters()] == before,
        "read": again.state()["model"],
        "file": torch.equal(load_model(file, plain.double())(x), training.model(x)),
        "packed": [w.to_matrix().to_dense() for w in training.rule.weights],
    }


def work(rank, folder):
    with process_group(rank, folder):
        results = {case: trained(*case, rank, folder) for case in CASES}
        torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def results():
    """Results of each process, by case."""
    with tempfile.TemporaryDirectory() as folder:
        run_together(work, folder)
        yield [torch.load(f"{folder}/{rank}.pt") for rank in range(COUNT)]


@pytest.fixture(scope="module")
def single():
    """The same trainings in this process, with whole batches."""
    trainings = {}
    for kind in dict.fromkeys(kind for _, kind in CASES):
        net = network(kind)
        trainings[kind] = Training(net, net).run(0, STEPS)
    return trainings


def assert_same(actual, expected, atol=1e-6):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=atol)


@cases
def test_two_processes_learn_as_one_does(results, single, case):
    one = single[case[1]]
    for result in results:
        assert result[case]["costs"] == one.costs
        assert result[case]["same parameters"]
        for matrix, weight in zip(result[case]["packed"], one.rule.weights, strict=True):
            torch.testing.assert_close(matrix, weight.to_matrix().to_dense(), rtol=0, atol=1e-6)


@cases
def test_both_processes_end_alike(results, case):
    first, second = (result[case] for result in results)
    for step in (*SAVED, STEPS):
        assert_same(second["saved"][step]["model"], first["saved"][step]["model"], atol=0)


@cases
def test_checkpoints_are_read_by_what_has_not_begun(results, case):
    for result in results:
        assert_same(result[case]["read"], result[case]["saved"][STEPS]["model"], atol=0)
        assert result[case]["file"]


@pytest.mark.parametrize("step", SAVED)
@cases
def test_training_goes_on_in_one_process(results, single, case, step):
    from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

    state, one = results[0][case]["saved"][step], single[case[1]]
    net = network(case[1], seed=1)
    net.load_state_dict(state["model"])
    training = Training(net, net)
    set_optimizer_state_dict(net, training.optimizer, state["optimizer"])
    training.rule.load_state_dict(state["rule"])
    training.run(step, STEPS)
    assert training.costs == one.costs[step:]
    assert [w.is_factored for w in net.modules() if isinstance(w, AnnealWeight)] == [
        w.is_factored for w in one.rule.weights
    ]
    for weight, expected in zip(training.rule.weights, one.rule.weights, strict=True):
        torch.testing.assert_close(weight.values(), expected.values(), rtol=0, atol=1e-6)
