"""Tiles of low rank and low rank: nearest under the cap, at the borders, in all dtypes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat import BlockLowRank, LowRank, compress
from structmat.errors import BackendError, InputError, ShapeError
from structmat.project import ranks
from structmat.project.ranks import project_rank, project_tile_ranks

DTYPES = ("float32", "float64", "complex64", "complex128")


def random(rng, shape, dtype="float64"):
    W = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        W = W + 1j * rng.standard_normal(shape)
    return W.astype(dtype)


def split(n, cuts):
    """Sizes of the pieces of n between some cuts."""
    return np.diff([0, *sorted(min(cut, n) for cut in cuts), n]).tolist()


def least_missed(W, cap, row_sizes, col_sizes):
    """Least energy missed, by all ranks of all tiles, a dense tile among them."""
    options = []
    tops, lefts = np.cumsum([0, *row_sizes]), np.cumsum([0, *col_sizes])
    for i, j in itertools.product(range(len(row_sizes)), range(len(col_sizes))):
        tile = W[tops[i] : tops[i + 1], lefts[j] : lefts[j + 1]]
        s = np.linalg.svd(tile, compute_uv=False) if tile.size else np.zeros(0)
        ranks = [(r * sum(tile.shape), (s[r:] ** 2).sum()) for r in range(len(s) + 1)]
        options.append([*ranks, (tile.size, 0.0)])
    plans = (np.sum(plan, axis=0) for plan in itertools.product(*options))
    return min(missed for cost, missed in plans if cost <= cap)


@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 6), st.data())
def test_tiles_miss_the_least_up_to_one_step(cap, m, n, data):
    rows = split(m, data.draw(st.lists(st.integers(0, m), max_size=1)))
    cols = split(n, data.draw(st.lists(st.integers(0, n), max_size=1)))
    W = random(np.random.default_rng(cap), (m, n))
    found = project_tile_ranks(W, cap, rows, cols)
    missed = np.linalg.norm(found.to_dense() - W) ** 2
    assert found.cost <= cap
    assert found.row_sizes.tolist() == rows
    # The last step may not fit as a whole: a plan without room for it is no better.
    step = max(rows) * max(cols)
    assert missed <= least_missed(W, max(cap - step, 0), rows, cols) + 1e-9
    assert missed >= least_missed(W, cap, rows, cols) - 1e-9


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_tile_is_a_truncation(rng, dtype):
    W = random(rng, (20, 30), dtype)
    found = project_tile_ranks(W, 210, [20], [30])
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    assert isinstance(found, BlockLowRank)
    assert (found.dtype, found.cost) == (dtype, 200)
    eps = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.to_dense(), (U[:, :4] * s[:4]) @ Vh[:4], atol=eps)
    low = project_rank(W, 210)
    assert isinstance(low, LowRank)
    assert (low.dtype, low.cost) == (dtype, 200)
    np.testing.assert_allclose(low.to_dense(), found.to_dense(), atol=eps)


def test_ranks_go_to_the_tiles_that_have_them(rng):
    W = np.zeros((30, 40))
    W[:10, 15:] = random(rng, (10, 2)) @ random(rng, (2, 25))
    W[10:, :15] = random(rng, (20, 1)) @ random(rng, (1, 15))
    found = project_tile_ranks(W, 105, [10, 20], [15, 25])
    assert found.places.tolist() == [[0, 1], [1, 0]]
    assert found.ranks.tolist() == [2, 1]
    np.testing.assert_allclose(found.to_dense(), W, atol=1e-12)


def test_a_tile_is_dense_where_that_is_cheaper(rng):
    W = np.zeros((8, 8))
    W[:4, 4:] = random(rng, (4, 4))
    found = project_tile_ranks(W, 16, [4, 4], [4, 4])
    assert (found.ranks.tolist(), found.cost) == ([-1], 16)
    np.testing.assert_array_equal(found.to_dense(), W)


def test_the_compression_of_one_grid_shares_the_ranks_out_alike(rng):
    W = random(rng, (64, 64)) * np.exp(-np.arange(64) / 10)
    fitted = compress(W, "block_low_rank", budget=0.3, rng=0).matrix
    found = project_tile_ranks(W, int(0.3 * W.size), fitted.row_sizes, fitted.col_sizes)
    np.testing.assert_array_equal(found.ranks, fitted.ranks)
    np.testing.assert_allclose(found.to_dense(), fitted.to_dense(), atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "rows", "cols"),
    [
        ((0, 0), [], []),
        ((0, 3), [0], [3]),
        ((3, 0), [1, 2], [0]),
        ((3, 4), [0, 3, 0], [4, 0]),
        ((1, 1), [1], [1]),
    ],
)
def test_empty_tiles_are_legal(shape, rows, cols):
    W = np.ones(shape, np.float32)
    found = project_tile_ranks(W, 100, rows, cols)
    assert (found.shape, found.dtype) == (shape, W.dtype)
    np.testing.assert_allclose(found.to_dense(), W, rtol=1e-6)
    assert project_tile_ranks(W, 0, rows, cols).cost == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (1, 7), (11, 1)])
def test_low_rank_of_thin_matrices(shape):
    W = np.ones(shape, np.float32)
    found = project_rank(W, 100)
    assert (found.shape, found.dtype) == (shape, W.dtype)
    np.testing.assert_allclose(found.to_dense(), W, rtol=1e-6)
    assert found.rank <= min(shape)
    assert project_rank(W, max(sum(shape) - 1, 0)).rank == 0


def test_rounding_is_not_worth_multiplications(rng):
    W = random(rng, (20, 1)) @ random(rng, (1, 30))
    assert project_rank(W, 400).rank == 1
    assert project_tile_ranks(W, 400, [20], [30]).ranks.tolist() == [1]


def test_integers_and_halves_become_floats():
    assert project_rank(np.eye(3, dtype=np.int64), 6).dtype == np.float64
    assert project_tile_ranks(np.eye(3, dtype=np.float16), 6, [3], [3]).dtype == np.float32


def test_results_are_the_same_each_time(rng):
    W = random(rng, (300, 320))
    for make in (lambda: project_rank(W, 6200), lambda: project_tile_ranks(W, 6200, [300], [320])):
        np.testing.assert_array_equal(make().to_dense(), make().to_dense())


@pytest.mark.parametrize("project", [project_rank, lambda W, c: project_tile_ranks(W, c, [2], [2])])
def test_arguments_are_checked(project):
    with pytest.raises(InputError, match="W holds NaN or infinity; expected finite numbers"):
        project(np.array([[1.0, np.nan], [0.0, 1.0]]), 4)
    with pytest.raises(InputError, match="cap = -1; expected an integer of at least 0"):
        project(np.eye(2), -1)
    with pytest.raises(InputError, match="W has shape \\(2,\\); expected 2 dimensions"):
        project(np.ones(2), 4)


def test_an_array_of_another_library_is_refused():
    torch = pytest.importorskip("torch", reason="torch is an extra")
    with pytest.raises(BackendError, match="W is of torch; expected a NumPy array"):
        project_rank(torch.eye(2), 4)


@pytest.mark.parametrize("sizes", [[1], [2, 1], [3, -1], []])
def test_tiles_fill_the_matrix(sizes):
    with pytest.raises(ShapeError, match=r"row_sizes = .*; expected sizes .* that add up to 2"):
        project_tile_ranks(np.eye(2), 4, sizes, [2])
    with pytest.raises(ShapeError, match=r"col_sizes = .*; expected sizes .* that add up to 2"):
        project_tile_ranks(np.eye(2), 4, [2], sizes)


@pytest.mark.parametrize("power", [-600, 600])
def test_ranks_do_not_depend_on_the_scale(power, rng):
    W = rng.standard_normal((10, 12))
    with np.errstate(over="raise"):
        found = project_tile_ranks(np.ldexp(W, power), 50, [5, 5], [4, 8])
    np.testing.assert_array_equal(found.ranks, project_tile_ranks(W, 50, [5, 5], [4, 8]).ranks)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cap", [0, 7, 60, 190])
def test_small_tiles_all_at_once_are_those_one_by_one(dtype, cap, rng, monkeypatch):
    W = random(rng, (13, 15), dtype)
    sizes = [4, 4, 5], [5, 5, 0, 5]
    found = project_tile_ranks(W, cap, *sizes)
    monkeypatch.setattr(ranks, "are_small", lambda *sizes: False)
    wanted = project_tile_ranks(W, cap, *sizes)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found.ranks, wanted.ranks)
    np.testing.assert_array_equal(found.places, wanted.places)
    tolerance = 1e-5 if W.dtype.char in "fF" else 1e-12
    np.testing.assert_allclose(found.to_dense(), wanted.to_dense(), atol=tolerance)
