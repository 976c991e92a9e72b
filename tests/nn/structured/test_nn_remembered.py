"""Every door by which contents change: layers never multiply by what they were."""

import copy

import numpy as np
import pytest
import torch
from cases import build
from torch import nn

import structmat
from structmat.nn import (
    GaudiConv2d,
    GaudiLinear,
    PackedLinear,
    StructuredConv2d,
    StructuredLinear,
    StructuredWeight,
    freeze_,
)
from structmat.nn.structured import layers as structured
from structmat.nn.structured import products as structured_products
from structmat.nn.structured.remembered import Mark, Words

KINDS = ["low_rank", "block_sparse-ragged", "block_low_rank-dense-tiles", "monarch-padded",
         "gblr-prime", "dense", "sum-of-three", "product-of-three", "scaled-product",
         "adjoint"]  # fmt: skip


@pytest.fixture(params=["structure", "dense"])
def way(request, monkeypatch):
    """Either way of multiplying, whatever the model of speed says."""
    for module in (structured, structured_products):
        monkeypatch.setattr(module, "takes_dense", lambda *_, **__: request.param == "dense")


def random_gblr(n=12):
    torch.manual_seed(0)
    return GaudiLinear(n, n, budget=0.5).to_matrix()


def convolution(by_taps):
    torch.manual_seed(0)
    form = "taps" if by_taps else "matrix"
    layer = GaudiConv2d(4, 6, 3, form=form, budget=0.5)
    freeze_(model := nn.Sequential(layer))
    return model[0].double()


LAYERS = {kind: lambda kind=kind: StructuredLinear(build(kind)[0]) for kind in KINDS} | {
    "convolution": lambda: convolution(by_taps=False),
    "taps": lambda: convolution(by_taps=True),
    "packed": lambda: PackedLinear([StructuredWeight(random_gblr()) for _ in range(2)]),
    "large": lambda: StructuredLinear(
        structmat.LowRank(np.ones((6000, 3)), np.linspace(1.0, 2.0, 60).reshape(20, 3))
    ),
    "half": lambda: StructuredLinear(random_gblr()).bfloat16(),
    "learning": lambda: GaudiLinear(12, 12, budget=0.5),
}


def operand(layer):
    dtype = next(layer.parameters()).dtype
    if isinstance(layer, StructuredConv2d):
        return torch.linspace(-1, 2, 2 * 4 * 5 * 5, dtype=dtype).view(2, 4, 5, 5)
    return torch.linspace(-1, 2, 3 * layer.in_features, dtype=dtype).view(3, -1)


def changed(p):
    return p.detach() * 2


# Doors.


def data_multiplied(layer):
    for p in layer.parameters():
        p.data.mul_(2)


def data_copied(layer):
    for p in layer.parameters():
        p.data.copy_(changed(p))


def data_flipped(layer):
    for p in layer.parameters():  # the same numbers in another order
        p.data.copy_(p.data.flatten().flip(0).view_as(p) if p.numel() < 1000 else 2 * p.data)


def data_assigned(layer):
    for p in layer.parameters():
        p.data = changed(p)


def set_(layer):
    for p in layer.parameters():
        with torch.no_grad():
            p.set_(changed(p))


def detached(layer):
    for p in layer.parameters():
        p.detach().mul_(2)


def by_numpy(layer):
    for p in layer.parameters():
        words = p.detach().view(torch.int16).numpy() if p.dtype == torch.bfloat16 else None
        if words is not None:
            words[...] = changed(p).view(torch.int16).numpy()
        else:
            view = p.detach().numpy()
            view *= 2


def by_dlpack(layer):
    for p in layer.parameters():
        other = torch.from_dlpack(p.detach())
        other.mul_(2)


def vector(layer):
    parameters = list(layer.parameters())
    flat = nn.utils.parameters_to_vector(parameters).detach() * 2
    nn.utils.vector_to_parameters(flat, parameters)


def averaged(layer):
    """An average in and out, as libraries of moving averages swap them."""
    for p in layer.parameters():
        kept = p.data.clone()
        p.data.copy_(kept * 3)
        with torch.no_grad():
            layer(operand(layer))
        p.data.copy_(kept * 2)


def inference(layer):
    with torch.inference_mode():
        for p in layer.parameters():
            p.mul_(2)


