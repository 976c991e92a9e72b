"""Orders that merge between neighbours: equal outputs, fewer gathers, and nothing else changed."""

import copy

import numpy as np
import pytest
import torch
from cases import contents, monarch, random_gblr
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import structmat
from structmat import Permutation
from structmat.matrices import Product
from structmat.nn import StructuredLinear, StructuredWeight, freeze_, load_model, save_model
from structmat.nn.models.merge_orders import merge_orders_
from structmat.nn.structured import products

N = 12


def order(seed):
    return Permutation(np.random.default_rng(seed).permutation(N))


def gblr(seed):
    return random_gblr(N, N, 6, seed)(contents("float64", seed))[0]


def layer(left=None, right=None, *, seed=0, inner=None, bias=True):
    """A layer whose rows and columns are in the orders of two seeds, if there are any."""
    A = gblr(seed) if inner is None else inner
    A = A if left is None else order(left) @ A
    A = A if right is None else A @ order(right)
    torch.manual_seed(seed)
    return StructuredLinear(A, torch.randn(A.shape[0]).double() if bias else None)


def dense(outputs=N, **options):
    torch.manual_seed(5)
    return nn.Linear(N, outputs, dtype=torch.float64, **options)


def low_rank():
    rng = np.random.default_rng(3)
    return structmat.LowRank(rng.standard_normal((N, 2)), rng.standard_normal((N, 2)))


def gathers(model):
    """Number of permutations in the weights of a model."""
    matrices = [m.to_matrix() for m in model.modules() if isinstance(m, StructuredWeight)]
    factors = [f for A in matrices for f in (A.children if isinstance(A, Product) else (A,))]
    return sum(isinstance(factor, Permutation) for factor in factors)


MERGED = {
    "two orders become one": (lambda: (layer(1, 2), nn.ReLU(), layer(3, 4)), 4, 3),
    "orders that cancel": (lambda: (layer(1, 2), nn.GELU(), layer_after(1)), 3, 1),
    "a dense layer after": (lambda: (layer(1, 2), nn.Tanh(), dense()), 2, 1),
    "a dense layer before": (lambda: (dense(), nn.SiLU(), layer(1, 2)), 2, 1),
    "dense without bias": (lambda: (dense(bias=False), nn.ReLU(), layer(None, 2)), 1, 0),
    "no bias": (lambda: (layer(1, 2, bias=False), nn.ReLU(), layer(3, 4)), 4, 3),
    "low rank after": (lambda: (layer(1, 2), nn.ReLU(), layer(inner=low_rank())), 2, 1),
    "low rank before": (lambda: (layer(inner=low_rank()), nn.ReLU(), layer(1, 2)), 2, 1),
    "Monarch": (
        lambda: (
            layer(1, inner=monarch((3, 4, 4), (4, 3, 3))(contents("float64"))[0]),
            nn.Sigmoid(),
            layer(3, 4),
        ),
        3,
        2,
    ),
    "several between": (
        lambda: (layer(1, 2), nn.Dropout(0.5), nn.Identity(), nn.LeakyReLU(), layer(3, 4)), 4, 3),
    "nothing between": (lambda: (layer(1, 2), layer(3, 4)), 4, 3),
    "three layers": (
        lambda: (layer(1, 2), nn.ReLU(), layer(3, 4, seed=1), nn.ReLU(), layer(5, 6)), 6, 4),
    "inside sequentials": (
        lambda: (nn.Sequential(layer(1, 2), nn.ReLU()), nn.Sequential(nn.Sequential(layer(3, 4)))),
        4, 3),
}  # fmt: skip


def layer_after(seed):
    """A layer whose inputs come back from the order of a seed."""
    return StructuredLinear(gblr(7) @ order(seed).H, torch.ones(N).double())


@pytest.mark.parametrize("name", MERGED)
def test_neighbours_merge(name):
    make, before, after = MERGED[name]
    model = nn.Sequential(*make()).eval()
    x = torch.randn(5, N).double()
    expected, parameters = model(x).detach(), dict(model.named_parameters())
    cost = [m.cost for m in model.modules() if isinstance(m, StructuredWeight)]
    model(x).sum().backward()
    assert gathers(model) == before
    assert merge_orders_(model)
    assert gathers(model) == after
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert [m.cost for m in model.modules() if isinstance(m, StructuredWeight)] == cost
    assert {id(p) for p in model.parameters()} == {id(p) for p in parameters.values()}
    assert not merge_orders_(model)  # once is enough
    model(x).square().sum().backward()
    assert not any(m.training for m in model.modules())


