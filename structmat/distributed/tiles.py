"""The fit of block low rank matrices on workers, by rows of tiles."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from structmat._progress import Progress, no_progress
from structmat.compress.entries.block_low_rank import Grid, Place
from structmat.compress.goal import Goal
from structmat.distributed.building import built, share_count
from structmat.distributed.folder import Folder, Store
from structmat.distributed.forecast import check_memory, cluster_of
from structmat.distributed.graph import Graph
from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.tasks import Packed, task
from structmat.distributed.tile_parts import tiles_on_hull
from structmat.errors import BudgetError, InputError
from structmat.sources.source import Source

#: Tiles that are fitted to foretell what all of them store.
LOOKED_AT = 12


@dataclass(frozen=True)
class TilePlan:
    """What a fit of tiles needs on every worker."""

    source: Source
    max_error: float
    seed: int


@dataclass(frozen=True)
class TileJob:
    """Tiles of a share, its number, and the files of the fit, if it has any."""

    places: list[Place]
    number: int
    store: Store | None


@task
def fit_tiles(plan: TilePlan, job: TileJob) -> Packed:
    """Fit the tiles of a share and their mirror images, or read them."""
    store = job.store
    if store is not None and store.part(job.number).exists():
        return Packed(store.read_part(job.number), 0)
    own = replace(plan, source=plan.source.apart())
    matrix = Grid(own.source).within(plan.max_error, plan.seed, job.places, no_progress)
    part = tiles_on_hull(matrix)
    if store is not None:
        store.write_part(job.number, part)
    return Packed(part, own.source.entries)


class TilesFit:
    """The fit of a block low rank matrix, by rows of tiles on workers."""

    def __init__(
        self, source: Source, client: Any, folder: Folder | None, *, hermitian: bool
    ) -> None:
        if hermitian:
            raise InputError(
                "symmetric = True for 'block_low_rank' with client, whose tiles are stored on both "
                "sides; expected 'hierarchical', which stores one triangle, or symmetric left out"
            )
        if 0 in source.shape:
            raise InputError(
                f"an empty source of shape {source.shape} with client; expected rows and columns"
            )
        self._source, self._client, self._folder = source, client, folder
        #: Goal and seed of the last fit.
        self.last = Goal(), 0

    def __call__(
        self, source: Source, goal: Goal, *, rng: np.random.Generator, progress: Progress
    ) -> DistributedMatrix:
        """Fit to an error, as `fit_entries` does on one machine."""
        if goal.max_cost is not None:
            raise BudgetError(
                f"a budget of {goal.max_cost} multiplications for 'block_low_rank' with client; "
                "expected tol, or 'hierarchical', or client left out"
            )
        return self.matrix(source, goal, int(rng.integers(2**62)), progress)

    def matrix(
        self, source: Source, goal: Goal, seed: int, progress: Progress
    ) -> DistributedMatrix:
        """The matrix of a goal and a seed."""
        self.last = goal, seed
        plan = TilePlan(source, goal.max_error or 0.0, seed)
        store = None if self._folder is None else self._folder.store(goal, seed)
        graph = Graph(self._client)
        place = graph.add("points", [], plan)
        packed = [
            graph.add("tiles", [i], (fit_tiles, place, TileJob(share, i, store)))
            for i, share in enumerate(self._shares(plan, store))
        ]
        parts, entries = built(graph, packed, [], progress)
        self._source.count(entries)
        return DistributedMatrix(self._client, parts, shape=source.shape)

    def _shares(self, plan: TilePlan, store: Store | None) -> list[list[Place]]:
        """Places of the tiles of each share: rows of the grid that follow each other."""
        places, cluster = Grid(plan.source).places, cluster_of(self._client)
        division = None if store is None else store.read_division()
        if division is None:
            each = self._stored(plan, places)
            division = each, share_count(cluster, each * len(places))
            if store is not None:
                store.write_division(*division)
        each, count = division
        check_memory(cluster, each * len(places), _points_bytes(plan.source))
        row = np.array([place[0] for place in places])
        ends = np.searchsorted(row, row[len(row) * np.arange(1, count) // count])
        bounds = np.unique(np.concatenate([[0], ends, [len(row)]]))
        return [places[a:b] for a, b in itertools.pairwise(bounds)]

    def _stored(self, plan: TilePlan, places: list[Place]) -> float:
        """Bytes that a tile stores on average, with its mirror image, by some of them."""
        some = np.unique(np.linspace(0, len(places) - 1, LOOKED_AT).astype(int))
        chosen = [places[k] for k in some]
        found = Grid(plan.source).within(plan.max_error, plan.seed, chosen, no_progress)
        return float(found.storage * found.dtype.itemsize) / len(chosen)


def _points_bytes(source: Source) -> int:
    """Bytes of the points, as they came and in order."""
    sides = {id(points): points for points in (source.points, source.points2)}
    return sum(2 * points.nbytes for points in sides.values() if points is not None)
