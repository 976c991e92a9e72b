"""One contract for factorizations: every kind, every array library, every dtype."""

import copy
import pickle

import array_api_compat
import numpy as np
import pytest
from solve_kinds import KINDS, drawn

import structmat
from structmat import Dense, Diagonal, LowRank, factorize, lstsq, solve
from structmat._array import from_numpy, namespace_named, to_numpy
from structmat.errors import BackendError
from structmat.solvers.iterative import solver as iterative

SHIFT = 2.3  # no number of single precision
#: Bounds of errors as a share of the dense solution.
BOUNDS = {"float32": 2e-4, "float64": 1e-9, "complex64": 2e-4, "complex128": 1e-9}
#: The others by hand, with -m slow.
SOME = ("float32", "complex128")
DTYPES = [d if d in SOME else pytest.param(d, marks=pytest.mark.slow) for d in BOUNDS]


def built(kind, dtype):
    """The matrix of a kind, and A + shift I as a dense array in double precision."""
    A = KINDS[kind](drawn(1, dtype.startswith("complex"))).astype(dtype)
    wide = "complex128" if dtype.startswith("complex") else "float64"
    return A, A.astype(wide).to_dense() + SHIFT * np.eye(A.shape[0])


def on(backend, array):
    return from_numpy(array, namespace_named(backend))


def close(got, expected, dtype):
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(to_numpy(got), expected, rtol=0, atol=BOUNDS[dtype] * scale)


def solves(F, S, dtype, like):
    """The contract: values, and the library, dtype and device of results."""
    n = S.shape[0]
    rng = np.random.default_rng(3)
    for shape in ((n,), (n, 3), (2, n, 2), (n, 0)):
        b = rng.standard_normal(shape).astype(dtype)
        given = like(b)
        for adjoint, M in ((False, S), (True, S.conj().T)):
            x = (F.solve_adjoint if adjoint else F.solve)(given)
            wide = b.astype(M.dtype)
            expected = (
                np.linalg.solve(M, wide[:, None])[:, 0] if b.ndim == 1 else np.linalg.solve(M, wide)
            )
            close(x, expected, dtype)
            assert type(x) is type(given)
            # A permutation beside complex contents has the dtype that its integers promote to.
            assert x.dtype == F.xp.result_type(F.dtype, given.dtype)
            assert array_api_compat.device(x) == F.device
    found = F.solution(given if given.shape[-1] else like(np.ones(n, dtype)))
    assert found.backward_error <= 10 * F.tol
    sign, value = np.linalg.slogdet(S)
    determinant = F.logdet()
    assert float(determinant.logabsdet) == pytest.approx(value, abs=BOUNDS[dtype])
    assert complex(determinant.sign) == pytest.approx(complex(sign), abs=BOUNDS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind, dtype, backend):
    A, S = built(kind, dtype)
    F = factorize(A.to(backend), shift=SHIFT)
    assert F.xp is namespace_named(backend)
    solves(F, S, dtype, lambda b: on(backend, b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["hierarchical-symmetric", "gblr"])
def test_iterations(kind, dtype, backend):
    A, S = built(kind, dtype)
    F = iterative.factorize(A.to(backend), SHIFT, 1e-5 if dtype.endswith(("32", "64")) else 1e-10)
    b = np.random.default_rng(3).standard_normal((S.shape[0], 3)).astype(dtype)
    x = F.solve(on(backend, b))
    assert x.dtype == on(backend, b).dtype
    expected = np.linalg.solve(S, b)
    np.testing.assert_allclose(to_numpy(x), expected, rtol=1e-3, atol=1e-3)
    assert array_api_compat.device(x) == F.device


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_least_squares(shape, dtype, backend):
    c = drawn(4, dtype.startswith("complex"))
    for A in (Dense(c(*shape)), LowRank(c(shape[0], 2), c(shape[1], 2))):
        b = c(2, shape[0], 3).astype(dtype)
        x = lstsq(A.astype(dtype).to(backend), on(backend, b))
        close(x, np.linalg.pinv(A.to_dense(), rcond=1e-9) @ b, dtype)
        assert x.dtype == on(backend, b).dtype
        assert array_api_compat.device(x) == array_api_compat.device(on(backend, b))


@pytest.mark.parametrize("kind", KINDS)
def test_factorizations_move_and_are_copied(kind, backend):
    A, S = built(kind, "float64")
    F = factorize(A, shift=SHIFT).to(backend)
    b = on(backend, np.ones(S.shape[0]))
    x = F @ b
    close(x, np.linalg.solve(S, np.ones(S.shape[0])), "float64")
    for same in (pickle.loads(pickle.dumps(F)), copy.deepcopy(F), copy.copy(F)):
        assert same.xp is F.xp
        assert same.method == F.method
        np.testing.assert_array_equal(to_numpy(same @ b), to_numpy(x))
    back = F.to("numpy")
    close(back @ np.ones(S.shape[0]), to_numpy(x), "float64")


def test_other_libraries_are_refused(backend):
    other = "torch" if backend != "torch" else "array_api_strict"
    A = LowRank(np.ones((4, 1)), np.ones((4, 1)))
    F = factorize(A.to(backend), shift=1.0)
    b = on(other, np.ones(4))
    for call in (F.solve, F.solve_adjoint, F.matvec, lambda b: F @ b, lambda b: solve(F.matrix, b)):
        with pytest.raises(BackendError, match=rf"meets a matrix on {backend}; move one of them"):
            call(b)
    for structured in (A.to(other), Diagonal(b)):
        with pytest.raises(BackendError, match="expected one library and one device"):
            F.solve(structured)


def test_results_are_the_same_each_time(backend):
    A, S = built("sum", "float64")
    b = on(backend, np.ones(S.shape[0]))
    first, second = (to_numpy(solve(A.to(backend), b, shift=SHIFT)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_shift_with_a_gradient_needs_a_matrix_on_torch():
    torch = pytest.importorskip("torch")
    shift = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(BackendError, match="takes part in gradients"):
        factorize(Diagonal([1.0, 2.0]), shift=shift)
    assert factorize(Diagonal([1.0, 2.0]), shift=shift.detach()).solve([2.0, 3.0]).tolist() == [
        1,
        1,
    ]


def test_only_cupy_has_operators_of_cupy(backend):
    F = factorize(Dense(on(backend, np.eye(2))))
    with pytest.raises(BackendError, match=f"the contents are on {backend}; expected cupy"):
        F.to_cupyx()
    assert structmat.factorize(F.matrix).shape == (2, 2)
