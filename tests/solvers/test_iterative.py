"""Solves by iteration against dense ones: methods, sources, errors, refusals."""

import pickle
import re

import numpy as np
import pytest

import structmat
from structmat import Dense, Diagonal, Entries, KernelMatrix, SolveError
from structmat.matrices import Product
from structmat.solvers import choice
from structmat.solvers.hierarchical import points as of_points
from structmat.solvers.iterative import known
from structmat.solvers.iterative import solver as iterative
from structmat.solvers.iterative.krylov.columns import Reached
from structmat.solvers.iterative.preconditioners.preconditioner import Unpreconditioned

N = 200


def points(n=N, d=2, seed=0):
    return np.random.default_rng(seed).random((n, d))


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def gram(dtype, sign=1.0):
    """Hermitian by its construction, of known products alone: Q D Q^H."""
    Q, _ = np.linalg.qr(random((N, N), dtype).astype(np.complex128 if dtype[0] == "c" else float))
    values = np.linspace(1, 9, N)
    values[: N // 3] *= sign
    Q = Q.astype(dtype)
    return Product(Dense(Q), Diagonal(values.astype(Q.real.dtype)), Dense(Q).H)


def some(kind, dtype="float64"):
    """A matrix, a shift, and the method."""
    return {
        "definite": lambda: (gram(dtype), 0.0, "conjugate gradients"),
        "indefinite": lambda: (gram(dtype, -1.0), 0.0, "minimal residuals"),
        "general": lambda: (Dense(random((N, N), dtype)), 25.0, "gmres"),
        "complex shift": lambda: (gram(dtype), 2j, "gmres"),
        "kernel": lambda: (
            KernelMatrix(points().astype(dtype), "matern32", length=0.2), 0.1,
            "conjugate gradients",
        ),
        "helmholtz": lambda: (
            KernelMatrix(points().astype(dtype), "helmholtz", wavenumber=9.0), 400.0, "gmres",
        ),
    }[kind]()  # fmt: skip


CASES = [
    ("definite", "float64"),
    ("definite", "float32"),
    ("indefinite", "float64"),
    ("indefinite", "complex128"),
    ("general", "float64"),
    ("general", "complex64"),
    ("complex shift", "float64"),
    ("kernel", "float64"),
    ("kernel", "float32"),
    ("helmholtz", "float64"),
]


def dense(A, shift):
    return A.toarray().astype(np.complex128) + shift * np.eye(A.shape[0])


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_solutions_are_those_of_dense_solves(kind, dtype, adjoint):
    A, shift, method = some(kind, dtype)
    tol = 1e-5 if dtype in ("float32", "complex64") else 1e-9
    F = iterative.factorize(A, shift, tol)
    b = random((N, 3), str(F.dtype), 1)
    b[:, 1] = 0
    x = F.solve_adjoint(b) if adjoint else F.solve(b)
    assert F.method.startswith(method)
    assert x.dtype == b.dtype
    S = dense(A, shift)
    S = S.conj().T if adjoint else S
    # Compression is as exact as the solves.
    error = np.linalg.norm(x - np.linalg.solve(S, b)) / np.linalg.norm(x)
    assert error < tol * np.linalg.cond(S)
    assert not x[:, 1].any()


@pytest.mark.parametrize("kind", ["definite", "indefinite", "general", "kernel"])
def test_solutions_tell_their_errors(kind):
    A, shift, _ = some(kind)
    F = iterative.factorize(A, shift, 1e-8)
    b = random((N, 2), "float64", 1)
    found = F.solution(b)
    S = F.matrix.toarray()
    residual = np.linalg.norm(b - S @ found.x, axis=0) / np.linalg.norm(b, axis=0)
    # The residual itself is small, and not the backward error alone.
    assert residual.max() <= 1.001e-8
    np.testing.assert_allclose(found.residual, residual.max(), rtol=1e-4)
    assert found.backward_error <= found.residual
    assert 3 < found.iterations <= N
    again = F.solution(b)
    assert (again.x == found.x).all()
    assert (pickle.loads(pickle.dumps(F)).solve(b) == found.x).all()


@pytest.mark.parametrize("kind", ["definite", "general", "kernel"])
def test_every_library_solves(kind, backend):
    A, shift, _ = some(kind)
    moved = A.to(backend)
    F = iterative.factorize(moved, shift, 1e-8)
    b = random((N, 2), "float64", 1)
    x = F.solve(structmat._array.from_numpy(b, moved.xp))
    wanted = np.linalg.solve(dense(A, shift), b)
    np.testing.assert_allclose(structmat._array.to_numpy(x), wanted.real, atol=1e-5)


def test_many_columns_are_solved_some_at_a_time(monkeypatch):
    A, shift, _ = some("definite")
    F = iterative.factorize(A, shift, 1e-8)
    b = random((N, 5), "float64", 1)
    whole = F.solve(b)
    widths = []
    columns = F._columns
    monkeypatch.setattr(F, "_columns", lambda b, *a: widths.append(b.shape[1]) or columns(b, *a))
    monkeypatch.setattr(iterative, "COLUMNS_SCALARS", 2 * N)
    np.testing.assert_allclose(F.solve(b), whole, rtol=1e-7)
    assert widths == [2, 2, 1]


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_right_hand_sides_of_any_size(scale):
    A, shift, _ = some("kernel")
    F = iterative.factorize(A, shift, 1e-8)
    b = random(N, "float64", 1)
    np.testing.assert_allclose(F.solve(scale * b) / scale, F.solve(b), rtol=1e-9)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["exponential", "inverse", "helmholtz"])
