"""`convert_` on whole models: what it replaces, within the budget, and what it refuses."""

import math

import pytest
import torch
from nn_models import Attention, Classifier, Conv1D, Idle, Tied, Twins, convnet, mlp
from torch import nn

from structmat.errors import BudgetError, InputError, KindError, StructmatError
from structmat.nn import (
    AnnealConv2d,
    AnnealLinear,
    AnnealWeight,
    Config,
    GaudiConv2d,
    GaudiLinear,
    GaudiWeight,
    PackedLinear,
    StructuredConv2d,
    StructuredLinear,
    StructuredWeight,
    convert_,
    cost,
)
from structmat.nn.starts.kinds import network_kinds

FIXED = [kind for kind in network_kinds() if kind != "gblr"]
EXACT = {"kind": "block_sparse", "start": "weights", "budget": 1.0}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def snapshot(model):
    """Everything that a refused conversion must leave alone."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    return modules, parameters, [m.training for m in model.modules()]


def assert_untouched(model, before):
    modules, parameters, modes = before
    assert dict(model.named_modules(remove_duplicate=False)) == modules
    now = dict(model.named_parameters())
    assert now.keys() == parameters.keys()
    for name, (parameter, values) in parameters.items():
        assert now[name] is parameter
        assert torch.equal(parameter.isnan(), values.isnan())
        assert torch.equal(parameter.nan_to_num(), values.nan_to_num())
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())


def spent(report):
    return sum(row.positions * row.cost for row in report.rows)


def allowed(report, budget):
    return budget * sum(row.positions * math.prod(row.shape) for row in report.rows)


@pytest.mark.parametrize("start", ["scratch", "weights"])
@pytest.mark.parametrize("kind", FIXED)
def test_fixed_structures_meet_the_budget_and_train(kind, start):
    model = mlp()
    config = Config(kind=kind, budget=0.3, start=start)
    report = convert_(model, config, example=torch.zeros(2, 64))
    assert [row.name for row in report.rows] == ["0", "2"]
    assert [skip.name for skip in report.skipped] == ["4"]
    assert 0 < spent(report) <= allowed(report, 0.3)
    for row in report.rows:
        layer = model.get_submodule(row.name)
        assert isinstance(layer, StructuredLinear)
        assert row.kind == kind
        assert row.shape == (layer.out_features, layer.in_features)
        assert row.cost == layer.matrix.cost
        assert row.storage == layer.matrix.storage
        assert (row.error is None) == (start == "scratch")
    model(torch.randn(5, 64)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.numel())


@pytest.mark.parametrize("kind", ["gblr", "block_sparse", "block_low_rank", "low_rank"])
@pytest.mark.parametrize("start", ["scratch", "weights"])
def test_learned_structures_begin_dense(kind, start):
    model = mlp()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    report = convert_(model, Config(budget=0.2, kind=kind, start=start, learn=True))
    assert report.total.relative_cost == 1
    assert {row.kind for row in report.rows} == {kind}
    assert "begun dense; Anneal brings the multiplications down to 20.00%" in str(report)
    for i in (0, 2):
        assert isinstance(model[i], AnnealLinear)
        assert model[i].matrix.cap == math.floor(0.2 * before[f"{i}.weight"].numel())
        now, old = model[i].weight, before[f"{i}.weight"]
        if start == "weights":
            assert torch.equal(now, old)
        else:  # small: contents that training does not need soon end below those that it does
            assert now.std().item() == pytest.approx(0.3 * old.std().item(), rel=0.1)
        assert torch.equal(model[i].bias, before[f"{i}.bias"])


def test_gaudi_layers_begin_above_the_budget():
    model = mlp()
    report = convert_(model, Config(budget=0.2, learn="gaudi", oversize=2.5))
    assert isinstance(model[0], GaudiLinear)
    assert isinstance(model[2], GaudiLinear)
    assert 0.4 < report.total.relative_cost <= 0.5
    config = Config(budget=0.9, learn="gaudi")
    assert convert_(mlp(), config).total.relative_cost <= 1.0
    assert "brings the multiplications down to 20.00%" in str(report)


def test_gaudi_layers_begin_within_their_cap():
    for outputs, inputs, budget in ((16, 1024, 0.4), (768, 16, 0.9), (96, 64, 0.1)):
        for options in ({}, {"width_init": "grid"}):
            model = nn.Sequential(nn.Linear(inputs, outputs))
            config = Config(budget=budget, learn="gaudi", options=options)
            total = convert_(model, config).total
            assert 0.9 * budget <= total.relative_cost <= budget
    options = {"rank": 9, "width_init": "grid"}
    with pytest.raises(BudgetError, match=r"layer '0': grid of rank 9 .* at most 614"):
        convert_(mlp(), Config(budget=0.1, learn="gaudi", options=options))


@pytest.mark.parametrize("learn", ["gaudi", False])
@pytest.mark.parametrize("budget", [0.1, 0.03])  # of 6144; m + n are 160
def test_gblr_begins_with_strips_or_what_else_reaches_everything(learn, budget):
    model = nn.Sequential(nn.Linear(64, 96))
    config = Config(budget=budget, learn=learn)
    planned = convert_(model, config, dry_run=True)
    report = convert_(model, config)
    A = model[0].to_matrix()
    counted = A.storage if learn == "gaudi" else A.cost
    assert report.total.cost == planned.total.cost == counted <= budget * 6144
    assert (A.coverage().sum(0) > 0).all()
    assert (A.coverage().sum(1) > 0).all()
    # With one multiplication more a strip, those of 3 % would miss rows or columns.
    grid = learn == "gaudi" and budget == 0.03
    assert A.num_blocks == (1 if grid else 96 if budget == 0.1 else 64)
    assert (A.row_width.max() == 1 or A.col_width.max() == 1) != grid


def test_gblr_need_not_be_learned():
    model = mlp()
    report = convert_(model, Config(kind="gblr", learn=False, budget=0.2, start="weights"))
    assert isinstance(model[0], StructuredLinear)
    assert report.total.relative_cost <= 0.2


@pytest.mark.parametrize("learn", ["gaudi", None])
def test_reported_errors_are_those_of_the_weights(learn):
    model = mlp().eval()
    old = [model[0].weight.detach().clone(), model[2].weight.detach().clone()]
    report = convert_(model, Config(budget=0.4, learn=learn, start="weights"))
    for row, before in zip(report.rows, old, strict=True):
        now = model.get_submodule(row.name).weight
        assert row.error == pytest.approx(((now - before).norm() / before.norm()).item(), rel=1e-3)
        assert row.error < 0.8


@pytest.mark.parametrize(
    ("kind", "learn"), [*((k, False) for k in network_kinds()), ("gblr", "gaudi")]
)
def test_random_weights_have_the_size_of_torch_s_own(kind, learn):
    model = nn.Sequential(nn.Linear(64, 64), nn.Conv2d(32, 32, 3), Conv1D(64, 64)).eval()
    dense = [layer.weight.square().mean().item() for layer in model]
    for conv in ("matrix", "taps"):
        copy = nn.Sequential(nn.Linear(64, 64), nn.Conv2d(32, 32, 3), Conv1D(64, 64)).eval()
        convert_(copy, Config(kind=kind, budget=0.4, conv=conv, learn=learn))
        for layer, size in zip(copy, dense, strict=True):
            assert layer.weight.square().mean().item() == pytest.approx(size, rel=0.35)


@pytest.mark.parametrize("conv", ["matrix", "taps"])
def test_an_exact_conversion_changes_nothing(conv):
    """Layer by layer: settings, column orders, biases and packing are those of before."""
    models = [
        (convnet(), torch.randn(2, 16, 8, 8)),
        (Classifier(), torch.randn(2, 3, 16, 16)),
        (nn.Sequential(Conv1D(48, 32), nn.Tanh(), Conv1D(32, 48)), torch.randn(3, 7, 32)),
    ]
    for model, x in models:
        expected = model(x)
        config = Config(**EXACT, conv=conv, min_features=3, parts=packed)
        report = convert_(model, config, example=x)
        assert report.skipped == ()
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
        assert all(row.error < 1e-6 for row in report.rows)


def packed(name, module):
    return 3 if name.endswith("qkv") else 1


def test_packed_weights_become_parts():
    model = Attention()
    bias = model.qkv.bias
    report = convert_(model, Config(kind="low_rank", budget=0.5, start="weights", parts=packed))
    assert isinstance(model.qkv, PackedLinear)
    assert [part.shape for part in model.qkv.parts] == [(32, 32)] * 3
    assert model.qkv.bias is bias
    assert [row.shape for row in report.rows] == [(96, 32), (32, 32)]
    assert [row.cost for row in report.rows] == [3 * 8 * 64, 8 * 64]
    weight, x = model.qkv.weight, torch.randn(4, 5, 32)
    torch.testing.assert_close(model.qkv(x), nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("shared", [False, True])
def test_taps_may_share_their_masks(shared):
    model = convnet()
    config = Config(budget=0.3, learn="gaudi", conv="taps", shared_masks=shared)
    report = convert_(model, config, example=torch.zeros(1, 16, 8, 8))
    for i, taps in ((0, 9), (2, 3), (4, 9)):
        assert isinstance(model[i], GaudiConv2d)
        assert len(model[i].taps) == taps
        assert len({id(tap.structure) for tap in model[i].taps}) == (1 if shared else taps)
    assert [row.positions for row in report.rows] == [64, 64, 9]
    assert report.rows[0].shape == (32, 16, 3, 3)
    assert spent(report) <= allowed(report, 0.6)
    model(torch.randn(2, 16, 8, 8)).sum().backward()


def test_taps_may_each_begin_dense():
    model = convnet()
    report = convert_(model, Config(budget=0.3, conv="taps"), example=torch.zeros(1, 16, 8, 8))
    for i, taps in ((0, 9), (2, 3), (4, 9)):
        assert isinstance(model[i], AnnealConv2d)
        assert len(model[i].taps) == taps
    assert [row.positions for row in report.rows] == [64, 64, 9]
    assert report.rows[0].shape == (32, 16, 3, 3)
    assert spent(report) == allowed(report, 1.0)
    model(torch.randn(2, 16, 8, 8)).sum().backward()


def test_fixed_convolutions():
    model = convnet()
    report = convert_(model, Config(kind="monarch", budget=0.4), example=torch.zeros(1, 16, 8, 8))
    assert isinstance(model[0], StructuredConv2d)
    assert spent(report) <= allowed(report, 0.4)
    assert model(torch.randn(2, 16, 8, 8)).shape == (2, 16, 3, 3)


@pytest.mark.parametrize(("learn", "kind"), [(True, AnnealWeight), ("gaudi", GaudiWeight)])
def test_positions_are_counted_on_the_example_and_kept(learn, kind):
    model = Classifier()
    config = Config(budget=0.3, learn=learn, parts=packed)
    report = convert_(model, config, example=torch.zeros(2, 3, 8, 16))
    assert {row.name: row.positions for row in report.rows} == {
        "stem": 8,
        "attention.qkv": 8,
        "attention.proj": 8,
        "mlp.0": 8,
        "mlp.2": 8,
        "head": 1,
    }
    weights = [m for m in model.modules() if isinstance(m, kind)]
    assert [w.positions for w in weights] == [8] * 7 + [1]
    assert not any("example" in note for note in report.notes)
    plain = convert_(Classifier(), Config(budget=0.3))
    assert {row.positions for row in plain.rows} == {1}
    assert "without an example" in str(plain)


def test_dtype_device_modes_and_biases_stay():
    model = mlp().to(torch.bfloat16)
    model[0].eval()
    model[2].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    biases = model[0].bias, model[2].bias
    for kind, learn in (("low_rank", False), ("gblr", False), ("gblr", True), ("gblr", "gaudi")):
        convert_(model, Config(kind=kind, budget=0.5, start="weights", learn=learn))
        assert (model.training, model[0].training, model[2].training) == (True, False, True)
        assert (model[0].bias, model[2].bias) == biases
        contents = [p for n, p in model[0].named_parameters() if "structure" not in n]
        assert {p.dtype for p in contents} == {torch.bfloat16}
        assert all(p.requires_grad for p in model[0].parameters())
        assert not any(p.requires_grad for p in model[2].parameters())
        assert model(torch.randn(3, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16
        model[0], model[2] = nn.Linear(64, 96), nn.Linear(96, 48)
        model.to(torch.bfloat16)[0].eval()
        model[2].requires_grad_(False)
        biases = model[0].bias, model[2].bias


@pytest.mark.parametrize(
    ("kind", "learn"), [("gblr", "gaudi"), ("gblr", True), ("block_sparse", False)]
)
def test_twins_share_the_new_weight(kind, learn):
    model = Twins()
    config = Config(kind=kind, budget=0.4, learn=learn)
    report = convert_(model, config, example=torch.zeros(4, 32))
    assert model.left.matrix is model.right.matrix
    assert model.left.bias is not model.right.bias
    assert model.both[0] is model.again
    assert [(row.name, row.shared_with) for row in report.rows] == [
        ("left", ("right",)),
        ("both.0", ("again",)),
    ]
    assert [row.positions for row in report.rows] == [2, 2]
    assert model.left.matrix.positions == 2
    assert cost(model).structured == report.total
    model(torch.randn(4, 32)).sum().backward()


def test_a_weight_tied_to_what_stays_is_left_or_refused():
    model = Tied()
    before = snapshot(model)
    config = Config(kind="low_rank", budget=0.5)
    with pytest.raises(InputError, match=r"'head': its weight is tied to 'tokens.weight' of a Emb"):
        convert_(model, config, lambda name, _: name == "head")
    assert_untouched(model, before)
    report = convert_(model, config)
    assert [row.name for row in report.rows] == ["inner"]
    assert {skip.name: skip.reason.split()[0] for skip in report.skipped} == {
        "tokens": "Embedding,",
        "head": "its",
    }
    assert model.head.weight is model.tokens.weight


def test_one_side_of_a_tie_is_refused():
    model = Twins()
    before = snapshot(model)
    config = Config(kind="low_rank", budget=0.5)
    with pytest.raises(InputError, match=r"'left': its weight is tied to 'right.weight'"):
        convert_(model, config, lambda name, _: name == "left")
    with pytest.raises(InputError, match=r"selects 'again' and not 'both.0', which is the same"):
        convert_(model, config, lambda name, _: name == "again")
    assert_untouched(model, before)


class Odd(nn.Linear):
    """A subclass, which may compute anything."""


def test_what_is_not_converted_is_skipped_with_its_reason():
    model = nn.Sequential(
        nn.Linear(32, 32),
        Odd(32, 32),
        nn.MultiheadAttention(32, 2),
        nn.Conv2d(32, 32, 3, groups=2),
        nn.utils.parametrizations.weight_norm(nn.Linear(32, 32)),
        nn.Linear(32, 32, dtype=torch.complex64),
        nn.Linear(32, 32),
        nn.LayerNorm(32),
        nn.Linear(32, 8),
        nn.utils.spectral_norm(nn.Linear(32, 32)),
    )
    model[6].weight.register_hook(lambda grad: None)
    report = convert_(model, Config(kind="low_rank", budget=0.5))
    parts = [f"2.{name}_proj" for name in ("q", "k", "v", "out")]
    assert [row.name for row in report.rows] == ["0", *parts]
    reasons = {skip.name: skip.reason for skip in report.skipped}
    odd = "test_nn_model.Odd, a subclass of nn.Linear, which is not converted"
    assert reasons["1"].startswith(odd)
    assert reasons["3"] == "2 groups; expected 1"
    assert reasons["4"].startswith("ParametrizedLinear")
    assert "complex64" in reasons["5"]
    assert reasons["6"].startswith("hooks")
    assert reasons["8"] == "a matrix of 8x32, smaller than min_features = 16"
    assert reasons["9"].startswith("its weight is computed")
    assert "7" not in reasons
    assert f"  1: {reasons['1']}" in str(report).splitlines()


@pytest.mark.parametrize("index", [1, 2, 3])
def test_asking_for_what_is_not_converted_is_refused(index):
    layers = [nn.Linear(32, 32), Odd(32, 32), nn.Embedding(32, 32), nn.Conv2d(32, 32, 3, groups=4)]
    model = nn.Sequential(*layers)
    before = snapshot(model)
    with pytest.raises(
        InputError, match=f"filter_fn selects modules that cannot be converted: '{index}'"
    ):
        convert_(
            model, Config(kind="low_rank", budget=0.5), lambda name, _: name in ("0", str(index))
        )
    assert_untouched(model, before)


def test_filters_choose_by_name_and_type():
    model = Classifier()
    report = convert_(
        model, Config(budget=0.3), lambda name, m: isinstance(m, nn.Linear) and "mlp" in name
    )
    assert [row.name for row in report.rows] == ["mlp.0", "mlp.2"]
    assert {skip.reason for skip in report.skipped} == {"left out by filter_fn"}
    assert type(model.head) is nn.Linear
    # The rest may follow.
    report = convert_(model, Config(budget=0.3), lambda name, _: "attention" in name)
    assert len(report.rows) == 2


def no_change(model, config, filter_fn=None, **options):
    before = snapshot(model)
    with pytest.raises(StructmatError) as refusal:
        convert_(model, config, filter_fn, **options)
    assert_untouched(model, before)
    return refusal


def test_refusals_leave_the_model_alone():
    config = Config(kind="low_rank", budget=0.3)
    weights = Config(kind="low_rank", budget=0.3, start="weights")
    refusal = no_change(mlp(), Config(kind="low_rank", budget=0.03))
    assert refusal.type is BudgetError
    assert "layer '2': 138 multiplications for a 48x96 matrix; expected at least 144" in str(
        refusal.value
    )
    no_change(mlp(), Config(kind="monarch", budget=0.02, start="weights"))
    no_change(mlp(), Config(budget=0.01, start="weights"))
    no_change(mlp(), Config(kind="low_rank", budget=0.02, start="weights", shares="error"))
    no_change(mlp(), config, lambda name, _: False)
    no_change(nn.Sequential(nn.ReLU()), config)
    no_change(nn.Linear(32, 32), config)
    no_change(mlp(), config, example="text")
    no_change(mlp(), config, calibration=torch.zeros(2, 64))
    no_change(mlp(), weights, calibration=[])
    no_change(mlp(), weights, calibration=7)
    no_change(mlp(), weights, calibration=[torch.full((2, 64), math.nan)])
    no_change(mlp(), Config(kind="low_rank", budget=0.3, parts=lambda *_: 5))
    no_change(mlp(), Config(kind="low_rank", budget=0.3, parts=lambda *_: 1.0))
    no_change(convnet(), Config(kind="low_rank", budget=0.3, parts=lambda *_: 2))
    broken = mlp()
    broken[2].weight.data[3, 4] = math.inf
    assert "'2' has NaN or infinite" in str(no_change(broken, weights).value)
    with pytest.raises(InputError, match=r"parameters \['0.weight', '0.bias'\] are not init"):
        convert_(nn.Sequential(nn.LazyLinear(32)), config)
    with pytest.raises(InputError, match="'0' is on the meta device"):
        convert_(mlp().to("meta"), config)
    with pytest.raises(InputError, match="model is a dict"):
        convert_({}, config)
    with pytest.raises(InputError, match="config is a dict"):
        convert_(mlp(), {"budget": 0.3})


def test_errors_in_the_model_leave_it_alone():
    model = mlp()
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        convert_(model, Config(kind="low_rank", budget=0.3), example=torch.zeros(2, 65))
    assert_untouched(model, before)


def test_converted_models_are_not_converted_again():
    for kind in ("gblr", "low_rank"):
        model = mlp()
        convert_(model, Config(kind=kind, budget=0.3), lambda name, _: name == "0")
        error = no_change(model, Config(kind="low_rank", budget=0.3))
        assert "'0' is a " in str(error.value)
        assert "already" in str(error.value)
        convert_(model, Config(kind="low_rank", budget=0.3), lambda name, _: name == "2")


def test_layers_that_the_example_never_runs_stay():
    config, x = Config(kind="low_rank", budget=0.5), torch.zeros(2, 32)
    report = convert_(Idle(), config, example=x)
    assert [row.name for row in report.rows] == ["used"]
    assert [skip.name for skip in report.skipped] == ["idle"]
    assert "never runs ['idle']" in str(no_change(Idle(), config, lambda *_: True, example=x).value)


@pytest.mark.parametrize("start", ["scratch", "weights"])
@pytest.mark.parametrize("kind", network_kinds())
def test_dry_runs_foretell_and_change_nothing(kind, start):
    model, x = Classifier(), torch.zeros(2, 3, 16, 16)
    before = snapshot(model)
    config = Config(kind=kind, budget=0.35, start=start, parts=packed)
    plan = convert_(model, config, example=x, dry_run=True)
    assert_untouched(model, before)
    assert plan.dry_run
    assert "would be converted" in str(plan)
    done = convert_(model, config, example=x)
    assert done.skipped == plan.skipped
    for a, b in zip(plan.rows, done.rows, strict=True):
        assert (a.name, a.kind, a.shape, a.positions) == (b.name, b.kind, b.shape, b.positions)
        assert 0 < b.cost <= a.cost
        if kind != "gblr" and start == "scratch":
            assert a.cost == b.cost


@pytest.mark.parametrize("start", ["scratch", "weights"])
@pytest.mark.parametrize("kind", network_kinds())
def test_generators_repeat_a_conversion(kind, start):
    def once(seed):
        torch.manual_seed(5)
        model = mlp()
        torch.manual_seed(seed)
        convert_(
            model,
            Config(kind=kind, budget=0.3, start=start),
            generator=torch.Generator().manual_seed(8),
        )
        return model.state_dict()

    one, two = once(1), once(2)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_progress_rises_to_one():
    for config in (
        Config(kind="low_rank", budget=0.3),
        Config(kind="block_sparse", budget=0.3, start="weights", shares="error"),
    ):
        seen = []
        convert_(Classifier(), config, progress=seen.append)
        assert seen == sorted(seen)
        assert len(seen) >= 6
        assert seen[-1] == 1.0


def test_transformer_layers_keep_their_fast_path():
    layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(3, 5, 32)
    expected = model(x)
    report = convert_(model, Config(**EXACT), lambda name, _: "layers" in name, example=x)
    assert [row.positions for row in report.rows] == [5] * 12
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    for kind, learn, made in (
        ("gblr", True, AnnealWeight),
        ("gblr", "gaudi", GaudiWeight),
        ("low_rank", False, StructuredWeight),
    ):
        model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        convert_(model, Config(kind=kind, budget=0.5, learn=learn))
        with torch.no_grad():
            trained, evaluated = model.train()(x), model.eval()(x)
        torch.testing.assert_close(trained, evaluated, rtol=1e-4, atol=1e-5)
        model.train()(x).sum().backward()
        assert isinstance(model.layers[0].linear1.matrix, made)


def test_names_in_sequences_are_kept_in_order():
    model = nn.ModuleDict({"b": nn.Linear(32, 32), "a": nn.Linear(32, 32)})
    convert_(model, Config(kind="low_rank", budget=0.5))
    assert list(model) == ["b", "a"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"budget": 0}, BudgetError),
        ({"budget": 1.5}, BudgetError),
        ({"budget": True}, BudgetError),
        ({"budget": "0.1"}, BudgetError),
        ({"budget": math.nan}, BudgetError),
        ({"kind": "dense"}, KindError),
        ({"kind": None}, KindError),
        ({"start": "zero"}, InputError),
        ({"shares": "equal", "start": "weights"}, InputError),
        ({"conv": "rows"}, InputError),
        ({"learn": True, "kind": "monarch"}, InputError),
        ({"learn": "gaudi", "kind": "low_rank"}, InputError),
        ({"learn": "edges"}, InputError),
        ({"oversize": 2.0}, InputError),
        ({"oversize": 0.5}, InputError),
        ({"oversize": math.nan}, InputError),
        ({"min_features": 0}, InputError),
        ({"min_features": 2.5}, InputError),
        ({"parts": 3}, InputError),
        ({"shares": "error"}, InputError),
        ({"shared_masks": True, "learn": "gaudi"}, InputError),
        ({"shared_masks": True, "conv": "taps"}, InputError),
        ({"shared_masks": True, "conv": "taps", "kind": "monarch"}, InputError),
        (
            {"shared_masks": True, "learn": "gaudi", "conv": "taps", "start": "weights"},
            InputError,
        ),
        ({"options": {"sigma": 1.0}}, InputError),
        ({"options": {"sigma": 1.0}, "kind": "low_rank"}, InputError),
        ({"options": {"sharpness": 1.0}, "learn": "gaudi"}, InputError),
        ({"options": {"budget": 0.5}, "learn": "gaudi"}, InputError),
        (
            {"options": {"width_init": "splr"}, "learn": "gaudi", "start": "weights"},
            InputError,
        ),
    ],
)
def test_configs_that_make_no_sense(wrong, error):
    with pytest.raises(error, match="expected") as refusal:
        Config(**{"budget": 0.2, **wrong})
    assert refusal.type is error


def test_options_reach_the_weights():
    model = mlp()
    options = {"sigma": 3.0, "width_init": "splr"}
    convert_(model, Config(budget=0.2, learn="gaudi", options=options))
    assert model[0].matrix.sigma == 3.0
    assert model[0].matrix.num_blocks == 64
    model = mlp()
    options = {"learn_locations": False}
    convert_(model, Config(budget=0.2, start="weights", learn="gaudi", options=options))
    assert not model[0].matrix.structure.row_location.requires_grad
