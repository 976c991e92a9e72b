"""The paths of frozen layers on a device: launches, values never read, and numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from device_rules import (  # noqa: E402
    MOST_LAUNCHES,
    by_kernel,
    by_structure,
    host_microseconds,
    launches,
    step,
)

import structmat  # noqa: E402
from structmat.kernels.layouts import batches as batches_layout  # noqa: E402
from structmat.nn import StructuredLinear  # noqa: E402


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


def block_low_rank(n, *, some_dense=False, side=16):
    rng, grid = np.random.default_rng(5), n // side
    tiles = {}
    for i in range(grid):
        tiles[i, (i + 1) % grid] = tuple(rng.standard_normal((2, side, 3)))
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
