"""What all fits on workers have in common: the number of shares, and the wait for the parts."""

from collections.abc import Hashable, Sequence
from typing import Any

from structmat._progress import Progress
from structmat.distributed import tasks
from structmat.distributed.forecast import Cluster
from structmat.distributed.graph import Graph

#: Bytes of a share at most, about, and shares for each thread of the cluster at least.
SHARE_BYTES, SHARES_PER_THREAD = 2**26, 4


def share_count(cluster: Cluster, stored: float) -> int:
    """Number of shares of a result of so many bytes."""
    return max(SHARES_PER_THREAD * cluster.threads, round(stored / SHARE_BYTES), 1)


def built(
    graph: Graph, packed: Sequence[Hashable], before: Sequence[Hashable], progress: Progress
) -> tuple[list[Any], int]:
    """Futures of the parts of some `Packed`, once all are there, and the entries evaluated.

    Tasks `before` them have evaluated entries as well. The first error of a task is raised.
    """
    from distributed import as_completed

    keys = [graph.add("part", [i], (tasks.part_of, key)) for i, key in enumerate(packed)]
    counts = [
        graph.add("entries", [i], (tasks.entries_of, key))
        for i, key in enumerate([*before, *packed])
    ]
    futures, total = graph.run([*keys, *counts]), 0
    try:
        for done, future in enumerate(as_completed(futures[len(keys) :]), 1):
            total += future.result()
            progress(done / len(counts))
    except BaseException:
        graph.client.cancel(futures)
        raise
    return futures[: len(keys)], total
