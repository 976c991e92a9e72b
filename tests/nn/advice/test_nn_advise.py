"""Advice before a conversion: what it says, and that it leaves the model alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from structmat.errors import BudgetError, InputError
from structmat.nn import Config, advise, convert_
from structmat.nn.advice import trials
from structmat.nn.advice.trials import quick_fits


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer steps and draws: no test is about how near fits are."""
    monkeypatch.setattr(trials, "STEPS", 2)
    monkeypatch.setattr(trials, "DRAWS", 1)


def _network(seed=0, n=24):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(n, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 20)
    )


def _inputs(n=24, count=64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, n, generator=generator) @ torch.randn(n, n, generator=generator)


def _loss(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y)


def _pair(n=24):
    x = _inputs(n)
    return x, x[:, :20]


def _state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_rows_are_all_budgets_of_each_weight():
    advice = advise(_network(), _inputs(), budgets=[0.3, 0.1, 0.3])
    assert [(row.name, row.budget) for row in advice.rows] == [
        ("0", 0.1), ("0", 0.3), ("4", 0.1), ("4", 0.3),
    ]  # fmt: skip
    assert advice.budgets == (0.1, 0.3)
    for row in advice.rows:
        assert row.cost <= row.budget * row.shape[0] * row.shape[1]
        assert row.time > 0
        assert row.rise is None
        assert row.kind == "gblr"
        assert row.errors["gblr"] == row.error
    assert advice.rows[0].share + advice.rows[2].share == pytest.approx(1)
    assert advice.rows[0].share == pytest.approx(24 * 32 / (24 * 32 + 32 * 20))


def test_errors_are_bounds_of_those_of_a_conversion():
    x, model = _inputs(16), nn.Sequential(_network(n=16)[0])
    [row] = advise(model, x, budgets=[0.3]).rows
    assert 1 < row.input_rank < 16
    assert set(row.errors) == {"gblr", "block_sparse", "block_low_rank", "low_rank"}
    for kind in ("gblr", "block_sparse", "low_rank"):
        error = row.errors[kind]
        made = copy.deepcopy(model)
        config = Config(kind=kind, budget=0.3, start="weights")
        report = convert_(made, config, calibration=x)
        assert report.rows[0].error <= error * (1 + 1e-4), kind


def test_loss_chooses_kinds_and_is_that_of_the_fits():
    batches, model = [_pair(), _pair()], _network().eval()
    with torch.no_grad():  # of less than full rank, so that it is no random weight
        model[4].weight.copy_(torch.randn(20, 6) @ torch.randn(6, 32) / 16)
    advice = advise(model, batches, _loss, budgets=[0.3])
    with torch.no_grad():
        present = float(_loss(model, batches[0]))
        assert advice.loss == pytest.approx(present)
        row = advice.rows[1]
        assert row.rise == min(row.rises.values()) == row.rises[row.kind]
        x = model[:4](batches[0][0])
        fits = quick_fits(model[4].weight.detach(), 192, 2 * x.T @ x)
        for kind, fit in fits.items():
            made = copy.deepcopy(model)
            made[4].weight.copy_(fit.matrix.to_dense())
            assert row.rises[kind] == pytest.approx(
                float(_loss(made, batches[0])) - present, rel=0.05, abs=1e-3
            )
    assert {kind for kind, _ in advice.losses} == set(advice.rows[0].errors) & set(row.errors)
    assert advice.losses[row.kind, 0.3] != present


def test_lists_of_a_loader_are_batches():
    x, y = _pair()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
    advice = advise(_network(), loader, _loss, budgets=[0.3])
    assert advice.loss is not None


def test_start_tells_trained_weights_from_random_ones():
    model = _network()
    with torch.no_grad():
        model[4].weight.copy_(torch.randn(20, 2) @ torch.randn(2, 32))
    advice = advise(model, _inputs(), budgets=[0.2])
    assert [row.start for row in advice.rows] == ["scratch", "weights"]
    assert advice.rows[1].over_chance < 0.1
    assert advice.rows[0].over_chance > 0.9


