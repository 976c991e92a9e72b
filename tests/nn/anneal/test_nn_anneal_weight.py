"""Layers that learn their structure: products, matrices, moves, and what freezes from them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from annealed import (
    BUDGET,
    KINDS,
    advance_,
    converted,
    dense,
    every_stage,
    inputs,
    learned,
    projected,
    rotated,
    stages,
    weights_of,
)
from torch import nn

from structmat.errors import InputError, KindError, ShapeError
from structmat.matrices import GBLR, BlockLowRank, BlockSparse, Dense, LowRank, Product
from structmat.nn import AnnealLinear, AnnealWeight, cost, freeze_, to_dense_
from structmat.nn.anneal.projected import Projected
from structmat.nn.anneal.projectors import Options, project
from structmat.project.pursuit import pursue

MATRICES = {
    "gblr": GBLR,
    "ordered gblr": Product,
    "block_sparse": BlockSparse,
    "block_low_rank": BlockLowRank,
    "low_rank": LowRank,
}


def tensors(model):
    return [p.detach().clone() for p in model.parameters()]


@every_stage
def test_products_are_those_of_the_matrix(kind, stage, layer):
    model, x = learned(kind, stage, layer), inputs(layer)
    y = model(x)
    for weight in weights_of(model):
        matrix = weight.to_matrix()
        assert matrix.dtype == torch.float32
        W = matrix.to_dense()
        torch.testing.assert_close(weight.dense().detach(), W, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(weight.values(), W, rtol=1e-5, atol=1e-6)
        v = torch.randn(4, weight.shape[1])
        torch.testing.assert_close(weight(v).detach(), v @ W.T, rtol=1e-4, atol=1e-5)
        assert weight.cost == weight.projected.cost
        orders = sum(weight.shape) if kind == "ordered gblr" and stage != "dense" else 0
        blocks = weight.projected.matrix
        stored = (weight.cost if blocks is None else blocks.storage) + orders
        is_runs = weight.kind == "gblr" and stage == "support"
        assert weight.storage == (matrix.storage if is_runs else stored)
    reference = copy.deepcopy(model)
    report = to_dense_(reference)
    assert report.total.cost == cost(model).structured.cost
    assert not weights_of(reference)
    torch.testing.assert_close(reference(x), y, rtol=1e-4, atol=1e-5)


@every_stage
def test_freezing_keeps_the_outputs(kind, stage, layer):
    model, x = learned(kind, stage, layer), inputs(layer)
    y, before = model(x), [w.cost for w in weights_of(model)]
    exact = [w.to_matrix().cost for w in weights_of(model)]
    report = freeze_(model)
    assert not weights_of(model)
    torch.testing.assert_close(model(x), y, rtol=1e-4, atol=1e-5)
    assert report.total.cost == sum(exact)
    if stage == "factored":
        assert exact <= before
        assert report.total.cost <= BUDGET * report.total.dense_cost
    assert all(p.requires_grad for p in model.parameters())


@stages
def test_the_matrix_of_each_stage(kind, stage):
    [weight] = weights_of(learned(kind, stage))
    matrix, is_blocks = weight.to_matrix(), stage == "factored" and kind != "block_sparse"
    assert weight.is_factored == is_blocks
    whole = weight.projected.support.all() and not is_blocks
    assert stage != "dense" or whole
    assert type(matrix) is (Dense if whole else MATRICES[kind])
    caps = {"dense": 1.0, "support": 3.2 * BUDGET, "blocks": 2 * BUDGET, "factored": BUDGET}
    assert weight.cost <= caps[stage] * np.prod(weight.shape)
    assert (weight.values() == 0)[torch.from_numpy(~weight.projected.support)].all()


def test_blocks_stand_between_permutations():
    [weight] = weights_of(learned("ordered gblr", "factored"))
    rows, cols = weight.projected.order
    inner = next(c for c in weight.to_matrix().children if isinstance(c, GBLR))
    W = weight.values()
    torch.testing.assert_close(inner.to_dense(), W[rows][:, cols], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "stage", "dtype"), rotated(torch.float64, torch.float16, torch.bfloat16)
)
def test_other_dtypes(kind, stage, dtype):
    model, x = learned(kind, stage), inputs("linear")
    y = model(x)
    model.to(dtype)
    tolerance = {torch.float64: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    got = model(x.to(dtype))
    assert got.dtype == model[0].to_matrix().dtype == dtype
    torch.testing.assert_close(got.float(), y, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        model[0].to_matrix().to_dense(), model[0].weight, rtol=tolerance, atol=tolerance
    )
    torch.testing.assert_close(model.float()(x), y, rtol=tolerance, atol=tolerance)


@stages
def test_autocast(kind, stage):
    model, x = learned(kind, stage), inputs("linear")
    y = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(x)
        assert model[0].weight.dtype == torch.float32
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), y, rtol=0.1, atol=0.1)
    got.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    with pytest.raises(InputError, match="expected one dtype"):
        model(x.bfloat16())


@stages
def test_copies_moves_and_empty_memory(kind, stage):
    model, x = learned(kind, stage), inputs("linear")
    y, state = model(x), model.state_dict()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), y)
        with torch.no_grad():
            other[0].matrix.weight.zero_()
        assert torch.equal(model(x), y)
    assert torch.equal(model.eval()(x), model.train()(x))
    empty = copy.deepcopy(model).to("meta")
    assert empty(x.to("meta")).shape == y.shape
    empty.to_empty(device="cpu")
    empty.load_state_dict(state)
    assert torch.equal(empty(x), y)
    with torch.inference_mode():
        # Small blocks are then multiplied entry by entry, so sums have another order.
        torch.testing.assert_close(model(x), y)
    assert not list(model.buffers()), "wrappers of distributed training send buffers every step"


@stages
def test_any_number_of_vectors(kind, stage):
    model = learned(kind, stage)
    for shape in ((64,), (0, 64), (1, 64), (2, 3, 4, 64)):
        x = torch.randn(shape)
        expected = nn.functional.linear(x, model[0].weight, model[0].bias)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    for shape in ((), (3, 63)):
        with pytest.raises(ShapeError, match=r"expected \(…, 64\) for a weight of 56x64"):
            model(torch.ones(shape))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (1, 7), (7, 1), (13, 11)])
@pytest.mark.parametrize("kind", KINDS)
def test_small_shapes(kind, shape):
    """Caps from nothing to all, in every stage."""
    for cap in sorted({0, 1, max(shape) + 1, shape[0] * shape[1]}):
        weight = AnnealWeight(torch.randn(shape), cap, kind=kind.split()[-1])
        assert weight.cap <= shape[0] * shape[1]
        for share, factored in ((3.5, False), (2, False), (1, True)):
            if (most := int(share * weight.cap)) < shape[0] * shape[1]:
                weight.take_(projected(weight, kind, most), factored=factored)
            x = torch.randn(2, shape[1])
            expected = x @ weight.to_matrix().to_dense().T
            torch.testing.assert_close(weight(x).detach(), expected, rtol=1e-4, atol=1e-5)
        assert weight.cost <= cap
        assert weight.to_matrix().cost <= cap


def test_what_is_no_weight_is_refused():
    with pytest.raises(KindError, match="'monarch'; expected one of gblr, block_sparse"):
        AnnealWeight(torch.ones(2, 2), 1, kind="monarch")
    for bad in (torch.ones(2), torch.ones(2, 2, dtype=torch.int32), torch.ones(2, 2).cfloat()):
        with pytest.raises(InputError, match="expected a real matrix"):
            AnnealWeight(bad, 1)
    for cap in (-1, 1.5, True):
        with pytest.raises(InputError, match=r"cap = .*; expected a number of multiplications"):
            AnnealWeight(torch.ones(2, 2), cap)
    with pytest.raises(ShapeError, match="bias has shape"):
        AnnealLinear(AnnealWeight(torch.ones(2, 2), 1), torch.zeros(3))


def test_the_parameter_stays():
    """Optimizers and wrappers hold on to it."""
    model = converted("gblr")
    before = dict(model.named_parameters())
    for stage in ("support", "blocks", "factored"):
        advance_(model, "gblr", stage)
        assert all(p is before[n] for n, p in model.named_parameters())
    assert list(before) == ["0.bias", "0.matrix.weight"]


def test_a_structure_replaces_contents_by_a_dense_weight_again():
    [weight] = weights_of(learned("ordered gblr", "factored"))
    with torch.no_grad():
        weight.weight += 0.25
    W = weight.values()
    present = weight.present()
    rows, cols = present.order
    torch.testing.assert_close(torch.tensor(present.matrix.to_dense()), W[rows][:, cols])
    weight.take_(Projected(cost=W.numel(), support=np.ones(W.shape, bool)))
    assert not weight.is_factored
    torch.testing.assert_close(weight.dense().detach(), W)


def test_layers_tell_their_kind_and_cost():
    model = learned("gblr", "factored")
    text = repr(model)
    assert "56x64, kind='gblr', cap=358, relative_cost=0." in text
    assert "in_features=64, out_features=56, bias=True" in text
    assert "in_features=64, out_features=56, bias=False" in repr(AnnealLinear(model[0].matrix))


def test_dense_weights_begin_as_dense_layers_do():
    model, reference = converted("gblr"), dense("linear")
    assert model[0].weight is model[0].matrix.weight
    spread = (model[0].weight.std() / reference[0].weight.std()).detach()
    assert 0.25 < float(spread) < 0.35


def test_contents_fit_into_the_room_of_the_dense_weight(rng):
    """Contents of a single entry are two numbers."""
    W = rng.standard_normal((6, 8)).astype(np.float32)
    assert pursue(W, 47, charge=0.0)[0].storage > W.size
    given, options = Projected.whole(W.shape), Options(charge=0.0, orders=False)
    assert project("gblr", W, 47, 47, given, options).matrix.storage <= W.size
