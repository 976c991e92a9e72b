"""Pursuit of rank-one blocks: exact steps, caps, starts, and recovery of planted sums."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat import GBLR
from structmat.errors import InputError, ShapeError
from structmat.project import births, blocks, vectors
from structmat.project.pursuit import pursue
from structmat.project.vectors import best_run

SHAPES = {"blocks": [(20, 20)] * 40, "four": [(4, 40), (40, 4), (12, 12), (24, 6)] * 15}
#: Relative squared error that planted sums of each kind may keep, at exactly their cost.
MOST_LEFT = {"windows": 0.01, "blocks": 0.03, "four": 0.005}


def planted(name, seed, n=128):
    """A sum of blocks at random cyclic places with normal contents, and its cost."""
    rng = np.random.default_rng(seed)
    sizes = SHAPES.get(name, [(1, 12)] * n)
    A = np.zeros((n, n))
    for k, (height, width) in enumerate(sizes):
        row = k if name == "windows" else rng.integers(n)
        rows, cols = (row + np.arange(height)) % n, (rng.integers(n) + np.arange(width)) % n
        A[np.ix_(rows, cols)] += np.outer(rng.standard_normal(height), rng.standard_normal(width))
    return A, sum(map(sum, sizes))


def left(A, matrix):
    """Relative squared error."""
    return float(((A - matrix.to_dense()) ** 2).sum() / (A**2).sum())


def brute_force(scores):
    n = len(scores)
    twice = np.concatenate([[0.0], np.cumsum(np.tile(scores, 2))])
    return max(twice[a + w] - twice[a] for a in range(n) for w in range(1, n + 1))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.integers(0, 12), st.booleans())
def test_the_best_run_is_the_largest_of_all(x, price, doubled):
    scale = 2.0 if doubled else 1.0
    start, width, total = best_run(np.array(x, float), scale, float(price), True)
    scores = scale * np.array(x, float) ** 2 - price
    assert total == brute_force(scores)
    assert total == scores[(start + np.arange(width)) % len(x)].sum()
    assert 0 <= start < len(x)
    assert 1 <= width <= len(x)


@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans(), st.sampled_from("fd"))
def test_loops_and_arrays_are_equal_to_the_last_digit(seed, n, cyclic, dtype):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, n)).astype(dtype)
    scale, price = rng.random(2)
    loop = vectors._best_run_loop(x, scale, price, cyclic)
    assert loop == vectors._best_run_arrays(x, scale, price, cyclic)
    assert vectors._squared_norm_loop(x) == vectors._squared_norm_arrays(x)
    assert vectors._largest_loop(x) == vectors._largest_arrays(x)
    assert vectors._farthest_loop(x) == vectors._farthest_arrays(x)
    at, reach, limit = int(rng.integers(n)), int(rng.integers(1, n + 2)), 2 * price
    grows = vectors._grows_loop(x, at, reach, limit)
    assert grows == vectors._grows_arrays(x, at, reach, limit)
    following = vectors._next_beyond_loop(x, at, limit)
    assert following == vectors._next_beyond_arrays(x, at, limit)
    outs = [y.copy(), y.copy()]
    vectors._add_multiple_loop(outs[0], x[0], x)
    vectors._add_multiple_arrays(outs[1], x[0], x)
    assert np.array_equal(*outs)
    start, width = int(rng.integers(n)), int(rng.integers(n + 1))
    vectors._take_loop(x, start, price, outs[0][:width])
    vectors._take_arrays(x, start, price, outs[1][:width])
    assert np.array_equal(*outs)


def test_a_run_of_a_window_does_not_wrap():
    x = np.array([2.0, 0.0, 0.0, 0.0, 0.0, 3.0])
    assert best_run(x, 1.0, 1.0, True) == (5, 2, 11.0)
    assert best_run(x, 1.0, 1.0, False) == (5, 1, 8.0)


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    style = draw(st.sampled_from(["noise", "block", "zero", "huge", "tiny"]))
    A = rng.standard_normal((m, n))
    if style == "block":
        A = np.outer(rng.standard_normal(m), rng.standard_normal(n) * (rng.random(n) < 0.5))
    A *= {"zero": 0.0, "huge": 1e150, "tiny": 1e-150}.get(style, 1.0)
    return A, draw(st.integers(0, 2 * m * n + 2)), draw(st.sampled_from([0.0, 1.0, 8.0]))


@given(problems())
def test_a_result_respects_the_cap_and_never_adds_energy(problem):
    A, cap, charge = problem
    before = A.copy()
    matrix, price = pursue(A, cap, charge=charge)
    assert np.array_equal(A, before)
    assert matrix.shape == A.shape
    assert matrix.cost <= cap
    assert price >= 0
    norm = np.linalg.norm(A)
    assert np.linalg.norm(A - matrix.to_dense()) <= norm * (1 + 1e-12)
    again, price = pursue(A, cap, start=matrix, price=price, charge=charge)
    assert again.cost <= cap
    missed = [np.linalg.norm(A - B.to_dense()) for B in (again, matrix)]
    assert missed[0] <= missed[1] + 1e-12 * norm


@pytest.mark.parametrize("name", ["windows", "blocks", "four"])
def test_planted_sums_are_found_at_their_own_cost(name):
    A, cost = planted(name, 0)
    matrix, _ = pursue(A, cost)
    assert matrix.cost <= cost
    assert left(A, matrix) <= MOST_LEFT[name]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 8))
@pytest.mark.parametrize("name", ["windows", "blocks", "four"])
def test_planted_sums_of_many_draws(name, seed):
    A, cost = planted(name, seed)
    assert left(A, pursue(A, cost)[0]) <= MOST_LEFT[name]


def test_old_blocks_grow_before_new_ones_in_noise():
    A, cost = planted("four", 0)
    A += 0.3 * A.std() * np.random.default_rng(50).standard_normal(A.shape)
    # With single entries first, which then stand in the way of blocks, .14 were left.
    assert left(A, pursue(A, cost, charge=0.0)[0]) <= 0.12


def test_runs_hold_more_than_their_price():
    found, sums = np.zeros((9, 3), np.int64), np.zeros(9)
    lines = np.array([[0.0, 2, 1, 2, 0], [2.0, 0, 0, 0, 3], [1.0, 1, 1, 1, 1]])
    count = births._runs_of_lines(lines, 5, 2.0, found, sums, 0)
    assert found[:count].tolist() == [[5, 1, 3], [6, 0, 1], [6, 4, 1]]
    assert sums[:count].tolist() == [3.0, 2.0, 7.0]
    # Without room for them, they are counted.
    assert births._runs_of_lines(lines, 5, 2.0, found[:1], sums[:1], 0) == 3


def test_lines_are_the_rows_and_then_the_columns():
    R = np.zeros((3, 5))
    R[1, 2:4] = 2.0
    runs = births._candidates(R, R.T.copy(), 1.0, 9)
    assert runs.tolist() == [[1, 2, 2], [5, 1, 1], [6, 1, 1]]
    assert births._candidates(R, R.T.copy(), 1.0, 1).tolist() == [[1, 2, 2]]


@given(st.integers(0, 2**32), st.integers(2, 40), st.floats(0.5, 4.0))
def test_an_entry_alone_stays_as_a_climb_leaves_it(seed, n, price):
    R = np.random.default_rng(seed).standard_normal((n, n)) / 2
    i, j = np.unravel_index(np.abs(R).argmax(), R.shape)
    R[i, j] = 3.0
    alone = blocks.is_alone(R, R.T.copy(), i, j, price)
    place, u, v = np.array([i, 1, j, 1]), np.ones(n), np.full(n, 3.0)
    gain = blocks.climb(R, R.T.copy(), place, u, v, np.empty(n), price, 6)
    assert alone == (place.tolist() == [i, 1, j, 1])
    if alone:
        assert (gain, u[0] * v[0]) == (pytest.approx(9.0 - price), 3.0)


def test_one_block_around_both_edges_is_exact():
    A = np.zeros((9, 7))
    A[np.ix_([7, 8, 0], [6, 0, 1, 2])] = np.outer([1.0, -2, 3], [4.0, 1, -1, 2])
    matrix, _ = pursue(A, 7)
    assert (matrix.num_blocks, matrix.cost) == (1, 7)
    assert np.allclose(matrix.to_dense(), A)
    assert np.linalg.norm(matrix.u) == pytest.approx(np.linalg.norm(matrix.v))


@pytest.mark.parametrize("across", [False, True])
def test_single_entries_and_lines_cost_what_they_hold(across):
    A = np.zeros((9, 11))
    A[2, 3:8], A[7, 1] = [1.0, -2, 3, 4, 2], 5.0
    matrix, _ = pursue(A.T if across else A, 6, charge=0.0)
    assert (matrix.cost, matrix.storage) == (6, 6 + matrix.num_blocks)
    assert np.allclose(matrix.to_dense(), A.T if across else A)


def test_one_column_is_chosen_where_the_others_are_not_worth_two_multiplications():
    R = np.array([[3.0, 1.2], [3.0, 1.2]])
    # At price 1 the second column saves 2.88 of energy, and costs 2 multiplications of three.
    gains = {}
    for price in (1.0, 2.0):
        place, u, v, work = np.array([0, 2, 0, 2]), np.ones(2), np.ones(2), np.empty(2)
        gains[price] = blocks.climb(R, R.T.copy(), place, u, v, work, price, 6), place[3]
    assert gains[1.0] == (pytest.approx(20.88 - 4.0), 2)
    assert gains[2.0] == (pytest.approx(18.0 - 4.0), 1)


def test_a_larger_cap_leaves_less():
    A = np.random.default_rng(3).standard_normal((40, 30))
    errors = [left(A, pursue(A, cap)[0]) for cap in (2, 40, 150, 500, 1500)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 < 0.9 < errors[0]


def test_a_start_is_used_and_its_precision_does_not_matter():
    A, cost = planted("four", 2)
    first, price = pursue(A, cost)
    moved = A + 0.01 * A.std() * np.random.default_rng(0).standard_normal(A.shape)
    matrix, _ = pursue(moved, cost, start=first.astype(np.float32), price=price)
    assert matrix.dtype == np.float64
    assert left(moved, matrix) <= left(moved, first)
    smaller, _ = pursue(moved, cost // 2, start=first, price=price)
    assert smaller.cost <= cost // 2
    # A start far from the matrix is no help, and no harm.
    far = GBLR([0], [2], [1e300, 1.0], [0], [1], [1e5], shape=A.shape)
    assert left(A, pursue(A, cost, start=far)[0]) == left(A, first)


def test_the_same_input_gives_the_same_result_in_both_precisions():
    A, cost = planted("four", 4)
    A = A.astype(np.float32)
    (first, price), (second, other) = pursue(A, cost), pursue(A, cost)
    assert first.dtype == np.float32
    assert price == other
    assert np.array_equal(first.u, second.u)
    assert np.array_equal(first.col_start, second.col_start)
    assert left(A, first) <= MOST_LEFT["four"]


def test_a_charge_makes_blocks_fewer():
    A = np.random.default_rng(5).standard_normal((30, 40))
    counts = [pursue(A, 300, charge=charge)[0].num_blocks for charge in (0.0, 8.0, 30.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]


def test_a_matrix_of_one_entry_or_none():
    assert pursue(np.full((1, 1), 3.0), 1)[0].to_dense() == pytest.approx(3.0)
    assert pursue(np.full((1, 1), 3.0), 0)[0].cost == 0
    assert pursue([[1, 2], [2, 4]], 4)[0].dtype == np.float64
    empty, price = pursue(np.zeros((0, 5)), 10)
    assert (empty.shape, empty.num_blocks, price) == ((0, 5), 0, 0.0)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"W": np.ones(3)}, ShapeError, r"shape \(3,\)"),
        ({"W": np.ones((2, 2)) * 1j}, InputError, "real part"),
        ({"W": np.array([[1.0, np.nan]])}, InputError, "NaN"),
        ({"cap": -1}, InputError, "cap = -1"),
        ({"cap": 2.5}, InputError, r"cap = 2\.5"),
        ({"charge": -1.0}, InputError, "charge"),
        ({"price": np.inf}, InputError, "price"),
        ({"start": GBLR([0], [1], [1.0], [0], [1], [1.0], shape=(3, 3))}, ShapeError, "start"),
        ({"start": GBLR([0], [1], [np.nan], [0], [1], [1.0], shape=(4, 4))}, InputError, "start"),
    ],
)
def test_bad_input_is_refused(change, error, text):
    with pytest.raises(error, match=text):
        pursue(**{"W": np.eye(4), "cap": 4, **change})


def test_results_do_not_depend_on_numba():
    code = """
import sys
{block}
import numpy as np
from structmat.project.compiled import HAS_NUMBA
from structmat.project.pursuit import pursue
matrix, price = pursue(np.random.default_rng(6).standard_normal((5, 6)), 20)
print(HAS_NUMBA, price, matrix.row_start, matrix.col_width, matrix.u.sum(), matrix.v.sum())
from structmat.project.subsets import pursue_subsets
for block in pursue_subsets(np.random.default_rng(7).standard_normal((7, 6)), 30, charge=1.0):
    print(block.rows, block.cols, block.u.sum(), block.v.sum())
"""
    hide = "import importlib.util as u; f = u.find_spec\n"
    hide += "u.find_spec = lambda name, *a: None if name == 'numba' else f(name, *a)"
    found = [
        subprocess.run(
            [sys.executable, "-c", code.format(block=block)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split(maxsplit=1)
        for block in ("", hide)
    ]
    assert [has for has, _ in found] == ["True", "False"]
    assert found[0][1] == found[1][1]
