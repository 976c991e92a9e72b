"""Hierarchical factorizations against dense solves: trees, kernels, orders, dtypes, refusals."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import structmat
from structmat import Hierarchical, KernelMatrix, SolveError, compress, factorize, logdet
from structmat.solvers.hierarchical import direct
from structmat.solvers.hierarchical.direct import HierarchicalFactorization
from structmat.solvers.hierarchical.loose import loose_factorization
from structmat.solvers.hierarchical.range import low_rank
from structmat.solvers.hierarchical.recursion import Recursion
from structmat.solvers.hierarchical.tiles import Tile
from structmat.solvers.hierarchical.traces import inverse_trace, trace_with
from structmat.solvers.hierarchical.weak import weak_form


def random_blocks(rng, n, leaf, rank):
    """A table of weak admissibility with cuts at random."""
    table = []

    def grown(a, b):
        if b - a <= leaf:
            table.append([a, b - a, a, b - a, -1])
            return
        m = int(rng.integers(a + (b - a) // 4, b - (b - a) // 4)) + 1
        for top, end, left, right in ((m, b, a, m), (a, m, m, b)):
            table.append([top, end - top, left, right - left, int(rng.integers(0, rank + 1))])
        grown(a, m)
        grown(m, b)

    grown(0, n)
    return np.array(table)


def numbers(rng, count, dtype):
    values = rng.standard_normal(count)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(count)
    return values.astype(dtype)


def random_tree(seed, n=300, dtype=np.float64, *, symmetric=False, orders=True):
    """A hierarchical matrix of weak admissibility."""
    rng = np.random.default_rng(seed)
    table = random_blocks(rng, n, 40, 5)
    if symmetric:
        table = table[table[:, 0] >= table[:, 2]]
    _, p, _, q, r = table.T
    low = np.maximum(r, 0)
    area = np.where(r < 0, p * (p + 1) // 2 if symmetric else p * q, 0)
    order = rng.permutation(n) if orders else None
    return Hierarchical(
        table,
        numbers(rng, int((low * p).sum()), dtype),
        numbers(rng, int((low * q).sum()), dtype),
        numbers(rng, int(area.sum()), dtype),
        shape=(n, n),
        row_order=order,
        col_order=order if symmetric or seed % 2 else rng.permutation(n) if orders else None,
        symmetric=symmetric,
    )


def agrees(A, shift, bound=1e-7):
    """Solve and log-determinant of a matrix with a shift, next to dense ones."""
    rng, n = np.random.default_rng(5), A.shape[0]
    F = factorize(A, shift=shift)
    assert isinstance(F, HierarchicalFactorization)
    S = A.to_dense().astype(np.result_type(A.dtype, np.float64)) + shift * np.eye(n)
    b = numbers(rng, n * 3, S.dtype).reshape(n, 3)
    size = np.linalg.norm(S, 2)
    for x, matrix in ((F.solve(b), S), (F.solve_adjoint(b), S.conj().T)):
        left = np.linalg.norm(matrix @ x - b)
        assert left <= bound * (size * np.linalg.norm(x) + np.linalg.norm(b))
    sign, value = np.linalg.slogdet(S)
    found = F.logdet()
    assert abs(found.sign - sign) < 1e-6
    rounding = 1e-12 * np.linalg.cond(S)
    assert abs(found.logabsdet - value) <= 1e-10 * abs(value) + 4 * found.error + rounding
    return F


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_random_trees(seed, dtype):
    A = random_tree(seed, dtype=dtype)
    shift = 25.0 if seed % 2 else 0.0
    F = agrees(A, shift)
    assert 0 < F.rank <= F.total_rank


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shift", [0.0, -3.0, 100.0, 2j])
def test_hermitian_trees(dtype, shift):
    """Indefinite, definite and complex ones; a complex shift makes them plain."""
    A = random_tree(3, dtype=dtype, symmetric=True)
    if np.iscomplex(shift) and dtype is np.float64:
        F = factorize(A, shift=shift)
        b = np.ones(300, complex)
        assert np.linalg.norm(A @ F.solve(b) + shift * F.solve(b) - b) < 1e-9
    else:
        agrees(A, shift)


@pytest.mark.parametrize("seed", range(6))
def test_signs_count_negative_eigenvalues(seed):
    A = random_tree(seed, symmetric=True)
    F = factorize(A)
    negative = int((np.linalg.eigvalsh(A.to_dense()) < 0).sum())
    assert F.recursion.negative == negative
    assert F.logdet().sign == (-1.0) ** negative


@pytest.mark.parametrize("kernel", ["exponential", "matern32", "gaussian", "inverse"])
def test_strong_admissibility(kernel):
    """Blocks are sampled by their products; the logarithm is corrected by some, too."""
    points = np.random.default_rng(2).random((900, 2))
    A = compress(KernelMatrix(points, kernel, length=0.2), "hierarchical", tol=1e-7).matrix
    F = agrees(A, 30.0 if kernel == "inverse" else 0.5)
    assert F.exact == (kernel == "gaussian")


def test_two_sets_of_points():
    """A matrix that is not symmetric."""
    rng = np.random.default_rng(2)
    X = rng.random((700, 2))
    A = compress(
        KernelMatrix(X, "matern32", X + 0.01 * rng.random((700, 2)), length=0.2),
        "hierarchical",
        tol=1e-6,
    ).matrix
    A = Hierarchical(A.blocks, A.u, A.v, A.dense, shape=A.shape)
    agrees(A, 2.0)


def test_single_precision():
    """Factors are of double precision, results of single."""
    A = random_tree(5, dtype=np.float32, symmetric=True)
    F = agrees(A, 60.0, bound=1e-4)
    assert F.solve(np.ones(300, np.float32)).dtype == np.float32


def test_a_diagonal_beside_it():
    A = random_tree(1, symmetric=True)
    d = np.random.default_rng(0).uniform(400, 500, 300)
    F = factorize(A + structmat.Diagonal(d) + 2 * structmat.Identity(300), shift=1.0)
    assert F.method == "hierarchical"
    S = A.to_dense() + np.diag(d) + 3 * np.eye(300)
    np.testing.assert_allclose(S @ F.solve(np.ones(300)), 1, atol=1e-6)
    np.testing.assert_allclose(float(F.logdet()), np.linalg.slogdet(S)[1], rtol=1e-9)


def test_points():
    """Points are compressed to a share of the shift."""
    points = np.random.default_rng(1).random((2500, 2))
    K = KernelMatrix(points, "matern32", length=0.1)
    found = logdet(K, shift=0.1)
    exact = np.linalg.slogdet(K.to_dense() + 0.1 * np.eye(2500))[1]
    assert found.sign == 1
    assert abs(found.logabsdet - exact) <= 1e-5 * 2500


def test_points_keep_the_tolerance():
    """Backward errors are those of the kernel's own matrix."""
    points = np.random.default_rng(1).random((2100, 2))
    K = KernelMatrix(points, "exponential", length=0.2)
    S, b = K.to_dense() + 0.1 * np.eye(2100), np.random.default_rng(2).standard_normal(2100)
    norm = np.linalg.norm(S @ (S @ np.ones(2100))) / np.linalg.norm(S @ np.ones(2100))
    for A, shift in ((K, 0.1), (K + structmat.Diagonal(np.full(2100, 0.05)), 0.05)):
        F = factorize(A, shift=shift, tol=1e-9)
        assert F.method == "hierarchical"
        x = F.solve(b)
        size = norm * np.linalg.norm(x) + np.linalg.norm(b)
        assert np.linalg.norm(b - S @ x) <= 1e-8 * size


