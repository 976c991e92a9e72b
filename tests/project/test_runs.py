"""Runs of rows: exact at their price, within the cap, alike on every library."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from structmat._array import namespace_named
from structmat.project.runs import project_runs
from structmat.project.scan import runs_at

# Few values, for ties and zeros.
energies = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 4)
)


def cost(kept):
    """Entries and runs."""
    return int(kept.sum() + kept[:, :1].sum() + (kept[:, 1:] & ~kept[:, :-1]).sum())


def masks(n):
    return np.array(list(itertools.product([False, True], repeat=n)))


def most_energy(energy):
    """Most energy of any runs for each cost, by trying all masks of each row."""
    best = np.zeros(1)
    for row in energy:
        every = masks(len(row))
        found = np.full(2 * len(row) + 1, -np.inf)
        np.maximum.at(found, [cost(kept[None]) for kept in every], every @ row)
        both = np.full(len(best) + len(found) - 1, -np.inf)
        for c, value in enumerate(best):
            both[c : c + len(found)] = np.maximum(both[c : c + len(found)], value + found)
        best = both
    return np.maximum.accumulate(best)


@given(energies, st.integers(0, 60))
def test_no_other_runs_hold_more_for_their_price(energy, cap):
    kept, price = project_runs(energy, cap)
    best, spent = most_energy(energy), cost(kept)
    assert spent <= cap
    held = energy[kept].sum()
    reach = np.interp(min(cap, len(best) - 1), *hull(best))
    # Between two corners of the hull, less than one run is missing.
    assert held >= reach - price * (energy.shape[1] + 1) - 1e-9
    assert held <= best[min(spent, len(best) - 1)] + 1e-9


def hull(best):
    """Corners of the least concave function above `best`."""
    at = [0]
    while at[-1] < len(best) - 1:
        ahead = np.arange(at[-1] + 1, len(best))
        slope = (best[ahead] - best[at[-1]]) / (ahead - at[-1])
        at.append(int(ahead[np.flatnonzero(slope >= slope.max() - 1e-12)[-1]]))
    return at, best[at]


@given(energies, st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0]))
def test_the_scan_is_exact_at_a_price(energy, price):
    kept = runs_at(energy, price, namespace_named("numpy"))
    best = most_energy(energy)
    wanted = (best - price * np.arange(len(best))).max()
    assert energy[kept].sum() - price * cost(kept) == pytest.approx(wanted, abs=1e-9)
