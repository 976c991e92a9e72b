"""`freeze_`, `to_dense_` and `cost` on whole models."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from nn_models import Attention, Classifier, Conv1D, Twins, convnet, mlp
from test_nn_model import packed
from torch import nn

from structmat.errors import InputError
from structmat.nn import (
    Anneal,
    AnnealWeight,
    BudgetProjection,
    Config,
    GaudiLinear,
    GaudiWeight,
    PackedLinear,
    StructuredConv2d,
    StructuredLinear,
    StructuredWeight,
    convert_,
    cost,
    freeze_,
    parameter_groups,
    to_dense_,
)
from structmat.nn.starts.kinds import network_kinds


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


GAUDI = {"learn": "gaudi", "oversize": 2.0}


def trained(model, x, budget=0.2, steps=8, **options):
    """Converted, and trained until it meets the budget."""
    convert_(model, Config(budget=budget, **options), example=x)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, structure_lr=2e-2))
    if options.get("learn") == "gaudi":
        rule = BudgetProjection(model, optimizer, budget, total_steps=steps)
    else:
        rule = Anneal(model, optimizer, budget, total_steps=steps, every=0.25)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert 0 < rule.relative_cost <= budget
    return model


MODELS = {
    "mlp": (mlp, torch.randn(3, 64), {}),
    "packed": (Classifier, torch.randn(2, 3, 16, 16), {"parts": packed}),
    "convolutions": (convnet, torch.randn(2, 16, 8, 8), {}),
    "taps": (convnet, torch.randn(2, 16, 8, 8), {"conv": "taps"}),
    "twins": (Twins, torch.randn(3, 32), {}),
}
GAUDI_MODELS = {
    "shared masks": (convnet, torch.randn(2, 16, 8, 8), {"conv": "taps", "shared_masks": True}),
    "grid": (mlp, torch.randn(3, 64), {"options": {"width_init": "grid"}}),
    "tiles of rank 2": (
        mlp, torch.randn(3, 64), {"options": {"width_init": "grid", "rank": 2}},
    ),
}  # fmt: skip
ANNEALED_KINDS = ("block_sparse", "block_low_rank", "low_rank")
#: Name, network, input, settings of the conversion.
TRAINED = {
    **MODELS,
    **{kind: (mlp, torch.randn(3, 64), {"kind": kind, "learn": True}) for kind in ANNEALED_KINDS},
    **{
        f"gaudi {name}": (build, x, GAUDI | options)
        for name, (build, x, options) in (MODELS | GAUDI_MODELS).items()
    },
}


def scalars(model):
    return sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())


@pytest.mark.parametrize("name", TRAINED)
def test_frozen_models_compute_the_same_in_less_space(name):
    build, x, options = TRAINED[name]
    model = trained(build(), x, **options).eval()
    expected, before = model(x), cost(model, x)
    numbers = scalars(model)
    report = freeze_(model)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, GaudiWeight | AnnealWeight) for m in model.modules())
    assert not model.training
    after = cost(model, x)
    assert cost(model).structured == after.structured == report.total
    for old, new in zip(before.rows, after.rows, strict=True):
        assert new.storage <= old.storage  # orders of neighbours merge
        # Gaudi layers count all widths.
        assert new.cost <= old.cost if name.startswith("gaudi") else new.cost == old.cost
        assert replace(new, cost=old.cost, storage=old.storage) == old
    now = scalars(model)
    biases = sum(m.bias.numel() for m in model.modules() if getattr(m, "bias", None) is not None)
    assert now < numbers
    if not name.endswith("twins"):  # whose state names shared contents twice
        assert now <= before.everything.storage + biases
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("options", [{}, GAUDI], ids=["anneal", "gaudi"])
def test_frozen_layers_are_what_they_were(options):
    model = trained(Classifier(), torch.randn(2, 3, 16, 16), parts=packed, **options)
    bias = model.attention.qkv.bias
    freeze_(model)
    assert isinstance(model.stem, StructuredConv2d)
    assert isinstance(model.mlp[0], StructuredLinear)
    assert isinstance(model.attention.qkv, PackedLinear)
    assert all(isinstance(part, StructuredWeight) for part in model.attention.qkv.parts)
    assert model.attention.qkv.bias is bias
    assert model.training


@pytest.mark.parametrize("learn", [True, "gaudi"])
def test_freezing_keeps_ties_and_what_is_not_trained(learn):
    model = Twins()
    convert_(model, Config(budget=0.4, learn=learn), example=torch.zeros(2, 32))
    model.left.matrix.requires_grad_(False)
    freeze_(model)
    assert model.left.matrix is model.right.matrix
    assert model.both[0] is model.again
    assert not any(p.requires_grad for p in model.left.matrix.parameters())
    assert all(p.requires_grad for p in model.again.matrix.parameters())


def test_dead_blocks_are_dropped():
    model = nn.Sequential(GaudiLinear(32, 32, budget=0.5))
    with torch.no_grad():
        model[0].matrix.structure.row_width[1:] = 0.0
    freeze_(model)
    assert model[0].to_matrix().num_blocks == 1
    with torch.no_grad():
        model = nn.Sequential(GaudiLinear(32, 32, budget=0.5))
        model[0].matrix.structure.row_width.zero_()
    freeze_(model)
    assert torch.equal(model(torch.ones(2, 32)), model[0].bias.expand(2, 32))


@pytest.mark.parametrize("kind", network_kinds())
@pytest.mark.parametrize("conv", ["matrix", "taps"])
def test_dense_again(kind, conv):
    model, x = Classifier().eval(), torch.randn(2, 3, 16, 16)
    plain = [type(m) for m in model.modules()]
    names = list(model.state_dict())
    least = 3 if conv == "matrix" else 16
    config = Config(kind=kind, budget=0.4, parts=packed, conv=conv, min_features=least)
    report = convert_(model, config, example=x)
    expected, biases = model(x), model.stem.bias
    assert to_dense_(model).total == report.total
    assert [type(m) for m in model.modules()] == plain
    assert list(model.state_dict()) == names
    assert model.stem.bias is biases
    assert all(p.requires_grad for p in model.parameters())
    assert not model.training
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learn", [True, "gaudi"])
def test_dense_again_with_every_setting(learn):
    for conv in ("matrix", "taps"):
        model, x = convnet().eval(), torch.randn(2, 16, 8, 8)
        before = [repr(layer) for layer in model]
        convert_(model, Config(budget=0.4, conv=conv, learn=learn))
        expected = model(x)
        to_dense_(model)
        assert [repr(layer) for layer in model] == before
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_dense_weights_are_those_of_evaluation():
    model = nn.Sequential(GaudiLinear(32, 32, budget=0.5, sigma=2.0))
    x = torch.randn(2, 32)
    blurred, sharp = model.train()(x), model.eval()(x)
    assert not torch.allclose(blurred, sharp, atol=1e-3)
    to_dense_(model.train())
    assert model.training
    torch.testing.assert_close(model(x), sharp, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learn", [True, "gaudi"])
def test_dense_again_keeps_ties_and_undoes_hugging_face_s_layer(learn):
    model = Twins()
    convert_(model, Config(budget=0.4, learn=learn))
    to_dense_(model)
    assert model.left.weight is model.right.weight
    assert model.both[0] is model.again
    assert len(list(model.parameters())) == 5
    model, x = nn.Sequential(Conv1D(48, 32)), torch.randn(4, 32)
    convert_(model, Config(kind="block_sparse", budget=1.0, start="weights"))
    expected = model(x)
    to_dense_(model)
    assert type(model[0]) is nn.Linear
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("learn", [True, "gaudi"])
def test_half_precision_stays(learn):
    model = mlp().to(torch.float64)
    convert_(model, Config(budget=0.4, learn=learn))
    x = torch.randn(2, 64, dtype=torch.float64)
    expected = model.eval()(x)
    freeze_(model)
    torch.testing.assert_close(model(x), expected)
    to_dense_(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    model = mlp().to(torch.bfloat16)
    convert_(model, Config(budget=0.4, learn=learn))
    freeze_(model)
    to_dense_(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_nothing_to_freeze_or_to_undo():
    for change in (freeze_, to_dense_):
        with pytest.raises(InputError, match=r"Sequential has no .* layers; expected"):
            change(mlp())
        with pytest.raises(InputError, match="model is a int"):
            change(3)
        with pytest.raises(InputError, match="model is itself a GaudiLinear"):
            change(GaudiLinear(32, 32))


@pytest.mark.parametrize("kind", [*network_kinds(), "gaudi"])
def test_freezing_again_changes_nothing(kind):
    model, x = mlp(), torch.randn(3, 64)
    learn, kind = ("gaudi", "gblr") if kind == "gaudi" else (None, kind)
    convert_(model, Config(kind=kind, budget=0.3, learn=learn))
    expected, layer = model.eval()(x), model[0]
    report = freeze_(model)
    assert (model[0] is layer) == (kind != "gblr")
    assert [row.name for row in report.rows] == ["0", "2"]
    before = list(model.modules())
    assert freeze_(model) == report
    assert list(model.modules()) == before
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert freeze_(model[0]).rows[0].name == ""


def test_costs_of_a_dense_model():
    model, x = Classifier(), torch.randn(2, 3, 16, 16)
    report = cost(model, x)
    assert [(row.name, row.positions, row.cost) for row in report.rows] == [
        ("stem", 16, 32 * 48),
        ("attention.qkv", 16, 96 * 32),
        ("attention.proj", 16, 32 * 32),
        ("mlp.0", 16, 32 * 64),
        ("mlp.2", 16, 32 * 64),
        ("head", 1, 32 * 16),
    ]
    assert report.everything.cost == report.everything.dense_cost == 16 * 9728 + 512
    assert report.everything.storage == 9728 + 512
    assert report.everything.relative_cost == 1.0
    assert (report.structured.cost, report.structured.relative_cost) == (0, 0.0)
    grouped = cost(nn.Sequential(nn.Conv2d(8, 16, 3, groups=4)), torch.zeros(1, 8, 5, 5))
    assert (grouped.rows[0].cost, grouped.rows[0].positions) == (16 * 2 * 9, 9)
    assert cost(nn.Sequential(Conv1D(48, 32))).rows[0].shape == (48, 32)


def test_costs_of_a_mixture():
    model, x = Classifier(), torch.zeros(2, 3, 16, 16)
    config = Config(kind="low_rank", budget=0.5, parts=packed)
    report = convert_(model, config, lambda name, _: "attention" in name, example=x)
    now = cost(model, x)
    assert [row.kind for row in now.rows] == ["dense"] + ["low_rank"] * 2 + ["dense"] * 3
    assert now.structured == report.total
    assert now.everything.dense_cost == 16 * 9728 + 512
    assert now.everything.cost == now.everything.dense_cost - 16 * (4096 - 4 * 8 * 64)
    # Positions are those that the layers were given, unless an example counts them anew.
    assert [row.positions for row in cost(model).rows] == [1, 16, 16, 1, 1, 1]
    assert cost(model, torch.zeros(2, 3, 8, 8)).rows[1].positions == 4
    assert model.attention.proj.matrix.positions == 16
    assert "give an example" in str(cost(model))
    assert "give an example" not in str(now)


def test_shared_weights_are_counted_once():
    model, x = Twins(), torch.zeros(3, 32)
    assert [(row.shared_with, row.positions) for row in cost(model, x).rows] == [
        (("right",), 2),
        (("again",), 2),
    ]
    assert cost(model).everything.storage == 2 * 1024
    assert cost(model).rows[0].positions == 2
    convert_(model, Config(kind="low_rank", budget=0.5), example=x)
    assert [row.positions for row in cost(model, x).rows] == [2, 2]
    assert [row.positions for row in cost(model).rows] == [2, 2]


def test_costs_of_what_is_no_model():
    with pytest.raises(InputError, match="model is a list"):
        cost([mlp()])
    with pytest.raises(InputError, match="not initialised"):
        cost(nn.Sequential(nn.LazyLinear(3)))
    assert cost(nn.Sequential()).rows == ()
    assert cost(nn.Linear(4, 4)).rows[0].name == ""


def test_tables_are_aligned():
    model = Attention()
    convert_(model, Config(kind="low_rank", budget=0.5, parts=packed))
    head, *rows = str(cost(model)).splitlines()[:3]
    assert [len(row) for row in rows] == [len(head)] * 2
    assert head.split()[:3] == ["layer", "shape", "kind"]
    assert rows[0].split() == ["qkv", "96x32", "low_rank", "1", "1,536", "50.00%", "1,536", "-"]


@pytest.mark.parametrize("options", [{}, GAUDI], ids=["anneal", "gaudi"])
def test_copies_are_apart(options):
    model, x = trained(mlp(), torch.randn(2, 64), **options), torch.randn(2, 64)
    other, before = copy.deepcopy(model), type(model[0])
    freeze_(other)
    assert type(model[0]) is before
    assert type(other[0]) is StructuredLinear
    torch.testing.assert_close(other.eval()(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    assert math.isfinite(other(x).sum().item())
