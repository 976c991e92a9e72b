"""A worker that is killed during a solve or a product: its tasks run again, to the same bits."""

import os
import signal

import numpy as np
import pytest
from on_workers import distribute

from structmat import KernelMatrix
from structmat.distributed.graph import Graph


class Killer:
    """Kill one worker after each of these graphs has been sent."""

    def __init__(self, client, monkeypatch, *graphs):
        self.killed, count, run = [], 0, Graph.run

        def run_and_kill(graph, keys):
            nonlocal count
            futures, count = run(graph, keys), count + 1
            if count in graphs:
                client.wait_for_workers(2, timeout=60)  # those killed before have come back
                pids = client.run(os.getpid)
                self.killed.append(pids[min(pids)])
                os.kill(self.killed[-1], signal.SIGKILL)
            return futures

        monkeypatch.setattr(Graph, "run", run_and_kill)


def solved(D, B):
    F = D.factorize(shift=0.1, tol=1e-9)
    return F.solve(B), D @ B


@pytest.mark.parametrize(
    ("times", "graphs"), [(1, [3]), pytest.param(4, range(1, 21, 2), marks=pytest.mark.slow)]
)
def test_results_are_the_same(times, graphs, processes, points, symmetric, rng, monkeypatch):
    """Killed while a preconditioner is made, during steps, and during products."""
    D = distribute(symmetric, processes, 4, KernelMatrix(points, "exponential", length=0.2))
    B = rng.standard_normal((900, 2))
    wanted = solved(D, B)
    killer = Killer(processes, monkeypatch, *graphs)
    for _ in range(times):
        for found, want in zip(solved(D, B), wanted, strict=True):
            np.testing.assert_array_equal(found, want)
    assert len(killer.killed) == len(graphs)
