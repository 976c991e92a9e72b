"""Gaudi weights and layers against naive dense matrices made of explicit masks."""

import copy
import gc
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

from structmat import GBLR, InputError, ShapeError
from structmat.nn import GaudiLinear, GaudiWeight, gaudi_mask
from structmat.nn.gaudi import conversion
from structmat.nn.gaudi.side import Side

double = torch.float64
products = pytest.mark.parametrize("product", ["assembled", "factors"])
ways = pytest.mark.parametrize(
    "options", [{"product": "assembled"}, {"product": "factors"}, {"max_width": 9}]
)
SIDES = ("row", "col")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(shape=(13, 17), num_blocks=9, **options):
    """Random runs, one block without rows and one without anything."""
    options = {"width_init": "uniform", "dtype": double, "sigma": 4.0} | options
    weight = GaudiWeight(shape, num_blocks=num_blocks, **options)
    with torch.no_grad():
        weight.structure.row_width[:2] = 0.0
        weight.structure.col_width[1:2] = 0.0
    return weight


def naive(weight):
    """Σ_k (u_k ∘ mask_k) (v_k ∘ mask_k)^T with full masks, hard ones in evaluation."""
    sides = []
    for side, n, contents in zip(SIDES, weight.shape, (weight.u, weight.v), strict=True):
        width = getattr(weight.structure, f"{side}_width")
        location = getattr(weight.structure, f"{side}_location")
        if weight.training:
            mask = gaudi_mask(width, location, n, sigma=weight.sigma)
        else:
            w, l = torch.round(width * n).clamp(0, n), torch.round(location * n)
            mask = (torch.arange(n) - l[:, None]) % n < w[:, None]
        sides.append(contents * mask[:, None].to(contents))
    return torch.einsum("krm,krn->mn", *sides)


def gradients(output, weight, *more):
    """Of one scalar function of an output, by contents, structure, and `more`."""
    upstream = torch.sin(torch.arange(output.numel(), dtype=output.dtype)).view_as(output)
    return torch.autograd.grad((output * upstream).sum(), [*weight.parameters(), *more])


def close(actual, expected, relative=1e-12):
    assert actual.shape == expected.shape
    assert (actual - expected).norm() <= relative * (1e-3 + expected.norm().item())


@pytest.mark.parametrize("shape", [(13, 17), (1, 7), (7, 1), (1, 1), (64, 31)])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("sigma", [1.0, 4.0, 30.0, math.inf])
@products
def test_forward_and_gradients_are_those_of_explicit_masks(shape, rank, sigma, product):
    weight = make(shape, rank=rank, sigma=sigma, product=product)
    x = torch.randn(3, 2, shape[1], dtype=double, requires_grad=True)
    # Factors leave derivatives away from a boxcar's edges out; at this size, of no mask.
    learned = product == "assembled" or sigma < 30
    for training in (True, False):
        weight.train(training)
        y, expected = weight(x), x @ naive(weight).T
        close(y, expected, 1e-12 if product == "assembled" else 1e-5)
        close(weight.dense(), naive(weight))
        if training and learned:
            wanted = gradients(expected, weight, x)
            for a, b in zip(gradients(y, weight, x), wanted, strict=True):
                close(a, b, 1e-12 if product == "assembled" else 1e-5)


@pytest.mark.parametrize("location", ["uniform", 0.0, 0.004, 0.99])
@pytest.mark.parametrize("rank", [1, 2])
def test_factors_agree_where_they_skip_tiles(location, rank):
    """Blurred masks reach over the edge of the circle on either side."""
    weight = make(
        (256, 320), 128, width_init=0.05, location_init=location, sigma=20.0, rank=rank,
        product="factors",
    )  # fmt: skip
    x = torch.randn(5, 320, dtype=double, requires_grad=True)
    ways = (x @ naive(weight).T, weight(x), x @ weight.dense().T)
    results = [[y, *gradients(y, weight, x)] for y in ways]
    for expected, *actual in zip(*results, strict=True):
        for a in actual:
            close(a, expected, 3e-5)


