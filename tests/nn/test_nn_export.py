"""Export of layers: ONNX in ONNX Runtime, `torch.export` through a file, and tracing."""

import io
import logging
import math

import numpy as np
import pytest
import torch
from cases import build

import structmat
from structmat.kernels.choice.record import has
from structmat.nn import (
    Config,
    GaudiConv2d,
    GaudiLinear,
    PackedLinear,
    StructuredConv2d,
    StructuredLinear,
    convert_,
    freeze_,
)

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
# Parts of torch's exporter, and its tracer, use parts that torch deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
BATCH = {0: torch.export.Dim("batch")}
NAMES = ["low_rank", "block_sparse-ragged", "block_low_rank-dense-tiles", "monarch-padded",
         "gblr-prime", "sum-of-three", "product-of-three", "product-ordered",
         "scaled-product", "adjoint",
         "permutation", "dense", "gblr-no-blocks", "low_rank-rank-zero"]  # fmt: skip
KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr", "pixelfly")


@pytest.fixture(autouse=True)
def _quiet():
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def squares(own_kinds):
    """A matrix of a kind from elsewhere: dense, by the square roots of its entries."""

    class Squares(structmat.StructuredMatrix, kind="squares"):
        data_names = ("roots",)

        def __init__(self, roots):
            super().__init__(tuple(roots.shape), {"roots": roots})

        @property
        def cost(self):
            return 2 * self.shape[0] * self.shape[1]

        def _multiply(self, x):
            return (self.roots * self.roots) @ x

        def _multiply_adjoint(self, y):
            return self.xp.matrix_transpose(self.roots * self.roots) @ y

        def _dense(self):
            return self._dense_by_products()

        def _adjoint(self):
            return Squares(self.xp.matrix_transpose(self.roots))

    return Squares(np.random.default_rng(0).random((6, 7)))


def in_runtime(model, args=None):
    """A session of ONNX Runtime as a function of a batch."""
    program = torch.onnx.export(
        model, args, dynamo=True, verbose=False, dynamic_shapes=(BATCH,) if args else None
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def agree(function, model, shape, dtype, counts=(1, 2, 5, 70)):
    tolerance = 2e-2 if dtype == torch.float16 else 1e-5
    for count in counts:
        x = torch.randn(count, *shape).to(dtype)
        with torch.no_grad():
            wanted = model(x)
        found = function(x)
        assert found.shape == wanted.shape
        assert found.dtype == dtype
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1)


def check_onnx(model, shape, dtype=torch.float32):
    model = model.to(dtype).eval()
    function = in_runtime(model, (torch.randn(5, *shape).to(dtype),))
    agree(function, model, shape, dtype)


def network(kind, *, conv=False):
    """A converted network without anything that learns its structure."""
    if conv:
        layers = [torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.Conv2d(32, 16, 3, stride=2)]
    else:
        layers = [torch.nn.Linear(128, 256), torch.nn.Linear(256, 128)]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    convert_(model, Config(kind=kind, budget=0.5 if kind == "pixelfly" else 0.25))
    if kind == "gblr":
        freeze_(model)
    return model.eval(), (16, 9, 9) if conv else (128,)


def layer_of(name):
    A = build(name)[0]
    return StructuredLinear(A, torch.randn(A.shape[0]).double()), (A.shape[1],)


