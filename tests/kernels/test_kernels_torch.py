"""Compiled kernels behind torch on the CPU: operators, gradients, and what goes round them."""

import copy
import io
import math
import pickle
import warnings
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")
from cases import block_low_rank, build, contents  # noqa: E402
from cases import random_gblr as gblr_case  # noqa: E402
from patterns import PATTERNS, dense, total  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.autograd import forward_ad, gradcheck, gradgradcheck  # noqa: E402

from structmat.kernels import plan, using  # noqa: E402
from structmat.kernels.choice import record, table  # noqa: E402
from structmat.kernels.cpu.column_loops import ROWS  # noqa: E402
from structmat.kernels.cpu.torch_kernel import TorchKernel  # noqa: E402
from structmat.kernels.cpu.torch_op import RowGroupIndex, TorchTiles  # noqa: E402
from structmat.nn.structured import products as structured_products  # noqa: E402
from structmat.nn.structured.layers import StructuredLinear  # noqa: E402

KINDS = ["gblr-prime", "block_sparse-ragged", "block_low_rank", "block_low_rank-dense-tiles"]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
kinds = pytest.mark.parametrize("kind", KINDS)
sides = pytest.mark.parametrize("adjoint", [False, True], ids=["times", "adjoint"])


def close(actual, expected, tolerance=1e-12):
    assert actual.shape == expected.shape
    worst = 1 + expected.abs().amax() if expected.numel() else 1
    assert ((actual.double() - expected).abs() <= tolerance * worst).all()


