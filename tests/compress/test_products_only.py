"""Compression by products alone: how many they are, which operators go, and what is refused."""

import math

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import structmat
from structmat import compress
from structmat._progress import no_progress
from structmat.compress import range as bases
from structmat.compress.goal import Goal
from structmat.compress.operators import Products
from structmat.compress.products import hierarchical, monarch, peel
from structmat.errors import BudgetError, InputError, ShapeError, ToleranceError


class Counted:
    """An operator with products at once, which counts their columns."""

    def __init__(self, A):
        self._A, self.shape, self.dtype, self.columns = A, A.shape, A.dtype, 0

    def matmat(self, X):
        self.columns += X.shape[1]
        return self._A @ X

    def rmatmat(self, X):
        self.columns += X.shape[1]
        return self._A.conj().T @ X


class OneSided:
    """An operator that multiplies one vector at a time, and has no adjoint."""

    def __init__(self, A):
        self._A, self.shape, self.dtype = A, A.shape, A.dtype

    def matvec(self, x):
        assert x.ndim == 1
        return self._A @ x


class Matmul:
    """An operator of a library that has `@` and a transpose, and no other product."""

    def __init__(self, A):
        self._A, self.shape, self.dtype = A, A.shape, A.dtype

    def __matmul__(self, X):
        return self._A @ X

    @property
    def T(self):
        return Matmul(self._A.T)


