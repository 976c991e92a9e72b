"""Search for the price at which a pursuit of rank-one blocks costs what it may."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray, multiplications, offsets
from structmat.project import blocks as moves
from structmat.project.births import births

#: Factor by which the price falls from step to step, at most, in a thorough search and a quick one.
FALL, QUICK_FALL = 0.85, 0.7
#: Power of the price with which costs fall, until two steps tell it.
STEEPNESS = 1.5
#: Factor by which the price rises from a start that costs too much, at least.
RISE = 1.05
#: Prices tried between a cost above the cap and one below, in a thorough search and a quick one.
BISECTIONS, QUICK_BISECTIONS = 5, 3
#: Share of the cap that interpolated prices aim at.
AIM = 0.996
#: Share of the cap from which on the price is right, in the same searches.
FULL, QUICK_FULL = 0.99, 0.98
#: Cost beyond the cap at which births at one price end, as a share of the cap.
OVERSHOOT = 0.3
#: Factor to the price that loosens the blocks, and by which it then rises until they fit again.
LOOSE_PRICE, LOOSE_RISE = 0.6, 1.3
#: Prices at which what is left of the cap is filled, as multiples of the final one.
FILL_PRICES = (1.0, 0.6, 0.36, 0.1)
#: Energy that a start may leave, as a multiple of the matrix's: beyond it, rounding would stay.
LEFT_BY_START = 100.0
#: Fits of all contents on the final runs.
REFITS = 2


@dataclass
class Pursuit:
    """Blocks, and the residual that they leave, as `blocks` describes them."""

    R: NDArray
    RT: NDArray
    places: IntArray
    contents: NDArray

    @classmethod
    def of(cls, W: NDArray) -> "Pursuit":
        """No blocks; the residual is a copy of the matrix."""
        R = np.array(W, order="C")
        places, contents = np.zeros((0, 4), np.int64), np.zeros(0, R.dtype)
        return cls(R, R.T.copy(order="C"), places, contents)

    @property
    def cost(self) -> int:
        """Multiplications of all blocks."""
        return int(self._costs().sum())

    def _costs(self) -> IntArray:
        return multiplications(self.places[:, 1], self.places[:, 3])

    def energy(self) -> float:
        """Squared Frobenius norm of the residual."""
        return float(np.vdot(self.R, self.R))

    def price_of(self, cap: int, charge: float) -> float:
        """Price at which the blocks that gain cost about a cap."""
        costs, worth = self._costs(), side_norms(self.places, self.contents).prod(axis=1) ** 2
        worth /= costs + charge
        order = np.argsort(-worth, kind="stable")
        kept = int(np.count_nonzero(np.cumsum(costs[order]) <= cap))
        return float(worth[order[min(kept, len(order) - 1)]])

    def copy(self) -> "Pursuit":
        """A copy whose moves leave this one alone."""
        return replace(self, R=self.R.copy(), RT=self.RT.copy())

    def take(self, places: IntArray, contents: NDArray) -> None:
        """Take given blocks out of the residual."""
        moves.change_all(self.R, self.RT, places, contents, -1)
        self.places = np.concatenate([self.places, places])
        self.contents = np.concatenate([self.contents, contents])

    def fit(self, price: float, charge: float, room: int) -> None:
        """Fit all blocks again, and then add those that gain: old ones grow before new ones."""
        self.backfit(price, charge, room)
        self.births(price, charge, room)

    def births(self, price: float, charge: float, room: int) -> int:
        """Add blocks that gain while all cost at most `room`; returns their number."""
        born, packed = births(self.R, self.RT, price, charge, max(room - self.cost, 0))
        self.places = np.concatenate([self.places, born])
        self.contents = np.concatenate([self.contents, packed])
        return len(born)

    def refit(self) -> None:
        """Fit the contents of every block on its own runs."""
        moves.refit(self.R, self.RT, self.places, self.contents)

    def backfit(self, price: float, charge: float, room: int) -> None:
        """Fit contents and ends of all blocks again, least energy per multiplication first."""
        if not len(self.places):
            return
        places, contents = self.places, self.contents
        begins, cost = offsets(places[:, 1] + places[:, 3]), self.cost
        worth = side_norms(places, contents).prod(axis=1) ** 2 / self._costs()
        order = np.argsort(worth, kind="stable")
        kept, packed = np.empty_like(places), np.empty(2 * max(room, cost), self.R.dtype)
        spare = max(room - cost, 0)
        count, used = moves.backfit(
            self.R, self.RT, order, begins, places, contents, price, charge, spare, kept, packed
        )
        self.places, self.contents = kept[:count].copy(), packed[:used].copy()


def side_norms(places: IntArray, contents: NDArray) -> NDArray:
    """Norms of the packed contents on rows and on columns: shape (K, 2)."""
    widths = places[:, [1, 3]].ravel()
    begins = offsets(widths)[:-1]
    # Over the largest entry of each side, whose square could overflow.
    largest = np.maximum.reduceat(np.abs(contents).astype(np.float64), begins)
    largest[largest == 0] = 1.0
    squares = (contents / np.repeat(largest, widths)) ** 2
    return (largest * np.sqrt(np.add.reduceat(squares, begins))).reshape(-1, 2)


def search(
    W: NDArray,
    cap: int,
    start: tuple[IntArray, NDArray] | None,
    price: float | None,
    charge: float,
    enough: float = 0.0,
    *,
    thorough: bool = True,
) -> tuple[IntArray, NDArray, float]:
    """Places, contents and price of a pursuit that costs at most `cap`, at least 1.

    `W` is not zero, and its entries are about 1. The search ends early once it leaves at most
    `enough` energy.
    """
    state = Pursuit.of(W)
    total = state.energy()
    rounding = float(np.finfo(W.dtype).eps) ** 2 * max(W.shape) * total
    enough = max(enough, rounding)
    # Above the total energy no block gains; far below rounding, all do.
    price = min(max(price or 0.5 * float(np.abs(W).max()) ** 2, rounding / W.size), total)
    given: Pursuit | None = None
    if start is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            state.take(*start)
            sensible = state.energy() <= LEFT_BY_START * total
        state = state if sensible else Pursuit.of(W)
        if state.cost <= cap:
            given = replace(state.copy(), contents=state.contents.copy())
            given.refit()
    best, price = _meet(state, cap, price, charge, enough, thorough=thorough)
    _fill(best, cap, price, charge, enough)
    if thorough and best.energy() > enough:
        best = _loosened(best, cap, price, charge, enough)
    if given is not None and given.energy() < best.energy():
        best = given
    return best.places, best.contents, price


def _meet(
    state: Pursuit, cap: int, price: float, charge: float, enough: float, *, thorough: bool
) -> tuple[Pursuit, float]:
    """The pursuit at the least price found whose cost respects the cap.

    The price falls step by step, in which large blocks come first. Between a cost above the cap
    and one below it is interpolated: costs fall about like a power of the price.
    """
    room = _room(state, cap)
    most, full, fall = BISECTIONS, FULL, FALL
    if not thorough:
        most, full, fall = QUICK_BISECTIONS, QUICK_FULL, QUICK_FALL
    low, high, best = 0.0, math.inf, state
    over, under, last = 0, 0, (price, 0)
    if state.cost > cap:
        price = max(price, state.price_of(cap, charge))
    elif state.cost:
        last = price, state.cost
        price *= max(fall, (state.cost / cap) ** (1 / STEEPNESS))
    while most:
        trial = state.copy()
        if trial.cost > cap:
            trial.backfit(price, charge, room)
            if trial.cost <= cap:
                trial.births(price, charge, room)
        else:
            trial.fit(price, charge, room)
        cost = trial.cost
        if cost <= cap:
            high, best, state, under = price, trial, trial, cost
            if cost >= full * cap or trial.energy() <= enough or price < enough / cap:
                break
        else:
            low, over = price, cost
            if high == math.inf:
                state = trial
        if low == 0:
            fallen = max(fall, _fall(last, (price, cost), AIM * cap)) if cost else fall**3
            last = price, cost
            price *= fallen
        elif high == math.inf:
            price = max(RISE * price, state.price_of(cap, charge))
        else:
            share = math.log(over / (AIM * cap)) / math.log(over / max(under, 0.5))
            price = low * (high / low) ** min(max(share, 0.05), 0.95)
            most -= 1
    return best, high


def _fall(first: tuple[float, int], second: tuple[float, int], wanted: float) -> float:
    """Factor to the second of two falling prices at which the cost is as wanted, about."""
    steepness = STEEPNESS
    if 0 < first[1] < second[1] and first[0] > second[0]:
        steepness = math.log(second[1] / first[1]) / math.log(first[0] / second[0])
    return min(second[1] / wanted, 0.99) ** (1 / steepness)


def _room(state: Pursuit, cap: int) -> int:
    """Cost at which births end: beyond the cap, and with room for any one block."""
    return cap + max(int(OVERSHOOT * cap), sum(state.R.shape))


def _loosened(best: Pursuit, cap: int, price: float, charge: float, enough: float) -> Pursuit:
    """Grow beyond the cap at a lower price and come back, or the same blocks if that is worse.

    Blocks that others replaced have less to gain, and disappear while the price rises.
    """
    loose, room = best.copy(), _room(best, cap)
    raised = LOOSE_PRICE * price
    loose.fit(raised, charge, room)
    while loose.cost > cap:
        raised *= LOOSE_RISE
        loose.backfit(raised, charge, room)
    _fill(loose, cap, min(raised, price), charge, enough)
    return min(loose, best, key=Pursuit.energy)


def _fill(best: Pursuit, cap: int, price: float, charge: float, enough: float) -> None:
    """Spend what is left of the cap, and fit all contents."""
    for factor in FILL_PRICES:
        if best.cost >= cap or best.energy() <= enough:
            break
        best.births(factor * price, charge, cap)
    for _ in range(REFITS):
        best.refit()
