"""Plain products of tensors on a device: by known times, else by the dense matrix."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from device_rules import by_structure  # noqa: E402
from test_device_rules import gblr  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

from structmat import binding  # noqa: E402
from structmat.kernels import plan, using  # noqa: E402
from structmat.kernels.choice import record  # noqa: E402
from structmat.kernels.choice.record import on  # noqa: E402
from structmat.kernels.choice.table import KERNELS  # noqa: E402
from structmat.kernels.cost_model.coefficients import keep  # noqa: E402
from structmat.nn import StructuredLinear  # noqa: E402

SIZE = 128


@pytest.fixture(params=["cpu", "meta"])
def device(request, monkeypatch, user_cache):
    """A device of torch, as it would be one of CUDA."""
    monkeypatch.setattr(record, "_WITHOUT_TIMES", [])
    monkeypatch.setitem(KERNELS, "triton", replace(KERNELS["triton"], wants=on("torch")))
    return request.param


@pytest.fixture
def known(device):
    """Figures of the device: 100 µs to start tiles, 10 µs the dense matrix, and bytes for free."""
    pytest.importorskip("triton")
    if device == "cpu":
        pytest.skip("figures of a CPU are those of NumPy")
    keep({"dense": [1e4, 0.0, 1e-2], "triton": [1e5, 0.0, 1e-3]}, "meta, float32")
    return device


def matrix_on(device):
    numbers = gblr(SIZE, SIZE, SIZE // 4)
    tensors = numbers.to("torch").to(device)
    return tensors._map(lambda leaf: leaf.to(torch.float32)), torch.from_numpy(numbers.to_dense())


def test_the_dense_matrix_where_no_times_are_known(device):
    A, twin = matrix_on(device)
    for columns in (1, 17, 512):
        found = plan(A, columns)
        assert (found.kernel, found.seconds) == ("dense", None)
        if device == "meta":
            assert "no times are known for meta, float32: the matrix as a dense" in found.note
    x = torch.ones(SIZE, 5, device=device)
    y, back = A @ x, A.rmatmat(x)
    assert list(A._factored._bound) == ["dense"]
    if device == "cpu":
        torch.testing.assert_close(y.double(), twin @ x.double(), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(back.double(), twin.T @ x.double(), rtol=1e-4, atol=1e-3)


def test_what_is_known_decides_and_nothing_else_is_made(known, monkeypatch):
    written, dense = [], KERNELS["dense"]
    monkeypatch.setitem(
        KERNELS,
        "dense",
        replace(dense, bind=lambda *given: written.append(0) or dense.bind(*given)),
    )
    A, _ = matrix_on(known)
    factored = A._factored
    chosen = {columns: factored.choose(columns) for columns in (1, 16, 1024, 4096)}
    assert set(chosen.values()) == {"dense", "triton"}
    for columns, name in chosen.items():
        times = factored.expected(columns)
        assert times[name] <= 1.05 * times["dense"]
        assert plan(A, columns).note == ""
    A, many = matrix_on(known)[0], torch.ones(SIZE, 4096, device=known)
    written.clear()  # of NumPy
    factored = A._factored
    A @ many
    assert (list(factored._bound), written) == (["triton"], []), "a dense copy without need"
    A @ many[:, :1]
    assert set(factored._bound) == {"triton", "dense"}
    # As often as a tracer asks for it, and between the steps.
    assert [factored.choose(factored.counted(c)) for c in chosen] == list(chosen.values())


def test_layers_that_took_the_structure_are_not_weighed_again(device, monkeypatch):
    by_structure(monkeypatch)
    layer = StructuredLinear(gblr(SIZE, SIZE, SIZE // 4)).to(device, torch.float32)
    layer.requires_grad_(False)
    with torch.no_grad():
        for count in (1, 64):
            layer(torch.ones(count, SIZE, device=device))
    assert "dense" not in layer.matrix.bound()._factored._bound
    again = binding.construct(layer.matrix._template, binding.leaves(layer.matrix.to_matrix()))
    assert again._factored.choose(64) == "dense"


def test_contents_that_learn_are_not_written_out(device):
    A, _ = matrix_on(device)
    A = A._map(lambda leaf: leaf.requires_grad_() if leaf.is_floating_point() else leaf)
    y = A @ torch.ones(SIZE, 40, device=device)
    assert y.requires_grad
    assert A._factored.choose(40) != "dense"


@pytest.mark.parametrize("before", [False, True])
def test_a_trace_writes_no_dense_matrix_out(device, before):
    """A dense matrix that was written out before serves it."""
    A, twin = matrix_on(device)
    x = torch.ones(SIZE, 7, device=device)
    assert A._factored.choose(7) == "dense"
    if before:
        A @ x
    traced = make_fx(lambda x: A @ x)(x)
    assert ("dense" in A._factored._bound) == before
    if device == "cpu":
        torch.testing.assert_close(traced(x).double(), twin @ x.double(), rtol=1e-4, atol=1e-3)


def test_what_is_bound_in_inference_mode_takes_part_in_gradients(device):
    A, twin = matrix_on(device)
    with torch.inference_mode():
        A @ torch.ones(SIZE, 7, device=device)
    with using("batches"), torch.inference_mode():
        A @ torch.ones(SIZE, 7, device=device)
    x = torch.ones(SIZE, 7, device=device, requires_grad=True)
    for name in ("dense", "batches"):
        with using(name):
            (A @ x).sum().backward()
    if device == "cpu":
        wanted = 2 * twin.sum(0)[:, None].expand(SIZE, 7).float()
        torch.testing.assert_close(x.grad, wanted, rtol=1e-4, atol=1e-3)
    assert np.shape(x.grad) == (SIZE, 7)
