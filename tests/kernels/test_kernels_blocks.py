"""Blocks on listed rows and columns: values, gradients, and orders that cost nothing."""

from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("numba")
torch = pytest.importorskip("torch")

from structmat import GBLR, BlockSparse, Permutation  # noqa: E402
from structmat.errors import ShapeError  # noqa: E402
from structmat.kernels import plan, using  # noqa: E402
from structmat.kernels.bound import Orders  # noqa: E402
from structmat.kernels.cpu import blocks as kernel  # noqa: E402
from structmat.kernels.cpu import torch_blocks as operators  # noqa: E402
from structmat.kernels.cpu.blocks import BlockIndex, BlockProduct  # noqa: E402
from structmat.kernels.cpu.slices import SliceProduct  # noqa: E402
from structmat.kernels.layouts.factors import are_entries  # noqa: E402
from structmat.nn import StructuredLinear  # noqa: E402

SIZES = [(7, 5, 4), (50, 70, 33), (64, 48, 300), (3, 2, 0), (1, 1, 1)]
COLUMNS = (0, 1, 3, 16, 17, 64, 100, 130)


def gblr(m, n, count, dtype="float64", seed=0):
    """Blocks of every width from 0 to 8, around the ends too."""
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(0, min(m, 8) + 1, count), rng.integers(0, min(n, 8) + 1, count)
    u, v = (rng.standard_normal(w.sum()).astype(dtype) for w in (rows, cols))
    first = rng.integers(0, m, count), rng.integers(0, n, count)
    return GBLR(first[0], rows, u, first[1], cols, v, shape=(m, n))


def orders(m, n, seed=1):
    rng = np.random.default_rng(seed)
    return rng.permutation(m), rng.permutation(n)


def product_of(matrix, rows=None, cols=None, threads=0):
    index = BlockIndex.of(matrix._factored.structure).in_orders(rows, cols)
    return BlockProduct(index, [matrix.u, matrix.v], threads=threads)


def arrays(dtype, rows, count, seed=2):
    """The same columns in memory row after row, column after column, and with steps."""
    x = np.random.default_rng(seed).standard_normal((rows, count)).astype(dtype)
    wide = np.zeros((2 * rows, 3 * count), dtype)
    wide[::2, ::3] = x
    return x, np.asfortranarray(x), wide[::2, ::3]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_in_every_layout_and_order(size, dtype):
    m, n, count = size
    matrix, (rows, cols) = gblr(m, n, count, dtype), orders(m, n)
    exact = {"rtol": 0, "atol": 2e-5 if dtype == "float32" else 1e-13}
    for places in ((None, None), (rows, cols), (rows, None)):
        product = product_of(matrix, *places)
        at = [np.arange(s) if p is None else p for s, p in zip((m, n), places, strict=True)]
        A = np.zeros((m, n))
        A[np.ix_(*at)] = gblr(m, n, count).to_dense()
        for k in COLUMNS:
            for x, y in zip(arrays(dtype, n, k), arrays(dtype, m, k), strict=True):
                for by_columns in (False, True):
                    found = product.multiply(x, by_columns=by_columns)
                    np.testing.assert_allclose(found, A @ x, **exact)
                    found = product.multiply_adjoint(y, by_columns=by_columns)
                    np.testing.assert_allclose(found, A.T @ y, **exact)


