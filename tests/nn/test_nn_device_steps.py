"""Training steps on a device: launches, values never read, and numbers, for every layer."""

import copy

import pytest

torch = pytest.importorskip("torch")
from device_steps import (  # noqa: E402
    LAYERS,
    MORE,
    MOST_LAUNCHES,
    NEVER,
    SIZES,
    VALUED,
    VARIED,
    Stays,
    apart,
    bytes_held,
    inputs,
    launches,
    step,
)
from torch.utils.checkpoint import checkpoint  # noqa: E402

from structmat.nn import GaudiWeight  # noqa: E402

layers = pytest.mark.parametrize("name", LAYERS)
#: A layer for each way to train.
few = pytest.mark.parametrize(
    "name", ["anneal support", "anneal factored", "gaudi", "gaudi windows", "strips"]
)


def close(found, wanted, tolerance):
    for a, b in zip(found, wanted, strict=True):
        size = max(1.0, float(b.detach().abs().max()))
        torch.testing.assert_close(a.to(b), b, rtol=0, atol=tolerance * size)


@layers
def test_a_step_launches_as_few_operations_at_any_size(name, monkeypatch):
    apart(monkeypatch)
    fewer, more = (launches(LAYERS[name](n)) for n in SIZES.get(name, (64, 128)))
    print(f"{name}: {len(more)} launches")
    assert len(fewer) == len(more) or name in VARIED
    assert len(more) <= MORE.get(name, MOST_LAUNCHES)
    assert NEVER.isdisjoint(operation.rstrip("_") for operation in more)


@layers
def test_a_step_reads_no_value_and_makes_nothing_on_the_host(name, monkeypatch):
    apart(monkeypatch)
    layer = LAYERS[name](64).to("meta")
    x = inputs(layer)
    step(layer, x)
    with Stays(valued=name in VALUED):
        found = step(layer, x)
    assert all(tensor.is_meta for tensor in found)


@layers
def test_a_step_gives_the_numbers_of_the_cpu(name, monkeypatch):
    there = LAYERS[name](64).double()
    wanted = step(there, inputs(there))
    there.eval()
    evaluated = there(inputs(there))
    apart(monkeypatch)
    layer = LAYERS[name](64).double()
    close(step(layer, inputs(layer)), wanted, 1e-9)
    layer.eval()
    close([layer(inputs(layer))], [evaluated], 1e-9)


@few
@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_may_be_computed_again(name, reentrant, monkeypatch):
    apart(monkeypatch)
    layer = LAYERS[name](64)
    x = inputs(layer)
    wanted = step(layer, x)
    again = lambda x: checkpoint(layer, x, use_reentrant=reentrant)  # noqa: E731
    close(step(layer, x, again), wanted, 1e-6)


@few
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", ["device", "cpu"])
def test_autocast_multiplies_in_half_precision(place, name, dtype, monkeypatch):
    if place == "device":
        apart(monkeypatch)
    layer = LAYERS[name](64)
    x = inputs(layer)
    wanted = step(layer, x)

    def cast(x):
        with torch.autocast("cpu", dtype):
            y = layer(x)
        assert y.dtype == dtype
        return y

    for given in (x, x.to(dtype)):  # as from a layer before, which autocast left in half precision
        found = step(layer, given, cast)
        assert [a.dtype for a in found[1:]] == [given.dtype, *[torch.float32] * (len(found) - 2)]
        close(found, wanted, 0.05)


@few
def test_gradients_add_up_over_several_backward_passes(name, monkeypatch):
    apart(monkeypatch)
    layer = LAYERS[name](64)
    x = inputs(layer)
    once = [g.clone() for g in step(layer, x)[2:]]
    layer(x).sum().backward()
    twice = [p.grad for p in layer.parameters() if p.grad is not None]
    close(twice, [2 * g for g in once], 1e-6)


# In single precision the weight on its support is one more array of the weight's size.
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1.32), (torch.bfloat16, 1.08)])
def test_a_layer_that_learns_takes_about_the_memory_of_a_dense_one(dtype, most, monkeypatch):
    apart(monkeypatch)
    learning, n = LAYERS["anneal support"](64), 64
    dense = bytes_held(torch.nn.Linear(n, n // 2), dtype)
    assert dense >= (16 if dtype == torch.float32 else 18) * n * (n // 2)
    assert bytes_held(learning, dtype) <= most * dense
    learning.double()
    assert learning.weight.dtype == torch.float64


def test_parameters_may_be_assigned_on_another_device(monkeypatch):
    """As loaders do, which make a model without values first."""
    layer, there = LAYERS["gaudi"](64), LAYERS["gaudi"](64).to("meta")
    for name, parameter in layer.named_parameters():
        owner, _, last = name.rpartition(".")
        setattr(there.get_submodule(owner), last, parameter)
    x = inputs(layer)
    assert torch.equal(there(x), layer(x))
    assert torch.equal(there.weight, layer.weight)
    apart(monkeypatch)
    close(step(there, x), step(layer, x), 0)
    assert launches(there) == launches(layer)


@few
def test_copies_take_the_same_path(name, monkeypatch):
    apart(monkeypatch)
    layer = LAYERS[name](64)
    other = copy.deepcopy(layer)
    close(step(other, inputs(layer)), step(layer, inputs(layer)), 0)
    assert launches(other) == launches(layer)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("device", ["gaudi windows", "gaudi", "strips"]),
        ("cpu", ["block low rank", "gaudi windows"]),
        ("cpu", ["convolution"]),
        *[
            pytest.param(place, [name], marks=pytest.mark.slow)
            for place in ("device", "cpu")
            for name in LAYERS
        ],
    ],
)
def test_whole_models_compile_into_one_graph(place, names, monkeypatch):
    """For any number of vectors, and masks that sharpen while the training runs."""
    if place == "device":
        apart(monkeypatch)
    torch.compiler.reset()
    model = torch.nn.Sequential(*(LAYERS[name](64 // 2**i) for i, name in enumerate(names)))
    x, graphs = inputs(model[0], 5), []

    def backend(graph, examples):
        graphs.append(graph)
        return graph.forward

    quick = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)
    for count, sigma in ((3, 4.0), (4, 6.0), (5, float("inf"))):
        for weight in [m for m in model.modules() if isinstance(m, GaudiWeight)]:
            weight.sigma = sigma
        found = step(model, x[:count], quick)
        close(found, step(model, x[:count]), 1e-5)
    # A processor may take few vectors in another way than many.
    assert len(graphs) <= 1 + (place == "cpu" and "block low rank" in names)
    torch.compiler.reset()
