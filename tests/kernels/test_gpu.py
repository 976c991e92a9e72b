"""What only a GPU can show; the contract suite adds CuPy to its libraries by itself."""

import numpy as np
import pytest
from cases import CASES, build

import structmat
from structmat.intervals import positions
from structmat.kernels.cuda.intervals import CudaIntervals
from structmat.testing import check_matrix

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", CASES)
def test_contract_on_cupy(name):
    import cupy

    matrix, twin = build(name, "complex128")
    check_matrix(matrix.to("cupy"), cupy.asarray(twin))


def test_solver_of_cupy_takes_a_matrix():
    import cupy
    from cupyx.scipy.sparse.linalg import cg

    A, _ = build("low_rank")
    B = (A.H @ A).to("cupy")
    b = cupy.ones(5)
    shifted = B + B._build({n: getattr(B, n) for n in B.data_names}, (), {})
    x, info = cg(shifted.to_cupyx(), shifted @ b)
    assert info == 0
    assert float(cupy.linalg.norm(shifted @ x - shifted @ b)) < 1e-4


@pytest.mark.parametrize("name", ["gblr", "block_sparse", "block_low_rank"])
def test_solver_of_cupy_takes_a_preconditioner(name):
    """A structured matrix beside an ordinary one: A + 10 I with a product of it in front."""
    import cupy
    from cupyx.scipy.sparse.linalg import gmres

    A, _ = build(name, "float64")
    normal = (A.H @ A).to("cupy")
    n = normal.shape[0]
    dense = normal.to_dense() / float(cupy.linalg.norm(normal.to_dense())) + cupy.eye(n)
    b = cupy.ones(n)
    x, info = gmres(dense, b, M=(normal * 0 + structmat.Identity(n, like=b)).to_cupyx())
    assert info == 0
    assert float(cupy.linalg.norm(dense @ x - b)) < 1e-4 * n


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_is_there_for_another_stream(name):
    import cupy

    matrix, twin = build(name, "float64")
    first, second = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with first:
        A = matrix.to("cupy")
        x = cupy.ones((A.shape[1], 3))
        first.synchronize()
        A @ x
    with second:
        found = A @ x
        second.synchronize()
    np.testing.assert_allclose(found.get(), twin @ np.ones((A.shape[1], 3)), atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_matrices_compute_on_their_own_device(name):
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices; there is one (tests/kernels/test_cupy_devices.py has two)")
    matrix, twin = build(name, "float64")
    with cupy.cuda.Device(1):
        A, x = matrix.to("cupy"), cupy.ones((matrix.shape[1], 3))
    y = A @ x
    assert y.device == A.device == cupy.cuda.Device(1)
    np.testing.assert_allclose(y.get(), twin @ np.ones((A.shape[1], 3)), atol=1e-9)


# Rows, runs and the widest run: tiles of 32, 64 and 128 rows; runs for parts of a warp, for
# warps and for blocks of threads; lists of pieces far longer and far shorter than a warp.
FACTORS = [(1, 3, 1), (1000, 5000, 40), (4096, 4096, 1024), (9001, 700, 9001), (40000, 90, 40000)]


def interval_factor(n, runs, widest, dtype, rng):
    """A factor on the device, and a function that multiplies by its twin on the host."""
    import cupy
    from scipy.sparse import csc_array

    start, width = rng.integers(0, n, runs), rng.integers(0, widest + 1, runs)
    width[:2] = 0, widest
    contents = rng.standard_normal(width.sum())
    if np.issubdtype(dtype, np.complexfloating):
        contents = contents + 1j * rng.standard_normal(width.sum())
    contents = contents.astype(dtype)
    place = positions(start, width, n), np.repeat(np.arange(runs), width)
    twin = csc_array((contents.astype(np.result_type(dtype, np.float64)), place), (n, runs))
    return CudaIntervals(start, width, n, cupy.asarray(contents)), twin


@pytest.mark.parametrize("k", [1, 2, 3, 8, 16, 19])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(("n", "runs", "widest"), FACTORS)
def test_interval_kernels_against_numpy_in_double(n, runs, widest, dtype, k, rng):
    import cupy

    S, twin = interval_factor(n, runs, widest, dtype, rng)
    adjoint = twin.conj().T
    for product, matrix in ((S.matmat, twin), (S.rmatmat, adjoint)):
        x = rng.standard_normal((matrix.shape[1], k)).astype(dtype)
        found, again = (product(cupy.asarray(x)).get() for _ in range(2))
        by_columns = product(cupy.asarray(x.T.copy()).T).get()
        np.testing.assert_array_equal(found, again)
        np.testing.assert_array_equal(found, by_columns)
        assert found.dtype == dtype
        # A sum may be off by its terms' sizes, not by its own, which may cancel.
        terms = abs(matrix) @ abs(x.astype(matrix.dtype))
        bound = np.finfo(dtype).eps * 8 * np.sqrt(matrix.shape[1]) * terms
        assert (abs(found - matrix @ x.astype(matrix.dtype)) <= bound).all()


def test_interval_kernels_keep_nan_on_its_runs(rng):
    import cupy

    S, twin = interval_factor(4096, 300, 1024, "float32", rng)
    for product, matrix in ((S.matmat, twin), (S.rmatmat, twin.T)):
        x = np.ones((matrix.shape[1], 2), np.float32)
        x[7, 1] = np.nan
        found = product(cupy.asarray(x)).get()
        reached = (matrix.tocsc()[:, [7]] != 0).toarray()[:, 0]
        assert np.isfinite(found[:, 0]).all()
        np.testing.assert_array_equal(np.isnan(found[:, 1]), reached)
