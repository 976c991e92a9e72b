"""Factorizations by blocks that share nothing, by factors of products, and by Kronecker factors."""

import pickle

import numpy as np
import pytest

import structmat
from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    LowRank,
    Monarch,
    Permutation,
    SolveError,
    factorize,
    solve,
)
from structmat.matrices import Kronecker, Product, Sum
from structmat.solvers.direct.components import _linked, components_of


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def blocks(count, size, cols=None, dtype=np.float64):
    at = np.arange(count)
    cols = at if cols is None else cols
    n = count * size
    contents = draw(count, size, size)
    if dtype is complex:
        contents = contents + 1j * draw(count, size, size, seed=1)
    return BlockSparse(contents.astype(dtype), at, cols, shape=(n, n))


def agree(A, shift, method):
    n = A.shape[0]
    S = A.to_dense() + shift * np.eye(n)
    F = factorize(A, shift=shift)
    assert F.method == method
    b = draw(n, 2, seed=5) + 1j * draw(n, 2, seed=6)
    np.testing.assert_allclose(F.matrix.to_dense(), S, atol=1e-12)
    for turned, dense in ((F, S), (F.H, S.conj().T)):
        np.testing.assert_allclose(turned @ b, np.linalg.solve(dense, b), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(F.logdet()[:2], np.linalg.slogdet(S), rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(F)) @ b, F @ b)
    return F


@pytest.mark.parametrize("kind", ["block_sparse", "block_low_rank", "gblr"])
@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("shift", [0.0, 0.5 - 1j])
def test_block_diagonal(kind, size, shift):
    agree(blocks(4, size).to_kind(kind), shift, "block diagonal")


@pytest.mark.parametrize("kind", ["block_sparse", "block_low_rank", "gblr"])
def test_block_permutations(kind):
    agree(blocks(4, 3, cols=[2, 0, 3, 1]).to_kind(kind), 0.0, "block diagonal")


def test_blocks_with_a_shift_join_what_it_links():
    F = agree(blocks(4, 3, cols=[1, 0, 2, 3]), 0.5, "block diagonal")
    assert [part.solver.shape for part in F.parts] == [(2, 3, 3), (1, 6, 6)]


def test_blocks_in_orders():
    A = blocks(4, 3, cols=[2, 0, 3, 1], dtype=complex)
    P, Q = (Permutation(np.random.default_rng(s).permutation(12)) for s in (3, 4))
    agree(P @ A @ Q, 0.0, "block diagonal")
    agree(P @ blocks(4, 3) @ P.H, 0.5, "block diagonal")


def test_runs_that_wrap_around_are_one_block():
    """Blocks of rows 5, 6, 0, of rows 2, 3, and of rows 1 and 4, at columns in another order."""
    rows, cols = [(5, 3), (2, 2), (1, 1), (4, 1)], [(1, 3), (4, 2), (6, 1), (0, 1)]
    runs = [(*row, *col) for row, col in zip(rows, cols, strict=True) for _ in range(row[1])]
    row_start, row_width, col_start, col_width = np.array(runs).T
    u, v = draw(row_width.sum()), draw(col_width.sum(), seed=2)
    A = GBLR(row_start, row_width, u, col_start, col_width, v, shape=(7, 7))
    F = agree(A, 0.0, "block diagonal")
    assert [part.solver.shape for part in F.parts] == [(2, 1, 1), (1, 2, 2), (1, 3, 3)]


def test_grids_of_matrices_keep_the_structure_of_large_blocks():
    U = draw(600, 2)
    A = structmat.block_diag(LowRank(U, U), blocks(2, 3), Dense(draw(5, 5)))
    F = agree(A, 0.25, "block diagonal")
    assert F.parts[-1].solver.method == "woodbury"


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (
            BlockSparse(draw(3, 2, 2), [0, 0, 1], [0, 1, 2], shape=(6, 6)),
            "row 4 of .* zero",
        ),
        (
            BlockSparse(draw(4, 2, 2), [0, 0, 1, 2], [0, 1, 2, 2], shape=(6, 6)),
            "2 rows and 4 columns of",
        ),
        (BlockSparse(draw(1, 2, 2), [1], [1], shape=(4, 4)), "row 0 of the matrix is zero"),
        (blocks(3, 2) @ Diagonal([1.0, 1, 1, 1, 0, 1]), "block of rows 4 to 5"),
        (BlockSparse(np.ones((2, 2, 2)), [0, 1], [0, 1], shape=(4, 4)), "block of rows 0 to 1"),
        (Product(Dense(draw(4, 2)), Dense(draw(2, 4))), "a factor of 2 columns"),
        (Kronecker(Dense(draw(2, 3)), Dense(draw(3, 2))), r"shapes \[\(2, 3\), \(3, 2\)\]"),
    ],
)
def test_singular_structure_raises(A, message):
    with pytest.raises(SolveError, match=message):
        factorize(A)


