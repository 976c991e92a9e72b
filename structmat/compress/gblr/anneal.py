"""Annealing: blocks are added at falling prices of a multiplication, then fitted to the goal."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from structmat._progress import Progress
from structmat.compress.gblr.partition import partition_blocks
from structmat.compress.gblr.proposals import propose, propose_tiles
from structmat.compress.gblr.residual import (
    Block,
    Proposal,
    Residual,
    climb,
    most_blocks,
    refit,
    sweep,
    total_cost,
)
from structmat.compress.goal import Goal

#: Random starts of one batch of proposals.
BATCH_STARTS = 32
#: Most rounds of proposals on one scale, and after the cost has come down to the cap.
ROUNDS = 10
#: Number of scales, from the coarsest, on which random starts are tried as well as tiles.
RANDOM_LEVELS = 5
#: Least share of its promised gain that a block still has to bring when it is added.
KEPT_GAIN = 0.5
#: Factor by which the price falls from stage to stage.
PRICE_FALL = 0.6
#: Least price, as a share of the first one.
LEAST_PRICE = 1e-15
#: Factor by which the price rises from sweep to sweep while the goal is exceeded.
PRICE_RISE = 1.15
#: Most sweeps at rising prices.
RISES = 20
#: Cost, as a multiple of the cap, at which the price stops falling.
OVERSHOOT = 1.04
#: Growth of the cost, as a factor, after which the blocks are swept again.
SWEEP_GROWTH = 1.1
#: Work of one proposal, and of putting one block in or out, in units of 100 microseconds.
PROPOSAL_WORK, CHANGE_WORK = 0.15, 0.15
#: Multiplications of the smallest tile that a partition truncates, roughly.
LEAST_TILE_COST = 12
#: Share of the cap that may stay unspent: it buys little, and is slow to spend.
UNSPENT_COST = 0.02
#: Largest cost of a partition of the residual, as a share of the matrix's entries.
PARTITION_COST = 0.1
#: Largest energy left, as a multiple of the energy allowed, that a partition takes away.
PARTITION_ENERGY = 4.0


class Annealing:
    """Blocks, the residual that they leave, and the work that may still be spent on them.

    `residual` comes as the whole matrix, and `blocks`, the start, are taken out of it here.
    `work` is an allowance in units of about 100 microseconds; it is counted, not timed, so
    that results do not depend on the machine. Once it is spent, the blocks only come down
    to the cap, or one partition spends the rest of it.
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
        self.most = most_blocks(residual)
        self.rounding = residual.energy() * float(np.finfo(residual.dtype).eps) ** 2
        self._change(blocks, -1)

    @property
    def cost(self) -> int:
        """Cost of all blocks."""
        return total_cost(self.blocks)

    def met(self) -> bool:
        """True if the goal allows no more, or needs no more, blocks."""
        if self.goal.max_cost is not None:
            return self.cost + 1 >= self.goal.max_cost or self.residual.energy() <= self.rounding
        return self.residual.energy() <= (self.goal.max_error or 0.0) ** 2

    def anneal(self, price: float) -> float:
        """Reach the goal from above, by falling prices; returns the last price."""
        if self.blocks:
            self._sweep(price)
        swept, least = self.cost, LEAST_PRICE * price
        cap = np.inf if self.goal.max_cost is None else OVERSHOOT * self.goal.max_cost
        while price > least and self.work > 0 and not self.met():
            self._grow(price, cap)
            if self.cost > SWEEP_GROWTH * swept or self.met():
                self._sweep(price)
                swept = self.cost
            price *= PRICE_FALL
        price /= PRICE_FALL
        if self.goal.max_cost is not None:
            self._settle_cost(price, self.goal.max_cost)
        else:
            self._settle_error(price, (self.goal.max_error or 0.0) ** 2)
        return price

    def loosen(self, price: float, extra: float) -> float:
        """Grow beyond the cap by a share of it, and come back: replaced blocks disappear."""
        cap = (1 + extra) * (self.goal.max_cost or 0)
        least = 1e-3 * price
        while self.cost < cap and price > least and self._has_room():
            self._grow(price, cap)
            price *= PRICE_FALL
        while self._sweep(price) and self.cost > (self.goal.max_cost or 0):
            price *= PRICE_RISE**2
        return self.anneal(price)

    def _settle_cost(self, price: float, max_cost: int) -> None:
        """Bring the cost down to the cap, and spend the rest of it."""
        for _ in range(RISES):
            price *= PRICE_RISE
            if self.cost <= max_cost or not self._sweep(price):
                break
        self._prune_cost(max_cost)
        for _ in range(ROUNDS):
            if self.met() or not self._has_room():
                break
            self._grow(price, max_cost - 1, limit=max_cost)
            price *= PRICE_FALL
        if self.cost < (1 - UNSPENT_COST) * max_cost and not self.met():
            self._partition(Goal(max_cost=max_cost - self.cost))
        self._refit()

    def _settle_error(self, price: float, bound: float) -> None:
        """Drop blocks that the bound does not need."""
        if bound < self.residual.energy() <= PARTITION_ENERGY * bound:
            self._partition(self.goal)
        self._refit()
        for _ in range(RISES):
            before = list(self.blocks)
            price *= PRICE_RISE
            if self.residual.energy() > bound or not self._sweep(price):
                break
            if self.residual.energy() > bound or self.cost >= total_cost(before):
                self._change(self.blocks, +1)
                self._change(before, -1)
                self.blocks = before
                break
        self._prune_error(bound)

    def _has_room(self) -> bool:
        """True if work and memory for more blocks are left."""
        return self.work > 0 and len(self.blocks) < self.most

    def _partition(self, goal: Goal) -> None:
        """Spend the rest of the cap, or meet the error, by one partition of the residual.

        A rest that takes many blocks is left alone: such a search has come too short to be
        any good.
        """
        array = self.residual.array
        if array is None:
            return
        room = LEAST_TILE_COST * (self.most - len(self.blocks))
        if goal.max_cost is None or goal.max_cost <= min(room, array.size * PARTITION_COST):
            found, _ = partition_blocks(array, goal)
            self._change(found, -1)
            self.blocks += found

    def _change(self, blocks: Sequence[Block], sign: int) -> None:
        for block in blocks:
            self.residual.change(block, sign)
        self.work -= CHANGE_WORK * len(blocks)

    def _by_worth(self) -> list[Block]:
        """The blocks, least energy per multiplication first."""
        worth = [block.energy / block.cost for block in self.blocks]
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
        dropped, step = 0, len(ordered) // 8 + 1
        while step and dropped < len(ordered) and self.residual.energy() <= bound:
            some = ordered[dropped : dropped + step]
            self._change(some, +1)
            if self.residual.energy() <= bound:
                dropped += len(some)
            else:
                self._change(some, -1)
                step //= 2
        self.blocks = ordered[dropped:]

    def _sweep(self, price: float) -> bool:
        """Fit the runs and contents of all blocks again, if the allowance covers it."""
        allowed = self._spend()
        if allowed:
            sweep(self.residual, self.blocks, price)
        return allowed

    def _refit(self) -> None:
        """Fit the contents alone, twice, if the allowance covers it."""
        for _ in range(2):
            if self._spend():
                refit(self.residual, self.blocks)

    def _spend(self) -> bool:
        """Pay for one fit of all blocks; returns whether the allowance covers it."""
        work = self.residual.effort(self.blocks)
        if work > self.work:
            return False
        self.work -= work
        self.progress(1 - self.work / self.allowance)
        return True

    def _grow(self, price: float, cap: float, limit: float = np.inf) -> None:
        """Add blocks that gain, from coarse scales to fine, until the cost is `cap`."""
        cost = self.cost
        for level in range(max(1, self.residual.levels)):
            for _ in range(ROUNDS):
                before = len(self.blocks)
                for proposals in self._proposals(price, level):
                    cost = self._add(proposals, price, cost, cap, limit)
                    if cost >= cap or not self._has_room():
                        return
                if len(self.blocks) - before <= max(1, 0.1 * 4**level):
                    break

    def _proposals(self, price: float, level: int) -> Iterator[Iterator[list[Proposal]]]:
        """Random starts on the coarse scales, and starts inside tiles."""
        size = self.residual.shape[0] * self.residual.shape[1]
        size *= 2 if self.residual.dtype.kind == "c" else 1
        if level < RANDOM_LEVELS:
            self.work -= 30 + 2e-4 * size
            yield propose(self.residual, price, BATCH_STARTS, self.rng)
        if self.residual.array is not None:
            self.work -= 10 + 1e-4 * size
            yield propose_tiles(self.residual.array, price, level, self.rng)

    def _add(
        self,
        proposals: Iterator[list[Proposal]],
        price: float,
        cost: int,
        cap: float,
        limit: float,
    ) -> int:
        """Take proposals, best first, each fitted to the residual of those before it."""
        residual, blocks = self.residual, self.blocks
        for proposed, promised in chain.from_iterable(proposals):
            self.work -= PROPOSAL_WORK + residual.effort([proposed])
            found = climb(residual, proposed.col, proposed.v, price)
            if found is not None and found.gain >= KEPT_GAIN * promised:
                block = found.block
                if cost + block.cost <= limit:
                    residual.change(block, -1)
                    blocks.append(block)
                    cost += block.cost
            # As `_has_room` does, without a call for each proposal.
            if cost >= cap or self.work <= 0 or len(blocks) >= self.most:
                break
        self.progress(1 - max(self.work, 0.0) / self.allowance)
        return cost
