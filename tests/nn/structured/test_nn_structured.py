"""Layers around structured matrices of any kind: values, gradients, what is remembered."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from cases import build

import structmat
from structmat import GBLR, LowRank
from structmat.errors import InputError, ShapeError
from structmat.kernels import plan, using
from structmat.kernels.cost_model.layers import CHUNK
from structmat.kernels.layouts import panels as layout
from structmat.nn.structured import layers as structured
from structmat.nn.structured import products as structured_products
from structmat.nn.structured import speed as _speed
from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight

KINDS = [
    "low_rank",
    "block_sparse-ragged",
    "block_low_rank-dense-tiles",
    "monarch-padded",
    "gblr-prime",
    "sum-of-three",
    "product-ordered",
]
NAMES = [*KINDS, "low_rank-rank-zero", "gblr-no-blocks", "dense", "permutation", "product-of-three",
         "scaled-product", "adjoint", "block_low_rank-no-tiles", "low_rank-no-rows"]  # fmt: skip


@pytest.fixture(params=["structure", "dense"])
def way(request, monkeypatch):
    """Either way of multiplying, whatever the model of speed says."""
    for module in (structured, structured_products):
        monkeypatch.setattr(module, "takes_dense", lambda *_, **__: request.param == "dense")
    return request.param


def double(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_of(name, *, bias=True):
    """A layer around a case, and its dense twin."""
    A, twin = build(name)
    layer = StructuredLinear(A, double(A.shape[0], seed=1) if bias else None)
    return layer, torch.from_numpy(np.array(twin))


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


# Values.


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_multiplies_by_its_matrix(name, grad, way):
    layer, twin = layer_of(name)
    for batch in ((), (3,), (2, 0), (2, 3)):
        x = double(*batch, twin.shape[1])
        with torch.set_grad_enabled(grad):
            for _ in range(2):  # the second time from what is remembered
                y = layer(x)
                close(y, x @ twin.T + layer.bias)
                assert y.is_contiguous()
                close(layer.matrix(x), x @ twin.T)
    close(layer.weight, twin)
    close(layer.to_matrix().to_dense(), twin)


def test_many_vectors_are_multiplied_in_parts(way):
    layer, twin = layer_of("gblr-prime")
    x = double(2, CHUNK * torch.get_num_threads() + 1, twin.shape[1])
    with torch.no_grad():
        close(layer(x), x @ twin.T + layer.bias)


@pytest.mark.parametrize("name", KINDS)
def test_gradients(name, way):
    layer, twin = layer_of(name)
    names, values = zip(*layer.named_parameters(), strict=True)
    assert len(values) > 1
    x = double(2, 2, twin.shape[1]).requires_grad_()

    def product(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(product, (x, *values), fast_mode=True)


@pytest.mark.parametrize("name", KINDS[1:3] + ["gblr-prime"])
def test_complex_gradients_of_panels(name):
    A, _ = build(name, "complex128")
    A = A.to("torch")
    x, y = (torch.complex(double(2, size), double(2, size, seed=1)) for size in A.shape[::-1])

    def products(x, *arrays):
        B = A._build(dict(zip(A.data_names, arrays, strict=True)), (), A._static())
        return B.matvec(x), B.rmatvec(y)

    inputs = [a.clone().requires_grad_() for a in (x, *A._leaves())]
    assert torch.autograd.gradcheck(products, inputs, fast_mode=True)


def test_second_derivatives():
    layer, twin = layer_of("gblr-prime", bias=False)

    def loss(x):
        return layer(x).pow(3).sum()

    H = torch.autograd.functional.hessian(loss, double(twin.shape[1]))
    x = double(twin.shape[1])
    close(H, 6 * twin.T @ torch.diag(twin @ x) @ twin)


def test_gradients_of_every_sample():
    layer, twin = layer_of("gblr-prime")
    X = double(4, twin.shape[1])

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,)).square().sum()

    grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(
        dict(layer.named_parameters()), X
    )
    loss(dict(layer.named_parameters()), X).backward()
    for name, p in layer.named_parameters():
        close(grads[name].sum(0), p.grad)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("grad", [True, False])
def test_an_ensemble_of_parameters(name, grad, way):
    layer, twin = layer_of(name, bias=False)
    x = double(3, twin.shape[1])
    pairs = {k: torch.stack([p.detach(), 0 * p.detach()]) for k, p in layer.named_parameters()}
    with torch.set_grad_enabled(grad):
        y = torch.func.vmap(lambda p: torch.func.functional_call(layer, p, (x,)))(pairs)
    close(y, torch.stack([x @ twin.T, torch.zeros(3, twin.shape[0]).double()]))


@pytest.mark.parametrize("bias", [True, False])
def test_a_result_may_be_written_to(bias, way):
    layer, twin = layer_of("gblr-prime", bias=bias)
    x = double(2, 3, twin.shape[1]).requires_grad_()
    (expected,) = torch.autograd.grad(torch.relu(layer(x)).sum(), x)
    (actual,) = torch.autograd.grad(torch.relu_(layer(x)).sum(), x)
    close(actual, expected)


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_keeps_its_order_in_memory(name):
    A = build(name)[0].to("torch")
    assert A.matvec(double(4, A.shape[1])).stride(-1) == 1
    assert (A @ double(A.shape[1], 4)).stride(-1) == 1


# Precision and devices.


def test_short_floats(way):
    layer, _ = layer_of("gblr-prime")
    layer = layer.bfloat16()
    x = double(4, layer.in_features).bfloat16()
    expected = x.double() @ layer.matrix.dense().double().T + layer.bias.double()
    y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (y.double() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("name", KINDS)
def test_autocast_computes_as_a_dense_layer_does(name, way):
    layer = layer_of(name)[0].float()
    x = double(5, layer.in_features).float()
    with torch.no_grad():
        expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert y.dtype == torch.bfloat16
        with torch.no_grad():
            layer(x)
            torch.testing.assert_close(layer(x), y, rtol=0.02, atol=0.02)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    y.float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}
    assert (y.float() - expected).norm() < 0.02 * expected.norm()


def test_autocast_leaves_no_short_weight_behind():
    layer = layer_of("gblr-prime")[0].float()
    with torch.no_grad():
        expected = layer.matrix.to_matrix().to_dense()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer.weight.dtype == torch.float32
        torch.testing.assert_close(layer.weight, expected)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_inside_autocast(name, way):
    layer = layer_of(name)[0].float()
    x = double(5, layer.in_features).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x).float().sum().backward()
        inside = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    layer(x).sum().backward()
    for p, grad in zip(layer.parameters(), inside, strict=True):
        assert (grad - p.grad).norm() <= 0.03 * p.grad.norm()


def test_double_precision_ignores_autocast(way):
    layer, twin = layer_of("low_rank")
    x = double(3, twin.shape[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(layer(x), x @ twin.T + layer.bias)


@pytest.mark.parametrize("name", [*KINDS, "product"])
def test_a_layer_made_without_memory_is_filled_by_a_state(name, way):
    layer = layer_of(name)[0].float()
    x = double(3, layer.in_features).float()
    empty = copy.deepcopy(layer).to("meta")
    assert empty(x.to("meta")).shape == (3, layer.out_features)
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    torch.testing.assert_close(empty(x), layer(x))


def test_what_structure_gives_is_there_before_the_first_product():
    empty = StructuredWeight(build("gblr-prime")[0].to("torch").to("meta"))
    weight = empty.to_empty(device="cpu")
    prepared = {name for name, device in weight._template._structure if device == "cpu"}
    assert prepared == {"factors"}
    assert copy.deepcopy(weight)._template._structure.keys() >= {(name, "cpu") for name in prepared}


# What is kept, and never kept too long.


def changes():
    """Ways in which parameters change."""

    def sgd(layer, x, **options):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, **options)
        layer(x).square().mean().backward()
        optimizer.step()

    def adam(layer, x, **options):
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.5, **options)
        for p in layer.parameters():  # as a gradient that came from elsewhere
            p.grad = torch.ones_like(p)
        optimizer.step()

    @torch.no_grad()
    def in_place(layer, x):
        next(layer.matrix.parameters()).mul_(2)

    def tripled(layer):
        state = layer.state_dict()
        return {k: v * 3 if v.is_floating_point() else v for k, v in state.items()}

    def load(layer, x):
        layer.load_state_dict(tripled(layer))

    def assign(layer, x):
        layer.load_state_dict(tripled(layer), assign=True)

    def replace(layer, x):
        layer.matrix.contents.v = torch.nn.Parameter(layer.matrix.contents.v.detach() * 2)

    def new_data(layer, x):
        layer.matrix.contents.v.data = layer.matrix.contents.v.detach() * 2

    def old_data_then_mode(layer, x):
        layer.matrix.contents.v.data.mul_(2)
        layer.eval()

    def old_data_then_gradient(layer, x):
        layer.matrix.contents.v.data.mul_(2)
        with torch.enable_grad():
            layer(x)

    return {
        "sgd": sgd,
        "sgd-foreach": lambda *args: sgd(*args, foreach=True),
        "adam": adam,
        "adam-fused": lambda *args: adam(*args, fused=True),
        "adam-foreach": lambda *args: adam(*args, foreach=True),
        "in-place": in_place,
        "load": load,
        "assign": assign,
        "replace": replace,
        "new-data": new_data,
        "old-data-then-mode": old_data_then_mode,
        "old-data-then-gradient": old_data_then_gradient,
    }


@pytest.mark.parametrize("name", changes())
def test_no_stale_values(name, way):
    layer, twin = layer_of("gblr-prime")
    layer.eval()
    x = double(3, twin.shape[1])
    with torch.no_grad():
        before = layer(x)
    changes()[name](layer, x)
    with torch.no_grad():
        after, weight = layer(x), layer.weight.clone()
    assert not torch.allclose(after, before)
    with torch.enable_grad():  # nothing is remembered there
        close(after, layer(x).detach())
        close(weight, layer.weight.detach())


def test_other_parameters_for_one_call(way):
    layer, twin = layer_of("gblr-prime")
    x = double(3, twin.shape[1])
    with torch.no_grad():
        y = layer(x)
        for factor in (2.0, 3.0):  # freed in between, so their addresses may be the same
            other = {"matrix.contents.u": factor * layer.matrix.contents.u.detach()}
            close(torch.func.functional_call(layer, other, (x,)) - layer.bias,
                  factor * (x @ twin.T))  # fmt: skip
        close(layer(x), y)


def test_another_tensor_at_the_same_address(way):
    layer, twin = layer_of("gblr-prime")
    x = double(3, twin.shape[1])
    memory = layer.matrix.contents.u.detach().numpy().copy()
    with torch.no_grad():
        for factor in (1.0, 2.0):
            memory *= factor  # which torch cannot see
            other = {"matrix.contents.u": torch.from_numpy(memory)}
            y = torch.func.functional_call(layer, other, (x,))
            close(y - layer.bias, factor * (x @ twin.T))


def test_a_frozen_layer_computes_its_panels_once():
    weight = StructuredWeight(build("gblr-prime")[0])
    with torch.no_grad():
        assert weight.bound() is weight.bound()
        assert weight.bound()._factored is weight.bound()._factored
        assert weight.dense() is weight.dense()
    assert weight.bound() is not weight.bound()
    weight.requires_grad_(False)
    assert weight.bound() is weight.bound()


def test_gradients_flow_through_what_inference_left(way):
    layer, twin = layer_of("gblr-prime")
    layer.requires_grad_(False)
    x = double(3, twin.shape[1])
    with torch.inference_mode():
        layer(x)
    x.requires_grad_()
    layer(x).sum().backward()
    close(x.grad, twin.sum(0).expand(3, -1))


def test_parameters_made_in_inference_mode_are_not_remembered(way):
    with torch.inference_mode():
        layer, twin = layer_of("gblr-prime")
        x = double(3, twin.shape[1])
        layer(x)
        layer.matrix.contents.u.mul_(2)
        close(layer(x) - layer.bias, 2 * x @ twin.T)


@pytest.mark.parametrize("name", ["gblr-prime", "block_sparse", "block_low_rank"])
def test_layouts_are_computed_once_for_all_steps(name, monkeypatch):
    layer, twin = layer_of(name)
    A = build(name)[0].to("torch")
    for array in A._leaves():
        array.requires_grad_()
    A.matvec(double(twin.shape[1]))

    def refuse(*_):
        raise AssertionError("a layout was computed anew")

    for pattern in (layout.RunPattern, layout.BlockPattern, layout.StackedPattern):
        monkeypatch.setattr(pattern, "layout", refuse)
    A.matvec(double(twin.shape[1])).sum().backward()
    layer(double(3, twin.shape[1])).sum().backward()
    with torch.no_grad():
        layer(double(3, twin.shape[1]))


# Modules.


def test_parameters_are_named_by_their_place():
    weight = StructuredWeight(build("sum-of-three")[0])
    names = [f"contents.{name}" for name in ("0.L", "0.R", "1.U", "1.V", "2.blocks")]
    assert list(weight.state_dict()) == ["_extra_state", *names]
    product = StructuredWeight(build("product")[0])
    assert set(product.state_dict()) == {"_extra_state", "contents.1.L", "contents.1.R"}
    assert {name for name, _ in product.named_parameters()} == {"contents.1.L", "contents.1.R"}


@pytest.mark.parametrize("name", KINDS)
def test_sizes_are_those_of_the_matrix(name):
    A, _ = build(name)
    weight = StructuredWeight(A)
    kind = "gblr" if name == "product-ordered" else A.kind
    assert (weight.shape, weight.kind, weight.cost, weight.storage, weight.positions) == (
        A.shape, kind, A.cost, A.storage, 1)  # fmt: skip
    contents = [leaf for leaf in A._leaves() if leaf.dtype.kind == "f"]  # no permutations
    assert sum(p.numel() for p in weight.parameters()) == sum(leaf.size for leaf in contents)
    layer = StructuredLinear(weight)
    assert (layer.in_features, layer.out_features) == A.shape[::-1]
    assert layer.matrix is weight
    assert kind in repr(layer)


def test_contents_are_copied():
    A = build("low_rank")[0].to("torch")
    weight = StructuredWeight(A)
    with torch.no_grad():
        weight.contents.U.zero_()
    assert A.U.abs().sum() > 0
    back = weight.to_matrix()
    with torch.no_grad():
        weight.contents.U.add_(1)
    assert back.U.abs().sum() == 0
    assert not back.U.requires_grad


def test_the_template_takes_no_memory():
    weight = StructuredWeight(build("gblr-tiles")[0])
    assert all(a.untyped_storage().nbytes() == a.itemsize for a in weight._template._leaves())


@pytest.mark.parametrize("name", KINDS)
def test_copies_are_of_their_own(name, way):
    layer, twin = layer_of(name)
    x = double(3, twin.shape[1])
    with torch.no_grad():
        y = layer(x)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            close(other(x), y)
            next(other.matrix.parameters()).mul_(2)
            assert not torch.allclose(other(x), y)
    close(layer(x), y)


def test_a_state_goes_through_a_file():
    layer, twin = layer_of("sum-of-three")
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(torch.load(file, weights_only=True))
    x = double(3, twin.shape[1])
    close(other(x), layer(x))


def test_an_encoder_layer_reads_the_weight():
    encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    rng = np.random.default_rng(0)
    for name, (m, n) in {"linear1": (16, 8), "linear2": (8, 16)}.items():
        A = LowRank(rng.standard_normal((m, 2)), rng.standard_normal((n, 2)))
        setattr(encoder, name, StructuredLinear(A, torch.zeros(m).double()))
    x = double(2, 3, 8)
    slow = encoder(x).detach()
    with torch.no_grad():  # by its fast path
        close(encoder.eval()(x), slow)


@pytest.fixture
def new_kind(own_kinds):
    """A kind of matrix that nobody foresaw: a circulant one, by Fourier transform."""

    class Circulant(structmat.StructuredMatrix, kind="circulant"):
        data_names = ("column",)

        def __init__(self, column, *, early=False):
            super().__init__((len(column), len(column)), {"column": column})
            if early:
                self.spectrum = torch.fft.rfft(column)

        @property
        def cost(self):
            return 3 * self.shape[0]

        def _times(self, x, conjugate):
            fft = self.xp.fft
            spectrum = fft.rfft(self.column)[:, None]
            spectrum = self.xp.conj(spectrum) if conjugate else spectrum
            return fft.irfft(spectrum * fft.rfft(x, axis=0), n=self.shape[0], axis=0)

        def _multiply(self, x):
            return self._times(x, conjugate=False)

        def _multiply_adjoint(self, y):
            return self._times(y, conjugate=True)

        def _dense(self):
            return self._dense_by_products()

        def _adjoint(self):
            raise NotImplementedError

    return Circulant


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_a_new_kind_needs_nothing_here(new_kind, way):
    column = double(7)
    layer = StructuredLinear(new_kind(column))
    x = double(3, 7)
    i = torch.arange(7)
    close(layer(x), x @ column[(i[:, None] - i) % 7].T)
    with torch.no_grad():
        close(layer(x), x @ column[(i[:, None] - i) % 7].T)
    layer(x).sum().backward()
    close(layer.matrix.contents.column.grad, x.sum().expand(7))


def refused(error, make, *words):
    with pytest.raises(error) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_is_refused(new_kind):
    refused(InputError, lambda: StructuredWeight(np.eye(3)), "ndarray", "structmat.Dense")
    refused(InputError, lambda: StructuredWeight(build("low_rank", "complex64")[0]),
            "torch.complex64", "real")  # fmt: skip
    refused(InputError, lambda: StructuredWeight(new_kind(double(5), early=True)),
            "'circulant'", "'spectrum'", "self._kept")  # fmt: skip
    layer, _ = layer_of("low_rank")
    refused(ShapeError, lambda: layer(double(3, 4)), "(3, 4)", "(…, 5)")
    refused(ShapeError, lambda: layer(torch.tensor(1.0)), "()", "(…, 5)")
    refused(
        InputError, lambda: layer(torch.ones(5)), "torch.float32", "torch.float64", ".to(dtype)"
    )
    refused(ShapeError, lambda: StructuredLinear(build("low_rank")[0], torch.ones(3)),
            "(3,)", "(7,)")  # fmt: skip
    with pytest.raises(AttributeError):
        layer.weight = double(7, 5)


# Which way is quicker.


def test_work_is_counted_by_watching_a_product():
    A = LowRank(torch.ones(30, 2), torch.ones(20, 2))
    assert _speed.count_operations(A) == (2, 100.0, 32.0, 0.0, ())
    grid = even_grid(0.1).to("torch")
    with using("panels"):
        grid.matvec(torch.ones(768))
        work = _speed.count_operations(grid)
    assert work.scalars == grid.cost  # tiles end where runs do, so nothing is padded
    assert work.written == 3 * grid.num_blocks + 2 * 3072
    assert not work.kernels
    work = _speed.count_operations(grid)
    assert work[:4] == (0, 0, 0, 0)
    [kernel] = work.kernels
    for count in (1, 64):
        assert kernel.seconds(count) == plan(grid, count).seconds, "times as a product's own"


def even_grid(share, m=3072, n=768):
    g = round(share * m * n / (m + n))
    g = max(d for d in range(1, g + 1) if m % d == 0 and n % d == 0)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(g), np.arange(g), indexing="ij"))
    height, width = np.full(g * g, m // g), np.full(g * g, n // g)
    u, v = np.ones(height.sum(), np.float32), np.ones(width.sum(), np.float32)
    return GBLR(i * height, height, u, j * width, width, v, shape=(m, n))


def test_the_quicker_way_is_taken(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)

    def dense(rank, count, assembly=0):
        ones = torch.ones(3072, rank), torch.ones(768, rank)
        times = StructuredWeight(LowRank(*ones)).times
        return _speed.dense_is_quicker(times, count, assembly=assembly, device="cpu")

    assert not any(dense(74, count) for count in (1, 16, 4096))  # 12 % of the cost
    assert all(dense(700, count) for count in (1, 16, 4096))  # more than the dense cost
    assert dense(550, 4096)
    assert not dense(550, 700, assembly=768)  # assembling costs more than it saves


def test_traces_decide_for_any_number_of_vectors(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for dense_each in (1.0, 3.0):
        times = _speed.Times(9.0, dense_each, once=0.0, each=2.0)
        for count in (1, 10**6):
            wish = _speed.dense_is_quicker(times, count, assembly=0, device="cpu")
            assert wish == (dense_each < 2)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], InputError, "parts is empty; expected at least one weight"),
        ([3, 4], ShapeError, r"parts take \[3, 4\] inputs; expected one number"),
    ],
)
def test_weights_that_cannot_be_packed_are_refused(sizes, error, message):
    parts = [StructuredWeight(LowRank(torch.ones(5, 1), torch.ones(n, 1))) for n in sizes]
    with pytest.raises(error, match=message):
        PackedLinear(parts)


def test_packed_layers_and_convolutions_print_their_sizes():
    matrix = LowRank(torch.ones(5, 1), torch.ones(3, 1))
    packed = PackedLinear([StructuredWeight(matrix)] * 2)
    assert "in_features=3, out_features=10, bias=False" in repr(packed)
    conv = StructuredConv2d([matrix], in_channels=3, kernel_size=1)
    assert "3, 5, kernel_size=(1, 1), stride=(1, 1), padding=" in repr(conv)


def test_padded_panels_count():
    """Runs that end anywhere promise less than a grid of the same cost."""
    rng = np.random.default_rng(0)
    grid = even_grid(0.1)
    k = grid.num_blocks
    u, v = torch.ones(len(grid.u)), torch.ones(len(grid.v))
    spread = GBLR(rng.integers(0, 3072, k), grid.row_width, u,
                  rng.integers(0, 768, k), grid.col_width, v, shape=grid.shape)  # fmt: skip
    assert StructuredWeight(grid).times.structured(999) < StructuredWeight(spread).times.structured(
        999
    )


def test_tiles_end_where_runs_do():
    start = np.array([500, 100, 100, 350, 350])
    width = np.array([200, 250, 250, 150, 150])
    made = layout.RunPattern(np.tile(start, 20), np.tile(width, 20), 600).layout()
    assert list(made.bounds) == [0, 100, 350, 500, 600]
    assert sum(entries.size for entries in made.entries) == 20 * width.sum()


def test_an_order_is_one_operation_without_multiplications():
    ordered, inside = (StructuredWeight(A) for A in (build("product-ordered")[0], build("gblr")[0]))
    works = [_speed.count_operations(weight.bound()) for weight in (ordered, inside)]
    m, n = inside.shape
    assert works[0].calls == works[1].calls + 2
    assert works[0].written == works[1].written + m + n
    assert works[0].scalars == works[1].scalars
    assert works[0].kernels == works[1].kernels


# Convolutions.


def convolution(taps, kernel=(3, 2), channels=(4, 6), dtype=torch.float64, **settings):
    """A dense convolution and the structured one with the same kernel."""
    inputs, outputs = channels
    rng = np.random.default_rng(0)
    size = kernel[0] * kernel[1]
    shapes = [(outputs, inputs)] * size if taps else [(outputs, inputs * size)]
    matrices = [LowRank(rng.standard_normal((m, 2)), rng.standard_normal((n, 2)))
                for m, n in shapes]  # fmt: skip
    dense = torch.nn.Conv2d(inputs, outputs, kernel, **settings).to(dtype)
    layer = StructuredConv2d(
        matrices, dense.bias, in_channels=inputs, out_channels=outputs, kernel_size=kernel,
        **{k: v for k, v in settings.items() if k != "bias"})  # fmt: skip
    weight = [torch.from_numpy(A.to_dense()) for A in matrices]
    with torch.no_grad():
        dense.weight.copy_(torch.stack(weight, -1).reshape(dense.weight.shape) if taps
                           else weight[0].reshape(dense.weight.shape))  # fmt: skip
    return dense, layer.to(dtype)


SETTINGS = [
    {},
    {"stride": (2, 1), "padding": (1, 2)},
    {"dilation": (1, 2), "padding": 2, "padding_mode": "reflect", "bias": False},
    {"padding": "same", "padding_mode": "circular"},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "stride": 2},
    {"padding": (2, 1), "padding_mode": "replicate"},
]


@pytest.mark.parametrize("taps", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_convolution_is_the_dense_one(taps, settings, way):
    dense, layer = convolution(taps, **settings)
    x = double(5, 4, 9, 12)
    expected = dense(x)
    close(layer.weight, dense.weight)
    for grad in (True, False, False):
        with torch.set_grad_enabled(grad):
            y = layer(x)
            close(y, expected)
            assert y.is_contiguous()
            close(layer(x[0]), expected[0])
    assert layer(x[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("taps", [True, False])
def test_a_point_convolution(taps, way):
    dense, layer = convolution(taps, kernel=(1, 1))
    x = double(2, 4, 5, 5)
    close(layer(x), dense(x))


def test_small_images_are_convolved_together(way):
    dense, layer = convolution(True, kernel=(2, 2))
    x = double(2 * CHUNK * torch.get_num_threads() + 1, 4, 2, 3)
    with torch.no_grad():
        close(layer(x), dense(x))


@pytest.mark.parametrize("taps", [True, False])
def test_gradients_of_a_convolution(taps, way):
    dense, layer = convolution(taps, stride=2, padding=1)
    x = double(2, 4, 5, 6).requires_grad_()
    y = layer(x)
    grads = torch.autograd.grad(y.square().sum(), (x, layer.bias, *layer.taps.parameters()))
    expected = torch.autograd.grad(dense(x).square().sum(), (x, dense.bias, dense.weight))
    close(grads[0], expected[0])
    close(grads[1], expected[1])
    weight = layer.weight
    by_chain = torch.autograd.grad(weight, list(layer.taps.parameters()), expected[2])
    for actual, wanted in zip(grads[2:], by_chain, strict=True):
        close(actual, wanted)


@pytest.mark.parametrize("taps", [True, False])
def test_a_convolution_has_no_stale_kernel(taps, way):
    _, layer = convolution(taps)
    x = double(2, 4, 5, 5)
    with torch.no_grad():
        before = layer.eval()(x)
        layer.taps[-1].contents.U.mul_(2)
        after = layer(x)
    assert not torch.allclose(after, before)
    close(after, layer(x).detach())
    other = pickle.loads(pickle.dumps(layer))
    assert other._kernel is None
    with torch.no_grad():
        close(other(x), after)


def test_a_convolution_follows_autocast(way):
    dense, layer = convolution(True, dtype=torch.float32)
    x = double(2, 4, 5, 5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - dense(x)).norm() < 0.02 * dense(x).norm()


def test_what_a_convolution_refuses():
    A = LowRank(np.ones((6, 1)), np.ones((4, 1)))

    def make(taps=(A,), bias=None, **settings):
        settings = {"in_channels": 4, "out_channels": 6, "kernel_size": 1, **settings}
        return StructuredConv2d(list(taps), bias, **settings)

    make()
    refused(InputError, lambda: make(groups=2), "groups = 2", "expected 1", "dense")
    refused(ShapeError, lambda: make(out_channels=5), "[6]", "out_channels = 5")
    refused(ShapeError, lambda: make(taps=[]), "[]", "at least one")
    refused(ShapeError, lambda: make(kernel_size=3), "(6, 4)", "(6, 36)")
    refused(ShapeError, lambda: make(bias=torch.ones(4)), "(4,)", "(6,)")
    refused(InputError, lambda: make(padding="some"), "'some'", "same")
    refused(InputError, lambda: make(padding="same", stride=2), "same", "stride")
    refused(InputError, lambda: make(padding_mode="mirror"), "mirror", "reflect")
    layer = make()
    refused(ShapeError, lambda: layer(double(2, 3, 5, 5)), "(2, 3, 5, 5)", "4")
    _, wide = convolution(True)
    refused(ShapeError, lambda: wide(double(1, 4, 2, 2)), "2x2", "(3, 2)")


# Traced.

traced = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@traced
@pytest.mark.parametrize("name", ["gblr-prime", "sum", "product-ordered"])
def test_a_layer_compiles_whole(name):
    layer, twin = layer_of(name)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for batch in (3, 5):
        x = double(batch, twin.shape[1])
        close(compiled(x), layer(x))
    with torch.no_grad():
        close(compiled(x), layer(x))
        layer.matrix.requires_grad_(False)
        next(layer.matrix.parameters()).mul_(2)
        close(compiled(x), layer(x))


@traced
@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS, "product-of-three", "scaled", "adjoint", "dense"])
def test_a_layer_compiles_with_its_gradient(name, way):
    layer, twin = layer_of(name)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    x = double(3, twin.shape[1])
    for one in (compiled, layer):
        one(x).square().sum().backward()
    close(compiled(x), layer(x))
    for p, q in zip(compiled.parameters(), layer.parameters(), strict=True):
        close(p.grad, q.grad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer, compiled = layer.float(), compiled.float()
        torch.testing.assert_close(compiled(x.float()), layer(x.float()), rtol=0.02, atol=0.05)


@traced
@pytest.mark.slow
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", [*KINDS, "product-of-three"])
def test_a_layer_is_exported(name, strict, way):
    layer, twin = layer_of(name)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(
        layer, (double(3, twin.shape[1]),), dynamic_shapes=shapes, strict=strict
    )
    x = double(7, twin.shape[1])
    close(program.module()(x), layer(x))


@traced
@pytest.mark.slow
@pytest.mark.parametrize("taps", [True, False])
def test_a_convolution_compiles_and_is_exported(taps, way):
    _, layer = convolution(taps)
    x = double(2, 4, 5, 5)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    close(compiled(x), layer(x))
    close(torch.export.export(layer, (x,)).module()(x), layer(x))


@pytest.mark.parametrize("name", ["dense", "low_rank", "gblr"])
def test_what_initialises_layers_through_weight_leaves_the_contents_alone(name):
    matrix = structmat.Dense(np.eye(3)) if name == "dense" else build(name)[0]
    layer = StructuredLinear(matrix)
    before = [p.detach().clone() for p in layer.parameters()]
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            weight = layer.weight
        with torch.no_grad():
            weight.add_(1.0)
        layer.matrix.refresh()
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), before, strict=True))
