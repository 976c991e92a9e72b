"""One run of the search: grow blocks while the price falls, then fit the goal."""

import numpy as np
from numpy.typing import NDArray

from structmat.compress._gblr_residual import Block, DenseResidual, Residual
from structmat.compress._gblr_search import climb, propose, propose_tiles, refit, sweep

__all__ = ["Run", "total_cost"]

#: Starts of one batch, rounds on one scale, and the scales that use free starts as well.
BATCH = 32
ROUNDS = 10
#: A block changed by others counts if it still gains this share of what was promised.
STILL_GOOD = 0.5
#: The price falls by this factor from stage to stage, and may exceed the goal by this.
FALL = 0.6
SLACK = 1.04


def total_cost(blocks: list[Block]) -> int:
    """Multiplications of one product with a vector."""
    return sum(block.cost for block in blocks)


class Run:
    """Blocks, and what they leave of the matrix.

    Parameters
    ----------
    residual : Residual
        What `blocks` leave.
    blocks : list of Block
    rng : numpy.random.Generator
    work : float
        How much climbing is allowed, in units of about 100 microseconds.
    """

    def __init__(
        self, residual: Residual, blocks: list[Block], rng: np.random.Generator,
        dtype: np.dtype, work: float,
    ) -> None:
        self.residual, self.blocks, self.rng, self.dtype = residual, blocks, rng, dtype
        self.work = work
        self.cost = total_cost(blocks)
        self.total = residual.energy()

    def _spend(self, blocks: list[Block]) -> None:
        m, n = self.residual.shape
        self.work -= sum(1 + (m * b.v.size + n * b.u.size + 2 * b.u.size * b.v.size) / 5e5 for b in blocks)

    def sweep(self, price: float) -> None:
        """Fit every block's run and contents anew."""
        self._spend(self.blocks)
        self.blocks = sweep(self.residual, self.blocks, price)
        self.cost = total_cost(self.blocks)

    def refit(self) -> None:
        """Fit every block's contents anew."""
        self._spend(self.blocks)
        self.blocks = refit(self.residual, self.blocks)
        self.cost = total_cost(self.blocks)

    def grow(self, price: float, cap: float, limit: float = np.inf) -> None:
        """Add blocks that gain, on all scales from coarse to fine, until the cost is `cap`."""
        levels = max(1, min(self.residual.shape).bit_length() - 2)
        dense = isinstance(self.residual, DenseResidual)
        for level in range(levels if dense else 1):
            for _ in range(ROUNDS):
                added = 0
                if level < 5 and self.work > 0:
                    added += self._add(propose(self.residual, price, BATCH, self.dtype, self.rng), price, cap, limit)
                if isinstance(self.residual, DenseResidual):
                    added += self._add(propose_tiles(self.residual, price, level, self.rng), price, cap, limit)
                if self.cost >= cap: return
                if added <= max(1, 0.1 * 4**level):
                    break

    def _add(self, proposals, price: float, cap: float, limit) -> int:
        before = len(self.blocks)
        for block, promised in proposals:
            if self.work > 0:
                found = climb(self.residual, block.col, block.v, price)
                if found is None or found.gain < STILL_GOOD * promised:
                    continue
                block = found.block
                self._spend([block])
            if self.cost + block.cost > limit: continue
            self.residual.change(block, -1)
            self.blocks.append(block)
            self.cost += block.cost
            if self.cost >= cap:
                break
        return len(self.blocks) - before

    def done(self):
        return self.residual.energy() <= self.total * (4*np.finfo(self.dtype).eps) ** 2

    def descend(self, price, max_cost):
        swept = self.cost
        floor = 1e-15 * price
        while self.cost < max_cost and price > floor and not self.done():
            self.grow(price, SLACK * max_cost)
            if self.work > 0 and (self.cost > 1.1 * swept or self.cost>=max_cost):
                self.sweep(price)
                swept = self.cost
            price *= FALL
        return price/FALL

    def to_budget(self, price: float, max_cost: int) -> float:
        price = self.descend(price, max_cost)
        for _ in range(6):
            if self.cost <= max_cost or self.work<0: break
            price *= 1.15
            self.sweep(price)
        self.prune(max_cost)
        p=price
        for _ in range(10):
            if self.cost>=max_cost-1 or self.done(): break
            self.grow(p, max_cost-1, max_cost)
            p*=.8
        for _ in range(2): self.refit()
        return price

    def prune(self, max_cost):
        order = sorted(range(len(self.blocks)), key=lambda k: worth(self.blocks[k]))
        drop = set()
        for k in order:
            if self.cost <= max_cost: break
            drop.add(k)
            self.residual.change(self.blocks[k], +1)
            self.cost -= self.blocks[k].cost
        self.blocks = [b for k, b in enumerate(self.blocks) if k not in drop]


def worth(b):
    return float(np.vdot(b.u,b.u).real*np.vdot(b.v,b.v).real)/b.cost