def test_conversions_do_what_the_rows_say():
    model = _network()
    with torch.no_grad():
        model[4].weight.copy_(torch.randn(20, 1) @ torch.randn(1, 32))
    cases = [
        (None, 0.09, "AnnealLinear", "AnnealLinear"),
        (None, 0.2, "StructuredLinear", "AnnealLinear"),
        (_loss, 0.2, "StructuredLinear", "StructuredLinear"),
    ]
    for loss, budget, first, last in cases:
        batches = _inputs() if loss is None else [(_inputs(), model.eval()(_inputs()).detach())]
        advice = advise(model, batches, loss, budgets=budget)
        made = copy.deepcopy(model)
        for config, chosen in advice.conversions(budget):
            convert_(made, config, chosen)
        assert (type(made[0]).__name__, type(made[4]).__name__) == (first, last)
        x = torch.randn(5, 32)
        assert torch.allclose(made[4](x), model[4](x), atol=1e-4)
    with pytest.raises(BudgetError, match=r"expected one of \(0.2,\)"):
        advice.conversions(0.5)


def test_constant_inputs_are_counted():
    x = _inputs()
    x[:, 3] = 0.0
    x[:, 5] = 2.5
    advice = advise(_network(), x, budgets=[0.05], filter_fn=lambda name, _: name == "0")
    assert advice.rows[0].idle_inputs == 2
    assert "(0: 2 of 24 inputs are constant)" in str(advice)


@pytest.mark.parametrize("mode", [True, False])
def test_model_and_random_numbers_stay(mode):
    model = _network().train(mode)
    model[1].eval()
    _loss(model, _pair()).backward()
    model[4].weight.grad = None
    model[0].weight.requires_grad_(False)
    before, grads = _state(model), [p.grad for p in model.parameters()]
    copies = [None if g is None else g.clone() for g in grads]
    parameters = list(model.parameters())
    pointers = [p.data_ptr() for p in parameters]
    random, modes = torch.get_rng_state(), [m.training for m in model.modules()]

    def noisy(net, batch):
        return _loss(net, batch) + 0 * torch.rand(())

    advise(model, [_pair()], noisy, budgets=[0.2])
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()] == modes
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert [p.data_ptr() for p in parameters] == pointers
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for parameter, grad, same in zip(parameters, grads, copies, strict=True):
        assert parameter.grad is grad
        assert grad is None or torch.equal(grad, same)
    assert not model[0].weight.requires_grad
    assert not any(m._forward_hooks for m in model.modules())


def test_error_in_the_loss_leaves_the_model_as_it_was():
    model, calls = _network().train(), []

    def failing(net, batch):
        calls.append(net[0].weight.detach().clone())
        if len(calls) == 5:
            raise RuntimeError("stop")
        return _loss(net, batch)

    before, random = _state(model), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"):
        advise(model, [_pair()], failing, budgets=[0.2])
    assert not torch.equal(calls[-1], before["0.weight"])  # a fit was in its place
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())


def test_shared_weights_are_one_row():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 20), nn.Linear(20, 20)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    torch.manual_seed(0)
    model, x = Twice(), _inputs(20)
    advice = advise(model, [(x, x)], _loss, budgets=[0.3])
    [row] = advice.rows
    assert (row.name, row.shared_with, row.share) == ("a", ("b",), 1.0)
    assert model.a.weight is model.b.weight
    [(config, chosen)] = advice.conversions(0.3)
    convert_(model, config, chosen)
    assert model.a.matrix is model.b.matrix


def test_convolutions_are_one_matrix_of_all_taps():
    layout = torch.channels_last  # in which a flat weight is no view
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 20, 3, padding=1), nn.Flatten(), nn.Linear(20 * 16, 20))
    model = model.to(memory_format=layout)
    x = torch.randn(6, 16, 4, 4)
    advice = advise(model, [(x, x.flatten(1)[:, :20])], _loss, budgets=[0.2])
    first, second = advice.rows
    assert (first.shape, second.shape) == ((20, 144), (20, 320))
    assert first.share == pytest.approx(16 * 20 * 144 / (16 * 20 * 144 + 20 * 320))
    # A whole matrix of a kind changes nothing.
    pair = [(x, x.flatten(1)[:, :20])]
    [whole] = advise(model, pair, _loss, budgets=[1.0], filter_fn=lambda name, _: name == "0").rows
    assert whole.rises["block_sparse"] == pytest.approx(0, abs=1e-4)
    assert first.rise != 0
    assert model[0].weight.is_contiguous(memory_format=layout)


