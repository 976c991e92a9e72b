"""What workers do in a compression: approximate the rectangles of a share, then pack them.

These are pure functions of their arguments: a task that is run again gives the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from structmat.compress.hierarchical.assemble import Cut, Spectra, cut_of, packed, spectra_of
from structmat.compress.hierarchical.evaluate import Factors, joined_factors
from structmat.compress.hierarchical.fit import FitPlan, factored
from structmat.distributed.folder import Store
from structmat.distributed.part import Part, on_hull
from structmat.distributed.shares import Share
from structmat.errors import FileFormatError
from structmat.intervals import IntArray
from structmat.kernels.cpu.threads import one_thread

P = ParamSpec("P")
Result = TypeVar("Result")


def task(work: Callable[P, Result]) -> Callable[P, Result]:
    """Run a function in one thread: a worker runs as many tasks as it has threads."""

    @wraps(work)
    def alone(*args: P.args, **kwargs: P.kwargs) -> Result:
        with one_thread():
            return work(*args, **kwargs)

    return alone


@dataclass(frozen=True)
class Job:
    """A share of a fit, the number of it, and the files of the fit, if it has any."""

    share: Share
    number: int
    store: Store | None


@dataclass(frozen=True)
class Approximated:
    """The far rectangles of a share, and the near ones, to which some may have come."""

    found: Factors
    near: IntArray
    #: Entries of the source that were evaluated.
    entries: int


@dataclass(frozen=True)
class Packed:
    """The part of the matrix that a share has become."""

    part: Part
    entries: int


@task
def approximate(plan: FitPlan, job: Job) -> Approximated | None:
    """Approximate the far rectangles of a share, or read them; None where it is packed already."""
    store = job.store
    if store is not None and store.part(job.number).exists():
        return None
    if store is not None and store.far(job.number).exists():
        return Approximated(*store.read_far(job.number), 0)
    own = plan.apart()
    found, near = factored(own, job.share.of(plan.pairs))
    one = joined_factors(found)
    if store is not None:
        store.write_far(job.number, one, near)
    return Approximated(one, near, own.evaluator.source.entries)


def spectra(share: Approximated | None) -> Spectra | None:
    """Singular values of a share: all that has to be known elsewhere."""
    return None if share is None else spectra_of([share.found])


def cut(plan: FitPlan, near_cost: int, store: Store | None, *spectra: Spectra | None) -> Cut:
    """Where the singular values of all shares are cut; once written, it stays."""
    if store is not None and (known := store.read_cut()) is not None:
        return known
    there = [some for some in spectra if some is not None]
    if len(there) < len(spectra):
        raise FileFormatError(
            f"{str(store and store.path)!r} has parts without the cut they were packed by; delete "
            "that folder"
        )
    found = cut_of(there, plan.goal, plan.pairs.weight, near_cost)
    if store is not None:
        store.write_cut(found)
    return found


@task
def pack(
    plan: FitPlan, job: Job, share: Approximated | None, at: Cut, dtype: np.dtype[Any]
) -> Packed:
    """Cut the ranks of a share, evaluate its near rectangles, and pack both; or read the part."""
    store = job.store
    if store is not None and (share is None or store.part(job.number).exists()):
        return Packed(store.read_part(job.number), 0)
    if share is None:
        raise FileFormatError("a share without rectangles and without files; compress again")
    own, pairs = plan.apart(), plan.pairs
    contents = packed(
        [share.found], share.near, at, own.evaluator, pairs.shape,
        symmetric=pairs.symmetric, dtype=dtype,
    )  # fmt: skip
    part = on_hull(*contents, symmetric=pairs.symmetric)
    if store is not None:
        store.write_part(job.number, part)
    return Packed(part, own.evaluator.source.entries)


def entries_of(done: Approximated | Packed | None) -> int:
    """Entries that a task evaluated."""
    return 0 if done is None else done.entries


def part_of(done: Packed) -> Part:
    """The part alone, which stays on its worker."""
    return done.part
