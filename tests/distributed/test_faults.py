"""A worker that is killed costs time alone: what it held is computed again, to the same bits."""

import os
import signal

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from structmat import Entries, KernelMatrix, compress


class Deadly:
    """Entries of a kernel; the call of a number, counted in a file, kills the worker."""

    def __init__(self, points, path, numbers):
        self.points, self.path, self.numbers, self.home = points, path, numbers, os.getpid()

    def __call__(self, rows, cols):
        if os.getpid() != self.home:
            with open(self.path, "ab") as file:
                file.write(b".")
                if file.tell() in self.numbers:
                    file.close()
                    os.kill(os.getpid(), signal.SIGKILL)
        gap = self.points[rows, None, :] - self.points[None, cols, :]
        return np.exp(-4 * np.sqrt((gap**2).sum(axis=2)))


def source_of(points, path, numbers):
    deadly = Deadly(points, path, numbers)
    return Entries(deadly, (len(points),) * 2, points=points, symmetric=True)


def test_a_worker_is_killed_during_a_compression(processes, tmp_path):
    # On a line, large rectangles are far: lines of them are chosen at random.
    points = np.random.default_rng(5).random((900, 1))
    local = compress(source_of(points, tmp_path / "calls", ()), "hierarchical", tol=1e-4, rng=1)
    deadly = source_of(points, tmp_path / "calls", (20,))
    result = compress(deadly, "hierarchical", tol=1e-4, rng=1, client=processes)
    assert os.path.getsize(tmp_path / "calls") > 20
    np.testing.assert_array_equal(result.matrix.gather().to_dense(), local.matrix.to_dense())


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_worker_is_killed_that_holds_parts(points, processes, tmp_path, rng, in_folder):
    source = KernelMatrix(points, "exponential")
    folder = tmp_path / "folder" if in_folder else None
    D = compress(source, "hierarchical", tol=1e-4, rng=1, client=processes, folder=folder).matrix
    x = rng.standard_normal(len(points))
    y = D @ x
    os.kill(next(iter(processes.run(os.getpid).values())), signal.SIGKILL)
    np.testing.assert_array_equal(D @ x, y)


@pytest.mark.slow
def test_twenty_kills_are_survived(tmp_path):
    points = np.random.default_rng(5).random((4000, 2))
    harmless = source_of(points, tmp_path / "all", ())
    local = compress(harmless, "hierarchical", tol=1e-4, rng=1)
    with (
        # Dask suspects tasks that waited on a worker which died, and gives up after three deaths.
        dask.config.set({"distributed.scheduler.allowed-failures": 20}),
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        compress(harmless, "hierarchical", tol=1e-4, rng=1, client=client)
        calls = os.path.getsize(tmp_path / "all")
        numbers = tuple(np.linspace(0.02 * calls, 0.98 * calls, 20).astype(int).tolist())
        deadly = source_of(points, tmp_path / "some", numbers)
        result = compress(deadly, "hierarchical", tol=1e-4, rng=1, client=client)
        assert os.path.getsize(tmp_path / "some") > calls
        np.testing.assert_array_equal(result.matrix.gather().to_dense(), local.matrix.to_dense())
