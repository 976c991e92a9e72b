"""Woodbury where it is hard: small shifts, thin factors that cancel, bases with small entries."""

import numpy as np
import pytest

from structmat import (
    GBLR,
    BlockSparse,
    Dense,
    Diagonal,
    Identity,
    LowRank,
    Permutation,
    SolveError,
    _array,
    factorize,
    logdet,
)
from structmat.matrices import HermitianLowRank, Mirrored
from structmat.solvers import choice
from structmat.solvers.condition import Probe
from structmat.solvers.direct import woodbury
from structmat.solvers.direct.simple import DiagonalFactorization

N, R = 80, 6


@pytest.fixture(scope="module")
def factors():
    return np.random.default_rng(3).standard_normal((2, N, R))


def check(A, shift, *, rank=None, error=1e-13):
    F = factorize(A, shift=shift)
    S = A.to_dense() + shift * np.eye(N)
    b = np.random.default_rng(4).standard_normal((N, 2))
    found = F.solution(b)
    measured = np.linalg.norm(b - S @ found.x, axis=0) / (
        np.linalg.norm(S, 2) * np.linalg.norm(found.x, axis=0) + np.linalg.norm(b, axis=0)
    )
    assert measured.max() < error
    assert measured.max() < 1.1 * found.backward_error + 1e-15
    expected = np.linalg.slogdet(S)
    np.testing.assert_allclose(F.logdet()[:2], expected, rtol=1e-6)
    assert F.method == "woodbury"
    assert rank is None or F.rank == rank
    return F


@pytest.mark.parametrize("shift", [1e-2, 1e-6, 1e-10])
@pytest.mark.parametrize("symmetric", [False, True])
def test_small_shifts(factors, shift, symmetric):
    U, V = factors
    check(LowRank(U, U if symmetric else V), shift, rank=R)


def test_factors_that_cancel(factors):
    U, V = factors
    check(LowRank(np.c_[U, U], np.c_[V, 1e-3 * V - V]), 1e-6, error=1e-10)
    check(LowRank(np.c_[U, U[:, :2]], np.c_[V, -V[:, :2]]), 1e-9, rank=R - 2)


def test_products_through_a_short_side_are_thin(factors):
    U, V = factors
    check(Dense(U) @ Dense(V.T), 0.5, rank=R)
    sparse = BlockSparse(np.ones((1, R, R)), [0], [4], shape=(R, N))
    assert (Dense(U) @ sparse).kind == "product"
    check(Dense(U) @ sparse, 0.5, rank=R)
    check(sparse.H @ Dense(V.T) + Diagonal(np.linspace(1, 2, N)), 0.0, rank=R)


def test_factors_of_other_sizes(factors):
    U, V = factors
    check(LowRank(U * np.logspace(5, -5, R), V * np.logspace(-4, 3, R)), 1e-3)


@pytest.mark.parametrize("small", [0.0, 1e-9])
def test_small_entries_of_a_diagonal(factors, small):
    d = np.linspace(1, 2, N)
    d[[3, 40]] = small
    check(LowRank(*factors) + Diagonal(d), 0.0, rank=R + 2)


@pytest.mark.parametrize(
    "base",
    [
        Permutation(np.random.default_rng(0).permutation(N)),
        Identity(N) * 3 + Permutation(np.roll(np.arange(N), 1)),
        BlockSparse(np.ones((N, 1, 1)), np.arange(N), np.arange(N)[::-1], shape=(N, N)),
    ],
    ids=lambda base: base.kind,
)
def test_bases(factors, base):
    check(LowRank(*factors) + base, 0.0)


def test_a_complex_shift_and_base(factors):
    U, V = factors
    check(LowRank(U + 1j * V, V) + Diagonal(np.linspace(1, 2, N) * 1j), 0.5)


def test_a_symmetric_product_needs_a_symmetric_base(factors):
    U = 0.1 * factors[0]
    check(LowRank(U, U) + Permutation(np.roll(np.arange(N), 1)), 0.0)


