"""Fits of given weights to a kind, and to the kinds that it contains."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from structmat._progress import Progress, no_progress, part
from structmat.compress.contained import (
    EXACT_ROUNDINGS,
    OWN_PROGRESS,
    Fits,
    as_contained,
    attempt,
    is_nearer,
)
from structmat.compress.goal import Goal
from structmat.compress.source import source_of
from structmat.errors import BudgetError
from structmat.kinds import contained_kinds
from structmat.matrices import BlockLowRank
from structmat.matrix import StructuredMatrix
from structmat.nn.starts.kinds import NETWORK_KINDS
from structmat.nn.starts.on_inputs import (
    FloatArray,
    IntArray,
    fit_low_rank,
    refined,
    relative_error,
    squared_error,
)
from structmat.nn.starts.projections import (
    PROJECTED,
    projected_fit,
    projections,
    weighed_fit,
)
from structmat.nn.starts.random_init import tile_grid

#: Costs of the trial fits before a budget is split, as multiples of the budget.
TRIAL_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Share of the progress of one fit to inputs that the search of its structure takes.
_SEARCHING = 0.3
#: Name among fits of the even grid, and of those with errors weighed by inputs, by their kind.
_GRID = "grid"
_WEIGHED = {"weighed tiles": "block_sparse", "weighed ranks": "block_low_rank"}


def fit_kind(
    kind: str, W: Tensor, cap: int, gram: Tensor | None = None, seed: int = 0
) -> StructuredMatrix:
    """Approximate W (m, n) by a matrix of a kind that costs at most `cap`, on torch.

    The result is the nearest one of `fits_of`. A cap below the cheapest matrix is a
    `BudgetError`.
    """
    return nearest(converted(fits_of(kind, W, cap, gram, seed), kind, cap), W, gram)


def fits_of(
    kind: str,
    W: Tensor,
    cap: int,
    gram: Tensor | None = None,
    seed: int = 0,
    *,
    alone: bool = False,
    orders: bool = False,
    stored: bool = False,
    progress: Progress = no_progress,
) -> dict[str, StructuredMatrix]:
    """Fits of W to a kind and, unless `alone`, to those that it contains, by the fit's name.

    A low-rank matrix is the best one on the inputs behind `gram`. Other kinds approximate
    W itself, and their contents are then fitted to these inputs; as they may suit another
    structure better, an even grid of tiles is among the fits of kinds that hold it, and so are
    tiles chosen with errors weighed by inputs. If `stored`, the cap holds for the scalars of
    the kind as well as for its multiplications.
    """
    if (own_fit := NETWORK_KINDS[kind].fit if kind in NETWORK_KINDS else None) is not None:
        return {kind: refined(own_fit(W, cap), W, gram, progress)}
    source, most = source_of(W), min(cap, W.numel())
    fits = Fits(source, source.norm())

    def fit(name: str, report: Progress) -> StructuredMatrix:
        cap = most
        while True:
            matrix = fit_within(name, cap, report)
            if not stored or (held := as_contained(matrix, kind).storage) <= most:
                return matrix
            cap = cap * most // held

    def fit_within(name: str, cap: int, report: Progress) -> StructuredMatrix:
        if name == "low_rank" and gram is not None:
            return fit_low_rank(W, gram, cap // sum(W.shape))
        searching = part(report, 0.0, 1.0 if gram is None else _SEARCHING)
        refining, rng = part(report, _SEARCHING, 1.0), np.random.default_rng(seed)
        if name == _GRID:
            return refined(fit_grid(W, cap), W, gram, refining)
        if name in PROJECTED:
            matrix = projected_fit(name, source.data, cap, gram, orders=orders)
        elif name in _WEIGHED:
            assert gram is not None
            other, goal = _WEIGHED[name], Goal(max_cost=cap)
            matrix = weighed_fit(
                lambda A: Fits(source_of(A), 1.0).own(other, goal, rng), source.data, gram
            )
        elif name == kind:
            matrix = fits.own(kind, Goal(max_cost=cap), rng, searching)
        else:
            matrix = fits.within(name, kind, cap, rng)
        return refined(source.restore(matrix), W, gram, refining)

    names = [] if alone else list(contained_kinds(kind))
    held = (kind, *names)
    if gram is not None and not alone and "block_low_rank" in held:
        names.append(_GRID)
    if kind == "gblr" and not alone:
        names += projections(W.numel(), gram, orders=orders)
    if gram is not None and not alone:
        names += [name for name, other in _WEIGHED.items() if other in held]
    # A search of its own outlasts those of the others; fits to inputs are alike.
    own = 1.0 if not names else 1 / (1 + len(names)) if gram is not None else OWN_PROGRESS
    found = {kind: fit(kind, part(progress, 0.0, own))}
    ends = np.linspace(own, 1.0, len(names) + 1).tolist()
    for name, begin, end in zip(names, ends, ends[1:], strict=False):
        made = attempt(_kind_of(name, kind), partial(fit, name, part(progress, begin, end)))
        if made is not None:
            found[name] = made
    return found


def _kind_of(name: str, kind: str) -> str:
    """Kind of a fit by its name, of which `kind` is one for sure."""
    if name == _GRID:
        return "block_low_rank"
    return kind if name in PROJECTED else _WEIGHED.get(name, name)


def converted(found: Mapping[str, StructuredMatrix], kind: str, cap: int) -> list[StructuredMatrix]:
    """Fits as matrices of one kind that contains theirs, without those above the cap."""
    made = {
        name: matrix
        if name in (kind, *PROJECTED)
        else attempt(_kind_of(name, kind), partial(as_contained, matrix, kind))
        for name, matrix in found.items()
    }
    return [matrix for matrix in made.values() if matrix is not None and matrix.cost <= cap]


def nearest(found: Iterable[StructuredMatrix], W: Tensor, gram: Tensor | None) -> StructuredMatrix:
    """The matrix of least error; of matrices that are equally near, the cheapest."""
    exact = EXACT_ROUNDINGS * torch.finfo(W.dtype).eps
    pairs = iter([(relative_error([matrix], W, gram), matrix) for matrix in found])
    error, best = next(pairs)
    for other, matrix in pairs:
        if is_nearer((other, matrix.cost), (error, best.cost), exact):
            error, best = other, matrix
    return best


def fit_grid(W: Tensor, cap: int) -> BlockLowRank:
    """Approximate W by an even grid of tiles of one rank.

    Where the inputs of a layer matter more than W itself, this structure often is the
    better start. A cap below the cost of one tile is a `BudgetError`.
    """
    heights, widths, rank = tile_grid((W.shape[0], W.shape[1]), cap)
    tiles = {}
    for i, strip in enumerate(W.split(heights)):
        for j, tile in enumerate(strip.split(widths, dim=1)):
            U, s, Vh = torch.linalg.svd(tile, full_matrices=False)
            root = s[:rank].sqrt()
            tiles[i, j] = U[:, :rank] * root, Vh[:rank].T * root
    return BlockLowRank(tiles, row_sizes=heights, col_sizes=widths)


def trial_curve(
    W: Tensor,
    gram: Tensor | None,
    budget: float,
    make: Callable[[Tensor, int, Progress], StructuredMatrix],
    progress: Progress = no_progress,
) -> tuple[IntArray, FloatArray]:
    """Costs around a budget, and the squared errors of ``make(W, cap, progress)`` at these costs.

    Costs without a matrix are left out; if there is none at all, the `BudgetError` stays.

    Examples
    --------
    >>> costs, errors = trial_curve(torch.ones(8, 8), None, 0.5, lambda W, cap, _: fit_grid(W, cap))
    >>> costs.tolist(), errors.round(3).tolist()
    ([16, 32, 64], [0.0, 0.0, 0.0])
    """
    fractions = [min(1.0, multiple * budget) for multiple in TRIAL_MULTIPLES]
    caps = sorted({math.floor(fraction * W.numel()) for fraction in fractions})
    costs, errors = [], []
    for j, cap in enumerate(caps):
        try:
            matrix = make(W, cap, part(progress, j / len(caps), (j + 1) / len(caps)))
        except BudgetError:
            if cap == caps[-1]:
                raise
            continue
        costs.append(cap)
        errors.append(squared_error(W - matrix.to_dense(), gram))
    return np.array(costs), np.array(errors)
