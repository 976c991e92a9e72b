"""Fits of sources to hierarchical matrices: cases that fooled earlier schemes, borders, counts."""

import numpy as np
import pytest

import structmat
from structmat import Entries, KernelMatrix
from structmat._progress import no_progress
from structmat.compress.goal import Goal
from structmat.compress.hierarchical import evaluate
from structmat.compress.hierarchical import fit as module
from structmat.compress.hierarchical.fit import fit_entries
from structmat.errors import InputError
from structmat.sources.ordering import kd_order


def points(n, d=2, seed=0):
    return np.random.default_rng(seed).random((n, d))


def exponential(X, Y):
    """The exponential kernel as a user's function."""
    return np.exp(-np.sqrt(((X[:, None] - Y) ** 2).sum(-1)) / 0.1)


def of(A, **options):
    """A dense array as a function of entries."""
    return Entries(lambda i, j: A[np.ix_(i, j)], A.shape, **options)


def fitted(source, tol=1e-3, seed=0, progress=no_progress):
    """The fit, its relative error, and the share of the entries that it evaluated."""
    D = source.to_dense()
    size, before = np.linalg.norm(D), source.entries
    rng = np.random.default_rng(seed)
    matrix = fit_entries(source, Goal(max_error=tol * size), rng=rng, progress=progress)
    error = np.linalg.norm(matrix.to_dense() - D) / max(size, 1e-300)
    return matrix, error, (source.entries - before) / max(D.size, 1)


def hidden_block():
    A = np.eye(1200)
    A[700:760, 120:190] = np.random.default_rng(1).standard_normal((60, 70))
    return of(A)


def zero_first_row():
    A = 1 / (1 + np.abs(np.arange(900)[:, None] - np.arange(900)))
    A[0], A[:, 0] = 0, 0
    return of(A, symmetric=True)


def sparse_rows():
    A, rng = np.zeros((1600, 1600)), np.random.default_rng(1)
    A[900 + rng.choice(400, 12, replace=False), 300:700] = rng.standard_normal((12, 400))
    return of(A)


def hermitian():
    x = points(600, 1)
    return of(np.exp(5j * (x - x.T)) * exponential(x, x), points=x, hermitian=True)


def in_x_order(kernel, order, **options):
    P = points(1000)
    P = P[np.argsort(P[:, 0])] if order == "x" else P
    return KernelMatrix(P, kernel, **options)


HARD = {
    "duplicates": lambda: KernelMatrix(points(150).repeat(6, axis=0), "exponential", length=0.1),
    "duplicates by a function": lambda: KernelMatrix(points(150).repeat(6, axis=0), exponential),
    "hidden block": hidden_block,
    "zero first row": zero_first_row,
    "sparse rows": sparse_rows,
    "sparse columns": lambda: of(sparse_rows().to_dense().T),
    "x order": lambda: in_x_order("matern32", "x", length=0.1),
    "random order": lambda: in_x_order("gaussian", "random", length=0.1),
    "by a function": lambda: in_x_order(exponential, "random"),
    "inverse": lambda: in_x_order("inverse", "random"),
    "collinear": lambda: KernelMatrix(np.c_[points(900, 1), np.zeros(900)], "matern52", length=0.1),
    "equal points": lambda: KernelMatrix(np.ones((200, 2)), "exponential"),
    "tiny length": lambda: KernelMatrix(points(900), "exponential", length=1e-6),
    "huge length": lambda: KernelMatrix(points(900), "exponential", length=1e6),
    "noise": lambda: of(np.random.default_rng(0).standard_normal((150, 170))),
    "three dimensions": lambda: KernelMatrix(points(1000, 3), "exponential", length=0.3),
    "two sets": lambda: KernelMatrix(points(900), "exponential", points(500, seed=1), length=0.1),
    "two sets by a function": lambda: KernelMatrix(points(700), exponential, points(300, seed=1)),
    "waves": lambda: KernelMatrix(points(600), "helmholtz", length=0.1),
    "hermitian": hermitian,
}  # fmt: skip


