"""Triton's kernels for tiles under its interpreter, on a CPU.

`test_kernels_triton.py` runs this file in a process of its own, with TRITON_INTERPRET=1:
Triton reads it when it is imported. bfloat16 is left to GPUs, since the interpreter gets
it wrong.
"""

import numpy as np
import pytest
import torch
from test_kernels_tiles import dense_runs, structure

from structmat.errors import InputError
from structmat.kernels.layouts.tiles import block_tile_layouts, run_tile_layouts
from structmat.kernels.triton import kernels as triton_tiles
from structmat.kernels.triton import operators as tile_ops
from structmat.kernels.triton.torch_op import TileMatrix

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3}
POISON = 12345.0


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request):
    return request.param


@pytest.fixture(params=["rows", "columns"])
def order(request):
    """How operands lie in memory."""
    return request.param


def guarded(tokens, q, order, dtype):
    """A tensor amid poison, and how to see that the poison is untouched."""
    around = torch.full((tokens + 7, q + 5), POISON, dtype=dtype)
    around = around if order == "rows" else around.T.contiguous().T
    inside = around[3 : 3 + tokens, 2 : 2 + q]

    def untouched():
        mask = torch.ones_like(around, dtype=torch.bool)
        mask[3 : 3 + tokens, 2 : 2 + q] = False
        return bool((around[mask] == POISON).all())

    return inside, untouched


def operand(rng, tokens, p, order, dtype):
    """A random operand; what lies around it in memory is NaN."""
    inside, _ = guarded(tokens, p, order, dtype)
    inside.copy_(torch.from_numpy(rng.standard_normal((tokens, p))))
    inside._base[inside._base == POISON] = torch.nan
    return inside


def cases(rng, dtype, tile, n=90, K=70):
    """Both sides of a product with runs: values, parts, float64 matrix."""
    start, width, n = structure(rng, n, K)
    contents = torch.from_numpy(rng.standard_normal(width.sum())).to(dtype)
    dense = torch.from_numpy(dense_runs(contents.double().numpy(), start, width, n))
    W = TileMatrix(*run_tile_layouts(start, width, n, tile=tile))
    return zip(W.values(contents), W._sides, (dense, dense.T), strict=True)


@pytest.mark.parametrize("tile", [(32, 16), (64, 128)])
def test_product(rng, dtype, order, tile):
    for values, side, matrix in cases(rng, dtype, tile):
        begin, _, inputs, outputs, _ = side.parts
        x = operand(rng, 37, matrix.shape[0], order, dtype)
        y, untouched = guarded(37, matrix.shape[1], order, dtype)
        triton_tiles.times(x, values, begin, inputs, outputs, y)
        truth = x.double() @ matrix
        assert (y - truth).abs().max() <= TOLERANCE[dtype] * truth.abs().max()
        assert untouched()


@pytest.mark.parametrize("tile", [(16, 32), (64, 128)])
def test_gradient_by_the_tiles(rng, dtype, order, tile):
    for values, side, matrix in cases(rng, dtype, tile):
        _, owner, inputs, outputs, _ = side.parts
        x = operand(rng, 70, matrix.shape[0], order, dtype)
        grad = operand(rng, 70, matrix.shape[1], order, dtype)
        flat, untouched = guarded(1, values.numel(), "rows", dtype)
        out = flat.view(values.shape)
        triton_tiles.outer(x, grad, owner, inputs, outputs, out)
        truth = x.double().T @ grad.double()
        _, tk, tn = values.shape
        rows = inputs if inputs.shape[1] > 1 else inputs + torch.arange(tk)
        cols = outputs if outputs.shape[1] > 1 else outputs + torch.arange(tn)
        padded = torch.nn.functional.pad(truth, (0, 128, 0, 128))
        wanted = padded[rows[:, :, None].long(), cols[owner][:, None, :].long()]
        assert (out - wanted).abs().max() <= TOLERANCE[dtype] * truth.abs().max()
        assert untouched()


def test_gradient_by_the_tiles_in_shares_of_the_rows(rng):
    layouts = run_tile_layouts(np.array([3]), np.array([4]), 9, tile=(16, 16))
    W = TileMatrix(*layouts)
    _, owner, inputs, outputs, _ = W._sides[0].parts
    tokens = 3 * 1024 + 5
    assert triton_tiles.outer_shares(tokens, 1) == 3
    x, grad = (operand(rng, tokens, k, "rows", torch.float32) for k in (9, 1))
    out = torch.full((1, 16, 16), POISON)
    triton_tiles.outer(x, grad, owner, inputs, outputs, out)
    truth = (x.double() * grad.double()).sum(0)
    assert (out[0, :9, 0] - truth).abs().max() <= 1e-5 * truth.abs().max()
    assert not out[0, 9:].any()
    assert not out[0, :, 1:].any()


