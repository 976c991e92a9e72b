"""Tiles of a side, and groups of outputs that share their inputs, through a conversion."""

import copy
import pickle

import numpy as np
import pytest
import torch
from nn_models import Classifier, convnet, mlp
from test_nn_freezing import trained
from test_nn_model import packed

from structmat import GBLR, BlockLowRank, BlockSparse
from structmat.errors import BudgetError, InputError
from structmat.matrices import split_orders
from structmat.nn import (
    Anneal,
    AnnealWeight,
    Config,
    convert_,
    cost,
    freeze_,
    load_model,
    save_model,
)
from structmat.nn.anneal.projectors import Options, project
from structmat.nn.models.layer_types import structured_layers
from structmat.nn.starts.of_sides import Sides

GROUPS = {"group": 8}
SPARSE, RANKS = ({"kind": k, "tile": 8} for k in ("block_sparse", "block_low_rank"))
SIDES = {"groups": GROUPS, "sparse": SPARSE, "ranks": RANKS}
every = pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def check(matrix, sides):
    """The structure has the sides that were asked for."""
    inner = split_orders(matrix)[1]
    m, n = inner.shape
    if "group" in sides:
        assert isinstance(inner, GBLR)
        group, grain, live = sides["group"], min(sides["group"], 16), inner.to("numpy").coverage()
        assert live.max() <= 1
        for top in range(0, m, group):
            assert (live[top : top + group] == live[top]).all()
        changes = np.flatnonzero(np.diff(live, axis=1).any(0)) + 1
        assert not (changes % grain).any()
    elif sides["kind"] == "block_sparse":
        assert isinstance(inner, BlockSparse)
        assert inner.blocks.shape[1:] == (sides["tile"],) * 2
    else:
        assert isinstance(inner, BlockLowRank)
        for sizes, size in zip((inner.row_sizes, inner.col_sizes), (m, n), strict=True):
            assert sizes.sum() == size
            assert (sizes[:-1] == sides["tile"]).all()
            assert 0 < sizes[-1] <= sides["tile"]


def matrices(model):
    return [w.to_matrix() for weights in structured_layers(model).values() for w in weights]


NETWORKS = {
    "mlp": (mlp, (3, 64), {}),
    "parts": (Classifier, (2, 3, 16, 16), {"parts": packed}),
    "convolutions": (convnet, (2, 16, 8, 8), {}),
    "taps": (convnet, (2, 16, 8, 8), {"conv": "taps"}),
}
#: Every network with one kind, and every kind with the first network.
CELLS = [
    pytest.param(*(NETWORKS[n], SIDES[s]), id=f"{n}-{s}")
    for n, s in [("mlp", s) for s in SIDES]
    + [("parts", "groups"), ("convolutions", "ranks"), ("taps", "groups"), ("taps", "sparse")]
]


@pytest.mark.parametrize(("network", "sides"), CELLS)
def test_learned_structure_has_its_sides_and_stays_when_frozen(network, sides, tmp_path):
    build, shape, options = network
    x = torch.randn(shape)
    model = trained(build(), x, steps=4, learn=True, **sides, **options).eval()
    expected, before = model(x), cost(model, x)
    assert before.structured.relative_cost <= 0.2
    save_model(tmp_path / "learning.safetensors", model)
    again = load_model(tmp_path / "learning.safetensors", build()).eval()
    assert torch.equal(again(x), expected)
    for one, two in zip(model.modules(), again.modules(), strict=True):
        if isinstance(one, AnnealWeight):
            assert (one.tile, one.group) == (two.tile, two.group)
    freeze_(model)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert cost(model, x).structured.cost == before.structured.cost
    for matrix in matrices(model):
        check(matrix, sides)


@every
@pytest.mark.parametrize("start", ["scratch", "weights"])
def test_fixed_structure_has_its_sides(sides, start):
    model = mlp()
    report = convert_(model, Config(budget=0.25, learn=False, start=start, **sides))
    assert 0 < report.total.relative_cost <= 0.25
    for matrix in matrices(model):
        check(matrix, sides)
        if start == "scratch":
            dense = matrix.to_dense()
            assert (dense != 0).any(0).all()
            assert (dense != 0).any(1).all()
            assert 0.4 < float(dense.square().mean()) * 3 * dense.shape[1] < 2.5


