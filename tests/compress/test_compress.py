import itertools
import math
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import structmat
from structmat.compress import block_low_rank as block_low_rank_fit
from structmat.compress import compare, compress, source, tiles
from structmat.compress import monarch as monarch_fit
from structmat.compress.block_low_rank import tile_ranks
from structmat.compress.goal import Goal
from structmat.errors import (
    BudgetError,
    InputError,
    KindError,
    ShapeError,
    StructmatError,
    ToleranceError,
)
from structmat.kinds import fitted_kinds
from structmat.matrices.block_low_rank import DENSE
from structmat.matrices.low_rank import LowRank
from structmat.matrices.monarch import Monarch
from structmat.project import svd
from structmat.project.svd import sketch, truncated_svd

KINDS = fitted_kinds()
DTYPES = ("float32", "float64", "complex64", "complex128")


def random(rng, shape, dtype="float64"):
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


def relative_error(A, matrix):
    return np.linalg.norm(A - matrix.to_dense()) / np.linalg.norm(A)


def of_rank(rng, m, n, r, dtype="float64"):
    return random(rng, (m, r), dtype) @ random(rng, (r, n), dtype)


def with_spectrum(rng, m, n, s):
    U = np.linalg.qr(rng.standard_normal((m, len(s))))[0]
    V = np.linalg.qr(rng.standard_normal((n, len(s))))[0]
    return (U * s) @ V.T


# Exact recovery: what has a structure is found, at its own cost.


def test_low_rank_is_recovered(rng):
    A = of_rank(rng, 90, 70, 5)
    result = compress(A, "low_rank", budget=0.5)
    assert result.matrix.rank == 5
    assert relative_error(A, result.matrix) < 1e-13


@pytest.mark.parametrize(("p", "q"), [(8, 8), (12, 12), (10, 5)])
def test_block_sparse_is_recovered(rng, p, q):
    A = np.zeros((6 * p - 3, 5 * q - 1))
    places = [(0, 0), (2, 4), (3, 1), (5, 2)]
    for i, j in places:
        tile = A[i * p : (i + 1) * p, j * q : (j + 1) * q]
        tile[:] = rng.standard_normal(tile.shape)
    if A.shape[0] % p or A.shape[1] % q:
        # Sizes that are neither powers of two nor divisors are found on whole grids.
        A = np.pad(A, ((0, 3), (0, 1)))
    result = compress(A, "block_sparse", tol=0.0)
    assert np.array_equal(result.matrix.to_dense(), A)
    assert result.cost <= len(places) * p * q
    assert result.error == 0.0


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_block_low_rank_is_recovered(rng, size, dtype):
    A = np.zeros((5 * size, 7 * size), dtype)
    cost = 0
    for i, j in itertools.product(range(5), range(7)):
        r = int(rng.integers(0, 3))
        tile = slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size)
        A[tile] = of_rank(rng, size, size, r, dtype)
        cost += 2 * r * size
    result = compress(A, "block_low_rank", budget=cost / A.size + 1e-9)
    assert relative_error(A, result.matrix) < 20 * np.finfo(dtype).eps
    assert result.cost == cost


@pytest.mark.parametrize(("l", "s", "k", "p", "rank"), [(8, 6, 6, 10, 1), (4, 9, 8, 5, 2)])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_monarch_is_recovered(rng, l, s, k, p, rank, dtype):
    planted = Monarch(random(rng, (l, s, k * rank), dtype), random(rng, (k, l * rank, p), dtype))
    A = planted.to_dense()
    result = compress(A, "monarch", budget=planted.cost / A.size + 1e-9)
    assert relative_error(A, result.matrix) < 20 * np.finfo(dtype).eps
    assert result.cost <= planted.cost