def double(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def around(matrix, arrays):
    """The same structure around other contents."""
    return matrix._build(dict(zip(matrix.data_names, arrays, strict=True)), (), matrix._static())


def tiles_of(matrix):
    """The product by the operators, whatever looks on."""
    return matrix._fill().bound("tiles")._operators


def times(matrix, x, adjoint):
    """Vectors (tokens, n) to (tokens, m), or back, by the operators."""
    tiles = tiles_of(matrix)
    return (tiles.multiply_adjoint if adjoint else tiles.multiply)(x.T).T


# The operators.

LAYOUTS = {
    "tokens": lambda x: x,
    "columns": lambda x: x.T.contiguous().T,
    "sliced": lambda x: torch.stack([x, x + 1], dim=-1).flatten(1)[:, ::2],
    "of every other token": lambda x: torch.stack([x, x + 1], dim=1).flatten(0, 1)[::2],
    "shifted": lambda x: torch.nn.functional.pad(x, (1, 0)).clone()[:, 1:],
    "one token again and again": lambda x: x[:1].expand(len(x), -1),
    "one number again and again": lambda x: x[:, :1].expand(-1, x.shape[1]),
    "negated in thought": lambda x: torch.complex(x, x).conj().imag,
}


@kinds
@sides
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values_in_every_layout(kind, adjoint, dtype):
    A, twin = build(kind)
    A, twin = A.to("torch"), torch.from_numpy(twin)
    A = around(A, [leaf.to(dtype) for leaf in A._leaves()])
    twin = twin.T if adjoint else twin
    for tokens in (0, 1, 3, 64, 65, 130) if dtype == torch.float64 else (1, 33):
        for name, layout in LAYOUTS.items():
            x = layout(double(tokens, twin.shape[1]).to(dtype))
            before = x.clone()
            for way in (tiles_of(A), A._fill().bound("tiles")):
                y = (way.multiply_adjoint if adjoint else way.multiply)(x.T).T
                assert y.dtype == dtype, name
                close(y, x.double() @ twin.T, TOLERANCE[dtype])
            assert torch.equal(x, before), name


@kinds
@sides
def test_operators_pass_torch_s_own_checks(kind, adjoint):
    A = build(kind)[0].to("torch")
    A = around(A, [leaf.clone().requires_grad_() for leaf in A._leaves()])
    tiles = tiles_of(A)
    cells = [c.detach().requires_grad_(c.numel() > 0) for c in tiles._cells]
    x, y = (double(5, size).requires_grad_() for size in A.shape[::-1])
    x = y if adjoint else x
    arguments = (x, tiles._index, *cells, tiles._sizes, tiles._through, adjoint)
    torch.library.opcheck(torch.ops.structmat.tiles, arguments)


@kinds
@pytest.mark.parametrize("operand", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_gradients_of_cells_pass_torch_s_own_checks(kind, operand, inside):
    A = build(kind)[0].to("torch")
    tiles = tiles_of(A)
    x, grad = (double(5, size) for size in A.shape[::-1])
    rest = tiles._index, *tiles._cells, tiles._sizes, tiles._through, operand, inside
    arguments = (x, grad, *rest)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.structmat.tile_gradients, arguments, test_utils=checks)
    results = torch.ops.structmat.tile_gradients(*arguments)
    wanted = [x.shape if operand else (0,)]
    wanted += [c.shape if inside and c.numel() else (0,) for c in tiles._cells]
    assert [r.shape for r in results] == wanted
    assert all(r.isfinite().all() for r in results)


def which(kind):
    """Every choice of what needs gradients: the operand first, then each content array."""
    count = 1 + len(build(kind)[0]._leaves())
    return [[i in chosen for i in range(count)] for chosen in (range(count), [0], range(1, count))]


@kinds
@sides
@pytest.mark.parametrize("choice", [0, 1, 2], ids=["all", "operand", "contents"])
def test_first_and_second_derivatives(kind, adjoint, choice):
    A = build(kind)[0].to("torch")
    x = double(3, A.shape[0] if adjoint else A.shape[1], seed=3)
    needed = which(kind)[choice]
    arrays = (x, *A._leaves())
    inputs = [a.clone().requires_grad_(n) for a, n in zip(arrays, needed, strict=True)]

    def product(x, *leaves):
        return times(around(A, leaves), x, adjoint)

    assert gradcheck(product, inputs, fast_mode=True, check_batched_grad=True)
    assert gradgradcheck(product, inputs, fast_mode=True)


@pytest.mark.parametrize("kind", ["gblr-prime", "block_low_rank-dense-tiles"])
def test_second_derivatives_of_a_product_that_is_used_twice(kind):
    """What the operand owes to the contents is counted once."""
    A = build(kind)[0].to("torch")
    x = double(3, A.shape[1])

    def twice(x, *leaves):
        tiles = tiles_of(around(A, leaves))
        return tiles.multiply_adjoint(tiles.multiply(x.T).sin()).T

    inputs = [a.clone().requires_grad_() for a in (x, *A._leaves())]
    wanted = torch.autograd.grad(twice(*inputs).square().sum(), inputs)
    recorded = torch.autograd.grad(twice(*inputs).square().sum(), inputs, create_graph=True)
    for a, b in zip(recorded, wanted, strict=True):
        close(a.detach(), b)
    assert gradgradcheck(twice, inputs, fast_mode=True)


def test_dense_tiles_beside_row_groups_cut_short():
    """What passes by the column factor is not what stands for its missing rows."""
    A, twin = block_low_rank([5, 7], [5], {(0, 0): None, (1, 0): 2})(contents("float64"))
    y = double(9, 12)
    close(times(A.to("torch"), y, True), y @ torch.from_numpy(twin))


@kinds
@pytest.mark.parametrize("tokens", [0, 1, 64, 65, 130])
def test_gradients_over_many_tokens(kind, tokens):
    A, twin = build(kind)
    A, twin = A.to("torch"), torch.from_numpy(twin)
    grad, x = double(tokens, A.shape[0]), double(tokens, A.shape[1], seed=1).requires_grad_()
    results = []
    for name in ("tiles", "panels"):
        leaves = [leaf.clone().requires_grad_() for leaf in A._leaves()]
        with using(name):
            y = around(A, leaves).matmat(x.T).T
        results.append(torch.autograd.grad(y, (x, *leaves), grad))
    close(results[0][0], grad @ twin)
    for a, b in zip(*results, strict=True):
        close(a, b)


# Row groups.


@pytest.mark.parametrize("name", PATTERNS)
def test_every_entry_is_placed_once(name):
    pattern = PATTERNS[name]
    count = total(pattern)
    index = RowGroupIndex(pattern, count)
    entries, places = index.entries.reshape(-1), index.places
    assert index.entries.shape[1] == ROWS
    inside = places < entries.numel()
    assert torch.equal(entries[places[inside]], torch.arange(count)[inside])
    assert (entries < count).sum() == inside.sum()
    numbers = torch.arange(1.0, count + 1, dtype=torch.float64).requires_grad_()
    cells = index.fill(numbers)
    assert cells.sum() == np.abs(dense(pattern, np.arange(1.0, count + 1))).sum()
    (gradient,) = torch.autograd.grad((cells * cells.detach()).sum(), numbers)
    # An entry beyond the matrix' edge is in no cell.
    assert torch.equal(gradient, torch.where(inside, numbers.detach(), 0))
    assert inside.all() or name.startswith("blocks")


def test_row_groups_made_in_inference_mode_serve_gradients():
    pattern = PATTERNS["runs"]
    numbers = double(total(pattern)).requires_grad_()
    with torch.inference_mode():
        index = RowGroupIndex(pattern, total(pattern))
    index.fill(numbers).sum().backward()
    assert torch.equal(numbers.grad, torch.ones_like(numbers))


def test_entries_beyond_the_edge_have_no_gradient():
    A = build("block_sparse-ragged")[0].to("torch")
    blocks = A.blocks.clone().requires_grad_()
    times(around(A, [blocks]), double(9, A.shape[1]), False).square().sum().backward()
    assert (blocks.grad[-1, 1:] == 0).all()
    assert (blocks.grad[1, :, 3] == 0).all()
    assert (blocks.grad != 0).sum() == A.cost


# Layers. Theirs is a matrix large enough to be compiled.


@pytest.fixture(autouse=True)
def by_structure(monkeypatch):
    """Multiply through the structure, whatever the model of speed says."""
    monkeypatch.setattr(structured_products, "dense_is_quicker", lambda *_, **__: False)


@pytest.fixture
def met(monkeypatch):
    """Names of the ways that multiply: operators, or the kernels called directly."""
    names, recording, plain = [], TorchKernel._traceable, TorchKernel.direct

    def operator(self, x):
        found = recording(self, x)
        names.append("operator" if found is self._operators else "panels")
        return found

    def way(self, columns):
        found = plain(self, columns)
        names.append("vectors" if found is vars(self).get("_vectors") else "tiles")
        return found

    monkeypatch.setattr(TorchKernel, "_traceable", operator)
    monkeypatch.setattr(TorchKernel, "direct", way)
    return names


@cache
def large(seed=0):
    """A matrix of 150x210 and its dense twin."""
    return gblr_case(150, 210, 60, 2)(contents("float64", seed))


def layer_of(*, frozen=True, dtype=torch.float64, seed=0):
    """A layer around it, and the twin."""
    A, twin = large(seed)
    assert A.cost >= table.LEAST_COMPILED_SCALARS
    layer = StructuredLinear(A, double(150, seed=1)).to(dtype)
    return layer.requires_grad_(not frozen), torch.from_numpy(twin)


def expected(layer, twin, x):
    return x @ twin.T + layer.bias.detach().to(x)


frozen_or_not = pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trained"])
tangents = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
traced = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
QUIET = [torch.no_grad, torch.inference_mode]


@pytest.mark.parametrize("mode", [*QUIET, torch.enable_grad])
@frozen_or_not
def test_few_and_many_vectors(mode, frozen, met):
    layer, twin = layer_of(frozen=frozen)
    met.clear()
    with mode():
        for tokens in (1, 100):
            for _ in range(2):
                x = double(tokens, 210)
                close(layer(x), expected(layer, twin, x))
    if frozen or mode in QUIET:
        assert list(dict.fromkeys(met)) == ["vectors", "tiles"]
    else:
        assert met == ["operator"] * 4


def test_after_inference_mode_gradients_are_to_be_had():
    A, twin = large()
    A = A.to("torch")
    with torch.inference_mode():
        A.matmat(double(210, 3))
    x, u = double(210, 3).requires_grad_(), A.u.clone().requires_grad_()
    A.matmat(x).sum().backward()
    around(A, [u, A.v]).matmat(x).sum().backward()
    close(x.grad, 2 * torch.from_numpy(twin).T @ torch.ones(150, 3).double())
    assert u.grad.abs().sum() > 0


def test_autocast_leaves_compiled_kernels_aside(met):
    layer, twin = layer_of(dtype=torch.float32)
    x = double(70, 210).float()
    met.clear()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        close(y, expected(layer, twin, x.double()), 3e-2)
        assert not met
        close(layer(x), expected(layer, twin, x.double()), 1e-5)
        assert met


@tangents
@frozen_or_not
def test_transforms_see_panels(frozen, met):
    layer, twin = layer_of(frozen=frozen)
    x, bias = double(5, 210), layer.bias.detach()
    met.clear()
    close(torch.func.vmap(layer)(x).detach(), x @ twin.T + bias)
    seen = torch.func.vmap(lambda s: s * layer(x))(torch.arange(2.0).double())
    close(seen[1].detach(), x @ twin.T + bias)
    close(torch.func.grad(lambda x: layer(x).sum())(x).detach(), torch.ones(5, 150).double() @ twin)
    _, tangent = torch.func.jvp(layer, (x,), (2 * x,))
    close(tangent.detach(), 2 * x @ twin.T)
    close(torch.func.jacrev(layer)(x[0]).detach(), twin)
    assert "operator" not in met


def test_gradients_of_every_sample():
    layer, _ = layer_of(frozen=False)
    x, parameters = double(4, 210), dict(layer.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for i in range(4):
        wanted = torch.autograd.grad(loss(parameters, x[i]), list(parameters.values()))
        for (name, _), gradient in zip(parameters.items(), wanted, strict=True):
            close(each[name][i].detach(), gradient)


@tangents
def test_derivatives_forward_are_not_lost():
    layer, twin = layer_of()
    x, direction = double(5, 210), double(5, 210, seed=1)
    with torch.no_grad():
        layer(x)  # what is remembered knows of no tangent
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction)))
        close(y.primal, expected(layer, twin, x))
        close(y.tangent, direction @ twin.T)


