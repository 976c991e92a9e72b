"""Derivatives of every order through layers that learn, and transforms of `torch.func`."""

import math
from functools import partial

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

from structmat.kernels.choice.record import has
from structmat.nn import GaudiConv2d, GaudiLinear, GaudiWeight, PackedLinear, gaudi_mask

# Forward derivatives of torch itself, and its tracer, use a part that it deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
needs_numba = pytest.mark.skipif(not has("numba"), reason="compiled products need Numba")
SIGMAS = (2.0, math.inf)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def linear(n=12, m=9, bias=True, **options):
    """A layer with runs that wrap around, and blocks that lack a side."""
    options = {"num_blocks": 5, "width_init": 0.4, "dtype": torch.float64, **options}
    layer = GaudiLinear(n, m, bias, **options)
    with torch.no_grad():
        structure = layer.matrix.structure
        structure.row_location[1:3], structure.col_location[2] = 0.93, -0.1
        structure.row_width[3] = structure.col_width[4] = 0.0
    return layer


def conv(**options):
    options = {"num_blocks": 5, "width_init": 0.4, "dtype": torch.float64, **options}
    return GaudiConv2d(3, 4, 2, padding=1, **options)


def packed():
    parts = [
        GaudiWeight((4, 12), num_blocks=3, width_init=0.5, dtype=torch.float64) for _ in range(2)
    ]
    return PackedLinear(parts, double(8))


#: Layers by name, each with the shape of one sample.
LAYERS = {
    "assembled": (partial(linear, product="assembled"), (12,)),
    "factors": (partial(linear, product="factors", rank=2), (12,)),
    "windows": (partial(linear, max_width=6, rank=2), (12,)),
    "assembled windows": (partial(linear, max_width=6, product="assembled"), (12,)),
    "wide": (partial(linear, 9, 12, product="assembled", bias=False), (9,)),
    "between samples": (partial(linear, straight_through=False), (12,)),
    "conv": (partial(conv, product="factors"), (3, 3, 2)),
    "conv assembled": (partial(conv, product="assembled"), (3, 3, 2)),
    "taps": (partial(conv, form="taps", shared_masks=True), (3, 3, 2)),
    "packed": (packed, (12,)),
    "compiled": (partial(linear, 256, 257, product="factors"), (256,)),
}
QUICK = ("assembled", "factors", "windows", "conv")
every_layer = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in LAYERS
        if name != "compiled"
    ],
)
every_sigma = pytest.mark.parametrize("sigma", SIGMAS)


def made(name, sigma=math.inf, training=True):
    """A layer, its parameters by name, and three samples."""
    make, shape = LAYERS[name]
    layer = make().train(training)
    for module in layer.modules():
        if isinstance(module, GaudiWeight):
            module.sigma = sigma
    return layer, dict(layer.named_parameters()), double(3, *shape)


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def loss_of(layer):
    def loss(parameters, x):
        return functional_call(layer, parameters, (x,)).sin().sum()

    return loss


def is_run(name):
    return "structure" in name


# Gradients of gradients.


def check_orders(layer, parameters, x, **options):
    """First and second derivatives by operand and contents, against finite differences."""
    names = [name for name in parameters if not is_run(name)]

    def product(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,)).sin()

    inputs = (x.requires_grad_(), *(parameters[name] for name in names))
    assert gradcheck(product, inputs, fast_mode=True, check_batched_grad=True, **options)
    assert gradgradcheck(product, inputs, fast_mode=True, check_batched_grad=True)


@every_layer
@every_sigma
def test_first_and_second_derivatives(name, sigma):
    layer, parameters, x = made(name, sigma)
    check_orders(layer, parameters, x, check_forward_ad=True)


@needs_numba
@every_sigma
def test_first_and_second_derivatives_of_compiled_products(sigma):
    check_orders(*made("compiled", sigma))


@every_layer
def test_second_derivatives_in_evaluation(name):
    check_orders(*made(name, training=False))


