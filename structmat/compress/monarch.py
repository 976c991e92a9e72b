"""Compression to Monarch: the projection of Dao et al. 2022, for the best factor sizes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal, Progress
from structmat.compress.svd import leading_svd, svdvals
from structmat.compress.tiles import sizes, strided_strips
from structmat.errors import BudgetError
from structmat.matrices.monarch import Monarch

#: Entries of the matrix, at most, that a first look at factor sizes takes.
SAMPLE = 2**16
#: Factor sizes that are looked at in full after the first look.
FINALISTS = 4


@dataclass(frozen=True)
class _Layout:
    """Rows dealt to l hands, columns cut into k pieces: l k tiles of height x width."""

    l: int
    k: int
    height: int
    width: int

    def cost(self, rank: int) -> int:
        """Multiplications with tiles of this rank, padding included."""
        return rank * self.l * self.k * (self.height + self.width)


@dataclass(frozen=True)
class _Plan:
    layout: _Layout
    rank: int
    cost: int
    missed: float  # energy


def fit(A: np.ndarray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> Monarch:
    """Project onto Monarch matrices of the factor sizes that suit the matrix best.

    With its rows dealt to l hands and its columns cut into k pieces, a Monarch matrix
    with k l r numbers between its factors consists of l k tiles of rank r each; the
    best one truncates the singular values of every tile (Dao et al. 2022, arXiv
    2204.00595, theorem 1, which has r = 1). Powers of two and divisors are tried for
    l and k, with every rank; l = k = 1 is the truncated decomposition of the whole.

    Parameters
    ----------
    A : ndarray, shape (m, n)
    goal : Goal
    rng : numpy.random.Generator
        Draws the tiles by which factor sizes are first judged.
    progress : callable

    Returns
    -------
    Monarch
        Within the cost (padding included) or the error.

    Raises
    ------
    BudgetError
        If the cost is below m + n, that of the smallest Monarch matrix.
    """
    m, n = A.shape
    if not A.size:
        return Monarch(np.zeros((1, m, 0), A.dtype), np.zeros((1, 0, n), A.dtype), shape=(m, n))
    _check_cap(m, n, goal)
    layouts = _layouts(m, n)
    if goal.max_cost is not None:
        layouts = [layout for layout in layouts if layout.cost(1) <= goal.max_cost]
    looks: list[_Plan] = []
    for done, layout in enumerate(layouts):
        looks.append(_plan(layout, _sampled_energy(A, layout, rng), goal, A.dtype))
        progress(0.7 * (done + 1) / len(layouts))
    looks.sort(key=lambda plan: _order(plan, goal))
    plans = []
    for done, look in enumerate(looks[:FINALISTS]):
        plans.append(_plan(look.layout, _energy(A, look.layout), goal, A.dtype))
        progress(0.7 + 0.05 * (done + 1))
    best = min(plans, key=lambda plan: _order(plan, goal))
    return _assemble(A, best.layout, best.rank, rng)


def _layouts(m: int, n: int) -> list[_Layout]:
    """Factor sizes to try."""
    # Fewer pieces may do where their width was rounded up.
    widths = sorted({-(-n // k) for k in sizes(n, 1, n)}, reverse=True)
    return [_Layout(l, -(-n // w), -(-m // l), w) for l in sizes(m, 1, m) for w in widths]


def _check_cap(m: int, n: int, goal: Goal) -> None:
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


def _order(plan: _Plan, goal: Goal) -> tuple[float, float]:
    by_error = goal.max_cost is not None
    return (plan.missed, plan.cost) if by_error else (plan.cost, plan.missed)


def _energy(A: NDArray, layout: _Layout) -> NDArray[np.float64]:
    """Sum over the tiles of their i-th squared singular values."""
    strips = strided_strips(A, layout.l, layout.width)
    return sum(
        ((svdvals(strip) ** 2).sum(axis=0) for strip in strips),
        np.zeros(min(layout.height, layout.width)),
    )


def _sampled_energy(A: NDArray, layout: _Layout, rng: np.random.Generator) -> NDArray[np.float64]:
    """The same, estimated by some of the tiles."""
    total = layout.l * layout.k
    count = min(total, max(1, SAMPLE // (layout.height * layout.width)))
    tiles = np.zeros((count, layout.height, layout.width), A.dtype)
    hands, pieces = np.divmod(rng.choice(total, count, replace=False), layout.k)
    for tile, j, c in zip(tiles, hands, pieces, strict=True):
        part = A[j :: layout.l, c * layout.width : (c + 1) * layout.width]
        tile[: part.shape[0], : part.shape[1]] = part
    return (svdvals(tiles) ** 2).sum(axis=0) * (total / count)


def _plan(layout: _Layout, energy: NDArray[np.float64], goal: Goal, dtype: np.dtype) -> _Plan:
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
    return _Plan(layout, rank, layout.cost(rank), missed)


def _assemble(A: NDArray, layout: _Layout, rank: int, rng: np.random.Generator) -> Monarch:
    """Decompose every tile and put its factors where the stride permutation finds them."""
    l, k = layout.l, layout.k
    L = np.zeros((l, layout.height, k, rank), A.dtype)
    R = np.zeros((k, rank, l, layout.width), A.dtype)
    for j, strip in enumerate(strided_strips(A, l, layout.width)):
        U, s, Vh = leading_svd(strip, rank, rng)
        root = np.sqrt(s)[:, None, :]
        L[j] = (U * root).transpose(1, 0, 2)
        R[:, :, j] = Vh * root.transpose(0, 2, 1)
    return Monarch(
        L.reshape(l, layout.height, k * rank),
        R.reshape(k, rank * l, layout.width),
        shape=(A.shape[0], A.shape[1]),
    )
