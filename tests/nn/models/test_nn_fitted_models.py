"""Conversion from given weights: calibration, and a budget shared by error."""

import copy

import pytest
import torch
from nn_models import Attention, Tied, convnet, mlp
from test_nn_model import allowed, packed, spent
from torch import nn

from structmat.errors import BudgetError
from structmat.nn import Config, convert_
from structmat.nn.models.layer_types import LAYERS
from structmat.nn.starts.kinds import network_kinds
from structmat.nn.starts.on_inputs import fit_low_rank, squared_error


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def uneven(*shape):
    """Inputs whose directions along the axis after the batch differ in size by a hundred."""
    n = shape[1]
    mixed = torch.linalg.qr(torch.randn(n, n))[0] * torch.logspace(0, -2, n)
    return torch.einsum("ij,bj...->bi...", mixed, torch.randn(shape))


def is_first(name, _):
    return name == "0"


def first_outputs(model, x):
    """What the first layer makes of an input."""
    with torch.no_grad():
        return model[0](x)


@pytest.mark.parametrize("kind", network_kinds())
def test_calibration_lowers_the_error_of_outputs(kind):
    x, model = uneven(300, 64), mlp().eval()
    config = Config(kind=kind, budget=0.3, start="weights")
    dense = first_outputs(model, x) - model[0].bias
    errors, reports = [], []
    for calibration in (None, x):
        copied = copy.deepcopy(model)
        reports.append(convert_(copied, config, is_first, calibration=calibration))
        made = first_outputs(copied, x) - copied[0].bias
        errors.append(((made - dense).norm() / dense.norm()).item())
    assert errors[1] < 0.9 * errors[0]
    assert reports[1].rows[0].error == pytest.approx(errors[1], rel=1e-2)
    assert reports[1].rows[0].cost <= allowed(reports[1], 0.6)


# Nine taps are fitted to GBLR by six searches each.
@pytest.mark.parametrize(
    ("kind", "conv"),
    [
        ("low_rank", "matrix"),
        ("low_rank", "taps"),
        ("gblr", "matrix"),
        pytest.param("gblr", "taps", marks=pytest.mark.slow),
    ],
)
def test_calibration_of_convolutions(kind, conv):
    x, model = uneven(6, 16, 8, 8), convnet().eval()
    config = Config(kind=kind, budget=0.4, conv=conv, start="weights")
    dense = first_outputs(model, x)
    errors = []
    for calibration in (None, [x[:2], (x[2:],)]):
        copied = copy.deepcopy(model)
        report = convert_(copied, config, is_first, example=x, calibration=calibration)
        errors.append(((first_outputs(copied, x) - dense).norm() / dense.norm()).item())
    assert errors[1] < 0.9 * errors[0]
    assert report.rows[0].error == pytest.approx(errors[1], rel=1e-2)


def test_calibration_counts_positions_too():
    report = convert_(
        Attention(),
        Config(kind="low_rank", budget=0.5, start="weights", parts=packed),
        calibration=[torch.randn(3, 7, 32), torch.randn(2, 5, 32)],
    )
    assert [row.positions for row in report.rows] == [7, 7]


def test_calibration_of_a_shared_weight_takes_all_its_inputs():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x, y):
            return self.a(x) + self.b(y)

    model, x, y = Shared(), uneven(200, 32), uneven(200, 32)
    both, W = torch.cat([x, y]), model.a.weight.detach()
    config = Config(kind="low_rank", budget=0.5, start="weights")
    report = convert_(model, config, calibration=(x, y))
    missed = (both @ (W - model.a.weight.detach()).T).norm() / (both @ W.T).norm()
    bound = torch.linalg.svdvals(both @ W.T)[8:].norm() / (both @ W.T).norm()
    assert report.rows[0].error == pytest.approx(missed.item(), rel=1e-3)
    assert missed.item() == pytest.approx(bound.item(), rel=1e-3)


