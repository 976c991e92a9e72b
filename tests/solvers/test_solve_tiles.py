"""LU and Cholesky over tiles against dense ones: values, truncation, fallbacks, refusals."""

import pickle

import array_api_strict
import numpy as np
import pytest

from structmat import (
    BlockLowRank,
    BlockSparse,
    Diagonal,
    Permutation,
    SolveError,
    factorize,
    solve,
)
from structmat.solvers.direct import tiles
from structmat.solvers.elimination.tile_form import tile_form
from structmat.solvers.elimination.tile_plan import forecast, ordered

DTYPES = ("float32", "float64", "complex64", "complex128")


def contents(dtype="float64", seed=0):
    """A function that draws arrays of a dtype."""
    rng = np.random.default_rng(seed)

    def c(*shape):
        x = rng.standard_normal(shape)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * rng.standard_normal(shape)
        return x.astype(dtype)

    return c


def some_tiles(c, sizes, places):
    """Tiles of rank 1 at places, and dense ones on the diagonal."""
    found = {(i, i): c(p, p) for i, p in enumerate(sizes)}
    return found | {(i, j): (c(sizes[i], 1), c(sizes[j], 1)) for i, j in places}


def hermitian_tiles(c, sizes, places):
    found = {}
    for (i, j), tile in some_tiles(c, sizes, places).items():
        if i == j:
            found[i, i] = tile + tile.conj().T
        else:
            found |= {(i, j): tile, (j, i): (tile[1], tile[0])}
    return found


def matrix(found, sizes):
    return BlockLowRank(found, row_sizes=sizes, col_sizes=sizes)


SIZES = [3, 0, 4, 1, 5]
ALL = [(i, j) for i in range(5) for j in range(5) if i != j]
SOME = [(0, 2), (4, 0), (2, 3), (3, 4)]
LOWER = [(2, 0), (3, 2), (4, 0), (4, 3)]
CASES = {
    "full": lambda c: (matrix(some_tiles(c, SIZES, ALL), SIZES), 0.0),
    "some tiles": lambda c: (matrix(some_tiles(c, SIZES, SOME), SIZES), 2.0),
    "complex shift": lambda c: (matrix(some_tiles(c, SIZES, SOME), SIZES), 2.0 - 3.0j),
    "definite": lambda c: (matrix(hermitian_tiles(c, SIZES, LOWER), SIZES), 30.0),
    "indefinite": lambda c: (matrix(hermitian_tiles(c, SIZES, LOWER), SIZES), 0.5),
    "negative": lambda c: (matrix(hermitian_tiles(c, SIZES, LOWER), SIZES), -30.0),
    "one tile": lambda c: (matrix({(0, 0): c(6, 6)}, [6]), 0.0),
    "thin diagonal": lambda c: (matrix({(0, 0): (c(4, 2), c(4, 2)), (1, 1): c(2, 2)}, [4, 2]), 1.0),
    "shift alone": lambda c: (matrix({}, [3, 2]), 2.0),
    "blocks": lambda c: (
        BlockSparse(c(5, 3, 3), [0, 0, 1, 2, 3], [0, 3, 1, 0, 3], shape=(11, 11)),
        1.5,
    ),
    "sum": lambda c: (
        matrix(some_tiles(c, [5, 6], [(1, 0)]), [5, 6])
        + 2.0 * matrix(some_tiles(c, [5, 6], [(0, 1), (1, 0)]), [5, 6]).H
        + BlockSparse(c(2, 2, 2), [1, 2], [2, 5], shape=(11, 11))
        + Diagonal(c(11)),
        1.0,
    ),
    "nothing": lambda c: (matrix({}, []), 1.0),
}  # fmt: skip


def dense_of(A, shift):
    wide = A.astype(np.result_type(A.dtype, np.float64))
    return wide.to_dense() + shift * np.eye(A.shape[0])


def by_tiles(A, shift=0.0, tol=1e-8):
    return tiles.factorized(A, tile_form(A.astype(np.result_type(A.dtype, float))), shift, tol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_a_dense_solve(case, dtype):
    A, shift = CASES[case](contents(dtype))
    if case == "complex shift" and np.dtype(dtype).kind != "c":
        A = A.astype(np.result_type(dtype, np.complex64))
    single = np.finfo(dtype).bits == 32
    S, n = dense_of(A, shift), A.shape[0]
    F = by_tiles(A, shift, 1e-5 if single else 1e-8)
    b, far = contents(A.dtype, 1)(n, 3), 2e-3 if single else 1e-9
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(S, b), rtol=far, atol=far)
    adjoint = np.linalg.solve(S.conj().T, b)
    np.testing.assert_allclose(F.solve_adjoint(b), adjoint, rtol=far, atol=far)
    assert F.solve(b).dtype == np.result_type(F.dtype, b)
    assert F.solution(b).backward_error <= F.tol
    expected, found = np.linalg.slogdet(S), F.logdet()
    np.testing.assert_allclose(found.sign, expected.sign, atol=1e-3 if single else 1e-10)
    np.testing.assert_allclose(found.logabsdet, expected.logabsdet, atol=1e-3 if single else 1e-10)
    definite = case in ("definite", "shift alone") and not np.iscomplexobj(shift)
    assert ("Cholesky" in F.method) == definite or case == "nothing"
    if np.dtype(dtype).kind != "c":
        z = b + 1j * b[:, ::-1]
        np.testing.assert_allclose(F.solve(z), np.linalg.solve(S, z), rtol=far, atol=far)


