"""Graphs of pure tasks for a Dask cluster: what a lost worker held is computed again.

Dask is imported where it is used: whoever has a client has loaded it.
"""

import uuid
from collections.abc import Hashable, Sequence
from typing import Any

#: Size of a graph above which Dask warns that data should have tasks of their own, as ours have.
_LARGE = {"distributed.admin.large-graph-warning-threshold": "1 PiB"}


class Graph:
    """Tasks of one graph, by keys that end with a token of their own.

    A task is a function and its arguments, in which keys and futures stand for their results. A
    place is the address of the worker on which a task should run; another one takes it where that
    worker is gone.
    """

    def __init__(self, client: Any) -> None:
        self.client, self._token = client, uuid.uuid4().hex
        self._tasks: dict[str | None, dict[Hashable, Any]] = {}
        self._places: dict[Sequence[Any], list[str | None]] = {}

    def add(self, name: str, at: Sequence[int], task: Any, place: str | None = None) -> Hashable:
        """Key of a task, by a name for the dashboard and numbers."""
        key = (f"{name}-{self._token}", *at)
        self._tasks.setdefault(place, {})[key] = task
        return key

    def places(self, futures: tuple[Any, ...]) -> list[str | None]:
        """Address of a worker that holds each result, as they were when first asked for."""
        if futures not in self._places:
            held = self.client.who_has(futures)
            self._places[futures] = [min(held[f.key], default=None) for f in futures]
        return self._places[futures]

    def run(self, keys: Sequence[Hashable]) -> list[Any]:
        """Futures of some tasks; all tasks go to the scheduler at once."""
        import dask
        from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

        layers = {
            f"{place}-{self._token}": MaterializedLayer(
                tasks,
                annotations=None
                if place is None
                else {"workers": [place], "allow_other_workers": True},
            )
            for place, tasks in self._tasks.items()
        }
        graph = HighLevelGraph(layers, {name: set() for name in layers})
        with dask.config.set(_LARGE):
            futures: list[Any] = self.client.get(graph, list(keys), sync=False)
        return futures