def check_gradients(weight, names, x):
    start = [dict(weight.named_parameters())[name].detach().clone() for name in names]

    def function(x, *values):
        return functional_call(weight, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(function, (x.requires_grad_(), *(p.requires_grad_() for p in start)))


@products
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_width", [None, 4])
def test_gradcheck_of_contents_and_input(product, training, max_width):
    weight = make((6, 7), 4, rank=2, product=product, max_width=max_width, sigma=3.0)
    check_gradients(weight.train(training), ["u", "v"], torch.randn(3, 7, dtype=double))


def test_gradcheck_of_everything_where_runs_stay_real():
    weight = make((6, 7), 4, straight_through=False, sigma=2.0)
    with torch.no_grad():
        weight.structure.row_width[:2] = 0.37
        weight.structure.col_width[1] = 0.41
    names = [name for name, _ in weight.named_parameters()]
    check_gradients(weight, names, torch.randn(2, 7, dtype=double))
    weight.eval()
    close(weight.dense(), naive(weight))


def random_matrix(shape, count, widest):
    rng, runs = np.random.default_rng(0), []
    for n in shape:
        width = rng.integers(0, widest + 1, count)
        runs += [rng.integers(0, n, count), width, rng.standard_normal(width.sum())]
    return GBLR(*runs, shape=shape)


@pytest.mark.parametrize("shape", [(23, 31), (40, 12), (12, 1)])
@pytest.mark.parametrize("widest", [1, 5, 8])
def test_windows_are_whole_circles_where_runs_fit(shape, widest):
    A = random_matrix(shape, 7, min(widest, *shape))
    dense, x = torch.from_numpy(A.to_dense()), torch.randn(4, shape[1], dtype=double)
    energies = []
    for options in ({}, {"max_width": 8}):
        weight = GaudiWeight.from_matrix(A, dtype=double, sigma=math.inf, **options)
        assert weight.u.shape[-1] == min(8, shape[0]) or not options
        for training in (True, False):
            close(weight.train(training).dense().detach(), dense)
            close(weight(x), x @ dense.T)
        B = weight.to_matrix()
        close(B.to_dense(), dense)
        alive = A.row_width * A.col_width > 0
        assert B.storage == weight.cost == (A.row_width + A.col_width)[alive].sum()
        grads = torch.autograd.grad(weight(x).square().sum(), [weight.u, weight.v])
        energies.append(torch.stack([g.norm() for g in grads]))
    close(*energies)


def test_blurred_masks_on_windows_that_hold_their_tails():
    A = random_matrix((256, 200), 200, 6)
    results = []
    for options in ({"product": "assembled"}, {"product": "factors", "max_width": 22}):
        weight = GaudiWeight.from_matrix(A, dtype=double, sigma=25.0, **options)
        with torch.no_grad():  # something to mask beside the runs, too
            weight.u.fill_(0.5)
            weight.v.fill_(-1.0)
        y = weight(torch.eye(200, dtype=double))
        results.append([y, *gradients(y, weight)[2:]])  # all but the contents
    for a, b in zip(*results, strict=True):
        close(b, a, 1e-4)


@pytest.mark.parametrize("max_width", [None, 9])
def test_contents_stay_aligned_while_a_run_moves_over_the_edge(max_width):
    """The entries that two positions of a run share do not change; 9 does not divide 12."""
    start = GBLR([10], [5], np.arange(1.0, 6), [0], [1], [1.0], shape=(12, 3))
    weight = GaudiWeight.from_matrix(start, max_width=max_width, dtype=double).eval()
    before = weight.dense()[:, 0].tolist()
    assert before == [3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    for location in (11, 12, 8):
        with torch.no_grad():
            weight.structure.row_location.fill_(location / 12)
        run = [(location + i) % 12 for i in range(5)]
        shared = [i for i in range(12) if before[i] and i in run]
        assert [weight.dense()[i, 0].item() for i in shared] == [before[i] for i in shared]
        close(weight.to_matrix().to_dense(), weight.dense())


@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (0,), (2, 0), (1, 1, 2, 1)])
@pytest.mark.parametrize("bias", [True, False])
@ways
def test_any_leading_axes(lead, bias, options):
    layer = GaudiLinear(11, 8, bias, **options)
    x = torch.randn(*lead, 11, requires_grad=True)
    y = layer(x)
    assert y.shape == (*lead, 8)
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    close(y, expected, 1e-5)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert (layer.bias is None) == (not bias)


