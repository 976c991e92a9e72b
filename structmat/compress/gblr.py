"""Compression to GBLR: a portfolio of searches for rank-1 blocks on cyclic runs."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress._gblr_residual import Block, DenseResidual
from structmat.compress._gblr_run import Run, total_cost
from structmat.compress._gblr_starts import dense_blocks, partition_blocks, svd_blocks
from structmat.compress import low_rank
from structmat.compress._goal import Goal, Progress
from structmat.compress._svd import Operator
from structmat.intervals import IntArray
from structmat.matrices.gblr import GBLR

__all__ = ["Blocks", "fit", "fit_implicit", "search"]


class Blocks(NamedTuple):
    """Rank-1 blocks with packed contents: A = sum of u_k v_k^H on cyclic runs."""

    row_start: IntArray
    row_width: IntArray
    u: NDArray
    col_start: IntArray
    col_width: IntArray
    v: NDArray


def fit(A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> GBLR:
    """`search`, as a matrix."""
    return GBLR(*search(A, goal, rng=rng, progress=progress), shape=A.shape)


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> GBLR:
    """As `fit`, for a matrix known by its products only."""
    matrix = low_rank.fit_implicit(op, goal, rng=rng, progress=progress)
    columns = zip(matrix.U.T, matrix.V.T, strict=True)
    blocks = [Block(0, u, 0, v) for u, v in columns]
    return GBLR(*_pack(blocks, op.dtype), shape=op.shape)


def search(
    A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> Blocks:
    """Blocks."""
    if not A.size or not A.any():
        return _pack([], A.dtype)
    scale = float(np.abs(A).max())
    if goal.max_cost is None:
        blocks = dense_blocks(A)
        return _pack(blocks, A.dtype)
    B = goal.max_cost
    best, best_energy = [], np.inf
    for k, start in enumerate(("svd", "svd+", "part", 1.0, 0.3)):
        R = DenseResidual(A / A.dtype.type(scale))
        total = R.energy()
        if start in ("svd", "svd+"):
            bl = svd_blocks(R.array, B // sum(A.shape), rng)
        elif start == "part":
            bl, price = partition_blocks(R.array, goal)
        else:
            bl = []
        for b in bl:
            R.change(b, -1)
        if start in ("svd", "svd+"):
            price = squared(bl[-1]) / sum(A.shape) if bl else total / max(B, 1)
        elif start != "part":
            price = total / max(B, 1) * start
        run = Run(R, bl, rng, A.dtype, 1e4 * max(1, A.size / 512**2))
        if start != "svd":
            if bl:
                run.sweep(price)
            run.to_budget(price, B)
        if R.energy() < best_energy and run.cost <= B:
            best, best_energy = run.blocks, R.energy()
        progress((k + 1) / 5)
    return _pack([Block(b.row, b.u * A.dtype.type(scale), b.col, b.v) for b in best], A.dtype)


def squared(block: Block) -> float:
    return float(np.vdot(block.u, block.u).real * np.vdot(block.v, block.v).real)


def _pack(blocks: list[Block], dtype: Any) -> Blocks:
    def integers(values: list[int]) -> IntArray:
        return np.array(values, np.int64)

    none = [np.zeros(0, dtype)]
    return Blocks(
        integers([b.row for b in blocks]),
        integers([b.u.size for b in blocks]),
        np.concatenate([b.u for b in blocks] or none),
        integers([b.col for b in blocks]),
        integers([b.v.size for b in blocks]),
        np.concatenate([b.v for b in blocks] or none),
    )
