"""The paths of frozen layers on a device: launches, values never read, and numbers."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from device_rules import (  # noqa: E402
    MOST_LAUNCHES,
    Capture,
    by_kernel,
    by_structure,
    host_microseconds,
    launches,
    step,
)

import structmat  # noqa: E402
from structmat.kernels import using  # noqa: E402
from structmat.kernels.choice.table import KERNELS  # noqa: E402
from structmat.kernels.layouts import batches as batches_layout  # noqa: E402
from structmat.nn import StructuredConv2d, StructuredLinear  # noqa: E402


def gblr(n, K, widest):
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(1, widest + 1, (2, K))
    u, v = (rng.standard_normal(w.sum()) for w in (rows, cols))
    starts = rng.integers(0, n, (2, K))
    return structmat.GBLR(starts[0], rows, u, starts[1], cols, v, shape=(n, n))


def strips(n):
    """One strip for each row, on cyclic runs."""
    rng, at = np.random.default_rng(1), np.arange(n)
    return structmat.GBLR(
        *(at, np.ones(n, int), rng.standard_normal(n)),
        *((at * 7) % n, np.full(n, n // 4), rng.standard_normal(n * (n // 4))),
        shape=(n, n),
    )


def tall_strips(n):
    return strips(n).H


def overlapping_strips(n):
    """Two strips for each row, which overlap."""
    at = np.repeat(np.arange(n), 2)
    start = (7 * at + n // 8 * (np.arange(2 * n) % 2)) % n
    v = np.random.default_rng(7).standard_normal(2 * n * (n // 4))
    ones = np.ones(2 * n, int)
    return structmat.GBLR(at, ones, 1.0 + at, start, n // 4 * ones, v, shape=(n, n))


def windows(n, side=16):
    """Groups of `side` rows with one window of columns each, as strips."""
    rng, at = np.random.default_rng(2), np.arange(n)
    start = at // side * side * 5 % n
    return structmat.GBLR(
        *(at, np.ones(n, int), rng.standard_normal(n)),
        *(start, np.full(n, 2 * side), rng.standard_normal(n * 2 * side)),
        shape=(n, n),
    )


def block_sparse(n, side=16):
    rng, grid = np.random.default_rng(3), n // side
    rows = np.repeat(np.arange(grid), 2)
    cols = np.stack([np.arange(grid), (np.arange(grid) + grid // 2) % grid], 1)
    cols = np.sort(cols, axis=1).ravel()
    return structmat.BlockSparse(
        rng.standard_normal((rows.size, side, side)), rows, cols, shape=(n, n)
    )


def block_diagonal(n, side=16):
    at = np.arange(n // side)
    blocks = np.random.default_rng(4).standard_normal((at.size, side, side))
    return structmat.BlockSparse(blocks, at, at, shape=(n, n))


def block_low_rank(n, *, some_dense=False, side=16, rank=3):
    rng, grid = np.random.default_rng(5), n // side
    tiles = {}
    for i in range(grid):
        tiles[i, (i + 1) % grid] = tuple(rng.standard_normal((2, side, rank)))
        if some_dense:
            tiles[i, i] = rng.standard_normal((side, side))
    return structmat.BlockLowRank(tiles, row_sizes=[side] * grid, col_sizes=[side] * grid)


def monarch(n):
    rng, blocks = np.random.default_rng(6), 8
    side = n // blocks
    L, R = (rng.standard_normal((blocks, side, side)) for _ in range(2))
    return structmat.Monarch(L, R, shape=(n, n))


MATRICES = {
    "runs": lambda n: gblr(n, n, n // 4),
    "few long runs": lambda n: gblr(n, 8, n),
    "strips": strips,
    "tall strips": tall_strips,
    "overlapping strips": overlapping_strips,
    "windows": windows,
    "block diagonal": block_diagonal,
    "block sparse": block_sparse,
    "block low rank": block_low_rank,
    "block low rank with dense tiles": lambda n: block_low_rank(n, some_dense=True),
    "monarch": monarch,
}
SIZES, LARGER = (256, 512), (512, 1024)
# Each of Triton's kernels has one structure for each of its ways in the default run.
FEW = ["runs", "tall strips", "block low rank with dense tiles"]
matrices = pytest.mark.parametrize(
    ("name", "kernel"),
    [
        pytest.param(n, k, marks=[] if k == "batches" or n in FEW else pytest.mark.slow)
        for k in ("batches", "lines", "triton")
        for n in MATRICES
    ],
    indirect=["kernel"],
)


def layer_of(name, n, dtype=torch.float64):
    matrix = MATRICES[name](n)
    return StructuredLinear(matrix, torch.ones(n)).to(dtype), matrix.to_dense()


@pytest.fixture(autouse=True)
def through_the_structure(monkeypatch):
    by_structure(monkeypatch)
    # So that small structures are cut as large ones are.
    monkeypatch.setattr(batches_layout, "GATHERED", 20)


@pytest.fixture
def kernel(request, monkeypatch):
    """A kernel that multiplies on devices."""
    pytest.importorskip("triton" if request.param != "batches" else "torch")
    by_kernel(monkeypatch, request.param)
    return request.param


@matrices
def test_launches_are_few_and_as_many_for_any_size(name, kernel):
    sizes = LARGER if name.startswith(("block low rank", "windows")) else SIZES
    small, large = (layer_of(name, n)[0] for n in sizes)
    for backward in (False, True):
        few, many = (len(launches(layer, backward=backward)) for layer in (small, large))
        print(f"{name} by {kernel}: {many} launches", "of a step" if backward else "")
        assert max(few, many) <= (MOST_LAUNCHES if backward else 12)
        # Random runs take one batch at one size and two at another.
        assert few == many or name == "runs"


def test_the_rule_finds_loops_over_panels(monkeypatch):
    by_kernel(monkeypatch, "panels")
    few, many = (launches(layer_of("block sparse", n)[0], backward=True) for n in SIZES)
    assert len(many) > 1.5 * len(few)
    assert len(many) > MOST_LAUNCHES


@matrices
def test_no_value_is_read_on_a_device(name, kernel):
    layer = layer_of(name, SIZES[0])[0].to("meta")
    y, gradients = step(layer, torch.ones(3, SIZES[0], device="meta", dtype=torch.float64))
    assert y.shape == (3, SIZES[0])
    assert all(g.is_meta for g in gradients)
    with torch.no_grad():
        assert layer(y).is_meta


@matrices
def test_a_graph_of_cuda_can_be_captured(name, kernel, monkeypatch):
    layer = layer_of(name, SIZES[0], torch.float32)[0].requires_grad_(False).to("meta")
    for count in (1, 64):
        with torch.no_grad(), Capture("meta", monkeypatch):
            assert layer(torch.ones(count, SIZES[0], device="meta")).is_meta


@pytest.mark.parametrize("kernel", ["batches", "triton", "dense"], indirect=True)
@pytest.mark.parametrize("before", [0, 1, 64])
def test_what_is_filled_during_a_capture_is_not_kept(kernel, before, monkeypatch):
    """It is there once the graph was replayed; before that products would read rubbish."""
    layer, twin = layer_of("runs", 64, torch.float32)
    layer.requires_grad_(False)
    wanted, x = 1 + torch.from_numpy(twin).float().sum(1), torch.ones(64, 64)
    with torch.no_grad():
        if before:
            torch.testing.assert_close(layer(x[:before])[0], wanted)
        with Capture("cpu", monkeypatch):
            y, weight = layer(x), layer.weight
        assert y.isnan().all()
        assert weight.isnan().all()
        for count in (64, 1, 64):
            torch.testing.assert_close(layer(x[:count])[0], wanted)
        torch.testing.assert_close(layer.weight, torch.from_numpy(twin).float())


def test_kernels_of_convolutions_are_not_kept_during_a_capture(monkeypatch):
    monkeypatch.setattr("structmat.nn.structured.layers.takes_dense", lambda *_: True)
    taps = [structmat.LowRank(np.ones((2, 1)), np.full((3, 1), 1.0 + i)) for i in range(4)]
    layer = StructuredConv2d(taps, in_channels=3, kernel_size=2).requires_grad_(False)
    x = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        for weight in layer.taps:
            weight.dense()  # each is remembered, and the kernel made of them is not
        with Capture("cpu", monkeypatch):
            captured = layer(x)
        assert captured.isnan().all()
        assert layer(x).flatten().tolist() == [30, 30]


def test_kernels_bound_during_a_capture_are_not_kept(monkeypatch):
    """By number of columns and by name; the matrix has multiplied before."""
    batches = replace(KERNELS["batches"], off_cpu=False, default_from=17)
    monkeypatch.setitem(KERNELS, "batches", batches)
    matrix = MATRICES["runs"](64).to("torch")
    twin = torch.from_numpy(MATRICES["runs"](64).to_dense())
    x = torch.ones(64, 17, dtype=torch.float64)
    matrix @ x[:, :1]
    with Capture("cpu", monkeypatch):
        first = matrix @ x
        with using("pair"):
            second = matrix @ x[:, :2]
    assert first.isnan().all()
    assert second.isnan().all()
    torch.testing.assert_close(matrix @ x, twin @ x)
    with using("pair"):
        torch.testing.assert_close(matrix @ x[:, :2], twin @ x[:, :2])


def test_contents_cast_during_a_capture_are_not_kept(monkeypatch):
    by_kernel(monkeypatch, "batches")
    layer, twin = layer_of("runs", 64, torch.float32)
    layer.requires_grad_(False)
    x, wanted = torch.ones(2, 64), 1 + torch.from_numpy(twin).float().sum(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with Capture("cpu", monkeypatch):
            assert layer(x).dtype == torch.bfloat16
        torch.testing.assert_close(layer(x)[0].float(), wanted, rtol=0.05, atol=0.3)


def test_what_a_graph_reads_lives_as_long_as_its_layer(monkeypatch):
    by_kernel(monkeypatch, "batches")
    layer = layer_of("runs", 64, torch.float32)[0].requires_grad_(False)
    with torch.no_grad():
        layer(torch.ones(3, 64))
        read = weakref.ref(layer.matrix.bound()._factored)
        with Capture("cpu", monkeypatch):
            layer(torch.ones(3, 64))
    layer.train().eval()
    gc.collect()
    assert read() is not None
    del layer
    gc.collect()
    assert read() is None


@matrices
def test_values_and_gradients_are_those_of_the_dense_weight(name, kernel, monkeypatch):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((5, SIZES[0])))
    # Gradients by the contents come from the panels of the reference.
    wanted = {}
    for chosen in ("panels", kernel):
        with monkeypatch.context() as patch:
            by_kernel(patch, chosen)
            layer, twin = layer_of(name, SIZES[0])
            y, wanted[chosen] = step(layer, x)
            twin = torch.from_numpy(twin)
            torch.testing.assert_close(y, x @ twin.T + 1)
            torch.testing.assert_close(layer.weight, twin)
            with torch.no_grad():
                torch.testing.assert_close(layer(x), x @ twin.T + 1)
    for found, expected in zip(wanted[kernel], wanted["panels"], strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
@matrices
def test_layers_compile_without_a_break(name, kernel):
    layer = layer_of(name, SIZES[0], torch.float32)[0].requires_grad_(False)
    x = torch.ones(3, SIZES[0])
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_a_compiled_layer_reads_contents_where_they_stand(monkeypatch):
    by_kernel(monkeypatch, "lines")
    found = []

    def see(graph, inputs):
        found.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph

    layer = layer_of("runs", SIZES[0], torch.float32)[0].requires_grad_(False)
    torch.compiler.reset()
    with torch.no_grad():
        torch.compile(layer, fullgraph=True, backend=see)(torch.ones(1, SIZES[0]))
    # Attributes are transposes, which are views.
    names = [target.__name__ for target in found if target is not getattr]
    assert names.count("lines") == 1
    assert len(names) <= 3, names


@pytest.mark.slow
@matrices
def test_host_time_is_printed(name, kernel, capsys):
    layer = layer_of(name, 32, torch.float32)[0].requires_grad_(False)
    took = host_microseconds(layer, times=20)
    with capsys.disabled():
        print(f"\n{name} by {kernel}: {took:.0f} us of host time a call", end="")
