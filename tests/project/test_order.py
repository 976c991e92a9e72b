"""Orders of columns: permutations, better than where they begin, locally best, planted ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from structmat._array import from_numpy, namespace_named
from structmat.errors import InputError
from structmat.project import order
from structmat.project.order import column_order
from structmat.project.runs import project_runs

energies = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.integers(0, 3),
)


def shared(energy, price):
    """Energy that columns share."""
    A = energy / (energy + price)
    S = A.T @ A
    np.fill_diagonal(S, 0)
    return S


def length(S, p):
    """Sum over neighbours on the cycle."""
    return S[p, np.roll(p, -1)].sum()


def changed(p):
    """All orders that a reversal of a piece makes, or a move of at most three columns."""
    n = len(p)
    for i in range(n):
        for j in range(i + 1, n):
            yield np.concatenate([p[:i], p[i : j + 1][::-1], p[j + 1 :]])
    for size in range(1, min(3, n - 3) + 1):
        for i in range(n):
            turned = np.roll(p, -i)
            piece, rest = turned[:size], turned[size:]
            for at in range(1, len(rest)):
                for part in (piece, piece[::-1]):
                    yield np.concatenate([rest[:at], part, rest[at:]])


def check_no_change_gains(energy):
    p, S = column_order(energy, 0.5), shared(energy, 0.5)
    assert sorted(p) == list(range(energy.shape[1]))
    best = max([length(S, q) for q in changed(p)], default=0.0)
    assert best <= length(S, p) + 2e-6 * S.max(initial=0.0)


@given(energies)
def test_no_reversal_and_no_move_gains(energy):
    check_no_change_gains(energy)


@pytest.mark.parametrize("n", [3, 4, 5, 8, 17])
def test_no_change_gains_among_likenesses_of_all_sizes(rng, n):
    for _ in range(10):
        check_no_change_gains(4 * rng.random((7, n)) ** 4)


@given(energies, st.data())
def test_a_given_order_becomes_no_worse(energy, data):
    start = np.array(data.draw(st.permutations(range(energy.shape[1]))), np.int64)
    before = start.copy()
    p, S = column_order(energy, 0.5, start=start), shared(energy, 0.5)
    assert length(S, p) >= length(S, start) - 1e-9
    np.testing.assert_array_equal(start, before)
    np.testing.assert_array_equal(column_order(energy, 0.5, start=p), p)


@pytest.mark.parametrize("change", [order._reverse_at, order._move_at])
@pytest.mark.parametrize("n", [4, 5, 9, 14])
def test_a_change_gains(rng, change, n):
    gained = 0
    for _ in range(20):
        S = shared(rng.random((5, n)) ** 4, 0.1).astype(np.float32)
        tour, touched = rng.permutation(n), np.empty(6, np.int64)
        place, before = np.argsort(tour), tour.copy()
        for a in range(n):
            count = change(S, order._candidates(S), tour, place, a, 1e-6, touched)
            edges = set(zip(tour, np.roll(tour, -1), strict=True))
            lost = set(zip(before, np.roll(before, -1), strict=True)) - edges
            lost -= {(b, a) for a, b in edges}
            np.testing.assert_array_equal(tour[place], np.arange(n))
            assert set(np.array(list(lost)).ravel()) <= set(touched[:count])
            assert length(S, tour) > length(S, before) if count else not lost
            gained, before = gained + bool(count), tour.copy()
    assert gained > 5


def planted(rng, m, n, count, side):
    """Blocks with contents of the same size at random places, and a random order of columns."""
    energy = np.zeros((m, n), np.float32)
    for top, left in rng.integers(0, (m - side, n - side), (count, 2)):
        energy[top : top + side, left : left + side] = 1 + rng.random((side, side))
    return energy, rng.permutation(n)


def run_cost(energy):
    """Cost of runs that hold all of a matrix."""
    kept, _ = project_runs(energy, 2 * energy.size)
    return int(kept.sum() + kept[:, :1].sum() + (kept[:, 1:] & ~kept[:, :-1]).sum())


@pytest.mark.parametrize("n", [64, 97, 200])
def test_hidden_blocks_are_found(rng, n):
    energy, hidden = planted(rng, 64, n, 20, 12)
    true, lost = run_cost(energy), run_cost(energy[:, hidden])
    found = energy[:, hidden][:, column_order(energy[:, hidden], 0.5)]
    assert run_cost(found) <= true
    assert lost > 1.15 * true


def test_rows_are_ordered_by_the_transposed_array(rng):
    energy, hidden = planted(rng, 70, 70, 15, 12)
    energy = energy.T[hidden]
    found = energy[column_order(energy.T, 0.5)]
    assert run_cost(found.T) <= 0.9 * run_cost(energy.T)


def test_an_order_from_before_keeps_what_it_found(rng):
    energy = rng.random((40, 60)) ** 4
    p = column_order(energy, 0.3)
    energy *= 1 + 0.05 * rng.random(energy.shape)
    S = shared(energy, 0.3)
    assert length(S, column_order(energy, 0.3, start=p)) >= length(S, p)


def test_the_cut_is_where_neighbours_share_least():
    energy = np.zeros((6, 8))
    for row, columns in enumerate([(0, 4), (4, 2), (2, 6), (1, 7), (7, 3), (3, 5)]):
        energy[row, columns] = 1.0
    p, S = column_order(energy, 0.1), shared(energy, 0.1)
    assert S[p[-1], p[0]] == 0.0
    assert (S[p[:-1], p[1:]] == 0.0).sum() == 1


def test_every_library_gives_the_same_order(backend, rng):
    energy = (rng.random((50, 30)) < 0.3).astype(np.float32)  # likenesses without rounding
    p = column_order(from_numpy(energy, namespace_named(backend)), 1.0)
    np.testing.assert_array_equal(p, column_order(energy, 1.0))


def test_python_runs_the_same_functions(rng, monkeypatch):
    pytest.importorskip("numba", reason="without Numba there is one version only")
    energy = rng.random((20, 30)).astype(np.float32) ** 3
    wanted = column_order(energy, 0.2)
    for name in ("_nearest", "_improve", "_reverse_at", "_move_at", "_exchange"):
        monkeypatch.setattr(order, name, getattr(order, name).py_func)
    monkeypatch.setattr(order, "HAS_NUMBA", False)
    np.testing.assert_array_equal(column_order(energy, 0.2), wanted)


@pytest.mark.parametrize("price", [0.0, 1e-300, 1e300])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 3e37])
def test_any_price_and_scale_give_an_order(price, scale, rng):
    energy = (scale * rng.random((10, 12))).astype(np.float32)
    energy[0] = 0.0
    assert sorted(column_order(energy, price)) == list(range(12))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 1), (3, 2)])
def test_few_columns_stay(shape):
    np.testing.assert_array_equal(column_order(np.ones(shape), 1.0), np.arange(shape[1]))


def test_without_energy_the_given_order_stays():
    start = np.array([2, 0, 1, 3])
    np.testing.assert_array_equal(column_order(np.zeros((3, 4)), 1.0, start=start), start)
    np.testing.assert_array_equal(column_order(np.zeros((3, 4)), 1.0), np.arange(4))


@pytest.mark.parametrize("start", [[0, 1], [0, 1, 1, 2], [0.0, 1.0, 2.0, 3.0], [1, 2, 3, 4], "ab"])
def test_a_start_holds_each_column_once(start):
    with pytest.raises(InputError, match="expected each of the columns 0 to 3 once"):
        column_order(np.ones((2, 4)), 1.0, start=start)


@pytest.mark.parametrize("price", [-1.0, np.nan, np.inf])
def test_a_price_is_a_finite_number(price):
    with pytest.raises(InputError, match=f"price = {price}; expected a finite number"):
        column_order(np.ones((2, 4)), price)
