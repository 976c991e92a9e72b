"""Clusters of this machine for tests."""

from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def two_workers(*, processes):
    """The client of two workers: in processes of their own, which may be killed, or in this one."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