@ways
def test_no_blocks_at_all(options):
    layer = GaudiLinear(11, 8, num_blocks=0, width_init="splr", **options)
    y = layer(torch.randn(3, 11))
    y.sum().backward()
    assert torch.equal(y, layer.bias.expand(3, 8))
    assert layer.to_matrix().cost == layer.matrix.cost == 0


def half(kind, layer, x):
    if kind == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)
    return layer.bfloat16()(x.bfloat16())


@pytest.mark.parametrize("kind", ["module", "autocast"])
@pytest.mark.parametrize("training", [True, False])
@ways
def test_half_precision_stays_close(kind, training, options):
    layer = GaudiLinear(48, 40, sigma=20.0, budget=0.5, **options).train(training)
    reference, x = copy.deepcopy(layer), torch.randn(16, 48)
    y = half(kind, layer, x)
    assert y.dtype == torch.bfloat16
    upstream = torch.randn(16, 40)
    (y.float() * upstream).sum().backward()
    expected = reference(x)
    (expected * upstream).sum().backward()
    close(y.float(), expected, 0.02)
    for (name, p), q in zip(layer.named_parameters(), reference.parameters(), strict=True):
        halved = kind == "module" and "structure" not in name
        assert p.dtype == (torch.bfloat16 if halved else torch.float32)
        close(p.grad.float(), q.grad, 0.05 if "structure" in name else 0.02)


def test_structure_keeps_its_precision():
    layer = GaudiLinear(300, 200, width_init="uniform", num_blocks=20)
    runs = {n: p.clone() for n, p in layer.matrix.structure.named_parameters()}
    for convert in ("bfloat16", "half", "float"):
        getattr(layer, convert)()
        for name, p in layer.matrix.structure.named_parameters():
            assert p.dtype == torch.float32
            assert torch.equal(p, runs[name])
    layer.to(torch.bfloat16).to("cpu").double()
    assert layer.matrix.u.dtype == double
    assert torch.equal(layer.matrix.structure.row_width.float(), runs["row_width"])
    assert GaudiWeight((4, 4), dtype=torch.bfloat16).structure.row_width.dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"max_width": 6, "rank": 2}])
def test_state_and_copies(options):
    a, b = (GaudiLinear(11, 8, num_blocks=5, width_init="uniform", **options) for _ in "ab")
    x = torch.randn(3, 11)
    missing = b.load_state_dict(a.state_dict())
    assert not missing.missing_keys + missing.unexpected_keys
    assert torch.equal(a(x), b(x))
    c = copy.deepcopy(a)
    with torch.no_grad():
        c.matrix.u.add_(1.0)
        c.matrix.structure.row_width.fill_(1.0)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), c(x))


@pytest.mark.parametrize("options", [{}, {"rank": 3}, {"max_width": 6}, {"dtype": torch.bfloat16}])
def test_to_matrix_is_what_evaluation_multiplies_by(options):
    weight = make((20, 14), 12, **options).eval()
    A, dense = weight.to_matrix(), weight.dense().detach().double()
    error = 0.02 if "dtype" in options else 1e-12
    close(A.to_dense().double(), dense, error)
    assert A.cost == weight.cost == weight.storage == A.storage
    assert (A.row_width * A.col_width > 0).all()
    if not options:
        close(GaudiWeight.from_matrix(A, dtype=double).eval().dense(), dense)
    A.u[:] = 0.0
    assert torch.equal(weight.dense().double(), dense)  # contents are a copy


@products
def test_dead_blocks_contribute_nothing(product):
    """With both widths zero a block is out of reach of any gradient; with one, not."""
    weight = make(product=product, rank=2, sigma=2.0)
    x = torch.randn(4, 17, dtype=double)
    y = weight(x)
    grads = dict(zip(dict(weight.named_parameters()), gradients(y, weight), strict=True))
    assert all((g[1] == 0).all() for g in grads.values())
    assert (grads["structure.row_width"][0] != 0).all()
    with torch.no_grad():
        weight.u[:2] = math.pi
        weight.v[:2] = math.e
    close(weight(x), y)
    rows, cols = (
        torch.round(w * n) > 0 for w, n in zip(weight.structure()[::2], (13, 17), strict=True)
    )
    assert weight.to_matrix().num_blocks == 2 * (rows & cols).sum()


