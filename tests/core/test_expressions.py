"""A closed algebra: random expressions of all kinds and dtypes, against dense ones."""

import math

import numpy as np
import pytest
from expressions import Draw, kinds_in
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat
from structmat.kinds import all_kinds


def near(got, expected, sizes, eps, what):
    got = np.asarray(got)
    assert got.dtype != object, what
    assert got.shape == np.shape(expected), what
    # Sums of some tens of terms, a few roundings each, and the smallest numbers.
    bound = 300 * eps * sizes + 1e-30
    assert (np.abs(got - expected) <= bound).all(), f"{what}: {np.abs(got - expected).max()}"


def check(e, rng):
    """Every product and entry of an expression, its dtype, its cost, and what it is made of."""
    A, D, T, eps = e.matrix, e.dense, e.sizes, max(e.eps, 1e-15)
    assert isinstance(A, structmat.StructuredMatrix), type(A)
    assert A.shape == D.shape
    assert A.neutral or e.dtype is None or A.dtype == e.dtype, (A.dtype, e.dtype)
    assert A.cost <= e.cost, (A.cost, e.cost)
    assert e.fills or not {"dense", "operator", "entries", "kernel"} & kinds_in(A)
    m, n = A.shape
    x, X, Y = (rng.standard_normal(size) for size in (n, (n, 3), (2, m)))
    z = rng.standard_normal(m) + 1j * rng.standard_normal(m)
    near(A @ x, D @ x, T @ np.abs(x), eps, "A @ x")
    near(A @ X, D @ X, T @ np.abs(X), eps, "A @ X")
    near(Y @ A, Y @ D, np.abs(Y) @ T, eps, "Y @ A")
    near(A.H @ z, D.conj().T @ z, T.T @ np.abs(z), eps, "A.H @ z")
    near(A.rmatvec(z), D.conj().T @ z, T.T @ np.abs(z), eps, "rmatvec")
    near(A.to_dense(), D, T, eps, "to_dense")
    near(A.diagonal(), np.diagonal(D), np.diagonal(T), eps, "diagonal")
    near(A.trace(), np.trace(D), np.trace(T), eps, "trace")
    if m * n:
        i, j = rng.integers(0, m, 5), rng.integers(0, n, 5)
        near(A[i, j], D[i, j], T[i, j], eps, "entries")
        near(A[int(i[0])], D[i[0]], T[i[0]], eps, "row")
        near(A[:, int(j[0])], D[:, j[0]], T[:, j[0]], eps, "column")
        near(A[::-1, 1:].toarray(), D[::-1, 1:], T[::-1, 1:], eps, "slice")
        for ord in ("fro", 1, math.inf, 2):
            size = np.linalg.norm(T) * max(m, n)
            near(A.norm(ord), np.linalg.norm(D, ord), size, eps, f"norm {ord}")


def run(seed, depth):
    draw = Draw(seed)
    e = draw.expression((draw.size(), draw.size()), depth)
    try:
        check(e, draw.rng)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, depth {depth}: {e.matrix!r} of {e.text}") from error


def test_every_kind_is_met():
    draw, met = Draw(0), set()
    for _ in range(150):
        met |= kinds_in(draw.expression((4, 4), 2).matrix)
    assert met == {kind.name for kind in all_kinds() if kind.matrix is not None}


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(0, 5))
def test_expressions_are_their_dense_twins(seed, depth):
    run(seed, depth)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(st.integers(0, 2**32), st.integers(0, 5))
def test_ten_thousand_expressions(seed, depth):
    run(seed, depth)