@every_layer
def test_dense_weights_have_second_derivatives(name):
    layer, parameters, _ = made(name, 2.0)
    names = [name for name in parameters if name.endswith((".u", ".v"))]
    inputs = [parameters[name] for name in names]
    for value in inputs:
        # The property reads the parameters themselves.
        assert value.is_leaf
    weight = layer.weight
    first = torch.autograd.grad(weight.pow(3).sum(), inputs, create_graph=True)
    plain = torch.autograd.grad(layer.weight.pow(3).sum(), inputs)
    for a, b in zip(first, plain, strict=True):
        close(a, b)
    total = sum(g.square().sum() for g in first)
    found = torch.autograd.grad(total, inputs)
    step = [double(*value.shape) for value in inputs]
    h, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for value, s in zip(inputs, step, strict=True):
                value += sign * h * s
        moved = torch.autograd.grad(layer.weight.pow(3).sum(), inputs)
        ends.append(sum(g.square().sum() for g in moved))
        with torch.no_grad():
            for value, s in zip(inputs, step, strict=True):
                value -= sign * h * s
    slope = sum((g * s).sum() for g, s in zip(found, step, strict=True))
    close(slope, (ends[0] - ends[1]) / (2 * h), 1e-4)


def formula(w, l, n, sigma):
    """A mask of real width and location in samples, by the sum over all frequencies."""
    k, j = torch.arange(n, dtype=torch.float64) - n // 2, torch.arange(n, dtype=torch.float64)
    w, l = w[:, None], l[:, None]
    slow, whole = k == 0, torch.where(k == 0, 1, k)
    size = torch.sin(math.pi * whole * w / n) / torch.sin(math.pi * whole / n)
    size = torch.where(slow, w, size) * torch.exp(-(k**2) / (2 * sigma**2))
    turn = math.pi * k * (1 - w) / n - 2 * math.pi * k * l / n
    phase = turn[:, :, None] + 2 * math.pi * k[:, None] * j / n
    return (size[:, :, None] * phase.cos()).sum(1) / n


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@every_sigma
@pytest.mark.parametrize("rounded", [True, False])
def test_second_derivatives_of_masks_are_those_of_the_formula(n, sigma, rounded):
    """At the rounded widths and locations where masks are straight-through, 0 and n among them."""
    width = torch.tensor([0.0, 0.4, 1.0, 0.7], dtype=torch.float64)
    location = torch.tensor([0.3, -0.2, 0.0, 0.9], dtype=torch.float64)
    upstream = double(4, n)

    def ours(width, location):
        mask = gaudi_mask(width, location, n, sigma=sigma, straight_through=rounded)
        return (mask.pow(2) * upstream).sum()

    def truth(width, location):
        return (formula(width * n, location * n, n, sigma).pow(2) * upstream).sum()

    point = width, location
    at = tuple((value * n).round() / n for value in point) if rounded else point
    if not rounded and n > 1:  # the formula stops at widths of 0 and 1
        point = at = (width.clamp(0.1, 0.9), location)
    wanted = torch.autograd.functional.hessian(truth, at)
    for found in (
        torch.autograd.functional.hessian(ours, point),
        torch.func.hessian(ours, (0, 1))(*point),
        jacrev(jacrev(ours, (0, 1)), (0, 1))(*point),
    ):
        for a, b in zip(found, wanted, strict=True):
            for c, d in zip(a, b, strict=True):
                if not (n == 1 and not rounded):
                    close(c, d, 1e-8)