def no_grad(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(2)


def foreach(layer):
    with torch.no_grad():
        torch._foreach_mul_(list(layer.parameters()), 2)


def load(layer):
    layer.load_state_dict(doubled(layer))


def assign(layer):
    layer.load_state_dict(doubled(layer), assign=True)


def swapped(layer):
    for p in layer.parameters():
        torch.utils.swap_tensors(p, nn.Parameter(changed(p)))


def replaced(layer):
    for module in layer.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                setattr(module, name, nn.Parameter(changed(p)))


def shared(layer):
    layer.share_memory()
    other = [p.data for p in layer.parameters()]
    with torch.no_grad():
        layer(operand(layer))
    for p in other:  # as another process would
        torch.from_dlpack(p).mul_(2)


def doubled(layer):
    return {
        k: v * 2 if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in layer.state_dict().items()
    }


def stepped(**options):
    def step(layer):
        parameters = list(layer.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=0.5, **options)
        for p in parameters:  # gradients that came from elsewhere
            p.grad = torch.ones_like(p)
        optimizer.step()

    return step


def fused_twice(layer):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, fused=True)
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    with torch.no_grad():
        layer(operand(layer))
    optimizer.step()
    with torch.no_grad():
        layer(operand(layer))
    optimizer.step()


def closure(layer):
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=1)

    def evaluate():
        optimizer.zero_grad()
        loss = (layer(operand(layer)) - 1).square().sum()
        loss.backward()
        return loss

    optimizer.step(evaluate)


DOORS = {f.__name__: f for f in (
    data_multiplied, data_copied, data_flipped, data_assigned, set_, detached, by_numpy, by_dlpack,
    vector, averaged, inference, no_grad, foreach, load, assign, swapped, replaced, shared,
    fused_twice, closure,
)} | {
    "adamw": stepped(),
    "adamw-fused": stepped(fused=True),
    "adamw-foreach": stepped(foreach=True),
}  # fmt: skip
#: A few layers and doors that stand for all in the default run.
THINNED = ["monarch-padded", "gblr-prime", "taps", "large"]


def outputs(layer):
    """Output and weight by what is remembered, and computed from the contents."""
    x = operand(layer)
    with torch.no_grad():
        now = layer(x), layer.weight.clone()
    fresh = copy.deepcopy(layer)  # remembers nothing
    with torch.no_grad():
        return now, (fresh(x), fresh.weight)


def check(layer, door, must_change=True):
    x = operand(layer)
    with torch.no_grad():
        before = [layer(x) for _ in range(2)][-1], layer.weight.clone()
    door(layer)
    (y, weight), (y_fresh, weight_fresh) = outputs(layer)
    torch.testing.assert_close(weight, weight_fresh)
    torch.testing.assert_close(y, y_fresh)
    if must_change:
        assert not torch.allclose(before[1], weight)


@pytest.mark.parametrize("name", [n for n in LAYERS if n in THINNED])
@pytest.mark.parametrize("door", DOORS)
def test_no_door_leaves_stale_values(name, door, way):
    if door == "closure" and name == "large":
        pytest.skip("a loss over 6000 outputs moves nothing in one step")
    check(LAYERS[name](), DOORS[door])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in THINNED])
@pytest.mark.parametrize("door", DOORS)
def test_no_door_leaves_stale_values_in_any_layer(name, door, way):
    layer = LAYERS[name]()
    layer.requires_grad_(door == "closure")  # as a frozen one
    check(layer, DOORS[door], must_change=False)


# Plain tensors in the places of parameters.


def replica(module):
    """A module as `DataParallel` copies it: tensors that are no parameters, computed from them."""
    copied = module._replicate_for_data_parallel()
    for name, parameter in module._parameters.items():
        setattr(copied, name, None if parameter is None else 1 * parameter)
    copied._modules = {name: replica(child) for name, child in module._modules.items()}
    return copied


def with_attributes(module):
    """A module as recipes for Hessians make it: each parameter deleted, a tensor set instead."""
    copied = copy.deepcopy(module)
    for path, parameter in module.named_parameters():
        owner, _, name = path.rpartition(".")
        delattr(copied.get_submodule(owner), name)
        setattr(copied.get_submodule(owner), name, 1 * parameter)
    return copied


