"""Preconditioners: neighbours, sparse inverses and tiles against dense inverses, and the choice."""

import math

import numpy as np
import pytest

import structmat
from structmat import Dense, Entries, KernelMatrix
from structmat._progress import no_progress
from structmat.compress.goal import Goal
from structmat.compress.hierarchical.fit import fit_entries
from structmat.demo import _hypocentres
from structmat.solvers.iterative import solver as iterative
from structmat.solvers.iterative.known import Known, known_of
from structmat.solvers.iterative.krylov.conjugate_gradients import conjugate_gradients
from structmat.solvers.iterative.preconditioners import block_jacobi as jacobi
from structmat.solvers.iterative.preconditioners import blocks, choice, sparse_inverse
from structmat.solvers.iterative.preconditioners.blocks import blocks_of, has_cheap_entries
from structmat.solvers.iterative.preconditioners.hierarchical import loose_factors
from structmat.solvers.iterative.preconditioners.neighbours import (
    coarse_to_fine,
    earlier_neighbours,
    order_of_elimination,
)
from structmat.solvers.iterative.preconditioners.patterns import neighbours_by_entries
from structmat.solvers.iterative.preconditioners.preconditioner import Unpreconditioned
from structmat.solvers.iterative.preconditioners.sparse_inverse import Indefinite
from structmat.solvers.verify import norm_bound

SHIFT = 0.1


def points(n, d=2, seed=0):
    return np.random.default_rng(seed).random((n, d))


def kernel(n=60, name="exponential"):
    return KernelMatrix(points(n), name, length=0.3)


def function(n=60):
    """The same kernel as a function of the user's."""

    def exponential(X, Y):
        return np.exp(-np.sqrt(((X[:, None] - Y) ** 2).sum(-1)) / 0.3)

    return KernelMatrix(points(n), exponential)


def turning(n=60):
    """A complex hermitian positive definite matrix, by a function of its entries."""
    x = points(n, 1)[:, 0]
    A = np.exp(-np.abs(x[:, None] - x)) * np.exp(3j * (x[:, None] - x))
    return Entries(lambda i, j: A[np.ix_(i, j)], (n, n), hermitian=True, points=x[:, None])


def hierarchical(n=60):
    source = kernel(n)
    goal = Goal(max_error=1e-9)
    return fit_entries(source, goal, rng=np.random.default_rng(0), progress=no_progress)


MATRICES = {"compiled": kernel, "function": function, "complex": turning, "entries": hierarchical}


def system(A, shift=SHIFT, tol=1e-8, condition=math.inf):
    known = known_of(A, shift, tol)
    return known.system(tol)._replace(condition=condition)