@products
def test_gradients_accumulate_and_can_be_left_out(product):
    layer = GaudiLinear(17, 13, sigma=3.0, product=product, dtype=double)
    x = torch.randn(6, 17, dtype=double)
    layer(x).square().sum().backward()
    whole = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    for part in x.split(2):
        layer(part).square().sum().backward()
    for p, expected in zip(layer.parameters(), whole, strict=True):
        close(p.grad, expected)
    with torch.no_grad():
        assert not layer(x).requires_grad
    layer.requires_grad_(False)
    x.requires_grad_()
    (by_input,) = torch.autograd.grad(layer(x).sum(), x)
    close(by_input, layer.weight.sum(0).expand(6, -1))


@products
def test_a_watched_weight_keeps_its_dense_gradient(product):
    weight = make(product=product)
    weight.record_weight_grad = True
    x = torch.randn(3, 2, 17, dtype=double)
    upstream = torch.randn(3, 2, 13, dtype=double)
    for _ in range(2):
        (weight(x) * upstream).sum().backward()
    close(weight.weight_grad.double(), 2 * torch.einsum("abm,abn->mn", upstream, x), 1e-5)


def test_memory_kept_for_the_backward_pass():
    """Whole numbers and the small side's coefficients: never masks or masked contents."""
    layer = GaudiLinear(768, 3072, num_blocks=768, width_init="splr")
    x, kept = torch.randn(512, 768, requires_grad=True), {}

    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    gc.collect()
    before = {id(t) for t in gc.get_objects() if type(t) is torch.Tensor}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = layer(x)
    for t in gc.get_objects():  # what is held without being saved
        if type(t) is torch.Tensor and id(t) not in before and t is not y:
            keep(t)
    for p in layer.parameters():
        kept.pop(p.untyped_storage().data_ptr(), None)
    factors = 4 * 768 * (768 + 3072)
    assert y.requires_grad
    assert 0 < sum(kept.values()) <= 1.5 * factors + x.nbytes


@pytest.mark.parametrize("shape", [(3, 10), (10,), (11, 1), ()])
def test_refuses_input_of_another_length(shape):
    with pytest.raises(ShapeError, match=r"expected \(…, 11\)"):
        GaudiLinear(11, 8)(torch.zeros(shape))


@pytest.mark.parametrize(
    "options", [{"rank": 2}, {"max_width": 3}, {"min_width": 3}, {"granularity": 2}, {}]
)
def test_refuses_matrices_it_cannot_hold(options):
    """More rank, wider runs, runs between the grains, complex contents."""
    u = np.arange(4.0) + (0 if options else 1j)
    A = GBLR([3], [4], u, [1], [2], [1.0, 10.0], shape=(6, 6))
    with pytest.raises(InputError):
        GaudiWeight.from_matrix(A, **options)


def test_weights_of_many_blocks_store_less_than_whole_circles(monkeypatch):
    A = GBLR([3], [2], [1.0, 2.0], [1], [2], [1.0, 10.0], shape=(6, 9))
    assert GaudiWeight.from_matrix(A).u.shape[-1] == 6
    monkeypatch.setattr("structmat.nn.gaudi.weight.WHOLE_CIRCLE_SCALARS", 10)
    small = GaudiWeight.from_matrix(A)
    assert small.u.shape[-1] == small.v.shape[-1] == 4
    np.testing.assert_allclose(small.eval().dense().detach().numpy(), A.to_dense())


def test_options_allow_a_matrix_whose_runs_they_hold():
    A = GBLR([3], [4], np.arange(4.0), [1], [2], [1.0, 10.0], shape=(6, 6))
    assert conversion.allows(A, {})
    assert conversion.allows(A, {"max_width": 4, "min_width": 2})
    for options in ({"max_width": 3}, {"min_width": 3}, {"granularity": 2}):
        assert not conversion.allows(A, options)


def test_layers_without_values_print_no_cost():
    layer = GaudiLinear(16, 8).to("meta")
    assert "8x16, num_blocks=" in repr(layer)
    assert "cost" not in repr(layer)