def test_few_rows(n, name):
    A = KernelMatrix(points(n), name)
    F = iterative.factorize(A, 2.0, 1e-10)
    b = random((n, 2), str(F.dtype), 1)
    wanted = np.linalg.solve(dense(A, 2.0), b)
    np.testing.assert_allclose(F.solve(b), wanted, atol=1e-8)
    assert F.solve(b[:, :0]).shape == (n, 0)


def test_noise_of_each_point_is_a_diagonal():
    noise = Diagonal(np.random.default_rng(0).uniform(0.01, 0.3, N))
    A = KernelMatrix(points(), "exponential", length=0.2) + noise
    F = iterative.factorize(A, 0.0, 1e-8)
    assert F.method == "conjugate gradients, sparse inverse"
    # The neighbours are those of the points, so G is near the inverse factor.
    half = F.preconditioner.half(np.eye(N))
    assert np.linalg.cond(half @ A.toarray() @ half.T) < 2
    b = random(N, "float64", 1)
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(A.toarray(), b), atol=1e-5)


@pytest.mark.parametrize("wrap", ["scaled", "sum", "product"])
def test_sources_inside_of_other_matrices_are_compressed(wrap):
    K, noise = KernelMatrix(points(), "exponential", length=0.2), Diagonal(np.full(N, 0.1))
    order = structmat.Permutation(np.random.default_rng(0).permutation(N))
    A = {
        "scaled": lambda: 2.0 * K,
        "sum": lambda: 2.0 * K + noise,
        "product": lambda: Product(order.H, K, order),
    }[wrap]()
    facts = known.known_of(A, 0.1, 1e-8)
    evaluated, b = K.entries, random((N, 2), "float64")
    x = iterative.factorize_known(facts, 1e-8).solve(b)
    assert K.entries == evaluated
    np.testing.assert_allclose(x, np.linalg.solve(dense(A, 0.1).real, b), atol=1e-5)
    assert facts.promised == (wrap != "product")


def test_a_compression_is_finer_than_the_shift(monkeypatch):
    asked = []
    compress = known.compress

    def watched(A, kind, *, tol, rng):
        asked.append(tol)
        return compress(A, kind, tol=tol, rng=rng)

    monkeypatch.setattr(known, "compress", watched)
    monkeypatch.setattr(known, "FORMED_ENTRIES", 0)
    A = KernelMatrix(points(300), "exponential")
    size = A.norm()
    iterative.factorize(A, 1e-2, 0.1)
    iterative.factorize(A, 1e3, 1e-3)
    assert asked[0] == pytest.approx(1e-2 / size, rel=0.5)
    assert asked[1] == 1e-3
    # The least noise of a point is a shift, too.
    noise = Diagonal(np.r_[1e-3, np.full(299, 0.5)])
    F = iterative.factorize(A + noise, 0.0, 0.1)
    assert asked[2] == pytest.approx(1e-3 / size, rel=0.5)
    assert F.known.promised
    assert F.known.system(0.1).condition == pytest.approx(1e3 * F.matrix.norm(2), rel=0.1)


