"""GBLR from entries: a hierarchical or block-low-rank matrix, converted exactly."""

from dataclasses import replace
from typing import Any

import numpy as np

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.errors import BudgetError
from structmat.kinds import find_entries_fit, fitted_kinds
from structmat.matrices.gblr import GBLR
from structmat.sources.source import Source


def fit_entries(
    source: Source, goal: Goal, *, rng: np.random.Generator, progress: Progress
) -> GBLR:
    """Blocks of a hierarchical matrix, each rank a block of its own, each dense row a run."""
    kind = "hierarchical" if "hierarchical" in fitted_kinds() else "block_low_rank"
    fit: Any = find_entries_fit(kind)
    found = fit(source, goal, rng=rng, progress=progress).to_kind("gblr")
    if goal.max_cost is not None and found.cost > goal.max_cost:
        # A dense row costs one multiplication more as a run.
        less = replace(goal, max_cost=goal.max_cost**2 // found.cost)
        found = fit(source, less, rng=rng, progress=progress).to_kind("gblr")
        if found.cost > goal.max_cost:
            raise BudgetError(
                f"a budget of {goal.max_cost} multiplications, but {kind!r} matrices cost "
                f"{found.cost} as GBLR; expected more"
            )
    return found