@pytest.mark.parametrize("case", HARD)
def test_hard_matrices_are_met(case):
    source = HARD[case]()
    matrix, error, _ = fitted(source)
    assert error <= 1e-3
    assert matrix.symmetric == source.hermitian
    assert matrix.dtype == source.dtype


@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-10])
@pytest.mark.parametrize("kernel", ["matern32", exponential])
def test_tolerances_are_met_and_not_by_far(kernel, tol):
    _, error, _ = fitted(KernelMatrix(points(500), kernel), tol)
    assert 0.2 * tol < error <= tol or error < 1e-13


@pytest.mark.parametrize(
    "P", [np.zeros((0, 2)), np.zeros((1, 2)), np.zeros((2, 1)), points(33), np.zeros((40, 0))]
)
@pytest.mark.parametrize("kernel", ["exponential", exponential])
def test_few_points_are_exact_or_near(P, kernel):
    matrix, error, evaluated = fitted(KernelMatrix(P, kernel))
    assert error <= 1e-3
    assert evaluated <= 1
    structmat.testing.check_matrix(matrix)


def test_no_rows_and_some_columns():
    source = KernelMatrix(np.zeros((0, 2)), "exponential", points(5))
    matrix, *_ = fitted(source)
    assert (matrix.shape, matrix.cost) == ((0, 5), 0)


def test_single_precision_stays_single():
    matrix, error, _ = fitted(KernelMatrix(points(600).astype(np.float32), "matern32", length=0.1))
    assert matrix.u.dtype == np.float32
    assert error <= 1e-3


def test_a_function_that_gives_nan_is_refused():
    with pytest.raises(InputError, match="finite"):
        fit_entries(
            KernelMatrix(points(200), lambda X, Y: np.where(X[:, :1] > 0.9, np.nan, 1.0) * Y[:, 0]),
            Goal(max_error=1.0), rng=np.random.default_rng(0), progress=no_progress,
        )  # fmt: skip


