"""Fits of weights: no worse than those of contained kinds, and learned starts near the weights."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from structmat.compress import compress
from structmat.errors import BudgetError
from structmat.kinds import contained_kinds
from structmat.nn import Config, convert_
from structmat.nn.starts.fits import fit_kind
from structmat.nn.starts.kinds import network_kinds
from structmat.nn.starts.on_inputs import squared_error
from structmat.nn.starts.pixelfly import fit_pixelfly, pixelfly_layout

HOLDING_LOW_RANK = [kind for kind in network_kinds() if "low_rank" in contained_kinds(kind)]


def inputs(count, n, generator=None, decay=3):
    """Vectors whose directions fall in size from 1 to 10^-decay."""
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=generator))
    return torch.randn(count, n, generator=generator) * torch.logspace(0, -decay, n) @ basis


def error(W, matrix, gram):
    return math.sqrt(squared_error(W - matrix.to_dense(), gram))


@st.composite
def weights(draw):
    m, n = draw(st.integers(4, 12)), draw(st.integers(4, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    W = torch.randn(m, n, generator=generator)
    style = draw(st.sampled_from(["noise", "sparse", "low rank", "tiles"]))
    if style == "sparse":
        W *= torch.rand(m, n, generator=generator) < 0.3
    elif style == "low rank":
        W = W[:, :1] @ W[:1]
    elif style == "tiles":
        W *= torch.kron(torch.eye(3), torch.ones(4, 4))[:m, :n]
    X = inputs(30, n, generator, decay=draw(st.integers(0, 3)))
    return W.double(), (X.T @ X).double() if draw(st.booleans()) else None


# Two fits of GBLR to an example: fewer of them, in every profile.
@pytest.mark.parametrize("kind", HOLDING_LOW_RANK)
@settings(max_examples=settings.default.max_examples * 2 // 5)
@given(given=weights(), budget=st.floats(0.1, 1.0))
def test_never_worse_on_the_inputs(kind, given, budget):
    W, gram = given
    cap = math.floor(budget * W.numel())
    try:
        best = fit_kind(kind, W, cap, gram)
    except BudgetError:
        assert kind == "monarch"
        return
    assert best.cost <= cap
    rounding = 1e-7 * math.sqrt(squared_error(W, gram))
    for other in contained_kinds(kind):
        simple = fit_kind(other, W, cap, gram)
        if simple.to_kind(kind).cost <= cap:
            assert error(W, best, gram) <= error(W, simple, gram) * (1 + 1e-5) + rounding, other


@pytest.mark.parametrize("learn", [pytest.param(False, marks=pytest.mark.slow), "gaudi"])
def test_calibrated_gblr_is_no_worse_than_low_rank(learn):
    torch.manual_seed(0)
    model, X = nn.Sequential(nn.Linear(24, 24)), inputs(500, 24)
    errors = [
        convert_(
            copy.deepcopy(model),
            Config(kind=kind, budget=0.4, start="weights", learn=kind == "gblr" and learn),
            calibration=X,
        )
        .rows[0]
        .error
        for kind in ("low_rank", "gblr")
    ]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize(
    ("kind", "calibrated", "shares"),
    [
        # Each kind by default, and GBLR with calibration; the other pairs are slow ones.
        pytest.param(
            kind,
            calibrated,
            shares,
            marks=[]
            if kind in HOLDING_LOW_RANK and calibrated == (kind == "gblr")
            else [pytest.mark.slow],
        )
        for kind in [*HOLDING_LOW_RANK, "learned gblr"]
        for calibrated, shares in [(False, "uniform"), (True, "error")]
    ],
)
def test_no_layer_of_a_network_is_worse_than_low_rank(kind, calibrated, shares):
    """At a layer's own share of the multiplications, on its own inputs."""
    torch.manual_seed(0)
    kind, learn = kind.removeprefix("learned "), kind.startswith("learned ") and "gaudi"
    model, x = nn.Sequential(nn.Linear(16, 20), nn.ReLU(), nn.Linear(20, 12)).eval(), inputs(99, 16)
    config = Config(kind=kind, budget=0.3, start="weights", shares=shares, learn=learn)
    report = convert_(
        copy.deepcopy(model), config, example=x, calibration=x if calibrated else None
    )
    with torch.no_grad():
        vectors = {"0": x, "2": model[:2](x)}
    for row in report.rows:
        W, X = model.get_submodule(row.name).weight.detach(), vectors[row.name]
        gram = X.T @ X if calibrated else None
        least = fit_kind("low_rank", W, row.cost, gram)
        size = math.sqrt(squared_error(W, gram))
        assert row.error <= error(W, least, gram) / size * (1 + 1e-4) + 1e-6