class SideBySide(torch.nn.Module):
    """Layers on the same numbers, and their results side by side."""

    def __init__(self, layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.wide = max(layer.in_features for layer in layers)

    def forward(self, x):
        return torch.cat([layer(x[:, : layer.in_features]) for layer in self.layers], 1)


# ONNX.


def test_some_kinds_run_in_onnx_runtime(squares):
    """One of each root: products with an identity, compiled kernels, own kinds, learned ones."""
    layers = [layer_of(name)[0] for name in ("gblr-prime", "monarch-padded", "permutation")]
    layers += [StructuredLinear(squares), network("gblr")[0][0], GaudiLinear(20, 30, budget=0.3)]
    model = SideBySide(layers)
    check_onnx(model, (model.wide,))


@pytest.mark.slow
def test_packed_layers_run_in_onnx_runtime():
    part = StructuredLinear(build("low_rank")[0]).matrix
    layer = PackedLinear([part, part], torch.zeros(2 * part.shape[0]))
    check_onnx(layer, (layer.in_features,))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_kind_runs_in_onnx_runtime(name):
    check_onnx(*layer_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_network_runs_in_onnx_runtime(kind, dtype):
    check_onnx(*network(kind), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_convolution_runs_in_onnx_runtime(kind):
    check_onnx(*network(kind, conv=True))


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"sigma": 5.0}, {"max_width": 20}, {"product": "factors"}, {"straight_through": False}],
)
def test_layers_that_learn_run_in_onnx_runtime(options, training):
    """As they are at the moment, through their dense weight."""
    layer = GaudiLinear(64, 48, budget=0.2, **options).train(training)
    if training and not options.get("straight_through", True):
        pytest.skip("ONNX knows no complex numbers, of which masks between samples are made")
    function = in_runtime(layer, (torch.randn(5, 64),))
    agree(function, layer, (64,), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["matrix", "taps"])
def test_convolutions_that_learn_run_in_onnx_runtime(form):
    layer = GaudiConv2d(8, 16, 3, padding=1, budget=0.3, form=form).eval()
    check_onnx(layer, (8, 9, 9))


@pytest.mark.slow
def test_half_precision_runs_in_onnx_runtime():
    model, shape = network("gblr")
    check_onnx(model, shape, torch.float16)


@pytest.mark.slow
def test_an_exported_program_becomes_onnx():
    """The compiled operator is in the graph, and is replaced on the way."""
    model, shape = network("gblr")
    program = torch.export.export(model, (torch.randn(5, *shape),), dynamic_shapes=(BATCH,))
    if has("numba"):
        assert "structmat.tiles" in str(program.graph)
    agree(in_runtime(program), model, shape, torch.float32)


# torch.export and tracing.


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "gblr" else pytest.mark.slow) for k in KINDS]
)
@pytest.mark.parametrize("conv", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_programs_through_a_file(kind, conv):
    model, shape = network(kind, conv=conv)
    program = torch.export.export(model, (torch.randn(5, *shape),), dynamic_shapes=(BATCH,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    for form in (loaded, loaded.run_decompositions()):
        agree(form.module(), model, shape, torch.float32)


@pytest.mark.parametrize("product", ["assembled", "factors"])
def test_programs_of_layers_that_learn(product):
    layer = GaudiLinear(300, 256, budget=0.1, product=product).eval()
    program = torch.export.export(layer, (torch.randn(5, 300),), dynamic_shapes=(BATCH,))
    agree(program.module(), layer, (300,), torch.float32)
    agree(lambda x: layer(x).detach(), layer, (300,), torch.float32)  # nothing is left behind


@pytest.mark.parametrize("name", ["gblr-prime", "monarch-padded", "permutation"])
def test_traces(name):
    layer, shape = layer_of(name)
    layer = layer.float().eval()
    traced = torch.jit.trace(layer, torch.randn(5, *shape), check_trace=False)
    agree(lambda x: traced(x).detach(), layer, shape, torch.float32)


def test_traces_of_structured_convolutions():
    taps = structmat.LowRank(np.ones((6, 2)), np.ones((4 * 9, 2)))
    layer = StructuredConv2d([taps], in_channels=4, kernel_size=3).float().eval()
    assert math.isfinite(layer(torch.ones(1, 4, 5, 5)).sum())
    traced = torch.jit.trace(layer, torch.randn(2, 4, 5, 5), check_trace=False)
    agree(lambda x: traced(x).detach(), layer, (4, 5, 5), torch.float32)
