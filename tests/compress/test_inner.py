"""Errors of sparse and implicit inputs: few products, and the same value as all entries."""

import numpy as np
import pytest
import scipy.sparse
from cases import build, random_gblr
from cases import contents as contents_of
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import structmat
from structmat.compress import source
from structmat.compress.inner import factors_of


def decaying(n=60, dtype="float64"):
    """A matrix whose singular values fall slowly."""
    c = contents_of(dtype, 2)
    U, V = np.linalg.qr(c(n, n))[0], np.linalg.qr(c(n, n))[0]
    return (U * 0.9 ** np.arange(n)) @ V.conj().T


def counted(A):
    """An operator that counts the columns of its products."""
    columns = []

    def matmat(X):
        columns.append(X.shape[1])
        return A @ X

    return LinearOperator(
        A.shape, matvec=lambda x: A @ x, matmat=matmat, dtype=A.dtype,
        rmatvec=lambda x: A.conj().T @ x, rmatmat=lambda X: A.conj().T @ X,
    ), columns  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("given", ["sparse", "operator"])
@pytest.mark.parametrize("kind", ["low_rank", "gblr"])
def test_the_error_is_that_of_all_entries(kind, given, dtype):
    D = decaying(dtype=dtype).astype(dtype)
    D[np.abs(D) < 0.02] = 0
    A = aslinearoperator(scipy.sparse.csr_array(D)) if given == "sparse" else counted(D)[0]
    result = structmat.compress(A, kind, budget=0.3, rng=0, measure="exact")
    B = result.matrix.toarray().astype("complex128")
    expected = np.linalg.norm(D - B) / np.linalg.norm(D)
    assert result.error == pytest.approx(
        expected, rel=1e-4 if dtype.endswith(("32", "64")) else 1e-9
    )


def test_an_operator_takes_n_products_for_its_norm_alone():
    A, columns = counted(decaying(400))
    made = source.source_of(A)
    made.norm()
    data = made.data
    assert sum(columns) == 400
    columns.clear()
    c = contents_of("float64")
    B = structmat.LowRank(c(400, 3), c(400, 3))
    error = source.residual(data, B)
    assert sum(columns) == 3
    assert error == pytest.approx(np.linalg.norm(decaying(400) - B.toarray()), rel=1e-10)


def test_a_sparse_matrix_takes_no_products_with_unit_vectors(monkeypatch):
    S = scipy.sparse.random_array((300, 200), density=0.05, rng=1, format="coo")
    made = source.source_of(aslinearoperator(S))
    data = made.data
    monkeypatch.setattr(data, "_times", None)
    assert made.norm() == pytest.approx(np.linalg.norm(S.toarray()))
    B = random_gblr(300, 200, 20, 3)(contents_of("float64"))[0]
    error = source.residual(data, B)
    assert error == pytest.approx(np.linalg.norm(S.toarray() - B.toarray()), rel=1e-10)


def test_entries_tell_where_inner_products_would_cancel():
    D = build("low_rank", "float64")[0].toarray()
    A, columns = counted(D)
    made = source.source_of(A)
    made.norm()
    data = made.data
    U, s, Vh = np.linalg.svd(D, full_matrices=False)
    columns.clear()
    near = structmat.LowRank((U * s)[:, :2] * (1 + 1e-9), Vh[:2].T)
    error = source.residual(data, near)
    assert sum(columns) >= D.shape[1]
    assert error == pytest.approx(1e-9 * np.linalg.norm(D), rel=1e-3)


@pytest.mark.parametrize("name", ["low_rank", "gblr", "gblr-prime", "gblr-no-blocks"])
def test_factors_are_those_of_the_matrix(name):
    A, twin = build(name, "complex128")
    U, V = factors_of(A)
    np.testing.assert_allclose(np.asarray((U @ V.conj().T) @ np.eye(A.shape[1])), twin, atol=1e-12)


def test_entries_tell_where_a_structure_has_no_factors():
    D = decaying(20)
    made = source.source_of(aslinearoperator(D))
    made.norm()
    data = made.data
    B = structmat.Diagonal(np.diag(D))
    assert factors_of(B) is None
    assert source.residual(data, B) == pytest.approx(np.linalg.norm(D - B.toarray()))


def test_large_sparse_matrices_are_measured_in_seconds():
    S = scipy.sparse.random_array((20_000, 10_000), density=2e-5, rng=0)
    result = structmat.compress(S, "low_rank", budget=0.0005, rng=0)
    assert 0 < result.error <= 1
    with pytest.raises(structmat.InputError, match="NaN or infinity"):
        structmat.compress(S * np.inf, "low_rank", budget=0.0005)


def test_sums_of_duplicates_are_entries():
    S = scipy.sparse.coo_array(([1.0, 1.0], ([0, 0], [0, 0])), shape=(2, 2))
    assert source.source_of(aslinearoperator(S)).norm() == 2
    assert S.nnz == 2
