"""State dicts and files of layers that learn: other models take their structure, or refuse it."""

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from annealed import (
    KINDS,
    STAGES,
    advance_,
    converted,
    dense,
    every_stage,
    inputs,
    learned,
    rotated,
    weights_of,
)

from structmat.errors import InputError
from structmat.matrices import GBLR
from structmat.nn import AnnealWeight, freeze_, load_model, save_model
from structmat.nn.anneal.projected import Projected
from structmat.nn.anneal.state import size_bound


def assert_same(a, b, x):
    """Equal outputs, and equal ground for the next projection, bit for bit."""
    assert torch.equal(a(x), b(x))
    for one, two in zip(weights_of(a), weights_of(b), strict=True):
        assert one.is_factored == two.is_factored
        assert torch.equal(one.weight, two.weight)
        first, second = one.present(), two.present()
        assert np.array_equal(first.support, second.support)
        for at, other in zip(first.order, second.order, strict=True):
            assert np.array_equal(at, other)
        assert (first.cost, first.side, first.price) == (second.cost, second.side, second.price)
        if isinstance(first.matrix, GBLR):
            assert np.array_equal(first.matrix.to_dense(), second.matrix.to_dense())


def trained_(model, x):
    """One step, so that contents are not those of the last projection."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(x).square().sum().backward()
    optimizer.step()
    return model


@every_stage
def test_a_new_network_takes_the_structure(kind, stage, layer):
    x = inputs(layer)
    model = trained_(learned(kind, stage, layer), x)
    other = converted(kind, layer, seed=1)
    places = dict(other.named_parameters())
    other.load_state_dict(model.state_dict())
    assert_same(model, other, x)
    assert all(p is places[n] for n, p in other.named_parameters())
    if kind != "ordered gblr":  # whose orders are drawn here
        later = STAGES[min(STAGES.index(stage) + 1, 3)]
        assert_same(advance_(model, kind, later), advance_(other, kind, later), x)


def through_torch(a, b, path):
    file = io.BytesIO()
    torch.save(a.state_dict(), file)
    file.seek(0)
    b.load_state_dict(torch.load(file, weights_only=True), strict=True)


def through_safetensors(a, b, path):
    from safetensors.torch import load_file, save_file

    save_file(a.state_dict(), path)
    b.load_state_dict(load_file(path), assign=True)


def through_distributed(a, b, path):
    from torch.distributed import checkpoint as dcp

    dcp.save({"model": a.state_dict()}, checkpoint_id=path)
    state = b.state_dict()
    dcp.load({"model": state}, checkpoint_id=path)
    b.load_state_dict(state)


WAYS = {
    "torch": through_torch,
    "safetensors": through_safetensors,
    "distributed": through_distributed,
}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize(("kind", "stage", "way"), rotated(*WAYS))
def test_every_way_of_saving(kind, stage, way, tmp_path):
    """Into a network in another stage as well; states have one size in all stages."""
    model, x = trained_(learned(kind, stage), inputs("linear")), inputs("linear")
    others = converted(kind, seed=1), learned(kind, "factored", seed=2)
    for i, other in enumerate(others):
        WAYS[way](model, other, str(tmp_path / f"{i}"))
        assert_same(model, other, x)


@every_stage
def test_whole_networks_in_files(kind, stage, layer, tmp_path):
    model, x = trained_(learned(kind, stage, layer), inputs(layer)), inputs(layer)
    weights_of(model)[0].positions = 5
    weights_of(model)[0].weight.requires_grad_(False)
    save_model(tmp_path / "model.safetensors", model)
    other = load_model(tmp_path / "model.safetensors", dense(layer, 1))
    assert_same(model, other, x)
    for one, two in zip(weights_of(model), weights_of(other), strict=True):
        assert (one.cap, one.kind, one.positions) == (two.cap, two.kind, two.positions)
        assert one.weight.requires_grad == two.weight.requires_grad
    for frozen in (model, other):
        freeze_(frozen)
    assert torch.equal(model(x), other(x))


def test_means_of_equal_structures():
    for kind in KINDS:
        a = learned(kind, "factored")
        b = copy.deepcopy(a)
        with torch.no_grad():
            b[0].matrix.weight.mul_(3)
        x = inputs("linear")
        mean = {n: 0.5 * v + 0.5 * b.state_dict()[n] for n, v in a.state_dict().items()}
        middle = converted(kind, seed=1)
        middle.load_state_dict(mean)
        assert torch.equal(middle[0].matrix.weight, 2 * a[0].matrix.weight)
        assert middle(x).shape == a(x).shape
    other = learned("gblr", "support", seed=1).state_dict()
    state = learned("gblr", "support").state_dict()
    with pytest.raises(InputError, match="wrong checksum"):
        middle.load_state_dict({n: 0.5 * v + 0.5 * other[n] for n, v in state.items()})


def refusals():
    model = converted("gblr")
    narrower = copy.deepcopy(model)
    narrower[0].matrix.cap = 7
    yield narrower, model, "a weight of 56x64 that learns gblr at 7, and the model .* at 358"
    yield converted("low_rank"), model, "learns low_rank at 358, and the model .* learns gblr"
    frozen = learned("gblr", "factored")
    freeze_(frozen)
    yield frozen, model, r"0\.matrix: .*freeze both or neither"
    yield model, frozen, r"0\.matrix"


@pytest.mark.parametrize("case", range(4))
def test_other_weights_are_refused(case):
    there, here, message = list(refusals())[case]
    x, state = inputs("linear"), there.state_dict()
    before = here(x)
    with pytest.raises((InputError, RuntimeError), match=message):
        here.load_state_dict(state)
    if "matrix.weight" not in state:
        assert here(x).shape == before.shape


@pytest.mark.parametrize("shape", [(56, 64), (1, 300), (300, 1), (40000, 3)])
@pytest.mark.parametrize("kind", ["gblr", "block_sparse", "block_low_rank", "low_rank"])
def test_states_have_one_size(kind, shape):
    """Blocks of two multiplications, as many as a search may have, and all orders."""
    m, n = shape
    cap = m * n // 10
    weight = AnnealWeight(torch.zeros(shape), cap, kind=kind)
    size = weight.get_extra_state().numel()
    assert size == size_bound(shape, cap, kind)
    orders = {"row_order": np.arange(m)[::-1].copy(), "col_order": np.arange(n)[::-1].copy()}
    found = Projected(cost=10**9, support=np.ones(shape, bool), price=1e-300 / 3, **orders)
    weight.follow(replace(found, side=16), factored=False)
    assert weight.get_extra_state().numel() == size
    if kind == "gblr":
        count = 3 * cap // 2
        at = np.arange(count)
        one, values = np.ones_like(at), np.full(count, 1 / 3, np.float32)
        blocks = GBLR(at % m, one, values, at % n, one, values, shape=shape)
        for factored in (False, True):
            weight.follow(replace(found, matrix=blocks), factored=factored)
            if not factored or count <= m * n // 2:
                assert weight.get_extra_state().numel() == size


def test_a_search_beyond_the_bound_is_saved_as_well():
    weight = AnnealWeight(torch.zeros(6, 6), 2)
    at = np.arange(40) % 6
    one, values = np.ones_like(at), np.full(40, 0.5, np.float32)
    blocks = GBLR(at, one, values, at, one, values, shape=(6, 6))
    weight.follow(Projected(cost=80, support=blocks.coverage() > 0, matrix=blocks), factored=False)
    other = AnnealWeight(torch.ones(6, 6), 2)
    other.load_state_dict(weight.state_dict())
    assert other.projected.matrix.num_blocks == 40
