"""Tiles by energy: the greedy choice, edges, caps."""

import numpy as np
import pytest

from structmat._array import from_numpy, namespace_named, to_numpy
from structmat.errors import InputError
from structmat.project.tiles import project_tiles


def tiles_of(shape, side):
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield slice(top, top + side), slice(left, left + side)


def greedy(energy, cap, side):
    """Tiles by mean energy while they fit, one by one."""
    kept = np.zeros(energy.shape, bool)
    order = sorted(tiles_of(energy.shape, side), key=lambda t: -energy[t].mean())
    for tile in order:
        if energy[tile].sum() > 0 and kept.sum() + energy[tile].size <= cap:
            kept[tile] = True
    return kept


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 8), (13, 11), (5, 32)])
@pytest.mark.parametrize("side", [1, 3, 4, 100])
@pytest.mark.parametrize("share", [0, 0.07, 0.3, 0.9, 1, 3])
def test_tiles_are_taken_by_mean_energy_while_they_fit(shape, side, share, rng):
    energy = rng.random(shape) * (rng.random(shape) < 0.6)
    cap = int(share * energy.size)
    kept = project_tiles(energy, cap, side)
    np.testing.assert_array_equal(kept, greedy(energy, cap, side))
    assert kept.sum() <= cap


def test_every_library_keeps_the_same_tiles(backend, rng):
    energy, xp = rng.random((19, 23)).astype(np.float32), namespace_named(backend)
    kept = project_tiles(from_numpy(energy, xp), 150, 4)
    assert kept.dtype == xp.bool
    np.testing.assert_array_equal(to_numpy(kept), project_tiles(energy, 150, 4))


@pytest.mark.parametrize(("dtype", "power"), [("f", 127), ("d", 1023)])
def test_sums_of_the_largest_numbers_do_not_overflow(dtype, power, rng):
    energy = rng.random((19, 23)).astype(dtype)
    with np.errstate(over="raise"):
        kept = project_tiles(np.ldexp(energy, power), 150, 4)
    np.testing.assert_array_equal(kept, project_tiles(energy, 150, 4))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_nothing_is_kept_of_nothing(shape):
    assert project_tiles(np.zeros(shape), 3, 2).shape == shape


@pytest.mark.parametrize("side", [0, -1, 2.0, None])
def test_a_side_is_a_whole_number_of_at_least_one(side):
    with pytest.raises(InputError, match=f"side = {side}; expected an integer of at least 1"):
        project_tiles(np.ones((2, 2)), 4, side)
