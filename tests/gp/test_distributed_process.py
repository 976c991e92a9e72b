"""A Gaussian process whose matrix lies on the workers of a cluster, against one machine."""

import numpy as np
import pytest

from structmat.gp import GaussianProcess, choice, starts

pytest.importorskip("distributed", reason="structmat[dask] is not installed")
from clusters import two_workers

PARAMETERS = {"length": 0.2, "amplitude": 1.5, "noise": 0.3}


@pytest.fixture(scope="module")
def client():
    with two_workers(processes=False) as client:
        yield client


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(choice, "DENSE_POINTS", 300)
    monkeypatch.setattr(starts, "FIRST_POINTS", 300)
    rng = np.random.default_rng(0)
    X = rng.random((600, 2))
    return X, np.sin(9 * X[:, 0]) + 0.3 * rng.standard_normal(600)


def test_a_process_on_workers_is_that_of_one_machine(client, data):
    local, spread = (
        GaussianProcess("exponential", **PARAMETERS, client=where).fit(*data, optimize=False)
        for where in (None, client)
    )
    assert "conjugate gradients" in spread.method
    one, two = (p.log_marginal_likelihood(eval_gradient=True) for p in (local, spread))
    assert 0 < two.error < 1
    assert abs(two.value - one.value) < 4 * np.hypot(one.error, two.error)
    # Traces are estimated: under other values gradients have deviations of 10 and more.
    np.testing.assert_allclose(two.gradient, one.gradient, atol=5)
    new = data[0][:9] + 0.01
    for found, other in zip(
        spread.predict(new, return_std=True), local.predict(new, return_std=True), strict=True
    ):
        np.testing.assert_allclose(found, other, atol=1e-3)


@pytest.mark.slow
def test_a_fit_on_workers_is_that_of_one_machine(client, data):
    spread, local = (
        GaussianProcess("exponential", **PARAMETERS, client=where).fit(*data)
        for where in (client, None)
    )
    assert spread.parameters == pytest.approx(local.parameters, rel=0.1)
