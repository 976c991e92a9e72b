"""Fits of trained weights by the projections with which layers learn."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from structmat import GBLR, BlockLowRank, Diagonal
from structmat.nn import Config, GaudiLinear, convert_, load_model, save_model
from structmat.nn.starts import fits
from structmat.nn.starts.fits import fits_of, nearest
from structmat.nn.starts.on_inputs import relative_error
from structmat.nn.starts.projections import PROJECTED, projected_fit

SHAPES = (2, 14), (14, 2), (5, 5), (8, 3)


def blocks(n=48, count=10, seed=0, shapes=SHAPES):
    """A sum of rank-one blocks of some shapes at random places, and its cost."""
    rng = np.random.default_rng(seed)
    sides = np.array(shapes)[np.arange(count) % len(shapes)]
    start = rng.integers(0, n, (2, count))
    u, v = (rng.standard_normal(side.sum()) for side in sides.T)
    matrix = GBLR(start[0], sides[:, 0], u, start[1], sides[:, 1], v, shape=(n, n))
    return matrix.to_dense(), matrix.cost


def network(W):
    layer = nn.Linear(*reversed(W.shape), bias=False)
    layer.weight.data = torch.tensor(W, dtype=torch.float32)
    return nn.Sequential(layer)


def inputs(n, seed=0):
    """Vectors whose entries differ in size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4 * n, n, generator=generator) * torch.logspace(0, -2, n)


def error(W, budget, monkeypatch=None, **given):
    if monkeypatch is not None:
        monkeypatch.setattr(fits, "projections", lambda *given, **options: [])
    row = convert_(
        network(W), Config(budget=budget, start="weights"), generator=torch.Generator(), **given
    ).rows[0]
    assert row.cost <= budget * W.size
    return row.error


def test_planted_blocks_are_found_among_shuffled_rows_and_columns(monkeypatch):
    W, cost = blocks(count=4, shapes=[(12, 14), (16, 10)])
    rng = np.random.default_rng(0)
    W = W[rng.permutation(48)][:, rng.permutation(48)]
    budget = (cost + 0.5) / W.size
    assert error(W, budget) < 0.5 * error(W, budget, monkeypatch)


def test_planted_runs_are_found_among_shuffled_columns():
    rng = np.random.default_rng(0)
    W, places = np.zeros((40, 64)), rng.integers(0, 52, 10)
    for i in range(40):
        W[i, places[i % 10] : places[i % 10] + 12] = rng.standard_normal(12)
    W = W[:, rng.permutation(64)]
    given, found = (projected_fit("runs", W, 40 * 12, None, orders=o) for o in (False, True))
    assert np.abs(found.to_dense() - W).max() < 1e-12
    assert (given.cost, found.cost) == (480, 480)
    # Runs of one entry each have two scalars an entry.
    assert given.storage > 1.7 * 480
    assert found.storage < 1.3 * 480 + 40 + 64


@pytest.mark.parametrize(
    ("style", "calibrated", "budget"),
    [
        ("noise", False, 0.15), ("heavy", False, 0.3), ("heavy", True, 0.15),
        ("planted", False, 0.1), ("planted", False, 0.4), ("planted", True, 0.1),
    ],
)  # fmt: skip
def test_projections_never_raise_the_error(style, calibrated, budget, monkeypatch):
    rng = np.random.default_rng(1)
    W = blocks(24, 6)[0] if style == "planted" else rng.standard_normal((16, 24))
    W = W**3 if style == "heavy" else W
    given = {"calibration": inputs(24)} if calibrated else {}
    found = error(W, budget, **given)
    # Of fits that are exact up to rounding the cheapest is taken.
    assert found <= error(W, budget, monkeypatch, **given) * (1 + 1e-6) + 1e-6


def test_energies_weigh_inputs_by_their_size(monkeypatch):
    W, X = np.random.default_rng(0).standard_normal((16, 24)), inputs(24)
    found = error(W, 0.15, calibration=X)
    monkeypatch.setattr(
        "structmat.nn.starts.projections._input_sizes", lambda _, W: 2 * [np.ones(W.shape[1])]
    )
    assert found < 0.8 * error(W, 0.15, calibration=X)


