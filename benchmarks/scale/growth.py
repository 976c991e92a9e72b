"""Compressions on workers of this machine: growth with points, and with workers.

The workers share the cores of one machine: more of them than cores take turns. Bytes moved and
memory are those of any cluster.
"""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reporting.tables import Table, listing, number
from benchmarks.results import Row, short
from benchmarks.scale.places import points_of
from structmat import KernelMatrix, compress

TASK = "workers"
#: Workers at all numbers of points, and at the largest number.
FIXED, WORKERS = 2, (1, 2, 4)
KERNEL, LENGTH, TOL = "exponential", 0.1, 1e-4
#: Points of the trial that compiles and warms up.
WARM_POINTS = 2000
#: Products of which the shortest counts.
PRODUCTS = 5


def cases(sizes: Sequence[int]) -> list[Row]:
    """Points at fixed workers, then workers at fixed points."""
    wanted = [(n, FIXED) for n in sizes] + [(max(sizes), w) for w in WORKERS if w != FIXED]
    return [
        {
            "task": TASK, "points": "square", "n": n, "kernel": KERNEL, "length": LENGTH,
            "tol": TOL, "workers": workers,
        }
        for n, workers in wanted
    ]  # fmt: skip


def measured(case: Row) -> Row:
    """Figures of a case, on workers that are processes with a thread each."""
    from distributed import Client, LocalCluster

    points = points_of(case["points"], case["n"])
    cluster = LocalCluster(
        n_workers=case["workers"], threads_per_worker=1, dashboard_address=":0", memory_limit=0
    )
    with cluster, Client(cluster) as client:
        compressed(points[:WARM_POINTS], case, client)
        before = client.run(resident, begin=True)
        started = time.perf_counter()
        result = compressed(points, case, client)
        seconds = time.perf_counter() - started
        x = np.random.default_rng(1).standard_normal(len(points))
        times = [time.perf_counter()]
        for _ in range(PRODUCTS):
            result.matrix @ x
            times.append(time.perf_counter())
        most = client.run(resident)
        share = result.storage * result.matrix.dtype.itemsize / case["workers"]
        return {
            "n": len(points),
            "seconds": short(seconds),
            "product_seconds": short(min(b - a for a, b in pairwise(times))),
            "bound": short(result.estimate.bound),
            "parts": len(result.matrix.parts),
            "storage_bytes": result.storage * result.matrix.dtype.itemsize,
            "bytes_per_product": result.matrix.bytes_per_product,
            "memory_over_share": short(max(most[w] - before[w] for w in most) / share),
        }


def compressed(points: NDArray, case: Row, client: Any) -> Any:
    """A compression on the workers of a client."""
    K = KernelMatrix(points, case["kernel"], length=case["length"])
    return compress(K, "hierarchical", tol=case["tol"], rng=0, progress=False, client=client)


def resident(*, begin: bool = False) -> int:
    """Bytes that this process holds at most, since the last time that it was asked to begin."""
    if begin:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return 1024 * int(peak)


def worker_table(rows: list[Row]) -> Table:
    """Time, bytes and memory on workers, by points and by workers."""
    return listing(
        "On the workers of a Dask cluster",
        "Workers are processes of one thread on the cores of this machine, which they share. A "
        "product moves x to the workers and sums back; the memory is that of the largest worker "
        "above where it began, over the bytes of the result for each worker.",
        {
            "n": "n",
            "workers": lambda row: str(row["workers"]),
            "seconds": lambda row: number(row["seconds"]),
            "product, s": lambda row: number(row["product_seconds"]),
            "GiB": lambda row: number(row["storage_bytes"] / 2**30),
            "parts": lambda row: str(row["parts"]),
            "moved, MiB": lambda row: number(row["bytes_per_product"] / 2**20),
            "over x": lambda row: number(row["bytes_per_product"] / (8 * row["n"])),
            "memory over share": lambda row: number(row["memory_over_share"]),
        },
        rows,
    )
