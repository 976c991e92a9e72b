"""Derivatives forward and of higher order, and `torch.func`, through matrices and frozen layers."""

import pytest
import torch
from cases import build, random_gblr
from cases import contents as drawn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from structmat import binding
from structmat.kernels import using
from structmat.kernels.choice.record import has
from structmat.nn import StructuredLinear

# Forward derivatives of torch itself use a part that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
NAMES = ["low_rank", "block_sparse-ragged", "block_low_rank-dense-tiles", "monarch-padded",
         "gblr-prime", "sum-of-three", "product-of-three", "product-ordered",
         "scaled-product", "adjoint",
         "dense", "large"]  # fmt: skip
QUICK = ("gblr-prime", "large")
every_kind = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
PRODUCTS = {
    "matvec": lambda A, x, y: A.matvec(x[0]),
    "rmatvec": lambda A, x, y: A.rmatvec(y[0]),
    "matmat": lambda A, x, y: A.matmat(x.T),
    "adjoint": lambda A, x, y: A.H.matmat(y.T),
    "from the left": lambda A, x, y: y @ A,
    "scaled": lambda A, x, y: (2 * A) @ x[0],
    "sum": lambda A, x, y: (A + A) @ x[0],
    "gram": lambda A, x, y: (A.H @ A) @ x[0],
    "dense": lambda A, x, y: A.to_dense(),
}


def double(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix_of(name):
    """A matrix on torch; the large one is multiplied by compiled kernels."""
    A = random_gblr(90, 110, 60, 0)(drawn("float64"))[0] if name == "large" else build(name)[0]
    return A.to("torch")


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)


def around(A, values):
    """The same structure around other floating contents."""
    values = iter(values)
    return binding.construct(
        A, [next(values) if leaf.is_floating_point() else leaf for leaf in binding.leaves(A)]
    )


def floats(A):
    return [leaf.clone() for leaf in binding.leaves(A) if leaf.is_floating_point()]


# Matrices whose contents take part.


@every_kind
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_by_operand_and_contents(name, product):
    """Backward once and twice, forward, and many at once."""
    A = matrix_of(name)
    x, y = double(2, A.shape[1]), double(2, A.shape[0], seed=1)
    values = floats(A)

    def function(x, y, *values):
        return PRODUCTS[product](around(A, values), x, y)

    inputs = [t.clone().requires_grad_() for t in (x, y, *values)]
    gradcheck(function, inputs, fast_mode=True, check_forward_ad=True, check_batched_grad=True)
    gradgradcheck(function, inputs, fast_mode=True)
    stacked = [torch.stack([t, 3 * t]) for t in (x, y, *values)]
    both = vmap(function)(*stacked)
    for i, result in enumerate(both):
        close(result, function(*(t[i] for t in stacked)))
    tangents = tuple(double(*t.shape, seed=2) for t in (x, y, *values))
    _, wanted = jvp(function, (x, y, *values), tangents)
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, (x, y, *values), tangents)
        close(forward_ad.unpack_dual(function(*duals)).tangent, wanted)


# Layers with a fixed structure.


def layer_of(name):
    A = matrix_of(name)
    layer = StructuredLinear(A, double(A.shape[0], seed=3))
    return layer, dict(layer.named_parameters()), double(3, A.shape[1], seed=4)


@every_kind
@pytest.mark.parametrize("recorded", [True, False])
def test_forward_tangents_of_parameters_are_kept(name, recorded):
    """The memory of a layer's contents knows of no tangent."""
    layer, parameters, x = layer_of(name)
    values = {n: p.detach() for n, p in parameters.items()}
    tangents = {n: torch.randn_like(p) for n, p in values.items()}
    h = 1e-6
    ends = [
        layer_call(layer, {n: p + sign * h * tangents[n] for n, p in values.items()}, x)
        for sign in (1, -1)
    ]
    wanted = (ends[0] - ends[1]) / (2 * h)
    with torch.set_grad_enabled(recorded):
        layer(x)
        _, found = jvp(lambda p: layer_call(layer, p, x), (values,), (tangents,))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        with forward_ad.dual_level():
            duals = {n: forward_ad.make_dual(p, tangents[n]) for n, p in values.items()}
            tangent = forward_ad.unpack_dual(layer_call(layer, duals, x)).tangent
            close(tangent, found)


def layer_call(layer, parameters, x):
    return functional_call(layer, parameters, (x,))


@every_kind
@pytest.mark.parametrize("frozen", [True, False])
def test_transforms_of_a_layer(name, frozen):
    layer, _, x = layer_of(name)
    layer.requires_grad_(not frozen)
    W = layer.weight.detach()
    with torch.no_grad():
        layer(x)
    close(vmap(layer)(x).detach(), x @ W.T + layer.bias.detach())
    for jacobian in (jacfwd, jacrev):
        close(jacobian(layer)(x[0]).detach(), W)
    for strategy in ("forward-mode", "reverse-mode"):
        found = torch.autograd.functional.jacobian(layer, x[0], vectorize=True, strategy=strategy)
        close(found, W)
    found = hessian(lambda x: layer(x).square().sum())(x[0]).detach()
    close(found, 2 * W.T @ W)
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x)))
        close(y.tangent.detach(), x @ W.T)
    with torch.no_grad():  # nothing of a transform is left in what is remembered
        close(layer(x), x @ W.T + layer.bias)


@every_kind
def test_gradients_of_every_sample_and_of_an_ensemble(name):
    layer, parameters, x = layer_of(name)

    def loss(parameters, x):
        return layer_call(layer, parameters, x).sin().sum()

    each = vmap(grad(loss), (None, 0))(parameters, x)
    stacked = {n: torch.stack([p.detach(), 2 * p.detach()]) for n, p in parameters.items()}
    members = vmap(grad(loss), (0, None))(stacked, x)
    for i in range(3):
        wanted = torch.autograd.grad(loss(parameters, x[i]), list(parameters.values()))
        for n, g in zip(parameters, wanted, strict=True):
            close(each[n][i], g)
    for i in range(2):
        own = {n: p[i].clone().requires_grad_() for n, p in stacked.items()}
        wanted = torch.autograd.grad(loss(own, x), list(own.values()))
        for n, g in zip(own, wanted, strict=True):
            close(members[n][i], g)


@pytest.mark.parametrize("kernel", ["tiles", "panels"])
def test_many_upstream_gradients_of_a_recorded_product(kernel):
    """The product was recorded before the transform began."""
    if kernel == "tiles" and not has("numba"):
        pytest.skip("compiled products need Numba")
    A, x = matrix_of("large"), double(3, 110).requires_grad_()
    values = [v.requires_grad_() for v in floats(A)]
    with using(kernel):
        y = around(A, values).matmat(x.T)

    def gradients(g):
        return torch.autograd.grad(y, (x, *values), g, retain_graph=True)

    upstream = double(4, *y.shape, seed=5)
    found = vmap(gradients)(upstream)
    for i, g in enumerate(upstream):
        for a, b in zip(found, gradients(g), strict=True):
            close(a[i], b)
