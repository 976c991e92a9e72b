"""Matrices on a library that behaves as CuPy does: devices, the current one, and streams."""

import operator
import pickle
import threading

import numpy as np
import pytest
from cases import CASES, build
from fake_cupy import Device, Stream, current_stream
from fake_cupy_library import FakeLibrary

import structmat
from structmat import GBLR, BlockLowRank, Identity
from structmat._array import computing_on
from structmat.errors import BackendError
from structmat.kernels import using
from structmat.project.runs import project_runs
from structmat.project.tiles import project_tiles
from structmat.testing import check_matrix

#: Cases whose products the emulated kernels finish soon.
SMALL = [name for name in CASES if name != "gblr-tiles"]


def close(got, expected):
    scale = 1e-5 * max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got.get(), expected, rtol=0, atol=scale)


@pytest.mark.parametrize("name", SMALL)
def test_contract(name, cuda):
    cupy = FakeLibrary(cuda)
    matrix, twin = build(name, "complex128")
    check_matrix(matrix.to(cupy), cupy.asarray(twin))


def test_a_device_has_no_hash():
    with pytest.raises(TypeError, match="unhashable"):
        {Device(0)}


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", SMALL)
def test_matrices_compute_on_their_own_device(name, dtype, cuda):
    """Device 0 is current, and everything lies on device 1."""
    cupy, there = FakeLibrary(cuda), Device(1)
    matrix, twin = build(name, dtype)
    with there:
        A = matrix.to(cupy)
    assert A.device == there
    m, n = A.shape
    X, Y = np.ones((n, 3), dtype), np.ones((m, 3), dtype)
    on = {"device": there}
    x, y = (cupy.asarray(array, **on) for array in (X, Y))
    results = [
        (A @ x, twin @ X),
        (A @ x[:, 0], twin @ X[:, 0]),
        (A.matvec(cupy.asarray(np.ones((2, n), dtype), **on)), np.ones((2, n)) @ twin.T),
        (A.rmatmat(y), twin.conj().T @ Y),
        (y.T @ A, Y.T @ twin),
        (A.to_dense(), twin),
        (A.H.to_dense(), twin.conj().T),
        (A.T.to_dense(), twin.T),
        (A.conj().to_dense(), twin.conj()),
        ((A * 2).to_dense(), 2 * twin),
        (A.astype("complex128").to_dense(), twin),
        (A.copy() @ x, twin @ X),
        ((A + A).to_dense(), 2 * twin),
        ((A.H @ A).to_dense(), twin.conj().T @ twin),
        (A.diagonal(), np.diagonal(twin)),
        (A.trace(), np.trace(twin)),
    ]
    if min(m, n):
        results += [(A[0, :], twin[0]), (A[0, 0], twin[0, 0]), (A[:, :1].to_dense(), twin[:, :1])]
    for got, expected in results:
        assert got.device == there
        close(got, expected)
    assert A.norm() == pytest.approx(np.linalg.norm(twin), rel=1e-5, abs=1e-5)
    assert A.to(Device(0)).device == Device(0)
    assert Device() == Device(0)


@pytest.mark.parametrize("kernel", ["panels", "batches", "pair", "dense", "intervals"])
@pytest.mark.parametrize("name", ["gblr", "gblr-prime", "block_sparse-ragged", "block_low_rank"])
def test_kernels_run_on_the_device_of_the_contents(name, kernel, cuda):
    """In a stream of their own; device 0 is current."""
    if kernel == "intervals" and not name.startswith("gblr"):
        kernel = "panels"
    cupy, there = FakeLibrary(cuda), Device(1)
    matrix, twin = build(name, "float32")
    with there, Stream():
        A = matrix.to(cupy)
        x, y = (cupy.asarray(np.ones((size, 9), "float32")) for size in A.shape[::-1])
        current_stream().synchronize()
        with using(kernel):
            for _ in range(2):
                close(A @ x, twin @ np.ones((A.shape[1], 9)))
    with using(kernel):
        got = A.rmatmat(y)
        assert got.device == (A @ x).device == there
        close(got, twin.T @ np.ones((A.shape[0], 9)))


