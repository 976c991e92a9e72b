"""What workers do in a compression: approximate the rectangles of a share, then pack them.

These are pure functions of their arguments: a task that is run again gives the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from structmat.compress.hierarchical.assemble import Cut, Spectra, cut_of, packed, spectra_of
from structmat.compress.hierarchical.evaluate import Factors
from structmat.compress.hierarchical.fit import FitPlan, factored
from structmat.distributed.part import Part, on_hull
from structmat.distributed.shares import Share
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
class Approximated:
    """The far rectangles of a share, and the near ones, to which some may have come."""

    found: tuple[Factors, ...]
    near: IntArray
    #: Entries of the source that were evaluated.
    entries: int


@dataclass(frozen=True)
class Packed:
    """The part of the matrix that a share has become."""

    part: Part
    entries: int


@task
def approximate(plan: FitPlan, share: Share) -> Approximated:
    """Approximate the far rectangles of a share."""
    own = plan.apart()
    found, near = factored(own, share.of(plan.pairs))
    return Approximated(tuple(found), near, own.evaluator.source.entries)


def spectra(share: Approximated) -> Spectra:
    """Singular values of a share: all that has to be known elsewhere."""
    return spectra_of(share.found)


def cut(plan: FitPlan, near_cost: int, *spectra: Spectra) -> Cut:
    """Where the singular values of all shares are cut."""
    return cut_of(spectra, plan.goal, plan.pairs.weight, near_cost)


@task
def pack(plan: FitPlan, share: Approximated, at: Cut, dtype: np.dtype[Any]) -> Packed:
    """Cut the ranks of a share, evaluate its near rectangles, and pack both."""
    own = plan.apart()
    pairs = plan.pairs
    contents = packed(
        list(share.found), share.near, at, own.evaluator, pairs.shape,
        symmetric=pairs.symmetric, dtype=dtype,
    )  # fmt: skip
    return Packed(on_hull(*contents, symmetric=pairs.symmetric), own.evaluator.source.entries)


def entries_of(done: Approximated | Packed) -> int:
    """Entries that a task evaluated."""
    return done.entries


def part_of(done: Packed) -> Part:
    """The part alone, which stays on its worker."""
    return done.part