@pytest.mark.parametrize("name", PROJECTED)
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (5, 11), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_projections_of_any_shape(name, shape, dtype):
    W = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for cap in (0, 1, 5, W.size):
        for orders in (False, True):
            found = projected_fit(name, W, cap, None, orders=orders)
            assert found.shape == shape
            assert found.cost <= cap
            assert np.isfinite(found.to_dense()).all()
            if W.size:
                assert found.dtype == dtype
            if not orders:
                assert found.kind in ("gblr", "dense")


@pytest.mark.parametrize("name", PROJECTED)
def test_inputs_that_are_always_zero_cost_nothing(name):
    W, gram = np.ones((6, 8)), torch.diag(torch.tensor([1.0, 0, 1, 0, 1, 1, 1, 1]))
    found = projected_fit(name, W, 30, gram, orders=False).to_dense()
    assert not found[:, [1, 3]].any()
    silent = projected_fit(name, W, 30, 0 * gram, orders=False)
    assert np.isfinite(silent.to_dense()).all()


def test_gaudi_layers_take_projections_in_the_given_order():
    rng = np.random.default_rng(0)
    W, cost = blocks()
    W = W[rng.permutation(48)][:, rng.permutation(48)]
    model = network(W)
    config = Config(budget=(cost + 0.5) / W.size, start="weights", learn="gaudi")
    convert_(model, config, generator=torch.Generator())
    assert isinstance(model[0], GaudiLinear)
    assert math.isfinite(model[0].weight.square().sum().item())


def test_reordered_fits_are_saved_and_loaded(tmp_path):
    rng = np.random.default_rng(0)
    W, cost = blocks()
    model = network(W[rng.permutation(48)][:, rng.permutation(48)])
    empty = copy.deepcopy(model)
    convert_(model, Config(budget=(cost + 0.5) / W.size, start="weights"))
    assert model[0].to_matrix().kind == "product"
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model", empty)
    x = torch.randn(5, 48)
    assert torch.equal(loaded(x), model(x))
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_single_fit_has_no_projections():
    W = torch.randn(16, 20)
    assert list(fits_of("gblr", W, 60, alone=True)) == ["gblr"]
    found = fits_of("gblr", W, 60)
    assert "runs" in found
    assert "blocks" not in found
    assert fits_of("gblr", W, 60, orders=True).keys() > set(PROJECTED)
    least = nearest(found.values(), W, None)
    assert relative_error([least], W, None) <= relative_error([found["runs"]], W, None)


@pytest.mark.parametrize("kind", ["block_sparse", "block_low_rank"])
def test_fits_of_tiles_weigh_inputs_by_their_size(kind, monkeypatch):
    W, X = np.random.default_rng(0).standard_normal((24, 32)), inputs(32)
    W[:, :8] /= 10
    config = Config(kind=kind, budget=0.25, start="weights")
    model = network(W)
    row = convert_(model, config, calibration=X).rows[0]
    assert row.cost <= 0.25 * W.size
    assert model[0].to_matrix().kind == kind
    monkeypatch.setattr(
        "structmat.nn.starts.projections._input_sizes",
        lambda gram, W: 2 * [np.ones(W.shape[1], W.dtype)],
    )
    assert row.error < 0.95 * convert_(network(W), config, calibration=X).rows[0].error


def test_tiles_times_a_diagonal_stay_tiles():
    rng = np.random.default_rng(0)
    tiles = {(0, 0): tuple(rng.standard_normal((2, 3, 2))), (1, 1): rng.standard_normal((2, 4))}
    A = BlockLowRank(tiles, row_sizes=[3, 2], col_sizes=[3, 4])
    left, right = Diagonal(rng.standard_normal(5)), Diagonal(rng.standard_normal(7) * 1j)
    for product, expected in [
        (left @ A, left.to_dense() @ A.to_dense()),
        (A @ right, A.to_dense() @ right.to_dense()),
    ]:
        assert product.kind == "block_low_rank"
        assert product.cost == A.cost
        assert np.allclose(product.to_dense(), expected)
