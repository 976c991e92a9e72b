"""Errors on the inputs that a weight multiplies, and contents fitted to them.

For the inputs X of a layer, collected over a few batches, ‖(W - Ŵ) X‖_F is the error of
its outputs. It depends on X through the Gram matrix G = X X^T alone, as tr(Δ G Δ^T) with
Δ = W - Ŵ.
"""

import math
from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat import binding
from structmat._progress import Progress, no_progress
from structmat.matrices import GBLR, LowRank
from structmat.matrix import StructuredMatrix

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Quasi-Newton steps on the contents, and the number of past steps that L-BFGS keeps.
LBFGS_STEPS, LBFGS_HISTORY = 100, 20
#: Evaluations of a step at most, on average: L-BFGS ends there.
LBFGS_EVALUATIONS = 1.25


def squared_error(difference: Tensor, gram: Tensor | None) -> float:
    """Squared Frobenius norm of Δ X, or of Δ itself without a Gram matrix."""
    difference = difference.double()
    weighed = difference if gram is None else difference @ gram.to(difference)
    return max(0.0, float((weighed * difference).sum()))


def relative_error(
    matrices: Sequence[StructuredMatrix], W: Tensor, gram: Tensor | None, dim: int = 0
) -> float:
    """Error of matrices side by side along `dim`, relative to W; 0 where W has no outputs."""
    size = squared_error(W, gram)
    dense = torch.cat([matrix.to_dense() for matrix in matrices], dim)
    return math.sqrt(squared_error(W - dense, gram) / size) if size else 0.0


def output_energies(W: Tensor, gram: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared singular values of W X in falling order, and its left singular vectors."""
    W = W.double()
    product = W @ W.T if gram is None else W @ gram.to(W) @ W.T
    energies, U = torch.linalg.eigh(product)
    return energies.flip(0).clamp(min=0), U.flip(1)


def fit_low_rank(W: Tensor, gram: Tensor, rank: int) -> LowRank:
    """Best approximation U U^T W of the given rank on these inputs.

    U holds the leading left singular vectors of W X: of all matrices of that rank,
    U U^T W X is nearest to W X (Eckart & Young).
    """
    _, U = output_energies(W, gram)
    U = U[:, :rank]
    V = W.double().T @ U
    # Training needs factors of equal size.
    root = V.norm(dim=0).clamp(min=torch.finfo(V.dtype).tiny).sqrt()
    return LowRank((U * root).to(W.dtype), (V / root).to(W.dtype))


def rank_curve(W: Tensor, gram: Tensor | None) -> tuple[IntArray, FloatArray]:
    """Costs of the ranks that save multiplications, and least squared errors for W (m, n).

    Each rank lowers the error by one squared singular value of W, or of W X on the inputs
    behind `gram`.

    Examples
    --------
    >>> costs, errors = rank_curve(torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0])), None)
    >>> costs.tolist(), errors.round(3).tolist()
    ([8, 16], [5.0, 1.0])
    """
    m, n = W.shape
    energies = output_energies(W, gram)[0][: min(m, n)].cpu().numpy()
    missed = np.append(np.cumsum(energies[::-1])[::-1], 0.0)[1:]
    ranks = np.arange(1, max(1, m * n // (m + n)) + 1)
    return (m + n) * ranks, missed[ranks - 1]


def refined(
    matrix: StructuredMatrix, W: Tensor, gram: Tensor | None, progress: Progress = no_progress
) -> StructuredMatrix:
    """Fit the contents to the inputs behind `gram`, if there is one."""
    return matrix if gram is None else refine([matrix], W, gram, progress=progress)[0]


def refine(
    matrices: Sequence[StructuredMatrix],
    W: Tensor,
    gram: Tensor,
    *,
    dim: int = 0,
    steps: int = LBFGS_STEPS,
    progress: Progress = no_progress,
) -> list[StructuredMatrix]:
    """Lower the error on these inputs by other contents; structures stay.

    The matrices, of any kind on torch, side by side approximate W: as row blocks along `dim`
    0, as column blocks along 1. L-BFGS in double precision runs on all contents at once, for
    `steps` steps at most. The error never rises.
    """
    target, gram = W.double(), gram.double()
    size = squared_error(target, gram)
    trial = [
        binding.construct(matrix, [_variable(leaf) for leaf in binding.leaves(_balanced(matrix))])
        for matrix in matrices
    ]
    contents = [leaf for matrix in trial for leaf in binding.leaves(matrix) if leaf.requires_grad]
    if not any(leaf.numel() for leaf in contents) or not size:
        return list(matrices)

    def loss() -> Tensor:
        difference = torch.cat([matrix.to_dense() for matrix in trial], dim) - target
        return ((difference @ gram) * difference).sum() / size

    evaluations = count(1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        progress(min(next(evaluations) / (LBFGS_EVALUATIONS * steps), 1.0))
        return value

    optimizer = torch.optim.LBFGS(
        contents, max_iter=steps, history_size=LBFGS_HISTORY, line_search_fn="strong_wolfe"
    )
    before = float(loss().detach())
    optimizer.step(closure)
    with torch.no_grad():
        if not float(loss()) < before:
            return list(matrices)
    return [
        binding.construct(old, [leaf.detach() for leaf in binding.leaves(matrix)]).astype(old.dtype)
        for matrix, old in zip(trial, matrices, strict=True)
    ]


def _balanced(matrix: StructuredMatrix) -> StructuredMatrix:
    """A GBLR matrix with two contents of the same norm in every block; others as they are.

    A step along the gradient is of no use where the contents of a block differ much in size.
    """
    if not isinstance(matrix, GBLR) or not matrix.u.is_floating_point():
        return matrix
    contents, sides, norms = (matrix.u.double(), matrix.v.double()), [], []
    for part, width in zip(contents, (matrix.row_width, matrix.col_width), strict=True):
        widths = torch.from_numpy(width).to(part.device)
        sides.append(torch.repeat_interleave(widths))
        norms.append(part.new_zeros(len(width)).index_add(0, sides[-1], part.square()).sqrt())
    live = (norms[0] > 0) & (norms[1] > 0)
    factor = torch.where(live, norms[1] / norms[0], 1.0).sqrt()
    u, v = contents[0] * factor[sides[0]], contents[1] / factor[sides[1]]
    return binding.construct(matrix, [u, v])


def _variable(leaf: Tensor) -> Tensor:
    if not leaf.is_floating_point():
        return leaf
    return leaf.detach().double().clone(memory_format=torch.contiguous_format).requires_grad_()
