"""The weak form of a hierarchical matrix: one low-rank tile on each side of every halving.

Tiles that are one block of low rank are taken as they are; others are sampled by products of
their blocks, from the smallest up, so that each size tells the next one what rank to try first.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._array import to_numpy
from structmat._progress import Progress, no_progress
from structmat.kernels.cpu.blas_threads import one_blas_thread, shared_out_to_blas
from structmat.kernels.cpu.threads import num_threads
from structmat.matrices.hierarchical import Hierarchical
from structmat.solvers.hierarchical.range import low_rank
from structmat.solvers.hierarchical.tiles import Tiles
from structmat.solvers.hierarchical.tree import LOWER, UPPER, Halves, halves

#: Most rows of a leaf.
LEAF = 128
#: Rank that is tried first, what is tried beyond the ranks that are expected, and the most that
#: these grow when the sides of tiles double.
FIRST_RANK, BEYOND, MOST_GROWTH = 40, 1.05, 2.5


@dataclass
class WeakForm:
    """A square matrix by halves of its axis, in its own order.

    The rows of node c are beside those of its sibling d. The tile of rows of c and columns of d
    is ``left[c].T @ right[d].conj()``, with `left` (r, rows) and `right` (r, columns). Of a
    Hermitian matrix both are one list.
    """

    tree: Halves
    dtype: np.dtype[Any]
    #: Entries of each leaf, by its number.
    leaves: dict[int, NDArray[Any]]
    left: list[NDArray[Any]]
    right: list[NDArray[Any]]
    #: Ranks of the tiles.
    ranks: list[int]
    #: Whether all tiles are as they were, or else some were sampled.
    exact: bool

    @property
    def hermitian(self) -> bool:
        """Tell whether the matrix is its own adjoint."""
        return self.right is self.left

    @property
    def size(self) -> int:
        """Rows of the matrix."""
        return int(self.tree.end[0])

    def plain(self, dtype: Any) -> None:
        """Take another dtype, and hold the tiles of both triangles."""
        if self.hermitian:
            self.right = [np.array(factor) for factor in self.left]
        self.dtype = np.dtype(dtype)
        for side in (self.left, self.right):
            side[:] = [factor.astype(dtype) for factor in side]
        self.leaves = {node: leaf.astype(dtype) for node, leaf in self.leaves.items()}


@one_blas_thread()
def weak_form(
    A: Hierarchical,
    error: float,
    *,
    dtype: Any = None,
    most: float = math.inf,
    seed: int = 0,
    progress: Progress = no_progress,
) -> WeakForm | None:
    """The weak form of a square matrix, to a Frobenius error of about `error`.

    None where its factorization promises to take more than `most` multiplications. The dtype
    is that of double precision by default.
    """
    own = to_numpy(A.dense).dtype
    dtype = np.dtype(np.result_type(own, np.float64) if dtype is None else dtype)
    starts, sizes = A.blocks[:, [0, 2]], A.blocks[:, [1, 3]]
    edges = np.unique(np.concatenate([starts, starts + sizes]))
    tree = halves(A.shape[0], LEAF, edges)
    tiles = Tiles(A, tree, dtype)
    left = [np.zeros((0, 0), dtype)] * len(tree.begin)
    right = left if A.symmetric else list(left)
    weak = WeakForm(tree, dtype, {}, left, right, [], True)
    _form_leaves(weak, tiles)
    inner, levels = tree.inner, tree.level[tree.inner]
    rows = int((tree.end - tree.begin)[inner].sum())
    each, done, largest = error**2 / max(2 * rows, 1), 0, list[int]()
    for level in sorted(set(levels.tolist()), reverse=True):
        nodes = inner[levels == level]
        guess = max(FIRST_RANK // (1 + bool(largest)), math.ceil(BEYOND * _grown(largest)) + 4)
        largest.append(_sampled(weak, tiles, nodes.tolist(), each, guess, seed))
        if _work(largest, level, weak) > most:
            return None
        done += int((tree.end - tree.begin)[nodes].sum())
        progress(done / rows)
    return weak


def _form_leaves(weak: WeakForm, tiles: Tiles) -> None:
    """Fill in the entries of leaves."""
    leaves = weak.tree.leaves.tolist()

    def work(first: int, last: int) -> None:
        for node in leaves[first:last]:
            weak.leaves[node] = tiles.leaf(node)

    shared_out_to_blas(work, len(leaves), num_threads())


def _sampled(
    weak: WeakForm, tiles: Tiles, nodes: list[int], each: float, guess: int, seed: int
) -> int:
    """Fill in the tiles of one level, and return their largest rank; the first tells of others."""
    tree, threads = weak.tree, num_threads()
    jobs = [(node, which) for node in nodes for which in (LOWER, UPPER)[: 2 - weak.hermitian]]
    inside = 1 if len(jobs) >= 2 * threads else threads
    ranks, exact = [0] * len(jobs), [True] * len(jobs)

    def work(first: int, last: int) -> None:
        for k in range(first + 1, last + 1):
            fill(k, min(guess, math.ceil(BEYOND * ranks[0]) + 4), inside)

    def fill(k: int, guess: int, own: int) -> None:
        node, which = jobs[k]
        tile = tiles.tile(node, which)
        found = tile.factors(max(guess, FIRST_RANK), weak.dtype)
        exact[k] = found is not None
        if found is None:
            rng = np.random.default_rng([seed, node, which])
            bound = each * int(tree.end[node] - tree.begin[node])
            found = low_rank(tile, bound, guess, rng, weak.dtype, own)
        one, two = tree.sides(node)
        c, d = (two, one) if which == LOWER else (one, two)
        weak.left[c], weak.right[d] = found
        ranks[k] = len(found[0])

    fill(0, guess, threads)
    shared_out_to_blas(work, len(jobs) - 1, threads if inside == 1 else 1)
    weak.ranks += ranks
    weak.exact &= all(exact)
    return max(ranks)


def _grown(ranks: list[int]) -> float:
    """Rank of tiles after those of half their size, and so on: it grows as it has grown.

    Halves of a square are no squares: sizes that are alike are two halvings apart.
    """
    if len(ranks) < 2:
        return 2.0 * ranks[-1] if ranks else 0.0
    growth = ranks[-2] / max(ranks[-4], 1) if len(ranks) >= 4 else 2.0
    return max(ranks[-1], min(max(growth, 1.0), MOST_GROWTH) * ranks[-2])


def _work(ranks: list[int], level: int, weak: WeakForm) -> float:
    """Multiplications of the factorization, with the ranks that are expected of larger tiles."""
    ranks = list(ranks)
    for _ in range(level):
        ranks.append(round(_grown(ranks)))
    total = float(sum(ranks))
    pairs = (total**2 + sum(float(rank) ** 2 for rank in ranks)) / 2
    return weak.size * (2 * pairs + LEAF * total) * (1 if weak.hermitian else 2)