@pytest.mark.parametrize("name", ["assembled", "factors", "windows", "conv", "between samples"])
@every_sigma
def test_every_way_to_a_hessian_gives_the_same(name, sigma):
    """By all parameters, widths and locations included."""
    layer, parameters, x = made(name, sigma)
    loss, names = loss_of(layer), list(parameters)
    values = tuple(p.detach() for p in parameters.values())
    step = tuple(double(*v.shape) for v in values)

    def of(*values):
        return loss(dict(zip(names, values, strict=True)), x)

    argnums = tuple(range(len(values)))
    slope = grad(of, argnums)
    ways = [
        torch.autograd.functional.hvp(of, values, step)[1],
        jvp(slope, values, step)[1],
        vjp(slope, *values)[1](step),
    ]
    for way in ways[1:]:
        for n, a, b in zip(names, way, ways[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8, msg=n)
    # Along contents, where values are smooth, differences of gradients agree.
    step = tuple(0 * s if is_run(n) else s for n, s in zip(names, step, strict=True))
    _, found = torch.autograd.functional.hvp(of, values, step)
    h, ends = 1e-6, []
    for sign in (1, -1):
        moved = [(v + sign * h * s).requires_grad_() for v, s in zip(values, step, strict=True)]
        ends.append(torch.autograd.grad(of(*moved), moved))
    for a, b, c in zip(found, *ends, strict=True):
        close(a, (b - c) / (2 * h), 1e-5)


def test_hessian_against_a_dense_layer():
    layer = GaudiLinear(256, 256, budget=0.2)
    x = torch.randn(3, 256)
    _, found = torch.autograd.functional.hvp(
        lambda q: layer(q).square().sum(), x, torch.ones_like(x)
    )
    W = layer.weight.detach()
    torch.testing.assert_close(found, 2 * torch.ones_like(x) @ W.T @ W, rtol=1e-4, atol=1e-4)
    assert found.abs().max() > 1


# Widths and locations: fast gradients, recorded ones and those of transforms are the same.


@pytest.mark.parametrize("name", list(LAYERS))
@every_sigma
def test_gradients_of_every_sample(name, sigma):
    layer, parameters, x = made(name, sigma)
    loss = loss_of(layer)
    each = vmap(grad(loss), (None, 0))(parameters, x)
    for i, sample in enumerate(x):
        values = list(parameters.values())
        wanted = torch.autograd.grad(loss(parameters, sample), values, allow_unused=True)
        again = torch.autograd.grad(
            loss(parameters, sample), values, create_graph=True, allow_unused=True
        )
        for (n, p), a, b in zip(parameters.items(), wanted, again, strict=True):
            a = torch.zeros_like(p) if a is None else a
            close(each[n][i], a)
            if b is not None:
                close(b.detach(), a)


@every_layer
def test_an_ensemble_of_layers(name):
    """Each member has runs of its own."""
    members = [made(name, 2.0) for _ in range(2)]
    layer, _, x = members[0]
    for _, parameters, _ in members[1:]:
        with torch.no_grad():
            for n, p in parameters.items():
                p.copy_(torch.rand_like(p)) if is_run(n) else p.normal_()
    parameters, _ = torch.func.stack_module_state([member for member, *_ in members])
    loss = loss_of(layer)
    values = vmap(loss, (0, None))(parameters, x)
    slopes = vmap(grad(loss), (0, None))(parameters, x)
    for i, (_, own, _) in enumerate(members):
        value = loss(own, x)
        close(values[i], value)
        found = torch.autograd.grad(value, list(own.values()), allow_unused=True)
        for n, wanted in zip(own, found, strict=True):
            if wanted is not None:
                close(slopes[n][i], wanted)


@every_layer
def test_maps_of_operands(name):
    layer, _, x = made(name)
    direction = torch.randn_like(x)
    close(vmap(layer)(x), torch.stack([layer(s) for s in x]))
    close(vmap(layer, x.ndim - 1)(x.movedim(0, -1)), layer(x))
    value, tangent = jvp(layer, (x,), (direction,))
    close(value, layer(x))
    bias = layer(torch.zeros_like(x))
    close(tangent, layer(direction) - bias)
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction)))
        close(y.tangent, tangent)
    forward, backward = jacfwd(layer)(x[0]), jacrev(layer)(x[0])
    close(forward, backward)
    close(backward, torch.autograd.functional.jacobian(layer, x[0], vectorize=True))


def test_tangents_of_parameters():
    layer, parameters, x = made("factors", 2.0)
    tangents = {n: torch.randn_like(p) for n, p in parameters.items()}
    _, wanted = jvp(
        lambda p: functional_call(layer, p, (x,)),
        ({n: p.detach() for n, p in parameters.items()},),
        (tangents,),
    )
    with forward_ad.dual_level():
        duals = {n: forward_ad.make_dual(p.detach(), tangents[n]) for n, p in parameters.items()}
        found = forward_ad.unpack_dual(functional_call(layer, duals, (x,))).tangent
        close(found, wanted)


