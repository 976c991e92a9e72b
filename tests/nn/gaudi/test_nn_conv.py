"""Gaudi convolutions against the dense ones with the same kernel."""

import pytest
import torch
from torch import nn

from structmat.errors import InputError, ShapeError
from structmat.nn import BudgetProjection, GaudiConv2d, GaudiLinear, parameter_groups

FORMS = [{"form": "matrix"}, {"form": "taps"}, {"form": "taps", "shared_masks": True}]
SETTINGS = [
    {},
    {"padding": (1, 2), "stride": (2, 1)},
    {"padding": "valid", "dilation": (1, 2)},
    {"padding": "same", "dilation": 2},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": 1, "padding_mode": "reflect", "bias": False},
    {"padding": 1, "padding_mode": "replicate"},
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def layer_of(options, **settings):
    return GaudiConv2d(6, 10, (3, 2), **settings, **options, budget=0.6, dtype=torch.float64)


def dense_of(layer, **settings):
    dense = nn.Conv2d(6, 10, (3, 2), **settings, dtype=torch.float64)
    with torch.no_grad():
        dense.weight.copy_(layer.weight)
        if layer.bias is not None:
            dense.bias.copy_(layer.bias)
    return dense


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("product", ["assembled", "factors"])
@pytest.mark.parametrize("training", [True, False])
def test_it_convolves_like_a_dense_layer_with_its_kernel(settings, options, product, training):
    layer = layer_of({**options, "product": product, "sigma": 5.0}, **settings).train(training)
    dense = dense_of(layer, **settings)
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(dense(x))
    found = torch.autograd.grad((layer(x) * upstream).sum(), x)[0]
    wanted = torch.autograd.grad((dense(x) * upstream).sum(), x)[0]
    torch.testing.assert_close(layer(x), dense(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer(x[0]), dense(x)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_products_agree_in_all_gradients(options):
    layer = layer_of({**options, "sigma": 4.0})
    x, results = torch.randn(2, 6, 7, 7, dtype=torch.float64), []
    for product in ("assembled", "factors"):
        for tap in layer.taps:
            tap.product = product
        layer.zero_grad()
        layer(x).square().sum().backward()
        results.append({name: p.grad.clone() for name, p in layer.named_parameters()})
    for name, grad in results[0].items():
        torch.testing.assert_close(grad, results[1][name], rtol=1e-5, atol=1e-5)


def test_the_kernel_as_one_matrix_is_that_of_a_linear_layer_on_patches():
    layer = GaudiConv2d(4, 8, 3, budget=0.5)
    linear = GaudiLinear.from_weight(layer.taps[0], layer.bias)
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(layer(x).flatten(), linear(x.flatten()))


@pytest.mark.parametrize("form", ["matrix", "taps"])
def test_kernels_vary_as_those_of_a_dense_layer(form):
    layer = GaudiConv2d(64, 64, 3, form=form, budget=0.4).eval()
    assert layer.weight.std().item() == pytest.approx((3 * 64 * 9) ** -0.5, rel=0.1)
    assert layer.bias.abs().max() <= (64 * 9) ** -0.5


def test_shared_masks_are_one_structure_that_costs_for_all_taps():
    layer = GaudiConv2d(16, 16, 3, padding=1, form="taps", shared_masks=True, budget=0.5)
    assert len({id(tap.structure) for tap in layer.taps}) == 1
    optimizer = torch.optim.AdamW(parameter_groups(layer, lr=1e-3, structure_lr=1e-3))
    rule = BudgetProjection(layer, optimizer, 0.2, 4, ramp=0.5)
    for _ in range(4):
        optimizer.zero_grad()
        layer(torch.randn(2, 16, 8, 8)).square().mean().backward()
        optimizer.step()
    total = sum(tap.cost for tap in layer.taps)
    assert total == round(rule.relative_cost * 9 * 256) <= 0.2 * 9 * 256
    assert total == 9 * layer.taps[0].cost


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"groups": 2}, InputError),
        ({"form": "rows"}, InputError),
        ({"padding": "full"}, InputError),
        ({"padding": "same", "stride": 2}, InputError),
        ({"padding_mode": "mirror"}, InputError),
        ({"shared_masks": True, "form": "matrix"}, InputError),
    ],
)
def test_refuses_settings(options, error):
    with pytest.raises(error, match="expected"):
        GaudiConv2d(6, 10, 3, **options)


@pytest.mark.parametrize("shape", [(2, 5, 9, 9), (6, 9), (2, 6, 2, 9)])
def test_refuses_images(shape):
    with pytest.raises(ShapeError, match="expected"):
        GaudiConv2d(6, 10, 3)(torch.zeros(shape))


def test_refuses_weights_that_make_no_kernel():
    taps = GaudiConv2d(6, 10, 2, form="taps").taps
    with pytest.raises(ShapeError, match="expected one of"):
        GaudiConv2d.from_taps(list(taps)[:3], None, in_channels=6, kernel_size=2)


@pytest.mark.parametrize("product", ["assembled", "factors"])
def test_dead_blocks_of_a_convolution_are_revived(product):
    """Whether it multiplies patches or convolves an assembled kernel."""
    layer = GaudiConv2d(16, 16, 3, num_blocks=8, width_init=0.25, product=product)
    with torch.no_grad():
        layer.taps[0].structure.row_width[:4] = 0.0
        layer.taps[0].structure.col_width[:4] = 0.0
    groups = parameter_groups(layer, lr=1e-3, structure_lr=0.0)
    optimizer = torch.optim.SGD([{k: v for k, v in g.items() if k != "betas"} for g in groups])
    rule = BudgetProjection(layer, optimizer, 0.9, 10, ramp=1.0, revive_every=1)
    layer(torch.randn(2, 16, 6, 6)).square().sum().backward()
    optimizer.step()
    assert (layer.taps[0].structure.row_width > 0).all()
    rule.remove()
    assert not layer.taps[0].record_weight_grad
