"""Properties that hold for every matrix, kind, budget and tolerance, on random small cases.

The profile of Hypothesis sets the number of examples: `--hypothesis-profile=reliability` runs
10,000 of each property.
"""

import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st

import structmat
from structmat.compress import compare, compress
from structmat.errors import BudgetError, ConversionError
from structmat.kinds import contained_kinds, fitted_kinds

pytestmark = pytest.mark.filterwarnings("ignore:the result is the zero matrix")  # of 1x1

KINDS = fitted_kinds()
DTYPES = ("float32", "float64", "complex64", "complex128")
STYLES = ("noise", "sparse", "low rank", "graded", "tiles", "integers", "zero")
TOLERANCES = st.sampled_from([1.0, 0.3, 1e-2, 1e-4])
BUDGETS = st.floats(0.01, 1.0)
#: What each kind holds exactly, and about as cheaply.
CONTAINED = {
    "low_rank": set(),
    "block_sparse": set(),
    "block_low_rank": {"low_rank", "block_sparse"},
    "monarch": {"low_rank"},
    "gblr": {"low_rank", "block_sparse", "block_low_rank"},
    "hierarchical": {"low_rank", "block_sparse", "block_low_rank"},
}


def random(rng, shape, dtype):
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


@st.composite
def matrices(draw, dtypes=DTYPES):
    m, n = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    dtype, style = draw(st.sampled_from(dtypes)), draw(st.sampled_from(STYLES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    A = random(rng, (m, n), dtype)
    if style == "sparse":
        A = A * (rng.random((m, n)) < 0.2)
    elif style == "low rank":
        A = A[:, :1] @ A[:1]
    elif style == "graded":
        A = A * np.float32(10.0) ** -np.arange(n, dtype=np.float32)
    elif style == "tiles":
        A = A * np.kron(np.eye(3), np.ones((4, 4)))[:m, :n]
    elif style == "integers":
        A = np.rint(A)
    elif style == "zero":
        A = 0 * A
    return A.astype(dtype)


def distance(A, matrix):
    return float(np.linalg.norm(A.astype(complex) - matrix.to_dense()))


def rounding(A):
    """Error that may be rounding: absolute, in Frobenius norm."""
    return 100 * float(np.finfo(A.dtype).eps) * float(np.linalg.norm(A.astype(complex)))


def within(A, kind, budget):
    """Result of a kind, or None where the cap is below its cheapest matrix."""
    try:
        return compress(A, kind, budget=budget, rng=0)
    except BudgetError:
        assert kind == "monarch"
        assert math.floor(budget * A.size) < sum(A.shape)
        return None


def test_what_each_kind_contains():
    assert {kind: set(contained_kinds(kind)) for kind in KINDS} == CONTAINED


@pytest.mark.parametrize("kind", KINDS)
@given(A=matrices(), budget=BUDGETS)
def test_budget_is_never_exceeded(kind, A, budget):
    if (result := within(A, kind, budget)) is None:
        return
    B = result.matrix
    assert (B.kind, B.shape, B.dtype) == (kind, A.shape, A.dtype)
    assert result.cost == B.cost <= math.floor(budget * A.size)
    assert result.storage == B.storage
    size = float(np.linalg.norm(A.astype(complex)))
    assert math.isclose(result.error * size, distance(A, B), rel_tol=1e-3, abs_tol=rounding(A))


@pytest.mark.parametrize("kind", KINDS)
@given(A=matrices(), tol=TOLERANCES)
def test_tolerance_is_always_met(kind, A, tol):
    result = compress(A, kind, tol=tol, rng=0)
    assert result.error <= tol
    assert distance(A, result.matrix) <= tol * np.linalg.norm(A.astype(complex)) + rounding(A)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if CONTAINED[kind]])
@given(A=matrices(), budget=BUDGETS)
def test_never_worse_at_a_budget(kind, A, budget):
    if (result := within(A, kind, budget)) is None:
        return
    for other in CONTAINED[kind]:
        simple = within(A, other, budget)
        # A dense tile costs a little more as blocks of rank one.
        if simple.matrix.to_kind(kind).cost <= math.floor(budget * A.size):
            least = distance(A, simple.matrix) * (1 + 1e-5)
            assert distance(A, result.matrix) <= least + rounding(A), other


