"""Compression of sources on the workers of a Dask cluster, by the fits of one machine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from structmat._progress import Progress
from structmat.compress.arguments import Workers
from structmat.compress.contained import Bound
from structmat.compress.entries.run import Compression
from structmat.compress.estimate import Estimate
from structmat.compress.goal import Goal
from structmat.compress.hermitian import hermitian_fit
from structmat.compress.hierarchical.clusters import Pairs
from structmat.compress.hierarchical.fit import FitPlan, planned
from structmat.compress.hierarchical.look import sampled
from structmat.compress.results import CompressionResult
from structmat.distributed import tasks
from structmat.distributed.facts import facts_of, facts_of_result
from structmat.distributed.folder import Folder, Store
from structmat.distributed.forecast import check_memory, cluster_of
from structmat.distributed.graph import Graph
from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.shares import Share, shares_of
from structmat.errors import InputError
from structmat.sources.source import Source

#: Bytes of a share at most, and shares for each thread of the cluster at least.
SHARE_BYTES, SHARES_PER_THREAD = 2**26, 4


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
    folder = None if workers.folder is None else Folder(workers.folder)
    if folder is not None:
        facts = {"kind": kind, "tol": bound.tol, "cap": bound.cap, "symmetric": hermitian}
        folder.begin({**facts, "exact": exact, **facts_of(source)}, rng, workers.client)
    fit = FITS[kind](source, workers.client, folder)
    run = Compression(source, kind, hermitian_fit(kind, fit) if hermitian else fit, local=False)
    if folder is not None and (known := folder.result) is not None:
        matrix = fit.matrix(run.host, Goal(**known["goal"]), known["seed"], report)
        estimate = Estimate(**known["estimate"])
        return CompressionResult(
            matrix, kind, estimate.error, matrix.cost, matrix.storage, math.nan, 0.0, estimate,
            entries=run.entries, ordered=run.ordered,
        )  # fmt: skip
    result = run.result(bound, rng, report, exact=exact)
    if result is None:
        raise InputError(f"no {kind!r} matrix of {source!r}; expected a larger tolerance")
    if folder is not None:
        matrix = result.matrix
        orders = matrix.row_order, matrix.col_order
        folder.finish(facts_of_result(result, *fit.last), folder.store(*fit.last), orders)
    return result


class HierarchicalFit:
    """The fit of a hierarchical matrix, share by share on workers."""

    def __init__(self, source: Source, client: Any, folder: Folder | None) -> None:
        self._source, self._client, self._folder = source, client, folder
        #: Goal and seed of the last fit.
        self.last = Goal(), 0

    def __call__(
        self, source: Source, goal: Goal, *, rng: np.random.Generator, progress: Progress
    ) -> DistributedMatrix:
        """Fit to an error or under a cap, as `fit_entries` does on one machine."""
        return self.matrix(source, goal, int(rng.integers(2**62)), progress)

    def matrix(
        self, source: Source, goal: Goal, seed: int, progress: Progress
    ) -> DistributedMatrix:
        """The matrix of a goal and a seed."""
        self.last = goal, seed
        plan = planned(source, goal, seed)
        pairs = plan.pairs
        store = None if self._folder is None else self._folder.store(goal, seed)
        cluster = cluster_of(self._client)
        rank, count = self._divided(plan, cluster.threads, store)
        check_memory(cluster, self._bytes(pairs, rank), _points_bytes(plan))
        parts = self._built(plan, shares_of(pairs, rank, count), store, progress)
        return DistributedMatrix(
            self._client, parts, shape=source.shape, row_order=pairs.row_order,
            col_order=pairs.col_order,
        )  # fmt: skip

    def _divided(self, plan: FitPlan, threads: int, store: Store | None) -> tuple[float, int]:
        """Rank by which shares are weighed, and their number; once written, they stay."""
        if store is not None and (known := store.read_division()) is not None:
            return known
        pairs = plan.pairs
        look = sampled(plan.evaluator, pairs, plan.each, plan.seed, plan.whole)
        rank = look.cost / max(float(pairs.weight * pairs.sides.sum()), 1.0)
        count = max(SHARES_PER_THREAD * threads, round(self._bytes(pairs, rank) / SHARE_BYTES), 1)
        if store is not None:
            store.write_division(rank, count)
        return rank, count

    def _bytes(self, pairs: Pairs, rank: float) -> float:
        """Bytes of a matrix whose far rectangles have about this rank."""
        stored = rank * float(pairs.sides.sum()) + pairs.near_cost / pairs.weight
        return stored * np.dtype(self._source.dtype).itemsize

    def _built(
        self, plan: FitPlan, shares: Sequence[Share], store: Store | None, progress: Progress
    ) -> list[Any]:
        """Futures of the parts, once all of them are there."""
        graph, none = Graph(self._client), plan.pairs.far[:0]
        dtype = np.dtype(self._source.dtype)
        jobs = [tasks.Job(share, i, store) for i, share in enumerate(shares)]
        common = replace(plan, pairs=plan.pairs._replace(far=none, near=none))
        place = graph.add("points", [], common)
        found = [graph.add("far", [j.number], (tasks.approximate, place, j)) for j in jobs]
        spectra = [graph.add("spectra", [i], (tasks.spectra, key)) for i, key in enumerate(found)]
        cut = graph.add("cut", [], (tasks.cut, place, plan.pairs.near_cost, store, *spectra))
        packed = [
            graph.add("pack", [j.number], (tasks.pack, place, j, key, cut, dtype))
            for j, key in zip(jobs, found, strict=True)
        ]
        parts = [graph.add("part", [i], (tasks.part_of, key)) for i, key in enumerate(packed)]
        counts = [
            graph.add("entries", [i], (tasks.entries_of, key))
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


def _points_bytes(plan: FitPlan) -> int:
    """Bytes of points and orders, which every worker holds: as they came, and in order."""
    pairs, source = plan.pairs, plan.evaluator.source
    sides = [(pairs.row_order, source.points)]
    if pairs.col_order is not pairs.row_order:
        sides.append((pairs.col_order, source.points2))
    return sum(
        order.nbytes + (0 if points is None else 2 * points.nbytes) for order, points in sides
    )


#: Fits by kinds.
FITS: dict[str, Callable[..., Any]] = {"hierarchical": HierarchicalFit}
