"""Compression of operators to hierarchical matrices, by peeling."""

import math

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.operators import Products
from structmat.compress.products.levels import Peeled, singular
from structmat.compress.products.peel import peeled_of
from structmat.intervals import IntArray
from structmat.matrices.block_low_rank import DENSE
from structmat.matrices.hierarchical import Hierarchical
from structmat.project.shares import rounding_of, share_out
from structmat.project.svd import Operator


def fit_implicit(
    op: Operator, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> Hierarchical:
    """Blocks between the halves of each part, halved again and again, from products alone.

    Rows and columns are taken in their own order. A level of blocks takes about 4 (r + 8)
    products for ranks of r, and half as many for a Hermitian matrix; there are log2(n / 32)
    levels, and the leaves take about 32 products. Ranks are then shared out by energy per
    multiplication.
    """
    if 0 in op.shape:
        nothing = np.zeros(0, op.dtype)
        return Hierarchical([], nothing, nothing, nothing, shape=op.shape)
    peeled = peeled_of(op, goal, rng, progress)
    hermitian = isinstance(op, Products) and op.hermitian
    if hermitian and goal.max_cost is not None:
        # One triangle has dense leaves; a low cap truncates them.
        hermitian = 2 * _area(peeled) <= goal.max_cost
    blocks = _Blocks(peeled, lower=hermitian)
    ranks = blocks.ranks(goal, peeled)
    progress(1.0)
    return blocks.matrix(ranks)


def _area(peeled: Peeled) -> int:
    """Entries of the leaves."""
    rows, cols = peeled.rows(peeled.depth), peeled.cols(peeled.depth)
    return int((np.diff(rows) * np.diff(cols)).sum())


class _Blocks:
    """All blocks of a peeled matrix: their places, and their singular value decompositions."""

    def __init__(self, peeled: Peeled, *, lower: bool) -> None:
        assert peeled.leaves is not None
        self._peeled, self._lower, self._leaves = peeled, lower, peeled.leaves
        self._factors: list[tuple[NDArray, NDArray]] = []
        values, places = [], []
        for part in peeled.levels:
            U, s, V = singular(part)
            rows, cols = peeled.rows(part.level), peeled.cols(part.level)
            # Of two neighbours, the rows of the second and the columns of the first lie below.
            some = np.arange(1, len(U), 2) if lower else np.arange(len(U))
            values.append(s[some].astype(np.float64))
            places.append(_places(rows, some, cols, some ^ 1))
            self._factors += zip((U * s[:, None])[some], V[some], strict=True)
        every = np.arange(len(self._leaves))
        rows, cols = peeled.rows(peeled.depth), peeled.cols(peeled.depth)
        leaves = _places(rows, every, cols, every)
        self._places = np.concatenate([*places, leaves])
        self._values = values

    def ranks(self, goal: Goal, peeled: Peeled) -> IntArray:
        """Rank of each block, -1 for a dense one, that keep to the goal."""
        cap, error = goal.max_cost, 0.0
        if cap is None:
            error = math.sqrt(max((goal.max_error or 0.0) ** 2 - peeled.missed**2, 0.0))
        values = list(self._values)
        leaves = np.where(np.abs(self._leaves).sum(axis=(1, 2)) > 0, DENSE, 0)
        if not self._lower:
            decomposed = np.linalg.svd(self._leaves, compute_uv=False)
            values.append(decomposed.astype(np.float64))
        elif cap is not None:
            cap -= _area(peeled)
        wide = max((s.shape[1] for s in values), default=0)
        table = np.concatenate(
            [np.zeros((0, wide)), *(np.pad(s, ((0, 0), (0, wide - s.shape[1]))) for s in values)]
        )
        height, width = self._places[: len(table), 1], self._places[: len(table), 3]
        twice = 1 + self._lower  # each block stands for its mirror image, too
        found = share_out(
            table * math.sqrt(twice), twice * height, twice * width,
            rounding_of(self._leaves, int(self._places[:, [1, 3]].max())),
            cap=cap, max_error=error,
        )[0] if len(table) else np.zeros(0, np.int64)  # fmt: skip
        return np.concatenate([found, leaves]) if self._lower else found

    def matrix(self, ranks: IntArray) -> Hierarchical:
        """The blocks, truncated to their ranks."""
        none = np.zeros(0, self._leaves.dtype)
        u, v, dense = [none], [none], [none]
        first = len(self._factors)
        for k in np.flatnonzero(ranks).tolist():
            _, p, _, q = self._places[k]
            rank = int(ranks[k])
            if k < first:
                U, V = self._factors[k]
                if rank == DENSE:
                    dense.append((U[:p] @ V[:q].conj().T).ravel())
                    continue
            else:
                leaf = self._leaves[k - first][:p, :q]
                if rank == DENSE:
                    dense.append(leaf[np.tril_indices(p)] if self._lower else leaf.ravel())
                    continue
                left, s, Zh = np.linalg.svd(leaf, full_matrices=False)
                U, V = left * s, Zh.conj().T
            u.append(U[:p, :rank].T.ravel())
            v.append(V[:q, :rank].T.ravel())
        some = ranks != 0
        table = np.column_stack([self._places[some], ranks[some]])
        return Hierarchical(
            table, np.concatenate(u), np.concatenate(v), np.concatenate(dense),
            shape=self._peeled.shape, symmetric=self._lower,
        )  # fmt: skip


def _places(rows: IntArray, i: IntArray, cols: IntArray, j: IntArray) -> IntArray:
    """First row, height, first column and width of blocks between parts."""
    return np.column_stack([rows[i], np.diff(rows)[i], cols[j], np.diff(cols)[j]])