def test_attention_is_split_while_it_is_looked_at():
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))
    weight, x = model[0].self_attn.in_proj_weight, torch.randn(4, 3, 16)
    before = weight.detach().clone()
    chosen = ("0.self_attn.v_proj", "0.linear1")
    advice = advise(model, [(x, x)], _loss, budgets=[0.3], filter_fn=lambda n, _: n in chosen)
    assert tuple(row.name for row in advice.rows) == chosen
    assert all(row.rise for row in advice.rows)
    assert type(model[0].self_attn) is nn.MultiheadAttention
    assert model[0].self_attn.in_proj_weight is weight
    assert torch.equal(weight, before)


def test_kinds_without_so_cheap_a_matrix_are_left_out():
    model = _network()
    advice = advise(model, _inputs(), budgets=[0.001, 0.02])
    assert all(set(row.errors) == {"gblr"} for row in advice.rows)
    assert advice.rows[0].cost == 0
    assert advice.rows[0].error == 1
    with torch.no_grad():
        model[4].weight.copy_(torch.ones(20, 32))
    advice = advise(model, _inputs(), budgets=[0.02, 0.5], filter_fn=lambda name, _: name == "4")
    assert advice.rows[0].start == "weights"
    [(config, chosen)] = advice.conversions(0.02)
    assert (config.kind, config.learn) == ("gblr", True)
    convert_(model, config, chosen)
    assert type(model[4]).__name__ == "AnnealLinear"


def test_zero_weights_and_zero_inputs_have_rows():
    model = _network()
    nn.init.zeros_(model[0].weight)
    rows = advise(model, torch.zeros(8, 24), budgets=[0.2]).rows
    assert rows[0].error == 0
    assert rows[0].idle_inputs == 24
    assert rows[0].input_rank == 0


def test_half_precision_and_frozen_models_have_rows():
    model = _network().bfloat16().requires_grad_(False)
    advice = advise(model, [tuple(t.bfloat16() for t in _pair())], _loss, budgets=[0.2])
    assert len(advice.rows) == 2
    assert model[0].weight.dtype == torch.bfloat16


def test_report_is_a_table_in_text_and_html():
    advice = advise(_network(), [_pair()], _loss, budgets=[0.3])
    text, html = str(advice), advice._repr_html_()
    assert "loss with all of a kind" in text
    assert "saves multiplications and no time" in text
    assert html.count("<table>") == 2
    assert "best" not in text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batches": []}, InputError, "batches holds none; expected at least one"),
        ({"batches": 3}, InputError, "a batch"),
        ({"budgets": []}, BudgetError, "budgets is empty"),
        ({"budgets": [0.1, 0]}, BudgetError, r"budget = 0; expected a fraction"),
        ({"budgets": 1.5}, BudgetError, "budget = 1.5"),
        ({"loss": 3}, InputError, "loss = 3; expected a function"),
        ({"loss": lambda model, x: model(x)}, InputError, r"gave shape \(64, 20\)"),
        ({"loss": lambda model, x: 0.0}, InputError, "never run '0'"),
        ({"model": nn.Sequential(nn.ReLU())}, InputError, "nothing to convert"),
        ({"model": nn.Sequential(nn.Linear(24, 8))}, InputError, "min_features"),
        ({"model": "net"}, InputError, "expected a torch.nn.Module"),
        ({"batches": torch.full((4, 24), torch.nan)}, InputError, "'0' NaN or infinite inputs"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    arguments = {"model": _network(), "batches": _inputs(), "loss": None, **change}
    with pytest.raises(error, match=message):
        advise(**arguments)


def test_weights_that_are_not_finite_are_refused():
    model = _network()
    with torch.no_grad():
        model[4].weight[0, 0] = torch.inf
    with pytest.raises(InputError, match="'4' has NaN or infinite weights"):
        advise(model, _inputs())


def test_progress_rises_to_one():
    seen = []
    advise(_network(), _inputs(), budgets=[0.2], progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1
