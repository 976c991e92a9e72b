"""Recompression: less cost, the error that is reported, and nothing formed."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import structmat
from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    BudgetError,
    Dense,
    Diagonal,
    Hierarchical,
    Identity,
    InputError,
    KernelMatrix,
    LowRank,
    Monarch,
    Permutation,
    recompress,
)
from structmat.compress.reduce import missed
from structmat.compress.reduce.terms import terms_of
from structmat.demo import earthquake_kernel
from structmat.matrices import HermitianLowRank, Mirrored, Product
from tests.cases import CASES, build

N = 12
RNG = np.random.default_rng(3)


def contents(seed, dtype="float64"):
    rng = np.random.default_rng(seed)

    def c(*shape):
        x = rng.standard_normal(shape)
        return (x + 1j * rng.standard_normal(shape) if dtype.startswith("c") else x).astype(dtype)

    return c


def gblr(c, n=N, k=6, seed=0):
    rng = np.random.default_rng(seed)
    runs = [rng.integers(0, n, k) if i % 2 == 0 else rng.integers(0, n + 1, k) for i in range(4)]
    u, v = c(runs[1].sum()), c(runs[3].sum())
    return GBLR(runs[0], runs[1], u, runs[2], runs[3], v, shape=(n, n))


def again(A):
    """The same matrix with other arrays."""
    return A.copy()


def tiles(c, sizes, rank):
    count = range(len(sizes))
    pairs = {(i, j): (c(sizes[i], rank), c(sizes[j], rank)) for i in count for j in count}
    pairs[0, 0] = c(sizes[0], sizes[0])
    return BlockLowRank(pairs, row_sizes=sizes, col_sizes=sizes)


def times_adjoint(A):
    return Product(A, A.H)


def hierarchical(c, cut=6, *, order=None, symmetric=False):
    rest = N - cut
    blocks = [[0, cut, 0, cut, -1], [cut, rest, 0, cut, 2], [cut, rest, cut, rest, -1]]
    triangle = cut * (cut + 1) // 2 + rest * (rest + 1) // 2
    entries = triangle if symmetric else cut**2 + rest**2
    if not symmetric:
        blocks.insert(1, [0, cut, cut, rest, 1])
    u = c(sum(p * max(r, 0) for _, p, _, _, r in blocks))
    v = c(sum(q * max(r, 0) for _, _, _, q, r in blocks))
    return Hierarchical(
        blocks, u, v, c(entries), shape=(N, N), row_order=order, col_order=order,
        symmetric=symmetric,
    )  # fmt: skip


#: A matrix (N, N) of every kind, and of expressions.
LEAVES = {
    "low_rank": lambda c: LowRank(c(N, 2), c(N, 2)),
    "low_rank-high": lambda c: LowRank(c(N, 3) @ c(3, 9), c(N, 9)),
    "block_sparse": lambda c: BlockSparse(c(4, 3, 4), [0, 1, 2, 3], [1, 0, 2, 2], shape=(N, N)),
    "block_low_rank": lambda c: tiles(c, [4, 4, 4], 1),
    "block_low_rank-uneven": lambda c: tiles(c, [3, 9], 2),
    "monarch": lambda c: Monarch(c(3, 4, 2), c(2, 3, 6), shape=(N, N)),
    "gblr": gblr,
    "gblr-many": lambda c: gblr(c, k=15, seed=1),
    "hierarchical": hierarchical,
    "hierarchical-other": lambda c: hierarchical(c, 4),
    "hierarchical-ordered": lambda c: hierarchical(c, order=np.roll(np.arange(N), 5)),
    "hierarchical-symmetric": lambda c: hierarchical(c, symmetric=True),
    "dense": lambda c: Dense(c(N, N)),
    "diagonal": lambda c: Diagonal(c(N)),
    "identity": lambda c: Identity(N),
    "permutation": lambda c: Permutation(np.roll(np.arange(N), 3)),
    "ordered": lambda c: Permutation(np.roll(np.arange(N), 3)) @ gblr(c),
    "product": lambda c: gblr(c) @ tiles(c, [4, 4, 4], 1),
    "product-hermitian": lambda c: times_adjoint(gblr(c)),
    "hermitian_low_rank": lambda c: HermitianLowRank(c(N, 3), c(3)),
    "mirrored": lambda c: Mirrored(gblr(c)),
    "adjoint": lambda c: Monarch(c(3, 4, 2), c(2, 3, 6), shape=(N, N)).H,
    "scaled": lambda c: 3 * (Permutation(np.roll(np.arange(N), 3)) @ Monarch(
        c(3, 4, 2), c(2, 3, 6), shape=(N, N))),
    "kernel": lambda c: KernelMatrix(np.linspace(0, 1, N)[:, None].astype(np.real(c()).dtype),
                                     "gaussian"),
}  # fmt: skip


def true_error(A, B):
    dense = A.toarray()
    size = np.linalg.norm(dense)
    # A single that is very small or zero would overflow as a divisor in its own precision.
    return float(np.linalg.norm(dense - B.toarray())) / (float(size) or 1.0)


def check(A, **goal):
    """The result keeps its promises; the result itself."""
    result = recompress(A, **goal)
    B, eps = result.matrix, float(np.finfo(A.toarray().dtype).eps)
    assert (B.shape, B.xp, result.cost) == (A.shape, A.xp, B.cost)
    assert result.cost <= A.cost
    assert B.hermitian or not A.hermitian
    if "tol" in goal:
        assert result.estimate.bound <= goal["tol"]
    else:
        assert result.cost <= goal["budget"] * math.prod(A.shape)
    # The products by which a test forms both matrices round as well.
    size = max(float(np.linalg.norm(A.toarray())), 1e-300)
    noise = 100 * eps * sum(float(np.linalg.norm(p.toarray())) for p in parts(A)) / size
    assert true_error(A, B) <= result.estimate.bound + noise
    return result


def parts(A):
    yield A
    for child in A.children:
        yield from parts(child)


@pytest.mark.parametrize("dtype", ["complex64", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_every_case_keeps_its_values(name, dtype):
    A, _ = build(name, dtype)
    check(A, tol=1e-4 if dtype == "complex64" else 1e-11)


@pytest.mark.parametrize("name", LEAVES)
def test_seven_equal_terms_cost_as_one(name):
    A = LEAVES[name](contents(1))
    total = sum([again(A) for _ in range(6)], A)
    result = check(total, tol=1e-12)
    # These have no contents to take a number in, or none that keeps them Hermitian.
    outside = name in ("kernel", "identity", "permutation", "product-hermitian")
    assert result.cost <= A.cost + outside * N
    assert np.allclose(result.matrix.toarray(), 7 * A.toarray())


@pytest.mark.parametrize("name", LEAVES)
def test_a_difference_of_equal_matrices_is_zero(name):
    A = LEAVES[name](contents(1))
    result = recompress(A - again(A), tol=1e-3)
    assert (result.cost, result.error) == (0, 0.0)
    assert not result.matrix.toarray().any()


def test_neighbouring_blocks_become_one():
    c = contents(0)
    u, v = c(5), c(12)
    rows, width = [2, 2, 2, 9], [5, 5, 5, 3]
    A = GBLR(
        rows, width, np.concatenate([u, u, 2 * u, c(3)]), [0, 4, 9, 1], [4, 5, 3, 2],
        np.concatenate([v[:4], v[4:9], v[9:] / 2, c(2)]), shape=(N, N),
    )  # fmt: skip
    result = check(A, tol=1e-13)
    assert result.matrix.num_blocks == 2
    assert result.cost == 5 + 12 + 3 + 2
    assert check(A.H, tol=1e-13).cost == result.cost


def test_blocks_that_meet_across_the_edge_become_one():
    c = contents(0)
    u = c(4)
    A = GBLR([3, 3], [4, 4], np.concatenate([u, u]), [9, 0], [3, 2], c(5), shape=(N, N))
    result = check(A, tol=1e-13)
    assert (result.matrix.num_blocks, result.cost) == (1, 9)


def test_overlapping_blocks_become_one():
    c = contents(0)
    u, v = c(4), c(9)
    A = GBLR([3, 3], [4, 4], np.concatenate([u, u]), [0, 2], [6, 7], np.append(v[:6], v[2:9]),
             shape=(N, N))  # fmt: skip
    assert check(A, tol=1e-13).cost == 4 + 9


def test_part_of_a_block_that_cancels_is_cut_off():
    u, v = np.arange(1.0, 9.0), np.ones(4)
    A = GBLR([0, 0], [8, 3], np.append(u, -u[:3]), [0, 0], [4, 4], np.append(v, v), shape=(N, N))
    assert recompress(A, tol=1e-13).cost == 9


def test_a_joined_block_that_lost_a_row_leaves_its_neighbour_alone():
    """The first row of the first two is rounding; that of the third is not."""
    u, v = np.array([1e-20, 1.0, 1.0, 1.0]), contents(0)(9)
    A = GBLR(
        [0, 0, 0], [4, 4, 4], np.concatenate([u, u, [5.0, 1.0, 2.0, 3.0]]), [0, 3, 6], [3, 3, 3],
        v, shape=(N, N),
    )  # fmt: skip
    assert check(A, tol=1e-13).cost == 3 + 6 + 4 + 3
    assert check(A.H, tol=1e-13).cost == 3 + 6 + 4 + 3


def test_a_gblr_sum_may_become_tiles():
    K = earthquake_kernel(128)
    A, B = (structmat.compress(X, "gblr", budget=0.3, rng=0).matrix for X in (K, K @ K / 128))
    result = check(A + B, tol=1e-2)
    assert result.cost <= recompress((A + B).to_kind("gblr"), tol=1e-2).cost
    assert result.cost < 0.6 * (A.cost + B.cost)


def test_equal_rectangles_meet_in_whatever_order_they_are_listed():
    c = contents(3)
    blocks = [[0, 6, 0, 6, -1], [6, 6, 0, 6, 2], [0, 6, 6, 6, 1], [6, 6, 6, 6, -1]]
    A = Hierarchical(blocks, c(18), c(18), c(72), shape=(N, N))
    of, u, v, dense = A.rectangles, A.u, A.v, A.dense
    turned = Hierarchical(
        [blocks[k] for k in (3, 2, 1, 0)], np.append(u[12:], u[:12]), np.append(v[12:], v[:12]),
        np.append(dense[36:], dense[:36]), shape=(N, N),
    )  # fmt: skip
    assert len(of.table) == 4
    np.testing.assert_array_equal(A.toarray(), turned.toarray())
    assert terms_of(A + turned)[0].boxes.table.tolist() == sorted(blocks)
    assert check(A + turned, tol=1e-12).cost == A.cost


def test_rectangles_with_gaps_meet():
    """Blocks of rank zero are left out of a table; the other matrix has something there."""
    c = contents(3)
    A = Hierarchical([[0, 6, 0, 6, -1], [6, 6, 6, 6, -1]], c(0), c(0), c(72), shape=(N, N))
    B = Hierarchical(
        [[0, 3, 0, 3, -1], [0, 12, 8, 4, 1], [9, 3, 0, 6, 1]], c(15), c(10), c(9), shape=(N, N)
    )
    result = check(A + B, tol=1e-13)
    assert result.cost <= A.cost + B.cost
    assert check(A + 1e-9 * B, tol=1e-6).cost <= A.cost


def test_ranks_of_all_tiles_fall_together():
    """One bound for all: the values that save most for what they miss go first."""
    c = contents(4)
    A = tiles(c, [6, 6], 3) + 1e-3 * tiles(contents(5), [6, 6], 2)
    result = check(A, tol=2e-3)
    assert result.cost <= tiles(c, [6, 6], 3).cost
    assert result.estimate.confidence == 1
    assert result.error == pytest.approx(true_error(A, result.matrix), rel=1e-9)


@pytest.mark.parametrize("one", ["hierarchical", "block_low_rank", "low_rank", "block_sparse"])
@pytest.mark.parametrize("two", ["hierarchical-other", "block_low_rank-uneven", "dense"])
def test_different_rectangles_become_those_of_one(one, two):
    A, B = LEAVES[one](contents(1)), LEAVES[two](contents(2))
    result = check(A + B, tol=1e-12)
    assert result.matrix.kind != "sum" or result.cost <= A.cost + B.cost


def test_symmetric_matrices_stay_symmetric():
    c = contents(1)
    A, B = hierarchical(c, symmetric=True), hierarchical(c, 4, symmetric=True)
    for total in (A + B, A + hierarchical(c, symmetric=True), A - 0.5 * A.copy()):
        result = check(total, tol=1e-1)
        assert result.matrix.hermitian
        assert result.cost <= total.cost


def test_a_kernel_sum_costs_less_than_its_terms():
    points = np.sort(RNG.random(256))[:, None]
    kernels = [
        structmat.compress(KernelMatrix(points, "exponential", length=l), "hierarchical", tol=1e-5)
        for l in (0.1, 0.2, 0.4)
    ]
    total = kernels[0].matrix + kernels[1].matrix + kernels[2].matrix
    result = check(total, tol=1e-4)
    assert result.matrix.hermitian
    assert result.cost < 0.6 * sum(kernel.matrix.cost for kernel in kernels)


@pytest.mark.parametrize("kind", ["low_rank", "block_low_rank", "monarch", "gblr", "hierarchical"])
def test_a_budget_is_a_hard_cap(kind):
    K = earthquake_kernel(64)
    A = structmat.compress(K, kind, budget=0.5, rng=0).matrix
    B = structmat.compress(K @ K / 64, kind, budget=0.5, rng=0).matrix
    for budget in (0.9, 0.5, 0.1):
        check(A + B, budget=budget)
    assert recompress(A + B, budget=0.5).error < 0.05


def test_a_budget_below_terms_that_nothing_reduces_is_refused():
    A = Permutation(np.roll(np.arange(N), 1)) + 2 * Permutation(np.roll(np.arange(N), 2))
    with pytest.raises(BudgetError, match="structmat"):
        recompress(A + Diagonal(np.arange(N)) @ A, budget=1e-9)


def test_a_matrix_of_which_nothing_is_gained_comes_back_itself():
    A = LEAVES["block_sparse"](contents(1))
    assert recompress(A, tol=1e-12).matrix is A
    assert recompress(A, tol=0.0).matrix is A
    assert recompress(A, budget=0.9).matrix is A


def test_bad_input():
    A = LowRank(np.ones((3, 1)), np.ones((3, 1)))
    for goal in ({}, {"tol": 0.1, "budget": 0.1}, {"tol": -1}):
        with pytest.raises(InputError):
            recompress(A, **goal)
    with pytest.raises(BudgetError):
        recompress(A, budget=2)
    with pytest.raises(InputError, match="StructuredMatrix"):
        recompress(np.eye(3), tol=0.1)
    with pytest.raises(InputError, match="NaN"):
        recompress(LowRank(np.full((3, 1), np.nan), np.ones((3, 1))), tol=0.1)


def test_tensors_give_tensors():
    torch = pytest.importorskip("torch")
    A = (gblr(contents(1)) + again(gblr(contents(1)))).to("torch")
    result = check(A, tol=1e-12)
    assert isinstance(result.matrix.u, torch.Tensor)
    assert result.cost <= A.cost / 2


def test_errors_of_large_matrices_are_estimated_with_their_bound(monkeypatch):
    monkeypatch.setattr(missed, "MEASURED_ENTRIES", 0)
    monkeypatch.setattr(missed, "PROBES", 11)
    A = gblr(contents(1)) + 1e-3 * gblr(contents(2), seed=2) + Monarch(*MONARCH)
    result = check(A, tol=1e-2)
    assert result.estimate.confidence < 1
    assert result.estimate.products == 11
    assert result.error <= result.estimate.bound <= 1e-2


MONARCH = contents(8)(3, 4, 2), contents(9)(2, 3, 6)


def test_a_large_sum_takes_no_array_of_its_size():
    """2**36 entries: any array of that size would end the process."""
    n, c = 2**18, contents(0)
    A = LowRank(c(n, 1), c(n, 1))
    at = np.arange(0, n, 2**14)
    u, v = (c(at.size * 16) for _ in range(2))
    B = GBLR(at, np.full(at.size, 16), u, at, np.full(at.size, 16), v, shape=(n, n))
    result = recompress(A + again(A) + B + again(B), tol=1e-6)
    assert result.cost == A.cost + B.cost
    assert result.error < 1e-6


def test_factors_of_a_product_are_reduced():
    c = contents(1)
    A = Product(tiles(c, [6, 6], 3) + tiles(c, [6, 6], 1), gblr(c) + again(gblr(contents(2))))
    result = check(A, tol=1e-10)
    assert result.cost < A.cost
    check(A, tol=0.3)


def joined(operation, A, B):
    return {
        "+": lambda: A + B,
        "-": lambda: A - B,
        "again": lambda: A + again(A),
        "@": lambda: A @ B,
        "H": lambda: A.H + B,
        "*": lambda: A * 0.5 + B,
    }[operation]()


NAMES = st.sampled_from(sorted(LEAVES))
#: Expressions with low rank between orders of its own.
ORDERED = (
    [("low_rank-high", "@"), ("adjoint", "H"), ("permutation", "@"), ("hermitian_low_rank", "-")],
    [("permutation", "again"), ("low_rank", "+"), ("permutation", "@"), ("hierarchical", "+")],
)


@given(
    st.lists(st.tuples(NAMES, st.sampled_from(["+", "-", "again", "@", "H", "*"])),
             min_size=1, max_size=4),
    st.sampled_from([1e-12, 1e-3, 0.1, 0.5]),
    st.sampled_from([None, None, 0.5, 0.9]),
    st.sampled_from(["float64", "complex128"]),
    st.integers(0, 2**16),
)  # fmt: skip
@example([("hierarchical-symmetric", "+"), ("permutation", "@")], 1e-12, None, "float64", 0)
@example([("block_sparse", "-"), ("gblr-many", "-")], 1e-12, None, "float64", 1)
@example(ORDERED[0], 1e-12, None, "float64", 0)
@example(ORDERED[1], 1e-12, None, "float64", 0)
@settings(max_examples=40, deadline=None)
def test_random_expressions(steps, tol, budget, dtype, seed):
    c = contents(seed, dtype)
    A = LEAVES[steps[0][0]](c)
    for name, operation in steps[1:]:
        A = joined(operation, A, LEAVES[name](c))
    if budget is not None:
        try:
            result = check(A, budget=budget)
        except BudgetError:
            return
    else:
        result = check(A, tol=tol)
    # A second pass finds nothing that the first one has left.
    second = check(result.matrix, tol=1e-12)
    if budget is None and tol == 1e-12:
        assert second.cost == result.cost
    assert check(second.matrix, tol=1e-12).cost == second.cost


def test_lines_of_a_rectangle_stored_dense_are_joined_to_blocks_that_they_touch():
    c = contents(1)
    A = BlockSparse(c(1, 3, 4), [3], [2], shape=(N, N))
    B = GBLR(
        np.array([N - 1]), np.array([1]), c(1), np.array([1]), np.array([9]), c(9), shape=(N, N)
    )
    result = check(A + B, tol=1e-12)
    # Two rows of four entries, and one row of the eleven from the first of one to the last.
    assert result.cost == 4 + 4 + 11


def test_many_copies_of_one_product_are_one():
    c = contents(1)
    A = Product(hierarchical(c), Mirrored(gblr(c)))
    once = check(A, tol=1e-12).cost
    assert check(A + again(A) + again(A), tol=1e-12).cost == once


@pytest.mark.parametrize("kind", ["low_rank", "hermitian_low_rank", "both"])
def test_low_rank_between_different_orders_is_one(kind):
    c, P = contents(1), Permutation(np.random.default_rng(0).permutation(N))
    L, H = LowRank(c(N, 2), c(N, 2)), HermitianLowRank(c(N, 2), c(2))
    one, other = {
        "low_rank": (Product(P, L), LowRank(P @ L.U, c(N, 2))),
        "hermitian_low_rank": (Product(P, H, P.H), HermitianLowRank(P @ H.U, 2 * H.d)),
        "both": (Product(P, H, P.H), LowRank(P @ H.U, c(N, 2))),
    }[kind]
    result = check(one + other, tol=1e-12)
    # Of rank two, as each of them is.
    assert result.cost == (one if kind != "both" else other).cost
