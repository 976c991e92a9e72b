"""`compress`: checks, budgets, and measured errors."""

import math
import time
import warnings
from functools import partial
from typing import Any

import numpy as np

from structmat._progress import Progress, part, reporting
from structmat.compress.arguments import (
    Workers,
    bound_for,
    check_goal,
    check_kind,
    generator_of,
    workers_of,
)
from structmat.compress.contained import Fits
from structmat.compress.entries.run import compress_source
from structmat.compress.hermitian import FORMS, check_hermitian, check_source
from structmat.compress.measure import Measure, asks_for_exact, measures_exactly, relative
from structmat.compress.range import best_of_rank, known_of_rank
from structmat.compress.results import CompressionResult
from structmat.compress.source import Source, source_of, svd_residual
from structmat.kinds import later
from structmat.project.ranks import low_rank
from structmat.project.svd import Triple, truncated_svd
from structmat.sources.source import Source as EntrySource

#: Share of the progress of a compression that is left for measuring it.
MEASURING = 0.1


def compress(
    A: Any,
    kind: str = "gblr",
    *,
    budget: float | None = None,
    tol: float | None = None,
    symmetric: bool | None = None,
    measure: str | None = None,
    rng: Any = None,
    progress: Progress | bool | None = None,
    client: Any = None,
    folder: Any = None,
) -> CompressionResult:
    """Approximate a matrix by a structured one, under a budget or to a tolerance.

    Parameters
    ----------
    A : array, shape (m, n), or structured or sparse matrix, or operator
        An array of any library. An operator is anything with ``shape`` and ``matmat``,
        ``matvec`` or ``@``, of SciPy, PyLops, lazylinop or your own. Its adjoint is ``rmatmat``,
        ``rmatvec``, ``H`` or ``T``; a symmetric one needs none. Like a structured or sparse
        matrix of more than 2**26 entries, it is compressed through its products. A source,
        `KernelMatrix` or `Entries`, is compressed by blocks of its entries, in the order of a k-d
        tree where it has points; kinds without such a fit form it, up to 2**26 entries. Gradients
        of tensors do not follow.
    kind : str
        "gblr" by default, which contains the next three; "low_rank", "block_sparse",
        "block_low_rank", "monarch", or one that `register` entered with a fit.
    budget : float, optional
        Cap on the cost, as a fraction of m n, in (0, 1]. Give this or `tol`.
    tol : float, optional
        Bound on ``||A - B||_F / ||A||_F``, which the measured error meets. The cost may
        then exceed that of the dense matrix.
    symmetric : bool, optional
        True for a Hermitian matrix, of which the result stores half: one triangle of tiles, blocks
        or rectangles, U diag(d) U^H for "low_rank", and for "gblr" the best of these and T + T^H.
        Its `hermitian` is True. Arrays and sources have to be Hermitian. For an operator True says
        that it equals its transpose or its adjoint, which then takes the place of the adjoint; it
        is stored whole in a kind without such a form, and where it is not Hermitian. By default an
        operator without an adjoint is tested by products with random vectors.
    measure : {"estimate", "exact"}, optional
        Error of an operator: by default estimated by products with random vectors, with a
        bound that holds with a probability of 0.999 and is the one that meets `tol`; or measured,
        with a product for each column. Errors of arrays are always measured.
    rng : None, int or numpy.random.Generator
        As for `numpy.random.default_rng`.
    progress : bool or callable, optional
        By default a bar on a terminal, once the work has taken three seconds, and silence
        elsewhere. True shows the bar at once, False never; a function is called with the
        share of the work done, 0 to 1.
    client : distributed.Client, optional
        Dask cluster on whose workers the parts of a source are built and stay; see
        `structmat.distributed`. The `matrix` of the result is a `DistributedMatrix`, that of one
        machine to rounding, whatever its size. For "hierarchical" and "block_low_rank".
    folder : path-like, optional
        Folder, seen by all workers and this process, in which the workers write their parts. A
        compression that was stopped goes on there, with the random numbers that it began with.

    Returns
    -------
    CompressionResult

    Raises
    ------
    KindError
        If the kind is unknown.
    BudgetError
        If the budget is no fraction, or below the cost of the cheapest Monarch matrix of
        that shape. The other kinds fit into any budget: the zero matrix costs nothing, and a
        warning says so where the budget leaves nothing else.
    ToleranceError
        If no matrix of the kind comes that close in the precision of `A`.
    InputError
        If `A` is no finite matrix of numbers, if none or both of `budget` and `tol` are
        given, or if the kind needs the entries of an operator. With `symmetric`, if an array or
        a source is not Hermitian, or the kind has no form of half the storage. With `client`, if
        `A` is no source, the kind has no fit on workers, their memory is too small, or the folder
        belongs to another compression.
    FileFormatError
        If a file of the folder is damaged.

    Notes
    -----
    The result is never worse than a kind that converts to this one exactly, at about its
    cost: the fits of such kinds, converted, are among the candidates. `convert` lists them.

    Expected time on one core, for 1024 x 1024: about 8 s to "gblr", 2 s to "block_low_rank"
    and "monarch", half a second to the others; for 256 x 256 half a second at most.

    Errors of arrays are measured. That of an operator is estimated by 16 to 64 products with
    random vectors that no fit has seen, and `CompressionResult.estimate` has its bound. With
    ``measure="exact"`` the norm of an operator takes n products with unit vectors, some at a
    time; that of a sparse matrix takes its entries. The error of a low-rank or GBLR matrix B
    then takes one product for each column of its factors, as ``||A||**2 - 2 <A, B> + ||B||**2``.
    Where that would cancel, below a relative error of about 1e-5 in double precision, the
    difference takes n products again.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.outer(np.arange(1.0, 9.0), np.ones(8))
    >>> result = compress(A, "low_rank", tol=1e-9)
    >>> result.cost, result.error < 1e-9
    (16, True)
    """
    check_kind(kind)
    check_goal(budget, tol)
    result = compressed(
        A, kind, budget, tol, symmetric=symmetric, measure=measure, rng=generator_of(rng),
        progress=progress, workers=workers_of(A, client, folder),
    )  # fmt: skip
    warn_of_zero(result, kind, budget)
    return result


