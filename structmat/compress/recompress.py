"""`recompress`: the cost of an expression, brought down by the contents of its terms alone."""

import math
import time
from collections.abc import Iterator

import numpy as np

from structmat import _array
from structmat.compress.arguments import bound_for, check_goal
from structmat.compress.contained import EQUAL_ERRORS, Bound
from structmat.compress.estimate import CONFIDENCE, Estimate
from structmat.compress.front import compressed, warn_of_zero
from structmat.compress.hermitian import FORMS
from structmat.compress.measure import relative
from structmat.compress.reduce.boxes import Boxes
from structmat.compress.reduce.missed import Norm, exact, norm_of
from structmat.compress.reduce.terms import Term, terms_of
from structmat.compress.reduce.together import ROUNDINGS, Reduced, reduced
from structmat.compress.reduce.variants import variants
from structmat.compress.results import CompressionResult
from structmat.compress.source import DENSE_ENTRIES
from structmat.errors import BudgetError, InputError
from structmat.kinds import fitted_kinds
from structmat.matrices import HermitianLowRank, LowRank, Monarch, Sum
from structmat.matrices.hierarchical_entries import frobenius_norm
from structmat.matrix import StructuredMatrix

#: Aims in turn, as shares of the tolerance, for terms that overlap.
TRIES = 5
#: Most entries of a matrix of Monarch matrices that is always searched from its entries.
SEARCHED_ENTRIES = 2**20


def recompress(
    A: StructuredMatrix, *, budget: float | None = None, tol: float | None = None
) -> CompressionResult:
    """Bring down the cost of a matrix that has a structure already, such as a sum of several.

    Terms of one structure are added, factors are decomposed, and ranks are shared out under one
    bound; rectangles of different structures meet on common ones. Only contents are read: the
    matrix is not formed.

    Parameters
    ----------
    A : StructuredMatrix, shape (m, n)
        Of any kind and any library, sums and products included. Gradients do not follow.
    budget : float, optional
        Cap on the cost, as a fraction of m n, in (0, 1]. Give this or `tol`. Within the cap
        nothing is lost but roundings, where the cost allows it.
    tol : float, optional
        Bound on ``||A - B||_F / ||A||_F``. A tolerance near the rounding of the contents, such as
        1e-12, removes what is redundant alone.

    Returns
    -------
    CompressionResult
        Its matrix never costs more than `A`, and is `A` itself where nothing is gained. It is
        Hermitian where `A` says that of itself. `kind` is that of the matrix, and
        `baseline_error` is NaN.

    Raises
    ------
    BudgetError
        If the budget is no fraction, or below the cost of terms that cannot be reduced.
    InputError
        If `A` is no structured matrix or holds NaN or infinity, or if none or both of `budget`
        and `tol` are given.

    Notes
    -----
    What was left out is a matrix of its own, so the error comes without cancellation, roundings
    included. It is measured for one matrix of low rank, of tiles or of blocks that do not
    overlap, whatever its size, and for others up to 2**20 entries; beyond, it is estimated by 32
    products with random vectors, with a bound of probability 0.999 that meets the tolerance.

    Low-rank, block-low-rank, block-sparse and hierarchical matrices take O(r² (p + q)) operations
    for a p x q rectangle of rank r, and memory like their contents. In GBLR matrices, blocks on
    equal runs are decomposed together, and those that touch or overlap on one axis become one
    where that costs less; up to 2**22 entries, tiles of their sum are tried as well. Monarch
    matrices are taken as tiles. Under a budget, matrices of up to 2**26 entries with terms that
    nothing else reduces are compressed from their entries, and so are sums of Monarch matrices of
    up to 2**20. The factors of a product are reduced one by one. Others (diagonals, permutations,
    sources) stay.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.LowRank(np.ones((40, 1)), np.arange(30.0)[:, None])
    >>> total = A + structmat.LowRank(2 * A.U, A.V)
    >>> result = structmat.recompress(total, tol=1e-12)
    >>> total.cost, result.cost, result.error < 1e-12
    (140, 70, True)
    """
    if not isinstance(A, StructuredMatrix):
        raise InputError(
            f"A is a {type(A).__qualname__}; expected a StructuredMatrix (an array or an operator "
            "becomes one by structmat.compress)"
        )
    check_goal(budget, tol)
    started = time.perf_counter()
    host = A.to("numpy")
    if not all(np.isfinite(leaf).all() for leaf in host._leaves()):
        raise InputError(f"{A!r} holds NaN or infinity; expected finite contents (mend them first)")
    bound = bound_for(budget, tol, A.shape)
    found, estimate = _best(host, bound)
    if found.cost >= A.cost and (bound.cap is None or A.cost <= bound.cap):
        found, estimate = host, Estimate(0.0, 0.0, 1.0)
    if bound.cap is not None and found.cost > bound.cap:
        raise BudgetError(
            f"{A!r} has terms that cost {found.cost} and cannot be reduced, above the budget of "
            f"{bound.cap} multiplications; expected a budget of at least "
            f"{found.cost / math.prod(A.shape):.3g} (or structmat.compress, which approximates "
            "from entries or products)"
        )
    matrix = A if found is host else _restored(found, A)
    result = CompressionResult(
        matrix, matrix.kind, estimate.error, matrix.cost, matrix.storage, math.nan,
        time.perf_counter() - started, estimate,
    )  # fmt: skip
    warn_of_zero(result, A.kind, budget)
    return result


def _restored(matrix: StructuredMatrix, like: StructuredMatrix) -> StructuredMatrix:
    """A matrix in the library and on the device of another one."""
    if _array.is_numpy(like.xp):
        return matrix
    moved = matrix.to(like.xp)
    return moved if moved.device == like.device else moved.to(like.device)


