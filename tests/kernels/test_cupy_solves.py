"""Solves on a library that behaves as CuPy does: devices, the current one, and pickles."""

import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_cupy import Device
from fake_cupy_library import FakeLibrary

from structmat import Dense, LowRank, factorize, lstsq, solve
from structmat.errors import BackendError
from structmat.solvers.iterative import solver as iterative

sys.path.append(str(Path(__file__).parents[1] / "solvers"))
from solve_kinds import KINDS, drawn

SHIFT = 2.5


def built(kind, cupy, *, is_complex=False):
    """A matrix on device 1 while device 0 is current, and A + shift I as an array."""
    A = KINDS[kind](drawn(1, is_complex))
    S = A.to_dense() + SHIFT * np.eye(A.shape[0])
    with Device(1):
        return A.to(cupy), S


def close(got, expected):
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got.get(), expected, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_factorizations_compute_on_their_own_device(kind, cuda):
    cupy = FakeLibrary(cuda)
    A, S = built(kind, cupy, is_complex=kind in ("gblr", "monarch", "plus-diagonal"))
    b = np.random.default_rng(0).standard_normal((S.shape[0], 3)).astype(S.dtype)
    there = cupy.asarray(b, device=Device(1))
    F = factorize(A, shift=SHIFT)
    assert F.device == Device(1)
    for x, expected in (
        (F.solve(there), np.linalg.solve(S, b)),
        (F.solve_adjoint(there[:, 0]), np.linalg.solve(S.conj().T, b[:, 0])),
        (F.T @ there, np.linalg.solve(S.T, b)),
        (pickle.loads(pickle.dumps(F)) @ cupy.asarray(b), np.linalg.solve(S, b)),
    ):
        close(x, expected)
    assert F.solve(there).device == Device(1)
    assert F.logdet().logabsdet == pytest.approx(np.linalg.slogdet(S).logabsdet)
    assert F.to(Device(0)).device == Device(0)


def test_other_devices_and_libraries_are_refused(cuda):
    cupy = FakeLibrary(cuda)
    A, S = built("low_rank", cupy)
    F = factorize(A, shift=SHIFT)
    with pytest.raises(BackendError, match="move one of them"):
        F.solve(cupy.asarray(np.ones(S.shape[0]), device=Device(0)))
    with pytest.raises(BackendError, match="meets a matrix on cupy"):
        solve(A, np.ones(S.shape[0]), shift=SHIFT)


def test_iterations_and_least_squares(cuda):
    cupy, there = FakeLibrary(cuda), Device(1)
    A, S = built("hierarchical-symmetric", cupy)
    b = np.random.default_rng(0).standard_normal((S.shape[0], 2))
    with there:
        F = iterative.factorize(A, SHIFT, 1e-10)
    close(F.solve(cupy.asarray(b, device=there)), np.linalg.solve(S, b))
    M = drawn(3)(7, 4)
    x = lstsq(Dense(cupy.asarray(M, device=there)), cupy.asarray(M @ b[:4], device=there))
    close(x, b[:4])


def test_a_factorization_is_an_operator_of_cupy(cuda, monkeypatch):
    """CuPy's solvers take the four products and the dtype."""
    linalg = ModuleType("cupyx.scipy.sparse.linalg")
    linalg.LinearOperator = lambda shape, **parts: SimpleNamespace(shape=shape, **parts)
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.sparse"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, linalg.__name__, linalg)
    cupy = FakeLibrary(cuda)
    F = factorize(LowRank(*(cupy.asarray(drawn(i)(6, 2)) for i in (1, 2))), shift=SHIFT)
    M, b = F.to_cupyx(), cupy.asarray(np.ones(6))
    assert (M.shape, M.dtype) == ((6, 6), np.float64)
    for name in ("matvec", "rmatvec"):
        np.testing.assert_array_equal(getattr(M, name)(b).get(), getattr(F, name)(b).get())
    np.testing.assert_array_equal(M.matmat(b[:, None]).get(), F.solve(b[:, None]).get())
