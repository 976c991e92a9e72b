"""Products of rectangles: the compiled loops and the batches of NumPy agree with dense matrices."""

import numpy as np
import pytest
from cases import DTYPES, build, contents

from structmat.kernels.arrays.rectangles import RectangleBatches

NAMES = [
    "hierarchical", "hierarchical-symmetric", "hierarchical-upper", "hierarchical-overlap",
    "hierarchical-rank-zero", "hierarchical-no-blocks", "hierarchical-nothing",
]  # fmt: skip


def compiled(*parts):
    pytest.importorskip("numba")
    from structmat.kernels.cpu.rectangles import RectangleProduct

    return RectangleProduct(*parts)


# Loops are compiled for each dtype: one real and one complex are enough for every run.
KERNELS = [
    pytest.param(kernel, dtype, marks=pytest.mark.slow)
    if kernel is compiled and dtype in ("float32", "complex128")
    else (kernel, dtype)
    for kernel in (compiled, RectangleBatches)
    for dtype in DTYPES
]


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_the_dense_matrix(name, kernel, dtype):
    A, D = build(name, dtype)
    D = D[np.ix_(A.row_order, A.col_order)]
    product = kernel(A.rectangles, A.u, A.v, A.dense)
    close = {"rtol": 0, "atol": 1e3 * np.finfo(dtype).eps}
    for columns in (0, 1, 3, 40):
        x, y = (contents(dtype, columns)(n, columns) for n in A.shape[::-1])
        np.testing.assert_allclose(product.multiply(x), D @ x, **close)
        np.testing.assert_allclose(product.multiply_adjoint(y), D.conj().T @ y, **close)


@pytest.mark.parametrize("columns", [1, 5])
def test_results_do_not_depend_on_the_number_of_threads(columns, monkeypatch):
    from structmat.kernels.cpu import rectangles

    monkeypatch.setattr(rectangles, "_PART_WORK", 8)
    A, _ = build("hierarchical-symmetric")
    x = contents("float64")(7, columns)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("STRUCTMAT_NUM_THREADS", threads)
        product = compiled(A.rectangles, A.u, A.v, A.dense)
        found.append(product.multiply(x))
    assert len(product._parts[False]) > 2
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("columns", [1, 5])
def test_infinity_and_nan_stay_what_they_are(columns):
    A, _ = build("hierarchical-symmetric")
    dense = np.array(A.dense)
    dense[0] = np.inf
    product = compiled(A.rectangles, A.u, A.v, dense)
    y = product.multiply(np.ones((7, columns)))
    assert np.isinf(y[0]).all()
    assert np.isfinite(y[1:]).all()
    x = np.ones((7, columns))
    x[3] = np.nan
    assert np.isnan(compiled(A.rectangles, A.u, A.v, A.dense).multiply(x)).any()
