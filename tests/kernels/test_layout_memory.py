"""Memory that products of many runs keep, and take on their way; cuts without searches."""

import tracemalloc

import numpy as np
import pytest

import structmat
from structmat.kernels import using
from structmat.kernels.arrays.csr import RowsFactor
from structmat.kernels.layouts import panels

pytest.importorskip("numba")


def many_runs(n=20_000, count=12_000, width=40):
    rng = np.random.default_rng(0)
    sides = [(rng.integers(0, n, count), rng.integers(1, 2 * width, count)) for _ in range(2)]
    (rs, rw), (cs, cw) = sides
    u, v = rng.standard_normal(rw.sum()), rng.standard_normal(cw.sum())
    return structmat.GBLR(rs, rw, u, cs, cw, v, shape=(n, n))


@pytest.mark.parametrize(
    ("kernel", "columns", "kept", "peak"),
    [
        ("vectors", 1, 1.4, 2.2),
        ("tiles", 8, 1.4, 2.0),
        ("blocks", 8, 1.0, 1.6),
        ("rows", 1, 1.6, 2.5),
    ],
)
def test_products_keep_little_beside_the_contents(kernel, columns, kept, peak):
    A = many_runs()
    x = np.ones((A.shape[1], columns))
    with using(kernel):
        many_runs(n=50, count=300, width=3).matmat(np.ones((50, columns)))  # compiles
        tracemalloc.start()
        y = A.matmat(x)
        current, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    contents = A.u.nbytes + A.v.nbytes
    assert current - y.nbytes <= kept * contents
    assert most - y.nbytes <= peak * contents


@pytest.mark.parametrize("rows", panels.PANEL_ROWS[:4])
def test_even_parts_are_those_that_searches_find(rows):
    rng = np.random.default_rng(rows)
    n = 403
    start, width = rng.integers(0, n, 300), rng.integers(1, n + 1, 300)
    bounds = np.append(np.arange(0, n, rows), n)
    found = panels._even_parts(start, width, n, rows)
    for one, other in zip(found, panels._parts(start, width, n, bounds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_indices_take_32_bits_where_these_suffice():
    A = many_runs(n=100, count=200, width=5)
    pattern = A._factored.structure.patterns[0]
    assert {entries.dtype for entries in pattern.layout().entries} == {np.dtype(np.int32)}
    assert RowsFactor.of(pattern, A.u)._rows.indices.dtype == np.int32
    assert panels.index_dtype(2**31) is np.int64
