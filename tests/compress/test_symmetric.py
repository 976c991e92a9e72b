"""compress(…, symmetric=True): half of the storage, and Hermitian to the methods that need it."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, cg, eigsh, lobpcg

import structmat
from structmat import Dense, Entries, InputError, KernelMatrix, compare, compress
from structmat.compress.hermitian import FORMS
from structmat.demo import earthquake_kernel
from structmat.errors import BudgetError, ToleranceError

KINDS = sorted(FORMS)
QUICK = [kind for kind in KINDS if kind != "gblr"]


def hermitian(n, dtype="float64", seed=0):
    """A Hermitian matrix that all kinds approximate."""
    x = np.sort(np.random.default_rng(seed).random(n))
    D = np.exp(-np.abs(x[:, None] - x) * 3)
    if dtype.startswith("complex"):
        D = D * np.exp(2j * (x[:, None] - x))
    return D.astype(dtype)


def check(A, result, *, budget=None, tol=None):
    B = result.matrix
    dense = B.toarray()
    eps = np.finfo(dense.dtype).eps
    assert B.hermitian
    assert B.H is B
    np.testing.assert_allclose(dense, dense.conj().T, atol=40 * eps * np.abs(dense).max())
    size = np.linalg.norm(A)
    assert np.linalg.norm(A - dense) <= (result.estimate.bound + 100 * eps) * size
    assert result.cost == B.cost
    if budget is not None:
        assert result.cost <= budget * A.size
    if tol is not None:
        assert result.estimate.bound <= tol
    # Diagonals, of which both triangles share one, are stored whole.
    assert result.storage <= 0.62 * result.cost + 2 * len(A)


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
@pytest.mark.parametrize("kind", QUICK)
def test_half_of_the_storage_under_a_budget_and_to_a_tolerance(kind, dtype):
    A = hermitian(96, dtype)
    for goal in ({"budget": 0.3}, {"tol": 1e-2}):
        check(A, compress(A, kind, symmetric=True, rng=0, **goal), **goal)


@pytest.mark.parametrize("goal", [{"budget": 0.3}, {"tol": 1e-2}], ids=str)
def test_gblr_stores_half(goal):
    A = hermitian(48, "complex128")
    check(A, compress(A, "gblr", symmetric=True, rng=0, **goal), **goal)


@pytest.mark.parametrize("kind", KINDS)
def test_at_equal_cost_it_is_nearly_as_close(kind):
    """On the earthquakes, at equal cost; at equal storage it is closer."""
    A = earthquake_kernel(96)
    plain = compress(A, kind, budget=0.3, rng=0)
    half = compress(A, kind, budget=0.3, symmetric=True, rng=0)
    # Blocks of GBLR that lie across the diagonal are taken twice.
    assert half.error <= (16 if kind == "gblr" else 1.6) * plain.error
    less = compress(A, kind, budget=0.3 * half.storage / plain.storage, rng=0)
    assert half.error <= less.error


@pytest.mark.parametrize("n", [1, 2, 7, 31])
@pytest.mark.parametrize("kind", KINDS)
def test_small_sizes(kind, n):
    A = hermitian(n)
    check(A, compress(A, kind, tol=1e-6, symmetric=True, rng=0), tol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_at_all(kind):
    assert compress(np.zeros((0, 0)), kind, tol=0.1, symmetric=True).matrix.shape == (0, 0)
    found = compress(np.zeros((8, 8)), kind, tol=0.1, symmetric=True).matrix
    assert (found.cost, found.hermitian) == (0, True)


@pytest.mark.parametrize("kind", ["low_rank", "block_low_rank", "hierarchical"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_operators_with_products_alone(kind, dtype):
    A = hermitian(150, dtype)
    products = LinearOperator(A.shape, matvec=lambda x: A @ x, matmat=lambda X: A @ X, dtype=dtype)
    result = compress(products, kind, tol=1e-3, symmetric=True, rng=0)
    check(A, result, tol=1e-3)
    assert result.products > 0


def test_operators_are_stored_whole_in_kinds_without_a_form():
    A = hermitian(64)
    products = LinearOperator(A.shape, matvec=lambda x: A @ x, matmat=lambda X: A @ X, dtype=float)
    assert compress(products, "monarch", budget=0.5, symmetric=True, rng=0).error < 0.5


def test_complex_symmetric_operators_need_no_adjoint_and_are_stored_whole():
    A = hermitian(64) * (1 + 1j)
    products = LinearOperator(
        A.shape, matvec=lambda x: A @ x, matmat=lambda X: A @ X, dtype=complex
    )
    assert not compress(products, "low_rank", tol=1e-2, symmetric=True, rng=0).matrix.hermitian


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [12, 300])
def test_sources(kind, n):
    """Small ones are formed in the order of their points, which the result has around it."""
    points = np.random.default_rng(1).random((n, 2))
    K = KernelMatrix(points, "exponential")
    goal = {"budget": 0.4} if kind in ("block_sparse", "low_rank") else {"tol": 1e-2}
    result = compress(K, kind, symmetric=True, rng=0, **goal)
    check(K.to_dense(), result, **goal)


def test_what_is_not_hermitian_is_refused_with_the_difference():
    A = hermitian(16)
    A[3, 5] += 1.0
    with pytest.raises(InputError, match=r"differs from its adjoint by 0\.\d+"):
        compress(A, "low_rank", tol=0.1, symmetric=True)
    with pytest.raises(InputError, match="adjoint"):
        compress(1j * hermitian(16), "low_rank", tol=0.1, symmetric=True)
    with pytest.raises(InputError, match="square"):
        compress(A[:, :9], "low_rank", tol=0.1, symmetric=True)
    with pytest.raises(InputError, match="not known to be Hermitian"):
        compress(Entries(lambda i, j: A[np.ix_(i, j)], A.shape), tol=0.1, symmetric=True)
    rounded = hermitian(16) * (1 + 1e-16 * np.random.default_rng(0).random((16, 16)))
    assert compress(rounded, "low_rank", tol=0.1, symmetric=True).matrix.hermitian


def test_kinds_without_a_form_are_refused():
    with pytest.raises(InputError, match="low_rank"):
        compress(hermitian(16), "monarch", budget=0.5, symmetric=True)
    rows = compare(hermitian(32), budget=0.4, symmetric=True, rng=0)
    for row in rows:
        assert (row.matrix is None) == (row.kind not in FORMS)
        assert row.matrix is None or row.matrix.hermitian


@pytest.mark.parametrize("kind", QUICK)
def test_a_budget_below_dense_diagonals(kind):
    A = hermitian(64)
    if kind == "block_low_rank":
        # Its tiles on the diagonal cost more; low rank stands in for it.
        assert compress(A, kind, budget=0.05, symmetric=True).matrix.kind == "hermitian_low_rank"
    assert compress(A, kind, budget=0.05, symmetric=True, rng=0).cost <= 0.05 * A.size


@pytest.mark.parametrize("kind", KINDS)
def test_solvers_converge_to_their_own_accuracy(kind):
    """Plain approximations are symmetric up to their errors alone."""
    K = earthquake_kernel(96)
    A = compress(K, kind, tol=3e-2, symmetric=True, rng=0).matrix
    D = A.toarray()
    # Truncation may make eigenvalues negative.
    shift = 0.1 - min(np.linalg.eigvalsh(D)[0], 0.0)
    y = np.sin(np.arange(96.0))
    x, info = cg(A + shift * structmat.Identity(96), y, rtol=1e-10, maxiter=2000)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(D + shift * np.eye(96), y), rtol=1e-6, atol=1e-8)
    largest = np.linalg.eigvalsh(D)[::-1][:3]
    values = eigsh(A, k=3, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values)[::-1], largest, rtol=1e-9)
    start = np.random.default_rng(0).standard_normal((96, 3))
    values, _ = lobpcg(A, start, tol=1e-8, maxiter=500)
    np.testing.assert_allclose(values, largest, rtol=1e-9)


def test_it_is_saved_and_moved(tmp_path):
    A = compress(hermitian(48), "gblr", tol=1e-2, symmetric=True, rng=0).matrix
    B = compress(hermitian(48), "low_rank", tol=1e-1, symmetric=True, rng=0).matrix
    for number, matrix in enumerate((A, B)):
        structmat.save(tmp_path / f"{number}.npz", matrix)
        again = structmat.load(tmp_path / f"{number}.npz")
        assert again.kind == matrix.kind
        assert again.hermitian
        np.testing.assert_array_equal(again.toarray(), matrix.toarray())


def test_tensors_give_tensors():
    torch = pytest.importorskip("torch")
    result = compress(torch.tensor(hermitian(48)), "low_rank", tol=1e-2, symmetric=True)
    assert isinstance(result.matrix.U, torch.Tensor)
    assert result.matrix.hermitian


@given(
    st.sampled_from(QUICK), st.integers(1, 40), st.sampled_from([0.05, 0.3, 1.0]),
    st.booleans(), st.sampled_from(["float64", "complex128"]), st.integers(0, 2**16),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_hermitian_matrix(kind, n, share, by_tol, dtype, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n))
    if dtype == "complex128":
        X = X + 1j * rng.standard_normal((n, n))
    A = (X + X.conj().T) * np.exp(-0.2 * np.abs(np.subtract.outer(np.arange(n), np.arange(n))))
    goal = {"tol": share} if by_tol else {"budget": share}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the result is the zero matrix")
            result = compress(A, kind, symmetric=True, rng=0, **goal)
    except (BudgetError, ToleranceError):
        return
    B = result.matrix
    assert B.hermitian
    assert result.cost <= (math.inf if by_tol else share * n * n)
    assert np.linalg.norm(A - B.toarray()) <= (result.error + 1e-13) * np.linalg.norm(A)
    assert isinstance(B + Dense(A), structmat.StructuredMatrix)
