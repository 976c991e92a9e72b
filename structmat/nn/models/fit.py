"""Structured approximations of given weights, for the layers of a network."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.compress import compress
from structmat.errors import BudgetError
from structmat.matrices import GBLR, BlockLowRank
from structmat.matrix import StructuredMatrix
from structmat.nn.models.calibration import fit_low_rank, output_energies, squared_error
from structmat.nn.models.kinds import NETWORK_KINDS
from structmat.nn.models.random_init import tile_grid

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Costs of the trial fits before a budget is split, as multiples of the budget.
TRIAL_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


def fit_kind(
    kind: str, W: Tensor, cap: int, gram: Tensor | None = None, seed: int = 0
) -> StructuredMatrix:
    """Approximate W (m, n) by a matrix of a kind that costs at most `cap`, on torch.

    A low-rank matrix is the best one on the inputs behind `gram`; other kinds approximate
    W itself.

    Raises
    ------
    BudgetError
        If no matrix of the kind is that cheap.

    Examples
    --------
    >>> fit_kind("low_rank", torch.eye(8), 40).cost
    32
    """
    m, n = W.shape
    own_fit = NETWORK_KINDS[kind].fit if kind in NETWORK_KINDS else None
    if own_fit is not None:
        return own_fit(W, cap)
    if kind == "low_rank" and gram is not None:
        return fit_low_rank(W, gram, cap // (m + n))
    # compress takes a fraction of m n and rounds down, here to the cap.
    return compress(W, kind, budget=min(1.0, (cap + 0.5) / (m * n)), rng=seed).matrix


def fit_grid(W: Tensor, cap: int) -> GBLR:
    """Approximate W by an even grid of tiles of low rank, as a GBLR matrix.

    Other GBLR matrices of that cost have a smaller error, but this one suits learning:
    blocks of one size shrink alike under a budget, while narrow blocks would vanish beside
    wide ones.

    Raises
    ------
    BudgetError
        If not even one tile is that cheap.

    Examples
    --------
    >>> A = fit_grid(torch.ones(8, 16), 96)
    >>> A.num_blocks, A.cost, (A.to_dense() - 1).abs().max().item() < 1e-5
    (18, 96, True)
    """
    heights, widths, rank = tile_grid((W.shape[0], W.shape[1]), cap)
    tiles = {}
    for i, strip in enumerate(W.split(heights)):
        for j, tile in enumerate(strip.split(widths, dim=1)):
            U, s, Vh = torch.linalg.svd(tile, full_matrices=False)
            root = s[:rank].sqrt()
            tiles[i, j] = U[:, :rank] * root, Vh[:rank].T * root
    grid: GBLR = BlockLowRank(tiles, row_sizes=heights, col_sizes=widths).to_kind("gblr")
    return grid


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


def trial_curve(
    W: Tensor,
    gram: Tensor | None,
    budget: float,
    make: Callable[[Tensor, int], StructuredMatrix],
) -> tuple[IntArray, FloatArray]:
    """Costs around a budget, and the squared errors of ``make(W, cap)`` at these costs.

    Raises
    ------
    BudgetError
        If `make` finds no matrix at any of these costs.

    Examples
    --------
    >>> costs, errors = trial_curve(torch.ones(8, 8), None, 0.5, fit_grid)
    >>> costs.tolist(), errors.round(3).tolist()
    ([16, 32, 64], [0.0, 0.0, 0.0])
    """
    fractions = [min(1.0, multiple * budget) for multiple in TRIAL_MULTIPLES]
    caps = sorted({math.floor(fraction * W.numel()) for fraction in fractions})
    costs, errors = [], []
    for cap in caps:
        try:
            matrix = make(W, cap)
        except BudgetError:
            if cap == caps[-1]:
                raise
            continue
        costs.append(cap)
        errors.append(squared_error(W - matrix.to_dense(), gram))
    return np.array(costs), np.array(errors)