def test_full_blocks(rng, dtype, order):
    rows, cols = np.array([0, 0, 2]), np.array([0, 2, 1])
    blocks = torch.from_numpy(rng.standard_normal((3, 16, 32))).to(dtype)
    layouts = block_tile_layouts(rows, cols, (16, 32), (48, 90))
    W = TileMatrix(*layouts)
    dense = torch.zeros(48, 96, dtype=torch.float64)
    for block, i, j in zip(blocks, rows, cols, strict=True):
        dense[16 * i : 16 * i + 16, 32 * j : 32 * j + 32] = block
    x = operand(rng, 5, 48, order, dtype)
    y, untouched = guarded(5, 90, order, dtype)
    begin, _, inputs, outputs, _ = W._sides[0].parts
    triton_tiles.times(x, W.values(blocks.flatten()).forward, begin, inputs, outputs, y)
    truth = (x.double() @ dense)[:, :90]
    assert (y - truth).abs().max() <= TOLERANCE[dtype] * truth.abs().max()
    assert untouched()


def test_blocks_where_they_stand(rng, dtype, order):
    rows, cols = np.array([0, 0, 2]), np.array([0, 2, 1])
    around = torch.full((3 * 16 * 64 + 40,), torch.nan, dtype=dtype)
    contents = around[16:-24]
    contents.copy_(torch.from_numpy(rng.standard_normal(3 * 16 * 64)))
    W = TileMatrix(*block_tile_layouts(rows, cols, (16, 64), (48, 192)))
    dense = torch.zeros(48, 192, dtype=torch.float64)
    for block, i, j in zip(contents.view(3, 16, 64), rows, cols, strict=True):
        dense[16 * i : 16 * i + 16, 64 * j : 64 * j + 64] = block
    for side, steps, matrix in zip(W._sides, W._steps, (dense, dense.T), strict=True):
        x = operand(rng, 5, matrix.shape[0], order, dtype)
        y, untouched = guarded(5, matrix.shape[1], order, dtype)
        begin, _, inputs, outputs, at = side.parts
        triton_tiles.times(x, contents, begin, inputs, outputs, y, at, steps[:5])
        truth = x.double() @ matrix
        assert (y - truth).abs().max() <= TOLERANCE[dtype] * truth.abs().max()
        assert untouched()


@pytest.mark.parametrize("start", [[], [0, 0, 0], [8, 8, 8]])
@pytest.mark.parametrize("width", [0, 9])
def test_extreme_runs(rng, dtype, start, width):
    K, n, tokens = len(start), 9, 3
    start, width = np.array(start, int) * (width > 0), np.full(K, width)
    contents = torch.ones(width.sum(), dtype=dtype)
    W = TileMatrix(*run_tile_layouts(start, width, n, tile=(16, 16)))
    dense = torch.from_numpy(dense_runs(contents.double().numpy(), start, width, n))
    for values, side, matrix in zip(W.values(contents), W._sides, (dense, dense.T), strict=True):
        begin, _, inputs, outputs, _ = side.parts
        x = operand(rng, tokens, matrix.shape[0], "rows", dtype)
        y, untouched = guarded(tokens, matrix.shape[1], "rows", dtype)
        triton_tiles.times(x, values, begin, inputs, outputs, y)
        truth = x.double() @ matrix
        assert torch.allclose(y.double(), truth, atol=10 * TOLERANCE[dtype])
        assert untouched()


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of the interpreter
def test_nan_and_infinity_stay_in_their_row(rng, dtype):
    for values, side, matrix in cases(rng, dtype, (16, 32)):
        begin, _, inputs, outputs, _ = side.parts
        x = torch.from_numpy(rng.standard_normal((4, matrix.shape[0]))).to(dtype)
        x[1, 17], x[2, 60] = torch.nan, torch.inf
        y = torch.empty(4, matrix.shape[1], dtype=dtype)
        triton_tiles.times(x, values, begin, inputs, outputs, y)
        assert y[1, matrix[17] != 0].isnan().all()
        assert not y[2, matrix[60] != 0].isfinite().any()
        assert y[[0, 3]].isfinite().all()


def test_operators_reach_the_kernels(rng, monkeypatch):
    start, width, n = structure(rng)
    W = TileMatrix(*run_tile_layouts(start, width, n, tile=(16, 32)))
    x = torch.from_numpy(rng.standard_normal((3, n))).float().requires_grad_()
    contents = torch.from_numpy(rng.standard_normal(width.sum())).float().requires_grad_()
    launched = []

    def counted(name):
        kernel = getattr(triton_tiles, name)
        return lambda *args: (launched.append(name), kernel(*args))

    def outcome():
        values = W.values(contents)
        y = W.transpose_times(W.times(x, values, by_columns=True), values)
        return y, *torch.autograd.grad(y.square().sum(), (x, contents))

    plain = outcome()
    for name in ("times", "outer"):
        monkeypatch.setattr(triton_tiles, name, counted(name))
    monkeypatch.setattr(tile_ops, "uses_triton", lambda x: True)
    for actual, truth in zip(outcome(), plain, strict=True):
        assert (actual - truth).abs().max() <= 1e-5 * truth.abs().max()
    assert sorted(launched) == ["outer"] * 2 + ["times"] * 4


def test_float64_is_refused():
    x = torch.zeros(2, 2, dtype=torch.float64)
    none = torch.zeros(1, 1, dtype=torch.int32)
    with pytest.raises(InputError, match="float64"):
        triton_tiles.times(x, x[None], none, none, none, x)