def _best(A: StructuredMatrix, bound: Bound) -> tuple[StructuredMatrix, Estimate]:
    """The best of all ways: of least cost for a tolerance, of least error under a cap."""
    if 0 in A.shape or (bound.tol == 0.0):
        return A, Estimate(0.0, 0.0, 1.0)
    terms = terms_of(A)
    size = _norm(A, terms)
    if size.value == 0.0:
        return _zero(A), Estimate(0.0, 0.0, 1.0)
    best: tuple[StructuredMatrix, Estimate] | None = None
    for way in _ways(A, terms):
        found = _to_cap(way, bound.cap, size) if bound.cap is not None else None
        if bound.tol is not None:
            found = _to_tolerance(way, bound.tol, size)
        if found is None or (A.hermitian and not found[0].hermitian):
            continue
        if best is None or _key(found, bound) < _key(best, bound):
            best = found
    if bound.cap is not None and (best is None or _leaves_room(A, best, bound)):
        found = _searched(A, bound)
        if found is not None and (best is None or _key(found, bound) < _key(best, bound)):
            best = found
    return best or (A, Estimate(0.0, 0.0, 1.0))


def _leaves_room(
    A: StructuredMatrix, best: tuple[StructuredMatrix, Estimate], bound: Bound
) -> bool:
    """True if a search from all entries may find more than the best of all ways."""
    above, error, _ = _key(best, bound)
    small = math.prod(A.shape) <= SEARCHED_ENTRIES
    return above > 0 or (error > 0 and small and _has_monarch(A))


def _zero(like: StructuredMatrix) -> StructuredMatrix:
    """The zero matrix of a shape."""
    U, V = (np.zeros((size, 0), like.dtype) for size in like.shape)
    return HermitianLowRank(U, U[0, :]) if like.hermitian else LowRank(U, V)


def _key(found: tuple[StructuredMatrix, Estimate], bound: Bound) -> tuple[float, ...]:
    matrix, estimate = found
    if bound.cap is None:
        return matrix.cost, estimate.error
    # Errors that are roundings are equal.
    rounding = ROUNDINGS * float(np.finfo(matrix.dtype).eps)
    error = estimate.error if estimate.error > rounding else 0.0
    return max(matrix.cost - bound.cap, 0), error, matrix.cost


def _ways(A: StructuredMatrix, terms: list[Term]) -> Iterator[list[Term]]:
    """Terms of a matrix in several ways, with Monarch matrices as they are and as tiles."""
    yield from variants(terms)
    if _has_monarch(A):
        yield from variants(terms_of(A, opened=True))


def _has_monarch(A: StructuredMatrix) -> bool:
    return any(isinstance(part, Monarch) for part in _parts(A))


def _parts(A: StructuredMatrix) -> Iterator[StructuredMatrix]:
    yield A
    for child in A.children:
        yield from _parts(child)


def _norm(A: StructuredMatrix, terms: list[Term]) -> Norm:
    """Norm of the whole: that of its one term where structure gives it."""
    if len(terms) == 1 and terms[0].boxes is not None and terms[0].form != "gblr":
        return exact(_size(terms[0].boxes))
    return norm_of(A, np.random.default_rng(0))


def _size(boxes: Boxes) -> float:
    return float(frobenius_norm(boxes.of, (boxes.u, boxes.v, boxes.dense)))


def _to_cap(terms: list[Term], cap: int, size: Norm) -> tuple[StructuredMatrix, Estimate] | None:
    found = reduced(terms, cap=cap)
    return found.matrix, _estimate(found, size)


def _to_tolerance(
    terms: list[Term], tol: float, size: Norm
) -> tuple[StructuredMatrix, Estimate] | None:
    """The matrix of least cost found whose error meets a tolerance; None if none does."""
    aim = tol
    for _ in range(TRIES):
        found = reduced(terms, error=aim * size.lower, tol=aim)
        estimate = _estimate(found, size)
        if estimate.bound <= tol:
            return found.matrix, estimate
        aim *= min(0.7, 0.9 * tol / estimate.bound)
    return None


def _estimate(found: Reduced, size: Norm) -> Estimate:
    """Relative error of a reduction: measured, or estimated with its bound."""
    missed = exact(found.most)
    if found.dropped and not found.is_exact:
        total = found.dropped[0] if len(found.dropped) == 1 else Sum(*found.dropped)
        missed = norm_of(total, np.random.default_rng(1), most=found.most)
    error = relative(math.hypot(missed.value, found.rounding), size.value)
    bound = relative(math.hypot(missed.upper, found.rounding), size.lower)
    products = max(missed.products, size.products)
    if not products or bound == 0.0:
        return Estimate(error, error, 1.0)
    return Estimate(error, max(error, bound), CONFIDENCE, products=products)


def _searched(A: StructuredMatrix, bound: Bound) -> tuple[StructuredMatrix, Estimate] | None:
    """A matrix of one of the kinds among the terms, from all entries; None where none fits."""
    if bound.cap is None or math.prod(A.shape) > DENSE_ENTRIES:
        return None
    kinds = {part.kind for part in _parts(A)} & set(fitted_kinds())
    kinds = kinds & set(FORMS) if A.hermitian else kinds
    best: tuple[StructuredMatrix, Estimate] | None = None
    for kind in sorted(kinds) or ["block_low_rank"]:
        try:
            share = bound.cap / math.prod(A.shape)
            found = compressed(
                A, kind, share, None, rng=np.random.default_rng(0), progress=False,
                symmetric=A.hermitian or None,
            )  # fmt: skip
        except BudgetError:
            continue
        if found.error > 1 - EQUAL_ERRORS:
            continue  # the zero matrix
        new = found.matrix, found.estimate
        if best is None or _key(new, bound) < _key(best, bound):
            best = new
    return best