class EasyAndHard(nn.Module):
    """A layer that few multiplications make exact, beside one that needs them all."""

    def __init__(self, n=64):
        super().__init__()
        self.easy, self.hard = nn.Linear(n, n), nn.Linear(n, n)
        with torch.no_grad():
            self.easy.weight.zero_()
            self.easy.weight[: n // 8, : n // 8] = 1.0

    def forward(self, x):
        return self.easy(x) + self.hard(x)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("kind", network_kinds())
def test_shares_by_error_lower_the_total_error(kind, calibrated):
    n = 64 if kind == "pixelfly" else 32  # whose masks of 32 are too coarse for a share
    model, x = EasyAndHard(n), torch.randn(100, n)
    totals = []
    for shares in ("uniform", "error"):
        config = Config(kind=kind, budget=0.25, start="weights", shares=shares, oversize=1.0)
        calibration = x if calibrated else None
        report = convert_(copy.deepcopy(model), config, example=x, calibration=calibration)
        assert spent(report) <= allowed(report, 0.25)
        totals.append(sum(row.error**2 for row in report.rows))
    assert totals[1] < 0.98 * totals[0]
    assert report.rows[0].cost < report.rows[1].cost


def test_shares_count_positions():
    """A layer that multiplies many vectors gets fewer multiplications for each."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.many = nn.Linear(64, 64)
            self.once = copy.deepcopy(self.many)

        def forward(self, x):
            return self.once(self.many(x).mean(1))

    config = Config(kind="low_rank", budget=0.3, start="weights", shares="error")
    report = convert_(Pooled(), config, example=torch.randn(2, 9, 64))
    many, once = report.rows
    assert (many.positions, once.positions) == (9, 1)
    assert many.cost < once.cost
    assert spent(report) <= allowed(report, 0.3)
    # All that is left over is less than one rank of the dearer layer.
    assert spent(report) > allowed(report, 0.3) - 9 * 128


def test_shares_by_error_cover_packed_parts_and_taps():
    model = Attention()
    with torch.no_grad():
        # Queries of low rank leave their multiplications to keys and values.
        model.qkv.weight[:32] = torch.randn(32, 2) @ torch.randn(2, 32)
    config = Config(kind="low_rank", budget=0.5, start="weights", shares="error", parts=packed)
    convert_(model, config, lambda name, _: name == "qkv")
    costs = [part.cost for part in model.qkv.parts]
    assert costs[0] == 2 * 64
    assert min(costs[1:]) > costs[0]
    model = convnet()
    with torch.no_grad():
        model[0].weight[:, :, 0, 0] = 1.0
    config = Config(kind="low_rank", budget=0.5, start="weights", shares="error", conv="taps")
    report = convert_(model, config, lambda name, _: name == "0")
    costs = [tap.cost for tap in model[0].taps]
    assert costs[0] == min(costs) == 48
    assert spent(report) <= allowed(report, 0.5)


def test_taps_are_shared_by_what_they_add_to_their_layer():
    model = convnet()
    with torch.no_grad():
        model[0].weight[:, :, 1:] *= 0.01
    config = Config(kind="low_rank", budget=0.4, start="weights", shares="error", conv="taps")
    convert_(model, config, lambda name, _: name == "0")
    costs = [tap.cost for tap in model[0].taps]
    assert min(costs[:3]) >= 4 * max(costs[3:])


def test_every_tap_is_fitted_to_its_own_inputs():
    """Where patches do not overlap, taps meet inputs of their own: here one meets few."""
    model = nn.Sequential(nn.Conv2d(32, 32, 2, stride=2))
    x = torch.randn(40, 32, 4, 4)
    x[:, :2] *= 10
    x[:, 2:, 0::2, 1::2] = 0.0
    config = Config(kind="low_rank", budget=0.6, start="weights", shares="error", conv="taps")
    convert_(model, config, calibration=x)
    costs = [tap.cost for tap in model[0].taps]
    assert costs[1] == 2 * 64
    assert min(costs[:1] + costs[2:]) > 4 * 64


def test_taps_are_fitted_together():
    model, x = convnet(), uneven(6, 16, 8, 8)
    kind, layer = LAYERS[nn.Conv2d], model[0]
    W, vectors = kind.matrix(layer, True), kind.vectors(layer, x, True)
    gram = vectors.T @ vectors
    config = Config(kind="low_rank", budget=0.4, start="weights", conv="taps")
    report = convert_(model, config, lambda name, _: name == "0", calibration=x)
    rank = model[0].taps[0].cost // 48
    alone = [
        fit_low_rank(piece, gram[k : k + 16, k : k + 16], rank).to_dense()
        for k, piece in zip(range(0, 144, 16), W.chunk(9, 1), strict=True)
    ]
    missed = squared_error(W - torch.cat(alone, 1), gram) / squared_error(W, gram)
    assert report.rows[0].error < 0.95 * missed**0.5


def test_fits_of_taps_above_the_cap_are_passed_over(monkeypatch):
    dear = lambda W, gram, rank: fit_low_rank(W, gram, rank + 1)  # noqa: E731
    monkeypatch.setattr("structmat.nn.starts.fits.fit_low_rank", dear)
    model = nn.Sequential(nn.Conv2d(8, 8, (1, 2)), nn.ReLU())
    config = Config(kind="block_low_rank", budget=0.5, start="weights", conv="taps", min_features=8)
    report = convert_(model, config, calibration=torch.randn(8, 8, 4, 4))
    assert all(tap.cost <= 32 for tap in model[0].taps)
    assert report.total.relative_cost <= 0.5


@pytest.mark.parametrize("kind", [kind for kind in network_kinds() if kind != "pixelfly"])
def test_no_layer_gets_less_than_the_least_matrix(kind):
    # A quarter of this budget, the least that is tried, would be less than m + n.
    config = Config(kind=kind, budget=0.1, start="weights", shares="error", oversize=1.0)
    report = convert_(EasyAndHard(), config)
    assert min(row.cost for row in report.rows) > 0
    assert report.total.relative_cost <= 0.1


def test_no_shares_are_that_small():
    config = Config(kind="low_rank", budget=0.02, start="weights", shares="error")
    with pytest.raises(BudgetError, match="expected at least 304"):
        convert_(mlp(), config)


def test_models_that_take_whole_numbers():
    tokens = torch.randint(40, (3, 6))
    config = Config(kind="block_sparse", budget=0.5, start="weights")
    report = convert_(Tied(), config, calibration=[tokens, tokens])
    assert [(row.name, row.positions) for row in report.rows] == [("inner", 6)]
