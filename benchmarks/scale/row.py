"""One measurement in a process of its own, so that its peak of memory is its own.

``python -m benchmarks.scale.row CASE`` prints the figures of a case, both as JSON.
"""

import time
from typing import Any

import numpy as np

from benchmarks.apart import answer
from benchmarks.results import Row, short
from benchmarks.scale import growth, peers, solves
from benchmarks.scale.places import peak, points_of
from structmat import KernelMatrix, compress

#: Points of the trial that compiles and warms up.
WARM_POINTS = 2000
#: Products of which the shortest counts.
PRODUCTS = 5


def measured(case: dict[str, Any]) -> Row:
    """Figures of a case: points, n, kernel, length, tol, kind, and a peer or none."""
    if case.get("task") == growth.TASK:
        return growth.measured(case)
    if "task" in case:
        return solves.measured(case)
    points = points_of(case["points"], case["n"])
    goal = {"tol": case["tol"], "rng": 0, "progress": False}
    if case.get("peer"):
        return peers.PEERS[case["peer"]](points, case)
    warm = KernelMatrix(points[:WARM_POINTS], case["kernel"], length=case["length"])
    compress(warm, case["kind"], **goal).matrix @ np.ones(len(warm.points))
    before = peak()
    K = KernelMatrix(points, case["kernel"], length=case["length"])
    started = time.perf_counter()
    result = compress(K, case["kind"], **goal)
    seconds = time.perf_counter() - started
    x = np.random.default_rng(1).standard_normal(len(points))
    result.matrix @ x
    times = []
    for _ in range(PRODUCTS):
        started = time.perf_counter()
        result.matrix @ x
        times.append(time.perf_counter() - started)
    return {
        # Files may have fewer points than were asked for.
        "n": len(points),
        "seconds": short(seconds),
        "error": short(result.error),
        "bound": short(result.estimate.bound),
        "entries": result.entries,
        "share_of_entries": short(result.entries / len(points) ** 2),
        "storage_bytes": result.storage * K.dtype.itemsize,
        "peak_bytes": peak() - before,
        "relative_cost": short(result.matrix.relative_cost),
        "product_seconds": short(min(times)),
    }


if __name__ == "__main__":
    answer(measured)