@pytest.mark.parametrize("kind", [kind for kind in KINDS if CONTAINED[kind]])
@given(A=matrices(), tol=TOLERANCES)
def test_never_dearer_at_a_tolerance(kind, A, tol):
    result = compress(A, kind, tol=tol, rng=0)
    for other in CONTAINED[kind]:
        converted = compress(A, other, tol=tol, rng=0).matrix.to_kind(kind)
        if distance(A, converted) <= tol * np.linalg.norm(A.astype(complex)) - rounding(A):
            assert result.cost <= converted.cost, other


@given(A=matrices(), budget=BUDGETS, form=st.sampled_from(["operator", "sparse"]))
def test_never_worse_in_other_forms(A, budget, form):
    forms = {
        "operator": scipy.sparse.linalg.aslinearoperator,
        "sparse": scipy.sparse.csr_array,
    }
    given = forms[form](A)
    best = compress(given, "gblr", budget=budget, rng=0)
    assert best.cost <= math.floor(budget * A.size)
    for other in {"low_rank"} if form == "operator" else CONTAINED["gblr"]:
        simple = compress(given, other, budget=budget, rng=0)
        if simple.matrix.to_kind("gblr").cost <= math.floor(budget * A.size):
            least = distance(A, simple.matrix) * (1 + 1e-5)
            assert distance(A, best.matrix) <= least + rounding(A), other


@given(A=matrices(), budget=BUDGETS)
def test_a_comparison_ranks_contained_kinds_behind(A, budget):
    rows = {row.kind: row for row in compare(A, budget=budget, rng=0)}
    cap = math.floor(budget * A.size)
    for kind, others in CONTAINED.items():
        for other in others if rows[kind].matrix is not None else ():
            if rows[other].matrix.to_kind(kind).cost <= cap:
                least = distance(A, rows[other].matrix) * (1 + 1e-5)
                assert distance(A, rows[kind].matrix) <= least + rounding(A), (kind, other)


@given(A=matrices(), B=matrices(), alpha=st.floats(0, 1), budget=BUDGETS)
def test_interpolation_stays_in_the_family(A, B, alpha, budget):
    """Theorem 2 for compressed matrices."""
    m, n = (min(sizes) for sizes in zip(A.shape, B.shape, strict=True))
    parts = [
        compress(M[:m, :n].astype("complex128"), "gblr", budget=budget, rng=0).matrix
        for M in (A, B)
    ]
    C = structmat.interpolate(*parts, alpha)
    assert C.kind == "gblr"
    assert C.cost <= alpha * parts[0].cost + (1 - alpha) * parts[1].cost + 1e-9
    assert C.num_blocks <= max(part.num_blocks for part in parts)


@pytest.mark.parametrize("kind", KINDS)
@given(A=matrices(), budget=BUDGETS)
def test_conversions_are_exact(kind, A, budget):
    if (result := within(A, kind, budget)) is None:
        return
    dense = result.matrix.to_dense()
    for target in (*KINDS, "dense"):
        try:
            converted = result.matrix.to_kind(target)
        except ConversionError:
            continue
        assert np.abs(converted.to_dense() - dense).max() <= rounding(A)


@pytest.mark.parametrize("kind", KINDS)
@given(A=matrices(), budget=BUDGETS, seed=st.integers(0, 2**32))
def test_results_repeat_and_inputs_are_only_read(kind, A, budget, seed):
    before = A.copy()
    A.flags.writeable = False
    results = []
    for rng in (seed, np.random.default_rng(seed)):
        try:
            results.append(compress(A, kind, budget=budget, rng=rng).matrix)
        except BudgetError:
            return
    np.testing.assert_array_equal(A, before)
    first, second = (matrix.to_dense().copy() for matrix in results)
    np.testing.assert_array_equal(first, second)
    A.flags.writeable = True
    A[:] = 7
    np.testing.assert_array_equal(results[0].to_dense(), first)


