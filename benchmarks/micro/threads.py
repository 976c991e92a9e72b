"""Products of random GBLR matrices at one and two threads, apart from those of BLAS.

Threads of BLAS that wait spin for a while, on processors that the next product needs. So each
product is timed in a block of its own, after a pause.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median

import numpy as np

from benchmarks.micro import gblr
from benchmarks.micro.peer_products import load
from benchmarks.micro.suites import Suite
from benchmarks.micro.targets import TARGET_COSTS, THREADS
from benchmarks.micro.timing import interleaved
from benchmarks.results import Row, Skip, short
from structmat.kernels.cpu.threads import processors

#: Seconds after which threads of BLAS sleep.
PAUSE = 0.2
#: Blocks of each product.
BLOCKS = 3


def run(
    suite: Suite, places: Sequence[tuple[int, int]], seconds: float, least: int, seed: int
) -> None:
    """Check and time products of these sizes and numbers of columns, single precision."""
    for threads in THREADS:
        try:
            with limited(threads):
                for n, columns in places:
                    for cost in TARGET_COSTS:
                        row = _row(suite, n, cost, columns, seconds, least, seed)
                        suite.rows.append({"what": "threads", "threads": threads} | row)
        except Skip as reason:
            suite.rows.append({"what": "threads", "threads": threads, "skipped": str(reason)})


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limit the threads of BLAS and of structmat, or raise `Skip`."""
    if threads > processors():
        raise Skip(f"{processors()} processors")
    control, name = load("threadpoolctl", "threadpoolctl"), "STRUCTMAT_NUM_THREADS"
    kept = os.environ.get(name)
    os.environ[name] = str(threads)
    try:
        with control.threadpool_limits(threads):
            yield
    finally:
        os.environ.pop(name)
        if kept is not None:
            os.environ[name] = kept


def _row(
    suite: Suite, n: int, cost: float, columns: int, seconds: float, least: int, seed: int
) -> Row:
    rng = np.random.default_rng(seed)
    subject = gblr.random_gblr(n, cost, rng)
    matrix = subject.matrix.astype("float32")
    dense = rng.standard_normal((n, n), np.float32)
    x = rng.standard_normal((n, columns) if columns > 1 else n, np.float32)
    checked = x.reshape(n, -1)[:, :1]
    found = (matrix @ x).reshape(n, -1)[:, :1]
    expected = subject.reference(checked.astype(np.float64))
    error = subject.product_error(found, expected, checked)
    suite.check(error <= n * np.finfo("float32").eps, f"{matrix!r}, threads: error {error:.1e}")
    calls = {"ours": partial(matrix.__matmul__, x), "dense": partial(dense.__matmul__, x)}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(BLOCKS):
        for name, call in calls.items():
            time.sleep(PAUSE if seconds else 0.0)
            timing = interleaved({name: call}, seconds=seconds, least=least)
            samples[name].append(timing.seconds(name))
    ratios = map(lambda ours, theirs: ours / theirs, samples["ours"], samples["dense"])
    return {
        "n": n,
        "budget": cost,
        "dtype": "float32",
        "columns": columns,
        "cost": short(subject.matrix.relative_cost),
        "seconds": short(median(samples["ours"])),
        "over_dense": short(median(ratios)),
    }