def test_points_with_a_diagonal():
    """Noise of its own for each point, on which the compression depends."""
    rng = np.random.default_rng(1)
    points, noise = rng.random((2100, 2)), rng.uniform(0.1, 0.2, 2100)
    K = KernelMatrix(points, "matern32", length=0.1)
    F = factorize(K + structmat.Diagonal(noise), shift=0.05)
    assert F.method == "hierarchical"
    S = K.to_dense() + np.diag(noise + 0.05)
    assert abs(float(F.logdet()) - np.linalg.slogdet(S)[1]) <= 1e-5 * 2100
    x = F.solve(np.ones(2100))
    assert np.linalg.norm(S @ x - 1) <= 1e-2 * np.sqrt(2100)


def test_loss_of_definiteness_names_rows_and_remedy():
    """A tolerance far above the shift."""
    points = np.random.default_rng(0).random((1500, 2))
    K = KernelMatrix(points, "gaussian", length=0.3)
    A = compress(K, "hierarchical", tol=1e-2).matrix
    with pytest.raises(SolveError, match=r"rows \d+ to \d+ of 1500.*negative.*smaller tolerance"):
        factorize(A, shift=1e-6)
    F = factorize(A, shift=-1e-6)
    assert F.recursion.negative > 0


def exchange(n):
    """The matrix that exchanges two halves: regular, with singular blocks on its diagonal."""
    half, one = n // 2, np.eye(n // 2).ravel()
    table = [[0, half, half, half, -1], [half, half, 0, half, -1]]
    return Hierarchical(table, *np.zeros((2, 0)), np.concatenate([one, one]), shape=(n, n))


def test_singular_nodes_are_refused(monkeypatch):
    """Where the whole is too large to form; a smaller matrix may still be regular."""
    F = factorize(exchange(300))
    assert F.method != "hierarchical"
    np.testing.assert_allclose(F.solve(np.arange(300.0)), np.roll(np.arange(300.0), 150))
    monkeypatch.setattr(direct, "DENSE_ROWS", 200)
    with pytest.raises(SolveError, match=r"rows 0 to \d+ of 300.*singular.*zero.*shift"):
        factorize(exchange(300))