def kernel(n, side, tol, *, reach=0.3, dtype="float64"):
    """Tiles of exp(-|x - y| / reach) at points in the plane, in the order of their first halves."""
    rng = np.random.default_rng(0)
    points = rng.random((n, 2))
    parts = [np.arange(n)]
    while len(parts[0]) > side:
        axis = int(np.log2(len(parts))) % 2
        halves = [np.array_split(p[np.argsort(points[p, axis])], 2) for p in parts]
        parts = [half for pair in halves for half in pair]
    points = points[np.concatenate(parts)]
    K = np.exp(-np.linalg.norm(points[:, None] - points, axis=2) / reach)
    sizes = [len(part) for part in parts]
    begin, found = np.cumsum([0, *sizes]), {}
    for i in range(len(sizes)):
        for j in range(i + 1):
            T = K[begin[i] : begin[i + 1], begin[j] : begin[j + 1]].astype(dtype)
            if i == j:
                found[i, i] = T
                continue
            U, s, Vh = np.linalg.svd(T, full_matrices=False)
            rank = int((s > tol).sum())
            found[i, j] = U[:, :rank] * s[:rank], Vh[:rank].T
            found[j, i] = found[i, j][::-1]
    return matrix(found, sizes)


def test_tiles_of_low_rank_stay_so_within_the_tolerance():
    A, shift = kernel(512, 64, 1e-9), 1e-2
    S = dense_of(A, shift)
    costs = []
    for tol in (1e-10, 1e-3):
        F = by_tiles(A, shift, tol)
        assert F.method == "block-low-rank Cholesky"
        error = np.linalg.norm(S @ F._solve(np.eye(512)) - np.eye(512))
        assert error <= 10 * tol * np.sqrt(512)
        logdet, expected = F.logdet(), np.linalg.slogdet(S).logabsdet
        assert abs(logdet.logabsdet - expected) <= 5 * logdet.error
        assert logdet.error <= 10 * 512 * tol
        costs.append(F.cost)
    assert costs[1] < 0.75 * costs[0] < 0.75 * 1.1 * 512**2


def test_a_shift_lowers_what_truncation_may_leave_out():
    A = kernel(256, 64, 1e-9, reach=10.0)
    errors = [by_tiles(A, shift, 1e-6).logdet().error for shift in (1e-4, 1.0)]
    # The inverse is 1e4 times as large in the first case; a fixed tolerance would show it.
    assert errors[0] < 10 * errors[1]


@pytest.mark.parametrize("definite", [True, False])
def test_truncation_costs_neither_definiteness_nor_the_inverse(definite):
    A = kernel(256, 64, 1e-12, reach=10.0)
    if not definite:
        signs = Diagonal(np.repeat([1.0, -1.0, 1.0, -1.0], 64))
        A = signs @ A
    # As much may be left out as a multiple of the smallest singular value, at first.
    F = by_tiles(A, 0.0, 0.03)
    expected = np.linalg.slogdet(A.to_dense())
    assert F.logdet().sign == expected.sign
    assert abs(F.logdet().logabsdet - expected.logabsdet) < 1e-6
    assert F.method == f"block-low-rank {'Cholesky' if definite else 'LU'}"


def swapped(n):
    """Tiles whose pivots are all in another tile."""
    one = np.eye(n)
    return matrix({(0, 1): one, (1, 0): one, (0, 0): 1e-14 * one, (1, 1): 0 * one}, [n, n])