# Optimality.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(60, 40), (300, 340), (290, 270)])
def test_truncated_svd_is_eckart_young(rng, dtype, shape):
    A = random(rng, shape, dtype)
    values = np.linalg.svd(A.astype(np.result_type(dtype, "float64")), compute_uv=False)
    for rank in (1, 30, min(shape)) if min(shape) > 256 else (0, 1, 30, 40, 1000):
        U, s, Vh = truncated_svd(A, rank, rng)
        r = min(rank, *shape)
        assert U.shape == (shape[0], r)
        assert Vh.shape == (r, shape[1])
        assert U.dtype == A.dtype == Vh.dtype
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(s, values[:r], rtol=1e-6 if eps > 1e-10 else 1e-12)
        best = np.sqrt((values[r:] ** 2).sum())
        error = np.linalg.norm(A - (U * s) @ Vh)
        assert error <= best * (1 + 1e-5) + 50 * eps * values[0] * math.sqrt(r + 1)
        np.testing.assert_allclose(U.conj().T @ U, np.eye(r), atol=200 * eps)


@pytest.mark.parametrize("rank", [20, 60, 100, 140])
def test_truncated_svd_reaches_below_the_gram_matrix(rng, rank):
    s = 10.0 ** (-np.arange(280) / 12)
    A = with_spectrum(rng, 300, 280, s)
    U, values, Vh = truncated_svd(A, rank, rng)
    best = np.linalg.norm(s[rank:])
    assert np.linalg.norm(A - (U * values) @ Vh) <= best * (1 + 1e-3) + 1e-13


@pytest.mark.parametrize("dtype", DTYPES)
def test_truncated_svd_of_large_matrices(rng, dtype, monkeypatch):
    """Ways that only thousands of rows and columns take: few values, and all eigenvectors."""
    A = random(rng, (300, 280), dtype) @ random(rng, (280, 290), dtype)
    values = np.linalg.svd(A.astype(np.result_type(dtype, "float64")), compute_uv=False)
    monkeypatch.setattr(svd, "GRAM_SIDE", 270)
    monkeypatch.setattr(svd, "DIVIDE_SIDE", 270)
    start, found = svd._gram_start(A, 5)
    np.testing.assert_allclose(found, values[:5], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(start.conj().T @ A, axis=1), found, rtol=1e-4)
    for rank in (5, 100):
        U, s, Vh = truncated_svd(A, rank, rng)
        best = np.sqrt((values[rank:] ** 2).sum())
        assert np.linalg.norm(A - (U * s) @ Vh) <= best * (1 + 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 12, 9), (2, 9, 12), (3, 0, 4), (0, 3, 4)])
def test_singular_values_of_large_tiles(rng, dtype, shape, monkeypatch):
    A = random(rng, shape, dtype)
    expected = np.linalg.svd(A, compute_uv=False)
    monkeypatch.setattr(svd, "EXACT_VALUES_SIDE", 4)
    np.testing.assert_allclose(svd.svdvals(A), expected, rtol=1e-5)


@pytest.mark.parametrize("decay", ["flat", "slow", "steep", "exact"])
def test_sketch_is_near_best(rng, decay):
    i = np.arange(1.0, 181.0)
    s = {"flat": 1 + 1 / i, "slow": 1 / i, "steep": 0.5**i, "exact": 1.0 * (i <= 20)}[decay]
    A = with_spectrum(rng, 400, 180, s)
    U, values, Vh = sketch(scipy.sparse.linalg.aslinearoperator(A), 20, rng)
    best = np.linalg.norm(s[20:])
    assert np.linalg.norm(A - (U * values) @ Vh) <= best * (1 + 1e-3) + 1e-13
    np.testing.assert_allclose(U.T @ U, np.eye(20), atol=1e-13)


def test_a_sketch_at_its_last_sweep_is_that_of_its_subspace(rng, monkeypatch):
    monkeypatch.setattr(svd, "MOST_SWEEPS", 1)
    A = with_spectrum(rng, 90, 80, 1 / np.arange(1.0, 81.0))
    U, values, Vh = sketch(scipy.sparse.linalg.aslinearoperator(A), 5, rng)
    np.testing.assert_allclose(U.T @ U, np.eye(5), atol=1e-13)
    np.testing.assert_allclose(A @ Vh.T, U * values, atol=1e-13)


