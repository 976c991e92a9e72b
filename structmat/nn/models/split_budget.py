"""One budget shared over matrices so that their total squared error is least.

Every matrix has a curve: what error it has at which cost. Multiplications go where they
take off most error each, over all curves together, which is optimal for convex curves;
of others the lower convex hull is followed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.errors import BudgetError


@dataclass(frozen=True)
class Curve:
    """Error of one matrix against its cost.

    Attributes
    ----------
    name : str
        For messages.
    costs : ndarray of int, shape (p,)
        Rising; the first one is the least that the matrix may get.
    errors : ndarray of float, shape (p,)
        Squared errors at these costs.
    positions : int
        How often a multiplication of this matrix counts.
    steps : bool
        Whether nothing is to be had between two costs, as between two ranks.
    """

    name: str
    costs: NDArray[np.int64]
    errors: NDArray[np.float64]
    positions: int = 1
    steps: bool = False

    def hull(self) -> list[int]:
        """Indices of the lower convex hull from the first point to the least error."""
        corners = [0]
        while True:
            last = corners[-1]
            cost, gain = self.costs[last + 1 :], self.errors[last] - self.errors[last + 1 :]
            if not (gain > 0).any():
                return corners
            slopes = gain / (cost - self.costs[last])
            # Of points on one line the nearest, so that steps stay small.
            corners.append(last + 1 + int(np.argmax(slopes)))


def share(curves: Sequence[Curve], total: int) -> list[int]:
    """What each matrix may cost, within `total` multiplications of all of them together.

    Raises
    ------
    BudgetError
        If the least costs together exceed the total.

    Examples
    --------
    >>> import numpy as np
    >>> steep = Curve("a", np.array([10, 20, 30]), np.array([9.0, 1.0, 0.9]))
    >>> flat = Curve("b", np.array([10, 20, 30]), np.array([3.0, 2.0, 1.5]))
    >>> share([steep, flat], 40), share([steep, flat], 45)
    ([20, 20], [20, 25])
    """
    given = [int(curve.costs[0]) for curve in curves]
    left = total - sum(c.positions * cost for c, cost in zip(curves, given, strict=True))
    if left < 0:
        dearest = max(curves, key=lambda c: c.positions * int(c.costs[0]))
        raise BudgetError(
            f"{total} multiplications for {len(curves)} matrices; expected at least "
            f"{total - left}, what the smallest ones of this kind cost, {dearest.name!r} the most "
            "of it (raise the budget, or leave layers out)"
        )
    corners = [curve.hull() for curve in curves]
    waiting = [entry for i in range(len(curves)) for entry in _next(curves, corners, i, 0)]
    heapq.heapify(waiting)
    while waiting:
        _, i, k = heapq.heappop(waiting)
        curve, (here, there) = curves[i], corners[i][k : k + 2]
        step = int(curve.costs[there] - curve.costs[here])
        taken = min(step, left // curve.positions)
        if taken < step and curve.steps:
            continue
        given[i] += taken
        left -= taken * curve.positions
        if taken == step:
            for entry in _next(curves, corners, i, k + 1):
                heapq.heappush(waiting, entry)
    return given


def _next(
    curves: Sequence[Curve], corners: Sequence[list[int]], i: int, k: int
) -> list[tuple[float, int, int]]:
    """The hull's piece behind corner k of curve i, the most gainful first in a heap."""
    if k + 1 >= len(corners[i]):
        return []
    curve, (here, there) = curves[i], corners[i][k : k + 2]
    gain = float(curve.errors[here] - curve.errors[there])
    cost = curve.positions * int(curve.costs[there] - curve.costs[here])
    return [(-gain / cost, i, k)]