def test_factors_pickle():
    F = factorize(random_tree(1, symmetric=True), shift=200.0)
    b = np.arange(300.0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(F)).solve(b), F.solve(b))


def test_two_orders_take_no_shift():
    A = random_tree(2)
    assert factorize(A, shift=20.0).method != "hierarchical"


def test_loose_factors_are_definite():
    points = np.random.default_rng(0).random((1500, 2))
    K = KernelMatrix(points, "exponential", length=0.1)
    F = loose_factorization(K, 1.0, 1e-2)
    assert F.recursion.negative == 0
    b = np.ones((1500, 1))
    left = K @ F._solve(b) + F._solve(b) - b
    assert np.linalg.norm(left) < 0.1 * np.linalg.norm(b)


SCRIPT = """
import numpy as np, structmat
X = np.random.default_rng(0).random((1200, 2))
K = structmat.KernelMatrix(X, "matern32")
A = structmat.compress(K, "hierarchical", tol=1e-5, rng=0).matrix
F = structmat.factorize(A, shift=0.1)
x = F.solve(np.ones((1200, 300)) * np.arange(300))
print(x.sum().hex(), x[7].tobytes().hex()[:200], float(F.logdet()).hex())
"""


def printed(monkeypatch, threads):
    monkeypatch.setenv("STRUCTMAT_NUM_THREADS", str(threads))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    return done.stdout


def test_results_do_not_depend_on_threads(monkeypatch):
    assert printed(monkeypatch, 1) == printed(monkeypatch, 2)


@pytest.mark.parametrize("n", [256, 257])
def test_no_blocks(n):
    """A zero matrix with a shift."""
    A = Hierarchical(np.zeros((0, 5), int), *np.zeros((3, 0)), shape=(n, n))
    F = factorize(A, shift=2.0)
    np.testing.assert_allclose(F.solve(np.ones((n, 2))), 0.5)
    assert F.solve(np.ones((n, 0))).shape == (n, 0)
    np.testing.assert_allclose(float(F.logdet()), n * np.log(2))


def test_the_weak_form_keeps_its_error():
    points = np.random.default_rng(4).random((1100, 3))
    A = compress(KernelMatrix(points, "exponential"), "hierarchical", tol=1e-9).matrix
    for error in (1e-1, 1e-3, 1e-6):
        norm = float(A.norm())
        weak = weak_form(A, error * norm)
        R = Recursion(weak, 1e3)
        inverse = R.solve(np.eye(1100))
        order = A.row_order
        found = np.linalg.inv(inverse) - 1e3 * np.eye(1100)
        exact = A.to_dense()[np.ix_(order, order)]
        assert np.linalg.norm(found - exact) <= 1.2 * error * norm + 1e-8 * norm


@pytest.mark.parametrize("guess", [1, 9, 10, 11, 30])
def test_a_rank_other_than_expected(guess):
    """Of a tile of rank 10 the span is found whatever is tried first, and nothing beyond."""
    rng = np.random.default_rng(guess)
    U, V = rng.standard_normal((2, 90, 10))
    tile = Tile((90, 90), [(0, 0, (U[:, :4], V[:, :4].T)), (0, 0, (U[:, 4:] @ V[:, 4:].T,))])
    left, right = low_rank(tile, 1e-16, guess, rng, np.float64)
    assert left.shape == (10, 90)
    np.testing.assert_allclose(left.T @ right, U @ V.T, atol=1e-9)


def test_many_rows_have_bases_of_their_own():
    """A tall tile whose far rows see little of its columns."""
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.random(1500)), 1.0 + np.sort(rng.random(1400))
    T = 1 / (0.01 + y[:, None] - x)
    tile = Tile(T.shape, [(0, 0, (T,))])
    left, right = low_rank(tile, 1e-8, 20, rng, np.float64)
    assert len(left) < 30
    assert np.linalg.norm(left.T @ right - T) <= 1e-4


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [2, 130, 300, 901])
def test_traces_with_the_inverse_are_those_of_dense_matrices(seed, n):
    A = random_tree(seed, n, symmetric=True)
    # Another tree in the same order, so that its blocks are cut.
    other = random_tree(seed + 10, n, symmetric=True, orders=False)
    B = Hierarchical(
        other.blocks, other.u, other.v, other.dense, shape=(n, n), row_order=A.row_order,
        col_order=A.col_order, symmetric=True,
    )  # fmt: skip
    shift = 2 * A.norm()
    recursion = Recursion(weak_form(A, 1e-10), shift)
    inverse = np.linalg.inv(A.to_dense() + shift * np.eye(n))
    np.testing.assert_allclose(inverse_trace(recursion), np.trace(inverse), rtol=1e-9)
    exact = np.sum(inverse * B.to_dense())
    size = np.linalg.norm(inverse) * B.norm()
    np.testing.assert_allclose(trace_with(recursion, B), exact, atol=1e-9 * size)