@frozen_or_not
def test_several_gradients_at_once(frozen):
    layer, twin = layer_of(frozen=frozen)
    x, grads = double(3, 210).requires_grad_(), double(4, 3, 150, seed=2)
    inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
    y = layer(x)
    found = torch.autograd.grad(y, inputs, grads, is_grads_batched=True, retain_graph=True)
    close(found[0], grads @ twin)
    for i, grad in enumerate(grads):
        wanted = torch.autograd.grad(y, inputs, grad, retain_graph=True)
        for a, b in zip(found, wanted, strict=True):
            close(a[i], b)


@traced
@frozen_or_not
def test_compilation_of_forward_and_backward(frozen):
    layer, twin = layer_of(frozen=frozen)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, layer):
        x = double(9, 210).requires_grad_()
        y = function(x)
        close(y.detach(), expected(layer, twin, x.detach()))
        inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
        results.append(torch.autograd.grad(y.square().sum(), inputs))
    for a, b in zip(*results, strict=True):
        close(a, b)


@traced
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("dynamic", [False, True])
def test_export_of_a_frozen_layer(strict, dynamic):
    layer, twin = layer_of()
    shapes = ({0: torch.export.Dim("tokens")},) if dynamic else None
    x = double(9, 210)
    program = torch.export.export(layer, (x,), dynamic_shapes=shapes, strict=strict)
    assert "structmat.tiles.default" in [str(node.target) for node in program.graph.nodes]
    for tokens in (9, 65) if dynamic else (9,):
        x = double(tokens, 210, seed=tokens)
        close(program.module()(x), expected(layer, twin, x))


