"""Precisions that systems keep, and tolerances that a precision reaches."""

import numpy as np
import pytest

import structmat
from structmat import BlockSparse, Dense, Diagonal, LowRank
from structmat.kernels.layouts.rectangles import DENSE
from structmat.solvers.iterative import solver as iterative

N = 6


def matrices(dtype):
    rng = np.random.default_rng(0)
    F = rng.standard_normal((N, N)).astype(dtype)
    band = BlockSparse(F[None, :2, :2], [1], [0], shape=(N, N))
    return {
        "dense": Dense(F),
        "low rank": LowRank(F[:, :1], F[:, :1]),
        "diagonal": Diagonal(F[0]),
        "blocks": band,
        "sum": Diagonal(F[1]) + LowRank(F[:, :1], F[:, 1:2]),
        "scaled": Diagonal(F[1]) @ structmat.Permutation(np.roll(np.arange(N), 1)),
        "kronecker": structmat.kron(Dense(F[:2, :2]), Dense(F[:3, :3])),
        "grid": structmat.block([[Diagonal(F[0, :3]), None], [None, Dense(F[:3, :3])]]),
    }


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shift", [3.0, 2 + 1j])
def test_single_precision_stays(library, dtype, shift):
    if library == "torch":
        pytest.importorskip("torch")
    wanted = "complex64" if dtype == "complex64" or isinstance(shift, complex) else "float32"
    for name, A in matrices(dtype).items():
        A = A.to(library)
        F = structmat.factorize(A, shift=shift)
        assert str(F.dtype).endswith(wanted), name
        b = np.arange(1.0, N + 1, dtype=dtype)
        x = F.solve(A.xp.asarray(b))
        assert str(x.dtype).endswith(wanted), name
        expected = np.linalg.solve(A.toarray().astype(complex) + shift * np.eye(N), b)
        np.testing.assert_allclose(np.asarray(x), expected, rtol=2e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_matrices_without_a_precision_take_that_of_the_right_hand_side(shift):
    one = structmat.Identity(N)
    for A in (structmat.Permutation(np.roll(np.arange(N), 1)), one, 2 * one):
        for dtype in ("float32", "complex64", "float64"):
            x = structmat.solve(A.astype("float32"), np.ones(N, dtype), shift=shift)
            assert x.dtype == dtype, (A, dtype)


@pytest.mark.parametrize("tol", [1e-300, 1e-17])
@pytest.mark.parametrize("call", [structmat.solve, structmat.lstsq])
def test_tolerances_below_rounding_are_refused(call, tol):
    with pytest.raises(
        structmat.InputError, match=r"tol = .*rounding of double precision, 2.2e-16"
    ):
        call(Dense(np.eye(3)), np.ones(3), tol=tol)


def test_the_least_tolerance_is_met():
    A = Dense(np.random.default_rng(0).standard_normal((N, N)))
    b = np.ones(N)
    x = structmat.solve(A, b, tol=np.finfo(float).eps)
    np.testing.assert_allclose(A @ x, b, rtol=1e-13)


def test_the_rounding_of_right_hand_sides_is_named():
    A = Dense(np.random.default_rng(0).standard_normal((N, N)).astype("float32"))
    b = np.ones(N, "float32")
    with pytest.raises(structmat.SolveError, match="the rounding of float32: give factorize"):
        structmat.solve(A, b, tol=1e-13)
    x = structmat.solve(A, b.astype(float), tol=1e-13)
    np.testing.assert_allclose(A.toarray().astype(float) @ x, b, rtol=1e-11)


@pytest.mark.parametrize(
    ("library", "dtype"), [("numpy", "float32"), ("numpy", "complex64"), ("torch", "float32")]
)
def test_iterations_go_on_in_double_precision(library, dtype, monkeypatch):
    """A shift in the middle of the spectrum: single precision ends at a large residual."""
    if library == "torch":
        pytest.importorskip("torch")
    monkeypatch.setattr("structmat.solvers.iterative.solver.COLUMNS_SCALARS", 40)
    rng, n = np.random.default_rng(0), 40
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    half = np.geomspace(1e-4, 1, n // 2)
    S = ((Q * np.concatenate([-half, half])) @ Q.T).astype(dtype)
    lower = S[np.tril_indices(n)]
    one = [[0, n, 0, n, DENSE]]
    A = structmat.Hierarchical(one, lower[:0], lower[:0], lower, shape=(n, n), symmetric=True)
    b = np.stack([S @ np.ones(n), rng.standard_normal(n)], axis=1).astype(dtype)
    F = iterative.factorize(A.to(library), 0.0, 1e-5)
    found = F.solution(F.xp.asarray(b))
    assert F.method.startswith("minimal residuals")
    assert str(found.x.dtype).endswith(dtype)
    assert found.backward_error <= F.tol
    expected = np.linalg.solve(S.astype(complex), b)
    missed = np.linalg.norm(np.asarray(found.x) - expected, axis=0)
    assert (missed <= 0.02 * np.linalg.norm(expected, axis=0)).all()