@every
@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (17, 19)])
def test_few_rows_and_columns_have_sides(sides, shape):
    options = {"budget": 0.7, "min_features": 1, **sides}
    model = torch.nn.Sequential(torch.nn.Linear(*shape))
    convert_(model, Config(learn=False, start="weights", **options))
    assert 0 < cost(model).structured.relative_cost <= 0.7
    check(matrices(model)[0], sides)
    model = torch.nn.Sequential(torch.nn.Linear(*shape))
    trained(model, torch.randn(2, shape[0]), steps=4, learn=True, **options)
    freeze_(model)
    check(matrices(model)[0], sides)


@pytest.mark.parametrize("sides", [{"group": 32}, {"kind": "block_sparse", "tile": 32}])
@pytest.mark.parametrize("options", [{"learn": True}, {"learn": False, "start": "weights"}])
def test_budgets_below_one_tile_or_window_are_refused(sides, options):
    name = next(n for n in sides if n != "kind")
    with pytest.raises(
        BudgetError, match=rf"layer '.': .*at least .* {name} = 32 .*a smaller {name}"
    ):
        convert_(mlp(), Config(budget=0.05, **sides, **options))
    model = mlp()
    convert_(model, Config(budget=0.3, learn=True, **sides))
    with pytest.raises(BudgetError, match=rf"layer '.\.matrix' has .*smallest .* {name} = 32"):
        Anneal(model, torch.optim.SGD(model.parameters(), 1e-3), 0.05, total_steps=10)


@pytest.mark.parametrize(
    ("shape", "tile", "cap"), [((25, 11), 1, 234), ((12, 1), 14, 12), ((33, 17), 16, 500)]
)
def test_random_tiles_of_one_row_or_column_cost_no_more_than_their_entries(shape, tile, cap):
    plan = Sides("block_low_rank", tile).random(shape, cap)
    matrix = plan.draw(1.0, torch.Generator().manual_seed(0))
    assert matrix.cost == plan.cost <= cap
    dense = matrix.to_dense()
    assert dense.any(0).all()
    assert dense.any(1).all()
    mean = dense.square().sum().item() / dense.numel()
    assert 0.4 < mean < 1.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 0}, "group = 0; expected a whole number of at least 1"),
        ({"group": True}, "group = True; expected a whole number"),
        ({"kind": "block_sparse", "tile": 1.5}, "tile = 1.5; expected a whole number"),
        ({"tile": 16}, "tile = 16 with kind 'gblr'; expected kind block_sparse or block_low_rank"),
        ({"kind": "low_rank", "group": 4}, "group = 4 with kind 'low_rank'; expected kind gblr"),
        ({"group": 4, "learn": "gaudi"}, "group = 4 with learn = 'gaudi'; expected learn=True"),
    ],
)
def test_sides_that_a_kind_cannot_have_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Config(budget=0.1, **options)


def test_states_of_other_sides_are_refused():
    one, two = mlp(), mlp()
    convert_(one, Config(budget=0.2, group=8))
    convert_(two, Config(budget=0.2, group=16))
    with pytest.raises(InputError, match=r"gblr at 1228 with group 8, .* with group 16"):
        two.load_state_dict(one.state_dict())
    twin = copy.deepcopy(one)
    twin.load_state_dict(one.state_dict())


def test_weights_without_sides_are_those_of_earlier_versions():
    weight = AnnealWeight(torch.ones(20, 20), cap=40)
    del weight.tile, weight.group
    again = pickle.loads(pickle.dumps(weight))
    assert (again.tile, again.group, again.least) == (None, None, 0)
    again.load_state_dict(weight.state_dict())


@pytest.mark.parametrize("tile", [2, 128])
def test_states_of_small_tiles_have_one_size(tile):
    weight = AnnealWeight(torch.randn(128, 128), 8000, kind="block_low_rank", tile=tile)
    found = project(weight.kind, weight.values().numpy(), 8000, 8000, weight.present(),
                    Options(tile=tile))  # fmt: skip
    weight.take_(found, factored=True)
    assert weight.get_extra_state().numel() == weight.state_size
