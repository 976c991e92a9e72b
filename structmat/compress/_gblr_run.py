"""One run of the search: blocks are added while the price falls, then fitted to the goal."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from structmat.compress._gblr_residual import Block, DenseResidual, Residual, squares
from structmat.compress._gblr_search import Found, climb, propose, propose_tiles, refit, sweep
from structmat.compress._goal import Goal, Progress

__all__ = ["Run", "energy_of", "total_cost"]

#: Random starts of one batch, and most rounds on one scale.
BATCH = 32
ROUNDS = 10
#: Scales, from the coarsest, on which the free starts are tried as well.
FREE_LEVELS = 5
#: A block that others have changed is taken if it still gains this share of its promise.
STILL_GOOD = 0.5
#: The price falls by this factor a stage, to this share of the first at the least.
FALL = 0.6
LEAST = 1e-15
#: Above the goal the price rises by this factor a sweep, at most so many times.
RISE = 1.15
RISES = 20
#: The cap on the cost may be overshot by this factor before the price rises again.
OVERSHOOT = 1.04
#: A stage is swept once the cost has grown by this factor since the last sweep.
GROWN = 1.1


def total_cost(blocks: list[Block]) -> int:
    """Multiplications of one product with a vector."""
    return sum(block.cost for block in blocks)


def energy_of(block: Block) -> float:
    """Squared Frobenius norm of a block."""
    return float(squares(block.u).sum(dtype=np.float64) * squares(block.v).sum(dtype=np.float64))


class Run:
    """Blocks, what they leave of a matrix, and how much work may still be spent on them.

    Parameters
    ----------
    residual : Residual
        The matrix; the run takes the blocks out.
    blocks : list of Block
        Where to start.
    goal : Goal
    rng : numpy.random.Generator
    work : float
        Allowance in units of about 100 microseconds; counted, not timed, so that
        results do not depend on the machine. When it is spent, blocks are no longer
        refined, only added.
    progress : callable
    """

    def __init__(
        self,
        residual: Residual,
        blocks: list[Block],
        goal: Goal,
        rng: np.random.Generator,
        work: float,
        progress: Progress,
    ) -> None:
        self.residual, self.blocks, self.goal, self.rng = residual, list(blocks), goal, rng
        self.work = self.allowance = work
        self.progress = progress
        self.nothing = residual.energy() * float(np.finfo(residual.dtype).eps) ** 2
        for block in blocks:
            residual.change(block, -1)

    @property
    def cost(self) -> int:
        """Cost of all blocks."""
        return total_cost(self.blocks)

    def met(self) -> bool:
        """Whether the goal allows no more, or needs no more, blocks."""
        if self.goal.max_cost is not None:
            return self.cost + 1 >= self.goal.max_cost or self.residual.energy() <= self.nothing
        return self.residual.energy() <= (self.goal.max_error or 0.0) ** 2

    def anneal(self, price: float) -> float:
        """Reach the goal from above, by falling prices; returns the price where it did."""
        if self.blocks:
            self._sweep(price)
        swept, least = self.cost, LEAST * price
        cap = np.inf if self.goal.max_cost is None else OVERSHOOT * self.goal.max_cost
        while price > least and not self.met():
            self._grow(price, cap)
            if self.cost > GROWN * swept or self.met():
                self._sweep(price)
                swept = self.cost
            price *= FALL
        self._settle(price / FALL)
        return price / FALL

    def loosen(self, price: float, share: float) -> float:
        """Grow well beyond the budget and come back: blocks that others replace die."""
        cap = (1 + share) * (self.goal.max_cost or 0)
        least = 1e-3 * price
        while self.cost < cap and price > least:
            self._grow(price, cap)
            price *= FALL
        while self._sweep(price) and self.cost > (self.goal.max_cost or 0):
            price *= RISE**2
        return self.anneal(price)

    def _settle(self, price: float) -> None:
        if self.goal.max_cost is not None:
            self._settle_cost(price, self.goal.max_cost)
        else:
            self._settle_error(price, (self.goal.max_error or 0.0) ** 2)

    def _settle_cost(self, price: float, max_cost: int) -> None:
        """Bring the cost down to the cap, and spend what is left below it."""
        for _ in range(RISES):
            price *= RISE
            if self.cost <= max_cost or not self._sweep(price):
                break
        self._prune(lambda cost: cost > max_cost)
        for _ in range(ROUNDS):
            if self.met():
                break
            self._grow(price, max_cost - 1, limit=max_cost)
            price *= FALL
        self._refit()

    def _settle_error(self, price: float, bound: float) -> None:
        """Give up what is more than the bound asks for."""
        self._refit()
        for _ in range(RISES):
            kept = list(self.blocks)
            price *= RISE
            if self.residual.energy() > bound or not self._sweep(price):
                break
            if self.residual.energy() > bound or self.cost >= total_cost(kept):
                self._replace(kept)
                break
        self._prune(lambda _cost: True, bound)

    def _replace(self, blocks: list[Block]) -> None:
        for block in self.blocks:
            self.residual.change(block, +1)
        self.blocks = blocks
        for block in blocks:
            self.residual.change(block, -1)

    def _prune(self, more: Callable[[int], bool], bound: float = np.inf) -> None:
        """Drop blocks of least energy per multiplication while `more`, within a bound."""
        worth = [energy_of(block) / block.cost for block in self.blocks]
        dropped, cost = set(), self.cost
        for k in np.argsort(worth, kind="stable"):
            if not more(cost):
                break
            self.residual.change(self.blocks[k], +1)
            if np.isfinite(bound) and self.residual.energy() > bound:
                self.residual.change(self.blocks[k], -1)
                break
            dropped.add(int(k))
            cost -= self.blocks[k].cost
        self.blocks = [block for k, block in enumerate(self.blocks) if k not in dropped]

    def _sweep(self, price: float) -> bool:
        """Fit every block's runs and contents anew, if the allowance covers it."""
        allowed = self._spend(self.blocks)
        if allowed:
            sweep(self.residual, self.blocks, price)
        return allowed

    def _refit(self) -> None:
        """Fit the contents alone, twice, if the allowance covers it."""
        for _ in range(2):
            if self._spend(self.blocks):
                refit(self.residual, self.blocks)

    def _grow(self, price: float, cap: float, limit: float = np.inf) -> None:
        """Add blocks that gain, from coarse scales to fine, until the cost is `cap`."""
        cost = self.cost
        for level in range(max(1, self.residual.levels)):
            for _ in range(ROUNDS):
                before = len(self.blocks)
                for found in self._proposals(price, level):
                    cost = self._add(found, price, cost, cap, limit)
                    if cost >= cap:
                        return
                if len(self.blocks) - before <= max(1, 0.1 * 4**level):
                    break

    def _proposals(self, price: float, level: int) -> Iterator[Iterator[Found]]:
        """Free starts, as long as there is work for them, and starts inside tiles."""
        size = self.residual.shape[0] * self.residual.shape[1]
        if level < FREE_LEVELS and self.work > 0:
            self.work -= 30 + 2e-4 * size
            yield propose(self.residual, price, BATCH, self.rng)
        if isinstance(self.residual, DenseResidual):
            self.work -= 10 + 5e-5 * size
            yield propose_tiles(self.residual, price, level, self.rng)

    def _add(
        self, proposals: Iterator[Found], price: float, cost: int, cap: float, limit: float
    ) -> int:
        """Take proposals, best first, each fitted to what those before it have left."""
        for block, promised in proposals:
            if self.work > 0:
                self._spend([block])
                found = climb(self.residual, block.col, block.v, price)
                if found is None or found.gain < STILL_GOOD * promised:
                    continue
                block = found.block
            if cost + block.cost > limit:
                continue
            self.residual.change(block, -1)
            self.blocks.append(block)
            cost += block.cost
            if cost >= cap:
                break
        return cost

    def _spend(self, blocks: Sequence[Block]) -> bool:
        """Account for fitting the blocks once; whether the allowance covers it."""
        work = self.residual.effort(blocks)
        if work > self.work:
            return False
        self.work -= work
        self.progress(1 - self.work / self.allowance)
        return True
