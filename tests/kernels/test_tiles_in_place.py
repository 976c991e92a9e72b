"""Tiles that are read where packed contents hold them: layouts, products, and memory."""

import gc
from dataclasses import replace
from types import FunctionType, ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
from device_rules import by_kernel, by_structure, step  # noqa: E402
from test_device_rules import (  # noqa: E402
    block_diagonal,
    block_low_rank,
    block_sparse,
    gblr,
    layer_of,
    windows,
)

import structmat  # noqa: E402
from structmat.kernels.choice.record import on  # noqa: E402
from structmat.kernels.choice.table import KERNELS  # noqa: E402
from structmat.kernels.layouts.placed import grain, placed, whole_tile  # noqa: E402
from structmat.kernels.layouts.tiles import block_tile_layouts, tile_layout  # noqa: E402
from structmat.kernels.triton.torch_op import TileMatrix  # noqa: E402
from structmat.nn import StructuredLinear  # noqa: E402

BLOCKS = [(16, 16), (32, 64), (128, 16), (96, 32), (256, 128)]


def grid(rng, block, shape=(3, 4), *, cut=0):
    """Layouts of some blocks, and the number of their scalars."""
    places = np.flatnonzero(rng.random(shape) < 0.6)
    rows, cols = np.divmod(places, shape[1])
    sizes = tuple(count * side - cut for count, side in zip(shape, block, strict=True))
    return block_tile_layouts(rows, cols, block, sizes), rows.size * block[0] * block[1]


@pytest.mark.parametrize("block", BLOCKS)
def test_places_of_tiles_hold_what_is_filled_in(block, rng):
    layouts, total = grid(rng, block)
    contents = rng.permutation(total)
    for layout in layouts:
        (tk, tn), (at, row, col) = layout.tile, placed(layout)
        filled = np.zeros(total)
        filled[layout.entries] = contents
        index = at[:, None, None] + np.arange(tk)[:, None] * row + np.arange(tn) * col
        np.testing.assert_array_equal(contents[index], filled.reshape(index.shape))
        assert not (at % grain(placed(layout))).any()


def test_contents_that_hold_no_whole_tiles_have_no_places(rng):
    assert placed(grid(rng, (16, 16), cut=1)[0][0]) is None
    assert placed(grid(rng, (24, 16))[0][0]) is None
    i, j = np.divmod(rng.permutation(256), 16)
    assert placed(tile_layout(i, j, (16, 16), tile=(16, 16))) is None
    assert placed(tile_layout(i[:0], j[:0], (16, 16))) is None


@pytest.mark.parametrize(("side", "wanted"), [(64, (64, 128)), (16, (16, 32)), (8, None)])
def test_whole_tiles_are_the_largest_on_their_grid(side, wanted, rng):
    at = np.arange(side * 2 * side)
    i, j = np.divmod(at, 2 * side)
    rows, cols = np.concatenate([i, i + 3 * side]), np.concatenate([j, j + 2 * side])
    shuffled = rng.permutation(rows.size)
    assert whole_tile(rows[shuffled], cols[shuffled], (8 * side, 8 * side)) == wanted
    assert whole_tile(rows[1:], cols[1:], (8 * side, 8 * side)) is None
    assert whole_tile(rows, cols, (8 * side, 3 * side)) is None


@pytest.mark.parametrize("block", BLOCKS[:3])
def test_products_in_place_are_those_of_filled_tiles(block, rng):
    layouts, total = grid(rng, block)
    W = TileMatrix(*layouts)
    assert W.is_in_place
    contents = torch.from_numpy(rng.standard_normal(total)).requires_grad_()
    for multiply, size in ((W.times, W.shape[0]), (W.transpose_times, W.shape[1])):
        x = torch.from_numpy(rng.standard_normal((5, size))).requires_grad_()
        found = []
        for values in (W.in_place(contents), W.values(contents)):
            y = multiply(x, values)
            first = torch.autograd.grad(y.square().sum(), (x, contents), create_graph=True)
            second = torch.autograd.grad(first[0].square().sum(), (x, contents))
            found.append([y, *first, *second])
        for actual, wanted in zip(*found, strict=True):
            torch.testing.assert_close(actual, wanted)
        mapped = torch.vmap(lambda v: multiply(v[None], W.in_place(contents))[0])(x)  # noqa: B023
        torch.testing.assert_close(mapped, found[0][0])


