"""GBLR from entries: a hierarchical matrix, converted exactly."""

from dataclasses import replace

import numpy as np

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.hierarchical.fit import fit_entries as fit
from structmat.errors import BudgetError
from structmat.matrix import StructuredMatrix
from structmat.sources.source import Source


def fit_entries(
    source: Source,
    goal: Goal,
    *,
    rng: np.random.Generator,
    progress: Progress,
    weak: bool | None = None,
) -> StructuredMatrix:
    """Blocks of a hierarchical matrix, each rank a block of its own, each dense row a run.

    It has the orders of the hierarchical matrix around it, whose admissibility `weak` may name.
    """
    found = fit(source, goal, rng=rng, progress=progress, weak=weak).to_kind("gblr")
    if goal.max_cost is not None and found.cost > goal.max_cost:
        # A dense row costs one multiplication more as a run.
        less = replace(goal, max_cost=goal.max_cost**2 // found.cost)
        found = fit(source, less, rng=rng, progress=progress).to_kind("gblr")
        if found.cost > goal.max_cost:
            raise BudgetError(
                f"a budget of {goal.max_cost} multiplications, but the matrix within costs "
                f"{found.cost} as GBLR; expected more"
            )
    return found
