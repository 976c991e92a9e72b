"""Fits of Hermitian matrices whose results store one half: one triangle, or U diag(d) U^H."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.block_low_rank import LEAST_SIDE, LEAST_SIDE_SMALL, SMALL_SIDE
from structmat.compress.block_sparse import strongest_of
from structmat.compress.goal import Goal
from structmat.compress.hierarchical import arrays
from structmat.compress.reduce.boxes import Boxes, decomposed
from structmat.compress.reduce.choice import Values, chosen, values_of
from structmat.compress.reduce.common import folded, unfolded
from structmat.compress.reduce.terms import boxes_of
from structmat.compress.tiles import TileFit, extents, nearly_best, sizes
from structmat.errors import BudgetError, InputError, ToleranceError
from structmat.intervals import IntArray, offsets
from structmat.kernels.layouts.rectangles import DENSE
from structmat.matrices import HermitianLowRank, Hierarchical, Mirrored
from structmat.matrix import StructuredMatrix
from structmat.project.svd import hermitian_part, smallest_rank, svdvals
from structmat.sources.source import Source

Fit = Callable[..., StructuredMatrix]
#: Roundings by which a Hermitian array may differ from its adjoint.
ROUNDINGS = 16
#: Most rows of an array whose eigenvalues are all found.
EXACT_SIDE = 2048
#: Share of an error that a plain fit may take before its Hermitian part is truncated.
PLAIN = 0.6


def check_hermitian(A: NDArray) -> None:
    """Refuse an array that differs from its adjoint by more than rounding."""
    if A.shape[0] != A.shape[1]:
        raise InputError(
            f"symmetric = True for a matrix of shape {A.shape}; expected a square one (leave "
            "symmetric out)"
        )
    difference, size = float(np.linalg.norm(A - A.conj().T)), float(np.linalg.norm(A))
    if difference > ROUNDINGS * float(np.finfo(A.dtype).eps) * size:
        raise InputError(
            f"symmetric = True, but the matrix differs from its adjoint by {difference / size:.3g} "
            "of its norm; expected a Hermitian one (compress (A + A.conj().T) / 2, or leave "
            "symmetric out)"
        )


def check_source(source: Source, symmetric: bool | None) -> None:
    """Refuse a source that is not known to be Hermitian."""
    if symmetric and not source.hermitian:
        raise InputError(
            f"symmetric = True for {source!r}, which is not known to be Hermitian; expected a "
            "source that says so (KernelMatrix of one set of points, Entries(…, hermitian=True)), "
            "or symmetric left out"
        )


def hermitian_fit(kind: str, fit: Fit) -> Fit:
    """The fit of a kind for Hermitian matrices: arrays, operators and sources.

    Kinds without a form of half the storage are refused.
    """
    if kind not in FORMS:
        raise InputError(
            f"symmetric = True for {kind!r}, which has no form of half the storage; expected one "
            f"of {', '.join(FORMS)} (or symmetric left out, and (B + B.H) / 2 of the result B, at "
            "twice its cost)"
        )
    return partial(_halved, kind, fit)


def _halved(kind: str, fit: Fit, A: Any, goal: Goal, **options: Any) -> StructuredMatrix:
    if 0 in A.shape or (isinstance(A, np.ndarray) and not A.any()):
        return HermitianLowRank(np.zeros((A.shape[0], 0), A.dtype), np.zeros(0, A.dtype))
    if kind == "gblr" and not isinstance(A, np.ndarray):
        raise ToleranceError("no triangle of an operator is known to the search for blocks")
    return FORMS[kind](fit, A, goal, **options)


def _low_rank(
    fit: Fit, A: Any, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> StructuredMatrix:
    """The eigenvalues of largest modulus: of an array all, else of what a plain fit found."""
    most = None if goal.max_cost is None else goal.max_cost // (2 * A.shape[0] + 1)
    if isinstance(A, np.ndarray) and len(A) <= EXACT_SIDE:
        values, vectors = np.linalg.eigh(A)
        progress(1.0)
        return _truncated(vectors, values, most, goal.max_error or 0.0)
    plain = goal if most is not None else Goal(max_error=PLAIN * (goal.max_error or 0.0))
    found: Any = fit(A, plain, rng=rng, progress=progress)
    vectors, values = hermitian_part(found.U, found.V)
    rest = math.sqrt(1 - PLAIN**2) * (goal.max_error or 0.0)
    return _truncated(vectors, values, most, rest)


def _truncated(
    vectors: NDArray, values: NDArray, most: int | None, max_error: float
) -> HermitianLowRank:
    order = np.argsort(-np.abs(values), kind="stable")
    rank = smallest_rank(np.abs(values[order]), max_error)
    if most is not None:
        size = np.abs(values).max(initial=0.0)
        rank = int((np.abs(values) > len(values) * np.finfo(values.dtype).eps * size).sum())
        rank = min(most, rank)
    kept = order[:rank]
    return HermitianLowRank(np.ascontiguousarray(vectors[:, kept]), values[kept])


def _block_sparse(
    fit: Fit, A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> StructuredMatrix:
    """Square tiles of most energy, in one triangle."""
    fits: dict[tuple[int, int], TileFit] = {}
    for p in _sides(len(A), 4):
        size, (i, j) = extents(len(A), p), np.tril_indices(-(-len(A) // p))
        begin = offsets(size)[:-1]
        square = np.abs(A).astype(np.float64) ** 2
        energy = np.add.reduceat(np.add.reduceat(square, begin, axis=0), begin, axis=1)[i, j]
        weight = 1 + (i != j)
        fits[p, p] = strongest_of(weight * energy, weight * size[i] * size[j], goal)
    near = nearly_best(fits, goal)
    p, _ = max(near, key=lambda grid: grid[0])
    i, j = (at[near[p, p].chosen] for at in np.tril_indices(-(-len(A) // p)))
    progress(1.0)
    return _matrix(_of_tiles(A, p, i, j), A.dtype)


def _block_low_rank(
    fit: Fit, A: Any, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> StructuredMatrix:
    """Square tiles of one triangle, those on the diagonal dense."""
    if not isinstance(A, np.ndarray):
        return _folded(fit, A, goal, rng=rng, progress=progress)
    n, fits = len(A), {}
    for p in _sides(n, LEAST_SIDE if n >= SMALL_SIDE else LEAST_SIDE_SMALL):
        found = chosen(_tile_values(A, p), goal)
        if goal.max_cost is None or found.cost <= goal.max_cost:
            fits[p, p] = TileFit(found.rank, found.cost, found.missed)
    if not fits:
        raise _too_low(goal, "tiles on the diagonal")
    near = nearly_best(fits, goal)
    p, _ = max(near, key=lambda grid: grid[0])
    i, j = np.tril_indices(-(-n // p))
    rank = near[p, p].chosen
    spectra = decomposed(_of_tiles(A, p, i[rank != 0], j[rank != 0]))
    progress(1.0)
    return _matrix(spectra.kept(rank[rank != 0]), A.dtype)


def _tile_values(A: NDArray, p: int) -> Values:
    """Singular values of the tiles of one triangle, whose diagonal stays dense."""
    size = extents(len(A), p)
    count = len(size)
    i, j = np.tril_indices(count)
    padded = np.zeros((count * p, count * p), A.dtype)
    padded[: len(A), : len(A)] = A
    tiles = padded.reshape(count, p, count, p).swapaxes(1, 2)
    off = np.flatnonzero(i != j)
    values = svdvals(np.ascontiguousarray(tiles[i[off], j[off]]))
    floor = ROUNDINGS * float(np.finfo(A.dtype).eps) * values.max(axis=1, initial=0.0)
    energy = 2 * np.where(values > floor[:, None], values, 0.0) ** 2
    weight = 1 + (i != j)
    step, area = weight * (size[i] + size[j]), weight * size[i] * size[j]
    return Values(energy.ravel(), np.repeat(off, values.shape[1]), step, area, i == j)


def _of_tiles(A: NDArray, p: int, i: IntArray, j: IntArray) -> Boxes:
    """Tiles of an array at places of one triangle, as dense rectangles."""
    size, begin = extents(len(A), p), offsets(extents(len(A), p))
    table = np.stack([begin[i], size[i], begin[j], size[j], np.full(i.size, DENSE)], axis=1)
    wide = np.result_type(A.dtype, np.float64)
    parts = [np.zeros(0, wide)]
    for a, height, b, width, _ in table.tolist():
        tile = A[a : a + height, b : b + width]
        parts.append(tile[np.tril_indices(height)] if a == b else tile.ravel())
    none = np.zeros(0, wide)
    return Boxes(table, none, none, np.concatenate(parts), A.shape, symmetric=True)


def _hierarchical(
    fit: Fit, A: Any, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> StructuredMatrix:
    """Rectangles of one triangle."""
    if isinstance(A, np.ndarray):
        return arrays.fit(A, goal, rng=rng, progress=progress, half=True)
    return _folded(fit, A, goal, rng=rng, progress=progress)


def _folded(
    fit: Fit, A: Any, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> StructuredMatrix:
    """One triangle of what a plain fit found, whose rectangles on the diagonal become dense."""
    plain = goal if goal.max_error is None else Goal(max_error=PLAIN * goal.max_error)
    found: Any = fit(A, plain, rng=rng, progress=progress)
    if found.hermitian:
        return found
    boxes = boxes_of(found)
    spectra = decomposed(folded(unfolded(boxes)))
    choice = chosen(values_of([spectra]), Goal(max_cost=goal.max_cost, max_error=0.0))
    if goal.max_cost is not None and choice.cost > goal.max_cost:
        raise _too_low(goal, "rectangles on the diagonal")
    orders = (found.row_order, found.col_order) if isinstance(found, Hierarchical) else None
    return _matrix(spectra.kept(choice.rank), found.dtype, orders)


def _gblr(
    fit: Fit, A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> StructuredMatrix:
    """T + T^H for the blocks T of one triangle, with half of the diagonal."""
    half = np.tril(A, -1)
    half[np.diag_indices(len(A))] = np.diagonal(A) / 2
    if goal.max_cost is not None:
        part = Goal(max_cost=goal.max_cost // 2)
    else:
        part = Goal(max_error=(goal.max_error or 0.0) / math.sqrt(2))
    return Mirrored(fit(half, part, rng=rng, progress=progress))


#: Kinds with a form of half the storage.
FORMS: dict[str, Callable[..., StructuredMatrix]] = {
    "low_rank": _low_rank,
    "block_sparse": _block_sparse,
    "block_low_rank": _block_low_rank,
    "hierarchical": _hierarchical,
    "gblr": _gblr,
}


def _matrix(
    boxes: Boxes, dtype: Any, orders: tuple[IntArray, IntArray] | None = None
) -> Hierarchical:
    u, v, dense = (flat.astype(dtype) for flat in (boxes.u, boxes.v, boxes.dense))
    rows, cols = orders or (None, None)
    return Hierarchical(
        boxes.table, u, v, dense, shape=boxes.shape, row_order=rows, col_order=cols,
        symmetric=True,
    )  # fmt: skip


def _sides(n: int, least: int) -> list[int]:
    """Sides of the square tiles that are tried."""
    return sorted({*sizes(n, min(least, max(n // 4, 1)), n), n})


def _too_low(goal: Goal, what: str) -> BudgetError:
    return BudgetError(
        f"a budget of {goal.max_cost} multiplications, too few for the {what} of a symmetric "
        "matrix, which are dense; expected more (or 'low_rank', or symmetric left out)"
    )