# Where gradients of gradients are used.


@pytest.mark.parametrize("name", ["assembled", "factors", "windows", "conv"])
@every_sigma
def test_gradient_penalty(name, sigma):
    layer, parameters, x = made(name, sigma)
    loss = loss_of(layer)

    def penalty(inputs):
        (slope,) = torch.autograd.grad(loss(parameters, inputs), inputs, create_graph=True)
        return slope.square().sum()

    penalty(x.requires_grad_()).backward()
    wanted = grad(lambda p: grad(loss, 1)(p, x.detach()).square().sum())(
        {n: p.detach() for n, p in parameters.items()}
    )
    for n, p in parameters.items():
        close(torch.zeros_like(p) if p.grad is None else p.grad, wanted[n], 1e-8)


@pytest.mark.parametrize("name", ["assembled", "factors", "conv"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(name, reentrant):
    layer, parameters, x = made(name, 2.0)
    values = [x.requires_grad_(), *parameters.values()]
    wanted = torch.autograd.grad(layer(x).sin().sum(), values)
    checkpoint(layer, x, use_reentrant=reentrant).sin().sum().backward()
    for value, b in zip(values, wanted, strict=True):
        close(value.grad, b)
    if not reentrant:  # torch differentiates the other form once
        y = checkpoint(layer, x, use_reentrant=False).sin().sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        (plain,) = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
        found = torch.autograd.grad(slope.square().sum(), values)
        for a, b in zip(found, torch.autograd.grad(plain.square().sum(), values), strict=True):
            close(a, b)


@pytest.mark.parametrize("product", ["assembled", "factors"])
def test_second_derivatives_under_autocast(product):
    layer = linear(product=product, dtype=torch.float32)
    x = torch.randn(3, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    (slope,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(slope.sum(), x)
    W = layer.weight.detach()
    torch.testing.assert_close(again, 2 * torch.ones(3, 12) @ W.T @ W, rtol=0.1, atol=0.1)


def test_hessian_through_a_whole_network():
    net = torch.nn.Sequential(linear(6, 5), torch.nn.Tanh(), linear(5, 4))
    x = double(6)
    found = hessian(lambda x: net(x).square().sum())(x)
    close(found, torch.autograd.functional.hessian(lambda x: net(x).square().sum(), x))
    close(found, jacfwd(jacfwd(lambda x: net(x).square().sum()))(x))
    assert found.abs().max() > 1e-3


def test_pinned_runs_have_no_derivatives():
    layer, parameters, x = made("factors", 2.0)
    layer.matrix.structure.is_pinned = True
    found = grad(loss_of(layer))(parameters, x)
    assert all(not found[n].any() for n in found if is_run(n))
    assert found["matrix.u"].any()


@pytest.mark.parametrize("name", ["assembled", "factors", "compiled", "conv"])
def test_traced_products_follow_their_operand(name):
    layer, _, x = made(name, training=False)
    other = torch.randn_like(x)
    traced = torch.jit.trace(layer, (x,), check_trace=False)
    close(traced(other), layer(other))
    drawn = torch.fx.experimental.proxy_tensor.make_fx(lambda x: layer(x))(x)
    close(drawn(other), layer(other))


@pytest.mark.parametrize("name", ["assembled", "factors", "windows", "conv"])
def test_many_upstream_gradients_of_a_recorded_product(name):
    """The product was recorded before the transform began."""
    layer, parameters, x = made(name, 2.0)
    y, inputs = layer(x.requires_grad_()), (x, *parameters.values())

    def gradients(g):
        return torch.autograd.grad(y, inputs, g, retain_graph=True)

    upstream = double(3, *y.shape)
    found = vmap(gradients)(upstream)
    for i, g in enumerate(upstream):
        for a, b in zip(found, gradients(g), strict=True):
            close(a[i], b)
