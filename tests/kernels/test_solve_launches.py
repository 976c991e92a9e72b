"""Launches of a solve on torch: as many for many columns, and for many rows."""

import sys
from pathlib import Path

import pytest
import torch
from device_rules import READS, Launches

from structmat import Dense, Diagonal, LowRank, Monarch, factorize, kron

sys.path.append(str(Path(__file__).parents[1] / "solvers"))
from solve_kinds import KINDS, drawn

#: Launches of a solve, and of a solve with its derivatives, at most.
MOST, MOST_WITH_GRADIENTS = 45, 90


def launched(F, columns):
    """Numbers of launches of a solve, and of a solve with its derivatives."""
    found = []
    for needed in (False, True):
        b = torch.ones(F.shape[0], columns, dtype=torch.float64, requires_grad=needed)
        F.solve(b)
        with Launches() as launches:
            x = F.solve(b)
            if needed:
                x.sum().backward()
        assert not set(launches.names) & set(READS)
        found.append(len(launches.names))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_solved_together(kind):
    F = factorize(KINDS[kind](drawn(1)).to("torch"), shift=2.5)
    few, many = launched(F, 2), launched(F, 64)
    assert many[0] == few[0] <= MOST
    assert many[1] <= few[1] <= MOST_WITH_GRADIENTS


@pytest.mark.parametrize("kind", ["woodbury", "monarch", "kronecker"])
def test_the_number_of_rows_does_not_matter(kind):
    found = []
    for size in (4, 16):
        c = drawn(size)
        n = size * size
        build = {
            "woodbury": lambda c=c, n=n: LowRank(c(n, 3), c(n, 3)) + Diagonal(3 + abs(c(n))),
            "monarch": lambda c=c, s=size: Monarch(c(s, s, s), c(s, s, s)),
            "kronecker": lambda c=c, s=size: kron(Dense(c(s, s)), Dense(c(s, s))),
        }[kind]
        found.append(launched(factorize(build().to("torch")), 3))
    assert found[0] == found[1]