def test_blocks_of_very_different_sizes_are_judged_one_by_one():
    A = blocks(4, 3)
    A = BlockSparse(A.blocks * np.logspace(0, -60, 4)[:, None, None], A.rows, A.cols, shape=A.shape)
    x = np.arange(12.0) + 1
    np.testing.assert_allclose(solve(A, A @ x), x, rtol=1e-10)


def test_badly_conditioned_small_blocks_take_factors():
    hilbert = 1 / (np.arange(8)[:, None] + np.arange(8) + 1)
    A = BlockSparse(np.stack([hilbert, np.eye(8)]), [0, 1], [0, 1], shape=(16, 16))
    F = factorize(A)
    assert F.solution(np.ones(16)).backward_error < 1e-15
    assert F.parts[0].solver.inverse is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32, complex])
@pytest.mark.parametrize("sizes", [(4, 3, 6, 2), (5, 5, 5, 5), (1, 6, 2, 3), (6, 1, 1, 6)])
def test_monarch_by_its_factors(sizes, dtype):
    l, s, k, p = sizes
    A = Monarch(draw(l, s, s).astype(dtype), draw(k, p, p, seed=1).astype(dtype))
    n = l * s
    F = factorize(A)
    assert F.method == "product"
    S = A.to_dense()
    np.testing.assert_allclose(S @ F.solve(np.eye(n, 2, dtype=dtype)), np.eye(n, 2), atol=1e-4)
    np.testing.assert_allclose(F.logdet()[:2], np.linalg.slogdet(S), rtol=1e-4)


def test_other_monarch_matrices_are_formed():
    agree(Monarch(draw(5, 5, 5), draw(5, 5, 5), shape=(24, 24)), 0.0, "dense")
    agree(Monarch(draw(5, 5, 5), draw(5, 5, 5)), 0.5, "dense")


def test_products_by_their_factors():
    P, D = Permutation([2, 0, 3, 1]), Dense(draw(4, 4))
    agree(Product(D, Diagonal(np.arange(4) + 1j), D), 0.0, "product")
    agree(Product(P, D), 0.0, "dense")
    agree(Product(P, D, P.H), 0.5, "dense")
    assert len(factorize(Product(P, D, P.H), shift=0.5).factors) == 3
    agree(Product(P, D, P), 0.5, "dense")
    agree(Product(Dense(draw(4, 6)), Dense(draw(6, 4))), 0.0, "dense")


def test_kronecker_products():
    A, B = Dense(draw(4, 4)), Dense(draw(3, 3) + 1j)
    agree(Kronecker(A, B), 0.0, "kronecker")
    agree(Kronecker(Kronecker(A, B), Permutation([1, 0])), 0.0, "kronecker")
    agree(Kronecker(A, B), 0.5, "dense")


@pytest.mark.parametrize("shift", [0.5, 0.5j])
def test_kronecker_products_of_hermitian_factors_with_a_shift(shift):
    A = Diagonal(draw(4))
    B = Sum(Dense(draw(3, 3)), Dense(draw(3, 3).T))
    agree(Kronecker(A, B), shift, "kronecker eigenvectors")
    with pytest.raises(SolveError, match="eigenvalues go from"):
        factorize(Kronecker(A, Diagonal(np.ones(2))), shift=-A.d[1])


def test_components_are_found_without_entries():
    n = 10**6
    at = np.arange(n)
    A = BlockSparse(np.ones((n, 1, 1)), at, at, shape=(n, n))
    assert len(components_of(A, shifted=True).sizes) == n
    B = BlockLowRank({(0, 0): (np.ones((n, 1)), np.ones((n, 1)))}, row_sizes=[n], col_sizes=[n])
    assert components_of(B, shifted=False).sizes.tolist() == [n]


def test_rounding_errors_of_single_precision_hide_no_singular_matrix():
    u, v = draw(6).astype("f"), draw(6, seed=1).astype("f")
    at, width = [0, 0, 0], [3, 3, 0]
    A = GBLR(at, width, u, at, width, v, shape=(3, 3))
    with pytest.raises(SolveError, match="singular"):
        factorize(A)
    with pytest.raises(SolveError, match="singular"):
        factorize(structmat.block_diag(A, Dense(np.ones((1, 1), "f"))).to_kind("gblr"))


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_runs_link_neighbours_on_the_circle(n):
    generator = np.random.default_rng(n)
    for count in (0, 1, 2, 3):
        for _ in range(20):
            start, width = generator.integers(0, n, count), generator.integers(1, n + 1, count)
            expected = np.zeros(n, bool)
            for first, size in zip(start, width, strict=True):
                expected[(first + np.arange(size - 1)) % n] = True
            np.testing.assert_array_equal(_linked(start, width, n), expected)
