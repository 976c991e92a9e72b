"""Batches on a library that behaves as CuPy does: numbers, and launches for any size."""

import numpy as np
import pytest
from cases import block_low_rank, block_sparse, contents, gblr, random_gblr
from fake_cupy_library import FakeLibrary

from structmat import GBLR, BlockSparse
from structmat.kernels import using
from structmat.kernels.choice.calibrate import gblr_widths
from structmat.kernels.layouts import batched, batches

#: Functions that start work on a device; the others make views, or copy what is not in order.
LAUNCHES = ("take", "__matmul__", "concat", "__add__", "__mul__", "conjugate", "zeros")
CASES = {
    "runs": random_gblr(48, 40, 140, 3),
    "windows": gblr(64, 80, range(64), [1] * 64, [i // 8 * 8 for i in range(64)], [16] * 64),
    "strips": gblr(40, 70, range(40), [1] * 40, [3 * i % 70 for i in range(40)], [9] * 40),
    "blocks": block_sparse(96, 140, 16, 20, [0, 0, 1, 2, 3, 5], [3, 5, 0, 4, 6, 6]),
    "tiles": block_low_rank([7, 4, 0], [5, 6], {(0, 0): 2, (0, 1): 3, (1, 0): None}),
    "nothing": block_sparse(8, 6, 2, 3, [], []),
}


@pytest.mark.parametrize("columns", [0, 1, 17])
@pytest.mark.parametrize(
    ("library", "dtype"), [("cupy", "float32"), ("cupy", "complex64"), ("numpy", "float64")]
)
@pytest.mark.parametrize("case", CASES)
def test_products_are_those_of_the_dense_matrix(library, case, dtype, columns, rng, monkeypatch):
    # Several groups, and two batches.
    for module, name, value in ((batches, "LANES", 8), (batched, "GATHERED_EXACTLY", 1)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(batches, "_LEAST_SIDES", (1, 1))
    matrix, twin = CASES[case](contents(dtype))
    cupy = FakeLibrary()
    x, y = (rng.standard_normal((size, columns)) for size in twin.shape[::-1])
    if dtype == "complex64":
        x, y = x * (1 + 2j), y * (1 - 2j)
    A = matrix.to(cupy) if library == "cupy" else matrix
    to, back = (cupy.asarray, lambda a: a.get()) if library == "cupy" else (np.array, np.array)
    with using("batches"):
        for given in (x, np.asfortranarray(x)):
            found = back(A @ to(given.astype(dtype)))
            np.testing.assert_allclose(found, twin @ x, rtol=1e-4, atol=1e-4)
        for _ in range(2):
            found = back(A.rmatmat(to(y.astype(dtype))))
            np.testing.assert_allclose(found, twin.conj().T @ y, rtol=1e-4, atol=1e-4)


def runs(n):
    rng = np.random.default_rng(0)
    width = gblr_widths(n, 0.25, rng)
    start = rng.integers(0, n, width.shape)
    u, v = (np.ones(w.sum()) for w in width)
    return GBLR(start[0], width[0], u, start[1], width[1], v, shape=(n, n))


def blocks(n, side=16):
    at = np.arange(n // side)
    rows, cols = np.repeat(at, 2), np.sort(np.stack([at, (at + 3) % at.size], 1)).ravel()
    return BlockSparse(np.ones((rows.size, side, side)), rows, cols, shape=(n, n))


@pytest.mark.parametrize("make", [runs, blocks])
def test_launches_are_few_and_as_many_for_any_size(make):
    counts = []
    for n in (256, 512):
        cupy = FakeLibrary()
        A = make(n).to(cupy)
        x = cupy.asarray(np.ones((n, 3)))
        with using("batches"):
            for product in (A.__matmul__, A.rmatmat):
                product(x)  # fills the batches
                cupy.called.clear()
                product(x)
                counts.append(sum(name in LAUNCHES for name in cupy.called))
            expected = A._factored.device_work.batches().starts
            assert counts[-2] == expected
    # Random runs take one batch at one size and two at another.
    assert counts[:2] == counts[2:] or make is runs
    assert max(counts) <= 12
