"""Block-diagonal matrices and Kronecker products of low-rank ones: exact, and never formed."""

import tracemalloc

import numpy as np
import pytest

import structmat
from structmat import BlockLowRank, Diagonal, Identity, LowRank, factorize


def thin(rng, m, rank, *, n=None):
    return LowRank(rng.standard_normal((m, rank)), rng.standard_normal((n or m, rank)))


def blocks_of(rng, sizes):
    return structmat.block_diag(*(thin(rng, size, 1 + i % 3) for i, size in enumerate(sizes)))


THIN_BLOCKS = {
    "two tiles": (lambda rng: blocks_of(rng, [150, 150]), 0.5, "block diagonal"),
    "complex shift": (lambda rng: blocks_of(rng, [150, 90]), 0.5 + 1j, "block diagonal"),
    "many tiles": (lambda rng: blocks_of(rng, range(30, 90, 5)), 0.5, "block diagonal"),
    "beside a diagonal": (
        lambda rng: blocks_of(rng, [80] * 7) + Diagonal(rng.uniform(1, 2, 560)), 0.25,
        "block diagonal",
    ),
    "beside an identity": (
        lambda rng: blocks_of(rng, [200, 90, 60]) + 2 * Identity(350), 0.0, "block diagonal",
    ),
    "single precision": (
        lambda rng: blocks_of(rng, [150, 90]).astype("float32"), 0.5, "block diagonal",
    ),
    "one tile": (
        lambda rng: BlockLowRank(
            {(0, 0): (rng.standard_normal((90, 2)), rng.standard_normal((90, 2)))},
            row_sizes=[90], col_sizes=[90],
        ), 0.5, "woodbury",
    ),
    "rows without a tile": (
        lambda rng: structmat.block_diag(thin(rng, 90, 2), thin(rng, 10, 0)), 0.5,
        "block diagonal",
    ),
    "identity and low rank": (lambda rng: structmat.kron(Identity(4), thin(rng, 40, 2)), 0.5,
                              "kronecker"),
    "low rank and identity": (lambda rng: structmat.kron(thin(rng, 40, 2), Identity(4)), 0.5,
                              "kronecker"),
    "low rank and multiple": (
        lambda rng: structmat.kron(thin(rng, 40, 2), (-2 + 1j) * Identity(4)), 0.5, "kronecker",
    ),
    "identities and low rank": (
        lambda rng: structmat.kron(
            Identity(3), structmat.kron(thin(rng, 40, 2), Identity(2))
        ), 0.5, "kronecker",
    ),
    "low ranks": (lambda rng: structmat.kron(thin(rng, 9, 2), thin(rng, 20, 3)), 0.5, "woodbury"),
    "low ranks of rectangles": (
        lambda rng: structmat.kron(thin(rng, 8, 2, n=20), thin(rng, 20, 2, n=8)), 0.5, "woodbury",
    ),
    "low ranks and a diagonal": (
        lambda rng: structmat.kron(thin(rng, 9, 2), thin(rng, 20, 3)) + Diagonal(np.r_[1:181.0]),
        0.0, "woodbury",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", THIN_BLOCKS)
def test_thin_blocks_are_exact(name):
    make, shift, method = THIN_BLOCKS[name]
    rng = np.random.default_rng(5)
    A = make(rng)
    n, single = A.shape[0], A.dtype == np.float32
    S = A.to_dense().astype(np.result_type(A.dtype, float)) + shift * np.eye(n)
    F = factorize(A, shift=shift)
    assert F.method == method
    b = rng.standard_normal((n, 2)).astype(np.float32 if single else float)
    rtol = 1e-3 if single else 1e-8
    for dense, x in ((S, F.solve(b)), (S.conj().T, F.solve_adjoint(b))):
        expected = np.linalg.solve(dense, b)
        assert np.linalg.norm(x - expected) < rtol * np.linalg.norm(expected)
    found, expected = F.logdet(), np.linalg.slogdet(S)
    np.testing.assert_allclose(
        [found.sign, found.logabsdet], expected, rtol=1e-4 if single else 1e-9
    )
    assert found.error == 0.0


@pytest.mark.parametrize("name", ["tiles", "diagonal", "many", "outer", "inner", "both"])
def test_thin_blocks_take_the_memory_of_their_contents(name):
    rng = np.random.default_rng(6)
    n = 20_000
    A = {
        "tiles": lambda: structmat.block_diag(thin(rng, n, 3), thin(rng, n, 3)),
        "diagonal": lambda: (
            structmat.block_diag(thin(rng, n, 3), thin(rng, n, 3))
            + Diagonal(rng.uniform(1, 2, 2 * n))
        ),
        "many": lambda: structmat.block_diag(*(thin(rng, 1000, 3) for _ in range(40))),
        "outer": lambda: structmat.kron(thin(rng, n // 50, 3), Identity(100)),
        "inner": lambda: structmat.kron(Identity(100), thin(rng, n // 50, 3)),
        "both": lambda: structmat.kron(thin(rng, 100, 2), thin(rng, n // 50, 3)),
    }[name]()
    tracemalloc.start()
    try:
        F = factorize(A, shift=1.0)
        found, x = F.logdet(), F.solve(np.ones(2 * n))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.error == 0.0
    assert x.shape == (2 * n,)
    assert peak < 300 * 2 * n * 8  # some vectors; blocks of 1000 rows would take 1000


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_thin_blocks_beside_the_diagonal_are_terms_for_woodbury(shift):
    rng = np.random.default_rng(9)
    m, n = 2000, 600
    L = thin(rng, m, 3, n=n) / np.sqrt(m)
    D, E = Diagonal(rng.uniform(1, 2, m)), Diagonal(-rng.uniform(1, 2, n))
    A = structmat.block([[D, L], [L.H, E]])
    F = factorize(A, shift=shift)
    assert (F.method, F.rank) == ("woodbury", 6)
    S = A.to_dense() + shift * np.eye(m + n)
    b = rng.standard_normal((m + n, 2))
    assert F.solution(b).backward_error < 1e-12
    np.testing.assert_allclose(S @ F.solve(b), b, atol=1e-8)
    found, expected = F.logdet(), np.linalg.slogdet(S)
    np.testing.assert_allclose([found.sign, found.logabsdet], expected, rtol=1e-9)
