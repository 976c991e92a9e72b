"""Derivatives through layers that learn: forward, of higher order, transformed and compiled."""

import copy

import pytest
import torch
from annealed import KINDS, advance_, converted, every_stage, inputs, learned, stages, weights_of
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap

# Forward derivatives of torch itself use a part that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def close(actual, expected, tolerance=1e-8):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@every_stage
def test_gradients_are_those_of_the_structure(kind, stage, layer):
    """Entries off the support get none; all parameters get some."""
    model, x = learned(kind, stage, layer).double(), inputs(layer).double()
    reference = copy.deepcopy(model)
    model(x).sin().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    for weight in weights_of(model):
        off = torch.ones_like(weight.weight, dtype=torch.bool)
        if weight.is_factored:
            off.view(-1)[: weight.projected.matrix.storage] = False
        else:
            off = ~torch.tensor(weight.projected.support)
        assert not weight.weight.grad[off].any()
        assert weight.weight.grad[~off].any() or not weight.cost
    # By finite differences along the gradient.
    h = 1e-6
    with torch.no_grad():
        expected = sum(float(p.grad.square().sum()) for p in model.parameters())
        ends = []
        for sign in (1, -1):
            moved = copy.deepcopy(reference)
            for p, q in zip(moved.parameters(), model.parameters(), strict=True):
                p += sign * h * q.grad
            ends.append(float(moved(x).sin().sum()))
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(expected, rel=1e-5)


@stages
def test_derivatives_of_both_orders(kind, stage):
    model = learned(kind, stage).double()
    weight, bias = model[0].matrix, model[0].bias
    x = torch.randn(2, 64, dtype=torch.float64, requires_grad=True)

    def function(x, values, bias):
        swapped = {"0.matrix.weight": values, "0.bias": bias}
        return functional_call(model, swapped, (x,))

    arguments = (x, weight.weight.detach().requires_grad_(), bias)
    options = {"fast_mode": True, "check_batched_grad": True}
    assert gradcheck(function, arguments, check_forward_ad=True, **options)
    assert gradgradcheck(function, arguments, fast_mode=True)


@stages
def test_transforms(kind, stage):
    model = learned(kind, stage).double()
    W, x = model[0].weight.detach(), torch.randn(3, 64, dtype=torch.float64)
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    for jacobian in (jacfwd, jacrev):
        close(jacobian(model)(x[0]).detach(), W)
    close(vmap(model)(x).detach(), model(x).detach())
    _, tangent = jvp(model, (x,), (x,))
    close(tangent.detach(), x @ W.T)
    with forward_ad.dual_level():
        y = model(forward_ad.make_dual(x, x))
        close(forward_ad.unpack_dual(y).tangent.detach(), x @ W.T)

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).sin().sum()

    each = vmap(grad(loss), (None, 0))(parameters, x)
    stacked = {n: torch.stack([p, 2 * p]) for n, p in parameters.items()}
    members = vmap(grad(loss), (0, None))(stacked, x)
    for i in range(3):
        model.zero_grad()
        model(x[i]).sin().sum().backward()
        for n, p in model.named_parameters():
            close(each[n][i], p.grad)
    model.zero_grad()
    model(x).sin().sum().backward()
    for n, p in model.named_parameters():
        close(members[n][0], p.grad)


def test_swapped_states_have_their_structure():
    """`functional_call` takes values and structure of another network."""
    for kind in KINDS:
        a, b = learned(kind, "factored", seed=0), converted(kind, seed=1)
        x = inputs("linear")
        with torch.no_grad():
            before = b(x)
            assert torch.equal(functional_call(b, a.state_dict(), (x,)), a(x))
            assert torch.equal(b(x), before)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow if "low_rank" in k else ()) for k in KINDS],
)
def test_compiled_in_every_stage(kind):
    """As one graph; a projection needs a new one at most once a stage."""
    torch.compiler.reset()
    model = converted(kind)
    compiles = []

    def backend(graph, _):
        compiles.append(graph)
        return graph.forward

    quick = torch.compile(model, backend=backend, fullgraph=True)
    x = inputs("linear").requires_grad_()
    for stage in ("dense", "support", "support", "blocks", "blocks", "factored"):
        before = len(compiles)
        advance_(model, kind, stage)
        results = []
        for network in (model, quick):
            x.grad = None
            model.zero_grad()
            network(x).square().sum().backward()
            results.append([x.grad, *(p.grad.clone() for p in model.parameters())])
        for a, b in zip(*results, strict=True):
            close(a, b, 1e-5)
        assert len(compiles) - before <= (stage != "blocks") + 1
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_to_code(kind):
    torch.compiler.reset()
    for stage in ("dense", "support", "factored"):
        model, x = learned(kind, stage), inputs("linear")
        close(torch.compile(model, fullgraph=True)(x), model(x), 1e-4)


@stages
def test_steps_change_the_live_entries_alone(kind, stage):
    """Weight decay and momentum move other entries of the parameter, which do not count."""
    model, x = learned(kind, stage), inputs("linear")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    pattern = model[0].to_matrix().cost
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    weight = model[0].matrix
    off = torch.tensor(~weight.projected.support)
    assert not weight.values()[off].any()
    assert model[0].to_matrix().cost == pattern