class Residual(nn.Module):
    """A model that may use any output of its layers."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


class Own(nn.Sequential):
    pass


def hooked(module):
    module.register_forward_hook(lambda *_: None)
    return module


def shared():
    one = layer(1, 2)
    return nn.Sequential(one, nn.ReLU(), layer(3, 4), nn.ReLU(), one)


def tied():
    model = nn.Sequential(layer(1, 2), nn.ReLU(), dense())
    other = dense()
    other.weight = model[2].weight
    return nn.Sequential(model, nn.LayerNorm(N, dtype=torch.float64), other)


def referred():
    model = nn.Sequential(layer(1, 2), nn.ReLU(), layer(3, 4))
    model.first = model[0].matrix
    return model


STAY = {
    "a softmax between": lambda: nn.Sequential(layer(1, 2), nn.Softmax(-1), layer(3, 4)),
    "a norm between": lambda: nn.Sequential(
        layer(1, 2), nn.LayerNorm(N, dtype=torch.float64), layer(3, 4)
    ),
    "a model of its own": lambda: Residual(layer(1, 2), nn.ReLU(), layer(3, 4)),
    "a subclass": lambda: Own(layer(1, 2), nn.ReLU(), layer(3, 4)),
    "inside a subclass": lambda: nn.Sequential(Own(layer(1, 2), nn.ReLU(), layer(3, 4))),
    "a hook on the first": lambda: nn.Sequential(hooked(layer(1, 2)), nn.ReLU(), layer(3, 4)),
    "a hook on the second": lambda: nn.Sequential(layer(1, 2), nn.ReLU(), hooked(layer(3, 4))),
    "a hook between": lambda: nn.Sequential(layer(1, 2), hooked(nn.ReLU()), layer(3, 4)),
    "a hook on a part": lambda: nn.Sequential(
        hooked(nn.Sequential(layer(1, 2), nn.ReLU())), layer(3, 4)
    ),
    "a shared layer": shared,
    "a tied weight": tied,
    "a reference": referred,
    "nothing to gain": lambda: nn.Sequential(layer(1, 2), nn.ReLU(), layer(3)),
    "no orders": lambda: nn.Sequential(layer(), nn.ReLU(), layer(), dense()),
    "dense alone": lambda: nn.Sequential(dense(), nn.ReLU(), dense()),
    "empty": nn.Sequential,
}  # fmt: skip


@pytest.mark.parametrize("name", STAY)
def test_what_is_not_certain_stays(name):
    model = STAY[name]().eval()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    count = gathers(model)
    assert not merge_orders_(model)
    assert gathers(model) == count
    for n, p in model.named_parameters():
        assert torch.equal(p, before[n])


def test_gradients_and_training_go_on():
    """After the merge, contents have the gradients that they had before."""
    model = nn.Sequential(layer(1, 2), nn.GELU(), layer(3, 4), nn.ReLU(), dense(3))
    other = copy.deepcopy(model)
    merge_orders_(other)
    x = torch.randn(5, N).double()
    for one in (model, other):
        one(x).square().sum().backward()
    for i in (0, 2):
        first, second = (list(m[i].matrix.contents.parameters()) for m in (model, other))
        for p, q in zip(first, second, strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    before = other(x).detach()
    optimizer.step()
    assert not torch.allclose(other(x), before)


def test_frozen_models_are_merged_and_saved(tmp_path):
    model = nn.Sequential(layer(1, 2), nn.ReLU(), layer(3, 4), nn.ReLU(), dense(3)).float().eval()
    model[0].matrix.positions = 7
    model[0].matrix.contents.requires_grad_(False)
    x = torch.randn(5, N)
    expected = model(x).detach()
    report = freeze_(model)
    assert gathers(model) == 2
    assert [row.kind for row in report.rows] == ["gblr", "gblr"]
    torch.testing.assert_close(model(x), expected)
    assert model[0].matrix.positions == 7
    assert [p.requires_grad for p in model[0].parameters()] == [True, False, False]
    plain = nn.Sequential(nn.Linear(N, N), nn.ReLU(), nn.Linear(N, N), nn.ReLU(), nn.Linear(N, 3))
    save_model(tmp_path / "model.safetensors", model)
    assert torch.equal(load_model(tmp_path / "model.safetensors", plain).eval()(x), model(x))


class _Gathers(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        _Gathers.count += func.overloadpacket is torch.ops.aten.index_select
        return func(*args, **(kwargs or {}))


def test_each_order_is_one_gather(monkeypatch):
    """By panels, gathers of the kernels come on top; they are the same before and after."""
    monkeypatch.setattr(products, "dense_is_quicker", lambda *_, **__: False)
    model = nn.Sequential(layer(1, 2), nn.ReLU(), layer(3, 4)).eval()
    x, counts = torch.randn(5, N).double(), []
    for _ in range(2):
        with torch.no_grad():
            model(x)
            _Gathers.count = 0
            with _Gathers():
                model(x)
        counts.append(_Gathers.count)
        merge_orders_(model)
    assert counts[0] - counts[1] == 1