def test_truncated_svd_is_lean(rng):
    # LAPACK would return all of the wide factor, and work on more.
    A = rng.standard_normal((600, 3000))
    tracemalloc.start()
    truncated_svd(A, 40, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= A.nbytes


@pytest.mark.parametrize("rank", [1, 2])
def test_monarch_projection_is_best_per_tile(rng, rank):
    A = rng.standard_normal((14, 11))
    layout = monarch_fit.Layout(l=3, k=2, height=5, width=6)
    matrix = monarch_fit._assemble(A, layout, rank, rng)
    expected = np.zeros_like(A)
    for j, c in itertools.product(range(3), range(2)):
        place = slice(j, None, 3), slice(6 * c, 6 * (c + 1))
        U, s, Vh = np.linalg.svd(A[place], full_matrices=False)
        expected[place] = (U[:, :rank] * s[:rank]) @ Vh[:rank]
    np.testing.assert_allclose(matrix.to_dense(), expected, atol=1e-13)
    assert matrix.cost == layout.cost(rank)


def test_block_low_rank_shares_ranks_out_best(rng):
    # Tiles of one size: every rank costs the same, so greedy is optimal.
    values = np.sort(rng.random((3, 4)), axis=1)[:, ::-1] * np.array([[1.0], [3.0], [0.2]])
    size = np.full(3, 40)
    for budget in range(0, 900, 55):
        plan = tile_ranks(values, size, size, Goal(max_cost=budget), 1e-15)
        best = min(
            sum((values[t, r:] ** 2).sum() for t, r in enumerate(ranks))
            for ranks in itertools.product(range(5), repeat=3)
            if 80 * sum(ranks) <= budget
        )
        assert plan.cost <= budget
        assert math.isclose(plan.missed, best, rel_tol=1e-12, abs_tol=1e-15)
        if best > 0:
            back = tile_ranks(values, size, size, Goal(max_error=1.0001 * math.sqrt(best)), 1e-15)
            assert back.cost == plan.cost


def test_block_low_rank_spends_what_the_next_step_leaves():
    # The second rank of the large tile does not fit any more; the small tile does.
    values = np.array([[2.0, 2.0], [0.9, 0.0]])
    size = np.array([10, 3])
    plan = tile_ranks(values, size, size, Goal(max_cost=27), 1e-15)
    assert plan.chosen.tolist() == [1, 1]
    assert plan.cost == 26


def test_block_low_rank_takes_dense_tiles_where_they_are_cheaper():
    values = np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 0.0, 0.0]])
    size = np.full(2, 4)
    plan = tile_ranks(values, size, size, Goal(max_cost=24), 1e-15)
    assert plan.chosen.tolist() == [DENSE, 1]
    assert (plan.cost, plan.missed) == (24, 0.0)
    plan = tile_ranks(values, size, size, Goal(max_error=2.0), 1e-15)
    assert plan.chosen.tolist() == [0, 1]


