"""Conjugate gradients whose vectors are chunks of rows on workers, a few steps at a time.

The recurrence is that of `solvers.iterative.krylov.conjugate_gradients`. A graph has the tasks of
several steps, so that a round trip to the scheduler serves them all; columns that have converged
stay as they are. Inner products are sums over chunks in their order.
"""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat._progress import Progress
from structmat.distributed.graph import Graph
from structmat.distributed.part import Parts
from structmat.distributed.product import Vectors, Way, added, piece_of, product, sent
from structmat.distributed.steps import (
    Direction,
    Report,
    imaged,
    inner_of,
    moved,
    preconditioned,
    report_of,
    stepped,
    turned,
)
from structmat.solvers.iterative.krylov.columns import Reached
from structmat.solvers.iterative.krylov.conjugate_gradients import share

#: Steps of one graph.
STEPS = 4
#: Graphs after which vectors are sent again, so that a lost one takes few steps to repeat.
GRAPHS = 16


class System(NamedTuple):
    """Parts of A, the shift of S = A + shift I, and parts of G for a preconditioner G^H G."""

    parts: Parts
    shift: float
    inverse: Parts | None


class State(NamedTuple):
    """Vectors of the recurrence: the solution, the residual and the direction."""

    x: Vectors
    r: Vectors
    p: Vectors


def conjugate_gradients(
    system: System, b: NDArray[Any], bound: NDArray[np.float64], *, limit: int, report: Progress
) -> Reached:
    """Solve S x = b for columns b (n, k) in the order of the parts, from x = 0.

    Ends where each residual is within its bound, after about `limit` steps, or where a curvature
    shows that S is not positive definite. A step takes two products, and O(n k) besides; five
    vectors of the size of b are held.
    """
    graph = Graph(system.parts.client)
    state = _begun(graph, system, b)
    reports, steps, graphs = [graph.add("report", [0], (report_of, state.p.chunks[0]))], 0, 0
    first, least = np.inf, np.inf
    while True:
        for step in range(1, STEPS + 1):
            state = _step(graph, system, state, bound, step)
            reports.append(graph.add("report", [step], (report_of, state.p.chunks[0])))
        state, found = _run(graph, state, reports)
        for norm, curvature in found:
            least, last = min(least, curvature), norm
            steps += 1
            if not least > 0 or (norm <= bound).all():
                break
        first = min(first, float(found[0].norm.max()))
        report(share(last, bound, first))
        if not least > 0 or (last <= bound).all() or steps > limit:
            return Reached(_gathered(system, state.x), last, steps - 1, least)
        graph, reports, graphs = Graph(system.parts.client), [], graphs + 1
        if graphs % GRAPHS == 0:
            state = _sent_again(graph, system, state)


def _begun(graph: Graph, system: System, b: NDArray[Any]) -> State:
    """The state before the first step."""
    r = sent(graph, "residual", b)
    x = [graph.add("solution", [0, i], (np.zeros_like, key)) for i, key in enumerate(r.chunks)]
    return State(r._replace(chunks=tuple(x)), r, _turned(graph, system, r, None, 0))


def _step(graph: Graph, system: System, state: State, bound: NDArray[Any], step: int) -> State:
    """The state after a step, whose tasks are added to the graph."""
    x, r, p = state
    pieces = product(graph, "multiply", system.parts, p, Way.PLAIN, step)
    images, every = _images(
        graph, "image", step, p.bounds, pieces, [(imaged, key, system.shift) for key in p.chunks]
    )
    residual = [
        graph.add("residual", [step, i], (stepped, *task, bound, *every))
        for i, task in enumerate(zip(r.chunks, p.chunks, images, strict=True))
    ]
    new = r._replace(chunks=tuple(residual))
    solution = [
        graph.add("solution", [step, i], (moved, *task))
        for i, task in enumerate(zip(x.chunks, p.chunks, residual, strict=True))
    ]
    return State(x._replace(chunks=tuple(solution)), new, _turned(graph, system, new, p, step))


def _turned(graph: Graph, system: System, r: Vectors, p: Vectors | None, step: int) -> Vectors:
    """The next direction, by a product of the residual with the preconditioner."""
    pieces = []
    if system.inverse is not None:
        pieces = product(graph, "precondition", system.inverse, r, Way.GRAM, step)
    images, every = _images(
        graph, "preconditioned", step, r.bounds, pieces, [(preconditioned, key) for key in r.chunks]
    )
    before = [None] * len(r.chunks) if p is None else p.chunks
    keys = [
        graph.add("direction", [step, i], (turned, *task, *every))
        for i, task in enumerate(zip(images, r.chunks, before, strict=True))
    ]
    return r._replace(chunks=tuple(keys))


def _images(
    graph: Graph, name: str, step: int, bounds: Sequence[int], pieces: list[Hashable], tasks: Any
) -> tuple[list[Any], list[Hashable]]:
    """A task for each chunk of a product, and keys of the inner products of all of them.

    One chunk alone is a part of the task that needs it, and holds its inner products.
    """
    if len(tasks) == 1:
        return [(*tasks[0], bounds[0], bounds[1], *pieces)], []
    whole = graph.add(f"sum-{name}", [step], (added, *pieces)) if pieces else None
    images = []
    for i, (task, (a, b)) in enumerate(zip(tasks, pairwise(bounds), strict=True)):
        cut = (
            [] if whole is None else [graph.add(f"cut-{name}", [step, i], (piece_of, whole, a, b))]
        )
        images.append(graph.add(name, [step, i], (*task, a, b, *cut)))
    every = [graph.add(f"inner-{name}", [step, i], (inner_of, key)) for i, key in enumerate(images)]
    return images, every


def _run(graph: Graph, state: State, reports: list[Hashable]) -> tuple[State, list[Report]]:
    """The state as futures, once the reports of all steps are there."""
    count = len(state.x.chunks)
    keys = [*state.x.chunks, *state.r.chunks, *state.p.chunks]
    futures = graph.run([*keys, *reports])
    vectors = [
        v._replace(chunks=tuple(futures[i * count : (i + 1) * count])) for i, v in enumerate(state)
    ]
    return State(*vectors), graph.client.gather(futures[len(keys) :])


def _gathered(system: System, vectors: Vectors) -> NDArray[Any]:
    found: list[NDArray[Any]] = system.parts.client.gather(list(vectors.chunks))
    return np.concatenate(found)


def _sent_again(graph: Graph, system: System, state: State) -> State:
    """The same state, from this machine."""
    x, r, p = (system.parts.client.gather(list(v.chunks)) for v in state)
    return State(
        _added(graph, "solution", state.x, x),
        _added(graph, "residual", state.r, [chunk.rows for chunk in r]),
        _added(graph, "direction", state.p, [(Direction, *chunk) for chunk in p]),
    )


def _added(graph: Graph, name: str, vectors: Vectors, tasks: list[Any]) -> Vectors:
    keys = [graph.add(name, [0, i], task) for i, task in enumerate(tasks)]
    return vectors._replace(chunks=tuple(keys))
