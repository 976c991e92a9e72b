"""Compression to GBLR: a portfolio of starts, annealing from them, and the best result."""

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.compress.gblr.anneal import Annealing
from structmat.compress.gblr.candidates import EXACT_COST, HELD_SHARE, Selection, Starts
from structmat.compress.gblr.residual import Blocks, Candidate, DenseResidual
from structmat.compress.goal import Goal
from structmat.matrices.gblr import GBLR

#: Allowance of one annealing, in units of 100 microseconds, for a matrix of at most
#: `WORK_ENTRIES` entries; in proportion to the entries above that.
WORK, WORK_ENTRIES = 2000, 2**18
#: First prices of annealing from no blocks, as multiples of the energy by the likely cost;
#: only the first one above `WORK_ENTRIES`.
FIRST_PRICES = (1.0, 0.3)
#: Number of times that the best annealing is loosened and annealed again.
LOOSENINGS = 4
#: Cost that loosening adds, as a share of the cap.
LOOSE_COST = 0.25
#: Share of the progress that is reported for the starts.
STARTS_PROGRESS = 0.3


def fit(A: NDArray, goal: Goal, *, rng: np.random.Generator, progress: Progress) -> GBLR:
    """Approximate a matrix by a sum of rank-one blocks on cyclic runs.

    A matrix that is exactly a grid of low-rank tiles, or exactly a sum of few blocks, is
    taken apart by linear algebra. Otherwise annealing starts from the truncated singular
    value decomposition, from the best hierarchical partition into truncated tiles, from
    the best block-low-rank matrix if it is better, and from a penalised pursuit: blocks are
    added by max-subarray power iteration, and all are fitted again in turn, under a falling
    price for a multiplication. Matrices that are complex, very large, or best truncated as a
    whole are annealed from no blocks instead of the pursuit. The best result is returned. The
    starts themselves are among the candidates, so that the result is never worse than the
    truncated decomposition.

    The result depends on the input and on `rng` alone, not on the time that it takes. Only
    the linear algebra library and its number of threads may change last digits, and with
    them which blocks are found.
    """
    largest = float(np.abs(A).max(initial=0.0))
    if largest == 0 or (goal.max_cost is not None and goal.max_cost < 1):
        progress(1.0)
        return GBLR(*Blocks.of([], A.dtype), shape=A.shape)
    # A power of two, so that scaling is exact.
    power = float(np.ldexp(1.0, np.frexp(largest)[1] - 1))
    if goal.max_error is not None:
        goal = Goal(max_error=goal.max_error / power)
    scale = A.dtype.type(power)
    blocks = _search(A, scale, goal, rng, progress)
    progress(1.0)
    return GBLR(*blocks._replace(u=blocks.u * scale), shape=A.shape)


def _search(
    A: NDArray, scale: np.number, goal: Goal, rng: np.random.Generator, progress: Progress
) -> Blocks:
    """Consider the starts in turn, then anneal; stop where the rest would be of no use."""
    best = Selection(A, scale, goal)
    starts = Starts(A, scale, rng, best)
    if goal.max_error is not None and best.total**0.5 <= goal.max_error:
        return best.blocks
    scattered = starts.is_scattered()
    for step, find in enumerate((starts.spans,) if scattered else (starts.grid, starts.spans), 1):
        found = find()
        best.consider(found)
        if found.cost < EXACT_COST * best.likely_cost:
            best.keep(found)
        progress(STARTS_PROGRESS * step / 6)
    if not scattered and starts.is_sparse():
        best.consider(starts.entries())
    if best.exact or (scattered and best.consider(starts.lines())):
        return best.blocks
    best.consider_start(starts.partition())
    progress(STARTS_PROGRESS * 3 / 6)
    lines_lead = best.consider(starts.lines())
    progress(STARTS_PROGRESS * 4 / 6)
    if goal.max_cost is None and best.value[0] > A.size:
        best.consider(starts.entries())
    truncation_leads = best.consider_start(starts.truncation())
    progress(STARTS_PROGRESS * 5 / 6)
    # Beside a whole of low rank, a pursuit is slow and gains little.
    pursued = not truncation_leads and starts.is_pursued()
    pursuit_leads = pursued and best.consider_start(starts.pursuit())
    if lines_lead and not (truncation_leads or pursuit_leads or best.exact):
        # Nothing of low rank is left to refine.
        return best.blocks
    # A whole that beats all its partitions beats tiles of one size too.
    if not (truncation_leads or pursuit_leads):
        found = starts.tiles()
        if best.consider(found):
            best.keep(found)
        progress(STARTS_PROGRESS)
    if best.likely_cost <= HELD_SHARE * A.size and not best.exact:
        _anneal_all(starts, pursued, progress)
    return best.blocks


def _anneal_all(starts: Starts, pursued: bool, progress: Progress) -> None:
    """Anneal from every start, then loosen and anneal the best result again and again."""
    A, best, capped = starts.A, starts.best, starts.best.goal.max_cost is not None
    if not pursued:
        average = best.total / best.likely_cost
        for part in FIRST_PRICES if A.size <= WORK_ENTRIES else FIRST_PRICES[:1]:
            best.kept.append(Candidate.of(A, starts.scale, [], part * average))
    work = WORK * max(1.0, A.size / WORK_ENTRIES)
    first = len(best.kept)
    count = first + (LOOSENINGS if capped else 0)
    found: Candidate | None = None
    for done in range(first):
        start = best.kept.pop(0)
        if not best.is_hopeless(start):
            annealed, _ = _anneal(starts, start, work, _part(progress, done, count))
            if best.consider(annealed):
                found = annealed
            del annealed
        del start
    if not capped or found is None or best.exact:
        return
    work *= 2
    for done in range(first, count):
        if work <= 0:
            break
        found, work = _anneal(starts, found, work, _part(progress, done, count), LOOSE_COST)
        best.consider(found)


def _part(progress: Progress, done: int, count: int) -> Progress:
    """Progress of the next annealing, after `done` of `count`."""

    def report(share: float) -> None:
        progress(STARTS_PROGRESS + (1 - STARTS_PROGRESS) * (done / count + 1 / count * share))

    return report


def _anneal(
    starts: Starts, start: Candidate, work: float, progress: Progress, extra: float = 0.0
) -> tuple[Candidate, float]:
    """Anneal once, loosened first by a share `extra`; returns the unspent work as well."""
    residual, blocks = DenseResidual(starts.A / starts.scale), list(start.blocks.unpack())
    search = Annealing(residual, blocks, starts.best.aim, starts.rng, work, progress)
    price = search.loosen(start.price, extra) if extra else search.anneal(start.price)
    blocks, work = search.blocks, search.work
    del residual, search
    return Candidate.of(starts.A, starts.scale, blocks, price), work