def test_block_sparse_keeps_the_strongest_tiles(rng):
    A = rng.standard_normal((16, 24))
    result = compress(A, "block_sparse", budget=0.25)
    p, q = result.matrix.block_shape
    tiles = (A.reshape(16 // p, p, 24 // q, q) ** 2).sum(axis=(1, 3))
    kept = np.zeros(tiles.shape, bool)
    kept[result.matrix.rows, result.matrix.cols] = True
    assert tiles[kept].min() >= tiles[~kept].max()
    assert result.cost + p * q > A.size // 4


def test_baseline_is_the_truncated_svd_at_the_cap(rng):
    A = rng.standard_normal((50, 30))
    values = np.linalg.svd(A, compute_uv=False)
    rank = int(0.4 * A.size) // 80
    expected = np.linalg.norm(values[rank:]) / np.linalg.norm(A)
    for kind in KINDS:
        result = compress(A, kind, budget=0.4, rng=0)
        assert math.isclose(result.baseline_error, expected, rel_tol=1e-9)


# Tolerances; for whatever comes, see test_invariants.py.


@pytest.mark.parametrize("kind", KINDS)
def test_tight_tolerance_in_double_precision(rng, kind):
    A = rng.standard_normal((23, 31))
    assert compress(A, kind, tol=1e-11, rng=0).error <= 1e-11


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize(("n", "rank"), [(60, 3), (60, 50), (280, 100)])
def test_low_rank_takes_the_smallest_rank_that_meets_the_tolerance(rng, n, rank, operator):
    s = 0.9 ** np.arange(n)
    A = with_spectrum(rng, n + 20, n, s)
    tol = np.linalg.norm(s[rank:]) / np.linalg.norm(s) * 1.001
    given_as = scipy.sparse.linalg.aslinearoperator(A) if operator else A
    assert compress(given_as, "low_rank", tol=tol, rng=0).matrix.rank == rank


@pytest.mark.parametrize("kind", ["low_rank", "monarch"])
def test_unreachable_tolerance(rng, kind):
    A = rng.standard_normal((20, 20)).astype(np.float32)
    with pytest.raises(ToleranceError, match=r"reaches only .* in float32; allow more"):
        compress(A, kind, tol=1e-12, rng=0)


@pytest.mark.parametrize("kind", ["block_sparse", "block_low_rank"])
def test_dense_tiles_reach_any_tolerance(rng, kind):
    A = rng.standard_normal((20, 20)).astype(np.float32)
    assert compress(A, kind, tol=0.0, rng=0).error == 0.0


# Zero and empty matrices.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("goal", [{"budget": 0.5}, {"tol": 0.0}, {"tol": 1e-3}])
def test_zero_matrix(kind, goal):
    result = compress(np.zeros((12, 9)), kind, rng=0, **goal)
    assert result.error == 0.0
    assert result.cost == 0
    assert result.baseline_error == 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("goal", [{"budget": 0.5}, {"tol": 1e-3}])
def test_empty_matrix(kind, shape, goal):
    result = compress(np.zeros(shape, np.float32), kind, rng=0, **goal)
    assert (result.matrix.shape, result.matrix.dtype) == (shape, np.float32)
    assert (result.error, result.cost) == (0.0, 0)


# What may be given, and comes back.


@pytest.mark.parametrize("module", [monarch_fit, block_low_rank_fit])
def test_randomness_repeats_where_tiles_are_sampled(rng, module, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ENTRIES", 256)
    monkeypatch.setattr(module, "FINALISTS", 1)
    A = rng.standard_normal((50, 60))
    kind = module.__name__.rpartition(".")[2]
    first, second = (compress(A, kind, budget=0.3, rng=7).matrix for _ in range(2))
    assert np.array_equal(first.to_dense(), second.to_dense())


def test_sampling_finds_the_planted_tiles(rng, monkeypatch):
    monkeypatch.setattr(block_low_rank_fit, "SAMPLE_ENTRIES", 1000)
    A = np.block([[of_rank(rng, 12, 12, 1) for _ in range(6)] for _ in range(6)])
    result = compress(A, "block_low_rank", budget=36 * 24 / A.size + 1e-9, rng=0)
    assert result.error < 1e-14
    monkeypatch.setattr(monarch_fit, "SAMPLE_ENTRIES", 1000)
    A = A.reshape(6, 12, 72).transpose(1, 0, 2).reshape(72, 72)
    result = compress(A, "monarch", budget=36 * 24 / A.size + 1e-9, rng=0)
    assert result.error < 1e-14


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_other_array_libraries(rng, library, kind, dtype):
    xp = pytest.importorskip(library)
    A = random(rng, (12, 20), dtype)
    there = xp.asarray(A.copy())
    result = compress(there, kind, budget=0.5, rng=0)
    here = compress(A, kind, budget=0.5, rng=0)
    assert type(result.matrix.to_dense()) is type(there)
    assert result.matrix.dtype == there.dtype
    assert (result.error, result.cost) == (here.error, here.cost)
    np.testing.assert_allclose(
        np.asarray(result.matrix.to("numpy").to_dense()), here.matrix.to_dense(), rtol=1e-6
    )
    rows = compare(there, budget=0.5, rng=0)
    assert all(type(row.matrix.to_dense()) is type(there) for row in rows)


def test_numbers_of_other_types(rng):
    integers = rng.integers(-9, 9, (8, 8))
    for A in (integers, integers.astype(np.uint8), integers.tolist(), integers.astype(">f4")):
        result = compress(A, "low_rank", budget=1.0)
        assert result.matrix.dtype == (np.float32 if getattr(A, "itemsize", 8) == 4 else np.float64)
        assert relative_error(np.asarray(A), result.matrix) < 1
    assert compress(np.eye(4, dtype=np.float16), "low_rank", tol=0.1).matrix.dtype == np.float32


def test_structured_input(rng):
    A = LowRank(rng.standard_normal((20, 3)), rng.standard_normal((30, 3)))
    assert compress(A, "block_low_rank", budget=0.5).error < 1e-13


class Counting(LinearOperator):
    """A low-rank operator plus a diagonal; refuses to be made dense at once."""

    def __init__(self, rng, m, n, dtype="float64"):
        super().__init__(dtype, (m, n))
        self.U, self.V = random(rng, (m, 12), dtype), random(rng, (n, 12), dtype)
        self.widest = 0

    def _matmat(self, X):
        self.widest = max(self.widest, X.shape[1])
        return self.U @ (self.V.conj().T @ X)

    def _rmatmat(self, Y):
        self.widest = max(self.widest, Y.shape[1])
        return self.V @ (self.U.conj().T @ Y)


@pytest.mark.parametrize(
    ("kind", "goal"),
    [
        ("low_rank", {"budget": 0.05}),
        ("low_rank", {"tol": 1e-10}),
        pytest.param("gblr", {"budget": 0.05}, marks=pytest.mark.slow),
        ("gblr", {"tol": 1e-10}),
    ],
)
def test_operator_is_not_made_dense(rng, kind, goal):
    operator = Counting(rng, 1200, 1500)
    tracemalloc.start()
    result = compress(operator, kind, rng=0, **goal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1200 * 1500 * 8 / 2
    assert operator.widest <= 200
    assert result.error <= 1e-10
    assert result.matrix.kind == kind
    assert relative_error(operator.U @ operator.V.T, result.matrix) <= 1e-10


def test_complex_operator(rng):
    operator = Counting(rng, 90, 70, "complex64")
    result = compress(operator, "low_rank", budget=0.6, rng=0)
    assert result.matrix.dtype == np.complex64
    assert relative_error(operator.U @ operator.V.conj().T, result.matrix) < 1e-5


def test_sparse_input(rng):
    A = scipy.sparse.random_array((60, 50), density=0.1, rng=0, format="csr")
    result = compress(A, "low_rank", budget=0.5, rng=0)
    assert math.isclose(result.error, relative_error(A.toarray(), result.matrix), rel_tol=1e-9)
    values = np.linalg.svd(A.toarray(), compute_uv=False)
    best = np.linalg.norm(values[result.matrix.rank :]) / np.linalg.norm(values)
    assert result.error <= best * (1 + 1e-3)


def test_progress_runs_to_one(rng):
    A = rng.standard_normal((40, 40))
    for run in (
        lambda report: [compress(A, kind, budget=0.5, rng=0, progress=report) for kind in KINDS],
        lambda report: compare(A, budget=0.5, rng=0, progress=report),
    ):
        seen = []
        run(seen.append)
        assert seen[-1] == 1.0
        assert 0 <= min(seen) <= max(seen) <= 1.0


# Tiles and measured errors.


@pytest.mark.parametrize("entries", [1, 500, 10**6])
def test_stacks_hold_all_tiles_row_after_row(rng, entries, monkeypatch):
    monkeypatch.setattr(tiles, "STACK_ENTRIES", entries)
    A = rng.standard_normal((23, 31))
    stacked = np.concatenate(list(tiles.tile_stacks(A, 5, 4)))
    padded = np.pad(A, ((0, 2), (0, 1)))
    expected = padded.reshape(5, 5, 8, 4).transpose(0, 2, 1, 3).reshape(40, 5, 4)
    np.testing.assert_array_equal(stacked, expected)
    rows, cols = np.array([0, 4, 2]), np.array([7, 7, 3])
    chosen = tiles.gather(A, tiles.places(rows, cols, (5, 4)), (5, 4))
    np.testing.assert_array_equal(chosen, expected[rows * 8 + cols])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(48, 48), (60, 20), (20, 60)])
def test_small_matrices_are_measured_as_by_their_columns(rng, kind, shape):
    A = rng.standard_normal(shape)
    B = compress(A, kind, budget=0.5, rng=0).matrix
    by_columns = source._root(
        source._columns(A, some) - source._columns(B, some) for some in source.column_slices(shape)
    )
    assert math.isclose(source.residual(A, B), by_columns, rel_tol=1e-12)


# Comparison.


def test_compare_has_a_row_for_each_kind(rng):
    A = rng.standard_normal((40, 30))
    rows = compare(A, budget=0.5, rng=0)
    assert [row.kind for row in rows] == list(KINDS)
    for row in rows:
        assert row.cost == row.matrix.cost <= 0.5 * A.size
        assert row.storage == row.matrix.storage
        assert math.isclose(row.error, relative_error(A, row.matrix), rel_tol=1e-9)
        assert row.seconds >= 0
        assert row.note == ""


def test_compare_says_which_kind_is_never_that_cheap(rng):
    rows = {row.kind: row for row in compare(rng.standard_normal((9, 9)), budget=0.1, rng=0)}
    assert rows["monarch"].matrix is None
    assert math.isnan(rows["monarch"].error)
    assert "at least 18" in rows["monarch"].note
    assert rows["low_rank"].matrix is not None


def test_compare_of_an_operator_has_the_kinds_that_need_no_entries(rng):
    rows = compare(Counting(rng, 60, 50), budget=0.5, rng=0)
    kinds = ["low_rank", "block_low_rank", "monarch", "gblr", "hierarchical"]
    assert [row.kind for row in rows] == kinds


# Refusals.

GOOD = np.eye(6)
WITH_NAN = np.where(np.eye(6) > 0, np.nan, 1.0)
WITH_INF = np.where(np.eye(6)[::-1] > 0, np.inf, 1.0)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((GOOD, "hodlr"), {"budget": 0.5}, KindError, "'hodlr'; expected one of 'low_rank'"),
        ((GOOD, 3), {"budget": 0.5}, KindError, "kind 3"),
        ((GOOD, "low_rank"), {}, InputError, "exactly one"),
        ((GOOD, "low_rank"), {"budget": 0.5, "tol": 0.1}, InputError, "exactly one"),
        ((GOOD, "low_rank"), {"budget": 0.0}, BudgetError, "budget = 0.0"),
        ((GOOD, "low_rank"), {"budget": 1.01}, BudgetError, "above 0 and at most"),
        ((GOOD, "low_rank"), {"budget": math.nan}, BudgetError, "budget = nan"),
        ((GOOD, "low_rank"), {"budget": "half"}, BudgetError, "budget = 'half'"),
        ((GOOD, "low_rank"), {"budget": True}, BudgetError, "budget = True"),
        ((GOOD, "low_rank"), {"tol": -1e-3}, InputError, "tol = -0.001"),
        ((GOOD, "low_rank"), {"tol": math.inf}, InputError, "tol = inf"),
        ((GOOD, "low_rank"), {"tol": "small"}, InputError, "tol = 'small'"),
        ((GOOD, "low_rank"), {"tol": 0.1, "rng": "seed"}, InputError, "rng = 'seed'"),
        ((GOOD, "low_rank"), {"tol": 0.1, "rng": -1}, InputError, "rng = -1"),
        ((GOOD[0], "low_rank"), {"tol": 0.1}, ShapeError, r"shape \(6,\)"),
        ((GOOD[None], "low_rank"), {"tol": 0.1}, ShapeError, "two dimensions"),
        (([[1.0, 2.0], [3.0]], "low_rank"), {"tol": 0.1}, ShapeError, "is ragged"),
        ((WITH_NAN, "gblr"), {"tol": 0.1}, InputError, r"entry \(0, 0\) is nan"),
        ((WITH_INF, "monarch"), {"tol": 0.1}, InputError, r"entry \(0, 5\) is inf"),
        ((GOOD > 0, "low_rank"), {"tol": 0.1}, InputError, "dtype bool"),
        ((GOOD.astype(object), "low_rank"), {"tol": 0.1}, InputError, "dtype object"),
        ((GOOD.astype(str), "low_rank"), {"tol": 0.1}, InputError, "dtype <U"),
        (("text", "low_rank"), {"tol": 0.1}, InputError, "type builtins.str"),
        ((None, "low_rank"), {"tol": 0.1}, InputError, "NoneType"),
        ((GOOD * 1e200, "low_rank"), {"tol": 0.1}, InputError, "largest entry is 1e.200"),
        ((GOOD * 1e-200, "low_rank"), {"tol": 0.1}, InputError, "vanish"),
        ((aslinearoperator(np.eye(6)), "block_sparse"), {"tol": 0.1}, InputError, "toarray"),
        ((GOOD, "monarch"), {"budget": 0.3}, BudgetError, "budget of at least 0.3334"),
        ((np.ones((1, 6)), "monarch"), {"budget": 1.0}, BudgetError, "no budget suffices"),
    ],
)
def test_bad_input(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        compress(*arguments, **options)
    assert isinstance(caught.value, StructmatError)


def test_bad_input_to_compare():
    with pytest.raises(BudgetError, match="budget = 2"):
        compare(GOOD, budget=2)
    with pytest.raises(InputError, match="nan"):
        compare(WITH_NAN, budget=0.5)


def operator(**products):
    class Given:
        shape = (6, 6)
        dtype = np.dtype(float)
        matmat = staticmethod(products.get("matmat", lambda X: X))
        rmatmat = staticmethod(products.get("rmatmat", lambda X: X))

    return Given()


def test_operator_of_the_plainest_kind():
    plain = operator()
    assert compress(plain, "low_rank", tol=1e-12, rng=0).matrix.rank == 6
    del type(plain).dtype
    assert compress(plain, "low_rank", tol=1e-12, rng=0).matrix.dtype == np.float64


def test_operators_of_other_shapes_are_refused():
    stacked = operator()
    type(stacked).shape = (2, 6, 6)
    with pytest.raises(ShapeError, match=r"shape \(2, 6, 6\); expected two dimensions"):
        compress(stacked, "low_rank", tol=0.1)


def test_a_failing_product_is_shown_as_it_is():
    def fails(_X):
        raise TypeError("no such product")

    with pytest.raises(TypeError, match="no such product"):
        compress(operator(matmat=fails), "low_rank", tol=0.1)


def test_bad_operators():
    with pytest.raises(InputError, match="matmat gave NaN"):
        compress(operator(matmat=lambda X: X * np.nan), "low_rank", tol=0.1)
    with pytest.raises(ShapeError, match=r"rmatmat of a 6x6 operator gave shape \(3"):
        compress(operator(rmatmat=lambda X: X[:3]), "low_rank", tol=0.1)
    shifted = np.eye(6, k=1)
    one_sided = LinearOperator((6, 6), matvec=lambda x: shifted @ x, dtype=float)
    with pytest.raises(InputError, match=r"rmatmat of .* failed; expected products"):
        compress(one_sided, "low_rank", tol=0.1)


@pytest.mark.parametrize("share", np.linspace(0.9, 1.0, 11))
def test_budget_is_kept_where_ranks_end_in_the_rounding(share):
    """Steps below the rounding are skipped; the dense one after them must not be cheaper."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(2))
    noise = 64 * np.finfo(float).eps
    s = np.full(64, 0.285 * noise)
    s[:2] = 1, 0.95 * noise
    result = structmat.compress((U * s) @ V.T, "block_low_rank", budget=float(share))
    assert result.cost <= share * 64 * 64


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_tiles_as_they_are_meet_any_tolerance(dtype):
    rng = np.random.default_rng(3)
    A = (rng.standard_normal((4, 29)) + 1j * rng.standard_normal((4, 29))).astype("complex128")
    A = A.astype(dtype) if np.dtype(dtype).kind == "c" else A.real.astype(dtype)
    result = structmat.compress(A, "block_low_rank", tol=0.0)
    assert result.error == 0
    assert result.cost <= A.size


@pytest.mark.parametrize(
    ("scale", "message"), [(1e-200, "1e-140"), (1e200, "1e\\+140")], ids=["tiny", "huge"]
)
def test_operators_out_of_range_are_refused(scale, message):
    op = aslinearoperator(np.diag(np.arange(1.0, 9.0)) * scale)
    with pytest.raises(structmat.InputError, match=message):
        structmat.compress(op, "low_rank", budget=0.5)


@pytest.mark.parametrize("kind", ["low_rank", "block_sparse", "block_low_rank", "gblr"])
def test_a_budget_that_leaves_nothing_is_told(kind, rng):
    with pytest.warns(UserWarning, match="budget of 0.001 is 0 of the 120 multiplications"):
        result = structmat.compress(rng.standard_normal((12, 10)), kind, budget=0.001)
    assert (result.cost, result.error) == (0, 1.0)
    assert structmat.compress(np.zeros((12, 10)), kind, budget=0.001).error == 0
    assert structmat.compress(np.ones((12, 10)), kind, tol=1.0).error <= 1, "which was asked for"


def test_operators_that_turn_complex_are_refused():
    op = LinearOperator((9, 9), dtype=float, matvec=lambda x: 1j * x, rmatvec=lambda x: -1j * x)
    with pytest.raises(structmat.InputError, match="give the operator a complex dtype"):
        structmat.compress(op, "low_rank", budget=0.5)


def test_large_structured_matrices_stay_implicit():
    A = structmat.LowRank(np.ones((60000, 2)), np.ones((3000, 2)))
    result = structmat.compress(A, "low_rank", budget=0.001, rng=0)
    assert result.error < 1e-12
    assert result.matrix.rank == 1


@pytest.mark.parametrize("kind", ["block_low_rank", "monarch"])
def test_low_rank_in_single_precision_is_recovered_at_its_own_cost(kind):
    rng = np.random.default_rng(0)
    A = (rng.standard_normal((640, 5)) @ rng.standard_normal((5, 640))).astype(np.float32)
    own = 5 * (640 + 640)
    result = structmat.compress(A, kind, tol=1e-4, rng=0)
    assert result.cost <= 1.05 * own


def test_small_sparse_matrices_are_read_by_their_entries():
    A = scipy.sparse.random_array((60, 50), density=0.02, rng=np.random.default_rng(1))
    for kind in ("gblr", "block_sparse"):
        sparse, dense = (structmat.compress(M, kind, budget=0.3, rng=0) for M in (A, A.toarray()))
        assert sparse.error == dense.error < 0.5


def test_masked_entries_are_refused():
    with pytest.raises(structmat.InputError, match="fill it first"):
        structmat.compress(np.ma.masked_less(np.eye(3), 0.5), "low_rank", budget=0.5)
    structmat.compress(np.ma.array(np.eye(3)), "low_rank", budget=1.0)
