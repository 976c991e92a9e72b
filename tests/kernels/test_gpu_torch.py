"""Tiles on a CUDA device through PyTorch and Triton."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from cases import build  # noqa: E402
from device_rules import by_structure  # noqa: E402
from test_kernels_tiles import Layer, dense_runs, structure  # noqa: E402

from structmat.intervals import positions  # noqa: E402
from structmat.kernels import using  # noqa: E402
from structmat.kernels.layouts.tiles import run_tile_layouts  # noqa: E402
from structmat.kernels.triton.torch_op import TileMatrix  # noqa: E402
from structmat.nn import StructuredLinear  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
DEVICE = "cuda"
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1e-2,
}


def product(rng, dtype, n=1000, K=600, tile=(64, 128)):
    """A product in tiles, its contents, the dense matrix, and where contents stand in it."""
    start, width, n = structure(rng, n, K)
    contents = torch.from_numpy(rng.standard_normal(width.sum())).to(dtype)
    dense = torch.from_numpy(dense_runs(contents.double().numpy(), start, width, n))
    places = positions(start, width, n), np.repeat(np.arange(K), width)
    W = TileMatrix(*run_tile_layouts(start, width, n, tile=tile), DEVICE)
    return W, contents.to(DEVICE), dense.to(DEVICE), places


def close(actual, truth, dtype):
    return (actual.double() - truth).abs().max() <= TOLERANCE[dtype] * truth.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("tokens", [1, 100, 20000])
@pytest.mark.parametrize("tile", [(16, 16), (64, 64), (64, 128), (128, 128)])
@pytest.mark.parametrize("by_columns", [False, True])
def test_products_and_gradients(rng, dtype, tokens, tile, by_columns):
    W, contents, dense, places = product(rng, dtype, tile=tile)
    contents.requires_grad_()
    for multiply, matrix in ((W.times, dense), (W.transpose_times, dense.T)):
        x = torch.from_numpy(rng.standard_normal((tokens, matrix.shape[0]))).to(DEVICE, dtype)
        x = (x.T.contiguous().T if by_columns else x).requires_grad_()
        y = multiply(x, W.values(contents), by_columns=not by_columns)
        assert close(y, x.double() @ matrix, dtype)
        g = torch.randn_like(y)
        grad_x, grad_contents = torch.autograd.grad(y, (x, contents), g)
        assert close(grad_x, g.double() @ matrix.T, dtype)
        full = x.double().T @ g.double()
        full = full if matrix is dense else full.T
        assert close(grad_contents, full[places], dtype)


def test_nan_reaches_what_it_touches_and_no_other_row(rng):
    W, contents, dense, _ = product(rng, torch.bfloat16)
    x = torch.randn(300, 1000, device=DEVICE, dtype=torch.bfloat16)
    x[17, 500], x[200, 3] = torch.nan, torch.inf
    y = W.times(x, W.values(contents))
    assert y[17, dense[500] != 0].isnan().all()
    assert not y[200, dense[3] != 0].isfinite().any()
    others = torch.ones(300, dtype=torch.bool, device=DEVICE)
    others[[17, 200]] = False
    assert y[others].isfinite().all()


def test_results_repeat_bit_for_bit(rng):
    W, contents, _, _ = product(rng, torch.bfloat16)
    layer = Layer(W, contents)
    x = torch.randn(5000, 1000, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    outcomes = []
    for _ in range(2):
        y = layer(x)
        outcomes.append((y, *torch.autograd.grad(y.float().square().mean(), (x, layer.contents))))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("kernel", ["lines", "batches", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["gblr-tiles", "gblr-one-row-each", "block_low_rank-dense-tiles"])
def test_matrices_by_every_kernel_of_a_device(rng, name, dtype, kernel):
    matrix, twin = build(name)
    matrix = matrix.to("torch").to(DEVICE)
    matrix = matrix._map(lambda leaf: leaf.to(dtype))
    dense = torch.from_numpy(twin).to(DEVICE)
    for count in (1, 2, 16, 17, 300):
        x, y = (torch.from_numpy(rng.standard_normal((n, count))) for n in dense.shape[::-1])
        x, y = x.to(DEVICE, dtype), y.to(DEVICE, dtype)
        with using(kernel):
            assert close(matrix @ x, dense @ x.double(), dtype)
            assert close(matrix.rmatmat(y), dense.T @ y.double(), dtype)
            assert close((matrix @ x.T.contiguous().T), dense @ x.double(), dtype)


@pytest.mark.parametrize("count", [1, 16, 64])
def test_frozen_layers_replay_in_a_graph(rng, count, monkeypatch):
    by_structure(monkeypatch)
    layer = StructuredLinear(build("gblr-tiles")[0]).to(DEVICE, torch.float32).requires_grad_(False)
    x = torch.randn(count, layer.in_features, device=DEVICE)
    with torch.no_grad():
        wanted = layer(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)
        graph.replay()
    assert torch.equal(y, wanted)


@pytest.mark.slow
def test_layers_compile_without_a_break(rng):
    W, contents, _, _ = product(rng, torch.bfloat16)
    layer = Layer(W, contents)
    x = torch.randn(512, 1000, device=DEVICE, dtype=torch.bfloat16)
    assert torch.equal(torch.compile(layer, fullgraph=True)(x), layer(x))
