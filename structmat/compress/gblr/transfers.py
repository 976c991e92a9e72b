"""Exchanges between the blocks of an exact sum, until the sum is as cheap as possible.

For any t, u_i v_i^H + u_j v_j^H = (u_i + t u_j) v_i^H + u_j (v_j - conj(t) v_i)^H. If u_i
and u_j share an end of their runs, one t makes u_i shorter there; v_j then lives on the
runs of both, and may lose an end of its own in turn. A walk over such transfers, uphill as
well at first (simulated annealing; Kirkpatrick, Gelatt & Vecchi 1983), leads to a cheap
sum, and combinations of several vectors shorten what single transfers cannot.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray

#: Temperatures of the walk, first and last, in multiplications.
HOT, COLD = 2.0, 0.1
#: Most passes over all transfers that gain.
PASSES = 20
#: Most multiplications by which one block grows so that another may be shortened.
MOST_GROWTH = 2

#: Cyclic run: start and width.
Run = tuple[int, int]


class Transfer(NamedTuple):
    """Vector i of a side loses an end to vector j; vector j of the other side pays for it."""

    side: int
    i: int
    j: int
    x: NDArray
    y: NDArray
    shorter: Run
    longer: Run
    #: Multiplications that the transfer adds.
    change: int


class Transfers:
    """The blocks u_k v_k^H of an exact sum, as rows of two arrays, which are overwritten.

    Entries below `small` times the largest of their vector count as zero.
    """

    def __init__(self, U: NDArray, V: NDArray, small: float) -> None:
        self.sides, self.small = (U, V), small
        self.runs = tuple([hull(x, small) for x in X] for X in self.sides)

    @property
    def cost(self) -> int:
        """Sum of all widths."""
        return sum(width for runs in self.runs for _, width in runs)

    def descend(self) -> None:
        """Make transfers that gain until there are none."""
        for _ in range(PASSES):
            before = self.cost
            for side in (0, 1):
                for i, j, last in self._shared_ends(side):
                    found = self._transfer(side, i, j, last)
                    if found is not None and found.change < 0:
                        self._make(found)
            if self.cost == before:
                break

    def walk(self, steps: int, rng: np.random.Generator) -> None:
        """Make random transfers, uphill ones ever more rarely; end at the cheapest sum seen."""
        cost = least = self.cost
        best = self._snapshot()
        cooling, temperature = (COLD / HOT) ** (1 / steps), HOT
        for _ in range(steps):
            side = int(rng.integers(2))
            pairs = self._shared_ends(side)
            temperature *= cooling
            if not pairs:
                continue
            found = self._transfer(side, *pairs[int(rng.integers(len(pairs)))])
            if found is not None and rng.random() < math.exp(-max(found.change, 0) / temperature):
                self._make(found)
                cost += found.change
                if cost < least:
                    least, best = cost, self._snapshot()
        self.sides, self.runs = best

    def shorten(self) -> None:
        """Shorten each vector by several others at once, where these grow but little for it."""
        for side in (0, 1):
            for i in range(len(self.runs[side])):
                helpers, growth = self._helpers(side, i)
                free = helpers[growth == 0]
                self._shorten(side, i, free)
                for j in helpers[(growth > 0) & (growth <= MOST_GROWTH)]:
                    self._shorten(side, i, np.append(free, j))

    def _snapshot(self) -> tuple[tuple[NDArray, NDArray], tuple[list[Run], ...]]:
        U, V = self.sides
        return (U.copy(), V.copy()), tuple(list(runs) for runs in self.runs)

    def _shared_ends(self, side: int) -> list[tuple[int, int, bool]]:
        """Ordered pairs of vectors whose runs share their first or their last position."""
        n, found = self.sides[side].shape[1], []
        for last in (False, True):
            at: dict[int, list[int]] = {}
            for k, (start, width) in enumerate(self.runs[side]):
                if width:
                    at.setdefault((start + (width - 1) * last) % n, []).append(k)
            groups = [group for group in at.values() if len(group) > 1]
            found += [(i, j, last) for group in groups for i in group for j in group if i != j]
        return found

    def _transfer(self, side: int, i: int, j: int, last: bool) -> Transfer | None:
        """The transfer that takes an end from vector i; None if the two share no such end."""
        X, Y, runs = self.sides[side], self.sides[1 - side], self.runs[side]
        ends = [(start + (width - 1) * last) % X.shape[1] for start, width in (runs[i], runs[j])]
        end = ends[0]
        if ends[1] != end or not runs[i][1] or not runs[j][1] or X[j, end] == 0:
            return None
        t = -X[i, end] / X[j, end]
        x, y = X[i] + t * X[j], Y[j] - np.conj(t) * Y[i]
        x[end] = 0
        shorter, longer = hull(x, self.small), hull(y, self.small)
        change = shorter[1] + longer[1] - runs[i][1] - self.runs[1 - side][j][1]
        return Transfer(side, i, j, x, y, shorter, longer, change)

    def _make(self, transfer: Transfer) -> None:
        side, i, j = transfer.side, transfer.i, transfer.j
        self.sides[side][i], self.runs[side][i] = transfer.x, transfer.shorter
        self.sides[1 - side][j], self.runs[1 - side][j] = transfer.y, transfer.longer

    def _helpers(self, side: int, i: int) -> tuple[IntArray, IntArray]:
        """All other vectors, and by how much their blocks grow if they help vector i."""
        n, (start, width) = self.sides[1 - side].shape[1], np.array(self.runs[1 - side]).T
        from_own = np.maximum(width[i], (start - start[i]) % n + width)
        from_other = np.maximum(width, (start[i] - start) % n + width[i])
        growth = np.minimum(np.minimum(from_own, from_other), n) - width
        others = (width > 0) & (np.arange(len(width)) != i)
        return np.flatnonzero(others), growth[others]

    def _shorten(self, side: int, i: int, helpers: IntArray) -> None:
        """Shorten vector i at either end as far as the helpers can, if that gains."""
        X, Y, paying = self.sides[side], self.sides[1 - side], self.runs[1 - side]
        for last in (False, True):
            t = self._coefficients(side, i, helpers, last) if len(helpers) else None
            if t is None:
                continue
            x, y = X[i] + t @ X[helpers], Y[helpers] - np.outer(t.conj(), Y[i])
            run, others = hull(x, self.small), [hull(row, self.small) for row in y]
            change = run[1] - self.runs[side][i][1]
            change += sum(width for _, width in others) - sum(paying[k][1] for k in helpers)
            if change < 0:
                X[i], Y[helpers], self.runs[side][i] = x, y, run
                for k, other in zip(helpers.tolist(), others, strict=True):
                    paying[k] = other

    def _coefficients(self, side: int, i: int, helpers: IntArray, last: bool) -> NDArray | None:
        """Multiples of the helpers that cut most entries from an end of vector i, by bisection.

        A cut is possible where the helpers cancel all entries of the vector there and leave
        none elsewhere off its run: a least-squares problem without residual.
        """
        X, (start, width) = self.sides[side], self.runs[side][i]
        allowed = self.small * float(np.abs(X[i]).max())
        # Positions from the end that is cut, then those off the run.
        ahead = np.arange(width)[::-1] if last else np.arange(width)
        beyond = np.arange(width, X.shape[1])
        cut, step, best, rising = 0, 1, None, True
        while step and cut + step < width:
            on = (start + np.concatenate([ahead[: cut + step], beyond])) % X.shape[1]
            M, missing = X[np.ix_(helpers, on)].T, -X[i, on]
            t = np.linalg.lstsq(M, missing, rcond=None)[0]
            if np.abs(M @ t - missing).max() <= allowed:
                cut, best = cut + step, t
            else:
                rising = False
            step = 2 * step if rising else step // 2
        return best


def hull(x: NDArray, small: float) -> Run:
    """Shortest run around all entries that are not negligible."""
    size = np.abs(x)
    at = np.flatnonzero(size > small * size.max())
    if not at.size:
        return 0, 0
    gap = np.append(at[1:], at[0] + x.size) - at
    k = int(gap.argmax())
    return int(at[(k + 1) % at.size]), x.size + 1 - int(gap[k])
