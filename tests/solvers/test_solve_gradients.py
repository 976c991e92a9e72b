"""Derivatives of solves and log-determinants on torch: every kind, every order, every transform."""

import copy

import numpy as np
import pytest

import structmat
from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    Hierarchical,
    Identity,
    KernelMatrix,
    LowRank,
    Monarch,
    Permutation,
    factorize,
    kron,
    logdet,
    solve,
)
from structmat.binding import construct, leaves
from structmat.errors import BackendError
from structmat.matrices import Adjoint, Scaled

torch = pytest.importorskip("torch")
N = 6
ORDER = [3, 1, 2, 0, 5, 4]


def drawn(seed=0, is_complex=False):
    rng = np.random.default_rng(seed)

    def c(*shape):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if is_complex else x

    return c


def monarch(c):
    return Monarch(c(2, 3, 2), c(2, 2, 3))


def hierarchical(c, *, symmetric=False):
    blocks = [[0, 3, 0, 3, -1], [3, 3, 0, 3, 1], [3, 3, 3, 3, -1]]
    blocks += [] if symmetric else [[0, 3, 3, 3, 1]]
    dense = c(12 if symmetric else 18)
    size = sum(3 for *_, rank in blocks if rank > 0)
    orders = {"row_order": ORDER, "col_order": ORDER}
    return Hierarchical(
        blocks, c(size), c(size), dense, shape=(N, N), symmetric=symmetric, **orders
    )


def tiles(c):
    return BlockLowRank(
        {(0, 0): c(3, 3), (0, 1): (c(3, 1), c(3, 1)), (1, 1): c(3, 3)},
        row_sizes=[3, 3],
        col_sizes=[3, 3],
    )


def gblr(c):
    return GBLR([5, 0, 2], [3, 6, 2], c(11), [0, 4, 1], [6, 3, 4], c(13), shape=(N, N))


KINDS = {
    "low_rank": lambda c: LowRank(c(N, 2), c(N, 2)),
    "diagonal": lambda c: Diagonal(c(N)),
    "dense": lambda c: Dense(c(N, N)),
    "gblr": gblr,
    "block_sparse": lambda c: BlockSparse(c(3, 2, 2), [0, 1, 2], [0, 2, 1], shape=(N, N)),
    "block_diagonal": lambda c: BlockSparse(c(3, 2, 2), [0, 1, 2], [0, 1, 2], shape=(N, N)),
    "block_low_rank": tiles,
    "monarch": monarch,
    "hierarchical": hierarchical,
    "hierarchical-symmetric": lambda c: hierarchical(c, symmetric=True),
    "plus-diagonal": lambda c: LowRank(c(N, 2), c(N, 2)) + Diagonal(3 + c(N)),
    "plus-permutation": lambda c: LowRank(c(N, 1), c(N, 1)) + 2 * Permutation(ORDER),
    "sum": lambda c: monarch(c) + gblr(c) + LowRank(c(N, 1), c(N, 1)),
    "product": lambda c: monarch(c) @ Permutation(ORDER) @ gblr(c),
    "scaled": lambda c: Scaled(monarch(c), 1.5),
    "adjoint": lambda c: Adjoint(gblr(c)),
    "kronecker": lambda c: kron(Dense(c(2, 2)), LowRank(c(3, 1), c(3, 1)) + Identity(3)),
    "grid": lambda c: structmat.block([[monarch(c), gblr(c)], [None, Dense(c(N, N))]]),
}


def followed(A):
    """A matrix on torch, and its contents as tensors that need gradients."""
    A = A.to("torch")
    return A, [t.clone().requires_grad_(t.is_floating_point() or t.is_complex()) for t in leaves(A)]


def number(value=2.5):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def columns(n, dtype, count=2):
    return torch.randn(n, count, dtype=dtype, generator=torch.manual_seed(3)).requires_grad_()


def check(function, inputs, *, twice=True, thorough=False):
    """Derivatives against differences: along random directions, or all entries."""
    options = {"fast_mode": not thorough, "atol": 1e-4, "rtol": 1e-4}
    assert torch.autograd.gradcheck(function, inputs, **options)
    if twice:
        assert torch.autograd.gradgradcheck(function, inputs, **options)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_of_every_kind(kind, is_complex):
    A, contents = followed(KINDS[kind](drawn(1, is_complex)))
    b, shift = columns(A.shape[0], A.dtype), number()

    def solved(shift, b, *contents):
        return solve(construct(A, contents), b, shift=shift)

    def determined(shift, *contents):
        return logdet(construct(A, contents), shift=shift).logabsdet

    check(solved, (shift, b, *contents))
    check(determined, (shift, *contents))


@pytest.mark.slow  # every entry of every Jacobian
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_derivative_of_every_kind(kind, is_complex):
    A, contents = followed(KINDS[kind](drawn(2, is_complex)))
    b, shift = columns(A.shape[0], A.dtype), number(3.5)

    def both(shift, b, *contents):
        F = factorize(construct(A, contents), shift=shift)
        return F.solve(b), F.H @ b, F.logdet().logabsdet

    check(both, (shift, b, *contents), thorough=True)


@pytest.mark.parametrize("kernel", ["exponential", "gaussian", "matern32"])
def test_points_and_lengths_of_kernels(kernel):
    points = torch.rand(N, 2, dtype=torch.float64, generator=torch.manual_seed(0)) * 3
    inputs = (points.requires_grad_(), number(0.7), number(0.1), columns(N, torch.float64, 1))

    def both(points, length, shift, b):
        F = factorize(KernelMatrix(points, kernel, length=length), shift=shift)
        return F.solve(b), F.logdet().logabsdet

    check(both, inputs)


@pytest.mark.parametrize("turn", ["H", "T", "conj"])
def test_turned_factorizations(turn):
    A, contents = followed(KINDS["plus-diagonal"](drawn(3, True)))
    b = columns(N, A.dtype)

    def both(b, *contents):
        F = factorize(construct(A, contents))
        F = F.conj() if turn == "conj" else getattr(F, turn)
        return F @ b, F.logdet().logabsdet

    check(both, (b, *contents))
