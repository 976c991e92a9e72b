"""Krylov methods for many columns, against dense solves, on every array library."""

import numpy as np
import pytest

from structmat import _array
from structmat._progress import no_progress
from structmat.solvers.iterative.krylov.conjugate_gradients import conjugate_gradients
from structmat.solvers.iterative.krylov.gmres import _Cycle, gmres
from structmat.solvers.iterative.krylov.lanczos import log_quadrature
from structmat.solvers.iterative.krylov.least_squares import lsmr
from structmat.solvers.iterative.krylov.minres import minres

N = 40
DTYPES = ["float64", "complex128", "float32"]


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def hermitian(dtype, low):
    """A hermitian matrix with eigenvalues from `low` to 9, none of them near zero."""
    Q, _ = np.linalg.qr(random((N, N), "complex128" if "complex" in dtype else "float64"))
    values = np.linspace(low, 9, N)
    values = np.where(np.abs(values) < 0.5, 1.0, values)
    return ((Q * values) @ Q.conj().T).astype(dtype)


class System:
    """A dense matrix, a right-hand side with a zero column, and a preconditioner, in a library."""

    def __init__(self, A, backend, columns=3):
        self.A, self.xp = A, _array.namespace_named(backend)
        self.b = random((A.shape[0], columns), A.dtype, 1)
        self.b[:, 1:2] *= 0
        self.tol = 1e-4 if A.dtype == np.float32 else 1e-10
        self.bound = self.tol * np.linalg.norm(self.b, axis=0)
        self.M = np.diag(1 / np.linspace(1, 2, A.shape[1])).astype(A.dtype)

    def product(self, matrix):
        matrix = _array.from_numpy(matrix, self.xp)
        return lambda x: matrix @ x

    def run(self, method, limit=400, precondition=None):
        M = self.M if precondition is None else precondition
        return method(
            self.product(self.A),
            _array.from_numpy(self.b, self.xp),
            self.bound,
            precondition=self.product(M),
            limit=limit,
            report=no_progress,
            xp=self.xp,
        )

    def residual(self, x):
        return np.linalg.norm(self.b - self.A @ _array.to_numpy(x), axis=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("method", "low"),
    [(conjugate_gradients, 1), (minres, 1), (minres, -8), (gmres, 1), (gmres, -8)],
)
def test_columns_are_solved_within_their_bounds(method, low, dtype, backend):
    system = System(hermitian(dtype, low), backend)
    found = system.run(method)
    # Rounding of the recurrences is within the bounds' own tolerance.
    assert (system.residual(found.x) <= 2 * system.bound).all()
    assert (found.residual <= system.bound).all()
    assert 5 < found.steps < 120


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gmres_solves_any_square_matrix(dtype):
    A = random((N, N), dtype) + 9 * np.eye(N)
    system = System(A, "numpy")
    assert (system.residual(system.run(gmres).x) <= 2 * system.bound).all()


def test_gmres_goes_on_with_longer_cycles_where_restarts_fail():
    n = 100
    A = np.roll(np.eye(n), 1, axis=0)  # restarts before step n gain nothing at all
    system = System(A, "numpy")
    system.b[:] = 0
    system.b[0] = 1
    system.bound[:] = 1e-10
    found = system.run(gmres, limit=1000, precondition=np.eye(n))
    assert (system.residual(found.x) <= 1e-10).all()
    assert found.steps == 40 + 80 + n


@pytest.mark.parametrize("dtype", DTYPES)
def test_gmres_foretells_the_residuals_of_a_cycle(dtype, backend):
    A = random((N, N), dtype) + 6 * np.eye(N, dtype=dtype)
    system = System(A, backend)
    b = _array.from_numpy(system.b, system.xp)
    size = np.linalg.norm(system.b, axis=0)
    for length in (1, 9, 20):
        cycle = _Cycle(b, size, length, system.xp)
        assert cycle.run(system.product(A), lambda r: r, 0 * size) == length
        left = system.residual(cycle.combination())
        assert left[1] == cycle.residual[1] == 0
        np.testing.assert_allclose(
            cycle.residual, left, rtol=1e-3, atol=1e-5 if dtype == "float32" else 0
        )


