"""One budget split over many matrices, so that their total squared error is least.

Every matrix has a curve of its error against its cost. Over all curves together, each
multiplication goes to the curve that it lowers most. This greedy rule is optimal for
convex curves; other curves are replaced by their lower convex hull.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from structmat.errors import BudgetError


@dataclass(frozen=True)
class CostCurve:
    """Error of one matrix against its cost, at p points."""

    name: str
    #: Rising costs (p,); the first one is the least that the matrix can cost.
    costs: NDArray[np.int64]
    #: Squared errors (p,) at these costs.
    errors: NDArray[np.float64]
    #: Factor by which a multiplication of this matrix counts.
    vectors_per_example: int = 1
    #: True if the matrix has these costs alone and none between them, like ranks.
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
            # Among points on one line, the nearest one keeps steps small.
            corners.append(last + 1 + int(np.argmax(slopes)))


def split_budget(curves: Sequence[CostCurve], total: int) -> list[int]:
    """Split `total` multiplications into the cost that each matrix may have.

    Examples
    --------
    >>> import numpy as np
    >>> steep = CostCurve("a", np.array([10, 20, 30]), np.array([9.0, 1.0, 0.9]))
    >>> flat = CostCurve("b", np.array([10, 20, 30]), np.array([3.0, 2.0, 1.5]))
    >>> split_budget([steep, flat], 40), split_budget([steep, flat], 45)
    ([20, 20], [20, 25])
    """
    given = [int(curve.costs[0]) for curve in curves]
    left = total - sum(c.vectors_per_example * cost for c, cost in zip(curves, given, strict=True))
    if left < 0:
        dearest = max(curves, key=lambda c: c.vectors_per_example * int(c.costs[0]))
        raise BudgetError(
            f"{total} multiplications for {len(curves)} matrices; expected at least "
            f"{total - left}, the cost of the smallest ones of this kind, {dearest.name!r} "
            "being the dearest (raise the budget, or leave layers out)"
        )
    corners = [curve.hull() for curve in curves]
    waiting = [entry for i in range(len(curves)) for entry in _next(curves, corners, i, 0)]
    heapq.heapify(waiting)
    while waiting:
        _, i, k = heapq.heappop(waiting)
        curve, (here, there) = curves[i], corners[i][k : k + 2]
        step = int(curve.costs[there] - curve.costs[here])
        taken = min(step, left // curve.vectors_per_example)
        if taken < step and curve.steps:
            continue
        given[i] += taken
        left -= taken * curve.vectors_per_example
        if taken == step:
            for entry in _next(curves, corners, i, k + 1):
                heapq.heappush(waiting, entry)
    return given


def _next(
    curves: Sequence[CostCurve], corners: Sequence[list[int]], i: int, k: int
) -> list[tuple[float, int, int]]:
    """Heap entry of the hull's piece behind corner k of curve i; none after the last."""
    if k + 1 >= len(corners[i]):
        return []
    curve, (here, there) = curves[i], corners[i][k : k + 2]
    gain = float(curve.errors[here] - curve.errors[there])
    cost = curve.vectors_per_example * int(curve.costs[there] - curve.costs[here])
    return [(-gain / cost, i, k)]
