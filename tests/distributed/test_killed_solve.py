"""A worker that is killed during a solve or a product: its tasks run again, to the same bits."""

import os
import signal
import time

import numpy as np
import pytest
from distributed import Client, LocalCluster
from on_workers import distribute

from structmat import KernelMatrix
from structmat.distributed.graph import Graph


class Killer:
    """Kill one worker as soon as each of these graphs has been sent."""

    def __init__(self, client, monkeypatch, *graphs):
        self.killed, count, run = [], 0, Graph.run
        workers = len(client.run(os.getpid))

        def run_and_kill(tasks, keys):
            nonlocal count
            count += 1
            if count not in graphs:
                return run(tasks, keys)
            client.wait_for_workers(workers, timeout=60)  # those killed before have come back,
            time.sleep(1)  # and their nannies have noticed
            pids = client.run(os.getpid)
            futures = run(tasks, keys)
            os.kill(pids[min(pids)], signal.SIGKILL)
            self.killed.append(pids[min(pids)])
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


@pytest.mark.slow
def test_the_only_worker_is_killed(symmetric, rng, monkeypatch):
    """Tasks whose place is gone wait for the next worker, whoever that is."""
    x = rng.standard_normal(900)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        D = distribute(symmetric, client, 3)
        y = D @ x
        killer = Killer(client, monkeypatch, 1)
        np.testing.assert_array_equal(D @ x, y)
        assert len(killer.killed) == 1