@pytest.mark.parametrize("kernel", ["matern32", exponential])
def test_the_result_does_not_depend_on_the_number_of_threads(kernel, monkeypatch):
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("STRUCTMAT_NUM_THREADS", threads)
        monkeypatch.setattr(evaluate, "_PIECE", 2**12)
        found.append(fitted(KernelMatrix(points(700), kernel, length=1.0))[0])
    for name in ("blocks", "u", "v", "dense"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_few_entries_are_evaluated_and_counted():
    seen = []

    def counting(X, Y):
        seen.append(len(X) * len(Y))
        return exponential(X, Y)

    for kernel, share in (("exponential", 0.2), (counting, 0.3)):
        source = KernelMatrix(points(3000), kernel, length=0.1 if kernel == "exponential" else 1.0)
        seen.clear()
        before = source.entries
        goal = Goal(max_error=1e-3 * 3000 * 0.15)
        fit_entries(source, goal, rng=np.random.default_rng(0), progress=no_progress)
        count = source.entries - before
        assert count < share * 3000**2
        assert kernel == "exponential" or sum(seen) == count


def test_progress_rises_to_one():
    told = []
    fitted(KernelMatrix(points(600), "exponential"), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_blocks_of_a_user_agree_with_the_compiled_loops(monkeypatch):
    source = KernelMatrix(points(700), "exponential", length=0.1)
    monkeypatch.setattr(module, "_is_resolved", lambda source, pairs: False)
    one, *_ = fitted(source)
    monkeypatch.setattr(module, "HAS_NUMBA", False)
    other, error, _ = fitted(source)
    assert error <= 1e-3
    assert abs(one.cost - other.cost) < 0.05 * one.cost


def under(source, budget, seed=0):
    """The fit under a budget and its relative error."""
    D = source.to_dense()
    size, cap = np.linalg.norm(D), int(budget * D.size)
    goal, rng = Goal(max_cost=cap, size=size), np.random.default_rng(seed)
    matrix = fit_entries(source, goal, rng=rng, progress=no_progress)
    assert matrix.cost <= cap
    return matrix, np.linalg.norm(matrix.to_dense() - D) / size


@pytest.mark.parametrize("budget", [1.0, 0.4, 0.25, 0.1, 0.03, 0.001, 1e-9])
@pytest.mark.parametrize(
    "source",
    [
        lambda: KernelMatrix(points(600), "matern32", length=0.2),
        lambda: KernelMatrix(points(500), exponential, points(300, seed=1)),
        lambda: of(np.random.default_rng(0).standard_normal((180, 200))),
    ],
    ids=["kernel", "two sets", "noise"],
)
def test_budgets_hold_and_are_used(source, budget):
    matrix, error = under(source(), budget)
    _, less = under(source(), 0.5 * budget)
    assert error <= less
    assert error < 1e-6 or matrix.cost > 0.8 * budget * np.prod(matrix.shape) - 600


def test_a_budget_reaches_what_a_tolerance_takes():
    source = KernelMatrix(points(1500), "exponential", length=0.1)
    matrix, error, _ = fitted(source)
    _, other = under(source, matrix.relative_cost)
    assert other <= 1.1 * error


def array_of(kind):
    rng = np.random.default_rng(0)
    if kind == "kernel":
        P = np.sort(points(130, 1), axis=0)
        return exponential(P, P)
    if kind == "two sides":
        return exponential(np.sort(points(120, 1), axis=0), np.sort(points(50, 1, 1), axis=0))
    if kind == "waves":
        x = np.sort(points(100, 1), axis=0)
        return np.exp(5j * (x - x.T)) * exponential(x, x)
    if kind == "noise":
        return rng.standard_normal((60, 70))
    return np.zeros((40, 30))


@pytest.mark.parametrize("kind", ["kernel", "two sides", "waves", "noise", "zero"])
@pytest.mark.parametrize("tol", [0.1, 1e-3, 1e-9, 0.0])
def test_arrays_are_met(kind, tol):
    A = array_of(kind)
    result = structmat.compress(A, "hierarchical", tol=tol, rng=0)
    assert result.error <= tol
    assert result.matrix.kind == "hierarchical"
    assert result.cost <= A.size
    assert result.matrix.symmetric == (kind in ("kernel", "waves")) or tol != 1e-3


@pytest.mark.filterwarnings("ignore:the result is the zero matrix")
@pytest.mark.parametrize("kind", ["kernel", "two sides", "waves", "noise", "zero"])
@pytest.mark.parametrize("budget", [1.0, 0.3, 0.1, 0.01, 1e-9])
def test_arrays_under_a_budget(kind, budget):
    A = array_of(kind)
    result = structmat.compress(A, "hierarchical", budget=budget, rng=0)
    other = structmat.compress(A, "block_low_rank", budget=budget, rng=0)
    assert result.cost <= budget * A.size
    assert result.error <= other.error * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (1, 1), (1, 9), (17, 2), (8, 400), (31, 33)])
def test_arrays_of_any_shape(shape):
    A = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    matrix = structmat.compress(A, "hierarchical", tol=0.3, rng=0).matrix
    assert matrix.dtype == np.float32
    structmat.testing.check_matrix(matrix)


def test_points_in_the_order_of_a_tree_stay_in_it():
    P = points(500)
    matrix, *_ = fitted(KernelMatrix(P[kd_order(P)], "exponential", length=0.1))
    np.testing.assert_array_equal(matrix.row_order, np.arange(500))
    assert matrix.to_kind("gblr").kind == "gblr"


def test_small_smooth_matrices_have_large_blocks_and_others_not(monkeypatch):
    source = KernelMatrix(points(800), "gaussian", length=0.3)
    weak, error, _ = fitted(source)
    monkeypatch.setattr(module, "WEAK_ROWS", 100)
    strong, other, _ = fitted(source)
    assert max(error, other) <= 1e-3
    assert (weak.blocks[:, 1].max(), weak.cost < strong.cost) == (400, True)
    assert strong.blocks[:, 1].max() <= 200
