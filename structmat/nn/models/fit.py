"""Structured approximations of given weights, also on the inputs that they multiply.

For the inputs X of a layer, collected over a few batches, ‖(W - Ŵ) X‖_F is the error of
its outputs. It depends on X through the Gram matrix G = X X^T alone, as tr(Δ G Δ^T) with
Δ = W - Ŵ.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat import binding
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
from structmat.matrices import BlockLowRank, LowRank
from structmat.matrix import StructuredMatrix
from structmat.nn.models.kinds import NETWORK_KINDS
from structmat.nn.models.projections import (
    PROJECTED,
    projected_fit,
    projections,
    weighed_fit,
)
from structmat.nn.models.random_init import tile_grid

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Costs of the trial fits before a budget is split, as multiples of the budget.
TRIAL_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Quasi-Newton steps on the contents, and the number of past steps that L-BFGS keeps.
LBFGS_STEPS, LBFGS_HISTORY = 100, 20
#: Evaluations of a step at most, on average: L-BFGS ends there.
LBFGS_EVALUATIONS = 1.25
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


def refined(
    matrix: StructuredMatrix, W: Tensor, gram: Tensor | None, progress: Progress = no_progress
) -> StructuredMatrix:
    """Fit the contents to the inputs behind `gram`, if there is one."""
    return matrix if gram is None else refine([matrix], W, gram, progress=progress)[0]


def nearest(found: Iterable[StructuredMatrix], W: Tensor, gram: Tensor | None) -> StructuredMatrix:
    """The matrix of least error; of matrices that are equally near, the cheapest."""
    exact = EXACT_ROUNDINGS * torch.finfo(W.dtype).eps
    pairs = iter([(relative_error([matrix], W, gram), matrix) for matrix in found])
    error, best = next(pairs)
    for other, matrix in pairs:
        if is_nearer((other, matrix.cost), (error, best.cost), exact):
            error, best = other, matrix
    return best


def relative_error(
    matrices: Sequence[StructuredMatrix], W: Tensor, gram: Tensor | None, dim: int = 0
) -> float:
    """Error of matrices side by side along `dim`, relative to W; 0 where W has no outputs."""
    size = squared_error(W, gram)
    dense = torch.cat([matrix.to_dense() for matrix in matrices], dim)
    return math.sqrt(squared_error(W - dense, gram) / size) if size else 0.0


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


def squared_error(difference: Tensor, gram: Tensor | None) -> float:
    """Squared Frobenius norm of Δ X, or of Δ itself without a Gram matrix."""
    difference = difference.double()
    weighed = difference if gram is None else difference @ gram.to(difference)
    return max(0.0, float((weighed * difference).sum()))


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
        binding.construct(matrix, [_variable(leaf) for leaf in binding.leaves(matrix)])
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


def _variable(leaf: Tensor) -> Tensor:
    if not leaf.is_floating_point():
        return leaf
    return leaf.detach().double().clone(memory_format=torch.contiguous_format).requires_grad_()
