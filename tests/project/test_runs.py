"""Runs of rows: exact at their price, within the cap, alike on every library."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from structmat._array import device, from_numpy, namespace, namespace_named, to_numpy
from structmat.errors import InputError
from structmat.project import runs
from structmat.project.filling import filling
from structmat.project.runs import project_runs
from structmat.project.scan import runs_at

NUMPY = namespace_named("numpy")
# Few values: many ties, and sums without rounding.
energies = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 4)
)
prices = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0])
charges = st.integers(0, 2)


def charged(kept, charge):
    """Entries, and runs times what each is charged."""
    count = kept[:, :1].sum() + (kept[:, 1:] & ~kept[:, :-1]).sum()
    return int(kept.sum() + charge * count)


def most_energy(energy, charge):
    """Most energy that runs of each charged cost, or less, hold, by all masks of each row."""
    masks = np.array(list(itertools.product([False, True], repeat=energy.shape[1])))
    costs = np.array([charged(mask[None], charge) for mask in masks])
    best = np.zeros(1)
    for row in energy:
        found = np.zeros(costs.max() + 1)
        np.maximum.at(found, costs, masks @ row)
        sums = np.add.outer(best, np.maximum.accumulate(found))
        best = np.zeros(sum(sums.shape) - 1)
        np.maximum.at(best, np.add.outer(*map(np.arange, sums.shape)), sums)
    return best


@given(energies, prices, charges)
def test_the_scan_is_exact_at_a_price(energy, price, charge):
    kept = runs_at(energy, price, charge * price, NUMPY)
    best = most_energy(energy, charge)
    wanted = (best - price * np.arange(len(best))).max()
    assert energy[kept].sum() - price * charged(kept, charge) == wanted


@given(energies, prices, charges)
def test_the_compiled_scan_keeps_the_same_entries(energy, price, charge):
    rows = runs._CompiledRows(energy, charge)
    kept = runs_at(energy, price, charge * price, NUMPY)
    np.testing.assert_array_equal(rows.kept(price), kept)
    assert rows.cost(price) == kept.sum()
    assert runs._ArrayRows(energy, charge, NUMPY).cost(price) == kept.sum()


@given(energies, st.integers(0, 50), charges)
def test_runs_hold_the_most_up_to_a_part_of_one(energy, cap, charge):
    kept, price = project_runs(energy, cap, charge=charge)
    assert kept.sum() <= cap
    # As much as all runs of their number and cost, but for those that are cut at the cap.
    best, spent = most_energy(energy, charge), charged(kept, charge)
    wanted = best[min(spent, len(best) - 1)]
    lost = energy.shape[1] + 2 * charge
    assert energy[kept].sum() >= wanted - price * lost * (1 + 1e-5)
    if cap >= energy.size:
        assert kept[energy > 0].all()


@given(energies, st.integers(0, 30))
def test_without_a_charge_the_largest_entries_stay(energy, cap):
    kept, _ = project_runs(energy, cap, charge=0.0)
    assert energy[kept].sum() == np.sort(energy, axis=None)[::-1][:cap].sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("share", [0.003, 0.02, 0.3, 0.9])
def test_the_cap_is_met(rng, dtype, share):
    energy = rng.standard_normal((60, 130)).astype(dtype) ** 2
    cap = int(share * energy.size)
    kept, price = project_runs(energy, cap)
    assert kept.sum() == cap
    again, later = project_runs(energy, cap, price=price)
    assert again.sum() == cap
    assert later == pytest.approx(price, rel=0.02)


@given(st.integers(0, 90), st.sampled_from([None, 0.0, 1e-300, 0.9, 1.0, 1e300]))
def test_ties_are_cut_at_the_cap(cap, price):
    kept, _ = project_runs(np.ones((7, 11)), cap, price=price)
    assert kept.sum() == min(cap, 77)


def test_a_gap_is_closed_where_that_costs_less_than_a_run():
    energy = np.array([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]])
    for charge, expected in ((1.0, "101001"), (1.5, "111001"), (2.5, "111111")):
        kept, _ = project_runs(energy, 100, charge=charge)
        assert "".join(map(str, kept[0].astype(int))) == expected


def test_what_is_left_goes_to_the_best_part():
    # Price 2: the first row. Of the second row two entries fit as well.
    kept, _ = project_runs(np.array([[9.0, 9.0, 9.0, 0.0], [3.0, 3.0, 3.0, 3.0]]), 5)
    assert kept.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


#: Kept entries (#), and stretches beyond them by rank of their energy.
STRETCHES = ("cc###aaa#", "bbbb     ", "     dddd", "#        ")
ENERGY = {"#": 9.0, "a": 5.0, "b": 2.0, "c": 1.0, "d": 0.5, " ": 0.0}


@pytest.mark.parametrize(
    ("left", "more"),
    [
        (0, ""),
        (1, "a"),
        (3, "aaa"),
        (4, "aaab"),
        (7, "aaabbbb"),
        (8, "aaabbbbc"),
        (9, "aaabbbbcc"),
        (12, "aaabbbbccddd"),
        (13, "aaabbbbccdddd"),
        (20, "aaabbbbccdddd"),
    ],
)
def test_what_is_left_goes_to_the_best_stretches(left, more):
    drawn = np.array([list(line) for line in STRETCHES])
    kept, energy = drawn == "#", np.vectorize(ENERGY.get)(drawn)
    found = filling(energy, kept, energy > 0, left)
    assert "".join(sorted(drawn[found])) == more
    # The part of a stretch begins beside the run that it continues.
    assert not found[0, 0] or found[0, 1]


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e300])
def test_the_scale_of_the_energies_does_not_matter(rng, scale):
    energy = rng.random((9, 20))
    wanted, price = project_runs(energy, 50)
    kept, scaled = project_runs(energy * scale, 50)
    np.testing.assert_array_equal(kept, wanted)
    assert scaled == pytest.approx(price * scale)


@pytest.mark.parametrize("host", ["cpu", "nowhere"])
def test_every_library_keeps_the_same_runs(backend, rng, host, monkeypatch):
    monkeypatch.setattr(runs, "HOST", host)
    energy = rng.integers(0, 64, (31, 47)).astype(np.float64)
    xp = namespace_named(backend)
    given = from_numpy(energy, xp)
    kept, price = project_runs(given, 400)
    wanted, same = project_runs(energy, 400)
    assert (namespace(kept), kept.dtype, device(kept)) == (xp, xp.bool, device(given))
    assert price == same
    np.testing.assert_array_equal(to_numpy(kept), wanted)


def test_single_precision_is_as_good_on_every_library(backend, rng, monkeypatch):
    monkeypatch.setattr(runs, "HOST", "nowhere")
    energy = rng.standard_normal((40, 90)).astype(np.float32) ** 2
    kept, _ = project_runs(from_numpy(energy, namespace_named(backend)), 300)
    wanted, _ = project_runs(energy, 300)
    assert to_numpy(kept).sum() <= 300
    assert energy[to_numpy(kept)].sum() == pytest.approx(energy[wanted].sum(), rel=1e-4)


def test_integers_and_halves_count_as_numbers(rng):
    energy = rng.integers(0, 9, (5, 8))
    wanted, _ = project_runs(energy.astype(float), 12)
    for dtype in ("int64", "uint8", "float16"):
        np.testing.assert_array_equal(project_runs(energy.astype(dtype), 12)[0], wanted)


def test_wider_numbers_stay_in_range(rng):
    energy = rng.random((5, 8)).astype(np.longdouble) * 1e200
    wanted, _ = project_runs(energy.astype(np.float64), 12)
    np.testing.assert_array_equal(project_runs(energy, 12)[0], wanted)


def test_views_and_threads_make_no_difference(rng, monkeypatch):
    energy = rng.random((40, 30))
    wanted, _ = project_runs(energy, 300)
    kept, _ = project_runs(np.asfortranarray(energy)[:, :], 300)
    np.testing.assert_array_equal(kept, wanted)
    monkeypatch.setenv("STRUCTMAT_NUM_THREADS", "3")
    monkeypatch.setattr(runs, "THREAD_ENTRIES", 1)
    np.testing.assert_array_equal(project_runs(energy, 300)[0], wanted)


def test_python_runs_the_same_functions(rng, monkeypatch):
    pytest.importorskip("numba", reason="without Numba there is one version only")
    energy = rng.random((6, 20)).astype(np.float32)
    wanted = project_runs(energy, 40)
    for name in ("_costs_of_rows", "_runs_of_rows"):
        monkeypatch.setattr(runs, name, getattr(runs, name).py_func)
    kept, price = project_runs(energy, 40)
    np.testing.assert_array_equal(kept, wanted[0])
    assert price == wanted[1]


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_nothing_is_kept_of_nothing(shape, backend):
    xp = namespace_named(backend)
    kept, price = project_runs(xp.zeros(shape), 5)
    assert (kept.shape, kept.dtype, price) == (shape, xp.bool, 0.0)


@pytest.mark.parametrize("cap", [0, 1])
def test_a_single_entry_costs_one(cap):
    assert project_runs(np.ones((3, 4)), cap)[0].sum() == cap


def test_zeros_are_left_out():
    assert not project_runs(np.zeros((3, 4)), 100)[0].any()


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        ([[1.0, -2.0]], "energy holds -2.0; expected finite numbers of at least 0"),
        ([[1.0, np.nan]], "energy holds nan; expected finite"),
        ([[1.0, np.inf]], "energy holds inf; expected finite"),
        ([[1.0, 1j]], "energy has dtype complex128; expected real numbers"),
    ],
)
def test_energies_are_finite_and_not_negative(energy, message):
    with pytest.raises(InputError, match=message):
        project_runs(np.array(energy), 3)


def test_energies_are_a_matrix():
    with pytest.raises(InputError, match="expected 2 dimensions"):
        project_runs(np.ones(3), 3)


@pytest.mark.parametrize("cap", [-1, 2.0, None, "3"])
def test_a_cap_is_a_count(cap):
    with pytest.raises(InputError, match=f"cap = {cap!r}; expected an integer of at least 0"):
        project_runs(np.ones((2, 2)), cap)


@pytest.mark.parametrize("price", [-1.0, np.nan, np.inf, "high"])
def test_a_price_is_a_finite_number(price):
    with pytest.raises(InputError, match=r"price = .*; expected a finite number of at least 0"):
        project_runs(np.ones((2, 2)), 3, price=price)
    with pytest.raises(InputError, match=r"charge = .*; expected a finite number of at least 0"):
        project_runs(np.ones((2, 2)), 3, charge=price)
