"""Frozen layers whose groups of outputs share their inputs, as a device multiplies by them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from device_rules import MOST_LAUNCHES, by_kernel, by_structure, launches, step  # noqa: E402

from structmat.kernels.layouts.strips import Strips  # noqa: E402
from structmat.nn import StructuredLinear  # noqa: E402
from structmat.nn.anneal.projected import Projected, packed  # noqa: E402
from structmat.nn.anneal.projectors import Options, project  # noqa: E402

SIZES = (96, 352)


def weight(n, group, share=0.15):
    """A weight that has its energy in windows of groups, in other orders than the given ones."""
    rng = np.random.default_rng(n)
    W = 0.01 * rng.standard_normal((n, n))
    for top in range(0, n, group):
        left = rng.integers(0, n - n // 8)
        W[top : top + group, left : left + n // 8] += rng.standard_normal((1, n // 8))
    W = W[rng.permutation(n)][:, rng.permutation(n)]
    cap = int(share * n * n)
    found = project("gblr", W, cap, cap, Projected.whole((n, n)), Options(group=group))
    assert found.row_order is not None
    return packed(W, found)


def layer_of(n, group=16):
    return StructuredLinear(weight(n, group))


@pytest.fixture(params=["batches", "lines", "triton"])
def kernel(request, monkeypatch):
    pytest.importorskip("triton" if request.param != "batches" else "torch")
    by_kernel(monkeypatch, request.param)
    by_structure(monkeypatch)
    return request.param


def test_launches_are_few_and_as_many_for_any_size(kernel):
    layers = [layer_of(n) for n in SIZES]
    for backward in (False, True):
        few, many = (launches(layer, 40, backward=backward) for layer in layers)
        assert len(many) <= (MOST_LAUNCHES if backward else 12)
        assert abs(len(few) - len(many)) <= 2 * (kernel == "batches")  # one batch or two
    if kernel == "triton":
        forward = launches(layers[0].requires_grad_(False), 40, backward=False)
        assert forward.count("tile_matmul") == 1
        assert len(forward) <= 4  # with both orders


def test_no_value_is_read_and_values_are_right(kernel):
    layer = layer_of(SIZES[0])
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((20, SIZES[0])))
    y, (dx, *_) = step(layer, x)
    dense = layer.weight.detach()
    torch.testing.assert_close(y.detach(), x @ dense.T)
    torch.testing.assert_close(dx, torch.ones_like(y) @ dense)
    far, _ = step(layer.to("meta"), x.to("meta"))
    assert far.shape == y.shape


@pytest.mark.parametrize("group", [32, 64, 128])
def test_groups_fill_their_tiles(group):
    pytest.importorskip("triton")
    from structmat.kernels.triton.factor import strip_layout

    n, rng = 1024, np.random.default_rng(0)
    support = np.zeros((n, n), bool)
    for top in range(0, n, group):
        left = 16 * rng.integers(0, n // 16 - 6)
        support[top : top + group, left : left + 16 * rng.integers(2, 7)] = True
    matrix = packed(np.ones((n, n)), Projected(cost=int(support.sum()), support=support))
    layout, listed = strip_layout(Strips.apart(matrix.to("torch")._factored.structure))
    assert not listed
    assert layout.tile[1] == group
    assert layout.fill > 0.8