def test_layers_print_and_show_their_weight():
    layer = GaudiLinear(16, 8, budget=0.75)
    assert "8x16, num_blocks=8, rank=1, cost=0.75" in repr(layer)
    assert torch.equal(layer.weight, layer.matrix.dense())
    with pytest.raises(AttributeError):
        layer.weight = torch.zeros(8, 16)
    again = GaudiLinear.from_weight(layer.matrix, layer.bias)
    assert torch.equal(again(torch.ones(16)), layer(torch.ones(16)))
    assert (again.in_features, again.out_features) == (16, 8)


@pytest.mark.parametrize("product", ["assembled", "factors"])
@pytest.mark.parametrize("max_width", [None, 5])
def test_compiled_layers_have_all_derivatives(product, max_width):
    """They are one operation of a graph, whose sharpness changes without a new one."""
    torch.compiler.reset()
    options = {"product": product, "max_width": max_width, "width_init": 0.4, "num_blocks": 9}
    layer, graphs = GaudiLinear(8, 6, sigma=3.0, **options).double(), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    quick = torch.compile(layer, backend=backend, fullgraph=True)
    x = torch.randn(3, 8, dtype=double, requires_grad=True)
    values = [x, *layer.parameters()]
    for sigma in (3.0, 4.0):
        layer.matrix.sigma = sigma
        found, wanted = [], []
        for run, results in ((quick, found), (layer, wanted)):
            y = run(x).sin().sum()
            slopes = torch.autograd.grad(y, values, create_graph=True)
            total = sum(slope.square().sum() for slope in slopes)
            results += [y, *slopes, *torch.autograd.grad(total, values)]
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert len(graphs) == 1
    layer.matrix.structure.is_pinned = True
    quick(x).sum().backward()
    assert not layer.matrix.structure.row_width.grad.any()
    weight = torch.compile(lambda: layer.weight * 1, backend=backend, fullgraph=True)()
    torch.testing.assert_close(weight, layer.weight)


def test_compiled_layers_have_the_sharpness_that_was_set_on_a_device():
    torch.compiler.reset()
    layer = GaudiLinear(8, 6, sigma=3.0)
    values = [p.detach().clone() for p in layer.parameters()]
    layer.to("meta").matrix.sigma = 0.5
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), values, strict=True):
            parameter.copy_(value)
    quick = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(quick(torch.ones(8)), layer(torch.ones(8)))


@pytest.mark.parametrize("product", ["assembled", "factors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_layers_follow_autocast(product, dtype):
    torch.compiler.reset()
    layer = GaudiLinear(8, 6, product=product)
    x, found = torch.randn(3, 8).to(dtype), []
    for run in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = run(x)
        y.float().square().sum().backward()
        found.append([y, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)
    assert found[0][0].dtype == torch.bfloat16


def test_dtypes_have_to_agree_by_either_product():
    for product in ("assembled", "factors"):
        with pytest.raises(InputError, match="expected one dtype"):
            GaudiLinear(8, 6, product=product)(torch.zeros(2, 8, dtype=double))


# Gradients of runs that nothing asks for.


def gradients_of_contents(weight, x):
    weight(x).square().sum().backward()
    return weight.u.grad, weight.v.grad


@pytest.mark.parametrize("options", [{"product": "assembled"}, {"product": "factors"},
                                     {"product": "factors", "max_width": 4}])  # fmt: skip
@pytest.mark.parametrize("case", ["pinned", "fixed"])
def test_gradients_of_runs_are_computed_only_where_they_are_used(options, case, monkeypatch):
    weight = GaudiWeight((8, 12), budget=0.5, sigma=4.0, **options)
    other = copy.deepcopy(weight)
    if case == "pinned":
        other.structure.is_pinned = True
    else:
        other.structure.requires_grad_(False)
    x, computed, compute = torch.randn(5, 12), [], Side.mask_gradients
    monkeypatch.setattr(
        Side, "mask_gradients", lambda *args: computed.append(args) or compute(*args)
    )
    wanted = gradients_of_contents(weight, x)
    assert len(computed) == 2
    for actual, expected in zip(gradients_of_contents(other, x), wanted, strict=True):
        assert torch.equal(actual, expected)
    assert len(computed) == 2
    for p in other.structure.parameters():
        assert (p.grad is None) if case == "fixed" else torch.equal(p.grad, torch.zeros_like(p))
