"""Dense weights as BLAST matrices: the published compression.

Lee, Kwon, Qu and Kim, NeurIPS 2024, arXiv 2410.21262.
"""

import torch
from torch import Tensor

from benchmarks.models._replacing import check_finite
from benchmarks.results import BenchmarkError

__all__ = ["factorise", "product"]

#: Scale of the published random start of a compression: small, to favour no direction.
START_SCALE = 1e-3


def factorise(
    W: Tensor,
    blocks: int,
    rank: int,
    steps: int,
    delta: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """U, V and s of a BLAST matrix near W, by preconditioned alternating gradient descent.

    The paper's algorithm in the settings of its authors' code: of ‖W - Ŵ‖², with W scaled
    to a standard deviation of 1, the gradient of each factor in turn is divided by the
    Gram matrix of the other factors + δI, with δ = `delta` · ‖W - Ŵ‖; the
    step length falls linearly from 1 to 0. U and V begin normal and tiny, s normal. The
    problem is not convex: of a matrix that has this rank exactly, the descent may end at a
    local minimum, which some more rank avoids.

    Examples
    --------
    >>> U, V, s = factorise(torch.randn(6, 4), 2, 3, 10, 0.1, None)
    >>> U.shape, V.shape, s.shape
    (torch.Size([2, 3, 3]), torch.Size([2, 2, 3]), torch.Size([2, 2, 3]))
    """
    check_finite("the weight", W)
    scale = W.std()
    if not scale > 0:
        raise BenchmarkError(f"the weight has standard deviation {scale:g}; expected above 0")
    m, n = W.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(W)

    U = START_SCALE * rank**-0.5 * normal(blocks, m // blocks, rank)
    V = START_SCALE * rank**-0.5 * normal(blocks, n // blocks, rank)
    s = normal(blocks, blocks, rank)
    target = W / scale
    for step in range(steps):
        length = 2 * (1 - step / steps)  # the gradient of a square is twice its residual
        U = U - length * _row_step(target, U, V, s, delta)
        V = V - length * _row_step(target.T, V, U, s.transpose(0, 1), delta)
        s = s - length * _middle_step(target, U, V, s, delta)
    return U * scale.sqrt(), V * scale.sqrt(), s


def product(U: Tensor, V: Tensor, s: Tensor) -> Tensor:
    """The dense matrix (m, n)."""
    return (U @ _mixed(V, s).mT).flatten(0, 1)


def _mixed(V: Tensor, s: Tensor) -> Tensor:
    """Right factor of each U_i, (b, n, r): V_j diag(s_ij), all j below each other."""
    return (s.unsqueeze(2) * V).flatten(1, 2)


def _row_step(W: Tensor, U: Tensor, V: Tensor, s: Tensor, delta: float) -> Tensor:
    """Preconditioned gradient of U; that of V is the same of the transposed matrix."""
    mixed = _mixed(V, s)
    rest = U @ mixed.mT - W.unflatten(0, (len(U), -1))
    gram = _damped(mixed.mT @ mixed, delta * rest.norm())
    return torch.linalg.solve(gram, rest @ mixed, left=False)


def _middle_step(W: Tensor, U: Tensor, V: Tensor, s: Tensor, delta: float) -> Tensor:
    """Preconditioned gradient of s, whose Gram matrix is (U_i^T U_i) ∘ (V_j^T V_j)."""
    b, q, _ = V.shape
    rest = (product(U, V, s) - W).unflatten(0, (b, -1))
    left = U.mT @ rest  # (b, r, n)
    gradient = torch.einsum("irjq,jqr->ijr", left.unflatten(2, (b, q)), V)
    gram = (U.mT @ U).unsqueeze(1) * (V.mT @ V)
    return torch.linalg.solve(_damped(gram, delta * rest.norm()), gradient)


def _damped(gram: Tensor, shift: Tensor) -> Tensor:
    # A fit that is exact leaves no shift, and its Gram matrix may be singular.
    least = torch.finfo(gram.dtype).tiny ** 0.5
    return gram + shift.clamp(min=least) * torch.eye(gram.shape[-1]).to(gram)
