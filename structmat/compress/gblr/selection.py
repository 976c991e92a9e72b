"""Selection among candidates: the goal, the best one so far, and which are worth annealing."""

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.residual import Blocks, Candidate, most_blocks
from structmat.compress.goal import Goal

#: Share of the matrix's energy. Where less than that is left by the best candidate, or allowed
#: by the goal, annealing from no blocks hardly catches up.
SMOOTH_ENERGY = 1e-6
#: Energy of a start, as a multiple of the best one's, above which annealing hardly catches up.
HOPELESS_ENERGY = 100.0
#: Cost of a start, as a multiple of the best one's, above which annealing hardly catches up.
HOPELESS_COST = 2.0


class Selection:
    """The best candidate so far that respects a goal.

    Parameters
    ----------
    A : ndarray
        The matrix.
    scale : scalar of A's dtype
        Candidates are of A / scale, and so is the goal.
    goal : Goal

    Attributes
    ----------
    aim : Goal
        A little below an error, so that rounding does not undo a search; otherwise `goal`.
    most_blocks : int
        Number of blocks that annealing may hold.
    total : float
        Energy of the matrix.
    noise : float
        Energy that may be rounding.
    blocks : Blocks
        The best ones so far.
    value : tuple of float
        (energy, cost) of the best candidate for a cap on the cost, (cost, energy) for an
        error; the smaller the better.
    likely_cost : float
        The cap on the cost, or the best candidate's cost.
    exact : bool
        Whether the best candidate leaves nothing but rounding under a cap on the cost.
    """

    def __init__(self, A: NDArray, scale: np.number, goal: Goal) -> None:
        nothing = Candidate.of(A / scale, [], 0.0)
        self.goal = self.aim = goal
        self.most_blocks = most_blocks(A)
        self.total = nothing.energy
        rounding = 4 * float(np.finfo(A.dtype).eps)
        self.noise = rounding**2 * max(A.shape) * self.total
        self._doubt = rounding * self.total**0.5
        if goal.max_error is not None:
            self.aim = Goal(max_error=max(goal.max_error - 2 * self._doubt, 0.0))
        self.blocks: Blocks = nothing.blocks
        self.value = (np.inf, np.inf)
        self.likely_cost = float(A.size if goal.max_cost is None else goal.max_cost)
        self.exact = False

    def consider(self, found: Candidate) -> bool:
        """Keep a candidate if it respects the goal and is better than all before it."""
        energy, cost = found.energy, float(found.cost)
        if self.goal.max_cost is not None:
            # Among candidates that are exact up to rounding, prefer the cheapest.
            missed = energy if energy > self.noise else 0.0
            respected, value = cost <= self.goal.max_cost, (missed, cost)
        else:
            # The energy is known up to rounding, except that zero is exact.
            doubt = self._doubt if energy > 0 else 0.0
            respected = energy**0.5 + doubt <= (self.goal.max_error or 0.0)
            value = (cost, energy)
        better = respected and value < self.value
        if better:
            self.blocks, self.value = found.blocks, value
            if self.goal.max_cost is not None:
                self.exact = energy <= self.noise
            else:
                self.likely_cost = min(cost, self.likely_cost)
        return better

    def is_hopeless(self, start: Candidate) -> bool:
        """Whether annealing from a start would hardly catch up with the best candidate.

        Added to nothing, a block gains a share of the energy, which is a slow way to the
        small errors that truncation reaches on smooth matrices.
        """
        if self.goal.max_cost is not None:
            energy, behind = self.value[0], start.energy > HOPELESS_ENERGY * self.value[0]
        else:
            energy = (self.goal.max_error or 0.0) ** 2
            behind = start.cost > HOPELESS_COST * self.value[0]
        return behind if start.cost else energy < SMOOTH_ENERGY * self.total