@pytest.mark.parametrize("name", [n for n in SMALL if n.startswith(("gblr", "block", "monarch"))])
def test_what_is_kept_may_be_read_from_another_stream(name, cuda):
    cupy = FakeLibrary(cuda)
    matrix, twin = build(name, "float32")
    first, second = Stream(), Stream()
    with first:
        A = matrix.to(cupy)
        x = cupy.asarray(np.ones((A.shape[1], 2), "float32"))
        first.synchronize()
        A @ x  # makes layouts and copies, in this stream
        A.H @ (A @ x)
    with second:
        close(A @ x, twin @ np.ones((A.shape[1], 2)))
        close(A.H @ (A @ x), twin.conj().T @ twin @ np.ones((A.shape[1], 2)))


def test_matrices_are_made_beside_their_contents(cuda):
    cupy, there = FakeLibrary(cuda), Device(1)

    def on(values):
        return cupy.asarray(values, device=there)

    ones = on(np.ones((1, 4), "float32"))
    made = [
        GBLR.from_masked(ones, ones, [0], [2], [1], [3]),
        BlockLowRank({(0, 0): (ones.T, ones.T), (0, 1): on(np.eye(4))}, row_sizes=[4],
                     col_sizes=[4, 4]),
        Identity(3, like=ones),
        structmat.Permutation(on(np.arange(4, dtype="int32"))),
        structmat.Dense(on(np.ones((2, 2), int))),
    ]  # fmt: skip
    assert all(A.device == there for A in made)
    blocks = structmat.convert(made[1], "gblr")
    assert blocks.device == there
    half = structmat.interpolate(made[0], made[0], 0.5)
    assert half.device == there
    energy = on(np.arange(16.0).reshape(4, 4))
    assert project_runs(energy, 3)[0].device == there
    assert project_runs(energy, 0)[0].device == there
    assert project_tiles(energy, 3, 1).device == there
    fitted = structmat.compress(on(np.ones((4, 4))), "low_rank", budget=0.5)
    assert fitted.matrix.device == there


def test_devices_that_differ_are_refused(cuda):
    cupy = FakeLibrary(cuda)
    matrix, _ = build("gblr", "float32")
    here = matrix.to(cupy)
    with Device(1):
        there = matrix.to(cupy)
    for combine in (operator.add, operator.matmul):
        with pytest.raises(BackendError, match=r"CUDA Device 1.*expected one library and device"):
            combine(here, there.H if combine is operator.matmul else there)
    x = cupy.asarray(np.ones(here.shape[1], "float32"), device=Device(1))
    with pytest.raises(BackendError, match=r"operand on <CUDA Device 1>.*<CUDA Device 0>"):
        here @ x


def test_threads_do_not_take_each_others_device():
    """Contexts of one device object would leave a thread on the device of another thread."""
    there = Device(1)
    first = computing_on(FakeLibrary(), there)
    found, entered, left = [], threading.Event(), threading.Event()

    def other():
        with Device(1):
            with computing_on(FakeLibrary(), there):
                entered.set()
                left.wait(20)
            found.append(Device())

    with first:
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(20)
    assert Device() == Device(0)
    left.set()
    thread.join()
    assert found == [Device(1)]


def test_layouts_are_those_of_each_device(cuda):
    cupy = FakeLibrary(cuda)
    A = build("gblr", "float32")[0].to(cupy)
    B = A.to(Device(1))
    for matrix in (A, B):
        x = cupy.asarray(np.ones(A.shape[1], "float32"), device=matrix.device)
        assert (matrix @ x).device == matrix.device
    again = pickle.loads(pickle.dumps(A.to("numpy")))
    assert again.shape == A.shape
