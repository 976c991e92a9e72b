"""Compression to Monarch: the projection of Dao et al. 2022, for the best factor sizes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.tiles import dealt_stacks, gather, sizes
from structmat.errors import BudgetError
from structmat.matrices.monarch import Monarch
from structmat.project.svd import leading_svd, svdvals

#: Most entries of the matrix that a first look at a layout takes.
SAMPLE_ENTRIES = 2**16
#: Number of layouts that are fitted in full after the first look.
FINALISTS = 4


@dataclass(frozen=True)
class Layout:
    """Rows dealt to l hands, columns cut into k pieces: l k tiles of height x width."""

    l: int
    k: int
    height: int
    width: int

    def cost(self, rank: int) -> int:
        """Multiplications with tiles of this rank, padding included."""
        return rank * self.l * self.k * (self.height + self.width)


@dataclass(frozen=True)
class _Projection:
    """Rank of all tiles of a layout, its cost, and the energy that it misses."""

    layout: Layout
    rank: int
    cost: int
    missed: float


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> Monarch:
    """Project onto Monarch matrices of the factor sizes that suit the matrix best.

    Deal the rows to l hands and cut the columns into k pieces: a Monarch matrix with
    k l r numbers between its factors then consists of l k tiles of rank r each. The
    best one truncates the singular values of every tile (Dao et al. 2022, arXiv
    2204.00595, theorem 1, which has r = 1). Powers of two and divisors are tried for
    l and k, with every rank; l = k = 1 is the truncated decomposition of the whole. Random
    tiles decide which layouts are fitted in full.
    """
    m, n = A.shape
    if not A.size:
        return Monarch(np.zeros((1, m, 0), A.dtype), np.zeros((1, 0, n), A.dtype), shape=(m, n))
    check_cap(m, n, goal)
    layouts = _layouts(m, n)
    if goal.max_cost is not None:
        layouts = [layout for layout in layouts if layout.cost(1) <= goal.max_cost]
    looks: list[_Projection] = []
    for done, layout in enumerate(layouts):
        looks.append(project(layout, _sampled_energy(A, layout, rng), goal, A.dtype))
        progress(0.7 * (done + 1) / len(layouts))
    looks.sort(key=lambda look: _order(look, goal))
    finals = []
    for done, look in enumerate(looks[:FINALISTS]):
        finals.append(project(look.layout, _energy(A, look.layout), goal, A.dtype))
        progress(0.7 + 0.05 * (done + 1))
    best = min(finals, key=lambda found: _order(found, goal))
    return _assemble(A, best.layout, best.rank, rng)


def _layouts(m: int, n: int) -> list[Layout]:
    """Factor sizes to try."""
    # Fewer pieces may do if their width was rounded up.
    widths = sorted({-(-n // k) for k in sizes(n, 1, n)}, reverse=True)
    return [Layout(l, -(-n // w), -(-m // l), w) for l in sizes(m, 1, m) for w in widths]


def check_cap(m: int, n: int, goal: Goal) -> None:
    """Refuse a cap below the cost of every Monarch matrix of a shape."""
    if goal.max_cost is None or goal.max_cost >= m + n:
        return
    least = math.ceil(1e4 * (m + n) / (m * n)) / 1e4
    remedy = (
        f"give a budget of at least {least:.4f}"
        if least <= 1
        else "no budget suffices for so few rows or columns; give tol, or use the matrix itself"
    )
    raise BudgetError(
        f"{goal.max_cost} multiplications for a {m}x{n} matrix; expected at least {m + n}, the "
        f"cost of the smallest Monarch matrix ({remedy})"
    )


def _order(found: _Projection, goal: Goal) -> tuple[float, float]:
    by_error = goal.max_cost is not None
    return (found.missed, found.cost) if by_error else (found.cost, found.missed)


def _energy(A: NDArray, layout: Layout) -> NDArray[np.float64]:
    """Sum over the tiles of their i-th squared singular values."""
    values = [svdvals(tiles) for tiles in dealt_stacks(A, layout.l, layout.width)]
    none = np.zeros(min(layout.height, layout.width))
    return sum(((s**2).sum(axis=0) for s in values), none)


def _sampled_energy(A: NDArray, layout: Layout, rng: np.random.Generator) -> NDArray[np.float64]:
    """The same sum, estimated by some of the tiles."""
    l, k, height, width = layout.l, layout.k, layout.height, layout.width
    count = min(l * k, max(1, SAMPLE_ENTRIES // (height * width)))
    hands, pieces = np.divmod(rng.choice(l * k, count, replace=False), k)
    places = [
        (slice(j, None, l), slice(c * width, (c + 1) * width))
        for j, c in zip(hands, pieces, strict=True)
    ]
    tiles = gather(A, places, (height, width))
    return (svdvals(tiles) ** 2).sum(axis=0) * (l * k / count)


def project(
    layout: Layout, energy: NDArray[np.float64], goal: Goal, dtype: np.dtype
) -> _Projection:
    """Rank that the cost allows, or the smallest that meets the error."""
    tail = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
    rounding = (np.finfo(dtype).eps * max(layout.height, layout.width)) ** 2 * tail[0]
    if goal.max_cost is None:
        rank = int(np.argmax(tail <= (goal.max_error or 0.0) ** 2))
    else:
        rank = min(goal.max_cost // layout.cost(1), len(energy))
        # Ranks that capture only rounding are not worth their multiplications.
        rank = min(rank, int((energy > rounding).sum()))
    missed = float(tail[rank]) if tail[rank] > rounding else 0.0
    return _Projection(layout, rank, layout.cost(rank), missed)


def _assemble(A: NDArray, layout: Layout, rank: int, rng: np.random.Generator) -> Monarch:
    """Decompose all tiles, and lay out their factors for the stride permutation."""
    l, k = layout.l, layout.k
    L = np.zeros((l, layout.height, k, rank), A.dtype)
    R = np.zeros((k, rank, l, layout.width), A.dtype)
    for j, tiles in enumerate(dealt_stacks(A, l, layout.width)):
        U, s, Vh = leading_svd(tiles, rank, rng)
        root = np.sqrt(s)[:, None, :]
        L[j] = (U * root).transpose(1, 0, 2)
        R[:, :, j] = Vh * root.transpose(0, 2, 1)
    return Monarch(
        L.reshape(l, layout.height, k * rank),
        R.reshape(k, rank * l, layout.width),
        shape=(A.shape[0], A.shape[1]),
    )
