"""The fit of hierarchical matrices on workers, share by share of the rectangles."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from structmat._progress import Progress
from structmat.compress.goal import Goal
from structmat.compress.hierarchical.clusters import Pairs
from structmat.compress.hierarchical.fit import FitPlan, planned
from structmat.compress.hierarchical.look import sampled
from structmat.distributed import tasks
from structmat.distributed.building import built, share_count
from structmat.distributed.folder import Folder, Store
from structmat.distributed.forecast import Cluster, check_memory, cluster_of
from structmat.distributed.graph import Graph
from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.shares import Share, shares_of
from structmat.errors import BudgetError
from structmat.sources.source import Source


class HierarchicalFit:
    """The fit of a hierarchical matrix, share by share on workers."""

    def __init__(
        self, source: Source, client: Any, folder: Folder | None, *, hermitian: bool
    ) -> None:
        self._hermitian = hermitian
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
        if self._hermitian and not pairs.symmetric:
            raise BudgetError(
                f"a budget of {goal.max_cost} multiplications, too few for the dense rectangles of "
                "a symmetric matrix; expected more (or symmetric left out)"
            )
        store = None if self._folder is None else self._folder.store(goal, seed)
        cluster = cluster_of(self._client)
        rank, count = self._divided(plan, cluster, store)
        check_memory(cluster, self._bytes(pairs, rank), _points_bytes(plan))
        parts = self._built(plan, shares_of(pairs, rank, count), store, progress)
        return DistributedMatrix(
            self._client, parts, shape=source.shape, row_order=pairs.row_order,
            col_order=pairs.col_order,
        )  # fmt: skip

    def _divided(self, plan: FitPlan, cluster: Cluster, store: Store | None) -> tuple[float, int]:
        """Rank by which shares are weighed, and their number; once written, they stay."""
        if store is not None and (known := store.read_division()) is not None:
            return known
        pairs = plan.pairs
        look = sampled(plan.evaluator, pairs, plan.each, plan.seed, plan.whole)
        rank = look.cost / max(float(pairs.weight * pairs.sides.sum()), 1.0)
        count = share_count(cluster, self._bytes(pairs, rank))
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
        parts, entries = built(graph, packed, found, progress)
        self._source.count(entries)
        return parts


def _points_bytes(plan: FitPlan) -> int:
    """Bytes of points and orders, which every worker holds: as they came, and in order."""
    pairs, source = plan.pairs, plan.evaluator.source
    sides = [(pairs.row_order, source.points)]
    if pairs.col_order is not pairs.row_order:
        sides.append((pairs.col_order, source.points2))
    return sum(
        order.nbytes + (0 if points is None else 2 * points.nbytes) for order, points in sides
    )