def test_blocks_of_full_height_are_thin():
    width = np.full(3, N)
    u, v = np.random.default_rng(1).standard_normal((2, 3 * N))
    check(GBLR([0, 5, 9], width, u, [0, 0, 7], width, v, shape=(N, N)), 0.5, rank=3)


@pytest.mark.parametrize("base", [0.0, Diagonal(np.linspace(1, 2, N))], ids=["shift", "diagonal"])
def test_hermitian_matrices_of_half_the_storage_are_thin(factors, base):
    U, V = factors
    for A, rank in (
        (HermitianLowRank(U, np.linspace(-2, 3, R)), R),
        (HermitianLowRank(U + 1j * V, np.linspace(-2, 3, R)), R),
        (Mirrored(LowRank(U + 1j * V, V)), 2 * R),
    ):
        S = A if isinstance(base, float) else A + base
        check(S, 0.25, rank=rank)
        assert S.hermitian


PRODUCTS = {
    "diagonals": lambda L, M, D, P: ((L + Identity(N)) @ (M + D), 2 * R),
    "three": lambda L, M, D, P: ((L + D) @ (M + 2.0 * Identity(N)) @ (L + D), 3 * R),
    "an order": lambda L, M, D, P: ((L + P) @ (M + P.H), 2 * R),
    "two orders": lambda L, M, D, P: ((L + P) @ (M + P), 2 * R),
    "an order and a diagonal": lambda L, M, D, P: ((L + P) @ (M + D), 2 * R),
    "bare": lambda L, M, D, P: (D @ (M + P), R),
    "a sum": lambda L, M, D, P: ((L + D) @ (M + D) - 3.0 * D + M, 3 * R),
    "a product inside": lambda L, M, D, P: ((L + (M + D) @ D) @ (M + D), 3 * R),
    "hermitian": lambda L, M, D, P: ((L + D) @ (L + D).H, 2 * R),
    "a multiple": lambda L, M, D, P: (-2.0 * ((L + D) @ (M + P)), 2 * R),
    "numbers": lambda L, M, D, P: ((L + 2j * Identity(N)) @ (M + D), 2 * R),
    "complex": lambda L, M, D, P: ((L + 1j * D) @ (M + D), 2 * R),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_sums_are_taken_apart(factors, monkeypatch, name):
    monkeypatch.setattr(choice, "DENSE_ROWS", N - 1)
    rng = np.random.default_rng(5)
    (U, V), d = factors, rng.uniform(1, 2, N)
    A, rank = PRODUCTS[name](
        LowRank(U, V), LowRank(V, U), Diagonal(d), Permutation(rng.permutation(N))
    )
    check(A, 0.7, rank=rank, error=1e-12)


@pytest.mark.parametrize("name", ["diagonals", "an order", "two orders", "numbers"])
def test_products_of_sums_are_taken_apart_by_every_library(factors, backend, monkeypatch, name):
    monkeypatch.setattr(choice, "DENSE_ROWS", N - 1)
    U, V = factors
    parts = (
        LowRank(U, V),
        LowRank(V, U),
        Diagonal(np.arange(1.0, N + 1)),
        Permutation(np.roll(np.arange(N), 3)),
    )
    A = PRODUCTS[name](*parts)[0]
    F = factorize(A.to(backend), shift=0.7)
    assert (F.method, F.rank) == ("woodbury", 2 * R)
    x = _array.to_numpy(F.solve(_array.from_numpy(np.ones(N), F.xp)))
    np.testing.assert_allclose(x, np.linalg.solve(A.to_dense() + 0.7 * np.eye(N), np.ones(N)))


def test_wide_factors_are_formed():
    U, V = np.random.default_rng(3).standard_normal((2, N, N // 2))
    assert factorize(LowRank(U, V), shift=1.0).method == "dense"


def test_single_precision_takes_double_factors_where_it_must(factors):
    U = factors[0].astype(np.float32)
    b = np.ones(N, np.float32)
    for shift, dtype in ((1.0, np.float32), (1e-4, np.float64)):
        F = factorize(LowRank(U, U), shift=shift)
        assert F.U.dtype == dtype
        assert F.solution(b).backward_error < 1e-6
        S = U.astype(float) @ U.T.astype(float) + shift * np.eye(N)
        np.testing.assert_allclose(F.logdet().logabsdet, np.linalg.slogdet(S)[1], rtol=1e-5)


@pytest.mark.parametrize("shift", [-1.0, -1 + 1e-16])
def test_singular_sums_raise(shift):
    u = np.ones((N, 1)) / np.sqrt(N)
    with pytest.raises(SolveError, match="singular"):
        logdet(LowRank(u, u), shift=shift)


def test_a_matrix_that_is_singular_but_for_rounding_raises(factors):
    U = factors[0]
    with pytest.raises(SolveError, match="numerically singular, its condition number is about"):
        factorize(LowRank(U, U), shift=1e-15)


def test_a_shift_that_cancels_terms():
    A = LowRank(np.ones((N, 1)), np.ones((N, 1))) + 2.0 * Identity(N)
    check(A, -1.0, rank=1)
    with pytest.raises(SolveError, match="rank of 1 at most"):
        factorize(A, shift=-2.0)


def test_results_are_the_same_each_time(factors):
    U, V = factors
    b = np.ones(N)
    one, other = (factorize(LowRank(U, V), shift=1e-3) for _ in range(2))
    np.testing.assert_array_equal(one @ b, other @ b)
    np.testing.assert_array_equal(one @ b, one @ b)


def test_a_singular_base_does_not_make_the_sum_singular():
    rows = np.arange(N)
    base = BlockSparse(np.ones((N - 1, 1, 1)), rows[:-1], rows[:-1], shape=(N, N))
    one = np.eye(N)[:, -1:]
    A = base + LowRank(one, one)
    np.testing.assert_allclose(factorize(A) @ np.ones(N), np.ones(N))


def test_a_base_of_small_error_is_refined(monkeypatch):
    """A hierarchical base leaves an error; no other way is better, so this one is taken."""
    solve = DiagonalFactorization._solve
    monkeypatch.setattr(DiagonalFactorization, "_solve", lambda F, b: solve(F, b) * (1 + 1e-6))
    U = np.random.default_rng(0).standard_normal((N, 2))
    F = factorize(LowRank(U, U) + Diagonal(np.linspace(1, 2, N)))
    found = F.solution(np.ones(N))
    assert F.method == "woodbury"
    assert found.iterations > 0
    assert found.backward_error < 1e-8


def test_a_base_is_factorized_once_for_each_shift(monkeypatch):
    made = []
    monkeypatch.setattr(woodbury, "probe", lambda F: made.append(F.base) or Probe(1.0, 1.0))
    U = np.random.default_rng(0).standard_normal((N, 2))
    base = Permutation(np.roll(np.arange(N), 1))
    F = factorize(LowRank(U, U) + base)
    assert F.method == "woodbury"
    assert len(made) == 2
    assert made[0] is made[1]


@pytest.mark.parametrize("shift", [1e-3, 1e-7, 1e-10, -1e-3, 1e-3j])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_condition_numbers_that_are_bounded_take_no_test(factors, shift, dtype, monkeypatch):
    U = (factors[0] + (1j * factors[1] if dtype == "complex128" else 0)).astype(dtype)
    A, tested = LowRank(U, U), []
    found = woodbury.probe
    monkeypatch.setattr(woodbury, "probe", lambda F: tested.append(F) or found(F))
    F = factorize(A, shift=shift)
    S = A.to_dense().astype(np.complex128) + shift * np.eye(N)
    if not tested:
        assert np.linalg.cond(S) <= F.bound * (1 + 1e-6) < 5e7
    assert bool(tested) == (isinstance(shift, complex) or not shift > 1e-6 or dtype == "float32")
    b = np.random.default_rng(5).standard_normal(N)
    assert F.solution(b).backward_error <= F.tol