def test_pivots_in_other_tiles_go_another_way():
    A = swapped(3)
    assert by_tiles(A) is NotImplemented
    none = matrix({at: tile for at, tile in A.tiles.items() if at[0] != at[1]}, [3, 3])
    assert by_tiles(none) is NotImplemented
    b = np.arange(6.0)
    for M in (A, none):
        np.testing.assert_allclose(solve(M, b), np.linalg.solve(M.to_dense(), b), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_badly_scaled_rows_and_columns(dtype):
    A, _ = CASES["full"](contents(dtype))
    most = 12 if dtype == "float32" else 150
    scale = np.ones(13, dtype)
    scale[[0, 4, 8, 9]] = 10.0 ** np.array([most, -most, most // 2, -most])
    b = contents(dtype, 1)(13)
    for M in (Diagonal(scale) @ A, A @ Diagonal(scale)):
        F = by_tiles(M, tol=1e-5 if dtype == "float32" else 1e-8)
        log = F.logdet().logabsdet - np.log(scale.astype(float)).sum()
        np.testing.assert_allclose(log, np.linalg.slogdet(A.to_dense()).logabsdet, rtol=1e-4)
    x = by_tiles(A @ Diagonal(scale), tol=1e-5).solve(b) * scale
    np.testing.assert_allclose(x, np.linalg.solve(A.to_dense(), b), rtol=1e-3, atol=1e-3)


def test_a_hermitian_matrix_of_uneven_rows_stays_definite():
    A, shift = CASES["definite"](contents())
    scale = 2.0 ** np.rint(np.linspace(-300, 300, 13))
    S = A + BlockSparse(np.full((13, 1, 1), shift), range(13), range(13), shape=(13, 13))
    tiles_ = {}
    begin = np.cumsum([0, *SIZES])
    for (i, j), tile in tile_form(S).tiles.items():
        k, l = (int(v) for v in np.array([0, 2, 3, 4])[[i, j]])
        left, right = scale[begin[k] : begin[k + 1]], scale[begin[l] : begin[l + 1]]
        thin = isinstance(tile, tuple)
        tiles_[k, l] = (
            (tile[0] * left[:, None], tile[1] * right[:, None])
            if thin
            else left[:, None] * tile * right
        )
    F = by_tiles(matrix(tiles_, SIZES))
    assert F.method == "block-low-rank Cholesky"
    expected = np.linalg.slogdet(dense_of(A, shift)).logabsdet + 2 * np.log(scale).sum()
    np.testing.assert_allclose(F.logdet().logabsdet, expected, rtol=1e-10)


@pytest.mark.parametrize("single", [False, True])
def test_singular_matrices_raise(single):
    c = contents("float32" if single else "float64")
    found = some_tiles(c, [4, 3], [(0, 1)])
    found[1, 1][2] = 0
    with pytest.raises(SolveError, match="row 6 of the matrix is zero"):
        by_tiles(matrix(found, [4, 3]))
    for tile in (np.ones((4, 4), c(1).dtype), c(4, 3) @ c(3, 4)):
        found[0, 0], found[1, 1] = tile, c(3, 3)
        found[0, 1] = np.zeros((4, 1), c(1).dtype), c(3, 1)
        if not single or tile[0, 0] == 1:  # the other is not, once it is rounded
            with pytest.raises(np.linalg.LinAlgError, match="singular"):
                factorize(matrix(found, [4, 3]))
    Q, _ = np.linalg.qr(contents()(16, 16))
    with pytest.raises(SolveError, match="condition number"):
        by_tiles(matrix({(0, 0): (Q * np.geomspace(1e-16, 1, 16)) @ Q.T}, [16]))


def test_single_precision_gives_way_where_it_is_not_enough():
    c = contents("float32")
    A, _ = CASES["full"](c)
    assert by_tiles(A, tol=1e-5).factors.dtype == np.float32
    s = np.geomspace(1e-6, 1, 16).astype("float32")
    Q, _ = np.linalg.qr(c(16, 16))
    hard = matrix({(0, 0): (Q * s) @ Q.T}, [16])
    F = by_tiles(hard, tol=1e-5)
    assert F.factors.dtype == np.float64
    wide = np.linalg.solve(hard.to_dense().astype(float), np.ones(16))
    np.testing.assert_allclose(F.solve(np.ones(16, "float32")), wide, rtol=1e-5)


def test_absent_tiles_stay_absent_in_a_better_order():
    count, c = 12, contents()
    places = [(0, j) for j in range(1, count)] + [(i, 0) for i in range(1, count)]
    A = BlockSparse(
        c(3 * count - 2, 4, 4),
        *np.array(sorted(places + [(i, i) for i in range(count)])).T,
        shape=(46, 46),
    )
    form = tile_form(A)
    turned, rows = ordered(form)
    assert sorted(rows) == list(range(46))
    assert forecast(turned).entries < 0.4 * forecast(form).entries
    F = by_tiles(A, 9.0)
    assert F.cost <= 1.2 * A.cost
    S, b = dense_of(A, 9.0), c(46, 2)
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(S, b), atol=1e-10)
    np.testing.assert_allclose(F.H.solve(b), np.linalg.solve(S.T, b), atol=1e-10)
    np.testing.assert_allclose(F.logdet()[:2], np.linalg.slogdet(S), rtol=1e-10)


def test_memory_is_bounded(monkeypatch):
    A, shift = CASES["some tiles"](contents())
    monkeypatch.setattr(tiles, "MOST_SIZE", 40)
    assert by_tiles(A, shift) is NotImplemented
    assert tiles.factorize(A, shift, 1e-8) is NotImplemented


def test_the_front_takes_tiles_where_they_pay():
    assert factorize(kernel(256, 64, 1e-6), shift=0.1).method == "dense"
    rng, count, p = np.random.default_rng(0), 25, 40
    blocks = rng.standard_normal((3 * count - 2, p, p))
    rows, cols = np.nonzero(np.abs(np.subtract.outer(range(count), range(count))) <= 1)
    A = BlockSparse(blocks, rows, cols, shape=(count * p, count * p))
    F = factorize(A, shift=20.0)
    assert (F.method, F.cost) == ("block LU", A.cost)
    assert (F @ np.ones(1000)).shape == (1000,)
    small = BlockSparse(blocks[:, :8, :8], rows, cols, shape=(count * 8, count * 8))
    assert factorize(small, shift=9.0).method in ("banded LU", "dense")


def test_large_matrices_go_over_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "OVERHEAD", 1e12)  # whatever it takes: nothing else is there
    side, count, rng = 128, 18, np.random.default_rng(0)
    found = {(i, i): 4 * np.eye(side) for i in range(count)}
    for i in range(count):
        for j in range(i):
            U, V = rng.standard_normal((2, side, 1)) / side
            found |= {(i, j): (U, V), (j, i): (V, U)}
    A = matrix(found, [side] * count)
    F = factorize(A, shift=0.5)
    assert F.method == "block-low-rank Cholesky"
    assert F.cost < 0.25 * A.shape[0] ** 2
    b = rng.standard_normal((A.shape[0], 2))
    assert F.solution(b).residual < 1e-8


def test_the_same_bits_twice_and_after_pickling():
    A = kernel(128, 32, 1e-6)
    b = contents()(128, 2)
    first, second = by_tiles(A, 0.1), by_tiles(A.copy(), 0.1)
    assert np.array_equal(first.solve(b), second.solve(b))
    assert first.logdet() == second.logdet()
    revived = pickle.loads(pickle.dumps(first))
    assert np.array_equal(revived.solve(b), first.solve(b))
    assert revived.logdet() == first.logdet()


def test_other_libraries_solve_on_the_host():
    A, shift = CASES["some tiles"](contents())
    b, strict = contents()(13, 2), A.to("array_api_strict")
    F = tiles.factorized(strict, tile_form(A), shift, 1e-8)
    x = F.solve(array_api_strict.asarray(b))
    assert isinstance(x, array_api_strict.asarray(b).__class__)
    np.testing.assert_allclose(np.asarray(x), np.linalg.solve(dense_of(A, shift), b), atol=1e-10)


def test_tiles_that_are_not_square_have_no_form():
    A = BlockLowRank({(0, 0): np.ones((2, 1))}, row_sizes=[2, 1], col_sizes=[1, 2])
    assert tile_form(A) is None
    assert tile_form(A + Diagonal(np.ones(3))) is None
    assert tile_form(BlockSparse(np.ones((1, 2, 3)), [0], [0], shape=(6, 6))) is None
    assert tile_form(Permutation([1, 0])) is None
    np.testing.assert_allclose(solve(A, np.ones(3), shift=2.0), [1 / 3, 1 / 3, 0.5])


@pytest.mark.parametrize("side", [1, 8])
def test_grids_of_too_many_tiles_are_not_laid_out(side, monkeypatch):
    """The tridiagonal matrix of blocks is left to other methods before its tiles are listed."""
    monkeypatch.setattr(tiles, "tile_form", lambda A: pytest.fail("tiles listed"))
    count = 5000
    rows, cols = np.nonzero(np.abs(np.subtract.outer(range(9), range(9))) <= 1)
    step = 8 * (np.arange(count // 8)[:, None])
    at = np.unique((np.stack([rows, cols], 1) + step[..., None]).reshape(-1, 2), axis=0)
    rows, cols = at[(at < count).all(axis=1)].T
    blocks = np.full((rows.size, side, side), -0.01)
    blocks[rows == cols] += np.eye(side)
    A = BlockSparse(blocks, rows, cols, shape=(count * side, count * side))
    for M in (A, 2 * A.H, A + Diagonal(np.ones(count * side))):
        assert factorize(M).method.startswith("band")