def test_blocks_of_few_entries_are_multiplied_entry_by_entry():
    """Each entry of a small block once, row by row; the other blocks as they are."""
    sizes = [(1, 1), (1, 9), (7, 1), (2, 3), (12, 9), (0, 3), (3, 0)]
    widths = np.array(sizes).T
    small = are_entries(*widths)
    assert small.tolist() == [True, True, True, True, False, True, True]
    rng = np.random.default_rng(0)
    u, v = (rng.standard_normal(w.sum()) for w in widths)
    A = GBLR([0, 3, 14, 19, 12, 1, 5], widths[0], u, [2, 6, 0, 4, 5, 3, 9], widths[1], v,
             shape=(20, 10))  # fmt: skip
    index = A._factored.bound("blocks").index
    for entries, rows in zip(index.sides, (20, 10), strict=True):
        assert len(entries.ptr) == rows + 1
        assert entries.ptr[-1] == entries.column.size == (1 + 9 + 7 + 6)
        assert len(entries.spans) == 1
    assert A._factored.work.entries == 1 + 9 + 7 + 6
    assert A._factored.work.blocks == 1
    assert A._factored.work.block_scalars == 21
    with using("blocks"):
        for k in (1, 40, 130):
            np.testing.assert_allclose(A @ np.ones((10, k)), A.to_dense() @ np.ones((10, k)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_single_vectors_meet_the_entries_of_all_blocks(dtype, monkeypatch):
    """In slices of rows of every length, the last one not full; more vectors go by blocks."""
    widths = np.array([(1, 1)] * 40 + [(1, 9), (7, 1), (2, 3), (0, 3), (3, 0)]).T
    rng = np.random.default_rng(0)
    u, v = (rng.standard_normal(w.sum()).astype(dtype) for w in widths)
    first = rng.integers(0, 37, widths.shape[1]), rng.integers(0, 11, widths.shape[1])
    A = GBLR(first[0], widths[0], u, first[1], widths[1], v, shape=(37, 11))
    for rows, cols in ((None, None), orders(37, 11)):
        dense, product = A.to_dense(), product_of(A, rows, cols)
        for axis, places in enumerate((rows, cols)):
            dense = dense if places is None else np.take(dense, np.argsort(places), axis=axis)
        calls = Mock(wraps=SliceProduct.multiply)
        monkeypatch.setattr(SliceProduct, "multiply", lambda *args, calls=calls: calls(*args))
        for k in (1, 3, 4, 5):
            for x, y in zip(arrays(dtype, 11, k), arrays(dtype, 37, k), strict=True):
                np.testing.assert_allclose(product.multiply(x), dense @ x, rtol=0, atol=1e-5)
                np.testing.assert_allclose(
                    product.multiply_adjoint(y), dense.T @ y, rtol=0, atol=1e-5
                )
        assert calls.call_count == 3 * 3 * 2
        monkeypatch.undo()
    # Entries that are many are not listed.
    assert not BlockIndex.of(gblr(50, 70, 33)._factored.structure).has_few_entries


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_bit(threads, monkeypatch):
    matrix = gblr(50, 70, 33)
    x = arrays("float64", 70, 130)[0]
    expected = product_of(matrix, threads=1).multiply(x)
    monkeypatch.setattr(kernel, "THREAD_MULTIPLICATIONS", 1)
    np.testing.assert_array_equal(product_of(matrix, threads=threads).multiply(x), expected)


def test_infinite_contents_stay_where_they_are():
    matrix = GBLR([0, 2, 1], [2, 1, 0], [1.0, np.inf, 1.0], [0, 1, 0], [1, 1, 2],
                  [1.0, 1.0, np.nan, np.nan], shape=(4, 3))  # fmt: skip
    x = np.ones((3, 20))
    found = product_of(matrix).multiply(x)
    np.testing.assert_array_equal(found[:, 0], [1.0, np.inf, 1.0, 0.0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_those_of_the_dense_matrix(size, threads, monkeypatch):
    monkeypatch.setattr(kernel, "THREAD_MULTIPLICATIONS", 1)
    m, n, count = size
    matrix, (rows, cols) = gblr(m, n, count).to("torch"), orders(m, n)
    u, v = (t.clone().requires_grad_() for t in (matrix.u, matrix.v))
    places = matrix.row_start, matrix.row_width, matrix.col_start, matrix.col_width
    for k in COLUMNS[1:]:
        x, grad = (torch.from_numpy(arrays("float64", s, k, s)[0]) for s in (n, m))
        x.requires_grad_()
        with using("panels"):
            y = GBLR(*places[:2], u, *places[2:], v, shape=(m, n)).matmat(x[cols])
        y = torch.zeros(m, k, dtype=y.dtype).index_copy(0, torch.from_numpy(rows), y)
        expected = torch.autograd.grad(y, (x, u, v), grad)
        product = product_of(gblr(m, n, count), rows, cols, threads)
        found = product.gradients(x.detach().numpy(), grad.numpy(), operand=True)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        assert product.gradients(x.detach().numpy(), grad.numpy(), operand=False)[0] is None


def tensors(m, n, count, k, *, contents=True):
    matrix, places = gblr(m, n, count), orders(m, n)
    index = operators.TorchBlockIndex.of(matrix.to("torch")._factored.structure)
    index = index.in_orders(*places)
    u, v = (torch.from_numpy(a.copy()).requires_grad_(contents) for a in (matrix.u, matrix.v))
    x = torch.randn(k, n, dtype=torch.float64, requires_grad=True)
    return x, index.tensors, u, v, [m, n]


@pytest.mark.parametrize("adjoint", [False, True])
def test_the_operator_keeps_the_rules_of_torch(adjoint):
    x, index, u, v, sizes = tensors(13, 9, 6, 4)
    x = x if not adjoint else torch.randn(4, 13, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(operators._blocks, (x, index, u, v, sizes, adjoint))

    def product(x, u, v):
        return operators._blocks(x, index, u, v, sizes, adjoint)

    assert torch.autograd.gradcheck(product, (x, u, v))
    assert torch.autograd.gradgradcheck(product, (x, u, v))
    plain = operators._plain_blocks(x, index, u, v, sizes, adjoint)
    torch.testing.assert_close(product(x, u, v), plain, rtol=0, atol=1e-12)


def learned(m=60, n=50, count=300):
    """Many small blocks between two orders, and its dense twin."""
    inside, (rows, cols) = gblr(m, n, count), orders(m, n)
    return Permutation(rows) @ inside @ Permutation(cols).H, inside.to_dense()[rows][:, cols]


@pytest.mark.parametrize(
    ("backend", "kernel"),
    [("numpy", "blocks"), ("torch", "blocks"), ("numpy", "vectors"), ("numpy", "dense")],
)
def test_orders_cost_no_gather(backend, kernel, monkeypatch):
    matrix, twin = learned()
    matrix = matrix.to(backend)
    monkeypatch.setattr(Permutation, "_multiply", None)
    monkeypatch.setattr(Permutation, "_multiply_adjoint", None)
    for k in (1, 70):
        x, y = (matrix.xp.asarray(arrays("float64", s, k)[0]) for s in (50, 60))
        with using(kernel):
            np.testing.assert_allclose(matrix.matmat(x), twin @ np.asarray(x), atol=1e-12)
            np.testing.assert_allclose(matrix.rmatmat(y), twin.T @ np.asarray(y), atol=1e-12)


def test_orders_are_priced_where_they_are_gathered():
    """For one matrix of runs, and one of tiles, which single vectors meet without a middle."""
    tiles = np.ones((40, 10, 10)), np.arange(40) // 2, np.arange(40) % 20
    inside = learned(200, 200, 3000)[0].children[1], BlockSparse(*tiles, shape=(200, 200))
    free = {"vectors", "blocks", "dense"}, {"dense"}
    order = Permutation(np.random.default_rng(0).permutation(200))
    for matrix, names in zip(inside, free, strict=True):
        factored = matrix._factored
        for k in (1, 64):
            plain, around = factored._times(k), factored._times(k, (200, 200))
            gathered = {name for name in plain if around[name][0] > plain[name][0]}
            assert gathered == set(plain) - names
            assert 5e-6 < around["rows"][0] - plain["rows"][0] < 2e-4
        (order @ matrix @ order).matmat(np.ones((200, 64)))
        assert (64, (200, 200)) in factored._chosen


def test_a_matrix_in_other_orders_is_written_out_once():
    matrix, twin = learned()
    matrix = matrix.copy()  # the twin was made with the other
    with using("dense"):
        for k in (1, 3):
            np.testing.assert_allclose(matrix @ np.ones((50, k)), twin @ np.ones((50, k)))
    inside = matrix.children[1]
    (outer,) = matrix._memory["between orders"]._moved.values()
    assert "_dense" in vars(outer)
    assert "_dense" not in vars(inside._factored.bound("dense"))


def test_orders_of_orders():
    rows, cols, again = (np.random.default_rng(i).permutation(n) for i, n in enumerate((4, 5, 4)))
    dense = np.arange(20).reshape(4, 5)
    once = Orders().in_orders(rows, None)
    twice = once.in_orders(again, cols)
    found = twice.moved(dense)
    for i in range(4):
        for j in range(5):
            assert found[again[rows[i]], cols[j]] == dense[i, j]
    assert Orders().moved(dense) is dense


def test_other_kernels_and_contents_that_changed_in_place():
    matrix, twin = learned()
    x = arrays("float64", 50, 3)[0]
    for name in ("blocks", "panels", "blocks"):
        with using(name):
            np.testing.assert_allclose(matrix @ x, twin @ x, atol=1e-12)
    on_torch = matrix.to("torch")
    with using("blocks"):
        first = on_torch.matmat(torch.from_numpy(x))
        on_torch.children[1].u.mul_(2)
        torch.testing.assert_close(on_torch.matmat(torch.from_numpy(x)), 2 * first)


def test_many_small_blocks_are_listed_on_torch():
    """Few stored scalars, but many blocks: panels would start a product for each of some."""
    matrix, _ = learned(200, 150, 300)
    inside = matrix.children[1]
    assert inside.cost < 4096
    assert "blocks" in plan(inside, 64).expected
    kernel = inside.to("torch")._factored._chosen[1, ()]
    assert isinstance(kernel._operators, operators.TorchBlocks)
    wide = gblr(200, 150, 0)
    wide = GBLR([0] * 40, [100] * 40, np.ones(4000), [0] * 40, [100] * 40, np.ones(4000),
                shape=wide.shape)  # fmt: skip
    kernel = wide.to("torch")._factored._chosen[1, ()]
    assert not isinstance(kernel._operators, operators.TorchBlocks)


@pytest.mark.parametrize("rows", [[], [1], [3], [2, 3], [70], [0], [0, 4]], ids=str)
@pytest.mark.parametrize("few", ["few", "many"])
def test_frozen_layers_take_one_compiled_call(rows, few, monkeypatch):
    """The bias with it; whatever the operand's shape and layout."""
    from structmat.nn.structured import products

    monkeypatch.setattr(products, "dense_is_quicker", lambda *_, **__: False)
    matrix, twin = learned(200, 150, 3000)
    if few == "few":
        (inside, *_), ones = matrix.children[1:2], np.ones(2000, int)
        first = [a[:2000] for a in (inside.row_start, inside.col_start)]
        inside = GBLR(first[0], ones, inside.u[:2000], first[1], ones, inside.v[:2000],
                      shape=inside.shape)  # fmt: skip
        matrix = matrix.children[0] @ inside @ matrix.children[2]
        twin = matrix.to_dense()
    bias = torch.randn(200, dtype=torch.float64)
    layer, W = StructuredLinear(matrix, bias).requires_grad_(False), torch.from_numpy(twin)
    x = torch.randn(*rows, 150, dtype=torch.float64)
    wide = torch.randn(*rows, 300, dtype=torch.float64)
    with torch.no_grad():
        layer(x)
        monkeypatch.setattr(products, "through", None)
        for operand in (x, x.clone().requires_grad_(), wide[..., ::2], wide[..., :150]):
            found = layer(operand)
            torch.testing.assert_close(found, operand @ W.T + bias, rtol=0, atol=1e-11)
            assert not found.requires_grad
            found += 1  # a result of its own
        layer.bias.data.mul_(2)
        torch.testing.assert_close(layer(x), x @ W.T + 2 * bias, rtol=0, atol=1e-11)
        layer.bias = None
        torch.testing.assert_close(layer(x), x @ W.T, rtol=0, atol=1e-11)
        with pytest.raises(ShapeError, match="expected"):
            layer(x[..., 1:])


@pytest.mark.parametrize("compiled", [False, True])
def test_layers_train_through_listed_blocks(compiled, monkeypatch):
    from structmat.nn.structured import products

    monkeypatch.setattr(products, "dense_is_quicker", lambda *_, **__: False)
    matrix, twin = learned(200, 150, 300)
    layer = StructuredLinear(matrix)
    call = torch.compile(layer, fullgraph=True, backend="aot_eager") if compiled else layer
    x = torch.randn(6, 150, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(Permutation, "_multiply", None)
    y = call(x)
    torch.testing.assert_close(y, x @ torch.from_numpy(twin).T, rtol=0, atol=1e-11)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * y.detach() @ torch.from_numpy(twin), atol=1e-10, rtol=0)
    shares = [p.grad for p in layer.parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in shares)
    monkeypatch.undo()
    found = torch.func.vmap(layer)(x[:, None])[:, 0]
    torch.testing.assert_close(found, y, rtol=0, atol=1e-11)


def test_traced_products_have_the_bits_of_direct_ones():
    matrix = learned(60, 50)[0].to("torch")
    for k in (17, 70):
        x, y = (torch.from_numpy(arrays("float64", s, k)[0]) for s in (50, 60))
        with using("blocks"):
            for multiply, z in ((matrix.matmat, x), (matrix.rmatmat, y)):
                recorded = multiply(z.clone().requires_grad_())
                assert recorded.requires_grad
                assert torch.equal(multiply(z), recorded)


def test_gradients_of_gradients_need_no_array_of_entries_times_blocks():
    """The dense factors at most: a float for each row and block."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                self.size = max(self.size, found.numel())
            return found

    x, index, u, v, sizes = tensors(13, 9, 60, 4)
    with Largest() as largest:
        operators._plain_blocks(x, index, u, v, sizes, False)
    assert largest.size <= max(13, 9) * 60