def warn_of_zero(result: CompressionResult, kind: str, budget: float | None) -> None:
    """Warn of a budget that leaves nothing of a matrix."""
    # Permutations cost nothing, either.
    if budget is not None and result.cost == 0 and math.isclose(result.error, 1.0, rel_tol=1e-6):
        size = math.prod(result.matrix.shape)
        warnings.warn(
            f"the result is the zero matrix: a budget of {budget} is {int(budget * size)} of the "
            f"{size} multiplications of a dense matrix, too few for any part of a {kind!r} one; "
            "expected a larger budget (structmat.compare shows what each kind makes of it)",
            stacklevel=3,
        )


def compressed(
    A: Any,
    kind: str,
    budget: float | None,
    tol: float | None,
    *,
    symmetric: bool | None = None,
    measure: str | None = None,
    rng: np.random.Generator,
    progress: Progress | bool | None = None,
    workers: Workers | None = None,
) -> CompressionResult:
    """Result of `compress` for a kind and a goal that were checked."""
    if isinstance(A, EntrySource):
        form = partial(compressed, kind=kind, budget=budget, tol=tol, rng=rng, symmetric=symmetric)
        check_source(A, symmetric)
        bound, exact = bound_for(budget, tol, A.shape), asks_for_exact(measure)
        with reporting(progress, f"compressing to {kind}") as report:
            if workers is not None:
                distributed = later("structmat.distributed.fit:compress_source")
                found: CompressionResult = distributed(
                    A, kind, bound, workers, rng, report, exact=exact, hermitian=bool(symmetric)
                )
                return found
            return compress_source(
                A, kind, bound, form, rng, report, exact=exact, hermitian=bool(symmetric)
            )
    with reporting(progress, f"compressing to {kind}") as report:
        source = source_of(A, symmetric=symmetric, rng=rng)
        bound = bound_for(budget, tol, source.data.shape)
        fits = fits_of(source, measure, hermitian=is_halved(source, symmetric, kind))
        fits.load(kind)
        started = time.perf_counter()
        matrix = fits.best(kind, bound, rng, part(report, 0.0, 1 - MEASURING))
        seconds = time.perf_counter() - started
        estimate = fits.estimate(matrix)
        baseline = estimate.error
        if kind != "low_rank":
            cap = matrix.cost if bound.cap is None else bound.cap
            baseline = _baseline(source, fits, cap, rng)
        report(1.0)
    return CompressionResult(
        source.restore(matrix), kind, estimate.error, matrix.cost, matrix.storage, baseline,
        seconds, estimate, source.data.products if source.implicit else 0,
    )  # fmt: skip


def fits_of(source: Source, measure: str | None, *, hermitian: bool = False) -> Fits:
    """Fits of an input, with errors measured or estimated as asked for."""
    exact = measures_exactly(source, measure)
    size = source.norm(exact=exact)
    return Fits(source, size, Measure(source, size, exact=exact), hermitian=hermitian)


def is_halved(source: Source, symmetric: bool | None, kind: str) -> bool:
    """True if half of the matrix is to be stored; an array has to be Hermitian then."""
    if not symmetric:
        return False
    if source.implicit:
        return kind in FORMS and source.data.hermitian
    check_hermitian(source.data)
    return True


def _baseline(source: Source, fits: Fits, cap: int, rng: np.random.Generator) -> float:
    """Relative error of low rank at a cost; NaN where the products taken do not tell."""
    op, rank = source.data, cap // max(sum(source.data.shape), 1)
    if not source.implicit:
        triple: Triple | None = truncated_svd(op, rank, rng)
    else:
        triple = best_of_rank(op, rank, rng) if fits.measured else known_of_rank(op, rank, rng)
    if triple is None:
        return math.nan
    if fits.measured:
        return relative(svd_residual(op, triple), fits.size)
    return fits.error(low_rank(triple, len(triple[1])))