def test_sources_without_points_are_preconditioned_by_their_compression(monkeypatch):
    monkeypatch.setattr(known, "FORMED_ENTRIES", 0)
    x = np.sort(points(900, 1)[:, 0])
    A = Entries(lambda i, j: np.exp(-9 * np.abs(x[i][:, None] - x[j])), (900, 900), symmetric=True)
    facts = known.known_of(A, 1e-3, 1e-8)
    evaluated = A.entries
    F = iterative.factorize_known(facts, 1e-8)
    assert F.method == "conjugate gradients, sparse inverse"
    assert F.solution(np.ones(900)).iterations <= 10
    assert A.entries == evaluated


def test_many_points_of_a_definite_kernel_go_by_iterations(monkeypatch):
    monkeypatch.setattr(of_points, "DIRECT_ROWS", 2100)
    some = [KernelMatrix(points(n), "exponential") for n in (2100, 2101)]
    direct, F = (structmat.factorize(K, shift=1.0) for K in some)
    assert direct.method == "hierarchical"
    assert F.method.startswith("conjugate gradients")
    # The log-determinant comes by factors all the same.
    monkeypatch.setattr(of_points, "DIRECT_ROWS", 2101)
    assert F.logdet() == structmat.logdet(some[1], shift=1.0)


def test_a_matrix_that_lost_its_definiteness_is_refused(monkeypatch):
    monkeypatch.setattr(known, "FORMED_ENTRIES", 0)
    A = KernelMatrix(points(300), "gaussian", length=0.5)
    # Without a shift, compression makes some of the least eigenvalues negative.
    with pytest.raises(SolveError, match=r"S = A \+ 0 I is not positive definite.*larger shift"):
        iterative.factorize(A, 0.0, 1e-6).solve(random(300, "float64"))


def test_an_indefinite_matrix_is_solved_without_a_promise():
    A, _, _ = some("indefinite")
    F = iterative.factorize(A, 0.0, 1e-8)
    assert F.method == "conjugate gradients"
    x = F.solve(np.ones(N))
    assert F.method == "minimal residuals"
    assert (F.solve(np.ones(N)) == x).all()


@pytest.mark.parametrize("kind", ["definite", "general"])
def test_singular_matrices_are_refused(kind):
    if kind == "definite":
        d = np.linspace(0, 9, N)
        Q = Dense(np.linalg.qr(random((N, N), "float64"))[0])
        A = Product(Q, Diagonal(d), Q.H)
    else:
        B = random((N, N), "float64")
        B[:, 3] = B[:, 4]
        A = Dense(B)
    F = iterative.factorize(A, 0.0, 1e-8)
    with pytest.raises(SolveError, match=r"residual .* steps.*expected .* at most 1e-07"):
        F.solve(random(N, "float64", 1))


def test_only_small_residuals_are_left_to_rounding():
    F = iterative.factorize(gram("float64"), 0.0, 1e-8)
    x = 1e13 * np.ones((N, 1))
    assert F._refusal(Reached(x, np.array([1e-3]), 7)) is None
    for residual, length in ((0.05, 1.0), (1e-3, 1e-8)):
        refusal = F._refusal(Reached(length * x, np.array([residual]), 7))
        assert re.search(r"after 7 steps.*condition number is .* or more", str(refusal))


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    A = KernelMatrix(points(1200), "exponential", length=0.2)
    b = random((1200, 2), "float64")
    found = []
    for threads in "1", "3":
        monkeypatch.setenv("STRUCTMAT_NUM_THREADS", threads)
        F = iterative.factorize(A, 1e-3, 1e-8)
        assert F.method == "conjugate gradients, sparse inverse"
        found.append((F.solve(b), F.logdet()))
    assert (found[0][0] == found[1][0]).all()
    assert found[0][1] == found[1][1]


def test_a_limit_of_steps_is_told(monkeypatch):
    monkeypatch.setattr(iterative, "MOST_STEPS", 4)
    F = iterative.factorize(gram("float64"), 0.0, 1e-8)
    with pytest.raises(SolveError, match=r"residual .* after 4 steps, the limit; expected"):
        F.solve(np.ones(N))