def of_rank(rank, m, n, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    U, V = rng.standard_normal((m, rank)), rng.standard_normal((n, rank))
    if np.dtype(dtype).kind == "c":
        U = U + 1j * rng.standard_normal((m, rank))
    return (U @ V.T).astype(dtype)


def points(n):
    return np.sort(np.random.default_rng(n).random(n))


def kernel(n):
    x = points(n)
    return 1 / (np.abs(x[:, None] - x) + 1e-3)


def relative_error(A, B):
    return np.linalg.norm(A - B.to_dense()) / np.linalg.norm(A)


# Numbers of products.


@pytest.mark.parametrize("goal", [{"tol": 1e-6}, {"budget": 0.2}])
def test_a_matrix_of_rank_five_takes_few_products(goal):
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((2, 2000, 5))
    counted = Counted(structmat.LowRank(U, V))
    counted.dtype = np.dtype(float)
    counted._A.conj = lambda: counted._A
    result = compress(counted, "low_rank", rng=0, **goal)
    assert result.products == counted.columns <= 40
    assert result.matrix.rank == 5
    assert result.error < 1e-12


def test_products_of_both_sides_are_counted():
    for kind in ("low_rank", "block_low_rank", "hierarchical", "monarch", "gblr"):
        A = Counted(of_rank(2, 40, 30))
        assert compress(A, kind, tol=0.01, rng=0).products == A.columns


def test_peeling_takes_as_many_more_products_for_each_halving():
    counts = []
    for n in (400, 800, 1600):
        A = kernel(n)
        op, goal = Products(Counted(A)), Goal(max_error=1e-3 * np.linalg.norm(A))
        rng = np.random.default_rng(0)
        found = hierarchical.fit_implicit(op, goal, rng=rng, progress=no_progress)
        counts.append(op.products)
        assert relative_error(A, found) <= 1e-3
    assert counts[2] < 300
    assert counts[2] - counts[0] <= 100


def test_fits_beside_others_take_no_more_products_than_these():
    counted = Counted(kernel(1024))
    result = compress(counted, "gblr", tol=1e-2, rng=0)
    assert result.error <= 1e-2
    # Low rank alone would form the matrix.
    assert counted.columns < 1000


@pytest.mark.parametrize("goal", [{"tol": 1e-2}, {"budget": 0.1}])
def test_gblr_is_as_good_as_peeled_blocks(goal):
    A = kernel(600)
    own, peeled = (compress(Counted(A), kind, rng=0, **goal) for kind in ("gblr", "hierarchical"))
    assert own.matrix.kind == "gblr"
    assert relative_error(A, own.matrix) <= goal.get("tol", 1.1 * relative_error(A, peeled.matrix))
    assert own.cost <= 1.1 * peeled.cost


def test_a_basis_that_would_fill_memory_is_refused(monkeypatch):
    monkeypatch.setattr(bases, "MOST_ENTRIES", 3000)
    monkeypatch.setattr(bases, "DENSE_ENTRIES", 0)
    with pytest.raises(ToleranceError, match=r"a rank above \d+ is needed.*'hierarchical'"):
        compress(Counted(np.eye(100)), "low_rank", tol=0.1, rng=0)


def test_blocks_that_would_fill_memory_are_refused(monkeypatch):
    monkeypatch.setattr(peel, "MOST_ENTRIES", 20_000)
    monkeypatch.setattr(peel, "DENSE_ENTRIES", 0)
    A = np.random.default_rng(0).standard_normal((300, 300))
    goal, rng = Goal(max_error=30.0), np.random.default_rng(0)
    with pytest.raises(ToleranceError, match=r"blocks of rank \d+ do not suffice.*ordering"):
        hierarchical.fit_implicit(Products(Counted(A)), goal, rng=rng, progress=no_progress)


# Errors.


def test_an_estimate_says_what_it_is():
    A = kernel(300)
    result = compress(Counted(A), "low_rank", budget=0.05, rng=0)
    estimate = result.estimate
    assert (estimate.confidence, result.error) == (0.999, estimate.error)
    assert estimate.error < estimate.bound
    assert estimate.products >= 16
    assert "with probability 0.999" in str(result)
    assert relative_error(A, result.matrix) <= estimate.bound
    exact = compress(Counted(A), "low_rank", budget=0.05, rng=0, measure="exact")
    assert exact.estimate.confidence == 1
    assert math.isclose(exact.error, relative_error(A, exact.matrix), rel_tol=1e-9)
    assert "probability" not in str(exact)


def test_errors_of_arrays_are_measured():
    result = compress(kernel(50), "low_rank", tol=0.1)
    assert (result.estimate.confidence, result.products) == (1, 0)


def test_an_unknown_measure_is_refused():
    for call in (compress, structmat.compare):
        with pytest.raises(InputError, match="measure = 'roughly'; expected 'estimate'"):
            call(Counted(np.eye(40)), budget=0.5, measure="roughly")


@pytest.mark.parametrize("kind", ["low_rank", "hierarchical", "block_low_rank"])
@pytest.mark.parametrize("tol", [0.3, 1e-3, 1e-8])
def test_a_tolerance_is_met(kind, tol):
    A = kernel(300)
    result = compress(Counted(A), kind, tol=tol, rng=1)
    assert relative_error(A, result.matrix) <= tol
    assert result.estimate.bound <= tol


def case(seed):
    """A small matrix with a spectrum of some kind, and a tolerance."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(20, 60, 2)
    spectra = np.ones(20), 0.5 ** np.arange(20), 1 / np.arange(1, 21), np.repeat([1, 1e-3], 10)
    spectrum = spectra[rng.integers(4)]
    U, V = (np.linalg.qr(rng.standard_normal((k, 20)))[0] for k in (m, n))
    A = (U * spectrum) @ V.T
    A = A * 10.0 ** rng.integers(-9, 9)
    return A, 10.0 ** rng.uniform(-4, -0.3)


def overshoots(seeds):
    """True errors as multiples of the tolerance, and of the bound."""
    found = []
    for seed in seeds:
        A, tol = case(seed)
        result = compress(Counted(A), "low_rank", tol=tol, rng=seed)
        error = relative_error(A, result.matrix)
        found.append((error / tol, error / max(result.estimate.bound, 1e-14)))
    return np.array(found)


def test_true_errors_keep_to_their_bounds():
    found = overshoots(range(100))
    assert (found <= 1 + 1e-9).all()


@pytest.mark.slow
def test_true_errors_exceed_tolerances_no_more_often_than_stated():
    found = overshoots(range(10_000))
    assert (found > 1 + 1e-9).mean(axis=0).max() <= 0.001
    assert found.max() < 3


# Which operators.


@pytest.mark.parametrize("kind", ["low_rank", "hierarchical", "block_low_rank"])
def test_products_with_single_vectors_are_enough_for_a_symmetric_matrix(kind):
    A = kernel(300)
    result = compress(OneSided(A), kind, tol=1e-2, rng=0)
    assert relative_error(A, result.matrix) <= 1e-2
    if kind == "hierarchical":
        assert result.matrix.symmetric


@pytest.mark.parametrize("hermitian", [True, False])
def test_complex_matrices_that_are_their_own_adjoint_or_transpose(hermitian):
    A = of_rank(4, 60, 60, "complex128")
    A = A + (A.conj().T if hermitian else A.T)
    result = compress(OneSided(A), "low_rank", tol=1e-8, rng=0)
    assert relative_error(A, result.matrix) <= 1e-8
    for kind in ("hierarchical", "block_low_rank"):
        assert relative_error(A, compress(OneSided(A), kind, tol=1e-8, rng=0).matrix) <= 1e-8


def test_operators_of_other_libraries():
    A = of_rank(3, 50, 70, "complex128")
    alone = LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda x: A.conj().T @ x,
                           dtype=A.dtype)  # fmt: skip
    for operator in (Matmul(A), alone, aslinearoperator(A)):
        result = compress(operator, "low_rank", tol=1e-8, rng=0)
        assert relative_error(A, result.matrix) <= 1e-8


def test_products_that_are_tensors():
    torch = pytest.importorskip("torch")
    A = kernel(100)
    tensor = torch.from_numpy(A).requires_grad_()

    class Operator:
        shape, dtype = A.shape, torch.float64

        def matvec(self, x):
            return tensor @ torch.from_numpy(x)

    result = compress(Operator(), "low_rank", tol=1e-2, rng=0)
    assert isinstance(result.matrix.U, np.ndarray)
    assert relative_error(A, result.matrix) <= 1e-2


@pytest.mark.parametrize("library", ["pylops", "lazylinop"])
def test_operators_of_installed_libraries(library):
    module = pytest.importorskip(library)
    A = of_rank(3, 50, 70)
    operator = module.MatrixMult(A) if library == "pylops" else module.aslazylinop(A)
    assert relative_error(A, compress(operator, "low_rank", tol=1e-8, rng=0).matrix) <= 1e-8


def test_the_word_symmetric_takes_the_place_of_an_adjoint():
    A = kernel(120)
    counted = Counted(A)
    counted.rmatmat = None
    result = compress(counted, "low_rank", tol=1e-2, rng=0, symmetric=True)
    assert relative_error(A, result.matrix) <= 1e-2
    wrong = of_rank(3, 60, 60)
    for kind in ("low_rank", "block_low_rank"):
        with pytest.raises(InputError, match=r"symmetric = True, but products .*leave symmetric"):
            compress(Counted(wrong), kind, tol=1e-2, symmetric=True)
    with pytest.raises(InputError, match=r"symmetric = True for an operator of shape \(60, 50\)"):
        compress(Counted(wrong[:, :50]), "low_rank", tol=1e-2, symmetric=True)
    with pytest.raises(InputError, match="is not symmetric"):
        compress(OneSided(A), "low_rank", tol=1e-2, symmetric=False)


@pytest.mark.parametrize("kind", ["low_rank", "hierarchical", "block_low_rank", "gblr"])
def test_a_wrong_adjoint_is_named(kind):
    A = Counted(of_rank(3, 300, 300))
    A.rmatmat = A.matmat
    with pytest.raises(InputError, match=r"is not the adjoint of its products.*mend it"):
        compress(A, kind, tol=1e-2, rng=0)


def test_an_adjoint_that_is_missing_is_named():
    for A in (of_rank(3, 60, 60), of_rank(3, 60, 50)):
        with pytest.raises(InputError, match="expected products with the matrix and with its adj"):
            compress(OneSided(A), "low_rank", tol=1e-2, rng=0)


def test_objects_without_products_are_refused():
    class Table:
        shape = (6, 6)

        def __array__(self):
            return np.eye(6)

        def __matmul__(self, other):
            return other

    class Nothing:
        shape = (6, 6)

    for thing in (Table(), Nothing()):
        with pytest.raises(InputError, match=r"operator with shape and matmat, matvec or @"):
            compress(thing, "low_rank", tol=0.1)


class Broken:
    """A 40x40 operator whose products are changed on their way."""

    shape, dtype = (40, 40), np.dtype(float)

    def __init__(self, change):
        self._change = change

    def matvec(self, x):
        return self._change(x)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x[:7], ShapeError, r"gave shape \(7, 8\); expected \(40, 8\)"),
        (lambda x: x[: 20 + int(x[0] > 0)], ShapeError, "as many each time"),
        (lambda x: x * np.nan, InputError, "gave NaN or infinity"),
        (lambda x: x * 1j, InputError, "give the operator a complex dtype"),
        (lambda x: x * 1e-200, InputError, "1e-140"),
        (lambda x: x * 1e200, InputError, r"1e\+140"),
    ],
)
def test_broken_products_are_refused(change, error, message):
    for kind in ("low_rank", "hierarchical", "block_low_rank", "monarch", "gblr"):
        with pytest.raises(error, match=message):
            compress(Broken(change), kind, tol=0.1, rng=0)


def test_block_sparse_needs_entries():
    with pytest.raises(InputError, match=r"to 'block_sparse' needs its entries; expected one of"):
        compress(Counted(np.eye(40)), "block_sparse", tol=0.1)


# Structures.

SHAPES = [(1, 1), (1, 50), (50, 1), (2, 3), (31, 33), (263, 420), (420, 263), (257, 257)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["low_rank", "hierarchical", "block_low_rank", "monarch"])
def test_shapes(shape, kind):
    m, n = shape
    if kind == "monarch" and m * n > 10_000:
        pytest.skip("formed, and fitted in seconds: the fit of arrays has tests of its own")
    A = np.exp(-np.abs(np.linspace(0, 1, m)[:, None] - np.linspace(0, 1, n))).astype(complex)
    A *= np.exp(1j * np.arange(n) / n)
    result = compress(Counted(A), kind, tol=1e-3, rng=0)
    assert relative_error(A, result.matrix) <= 1e-3
    assert result.matrix.shape == shape
    assert result.matrix.dtype == A.dtype


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (300, 300), (300, 400)])
@pytest.mark.parametrize("kind", ["low_rank", "hierarchical", "block_low_rank", "gblr"])
def test_zeros_cost_nothing(shape, kind):
    result = compress(Counted(np.zeros(shape)), kind, tol=0.1, rng=0)
    assert (result.matrix.cost, result.error) == (0, 0.0)


@pytest.mark.parametrize("scale", [1e-100, 1e100])
@pytest.mark.parametrize("kind", ["low_rank", "hierarchical", "block_low_rank"])
def test_tiny_and_huge_norms(scale, kind):
    A = kernel(300) * scale
    result = compress(Counted(A), kind, tol=1e-2, rng=0)
    assert relative_error(A / scale, result.matrix / scale) <= 1e-2


@pytest.mark.parametrize("kind", ["hierarchical", "block_low_rank", "low_rank"])
@pytest.mark.parametrize("budget", [0.05, 0.2, 0.6])
def test_budgets_are_kept(kind, budget):
    A = kernel(400) + 0.01 * np.random.default_rng(0).standard_normal((400, 400))
    result = compress(Counted(A), kind, budget=budget, rng=0)
    assert result.cost <= budget * A.size
    assert result.error < 1
    assert relative_error(A, result.matrix) <= result.estimate.bound * (1 + 1e-9)


def test_half_as_many_products_for_a_hermitian_matrix():
    counts = []
    for A in (kernel(1024), kernel(1024) * np.linspace(1, 2, 1024)):
        counted = Counted(A)
        result = compress(counted, "hierarchical", tol=1e-3, rng=0)
        assert result.matrix.symmetric == (not counts)
        counts.append(counted.columns - result.estimate.products)
    assert counts[0] < 0.7 * counts[1]


def test_noise_of_full_rank_is_a_tolerance_that_is_missed_or_met():
    A = np.random.default_rng(0).standard_normal((300, 300))
    for kind in ("low_rank", "hierarchical", "block_low_rank"):
        result = compress(Counted(A), kind, tol=1e-6, rng=0)
        assert relative_error(A, result.matrix) <= 1e-6


def test_a_monarch_matrix_is_found_by_products():
    rng = np.random.default_rng(0)
    L, R = rng.standard_normal((2, 32, 32, 32))
    A = structmat.Monarch(L, R).to_dense()
    op, goal = Products(Counted(A)), Goal(max_cost=2 * 32**3)
    found = monarch.fit_implicit(op, goal, rng=rng, progress=no_progress)
    assert relative_error(A, found) < 1e-12
    assert op.products < 500
    with pytest.raises(BudgetError, match="expected at least"):
        compress(Counted(A), "monarch", budget=0.0001)


@pytest.mark.parametrize("cap", [60_000, 3000])
def test_monarch_matrices_of_others(cap):
    A = kernel(600)[:, :500]
    rng, goal = np.random.default_rng(0), Goal(max_cost=cap)
    found = monarch.fit_implicit(Products(Counted(A)), goal, rng=rng, progress=no_progress)
    assert found.cost <= cap
    assert relative_error(A, found) < 1.01


def test_a_monarch_matrix_is_found_to_an_error():
    rng = np.random.default_rng(0)
    L, R = rng.standard_normal((32, 64, 64)), rng.standard_normal((64, 32, 32))
    A = structmat.Monarch(L, R)
    op, size = Products(A), A.norm()
    goal = Goal(max_error=1e-6 * size)
    found = monarch.fit_implicit(op, goal, rng=rng, progress=no_progress)
    assert relative_error(A.to_dense(), found) <= 1e-6
    assert op.products < 2000


def test_float32_operators():
    A = kernel(300).astype(np.float32)
    for kind in ("low_rank", "hierarchical", "block_low_rank"):
        result = compress(Counted(A), kind, tol=1e-3, rng=0)
        assert result.matrix.dtype == np.float32
        assert relative_error(A, result.matrix) <= 1e-3


def test_arrays_are_peeled_by_their_products():
    A = kernel(300)
    assert relative_error(A, compress(A, "hierarchical", tol=1e-3, rng=0).matrix) <= 1e-3


def test_peeled_blocks_are_those_of_the_matrix():
    A = kernel(100) * np.linspace(1, 2, 100)
    found = peel.Peeling(
        Counted(A), peel.Reach(error=1e-9), np.random.default_rng(0), hermitian=False
    ).run()
    for level in range(found.depth + 1):
        rows, cols = found.rows(level), found.cols(level)
        for i, block in enumerate(found.diagonal(level)):
            whole = A[rows[i] : rows[i + 1], cols[i] : cols[i + 1]]
            np.testing.assert_allclose(block[: whole.shape[0], : whole.shape[1]], whole, atol=1e-7)