def test_a_trace_holds_the_product_and_no_results():
    layer, twin = layer_of()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, double(9, 210), check_trace=False)
    x = double(9, 210, seed=7)
    close(traced(x), expected(layer, twin, x))


@frozen_or_not
def test_saved_and_copied_layers(frozen):
    layer, twin = layer_of(frozen=frozen)
    x = double(70, 210)
    with torch.no_grad():
        for tokens in (1, 70):
            layer(x[:tokens])  # something to remember
        other, _ = layer_of(frozen=frozen, seed=3)
        other.load_state_dict(layer.state_dict())
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        saved = torch.load(file, weights_only=False)
        same = [other, saved, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
        layer.matrix.contents.u.zero_()
        for one in same:
            close(one(x), expected(layer, twin, x))
            close(one(x[:1]), expected(layer, twin, x[:1]))
        close(layer(x), layer.bias.expand(70, -1))


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_steps_change_what_a_layer_computes(kind):
    layer, _ = layer_of(frozen=False)
    optimizer = getattr(torch.optim, kind)(layer.parameters(), lr=1e-3)
    for seed in range(3):
        x = double(70, 210, seed=seed)
        with torch.no_grad():
            for part in (x, x[:1]):
                twin = torch.from_numpy(layer.to_matrix().to("numpy").to_dense())
                close(layer(part), expected(layer, twin, part))
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        layer.matrix.contents.v.mul_(2)
        twin = torch.from_numpy(layer.to_matrix().to("numpy").to_dense())
        close(layer(x), expected(layer, twin, x))


def test_gradients_of_the_operand_alone():
    """The layer is frozen, and so is one factor of two."""
    layer, twin = layer_of()
    x = double(70, 210).requires_grad_()
    layer(x).sum().backward()
    close(x.grad, torch.ones(70, 150, dtype=torch.float64) @ twin)
    results = []
    for frozen in (False, True):
        layer, _ = layer_of(frozen=False)
        layer.matrix.contents.v.requires_grad_(not frozen)
        layer(x.detach()).square().sum().backward()
        results.append(layer.matrix.contents.u.grad)
    assert torch.equal(*results)
    assert layer.matrix.contents.v.grad is None


@pytest.fixture
def threads():
    """Threads for tests to set."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@frozen_or_not
def test_threads(frozen, threads, monkeypatch):
    monkeypatch.setattr("structmat.kernels.cpu.columns.THREAD_MULTIPLICATIONS", 1000)
    layer, twin = layer_of(frozen=frozen)
    x = double(900, 210)
    results = []
    for count in (1, 2, 5):
        threads(count)
        for _ in range(6):
            operand = x.clone().requires_grad_()
            y = layer(operand)
            inputs = [operand, *(p for p in layer.parameters() if p.requires_grad)]
            results.append([y.detach(), *torch.autograd.grad(y.square().sum(), inputs)])
    close(results[0][0], expected(layer, twin, x))
    for i, result in enumerate(results):
        for a, b, first in zip(result, results[i // 6 * 6], results[0], strict=True):
            assert torch.equal(a, b), "another result of the same product"
            close(a, first)


def test_remembered_products_follow_the_number_of_threads(threads, monkeypatch):
    layer, _ = layer_of()
    asked = []

    def shared_out(work, count, threads):
        asked.append(threads)
        work(0, count)

    monkeypatch.setattr("structmat.kernels.cpu.columns.THREAD_MULTIPLICATIONS", 1000)
    monkeypatch.setattr("structmat.kernels.cpu.columns.shared_out", shared_out)
    with torch.no_grad():
        for count in (1, 3, 2):
            threads(count)
            layer(double(200, 210))
    assert asked == [1, 3, 2]


def test_single_vectors_follow_the_number_of_threads(threads, monkeypatch):
    layer, _ = layer_of()
    asked = []

    def board_for(threads):
        asked.append(threads)
        return 0, 1

    monkeypatch.setattr("structmat.kernels.cpu.vectors.THREAD_BYTES", 1000)
    monkeypatch.setattr("structmat.kernels.cpu.vectors.board_for", board_for)
    with torch.no_grad():
        for count in (1, 3, 2):
            threads(count)
            layer(double(1, 210))
    assert asked == [1, 3, 2]


@frozen_or_not
def test_without_numba_panels_multiply(frozen, met, monkeypatch):
    results = []
    for present in (True, False):
        if not present:
            monkeypatch.setattr(record, "_PRESENT", set())
        layer, _ = layer_of(frozen=frozen)
        met.clear()
        x = double(70, 210).requires_grad_()
        y = layer(x)
        inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), inputs)])
        assert bool(met) == present
    for a, b in zip(*results, strict=True):
        close(a, b)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer:UserWarning")
@frozen_or_not
def test_layers_without_storage(frozen):
    layer, twin = layer_of(frozen=frozen)
    state, x = copy.deepcopy(layer.state_dict()), double(70, 210)
    for operand in (x[:1], x):
        assert copy.deepcopy(layer).to("meta")(operand.to("meta")).shape == (len(operand), 150)
    layer = layer.to("meta").to_empty(device="cpu")
    layer.load_state_dict(state)
    close(layer(x).detach(), expected(layer, twin, x))
    with FakeTensorMode():
        fake = StructuredLinear(large()[0]).requires_grad_(not frozen)
        assert fake(torch.empty(7, 210, dtype=torch.float64)).shape == (7, 150)


def test_fake_operands_of_a_layer():
    """Such tensors outlive their mode."""
    layer, twin = layer_of()
    x = double(70, 210)
    for _ in range(2):
        close(layer(x), expected(layer, twin, x))
        operand = FakeTensorMode(allow_non_fake_inputs=True).from_tensor(x)
        assert layer(operand).shape == (70, 150)


def test_one_factor_alone():
    pattern = PATTERNS["runs"]
    index, numbers = RowGroupIndex(pattern, total(pattern)), double(total(pattern))
    R, x = torch.from_numpy(dense(pattern, numbers.numpy())), double(pattern.shape[1], 17)
    tiles = TorchTiles([index], [numbers], through=True)
    close(tiles.multiply(x), R @ x)
    close(tiles.multiply_adjoint(R @ x), R.T @ R @ x)


# Expected times.


@pytest.mark.parametrize("columns", [1, 8, 9, 64])
def test_plans_of_tensors_tell_the_times_of_compiled_kernels(columns):
    matrix = gblr_case(400, 300, 90, seed=0)(contents("float32"))[0]
    numpy, found = (plan(A, columns).expected for A in (matrix, matrix.to("torch")))
    assert found.keys() == {"tiles", "blocks"}
    for name, seconds in found.items():
        single = numpy["vectors"] if columns <= table.MOST_ONE_BY_ONE else math.inf
        assert seconds == min(numpy[name], single)
    assert "us expected" in str(plan(matrix.to("torch"), columns))