def hard(dtype, *, hermitian=False):
    """Eigenvalues of both signs, which iterations resolve one by one."""
    rng = np.random.default_rng(0)
    d = np.exp(rng.uniform(-6, 6, N)) * rng.choice([-1.0, 1.0], N)
    U = random((N, 2), dtype)
    V = U if hermitian else random((N, 2), dtype, 1)
    A = structmat.LowRank(U, V) + Diagonal(d.astype(U.real.dtype))
    return Product(A, A.H) - structmat.Identity(N) * 3.0 if hermitian else Product(A, A)


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
@pytest.mark.parametrize("hermitian", [False, True])
def test_dense_factors_follow_iterations_that_take_longer(monkeypatch, hermitian, dtype):
    monkeypatch.setattr(choice, "DENSE_ROWS", N - 1)
    A, b = hard(dtype, hermitian=hermitian), random((N, 2), dtype)
    tol = 1e-5 if dtype == "float32" else 1e-8
    F = iterative.factorize(A, 0.0, tol)
    assert F.matrix.hermitian == hermitian
    assert F.method != "dense"
    found = F.solution(b)
    assert found.method == F.method == "dense"
    assert found.iterations >= iterative.PATIENCE
    assert found.backward_error < 1e-6
    again = F.solution(b)
    assert again.iterations <= 4
    assert F.H.solution(b).backward_error < 1e-6


def test_dense_factors_follow_within_a_bound_of_memory(monkeypatch):
    monkeypatch.setattr(choice, "DENSE_ROWS", N - 1)
    monkeypatch.setattr(iterative, "DENSE_ENTRIES", N * N - 1)
    F = iterative.factorize(hard("float64"), 0.0, 1e-8)
    assert F.solution(np.ones(N)).iterations > iterative.PATIENCE
    assert F.method == "gmres"
    with pytest.raises(SolveError, match="not known to be hermitian"):
        F.logdet()


def test_dense_factors_give_the_log_determinant_that_iterations_do_not(monkeypatch):
    monkeypatch.setattr(choice, "DENSE_ROWS", N - 1)
    A = hard("float64")
    found = iterative.factorize(A, 0.0, 1e-8).logdet()
    sign, wanted = np.linalg.slogdet(A.toarray())
    assert (found.sign, found.error) == (sign, 0.0)
    assert found.logabsdet == pytest.approx(wanted)


def test_progress_reaches_the_end(monkeypatch):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def reporting(progress, label):
        yield seen.append

    monkeypatch.setattr(iterative, "reporting", reporting)
    iterative.factorize(gram("float64"), 0.0, 1e-8).solve(random((N, 2), "float64"))
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.5
    assert seen[-1] == 1.0


# Log-determinants.


@pytest.mark.parametrize("kind", ["definite", "kernel"])
def test_log_determinants_within_their_errors(kind):
    A, shift, _ = some(kind)
    F = iterative.factorize(A, shift, 1e-8)
    found, wanted = F.logdet(), np.linalg.slogdet(dense(A, shift).real)
    assert found.sign == 1
    assert abs(found.logabsdet - wanted[1]) <= 4 * found.error + 1e-6
    assert 0 < found.error < 5e-3 * abs(wanted[1])
    assert F.logdet() == found
    assert F.logdet(rng=1).logabsdet != found.logabsdet


def test_errors_of_log_determinants_are_standard_errors():
    A = KernelMatrix(points(), "exponential", length=0.3)
    F = iterative.factorize(A, 0.1, 1e-8)
    F.preconditioner = Unpreconditioned()
    wanted = np.linalg.slogdet(F.matrix.toarray())[1]
    found = [F.logdet(rng=seed) for seed in range(6)]
    ratios = np.array([(f.logabsdet - wanted) / f.error for f in found])
    assert 0.3 < np.sqrt((ratios**2).mean()) < 2


def test_log_determinants_of_others_are_refused():
    with pytest.raises(SolveError, match="not known to be hermitian"):
        iterative.factorize(Dense(random((N, N), "float64")), 0.0, 1e-8).logdet()
    with pytest.raises(SolveError, match=r"an eigenvalue of G S G.H is at most -"):
        iterative.factorize(gram("float64", -1.0), 0.0, 1e-8).logdet()
