"""Least squares against NumPy's: any shape and rank, least norm, measured errors."""

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

import structmat
from structmat import (
    BlockSparse,
    Dense,
    Diagonal,
    Identity,
    LowRank,
    Monarch,
    Permutation,
    SolveError,
    lstsq,
)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


MATRICES = {
    "tall": lambda: Dense(draw(9, 4)),
    "wide": lambda: Dense(draw(4, 9)),
    "rank deficient": lambda: Dense(draw(8, 3) @ draw(3, 6, seed=1)),
    "complex": lambda: Dense(draw(8, 5) + 1j * draw(8, 5, seed=1)),
    "low rank": lambda: LowRank(draw(9, 3), draw(7, 3, seed=1)),
    "low rank, wide": lambda: LowRank(draw(5, 8), draw(7, 8, seed=1)),
    "low rank, dependent": lambda: LowRank(draw(9, 2)[:, [0, 1, 1]], draw(7, 3, seed=1)),
    "diagonal": lambda: Diagonal([1.0, 2.0, 0.0, -3.0]),
    "zero": lambda: Diagonal(np.zeros(3)),
    "identity": lambda: Identity(4),
    "permutation": lambda: Permutation([2, 0, 1]),
    "blocks": lambda: BlockSparse(draw(2, 2, 3), [0, 1], [1, 0], shape=(4, 6)),
    "square": lambda: Monarch(draw(3, 3, 3), draw(3, 3, 3, seed=1)),
    "square, singular": lambda: Dense(draw(6, 5)) @ Dense(draw(5, 6)),
    "sum": lambda: LowRank(draw(6, 1), draw(4, 1)) + BlockSparse(
        draw(1, 2, 2), [0], [1], shape=(6, 4)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), "batch"])
def test_it_agrees_with_numpy(name, shape):
    A = MATRICES[name]()
    m = A.shape[0]
    b = draw(2, m, 3, seed=7) if shape == "batch" else draw(m, *shape, seed=7)
    x = lstsq(A, b)
    inverse = np.linalg.pinv(A.to_dense(), rcond=1e-12)
    np.testing.assert_allclose(x, inverse @ b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_zero_sizes(shape):
    for A in (Dense(np.zeros(shape)), LowRank(np.zeros((shape[0], 1)), np.zeros((shape[1], 1)))):
        np.testing.assert_array_equal(lstsq(A, np.ones(shape[0])), np.zeros(shape[1]))


def test_other_arguments():
    A = draw(5, 2)
    expected = np.linalg.lstsq(A, np.arange(5.0), rcond=None)[0]
    np.testing.assert_allclose(lstsq(A, range(5)), expected)
    np.testing.assert_allclose(lstsq(A, list(range(5))), expected)
    np.testing.assert_allclose(lstsq(A, Dense(np.arange(5.0)[:, None]))[:, 0], expected)
    single = lstsq(LowRank(A.astype("f"), np.eye(2, dtype="f")), np.arange(5, dtype="f"))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5)
    large = lstsq(A, np.arange(5) * 1e200)
    np.testing.assert_allclose(large, expected * 1e200)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lstsq(Dense(draw(3, 2)), np.ones(2)), structmat.ShapeError, "expected"),
        (lambda: lstsq(Dense(draw(3, 2)), np.full(3, np.inf)), structmat.InputError, "column 0"),
        (lambda: lstsq(Dense([[np.nan]]), np.ones(1)), structmat.InputError, "A of .* has a NaN"),
        (lambda: lstsq(Dense(draw(3, 2)), np.ones(3), tol=2), structmat.InputError, "tol = 2"),
        (lambda: lstsq(3, np.ones(3)), structmat.InputError, "A is a int"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_large_matrices_take_steps(monkeypatch):
    monkeypatch.setattr("structmat.solvers.least_squares.DENSE_ROWS", 2)
    A = BlockSparse(draw(6, 2, 2), [0, 1, 2, 2, 3, 4], [0, 1, 0, 2, 1, 2], shape=(10, 6))
    b = draw(10, 2, seed=3)
    expected = np.linalg.lstsq(A.to_dense(), b, rcond=None)[0]
    np.testing.assert_allclose(lstsq(A, b, tol=1e-12), expected, rtol=1e-8)


def test_a_solution_that_misses_the_tolerance_raises(monkeypatch):
    wrong = lambda A: lambda b: np.zeros((A.shape[1], b.shape[1]))  # noqa: E731
    monkeypatch.setattr("structmat.solvers.least_squares._by_dense_form", wrong)
    with pytest.raises(SolveError, match="least squares with"):
        lstsq(Dense(draw(3, 2)), np.ones(3))


@pytest.mark.parametrize("way", [structmat.lstsq, structmat.solve])
def test_entries_that_are_not_finite_are_named(way, capfd):
    """LAPACK would write to standard error, and a row of NaN would count as zero."""
    operator = aslinearoperator(np.full((3, 3), np.nan))
    large = np.full((3, 2), 1e200)
    for A in (Identity(3) + operator, LowRank(large, large) + Identity(3)):
        with pytest.raises(SolveError, match="have a NaN or an infinity"):
            way(A, np.ones(3))
    assert not capfd.readouterr().err