@pytest.mark.parametrize("conv", ["matrix", pytest.param("taps", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", HOLDING_LOW_RANK)
def test_no_convolution_is_worse_than_low_rank(kind, conv):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(16, 16, (2, 1), bias=False)).eval()
    x = torch.einsum("ij,bjhw->bihw", inputs(16, 16), torch.randn(8, 16, 5, 5))
    errors = [
        convert_(
            copy.deepcopy(model),
            Config(kind=name, budget=0.4, start="weights", conv=conv, learn=False),
            calibration=x,
        )
        .rows[0]
        .error
        for name in ("low_rank", kind)
    ]
    assert errors[1] <= errors[0] * (1 + 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_pixelfly_is_no_worse_than_its_low_rank_part_alone(seed):
    torch.manual_seed(seed)
    cap = 700
    layout = pixelfly_layout((40, 32), cap)
    A = torch.randn(40, layout.rank + 1) * 0.3 ** torch.arange(layout.rank + 1)
    A = A @ torch.randn(layout.rank + 1, 32)
    least = torch.linalg.svdvals(A)[layout.rank :].norm().item()
    assert (A - fit_pixelfly(A, cap).to_dense()).norm().item() <= least * (1 + 1e-5)


# Learned layers begin near the weights.


def block_diagonal():
    return torch.block_diag(*(torch.randn(8, 8) for _ in range(8)))


def low_rank():
    return torch.randn(64, 4) @ torch.randn(4, 64)


def banded():
    return torch.randn(64, 64).triu(-2).tril(2)


def butterfly():
    """Monarch: a permutation of the rows of tiles of rank one."""
    tiles = [[torch.randn(8, 1) @ torch.randn(1, 8) for _ in range(8)] for _ in range(8)]
    rows = torch.cat([torch.cat(row, 1) for row in tiles])
    return rows.reshape(8, 8, 64).transpose(0, 1).reshape(64, 64)


def blocks():
    """Six overlapping blocks of rank one that wrap around."""
    W = torch.zeros(64, 64)
    for at, (height, width) in zip(range(0, 66, 11), itertools.cycle([(9, 20), (25, 7)])):
        block = torch.zeros(64, 64)
        block[:height, :width] = torch.randn(height, 1) @ torch.randn(1, width)
        W += block.roll((at, 3 * at), (0, 1))
    return W


PLANTED = [block_diagonal, low_rank, banded, butterfly, blocks]


def compress_to_scalars(W, most, seed):
    """The GBLR matrix of a budget so low that its widths, which Gaudi layers count, fit."""
    cap = most
    while True:
        found = compress(W, "gblr", budget=(cap + 0.5) / W.numel(), rng=seed)
        if (held := found.matrix.storage) <= most:
            return found
        cap = cap * most // held


@pytest.mark.parametrize("budget", [0.15, 0.3])
@pytest.mark.parametrize("planted", PLANTED)
def test_learned_layers_begin_as_near_as_compress(planted, budget):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64))
    model[0].weight.data = planted()
    seed = torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(0)).item()
    least = compress_to_scalars(model[0].weight.detach(), math.floor(budget * 64**2), seed)
    config = Config(budget=budget, start="weights", learn="gaudi")
    report = convert_(model, config, generator=torch.Generator().manual_seed(0))
    assert report.rows[0].error <= least.error * (1 + 1e-5) + 1e-6
    assert report.rows[0].cost <= budget * 64**2


def test_options_decide_which_starts_a_layer_can_have():
    """Runs between the grains are left out, even if they are nearer."""
    torch.manual_seed(0)
    config = Config(budget=0.3, start="weights", learn="gaudi", options={"granularity": 8})
    model = nn.Sequential(nn.Linear(64, 64))
    model[0].weight.data = low_rank()
    assert convert_(model, config).rows[0].error < 1e-6
    model = nn.Sequential(nn.Linear(64, 64))
    model[0].weight.data = banded().roll(3, 0)
    convert_(model, config)
    A = model[0].to_matrix()
    assert all((part % 8 == 0).all() for part in (A.row_start, A.row_width, A.col_start))