def test_a_basis_of_gmres_that_is_invariant_ends():
    A = np.diag(np.r_[np.ones(N // 2), 2 * np.ones(N - N // 2)])
    b = random((N, 2), "float64")
    b[: N // 2, 1] = 0  # one step for this column, two for the other
    cycle = _Cycle(b, np.linalg.norm(b, axis=0), 10, np)
    assert cycle.run(lambda x: A @ x, lambda r: r, np.zeros(2)) == 2
    assert cycle.ended.all()
    np.testing.assert_allclose(A @ cycle.combination(), b, atol=1e-13)


def test_columns_that_end_leave_the_product():
    widths = []
    A = hermitian("float64", 1)

    def multiply(x):
        widths.append(x.shape[1])
        return A @ x

    b = random((N, 3), "float64")
    bound = np.array([1e-2, 1e-6, 1e-12]) * np.linalg.norm(b, axis=0)
    found = conjugate_gradients(
        multiply, b, bound, precondition=lambda r: r, limit=100, report=no_progress, xp=np
    )
    assert widths[0] == 3
    assert widths[-1] == 1
    assert sorted(widths, reverse=True) == widths
    left = np.linalg.norm(b - A @ found.x, axis=0)
    assert (left <= 2 * bound).all()
    assert left[0] > 1e-6


def test_a_column_is_that_of_a_solve_of_its_own():
    system = System(hermitian("float64", 1), "numpy")
    together = system.run(conjugate_gradients).x
    system.b, system.bound = system.b[:, 2:], system.bound[2:]
    np.testing.assert_allclose(together[:, 2:], system.run(conjugate_gradients).x, rtol=1e-9)


def test_negative_curvature_ends_conjugate_gradients():
    system = System(hermitian("float64", -8), "numpy")
    found = system.run(conjugate_gradients)
    assert -8.001 <= found.curvature < 0
    # The least quotient that is met before a definite matrix has been solved with is positive.
    assert 1 <= System(hermitian("float64", 1), "numpy").run(conjugate_gradients).curvature <= 9


def test_negative_curvature_is_met_before_a_step_is_made():
    system = System(np.diag([1.0, -1.0]), "numpy", columns=1)
    system.b[:] = [[1.0], [2.0]]
    found = system.run(conjugate_gradients, precondition=np.eye(2))
    assert (found.steps, found.curvature) == (0, pytest.approx(-3 / 5))


def test_gmres_never_adds_to_a_residual():
    x = np.linspace(0, 1, N)
    A = np.exp(-((x[:, None] - x) ** 2))  # singular to rounding
    system = System(A, "numpy")
    found = system.run(gmres, precondition=np.eye(N))
    size = np.linalg.norm(system.b, axis=0)
    assert (system.residual(found.x) <= (1 + 1e-6) * size).all()
    assert (found.residual <= size).all()


def test_minimal_residuals_of_a_singular_matrix_stop():
    A = np.diag(np.r_[np.zeros(10), np.linspace(1, 2, N - 10)])
    system = System(A, "numpy")
    found = system.run(minres, precondition=np.eye(N), limit=60)
    least = np.linalg.norm(system.b[:10], axis=0)
    np.testing.assert_allclose(system.residual(found.x), least, atol=1e-8)
    np.testing.assert_allclose(found.residual, least, atol=1e-8)


def test_a_limit_of_steps_is_kept():
    for method in (conjugate_gradients, minres, gmres):
        system = System(hermitian("float64", 1), "numpy")
        assert system.run(method, limit=3).steps == 3


@pytest.mark.parametrize("shape", [(0, 2), (1, 1), (3, 0), (1, 3)])
@pytest.mark.parametrize("method", [conjugate_gradients, minres, gmres])
def test_small_sizes(method, shape):
    system = System(2 * np.eye(shape[0]), "numpy", columns=shape[1])
    found = system.run(method)
    assert found.x.shape == shape
    assert (system.residual(found.x) <= system.bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(50, 30), (30, 50), (30, 30)])
def test_least_squares_of_least_norm(shape, dtype, backend):
    A = random(shape, dtype)
    A[:, 3] = A[:, 4]  # deficient: many solutions
    system = System(A, backend)
    tol = 1e-5 if dtype == "float32" else 1e-12
    adjoint = system.product(A.conj().T.copy())
    found = lsmr(
        system.product(A), adjoint, _array.from_numpy(system.b, system.xp), tol,
        limit=500, report=no_progress, xp=system.xp,
    )  # fmt: skip
    wanted = np.linalg.lstsq(A.astype(np.complex128), system.b, rcond=1e-6)[0]
    error = np.abs(_array.to_numpy(found.x) - wanted).max() / np.abs(wanted).max()
    assert error < (1e-2 if dtype == "float32" else 1e-8)
    assert (found.residual <= tol).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_by_quadrature(dtype, backend):
    A, xp = hermitian(dtype, 0.5), _array.namespace_named(backend)
    system = System(A, backend)
    z = random((N, 2), dtype, 3)
    found = log_quadrature(
        system.product(A), _array.from_numpy(z, xp), accuracy=1e-9, limit=N, xp=xp
    )
    values, vectors = np.linalg.eigh(A.astype(np.complex128))
    wanted = (np.abs(vectors.conj().T @ z) ** 2 * np.log(values)[:, None]).sum(axis=0)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-3 if dtype == "float32" else 1e-8)
    assert found.least >= 0.49


def test_a_quadrature_meets_negative_eigenvalues():
    system = System(hermitian("float64", -8), "numpy")
    found = log_quadrature(system.product(system.A), system.b, accuracy=1e-9, limit=N, xp=np)
    assert found.least < 0
    assert np.isnan(found.values).any()
