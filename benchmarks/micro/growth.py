"""Growth of the product with one vector, at a fixed number of stored scalars a row."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.micro import gblr
from benchmarks.micro.memory import reader
from benchmarks.micro.suites import Suite
from benchmarks.micro.timing import Call, interleaved
from benchmarks.results import short

#: Stored scalars for each row of the matrix, half of them in either factor.
SCALARS_PER_ROW = 128


def run(suite: Suite, sizes: Sequence[int], seconds: float, least: int, seed: int) -> None:
    """Time the product and the reading of the scalars, all sizes side by side."""
    name, read = reader()
    calls: dict[str, Call] = {}
    storage = {}
    for n in sizes:
        rng = np.random.default_rng(seed)
        subject = gblr.random_gblr(n, min(1.0, SCALARS_PER_ROW / n), rng)
        matrix = subject.matrix.astype("float32")
        x = rng.standard_normal(n, np.float32)
        error = subject.product_error(matrix @ x, subject.reference(x.astype(np.float64)), x)
        limit = n * np.finfo(np.float32).eps
        suite.check(error <= limit, f"growth, n = {n}: error {error:.1e}")
        storage[n] = matrix.storage
        calls[f"{n}"] = partial(matrix.__matmul__, x)
        calls[f"{n} read"] = partial(read, np.ones(matrix.storage, np.float32))
    timing = interleaved(calls, seconds=seconds * len(sizes), least=least)
    first = sizes[0]
    for n in sizes:
        share = storage[first] / storage[n]
        suite.rows.append(
            {
                "what": "growth",
                "n": n,
                "scalars": storage[n],
                "seconds": short(timing.seconds(f"{n}")),
                "reader": name,
                "over_first": short(timing.ratio(f"{n}", f"{first}") * share),
                "reading_over_first": short(timing.ratio(f"{n} read", f"{first} read") * share),
                "over_read": short(timing.ratio(f"{n}", f"{n} read")),
            }
        )