@pytest.mark.parametrize("put", [replica, with_attributes])
@pytest.mark.parametrize("name", LAYERS)
def test_tensors_in_the_places_of_parameters(name, put):
    layer = LAYERS[name]()
    x = operand(layer)
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    with torch.no_grad():
        y = layer(x)
    gradients = torch.autograd.grad(put(layer)(x).square().sum(), list(layer.parameters()))
    for actual, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(actual, wanted)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(-2)
        torch.testing.assert_close(put(layer)(x), layer(x))
        assert not torch.equal(layer(x), y)


def test_a_replica_multiplies_by_its_own_tensors():
    layer = LAYERS["gblr-prime"]()
    x = operand(layer)
    with torch.no_grad():
        y = [layer(x) for _ in range(2)][-1]
        copied = replica(layer)
        for module in copied.modules():
            for name, tensor in list(vars(module).items()):
                if isinstance(tensor, torch.Tensor):
                    setattr(module, name, 2 * tensor)
        assert not torch.allclose(copied(x), y)
        torch.testing.assert_close(layer(x), y)


# What is guaranteed.


@pytest.mark.parametrize("size", [0, 1, 3, 511, 513, 4097, 16_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_write_to_one_entry_is_seen(size, dtype):
    tensor = torch.linspace(1, 2, size).to(dtype)
    for i in {0, size // 3, size - 1} & set(range(size)):
        words = Words(tensor)
        assert words.same()
        tensor[i] *= 1.5
        assert not words.same()


@pytest.mark.parametrize("size", [40_001, 400_000])
def test_a_write_to_a_large_tensor_is_seen(size):
    tensor = torch.linspace(1, 2, size)
    for write in (tensor.neg_, tensor.zero_, lambda: tensor.add_(1e-6).add_(1.0)):
        words = Words(tensor)
        write()
        assert not words.same()


@pytest.mark.parametrize("make", [torch.t, lambda x: x[:, ::2], lambda x: x[:1].expand(30, -1)])
def test_tensors_of_any_layout_are_read(make):
    base = torch.linspace(1, 2, 30 * 60).view(30, 60)
    words = Words(make(base))
    assert words.same()
    base.mul_(2)
    assert not words.same()


CHANGES = {
    "a write": lambda t: t.zero_(),
    "a write to its gradient": lambda t: t.grad.zero_(),
    "another gradient": lambda t: setattr(t, "grad", t.grad.clone()),
    "no gradient": lambda t: setattr(t, "grad", None),
    "other memory": lambda t: setattr(t, "data", t.data.clone()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_sign_of_a_change_counts_alone(change):
    """As on devices where no words are read."""
    tensor = torch.ones(3, requires_grad=True)
    tensor.grad = torch.ones(3)
    mark = Mark.of(tensor)._replace(words=None)
    assert mark.holds(tensor)
    assert not mark.holds(tensor.detach())
    with torch.no_grad():
        CHANGES[change](tensor)
    assert not mark.holds(tensor)


def test_storage_that_is_read_can_be_resized():
    """As sharding does between two products."""
    weight = StructuredWeight(structmat.LowRank(np.ones((6, 1)), np.ones((4, 1))))
    storage = weight.contents.U.untyped_storage()
    with torch.no_grad():
        weight(torch.ones(4, dtype=torch.float64))
        size = storage.nbytes()
        storage.resize_(0)
        storage.resize_(size)
        weight.contents.U.fill_(3.0)
        assert weight(torch.ones(4, dtype=torch.float64)).tolist() == [12.0] * 6


def test_refresh_drops_what_is_remembered():
    weight = StructuredWeight(build("gblr-prime")[0])
    with torch.no_grad():
        before = weight.bound()
        assert weight.bound() is before
        weight.refresh()
        assert weight.bound() is not before


@pytest.mark.parametrize("drop", ["eval", "train", "refresh"])
def test_what_is_not_read_is_dropped_on_request(drop, monkeypatch):
    """As on devices where reading would wait for them."""
    monkeypatch.setattr(Words, "same", lambda self: True)
    layer = StructuredLinear(build("gblr-prime")[0])
    x = operand(layer)
    with torch.no_grad():
        layer(x)
        layer.matrix.contents.v.data.mul_(2)
        getattr(layer.matrix if drop == "refresh" else layer, drop)()
        now, fresh = outputs(layer)
    torch.testing.assert_close(now, fresh)


def test_no_hook_is_left_on_all_optimizers():
    from torch.optim import optimizer

    assert not optimizer._global_optimizer_post_hooks


# Conversions that swap tensors.


@pytest.fixture
def swapping():
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


CONVERSIONS = {
    "to": lambda m: m.to("cpu"),
    "double": nn.Module.double,
    "float": nn.Module.float,
    "half": nn.Module.half,
    "load": lambda m: m.load_state_dict(doubled(m)),
    "assign": lambda m: m.load_state_dict(doubled(m), assign=True),
    "share": nn.Module.share_memory,
}


@pytest.mark.parametrize("after", ["inference", "training"])
@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("name", [*THINNED, "learning", "packed", "scaled-product"])
def test_tensors_may_be_swapped(name, conversion, after, swapping):
    layer = LAYERS[name]()
    with torch.set_grad_enabled(after == "training"):
        y = layer(operand(layer))
    if after == "training":
        y.sum().backward()
    parameters = list(layer.parameters())
    CONVERSIONS[conversion](layer)
    assert all(p is q for p, q in zip(layer.parameters(), parameters, strict=True))
    if next(layer.parameters()).dtype is not torch.float16:
        torch.testing.assert_close(*outputs(layer))


# Biases, which compiled loops read by themselves.


def biases():
    """Biases for 96 outputs, by what is special about each."""
    pairs = torch.linspace(1, 2, 192).view(96, 2)
    return {
        "one number": torch.ones(1),
        "without axes": torch.ones(()),
        "a row": torch.linspace(1, 2, 96)[None],
        "every second": pairs[:, 0],
        "negated in place": torch.view_as_complex(pairs).conj().imag,
    }


@pytest.fixture(params=["TileProduct", "BlockProduct"])
def compiled(request, monkeypatch):
    """A frozen weight whose vectors a compiled kernel multiplies, these vectors, and results."""
    pytest.importorskip("numba")
    monkeypatch.setattr(structured_products, "dense_is_quicker", lambda *_, **__: False)
    torch.manual_seed(0)
    W, x = torch.randn(96, 128), torch.randn(33, 128)
    matrix = GaudiLinear(128, 96, budget=0.7).to_matrix()
    if request.param == "BlockProduct":
        matrix = structmat.compress(W, "gblr", budget=0.3).matrix
    weight = StructuredWeight(matrix).requires_grad_(False)
    with torch.no_grad():
        y = [weight(x) for _ in range(2)][-1]
        assert type(weight._remembered.way(33, lambda: None)).__name__ == request.param
    return weight, x, y


@pytest.mark.parametrize("name", biases())
def test_a_bias_of_any_form_is_added(compiled, name):
    (weight, x, y), bias = compiled, biases()[name]
    with torch.no_grad():
        torch.testing.assert_close(weight(x, bias), y + bias)


@pytest.mark.parametrize("count", [95, 97])
def test_a_bias_of_another_length_is_refused(compiled, count):
    weight, x, _ = compiled
    with torch.no_grad(), pytest.raises(RuntimeError, match="96"):
        weight(x, torch.ones(count))


def test_a_bias_with_other_steps_is_read_by_them(compiled):
    (weight, x, y), numbers = compiled, torch.linspace(1, 2, 192)
    bias = nn.Parameter(numbers[:96], requires_grad=False)
    with torch.no_grad():
        for data in (numbers[:96], numbers[::2], numbers[:1]):
            bias.data = data
            torch.testing.assert_close(weight(x, bias), y + data)


def test_contents_that_become_a_view_of_their_own_memory_are_seen():
    """Neither version nor address nor words change, but what they mean."""
    U, V = torch.arange(512.0).reshape(64, 8), torch.ones(16, 8)
    layer = StructuredLinear(structmat.LowRank(U.clone(), V)).eval()
    x = torch.ones(3, 16)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(x), x @ (U @ V.T).T)
        contents = layer.matrix.contents.U
        contents.data = contents.data.reshape(8, 64).T
        turned = U.reshape(8, 64).T
        for _ in range(2):
            torch.testing.assert_close(layer(x), x @ (turned @ V.T).T)
