"""Banded and sparse eliminations against dense ones: values, choice, orders, refusals."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from cases import CASES, build

from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Diagonal,
    Identity,
    LowRank,
    Permutation,
    SolveError,
    block,
    factorize,
    kron,
    logdet,
    solve,
)
from structmat.matrices import Mirrored, from_sparse
from structmat.solvers.direct import banded
from structmat.solvers.elimination.sparse_form import bandwidths, sparse_form

DTYPES = ("float32", "float64", "complex64", "complex128")
N = 400


def runs(dtype="float64", *, n=N, reach=4, seed=0, wrap=False):
    """GBLR matrix with a block of a few rows and columns near each diagonal entry."""
    rng = np.random.default_rng(seed)
    start = np.arange(n) if wrap else np.arange(n - reach)
    width = rng.integers(2, reach + 1, (2, len(start)))

    def c(size):
        x = rng.standard_normal(size)
        return (x + 1j * rng.standard_normal(size) if np.dtype(dtype).kind == "c" else x).astype(
            dtype
        )

    later = (start + rng.integers(0, 2, len(start))) % n
    parts = start, width[0], c(width[0].sum()), later, width[1], c(width[1].sum())
    return GBLR(*parts, shape=(n, n))


def grid(m, dtype):
    """Laplacian of an m x m grid, and a node beside many others: no order makes its band narrow."""
    line = scipy.sparse.diags_array([2.0, -1.0, -1.0], offsets=[0, 1, -1], shape=(m, m))
    one, rng = scipy.sparse.eye_array(m), np.random.default_rng(0)
    entries = (scipy.sparse.kron(line, one) + scipy.sparse.kron(one, line)).tolil()
    entries[0, rng.permutation(m * m)[: m * m // 4]] = 1.0
    entries[rng.permutation(m * m)[: m * m // 4], 0] = 1.0
    order = rng.permutation(m * m)
    return from_sparse(entries.tocsr()[order][:, order].astype(dtype))


def check(A, shift, method, dtype="float64"):
    """Solves, adjoint solves and the determinant against dense ones."""
    single, n = np.finfo(dtype).bits == 32, A.shape[0]
    wide = A.astype(np.result_type(A.dtype, np.float64))
    S, far = wide.to_dense() + shift * np.eye(n), 2e-3 if single else 1e-8
    F = factorize(A, shift=shift)
    assert F.method == method
    b = np.random.default_rng(1).standard_normal((n, 2)).astype(dtype)
    x = np.linalg.solve(S, b)
    np.testing.assert_allclose(F.solve(b), x, atol=far * np.abs(x).max())
    x = np.linalg.solve(S.conj().T, b)
    np.testing.assert_allclose(F.solve_adjoint(b), x, atol=far * np.abs(x).max())
    assert F.solution(b).backward_error <= F.tol
    expected, found = np.linalg.slogdet(S), F.logdet()
    np.testing.assert_allclose(found.sign, expected.sign, atol=2e-2 if single else 1e-8)
    np.testing.assert_allclose(found.logabsdet, expected.logabsdet, rtol=1e-4 if single else 1e-10)
    assert found.error == 0
    return F


@pytest.mark.parametrize("dtype", DTYPES)
def test_runs_near_the_diagonal_are_a_band(dtype):
    F = check(runs(dtype), 9.0, "banded LU", dtype)
    assert F.cost <= 13 * N
    for shift in (0.7, 0.3, -0.4):  # with rows that change places
        check(runs(dtype), shift, "banded LU", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_runs_that_wrap_around_fold_into_a_band(dtype):
    A = runs(dtype, wrap=True)
    assert bandwidths(sparse_form(A))[0] == N - 1
    F = check(A, 9.0, "banded LU", dtype)
    assert F.cost <= 26 * N


@pytest.mark.parametrize("dtype", DTYPES)
def test_hermitian_bands_are_definite_or_not(dtype):
    A = runs(dtype)
    # Twice the same sums, so that rounding keeps the symmetry.
    H = from_sparse(sparse_form(A) + sparse_form(A).conj().T)
    check(H, 40.0, "banded Cholesky", dtype)
    check(H, 0.5, "banded LU", dtype)
    positive = 0.1 - float(H.diagonal().real.min())
    assert np.linalg.eigvalsh(H.to_dense()).min() + positive < 0
    check(H, positive, "banded LU", dtype)
    check(-1.0 * H, -40.0, "banded LU", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_of_a_hermitian_band_is_enough(dtype):
    A = Mirrored(runs(dtype))
    check(A, 40.0, "banded Cholesky", dtype)
    check(A, 0.5, "banded LU", dtype)


def test_sums_and_permutations_are_found():
    order = Permutation(np.random.default_rng(0).permutation(N))
    rows = np.arange(N // 4)
    blocks = np.random.default_rng(1).standard_normal((N // 4, 4, 4))
    A = Diagonal(np.full(N, 5.0)) + BlockSparse(blocks, rows, rows, shape=(N, N)) + runs()
    check(A, 1.0, "banded LU")
    check(order @ A @ order.H, 1.0, "banded LU")
    check(2.0 * (A.H + Identity(N)), -1.0, "banded LU")
    tiles = {(i, j): np.eye(4) * 0.1 for i in rows for j in (i - 1, i) if j >= 0}
    check(BlockLowRank(tiles, row_sizes=4 * np.ones(100, int), col_sizes=4 * np.ones(100, int)),
          1.0, "banded LU")  # fmt: skip


def test_a_row_apart_leaves_the_band_a_band():
    A = runs()
    inner = A._submatrix(np.arange(N - 1), np.arange(N - 1))
    lonely = from_sparse(scipy.sparse.block_diag([sparse_form(inner), np.ones((1, 1))]))
    check(lonely, 9.0, "banded LU")
    # Small parts that are full are left to a solve of all at once.
    blocks = np.random.default_rng(0).standard_normal((100, 3, 3))
    apart = BlockSparse(blocks, range(100), range(100), shape=(300, 300))
    assert banded.factorize(apart, 0.0, 1e-8) is NotImplemented


def test_low_rank_beside_a_band_goes_by_woodbury():
    U = np.random.default_rng(0).standard_normal((N, 3))
    A = runs() + LowRank(U, U)
    S, b = A.to_dense() + 9.0 * np.eye(N), np.ones(N)
    F = factorize(A, shift=9.0)
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(S, b), rtol=1e-8)
    assert F.method == "woodbury"


@pytest.mark.parametrize("dtype", DTYPES)
def test_grids_stay_sparse(dtype):
    m = 24
    A, shift = grid(m, dtype), -2.55 if np.dtype(dtype).kind == "f" else -2.55 + 0.1j
    F = check(A, shift, "sparse LU", dtype)
    revived = pickle.loads(pickle.dumps(F))
    b = np.ones(m * m)
    assert np.array_equal(revived.solve(b), F.solve(b))
    assert np.array_equal(factorize(A, shift=shift).solve(b), F.solve(b))


def test_entries_that_fill_the_matrix_are_left_to_dense_factors():
    S = scipy.sparse.random_array((N, N), density=0.02, rng=0) + scipy.sparse.eye_array(N)
    A = from_sparse(S)
    assert banded.factorize(A, 3.0, 1e-8) is NotImplemented
    assert factorize(A, shift=3.0).method == "dense"
    assert banded.factorize(LowRank(np.ones((5, 1)), np.ones((5, 1))), 1.0, 1e-8) is NotImplemented


def test_rows_of_uneven_size_are_scaled():
    scale = 10.0 ** np.random.default_rng(0).uniform(-150, 150, N)
    inner, b = runs() + Diagonal(np.full(N, 9.0)), np.ones(N)
    S = inner.to_dense()
    F = banded.factorize(Diagonal(scale) @ inner, 0.0, 1e-8)
    assert F.method == "banded LU"
    np.testing.assert_allclose(F.solve(scale * b), np.linalg.solve(S, b), rtol=1e-9)
    expected = np.linalg.slogdet(S).logabsdet + np.log(scale).sum()
    np.testing.assert_allclose(F.logdet().logabsdet, expected, rtol=1e-9)


def test_a_definite_band_of_uneven_rows_stays_definite():
    H = sparse_form(runs())
    H = H + H.T + 40.0 * scipy.sparse.eye_array(N)
    D = scipy.sparse.diags_array(2.0 ** np.random.default_rng(0).integers(-60, 60, N))
    F = factorize(from_sparse(D @ H @ D))
    assert F.method == "banded Cholesky"
    expected = np.linalg.slogdet(H.toarray()).logabsdet + 2 * np.log(D.diagonal()).sum()
    np.testing.assert_allclose(F.logdet().logabsdet, expected, rtol=1e-10)


def test_single_precision_gives_way_where_it_is_not_enough():
    second = scipy.sparse.diags_array([2.0, -1, -1], offsets=[0, 1, -1], shape=(N, N))
    for entries, dtype in ((second @ second, np.float64), (second, np.float32)):
        F = factorize(from_sparse(entries.astype("float32")))
        assert F.factors.dtype == dtype
        x = np.linalg.solve(entries.toarray(), np.ones(N))
        np.testing.assert_allclose(F.solve(np.ones(N, "float32")), x, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_bands_raise(dtype):
    line = sparse_form(runs(dtype)).tolil()
    none = line.copy()
    none[7] = 0
    with pytest.raises(SolveError, match="singular"):
        factorize(from_sparse(none.tocsr()))
    twice = line.copy()
    twice[7] = twice[8]
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        logdet(from_sparse(twice.tocsr()))
    chain = scipy.sparse.diags_array([2.0, -1, -1], offsets=[0, 1, -1], shape=(N, N)).tolil()
    chain[0, 0] = chain[-1, -1] = 1  # constants have the eigenvalue zero
    with pytest.raises(SolveError, match="condition number"):
        solve(from_sparse(chain.tocsr().astype(dtype)), np.ones(N, dtype))


SPARSE = ("gblr", "block_sparse", "block_low_rank", "diagonal", "identity", "permutation")
LAZY = ("scaled", "adjoint", "kronecker", "grid", "sum", "mirrored")


def kinds(A):
    """Kinds of a matrix and of all of its parts."""
    return [A.kind, *(kind for child in A.children for kind in kinds(child))]


@pytest.mark.parametrize("name", CASES)
def test_the_sparse_form_has_all_entries(name):
    for dtype in ("float32", "complex128"):
        A, dense = build(name, dtype)
        form = sparse_form(A)
        if form is None:
            assert not set(kinds(A)) <= {*SPARSE, *LAZY}
            continue
        assert form.dtype == A.dtype
        np.testing.assert_allclose(form.toarray(), dense, atol=1e-5)


def test_grids_and_kronecker_products_are_put_down():
    rng = np.random.default_rng(0)
    A, B, C = (
        from_sparse(scipy.sparse.random_array(shape, density=0.5, rng=rng))
        for shape in ((3, 4), (3, 6), (6, 4))
    )
    grid_of_both = block([[B, A], [runs(n=6, reach=2), C]])
    assert grid_of_both.kind == "grid"
    for M in (kron(A, C), grid_of_both, 2.0 * kron(B.H, C)):
        np.testing.assert_allclose(sparse_form(M).toarray(), M.to_dense(), rtol=1e-14)
    assert sparse_form(kron(LowRank(np.ones((2, 1)), np.ones((2, 1))), A)) is None


def test_many_entries_are_not_put_down():
    assert sparse_form(runs(), 100) is None
    assert sparse_form(runs() + runs(), 2000) is None
