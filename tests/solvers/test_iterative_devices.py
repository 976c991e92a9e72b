"""Krylov methods and preconditioners on a device, checked without one: launches of a step.

A step starts a number of operations that depends neither on the rows nor on the columns.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="launches are counted by torch")
sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from array_api_compat import torch as xp  # noqa: E402
from device_rules import MOST_LAUNCHES, Launches  # noqa: E402

import structmat  # noqa: E402
from structmat._progress import no_progress  # noqa: E402
from structmat.solvers.iterative.known import known_of  # noqa: E402
from structmat.solvers.iterative.krylov.conjugate_gradients import conjugate_gradients  # noqa: E402
from structmat.solvers.iterative.krylov.gmres import gmres  # noqa: E402
from structmat.solvers.iterative.krylov.lanczos import log_quadrature  # noqa: E402
from structmat.solvers.iterative.krylov.least_squares import lsmr  # noqa: E402
from structmat.solvers.iterative.krylov.minres import minres  # noqa: E402
from structmat.solvers.iterative.preconditioners import choice  # noqa: E402


def system(n, k):
    d = torch.linspace(1, 100, n, dtype=torch.float64)[:, None]
    return (lambda x: d * x), torch.from_numpy(np.random.default_rng(0).standard_normal((n, k)))


def launches(run):
    with Launches() as seen:
        run()
    return len(seen.names)


def solver(method):
    def run(n, k, limit):
        multiply, b = system(n, k)
        options = {"limit": limit, "report": no_progress, "xp": xp}
        if method is lsmr:
            return lambda: lsmr(multiply, multiply, b, 1e-14, **options)
        bound = np.full(k, 1e-14)
        return lambda: method(multiply, b, bound, precondition=multiply, **options)

    return run


def quadrature(n, k, limit):
    multiply, z = system(n, k)
    return lambda: log_quadrature(multiply, z, accuracy=0.0, limit=limit, xp=xp)


RUNS = {method.__name__: solver(method) for method in (conjugate_gradients, minres, gmres, lsmr)}
RUNS["log_quadrature"] = quadrature


@pytest.mark.parametrize("name", RUNS)
def test_a_step_starts_as_many_operations_at_every_size(name):
    run = RUNS[name]
    each = [(launches(run(n, k, 8)) - launches(run(n, k, 4))) / 4 for n, k in ((30, 1), (3000, 8))]
    assert each[0] == each[1] <= MOST_LAUNCHES


def test_tiles_start_as_many_operations_at_every_size():
    counts = []
    for n in (80, 800):
        points = np.random.default_rng(0).random((n, 2))
        A = structmat.KernelMatrix(points, "exponential", length=0.3).to("torch")
        M = choice._tiles(known_of(A, 0.1, 1e-3).system(1e-3))
        r = torch.ones((n, 3), dtype=torch.float64)
        counts.append(launches(lambda M=M, r=r: M.multiply(r)))
    assert counts[0] == counts[1] <= MOST_LAUNCHES / 2
