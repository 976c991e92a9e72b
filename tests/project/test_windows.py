"""Windows that groups of rows share: caps, grains, groups, and what they hold."""

import numpy as np
import pytest

from structmat._array import from_numpy, namespace_named, to_numpy
from structmat.errors import InputError
from structmat.project.runs import project_runs
from structmat.project.windows import project_windows


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1), (31, 53), (64, 48)])
@pytest.mark.parametrize("group", [1, 4, 16, 100])
@pytest.mark.parametrize("grain", [1, 4, 16])
def test_groups_share_windows_on_the_grain_under_the_cap(shape, group, grain, rng):
    energy = rng.random(shape) ** 4
    m, n = shape
    least = min(group, m) * min(grain, n)
    for cap in (0, 1, least - 1, least, 2 * least + 1, m * n // 3, m * n - 1, m * n):
        kept, price = project_windows(energy, cap, group, grain)
        assert kept.sum() <= cap
        # What is left would not hold another cell, unless all is taken.
        assert kept.all() or cap - kept.sum() < least
        assert price >= 0
        for top in range(0, m, group):
            rows = kept[top : top + group]
            assert (rows == rows[0]).all()
        changes = np.flatnonzero(np.diff(kept.astype(int), axis=1).any(0)) + 1
        assert not (changes % grain).any()


def test_groups_of_one_row_are_runs(rng):
    energy = rng.random((23, 57)) ** 4
    for cap in (20, 150, 700):
        runs, _ = project_runs(energy, cap)
        windows, _ = project_windows(energy, cap, 1, 1)
        np.testing.assert_array_equal(windows, runs)


def test_planted_windows_are_found(rng):
    planted = np.zeros((10, 40), bool)
    planted[:4, 8:20] = planted[4:8, 24:36] = planted[8:, 36:] = True
    energy = planted + 0.01 * rng.random((10, 40))
    found, price = project_windows(energy, int(planted.sum()), 4, 4)
    np.testing.assert_array_equal(found, planted)
    again, _ = project_windows(energy, int(planted.sum()), 4, 4, price=price)
    np.testing.assert_array_equal(again, planted)


@pytest.mark.parametrize(("dtype", "power"), [("f", 127), ("d", 1023)])
def test_sums_of_the_largest_numbers_do_not_overflow(dtype, power, rng):
    energy = rng.random((10, 40)).astype(dtype)
    kept, price = project_windows(energy, 100, 4, 4)
    with np.errstate(over="raise"):
        found, high = project_windows(np.ldexp(energy, power), 100, 4, 4)
        again, _ = project_windows(np.ldexp(energy, power), 100, 4, 4, price=high)
    np.testing.assert_array_equal(found, kept)
    np.testing.assert_array_equal(again, kept)
    assert high == np.ldexp(price, power)


def test_a_charge_makes_windows_few(rng):
    energy = rng.random((64, 256)) ** 8

    def starts(charge):
        kept, _ = project_windows(energy, 64 * 64, 8, 4, charge=charge)
        return int((np.diff(kept.astype(int), axis=1) > 0).sum())

    assert starts(4) < 0.8 * starts(0)


def test_every_library_keeps_the_same_windows(backend, rng):
    energy, xp = rng.random((19, 23)).astype(np.float32), namespace_named(backend)
    kept, _ = project_windows(from_numpy(energy, xp), 150, 4, 2)
    assert kept.dtype == xp.bool
    np.testing.assert_array_equal(to_numpy(kept), project_windows(energy, 150, 4, 2)[0])


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_nothing_is_kept_of_nothing(shape):
    assert project_windows(np.zeros(shape), 3, 2, 2)[0].shape == shape


@pytest.mark.parametrize("name", ["group", "grain"])
@pytest.mark.parametrize("size", [0, 2.0, None])
def test_sides_are_whole_numbers_of_at_least_one(name, size):
    sides = {"group": 2, "grain": 2, name: size}
    with pytest.raises(InputError, match=f"{name} = {size}; expected an integer of at least 1"):
        project_windows(np.ones((2, 2)), 4, **sides)