def test_the_operator_keeps_the_rules_of_torch(rng):
    layouts, total = grid(rng, (16, 32))
    W = TileMatrix(*layouts)
    contents = torch.from_numpy(rng.standard_normal(total)).requires_grad_()
    x = torch.ones(3, W.shape[0], dtype=torch.float64, requires_grad=True)
    parts = [side.parts for side in W._sides]
    rest = (*parts, W.shape[1], False, False, False, W._steps[0])
    empty = contents.new_empty(0).detach()
    torch.library.opcheck(torch.ops.structmat.tile_matmul.default, (x, contents, empty, *rest))


# --- Layers. ---


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Let torch take the kernels of CUDA for any device but the CPU."""
    by_structure(monkeypatch)
    for name in ("triton", "lines"):
        monkeypatch.setitem(KERNELS, name, replace(KERNELS[name], wants=on("torch"), off_cpu=True))


def stored_bytes(layer):
    """Bytes of all tensors on a device that a layer refers to, each storage once."""
    seen, left, storages = set(), [layer], {}
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, (type, ModuleType, FunctionType)):
            continue
        seen.add(id(found))
        if isinstance(found, torch.Tensor) and found.is_meta:
            storage = found.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        left.extend(gc.get_referents(found))
    return sum(storages.values())


WHOLE = {
    "block sparse": lambda: block_sparse(512, 128),
    "block diagonal": lambda: block_diagonal(512, 128),
    "block low rank": lambda: block_low_rank(512, side=128, rank=64),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_frozen_layer_of_tiles_keeps_its_contents_alone(name, as_on_cuda):
    layer = StructuredLinear(WHOLE[name]()).to("meta", torch.bfloat16).requires_grad_(False)
    contents = 2 * layer.matrix.storage
    with torch.no_grad():
        for count in (1, 64):
            layer(torch.ones(count, 512, device="meta", dtype=torch.bfloat16))
    assert contents < stored_bytes(layer) <= 1.3 * contents


def test_other_frozen_layers_keep_tiles_and_where_they_come_from(as_on_cuda):
    """Runs are padded: contents, tiles, and an index of four bytes a scalar."""
    layer = StructuredLinear(gblr(512, 512, 128)).to("meta", torch.bfloat16).requires_grad_(False)
    matrix, scalars = layer.matrix, layer.matrix.storage
    with torch.no_grad():
        layer(torch.ones(64, 512, device="meta", dtype=torch.bfloat16))
    kept = matrix.bound()._factored.structure._layouts["tile matrices"]
    # R multiplies by the tiles of its transpose.
    shapes = [tiles._sides[side]._shape for tiles, side in zip(kept, (1, 0), strict=True)]
    expected = 2 * (scalars + sum(map(np.prod, shapes))) + 4 * scalars
    assert expected <= stored_bytes(layer) <= 1.3 * expected


@pytest.mark.parametrize("name", ["block sparse", "block low rank", "windows"])
def test_values_and_gradients_of_layers_in_place(name, monkeypatch, as_on_cuda):
    make = {"windows": lambda: windows(256)} | WHOLE
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((40, make[name]().shape[1])))
    twin = torch.from_numpy(make[name]().to_dense())
    by_kernel(monkeypatch, "triton")
    layer = StructuredLinear(make[name]())
    y, gradients = step(layer, x)
    torch.testing.assert_close(y, x @ twin.T)
    layer.requires_grad_(False)
    y, (frozen,) = step(layer, x)
    torch.testing.assert_close(y, x @ twin.T)
    torch.testing.assert_close(frozen, gradients[0])


def test_a_compiled_layer_of_tiles_fills_nothing(monkeypatch):
    by_structure(monkeypatch)
    by_kernel(monkeypatch, "triton")
    found = []

    def see(graph, inputs):
        found.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph

    layer = layer_of("block sparse", 256, torch.float32)[0].requires_grad_(False)
    torch.compiler.reset()
    x = torch.ones(64, 256)
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend=see)(x)
        torch.testing.assert_close(compiled, layer(x))
    names = [getattr(target, "__name__", "") for target in found]
    assert any("tile_matmul" in name for name in names)
    assert not any("index" in name or "new_zeros" in name for name in names), names


def test_tiles_without_dense_ones_share_their_contents():
    matrix = structmat.BlockLowRank(
        {(0, 0): (np.ones((4, 1)), np.ones((3, 1)))}, row_sizes=[4], col_sizes=[3]
    )
    assert matrix._factored.contents[0] is matrix.u
