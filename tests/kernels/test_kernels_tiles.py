"""Tiles: layouts against dense matrices, and their products on PyTorch."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from structmat._checks import check_runs
from structmat.errors import BackendError, InputError, ShapeError
from structmat.intervals import positions
from structmat.kernels.layouts import tiles
from structmat.kernels.layouts.tiles import (
    block_tile_layouts,
    run_order,
    run_tile_layouts,
    tile_layout,
)

torch = pytest.importorskip("torch")
from structmat.kernels.triton import operators as tile_ops  # noqa: E402
from structmat.kernels.triton.torch_op import TileMatrix, TileValues  # noqa: E402

SIDES = st.sampled_from([(16, 16), (16, 64), (32, 16), (64, 128)])


@st.composite
def runs(draw, largest=100):
    n = draw(st.integers(1, largest))
    width = st.one_of(st.integers(0, n), st.just(0), st.just(n), st.just(1))
    start = st.one_of(st.integers(0, n - 1), st.just(n - 1))
    pairs = draw(st.lists(st.tuples(start, width), max_size=40))
    starts, widths = np.array(pairs, np.int64).reshape(-1, 2).T
    return (*check_runs(starts, widths, n), n)


def dense_runs(contents, start, width, n):
    W = np.zeros((n, width.size), contents.dtype)
    W[positions(start, width, n), np.repeat(np.arange(width.size), width)] = contents
    return W


def dense_tiles(layout, contents):
    """The matrix that tiles hold, and how many places each of its entries has in them."""
    (p, q), (tk, tn) = layout.shape, layout.tile
    tiles = np.zeros(layout.num_tiles * tk * tn + 1)
    tiles[layout.entries] = contents
    W, count = np.zeros((p, q)), np.zeros((p, q), int)
    for t, tile in enumerate(tiles[:-1].reshape(-1, tk, tn)):
        assert tile.any(), "an empty tile"
        g = layout.owner[t]
        assert layout.begin[g] <= t < layout.begin[g + 1]
        rows = layout.inputs[t] if layout.inputs.shape[1] > 1 else layout.inputs[t] + np.arange(tk)
        cols = layout.outputs[g]
        cols = cols if layout.outputs.shape[1] > 1 else cols + np.arange(tn)
        place = np.ix_(rows[rows < p], cols[cols < q])
        W[place] += tile[np.ix_(rows < p, cols < q)]
        count[place] += 1
        assert not tile[rows >= p].any()
        assert not tile[:, cols >= q].any()
    return W, count


@given(runs(), SIDES)
@example((np.zeros(3, int), np.array([0, 64, 1]), 64), (16, 16))
@example((np.full(40, 99), np.full(40, 100), 100), (64, 128))
@example((np.zeros(0, int), np.zeros(0, int), 7), (16, 16))
def test_tiles_of_runs_hold_every_scalar_once(structure, tile):
    start, width, n = structure
    contents = np.arange(1.0, width.sum() + 1)
    W = dense_runs(contents, start, width, n)
    for layout, truth in zip(run_tile_layouts(start, width, n, tile=tile), (W, W.T), strict=True):
        held, count = dense_tiles(layout, contents)
        assert np.array_equal(held, truth)
        assert count.max(initial=0) <= 1
        assert np.unique(layout.entries).size == contents.size
        if layout.outputs.shape[1] > 1:
            columns = np.sort(layout.outputs, axis=None)
            assert np.array_equal(columns[: width.size], np.arange(width.size))
            assert (columns[width.size :] == width.size).all()
        assert layout.inputs.dtype == layout.begin.dtype == np.int32
        area = layout.num_tiles * layout.tile[0] * layout.tile[1]
        assert layout.fill == (contents.size / area if area else 1.0)


@given(runs(), SIDES)
def test_consecutive_rows_are_aligned_and_no_more_tiles_than_an_even_cut_needs(structure, tile):
    start, width, n = structure
    layout, _ = run_tile_layouts(start, width, n, tile=tile)
    assert (layout.inputs % 16 == 0).all()
    order = run_order(start, width, n, lanes=tile[1])
    even = set()
    for place, k in enumerate(order):
        rows = positions(start[[k]], width[[k]], n)
        even |= {(place // tile[1], int(r) // tile[0]) for r in rows}
    assert layout.num_tiles <= len(even)


@given(runs(), SIDES)
def test_listed_rows_are_those_that_a_group_touches(structure, tile):
    start, width, n = structure
    _, layout = run_tile_layouts(start, width, n, tile=tile)
    W = dense_runs(np.ones(width.sum()), start, width, n).T
    for g in range(len(layout.begin) - 1):
        listed = layout.inputs[layout.begin[g] : layout.begin[g + 1]].ravel()
        touched = np.flatnonzero(W[:, g * tile[1] : (g + 1) * tile[1]].any(axis=1))
        assert np.array_equal(listed[: touched.size], touched)
        assert (listed[touched.size :] == width.size).all()
        assert listed.size - touched.size < layout.tile[0]


@given(runs(), st.sampled_from([1, 2, 16]))
def test_order_is_a_permutation_with_empty_runs_last(structure, lanes):
    start, width, n = structure
    order = run_order(start, width, n, lanes=lanes)
    assert np.array_equal(np.sort(order), np.arange(width.size))
    assert (np.diff((width[order] == 0).astype(int)) >= 0).all()


@given(runs())
def test_spanned_windows_are_counted_as_a_mask_shows_them(structure):
    start, width, n = structure
    start, width = start[width > 0], width[width > 0]
    touched = np.unique(positions(start, width, n) // tiles.TILE[0])
    assert tiles._spanned(start, width, n) == touched.size


def test_layouts_take_memory_in_proportion_to_the_scalars(rng):
    """Not to the groups of columns times the rows, which are 144 MB here."""
    start, width = rng.integers(0, 100_000, 10_000), rng.integers(1, 40, 10_000)
    tracemalloc.start()
    run_tile_layouts(start, width, 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * width.sum()


def test_order_fills_tiles_better_than_sorting_by_start_or_by_width(rng):
    n = K = 1024
    width = np.minimum(rng.exponential(n / 8, K), n).astype(int)
    width[rng.random(K) < 0.3] = 0
    start, width = check_runs(rng.integers(0, n, K), width, n)
    at, block = positions(start, width, n), np.repeat(np.arange(K), width)

    def fill(order):
        return tile_layout(at, block, (n, K), tile=(64, 64), order=order).fill

    ours = fill(run_order(start, width, n, lanes=64))
    assert ours > 1.25 * max(fill(np.argsort(start)), fill(np.argsort(width)))


def test_order_fills_a_grid_of_equal_tiles():
    start, width = np.tile(np.arange(8) * 128, 128), np.full(1024, 128)
    assert [layout.fill for layout in run_tile_layouts(start, width, 1024)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("block", "shape"), [((16, 32), (64, 96)), ((20, 7), (50, 30)), ((48, 128), (100, 300))]
)
def test_tiles_of_blocks_leave_out_what_is_beyond_the_edge(rng, block, shape):
    height, width = -(-shape[0] // block[0]), -(-shape[1] // block[1])
    rows, cols = np.nonzero(rng.random((height, width)) < 0.5)
    contents = 1 + rng.random((rows.size, *block))
    W = np.zeros((height * block[0], width * block[1]))
    for content, i, j in zip(contents, rows, cols, strict=True):
        W[i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]] = content
    W = W[: shape[0], : shape[1]]
    for layout, truth in zip(block_tile_layouts(rows, cols, block, shape), (W, W.T), strict=True):
        held, count = dense_tiles(layout, contents.ravel())
        assert np.array_equal(held, truth)
        assert count.max(initial=0) <= 1
    product = TileMatrix(*block_tile_layouts(rows, cols, block, shape))
    x = rng.standard_normal((3, shape[0]))
    contents[:, -1:, :][rows == height - 1] *= 1.0 if height * block[0] == shape[0] else np.nan
    values = product.values(torch.from_numpy(contents.ravel()))
    assert np.allclose(product.times(torch.from_numpy(x), values), x @ W)


def test_blocks_of_powers_of_two_fill_their_tiles():
    layouts = block_tile_layouts(np.array([0, 2]), np.array([1, 0]), (32, 256), (96, 512))
    assert [(layout.tile, layout.fill) for layout in layouts] == [((32, 128), 1), ((128, 32), 1)]


@pytest.mark.parametrize("tile", [(8, 16), (16, 48), (256, 16), (0, 16), (-16, 16)])
def test_sides_that_tensor_cores_do_not_take_are_refused(tile):
    with pytest.raises(InputError, match="powers of two"):
        tile_layout(np.zeros(0, int), np.zeros(0, int), (4, 4), tile=tile)


def test_indices_beyond_32_bits_are_refused():
    with pytest.raises(InputError, match=r"below 2\*\*31"):
        tile_layout(np.zeros(0, int), np.zeros(0, int), (2**31 - 5, 4))


def test_tiles_with_more_rows_than_32_bits_count_are_refused(monkeypatch):
    monkeypatch.setattr(tiles, "MOST", 500)
    rows, cols = np.zeros(4, int), np.arange(4) * 16
    assert tile_layout(rows[:3], cols[:3], (10, 64), tile=(128, 16)).num_tiles == 3
    with pytest.raises(InputError, match=r"4 tiles of 128 rows; expected fewer than 2\*\*31"):
        tile_layout(rows, cols, (10, 64), tile=(128, 16))


def test_indices_up_to_the_largest_of_32_bits_are_used(monkeypatch):
    monkeypatch.setattr(tiles, "MOST", 64)
    at = np.arange(5)
    rows, cols = at // 3 * 16, at % 3 * 16
    assert tile_layout(rows[:4], cols[:4], (48, 48), tile=(16, 16)).num_tiles == 4
    for count, side in ((4, 49), (5, 48)):
        with pytest.raises(InputError, match=r"2\*\*31"):
            tile_layout(rows[:count], cols[:count], (side, 48), tile=(16, 16))


# Products on PyTorch.


def structure(rng, n=90, K=70):
    width = rng.integers(0, n + 1, K)
    width[:3] = 0, n, 1
    return (*check_runs(rng.integers(0, n, K), width, n), n)


def runs_product(rng, n=90, K=70, tile=(16, 32), dtype=torch.float64):
    """A product in tiles, its contents, and the dense matrix in float64."""
    start, width, n = structure(rng, n, K)
    contents = rng.standard_normal(width.sum())
    if dtype.is_complex:
        contents = contents + 1j * rng.standard_normal(width.sum())
    contents = torch.from_numpy(contents).to(dtype)
    truth = torch.complex128 if dtype.is_complex else torch.float64
    dense = torch.from_numpy(dense_runs(contents.to(truth).numpy(), start, width, n))
    return TileMatrix(*run_tile_layouts(start, width, n, tile=tile)), contents, dense


DTYPES = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
    torch.complex128: 1e-12,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("by_columns", [False, True])
def test_products_agree_with_the_dense_matrix(rng, dtype, by_columns):
    W, contents, dense = runs_product(rng, dtype=dtype)
    values = W.values(contents)
    for product, matrix in ((W.times, dense), (W.transpose_times, dense.T)):
        x = torch.from_numpy(rng.standard_normal((2, 3, matrix.shape[0]))).to(dtype)
        y = product(x, values, by_columns=by_columns)
        truth = x.to(matrix.dtype) @ matrix
        assert y.dtype == dtype
        assert y.shape == truth.shape
        assert (y - truth).abs().max() <= DTYPES[dtype] * truth.abs().max()
        flat = product(x[0].T.contiguous().T, values, by_columns=by_columns)
        assert (flat.stride(0) == 1) == by_columns
        assert (flat - truth[0]).abs().max() <= DTYPES[dtype] * truth.abs().max()
        again = product(x, values, by_columns=by_columns)
        assert torch.equal(y, again)


@pytest.mark.parametrize(("n", "K", "tokens"), [(5, 0, 3), (5, 3, 0), (1, 1, 1), (0, 0, 2)])
def test_empty_products(n, K, tokens):
    start, width = np.zeros(K, int), np.ones(K, int)
    W = TileMatrix(*run_tile_layouts(start, width, n))
    values = W.values(torch.ones(K))
    assert W.times(torch.ones(tokens, n), values).tolist() == [[1.0] * K] * tokens
    back = [([float(K)] + [0.0] * (n - 1))[:n]] * tokens
    assert W.transpose_times(torch.ones(tokens, K), values).tolist() == back


def test_operands_without_columns_are_read_as_zeros():
    index = torch.tensor([[0, 1], [2, 0]], dtype=torch.int32)
    assert torch.equal(tile_ops._read(torch.ones(3, 0), index), torch.zeros(3, 2, 2))


def test_gradients_that_nobody_wants_are_not_made(rng):
    W, contents, dense = runs_product(rng)
    values, x = W.values(contents), torch.ones(2, 90, dtype=torch.float64, requires_grad=True)
    W.times(x, values).sum().backward()
    torch.testing.assert_close(x.grad, dense.sum(1).expand(2, -1))


def test_products_of_a_matrix_of_zeros():
    W = TileMatrix(*run_tile_layouts(np.zeros(3, int), np.zeros(3, int), 4))
    values = W.values(torch.ones(0))
    assert torch.equal(W.times(torch.ones(2, 4), values), torch.zeros(2, 3))
    assert torch.equal(W.transpose_times(torch.ones(2, 3), values), torch.zeros(2, 4))


def test_block_diagonals_take_one_batched_product(rng, monkeypatch):
    blocks, at = torch.from_numpy(rng.standard_normal((4, 16, 32))), np.arange(4)
    W = TileMatrix(*block_tile_layouts(at, at, (16, 32), (64, 128)))
    x = torch.from_numpy(rng.standard_normal((5, 64)))
    dense = torch.zeros(64, 128, dtype=torch.float64)
    for i in range(4):
        dense[16 * i : 16 * i + 16, 32 * i : 32 * i + 32] = blocks[i]
    values = W.values(blocks.flatten())

    def refuse(*_):
        raise AssertionError("not batched")

    monkeypatch.setattr(tile_ops, "_times_by_groups", refuse)
    for by_columns in (False, True):
        y = W.times(x, values, by_columns=by_columns)
        assert torch.allclose(y, x @ dense)
        assert (y.stride(0) == 1) == by_columns
        back = W.transpose_times(y, values, by_columns=by_columns)
        assert torch.allclose(back, x @ dense @ dense.T)
    scattered = TileMatrix(
        *run_tile_layouts(np.tile([0, 16], 16), np.full(32, 16), 32, tile=(16, 16))
    )
    dense = torch.zeros(32, 32, dtype=torch.float64)
    dense[:16, ::2], dense[16:, 1::2] = 1.0, 1.0
    y = scattered.times(x[:, :32], scattered.values(torch.ones(512, dtype=torch.float64)))
    assert torch.allclose(y, x[:, :32] @ dense)
    ragged, contents, _ = runs_product(rng)
    with pytest.raises(AssertionError, match="not batched"):
        ragged.times(torch.ones(1, 90, dtype=torch.float64), ragged.values(contents))


@pytest.mark.parametrize(("cols", "q"), [([3, 2, 1, 0], 128), ([0, 1, 2, 3], 120)])
def test_what_is_nearly_a_block_diagonal_is_multiplied_right(rng, cols, q):
    blocks = torch.from_numpy(rng.standard_normal((4, 16, 32)))
    W = TileMatrix(*block_tile_layouts(np.arange(4), np.array(cols), (16, 32), (64, q)))
    dense = torch.zeros(64, 128, dtype=torch.float64)
    for i, j in enumerate(cols):
        dense[16 * i : 16 * i + 16, 32 * j : 32 * j + 32] = blocks[i]
    x = torch.from_numpy(rng.standard_normal((5, 64)))
    assert torch.allclose(W.times(x, W.values(blocks.flatten())), x @ dense[:, :q])


def test_nan_and_infinity_reach_what_they_touch_and_no_other_row(rng):
    W, contents, dense = runs_product(rng)
    x = torch.from_numpy(rng.standard_normal((4, 90)))
    x[1, 17], x[2, 80] = torch.nan, torch.inf
    y = W.times(x, W.values(contents))
    assert y[1, dense[17] != 0].isnan().all()
    assert not y[2, dense[80] != 0].isfinite().any()
    assert torch.allclose(y[[0, 3]], x[[0, 3]] @ dense)


def test_nan_stays_out_of_groups_that_do_not_list_it():
    W = TileMatrix(*run_tile_layouts(np.array([0, 40]), np.array([3, 3]), 64, tile=(16, 16)))
    y = W.transpose_times(torch.tensor([[1.0, torch.nan]]), W.values(torch.ones(6)))
    assert y[0, :32].tolist() == [1.0] * 3 + [0.0] * 29
    assert y[0, 40:43].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_first_and_second_derivatives(rng, dtype):
    W, contents, _ = runs_product(rng, n=40, K=20, tile=(16, 16), dtype=dtype)
    x = torch.from_numpy(rng.standard_normal((2, 40))).to(dtype).requires_grad_()
    contents.requires_grad_()

    def layer(x, contents):
        z = W.times(x, W.values(contents), by_columns=True)
        return W.transpose_times(z, W.values(contents * contents))

    assert torch.autograd.gradcheck(layer, (x, contents), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x, contents), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_transforms_follow_plain_operations(rng):
    W, contents, _ = runs_product(rng, n=40, K=20, tile=(16, 16), dtype=torch.float64)
    x = torch.from_numpy(rng.standard_normal((3, 2, 40)))

    def layer(x, contents):
        z = W.times(x, W.values(contents), by_columns=True)
        return W.transpose_times(z.sin(), W.values(contents * contents))

    def close(a, b):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    close(torch.func.vmap(layer, (0, None))(x, contents), layer(x, contents))
    _, tangent = torch.func.jvp(layer, (x, contents), (x, contents))
    h = 1e-6
    ends = [layer(x + s * h * x, contents + s * h * contents) for s in (1, -1)]
    torch.testing.assert_close(tangent, (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-6)
    inputs = [x[0].clone().requires_grad_(), contents.requires_grad_()]
    y = layer(*inputs)

    def gradients(g):
        return torch.autograd.grad(y, inputs, g, retain_graph=True)

    upstream = torch.from_numpy(rng.standard_normal((4, *y.shape)))
    wanted = [gradients(g) for g in upstream]
    batched = torch.autograd.grad(y, inputs, upstream, is_grads_batched=True, retain_graph=True)
    for found in (torch.func.vmap(gradients)(upstream), batched):
        for i, pair in enumerate(wanted):
            for a, b in zip(found, pair, strict=True):
                close(a[i], b)


def test_the_gradient_by_contents_is_taken_where_fewer_tiles_are(rng):
    start, width, n = structure(rng, 300, 200)
    layouts = run_tile_layouts(start, width, n, tile=(16, 64))
    assert layouts[1].num_tiles < layouts[0].num_tiles
    W = TileMatrix(*layouts)
    forward, transpose = (v.detach().requires_grad_() for v in W.values(torch.ones(width.sum())))
    y = W.times(torch.ones(2, n), TileValues(forward, transpose))
    y.sum().backward()
    assert forward.grad is None
    assert (transpose.grad[transpose != 0] == 2).all()


def test_operators_keep_the_rules_of_torch(rng):
    W, contents, _ = runs_product(rng, dtype=torch.float32)
    forward, transpose = W.values(contents)
    here, there = W._sides
    x = torch.from_numpy(rng.standard_normal((5, 90))).float().requires_grad_()
    for by_columns in (False, True):
        arguments = (
            *(x, forward.clone().requires_grad_(), transpose, here.parts, there.parts),
            *(70, by_columns, here.batched, there.batched, []),
        )
        torch.library.opcheck(torch.ops.structmat.tile_matmul.default, arguments)
    grad = torch.ones(5, 70, requires_grad=True)
    torch.library.opcheck(
        torch.ops.structmat.tile_outer.default, (x, grad, here.parts, *forward.shape[1:])
    )


class Layer(torch.nn.Module):
    def __init__(self, product, contents):
        super().__init__()
        self.product = product
        self.contents = torch.nn.Parameter(contents)

    def forward(self, x):
        values = self.product.values(self.contents)
        return self.product.transpose_times(self.product.times(x, values, by_columns=True), values)


def check_compiled(layer, backend):
    x = torch.ones(3, 90, dtype=torch.float64, requires_grad=True)
    outcomes = []
    for call in (layer, torch.compile(layer, backend=backend, fullgraph=True)):
        y = call(x)
        outcomes.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.contents))))
    for plain, compiled in zip(*outcomes, strict=True):
        assert torch.allclose(plain, compiled)


def test_layers_compile_without_a_break(rng):
    W, contents, _ = runs_product(rng)
    check_compiled(Layer(W, contents), "aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own making
def test_layers_compile_with_inductor(rng):
    W, contents, _ = runs_product(rng)
    check_compiled(Layer(W, contents), "inductor")


def test_layers_export_for_any_number_of_rows(rng):
    W, contents, _ = runs_product(rng)
    layer, x = Layer(W, contents), torch.ones(3, 90, dtype=torch.float64)
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: rows},)).module()
    assert torch.allclose(exported(torch.ones(7, 90, dtype=torch.float64)), layer(x)[:1])


def test_what_does_not_fit_is_refused(rng):
    W, contents, _ = runs_product(rng)
    values = W.values(contents)
    with pytest.raises(ShapeError, match="x has 70 columns; expected 90"):
        W.times(torch.ones(2, 70, dtype=torch.float64), values)
    with pytest.raises(BackendError, match="float32"):
        W.times(torch.ones(2, 90), values)
    with pytest.raises(ShapeError, match="contents of shape"):
        W.values(contents[1:])
    layout, _ = run_tile_layouts(np.array([0]), np.array([3]), 4)
    with pytest.raises(ShapeError, match="transpose has shape"):
        TileMatrix(layout, layout)