def halves(G, n):
    """G as an array."""
    return G.half(np.eye(n))


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8, 100])
def test_an_order_from_coarse_to_fine_is_spread(n):
    order = coarse_to_fine(n)
    assert sorted(order) == list(range(n))
    for part in (order[: n // 4], order[n // 2 :]):
        # No two gaps of a part differ by much.
        gaps = np.diff(np.sort(part))
        assert gaps.max(initial=1) <= 2 * gaps.min(initial=max(n, 1)) + 2


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [1, 7, 60])
def test_neighbours_are_the_nearest_earlier_points(n, count):
    X = points(n)
    X[n // 2 :: 7] = X[0]  # some points coincide
    order = order_of_elimination(X)
    near = earlier_neighbours(X, order, count)
    assert near.shape == (n, count + 1)
    for t, i in enumerate(order):
        row = near[t][near[t] >= 0]
        m = min(count, t)
        assert row.size == m + 1
        assert row[-1] == i
        assert np.unique(row).size == row.size
        earlier = order[:t]
        distance = np.sort(np.linalg.norm(X[earlier] - X[i], axis=1))[:m]
        assert set(row[:-1]) <= set(earlier)
        np.testing.assert_allclose(np.linalg.norm(X[row[:-1]] - X[i], axis=1), distance)


@pytest.mark.parametrize("places", [[0], [2, 3, 77, 240], []])
def test_neighbours_of_some_points_are_those_among_all(places):
    X = points(241)
    order, places = order_of_elimination(X), np.array(places, np.int64)
    some = earlier_neighbours(X, order, 9, places)
    np.testing.assert_array_equal(some, earlier_neighbours(X, order, 9)[places])


@pytest.mark.parametrize("n", [1, 2, 5, 400])
def test_neighbours_by_entries_are_mostly_those_by_points(n):
    A, count = hierarchical(n), 6
    near = neighbours_by_entries(A, count)
    assert near.shape == (n, count + 1)
    order, shared = [], 0
    for t, row in enumerate(near):
        row = row[row >= 0]
        assert row.size == min(t, count) + 1
        assert np.unique(row).size == row.size
        assert set(row[:-1]) <= set(order)
        earlier = np.array(order, int)
        distance = np.linalg.norm(points(n)[earlier] - points(n)[row[-1]], axis=1)
        shared += len(set(row[:-1]) & set(earlier[np.argsort(distance)[:count]]))
        order.append(row[-1])
    assert sorted(order) == list(range(n))
    assert shared >= 0.85 * (near >= 0).sum() - n


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", MATRICES)
def test_a_sparse_inverse_of_all_neighbours_is_exact(name, compiled, monkeypatch):
    for module in (sparse_inverse, blocks):
        monkeypatch.setattr(module, "HAS_NUMBA", compiled and module.HAS_NUMBA)
    A = MATRICES[name]()
    n = A.shape[0]
    S = A.toarray() + SHIFT * np.eye(n)
    G = choice._sparse(system(A), n - 1)
    np.testing.assert_allclose(G.multiply(np.eye(n)), np.linalg.inv(S), atol=1e-6)
    assert G.log_half == pytest.approx(-0.5 * np.linalg.slogdet(S)[1], abs=1e-6)


@pytest.mark.parametrize("name", MATRICES)
def test_a_sparse_inverse_scales_the_diagonal_to_one(name):
    A = MATRICES[name]()
    S = A.toarray() + SHIFT * np.eye(60)
    G = choice._sparse(system(A), 8)
    half = halves(G, 60)
    np.testing.assert_allclose(np.diagonal(half @ S @ half.conj().T), 1.0)
    assert np.linalg.cond(half @ S @ half.conj().T) < 0.2 * np.linalg.cond(S)
    assert (half != 0).sum(axis=1).max() <= 9
    np.testing.assert_allclose(G.half_adjoint(np.eye(60)), half.conj().T)
    assert G.log_half == pytest.approx(np.linalg.slogdet(half)[1])


@pytest.mark.parametrize("compiled", [True, False])
def test_a_block_that_is_not_definite_is_named(compiled, monkeypatch):
    monkeypatch.setattr(sparse_inverse, "HAS_NUMBA", compiled and sparse_inverse.HAS_NUMBA)
    A = -2.0 * np.eye(6)
    A[:3, :3] = np.eye(3)
    near = np.array([[0, -1], [0, 1], [1, 2], [2, 3], [3, 4], [4, 5]])
    with pytest.raises(Indefinite) as caught:
        sparse_inverse.sparse_inverse(near, blocks_of(Dense(A), 0.0), Dense(A))
    assert (caught.value.row, caught.value.pivot) == (3, -2.0)


def test_evaluations_count_as_those_of_the_source():
    A = kernel(40)
    S = system(A)
    before = A.entries
    choice._sparse(S, 4)
    sizes = np.minimum(np.arange(40), 4) + 1
    assert A.entries - before == (sizes * (sizes + 1) // 2).sum()


def block_diagonal(n, side, dtype, definite=True):
    rng = np.random.default_rng(0)
    A = np.zeros((n, n), dtype)
    for i in range(0, n, side):
        B = rng.standard_normal((side, side)) + 0j
        B += 1j * rng.standard_normal((side, side))
        B = (B if np.dtype(dtype).kind == "c" else B.real)[: n - i, : n - i]
        A[i : i + side, i : i + side] = B @ B.conj().T if definite else B + 4 * np.eye(len(B))
    return A


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("n", [1, 8, 21])
@pytest.mark.parametrize("definite", [True, False])
def test_tiles_are_inverted(n, dtype, definite, monkeypatch):
    monkeypatch.setattr(jacobi, "TILE", 8)
    A = block_diagonal(n, 8, dtype, definite)
    order = np.random.default_rng(1).permutation(n)
    mixed = np.empty_like(A)
    mixed[np.ix_(order, order)] = A
    like = Dense(mixed)
    M = jacobi.block_jacobi(
        blocks_of(like, 0.0, whole=not definite), order, like, hermitian=definite, definite=definite
    )
    inverse = np.linalg.inv(mixed)
    np.testing.assert_allclose(M.multiply(np.eye(n)), inverse, atol=1e-9 * np.abs(inverse).max())
    np.testing.assert_allclose(
        M.multiply_adjoint(np.eye(n)), inverse.conj().T, atol=1e-9 * np.abs(inverse).max()
    )
    if definite:
        assert M.log_half == pytest.approx(-0.5 * np.linalg.slogdet(A)[1])


def test_tiles_of_an_indefinite_matrix_are_definite(monkeypatch):
    monkeypatch.setattr(jacobi, "TILE", 8)
    A = block_diagonal(16, 8, np.float64)
    A[8:] *= -1
    like = Dense(A)
    M = jacobi.block_jacobi(
        blocks_of(like, 0.0), np.arange(16), like, hermitian=True, definite=False
    )
    assert np.linalg.eigvalsh(M.multiply(np.eye(16)))[0] > 0
    sizes = np.abs(np.linalg.eigvals(M.multiply(A)))
    # Eigenvalues become 1 and -1, but for the least, which count as more than they are.
    assert sizes.max() <= 1 + 1e-9
    assert np.median(sizes) == pytest.approx(1.0)
    with pytest.raises(Indefinite) as caught:
        jacobi.block_jacobi(
            blocks_of(like, 0.0), np.arange(16), like, hermitian=True, definite=True
        )
    assert caught.value.row == 8
    assert caught.value.pivot == pytest.approx(np.linalg.eigvalsh(A)[0])


def test_singular_tiles_give_no_preconditioner(monkeypatch):
    monkeypatch.setattr(jacobi, "TILE", 2)
    like = Dense(np.ones((4, 4)))
    options = {"hermitian": False, "definite": False}
    assert (
        jacobi.block_jacobi(blocks_of(like, 0, whole=True), np.arange(4), like, **options) is None
    )
    zero = Dense(np.zeros((4, 4)))
    options["hermitian"] = True
    assert jacobi.block_jacobi(blocks_of(zero, 0), np.arange(4), zero, **options) is None


def test_preconditioners_multiply_in_every_library(backend):
    A = kernel(70)
    x = np.random.default_rng(0).standard_normal((70, 2))
    for make in (lambda S: choice._sparse(S, 6), choice._tiles):
        own = make(system(A)).multiply(x)
        moved = A.to(backend)
        found = make(system(moved)).multiply(structmat._array.from_numpy(x, moved.xp))
        np.testing.assert_allclose(structmat._array.to_numpy(found), own, rtol=1e-6)


def test_the_choice_follows_the_forecast():
    names = {offer.name for offer in choice.offers(system(hierarchical()))}
    assert names == {"none", "hierarchical", "sparse inverse", "block Jacobi"}
    # A large shift leaves few steps, so nothing pays for being built.
    easy = system(kernel(500), condition=1.5)
    assert isinstance(choice.preconditioner_of(easy), Unpreconditioned)
    hard = system(kernel(500), condition=1e6)
    assert choice.preconditioner_of(hard).name == "sparse inverse"
    general = Dense(np.random.default_rng(0).standard_normal((600, 600)))
    assert choice.preconditioner_of(system(general)).name == "block Jacobi"


def test_products_have_no_cheap_entries():
    A = Dense(np.eye(3))
    twice = structmat.matrices.Product(A, A)
    assert has_cheap_entries(A + A)
    assert not has_cheap_entries(twice)
    assert [offer.name for offer in choice.offers(system(twice))] == ["none"]


# Loose hierarchical factors.


def sphere(n):
    """Points spread evenly over a sphere."""
    i = np.arange(n) + 0.5
    height, angle = 1 - 2 * i / n, np.pi * (1 + 5**0.5) * i
    across = np.sqrt(1 - height**2)
    return np.stack([np.cos(angle) * across, np.sin(angle) * across, height], axis=1)


HARD = {
    "earthquakes": lambda: KernelMatrix(_hypocentres(), "exponential", length=200.0),
    "sphere": lambda: KernelMatrix(sphere(2500), "inverse"),
}


def steps_of(known, M, tol=1e-6):
    """Steps of conjugate gradients for a random right-hand side."""
    n = known.S.shape[0]
    b = np.random.default_rng(0).standard_normal((n, 1))
    found = conjugate_gradients(
        known.S.matmat, b, tol * np.linalg.norm(b, axis=0), precondition=M.multiply,
        limit=200, report=no_progress, xp=known.S.xp,
    )  # fmt: skip
    return found.steps


@pytest.mark.parametrize("name", HARD)
def test_loose_factors_leave_few_steps(name):
    A = HARD[name]()
    matrix = structmat.compress(A, "hierarchical", tol=1e-6, rng=0).matrix
    shift = 1e-2 * norm_bound(matrix)
    known = Known(A, matrix, shift)
    (loose,) = [o for o in choice.offers(known.system(1e-6)) if o.name == "hierarchical"]
    M = loose.build()
    assert M.definite
    assert steps_of(known, M) <= 8 < 25 < steps_of(known, Unpreconditioned())


def test_loose_factors_multiply_by_the_adjoint():
    A = hierarchical(300)
    M = loose_factors(A, 0.5 + 1j, definite=False, most=math.inf)
    found = M.multiply(np.eye(300, dtype=complex))
    np.testing.assert_allclose(M.multiply_adjoint(np.eye(300, dtype=complex)), found.conj().T)
    wanted = np.linalg.inv(A.toarray() + (0.5 + 1j) * np.eye(300))
    assert np.linalg.norm(found - wanted) < 0.2 * np.linalg.norm(wanted)


def test_loose_factors_are_given_up():
    A = hierarchical(600)
    assert loose_factors(A, 0.5, definite=True, most=1.0) is None
    # No factors near it are positive definite.
    assert loose_factors(A, -1.0, definite=True, most=math.inf) is None


def test_traces_take_halves_where_the_preconditioner_has_none():
    A = KernelMatrix(points(300), "exponential", length=0.3)
    F = iterative.factorize(A, 1.0, 1e-8)
    F.preconditioner = loose_factors(F.known.near, 1.0, definite=True, most=math.inf)
    assert F.halves().name in ("sparse inverse", "block Jacobi", "")
    wanted = np.linalg.slogdet(F.matrix.toarray())[1]
    found = F.logdet()
    assert abs(found.logabsdet - wanted) < 4 * found.error