# Kinds made elsewhere.


def new_kind(name, fit, **rules):
    """Register a kind of matrices A + 0 that is stored dense, with rules of conversion."""

    class Wrapped(structmat.StructuredMatrix, kind=name):
        data_names = ("A",)
        static_names = ()

        def __init__(self, A):
            super().__init__(tuple(A.shape), {"A": A})

        @property
        def cost(self):
            return 0

        def _multiply(self, x):
            return self.A @ x

        def _multiply_adjoint(self, y):
            return self.A.conj().T @ y

        def _dense(self):
            return self.A

        def _adjoint(self):
            return Wrapped(self.A.conj().T)

    structmat.register(structmat.Kind(name, fit=lambda A, goal, *, rng, progress: fit(A, Wrapped)))
    for target, convert in rules.items():
        structmat.rule("convert", name, target)(convert)


def overlapping(A):
    """A 32x32 matrix of thirty overlapping blocks, as a GBLR matrix."""
    rng = np.random.default_rng(0)
    starts, widths = rng.integers(0, 32, (2, 30)), rng.integers(3, 9, (2, 30))
    u, v = (rng.standard_normal(int(width.sum())) for width in widths)
    return structmat.GBLR(starts[0], widths[0], u, starts[1], widths[1], v, shape=(32, 32))


@pytest.mark.usefixtures("own_kinds")
@pytest.mark.parametrize("bound", ["budget", "tol"])
def test_a_new_kind_is_a_candidate_of_those_that_it_converts_to(bound):
    planted = overlapping(None)
    A, noise = planted.to_dense(), np.random.default_rng(1).standard_normal((32, 32))
    goal = {"budget": planted.cost / A.size + 1e-9} if bound == "budget" else {"tol": 1e-9}
    before = [compress(X, "gblr", rng=0, budget=0.2).error for X in (A, noise)]
    assert before[0] > 1e-3
    new_kind("planted", lambda A, kind: kind(A), gblr=overlapping)
    result = compress(A, "gblr", rng=0, **goal)
    assert result.error <= 1e-12
    assert result.cost <= planted.cost
    # A conversion that is far from the input is not the best one.
    assert compress(noise, "gblr", rng=0, budget=0.2).error == before[1]


@pytest.mark.usefixtures("own_kinds")
def test_conversions_are_followed_over_several_kinds():
    def as_low_rank(A):
        return structmat.LowRank(A.A[:, :1], np.ones((A.shape[1], 1)))

    new_kind("columns", lambda A, kind: kind(A[:, :1] + 0 * A), low_rank=as_low_rank)
    assert contained_kinds("gblr")["columns"] == ("low_rank", "gblr")
    assert "columns" in contained_kinds("low_rank")
    A = np.arange(1.0, 9.0)[:, None] * np.ones(8)
    assert compress(A, "gblr", tol=1e-12, rng=0).cost == 16


@pytest.mark.usefixtures("own_kinds")
def test_a_contained_kind_that_fails_does_not_count():
    def fail(A, kind):
        raise RuntimeError("not today")

    new_kind("failing", fail, gblr=overlapping)
    assert compress(np.eye(8), "gblr", budget=0.5).error == 0
    with pytest.raises(RuntimeError, match="not today"):
        compress(np.eye(8), "failing", budget=0.5)


@pytest.mark.usefixtures("own_kinds")
def test_a_conversion_that_fills_in_is_not_containment():
    new_kind("other", lambda A, kind: kind(A))
    structmat.rule("convert", "other", "gblr", contains=False)(overlapping)
    assert "other" not in contained_kinds("gblr")


def test_each_fit_of_a_comparison_runs_once(monkeypatch):
    from structmat.compress import low_rank

    calls, fit = [], low_rank.fit
    monkeypatch.setattr(
        low_rank, "fit", lambda *given, **named: calls.append(1) or fit(*given, **named)
    )
    compare(np.random.default_rng(0).standard_normal((12, 12)), budget=0.5, rng=0)
    assert len(calls) == 1
