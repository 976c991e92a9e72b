"""Factorizations against dense solves: values, errors, adjoints, pickles, refusals."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

import structmat
from structmat import (
    GBLR,
    Dense,
    Diagonal,
    Identity,
    LowRank,
    Monarch,
    Permutation,
    SolveError,
    factorize,
    kinds,
    logdet,
    solve,
)
from structmat.solvers.verify import column_norms

N = 30


def rng():
    return np.random.default_rng(1)


def thin(rank=3, dtype=np.float64):
    values = rng().standard_normal((2, N, rank))
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng().standard_normal((2, N, rank))[:, ::-1]
    return values.astype(dtype)


def low_rank(dtype=np.float64):
    return LowRank(*thin(dtype=dtype))


def some(kind):
    """A matrix and a shift."""
    order = rng().permutation(N)
    return {
        "low rank": lambda: (low_rank(), 0.5),
        "low rank, complex": lambda: (low_rank(np.complex128), 0.5 - 1j),
        "low rank, complex shift": lambda: (low_rank(), 0.5j),
        "gram": lambda: (LowRank(thin()[0], thin()[0]), 0.1),
        "plus diagonal": lambda: (low_rank() + Diagonal(rng().uniform(1, 2, N)), 0.25),
        "plus permutation": lambda: (low_rank() + Permutation(order), 0.0),
        "twice": lambda: (low_rank() - 2 * low_rank() + Identity(N), 0.0),
        "dense": lambda: (Dense(rng().standard_normal((N, N))), 0.0),
        "permutation": lambda: (Permutation(order), 0.0),
        "permutation, shift": lambda: (Permutation(order), 1.5),
        "identity": lambda: (Identity(N), 1.0),
        "multiple": lambda: (3j * Identity(N), -1.0),
        "diagonal": lambda: (Diagonal(rng().uniform(1, 2, N)), -3.0),
        "scaled": lambda: (structmat.matrices.Scaled(low_rank(), 2.0), 1.0),
        "scaled by zero": lambda: (structmat.matrices.Scaled(low_rank(), 0.0), 1.0),
        "adjoint": lambda: (structmat.matrices.Adjoint(low_rank(np.complex128)), 1.0j),
        "monarch": lambda: (Monarch(*rng().standard_normal((2, 5, 6, 6))), 1.0),
    }[kind]()


KINDS = [
    "low rank", "low rank, complex", "low rank, complex shift", "gram", "plus diagonal",
    "plus permutation", "twice", "dense", "permutation", "permutation, shift", "identity",
    "multiple", "diagonal", "scaled", "scaled by zero", "adjoint", "monarch",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_a_dense_solve(kind):
    A, shift = some(kind)
    S = A.to_dense() + shift * np.eye(N)
    b = rng().standard_normal((N, 2))
    F = factorize(A, shift=shift)
    np.testing.assert_allclose(F.matrix.to_dense(), S, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(S, b), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(F.solve(b[:, 0]), np.linalg.solve(S, b[:, 0]), rtol=1e-9, atol=1e-9)
    for turned, dense in ((F.H, S.conj().T), (F.T, S.T), (F.conj(), S.conj()), (F.T.H, S.conj())):
        np.testing.assert_allclose(turned @ b, np.linalg.solve(dense, b), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(turned.matrix.to_dense(), dense, rtol=1e-13, atol=1e-13)
        found, expected = turned.logdet(), np.linalg.slogdet(dense)
        assert abs(found.sign - expected.sign) < 1e-9
        assert abs(found.logabsdet - expected.logabsdet) < 1e-8
        assert found.error == 0
    np.testing.assert_array_equal(F.H.H @ b, F @ b)
    np.testing.assert_allclose(b.T @ F, b.T @ np.linalg.inv(S), rtol=1e-9, atol=1e-9)
    restored = pickle.loads(pickle.dumps(F))
    np.testing.assert_array_equal(restored @ b, F @ b)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex64])
def test_single_precision_is_refined(dtype):
    A = LowRank(thin()[0].astype(dtype), thin()[0].astype(dtype))
    b = rng().standard_normal(N).astype(np.float32)
    found = factorize(A, shift=1e-3).solution(b)
    assert found.x.dtype == (np.complex64 if dtype == np.complex64 else np.float32)
    assert found.backward_error < 1e-6
    S = A.astype(found.x.dtype).to_dense() + 1e-3 * np.eye(N)
    assert np.linalg.norm(b - S @ found.x) < 2e-3 * np.linalg.norm(b)
    wide = factorize(A, shift=1e-3).solution(b.astype(np.float64))
    assert wide.x.dtype == (np.complex128 if dtype == np.complex64 else np.float64)


@pytest.mark.parametrize(
    "shape", [(N,), (N, 0), (N, 1), (N, 3), (2, N, 3), (0, N, 2), (2, 2, N, 1)]
)
def test_right_hand_sides(shape):
    F = factorize(low_rank(), shift=1.0)
    S = F.matrix.to_dense()
    b = rng().standard_normal(shape)
    x = F.solve(b)
    assert x.shape == b.shape
    np.testing.assert_allclose(S @ x, b, rtol=1e-10, atol=1e-10)
    y = F.solve_adjoint(b)
    np.testing.assert_allclose(S.T @ y, b, rtol=1e-10, atol=1e-10)


def test_right_hand_sides_of_other_types():
    F = factorize(low_rank(), shift=1.0)
    S = F.matrix.to_dense()
    np.testing.assert_allclose(S @ F.solve(np.arange(N)), np.arange(N), atol=1e-10)
    np.testing.assert_allclose(S @ F.solve(list(range(N))), np.arange(N), atol=1e-10)
    sparse = scipy.sparse.eye_array(N).tocsr()
    np.testing.assert_allclose(F.solve(sparse), np.linalg.inv(S), atol=1e-10)
    np.testing.assert_allclose(F.solve(Identity(N)), np.linalg.inv(S), atol=1e-10)
    X = F.solve(low_rank())
    assert isinstance(X, LowRank)
    np.testing.assert_allclose(S @ X.to_dense(), low_rank().to_dense(), atol=1e-10)
    z = 1j * np.arange(N)
    np.testing.assert_allclose(S @ F.solve(z), z, atol=1e-10)


@pytest.mark.parametrize(
    "wrap", [list, np.asarray, scipy.sparse.csr_array, scipy.sparse.linalg.aslinearoperator]
)
def test_matrices_of_other_types(wrap):
    A = np.diag([2.0, 4.0]) + np.eye(2)[::-1]
    x = solve(wrap(A.tolist() if wrap is list else A), np.ones(2))
    np.testing.assert_allclose(x, np.linalg.solve(A, np.ones(2)))


@pytest.mark.parametrize("n", [0, 1])
def test_small_sizes(n):
    one = np.ones(n, int)
    blocks = GBLR(0 * one, one, np.ones(n), 0 * one, one, np.ones(n), shape=(n, n))
    np.testing.assert_allclose(solve(blocks, np.ones(n)), np.ones(n))
    for A in (Dense(np.ones((n, n))), LowRank(np.ones((n, 1)), np.ones((n, 1))), Identity(n)):
        F = factorize(A, shift=1.0)
        np.testing.assert_allclose(F.solve(np.ones(n)), np.full(n, 0.5))
        assert F.solve(np.ones((n, 0))).shape == (n, 0)
        assert abs(float(F.logdet()) - n * np.log(2)) < 1e-12


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (
            LowRank(np.ones((N, 1)), np.ones((N, 1))),
            "rank of 1 at most, so it is singular",
        ),
        (LowRank(np.ones((N, 1)), -np.ones((N, 1))) + N * Identity(N), "singular"),
        (Diagonal(np.arange(N) - 2.0), "entry 2 of the diagonal is zero"),
        (Dense(np.ones((N, N))), "singular"),
        (Dense(np.diag(np.arange(N) * 1.0)), "row 0 is zero"),
        (0 * Identity(N), "entry 0 of the diagonal"),
        (Dense(1 / (np.arange(N)[:, None] + np.arange(N) + 1.0)), "numerically singular"),
    ],
)
def test_singular_matrices_raise(A, message):
    with pytest.raises(SolveError, match=message):
        solve(A, np.ones(N))
    with pytest.raises(np.linalg.LinAlgError, match=message):
        logdet(A)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: solve(low_rank(), np.full(N, np.nan), shift=1), structmat.InputError, "column 0"),
        (lambda: solve(low_rank(), np.ones(N - 1), shift=1), structmat.ShapeError, "expected"),
        (lambda: solve(low_rank(), 1.0, shift=1), structmat.ShapeError, "shape"),
        (lambda: solve(low_rank(), np.ones(N), shift=np.inf), structmat.InputError, "shift = inf"),
        (lambda: solve(low_rank(), np.ones(N), shift="1"), structmat.InputError, "shift = '1'"),
        (lambda: solve(low_rank(), np.ones(N), tol=0), structmat.InputError, "tol = 0"),
        (lambda: solve(low_rank()[:, :3], np.ones(N)), structmat.ShapeError, "30x3 matrix has no"),
        (lambda: solve(Diagonal([np.nan]), np.ones(1)), structmat.InputError, "d of .* has a NaN"),
        (lambda: solve(np.ones((2, 2, 2)), np.ones(2)), structmat.ShapeError, "expected a matrix"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_it_preconditions():
    A = LowRank(thin()[0], thin()[0]) + Diagonal(np.linspace(1, 2, N))
    F = factorize(LowRank(thin()[0], thin()[0]), shift=1.5)
    b = rng().standard_normal(N)
    options = {"gmres": {"callback_type": "pr_norm"}, "cg": {}}
    for name, option in options.items():
        steps = []
        method = getattr(scipy.sparse.linalg, name)
        x, info = method(A, b, M=F, rtol=1e-10, callback=steps.append, **option)
        assert info == 0
        assert len(steps) < N
        np.testing.assert_allclose(A @ x, b, atol=1e-8)


def test_a_solve_that_misses_the_tolerance_raises():
    F = factorize(low_rank(), shift=1.0)
    F.matrix = F.matrix + Dense(0.1 * rng().standard_normal((N, N)))
    with pytest.raises(SolveError, match="woodbury: backward error"):
        F.solve(np.ones(N))


def test_a_logarithm_of_a_negative_determinant_is_refused():
    found = logdet(Diagonal([1.0, -2.0]))
    assert found[:2] == (-1, np.log(2))
    with pytest.raises(SolveError, match=r"sign -1\.0"):
        float(found)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200])
def test_sizes_of_right_hand_sides_do_not_matter(size):
    F = factorize(low_rank(), shift=1.0)
    b = size * np.ones((N, 2))
    b[:, 1] = 0
    found = F.solution(b)
    assert found.backward_error < (1e-2 if size < 1e-300 else 1e-12)
    assert not found.x[:, 1].any()
    assert found.x[:, 0].any()


def test_refinement_is_counted(monkeypatch):
    F = factorize(Dense(rng().standard_normal((N, N))), tol=1e-12)
    b = np.ones(N)
    assert F.solution(b).iterations == 0
    exact = F._solve
    monkeypatch.setattr(F, "_solve", lambda b: exact(b) * (1 + 1e-4))
    found = F.solution(b)
    assert found.iterations == 2
    assert found.backward_error < 1e-12


class _Near(structmat.Factorization):
    """Solves with a diagonal that is off by a share of 1e-3."""

    method = "near"

    def _solve(self, b):
        return b / (1.001 * self.matrix.d[:, None])

    _solve_adjoint = _solve

    def _logdet(self):
        return NotImplemented


def test_refinement_aims_at_the_residual():
    # A large norm makes the backward error small at once.
    F = _Near(structmat.Diagonal([1e9, 1.0]), 1e-8)
    found = F.solution(np.array([0.0, 1.0]))
    assert found.residual <= 1e-8
    assert found.iterations == 2


def test_a_registered_kind_brings_its_own_methods(monkeypatch):
    """Each is asked in turn; NotImplemented goes on to the next, and last to dense factors."""
    asked = []

    def decline(A, shift, tol):
        asked.append((A.kind, shift, tol))
        return NotImplemented

    record = kinds.kind_record("monarch")
    A, b = Monarch(*rng().standard_normal((2, 5, 5, 5))), np.ones(25)
    monkeypatch.setitem(
        kinds.registry._KINDS, "monarch", replace(record, factorize=(decline, decline))
    )
    assert factorize(A, shift=2, tol=1e-6).method == "dense"
    assert asked == [("monarch", 2.0, 1e-6)] * 2
    own = factorize(Dense(A.to_dense()))
    monkeypatch.setitem(
        kinds.registry._KINDS, "monarch", replace(record, factorize=(decline, lambda *_: own))
    )
    assert factorize(A) is own
    np.testing.assert_allclose(A @ solve(A, b), b)


@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_and_columns_of_uneven_sizes_are_balanced(symmetric):
    M, scale = rng().standard_normal((N, N)), 10.0 ** rng().uniform(-70, 70, N)
    M = M @ M.T + np.eye(N) if symmetric else M
    S = scale[:, None] * M * scale
    F = factorize(Dense(S))
    assert 1 / F.factors.rcond < 1e6
    x = F.solve(scale * (M @ np.ones(N)))
    np.testing.assert_allclose(scale * x, np.ones(N), rtol=1e-8)
    expected = np.linalg.slogdet(M)
    found = F.logdet()
    assert abs(found.sign - expected.sign) < 1e-12
    assert abs(found.logabsdet - expected.logabsdet - 2 * np.log(scale).sum()) < 1e-6


def test_symmetric_arrays_take_cholesky():
    M = rng().standard_normal((N, N))
    assert type(factorize(Dense(M @ M.T)).factors).__name__ == "_Cholesky"
    assert type(factorize(Dense(M + M.T)).factors).__name__ == "_Lu"


def test_tiny_right_hand_sides_of_single_precision_matrices():
    F = factorize(LowRank(*thin(dtype=np.float32)), shift=1.0)
    b = rng().standard_normal(N)
    np.testing.assert_allclose(F.solve(1e-60 * b), 1e-60 * F.solve(b), rtol=1e-4)


@pytest.mark.parametrize("order", [[1, 0, 2], [1, 2, 0], [3, 2, 1, 0], [1, 0, 3, 2, 4]])
def test_permutations_have_a_sign(order):
    P = Permutation(order)
    assert logdet(P)[:2] == (np.linalg.det(P.to_dense()).round(), 0.0)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_norms_neither_overflow_nor_vanish(size):
    found = column_norms(np.array([[3.0, 0.0], [4.0, 0.0]]) * size, np)
    np.testing.assert_allclose(found, [5.0 * size, 0.0], rtol=1e-14)


def test_the_inverse_as_an_array(monkeypatch):
    S = np.array([[2.0, 1.0], [0.0, 4.0]])
    F = structmat.factorize(structmat.Dense(S))
    inverse = np.linalg.inv(S)
    np.testing.assert_allclose(np.asarray(F), inverse)
    assert np.asarray(F, dtype="float32").dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(F), np.linalg.norm(inverse))
    np.testing.assert_allclose(scipy.sparse.eye_array(2).tocsr() @ F @ np.ones(2), inverse.sum(1))
    large = structmat.factorize(structmat.Diagonal(np.ones(2**13 + 1)))
    for call in (np.asarray, np.linalg.norm, lambda G: np.asarray(F, copy=False)):
        with pytest.raises(structmat.InputError, match="expected at most 67108864 entries"):
            call(large)


def test_notebooks_show_what_is_solved_and_how_well():
    A = structmat.LowRank(np.ones((30, 2)), np.ones((30, 2)))
    F = structmat.factorize(A, shift=1.0)
    html = F._repr_html_()
    for told in ("woodbury", "kind of S", "30 x 30", f"({F.matrix.relative_cost:.2%} of dense)"):
        assert told in html
    assert html.count("<svg") == 1
    assert "backward error" in F.solution(np.ones(30))._repr_html_()
    assert "none beside rounding" in F.logdet()._repr_html_()
    guess = structmat.LogDeterminant(-1.0 + 0j, 2.5, 0.1)._repr_html_()
    assert "0.1 (standard error)" in guess
    assert "-1+0j" in guess
