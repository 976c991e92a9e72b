"""Compression of sources on the workers of a Dask cluster, by the fits of one machine."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from structmat._progress import Progress
from structmat.compress.arguments import Workers
from structmat.compress.contained import Bound
from structmat.compress.entries.run import Compression
from structmat.compress.goal import Goal
from structmat.compress.hermitian import hermitian_fit
from structmat.compress.hierarchical.fit import FitPlan, planned
from structmat.compress.hierarchical.look import sampled
from structmat.compress.results import CompressionResult
from structmat.distributed import tasks
from structmat.distributed.graph import Graph
from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.shares import Share, shares_of
from structmat.errors import InputError
from structmat.sources.source import Source

#: Bytes of a share at most, and shares for each thread of the cluster at least.
SHARE_BYTES, SHARES_PER_THREAD = 2**26, 4
#: Share of the progress for the approximation of far rectangles.
APPROXIMATING = 0.8


def compress_source(
    source: Source,
    kind: str,
    bound: Bound,
    workers: Workers,
    rng: np.random.Generator,
    report: Progress,
    *,
    exact: bool,
    hermitian: bool,
) -> CompressionResult:
    """A distributed matrix near a source; see `structmat.compress`."""
    if kind not in FITS:
        raise InputError(
            f"kind {kind!r} with client; expected one of {', '.join(FITS)}, which workers build "
            "(or client left out)"
        )
    fit: Any = FITS[kind](source, workers)
    if hermitian:
        fit = hermitian_fit(kind, fit)
    run = Compression(source, kind, fit, local=False)
    result = run.result(bound, rng, report, exact=exact)
    if result is None:
        raise InputError(f"no {kind!r} matrix of {source!r}; expected a larger tolerance")
    return result


class HierarchicalFit:
    """The fit of a hierarchical matrix, share by share on workers."""

    def __init__(self, source: Source, workers: Workers) -> None:
        self._source, self._client = source, workers.client

    def __call__(
        self, source: Source, goal: Goal, *, rng: np.random.Generator, progress: Progress
    ) -> DistributedMatrix:
        """Fit to an error or under a cap, as `fit_entries` does on one machine."""
        plan = planned(source, goal, rng)
        pairs = plan.pairs
        look = sampled(plan.evaluator, pairs, plan.each, plan.seed, plan.whole)
        rank = look.cost / max(float(pairs.weight * pairs.sides.sum()), 1.0)
        stored = look.cost / pairs.weight + pairs.near_cost / pairs.weight
        count = self._count(stored * np.dtype(source.dtype).itemsize)
        parts = self._built(plan, shares_of(pairs, rank, count), source, progress)
        return DistributedMatrix(
            self._client, parts, shape=source.shape, row_order=pairs.row_order,
            col_order=pairs.col_order,
        )  # fmt: skip

    def _count(self, stored: float) -> int:
        """Number of shares for bytes of a result."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        threads = sum(worker["nthreads"] for worker in workers)
        return max(SHARES_PER_THREAD * threads, round(stored / SHARE_BYTES), 1)

    def _built(
        self, plan: FitPlan, shares: Sequence[Share], source: Source, progress: Progress
    ) -> list[Any]:
        """Futures of the parts, once all of them are there."""
        graph, none = Graph(self._client), plan.pairs.far[:0]
        common = replace(plan, pairs=plan.pairs._replace(far=none, near=none))
        place = graph.add("points", [], common)
        found = [
            graph.add("approximate", [i], (tasks.approximate, place, share))
            for i, share in enumerate(shares)
        ]
        spectra = [graph.add("spectra", [i], (tasks.spectra, key)) for i, key in enumerate(found)]
        cut = graph.add("cut", [], (tasks.cut, place, plan.pairs.near_cost, *spectra))
        dtype = np.dtype(source.dtype)
        packed = [
            graph.add("pack", [i], (tasks.pack, place, key, cut, dtype))
            for i, key in enumerate(found)
        ]
        parts = [graph.add("part", [i], (tasks.part_of, key)) for i, key in enumerate(packed)]
        counts = [
            graph.add("count", [i], (tasks.entries_of, key))
            for i, key in enumerate([*found, *packed])
        ]
        futures = graph.run([*parts, *counts])
        parts, counts = futures[: len(parts)], futures[len(parts) :]
        self._source.count(self._awaited(parts, counts, progress))
        return parts

    def _awaited(self, parts: list[Any], counts: list[Any], progress: Progress) -> int:
        """Sum of the entries that tasks counted; the first error of a task is raised."""
        from distributed import as_completed

        total = 0
        try:
            for done, future in enumerate(as_completed(counts), 1):
                total += future.result()
                progress(done / len(counts))
        except BaseException:
            self._client.cancel([*parts, *counts])
            raise
        return total


#: Fits by kinds.
FITS: dict[str, Callable[..., Any]] = {"hierarchical": HierarchicalFit}
