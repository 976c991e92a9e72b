"""A cluster too small for what is foretold is refused before anything starts."""

import numpy as np
import pytest

from structmat import InputError, KernelMatrix, compress
from structmat.distributed.forecast import Cluster, check_memory, cluster_of


def workers(*limits, used=2**20):
    return {
        "workers": {
            i: {"memory_limit": limit, "nthreads": 2, "metrics": {"memory": used}}
            for i, limit in enumerate(limits)
        }
    }


def test_a_small_cluster_is_refused_with_the_figures(client, points, monkeypatch):
    source = KernelMatrix(points, "exponential")
    monkeypatch.setattr(client, "scheduler_info", lambda n_workers: workers(2**21, 2**21))
    monkeypatch.setattr(client, "get", lambda *args, **kwargs: pytest.fail("tasks were sent"))
    with pytest.raises(InputError, match=r"about .* MiB on 2 workers, 1.5 times .*memory_limit="):
        compress(source, "hierarchical", tol=1e-4, client=client)


def test_what_is_foretold_is_near_what_is_stored(client, monkeypatch):
    points = np.random.default_rng(2).random((6000, 2))
    found = []
    monkeypatch.setattr(
        "structmat.distributed.rectangles.check_memory",
        lambda cluster, stored, points: found.append(stored),
    )
    source = KernelMatrix(points, "matern32", length=0.2)
    D = compress(source, "hierarchical", tol=1e-5, rng=0, client=client).matrix
    assert found[0] == pytest.approx(8 * D.storage, rel=0.3)


def test_memory_of_a_cluster(client, monkeypatch):
    monkeypatch.setattr(client, "scheduler_info", lambda n_workers: workers(2**30, 2**31))
    assert cluster_of(client) == Cluster(2, 4, pytest.approx(0.7 * 3 * 2**30 - 2**21))
    monkeypatch.setattr(client, "scheduler_info", lambda n_workers: workers(2**30, 0))
    assert cluster_of(client).free == np.inf


def test_a_cluster_at_its_limit(rng):
    check_memory(Cluster(2, 2, 3.5e9), 2e9, 2 * 10**8)
    with pytest.raises(InputError, match="takes about"):
        check_memory(Cluster(2, 2, 3.3e9), 2e9, 2 * 10**8)
    check_memory(Cluster(0, 0, 0.0), 2e9, 0)
