"""Contents that loaders keep elsewhere between calls, or that have no values at all."""

import copy

import pytest

torch = pytest.importorskip("torch")
from device_steps import LAYERS, inputs  # noqa: E402

from structmat.errors import InputError  # noqa: E402

#: Convolutions that learn read their weights without calling them: torch then refuses to compute.
READ = ("anneal convolution", "gaudi convolution")
FROZEN = ("strips", "ordered block sparse", "block low rank", "convolution", "packed")


@pytest.mark.parametrize(
    "name",
    [
        n if n in FROZEN else pytest.param(n, marks=pytest.mark.slow)
        for n in LAYERS
        if n not in READ
    ],
)
def test_layers_may_be_offloaded(name, tmp_path):
    """Accelerate brings the parameters of a module when it is called, and takes them back."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")
    layer = LAYERS[name](64).eval()
    there, x = copy.deepcopy(layer), inputs(layer)
    accelerate.cpu_offload(there, execution_device=torch.device("cpu"))
    assert all(p.is_meta for p in there.parameters())
    with torch.no_grad():
        for some in (x, x[:1], x):
            wanted = layer(some)
            torch.testing.assert_close(there(some), wanted, rtol=1e-5, atol=1e-4)
    assert all(p.is_meta for p in there.parameters())


@pytest.mark.parametrize("name", ["strips", "block low rank", "low rank", "convolution"])
def test_contents_without_values_are_refused(name):
    layer = LAYERS[name](64).eval()
    x = inputs(layer)
    layer.to("meta")
    with torch.no_grad(), pytest.raises(InputError, match="meta device, and the input on cpu"):
        layer(x)
    assert layer(x.to("meta")).is_meta
