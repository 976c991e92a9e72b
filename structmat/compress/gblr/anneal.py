"""One run of the search: blocks are added while the price falls, then fitted to the goal."""

from collections.abc import Iterator, Sequence

import numpy as np

from structmat.compress.gblr.power_iteration import (
    Found,
    climb,
    propose,
    propose_tiles,
    refit,
    sweep,
)
from structmat.compress.gblr.residual import Block, Residual, squares, total_cost
from structmat.compress.gblr.starts import partition_blocks
from structmat.compress.goal import Goal, Progress

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
#: Work of one proposal, and of putting a block in or out.
PROPOSED, CHANGED = 0.15, 0.15
#: What a block of a partition costs about at the least.
SMALL_PART = 12
#: This share of the cap may stay unspent. What it buys is little, and finding it slow.
UNSPENT = 0.02
#: Up to this share of the matrix, and of the energy allowed, a partition fills what is left.
SMALL_REST, NEARLY_MET = 0.1, 4.0
#: Objects around the contents of a block, in bytes; all together are to be no larger than
#: the matrix. Small matrices may have so many blocks in any case.
OBJECTS, FEW_BLOCKS = 400, 256


def most_blocks(shape: tuple[int, int], dtype: np.dtype) -> int:
    """How many blocks a run may hold, so that its memory is bounded by the matrix."""
    return max(FEW_BLOCKS, shape[0] * shape[1] * dtype.itemsize // OBJECTS)


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
        results do not depend on the machine. When it is spent, the run only comes down
        to the cap, or fills what is left below it in one go.
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
        self.most = most_blocks(residual.shape, residual.dtype)
        self.nothing = residual.energy() * float(np.finfo(residual.dtype).eps) ** 2
        for block in blocks:
            residual.change(block, -1)
        self.work -= CHANGED * len(blocks)

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
        while price > least and self.work > 0 and not self.met():
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
        while self.cost < cap and price > least and self._has_room():
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
        self._prune_cost(max_cost)
        for _ in range(ROUNDS):
            if self.met() or not self._has_room():
                break
            self._grow(price, max_cost - 1, limit=max_cost)
            price *= FALL
        if self.cost < (1 - UNSPENT) * max_cost and not self.met():
            self._fill(Goal(max_cost=max_cost - self.cost))
        self._refit()

    def _settle_error(self, price: float, bound: float) -> None:
        """Give up what is more than the bound asks for."""
        if bound < self.residual.energy() <= NEARLY_MET * bound:
            self._fill(self.goal)
        self._refit()
        for _ in range(RISES):
            kept = list(self.blocks)
            price *= RISE
            if self.residual.energy() > bound or not self._sweep(price):
                break
            if self.residual.energy() > bound or self.cost >= total_cost(kept):
                self._replace(kept)
                break
        self._prune_error(bound)

    def _has_room(self) -> bool:
        """Whether blocks may still be looked for."""
        return self.work > 0 and len(self.blocks) < self.most

    def _fill(self, goal: Goal) -> None:
        """Spend what is left of the cap, or meet the error, by one partition of the rest.

        Not where that takes many blocks: such a run has come too short to be any good.
        """
        array = self.residual.array
        if array is None:
            return
        most = min(SMALL_PART * (self.most - len(self.blocks)), array.size * SMALL_REST)
        if goal.max_cost is None or goal.max_cost <= most:
            found, _ = partition_blocks(array, goal)
            self._change(found, -1)
            self.blocks += found

    def _replace(self, blocks: list[Block]) -> None:
        self._change(self.blocks, +1)
        self.blocks = blocks
        self._change(blocks, -1)

    def _change(self, blocks: Sequence[Block], sign: int) -> None:
        for block in blocks:
            self.residual.change(block, sign)
        self.work -= CHANGED * len(blocks)

    def _by_worth(self) -> list[Block]:
        """The blocks, those of least energy per multiplication first."""
        worth = [energy_of(block) / block.cost for block in self.blocks]
        return [self.blocks[k] for k in np.argsort(worth, kind="stable")]

    def _prune_cost(self, max_cost: int) -> None:
        """Drop the blocks of least worth until the cost is below the cap."""
        excess = self.cost - max_cost
        if excess <= 0:
            return
        ordered = self._by_worth()
        count = int(np.searchsorted(np.cumsum([b.cost for b in ordered]), excess)) + 1
        self._change(ordered[:count], +1)
        self.blocks = ordered[count:]

    def _prune_error(self, bound: float) -> None:
        """Drop blocks of least worth within the bound: many at once, then ever fewer."""
        ordered = self._by_worth()
        kept, step = 0, len(ordered) // 8 + 1
        while step and kept < len(ordered) and self.residual.energy() <= bound:
            some = ordered[kept : kept + step]
            self._change(some, +1)
            if self.residual.energy() <= bound:
                kept += len(some)
            else:
                self._change(some, -1)
                step //= 2
        self.blocks = ordered[kept:]

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
                    if cost >= cap or not self._has_room():
                        return
                if len(self.blocks) - before <= max(1, 0.1 * 4**level):
                    break

    def _proposals(self, price: float, level: int) -> Iterator[Iterator[Found]]:
        """Free starts on the coarse scales, and starts inside tiles."""
        size = self.residual.shape[0] * self.residual.shape[1]
        size *= 2 if self.residual.dtype.kind == "c" else 1
        if level < FREE_LEVELS:
            self.work -= 30 + 2e-4 * size
            yield propose(self.residual, price, BATCH, self.rng)
        if self.residual.array is not None:
            self.work -= 10 + 1e-4 * size
            yield propose_tiles(self.residual.array, price, level, self.rng)

    def _add(
        self, proposals: Iterator[Found], price: float, cost: int, cap: float, limit: float
    ) -> int:
        """Take proposals, best first, each fitted to what those before it have left."""
        for proposed, promised in proposals:
            self.work -= PROPOSED + self.residual.effort([proposed])
            found = climb(self.residual, proposed.col, proposed.v, price)
            if found is not None and found.gain >= STILL_GOOD * promised:
                block = found.block
                if cost + block.cost <= limit:
                    self.residual.change(block, -1)
                    self.blocks.append(block)
                    cost += block.cost
            if cost >= cap or not self._has_room():
                break
        self.progress(1 - max(self.work, 0.0) / self.allowance)
        return cost

    def _spend(self, blocks: Sequence[Block]) -> bool:
        """Account for fitting the blocks once; whether the allowance covers it."""
        work = self.residual.effort(blocks)
        if work > self.work:
            return False
        self.work -= work
        self.progress(1 - self.work / self.allowance)
        return True
