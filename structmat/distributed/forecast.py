"""Memory that a compression will take on workers, beside the memory that they have."""

import math
from typing import Any, NamedTuple

from structmat.errors import InputError

#: Memory of a compression over the bytes of its result: factors that are not packed yet.
FACTOR = 1.5
#: Share of its limit up to which a worker keeps results in memory; Dask's default.
KEPT = 0.7


class Cluster(NamedTuple):
    """Workers and threads of a cluster, and the bytes that all workers together can take."""

    workers: int
    threads: int
    free: float


def cluster_of(client: Any) -> Cluster:
    """The cluster of a client as it is now; workers without a limit have no end of memory."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    free = 0.0
    for worker in workers:
        limit, used = worker["memory_limit"], worker["metrics"].get("memory", 0)
        free += max(KEPT * limit - used, 0.0) if limit else math.inf
    return Cluster(len(workers), sum(worker["nthreads"] for worker in workers), free)


def check_memory(cluster: Cluster, stored: float, points: int) -> None:
    """Refuse a cluster too small for a result of `stored` bytes, with points on each worker.

    A cluster without workers, which may come later, is not refused.
    """
    needed = FACTOR * stored + cluster.workers * points
    if cluster.workers and needed > cluster.free:
        raise InputError(
            f"the compression takes about {_size(needed)} on {cluster.workers} workers, "
            f"{FACTOR} times the {_size(stored)} of the result and {_size(points)} of points on "
            f"each, but they have {_size(cluster.free)} free; expected more workers, more memory "
            "for each (memory_limit=), or a larger tolerance"
        )


def _size(size: float) -> str:
    """Bytes for a reader.

    Examples
    --------
    >>> _size(3 * 2**29), _size(2**20)
    ('1.5 GiB', '1 MiB')
    """
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    return f"{size / unit:.3g} {name}"
